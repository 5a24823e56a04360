"""Arithmetic, comparison and logic: values, promotion, gradients at kinks, operators, forms in place, bad input."""

import operator

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, layout
from fastnn.errors import ArgumentError, AutogradError, DTypeError, ShapeError

POSITIVE = ("log", "sqrt", "rsqrt")
UNARY = {
    "neg": lambda x: -x,
    "abs": np.fabs,
    "square": lambda x: x * x,
    "exp": lambda x: np.e**x,
    "log": lambda x: np.log2(x) * np.log(2),
    "log1p": lambda x: np.log(1 + x),
    "sqrt": lambda x: x**0.5,
    "rsqrt": lambda x: x**-0.5,
    "reciprocal": lambda x: x**-1.0,
    "sin": lambda x: np.cos(x - np.pi / 2),
    "cos": lambda x: np.sin(x + np.pi / 2),
    "sign": lambda x: x / np.fabs(x),
    "floor": lambda x: x - x % 1,
    "ceil": lambda x: -(-x // 1),
    "round": np.round,
    "trunc": lambda x: x - np.fmod(x, 1),
}
BINARY = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "maximum": lambda x, y: np.where(x > y, x, y),
    "minimum": lambda x, y: np.where(x < y, x, y),
    "remainder": lambda x, y: x - np.floor(x / y) * y,
}
SHAPES = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((5, 1), (1, 3)),
    ((2, 3, 5, 4), (3, 1, 1)),
    ((2, 3, 5, 4), (2, 3, 5, 4)),
    ((), (2, 3)),
]


def tensor(*args, **kwargs):
    return fastnn.tensor(*args, **kwargs)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("shape", [(7,), (3, 2, 5, 4), ()])
def test_unary(rng, name, shape):
    x = rng.uniform(0.2, 0.8, shape) + np.round(3 * rng.standard_normal(shape))  # far from integers and halves
    x = np.where(np.abs(x % 1 - 0.5) < 0.01, x + 0.02, x)
    x = np.abs(x) if name in (*POSITIVE, "log1p") else x
    check(getattr(fastnn, name), x, oracle=UNARY[name])


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_binary(rng, name, left, right):
    x, y = rng.uniform(0.5, 3, left), rng.uniform(0.5, 3, right)
    check(getattr(fastnn, name), x, y, oracle=BINARY[name], tol=1e-4 if name == "remainder" else None)


def test_hand_computed_values():
    assert fastnn.sqrt(tensor([4.0, 9.0])).tolist() == [2, 3]
    assert (tensor([7, -7]) // 2).tolist() == [3, -4]
    assert (tensor([7, -7]) % 3).tolist() == [1, 2]
    assert fastnn.round(tensor([0.5, 1.5, -2.5])).tolist() == [0, 2, -2]
    assert fastnn.sign(tensor([-2.0, 0.0, 3.0, float("nan")])).tolist() == [-1, 0, 1, 0]
    assert fastnn.add(tensor([1.0]), tensor([2.0]), alpha=-3).item() == -5
    assert fastnn.zeros(1, dtype=fastnn.float64).sub(0.1, alpha=3).item() == -3 * 0.1
    assert fastnn.floor(tensor([1, 2])).dtype == fastnn.int64


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        ("int64", 2, "int64"),
        ("int64", 1.5, "float32"),
        ("uint8", 2, "uint8"),
        ("float32", 1.5, "float32"),
        ("bool", 1, "int64"),
        ("float64", 1, "float64"),
        ("int32", True, "int32"),
    ],
)
def test_numbers_are_weak(left, right, result):
    x = fastnn.ones(3, dtype=left)
    assert (x * right).dtype == (right * x).dtype == np.dtype(result)


def test_tensors_without_dimensions_are_weak():
    x, zero = fastnn.ones(3), tensor(1.0, dtype=fastnn.float64)
    assert (x + zero).dtype == fastnn.float32
    assert (zero + zero.float()).dtype == fastnn.float64
    assert (fastnn.ones(2, dtype=fastnn.float64) + x[:2]).dtype == fastnn.float64
    assert (tensor([3]) / tensor([2])).dtype == fastnn.float32
    assert fastnn.exp(tensor([1, 2])).dtype == fastnn.float32


