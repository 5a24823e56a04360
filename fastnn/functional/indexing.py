"""Indexing and index assignment, and gathering by tensors of indices.

Integers, slices, None and Ellipsis give a view; tensors, arrays and lists of integers or bools a copy. As in PyTorch
integers are applied before arrays of indices, steps are positive, and gradients of repeated indices add up."""
import operator
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.errors import ArgumentError, DTypeError, RangeError, ShapeError
from fastnn.functional.elementwise import Op, choose, named, where
from fastnn.functional.shape import axis_of, broadcast_to, install, reshape, selection, take_view
from fastnn.tensor import Array, Tensor, as_tensor, bool_, changing, inplace, int64, record, unbroadcast

__all__ = ["embedding", "gather", "index_select", "masked_fill", "one_hot", "tril", "triu"]


def _parse(index: Any, shape: tuple[int, ...]) -> tuple[tuple, tuple | None]:
    """The part of an index that makes a view, and the arrays (None if there are none) to index the view with."""
    items = [_item(i) for i in (index if isinstance(index, tuple) else (index,))]
    used = sum(i.ndim if isinstance(i, Array) and i.dtype == bool_ else i is not None and i is not ... for i in items)
    if used > len(shape):
        raise IndexError(f"index: {used} indices for a tensor of shape {shape}")
    rest = [i for i in items if i is ...]
    if len(rest) > 1:
        raise IndexError("index: only one Ellipsis is allowed")
    basic: list[Any] = []
    arrays: list[Any] = []
    for i in items if rest else [*items, ...]:
        is_array = isinstance(i, Array)
        basic += [slice(None)] * (i.ndim if i.dtype == bool_ else 1) if is_array else [i]
        arrays += [i] if is_array else [slice(None)] * (len(shape) - used if i is ... else not isinstance(i, int))
    return tuple(basic), tuple(arrays) if any(isinstance(i, Array) for i in items) else None


def _item(i: Any) -> Any:
    """One index as an int, slice, None, Ellipsis, or an array of int64 or bool."""
    if i is None or i is ... or type(i) is int:
        return i
    if isinstance(i, slice):
        if i.step is not None and operator.index(i.step) < 1:
            raise ValueError(f"index: the step of a slice must be positive, but {i.step} came; use flip")
        return slice(*(None if v is None else operator.index(v) for v in (i.start, i.stop, i.step)))
    array = np.array(i.array if isinstance(i, Tensor) else i)  # a copy, as the gradient reads it later
    if array.dtype.kind not in "biu" and (array.size or isinstance(i, Tensor | Array)):
        raise IndexError(f"index: integers or bools are needed, but {i!r} came")
    return array if array.dtype == bool_ else array.astype(int64, copy=False) if array.ndim else int(array)


def _take(x: Tensor, arrays: tuple) -> Tensor:
    """x[arrays], in channels-last memory if a 4-D `x` is."""
    def add(gx: Array, g: Array) -> None:
        places = np.arange(gx.size).reshape(gx.shape)[arrays]
        gx += np.bincount(places.ravel(), g.ravel(), gx.size).reshape(gx.shape)  # in float64 and in a fixed order

    a, y = x.array, x.array[arrays]
    y = layout.channels_last(y) if y.ndim == 4 and layout.is_channels_last(a) else y
    return record(y, (x,), selection("index", a, add))


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index]."""
    basic, arrays = _parse(index, x.shape)
    return take_view(x, basic) if arrays is None else _take(take_view(x, basic), arrays)


def setitem(x: Tensor, index: Any, value: Tensor | Array | float) -> None:
    """x[index] = value, which broadcasts and is cast to x's dtype. Gradients flow to `value` and to what x keeps."""
    basic, arrays = _parse(index, x.shape)
    part = take_view(x, basic)
    source = (as_tensor(value, part) if isinstance(value, int | float) else as_tensor(value)).to(x.dtype)
    shape = part.shape if arrays is None else part.array[arrays].shape
    while source.ndim > len(shape) and source.shape[0] == 1:
        source = reshape(source, source.shape[1:])
    if arrays is None:
        inplace(part, broadcast_to(source, shape))
        return
    kept, given = layout.empty_like(part.array), source.shape
    np.copyto(kept, part.array)
    kept[arrays] = broadcast_to(source, shape).array

    def index_put(g: Array) -> tuple[Array, Array]:
        rest = g.copy(order="K")
        rest[arrays] = 0
        return rest, unbroadcast(g[arrays], given)

    inplace(part, record(kept, (part, source), index_put))


def _indices(op: str, index: Any, n: int) -> Array:
    if not isinstance(index, Tensor) or index.dtype.kind not in "iu":
        came = getattr(index, "dtype", type(index).__name__)
        raise DTypeError(f"{op}: index must be a tensor of integers, but {came} came")
    a = index.array
    if a.size and not (a.min() >= 0 and a.max() < n):
        raise RangeError(f"{op}: an index is out of range: from {a.min()} to {a.max()} came, the size is {n}")
    return a


