"""Arrays for the cases of ``fastnn verify``. 4-D arrays have the shape (N, C, H, W) and channels-last memory."""

import numpy as np
from numpy.typing import DTypeLike


def out(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """A buffer of zeros for a kernel to fill."""
    if len(shape) != 4:
        return np.zeros(shape, dtype)
    n, c, h, w = shape
    return np.zeros((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Standard normal values."""
    array = out(shape, dtype)
    array[...] = rng.standard_normal(shape)
    return array


def special(rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Standard normal values, about every fourth replaced by ±0, a subnormal, ±inf, NaN or ±1 (so that ties occur)."""
    array = normal(rng, shape, dtype)
    tiny = np.finfo(dtype).smallest_subnormal
    choices = np.array([0.0, -0.0, tiny, -7 * tiny, np.inf, -np.inf, np.nan, 1.0, -1.0], dtype)
    places = rng.random(shape) < 0.25
    array[places] = rng.choice(choices, places.sum())
    return array
