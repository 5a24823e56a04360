"""Element-wise arithmetic with broadcasting, comparison and logic, and their operators on Tensor.

Tables of NumPy's ufuncs with their derivatives, and one mechanism, `_apply`. Promotion and gradients at kinks are
PyTorch's: 0-d tensors and Python numbers count by kind only; abs has slope 0 at 0, maximum and minimum half and half
at a tie, clamp 1 on its bounds. inf and NaN come silently, as IEEE 754 has them; integers divided by 0 are an
ArgumentError, shapes that do not broadcast a ShapeError, a dtype not taken a DTypeError."""
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import backend, layout, tensor
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.functional.shape import expand, install
from fastnn.tensor import Array, Pending, Tensor, as_tensor, bool_, float32, inplace, record, result_dtype, unbroadcast

Operand = Tensor | bool | int | float | Array
Op = Callable[..., Any]
Rule = tuple[str, Op]  # which of output z and operands x, y, w a gradient reads; itself, from (g, z, x, y, w)

__all__ = [
    "abs", "add", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "ceil", "clamp", "cos", "div", "eq", "exp",
    "floor", "floor_divide", "ge", "gt", "isfinite", "isinf", "isnan", "le", "log", "log1p", "logical_and",
    "logical_not", "logical_or", "logical_xor", "lt", "maximum", "minimum", "mul", "ne", "neg", "pow", "reciprocal",
    "remainder", "round", "rsqrt", "sign", "sin", "sqrt", "square", "sub", "trunc", "where"]  # fmt: skip


class _Quiet(threading.local):
    """`run(ufunc, ...)` without NumPy's warnings of overflow and NaN, for a seventh of the price of np.errstate."""
    def __init__(self) -> None:
        context = contextvars.Context()  # one a thread, as two may not enter the same
        context.run(np.seterr, all="ignore")
        self.run = context.run


_quiet = _Quiet()


def _threaded(ufunc: Op, name: str) -> Op:
    """`ufunc`, an operation of two operands, by the kernel `name` where that takes them."""
    kernel = getattr(backend.elementwise, name)

    def run(x: Array, y: Array, out: Array) -> Array:
        if out.size < 4096 or out.dtype.char not in "fd" or not (fits(x, out) and fits(y, out)) or not (
                out.flags.c_contiguous or layout.is_channels_last(out)):
            return ufunc(x, y, out=out)
        x, y = layout.match(x, out) if x.ndim else x, layout.match(y, out) if y.ndim else y
        kernel(x, y, out, backend.n_threads())
        return out

    def fits(a: Array, out: Array) -> bool:
        return a.dtype == out.dtype and (not a.ndim or a.shape == out.shape) and layout.sound(a)

    return run


_ADD, _SUB, _MUL, _DIV = (_threaded(getattr(np, ufunc), name) for ufunc, name in (
    ("add", "add"), ("subtract", "sub"), ("multiply", "mul"), ("divide", "div")))  # fmt: skip
tensor.add = _ADD


def _apply(op: str, ufunc: Op, rules: tuple[Rule, ...], dtype: Any, xs: tuple[Tensor, ...], *arrays: Array) -> Tensor:
    """ufunc(*arrays), the arrays of the tensors `xs`, on the tape if there are rules for their gradients."""
    try:
        shape = np.broadcast(*arrays).shape
    except ValueError:
        raise ShapeError(f"{op}: shapes {' and '.join(str(a.shape) for a in arrays)} do not broadcast") from None
    try:
        z = _quiet.run(ufunc, *arrays, out=layout.empty_for(shape, dtype, *arrays))
    except (TypeError, ValueError) as error:
        kind = DTypeError if isinstance(error, TypeError) else ArgumentError
        raise kind(f"{op}: cannot take {' and '.join(str(a.dtype) for a in arrays)}: {error}") from None
    terms: list[Any] = []
    reads = ""  # what else is there is freed
    for x, (names, gradient) in zip(xs, rules):  # noqa: B905
        wanted = x.requires_grad
        reads += names if wanted else ""
        terms.append((gradient, x.array.shape, x.array.dtype) if wanted else None)
    if not any(terms):
        return tensor.owned(Tensor(z))
    read = tuple([a if name in reads else None for name, a in zip("zxyw", (z, *arrays))])  # noqa: B905
    saved = tuple([x for x, a in zip(xs, read[1:]) if a is not None]) if reads else ()  # noqa: B905
    fits = tuple(terms)

    def backward(g: Array) -> tuple[Array | None, ...]:  # the gradients of the broadcast, promoted operands, fitted
        return tuple([t and np.asarray(unbroadcast(t[0](g, *read), t[1]), t[2]) for t in fits])

    backward.__qualname__ = op
    return record(z, xs[: len(terms)], backward, saved, "z" in reads)


