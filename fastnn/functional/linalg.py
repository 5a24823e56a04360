"""Matrix products and the linear layer y = x Wᵀ + b, where dx = dy W, dW = dyᵀ x, db = Σ dy (CS231n, lecture 4)."""

import math
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ShapeError
from fastnn.functional.arguments import alike, same_float
from fastnn.functional.elementwise import add
from fastnn.functional.reduction import max as maximum
from fastnn.functional.shape import axis_of, install, permute, reshape, squeeze, unflatten, unsqueeze
from fastnn.tensor import Array, Tensor, record, unbroadcast

__all__ = ["bilinear", "bmm", "linear", "matmul", "maxout", "mm"]


def _readable(a: Array) -> Array:
    """Matrices that lie by rows or by columns, as the kernel needs them."""
    if a.ndim == 2 and a.flags.forc and layout.sound(a):
        return a
    first = a if a.ndim == 2 else a[0] if len(a) else a.reshape(a.shape[1:] if a.size else (0, 0))
    if layout.sound(a) and (first.flags.c_contiguous or first.T.flags.c_contiguous):
        return a
    return layout.contiguous(a)


def _product(a: Array, b: Array, bias: Array | None = None) -> Array:
    """a @ b for matrices (M, K), (K, N), or stacks of them of one length."""
    out = layout.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    if a.dtype.kind != "f":
        np.matmul(a, b, out=out)
    elif out.size:
        backend.matmul.matmul(_readable(a), _readable(b), bias, out, backend.n_threads())
    return out


