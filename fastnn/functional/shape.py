"""Shapes: views where memory allows, copies where it does not; joining and splitting.

A view shares memory: a change in place shows in both. 4-D activations are stored channels-last, so a `reshape` or
`view` that merges C with H or W copies, into the order of the indices (N, C, H, W) that users of PyTorch read.
Errors: ShapeError for sizes that do not fit, IndexError for a `dim` out of range, TypeError for what is not an int.
"""
from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.errors import RangeError, ShapeError
from fastnn.tensor import Tensor, record, result_dtype, unbroadcast, view_of

Array = np.ndarray
Index = tuple[Any, ...]

__all__ = [
    "broadcast_to", "cat", "chunk", "concat", "contiguous", "expand", "expand_as", "flatten", "flip", "movedim",
    "permute", "repeat", "reshape", "roll", "split", "squeeze", "stack", "swapaxes", "t", "transpose", "unbind",
    "unflatten", "unsqueeze", "view", "view_as",
]  # fmt: skip


# Arguments -------------------------------------------------------------------------------------------------------

def axis_of(op: str, dim: int, ndim: int, least: int = 1) -> int:
    """`dim` counted from the front; a 0-d tensor takes 0 and -1, as in PyTorch, unless `least` is 0."""
    try:
        axis, n = operator.index(dim), max(ndim, least)
    except TypeError:
        raise TypeError(f"{op}: dim must be an int, but {dim!r} came") from None
    if not -n <= axis < n:
        raise RangeError(f"{op}: dim {axis} is out of range; for {ndim} dimensions it must be from {-n} to {n - 1}")
    return axis % n


