"""Batch normalization (Ioffe and Szegedy, 2015; CS231n, lecture 7).

In training the statistics are computed at once. The output is pending: an addition and a ReLU behind join its pass over
memory (`Normalized`), and on the way back ReLU hands over its gradient unmasked (`activation.Masked`). So between two
convolutions there is one pass forward and a pair of passes backward. The graph has the nodes that it would have anyway,
and whoever looks at a tensor or a gradient in between finds the same bits."""
import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.activation import Masked
from fastnn.functional.arguments import check_float
from fastnn.functional.conv import Convolved
from fastnn.tensor import Array, Tensor, changing, exclusive, is_grad_enabled, lasting, pending, recipe_of, record

__all__ = ["batch_norm"]


def _rows(a: Array) -> Array:
    """The channels innermost: (N, C), or channels-last (N, C, H, W); (N, C, L) as (N, C, L, 1)."""
    return layout.contiguous(a) if a.ndim == 2 else layout.channels_last(a if a.ndim == 4 else a[..., None])


def _like(rows: Array, shape: tuple[int, ...]) -> Array:
    """The way back from `_rows` to an array of that shape."""
    return rows if rows.ndim == len(shape) else layout.contiguous(rows[..., 0])


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """y = (x − μ) / √(σ² + eps) · weight + bias, channel by channel.

    In training μ and the biased variance σ² are those of the batch, over all axes but C, and the gradient passes
    through them; the running statistics, if given, become (1 − momentum)·old + momentum·new, with the unbiased
    variance. Otherwise they are μ and σ². An empty batch changes no statistics.
    Shape: input and output (N, C), (N, C, L) or (N, C, H, W); the others (C,), all of one float dtype.
    Raises ShapeError if shapes do not fit or there is one value a channel in training, ArgumentError if statistics are
    missing in evaluation, DTypeError for integers or mixed dtypes.

    >>> batch_norm(fastnn.tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0)
    tensor([[-1.],
            [ 1.]])
    """
    channels = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    check_float("batch_norm", channels, input=input)
    if input.ndim not in (2, 3, 4):
        raise ShapeError(f"batch_norm: input must be (N, C), (N, C, L) or (N, C, H, W), but its shape is {input.shape}")
    C = input.shape[1]
    for name, t in channels.items():
        if t is not None and t.shape != (C,):
            raise ShapeError(f"batch_norm: input of shape {input.shape} has {C} channels, {name} has shape {t.shape}")
    if (running_mean is None) != (running_var is None):
        raise ArgumentError("batch_norm: running_mean and running_var must be given both or neither")
    if running_mean is None and not training:
        raise ArgumentError("batch_norm: running_mean and running_var are needed in evaluation")
    rows = input.numel() // max(C, 1)
    if training and rows == 1:
        raise ShapeError(f"batch_norm: training needs more than one value a channel, but input has shape {input.shape}")
    if not training and not is_grad_enabled() and isinstance(conv := recipe_of(input), Convolved):
        rstd = (1 / np.sqrt(running_var.array.astype(np.float64) + eps)).astype(input.dtype)  # type: ignore[union-attr]
        mean, g, b = (None if t is None else np.array(t.array, input.dtype) for t in (running_mean, weight, bias))
        if (behind := conv.normalized(mean, rstd, g, b)) is not None:
            return pending(behind)
    x, kernels = _rows(input.array), backend.normalization
    w, b = (None if t is None else np.array(t.array, x.dtype) for t in (weight, bias))  # theirs may change
    mean, rstd = np.zeros((2, C), x.dtype)
    learn = training and x.size > 0
    if learn:
        running = [changing(t) for t in (running_mean, running_var) if t is not None]
        if not all(a.flags.writeable for a in running):
            raise ArgumentError("batch_norm: running_mean and running_var must be writeable in training")
        dense = [layout.contiguous(a) for a in running]
        kernels.batch_norm_statistics(x, eps, momentum, mean, rstd, *(dense or (None, None)), backend.n_threads())
        for a, d in zip(running, dense, strict=True):
            if d is not a:
                a[...] = d
    elif running_mean is not None and running_var is not None:
        mean[...], rstd[...] = running_mean.array, 1 / np.sqrt(running_var.array.astype(np.float64) + eps)
    inputs = tuple([t for t in (input, weight, bias) if t is not None])
    needed = [t is not None and t.requires_grad for t in (input, weight, bias)]
    shape = input.shape

    def backward(grad: Array | Tensor) -> tuple[Array | None, ...]:
        recipe, y, g = recipe_of(grad), None, None
        masked = recipe if isinstance(recipe, Masked) else None
        own = masked is not None and exclusive(masked.dy, 0)
        dy = _rows(grad if isinstance(grad, Array) else masked.dy[0] if masked else grad.array)
        if masked and not masked.alone:  # masked in place if nobody else has the gradient
            y, g = _rows(masked.y), dy if own else layout.empty(x.shape, x.dtype, x.ndim == 4)
        dx = layout.empty(x.shape, x.dtype, x.ndim == 4) if needed[0] else None
        dweight, dbias = np.empty((2, C), x.dtype) if learn or any(needed[1:]) else (None, None)
        kernels.batch_norm_backward(dy, x, mean, rstd, w, b, y, bool(masked), learn, dx, dweight, dbias, g,
                                    backend.n_threads())
        if g is not None:  # which is the gradient of the residual, too
            grad.array = _like(g, shape)  # type: ignore[union-attr]
        grads = None if dx is None else _like(dx, shape), dweight, dbias
        return tuple([g if need else None for t, need, g in zip((input, weight, bias), needed, grads, strict=True)
                      if t is not None])

    recipe = Normalized(shape, (input,), x, (mean, rstd, w, b))
    saved = inputs[:1 + (weight is not None)]
    if lasting(input):
        return pending(recipe, inputs, backward, saved)
    return record(recipe.compute(), inputs, backward, saved)


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
