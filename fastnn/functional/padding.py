"""Padding and cropping."""
from collections.abc import Sequence

from fastnn import layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.arguments import check_tensor
from fastnn.functional.shape import take_view
from fastnn.tensor import Array, Tensor, ints, record

__all__ = ["pad"]


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements before and after the last axis, then the axis before it, and so on, as many as `pad` says in pairs;
    negative numbers crop. `mode` tells what they are:

    - "constant": `value`, by default 0;
    - "reflect" (dcb|abcd|cba), "replicate" (aaa|abcd|ddd) or "circular" (bcd|abcd|abc), of one or two axes behind
      (N, C) or (C,). Mirrored, an axis must be longer than its borders, wrapped around as long as they are.

    ShapeError for what does not fit, ArgumentError for a mode or value that is not known.

    >>> pad(fastnn.tensor([[1.0, 2.0, 3.0]]), (2, -1), "reflect")
    tensor([[3., 2., 1., 2.]])
    """
    check_tensor("pad", input)
    sizes, k = ints("pad", pad), len(pad) // 2
    if len(sizes) % 2 or k > input.ndim:
        raise ShapeError(f"pad: {len(sizes)} numbers came, but pairs for at most {input.ndim} axes are needed")
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ArgumentError(f"pad: mode must be constant, reflect, replicate or circular, but {mode!r} came")
    widths = [(0, 0)] * (input.ndim - k) + list(zip(sizes[-2::-2], sizes[::-2], strict=True))
    mirrors = mode in ("reflect", "replicate")  # what is cropped, too, so that they come before cropping
    if mode != "constant":
        if value:
            raise ArgumentError(f"pad: mode={mode!r} takes no value, but {value} came")
        if k not in (1, 2) or not k + 1 <= input.ndim <= k + 2 or 0 in input.shape[input.ndim > k + 1:]:
            raise ShapeError(f"pad: mode={mode!r} pads one axis of (N, C, L) or (C, L), or two of (N, C, H, W) or "
                             f"(C, H, W), only N may be 0, but {len(sizes)} numbers and shape {input.shape} came")
    for n, (lo, hi) in zip(input.shape, widths, strict=True):
        left, most = n + min(lo, 0) + min(hi, 0), max(lo, hi)
        if (n + lo + hi if mirrors else left) < 0 or (
                most >= max(n, 1) if mode == "reflect" else most > left and mode == "circular"):
            raise ShapeError(f"pad: mode={mode!r} does not pad an axis of size {n} by {(lo, hi)}")
    if mirrors and max(n + lo + hi for n, (lo, hi) in zip(input.shape[-k:], widths[-k:], strict=True)) < 1:
        raise ShapeError(f"pad: nothing is left of shape {input.shape}, padded by {sizes}")
    x = _grow(input, widths, mode, 0) if mirrors else input
    if min(sizes, default=0) < 0:
        axes = zip(x.shape, widths, strict=True)
        x = take_view(x, tuple([slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in axes]))
    return x if mirrors else _grow(x, widths, mode, value or 0)


def _grow(x: Tensor, widths: list[tuple[int, int]], mode: str, value: float) -> Tensor:
    """A copy with borders where `widths` are positive. Axis by axis from the last, a border is as long as what it is
    copied from; on the way back the gradients of borders are added there, in the opposite order."""
    a, widths = x.array, [(max(lo, 0), max(hi, 0)) for lo, hi in widths]
    y = layout.empty_for([lo + n + hi for n, (lo, hi) in zip(a.shape, widths, strict=True)], a.dtype, a)
    inner = tuple([slice(lo, lo + n) for n, (lo, hi) in zip(a.shape, widths, strict=True)])
    y[inner] = a
    copies = []
    for axis in range(a.ndim)[::-1]:
        (lo, hi), end = widths[axis], inner[axis].stop
        last = end - 2 - hi if end - 2 >= hi else None
        before, after = {"reflect": (slice(2 * lo, lo, -1), slice(end - 2, last, -1)),
                         "replicate": (slice(lo, lo + 1), slice(end - 1, end)),
                         "circular": (slice(end - lo, end), slice(lo, lo + hi))}.get(mode, (None, None))
        for border, source in (slice(0, lo), before), (slice(end, end + hi), after):
            if border.start < border.stop:
                to = (*inner[:axis], border)
                if source is None:
                    y[to] = value
                else:
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
