"""Losses: formulae under one decorator, `_loss`, which checks tensors and reduces; and distances.

`reduction`: "none": the losses as they are; "sum"; or "mean": over all of them. Tensors broadcast, dtypes are promoted,
gradients reach targets, too. Errors: TypeError for what is no tensor, ValueError for another reduction, ShapeError for
shapes that do not fit, DTypeError without floats, ArgumentError for other values out of range."""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, DTypeError, RangeError, ShapeError
from fastnn.functional.activation import log_softmax, logsigmoid, relu, rows, sigmoid
from fastnn.functional.arguments import alike, check_tensor, same_float
from fastnn.functional.elementwise import _sign, minimum, times, where
from fastnn.functional.reduction import mean, norm, sum
from fastnn.functional.shape import broadcast_to, unsqueeze
from fastnn.tensor import Array, Tensor, as_tensor, float64, int64, record, result_dtype, uint8, unbroadcast

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity",
    "cross_entropy", "gaussian_nll_loss", "hinge_embedding_loss", "hinge_loss", "huber_loss", "kl_div", "l1_loss",
    "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_soft_margin_loss", "nll_loss",
    "pairwise_distance", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss"]  # fmt: skip

_REDUCTIONS: dict[str, Callable] = {
    "none": lambda losses: losses, "mean": mean, "sum": sum,
    "batchmean": lambda losses: sum(losses) / (len(losses) if losses.ndim else 1)}  # fmt: skip


def _loss(formula: Callable) -> Callable[..., Tensor]:
    """The loss that checks its tensors, those that are no option, and reduces, by its own keyword `reduction`, what
    `formula` gives: the losses as a tensor, or the arguments of `_fused` from y on."""
    op, signature = formula.__name__, inspect.signature(formula)
    needed = [name for name, p in signature.parameters.items() if "Tensor" in (a := str(p.annotation)) and "|" not in a]

    @functools.wraps(formula)
    def loss(*args: Tensor, reduction: str = "mean", **kwargs: Tensor) -> Tensor:
        tensors: dict[str, Any] = dict(zip(needed, (*args, *[kwargs.get(name) for name in needed[len(args):]])))  # noqa: B905
        floats = False
        for name, x in tensors.items():
            check_tensor(op, x, name)
            floats |= x.dtype.kind == "f"
        if reduction not in _REDUCTIONS or (reduction == "batchmean" and op != "kl_div"):
            raise ValueError(f"{op}: reduction must be 'none', 'mean' or 'sum', but {reduction!r} came")
        if not floats:
            raise DTypeError(f"{op}: {' and '.join(tensors)} hold no floats; use .float()")
        try:
            with np.errstate(all="ignore"):
                result = formula(*args, **kwargs)
                if isinstance(result, Tensor):
                    return _REDUCTIONS[reduction](result)
                return _fused(op, reduction, tuple(tensors.values())[:2], *result)
        except (ShapeError, DTypeError, ArgumentError, RangeError) as error:
            raise type(error)(f"{op}: {str(error).removeprefix(f'{op}: ')}") from None

    parameters = [*signature.parameters.values(),
                  inspect.Parameter("reduction", inspect.Parameter.KEYWORD_ONLY, default="mean", annotation="str")]
    loss.__signature__ = signature.replace(parameters=parameters, return_annotation="Tensor")  # type: ignore
    return loss


def _fused(op: str, reduction: str, inputs: tuple[Tensor, ...], y: Array, first: Callable,
           second: Callable | None = None, sums: Sequence[float] = ()) -> Tensor:
    """One node for the losses y of two tensors and their reduction. `first` and `second` take the gradient of y, an
    array or, if all elements have the same, a number, to those of the tensors; without `second` the second's is the
    first's at −g. `sums`: Σ y, and what to divide it by for the mean; if that is 0, the gradient is 0."""
    value, (total, n) = y, sums or (np.add.reduce(y, None), y.size)
    n = n if reduction == "mean" else 1
    if reduction != "none":
        value = layout.empty((), y.dtype)
        value.fill(np.float64(total) / n if n else np.nan)
    fits = [(x.array.shape, x.array.dtype) if x.requires_grad else None for x in inputs]

    def backward(grad: Array) -> list[Array | None]:
        g = grad if reduction == "none" else grad.item() / n if n else 0.0
        grads: Any = [fit and (second(g) if i and second else first(-g if i else g)) for i, fit in enumerate(fits)]
        return [fit and np.asarray(unbroadcast(dx, fit[0]), fit[1]) for fit, dx in zip(fits, grads, strict=True)]

    backward.__qualname__ = op
    return record(value, inputs, backward, inputs)


