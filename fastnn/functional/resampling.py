"""Images and sequences of another size, and pixels that change places with channels.

Along each axis another size is a product with a matrix of few numbers, whose transpose takes the gradient back."""
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.arguments import check_tensor, images, pair, same_float
from fastnn.tensor import Array, Tensor, record

__all__ = ["interpolate", "pixel_shuffle", "pixel_unshuffle"]

MODES = {"nearest": (3, 4), "nearest-exact": (3, 4), "area": (3, 4), "linear": (3,), "bilinear": (4,), "bicubic": (4,)}


@functools.lru_cache(64)
def _bands(mode: str, n: int, out: int, scale: float | None, align: bool, dtype: np.dtype) -> list[tuple]:
    """The matrix that makes `out` pixels of n, and its transpose: of each row where what is not 0 begins, and as many
    numbers from there on as a row may have. Rounded where PyTorch rounds."""
    real, o, j = dtype.type, np.arange(out), np.arange(-3, n + 3)  # as beyond the ends
    ratio = real(1 / scale) if scale else real(n) / real(out)
    if mode == "area":
        weights = ((o * n // out)[:, None] <= j) & (j < -(-(o + 1) * n // out)[:, None])
        weights = weights / weights.sum(1, keepdims=True)
    elif "nearest" in mode:
        place = o * float(ratio) if out not in (n, 2 * n) else o * n // out
        if mode == "nearest-exact":
            place = ((o + 0.5) * float(ratio) - 0.5).astype(real) + real(0.5)
        weights = np.minimum(place.astype(np.float32).astype(int), n - 1)[:, None] == j
    else:
        ratio = real(n - 1) / real(max(out - 1, 1)) if align else ratio
        place = o.astype(real) * ratio if align else (o.astype(real) + real(0.5)) * ratio - real(0.5)
        d = np.abs((o if n == out and mode != "bicubic" else place)[:, None] - j)
        near, far = (1.25 * d - 2.25) * d * d + 1, ((3.75 - 0.75 * d) * d - 6) * d + 3  # Keys 1981, a = −3/4
        weights = np.where(d <= 1, near, far) * (d < 2) if mode == "bicubic" else np.maximum(1 - d, 0)
    matrix = weights[:, 3:-3].astype(dtype)
    matrix[:, 0] += weights[:, :3].sum(1)
    matrix[:, -1] += weights[:, -3:].sum(1)
    bands = []
    for m in matrix, matrix.T:
        first, last = (m != 0).argmax(1), m.shape[1] - (m[:, ::-1] != 0).argmax(1)
        width = int(np.where(m.any(1), last - first, 1).max())
        first = np.minimum(first, m.shape[1] - width)
        bands.append((first, np.take_along_axis(m, first[:, None] + np.arange(width), 1)))
    return bands


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
    a, k, given = same_float("interpolate", input=input), input.ndim - 2, size if scale_factor is None else scale_factor
    items: list[Any] = list(given) if isinstance(given, (tuple, list)) else [given] * k
    if a.ndim not in MODES.get(mode, ()):
        raise ShapeError(f"interpolate: mode={mode!r} does not take {a.ndim} dimensions, as of shape {a.shape}")
    if (size is None) == (scale_factor is None) or (scale_factor is None and recompute_scale_factor) or len(items) != k:
        raise ArgumentError(f"interpolate: {k} sizes or, maybe recomputed, scale factors are needed, but {size=}, "
                            f"{scale_factor=}, {recompute_scale_factor=} came")
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ArgumentError(f"interpolate: align_corners is not for mode={mode!r}")
    x = images("interpolate", a if k == 2 else a[:, :, None])
    new = items if scale_factor is None else [math.floor(n * s) for n, s in zip(a.shape[2:], items, strict=True)]
    new = [1] * (2 - k) + new
    scales = [None] * 2 if scale_factor is None or recompute_scale_factor else [None] * (2 - k) + items
    axes = zip(x.shape[2:], pair(new, "interpolate", "size", 1), scales, strict=True)
    forth, back = zip(*[_bands(mode, *axis, bool(align_corners), x.dtype) for axis in axes], strict=True)

    def resample(x: Array, bands: tuple) -> Array:
        y = layout.empty((*x.shape[:2], *[len(first) for first, _ in bands]), x.dtype, True)
        backend.image.resample(x, *bands[0], *bands[1], y, backend.n_threads())
        return y if k == 2 else y[:, :, 0]

    def interpolate(grad: Array) -> tuple[Array]:
        return (resample(layout.channels_last(grad if k == 2 else grad[:, :, None]), back),)

    return record(resample(x, forth), (input,), interpolate)


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
