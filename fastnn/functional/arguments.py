"""Arguments that several families take: float tensors, "an int or a pair", and the geometry of sliding windows."""
import operator
from collections.abc import Sequence
from typing import Any

from fastnn import layout
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.tensor import Array, Tensor, float32, float64

IntOrPair = int | Sequence[int]
Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair, Pair]  # kernel, stride, padding, dilation, each (height, width)
LARGEST = 2**28  # so that products of two do not overflow


def bind(self: Any, args: tuple, named: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, by the names and with the defaults of the signature that its class has."""
    try:
        bound = self.__signature__.bind(*args, **named)
    except TypeError as error:
        raise TypeError(f"{type(self).__name__}: {error}") from None
    bound.apply_defaults()
    return bound.arguments


def check_tensor(op: str, x: Any, name: str = "input") -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor, but a {type(x).__name__} came")


def alike(optional: Tensor | None, *tensors: Tensor) -> bool:
    """Whether these are float tensors of one dtype: the quick way past `same_float`, which tells what is wrong."""
    dtype = tensors[0].array.dtype if isinstance(tensors[0], Tensor) else None
    for t in tensors if optional is None else (*tensors, optional):
        if not isinstance(t, Tensor) or t.array.dtype is not dtype:
            return False
    return dtype is float32 or dtype is float64  # in native bytes these are two objects


def same_float(op: str, optional: dict[str, Tensor | None] | None = None, **tensors: Tensor) -> Array:
    """The first's array. TypeError if not tensors (optional ones may be None), DTypeError unless of one float dtype."""
    check_float(op, optional, **tensors)
    return next(iter(tensors.values())).array


def check_float(op: str, optional: dict[str, Tensor | None] | None = None, **tensors: Tensor) -> None:
    """What `same_float` refuses, without reading an array."""
    first = next(iter(tensors))
    for name, t in (tensors if optional is None else tensors | optional).items():
        if t is not None or name in tensors:
            check_tensor(op, t, name)
            dtype, common = t.dtype, tensors[first].dtype  # type: ignore[union-attr]
            if dtype.char not in "fd":
                raise DTypeError(f"{op}: {name} must be float32 or float64, but is {dtype}; use .float()")
            if dtype != common:
                raise DTypeError(f"{op}: {first} is {common}, but {name} is {dtype}; convert one of them, for example "
                                 f"by .to({common})")


def images(op: str, a: Array, axes: int = 2) -> Array:
    """The array of an input (N, C, H, W) or (C, H, W), if of one axis (N, C, L) or (C, L), as channels-last images
    (N, C, H, W), of height 1 if of one axis."""
    if a.ndim - axes not in (1, 2) or 0 in a.shape[-axes - 1:]:
        form = "C, H, W" if axes == 2 else "C, L"
        raise ShapeError(f"{op}: input must be (N, {form}) or ({form}), only N may be 0, but its shape is {a.shape}")
    a = a if axes == 2 else a[..., None, :]
    return layout.channels_last(a if a.ndim == 4 else a[None])


def pair(value: IntOrPair, op: str, name: str, least: int = 0, axes: int = 2) -> Pair:
    """`value` as (height, width), that of something with one axis as (least, value). DTypeError unless an int or as
    many as axes, ArgumentError below `least` or too large."""
    items: Any = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    items = (least, *items) if axes == 1 else items * 2 if len(items) == 1 else items
    if len(items) == 2 and type(items[0]) is type(items[1]) is int and least <= min(items) <= max(items) < LARGEST:
        return items
    try:
        h, w = map(operator.index, items)
    except (TypeError, ValueError):
        form = "a pair of ints" if axes == 2 else "a tuple of one"
        raise DTypeError(f"{op}: {name} must be an int or {form}, but {value!r} came") from None
    if h < least or w < least or max(h, w) >= LARGEST:
        raise ArgumentError(f"{op}: {name} must be at least {least}, and below {LARGEST}, but {value!r} came")
    return h, w


def geometry(op: str, kernel_size: IntOrPair, stride: IntOrPair, padding: IntOrPair | str, dilation: IntOrPair,
             named: bool = False, axes: int = 2) -> Geometry:
    """The four as pairs. `named` padding may be "valid" (0) or "same", half of what keeps the size at stride 1."""
    kernel, dilations = pair(kernel_size, op, "kernel_size", 1, axes), pair(dilation, op, "dilation", 1, axes)
    strides = pair(stride, op, "stride", 1, axes)
    if not (isinstance(padding, str) and named):
        return kernel, strides, pair(padding, op, "padding", 0, axes), dilations  # type: ignore[arg-type]
    if padding not in ("same", "valid"):
        raise ArgumentError(f"{op}: padding must be ints, 'same' or 'valid', but {padding!r} came")
    if padding == "same" and strides != (1, 1):
        raise ArgumentError(f"{op}: padding='same' needs stride 1, but stride={strides} came")
    (kH, kW), (dH, dW), same = kernel, dilations, padding == "same"
    return kernel, strides, (dH * (kH - 1) // 2 * same, dW * (kW - 1) // 2 * same), dilations


def n_windows(op: str, size: Sequence[int], where: Geometry, ceil_mode: bool = False) -> Pair:
    """⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1, the number of windows along each of the two axes.

    With `ceil_mode` the division rounds up, but a window must begin inside the input or its left padding.
    Raises ShapeError if no window fits."""
    (H, W), ((kH, kW), (sH, sW), (pH, pW), (dH, dW)) = size, where
    return _count(op, H, kH, sH, pH, dH, ceil_mode), _count(op, W, kW, sW, pW, dW, ceil_mode)


def _count(op: str, n: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    span = n + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    count -= ceil_mode and (count - 1) * stride >= n + padding
    if count < 1:
        raise ShapeError(f"{op}: a window of {dilation * (kernel - 1) + 1} does not fit into an input of size {n} "
                         f"with padding {padding}")
    return count