def _class_weight(x: Array, weight: Tensor | None) -> tuple[int, Array | None]:
    """The axis of the classes and their weights (C,), None if all are 1."""
    if x.ndim == 0:
        raise ShapeError("input must be (C,), (N, C) or (N, C, d1, ...), but is 0-d")
    dim = min(x.ndim - 1, 1)
    if weight is not None and weight.shape != x.shape[dim:dim + 1]:
        raise ShapeError(f"weight has shape {weight.shape}, but an input of shape {x.shape} needs ({x.shape[dim]},)")
    return dim, None if weight is None else layout.contiguous(weight.array)


def _check_range(t: Array, n: int) -> None:
    """RangeError unless all of `t` are classes from 0 to n − 1."""
    if t.size and t.view(np.uint64).max() >= n:  # where what is negative is large
        raise RangeError(f"Target {t[(t < 0) | (t >= n)][0]} is out of bounds. There are {n} classes")


def _class_loss(op: str, input: Tensor, target: Tensor, weight: Tensor | None, run: Callable) -> tuple:
    """The arguments of `_fused` for scores and classes. `run`, given rows of scores (M, C), int64 classes (M,) and
    weights (C,) or None, returns the losses (M,), a function from their gradients, (M,), or (1,) if all are one, to
    that of the rows, the sum of the losses and that of what each weighs."""
    if not alike(weight, input):
        same_float(op, {"weight": weight}, input=input)
    x, t = input.array, target.array
    dim, w = _class_weight(x, weight)
    if t.shape != (shape := x.shape[:dim] + x.shape[dim + 1:]):
        raise ShapeError(f"target has shape {t.shape}, but an input of shape {x.shape} needs {shape}")
    if t.dtype not in (int64, uint8):
        raise DTypeError(f"target must hold classes as int64, but is {t.dtype}; use .long()")
    scores, back = rows(x, dim)
    loss, gradient, *sums = run(scores, layout.contiguous(t).reshape(-1).astype(int64, copy=False), w)
    return (loss.reshape(shape), lambda g: back(gradient(layout.contiguous(np.asarray(g, x.dtype)).reshape(-1))), None,
            sums)


@_loss
def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
                  label_smoothing: float = 0.0) -> Any:
    """Cross-entropy between the softmax p of logits and classes t: −(1 − ε)·w[t]·log p[t] − ε/C·Σ w·log p.

    `input`: logits, float32 or float64, (N, C), (N, C, d1, ...) or (C,). `target`: classes, int64, (N,), (N, d1, ...)
    or (); or probabilities of the classes, like `input` (the loss is −Σ w·q·log p then, with q = (1 − ε)·target + ε/C).
    `weight`: w of the classes (C,), input's dtype; None: all 1. Positions whose class is `ignore_index` do not count.
    `reduction`: "none"; "sum"; or "mean": Σ loss / Σ w[t], or / the number of positions for probabilities, NaN if that
    is 0. `label_smoothing`: ε, from 0 to 1. ShapeError or DTypeError if arguments do not fit together, IndexError if
    a target is no class.

    >>> F.cross_entropy(fastnn.tensor([[0.0, 0.0], [5.0, 1005.0]]), fastnn.tensor([0, 1]), reduction="none")
    tensor([0.6931, 0.    ])
    """
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"label_smoothing must be from 0 to 1, but {label_smoothing} came")
    if target.shape == input.shape and input.ndim:  # probabilities, which may have gradients
        if ignore_index >= 0:
            raise ArgumentError(f"targets that are probabilities have no ignore_index, but {ignore_index} came")
        x = same_float("cross_entropy", {"weight": weight}, input=input, **{"target of the input's shape": target})
        dim, w = _class_weight(x, weight)
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / max(x.shape[dim], 1)
        losses = log_softmax(input, dim) * target
        return -sum(losses if w is None else losses * Tensor(w.reshape(-1, *(1,) * (x.ndim - dim - 1))), dim)

    def run(x: Array, t: Array, w: Array | None) -> tuple:
        loss, sums, unit = layout.empty(t.shape, x.dtype), layout.empty((2,), float64), layout.empty(x.shape, x.dtype)
        backend.softmax.cross_entropy(x, t, w, label_smoothing, ignore_index, loss, sums, unit, backend.n_threads())

        def gradient(dloss: Array) -> Array:
            dx = layout.empty(unit.shape, unit.dtype)
            backend.softmax.cross_entropy_backward(dloss, unit, dx, backend.n_threads())
            return dx

        return loss, gradient, *sums.tolist()

    return _class_loss("cross_entropy", input, target, weight, run)


