"""Losses: cross-entropy, negative log-likelihood, mean squared error."""

import math
import warnings
from collections.abc import Callable

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.functional.activation import log_softmax, rows
from fastnn.functional.arguments import alike, check_tensor, same_float
from fastnn.functional.elementwise import add, mul, neg, square, sub
from fastnn.functional.reduction import mean, sum
from fastnn.tensor import Array, Tensor, float64, int64, record, result_dtype, uint8

__all__ = ["cross_entropy", "mse_loss", "nll_loss"]


def _check(op: str, input: Tensor, target: Tensor, reduction: str) -> None:
    check_tensor(op, input)
    check_tensor(op, target, "target")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{op}: reduction must be 'none', 'mean' or 'sum', but {reduction!r} came")


def _class_weight(op: str, x: Array, weight: Tensor | None) -> tuple[int, Array | None]:
    """The axis of the classes and their weights (C,), None if all are 1."""
    if x.ndim == 0:
        raise ShapeError(f"{op}: input must be (C,), (N, C) or (N, C, d1, ...), but is 0-d")
    dim = min(x.ndim - 1, 1)
    if weight is not None and weight.shape != x.shape[dim:dim + 1]:
        raise ShapeError(f"{op}: weight has shape {weight.shape}, but an input of shape {x.shape} needs "
                         f"({x.shape[dim]},)")
    return dim, None if weight is None else layout.contiguous(weight.array)


