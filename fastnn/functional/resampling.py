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
def _bands(mode: str, n: int, out: int, scale: float | None, align: bool, dtype: np.dtype) -> tuple[tuple, tuple]:
    """The matrix that makes `out` pixels of n, and its transpose, as `_band` has them. Rounded where PyTorch rounds."""
    real, o = dtype.type, np.arange(out)
    ratio = real(1 / scale) if scale else real(n) / real(out)
    if mode == "area":
        begin, end = (o * n // out)[:, None], -(-(o + 1) * n // out)[:, None]
        pixels = begin + np.arange((end - begin).max())
        weights = (pixels < end) / (end - begin)
    elif "nearest" in mode:
        place = o * float(ratio) if out not in (n, 2 * n) else o * n // out
        if mode == "nearest-exact":
            place = ((o + 0.5) * float(ratio) - 0.5).astype(real) + real(0.5)
        pixels = place.astype(np.float32).astype(int)[:, None]
        weights = np.ones(pixels.shape)
    else:
        ratio = real(n - 1) / real(max(out - 1, 1)) if align else ratio
        place = o.astype(real) * ratio if align else (o.astype(real) + real(0.5)) * ratio - real(0.5)
        place = o if n == out and mode != "bicubic" else place
        pixels = np.floor(place).astype(int)[:, None] + np.arange(-1, 3)
        d = np.abs(place[:, None] - pixels)
        near, far = (1.25 * d - 2.25) * d * d + 1, ((3.75 - 0.75 * d) * d - 6) * d + 3  # Keys 1981, a = −3/4
        weights = np.where(d <= 1, near, far) if mode == "bicubic" else np.maximum(1 - d, 0)
    row, kept = np.broadcast_to(o[:, None], pixels.shape), weights != 0
    row, column, weights = row[kept], np.clip(pixels, 0, n - 1)[kept], weights[kept].astype(dtype)
    return _band(row, column, weights, out, n), _band(column, row, weights, n, out)


def _band(row: Array, column: Array, weights: Array, height: int, width: int) -> tuple[Array, Array]:
    """Where the numbers of each row begin, and from there on as many as the longest row has."""
    first, last = np.full(height, width), np.zeros(height, int)
    np.minimum.at(first, row, column)
    np.maximum.at(last, row, column + 1)
    longest = max((last - first).max(), 1)
    first = np.minimum(first, width - longest)
    band = np.zeros((height, longest), weights.dtype)
    np.add.at(band, (row, column - first[row]), weights)
    return first, band


def interpolate(input: Tensor, size: int | Sequence[int] | None = None,
                scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None) -> Tensor:
    """(N, C, L) or (N, C, H, W) of another size: `size`, or ⌊`scale_factor` times the old⌋.

    Modes: "nearest", ⌊o·scale⌋ for pixel o; "nearest-exact", ⌊(o + ½)·scale⌋; "area", means as of adaptive pooling;
    "linear" of 3-D input, "bilinear" and "bicubic" of 4-D, which show the place (o + ½)·scale − ½ of the input or, with
    `align_corners`, o·(old − 1) / (new − 1). The scale is 1 / scale_factor or, if `size` is given or
    `recompute_scale_factor` true, old / new size. Raises ShapeError, or ArgumentError for arguments that do not agree.

    >>> F.interpolate(fastnn.tensor([[[1.0, 3.0]]]), 4, mode="linear")
    tensor([[[1. , 1.5, 2.5, 3. ]]])
    """
    a, k, given = same_float("interpolate", input=input), input.ndim - 2, size if scale_factor is None else scale_factor
    items: list[Any] = list(given) if isinstance(given, (tuple, list)) else [given] * k
    if a.ndim not in MODES.get(mode, ()):
        raise ShapeError(f"interpolate: mode={mode!r} does not take {a.ndim} dimensions, as of shape {a.shape}")
    if ((size is None) == (scale_factor is None) or (scale_factor is None and recompute_scale_factor)
            or len(items) != k or (size is None and not all(map(math.isfinite, items)))):
        raise ArgumentError(f"interpolate: {k} sizes or, maybe recomputed, finite scale factors are needed, but "
                            f"{size=}, {scale_factor=}, {recompute_scale_factor=} came")
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ArgumentError(f"interpolate: align_corners is not for mode={mode!r}")
    x = images("interpolate", a, k)
    new = items if scale_factor is None else [math.floor(n * s) for n, s in zip(a.shape[2:], items, strict=True)]
    scales = [None] * 2 if scale_factor is None or recompute_scale_factor else [None] * (2 - k) + items
    axes = zip(x.shape[2:], pair(new, "interpolate", "size", 1, k), scales, strict=True)
    forth, back = zip(*[_bands(mode, *axis, bool(align_corners), x.dtype) for axis in axes], strict=True)

    def resample(x: Array, bands: tuple) -> Array:
        y = layout.empty((*x.shape[:2], *[len(first) for first, _ in bands]), x.dtype, True)
        backend.image.resample(x, *bands[0], *bands[1], y, backend.n_threads())
        return y if k == 2 else y[:, :, 0]

    return record(resample(x, forth), (input,), lambda grad: (resample(images("interpolate", grad, k), back),))


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(*, C·r², H, W) → (*, C, H·r, W·r), r = `upscale_factor` (Shi et al., arXiv 1609.05158).

    >>> F.pixel_shuffle(fastnn.arange(4.0).view(4, 1, 1), 2).tolist()
    [[[0.0, 1.0], [2.0, 3.0]]]
    """
    return _shuffle("pixel_shuffle", input, upscale_factor, True)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: (*, C, H·r, W·r) → (*, C·r², H, W), r = `downscale_factor`."""
    return _shuffle("pixel_unshuffle", input, downscale_factor, False)


def _shuffle(op: str, input: Tensor, r: int, up: bool) -> Tensor:
    """Channels c·r² + i·r + j as the pixels (i, j) of squares of r pixels, or back."""
    check_tensor(op, input)
    *lead, C, H, W = input.shape if input.ndim > 2 else (0, 0, 0)
    if not isinstance(r, int) or r < 1 or input.ndim < 3 or (C % r**2 if up else H % r or W % r):
        needed = "C divided by r²" if up else "H and W divided by r"
        raise ShapeError(f"{op}: input (*, C, H, W), {needed}, is needed, but shape {input.shape}, {r=} came")
    C, H, W = (C // r**2, H, W) if up else (C, H // r, W // r)
    order = *range(len(lead) + 1), *(len(lead) + i for i in (2, 4, 1, 3))

    def move(a: Array, up: bool) -> Array:
        y = layout.empty_for((*lead, C, H * r, W * r) if up else (*lead, C * r**2, H, W), a.dtype, a)
        pixels, channels = (y, a) if up else (a, y)
        pixels, channels = pixels.reshape(*lead, C, H, r, W, r).transpose(order), channels.reshape(*lead, C, r, r, H, W)
        layout.copyto(*((pixels, channels) if up else (channels, pixels)))
        return y

    return record(move(input.array, up), (input,), lambda grad: (move(grad, not up),))
