"""Batch normalization (Ioffe and Szegedy, 2015; CS231n, lecture 7)."""
import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.arguments import same_float
from fastnn.tensor import Array, Tensor, record

__all__ = ["batch_norm"]


def _rows(a: Array) -> Array:
    """The channels innermost: (N, C), or channels-last (N, C, H, W); (N, C, L) as (N, C, L, 1)."""
    return layout.contiguous(a) if a.ndim == 2 else layout.channels_last(a if a.ndim == 4 else a[..., None])


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
    same_float("batch_norm", channels, input=input)
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
    x, kernels = _rows(input.array), backend.normalization
    w, b = (None if t is None else layout.contiguous(t.array) for t in (weight, bias))
    mean, rstd, var = np.zeros((3, C), x.dtype)
    y = layout.empty(x.shape, x.dtype, x.ndim == 4)
    learn = training and x.size > 0
    if learn:
        kernels.batch_norm(x, w, b, eps, y, mean, rstd, var, backend.n_threads())
        for running, new in ((running_mean, mean), (running_var, var * (rows / (rows - 1)))):
            if running is not None:
                running.array[...] = (1 - momentum) * running.array + momentum * new
                running._version[0] += 1
    elif running_mean is not None and running_var is not None:
        mean[...], rstd[...] = running_mean.array, 1 / np.sqrt(running_var.array.astype(np.float64) + eps)
    if not learn:
        kernels.batch_norm_eval(x, mean, rstd, w, b, y, backend.n_threads())
    inputs = tuple(t for t in (input, weight, bias) if t is not None)
    needed = [t is not None and t.requires_grad for t in (input, weight, bias)]
    shape = input.shape

    def backward(grad: Array) -> tuple[Array | None, ...]:
        dx = layout.empty(x.shape, x.dtype, x.ndim == 4) if needed[0] else None
        dweight, dbias = np.empty((2, C), x.dtype) if learn or any(needed[1:]) else (None, None)
        kernels.batch_norm_backward(_rows(grad), x, mean, rstd, w, learn, dx, dweight, dbias, backend.n_threads())
        grads = zip((input, weight, bias), needed, (dx, dweight, dbias), strict=True)
        return tuple(g.reshape(t.shape) if need else None for t, need, g in grads if t is not None)  # type: ignore

    out = y if y.ndim == len(shape) else layout.contiguous(y[..., 0])
    return record(out, inputs, backward, saved=inputs[:1 + (weight is not None)])
