"""Dropout of elements and of whole channels (Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks
from overfitting"; Tompson et al. 2015 for channels).

The mask is drawn by a counter-based generator whose key comes from the seeded stream (`manual_seed`); it depends on the
key and on the position in memory, not on threads or instruction set. Inputs are float32 or float64, else DTypeError;
ValueError unless 0 <= p <= 1; `inplace=True` writes into the input and returns it. The input itself comes back
when not training."""
import numpy as np

from fastnn import backend, layout
from fastnn.errors import ShapeError
from fastnn.functional.arguments import same_float
from fastnn.tensor import Array, Tensor, record
from fastnn.tensor import inplace as write_into

__all__ = ["dropout", "dropout2d"]


def check_probability(op: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: the probability p must be from 0 to 1, but {p} came")


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
    check_probability("dropout", p)
    a = same_float("dropout", input=input)
    if not training or p == 0:
        return input
    y, mask = _drop(layout.dense(a), p)

    def dropout(grad: Array) -> tuple[Array]:
        dx = layout.empty_like(y)
        backend.dropout.dropout_backward(layout.match(grad, y), mask, p, dx, backend.n_threads())
        return (dx,)

    out = record(y, (input,), dropout)
    return write_into(input, out) if inplace else out


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Like `dropout`, but drawn for each channel of each image: input (N, C, H, W), else ShapeError."""
    check_probability("dropout2d", p)
    a = same_float("dropout2d", input=input)
    if a.ndim != 4:
        raise ShapeError(f"dropout2d: input must be (N, C, H, W), but has shape {a.shape}")
    if not training or p == 0:
        return input
    factor, a = _drop(np.ones(a.shape[:2], a.dtype), p)[0], layout.dense(a)

    def scaled(a: Array) -> Array:
        y = layout.empty_like(a)
        backend.elementwise.scale_channels(a, factor, y, backend.n_threads())
        return y

    def dropout2d(grad: Array) -> tuple[Array]:
        return (scaled(layout.dense(grad)),)

    out = record(scaled(a), (input,), dropout2d)
    return write_into(input, out) if inplace else out