def test_gradients_have_the_dtypes_of_their_operands():
    x = fastnn.ones(2, 3, requires_grad=True)
    y = fastnn.ones(3, dtype=fastnn.float64, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype == fastnn.float32 and y.grad.dtype == fastnn.float64
    assert y.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("fn", "x", "grad"),
    [
        (fastnn.abs, [-2.0, 0.0, 3.0], [-1, 0, 1]),
        (lambda x: fastnn.maximum(x, tensor([0.0, 1.0])), [0.0, 2.0], [0.5, 1]),
        (lambda x: fastnn.minimum(x, tensor([0.0, 1.0])), [0.0, 2.0], [0.5, 0]),
        (lambda x: fastnn.maximum(x, x), [1.0], [1]),
        (lambda x: fastnn.clamp(x, 0, 1), [-1.0, 0.0, 0.5, 1.0, 2.0], [0, 1, 1, 1, 0]),
        (lambda x: x**0, [0.0, 2.0], [0, 0]),
        (lambda x: x**2, [0.0, 3.0], [0, 6]),
        (lambda x: x**1, [0.0, 3.0], [1, 1]),
        (lambda x: 0.0**x, [0.0, 2.0], [0, 0]),
        (lambda x: fastnn.floor(x), [0.5], [0]),
        (lambda x: x % 2, [3.5], [1]),
    ],
)
def test_gradients_at_kinks(fn, x, grad):
    x = tensor(x, requires_grad=True)
    fn(x).sum().backward()
    assert x.grad.tolist() == grad


def test_clamp_and_where(rng):
    x, low, high = rng.standard_normal((2, 3, 4, 5)), np.full((3, 1, 1), -0.5), np.full((5,), 0.4)
    check(fastnn.clamp, x, low, high, oracle=lambda x, a, b: np.where(x < a, a, np.where(x > b, b, x)))
    check(fastnn.clamp, x, oracle=lambda x, min: np.where(x < min, min, x), kwargs={"min": 0.1})
    assert fastnn.clamp(tensor([1.0, 5.0]), 3, 2).tolist() == [2, 2]
    choice, y = rng.random((2, 1, 4, 5)) < 0.5, rng.standard_normal((3, 1, 5))
    check(fastnn.where, choice, x, y, oracle=lambda c, x, y: c * x + ~c * y)
    assert fastnn.where(tensor([True, False]), 1.0, 0.0).tolist() == [1, 0]


def test_special_values_come_silently():
    inf, nan = float("inf"), float("nan")
    x = tensor([0.0, -1.0, inf, nan])
    close(fastnn.log(x), np.array([-inf, nan, inf, nan]))
    close(x / 0, np.array([nan, -inf, inf, nan]))
    close(fastnn.maximum(x, tensor(0.0)), np.array([0, 0, inf, nan]))
    assert fastnn.isnan(x).tolist() == [False, False, False, True]
    assert fastnn.isinf(x).tolist() == [False, False, True, False]
    assert fastnn.isfinite(x).tolist() == [True, True, False, False]
    assert (fastnn.exp(tensor([1000.0])) - fastnn.exp(tensor([1000.0]))).isnan().item()


def test_comparison_and_logic():
    x, y = tensor([1, 2, 3]), tensor([2.0, 2.0, 2.0])
    for name, truth in {"eq": "010", "ne": "101", "lt": "100", "le": "110", "gt": "001", "ge": "011"}.items():
        expected = [c == "1" for c in truth]
        assert getattr(fastnn, name)(x, y).tolist() == getattr(operator, name)(x, 2).tolist() == expected
        assert getattr(x, name)(y).dtype == fastnn.bool
    p, q = tensor([True, True, False]), tensor([True, False, False])
    assert (p & q).tolist() == fastnn.logical_and(p, q).tolist() == [True, False, False]
    assert (p | q).tolist() == fastnn.logical_or(p, q).tolist() == [True, True, False]
    assert (p ^ q).tolist() == fastnn.logical_xor(p, q).tolist() == [False, True, False]
    assert (~p).tolist() == fastnn.logical_not(p).tolist() == [False, False, True]
    assert (tensor([6, 5]) & 3).tolist() == [2, 1] and (~tensor([0])).tolist() == [-1]
    assert fastnn.logical_and(tensor([0.5, 0.0]), 1).tolist() == [True, False]
    assert (x == None) is False and (x != "a") is True  # noqa: E711


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
@pytest.mark.parametrize("other", [2.0, np.float32(2), np.array([2.0, 3.0], np.float32)])
def test_operators_and_their_reflections(name, other):
    fn, x = getattr(operator, name), np.array([3.0, 5.0], np.float32)
    for ours, truth in ((fn(tensor(x), other), fn(x, other)), (fn(other, tensor(x)), fn(other, x))):
        assert isinstance(ours, fastnn.Tensor)
        close(ours, truth)


