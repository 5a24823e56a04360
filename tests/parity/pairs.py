"""One function, two libraries: the mechanism of every parity test.

A case is written once, as ``case(lib, *tensors)`` where `lib` is `fastnn` or `torch`, and runs on both with the same
numbers. Compared are shapes, dtypes and values of everything it returns and the gradients of all floating inputs.
"""

from __future__ import annotations

import math
import re
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastnn

for library in (torch, fastnn):
    library.set_num_threads(1)  # two pools of threads would wait for each other

ROOT = Path(__file__).parents[2]
LIBS = (fastnn, torch)
FLOATS = ("float64", "float32")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}  # of an array of this dtype, times max(1, its largest value)


def seeded(*key: object) -> np.random.Generator:
    """A generator that depends on the key only, whatever ran before."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def normal(*shape: int, seed: object = 0) -> np.ndarray:
    return seeded(seed, shape).standard_normal(shape)


def positive(*shape: int, seed: object = 0) -> np.ndarray:
    return seeded(seed, shape).uniform(0.2, 3.0, shape)


def integers(low: int, high: int, *shape: int, seed: object = 0, dtype: str = "int64") -> np.ndarray:
    return seeded(seed, shape, low, high).integers(low, high, shape).astype(dtype)


def is_tensor(value: Any) -> bool:
    return isinstance(value, (fastnn.Tensor, torch.Tensor))


def to_numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy()


def flat(value: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists and dicts (keys included), tensors kept, shapes as tuples, dtypes as names."""
    if is_tensor(value):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from flat(item)
    elif isinstance(value, (tuple, list)):
        yield f"{len(value)} items"
        for item in value:
            yield from flat(item)
    elif isinstance(value, (torch.dtype, np.dtype)):
        yield str(value).removeprefix("torch.")
    else:
        yield value


def make(lib: Any, array: Any, dtype: str | None = None, grad: bool = False) -> Any:
    """The array as a fresh leaf tensor; floating arrays take `dtype`, others keep theirs."""
    array = np.asarray(array)
    floating = array.dtype.kind == "f"
    tensor = lib.tensor(array.astype(dtype) if floating and dtype else array)
    return tensor.requires_grad_() if floating and grad else tensor


def assert_close(got: Any, want: Any, tolerance: float, what: str) -> None:
    """Same shape and dtype; values within `tolerance` times max(1, finite |want|); NaN and inf in the same places."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, PyTorch {want.shape}"
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, PyTorch {want.dtype}"
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
    elif want.size:
        scale = np.abs(want, where=np.isfinite(want), out=np.zeros_like(want)).max()
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1.0, scale), err_msg=what)


def run(lib: Any, case: Callable, arrays: tuple, dtype: str, grad: bool) -> tuple[list, list]:
    """Leaves of what the case returns, tensors as arrays, and each input's gradient of a fixed random projection."""
    inputs = [make(lib, array, dtype, grad) for array in arrays]
    outputs = list(flat(case(lib, *inputs)))
    heads = [o for o in outputs if is_tensor(o) and o.requires_grad] if grad else []
    if heads:
        total = 0.0
        for i, head in enumerate(heads):
            weight = normal(*head.shape, seed=("weight", i)).astype(str(head.dtype).removeprefix("torch."))
            total = total + (head * lib.tensor(weight)).sum()
        total.backward()
    values = [to_numpy(o) if is_tensor(o) else o for o in outputs]
    return values, [None if t.grad is None else to_numpy(t.grad) for t in inputs]