def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i, j, …] = x[i, …, index[i, j, …], …], the index in the place of `dim`; elsewhere y may be smaller."""
    if not x.ndim and not index.ndim:
        return reshape(gather(reshape(x, 1), dim, reshape(index, 1)), ())
    axis = axis_of("gather", dim, x.ndim)
    if index.ndim != x.ndim or any(index.shape[i] > n and i != axis for i, n in enumerate(x.shape)):
        raise ShapeError(f"gather: index of shape {index.shape} does not fit a tensor of shape {x.shape} and dim {dim}")
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    grid[axis] = _indices("gather", index, x.shape[axis]).copy()
    return _take(x, tuple(grid))


def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of `x` along `dim` that the 1-D (or 0-d) tensor `index` lists."""
    if not x.ndim:
        return reshape(index_select(reshape(x, 1), dim, index), ())
    axis = axis_of("index_select", dim, x.ndim)
    rows = np.atleast_1d(_indices("index_select", index, x.shape[axis]))
    if rows.ndim > 1:
        raise ShapeError(f"index_select: index must have at most 1 dimension, but its shape is {index.shape}")
    return getitem(x, (slice(None),) * axis + (rows,))


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """The rows of `weight` (n, D) that `input`, integers of any shape, lists: (*) → (*, D).

    The row `padding_idx` gets no gradient. Rows used whose `norm_type`-norm is above `max_norm` are first scaled to it,
    in place. `scale_grad_by_freq` divides a row's gradient by how often it is used. Gradients are dense.

    >>> embedding(fastnn.tensor([1, 0, 1]), fastnn.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    """
    if sparse:
        raise ArgumentError("embedding: sparse gradients are not supported; leave out sparse=True")
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight must be (n, D), but its shape is {weight.shape}")
    (n, D), rows = weight.shape, _indices("embedding", input, len(weight)).astype(np.intp).ravel()
    if padding_idx is not None and not -n <= padding_idx < n:
        raise ArgumentError(f"embedding: padding_idx must be from {-n} to {n - 1}, but {padding_idx} came")
    if max_norm is not None:
        used = np.unique(rows)
        norms = np.linalg.norm(weight.array[used], norm_type, axis=1, keepdims=True)
        changing(weight)[used] *= np.where(norms > max_norm, max_norm / (norms + 1e-7), 1)

    def put(dw: Array, grad: Array) -> None:
        pairs = grad.dtype if D % 2 else np.result_type(grad, np.complex64)  # np.add.at is fast if flat, faster by twos
        flat, g = (a.reshape(-1).view(pairs) for a in (dw, layout.contiguous(grad)))
        width = len(flat) // max(n, 1)
        np.add.at(flat, (rows[:, None] * width + np.arange(width)).reshape(-1), g)
        if scale_grad_by_freq:
            dw /= np.maximum(np.bincount(rows, minlength=n), 1)[:, None].astype(dw.dtype)
        if padding_idx is not None:
            dw[padding_idx] = 0

    y = np.take(weight.array, rows, 0, out=layout.empty((len(rows), D), weight.dtype), mode="clip")  # the quickest way
    return record(y.reshape(*input.shape, D), (weight,), selection("embedding", weight.array, put))


def masked_fill(x: Tensor, mask: Tensor, value: Tensor | float) -> Tensor:
    """`x` with `value`, a number or a 0-d tensor, where `mask` is True; they broadcast."""
    filler = as_tensor(value, x).to(x.dtype)
    if filler.ndim:
        raise ShapeError(f"masked_fill: value must be a number or 0-d tensor, but its shape is {filler.shape}")
    return choose("masked_fill", "mask", mask, filler, x)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """The vectors (*, num_classes) that are 1 at the classes (*), else 0, int64; −1: one more than the largest class.
    DTypeError unless int64, RangeError for a class that is negative or too large, ShapeError for no classes."""
    if not isinstance(tensor, Tensor) or tensor.dtype != int64:
        raise DTypeError(f"one_hot: an int64 tensor is needed, but {getattr(tensor, 'dtype', type(tensor))} came")
    if num_classes < 1 and not (num_classes == -1 and tensor.numel()):
        raise ShapeError(f"one_hot: num_classes={num_classes} came for a tensor of shape {tensor.shape}")
    n = int(tensor.array.max()) + 1 if num_classes == -1 else num_classes
    return Tensor((_indices("one_hot", tensor, n)[..., np.newaxis] == np.arange(n)).astype(int64))


def _triangle(name: str, word: str, keep: Op) -> Op:
    def op(x: Tensor, diagonal: int = 0) -> Tensor:
        if x.ndim < 2:
            raise ShapeError(f"{name}: at least 2 dimensions are needed, but the shape is {x.shape}")
        return where(Tensor(keep(*x.shape[-2:], diagonal)), x, False)

    return named(op, name, f"The elements of each matrix on and {word} a diagonal, 0 elsewhere.")


tril = _triangle("tril", "below", lambda m, n, k: np.tri(m, n, k, bool_))
triu = _triangle("triu", "above", lambda m, n, k: ~np.tri(m, n, k - 1, bool_))
install(**{name: globals()[name] for name in __all__ if name != "embedding"}, __getitem__=getitem, __setitem__=setitem)
install(masked_fill_=lambda self, mask, value: inplace(self, masked_fill(self, mask, value)))
