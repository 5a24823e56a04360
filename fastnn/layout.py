"""Memory order of arrays: shapes are PyTorch's, and 4-D activations are stored channels-last.

An array of shape (N, C, H, W) is *channels-last* when its memory runs N, H, W, C. NumPy keeps that order only while
all operands have it, so every operation allocates its own output here and passes `out=`. The strides of axes of
size 1 say nothing and are never read."""
import operator
from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray
copyto: Callable[..., None] = np.copyto  # backend puts the threaded kernel here, where arrays are large


def channels_last(a: Array) -> Array:
    """4-D `a` in memory order N, H, W, C, aligned and in native bytes: itself if it is already, else a copy."""
    return a if is_channels_last(a) and sound(a) else _copied(a, True)


def contiguous(a: Array) -> Array:
    """`a` in C order, aligned and in native bytes: itself if it is already, else a copy."""
    return a if a.flags.c_contiguous and sound(a) else _copied(a, False)


def _copied(a: Array, channels_last: bool) -> Array:
    out = empty(a.shape, a.dtype.newbyteorder("="), channels_last)
    copyto(out, a)
    return out


def dense(a: Array) -> Array:
    """`a` if it is C-contiguous or channels-last, else a copy in C order."""
    return a if is_channels_last(a) and sound(a) else contiguous(a)


def _empty(shape: Sequence[int], dtype: np.dtype | type, channels_last: bool = False) -> Array:
    """An uninitialized array; `channels_last` asks for memory order N, H, W, C under a 4-D shape (N, C, H, W)."""
    if channels_last:
        N, C, H, W = shape
        return np.empty((N, H, W, C), dtype).transpose(0, 3, 1, 2)
    return np.empty(shape, dtype)


def _is_channels_last(a: Array) -> bool:
    """Whether `a` is 4-D with memory order N, H, W, C."""
    return a.ndim == 4 and a.transpose(0, 2, 3, 1).flags.c_contiguous


def _sound(a: Array) -> bool:
    """Whether `a` is aligned and in native bytes, as kernels need it."""
    return a.flags.aligned and a.dtype.isnative


try:
    from fastnn._memory import Block, empty, is_channels_last, same_order, sound  # the same; memory is the pool's
except ImportError:  # not compiled; fastnn.backend says so, unless the reference kernels are asked for
    Block, empty, is_channels_last, sound = None, _empty, _is_channels_last, _sound
    same_order = operator.is_  # False may be wrong, True is not


def owns(a: Array) -> bool:
    """Whether a's memory is its own, so that it has no other holders than those of `a` and of its views."""
    return a.base is None or type(a.base) is Block


def empty_like(a: Array, dtype: np.dtype | type | None = None) -> Array:
    """An uninitialized array of `a`'s shape: channels-last if `a` is, else C order."""
    return empty(a.shape, a.dtype if dtype is None else dtype, not a.flags.c_contiguous and is_channels_last(a))


def empty_for(shape: Sequence[int], dtype: np.dtype | type, *operands: Array) -> Array:
    """The output of an operation that broadcasts: channels-last if it is 4-D and an operand is, else C order."""
    return empty(shape, dtype, len(shape) == 4 and any(is_channels_last(a) for a in operands))


def match(grad: Array, a: Array) -> Array:
    """`grad` in the memory order of `a`, which may be any: itself if it has it already, else a copy."""
    if same_order(grad, a):
        return grad
    out = empty_permuted(a, a.dtype)
    if grad.dtype == a.dtype and grad.shape == a.shape and all(
            n == 1 or s == t for n, s, t in zip(a.shape, grad.strides, out.strides, strict=True)):
        return grad
    copyto(out, grad, casting="same_kind")
    return out


def empty_permuted(a: Array, dtype: np.dtype) -> Array:
    """An uninitialized dense array of `a`'s shape and order of axes in memory, which may be any, such as a weight's."""
    axes = sorted(range(a.ndim), key=lambda i: -abs(a.strides[i]))
    back = sorted(range(a.ndim), key=axes.__getitem__)
    return empty([a.shape[i] for i in axes], dtype).transpose(back)
