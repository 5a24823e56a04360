"""Convolution, and the im2col matrix that it is a product with.

    y[n, f, oh, ow] = b[f] + Σ_{c, kh, kw} x[n, c, oh·sh − ph + kh·dh, ow·sw − pw + kw·dw] · w[f, c, kh, kw]
    oH = ⌊(H + 2·ph − dh·(kH − 1) − 1) / sh⌋ + 1, and so for the width

The gradient of x is a convolution of dy with the flipped weight; that of w a sum over images and pixels (CS231n,
lectures 5 and 7).
"""

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.linalg import column_sum, same_float
from fastnn.functional.sizes import IntOrPair, output_size, pair
from fastnn.tensor import Tensor, record

__all__ = ["col2im", "conv2d", "fold", "im2col", "unfold"]

Array = np.ndarray


def conv_sizes(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: IntOrPair | str,
    dilation: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(oH, oW), and the padding above and to the left, of a convolution; `padding` may be "same" or "valid"."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ArgumentError(f"conv2d: padding must be ints, 'same' or 'valid', but {padding!r} came")
        if padding == "same":
            if stride != (1, 1):
                raise ArgumentError(f"conv2d: padding='same' needs stride 1, but stride={stride} came")
            (kh, kw), (dh, dw) = kernel, dilation  # an odd total pads one more below and to the right
            return size, (dh * (kh - 1) // 2, dw * (kw - 1) // 2)
        padding = 0
    before = pair(padding, "conv2d", "padding")
    return tuple(map(output_size, ("conv2d",) * 2, size, kernel, stride, before, dilation)), before  # type: ignore


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
    padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1,
) -> Tensor:
    """2-D convolution (cross-correlation, as everywhere in deep learning).

    Args:
        input: (N, C, H, W) or (C, H, W), float32 or float64.
        weight: (F, C/groups, kH, kW), of the same dtype.
        bias: (F,).
        stride, dilation: pixels, an int or a pair.
        padding: pixels of zeros on each side, an int or a pair; "valid" is 0, "same" keeps the size at stride 1.
        groups: parts into which channels and filters are cut; groups = C is depthwise.

    Returns: (N, F, oH, oW) or (F, oH, oW). Raises ShapeError, DTypeError, ValueError or TypeError.

    >>> conv2d(fastnn.ones(1, 1, 3, 3), fastnn.ones(1, 1, 2, 2))
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    same_float("conv2d", input=input, weight=weight, bias=bias)
    if input.ndim not in (3, 4) or weight.ndim != 4:
        raise ShapeError(f"conv2d: input must be (N, C, H, W) or (C, H, W) and weight (F, C/groups, kH, kW), but "
                         f"shapes {input.shape} and {weight.shape} came")
    x = layout.channels_last(input.array if input.ndim == 4 else input.array[None])
    F, c, kH, kW = weight.shape
    C = x.shape[1]
    if not isinstance(groups, int) or groups < 1 or F % groups:
        raise ArgumentError(f"conv2d: groups must be an int that divides the {F} filters, but {groups!r} came")
    if c * groups != C:
        raise ShapeError(f"conv2d: input has {C} channels, but weight of shape {weight.shape} with groups={groups} "
                         f"needs {c * groups}")
    if not all((kH, kW, *x.shape[1:])):
        raise ShapeError(f"conv2d: only the batch may be empty, but shapes {input.shape} and {weight.shape} came")
    if bias is not None and bias.shape != (F,):
        raise ShapeError(f"conv2d: bias has shape {bias.shape}, but weight of shape {weight.shape} needs ({F},)")
    strides, dilations = pair(stride, "conv2d", "stride", 1), pair(dilation, "conv2d", "dilation", 1)
    size, before = conv_sizes(x.shape[2:], (kH, kW), strides, padding, dilations)
    y = layout.empty((len(x), F, *size), x.dtype, True)
    w = weight.array if layout.sound(weight.array) else layout.contiguous(weight.array)
    arguments = strides, before, dilations, groups
    backend.conv.conv2d(x, w, None if bias is None else layout.contiguous(bias.array), y, *arguments,
                        backend.n_threads())
    need_x, need_w = input.requires_grad, weight.requires_grad
    need_b = bias is not None and bias.requires_grad

    def conv2d(grad: Array) -> tuple[Array | None, ...]:
        dy = layout.channels_last(grad.reshape(y.shape))
        dx = dw = None
        if need_x:
            dx = layout.empty(x.shape, x.dtype, True)
            backend.conv.conv2d_backward_input(dy, w, dx, *arguments, backend.n_threads())
            dx = dx.reshape(input.shape)
        if need_w:
            dw = layout.empty((kH, kW, c, F), x.dtype).transpose(3, 2, 0, 1)
            backend.conv.conv2d_backward_weight(dy, x, dw, *arguments, backend.n_threads())
        return (dx, dw) if bias is None else (dx, dw, column_sum(dy) if need_b else None)

    out = y if input.ndim == 4 else y[0]
    inputs = (input, weight) if bias is None else (input, weight, bias)
    return record(out, inputs, conv2d, saved=(input, weight))


def _columns(
    op: str, size: tuple[int, ...], kernel_size: IntOrPair, dilation: IntOrPair, padding: IntOrPair, stride: IntOrPair
) -> tuple:
    kernel, strides = pair(kernel_size, op, "kernel_size", 1), pair(stride, op, "stride", 1)
    before, dilations = pair(padding, op, "padding"), pair(dilation, op, "dilation", 1)
    sizes = tuple(map(output_size, (op,) * 2, size, kernel, strides, before, dilations))
    return kernel, strides, before, dilations, sizes


def _im2col(x: Array, arguments: tuple) -> Array:
    (kH, kW), *_, (oH, oW) = arguments
    columns = layout.empty((len(x), x.shape[1] * kH * kW, oH * oW), x.dtype)
    backend.conv.im2col(layout.channels_last(x), columns, *arguments, backend.n_threads())
    return columns


def _col2im(columns: Array, shape: tuple[int, ...], arguments: tuple) -> Array:
    x = layout.empty(shape, columns.dtype, True)
    backend.conv.col2im(layout.contiguous(columns), x, *arguments, backend.n_threads())
    return x


def unfold(
    input: Tensor, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0, stride: IntOrPair = 1
) -> Tensor:
    """The im2col matrix: (N, C, H, W) → (N, C·kH·kW, oH·oW), a window a column. `im2col` is another name for it.

    >>> unfold(fastnn.arange(4.0).view(1, 1, 2, 2), (1, 2))
    tensor([[[0., 2.],
             [1., 3.]]])
    """
    same_float("unfold", input=input)
    if input.ndim != 4:
        raise ShapeError(f"unfold: input must be (N, C, H, W), but shape {input.shape} came")
    arguments = _columns("unfold", input.shape[2:], kernel_size, dilation, padding, stride)
    shape = input.shape
    return record(_im2col(input.array, arguments), (input,), lambda grad: (_col2im(grad, shape, arguments),))


def fold(
    input: Tensor, output_size: IntOrPair, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0,
    stride: IntOrPair = 1,
) -> Tensor:
    """`unfold`'s transpose: (N, C·kH·kW, oH·oW) → (N, C, H, W), overlapping values added. `col2im` likewise.

    >>> fold(fastnn.ones(1, 2, 2), (2, 2), (1, 2))
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    same_float("fold", input=input)
    H, W = pair(output_size, "fold", "output_size", 1)
    arguments = _columns("fold", (H, W), kernel_size, dilation, padding, stride)
    (kH, kW), *_, (oH, oW) = arguments
    if input.ndim != 3 or input.shape[1] % (kH * kW) or input.shape[2] != oH * oW:
        raise ShapeError(f"fold: input has shape {input.shape}, but output_size={(H, W)} and kernel_size={(kH, kW)} "
                         f"need (N, C·{kH * kW}, {oH * oW})")
    shape = (len(input.array), input.shape[1] // (kH * kW), H, W)
    return record(_col2im(input.array, shape, arguments), (input,), lambda grad: (_im2col(grad, arguments),))


im2col, col2im = unfold, fold