@_loss
def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100) -> Any:
    """Negative log-likelihood: −w[t]·x[t] for log-probabilities x, such as `log_softmax` gives.

    Arguments, reductions and errors are those of `cross_entropy` with class targets."""
    def run(x: Array, t: Array, w: Array | None) -> tuple:
        kept = np.flatnonzero(t != ignore_index)
        t = t[kept]
        _check_range(t, x.shape[1])
        loss, weights = np.zeros(len(x), x.dtype), np.full(len(t), -1, x.dtype) if w is None else -w[t]
        loss[kept] = weights * x[kept, t]

        def gradient(dloss: Array) -> Array:
            dx = layout.empty(x.shape, x.dtype)
            dx.fill(0)
            dx[kept, t] = weights * (dloss[kept] if len(dloss) > 1 else dloss)
            return dx

        return loss, gradient, loss.sum(dtype=float64), -weights.sum(dtype=float64)

    return _class_loss("nll_loss", input, target, weight, run)


@_loss
def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0,
                      weight: Tensor | None = None) -> Any:
    """w[t]/C · Σ max(0, margin − x[t] + x[j])ᵖ over the classes j ≠ t: the multiclass support vector machine (CS231n).

    `input`: scores (N, C) or (C,), `target`: classes (N,) or (), int64, `weight`: w (C,); p: 1 or 2. RangeError if a
    target is no class."""
    if p not in (1, 2) or input.ndim > 2:
        raise ArgumentError(f"p must be 1 or 2, input (N, C) or (C,), but p={p!r} and the shape {input.shape} came")

    def run(x: Array, t: Array, w: Array | None) -> tuple:
        _check_range(t, x.shape[1])
        at = np.arange(len(t)), t
        excess = np.maximum(x + (margin - x[at])[:, np.newaxis], 0)
        excess[at] = 0
        scale = (1 if w is None else w[t]) / max(x.shape[1], 1)
        loss = (scale * (excess if p == 1 else excess**2).sum(1, dtype=float64)).astype(x.dtype)

        def gradient(dloss: Array) -> Array:
            dx = (excess > 0).astype(x.dtype) if p == 1 else 2 * excess
            dx *= (dloss * scale)[:, np.newaxis]
            dx[at] = -dx.sum(1, dtype=float64)
            return dx

        return loss, gradient, loss.sum(dtype=float64), len(t)

    return _class_loss("multi_margin_loss", input, target, weight, run)


def _arrays(input: Tensor, target: Tensor) -> tuple[Array, Array]:
    """Both in the dtype of the result and one memory order. ShapeError if their shapes differ."""
    if input.shape != target.shape:
        raise ShapeError(f"target must have the shape {input.shape} of input, but has {target.shape}")
    dtype = result_dtype(input, target)
    x = layout.dense(input.array.astype(dtype, copy=False))
    return x, layout.match(target.array.astype(dtype, copy=False), x)


def _difference(op: str, input: Tensor, target: Tensor) -> Array:
    """x − t, after a UserWarning if the shapes differ, since it is rarely meant."""
    d = (input.detach() - target.detach()).array
    if target.shape != input.shape:
        text = f"{op}: target has shape {target.shape} and input {input.shape}; they are broadcast, rarely as meant"
        warnings.warn(text, stacklevel=1)  # the caller's: compiled functions have no frames
    return d


@_loss
def mse_loss(input: Tensor, target: Tensor) -> Any:
    """(x − t)². Shapes that differ are broadcast with a UserWarning, since it is rarely meant, as in the next three.

    >>> F.mse_loss(fastnn.tensor([1.0, 2.0]), fastnn.tensor([3.0, 2.0]))
    tensor(2.)
    """
    d = _difference("mse_loss", input, target)
    return np.square(d, out=layout.empty_like(d)), lambda g: times(d, 2 * g)


