"""Reductions, cumulative sums, sorting.

`dim` is an int or, where more make sense, a sequence of them; None means all. `keepdim` keeps reduced dimensions at
size 1. NumPy's `axis` and `keepdims` are accepted as well. float32 is summed with a relative error near 3e-7: by
NumPy's pairwise sum along contiguous memory, else in float64. Errors: IndexError for a dim out of range, RangeError
for a reduction of nothing, DTypeError for a dtype that the operation does not take.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn import layout
from fastnn.errors import DTypeError, RangeError, ShapeError
from fastnn.functional.elementwise import abs as absolute
from fastnn.functional.elementwise import maximum, minimum
from fastnn.functional.shape import axes_of, axis_of, flatten, install, squeeze, zeros_maker
from fastnn.tensor import Tensor, bool_, float32, float64, int64, record, uint8

Array = np.ndarray
Dim = int | Sequence[int] | None

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "cumsum", "logsumexp", "max", "mean", "min", "norm",
    "prod", "sort", "std", "sum", "topk", "var",
]  # fmt: skip


class ValuesIndices(NamedTuple):
    """Values found along a dimension, and where they were (int64)."""

    values: Tensor
    indices: Tensor


# Arguments and sums ----------------------------------------------------------------------------------------------

def _public(op: Callable, name: str = "", doc: str = "") -> Callable:
    """Let `op` take `axis` and `keepdims` for `dim` and `keepdim`; name and document what a factory made."""
    op.__name__, op.__doc__ = name or op.__name__, doc or op.__doc__

    @functools.wraps(op)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        for alias, name in (("axis", "dim"), ("keepdims", "keepdim")):
            if alias in kwargs and name in kwargs:
                raise TypeError(f"{op.__name__}: {name} and {alias} mean the same; give one")
            if alias in kwargs:
                kwargs[name] = kwargs.pop(alias)
        return op(*args, **kwargs)

    return renamed


def _frame(op: str, x: Tensor, dim: Dim, keepdim: bool, floats: bool = False, some: bool = False) -> tuple:
    """The array, the axes to reduce, the shape with them at size 1, that of the result; maybe only `floats`, `some`."""
    a, axes = x.array, axes_of(op, dim, x.ndim)
    if floats and a.dtype.kind != "f":
        raise DTypeError(f"{op}: a float tensor is needed, but its dtype is {a.dtype}; convert it with .float()")
    if some and a.size == 0 and not math.prod(a.shape[i] for i in axes):
        raise RangeError(f"{op}: nothing to reduce in a tensor of shape {a.shape}")
    kept = tuple([1 if i in axes else n for i, n in enumerate(a.shape)])
    return a, axes, kept, kept if keepdim else tuple([n for i, n in enumerate(a.shape) if i not in axes])


def _sum(a: Array, axes: tuple[int, ...]) -> Array:
    """The sum with the axes kept, in a's dtype, bool and integers in int64."""
    whole = len(axes) == a.ndim
    pairwise = a.flags.c_contiguous and (whole or axes == tuple(range(a.ndim - len(axes), a.ndim)))
    with np.errstate(all="ignore"):
        if a.dtype == float32 and not pairwise and not (whole and layout.is_channels_last(a)):
            return np.add.reduce(a, axes, float64, keepdims=True).astype(float32)
        return np.asarray(np.add.reduce(a, axes, a.dtype if a.dtype.kind == "f" else int64, keepdims=True))


# Sums and moments ------------------------------------------------------------------------------------------------

