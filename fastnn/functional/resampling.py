"""Images and sequences of another size, and pixels that change places with channels.

Along each axis another size is a product with a sparse matrix, whose transpose takes the gradient back; one kernel does
both. Rows of the matrix are made once for each size, by the formulae of PyTorch, in the dtype that it takes."""
import functools
import math
from collections.abc import Sequence

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.arguments import check_tensor, images, pair, same_float
from fastnn.tensor import Array, Tensor, record

__all__ = ["interpolate", "pixel_shuffle", "pixel_unshuffle"]

MODES = {"nearest": (3, 4), "nearest-exact": (3, 4), "area": (3, 4), "linear": (3,), "bilinear": (4,), "bicubic": (4,)}


def _cubic(t: Array) -> list[Array]:
    """Weights of the four pixels around a place, t beyond the second (Keys 1981, a = −3/4)."""
    near, far = (lambda d: (1.25 * d - 2.25) * d * d + 1), (lambda d: ((-0.75 * d + 3.75) * d - 6) * d + 3)
    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


@functools.lru_cache(256)
def _axis(mode: str, n: int, out: int, scale: float | None, align: bool, dtype: np.dtype) -> tuple:
    """For an axis of n pixels that becomes `out`: where the pixels begin that an output pixel is made of, and their
    weights; and the same of the transpose."""
    real, o = dtype.type, np.arange(out)
    ratio = real(1 / scale) if scale else real(n) / real(out)
    if mode == "area":
        first, last = o * n // out, -(-(o + 1) * n // out)
        taps = [(first + i, np.where(first + i < last, 1 / (last - first), 0)) for i in range((last - first).max())]
    elif "nearest" in mode:
        place = o * float(ratio)
        if mode == "nearest-exact":  # rounded where PyTorch rounds
            place = ((o + 0.5) * float(ratio) - 0.5).astype(real) + real(0.5)
        elif out in (n, 2 * n):
            place = o * n // out
        taps = [(place.astype(np.float32).astype(int), 1)]
    else:
        if align:
            ratio = real(n - 1) / real(out - 1) if out > 1 else real(0)
        cubic, place = mode == "bicubic", o.astype(real) * ratio
        place = place if align else (o.astype(real) + real(0.5)) * ratio - real(0.5)
        place = place if cubic else o if n == out else np.maximum(place, 0)
        below = np.floor(place).astype(int)
        t = np.clip(place - below, 0, 1).astype(real)
        taps = [(below + i - cubic, weight) for i, weight in enumerate(_cubic(t) if cubic else (1 - t, t))]
    matrix = np.zeros((out, n), dtype)
    for index, weight in taps:
        np.add.at(matrix, (o, np.clip(index, 0, n - 1)), weight)
    return _rows(matrix) + _rows(matrix.T)


def _rows(matrix: Array) -> tuple[Array, Array]:
    """Where each row's numbers other than 0 begin, and these, as many as the longest row has."""
    hit, n = matrix != 0, matrix.shape[1]
    first, last = hit.argmax(1), n - hit[:, ::-1].argmax(1)
    width = int(np.where(hit.any(1), last - first, 1).max())
    first = np.minimum(first, n - width)
    return first, np.ascontiguousarray(np.take_along_axis(matrix, first[:, None] + np.arange(width), 1))