def axes_of(op: str, dim: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """`dim` as a tuple of different axes; None and () mean all of them."""
    dims = () if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    if not dims:
        return tuple(range(ndim))
    axes = tuple([axis_of(op, d, ndim) for d in dims])
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{op}: dim {dim} names a dimension twice")
    return axes if ndim else ()


def _ints(op: str, values: tuple[Any, ...]) -> tuple[int, ...]:
    """The integers of `op(1, 2)` and of `op((1, 2))`."""
    if len(values) == 1 and isinstance(values[0], Sequence):
        values = tuple(values[0])
    try:
        return tuple(operator.index(v) for v in values)
    except TypeError:
        raise TypeError(f"{op}: integers are needed, but {values} came") from None


# Views -----------------------------------------------------------------------------------------------------------

def zeros_maker(a: Array) -> Callable[[np.dtype], Array]:
    """Makes zeros in a's shape and memory order, for a gradient, without keeping `a` alive."""
    shape, order = a.shape, layout.is_channels_last(a)

    def zeros(dtype: np.dtype) -> Array:
        out = layout.empty(shape, dtype, order)
        out.fill(0)
        return out

    return zeros


def take_view(x: Tensor, index: Index) -> Tensor:
    """The view x[index] for a tuple of integers, slices, None and Ellipsis."""
    zeros = zeros_maker(x.array)

    def slice(g: Array) -> tuple[Array]:
        gx = zeros(g.dtype)
        gx[index] = g
        return (gx,)

    return view_of(x, x.array[index], slice, lambda a: a[index])


def _reshape(x: Tensor, shape: tuple[int, ...], copy: bool = True, op: str = "reshape") -> Tensor:
    a, old = x.array, x.shape
    y = a.reshape(shape)
    if np.may_share_memory(y, a):
        return view_of(x, y, lambda g: (g.reshape(old),), lambda b: b.reshape(shape))
    if not copy and a.size and not layout.is_channels_last(a):
        raise ShapeError(f"{op}: memory does not allow to view shape {old} as {shape}; use reshape")
    return record(y, (x,), lambda g: (g.reshape(old),))


def _fitting(op: str, sizes: tuple[int, ...], n: int, what: str) -> tuple[int, ...]:
    """`sizes` with a -1 replaced such that they make `n` elements."""
    known = math.prod(s for s in sizes if s != -1)
    if sizes.count(-1) == 1 and known > 0 and n % known == 0:
        sizes = tuple(n // known if s == -1 else s for s in sizes)
    if min(sizes, default=0) < 0 or math.prod(sizes) != n:
        raise ShapeError(f"{op}: shape {sizes} does not fit {what} ({n} elements)")
    return sizes


def reshape(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """`x` with another shape of as many elements in index order, a view if possible; -1 is what is left."""
    return _reshape(x, _fitting("reshape", _ints("reshape", shape), x.array.size, f"a tensor of shape {x.shape}"))


def view(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """As `reshape`, but refuses (ShapeError) where memory must be copied, unless a channels-last `x` is the cause."""
    sizes = _fitting("view", _ints("view", shape), x.array.size, f"a tensor of shape {x.shape}")
    return _reshape(x, sizes, copy=False, op="view")


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim`, both included, merged into one."""
    first, last = axis_of("flatten", start_dim, x.ndim), axis_of("flatten", end_dim, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return _reshape(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension `dim` split into `sizes`, one of which may be -1."""
    axis = axis_of("unflatten", dim, x.ndim)
    sizes = _fitting("unflatten", _ints("unflatten", (sizes,)), x.shape[axis], f"dim {dim} of shape {x.shape}")
    return _reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


def squeeze(x: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the dimensions of size 1: all of them, or those that `dim` names."""
    axes = axes_of("squeeze", dim, x.ndim)
    return _reshape(x, tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at `dim`."""
    axis = axis_of("unsqueeze", dim, x.ndim + 1)
    return _reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def permute(x: Tensor, *sequence: int | Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    """Dimensions in another order: size i of the result is size dims[i] of `x`; dims as in `flip`."""
    order = tuple(axis_of("permute", d, x.ndim) for d in _ints("permute", sequence or (dims,)))
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"permute: dims {order} must name each of the {x.ndim} dimensions once")
    y = x.array.transpose(order)
    return view_of(x, y, lambda g: (g.transpose(np.argsort(order)),), lambda a: a.transpose(order))


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Dimensions `dim0` and `dim1` exchanged."""
    i, j = axis_of("transpose", dim0, x.ndim), axis_of("transpose", dim1, x.ndim)
    exchanged = {i: j, j: i}
    return permute(x, [exchanged.get(k, k) for k in range(x.ndim)])


swapaxes = transpose


def movedim(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dimensions `source` moved to the places `destination`, the others in their order."""
    return permute(x, np.moveaxis(np.empty(range(x.ndim)), source, destination).shape)  # the sizes tell the order


def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or a 0-d tensor as it is."""
    if x.ndim > 2:
        raise ShapeError(f"t: a tensor of at most 2 dimensions is needed, but the shape is {x.shape}")
    return permute(x, range(x.ndim)[::-1])


def expand(x: Tensor, *sizes: int | Sequence[int]) -> Tensor:
    """`x` repeated along dimensions of size 1 and new leading ones, without copying; -1 keeps a size."""
    wanted, old = _ints("expand", sizes), x.shape
    new = len(wanted) - x.ndim
    shape = tuple(old[i - new] if n == -1 and i >= new else n for i, n in enumerate(wanted))
    if new < 0 or any(n < 0 for n in shape) or any(a not in (1, b) for a, b in zip(old, shape[new:], strict=True)):
        raise ShapeError(f"expand: a tensor of shape {old} does not expand to {wanted}")
    y = np.broadcast_to(x.array, shape)
    return view_of(x, y, lambda g: (unbroadcast(g, old),), lambda a: np.broadcast_to(a, shape))


def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """`x` expanded to the shape of `other`."""
    return expand(x, other.shape)


def view_as(x: Tensor, other: Tensor) -> Tensor:
    """`x` viewed with the shape of `other`."""
    return view(x, other.shape)


broadcast_to = expand


def contiguous(x: Tensor) -> Tensor:
    """`x` in C-contiguous memory: itself if it is already, else a copy."""
    return x if x.array.flags.c_contiguous else record(layout.contiguous(x.array), (x,), lambda g: (g,))


def split(x: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces along `dim`: of one size, the last may be smaller, or of the sizes listed."""
    axis, sizes = axis_of("split", dim, x.ndim, 0), split_size_or_sections
    n = x.shape[axis]
    if isinstance(sizes, int):
        if sizes < 1 and (n or sizes):
            raise ShapeError(f"split: the size of a piece must be positive, but {sizes} came")
        sizes = [min(sizes, n - i) for i in range(0, n, sizes)] if n else [0]
    if min(sizes, default=0) < 0 or sum(sizes) != n:
        raise ShapeError(f"split: sizes {list(sizes)} do not sum to {n}, the size of dim {dim} of shape {x.shape}")
    ends, before = np.cumsum(sizes).tolist(), (slice(None),) * axis
    return tuple(take_view(x, (*before, slice(e - size, e))) for size, e in zip(sizes, ends, strict=True))


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of at most `chunks` pieces along `dim`, each of size ⌈n / chunks⌉ but the last."""
    if chunks < 1:
        raise ShapeError(f"chunk: chunks must be positive, but {chunks} came")
    n = x.shape[axis_of("chunk", dim, x.ndim, 0)]
    return split(x, -(-n // chunks) if n else [0] * chunks, dim)


def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of the slices along `dim`, without that dimension."""
    axis = axis_of("unbind", dim, x.ndim, 0)
    return tuple(take_view(x, (*(slice(None),) * axis, i, ...)) for i in range(x.shape[axis]))


# Copies ----------------------------------------------------------------------------------------------------------

def _tensors(op: str, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if not isinstance(tensors, tuple | list) or not all(isinstance(x, Tensor) for x in tensors):
        raise TypeError(f"{op}: a tuple or list of Tensors is needed")
    if not tensors:
        raise ShapeError(f"{op}: at least one tensor is needed")
    return tuple(tensors)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along `dim`, their other sizes being equal. Those of shape (0,) are ignored, as in PyTorch."""
    tensors, dtype = _tensors("cat", tensors), result_dtype(*tensors)
    tensors = tuple(x for x in tensors if x.shape != (0,)) or tensors[:1]
    arrays, dtypes = [x.array for x in tensors], [x.dtype for x in tensors]
    axis, shape = axis_of("cat", dim, arrays[0].ndim), list(arrays[0].shape)
    rest = [(*a.shape[:axis], *a.shape[axis + 1 :]) for a in arrays]
    if not shape or rest != rest[:1] * len(rest):
        raise ShapeError(f"cat: shapes {[a.shape for a in arrays]} may differ in dim {dim} only")
    ends = np.cumsum([a.shape[axis] for a in arrays]).tolist()
    shape[axis] = ends[-1]

    def cat(g: Array) -> tuple[Array, ...]:
        return tuple(part.astype(d, copy=False) for part, d in zip(np.split(g, ends[:-1], axis), dtypes, strict=True))

    return record(np.concatenate(arrays, axis, out=layout.empty_for(shape, dtype, *arrays)), tensors, cat)


concat = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension `dim`."""
    tensors = _tensors("stack", tensors)
    if any(x.shape != tensors[0].shape for x in tensors):
        raise ShapeError(f"stack: tensors must have one shape, but {[tuple(x.shape) for x in tensors]} came")
    axis = axis_of("stack", dim, tensors[0].ndim + 1)
    return cat([unsqueeze(x, axis) for x in tensors], axis)


def repeat(x: Tensor, *sizes: int | Sequence[int]) -> Tensor:
    """`x` repeated sizes[i] times along dimension i (`numpy.tile`); more sizes than dimensions make leading ones."""
    times, old = _ints("repeat", sizes), x.shape
    if len(times) < x.ndim or min(times, default=0) < 0:
        raise ShapeError(f"repeat: at least {x.ndim} sizes, none negative, are needed, but {times} came")
    padded = (1,) * (len(times) - x.ndim) + tuple(old)
    each = tuple(n for pair in zip(times, padded, strict=True) for n in pair)  # times and size of every dimension
    once = tuple(n for size in padded for n in (1, size))
    y = np.tile(x.array, times)
    y = layout.channels_last(y) if layout.is_channels_last(x.array) and y.ndim == 4 else y
    return record(y, (x,), lambda g: (unbroadcast(g.reshape(each), once).reshape(old),))


def _rearranged(x: Tensor, forward: Callable[[Array], Array], inverse: Callable[[Array], Array]) -> Tensor:
    y = layout.empty_like(x.array)
    y[...] = forward(x.array)
    return record(y, (x,), lambda g: (inverse(g),))


def flip(x: Tensor, *order: int | Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    """A copy with the elements reversed along dims: flip(x, 0, 1), flip(x, (0, 1)) or flip(x, dims=(0, 1))."""
    named = _ints("flip", order or (dims,))
    axes = axes_of("flip", named, x.ndim) if named else ()
    return _rearranged(x, lambda a: np.flip(a, axes), lambda g: np.flip(g, axes))


def roll(x: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """A copy with elements shifted along `dims`, those pushed out entering at the other end; None: as if flat."""
    by, named = _ints("roll", (shifts,)), (dims,) if isinstance(dims, int) else dims
    if len(by) != (1 if named is None else len(named)):
        raise ShapeError(f"roll: {len(by)} shifts need as many dims, but dims is {dims}")
    axes = None if named is None or not x.ndim else tuple(axis_of("roll", d, x.ndim) for d in named)
    return _rearranged(x, lambda a: np.roll(a, by, axes), lambda g: np.roll(g, np.negative(by), axes))


def install(**methods: Any) -> None:
    """Put methods on Tensor."""
    for name, method in methods.items():
        setattr(Tensor, name, method)


install(**{name: globals()[name] for name in __all__ if name not in ("cat", "concat", "stack")})
install(T=property(lambda x: permute(x, range(x.ndim)[::-1])), mT=property(lambda x: transpose(x, -2, -1)))
