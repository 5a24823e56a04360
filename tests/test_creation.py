"""Functions that make tensors: values, dtypes, sharing of memory, random numbers, bad input."""

import numpy as np
import pytest

import fastnn
from fastnn import layout
from fastnn.errors import DeviceError, DTypeError, ShapeError


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, "int64"),
        (1.5, "float32"),
        (True, "bool"),
        ([1, 2], "int64"),
        ([1, 2.5], "float32"),
        ([[True], [False]], "bool"),
        ([], "float32"),
        (np.ones(2), "float64"),
        (np.ones(2, np.float32), "float32"),
        (np.float64(1), "float64"),
        ([np.float64(1)], "float64"),
        (np.ones(2, ">f4"), "float32"),
        (np.arange(3, dtype=np.uint8), "uint8"),
        ((1.0, 2.0), "float32"),
    ],
)
def test_dtype_of_tensor(data, dtype):
    x = fastnn.tensor(data)
    assert x.dtype == np.dtype(dtype) and x.array.dtype.isnative
    assert x.array.tolist() == np.array(data).tolist()
    assert fastnn.tensor(data, dtype=fastnn.float64).dtype == fastnn.float64


def test_tensor_copies_and_from_numpy_shares():
    a = np.zeros((2, 3), np.float32)
    copy, shared, same = fastnn.tensor(a), fastnn.from_numpy(a), fastnn.as_tensor(a)
    a[0, 0] = 1
    assert copy[0, 0].item() == 0 and shared[0, 0].item() == 1 and same[0, 0].item() == 1
    assert fastnn.as_tensor(shared) is shared and fastnn.as_tensor(a, dtype=fastnn.float64).dtype == fastnn.float64
    assert fastnn.as_tensor([1.0]).dtype == fastnn.float32
    assert fastnn.tensor([shared[0, 0], shared[0, 1]]).tolist() == [1, 0]
    assert fastnn.tensor(shared).array is not a and fastnn.tensor([1.0], requires_grad=True).requires_grad


def test_filled():
    assert fastnn.zeros(2, 3).shape == fastnn.zeros((2, 3)).shape == fastnn.zeros([2, 3]).shape == (2, 3)
    assert fastnn.zeros(()).item() == fastnn.zeros().item() == 0 and fastnn.ones(2, dtype=fastnn.int64).tolist() == [
        1,
        1,
    ]
    assert fastnn.empty(0, 4).shape == (0, 4)
    assert fastnn.full((2,), 7).dtype == fastnn.int64 and fastnn.full((2,), 0.5).dtype == fastnn.float32
    assert fastnn.full((1,), True).dtype == fastnn.bool and fastnn.full((), 3, dtype=fastnn.float64).item() == 3
    assert fastnn.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]] and fastnn.eye(2).shape == (2, 2)
    assert fastnn.ones(1, device="cpu", requires_grad=True).requires_grad


@pytest.mark.parametrize(
    ("args", "values"),
    [
        ((3,), [0, 1, 2]),
        ((1, 4), [1, 2, 3]),
        ((5, 0, -2), [5, 3, 1]),
        ((0, 1, 0.25), [0, 0.25, 0.5, 0.75]),
        ((1.0, 1.0), []),
        ((2.5,), [0, 1, 2]),
        ((1, 2, 0.4), [1, 1.4, 1.8]),
    ],
)
def test_arange(args, values):
    x = fastnn.arange(*args)
    assert x.dtype == (fastnn.int64 if all(isinstance(a, int) for a in args) else fastnn.float32)
    np.testing.assert_allclose(x.array, values, rtol=1e-7)


def test_linspace():
    assert fastnn.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1] and fastnn.linspace(3, 7, 1).tolist() == [3]
    assert (
        fastnn.linspace(-1, 1, 0).shape == (0,)
        and fastnn.linspace(0, 1, 2, dtype=fastnn.float64).dtype == fastnn.float64
    )