@_loss
def l1_loss(input: Tensor, target: Tensor) -> Any:
    """|x − t|, with slope 0 at 0."""
    d = _difference("l1_loss", input, target)
    return np.abs(d, out=layout.empty_like(d)), lambda g: times(_sign(d), g)


@_loss
def huber_loss(input: Tensor, target: Tensor, *, delta: float = 1.0) -> Any:
    """d²/2 where |d| < δ, else δ·(|d| − δ/2), for d = x − t and δ > 0. Reference: Huber 1964."""
    if not delta > 0:
        raise ArgumentError(f"delta must be positive, but {delta} came")
    return _huber(_difference("huber_loss", input, target), delta, 1)


@_loss
def smooth_l1_loss(input: Tensor, target: Tensor, *, beta: float = 1.0) -> Any:
    """d²/(2β) where |d| < β, else |d| − β/2, for d = x − t and β ≥ 0. Reference: Girshick 2015."""
    if not beta >= 0:
        raise ArgumentError(f"beta must not be negative, but {beta} came")
    d = _difference("smooth_l1_loss", input, target)
    return _huber(d, beta, 1 / beta) if beta else (np.abs(d), lambda g: times(_sign(d), g))


def _huber(d: Array, limit: float, factor: float) -> tuple[Array, Callable]:
    slope = layout.empty_like(d)
    backend.activation.hardtanh(d, (-limit, limit), slope, backend.n_threads())
    y = times(slope, -0.5)
    y += d
    y *= slope
    return y if factor == 1 else times(y, factor), lambda g: times(slope, factor * g)


@_loss
def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None) -> Any:
    """−w·(t·log p + (1 − t)·log(1 − p)) for probabilities p, ArgumentError if they are none; logarithms are at least
    −100, and the denominator p·(1 − p) of the gradient at least 1e-12, as in PyTorch. `weight`: w, broadcasts."""
    if weight is not None:
        return binary_cross_entropy(input, target, reduction="none") * weight
    p, t = _arrays(input, target)
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise ArgumentError("all elements of input should be between 0 and 1")
    y = np.maximum(np.log1p(-p), -100) * (t - 1)
    y -= np.maximum(np.log(p), -100) * t
    return (y, lambda g: times((p - t) / np.maximum((1 - p) * p, 1e-12), g),
            lambda g: times(np.log1p(-p) - np.log(p), g))


@_loss
def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None, *,
                                     pos_weight: Tensor | None = None) -> Any:
    """−w·(v·t·log σ(x) + (1 − t)·log(1 − σ(x))) for logits x; never overflows. `weight`: w, `pos_weight`: v, of
    positive targets; both broadcast."""
    if weight is not None:
        return weight * binary_cross_entropy_with_logits(input, target, reduction="none", pos_weight=pos_weight)
    x, t = _arrays(input, target)
    if pos_weight is not None:
        return (1 - target) * input - ((pos_weight - 1) * target + 1) * logsigmoid(input)
    y = (1 - t) * x
    y -= logsigmoid(Tensor(x)).array
    return y, lambda g: times(sigmoid(Tensor(x)).array - t, g), lambda g: times(x, -g)


@_loss
def soft_margin_loss(input: Tensor, target: Tensor) -> Tensor:
    """log(1 + exp(−t·x)) for t = ±1; never overflows."""
    return -logsigmoid(target * input)


@_loss
def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with logits, averaged over the classes, the last dimension; their `weight` (C,)."""
    return mean(binary_cross_entropy_with_logits(input, target, weight, reduction="none"), -1)


@_loss
def hinge_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0) -> Tensor:
    """max(0, margin − t·x)ᵖ for t = ±1: the binary support vector machine (CS231n)."""
    losses = relu(margin - target * input)
    return losses if p == 1 else losses**p


@_loss
def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0) -> Tensor:
    """max(0, margin − t·(x₁ − x₂)): x₁ should rank above x₂ where t = 1, below where t = −1. All have equal ndim."""
    if not input1.ndim == input2.ndim == target.ndim:
        raise ShapeError(f"equal ndim is needed, but shapes {input1.shape}, {input2.shape} and {target.shape} came")
    return (margin - target * (input1 - input2)).clamp(0)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """‖x₁ − x₂ + eps‖ₚ along the last dimension. The tensors broadcast."""
    return norm(x1 - x2 + eps, p, -1, keepdim)


def _floored(x: Tensor, least: float) -> Tensor:
    """max(x, least), whose gradient passes as if nothing had been done."""
    return record(np.maximum(x.array, x.dtype.type(least)), (x,), lambda grad: (grad,))


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Σ x₁·x₂ / (max(‖x₁‖, eps) · max(‖x₂‖, eps)) along `dim`. The tensors broadcast."""
    product = x1 * x2
    first, second = (_floored(norm(broadcast_to(x.to(product.dtype), product.shape), 2, dim), eps) for x in (x1, x2))
    return sum(product, dim) / (first * second)