def _matmul(a: Array, b: Array) -> Array:
    """np.matmul's meaning for at least two dimensions on each side."""
    if b.ndim == 2:  # a stack of rows is one tall matrix
        return _product(a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b).reshape(
            *a.shape[:-1], b.shape[1])
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    n = math.prod(stack)
    a3 = np.broadcast_to(a, (*stack, *a.shape[-2:])).reshape(n, *a.shape[-2:])
    b3 = np.broadcast_to(b, (*stack, *b.shape[-2:])).reshape(n, *b.shape[-2:])
    return _product(a3, b3).reshape(*stack, a.shape[-2], b.shape[-1])


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product; leading dimensions are stacks and broadcast; a vector is a row on the left, a column on the right

    Raises ShapeError if the inner sizes differ, DTypeError for different dtypes.

    >>> fastnn.tensor([[1.0, 2.0]]) @ fastnn.tensor([3.0, 4.0])
    tensor([11.])"""
    if not (isinstance(input, Tensor) and isinstance(other, Tensor) and input.dtype == other.dtype):
        same_float("matmul", input=input, other=other)
    a, b = input.array, other.array
    if not a.ndim or not b.ndim:
        raise ShapeError(f"matmul: operands need at least one dimension, but shapes {a.shape} and {b.shape} came")
    rows = b.shape[-2 if b.ndim > 1 else 0]
    if a.shape[-1] != rows:
        raise ShapeError(f"matmul: shapes {a.shape} and {b.shape} do not fit: {a.shape[-1]} columns meet {rows} rows")
    a2, b2 = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    try:
        full = _matmul(a2, b2)
    except ValueError as error:
        raise ShapeError(f"matmul: stacks of shapes {a.shape} and {b.shape} do not broadcast") from error
    shape = full.shape[:-2] + full.shape[-2:-1] * (a.ndim > 1) + full.shape[-1:] * (b.ndim > 1)
    need_a, need_b = input.requires_grad, other.requires_grad

    def matmul(grad: Array) -> tuple[Array | None, Array | None]:
        g = grad.reshape(full.shape)
        da = unbroadcast(_matmul(g, b2.swapaxes(-1, -2)), a2.shape).reshape(a.shape) if need_a else None
        if not need_b:
            return da, None
        if b2.ndim == 2:  # the sum over stacks is part of the product
            rows = a2.reshape(math.prod(a2.shape[:-1]), a2.shape[-1])
            return da, _product(rows.T, g.reshape(len(rows), full.shape[-1])).reshape(b.shape)
        return da, unbroadcast(_matmul(a2.swapaxes(-1, -2), g), b2.shape).reshape(b.shape)

    return record(full.reshape(shape), (input, other), matmul, saved=(input, other))


def _exact(op: str, ndim: int, a: Tensor, b: Tensor) -> Tensor:
    if a.ndim != ndim or b.ndim != ndim or a.shape[:-2] != b.shape[:-2]:
        raise ShapeError(f"{op}: needs two {ndim}-D tensors of equal stacks, but shapes {a.shape} and {b.shape} came")
    return matmul(a, b)


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices, without broadcasting."""
    return _exact("mm", 2, input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two stacks of matrices, (B, M, K) and (B, K, N)."""
    return _exact("bmm", 3, input, mat2)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x Wᵀ + b: x (*, in), y (*, out), W (out, in), b (out,); or W (in,), b (), y (*). ShapeError or DTypeError
    where they do not fit.

    >>> linear(fastnn.ones(1, 2), fastnn.tensor([[1.0, 2.0]]), fastnn.tensor([0.5]))
    tensor([[3.5]])"""
    if not alike(bias, input, weight):
        same_float("linear", {"bias": bias}, input=input, weight=weight)
    x, w = input.array, weight.array
    if w.ndim == 1:
        return matmul(input, weight) if bias is None else add(matmul(input, weight), bias)
    if w.ndim != 2 or not x.ndim or x.shape[-1] != w.shape[1]:
        raise ShapeError(f"linear: input of shape {x.shape} does not fit weight of shape {w.shape} (out, in features)")
    if bias is not None and bias.array.shape != w.shape[:1]:
        raise ShapeError(f"linear: bias has shape {bias.shape}, but weight of shape {w.shape} needs {w.shape[:1]}")
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = _product(rows, w.T, None if bias is None else layout.contiguous(bias.array))
    need_x, need_w = input.requires_grad, weight.requires_grad
    need_b = bias is not None and bias.requires_grad

    def linear(grad: Array) -> tuple[Array | None, ...]:
        dy = layout.contiguous(grad if grad.ndim == 2 else grad.reshape(y.shape))
        dx = _product(dy, w) if need_x else None
        dx = dx if x.ndim == 2 or dx is None else dx.reshape(x.shape)
        dw = _product(dy.T, rows) if need_w else None
        return (dx, dw) if bias is None else (dx, dw, column_sum(dy) if need_b else None)

    out = y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(w))
    return record(out, (input, weight) if bias is None else (input, weight, bias), linear, saved=(input, weight))


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[…, o] = Σ_ij input1[…, i]·weight[o, i, j]·input2[…, j] + bias[o]; errors as in `linear`."""
    same_float("bilinear", {"bias": bias}, input1=input1, input2=input2, weight=weight)
    a, b, w = input1.shape, input2.shape, weight.shape
    if len(w) != 3 or not a or a[:-1] != b[:-1] or (a[-1:], b[-1:]) != (w[1:2], w[2:]) or (
            bias is not None and bias.shape != w[:1]):
        raise ShapeError(f"bilinear: inputs of shapes {a} and {b} do not fit weight of shape {w} (out, in1, in2)"
                         + ("" if bias is None else f" and bias of shape {bias.shape}"))
    product = matmul(input2, reshape(permute(weight, 2, 1, 0), w[2], w[1] * w[0]))
    y = squeeze(matmul(unsqueeze(input1, -2), reshape(product, *a, w[0])), -2)
    return y if bias is None else add(y, bias)


def maxout(input: Tensor, num_pieces: int, dim: int = 1) -> Tensor:
    """The maximum of each `num_pieces` elements that follow one another along `dim`, the first of equal ones getting
    the gradient (Goodfellow et al., arXiv 1302.4389).

    >>> maxout(fastnn.tensor([[1.0, 3.0, -2.0, -4.0]]), 2)
    tensor([[ 3., -2.]])
    """
    axis = axis_of("maxout", dim, input.ndim)
    if num_pieces < 1 or input.shape[axis] % num_pieces:
        raise ShapeError(f"maxout: num_pieces={num_pieces} must divide size {dim} of an input of shape {input.shape}")
    return maximum(unflatten(input, axis, (input.shape[axis] // num_pieces, num_pieces)), axis + 1).values


def column_sum(dy: Array) -> Array:
    """Sum over all but axis 1: the gradient of a bias."""
    out = layout.empty((dy.shape[1],), dy.dtype)
    backend.normalization.channel_sum(dy, out, backend.n_threads())
    return out


def _operator(self: Tensor, other: Any) -> Any:
    return matmul(self, other) if isinstance(other, Tensor) else NotImplemented


install(matmul=matmul, mm=mm, bmm=bmm, __matmul__=_operator)
