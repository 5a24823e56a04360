"""Activations, softmax and its logarithm. Backward passes read the output, which the next layer keeps anyway.

Inputs are float32 or float64 of any shape, else DTypeError; `inplace=True` writes into the input and returns it."""
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.functional.arguments import alike, same_float
from fastnn.functional.pooling import Unpooled
from fastnn.functional.shape import axis_of, install
from fastnn.tensor import Array, Tensor, exclusive, float32, pending, recipe_of, record
from fastnn.tensor import inplace as write_into

__all__ = ["elu", "leaky_relu", "log_softmax", "relu", "sigmoid", "softmax", "tanh"]


def _activation(op: str, x: Tensor, *params: float, inplace: bool = False, read_input: bool = False) -> Tensor:
    """The kernel `op` on x. Its backward kernel reads the output, or with `read_input` the input."""
    if op in ("sigmoid", "tanh") and isinstance(x, Tensor) and x.array.dtype.kind != "f":
        x = x.to(float32)
    if not alike(None, x):
        same_float(op, input=x)
    a = layout.dense(x.array)
    y = layout.empty_like(a)
    getattr(backend.activation, op)(a, *params, y, backend.n_threads())
    read, kernel = a if read_input else y, getattr(backend.activation, f"{op}_backward")

    def backward(grad: Array) -> tuple[Array]:
        dx = layout.empty_like(read)
        kernel(layout.match(grad, read), read, *params, dx, backend.n_threads())
        return (dx,)

    backward.__qualname__ = op
    out = record(y, (x,), backward, (x,) if read_input else (), not read_input)
    return write_into(x, out) if inplace else out


class Masked:
    """The gradient of relu's input as it is pending: dy where the output y > 0, else 0. `alone`: y is that of a batch
    norm and nothing added, so that y > 0 may as well be found from its input."""
    __slots__ = ("alone", "dy", "y")
    sources = ()

    def __init__(self, dy: Array, y: Array, alone: bool) -> None:
        self.dy, self.y, self.alone = [dy], y, alone  # a list, for `exclusive`

    shape = property(lambda self: self.y.shape)
    dtype = property(lambda self: self.y.dtype)

    def compute(self) -> Array:
        own, dy = exclusive(self.dy, 0), layout.match(self.dy[0], self.y)
        dx = dy if own else layout.empty_like(self.y)  # in place if nobody else has the gradient
        backend.activation.relu_backward(dy, self.y, dx, backend.n_threads())
        return dx


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), of integers too; NaN stays NaN. The gradient at 0 is 0.

    >>> relu(fastnn.tensor([-1.0, 0.0, 2.0]))
    tensor([0., 0., 2.])
    """
    if (recipe := recipe_of(input)) is not None:
        y, alone = recipe.compute(relu=True), recipe.residual is None

        def relu(grad: Array | Tensor) -> tuple[Array | Tensor]:
            pooled = recipe_of(grad)
            if isinstance(pooled, Unpooled) and pooled.y is not None:
                return (pooled.compute(relu=True),)
            return (pending(Masked(grad if isinstance(grad, Array) else grad.array, y, alone)),)

        out = record(y, (input,), relu, save_output=True)
        if out._node is not None:
            out._node.takes_pending = True
        return write_into(input, out, fresh=True) if inplace else out
    if isinstance(input, Tensor) and input.array.dtype.kind in "iu":
        out = Tensor(np.maximum(input.array, 0, out=layout.empty_like(input.array)))
        return write_into(input, out) if inplace else out
    return _activation("relu", input, inplace=inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope·x. The gradient at 0 is negative_slope. (Maas, Hannun, Ng 2013.)"""
    # a negative slope turns signs round, so the output does not tell them any more
    return _activation("leaky_relu", input, negative_slope, inplace=inplace, read_input=not negative_slope >= 0)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha·(exp(x) − 1), the gradient at 0 is alpha. (Clevert, Unterthiner, Hochreiter 2016.)

    ValueError if alpha is negative: the output would not tell the signs of the input."""
    if not alpha >= 0:
        raise ValueError(f"elu: alpha must be at least 0, but {alpha} came")
    return _activation("elu", input, alpha, inplace=inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(−x)); integers become float32.

    >>> sigmoid(fastnn.tensor([-1000.0, 0.0, 2.0]))
    tensor([0.    , 0.5   , 0.8808])
    """
    return _activation("sigmoid", input)


def tanh(input: Tensor) -> Tensor:
    """(exp(x) − exp(−x)) / (exp(x) + exp(−x)); integers become float32."""
    return _activation("tanh", input)


def rows(a: Array, dim: int) -> tuple[Array, Callable[[Array], Array]]:
    """`a` as C-contiguous rows along axis `dim`, and the way back from such rows to a's shape (a view).

    Copies only where `dim` is not innermost in memory, as the channels of a channels-last array are."""
    if a.ndim == 2 and dim == 1:
        return layout.contiguous(a), lambda b: b
    moved = np.moveaxis(a, dim, -1) if a.ndim else a.reshape(1)
    flat = layout.contiguous(moved).reshape(math.prod(moved.shape[:-1]), moved.shape[-1])
    shape, scalar = moved.shape, not a.ndim
    return flat, lambda b: b.reshape(()) if scalar else np.moveaxis(b.reshape(shape), -1, dim)


def _along(op: str, x: Tensor, dim: int, dtype: Any) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    a = same_float(op, input=x)
    flat, back = rows(a, axis_of(op, dim, a.ndim))
    y = layout.empty(flat.shape, flat.dtype)
    getattr(backend.softmax, op)(flat, y, backend.n_threads())

    def backward(grad: Array) -> tuple[Array]:
        dx = layout.empty(y.shape, y.dtype)
        getattr(backend.softmax, f"{op}_backward")(rows(grad, dim)[0], y, dx, backend.n_threads())
        return (back(dx),)

    backward.__qualname__ = op
    out = layout.channels_last(back(y)) if layout.is_channels_last(a) else layout.dense(back(y))
    return record(out, (x,), backward, (), True)


def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """exp(x) / Σ exp(x) along `dim`, x converted to `dtype` first; never overflows. IndexError if there is no `dim`.

    >>> softmax(fastnn.tensor([[1.0, 1.0], [0.0, 1000.0]]), dim=1)
    tensor([[0.5, 0.5],
            [0. , 1. ]])
    """
    return _along("softmax", input, dim, dtype)


def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """x − log Σ exp(x), the sum along `dim`: the logarithm of softmax, exact where that is 0 or 1.

    >>> log_softmax(fastnn.tensor([0.0, 1000.0]), dim=0)
    tensor([-1000.,     0.])
    """
    return _along("log_softmax", input, dim, dtype)


install(relu=relu, sigmoid=sigmoid, tanh=tanh, softmax=softmax, log_softmax=log_softmax)
