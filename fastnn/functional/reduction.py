"""Reductions, cumulative sums, sorting, and clipping of gradients, which are lists of arrays.

`dim` is an int or, where more make sense, a sequence; None means all. NumPy's `axis` and `keepdims` are accepted too.
float32 is summed with a relative error near 3e-7: by NumPy's pairwise sum along contiguous memory, else in float64.
Errors: IndexError for a dim out of range, RangeError for a reduction of nothing, DTypeError for a dtype not taken."""
import functools
import math
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.errors import DTypeError, RangeError, ShapeError
from fastnn.functional.elementwise import Op, maximum, minimum, named, times
from fastnn.functional.shape import axes_of, axis_of, install, selection, squeeze
from fastnn.tensor import Array, Tensor, bool_, float32, float64, int64, record, uint8

Axes = tuple[int, ...]
Dim = int | Sequence[int] | None

__all__ = ["all", "amax", "amin", "any", "argmax", "argmin", "cumsum", "logsumexp", "max", "mean", "min", "norm",
           "prod", "sort", "std", "sum", "topk", "var"]  # fmt: skip

ValuesIndices = namedtuple("ValuesIndices", "values indices")  # what was found along a dimension, and where (int64)


def _reduce(op: str, x: Tensor, dim: Dim, keepdim: bool, forward: Op, dtype=None, floats=False, some=False) -> Tensor:
    """y, slope = forward(array, axes, number of elements reduced): y with the axes kept at size 1; the slope dy/dx as a
    number, a function that computes it from what it saved, or None. `floats`: no integers; `some`: not of nothing."""
    x = x if dtype is None else x.to(dtype)
    a, axes = x.array, axes_of(op, dim, x.ndim)
    n = math.prod([a.shape[i] for i in axes])
    if floats and a.dtype.kind != "f":
        raise DTypeError(f"{op}: a float tensor is needed, but its dtype is {a.dtype}; convert it with .float()")
    if some and not n:
        raise RangeError(f"{op}: nothing to reduce in a tensor of shape {a.shape}")
    y, slope = forward(a, axes, n)
    before, kept = a.shape, tuple([1 if i in axes else size for i, size in enumerate(a.shape)])
    y = np.asarray(y).reshape(kept if keepdim else [size for i, size in enumerate(before) if i not in axes])

    def backward(g: Array) -> tuple[Array]:
        g = g.reshape(kept)
        return (times(g, slope()) if callable(slope) else np.broadcast_to(g * slope, before),)

    backward.__qualname__ = op
    return Tensor(y) if slope is None else record(y, (x,), backward, (x,) if callable(slope) else (), callable(slope))


def _sum(a: Array, axes: Axes) -> Array:
    """The sum with the axes kept, in a's dtype, bool and integers in int64."""
    whole = len(axes) == a.ndim
    pairwise = a.flags.c_contiguous and (whole or axes == tuple(range(a.ndim - len(axes), a.ndim)))
    if a.dtype.char == "f" and not pairwise and not (whole and layout.is_channels_last(a)):
        return np.add.reduce(a, axes, float64, keepdims=True).astype(float32)
    return np.asarray(np.add.reduce(a, axes, None if a.dtype.kind == "f" else int64, keepdims=True))


def _minus(a: Array, b: Array) -> Array:
    return np.subtract(a, b, out=layout.empty_like(a))