def _class_loss(op: str, input: Tensor, target: Tensor, weight: Tensor | None, reduction: str,
                run: Callable) -> Tensor:
    """Losses of scores as rows, reduced. `run`, given the rows (M, C), int64 classes (M,) and weights (C,) or None,
    returns the losses (M,), their sum, the sum of what each weighs, and a function from their gradients, (M,), or (1,)
    if all are one, to that of the rows.

    The mean is Σ loss / Σ weight, NaN if that is 0; the gradient is 0 then."""
    if not alike(weight, input):
        same_float(op, {"weight": weight}, input=input)
    x = input.array
    dim, w = _class_weight(op, x, weight)
    shape, t = x.shape[:dim] + x.shape[dim + 1:], target.array
    if t.shape != shape:
        raise ShapeError(f"{op}: target has shape {t.shape}, but an input of shape {x.shape} needs {shape}")
    if t.dtype not in (int64, uint8):
        raise DTypeError(f"{op}: target must hold classes as int64, but is {t.dtype}; use .long()")
    scores, back = rows(x, dim)
    t = layout.contiguous(t)
    loss, sum_loss, sum_weight, gradient = run(
        scores, t if t.ndim == 1 and t.dtype == int64 else t.reshape(-1).astype(int64, copy=False), w)
    total = sum_weight if reduction == "mean" else 1.0
    if reduction == "none":
        value = loss.reshape(shape)
    else:
        value = layout.empty((), loss.dtype)
        value.fill(sum_loss / total if total else sum_loss * math.inf)

    def backward(grad: Array) -> tuple[Array]:
        if reduction == "none":
            dloss = layout.contiguous(grad).reshape(-1)
        else:
            dloss = layout.empty((1,), loss.dtype)
            dloss.fill(grad.item() / total if total else 0)
        return (back(gradient(dloss)),)

    backward.__qualname__ = op
    return record(value, (input,), backward)


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy between the softmax p of logits and classes t: −(1 − ε)·w[t]·log p[t] − ε/C·Σ w·log p.

    `input`: logits, float32 or float64, (N, C), (N, C, d1, ...) or (C,). `target`: classes, int64, (N,), (N, d1, ...)
    or (); or probabilities of the classes, like `input` (the loss is −Σ w·q·log p then, with q = (1 − ε)·target + ε/C).
    `weight`: w of the classes (C,), input's dtype; None: all 1. Positions whose class is `ignore_index` do not count.
    `reduction`: "none"; "sum"; or "mean": Σ loss / Σ w[t], or / the number of positions for probabilities, NaN if that
    is 0. `label_smoothing`: ε, from 0 to 1. ShapeError or DTypeError if arguments do not fit together, IndexError if
    a target is no class.

    >>> cross_entropy(fastnn.tensor([[0.0, 0.0], [5.0, 1005.0]]), fastnn.tensor([0, 1]), reduction="none")
    tensor([0.6931, 0.    ])
    """
    op = "cross_entropy"
    _check(op, input, target, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"{op}: label_smoothing must be from 0 to 1, but {label_smoothing} came")
    if target.shape == input.shape and input.ndim:
        return _reduce(_soft_cross_entropy(op, input, target, weight, label_smoothing), reduction)

    def run(x: Array, t: Array, w: Array | None) -> tuple:
        loss, sums, unit = layout.empty(t.shape, x.dtype), layout.empty((2,), float64), layout.empty(x.shape, x.dtype)
        backend.softmax.cross_entropy(x, t, w, label_smoothing, ignore_index, loss, sums, unit, backend.n_threads())

        def gradient(dloss: Array) -> Array:
            dx = layout.empty(unit.shape, unit.dtype)
            backend.softmax.cross_entropy_backward(dloss, unit, dx, backend.n_threads())
            return dx

        return loss, *sums.tolist(), gradient

    return _class_loss(op, input, target, weight, reduction, run)


def _soft_cross_entropy(op: str, input: Tensor, target: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy for targets that are probabilities, which may have gradients too: composed of other operations."""
    x = same_float(op, {"weight": weight}, input=input, **{"target of the input's shape": target})
    dim, w = _class_weight(op, x, weight)
    smooth = add(mul(target, 1 - smoothing), smoothing / max(x.shape[dim], 1)) if smoothing else target
    losses = mul(log_softmax(input, dim), smooth)
    if w is not None:
        losses = mul(losses, Tensor(w.reshape(-1, *(1,) * (x.ndim - dim - 1))))
    return neg(sum(losses, dim))


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
             reduction: str = "mean") -> Tensor:
    """Negative log-likelihood: −w[t]·x[t] for log-probabilities x, such as `log_softmax` gives.

    Arguments, reductions and errors are those of `cross_entropy` with class targets.

    >>> nll_loss(fastnn.tensor([[-1.0, -2.0], [-3.0, -4.0]]), fastnn.tensor([1, 0]))
    tensor(2.5)
    """
    _check("nll_loss", input, target, reduction)

    @np.errstate(all="ignore")
    def run(x: Array, t: Array, w: Array | None) -> tuple:
        kept = t != ignore_index
        if (wrong := t[kept & ((t < 0) | (t >= x.shape[1]))]).size:
            raise IndexError(f"nll_loss: target {wrong[0]} is out of range for {x.shape[1]} classes")
        at = np.flatnonzero(kept), t[kept]
        loss, counted = np.zeros((2, len(x)), x.dtype)
        counted[kept] = 1 if w is None else w[t[kept]]
        loss[kept] = -counted[kept] * x[at]

        def gradient(dloss: Array) -> Array:
            dx = np.zeros(x.shape, dloss.dtype)
            dx[at] = -(dloss * counted)[kept]
            return dx

        return loss, float(loss.sum(dtype=float64)), float(counted.sum(dtype=float64)), gradient

    return _class_loss("nll_loss", input, target, weight, reduction, run)


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(x − t)², as is ("none"), summed, or averaged over all elements. Dtypes are promoted.

    Shapes that differ are broadcast as in PyTorch, with a UserWarning, since it is rarely meant; ShapeError if they
    cannot be, DTypeError if neither operand is of floats.

    >>> mse_loss(fastnn.tensor([1.0, 2.0]), fastnn.tensor([3.0, 2.0]))
    tensor(2.)
    """
    _check("mse_loss", input, target, reduction)
    if result_dtype(input, target).kind != "f":
        raise DTypeError(f"mse_loss: input is {input.dtype} and target {target.dtype}; one must be of floats")
    if target.shape != input.shape:
        try:
            np.broadcast_shapes(input.shape, target.shape)
        except ValueError:
            raise ShapeError(f"mse_loss: shapes {input.shape} and {target.shape} do not broadcast") from None
        text = f"mse_loss: target has shape {target.shape} and input {input.shape}; they are broadcast, rarely as meant"
        warnings.warn(text, stacklevel=2)
    return _reduce(square(sub(input, target)), reduction)


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    return loss if reduction == "none" else sum(loss) if reduction == "sum" else mean(loss)
