"""Convolution, and the im2col matrix that it is a product with.

    y[n, f, oh, ow] = b[f] + Σ_{c, kh, kw} x[n, c, oh·sh − ph + kh·dh, ow·sw − pw + kw·dw] · w[f, c, kh, kw]
    oH = ⌊(H + 2·ph − dh·(kH − 1) − 1) / sh⌋ + 1, and so for the width

The gradient of x is a convolution of dy with the flipped weight; that of w a sum over images and pixels (CS231n,
lectures 5 and 7).

The output is pending: batch norm in evaluation, an addition behind it and a ReLU ride in the convolution's epilogue
(`Convolved`). The scale and shift are made from the running statistics at each call."""

import math

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.arguments import Geometry, IntOrPair, alike, geometry, images, n_windows, pair, same_float
from fastnn.functional.linalg import column_sum
from fastnn.tensor import Array, Tensor, lasting, pending, record

__all__ = ["col2im", "conv2d", "fold", "im2col", "unfold"]


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
           padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Tensor:
    """2-D convolution (cross-correlation, as usual in deep learning): (N, C, H, W) → (N, F, oH, oW), or without N.

    `weight` is (F, C/groups, kH, kW), `bias` (F,), all of one float dtype. `stride` and `dilation` are pixels, an int
    or a pair; so is `padding`, zeros on each side, or "valid", none, or "same", which keeps the size at stride 1.
    Channels and filters are cut into `groups`; groups = C is depthwise. ValueError or TypeError if they do not fit.

    >>> conv2d(fastnn.ones(1, 1, 3, 3), fastnn.ones(1, 1, 2, 2))
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    if not alike(bias, input, weight):
        same_float("conv2d", {"bias": bias}, input=input, weight=weight)
    x, w = images("conv2d", input.array), weight.array
    if w.ndim != 4 or 0 in w.shape[1:]:
        raise ShapeError(f"conv2d: weight must be (F, C/groups, kH, kW), F alone may be 0, but {w.shape} came")
    (F, c, kH, kW), C = w.shape, x.shape[1]
    if not isinstance(groups, int) or groups < 1 or F % groups:
        raise ArgumentError(f"conv2d: groups must be an int that divides the {F} filters, but {groups!r} came")
    if c * groups != C:
        raise ShapeError(f"conv2d: input has {C} channels, but weight of shape {w.shape} with groups={groups} "
                         f"needs {c * groups}")
    if bias is not None and bias.shape != (F,):
        raise ShapeError(f"conv2d: bias has shape {bias.shape}, but weight of shape {w.shape} needs ({F},)")
    where = geometry("conv2d", (kH, kW), stride, padding, dilation, named=True)
    size = x.shape[2:] if padding == "same" else n_windows("conv2d", x.shape[2:], where)
    w = w if layout.sound(w) else layout.contiguous(w)
    b, arguments = None if bias is None else layout.contiguous(bias.array), (*where[1:], groups)
    inputs = (input, weight) if bias is None else (input, weight, bias)
    shape = (len(x), F, *size)
    recipe = Convolved(shape, inputs, (x, w, b), arguments)
    need_x, need_w = input.requires_grad, weight.requires_grad
    need_b = bias is not None and bias.requires_grad

    def conv2d(grad: Array | Tensor) -> tuple[Array | None, ...]:
        dy = grad if isinstance(grad, Array) else grad.array
        dy = layout.channels_last(dy if dy.ndim == 4 else dy.reshape(shape))
        dx = dw = None
        if need_x:
            dx = layout.empty(x.shape, x.dtype, True)
            backend.conv.conv2d_backward_input(dy, w, dx, *arguments, backend.n_threads())
            dx = dx if input.ndim == 4 else dx[0]
        if need_w:
            dw = layout.empty((kH, kW, c, F), x.dtype).transpose(3, 2, 0, 1)
            backend.conv.conv2d_backward_weight(dy, x, dw, *arguments, backend.n_threads())
        return (dx, dw) if bias is None else (dx, dw, column_sum(dy) if need_b else None)

    if input.ndim == 4 and all(map(lasting, inputs)):
        return pending(recipe, inputs, conv2d, (input, weight))
    y = recipe.compute()
    return record(y if input.ndim == 4 else y[0], inputs, conv2d, (input, weight))


class Convolved:
    """A convolution's output as it is pending, with what its epilogue takes: batch norm's mean, rstd, weight and bias,
    then another tensor to be added."""
    __slots__ = ("arguments", "arrays", "dtype", "norm", "residual", "shape", "sources")

    def __init__(self, shape: tuple[int, ...], sources: tuple[Tensor, ...], arrays: tuple[Array, Array, Array | None],
                 arguments: tuple, norm: tuple[Array | None, ...] | None = None,
                 residual: Array | None = None) -> None:
        self.shape, self.dtype, self.sources, self.arrays = shape, arrays[0].dtype, sources, arrays
        self.arguments, self.norm, self.residual = arguments, norm, residual

    def compute(self, relu: bool = False) -> Array:
        y = layout.empty(self.shape, self.dtype, True)
        if self.norm is None and not relu:
            backend.conv.conv2d(*self.arrays, y, *self.arguments, backend.n_threads())
            return y
        norm = self.norm or (None,) * 4
        residual = None if self.residual is None else layout.channels_last(self.residual)
        backend.conv.conv2d_batch_norm(*self.arrays, *norm, residual, relu, y, *self.arguments, backend.n_threads())
        return y

    def normalized(self, *norm: Array | None) -> "Convolved | None":
        """The recipe of (y − mean)·rstd·weight + bias, None if it has none."""
        done = self.norm is not None
        return None if done else Convolved(self.shape, self.sources, self.arrays, self.arguments, norm)

    def plus(self, other: Tensor) -> "Convolved | None":
        """The recipe of the sum, None if it has none."""
        if (self.norm is None or self.residual is not None or other.shape != self.shape or other.dtype != self.dtype
                or not lasting(other)):
            return None
        return Convolved(self.shape, (*self.sources, other), self.arrays, self.arguments, self.norm, other.array)


def _im2col(x: Array, where: Geometry, size: tuple[int, int]) -> Array:
    columns = layout.empty((len(x), x.shape[1] * math.prod(where[0]), math.prod(size)), x.dtype)
    backend.conv.im2col(layout.channels_last(x), columns, *where, size, backend.n_threads())
    return columns


def _col2im(columns: Array, shape: tuple[int, ...], where: Geometry, size: tuple[int, int]) -> Array:
    x = layout.empty(shape, columns.dtype, True)
    backend.conv.col2im(layout.contiguous(columns), x, *where, size, backend.n_threads())
    return x


def unfold(input: Tensor, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0,
           stride: IntOrPair = 1) -> Tensor:
    """The im2col matrix: (N, C, H, W) → (N, C·kH·kW, oH·oW), a window a column. `im2col` is another name for it.

    >>> unfold(fastnn.arange(4.0).view(1, 1, 2, 2), (1, 2))
    tensor([[[0., 2.],
             [1., 3.]]])
    """
    x = same_float("unfold", input=input)
    if x.ndim != 4:
        raise ShapeError(f"unfold: input must be (N, C, H, W), but shape {x.shape} came")
    where, shape = geometry("unfold", kernel_size, stride, padding, dilation), x.shape
    size = n_windows("unfold", shape[2:], where)
    return record(_im2col(x, where, size), (input,), lambda grad: (_col2im(grad, shape, where, size),))


def fold(input: Tensor, output_size: IntOrPair, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0,
         stride: IntOrPair = 1) -> Tensor:
    """`unfold`'s transpose: (N, C·kH·kW, oH·oW) → (N, C, H, W), overlapping values added. `col2im` likewise.

    >>> fold(fastnn.ones(1, 2, 2), (2, 2), (1, 2))
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    columns, (H, W) = same_float("fold", input=input), pair(output_size, "fold", "output_size", 1)
    where = geometry("fold", kernel_size, stride, padding, dilation)
    size, taps = n_windows("fold", (H, W), where), math.prod(where[0])
    if columns.ndim != 3 or columns.shape[1] % taps or columns.shape[2] != math.prod(size):
        raise ShapeError(f"fold: input has shape {columns.shape}, but output_size={(H, W)} and kernel_size={where[0]} "
                         f"need (N, C·{taps}, {math.prod(size)})")
    shape = len(columns), columns.shape[1] // taps, H, W
    return record(_col2im(columns, shape, where, size), (input,), lambda grad: (_im2col(grad, where, size),))


im2col, col2im = unfold, fold
