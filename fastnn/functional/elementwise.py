"""Element-wise arithmetic with broadcasting, comparison and logic, and their operators on Tensor.

Two mechanisms, `_unary` and `_binary`, and tables of NumPy's ufuncs with their derivatives. Operands are promoted as in
PyTorch: tensors with dimensions decide, 0-d tensors and Python numbers count by kind only; functions of real numbers
turn integers into float32. At kinks the gradients are PyTorch's: abs 0 at 0, maximum and minimum half and half at a
tie, clamp 1 on its bounds. inf and NaN come silently, as IEEE 754 has them; integers divided by 0 are an ArgumentError.
Other errors: ShapeError for shapes that do not broadcast, DTypeError for a dtype not taken.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.functional.shape import expand, install
from fastnn.tensor import Tensor, as_tensor, bool_, float32, inplace, record, result_dtype, shadow, unbroadcast

Array = np.ndarray
Number = bool | int | float
Operand = Tensor | Number | Array
Op = Callable[..., Tensor]
Rule = tuple[str, Callable[[Array, Array, Array, Array], Array]]
"""Which of x, y, z (the output) a gradient reads, and the gradient from (g, x, y, z)."""

__all__ = [
    "abs", "add", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "ceil", "clamp", "cos", "div", "eq",
    "exp", "floor", "floor_divide", "ge", "gt", "isfinite", "isinf", "isnan", "le", "log", "log1p", "logical_and",
    "logical_not", "logical_or", "logical_xor", "lt", "maximum", "minimum", "mul", "ne", "neg", "pow", "reciprocal",
    "remainder", "round", "rsqrt", "sign", "sin", "sqrt", "square", "sub", "trunc", "where",
]  # fmt: skip


def _call(op: str, ufunc: Callable, dtype: Any, *arrays: Array) -> Array:
    """ufunc(*arrays) in canonical memory order."""
    try:
        shape = np.broadcast(*arrays).shape
    except ValueError:
        raise ShapeError(f"{op}: shapes {' and '.join(str(a.shape) for a in arrays)} do not broadcast") from None
    try:
        with np.errstate(all="ignore"):
            return ufunc(*arrays, out=layout.empty_for(shape, dtype, *arrays))
    except (TypeError, ValueError) as error:
        kind = DTypeError if isinstance(error, TypeError) else ArgumentError
        raise kind(f"{op}: cannot take {' and '.join(str(a.dtype) for a in arrays)}: {error}") from None


def _times(g: Array, d: Array | float, ufunc: Callable = np.multiply) -> Array:
    """g·d, of g's shape, in canonical memory order."""
    d = np.asarray(d, g.dtype)
    return ufunc(g, d, out=layout.empty_for(g.shape, g.dtype, g, d))


def _named(op: Op, name: str, doc: str) -> Op:
    op.__name__, op.__qualname__, op.__doc__ = name, name, doc
    return op


def _array(op: str, x: Tensor) -> Array:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: a Tensor is needed, but a {type(x).__name__} came")
    return x.array


# One operand -----------------------------------------------------------------------------------------------------

def _unary(
    name: str, formula: str, ufunc: Callable, slope: Callable[[Any], Any] | None, reads: str = "x", ints: bool = False,
    result: np.dtype | None = None,
) -> Op:
    """An operation with the derivative slope(x) or, if `reads` is "y", slope(y); None: it has none.

    `ints`: integers stay integers; `result`: the dtype of the output if it is not that of x.
    """
    def op(x: Tensor) -> Tensor:
        a = _array(name, x)
        if a.dtype.kind != "f" and not ints:
            a = a.astype(float32)
        y = _call(name, ufunc, result or a.dtype, a)
        if slope is None:
            return Tensor(y)
        read = a if reads == "x" else y if reads == "y" else None

        def backward(g: Array) -> tuple[Array]:
            with np.errstate(all="ignore"):
                return (_times(g, slope(read)),)

        backward.__qualname__ = name
        return record(y, (x,), backward, (x,) if reads == "x" else (), reads == "y")

    return _named(op, name, f"{formula}, element by element.")


def _rsqrt(a: Array, out: Array) -> Array:
    return np.reciprocal(np.sqrt(a, out=out), out=out)


def _sign(a: Array, out: Array | None = None) -> Array:
    return np.subtract(a > 0, a < 0, out=out, dtype=a.dtype)  # 0 for NaN, as in PyTorch


def _whole(ufunc: Callable) -> Callable:  # a rounding, which leaves integers alone
    return lambda a, out: (ufunc if a.dtype.kind == "f" else np.positive)(a, out=out)


def _zero(_: None) -> float:
    return 0.0