@_loss
def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2.0,
                        eps: float = 1e-6, swap: bool = False) -> Tensor:
    """max(0, margin + d(a, p) − d(a, n)) for `pairwise_distance` d; with `swap` the smaller of d(a, n) and d(p, n) in
    the latter's place (Balntas et al. 2016). Shapes (N, D) or (D,)."""
    if not (margin > 0 and anchor.ndim == positive.ndim == negative.ndim):
        raise ArgumentError(f"margin must be positive and ndim equal, but {margin} and shapes {anchor.shape}, "
                            f"{positive.shape} and {negative.shape} came")
    near, far = (pairwise_distance(anchor, x, p, eps) for x in (positive, negative))
    far = minimum(far, pairwise_distance(positive, negative, p, eps)) if swap else far
    return (margin + near - far).clamp(0)


@_loss
def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0) -> Tensor:
    """1 − cos(x₁, x₂) where t = 1, max(0, cos(x₁, x₂) − margin) where t = −1; x (N, D) and t (N,), or (D,) and ()."""
    if target.ndim > 1 or not input1.ndim == input2.ndim == target.ndim + 1:
        raise ShapeError(f"inputs must be (N, D) for a target (N,), or (D,) for (), but {input1.shape}, {input2.shape} "
                         f"and {target.shape} came")
    product, first, second = (sum(a * b, -1) for a, b in ((input1, input2), (input1, input1), (input2, input2)))
    cos = product / ((first + 1e-12) * (second + 1e-12)).sqrt()
    return where(target == 1, 1 - cos, 0.0) + where(target == -1, (cos - margin).clamp(0), 0.0)


@_loss
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0) -> Tensor:
    """x where t = 1, max(0, margin − x) where t = −1, for distances x."""
    return where(target != 1, (margin - input).clamp(0), 0.0) + where(target != -1, input, 0.0)


@_loss
def kl_div(input: Tensor, target: Tensor, *, log_target: bool = False) -> Tensor:
    """t·(log t − x) for log-probabilities x, 0 where t = 0; eᵗ·(t − x) if `log_target`. `reduction` may also be
    "batchmean", the sum over the length of the first dimension: the divergence, averaged over the batch."""
    if log_target:
        return target.exp() * (target - input)
    return target * where(target == 0, 1.0, target).log() - target * input


@_loss
def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False, *,
                     eps: float = 1e-8) -> Tensor:
    """eˣ − t·x for the logarithm x of a Poisson distribution's mean, or x − t·log(x + eps) for the mean x; `full` adds
    Stirling's log t! ≈ t·log t − t + log(2πt)/2 where t > 1."""
    losses = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if not full:
        return losses
    t = where(target > 1, target, 1.0)
    return losses + where(target > 1, t * t.log() - t + 0.5 * (2 * math.pi * t).log(), 0.0)


@_loss
def gaussian_nll_loss(input: Tensor, target: Tensor, var: Tensor | float, full: bool = False,
                      eps: float = 1e-6) -> Tensor:
    """(log v + (x − t)²/v)/2, v = max(var, eps), for the mean x and variance of a normal distribution; `full` adds
    log(2π)/2. `var`: a number, or it broadcasts, where the last dimension may be missing; ArgumentError below 0."""
    v = as_tensor(var, input)
    if (v.array < 0).any():
        raise ArgumentError("var has negative entries")
    if input.ndim and v.shape == input.shape[:-1]:
        v = unsqueeze(v, -1)
    if v.ndim and (v.ndim != input.ndim or any(m not in (1, n) for m, n in zip(v.shape, input.shape, strict=True))):
        raise ShapeError(f"var has shape {v.shape}, which does not fit input of shape {input.shape}")
    v = _floored(v, eps)
    losses = 0.5 * (v.log() + (input - target).square() / v)
    return losses + 0.5 * math.log(2 * math.pi) if full else losses
