"""Functions that make tensors: from data, filled, in ranges, random.

All take `dtype` (float32), `device` (the CPU, else DeviceError) and `requires_grad`. A size is given as `zeros(2, 3)`
or `zeros((2, 3))`. Random numbers come from the generator that `manual_seed` starts anew."""
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.device import device as Device
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.tensor import Array, Tensor, check_dtype, default_dtype, float32, int64, ints, owned

Size = int | Sequence[int]

__all__ = ["arange", "as_tensor", "empty", "empty_like", "eye", "from_numpy", "full", "full_like", "linspace"]
__all__ += ["ones", "ones_like", "rand", "rand_like", "randint", "randn", "randn_like", "randperm", "tensor"]
__all__ += ["zeros", "zeros_like"]


def _dtype(op: str, dtype: Any, device: Any, default: Any = float32) -> np.dtype:
    """`dtype` or the default, both it and the device checked."""
    if device is not None:
        Device(device)
    return check_dtype(op, default if dtype is None else dtype)


def _size(op: str, size: tuple[Any, ...]) -> tuple[int, ...]:
    """The sizes of `op(2, 3)` and of `op((2, 3))`."""
    shape = ints(op, size)
    if min(shape, default=0) < 0:
        raise ShapeError(f"{op}: sizes must not be negative, but {shape} came")
    return shape


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A copy of numbers, nested sequences, an array or a tensor. Python's floats become float32, its ints int64.

    >>> fastnn.tensor([[1, 2], [3, 4.5]])
    tensor([[1. , 2. ],
            [3. , 4.5]])"""
    first = data = data.array if isinstance(data, Tensor) else data
    while isinstance(first, list | tuple) and first:
        first = first[0]  # what a nested sequence begins with decides whether its floats are Python's or NumPy's
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"tensor: the nested sequences do not make a regular array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"tensor: numbers are needed, but the data have the dtype {array.dtype}")
    python = array.dtype.kind == "f" and not isinstance(first, Array | np.generic | Tensor)
    wanted = _dtype("tensor", dtype, device, float32 if python else array.dtype.newbyteorder("="))
    out = layout.empty_permuted(array, wanted)
    with np.errstate(invalid="ignore", over="ignore"):
        np.copyto(out, array, casting="unsafe")
    return owned(Tensor(out, requires_grad))


def from_numpy(array: Array) -> Tensor:
    """A tensor that shares the memory of `array`; where that cannot be (byte order, strides < 0), `tensor` copies."""
    if not isinstance(array, Array):
        raise TypeError(f"from_numpy: a NumPy array is needed, but a {type(array).__name__} came")
    check_dtype("from_numpy", array.dtype)  # which refuses foreign byte order, too
    if min(array.strides, default=0) < 0:
        raise ArgumentError("from_numpy: negative strides are not supported; use fastnn.tensor, which copies")
    return Tensor(array)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` itself if it is a tensor, sharing memory if it is an array, else a copy; converted if `dtype` differs."""
    x = data if isinstance(data, Tensor) else from_numpy(data) if isinstance(data, Array) else tensor(data, dtype)
    return x.to(_dtype("as_tensor", dtype, device, x.dtype))