def sum(x: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ x over `dim`; bool and integers are summed in int64."""
    return _reduce("sum", x, dim, keepdim, lambda a, axes, n: (_sum(a, axes), 1), dtype)


def mean(x: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ x / n over `dim`, n elements each."""
    return _reduce("mean", x, dim, keepdim, lambda a, axes, n: (_sum(a, axes) / n, 1 / (n or 1)), dtype, floats=True)


def _moment(name: str, doc: str, root: bool) -> Op:
    def op(x: Tensor, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *,
           correction: float | None = None) -> Tensor:
        if isinstance(dim, bool):
            return op(x, None, dim, keepdim, correction=correction)  # PyTorch's var(unbiased)

        def forward(a: Array, axes: Axes, n: int) -> tuple[Array, Op]:
            divisor = a.dtype.type(np.maximum(n - (unbiased if correction is None else correction), 0))
            centre = _sum(a, axes) / n
            y = _sum(np.square(_minus(a, centre)), axes) / divisor
            if not root:
                return y, lambda: _minus(a, centre) * (2 / divisor)
            y = np.sqrt(y)
            return y, lambda: np.where(y == 0, 0, _minus(a, centre) / (y * divisor))

        return _reduce(name, x, dim, keepdim, forward, floats=True)

    return named(op, name, doc)


var = _moment("var", "Σ (x - mean)² / (n - correction) over `dim`; the correction is 1, or 0 if not `unbiased`.", False)
std = _moment("std", "√var over `dim`, with var's arguments; the gradient is 0 where it is 0.", True)


def norm(x: Tensor, p: float | str = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """(Σ |x|ᵖ)^(1/p) over `dim`; p = inf: max |x|, -inf: min |x|, 0: how many are not 0. The gradient at 0 is 0."""
    p = 2.0 if p == "fro" else float(p)
    if math.isinf(p):
        return (amax if p > 0 else amin)(x.abs(), dim, keepdim)

    def forward(a: Array, axes: Axes, n: int) -> tuple[Array, Op]:
        if p == 0:
            return np.count_nonzero(a, axes, keepdims=True).astype(a.dtype), lambda: np.zeros_like(a)
        y = _sum(np.abs(a) ** p, axes) ** (1 / p)
        return y, lambda: np.where((y == 0) | (a == 0), 0, np.sign(a) * (np.abs(a) / y) ** (p - 1))

    return _reduce("norm", x, dim, keepdim, forward, floats=True, some=p < 0)


def _reduction(name: str, doc: str, forward: Op, some: bool = False) -> Op:
    def op(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
        return _reduce(name, x, dim, keepdim, forward, some=some)

    return named(op, name, doc)


def _prod(a: Array, axes: Axes, n: int) -> tuple[Array, Op]:
    def slope() -> Array:
        zero = a == 0
        rest = np.where(zero, 1, a)
        others = np.multiply.reduce(rest, axes, keepdims=True) / rest
        return np.where(np.count_nonzero(zero, axes, keepdims=True) == zero, others, 0)

    return np.multiply.reduce(a, axes, None if a.dtype.kind == "f" else int64, keepdims=True), slope


def _logsumexp(a: Array, axes: Axes, n: int) -> tuple[Array, Op]:
    a = a if a.dtype.kind == "f" else a.astype(float32)
    top = np.max(a, axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), 0, top)
    y = np.log(_sum(np.exp(_minus(a, top)), axes)) + top
    return y, lambda: np.exp(_minus(a, np.where(np.isneginf(y), 0, y)))


def _extreme(name: str, word: str, ufunc: np.ufunc) -> Op:
    def forward(a: Array, axes: Axes, n: int) -> tuple[Array, Op]:
        y = ufunc.reduce(a, axes, keepdims=True)
        ties = lambda: (a == y) | (np.isnan(y) & np.isnan(a))  # noqa: E731
        return y, lambda: ties() / np.count_nonzero(ties(), axes, keepdims=True)

    return _reduction(name, f"The {word} over `dim`, NaN if there is one; ties share the gradient.", forward, some=True)


def _position(name: str, word: str, find: Op) -> Op:
    def forward(a: Array, axes: Axes, n: int) -> tuple[Array, None]:
        if len(axes) not in (1, a.ndim):
            raise TypeError(f"{name}: dim must be an int or None, but the dims {axes} came")
        return find(a, axes[0] if len(axes) == 1 else None, keepdims=True), None

    return _reduction(name, f"Where the {word} over `dim` is (int64): the first of ties or NaN.", forward, some=True)


def _truth(name: str, word: str, find: Op) -> Op:
    return _reduction(name, f"Whether {word} over `dim` true (not 0); uint8 for uint8, else bool.", lambda a, axes, n: (
        np.asarray(find(a, axes, keepdims=True), uint8 if a.dtype == uint8 else bool_), None))


prod = _reduction("prod", "Π x over `dim`; its slope is the product of the other factors, zeros or not.", _prod)
logsumexp = _reduction("logsumexp", "ln Σ eˣ over `dim`, less its maximum, so that nothing overflows.", _logsumexp)
amax, amin = _extreme("amax", "largest", np.maximum), _extreme("amin", "smallest", np.minimum)
argmax, argmin = _position("argmax", "largest", np.argmax), _position("argmin", "smallest", np.argmin)
all, any = _truth("all", "all elements are", np.all), _truth("any", "an element is", np.any)


def cumsum(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """yᵢ = Σ x over the places 0 to i of `dim`, float32 summed in float64; bool and integers in int64."""
    x = x if dtype is None else x.to(dtype)
    axis, wide = axis_of("cumsum", dim, x.ndim), float64 if x.dtype.kind == "f" else int64

    def run(values: Array, step: int = 1) -> tuple[Array]:
        y = layout.empty_like(values, values.dtype if values.dtype.kind == "f" else int64)
        along = (*(slice(None),) * axis, slice(None, None, step)) if y.ndim else ()
        y[along] = np.add.accumulate(values[along], axis, wide) if y.ndim else values
        return (y,)

    return record(run(x.array)[0], (x,), lambda g: run(g, -1))


def _pick(op: str, x: Tensor, indices: Array, axis: int) -> ValuesIndices:
    """The values at different `indices` along `axis`, which get the gradients."""
    places, shape = np.atleast_1d(indices), indices.shape if x.ndim else ()
    values = np.take_along_axis(np.atleast_1d(x.array), places, axis).reshape(shape)

    def put(gx: Array, g: Array) -> None:
        np.put_along_axis(np.atleast_1d(gx), places, g.reshape(places.shape), axis)

    return ValuesIndices(record(values, (x,), selection(op, x.array, put)), Tensor(places.reshape(shape).copy()))


def _either(name: str, word: str, find: Op, whole: Op, two: Op) -> Op:
    def op(x: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
        if other is not None or isinstance(dim, Tensor):
            return two(x, dim if other is None else other)
        if dim is None:
            return whole(x)
        axis = axis_of(name, dim, x.ndim)
        found = _pick(name, x, find(x, dim, True).array, axis)
        return found if keepdim else ValuesIndices(*(squeeze(v, axis) for v in found))

    return named(op, name, f"""The {word} element; ties share the gradient. With `dim` the pair (values, indices)
    along it, where the first of ties gets the gradient. With a second tensor the {word} of the two, by element.""")


max = _either("max", "largest", argmax, amax, maximum)
min = _either("min", "smallest", argmin, amin, minimum)


def _order(a: Array, axis: int, descending: bool) -> Array:
    """Indices that sort `a` stably, NaN above all."""
    if not descending:
        return np.argsort(a, axis, kind="stable")
    order = np.argsort(np.flip(a, axis), axis, kind="stable")  # the last of ties first, in mirror writing
    return np.flip(a.shape[axis] - 1 - order, axis)


def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
    """(values, indices) in order along `dim`, NaN as the largest. Always stable."""
    axis = axis_of("sort", dim, x.ndim)
    return _pick("sort", x, _order(np.atleast_1d(x.array), axis, descending), axis)


def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """(values, indices) of the `k` largest (or smallest) along `dim`, always sorted; the first of ties wins."""
    axis, a = axis_of("topk", dim, x.ndim), np.atleast_1d(x.array)
    if not 0 <= k <= a.shape[axis]:
        raise ShapeError(f"topk: k must be from 0 to {a.shape[axis]}, the size of dim {dim}, but {k} came")
    return _pick("topk", x, _order(a, axis, largest)[(*(slice(None),) * axis, slice(k))], axis)


def _clip(kernel: Op, grads: list[Array], *args: bool | float | Array, back: bool = True) -> None:
    """The kernel; where there are gaps in memory, or bytes in another order, on copies, which are copied back."""
    try:
        kernel(grads, *args, backend.n_threads())
    except ValueError:
        copies = [g.astype(g.dtype.newbyteorder("="), order="C") for g in grads]
        kernel(copies, *args, backend.n_threads())
        for g, copy in zip(grads, copies, strict=True) if back else ():
            g[...] = copy


def clip_factor(grads: list[Array], max_norm: float, norm_type: float = 2.0) -> tuple[float, float]:
    """The norm (Σ|g|ᵖ)^(1/p) over all elements of all arrays, in float64, the largest magnitude for p = inf, and
    min(1, max_norm / (norm + 1e-6)), by which to multiply them; NaN stays."""
    if norm_type in (2, math.inf):
        _clip(backend.optimizer.grad_norm, grads, norm_type == math.inf, out := np.zeros(()), back=False)
    else:
        out = np.sum([(np.abs(g, dtype=np.float64) ** norm_type).sum() for g in grads]) ** (1 / norm_type)
    factor = max_norm / (float(out) + 1e-6)
    return float(out), 1.0 if factor >= 1 else factor


def scale_(grads: list[Array], factor: float) -> None:
    _clip(backend.optimizer.grad_scale, grads, factor)


def clamp_(grads: list[Array], limit: float) -> None:
    _clip(backend.optimizer.grad_clamp, grads, limit)


def _public(op: Op) -> Op:
    """`op` without warnings of NumPy, and with `axis` and `keepdims` for `dim` and `keepdim`."""
    @functools.wraps(op)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        given = {{"axis": "dim", "keepdims": "keepdim"}.get(name, name): value for name, value in kwargs.items()}
        if len(given) < len(kwargs):
            raise TypeError(f"{op.__name__}: dim and axis, keepdim and keepdims mean the same; give one")
        with np.errstate(all="ignore"):
            return op(*args, **given)

    return renamed


globals().update({name: _public(globals()[name]) for name in __all__})
install(**{name: globals()[name] for name in __all__})
