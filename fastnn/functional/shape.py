"""Shapes: views, which share memory, where memory allows, copies where it does not; joining and splitting.

4-D activations are stored channels-last, so a `reshape` or `view` that merges C with H or W copies, into the order of
the indices (N, C, H, W). ShapeError for sizes that do not fit, RangeError for a `dim` out of range, else TypeError."""
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.errors import RangeError, ShapeError
from fastnn.tensor import Array, Tensor, ints, record, result_dtype, unbroadcast, view_of

Ints = int | Sequence[int]

__all__ = [
    "broadcast_to", "cat", "chunk", "concat", "contiguous", "expand", "flatten", "flip", "permute", "repeat", "reshape",
    "roll", "split", "squeeze", "stack", "swapaxes", "t", "transpose", "unflatten", "unsqueeze", "view"]  # fmt: skip


def axis_of(op: str, dim: int, ndim: int, least: int = 1) -> int:
    """`dim` counted from the front; a 0-d tensor takes 0 and -1, as in PyTorch, unless `least` is 0."""
    n = ndim or least
    try:
        if -n <= operator.index(dim) < n:
            return operator.index(dim) % n
    except TypeError:
        raise TypeError(f"{op}: dim must be an int, but {dim!r} came") from None
    raise RangeError(f"{op}: dim {dim} is out of range; for {ndim} dimensions it must be from {-n} to {n - 1}")


def axes_of(op: str, dim: Ints | None, ndim: int) -> tuple[int, ...]:
    """`dim` as a tuple of different axes; None and () mean all of them."""
    dims = () if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    axes = tuple([axis_of(op, d, ndim) for d in dims])
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{op}: dim {dim} names a dimension twice")
    return axes if axes and ndim else tuple(range(ndim))


def selection(name: str, a: Array, put: Callable[[Array, Array], Any]) -> Callable[[Array], tuple[Array]]:
    """The backward pass of a selection from `a`: put(zeros of a's shape and memory order, gradient)."""
    shape, order = a.shape, layout.is_channels_last(a)

    def backward(g: Array) -> tuple[Array]:
        gx = layout.empty(shape, g.dtype, order)
        gx.fill(0)
        put(gx, g)
        return (gx,)

    backward.__qualname__ = name
    return backward


def take_view(x: Tensor, index: tuple[Any, ...]) -> Tensor:
    """The view x[index] for a tuple of integers, slices, None and Ellipsis."""
    back = selection("slice", x.array, lambda gx, g: gx.__setitem__(index, g))
    return view_of(x, lambda a: a[index], back)


def _reshape(x: Tensor, shape: tuple[int, ...], op: str = "reshape") -> Tensor:
    a, old = x.array, x.shape
    y = a.reshape(shape) if a.size < 512 or a.flags.c_contiguous or not layout.is_channels_last(a) else None
    if y is None:  # where NumPy would copy, on one thread
        try:
            y = a.reshape(shape, copy=False)
        except ValueError:
            y = layout.contiguous(a).reshape(shape)
        except TypeError:  # NumPy 2.0 has no `copy`
            y = a.reshape(shape)
    if (y.base is a and a.size) or np.may_share_memory(y, a):
        return view_of(x, lambda b: b.reshape(shape), lambda g: (g.reshape(old),))
    if op == "view" and a.size and not layout.is_channels_last(a):
        raise ShapeError(f"view: memory does not allow to view shape {old} as {shape}; use reshape")
    return record(y, (x,), lambda g: (g.reshape(old),))


