"""Dropout of elements and of whole channels.

The mask is drawn by a counter-based generator whose key comes from the seeded stream (`manual_seed`); it depends on the
key and on the position in memory, not on threads or instruction set.

Reference: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: a simple way to prevent neural networks
from overfitting", 2014.
"""
from __future__ import annotations

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ShapeError
from fastnn.functional.activation import float_array
from fastnn.tensor import Tensor, record
from fastnn.tensor import inplace as write_into

Array = np.ndarray

__all__ = ["dropout", "dropout2d"]


def _drop(a: Array, p: float) -> tuple[Array, Array]:
    """`a` with elements dropped, and the mask as bits."""
    y, mask = layout.empty_like(a), np.empty((a.size + 63) // 64, np.uint64)
    backend.dropout.dropout(a, p, backend.next_seed(), mask, y, backend.n_threads())
    return y, mask


def check_probability(op: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: the probability p must be from 0 to 1, but {p} came")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """x / (1 − p) or, with probability p, 0·x, drawn for each element; x itself when not training.

    Args:
        input: float32 or float64, any shape.
        p: the probability of an element to be dropped.
        inplace: write the result into `input`, and return it.

    Raises ValueError unless 0 <= p <= 1.

    >>> import fastnn
    >>> bool((dropout(fastnn.ones(100), p=0.75) == 4).any())
    True
    """
    check_probability("dropout", p)
    a = layout.dense(float_array("dropout", input))
    if not training or p == 0:
        return input
    y, mask = _drop(a, p)

    def dropout(grad: Array) -> tuple[Array]:
        dx = layout.empty_like(y)
        backend.dropout.dropout_backward(layout.match(grad, y), mask, p, dx, backend.n_threads())
        return (dx,)

    out = record(y, (input,), dropout)
    return write_into(input, out) if inplace else out


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Like `dropout`, but drawn for each channel of each image: input (N, C, H, W).

    Raises ShapeError if the input is not 4-D.

    Reference: Tompson, Goroshin, Jain, LeCun, Bregler, "Efficient object localization using convolutional networks",
    2015.

    >>> import fastnn
    >>> dropout2d(fastnn.ones(1, 8, 4, 4)).sum(dim=(2, 3)).unique().tolist()
    [0.0, 32.0]
    """
    check_probability("dropout2d", p)
    a = float_array("dropout2d", input)
    if a.ndim != 4:
        raise ShapeError(f"dropout2d: input must be (N, C, H, W), but has shape {a.shape}")
    if not training or p == 0:
        return input
    factor = _drop(np.ones(a.shape[:2], a.dtype), p)[0][:, :, np.newaxis, np.newaxis]  # (N, C, 1, 1)

    def times(x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.multiply(x, factor, out=layout.empty_like(x))

    def dropout2d(grad: Array) -> tuple[Array]:
        return (times(grad),)

    out = record(times(a), (input,), dropout2d)
    return write_into(input, out) if inplace else out
