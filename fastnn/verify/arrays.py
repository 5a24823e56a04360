"""Arrays for the cases of ``fastnn verify``. 4-D arrays have the shape (N, C, H, W) and channels-last memory."""
import numpy as np

from fastnn import layout


def out(shape, dtype):
    """A buffer of zeros for a kernel to fill."""
    array = layout.empty(shape, dtype, len(shape) == 4)
    array.fill(0)
    return array


def normal(rng, shape, dtype):
    """Standard normal values."""
    array = out(shape, dtype)
    array[...] = rng.standard_normal(shape)
    return array


def special(rng, shape, dtype):
    """Standard normal values, about every fourth replaced by ±0, a subnormal, ±inf, NaN or ±1 (so that ties occur)."""
    array, tiny = normal(rng, shape, dtype), np.finfo(dtype).smallest_subnormal
    choices = np.array([0.0, -0.0, tiny, -7 * tiny, np.inf, -np.inf, np.nan, 1.0, -1.0], dtype)
    places = rng.random(shape) < 0.25
    array[places] = rng.choice(choices, places.sum())
    return array


def window_size(shape, kernel, stride, padding, dilation=(1, 1)):
    """Height and width of what sliding a window over images of `shape` gives."""
    spans = zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in spans)
