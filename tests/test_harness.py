"""The harness finds what it is there to find: operations with one fault each."""

import numpy as np
import pytest
from harness import check, close, float32, float64

from fastnn import Tensor, layout
from fastnn.tensor import record


def square(x, fault=""):
    """x², with a fault."""
    a = x.array
    if fault == "order":  # works along memory as if it were in C order
        a = np.ndarray(a.shape, a.dtype, a.tobytes(order="A")) if a.flags.f_contiguous else a
    if fault == "modifies":
        a *= 1
        a[...] = a + 1 - 1 if a.size == 0 else a * 1.0000001
    y = layout.empty_for(a.shape, a.dtype, a)
    np.multiply(a, a, out=y)
    if fault == "value" and y.size:
        y.reshape(-1)[-1] += 0.001
    if fault == "empty" and not y.size:
        y = y.reshape(0)
    if fault == "dtype":
        y = y.astype(float64)

    def backward(grad):
        factor = 2.001 if fault == "gradient" else 2
        if fault == "grad order":
            grad = np.ndarray(grad.shape, grad.dtype, grad.tobytes(order="A")) if grad.flags.f_contiguous else grad
        g = (factor * grad * a).astype(a.dtype)
        return (g.reshape(-1) if fault == "grad shape" else g,)

    return record(y, (x,), backward, (x,))


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 5), (4,), (), (1, 1, 3, 1)], ids=str)
def test_a_sound_operation_passes(rng, shape):
    check(square, rng.standard_normal(shape), oracle=np.square)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("value", "output 0"),
        ("dtype", "dtype float64, expected float32"),
        ("gradient", "central difference"),
        ("grad shape", "shape"),
        ("modifies", "modified|read-only"),
        ("order", "transposed memory"),
        ("grad order", "transposed memory"),
        ("empty", "empty batch|broadcast"),
    ],
)
def test_a_fault_is_found(rng, fault, found):
    with pytest.raises((AssertionError, ValueError), match=found):
        check(lambda x: square(x, fault), rng.standard_normal((3, 5)), oracle=np.square)


def test_several_inputs_and_outputs(rng):
    def both(x, y, n):
        z = record(x.array * y.array, (x, y), lambda g: (g * y.array, g * x.array), (x, y))
        return z, square(x), Tensor(n.array + 1)

    arrays = rng.standard_normal((2, 3)), rng.standard_normal((2, 3)), np.arange(3)
    check(both, *arrays, oracle=lambda x, y, n: (x * y, x * x, n + 1))
    with pytest.raises(AssertionError, match="3 outputs, expected 2"):
        check(both, *arrays, oracle=lambda x, y, n: (x * y, x * x))


def test_close_is_exact_for_integers_and_relative_for_floats():
    close(np.array([1e6], "f4"), np.array([1e6 + 1]))
    close(np.array([np.nan, np.inf]), np.array([np.nan, np.inf]))
    for a, b in (([1], [2]), ([1.0], [1.0 + 1e-10]), ([np.nan], [1.0]), ([np.inf], [-np.inf]), ([1.0], [[1.0]])):
        with pytest.raises(AssertionError):
            close(np.array(a), np.array(b))
    close(np.array([1.0], float32), np.array([1.0001]), tol=1e-3)
