"""Dropout of elements and of whole channels (Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks
from overfitting"; Tompson et al. 2015 for channels), its form for SELU (Klambauer et al. 2017), stochastic depth (Huang
et al. 2016) and noise.

The mask is drawn by a counter-based generator whose key comes from the seeded stream (`manual_seed`); it depends on the
key and on the position in memory, not on threads or instruction set. Inputs are float32 or float64, else DTypeError;
ValueError unless 0 <= p <= 1; `inplace=True` writes into the input and returns it. The input itself comes back
when not training."""
from collections.abc import Callable

import numpy as np

from fastnn import backend, layout, tensor
from fastnn.errors import ShapeError
from fastnn.functional.arguments import same_float
from fastnn.functional.elementwise import add, mul, sub
from fastnn.tensor import Array, Tensor, record

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "feature_alpha_dropout", "gaussian_noise",
           "stochastic_depth"]  # fmt: skip
SATURATION = -1.7580993408473766  # of SELU far below 0: −λ·α


def check_probability(op: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: the probability p must be from 0 to 1, but {p} came")


def _active(op: str, input: Tensor, p: float, training: bool) -> bool:
    """Whether there is anything to drop, after checks."""
    check_probability(op, p)
    same_float(op, input=input)
    return training and p > 0


def _drop(a: Array, p: float) -> tuple[Array, Array]:
    """`a` with elements dropped, and the mask as bits."""
    y, mask = layout.empty_like(a), layout.empty(((a.size + 63) // 64,), np.uint64)
    backend.dropout.dropout(a, p, backend.next_seed(), mask, y, backend.n_threads())
    return y, mask


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """x / (1 − p) or, with probability p, 0·x, drawn for each element.

    >>> sorted(set(dropout(fastnn.ones(100), p=0.75).tolist()))
    [0.0, 4.0]
    """
    if not _active("dropout", input, p, training):
        return input
    y, mask = _drop(layout.dense(input.array), p)

    def dropout(grad: Array) -> tuple[Array]:
        dx = layout.empty_like(y)
        backend.dropout.dropout_backward(layout.match(grad, y), mask, p, dx, backend.n_threads())
        return (dx,)

    out = record(y, (input,), dropout)
    return tensor.inplace(input, out) if inplace else out


def _drop_units(op: str, input: Tensor, p: float, training: bool, inplace: bool, axes: int, sizes: range,
                shapes: str) -> Tensor:
    """`dropout` of whole units: all in one, images or channels of each, for 0, 1 or 2 `axes`; −1: all but the last. The
    number of dimensions must be one of `sizes`."""
    active = _active(op, input, p, training)
    if input.ndim not in sizes:
        raise ShapeError(f"{op}: input must be {shapes}, but has shape {input.shape}")
    if not active:
        return input
    a = layout.dense(input.array)
    factor = _drop(np.ones(a.shape[:axes], a.dtype), p)[0]
    shape: tuple[int, ...] | None = (1, factor.size, a.size // max(factor.size, 1), 1)
    if not a.flags.c_contiguous:
        factor, shape = np.broadcast_to(factor.reshape(*factor.shape, *(1,) * (2 - axes)), a.shape[:2]), None
    y = _scaled(a, factor, shape)

    def backward(grad: Array) -> tuple[Array]:
        return (_scaled(layout.match(grad, y), factor, shape),)

    backward.__qualname__ = op
    out = record(y, (input,), backward)
    return tensor.inplace(input, out) if inplace else out


def _scaled(a: Array, factor: Array, shape: tuple[int, ...] | None) -> Array:
    """`a`, in C order and seen in this shape or, without one, channels-last, times one factor a channel."""
    y = layout.empty_like(a)
    x, out = (a, y) if shape is None else (a.reshape(shape), y.reshape(shape))
    backend.elementwise.scale_channels(x, layout.contiguous(factor).reshape(x.shape[:2]), out, backend.n_threads())
    return y


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Like `dropout`, but drawn for each channel: input (N, C, L) or (C, L), else ShapeError."""
    return _drop_units("dropout1d", input, p, training, inplace, -1, range(2, 4), "(N, C, L) or (C, L)")


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Like `dropout`, but drawn for each channel of each image: input (N, C, H, W), else ShapeError."""
    return _drop_units("dropout2d", input, p, training, inplace, 2, range(4, 5), "(N, C, H, W)")


def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """Like `dropout`, but drawn for the input as a whole (mode "batch") or for each of its rows (mode "row"): it leaves
    out the branch of a residual block. ValueError for another mode."""
    if mode not in ("batch", "row"):
        raise ValueError(f"stochastic_depth: mode must be 'batch' or 'row', but {mode!r} came")
    axes = int(mode == "row")
    return _drop_units("stochastic_depth", input, p, training, False, axes, range(axes, 65), "(N, ...)")


def _alpha(op: str, input: Tensor, p: float, training: bool, inplace: bool, drop: Callable) -> Tensor:
    """With the mask m and α' the saturation, a·(x·m + α'·(1 − m)) + b, written as a dropout between two affine maps."""
    if not _active(op, input, p, training):
        return input
    scale = ((1 - p) / (1 + p * SATURATION**2)) ** 0.5
    out = mul(add(drop(sub(input, SATURATION)), SATURATION), scale) if p < 1 else mul(input, 0.0)
    return tensor.inplace(input, out) if inplace else out


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Elements become SELU's value at −∞ with probability p, then all are scaled and shifted: if mean and variance were
    0 and 1, they remain so."""
    return _alpha("alpha_dropout", input, p, training, inplace, lambda x: dropout(x, p))


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Like `alpha_dropout`, but drawn for each channel of each image: input (N, C, ...), else ShapeError."""
    op = "feature_alpha_dropout"
    drop = lambda x: _drop_units(op, x, p, True, False, 2, range(2, 65), "(N, C, ...)")  # noqa: E731
    return _alpha(op, input, p, training, inplace, drop)


def gaussian_noise(input: Tensor, std: float = 0.1, relative: bool = False, training: bool = True) -> Tensor:
    """x + std·z or, if `relative`, x + std·|x|·z, with z from N(0, 1) for each element. ValueError if std < 0."""
    if not std >= 0:
        raise ValueError(f"gaussian_noise: std must not be negative, but {std} came")
    same_float("gaussian_noise", input=input)
    if not training or std == 0:
        return input
    noise = mul(Tensor(np.asarray(backend.generator.standard_normal(input.shape, input.dtype))), std)
    return mul(input, add(noise, 1.0)) if relative else add(input, noise)