neg = _unary("neg", "-x", np.negative, lambda _: -1.0, "", ints=True)
abs = _unary("abs", "|x|", np.abs, _sign, ints=True)
square = _unary("square", "x²", np.square, lambda x: 2 * x, ints=True)
exp = _unary("exp", "eˣ", np.exp, lambda y: y, "y")
log = _unary("log", "ln x", np.log, lambda x: 1 / x)
log1p = _unary("log1p", "ln(1 + x), exact near 0", np.log1p, lambda x: 1 / (1 + x))
sqrt = _unary("sqrt", "√x", np.sqrt, lambda y: 0.5 / y, "y")
rsqrt = _unary("rsqrt", "1 / √x", _rsqrt, lambda y: -0.5 * y * y * y, "y")
reciprocal = _unary("reciprocal", "1 / x", np.reciprocal, lambda y: -y * y, "y")
sin = _unary("sin", "sin x", np.sin, np.cos)
cos = _unary("cos", "cos x", np.cos, lambda x: -np.sin(x))
sign = _unary("sign", "-1, 0 or 1 as x is", _sign, _zero, "", ints=True)
floor = _unary("floor", "⌊x⌋", _whole(np.floor), _zero, "", ints=True)
ceil = _unary("ceil", "⌈x⌉", _whole(np.ceil), _zero, "", ints=True)
round = _unary("round", "The nearest integer, the even one of two", _whole(np.rint), _zero, "", ints=True)
trunc = _unary("trunc", "x without its fraction", _whole(np.trunc), _zero, "", ints=True)
bitwise_not = _unary("bitwise_not", "~x of bools or the bits of integers", np.invert, None, "", ints=True)
logical_not = _unary("logical_not", "x = 0", np.logical_not, None, "", ints=True, result=bool_)
isnan = _unary("isnan", "Whether x is NaN", np.isnan, None, "", ints=True, result=bool_)
isinf = _unary("isinf", "Whether x is ±inf", np.isinf, None, "", ints=True, result=bool_)
isfinite = _unary("isfinite", "Whether x is neither NaN nor ±inf", np.isfinite, None, "", ints=True, result=bool_)


# Two operands ----------------------------------------------------------------------------------------------------

def _operands(a: Operand, b: Operand) -> tuple[Tensor, Tensor, np.dtype]:
    """Both as Tensors, and the dtype of the result."""
    if not isinstance(a, Tensor):
        a = as_tensor(a, b if isinstance(b, Tensor) else None)
    if not isinstance(b, Tensor):
        b = as_tensor(b, a)
    return a, b, a.array.dtype if a.array.dtype == b.array.dtype else result_dtype(a, b)


def _like(x: Tensor) -> Callable[[Array], Array]:
    """Turns the gradient of the broadcast, promoted x into that of x."""
    shape, dtype = x.array.shape, x.array.dtype
    return lambda gradient: np.asarray(unbroadcast(gradient, shape), dtype)  # 0-d: no NumPy scalar


def _binary(
    name: str, formula: str, ufunc: Callable, left: Rule | None = None, right: Rule | None = None, real: bool = False,
    result: np.dtype | None = None,
) -> Op:
    """An operation with rules for the gradients of its operands, if it has gradients.

    `real`: integers become floats; `result`: the dtype of the output if it is not that of the promoted operands.
    """
    def op(a: Operand, b: Operand) -> Tensor:
        a, b, dtype = _operands(a, b)
        if real and dtype.kind != "f":
            dtype = float32
        x, y = a.array.astype(dtype, copy=False), b.array.astype(dtype, copy=False)
        z = _call(name, ufunc, result or dtype, x, y)
        if left is None or right is None or not (a.requires_grad or b.requires_grad):
            return Tensor(z)
        reads = left[0] * a.requires_grad + right[0] * b.requires_grad
        rules = tuple([(rule[1], _like(t)) if t.requires_grad else None for rule, t in ((left, a), (right, b))])
        read: list[Any] = [v if key in reads else None for key, v in (("x", x), ("y", y), ("z", z))]  # rest is freed

        def backward(g: Array) -> tuple[Array | None, ...]:
            with np.errstate(all="ignore"):
                return tuple([None if r is None else r[1](r[0](g, *read)) for r in rules])

        backward.__qualname__ = name
        return record(z, (a, b), backward, (a,) * ("x" in reads) + (b,) * ("y" in reads), "z" in reads)

    return _named(op, name, f"{formula}, element by element.")


def _masked(g: Array, zero: Array | bool, half: Array | bool = False) -> Array:
    """g, but 0 where `zero` and g/2 where `half`."""
    out = layout.empty_like(g)
    np.copyto(out, g)
    np.multiply(out, 0.5, out=out, where=half)
    np.copyto(out, 0, where=zero)
    return out