def interpolate(input: Tensor, size: int | Sequence[int] | None = None,
                scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None) -> Tensor:
    """(N, C, L) or (N, C, H, W) of another size: `size`, or ⌊`scale_factor` times the old⌋.

    Modes: "nearest", ⌊o·scale⌋ for pixel o; "nearest-exact", ⌊(o + ½)·scale⌋; "area", means as of adaptive pooling;
    "linear" of 3-D input, "bilinear" and "bicubic" of 4-D, which show the place (o + ½)·scale − ½ of the input or, with
    `align_corners`, o·(old − 1) / (new − 1). The scale is 1 / scale_factor or, if `size` is given or
    `recompute_scale_factor` true, old / new size. Raises ShapeError, or ArgumentError for arguments that do not agree.

    >>> interpolate(fastnn.tensor([[[1.0, 3.0]]]), 4, mode="linear")
    tensor([[[1. , 1.5, 2.5, 3. ]]])
    """
    a = same_float("interpolate", input=input)
    k = a.ndim - 2
    if a.ndim not in MODES.get(mode, ()):
        known = [name for name, dims in MODES.items() if a.ndim in dims] or "no"
        raise ShapeError(f"interpolate: mode={mode!r} came with shape {a.shape}, which takes {known} modes")
    if align_corners is not None and "linear" not in mode and mode != "bicubic":
        raise ArgumentError(f"interpolate: align_corners is not for mode={mode!r}")
    if (size is None) == (scale_factor is None) or (size is not None and recompute_scale_factor):
        raise ArgumentError("interpolate: either size or scale_factor must be given; recompute_scale_factor with the "
                            f"latter, but size={size}, scale_factor={scale_factor} came")
    given = size if scale_factor is None else scale_factor
    items = tuple(given) if isinstance(given, (tuple, list)) else (given,) * k
    if len(items) != k:
        raise ArgumentError(f"interpolate: {k} sizes or scales are needed for shape {a.shape}, but {given} came")
    wanted = items if scale_factor is None else [math.floor(n * s) for n, s in zip(a.shape[2:], items, strict=True)]
    oH, oW = pair(wanted if k == 2 else (1, *wanted), "interpolate", "size", 1)
    x = images("interpolate", a if k == 2 else a[:, :, None])
    scales = (None,) * 2 if scale_factor is None or recompute_scale_factor or mode == "area" else (*items * 2,)[-2:]
    axes = [_axis(mode, n, out, scale, bool(align_corners), x.dtype)
            for n, out, scale in zip(x.shape[2:], (oH, oW), (None, *scales[1:]) if k == 1 else scales, strict=True)]

    def resampled(x: Array, shape: tuple[int, ...], transposed: bool) -> Array:
        y = layout.empty(shape, x.dtype, True)
        part = slice(2, 4) if transposed else slice(2)
        backend.image.resample(x, *axes[0][part], *axes[1][part], y, backend.n_threads())
        return y if k == 2 else y[:, :, 0]

    def interpolate(grad: Array) -> tuple[Array]:
        return (resampled(layout.channels_last(grad if k == 2 else grad[:, :, None]), x.shape, True),)

    return record(resampled(x, (*x.shape[:2], oH, oW), False), (input,), interpolate)


def _shuffled(a: Array, r: int, up: bool) -> Array:
    """Channels c·r² + i·r + j as the pixels (i, j) of squares of r pixels, or back."""
    *lead, C, H, W = a.shape
    C, H, W = (C // r**2, H, W) if up else (C, H // r, W // r)
    y = layout.empty_for((*lead, C, H * r, W * r) if up else (*lead, C * r**2, H, W), a.dtype, a)
    pixels, channels = (y, a) if up else (a, y)
    k = len(lead) + 1
    pixels = pixels.reshape(*lead, C, H, r, W, r).transpose(*range(k), k + 1, k + 3, k, k + 2)
    channels = channels.reshape(*lead, C, r, r, H, W)
    layout.copyto(*((pixels, channels) if up else (channels, pixels)))
    return y


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(*, C·r², H, W) → (*, C, H·r, W·r), r = `upscale_factor` (Shi et al., arXiv 1609.05158).

    >>> pixel_shuffle(fastnn.arange(4.0).view(4, 1, 1), 2).tolist()
    [[[0.0, 1.0], [2.0, 3.0]]]
    """
    return _shuffle("pixel_shuffle", input, upscale_factor, True)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: (*, C, H·r, W·r) → (*, C·r², H, W), r = `downscale_factor`."""
    return _shuffle("pixel_unshuffle", input, downscale_factor, False)


def _shuffle(op: str, input: Tensor, r: int, up: bool) -> Tensor:
    check_tensor(op, input)
    if not isinstance(r, int) or r < 1:
        raise ArgumentError(f"{op}: the factor must be a positive int, but {r!r} came")
    if input.ndim < 3 or (input.shape[-3] % r**2 if up else input.shape[-1] % r or input.shape[-2] % r):
        needed = f"channels that {r}² divides" if up else f"H and W that {r} divides"
        raise ShapeError(f"{op}: input (*, C, H, W) with {needed} is needed, but shape {input.shape} came")
    return record(_shuffled(input.array, r, up), (input,), lambda grad: (_shuffled(grad, r, not up),))