def assert_same(got: list, want: list, what: str, tol: float = 1.0, python: str = "float64") -> None:
    """Leaf by leaf; `python` is the dtype in whose tolerance Python floats are compared."""
    assert len(got) == len(want), f"{what}: {len(got)} values, PyTorch {len(want)}: {got} {want}"
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        if isinstance(b, np.ndarray):
            assert isinstance(a, np.ndarray), f"{what} {i}: {a!r}, PyTorch {b!r}"
            assert_close(a, b, tol * TOLERANCE.get(str(b.dtype), 0), f"{what} {i}")
        elif isinstance(b, float):
            assert type(a) is float, f"{what} {i}: {a!r}, PyTorch {b!r}"
            assert_close(a, b, tol * TOLERANCE[python], f"{what} {i}")
        else:
            assert type(a) is type(b) and a == b, f"{what} {i}: {a!r}, PyTorch {b!r}"


def check(case: Callable, *arrays: Any, dtypes: tuple[str, ...] = FLOATS, grad: bool = True, tol: float = 1.0) -> None:
    """Both libraries return the same. `tol` multiplies the table's tolerance, for sums that are long."""
    for dtype in dtypes:
        got, got_grads = run(fastnn, case, arrays, dtype, grad)
        want, want_grads = run(torch, case, arrays, dtype, grad)
        assert_same(got, want, f"{dtype} output", tol, dtype)
        assert_same(got_grads, want_grads, f"{dtype} gradient", tol, dtype)


def error_of(lib: Any, case: Callable, arrays: tuple, dtype: str, grad: bool) -> Exception | None:
    try:
        run(lib, case, arrays, dtype, grad)
    except Exception as error:
        return error
    return None


def check_raises(case: Callable, *arrays: Any, dtype: str = "float64", grad: bool = True) -> None:
    """Both libraries refuse, and what catches PyTorch's error catches fastnn's."""
    want = error_of(torch, case, arrays, dtype, grad)
    assert want is not None, "PyTorch accepts this"
    got = error_of(fastnn, case, arrays, dtype, grad)
    assert got is not None, f"accepted, where PyTorch says {type(want).__name__}: {want}"
    kinds = {NotImplementedError: RuntimeError, AssertionError: ValueError}  # PyTorch asserts in a few places
    expected = kinds.get(type(want), type(want))
    assert isinstance(got, expected), f"{type(got).__name__}: {got}; PyTorch {type(want).__name__}: {want}"
    assert str(got).strip(), "an error without a message"


def check_either(
    case: Callable, *arrays: Any, dtypes: tuple[str, ...] = FLOATS, grad: bool = True, tol: float = 1.0
) -> None:
    """Both return the same or both refuse: for random draws of arguments, some of which are mistakes."""
    if error_of(torch, case, arrays, dtypes[0], grad) is None:
        check(case, *arrays, dtypes=dtypes, grad=grad, tol=tol)
    else:
        check_raises(case, *arrays, dtype=dtypes[0], grad=grad)


def ported(lib: Any, *paths: str) -> types.SimpleNamespace:
    """The names of source files written for fastnn, executed on `lib`: nothing but their import lines is changed."""
    names = {"__name__": f"{Path(paths[0]).stem}_on_{lib.__name__}"}
    for path in paths:
        source = (ROOT / path).read_text()
        source = re.sub(r"^(import|from) fastnn\b", rf"\1 {lib.__name__}", source, flags=re.MULTILINE)
        exec(compile(source, path, "exec"), names)
    return types.SimpleNamespace(**names)


SOURCES = "fastnn/models/networks.py", "bench/networks.py"  # of the networks


def fill(lib: Any, module: Any, seed: object = 0) -> Any:
    """Gives every parameter and floating buffer numbers that depend on its name and shape only (variances positive)."""
    with lib.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            dtype = str(tensor.dtype).removeprefix("torch.")
            if dtype not in FLOATS:
                continue
            shape = tuple(tensor.shape)
            if name.endswith("var"):
                array = positive(*shape, seed=(seed, name))
            else:
                fan = math.prod(shape[1:]) if len(shape) > 1 else 4
                array = normal(*shape, seed=(seed, name)) / math.sqrt(max(fan, 1))
                if len(shape) == 1 and name.endswith("weight"):
                    array = 1 + 0.3 * array
            tensor.copy_(lib.tensor(array.astype(dtype)))
    return module
