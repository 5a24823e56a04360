"""Activations, softmax and its logarithm. Most backward passes read the output, which the next layer keeps anyway.

Inputs are float32 or float64 of any shape, else DTypeError; `inplace=True` writes into the input and returns it."""
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.arguments import alike, same_float
from fastnn.functional.elementwise import Op, gt, mul, named, neg, where
from fastnn.functional.pooling import Unpooled
from fastnn.functional.shape import axis_of, install
from fastnn.tensor import Array, Tensor, exclusive, float32, pending, recipe_of, record, shadow
from fastnn.tensor import inplace as write_into

__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hardtanh_",
    "leaky_relu", "leaky_relu_", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "relu_", "rrelu",
    "rrelu_", "selu", "selu_", "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh",
    "tanhshrink", "threshold", "threshold_"]  # fmt: skip


def _activation(op: str, x: Tensor, *abc: float, inplace: bool = False, read_x: bool = False, name: str = "") -> Tensor:
    """The kernel `op` on x. Its backward kernel reads the output, or with `read_x` the input. `name`: if not op."""
    if op in ("sigmoid", "tanh") and isinstance(x, Tensor) and x.array.dtype.kind != "f":
        x = x.to(float32)
    if not alike(None, x):
        same_float(name or op, input=x)
    target, x = x, shadow(x) if inplace and read_x else x
    a = layout.dense(x.array)
    y = layout.empty_like(a)
    getattr(backend.activation, op)(a, abc, y, backend.n_threads())
    read, kernel = a if read_x else y, getattr(backend.activation, f"{op}_backward")

    def backward(grad: Array) -> tuple[Array]:
        dx = layout.empty_like(read)
        kernel(layout.match(grad, read), read, abc, dx, backend.n_threads())
        return (dx,)

    backward.__qualname__ = name or op
    out = record(y, (x,), backward, (x,) if read_x else (), not read_x)
    return write_into(target, out) if inplace else out


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
        backend.activation.relu_backward(dy, self.y, (), dx, backend.n_threads())
        return dx


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), of integers too; NaN stays NaN. The gradient at 0 is 0.

    >>> F.relu(fastnn.tensor([-1.0, 0.0, 2.0]))
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
    return _activation("leaky_relu", input, negative_slope, inplace=inplace, read_x=not negative_slope >= 0)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight·x, weight being one for all or one for each channel, dimension 1; weight·dy at 0.

    ShapeError unless weight is 0-d, (1,) or (C,); DTypeError unless both are of one float dtype. (He et al. 2015.)"""
    if not alike(None, input, weight):
        same_float("prelu", input=input, weight=weight)
    a, w = input.array, layout.contiguous(weight.array).reshape(-1)
    C = a.shape[1] if a.ndim > 1 else 1
    if weight.ndim > 1 or w.size not in (1, C) or not w.size:
        raise ShapeError(f"prelu: weight must have 1 or {C} numbers for input {a.shape}, but has shape {weight.shape}")
    x = layout.dense(a)
    inner = w.size == 1 or not x.flags.c_contiguous
    n = 1 if inner else max(1, math.prod(a.shape[2:]))  # numbers of a channel side by side
    if n > 1 and w.size * n > 65536:  # more slopes than a cache would keep
        x, n = layout.channels_last(a.reshape(*a.shape[:3], math.prod(a.shape[3:]))), 1
    wide = w if n == 1 else w.repeat(n)
    y, wide = layout.empty_like(x), wide[None].repeat(max(1, 256 // wide.size), 0).reshape(-1)  # for vectors
    backend.activation.prelu(x, wide, y, backend.n_threads())

    units = min(64, 1 + a.size // max(16384, 8 * wide.size))

    def prelu(grad: Array) -> tuple[Array, Array]:
        dx, sums = layout.empty_like(x), layout.empty((wide.size * units,), w.dtype)
        dy = layout.match(grad.reshape(x.shape), x)
        backend.activation.prelu_backward(dy, x, wide, dx, sums, backend.n_threads())
        dw = sums.reshape(-1, w.size, n).sum(axis=(0, 2), dtype=np.float64).astype(w.dtype)
        return layout.dense(dx.reshape(a.shape)), dw.reshape(weight.shape)

    return record(layout.dense(y.reshape(a.shape)), (input, weight), prelu, (input, weight))


def rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:
    """x where x > 0, else s·x, s drawn for each x from `lower` to `upper` in training, else their mean. (Xu 2015.)"""
    if not lower <= upper:
        raise ArgumentError(f"rrelu: lower must be at most upper, but {lower} and {upper} came")
    a = same_float("rrelu", input=input)
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    slope = layout.empty(a.shape, a.dtype.newbyteorder("="))
    backend.generator.random(dtype=slope.dtype, out=slope)
    slope *= upper - lower
    slope += lower
    np.copyto(slope, 1, where=~(a <= 0))  # of NaN, too, as in PyTorch
    out = mul(input, Tensor(slope))
    return write_into(input, out) if inplace else out


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha·(exp(x) − 1), the gradient at 0 is alpha. (Clevert, Unterthiner, Hochreiter 2016.)"""
    if alpha < 0:  # the output would not tell the sign of the input
        low = neg(elu(input, -alpha))
        out = where(gt(input, 0), input, low)
        return write_into(input, out) if inplace else out
    return _activation("elu", input, alpha, 1.0, 1.0, inplace=inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha·(exp(x / alpha) − 1). ArgumentError unless alpha > 0. (Barron 2017.)"""
    if not alpha > 0:
        raise ArgumentError(f"celu: alpha must be above 0, but {alpha} came")
    return _activation("elu", input, alpha, 1 / alpha, 1.0, inplace=inplace, name="celu")


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x·Φ(x), Φ being the normal distribution, (1 + erf(x / √2)) / 2, or with `approximate` = "tanh"
    x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2. ArgumentError for other names. (Hendrycks and Gimpel 2016.)"""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', but {approximate!r} came")
    if approximate == "none":
        return _activation("gelu", input, read_x=True)
    twice = math.sqrt(8 / math.pi)  # (1 + tanh u) / 2 is the logistic function of 2u
    return _activation("gelu_tanh", input, twice, 0.044715 * twice, read_x=True, name="gelu")


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta·x)) / beta, and x where beta·x > threshold."""
    return _activation("softplus", input, beta, threshold, read_x=True)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """min(max(x, min_val), max_val); the gradient on these bounds is 0. ArgumentError if min_val > max_val."""
    if min_val > max_val:
        raise ArgumentError(f"hardtanh: min_val must be at most max_val, but {min_val} and {max_val} came")
    return _activation("hardtanh", input, min_val, max_val, inplace=inplace)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    return _activation("hardshrink", input, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x − lambd where x > lambd, x + lambd where x < −lambd, else 0. ArgumentError if lambd is negative."""
    if not lambd >= 0:
        raise ArgumentError(f"softshrink: lambd must be at least 0, but {lambd} came")
    return _activation("softshrink", input, lambd)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value, which the output may not tell from x if it is above the threshold."""
    return _activation("threshold", input, threshold, value, inplace=inplace, read_x=not value <= threshold)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a·sigmoid(b), a and b being the halves of x along `dim`; ShapeError if its size is odd. (Dauphin et al. 2017.)"""
    x = same_float("glu", input=input)
    axis = axis_of("glu", dim, x.ndim)
    if not x.ndim or x.shape[axis] % 2:
        raise ShapeError(f"glu: dim {dim} of the input must have an even size, but the shape is {x.shape}")
    x = layout.dense(x)
    shape = tuple(n // 2 if i == axis else n for i, n in enumerate(x.shape))
    order = tuple(range(x.ndim)) if x.flags.c_contiguous else (0, 2, 3, 1)
    outer = math.prod(x.shape[i] for i in order[:order.index(axis)])
    y = layout.empty(shape, x.dtype, not x.flags.c_contiguous)
    backend.activation.glu(_in_rows(x, order, outer), _in_rows(y, order, outer), backend.n_threads())

    def glu(grad: Array) -> tuple[Array]:
        arrays = layout.match(grad, y), x, layout.empty_like(x)
        backend.activation.glu_backward(*(_in_rows(a, order, outer) for a in arrays), backend.n_threads())
        return (arrays[2],)

    return record(y, (input,), glu, (input,))


def _in_rows(a: Array, order: tuple[int, ...], n: int) -> Array:
    """`a`, whose axes lie in memory in this order, as n rows."""
    return a.transpose(order).reshape(n, a.size // max(n, 1))


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(−x)); integers become float32.

    >>> F.sigmoid(fastnn.tensor([-1000.0, 0.0, 2.0]))
    tensor([0.    , 0.5   , 0.8808])
    """
    return _activation("sigmoid", input)


def _plain(name: str, doc: str, *params: float, op: str = "", reads: str = "y", inplace: bool = False) -> Any:
    """An activation without settings but, if so, inplace; by the kernel `op` or `name`; its gradient reads x or y."""
    def plain(input: Tensor) -> Tensor:
        return _activation(op or name, input, *params, read_x=reads == "x", name=name)

    def changing(input: Tensor, inplace: bool = False) -> Tensor:
        return _activation(op or name, input, *params, inplace=inplace, read_x=reads == "x", name=name)

    return named(changing if inplace else plain, name, doc)


selu: Op = _plain("selu", "1.0507·elu(x, alpha=1.6733), to keep mean 0 and variance 1. (Klambauer et al. 2017.)",
              1.7580993408473768599, 1.0, 1.0507009873554804934, op="elu", inplace=True)
silu: Op = _plain("silu", "x·sigmoid(x), or swish. (Elfwing, Uchibe, Doya 2017.)", reads="x", inplace=True)
mish: Op = _plain("mish", "x·tanh(softplus(x)). (Misra 2019.)", reads="x", inplace=True)
tanh: Op = _plain("tanh", "(exp(x) − exp(−x)) / (exp(x) + exp(−x)); integers become float32.")
tanhshrink: Op = _plain("tanhshrink", "x − tanh(x).", reads="x")
softsign: Op = _plain("softsign", "x / (1 + |x|).")
logsigmoid: Op = _plain("logsigmoid", "log(sigmoid(x)), never overflowing.", -1.0, math.inf, op="softplus", reads="x")
relu6: Op = _plain("relu6", "min(max(x, 0), 6); the gradient at 0 and 6 is 0.", 0.0, 6.0, op="hardtanh", inplace=True)
hardsigmoid: Op = _plain("hardsigmoid", "min(max(x + 3, 0), 6) / 6; the gradient at -3 and 3 is 0.", inplace=True)
hardswish: Op = _plain("hardswish", "x·hardsigmoid(x), slope 0 at -3, 1 at 3. (Howard 2019.)", reads="x", inplace=True)


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

    >>> F.softmax(fastnn.tensor([[1.0, 1.0], [0.0, 1000.0]]), dim=1)
    tensor([[0.5, 0.5],
            [0. , 1. ]])
    """
    return _along("softmax", input, dim, dtype)


def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """x − log Σ exp(x), the sum along `dim`: the logarithm of softmax, exact where that is 0 or 1.

    >>> F.log_softmax(fastnn.tensor([0.0, 1000.0]), dim=0)
    tensor([-1000.,     0.])
    """
    return _along("log_softmax", input, dim, dtype)


def softmin(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """softmax(−x)."""
    return softmax(neg(input), dim, dtype)


celu_, elu_, hardtanh_, leaky_relu_, relu_, rrelu_, selu_, threshold_ = (
    named(functools.partial(function, inplace=True), f"{function.__name__}_", f"`{function.__name__}`, in place.")
    for function in (celu, elu, hardtanh, leaky_relu, relu, rrelu, selu, threshold))
install(relu=relu, sigmoid=sigmoid, tanh=tanh, softmax=softmax, log_softmax=log_softmax)
