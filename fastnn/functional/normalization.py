"""Batch normalization (Ioffe and Szegedy, 2015; CS231n, lecture 7) and its kin: layer norm (Ba et al., 2016), RMS norm
(Zhang and Sennrich, 2019), group norm (Wu and He, 2018), instance norm (Ulyanov et al., 2016).

In training batch norm computes its statistics at once. Its output is pending: an addition and a ReLU behind join its
pass over memory (`Normalized`), and on the way back ReLU hands over its gradient unmasked (`activation.Masked`). So
between two convolutions there is one pass forward and a pair of passes backward. The graph has the nodes that it would
have anyway, and whoever looks at a tensor or a gradient in between finds the same bits."""
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.activation import Masked
from fastnn.functional.arguments import alike, check_float
from fastnn.functional.conv import Convolved
from fastnn.functional.elementwise import clamp, div, mul, pow, square
from fastnn.functional.reduction import norm
from fastnn.functional.shape import cat, permute
from fastnn.tensor import Array, Tensor, changing, exclusive, ints, is_grad_enabled, lasting, pending, recipe_of, record

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm"]


def _rows(a: Array) -> Array:
    """(N, C, ...) as channels-last (N, C, H, W), so that memory is rows of channels."""
    return layout.channels_last(a if a.ndim == 4 else a.reshape(*a.shape[:2], math.prod(a.shape[2:]), 1))


def _like(rows: Array, shape: tuple[int, ...]) -> Array:
    """The way back from `_rows` to an array of that shape."""
    return rows if len(shape) == 4 else layout.contiguous(rows).reshape(shape)


def _given(values: Iterable[Any], tensors: Iterable[Tensor | None]) -> tuple:
    """Those of the values whose tensor is not None."""
    return tuple([value for value, t in zip(values, tensors, strict=True) if t is not None])


def _copies(dtype: np.dtype, *tensors: Tensor | None) -> list[Array | None]:
    """Arrays in one row, as the tensors may change."""
    return [None if t is None else np.array(t.array, dtype).reshape(-1) for t in tensors]


def _check_fit(op: str, input: Tensor, shape: tuple[int, ...], tensors: dict[str, Tensor | None]) -> None:
    for name, t in tensors.items():
        if t is not None and t.shape != shape:
            raise ShapeError(f"{op}: input of shape {input.shape} needs {name} of shape {shape}, not {t.shape}")


def _check_channels(op: str, input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                    **channels: Tensor | None) -> int:
    """The number of channels, after a check that the others have as many."""
    channels |= {"running_mean": running_mean, "running_var": running_var}
    check_float(op, channels, input=input)
    if input.ndim < 2:
        raise ShapeError(f"{op}: input must be (N, C) or (N, C, ...), but its shape is {input.shape}")
    _check_fit(op, input, input.shape[1:2], channels)
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(f"{op}: running_mean and running_var must be given both or neither")
    return input.shape[1]


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """y = (x − μ) / √(σ² + eps) · weight + bias, channel by channel.

    In training μ and the biased variance σ² are those of the batch, over all axes but C, and the gradient passes
    through them; the running statistics, if given, become (1 − momentum)·old + momentum·new, with the unbiased
    variance. Otherwise they are μ and σ². An empty batch changes no statistics.
    Shape: input and output (N, C) or (N, C, ...); the others (C,), all of one float dtype.
    Raises ShapeError if shapes do not fit or there is one value a channel in training, ArgumentError if statistics are
    missing in evaluation, DTypeError for integers or mixed dtypes.

    >>> F.batch_norm(fastnn.tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0)
    tensor([[-1.],
            [ 1.]])
    """
    C = _check_channels("batch_norm", input, running_mean, running_var, weight=weight, bias=bias)
    if running_mean is None and not training:
        raise ArgumentError("batch_norm: running_mean and running_var are needed in evaluation")
    if training and input.numel() == C > 0:
        raise ShapeError(f"batch_norm: training needs more than one value a channel, but input has shape "
                         f"{input.shape}; take a larger batch, or eval()")
    dtype, kernels, three = np.dtype(input.dtype.char), backend.normalization, (input, weight, bias)
    (w, b), learn, (mean, rstd) = _copies(dtype, weight, bias), training and input.numel() > 0, np.zeros((2, C), dtype)
    if running_mean is not None and running_var is not None and not learn:
        mean[...], rstd[...] = running_mean.array, 1 / np.sqrt(running_var.array.astype(np.float64) + eps)
    if (not training and not is_grad_enabled() and isinstance(conv := recipe_of(input), Convolved)
            and (behind := conv.normalized(mean, rstd, w, b)) is not None):
        return pending(behind)
    x = _rows(input.array)
    if learn:
        running = [changing(t) for t in (running_mean, running_var) if t is not None]
        if not all(a.flags.writeable for a in running):
            raise ArgumentError("batch_norm: running_mean and running_var must be writeable in training")
        dense = [layout.contiguous(a) for a in running]
        kernels.batch_norm_statistics(x, eps, momentum, mean, rstd, *(dense or (None, None)), backend.n_threads())
        for a, d in zip(running, dense, strict=True):
            np.copyto(a, d)
    inputs, needed = _given(three, three), [t is not None and t.requires_grad for t in three]
    shape = input.shape

    def backward(grad: Array | Tensor) -> tuple[Array | None, ...]:
        recipe, y, g = recipe_of(grad), None, None
        masked = recipe if isinstance(recipe, Masked) else None
        own = masked is not None and exclusive(masked.dy, 0)
        dy = _rows(grad if isinstance(grad, Array) else masked.dy[0] if masked else grad.array)
        if masked and not masked.alone:  # masked in place if nobody else has the gradient
            y, g = _rows(masked.y), dy if own else layout.empty_like(x)
        dx = layout.empty_like(x) if needed[0] else None
        dweight, dbias = np.empty((2, C), x.dtype) if learn or any(needed[1:]) else (None, None)
        kernels.batch_norm_backward(dy, x, mean, rstd, w, b, y, bool(masked), learn, dx, dweight, dbias, g,
                                    backend.n_threads())
        if g is not None:  # which is the gradient of the residual, too
            grad.array = _like(g, shape)  # type: ignore[union-attr]
        return _given((None if dx is None else _like(dx, shape), dweight, dbias), three)

    recipe, saved = Normalized(shape, (input,), x, (mean, rstd, w, b)), inputs[:1 + (weight is not None)]
    if lasting(input):
        return pending(recipe, inputs, backward, saved)
    return record(recipe.compute(), inputs, backward, saved)