def _total(name: str, doc: str, average: bool) -> Callable[..., Tensor]:
    def op(x: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        a, axes, kept, shape = _frame(name, x if dtype is None else x.to(dtype), dim, keepdim, floats=average)
        before, given, n = a.shape, x.dtype, math.prod(a.shape[i] for i in axes) if average else 1

        def backward(g: Array) -> tuple[Array]:
            g = g if n in (0, 1) else g / g.dtype.type(n)
            return (np.broadcast_to(g.reshape(kept).astype(given, copy=False), before),)

        backward.__qualname__ = name
        y = _sum(a, axes)
        with np.errstate(all="ignore"):
            return record((np.divide(y, n, out=y) if average else y).reshape(shape), (x,), backward)

    return _public(op, name, doc)


sum = _total("sum", "Σ x over `dim`; bool and integers are summed in int64.", False)
mean = _total("mean", "Σ x / n over `dim`, n elements each.", True)


def _moment(name: str, doc: str, root: bool) -> Callable[..., Tensor]:
    def op(
        x: Tensor, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
    ) -> Tensor:
        if isinstance(dim, bool):
            return op(x, None, dim, keepdim, correction=correction)  # PyTorch's var(unbiased)
        a, axes, kept, shape = _frame(name, x, dim, keepdim, floats=True)
        n = math.prod(a.shape[i] for i in axes)
        divisor = a.dtype.type(np.maximum(n - (unbiased if correction is None else correction), 0))
        with np.errstate(all="ignore"):
            centre = _sum(a, axes) / a.dtype.type(n)
            d = np.subtract(a, centre, out=layout.empty_like(a))
            y = np.asarray(_sum(np.square(d, out=d), axes) / divisor)
            y = np.asarray(np.sqrt(y)) if root else y

        def backward(g: Array) -> tuple[Array]:
            with np.errstate(all="ignore"):
                scale = g.reshape(kept) / divisor
                scale = np.where(y == 0, 0, scale / y).astype(g.dtype) if root else 2 * scale
                d = np.subtract(a, centre, out=layout.empty_like(a))
                return (np.multiply(d, scale, out=d),)

        backward.__qualname__ = name
        return record(y.reshape(shape), (x,), backward, saved=(x,), save_output=root)

    return _public(op, name, doc)


var = _moment("var", "Σ (x - mean)² / (n - correction) over `dim`; the correction is 1, or 0 if not `unbiased`.", False)
std = _moment("std", "√var over `dim`, with var's arguments; the gradient is 0 where it is 0.", True)


@_public
def prod(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Π x over `dim`. The gradient is exact with zeros among the factors: the product of the others."""
    if dim is None or not x.ndim:
        return prod(flatten(x), axis_of("prod", dim or 0, x.ndim))
    a, axis = x.array, axis_of("prod", dim, x.ndim)
    with np.errstate(all="ignore"):
        y = np.multiply.reduce(a, axis, a.dtype if a.dtype.kind == "f" else int64, keepdims=True)

    def product(g: Array) -> tuple[Array]:
        rows = np.moveaxis(a, axis, -1)
        ones = np.ones_like(rows[..., :1])
        with np.errstate(all="ignore"):
            before = np.cumprod(np.concatenate([ones, rows[..., :-1]], -1), -1)
            after = np.cumprod(np.concatenate([ones, rows[..., :0:-1]], -1), -1)[..., ::-1]
            return (np.moveaxis(before * after, -1, axis) * g.reshape(y.shape),)

    return record(y if keepdim else np.asarray(y.squeeze(axis)), (x,), product, saved=(x,))


@_public
def norm(x: Tensor, p: float | str = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """(Σ |x|ᵖ)^(1/p) over `dim`; p = inf: max |x|, -inf: min |x|, 0: how many are not 0, "fro": 2.

    The gradient at 0 is 0; that of p = ±inf is shared by ties.
    """
    p = 2.0 if p == "fro" else float(p)
    if math.isinf(p):
        return (amax if p > 0 else amin)(absolute(x), dim, keepdim)
    a, axes, kept, shape = _frame("norm", x, dim, keepdim, floats=True)
    with np.errstate(all="ignore"):
        if p == 0:
            y = np.count_nonzero(a, axes, keepdims=True)
        else:
            total = _sum(np.square(a) if p == 2 else np.abs(a) ** p, axes)
            y = np.sqrt(total) if p == 2 else total ** (1 / p)
    y = np.asarray(y, a.dtype)

    def norm(g: Array) -> tuple[Array]:
        with np.errstate(all="ignore"):
            slope = a / y if p == 2 else np.sign(a) * (np.abs(a) / y) ** (p - 1)
            flat = (y == 0) | (a == 0) | (p == 0)
            return (np.where(flat, 0, g.reshape(kept) * slope).astype(a.dtype, copy=False),)

    return record(y.reshape(shape), (x,), norm, saved=(x,), save_output=True)


@_public
def logsumexp(x: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """ln Σ eˣ over `dim`, with the maximum taken out, so that nothing overflows."""
    a, axes, kept, shape = _frame("logsumexp", x if x.dtype.kind == "f" else x.to(float32), dim, keepdim)
    with np.errstate(all="ignore"):
        top = np.max(a, axes, keepdims=True, initial=-np.inf)
        top = np.where(np.isinf(top), 0, top).astype(a.dtype)
        e = np.subtract(a, top, out=layout.empty_like(a))
        y = np.asarray(np.log(_sum(np.exp(e, out=e), axes)) + top)

    def logsumexp(g: Array) -> tuple[Array]:
        with np.errstate(all="ignore"):
            e = np.subtract(a, np.where(np.isneginf(y), 0, y), out=layout.empty_like(a))
            return (np.multiply(np.exp(e, out=e), g.reshape(kept), out=e),)

    return record(y.reshape(shape), (x,), logsumexp, saved=(x,), save_output=True)


@_public
def cumsum(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """yᵢ = Σ x over the places 0 to i of `dim`, float32 summed in float64; bool and integers in int64."""
    x = x if dtype is None else x.to(dtype)
    axis, wide = axis_of("cumsum", dim, x.ndim), float64 if x.dtype.kind == "f" else int64

    def run(values: Array, step: int = 1) -> tuple[Array]:
        y = layout.empty_like(values, values.dtype if values.dtype.kind == "f" else int64)
        along = (*(slice(None),) * axis, slice(None, None, step)) if y.ndim else ()
        with np.errstate(all="ignore"):
            y[along] = np.add.accumulate(values[along], axis, wide) if y.ndim else values
        return (y,)

    return record(run(x.array)[0], (x,), lambda g: run(g, -1))


# Extremes --------------------------------------------------------------------------------------------------------

def _extreme(name: str, word: str, ufunc: np.ufunc) -> Callable[..., Tensor]:
    def op(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
        a, axes, kept, shape = _frame(name, x, dim, keepdim, some=True)
        y = np.asarray(ufunc.reduce(a, axes, keepdims=True))

        def backward(g: Array) -> tuple[Array]:
            ties = (a == y) | (np.isnan(y) & np.isnan(a))
            share = g.reshape(kept) / np.count_nonzero(ties, axes, keepdims=True).astype(a.dtype)
            return (np.multiply(ties, share, out=layout.empty_like(a)),)

        backward.__qualname__ = name
        return record(y.reshape(shape), (x,), backward, saved=(x,), save_output=True)

    return _public(op, name, f"The {word} over `dim`, NaN if there is one; ties share the gradient evenly.")


def _position(name: str, word: str, find: Callable) -> Callable[..., Tensor]:
    def op(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        _frame(name, x, dim, keepdim, some=True)
        axis = None if dim is None or not x.ndim else axis_of(name, dim, x.ndim)
        return Tensor(np.asarray(find(x.array, axis, keepdims=keepdim), int64))

    return _public(op, name, f"Where the {word} over `dim` is (int64): the first of ties, or of NaN if there is one.")


def _pick(op: str, x: Tensor, indices: Array, axis: int) -> ValuesIndices:
    """The values at different `indices` along `axis`, which get the gradients."""
    a, before = np.atleast_1d(x.array), x.shape
    places, shape, zeros = np.atleast_1d(indices), indices.shape if x.ndim else (), zeros_maker(a)

    def backward(g: Array) -> tuple[Array]:
        gx = zeros(g.dtype)
        np.put_along_axis(gx, places, g.reshape(places.shape), axis)
        return (gx.reshape(before),)

    backward.__qualname__ = op
    values = np.take_along_axis(a, places, axis)
    return ValuesIndices(record(values.reshape(shape), (x,), backward), Tensor(places.reshape(shape).copy()))


def _either(name: str, word: str, find: Callable, whole: Callable, two: Callable) -> Callable[..., Any]:
    def op(x: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
        if other is not None or isinstance(dim, Tensor):
            return two(x, dim if other is None else other)
        if dim is None:
            return whole(x)
        axis = axis_of(name, dim, x.ndim)
        found = _pick(name, x, find(x, dim, True).array, axis)
        return found if keepdim else ValuesIndices(*(squeeze(v, axis) for v in found))

    return _public(op, name, f"""The {word} element; ties share the gradient. With `dim` the pair (values, indices)
    along it, where the first of ties gets the gradient. With a second tensor the {word} of the two, by element.""")


amax, amin = _extreme("amax", "largest", np.maximum), _extreme("amin", "smallest", np.minimum)
argmax, argmin = _position("argmax", "largest", np.argmax), _position("argmin", "smallest", np.argmin)
max = _either("max", "largest", argmax, amax, maximum)
min = _either("min", "smallest", argmin, amin, minimum)


# Truth and order ---------------------------------------------------------------------------------------------------

def _truth(name: str, word: str, ufunc: np.ufunc) -> Callable[..., Tensor]:
    def op(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
        y = ufunc.reduce(x.array, axes_of(name, dim, x.ndim), bool_, keepdims=keepdim)
        return Tensor(np.asarray(y, uint8 if x.dtype == uint8 else bool_))

    return _public(op, name, f"Whether {word} over `dim` true (not 0); uint8 for uint8, else bool.")


all = _truth("all", "all elements are", np.logical_and)
any = _truth("any", "an element is", np.logical_or)


def _order(a: Array, axis: int, descending: bool) -> Array:
    """Indices that sort `a` stably, NaN above all."""
    if not descending:
        return np.argsort(a, axis, kind="stable")
    order = np.argsort(np.flip(a, axis), axis, kind="stable")  # the last of ties first, in mirror writing
    return np.flip(a.shape[axis] - 1 - order, axis)


@_public
def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
    """(values, indices) in order along `dim`, NaN as the largest. Always stable."""
    axis = axis_of("sort", dim, x.ndim)
    return _pick("sort", x, _order(np.atleast_1d(x.array), axis, descending), axis)


@_public
def argsort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices of `sort`."""
    return sort(x.detach(), dim, descending, stable).indices


@_public
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """(values, indices) of the `k` largest (or smallest) along `dim`, always sorted; the first of ties wins."""
    axis, a = axis_of("topk", dim, x.ndim), np.atleast_1d(x.array)
    if not 0 <= k <= a.shape[axis]:
        raise ShapeError(f"topk: k must be from 0 to {a.shape[axis]}, the size of dim {dim}, but {k} came")
    return _pick("topk", x, _order(a, axis, largest)[(*(slice(None),) * axis, slice(k))], axis)


install(**{name: globals()[name] for name in __all__})