def test_operators_refuse_what_is_no_number():
    with pytest.raises(TypeError):
        tensor([1.0]) + "a"
    with pytest.raises(TypeError):
        [1.0] * tensor([1.5])


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum"])
def test_output_is_channels_last_if_one_operand_is(rng, name):
    x = fastnn.Tensor(layout.channels_last(rng.random((2, 3, 4, 5)) + 1), requires_grad=True)
    for other in (rng.random((2, 3, 4, 5)), rng.random((2, 1, 4, 5)), rng.random((3, 1, 1))):
        y = getattr(fastnn, name)(fastnn.Tensor(other), x)
        assert layout.is_channels_last(y.array)
        y.sum().backward()
        assert layout.is_channels_last(x.grad.array)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda y, z: y.add_(z), lambda y, z: y + z),
        (lambda y, z: y.sub_(z, alpha=2), lambda y, z: y - 2 * z),
        (lambda y, z: y.mul_(z), lambda y, z: y * z),
        (lambda y, z: y.div_(z), lambda y, z: y / z),
        (lambda y, z: y.pow_(2), lambda y, z: y**2),
        (lambda y, z: y.exp_(), lambda y, z: y.exp()),
        (lambda y, z: y.clamp_(0.9, 1.1), lambda y, z: y.clamp(0.9, 1.1)),
        (lambda y, z: y.copy_(z), lambda y, z: z + 0 * y),
        (lambda y, z: y.zero_(), lambda y, z: 0 * y),
        (lambda y, z: y.fill_(z[0]), lambda y, z: z[0] + 0 * y),
        (lambda y, z: y.sqrt_().abs_().square_().neg_(), lambda y, z: -y),
        (lambda y, z: operator.iadd(y, z), lambda y, z: y + z),
        (lambda y, z: operator.imul(y, z), lambda y, z: y * z),
        (lambda y, z: operator.isub(y, 2), lambda y, z: y - 2),
        (lambda y, z: operator.itruediv(y, z), lambda y, z: y / z),
        (lambda y, z: operator.ipow(y, 3), lambda y, z: y**3),
    ],
)
def test_in_place_forms(rng, change, same):
    x, z = rng.uniform(0.5, 2, (4, 3)), rng.uniform(0.5, 2, 3)

    def changed(x, z):
        y = x * 1
        memory = y.array
        assert change(y, z) is y and y.array is memory
        return y * x

    check(changed, x, z, oracle=None, grad=True)
    a, b = fastnn.Tensor(x), fastnn.Tensor(z)
    close(changed(a, b), (same(a, b) * a).array)


def test_a_quotient_may_be_changed_in_place(rng):
    x, y = (fastnn.Tensor(rng.standard_normal((3, 4)) + 3, requires_grad=True) for _ in range(2))
    (x / y).mul_(2.0).sum().backward()
    close(x.grad, 2 / y.array)
    close(y.grad, -2 * x.array / y.array**2)
    x.grad = None
    F.relu(F.normalize(x), inplace=True).sum().backward()
    a = fastnn.Tensor(x.array, requires_grad=True)
    F.relu(F.normalize(a)).sum().backward()
    np.testing.assert_array_equal(x.grad.array, a.grad.array)