def _makers(name: str, doc: str, fill: Callable[[Array], Any], floats: bool = False) -> list[Callable[..., Tensor]]:
    """The functions `name` and `name_like`; `fill` writes into the new array, which with `floats` cannot be of ints."""
    def made(shape: tuple[int, ...], dtype: np.dtype, requires_grad: bool, channels_last: bool = False) -> Tensor:
        if floats and dtype.kind != "f":
            raise DTypeError(f"{name}: a float dtype is needed, but {dtype} came")
        fill(array := layout.empty(shape, dtype))
        return owned(Tensor(layout.channels_last(array) if channels_last else array, requires_grad))

    def make(*size: Size, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        return made(_size(name, size), _dtype(name, dtype, device), requires_grad)

    def like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        wanted = _dtype(like.__name__, dtype, device, input.dtype)
        return made(input.shape, wanted, requires_grad, layout.is_channels_last(input.array))

    make.__name__, make.__doc__ = name, f"{doc}, of the given size."
    like.__name__, like.__doc__ = f"{name}_like", f"{doc}, in the shape, dtype and memory order of `input`."
    return [make, like]


zeros, zeros_like = _makers("zeros", "Zeros", lambda a: a.fill(0))
ones, ones_like = _makers("ones", "Ones", lambda a: a.fill(1))
empty, empty_like = _makers("empty", "Uninitialized memory", lambda a: None)
rand, rand_like = _makers("rand", "Uniform random numbers in [0, 1)",
                          lambda a: backend.generator.random(None, a.dtype, a), True)
randn, randn_like = _makers("randn", "Normal random numbers of mean 0 and variance 1",
                            lambda a: backend.generator.standard_normal(None, a.dtype, a), True)


def full(size: Size, fill_value: float, *, dtype: Any = None, device: Any = None,
         requires_grad: bool = False) -> Tensor:
    """`fill_value` everywhere; its kind decides the dtype: bool, int64 or float32."""
    wanted = _dtype("full", dtype, device, default_dtype(fill_value))
    return full_like(empty(_size("full", (size,)), dtype=wanted), fill_value, requires_grad=requires_grad)


def full_like(input: Tensor, fill_value: float, *, dtype: Any = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """`fill_value` in the shape, dtype and memory order of `input`."""
    made = empty_like(input, dtype=dtype, device=device, requires_grad=requires_grad)
    made.array.fill(fill_value)
    return made


def randint(low: int = 0, high: Any = None, size: Any = None, *, dtype: Any = None, device: Any = None,
            requires_grad: bool = False) -> Tensor:
    """randint(high, size) or randint(low, high, size): uniform random integers from `low` to `high` - 1."""
    if size is None or high is None:  # only one limit
        low, high, size = (0, low, high) if size is None else (0, low, size)
    if not isinstance(size, Sequence):
        raise TypeError(f"randint: size must be a tuple, but {size!r} came")
    if low >= high:
        raise ShapeError(f"randint: low must be below high, but {low} and {high} came")
    drawn = np.asarray(backend.generator.integers(low, high, _size("randint", (size,))))
    return Tensor(drawn.astype(_dtype("randint", dtype, device, int64)), requires_grad)


def randperm(n: int, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The integers 0 to n - 1 in random order."""
    order = backend.generator.permutation(*_size("randperm", (n,)))
    return Tensor(order.astype(_dtype("randperm", dtype, device, int64)))


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The n×m (n×n) matrix with ones on the diagonal, zeros elsewhere."""
    return Tensor(np.eye(*_size("eye", (n, n if m is None else m)), dtype=_dtype("eye", dtype, device)), requires_grad)


def arange(start: float, end: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:
    """start, start + step, …, ⌈(end - start) / step⌉ numbers; int64 if all three are ints, else float32.

    >>> fastnn.arange(3)
    tensor([0, 1, 2])"""
    start, end = (0, start) if end is None else (start, end)
    start, end, step = (v.item() if isinstance(v, Tensor | np.generic) else v for v in (start, end, step))
    whole = not any(isinstance(v, float) for v in (start, end, step))
    wanted = _dtype("arange", dtype, device, int64 if whole else float32)
    if step == 0 or (end - start) * step < 0:
        raise ShapeError(f"arange: the step {step} does not lead from {start} to {end}")
    n = -((start - end) // step) if whole else math.ceil((end - start) / step)
    return Tensor((start + step * np.arange(n)).astype(wanted), requires_grad)


def linspace(start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included."""
    n, = _size("linspace", (steps,))
    return Tensor(np.linspace(float(start), float(end), n).astype(_dtype("linspace", dtype, device)), requires_grad)
