"""Padding and cropping."""
import itertools
from collections.abc import Sequence

from fastnn import layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.arguments import check_tensor
from fastnn.functional.shape import take_view
from fastnn.tensor import Array, Tensor, ints, record

__all__ = ["pad"]


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """As many elements before and after the last axis, then the one before it, and so on, as the pairs in `pad` say;
    negative numbers crop. "constant" gives them the `value`, by default 0. The other modes, "reflect" (dcb|abcd|cba),
    "replicate" (aaa|abcd|ddd) and "circular" (bcd|abcd|abc), are for L of (N, C, L) or H and W of (N, C, H, W), or
    without N: an axis must be longer than what it mirrors, as long as what it continues. ShapeError or ArgumentError.

    >>> F.pad(fastnn.tensor([[1.0, 2.0, 3.0]]), (2, -1), "reflect")
    tensor([[3., 2., 1., 2.]])
    """
    check_tensor("pad", input)
    sizes, mirrors, ndim = ints("pad", pad), mode in ("reflect", "replicate"), input.ndim
    k = len(sizes) // 2
    if mode not in ("constant", "reflect", "replicate", "circular") or (value and mode != "constant"):
        raise ArgumentError(f"pad: mode must be constant, reflect, replicate or circular, the latter three without a "
                            f"value, but mode={mode!r}, value={value} came")
    if len(sizes) % 2 or k > ndim or (mode != "constant" and (
            k not in (1, 2) or ndim not in (k + 1, k + 2) or 0 in input.shape[ndim - k - 1:])):
        raise ShapeError(f"pad: {len(sizes)} numbers do not fit an input of shape {input.shape} and mode={mode!r}")
    widths = [(0, 0)] * (ndim - k) + list(zip(sizes[-2::-2], sizes[::-2], strict=True))
    for n, (lo, hi) in zip(input.shape, widths, strict=True):
        kept, most = n + (lo + hi if mirrors else min(lo, 0) + min(hi, 0)), max(lo, hi)
        if kept < 0 or (most >= max(n, 1) if mode == "reflect" else most > kept and mode == "circular"):
            raise ShapeError(f"pad: mode={mode!r} does not pad an axis of size {n} by {(lo, hi)}")
    x = _grow(input, widths, mode, 0) if mirrors else input  # which mirrors what is cropped, too
    if min(sizes, default=0) < 0:
        axes = zip(x.shape, widths, strict=True)
        x = take_view(x, tuple([slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in axes]))
    return x if mirrors else _grow(x, widths, mode, value or 0)


def _grow(x: Tensor, widths: list[tuple[int, int]], mode: str, value: float) -> Tensor:
    """A copy with borders where `widths` are positive: region by region of the output, the inside first, with what it
    shows of the input, where its gradient is added."""
    a, axes = x.array, []
    for n, (lo, hi) in zip(a.shape, [(max(lo, 0), max(hi, 0)) for lo, hi in widths], strict=True):
        sources = {"reflect": (slice(lo, 0, -1), slice(n - 2, n - 2 - hi if n - 2 >= hi else None, -1)),
                   "replicate": (slice(0, 1), slice(n - 1, n)),
                   "circular": (slice(n - lo, n), slice(hi))}.get(mode, (None, None))
        parts = zip((slice(lo, lo + n), slice(lo), slice(lo + n, lo + n + hi)), (slice(None), *sources), strict=True)
        axes.append([part for part, width in zip(parts, (1, lo, hi), strict=True) if width])
    regions = [([to for to, _ in region], [source for _, source in region]) for region in itertools.product(*axes)]
    shape, order = a.shape, layout.is_channels_last(a)
    y = layout.empty([n + max(lo, 0) + max(hi, 0) for n, (lo, hi) in zip(shape, widths, strict=True)], a.dtype, order)
    for to, source in regions:
        y[tuple(to)] = value if None in source else a[tuple(source)]

    def pad(grad: Array) -> tuple[Array]:
        inside = grad[tuple(regions[0][0])]
        if mode == "constant" or len(regions) == 1:
            return (inside,)
        dx = layout.empty(shape, grad.dtype, order)
        dx[...] = inside
        for to, source in regions[1:]:
            part, borders = grad[tuple(to)], tuple([i for i, s in enumerate(source) if s != slice(None)])
            dx[tuple(source)] += part.sum(borders, keepdims=True) if mode == "replicate" else part
        return (dx,)

    return record(y, (x,), pad)