def _fitted(op: str, x: Tensor, first: int, last: int, values: Any) -> Tensor:
    """`x` with its dimensions from `first` to before `last` replaced by sizes of as many elements, one maybe -1."""
    sizes, n = ints(op, values), math.prod(x.shape[first:last])
    known = math.prod([s for s in sizes if s != -1])
    if sizes.count(-1) == 1 and known > 0 and n % known == 0:
        sizes = tuple([n // known if s == -1 else s for s in sizes])
    if min(sizes, default=0) < 0 or math.prod(sizes) != n:
        raise ShapeError(f"{op}: shape {sizes} does not fit a tensor of shape {x.shape} ({n} elements)")
    return _reshape(x, (*x.shape[:first], *sizes, *x.shape[last:]), op)


def reshape(x: Tensor, *shape: Ints) -> Tensor:
    """`x` with another shape of as many elements in index order, a view if possible; -1 is what is left."""
    return _fitted("reshape", x, 0, x.ndim, shape)


def view(x: Tensor, *shape: Ints) -> Tensor:
    """As `reshape`, but refuses (ShapeError) where memory must be copied, unless a channels-last `x` is the cause."""
    return _fitted("view", x, 0, x.ndim, shape)


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension `dim` split into `sizes`, one of which may be -1."""
    axis = axis_of("unflatten", dim, x.ndim)
    return _fitted("unflatten", x, axis, axis + 1, sizes)


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim`, both included, merged into one."""
    first, last = axis_of("flatten", start_dim, x.ndim), axis_of("flatten", end_dim, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return _fitted("flatten", x, first, last + 1, -1)


def squeeze(x: Tensor, dim: Ints | None = None) -> Tensor:
    """Without the dimensions of size 1: all of them, or those that `dim` names."""
    axes = axes_of("squeeze", dim, x.ndim)
    return _reshape(x, tuple([n for i, n in enumerate(x.shape) if n != 1 or i not in axes]))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at `dim`."""
    axis = axis_of("unsqueeze", dim, x.ndim + 1)
    return _reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def permute(x: Tensor, *sequence: Ints, dims: Sequence[int] = ()) -> Tensor:
    """Dimensions in another order: size i of the result is size dims[i] of `x`; dims as in `flip`."""
    order = tuple([axis_of("permute", d, x.ndim) for d in ints("permute", sequence or dims)])
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"permute: dims {order} must name each of the {x.ndim} dimensions once")
    return view_of(x, lambda a: a.transpose(order), lambda g: (g.transpose(np.argsort(order)),))


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Dimensions `dim0` and `dim1` exchanged."""
    i, j = axis_of("transpose", dim0, x.ndim), axis_of("transpose", dim1, x.ndim)
    return permute(x, [{i: j, j: i}.get(k, k) for k in range(x.ndim)])


def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or a 0-d tensor as it is."""
    if x.ndim > 2:
        raise ShapeError(f"t: a tensor of at most 2 dimensions is needed, but the shape is {x.shape}")
    return permute(x, range(x.ndim)[::-1])


def expand(x: Tensor, *sizes: Ints) -> Tensor:
    """`x` repeated along dimensions of size 1 and new leading ones, without copying; -1 keeps a size."""
    wanted, old = ints("expand", sizes), x.shape
    new = len(wanted) - x.ndim
    shape = tuple([old[i - new] if n == -1 and i >= new else n for i, n in enumerate(wanted)])
    if new < 0 or min(shape, default=0) < 0 or any(a not in (1, b) for a, b in zip(old, shape[new:], strict=True)):
        raise ShapeError(f"expand: a tensor of shape {old} does not expand to {wanted}")
    return view_of(x, lambda a: np.broadcast_to(a, shape), lambda g: (unbroadcast(g, old),))


def split(x: Tensor, split_size_or_sections: Ints, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces along `dim`: of one size, the last may be smaller, or of the sizes listed."""
    axis, sizes = axis_of("split", dim, x.ndim, 0), split_size_or_sections
    n = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, n - i) for i in range(0, n, max(sizes, 1))] or [sizes]
    if min(sizes, default=0) < 0 or sum(sizes) != n:
        raise ShapeError(f"split: sizes {list(sizes)} must be positive and sum to {n}, size {dim} of shape {x.shape}")
    pieces = [slice(end - size, end) for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)]
    return tuple([take_view(x, (*(slice(None),) * axis, piece)) for piece in pieces])


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of at most `chunks` pieces along `dim`, each of size ⌈n / chunks⌉ but the last."""
    if chunks < 1:
        raise ShapeError(f"chunk: chunks must be positive, but {chunks} came")
    n = x.shape[axis_of("chunk", dim, x.ndim, 0)]
    return split(x, -(-n // chunks) if n else [0] * chunks, dim)


def contiguous(x: Tensor) -> Tensor:
    """`x` in C-contiguous memory: itself if it is already, else a copy."""
    return x if x.array.flags.c_contiguous else record(layout.contiguous(x.array), (x,), lambda g: (g,))


def _tensors(op: str, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if not isinstance(tensors, tuple | list) or not all(isinstance(x, Tensor) for x in tensors):
        raise TypeError(f"{op}: a tuple or list of Tensors is needed")
    if not tensors:
        raise ShapeError(f"{op}: at least one tensor is needed")
    return tuple(tensors)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along `dim`, their other sizes being equal. Those of shape (0,) are ignored, as in PyTorch."""
    tensors, dtype = _tensors("cat", tensors), result_dtype(*tensors)
    tensors = tuple([x for x in tensors if x.shape != (0,)]) or tensors[:1]
    arrays, dtypes = [x.array for x in tensors], [x.dtype for x in tensors]
    axis, shape = axis_of("cat", dim, arrays[0].ndim), list(arrays[0].shape)
    if not shape or len({(*a.shape[:axis], -1, *a.shape[axis + 1 :]) for a in arrays}) > 1:
        raise ShapeError(f"cat: shapes {[a.shape for a in arrays]} may differ in dim {dim} only")
    ends = np.cumsum([a.shape[axis] for a in arrays]).tolist()
    shape[axis] = ends[-1]

    def cat(g: Array) -> tuple[Array, ...]:
        return tuple([part.astype(d, copy=False) for part, d in zip(np.split(g, ends[:-1], axis), dtypes, strict=True)])

    return record(np.concatenate(arrays, axis, out=layout.empty_for(shape, dtype, *arrays)), tensors, cat)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension `dim`."""
    tensors = _tensors("stack", tensors)
    if any(x.shape != tensors[0].shape for x in tensors):
        raise ShapeError(f"stack: tensors must have one shape, but {[tuple(x.shape) for x in tensors]} came")
    axis = axis_of("stack", dim, tensors[0].ndim + 1)
    return cat([unsqueeze(x, axis) for x in tensors], axis)


def _rearranged(x: Tensor, y: Array, inverse: Callable[[Array], Array]) -> Tensor:
    """A copy of `y`, made from x.array, in its memory order; `inverse` turns y's gradient into x's."""
    out = layout.empty_for(y.shape, y.dtype, x.array)
    out[...] = y
    return record(out, (x,), lambda g: (inverse(g),))


def repeat(x: Tensor, *sizes: Ints) -> Tensor:
    """`x` repeated sizes[i] times along dimension i; more sizes than dimensions make leading ones."""
    times, old = ints("repeat", sizes), x.shape
    if len(times) < x.ndim or min(times, default=0) < 0:
        raise ShapeError(f"repeat: at least {x.ndim} sizes, none negative, are needed, but {times} came")
    pairs = list(zip(times, (1,) * (len(times) - x.ndim) + old, strict=True))
    each, once = (tuple([n for time, size in pairs for n in (time if many else 1, size)]) for many in (True, False))
    return _rearranged(x, np.tile(x.array, times), lambda g: unbroadcast(g.reshape(each), once).reshape(old))


def flip(x: Tensor, *order: Ints, dims: Sequence[int] = ()) -> Tensor:
    """A copy with the elements reversed along dims: flip(x, 0, 1), flip(x, (0, 1)) or flip(x, dims=(0, 1))."""
    named = ints("flip", order or dims)
    axes = axes_of("flip", named, x.ndim) if named else ()
    return _rearranged(x, np.flip(x.array, axes), lambda g: np.flip(g, axes))


def roll(x: Tensor, shifts: Ints, dims: Ints | None = None) -> Tensor:
    """A copy with elements shifted along `dims`, those pushed out entering at the other end; None: as if flat."""
    by, named = ints("roll", shifts), None if dims is None else ints("roll", dims)
    if len(by) != (1 if named is None else len(named)):
        raise ShapeError(f"roll: {len(by)} shifts need as many dims, but dims is {dims}")
    axes = None if named is None or not x.ndim else tuple([axis_of("roll", d, x.ndim) for d in named])
    return _rearranged(x, np.roll(x.array, by, axes), lambda g: np.roll(g, np.negative(by), axes))


def install(**methods: Any) -> None:
    """Put methods on Tensor."""
    for name, method in methods.items():
        setattr(Tensor, name, method)


broadcast_to, concat, swapaxes = expand, cat, transpose
install(**{name: globals()[name] for name in __all__ if name not in ("cat", "concat", "stack")})
install(view_as=lambda x, other: view(x, other.shape), expand_as=lambda x, other: expand(x, other.shape))
install(T=property(lambda x: permute(x, range(x.ndim)[::-1])), mT=property(lambda x: transpose(x, -2, -1)))
install(dim=lambda x: x.ndim, cpu=lambda x: x)