def _normalized(op: str, input: Tensor, weight: Tensor | None, bias: Tensor | None, enter: Callable[[Array], Array],
                leave: Callable[[Array], Array], size: Sequence[int], kernel: str, eps: float,
                centred: bool = True) -> tuple[Tensor, Array]:
    """The operation of a kernel whose mean and rstd have the shape `size`, and these two; `enter` brings arrays into
    the order that it takes, `leave` brings them back."""
    x, three = enter(input.array), (input, weight, bias)
    w, b = _copies(x.dtype, weight, bias)
    needed, inputs = [t is not None and t.requires_grad for t in three], _given(three, three)
    y, statistics = layout.empty_like(x), np.zeros((2, *size), x.dtype)
    given, rstd = statistics[0] if centred else None, statistics[1]
    if x.size:
        getattr(backend.normalization, kernel)(x, w, b, eps, y, given, rstd, backend.n_threads())

    def backward(grad: Array) -> tuple[Array | None, ...]:
        dx = layout.empty_like(x) if needed[0] else None
        sums = np.zeros((2, x.shape[1]), x.dtype) if any(needed[1:]) else (None, None)
        if x.size:
            run = getattr(backend.normalization, f"{kernel}_backward")
            run(enter(grad), x, given, rstd, w, dx, *sums, backend.n_threads())
        dw, db = (None if t is None or g is None else g.reshape(t.shape) for t, g in zip(three[1:], sums, strict=True))
        return _given((None if dx is None else leave(dx), dw, db), three)

    backward.__qualname__ = op
    return record(leave(y), inputs, backward, inputs[:1 + (weight is not None)]), statistics


def _over_last(op: str, input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None,
               eps: float | None, centred: bool) -> Tensor:
    """Layer norm or, if not `centred`, RMS norm."""
    if weight is None or not alike(bias, input, weight):
        check_float(op, {"weight": weight, "bias": bias}, input=input)
    over, shape = ints(op, normalized_shape), input.shape
    if not over or shape[max(len(shape) - len(over), 0):] != over:
        raise ShapeError(f"{op}: normalized_shape must be the last sizes of input's shape {shape}, but {over} came")
    _check_fit(op, input, over, {"weight": weight, "bias": bias})
    D, eps = math.prod(over), float(np.finfo(input.dtype).eps) if eps is None else eps
    M, plain = input.numel() // max(D, 1), input.array.flags.c_contiguous or not layout.is_channels_last(input.array)
    if not plain and len(over) == 3:  # rows of whole images, in the order of their memory
        w, b = (None if t is None else permute(t, 1, 2, 0) for t in (weight, bias))
        y = _over_last(op, permute(input, 0, 2, 3, 1), (*over[1:], over[0]), w, b, eps, centred)
        return permute(y, 0, 3, 1, 2)
    order = layout.contiguous if plain else layout.channels_last
    return _normalized(op, input, weight, bias, lambda a: layout.contiguous(a).reshape(M, D),
                       lambda rows: order(rows.reshape(shape)), (M,), "layer_norm", eps, centred)[0]


