"""Pooling over windows of H and W.

Inputs (N, C, H, W) or (C, H, W) of float dtype; outputs (N, C, oH, oW) or (C, oH, oW). Sizes are ints or pairs (height,
width). Windows of kH taps, dilation apart, stand at every stride-th position of the input with `padding` on both sides:

    oH = ⌊(H + 2·padding − dilation·(kH − 1) − 1) / stride⌋ + 1,    oW likewise;

`ceil_mode` rounds up, as long as the window begins inside the input or its left padding. ShapeError for misshapen or
too small inputs, ArgumentError for a size out of range or padding above half the kernel, DTypeError for integers."""
from collections.abc import Callable, Sequence

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError
from fastnn.functional.arguments import Geometry, IntOrPair, alike, geometry, images, n_windows, pair, same_float
from fastnn.tensor import Array, Tensor, pending, record

__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "max_pool2d"]


def _windows(op: str, x: Array, kernel_size: IntOrPair, stride: IntOrPair | None, padding: IntOrPair,
             dilation: IntOrPair, ceil_mode: bool) -> tuple[Geometry, Array]:
    """(kernel, stride, padding, dilation), and an array for the output."""
    where = geometry(op, kernel_size, kernel_size if stride is None else stride, padding, dilation)
    (kH, kW), _, (pH, pW), _ = where
    if pH > kH // 2 or pW > kW // 2:
        raise ArgumentError(f"{op}: padding={where[2]} must be at most half of kernel_size={where[0]}")
    return where, layout.empty((*x.shape[:2], *n_windows(op, x.shape[2:], where, ceil_mode)), x.dtype, True)


class Unpooled:
    """The gradient of pooling's input as it is pending; `fill(dy, dx, n_threads)` computes dx.

    Max pooling gives its output y, unless that may have been changed: behind a ReLU, where the element that a window's
    gradient goes to is y, the gradient masked by y is that of ReLU's input, and a small array is masked for a large."""
    __slots__ = ("dy", "fill", "shape", "y")
    sources = ()

    def __init__(self, shape: tuple[int, ...], dy: Array, fill: Callable[[Array, Array, int], None],
                 y: Array | None = None) -> None:
        self.shape, self.dy, self.fill, self.y = shape, dy, fill, y

    dtype = property(lambda self: self.dy.dtype)

    def compute(self, relu: bool = False) -> Array:
        dy = layout.channels_last(self.dy if self.dy.ndim == 4 else self.dy[None])
        if relu:
            masked = layout.empty_like(self.y)  # type: ignore[arg-type]
            backend.activation.relu_backward(dy, self.y, (), masked, backend.n_threads())
            dy = masked
        dx = layout.empty((*dy.shape[:2], *self.shape[-2:]), dy.dtype, True)
        self.fill(dy, dx, backend.n_threads())
        return dx if len(self.shape) == 4 else dx.reshape(self.shape)


def _record(input: Tensor, y: Array, fill: Callable[[Array, Array, int], None]) -> Tensor:
    """The output; `fill(dy, dx, n_threads)` computes dx."""
    shape = input.shape
    return record(y if len(shape) == 4 else layout.contiguous(y[0]), (input,),
                  lambda grad: (Unpooled(shape, grad, fill).compute(),))


def max_pool2d(input: Tensor, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0,
               dilation: IntOrPair = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The maximum of each window; padding never wins. `stride` is the kernel size if not given. `return_indices` adds,
    as int64 of the output's shape, where in its H·W plane each maximum was found. Of equal values the first in
    row-major order wins, NaN wins over all; the winner gets the whole gradient.

    >>> max_pool2d(fastnn.arange(16.0).view(1, 1, 4, 4), 2, return_indices=True)[1].tolist()
    [[[[5, 7], [13, 15]]]]
    """
    x = images("max_pool2d", input.array if alike(None, input) else same_float("max_pool2d", input=input))
    where, y = _windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    (kH, kW), (sH, sW), (pH, pW), (dH, dW) = where
    place = layout.empty(y.shape, np.uint8 if kH * kW <= 256 else np.int32, True)
    backend.pooling.max_pool2d(x, y, place, *where, backend.n_threads())
    shape = input.shape

    def max_pool2d(grad: Array) -> tuple[Array | Tensor]:
        recipe = Unpooled(shape, grad, lambda dy, dx, n: backend.pooling.max_pool2d_backward(dy, place, dx, *where, n),
                          y if out._version is version and version[:2] == [0, True] else None)
        return (pending(recipe) if len(shape) == 4 else recipe.compute(),)

    out = record(y if len(shape) == 4 else layout.contiguous(y[0]), (input,), max_pool2d)
    version = out._version
    if not return_indices:
        return out
    i, j = np.divmod(place, kW, dtype=np.int64)
    top, left = np.arange(y.shape[2])[:, None] * sH - pH, np.arange(y.shape[3]) * sW - pW
    indices = (top + i * dH) * x.shape[3] + (left + j * dW)
    return out, Tensor(indices if input.ndim == 4 else layout.contiguous(indices[0]))


def avg_pool2d(input: Tensor, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The mean of each window: its sum / `divisor_override`, or / its size, with padding if `count_include_pad`.

    >>> avg_pool2d(fastnn.arange(16.0).view(1, 1, 4, 4), 2).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    if divisor_override is not None and not (isinstance(divisor_override, int) and divisor_override):
        raise ArgumentError(f"avg_pool2d: divisor_override must be an int other than 0, but {divisor_override!r} came")
    x = images("avg_pool2d", same_float("avg_pool2d", input=input))
    where, y = _windows("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    settings = *where[:3], count_include_pad, divisor_override or 0
    backend.pooling.avg_pool2d(x, y, *settings, backend.n_threads())
    return _record(input, y, lambda dy, dx, n: backend.pooling.avg_pool2d_backward(dy, dx, *settings, n))


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means of windows such that the output has the size asked for; None keeps a size; 1 is global average pooling.
    Output o of O covers the inputs ⌊o·H/O⌋ to ⌈(o + 1)·H/O⌉ − 1.

    >>> adaptive_avg_pool2d(fastnn.arange(12.0).view(1, 1, 3, 4), (None, 2)).tolist()
    [[[[0.5, 2.5], [4.5, 6.5], [8.5, 10.5]]]]
    """
    x = images("adaptive_avg_pool2d", same_float("adaptive_avg_pool2d", input=input))
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    if None in sizes and len(sizes) == 2:
        sizes = [own if size is None else size for own, size in zip(x.shape[2:], sizes, strict=True)]
    y = layout.empty((*x.shape[:2], *pair(sizes, "adaptive_avg_pool2d", "output_size")), x.dtype, True)
    backend.pooling.adaptive_avg_pool2d(x, y, backend.n_threads())
    return _record(input, y, backend.pooling.adaptive_avg_pool2d_backward)
