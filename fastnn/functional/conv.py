"""Convolution, and the im2col matrix that it is a product with.

    y[n, f, oh, ow] = b[f] + Σ_{c, kh, kw} x[n, c, oh·sh − ph + kh·dh, ow·sw − pw + kw·dw] · w[f, c, kh, kw]
    oH = ⌊(H + 2·ph − dh·(kH − 1) − 1) / sh⌋ + 1, and so for the width

The gradient of x is a convolution of dy with the flipped weight; that of w a sum over images and pixels (CS231n,
lectures 5 and 7). A transposed convolution computes the former, so that its own gradients are convolutions. What is
1-D is 2-D of height 1: `input` (N, C, L), as a view where its memory is N, L, C, which is the order of the output.

The output is pending: batch norm in evaluation, an addition behind it and a ReLU ride in the convolution's epilogue
(`Convolved`). The scale and shift are made from the running statistics at each call."""

import math

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.arguments import Geometry, IntOrPair, alike, geometry, images, n_windows, pair, same_float
from fastnn.functional.elementwise import add
from fastnn.functional.linalg import column_sum, matmul
from fastnn.functional.shape import permute, reshape, transpose
from fastnn.tensor import Array, Tensor, lasting, pending, record

__all__ = ["col2im", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "fold", "im2col",
           "locally_connected2d", "unfold"]  # fmt: skip


def _convolve(op: str, input: Tensor, weight: Tensor, bias: Tensor | None, stride: IntOrPair, padding: IntOrPair | str,
              dilation: IntOrPair, groups: int, output_padding: IntOrPair | None = None) -> Tensor:
    """Each of the four: of as many axes as the name says, transposed if `output_padding` is given."""
    axes, transposed = 1 if op.endswith("1d") else 2, output_padding is not None
    if not alike(bias, input, weight):
        same_float(op, {"bias": bias}, input=input, weight=weight)
    x, w = images(op, input.array, axes), weight.array
    if w.ndim != axes + 2 or 0 in w.shape[not transposed:]:
        kernel = "kH, kW" if axes == 2 else "k"
        form = f"(C, F/groups, {kernel}), none 0" if transposed else f"(F, C/groups, {kernel}), F alone may be 0"
        raise ShapeError(f"{op}: weight must be {form}, but {w.shape} came")
    if not isinstance(groups, int) or groups < 1 or len(w) % groups:
        raise ArgumentError(f"{op}: groups must be an int that divides the {len(w)} filters, but {groups!r} came")
    taken, F = (len(w), w.shape[1] * groups) if transposed else (w.shape[1] * groups, len(w))
    if taken != x.shape[1]:
        raise ShapeError(f"{op}: input has {x.shape[1]} channels, but weight of shape {w.shape} with groups={groups} "
                         f"needs {taken}")
    if bias is not None and bias.shape != (F,):
        raise ShapeError(f"{op}: bias has shape {bias.shape}, but weight of shape {w.shape} needs ({F},)")
    where = geometry(op, w.shape[2:], stride, padding, dilation, not transposed, axes)
    if output_padding is not None:
        more = pair(output_padding, op, "output_padding", 0, axes)
        if any(m >= max(s, d) for m, s, d in zip(more, where[1], where[3], strict=True)):
            raise ArgumentError(f"{op}: output_padding={more} must be below stride={where[1]} or dilation={where[3]}")
        sides = zip(x.shape[2:], *where, more, strict=True)
        size = pair([(n - 1) * s - 2 * p + d * (k - 1) + m + 1 for n, k, s, p, d, m in sides], op, "output's size", 1)
    else:
        size = x.shape[2:] if padding == "same" else n_windows(op, x.shape[2:], where)
    w = w if axes == 2 else w[..., None, :]
    w, b = w if layout.sound(w) else layout.contiguous(w), None if bias is None else layout.contiguous(bias.array)
    arguments, inputs = (*where[1:], groups), (input, weight) if bias is None else (input, weight, bias)
    shape, shapes = (len(x), F, *size), (input.shape, weight.shape)
    need_x, need_w, need_b = input.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad

    def backward(grad: Array | Tensor) -> tuple[Array | None, ...]:
        dy = layout.channels_last(_shaped(grad if isinstance(grad, Array) else grad.array, shape))
        dx = dw = None
        if need_x:
            dx = layout.empty(x.shape, x.dtype, True)
            if transposed:
                backend.conv.conv2d(dy, w, None, dx, *arguments, backend.n_threads())
            else:
                backend.conv.conv2d_backward_input(dy, w, dx, *arguments, backend.n_threads())
            dx = _shaped(dx, shapes[0])
        if need_w:
            dw = layout.empty((*w.shape[2:], *w.shape[1::-1]), w.dtype).transpose(3, 2, 0, 1)
            ends = (x, dy) if transposed else (dy, x)
            backend.conv.conv2d_backward_weight(*ends, dw, *arguments, backend.n_threads())
            dw = _shaped(dw, shapes[1])
        return (dx, dw) if bias is None else (dx, dw, column_sum(dy) if need_b else None)

    backward.__qualname__ = op
    if transposed:
        y = layout.empty(shape, x.dtype, True)
        backend.conv.conv2d_backward_input(x, w, y, *arguments, backend.n_threads())
        if b is not None:
            mean, rstd = np.zeros(F, x.dtype), np.ones(F, x.dtype)
            backend.normalization.batch_norm(y, mean, rstd, None, b, None, False, y, backend.n_threads())
    else:
        recipe = Convolved(shape, inputs, (x, w, b), arguments)
        if input.ndim == 4 and all(map(lasting, inputs)):
            return pending(recipe, inputs, backward, (input, weight))
        y = recipe.compute()
    return record(_shaped(y, (*input.shape[:-axes - 1], F, *size[2 - axes:])), inputs, backward, (input, weight))