def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """y = (x − μ) / √(σ² + eps) · weight + bias, with mean and biased variance over the last axes, of the sizes
    `normalized_shape`, which is also the shape of weight and bias. ShapeError if these do not fit.

    >>> F.layer_norm(fastnn.tensor([[1.0, 3.0], [0.0, 8.0]]), (2,), eps=0.0)
    tensor([[-1.,  1.],
            [-1.,  1.]])
    """
    return _over_last("layer_norm", input, normalized_shape, weight, bias, eps, True)


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    """y = x / √(mean of x² + eps) · weight, the mean over the last axes, as in `layer_norm`; eps None: the dtype's."""
    return _over_last("rms_norm", input, normalized_shape, weight, None, eps, False)


def _by_groups(op: str, input: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None,
               eps: float) -> tuple[Tensor, Array]:
    """Group norm, and its mean and rstd, (2, N, groups)."""
    shape = input.shape
    return _normalized(op, input, weight, bias, _rows, lambda y: _like(y, shape), (shape[0], groups), "group_norm", eps)


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """y = (x − μ) / √(σ² + eps) · weight + bias, μ and σ² over each image's groups of C / num_groups channels.

    Shape: input and output (N, C, ...), weight and bias (C,). ShapeError if these do not fit or there is one image of
    one value a group, ArgumentError unless num_groups divides C."""
    C = _check_channels("group_norm", input, weight=weight, bias=bias)
    if num_groups < 1 or C % num_groups:
        raise ArgumentError(f"group_norm: num_groups must divide the {C} channels, but {num_groups} came")
    if input.numel() == num_groups:
        raise ShapeError(f"group_norm: more than one value a group is needed, but input has shape {input.shape}")
    return _by_groups("group_norm", input, num_groups, weight, bias, eps)[0]


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """`group_norm` with each channel a group. The running statistics, if given, become (1 − momentum)·old +
    momentum·new, with the mean over the batch of means and unbiased variances; without `use_input_stats` they are used,
    as in `batch_norm`.

    Shape: input and output (N, C, L) or (N, C, H, W), the others (C,). ShapeError if these do not fit or a channel has
    one value, ArgumentError if running statistics are needed."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    C = _check_channels("instance_norm", input, running_mean, running_var, weight=weight, bias=bias)
    n = math.prod(input.shape[2:])
    if n == 1:
        raise ShapeError(f"instance_norm: more than one value a channel is needed, but input has shape {input.shape}")
    y, (mean, rstd) = _by_groups("instance_norm", input, C, weight, bias, eps)
    var = (1 / np.square(rstd, dtype=np.float64) - eps) * (n / (n - 1)) if input.numel() else rstd
    for t, new in (running_mean, mean), (running_var, var):
        if t is not None and input.numel():
            old = changing(t)
            old[...] = (1 - momentum) * old + momentum * new.mean(0, np.float64)
    return y


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """y = x / (k + alpha·mean of x²)^beta, the mean over the `size` channels around each, those beyond the ends being 0
    (Krizhevsky et al. 2012). Shape: (N, C, ...), at least 3-D, else ShapeError."""
    check_float("local_response_norm", input=input)
    if input.ndim < 3 or size < 1:
        raise ShapeError(f"local_response_norm: input must be at least 3-D, size at least 1, not {input.shape}, {size}")
    N, C, *rest = input.shape
    edges = [Tensor(np.zeros((N, n, *rest), input.dtype)) for n in (size // 2, (size - 1) // 2)]
    padded = cat([edges[0], square(input), edges[1]], 1)
    total = sum([padded[:, i:i + C] for i in range(1, size)], padded[:, :C])  # type: ignore[index]
    return mul(input, pow(mul(total, alpha / size) + k, -beta))  # which, unlike a quotient, may be changed in place


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps), the norm along `dim`."""
    return div(input, clamp(norm(input, p, dim, True), eps))


class Normalized:
    """Batch norm's output as it is pending, maybe with another tensor added to it: all that one pass needs."""
    __slots__ = ("channels", "dtype", "residual", "shape", "sources", "x")

    def __init__(self, shape: tuple[int, ...], sources: tuple[Tensor, ...], x: Array,
                 channels: tuple[Array | None, ...], residual: Array | None = None) -> None:
        self.shape, self.dtype, self.sources, self.x = shape, x.dtype, sources, x
        self.channels, self.residual = channels, residual  # mean, rstd, weight and bias, which nobody else can change

    def compute(self, relu: bool = False) -> Array:
        y = layout.empty(self.x.shape, self.dtype, self.x.ndim == 4)
        residual = None if self.residual is None else _rows(self.residual)
        backend.normalization.batch_norm(self.x, *self.channels, residual, relu, y, backend.n_threads())
        return _like(y, self.shape)

    def plus(self, other: Tensor) -> "Normalized | None":
        """The recipe of the sum, None if it has none."""
        if self.residual is not None or other.shape != self.shape or other.dtype != self.dtype or not lasting(other):
            return None
        return Normalized(self.shape, (*self.sources, other), self.x, self.channels, other.array)