_POWERS: dict[float, Callable] = {2: np.square, 0.5: np.sqrt, 1: np.positive, -1: np.reciprocal, -0.5: _rsqrt}


def _power(x: Array, y: Array, out: Array) -> Array:
    """x ** y; the powers of common scalar exponents as PyTorch computes them."""
    common = _POWERS.get(y.item()) if y.ndim == 0 and x.dtype.kind == "f" else None
    return common(x, out=out) if common else np.power(x, y, out=out)


def _power_left(g: Array, x: Array, y: Array, _: Array) -> Array:
    return _times(g, np.where(y == 0, g.dtype.type(0), y * _power(x, np.asarray(y - 1), np.empty_like(g))))


def _power_right(g: Array, x: Array, y: Array, z: Array) -> Array:
    return _times(g, np.where((x == 0) & (y >= 0), g.dtype.type(0), z * np.log(x)))


def _nonzero(ufunc: Callable) -> Callable:
    """An integer division that refuses 0, for which NumPy answers 0."""
    def divide(x: Array, y: Array, out: Array) -> Array:
        if y.dtype.kind != "f" and not np.all(y):
            raise ArgumentError("integer division or remainder by zero")
        return ufunc(x, y, out=out)

    return divide


def _trunc_divide(x: Array, y: Array, out: Array) -> Array:
    if x.dtype.kind == "f":
        return np.trunc(np.divide(x, y, out=out), out=out)
    return np.floor_divide(x - np.fmod(x, y), y, out=out)


def _where(relation: Callable) -> Rule:
    """The gradient where relation(x, y) holds, else 0."""
    return "xy", lambda g, x, y, z: _masked(g, ~relation(x, y))


_same: Rule = "", lambda g, x, y, z: g
_none: Rule = "", lambda g, x, y, z: np.zeros_like(g)
_larger: Rule = "xy", lambda g, x, y, z: _masked(g, x < y, x == y)  # the gradient goes to x where it is the larger
_smaller: Rule = "xy", lambda g, x, y, z: _masked(g, x > y, x == y)

_add = _binary("add", "x + y", np.add, _same, _same)
_sub = _binary("sub", "x - y", np.subtract, _same, ("", lambda g, x, y, z: np.negative(g)))
_by_y: Rule = "y", lambda g, x, y, z: _times(g, y)
mul = _binary("mul", "x · y", np.multiply, _by_y, ("x", lambda g, x, y, z: _times(g, x)))
_over: Rule = "y", lambda g, x, y, z: _times(g, y, np.divide)
_div = _binary("div", "x / y", np.divide, _over, ("yz", lambda g, x, y, z: -_times(g, z) / y), real=True)
_div_floor = _binary("div", "⌊x / y⌋", _nonzero(np.floor_divide), _none, _none)
_div_trunc = _binary("div", "x / y without its fraction", _nonzero(_trunc_divide), _none, _none)
floor_divide = _binary("floor_divide", "⌊x / y⌋, without gradients", _nonzero(np.floor_divide))
_turns: Rule = "xy", lambda g, x, y, z: -_times(g, np.floor_divide(x, y))
remainder = _binary("remainder", "x - y·⌊x / y⌋, of y's sign as Python's %", _nonzero(np.remainder), _same, _turns)
pow = _binary("pow", "xʸ", _power, ("xy", _power_left), ("xyz", _power_right))
maximum = _binary("maximum", "The larger of x and y, NaN if one is", np.maximum, _larger, _smaller)
minimum = _binary("minimum", "The smaller of x and y, NaN if one is", np.minimum, _smaller, _larger)
_clamp_min = _binary("clamp", "x, at least y", np.maximum, _where(np.greater_equal), _where(np.less))
_clamp_max = _binary("clamp", "x, at most y", np.minimum, _where(np.less_equal), _where(np.greater))
eq = _binary("eq", "x = y", np.equal, result=bool_)
ne = _binary("ne", "x ≠ y", np.not_equal, result=bool_)
lt = _binary("lt", "x < y", np.less, result=bool_)
le = _binary("le", "x ≤ y", np.less_equal, result=bool_)
gt = _binary("gt", "x > y", np.greater, result=bool_)
ge = _binary("ge", "x ≥ y", np.greater_equal, result=bool_)
logical_and = _binary("logical_and", "x ≠ 0 and y ≠ 0", np.logical_and, result=bool_)
logical_or = _binary("logical_or", "x ≠ 0 or y ≠ 0", np.logical_or, result=bool_)
logical_xor = _binary("logical_xor", "Whether just one of x and y is not 0", np.logical_xor, result=bool_)
bitwise_and = _binary("bitwise_and", "x & y of bools or the bits of integers", np.bitwise_and)
bitwise_or = _binary("bitwise_or", "x | y of bools or the bits of integers", np.bitwise_or)
bitwise_xor = _binary("bitwise_xor", "x ^ y of bools or the bits of integers", np.bitwise_xor)