def test_random_numbers():
    x, y = fastnn.randn(100, 100), fastnn.rand(100, 100, dtype=fastnn.float64)
    assert x.dtype == fastnn.float32 and abs(x.mean().item()) < 0.05 and abs(x.std().item() - 1) < 0.05
    assert y.dtype == fastnn.float64 and 0 <= y.min().item() < 0.01 and 0.99 < y.max().item() < 1
    for z in (
        fastnn.randint(3, (1000,)),
        fastnn.randint(0, 3, (1000,)),
        fastnn.randint(high=3, size=(1000,)),
        fastnn.randint(3, size=(1000,)),
    ):
        assert z.dtype == fastnn.int64 and sorted(set(z.tolist())) == [0, 1, 2]
    assert fastnn.randint(-5, -4, (2, 2), dtype=fastnn.int32).tolist() == [[-5, -5], [-5, -5]]
    assert sorted(fastnn.randperm(10).tolist()) == list(range(10))
    assert fastnn.rand(()).shape == ()


def test_manual_seed_starts_the_stream_anew():
    draws = []
    for _ in range(2):
        fastnn.manual_seed(7)
        draws.append(
            [
                fastnn.randn(3).tolist(),
                fastnn.rand(2).tolist(),
                fastnn.randperm(9).tolist(),
                fastnn.randint(9, (4,)).tolist(),
            ]
        )
    assert draws[0] == draws[1] and fastnn.randn(3).tolist() != draws[0][0]


@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "full", "rand", "randn"])
def test_like_keeps_shape_dtype_and_memory_order(name):
    like, arguments = getattr(fastnn, f"{name}_like"), (3,) if name == "full" else ()
    x = fastnn.Tensor(layout.channels_last(np.zeros((2, 3, 4, 5))))
    y = like(x, *arguments)
    assert y.shape == x.shape and y.dtype == fastnn.float64 and layout.is_channels_last(y.array)
    z = like(fastnn.zeros(2, 3), *arguments, dtype=fastnn.float64, requires_grad=True)
    assert z.dtype == fastnn.float64 and z.requires_grad
    assert name != "full" or y.sum().item() == 360


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fastnn.zeros(2, -1), ShapeError, "zeros: sizes must not be negative"),
        (lambda: fastnn.zeros(2.0), TypeError, "zeros: integers are needed"),
        (lambda: fastnn.ones(2, device="cuda"), DeviceError, "cuda"),
        (lambda: fastnn.tensor([1.0], device="cuda:0"), DeviceError, "cuda:0"),
        (lambda: fastnn.zeros(2, dtype="complex64"), DTypeError, "zeros: dtype 'complex64' is not supported"),
        (lambda: fastnn.rand(2, dtype=fastnn.int64), DTypeError, "rand: a float dtype is needed, but int64"),
        (lambda: fastnn.zeros(2, dtype=fastnn.int64, requires_grad=True), DTypeError, "float"),
        (lambda: fastnn.tensor("abc"), DTypeError, "tensor: numbers are needed"),
        (lambda: fastnn.tensor([None]), DTypeError, "tensor: numbers are needed"),
        (lambda: fastnn.tensor([[1, 2], [3]]), ShapeError, "regular array"),
        (lambda: fastnn.tensor(np.ones(2, np.complex64)), DTypeError, "complex64"),
        (lambda: fastnn.from_numpy([1.0]), TypeError, "from_numpy: a NumPy array is needed, but a list came"),
        (lambda: fastnn.from_numpy(np.ones(2, ">f4")), DTypeError, "from_numpy.*>f4"),
        (lambda: fastnn.from_numpy(np.ones(2, np.float16)), DTypeError, "float16"),
        (lambda: fastnn.from_numpy(np.ones(2)[::-1]), ValueError, "negative strides"),
        (lambda: fastnn.arange(0, 1, 0), ShapeError, "step 0 does not lead"),
        (lambda: fastnn.arange(3, 0), ShapeError, "step 1 does not lead from 3 to 0"),
        (lambda: fastnn.linspace(0, 1, -1), ShapeError, "negative"),
        (lambda: fastnn.randint(3, 3, (2,)), ShapeError, "low must be below high"),
        (lambda: fastnn.randint(3), TypeError, "size must be a tuple"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