def times(g: Array, d: Array | float, ufunc: Op = _MUL) -> Array:
    """g·d in canonical memory order, in g's dtype."""
    d = np.asarray(d, g.dtype)
    return ufunc(g, d, out=layout.empty_for(np.broadcast(g, d).shape, g.dtype, g, d))


def named(op: Op, name: str, doc: str) -> Op:
    """`op`, made by a factory, with its name and docstring."""
    op.__name__, op.__qualname__, op.__doc__ = name, name, doc
    return op


def _unary(name: str, doc: str, ufunc: Op, slope: Op | None = None, reads="x", real=False, result=None) -> Op:
    """An operation z(x) with the derivative slope(x), or slope(z) if that `reads` z, if it has one.
    `real`: integers become floats; `result`: the dtype of the output if it is not that of the operands."""
    rules = () if slope is None else ((reads, lambda g, z, x: times(g, slope(z if reads == "z" else x))),)

    def op(x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: a Tensor is needed, but a {type(x).__name__} came")
        a = x.array.astype(float32) if real and x.array.dtype.kind != "f" else x.array
        return _apply(name, ufunc, rules, result or a.dtype, (x,), a)

    return named(op, name, f"{doc}, element by element.")


def _rsqrt(a: Array, out: Array | None = None) -> Array:
    return np.reciprocal(np.sqrt(a, out=out), out=out)


def _sign(a: Array, out: Array | None = None) -> Array:
    return np.subtract(a > 0, a < 0, out=out, dtype=a.dtype)  # 0 for NaN, as in PyTorch


def _whole(ufunc: Op) -> Op:  # a rounding, which leaves integers alone
    return lambda a, out: (ufunc if a.dtype.kind == "f" else np.positive)(a, out=out)


neg = _unary("neg", "-x", np.negative, lambda _: -1.0, "")
abs = _unary("abs", "|x|", np.abs, _sign)
square = _unary("square", "x²", np.square, lambda x: 2 * x)
exp = _unary("exp", "eˣ", np.exp, lambda z: z, "z", real=True)
log = _unary("log", "ln x", np.log, lambda x: 1 / x, real=True)
log1p = _unary("log1p", "ln(1 + x), exact near 0", np.log1p, lambda x: 1 / (1 + x), real=True)
sqrt = _unary("sqrt", "√x", np.sqrt, lambda z: 0.5 / z, "z", real=True)
rsqrt = _unary("rsqrt", "1 / √x", _rsqrt, lambda z: -0.5 * z * z * z, "z", real=True)
reciprocal = _unary("reciprocal", "1 / x", np.reciprocal, lambda z: -z * z, "z", real=True)
sin = _unary("sin", "sin x", np.sin, np.cos, real=True)
cos = _unary("cos", "cos x", np.cos, lambda x: -np.sin(x), real=True)
sign = _unary("sign", "-1, 0 or 1 as x is", _sign, lambda _: 0.0, "")
floor, ceil, trunc, round = (_unary(name, doc, _whole(ufunc), lambda _: 0.0, "") for name, doc, ufunc in (
    ("floor", "⌊x⌋", np.floor), ("ceil", "⌈x⌉", np.ceil), ("trunc", "x without its fraction", np.trunc),
    ("round", "The nearest integer, the even one of two", np.rint)))  # fmt: skip
bitwise_not = _unary("bitwise_not", "~x of bools or the bits of integers", np.invert)
logical_not = _unary("logical_not", "x = 0", np.logical_not, result=bool_)
isnan, isinf, isfinite = (_unary(f"is{word}", f"Whether x is {word}", getattr(np, f"is{word}"), result=bool_)
                          for word in ("nan", "inf", "finite"))  # fmt: skip


def _operands(a: Operand, b: Operand) -> tuple[Tensor, Tensor, np.dtype]:
    a = a if isinstance(a, Tensor) else as_tensor(a, b if isinstance(b, Tensor) else None)
    b = b if isinstance(b, Tensor) else as_tensor(b, a)
    return a, b, a.array.dtype if a.array.dtype == b.array.dtype else result_dtype(a, b)


def _binary(name: str, doc: str, ufunc: Op, *rules: Rule, real: bool = False, result: Any = None) -> Op:
    """An operation z(x, y) with rules for the gradients of x and y, if it has gradients; the rest as in `_unary`."""
    def op(x: Operand, y: Operand) -> Tensor:
        x, y, dtype = _operands(x, y)
        dtype = float32 if real and dtype.kind != "f" else dtype
        a, b = x.array.astype(dtype, copy=False), y.array.astype(dtype, copy=False)
        return _apply(name, ufunc, rules, result or dtype, (x, y), a, b)

    return named(op, name, f"{doc}, element by element.")


def masked(g: Array, zero: Array, half: Array | bool = False) -> Array:
    """g, but 0 where `zero` and g/2 where `half`."""
    out = times(g, 1 - 0.5 * half)
    np.copyto(out, 0, where=zero)
    return out


_POWERS: dict[float, Op] = {2: np.square, 0.5: np.sqrt, 1: np.positive, -1: np.reciprocal, -0.5: _rsqrt}


def _power(x: Array, y: Array, out: Array | None = None) -> Array:
    """x ** y; the powers of common scalar exponents as PyTorch computes them."""
    common = _POWERS.get(y.item()) if y.ndim == 0 and x.dtype.kind == "f" else None
    return common(x, out=out) if common else np.power(x, y, out=out)


def _nonzero(ufunc: Op) -> Op:
    """An integer division that refuses 0, for which NumPy answers 0."""
    def divide(x: Array, y: Array, out: Array) -> Array:
        if y.dtype.kind != "f" and not np.all(y):
            raise ArgumentError("integer division or remainder by zero")
        return ufunc(x, y, out=out)

    return divide


def _where(relation: Op) -> Rule:  # the gradient where relation(x, y) holds, else 0
    return "xy", lambda g, z, x, y: masked(g, ~relation(x, y))


_same: Rule = "", lambda g, z, x, y: g
_larger: Rule = "xy", lambda g, z, x, y: masked(g, x < y, x == y)  # the gradient goes to x where it is the larger
_smaller: Rule = "xy", lambda g, z, x, y: masked(g, x > y, x == y)

_to_both = named(lambda g: (g, g), "add", "the gradient goes to both")
_plain_add = _binary("add", "x + y", _ADD, _same, _same)


def _add(x: Operand, y: Operand) -> Tensor:
    if type(x) is Pending or type(y) is Pending:
        for a, b in (x, y), (y, x):  # batch norm takes a second operand into its own pass
            recipe = tensor.recipe_of(a)
            if recipe is not None and isinstance(b, Tensor) and (total := recipe.plus(b)) is not None:
                return tensor.pending(total, (x, y), _to_both)  # type: ignore[arg-type]
    return _plain_add(x, y)


named(_add, "add", _plain_add.__doc__ or "")
_sub = _binary("sub", "x - y", _SUB, _same, ("", lambda g, z, x, y: np.negative(g)))
_by_y: Rule = "y", lambda g, z, x, y: times(g, y)
mul = _binary("mul", "x · y", _MUL, _by_y, ("x", lambda g, z, x, y: times(g, x)))


def _over_divisor(g: Array, z: Array, x: Array, y: Array) -> Array:
    """-g·(x / y) / y in one array; z is not read, so that it may be changed in place."""
    out = times(x, y, _DIV)
    for ufunc, factor in (_MUL, g), (_DIV, y):
        ufunc(out, factor, out=out)
    return np.negative(out, out=out)


_over_y: Rule = "y", lambda g, z, x, y: times(g, y, _DIV)
div = _binary("div", "x / y", _DIV, _over_y, ("xy", _over_divisor), real=True)
floor_divide = _binary("floor_divide", "⌊x / y⌋, without gradients", _nonzero(np.floor_divide))
_turns: Rule = "xy", lambda g, z, x, y: -times(g, np.floor_divide(x, y))
remainder = _binary("remainder", "x - y·⌊x / y⌋, of y's sign as Python's %", _nonzero(np.remainder), _same, _turns)
_base: Rule = "xy", lambda g, z, x, y: times(g, np.where(y == 0, 0, y * _power(x, y - 1)))
_exponent: Rule = "xyz", lambda g, z, x, y: times(g, np.where((x == 0) & (y >= 0), 0, z * np.log(x)))
pow = _binary("pow", "xʸ", _power, _base, _exponent)
maximum = _binary("maximum", "The larger of x and y, NaN if one is", np.maximum, _larger, _smaller)
minimum = _binary("minimum", "The smaller of x and y, NaN if one is", np.minimum, _smaller, _larger)
_clamp_min = _binary("clamp", "x, at least y", np.maximum, _where(np.greater_equal), _where(np.less))
_clamp_max = _binary("clamp", "x, at most y", np.minimum, _where(np.less_equal), _where(np.greater))
eq, ne, lt, le, gt, ge, logical_and, logical_or, logical_xor = (
    _binary(name, f"Whether x {sign} y", ufunc, result=bool_) for name, sign, ufunc in (
        ("eq", "=", np.equal), ("ne", "≠", np.not_equal), ("lt", "<", np.less), ("le", "≤", np.less_equal),
        ("gt", ">", np.greater), ("ge", "≥", np.greater_equal), ("logical_and", "and", np.logical_and),
        ("logical_or", "or", np.logical_or), ("logical_xor", "xor", np.logical_xor)))  # fmt: skip
bitwise_and, bitwise_or, bitwise_xor = (_binary(f"bitwise_{word}", f"x {word} y, by bits", ufunc) for word, ufunc in (
    ("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)))  # fmt: skip
_CHOICE: tuple[Rule, ...] = ("w", lambda g, z, x, y, w: masked(g, ~w)), ("w", lambda g, z, x, y, w: masked(g, w))


def _scaled(op: Op, sign: str) -> Op:
    scaled = lambda x, y, *, alpha=1: op(x, y if alpha == 1 else mul(_operands(x, y)[1], alpha))  # noqa: E731
    return named(scaled, op.__name__, f"x {sign} alpha·y, element by element.")


add, sub = _scaled(_add, "+"), _scaled(_sub, "-")


def clamp(x: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """`x` limited to [min, max], numbers or tensors, which get the gradients of what they replace; max wins."""
    if min is None and max is None:
        raise ArgumentError("clamp: min or max is needed")
    raised = x if min is None else _clamp_min(x, min)
    return raised if max is None else _clamp_max(raised, max)


def choose(op: str, name: str, mask: Tensor, x: Operand, y: Operand) -> Tensor:
    """`where`, with errors that name `op` and its argument."""
    if not isinstance(mask, Tensor) or mask.dtype != bool_:
        raise DTypeError(f"{op}: {name} must be a bool tensor, but {getattr(mask, 'dtype', type(mask).__name__)} came")
    x, y, dtype = _operands(x, y)

    def copy(x: Array, y: Array, w: Array, out: Array) -> Array:
        np.copyto(out, y, casting="same_kind")
        np.copyto(out, x, casting="same_kind", where=w)
        return out

    return _apply(op, copy, _CHOICE, dtype, (x, y, mask), x.array, y.array, mask.array)


def where(condition: Tensor, input: Operand, other: Operand) -> Tensor:
    """`input` where the bool tensor `condition` holds, else `other`; the three broadcast."""
    return choose("where", "condition", condition, input, other)


def _operator(function: Op, reflected: bool = False) -> Op:
    def operator(x: Tensor, y: Any) -> Tensor:
        if isinstance(y, (Tensor, int, float, np.ndarray, np.generic)):
            return function(y, x) if reflected else function(x, y)
        return NotImplemented

    return operator


def _changing(function: Op) -> Op:
    """The form in place. The tensor is copied first if the gradient may read what is overwritten."""
    kept, name = (lambda x: x) if function.__name__ in ("add", "sub") else tensor.shadow, function.__name__
    method = lambda x, *args, **kwargs: inplace(x, function(kept(x), *args, **kwargs), fresh=True)  # noqa: E731
    return named(method, f"{name}_", f"{name} in place.")


def copy_(x: Tensor, source: Operand) -> Tensor:
    """Overwrite `x` with `source`, which broadcasts and is cast to x's dtype."""
    return inplace(x, expand(as_tensor(source).to(x.dtype), x.shape))


for _name, _op in {
    "add": _add, "sub": _sub, "mul": mul, "truediv": div, "floordiv": floor_divide, "mod": remainder, "pow": pow,
    "and": bitwise_and, "or": bitwise_or, "xor": bitwise_xor}.items():  # fmt: skip
    install(**{f"__{_name}__": _operator(_op), f"__r{_name}__": _operator(_op, True), f"__i{_name}__": _changing(_op)})
install(**{name: globals()[name] for name in __all__})
install(**{f"{name}_": _changing(globals()[name]) for name in {*__all__} - {
    "isfinite", "isinf", "isnan", "maximum", "minimum", "where"}})
install(**{f"__{op.__name__}__": _operator(op) for op in (eq, ne, lt, le, gt, ge)})
install(__neg__=neg, __abs__=abs, __invert__=bitwise_not, __pos__=lambda x: x)
install(copy_=copy_, fill_=copy_, zero_=lambda x: copy_(x, 0), where=lambda x, condition, y: where(condition, x, y))