def add(x: Operand, y: Operand, *, alpha: Number = 1) -> Tensor:
    """x + alpha·y, element by element."""
    return _add(x, y if alpha == 1 else mul(_operands(x, y)[1], alpha))


def sub(x: Operand, y: Operand, *, alpha: Number = 1) -> Tensor:
    """x - alpha·y, element by element."""
    return _sub(x, y if alpha == 1 else mul(_operands(x, y)[1], alpha))


def div(x: Operand, y: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """x / y, element by element; rounded towards 0 ("trunc") or down ("floor") if `rounding_mode` says so.

    >>> import fastnn
    >>> fastnn.div(fastnn.tensor([7, -7]), 2, rounding_mode="trunc")
    tensor([ 3, -3])
    """
    if rounding_mode not in (None, "floor", "trunc"):
        raise ArgumentError(f"div: rounding_mode must be None, 'trunc' or 'floor', but {rounding_mode!r} came")
    return (_div if rounding_mode is None else _div_floor if rounding_mode == "floor" else _div_trunc)(x, y)


def clamp(x: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """`x` limited to [min, max], numbers or tensors that broadcast; max wins where min > max.

    The gradient passes on the bounds; bounds that are tensors get the gradients of the elements that they replace.
    """
    if min is None and max is None:
        raise ArgumentError("clamp: min or max is needed")
    raised = x if min is None else _clamp_min(x, min)
    return raised if max is None else _clamp_max(raised, max)


def where(condition: Tensor, input: Operand, other: Operand) -> Tensor:
    """`input` where the bool tensor `condition` holds, else `other`; the three broadcast."""
    c = _array("where", condition)
    if c.dtype != bool_:
        raise DTypeError(f"where: condition must be a bool tensor, but its dtype is {c.dtype}")
    x, y, dtype = _operands(input, other)
    fit_x, fit_y = _like(x), _like(y)

    def choose(_: Array, a: Array, b: Array, out: Array) -> Array:
        np.copyto(out, b, casting="same_kind")
        np.copyto(out, a, casting="same_kind", where=c)
        return out

    def where(g: Array) -> tuple[Array, Array]:
        return fit_x(_masked(g, ~c)), fit_y(_masked(g, c))

    return record(_call("where", choose, dtype, c, x.array, y.array), (x, y), where, saved=(condition,))


# Installed on Tensor -----------------------------------------------------------------------------------------------

def _operator(function: Op, reflected: bool = False) -> Op:
    def operator(self: Tensor, other: Any) -> Tensor:
        if not isinstance(other, (Tensor, int, float, np.ndarray, np.generic)):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return operator


def _changing(function: Op) -> Op:
    """The form in place. The tensor is copied first where the gradient may read what is overwritten."""
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return inplace(self, function(self if function in _BLIND else shadow(self), *args, **kwargs))

    return _named(method, f"{function.__name__}_", f"{function.__name__} in place.")


def copy_(x: Tensor, source: Operand) -> Tensor:
    """Overwrite `x` with `source`, which broadcasts and is cast to x's dtype."""
    return inplace(x, expand(as_tensor(source).to(x.dtype), x.shape))


_BLIND = (add, sub, neg, exp, sqrt, rsqrt, reciprocal, sign, floor, ceil, round, trunc)
_ARITHMETIC: dict[str, Op] = {
    "add": add, "sub": sub, "mul": mul, "truediv": div, "floordiv": floor_divide, "mod": remainder, "pow": pow
}  # fmt: skip
install(**{name: globals()[name] for name in __all__})
for _name, _op in (_ARITHMETIC | {"and": bitwise_and, "or": bitwise_or, "xor": bitwise_xor}).items():
    _forms = _operator(_op), _operator(_op, reflected=True), _changing(_op)
    install(**dict(zip((f"__{_name}__", f"__r{_name}__", f"__i{_name}__"), _forms, strict=True)))
install(**{f"__{op.__name__}__": _operator(op) for op in (eq, ne, lt, le, gt, ge)})
install(__neg__=neg, __abs__=abs, __invert__=bitwise_not, __pos__=lambda x: x)
_IN_PLACE: tuple[Op, ...] = (abs, square, log, log1p, sin, cos, clamp, *_BLIND, *_ARITHMETIC.values())
install(**{f"{op.__name__}_": _changing(op) for op in _IN_PLACE})
install(copy_=copy_, fill_=copy_, zero_=lambda x: copy_(x, 0), where=lambda x, condition, y: where(condition, x, y))
