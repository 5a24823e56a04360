"""Padding and cropping."""
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

    >>> pad(fastnn.tensor([[1.0, 2.0, 3.0]]), (2, -1), "reflect")
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
    """A copy with borders where `widths` are positive. Axis by axis from the last, a border is as long as what it is
    copied from; on the way back the gradients of borders are added there, in the opposite order."""
    a, copies = x.array, []
    inner = tuple([slice(max(lo, 0), max(lo, 0) + n) for n, (lo, _) in zip(a.shape, widths, strict=True)])
    shape = [part.stop + max(hi, 0) for part, (_, hi) in zip(inner, widths, strict=True)]
    y = layout.empty_for(shape, a.dtype, a)
    y[inner] = a
    for axis in [axis for axis in range(a.ndim)[::-1] if shape[axis] > a.shape[axis]]:
        lo, end, size = inner[axis].start, inner[axis].stop, shape[axis]
        last = 2 * end - 2 - size if 2 * end - 2 >= size else None
        sources = {"reflect": (slice(2 * lo, lo, -1), slice(end - 2, last, -1)),
                   "replicate": (slice(lo, lo + 1), slice(end - 1, end)),
                   "circular": (slice(end - lo, end), slice(lo, lo + size - end))}.get(mode, (None, None))
        for border, source in zip((slice(0, lo), slice(end, size)), sources, strict=True):
            to = (*inner[:axis], border)
            if source is None:
                y[to] = value
            elif border.start < border.stop:
                copies.append((axis, to, (*inner[:axis], source)))
                y[to] = y[copies[-1][2]]

    def pad(grad: Array) -> tuple[Array]:
        if copies:
            whole, grad = grad, layout.empty_permuted(grad, grad.dtype)
            layout.copyto(grad, whole)
        for axis, to, source in copies[::-1]:
            grad[source] += grad[to].sum(axis, keepdims=True) if mode == "replicate" else grad[to]
        return (grad[inner],)

    return record(y, (x,), pad)