def _shaped(a: Array, shape: tuple[int, ...]) -> Array:
    """`a` with axes of size 1 more or fewer, `a` itself if none."""
    return a if a.ndim == len(shape) else a.reshape(shape)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
           padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Tensor:
    """2-D convolution (cross-correlation, as usual in deep learning): (N, C, H, W) → (N, F, oH, oW), or without N.

    `weight` is (F, C/groups, kH, kW), `bias` (F,), all of one float dtype. `stride` and `dilation` are pixels, an int
    or a pair; so is `padding`, zeros on each side, or "valid", none, or "same", which keeps the size at stride 1.
    Channels and filters are cut into `groups`; groups = C is depthwise. ValueError or TypeError if they do not fit.

    >>> F.conv2d(fastnn.ones(1, 1, 3, 3), fastnn.ones(1, 1, 2, 2))
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    return _convolve("conv2d", input, weight, bias, stride, padding, dilation, groups)


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
        return None if self.norm else Convolved(self.shape, self.sources, self.arrays, self.arguments, norm)

    def plus(self, other: Tensor) -> "Convolved | None":
        """The recipe of the sum, None if it has none."""
        if (self.norm is None or self.residual is not None or other.shape != self.shape or other.dtype != self.dtype
                or not lasting(other)):
            return None
        return Convolved(self.shape, (*self.sources, other), self.arrays, self.arguments, self.norm, other.array)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
                     padding: IntOrPair = 0, output_padding: IntOrPair = 0, groups: int = 1,
                     dilation: IntOrPair = 1) -> Tensor:
    """The transpose of `conv2d` as a matrix: (N, C, H, W) → (N, F, oH, oW), or without N; errors as there.

        oH = (H − 1)·stride − 2·padding + dilation·(kH − 1) + output_padding + 1, oW likewise

    `weight` is (C, F/groups, kH, kW), `bias` (F,). `output_padding` is more rows below and columns to the right.

    >>> F.conv_transpose2d(fastnn.ones(1, 1, 1, 2), fastnn.ones(1, 1, 1, 2), stride=2, output_padding=(0, 1)).tolist()
    [[[[1.0, 1.0, 1.0, 1.0, 0.0]]]]
    """
    return _convolve("conv_transpose2d", input, weight, bias, stride, padding, dilation, groups, output_padding)


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
           padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Tensor:
    """`conv2d` along one axis: input (N, C, L) or (C, L), `weight` (F, C/groups, k), output (N, F, oL) or (F, oL)."""
    return _convolve("conv1d", input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
                     padding: IntOrPair = 0, output_padding: IntOrPair = 0, groups: int = 1,
                     dilation: IntOrPair = 1) -> Tensor:
    """`conv_transpose2d` along one axis: input (N, C, L) or (C, L), `weight` (C, F/groups, k)."""
    return _convolve("conv_transpose1d", input, weight, bias, stride, padding, dilation, groups, output_padding)


def locally_connected2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
                        padding: IntOrPair = 0, dilation: IntOrPair = 1) -> Tensor:
    """Convolution with unshared weights (Taigman et al. 2014, "DeepFace"): (N, C, H, W) → (N, F, oH, oW).

    `weight` is (oH, oW, F, C, kH, kW): weight[i, j] is the conv2d weight of the window of output pixel (i, j), whose
    bias is bias[:, i, j], of (F, oH, oW). So the gradient of a shared weight is the sum of those over i and j."""
    op = "locally_connected2d"
    same_float(op, {"bias": bias}, input=input, weight=weight)
    if input.ndim != 4 or weight.ndim != 6 or input.shape[1] != weight.shape[3]:
        raise ShapeError(f"{op}: input of shape {input.shape} does not fit weight of shape {weight.shape}")
    oH, oW, F, C, kH, kW = weight.shape
    size = n_windows(op, input.shape[2:], geometry(op, (kH, kW), stride, padding, dilation))
    if size != (oH, oW) or (bias is not None and bias.shape != (F, oH, oW)):
        raise ShapeError(f"{op}: weight of shape {weight.shape}, and a bias, do not fit an output of {F} times {size}")
    windows = permute(unfold(input, (kH, kW), dilation, padding, stride), 2, 0, 1)  # oH·oW, N, C·kH·kW
    y = matmul(windows, transpose(reshape(weight, oH * oW, F, C * kH * kW), 1, 2))
    y = reshape(permute(y, 1, 2, 0), len(input), F, oH, oW)
    return y if bias is None else add(y, bias)


def _im2col(x: Array, where: Geometry, size: tuple[int, int]) -> Array:
    """The matrices of images with or without N."""
    columns = layout.empty((*x.shape[:-3], x.shape[-3] * math.prod(where[0]), math.prod(size)), x.dtype)
    x, out = (x, columns) if x.ndim == 4 else (x[None], columns[None])
    backend.conv.im2col(layout.channels_last(x), out, *where, size, backend.n_threads())
    return columns


def _col2im(columns: Array, shape: tuple[int, ...], where: Geometry, size: tuple[int, int]) -> Array:
    """The sums, images of `shape` with or without N."""
    x = layout.empty(shape if len(shape) == 4 else (1, *shape), columns.dtype, True)
    columns = columns if columns.ndim == 3 else columns[None]
    backend.conv.col2im(layout.contiguous(columns), x, *where, size, backend.n_threads())
    return x if len(shape) == 4 else x[0]


def unfold(input: Tensor, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0,
           stride: IntOrPair = 1) -> Tensor:
    """The im2col matrix: (N, C, H, W) → (N, C·kH·kW, oH·oW), a window a column, or without N. `im2col` is the same.

    >>> F.unfold(fastnn.arange(4.0).view(1, 1, 2, 2), (1, 2))
    tensor([[[0., 2.],
             [1., 3.]]])
    """
    x, shape = images("unfold", same_float("unfold", input=input)), input.shape
    where = geometry("unfold", kernel_size, stride, padding, dilation)
    size = n_windows("unfold", x.shape[2:], where)
    y = _im2col(_shaped(x, shape), where, size)
    return record(y, (input,), lambda grad: (_col2im(grad, shape, where, size),))


def fold(input: Tensor, output_size: IntOrPair, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0,
         stride: IntOrPair = 1) -> Tensor:
    """`unfold`'s transpose: (N, C·kH·kW, oH·oW) → (N, C, H, W), overlapping values added, or without N. `col2im` too.

    >>> F.fold(fastnn.ones(1, 2, 2), (2, 2), (1, 2))
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    columns, (H, W) = same_float("fold", input=input), pair(output_size, "fold", "output_size", 1)
    where = geometry("fold", kernel_size, stride, padding, dilation)
    size, taps = n_windows("fold", (H, W), where), math.prod(where[0])
    if columns.ndim not in (2, 3) or columns.shape[-2] % taps or columns.shape[-1] != math.prod(size):
        raise ShapeError(f"fold: input has shape {columns.shape}, but output_size={(H, W)} and kernel_size={where[0]} "
                         f"need (N, C·{taps}, {math.prod(size)})")
    shape = *columns.shape[:-2], columns.shape[-2] // taps, H, W
    return record(_col2im(columns, shape, where, size), (input,), lambda grad: (_im2col(grad, where, size),))


im2col, col2im = unfold, fold