def test_in_place_refuses():
    with pytest.raises(AutogradError, match="leaf"):
        fastnn.ones(2, requires_grad=True).add_(1)
    with pytest.raises(DTypeError, match="float32"):
        fastnn.ones(2, dtype=fastnn.int64).mul_(1.5)
    with pytest.raises(ShapeError):
        fastnn.ones(2).add_(fastnn.ones(3, 2))
    with pytest.raises(ShapeError):
        fastnn.ones(2).copy_(fastnn.ones(3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fastnn.ones(2, 3) + fastnn.ones(2), ShapeError, r"add: shapes \(2, 3\) and \(2,\) do not broadcast"),
        (lambda: fastnn.ones(2, 3) + fastnn.ones(2), RuntimeError, "add"),
        (lambda: tensor([True]) - tensor([True]), DTypeError, "sub: cannot take bool"),
        (lambda: tensor([1.0]) & 1, DTypeError, "bitwise_and"),
        (lambda: tensor([1]) // 0, ArgumentError, "zero"),
        (lambda: tensor([1]) % tensor([0]), ArgumentError, "zero"),
        (lambda: tensor([2]) ** -1, ArgumentError, "pow.*negative"),
        (lambda: fastnn.exp(1.0), TypeError, "exp: a Tensor is needed, but a float came"),
        (lambda: fastnn.clamp(fastnn.ones(2)), ValueError, "min or max"),
        (lambda: fastnn.where(fastnn.ones(2), 1.0, 2.0), DTypeError, "condition must be a bool tensor"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


SHAPES = [((4096,), (4096,)), ((70_001,), (70_001,)), ((8, 6, 31, 30), (8, 6, 31, 30)), ((5000,), ()), ((), (5000,)),
          ((64, 100), (100,)), ((4100,), (1,))]  # fmt: skip


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("order", ["last", "mixed", "sliced"])
def test_large_arrays_have_numpys_bits(rng, name, shapes, order):
    ufunc = {"sub": np.subtract, "mul": np.multiply, "div": np.divide, "add": np.add}[name]
    a, b = (np.asarray(rng.standard_normal(shape), np.float32) for shape in shapes)
    b = np.where(b > 1, 0, b).astype(np.float32)
    with np.errstate(all="ignore"):
        expected = ufunc(a, b)
    if a.ndim == 4:
        a, b = layout.channels_last(a), b if order == "mixed" else layout.channels_last(b)
    if order == "sliced" and a.ndim:
        a = np.repeat(a, 2, axis=-1)[..., ::2]
    for threads in 1, 2, 3:
        fastnn.set_num_threads(threads)
        z = getattr(fastnn, name)(fastnn.Tensor(a), fastnn.Tensor(b))
        np.testing.assert_array_equal(z.numpy(), expected)
        assert a.ndim != 4 or layout.is_channels_last(z.array)


@pytest.mark.parametrize("shape", [(2, 3, 40, 41), (3, 40, 7, 9), (1, 8, 30, 30), (2, 6, 20, 21)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, ">f4"], ids=str)
def test_copies_between_memory_orders(rng, shape, dtype):
    a = np.asarray(100 * rng.standard_normal(shape), dtype)
    last = layout.channels_last(a)
    assert layout.is_channels_last(last) and layout.contiguous(last).flags.c_contiguous
    for b in last, layout.contiguous(last), layout.match(last, a[:]), layout.channels_last(a[:, ::-1])[:, ::-1]:
        np.testing.assert_array_equal(b, a)


def test_kernels_refuse_what_does_not_fit():
    from fastnn.backend import elementwise

    if backend.kernel_set == "reference":
        pytest.skip("the NumPy twins are in use")
    x, y = np.ones((4, 6), np.float32), np.ones((4, 6), np.float32)
    bad = [(x, y[:, :3], x), (x, y, np.ones((4, 6))), (x.T, y.T, x), (x, np.ones(6, np.float32), y), (x, y, x[:, ::2]),
           (x, y.astype(">f4"), x), (x.astype(int), y, x)]  # fmt: skip
    for arrays in bad:
        with pytest.raises(ValueError, match="kernel"):
            elementwise.add(*arrays, 1)
    for a, b in ((x, y.T), (x, np.ones((4, 6))), (x, y[:, ::2]), (x, x.reshape(-1))):
        with pytest.raises(ValueError, match="kernel"):
            elementwise.copy(a, b, 1)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="kernel"):
        elementwise.copy(x, y, 1)
