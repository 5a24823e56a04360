"""Reductions, cumulative sums and sorting: values, dims, dtypes, ties, precision, bad input."""

import numpy as np
import pytest
from harness import check, close

import fastnn
from fastnn import layout
from fastnn.errors import DTypeError, RangeError, ShapeError

inf, nan = float("inf"), float("nan")
DIMS = [None, 0, -1, (1, 2), (0, 2, 3), (3, 0)]


def mean(x, axis, keepdims=False, fewer=0):
    return np.sum(x, axis, keepdims=keepdims) / (np.sum(np.ones_like(x), axis, keepdims=keepdims) - fewer)


def var(x, axis, keepdims):
    return mean((x - mean(x, axis, True)) ** 2, axis, keepdims, fewer=1)


ORACLES = {
    "sum": lambda x, axis, keepdims: np.sum(x, axis, keepdims=keepdims),
    "mean": mean,
    "var": var,
    "std": lambda x, axis, keepdims: np.sqrt(var(x, axis, keepdims)),
    "amax": lambda x, axis, keepdims: np.max(x, axis, keepdims=keepdims),
    "amin": lambda x, axis, keepdims: np.min(x, axis, keepdims=keepdims),
    "norm": lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis, keepdims=keepdims)),
    "logsumexp": lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis, keepdims=keepdims)),
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("keepdim", [False, True])
def test_reductions(rng, name, dim, keepdim):
    x = rng.standard_normal((4, 3, 2, 5))
    fn = lambda x: getattr(fastnn, name)(x, dim=dim, keepdim=keepdim)  # noqa: E731
    check(fn, x, oracle=lambda x: ORACLES[name](x, dim, keepdim))


def test_hand_computed_values():
    x = fastnn.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert x.sum().item() == 12 and x.mean(0).tolist() == [2, 4] and x.prod(1).tolist() == [2, 18]
    assert (
        x.var().item() == pytest.approx(14 / 3)
        and x.var(False).item() == 3.5
        and x.std(1, False).tolist() == [0.5, 1.5]
    )
    assert x.var(1, correction=0).tolist() == [0.25, 2.25]
    assert fastnn.norm(fastnn.tensor([3.0, 4.0])).item() == 5
    assert x.cumsum(0).tolist() == [[1, 2], [4, 8]]


def test_names_of_numpy(rng):
    x = fastnn.Tensor(rng.standard_normal((2, 3)))
    assert x.sum(axis=1, keepdims=True).shape == (2, 1)
    assert x.max(axis=0).values.shape == fastnn.argmax(x, axis=0).shape == (3,)
    with pytest.raises(TypeError, match="dim and axis"):
        x.sum(dim=0, axis=0)


@pytest.mark.parametrize("name", ["sum", "prod", "cumsum"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_integers_are_summed_in_int64(name, dtype):
    x = fastnn.tensor([[1, 0], [1, 1]], dtype=dtype)
    assert getattr(x, name)(0).dtype == fastnn.int64
    assert x.sum(dtype=fastnn.float64).dtype == fastnn.float64


@pytest.mark.parametrize("dim", [None, 0, 1, (0, 2, 3), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("memory", [layout.contiguous, layout.channels_last, lambda a: a[:, :, ::2]])
def test_float32_sums_are_exact_to_3e_7(rng, dim, memory):
    x = memory(rng.random((64, 5, 32, 32), np.float32))
    truth = x.astype(np.float64)
    for ours, exact in (
        (fastnn.sum(fastnn.Tensor(x), dim), truth.sum(dim)),
        (fastnn.Tensor(x).var(dim), truth.var(dim, ddof=1)),
    ):
        assert np.max(np.abs(ours.array - exact) / exact) < 5e-7


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, inf, -inf, "fro"])
@pytest.mark.parametrize("dim", [None, 1])
def test_norms(rng, p, dim):
    def oracle(x):
        a = np.abs(x)
        if p in (inf, -inf):
            return a.max(dim) if p > 0 else a.min(dim)
        q = 2 if p == "fro" else p
        return np.sum(a != 0, dim).astype(float) if q == 0 else np.sum(a**q, dim) ** (1 / q)

    check(
        lambda x: fastnn.norm(x, p, dim),
        rng.uniform(0.3, 2, (4, 5)) * rng.choice([-1, 1], (4, 5)),
        oracle=oracle,
        tol=1e-4,
    )


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
@pytest.mark.parametrize("dim", [None, 0, 1])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "prod", "logsumexp"])
def test_floats_in_foreign_bytes(rng, name, dim, dtype):
    a = rng.standard_normal((5, 7))
    x, native = fastnn.Tensor(a.astype(dtype)), fastnn.Tensor(a.astype(np.dtype(dtype).newbyteorder("=")))
    y, expected = getattr(x, name)(dim), getattr(native, name)(dim)
    assert y.dtype == native.dtype
    close(y, expected)


def test_gradient_of_a_norm_at_zero_is_zero():
    for p in (0.5, 1, 1.5, 2, 3):
        x = fastnn.zeros(3, requires_grad=True)
        fastnn.norm(x, p).backward()
        assert x.grad.tolist() == [0, 0, 0]
    tiny = fastnn.tensor([1e-30], requires_grad=True)  # whose square is 0
    tiny.norm().backward()
    assert tiny.grad.item() == 0


def test_gradient_of_std_of_equal_numbers_is_zero():
    x = fastnn.ones(3, requires_grad=True)
    x.std().backward()
    assert x.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dim", [None, 0, 2])
@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_prod_with_zeros_among_the_factors(rng, dim, zeros):
    x = rng.uniform(0.5, 2, (2, 3, 4))
    x.ravel()[:zeros] = 0
    check(lambda x: fastnn.prod(x) if dim is None else fastnn.prod(x, dim), x, oracle=lambda x: np.prod(x, dim))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cumsum(rng, dim):
    check(lambda x: fastnn.cumsum(x, dim), rng.standard_normal((3, 4, 2, 5)), oracle=lambda x: np.cumsum(x, dim))


def test_logsumexp_does_not_overflow():
    x = fastnn.tensor([[1000.0, 1000.0], [-inf, -inf], [inf, 1.0]], requires_grad=True)
    y = x.logsumexp(1)
    close(y, np.array([1000 + np.log(2), -inf, inf]))
    y[0].backward()
    assert x.grad[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)  # of the rounding of y, as in PyTorch


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["max", "min"])
def test_max_min_along_a_dim(rng, name, dim, keepdim):
    fn = lambda x: tuple(getattr(fastnn, name)(x, dim, keepdim))  # noqa: E731
    arg = getattr(np, f"arg{name}")
    check(
        fn,
        rng.permutation(np.arange(24.0)).reshape(2, 3, 4),
        oracle=lambda x: (getattr(np, name)(x, dim, keepdims=keepdim), arg(x, dim, keepdims=keepdim)),
    )


@pytest.mark.parametrize(
    ("fn", "grad"),
    [
        (lambda x: x.max(), [0, 0.5, 0.5, 0]),
        (lambda x: x.min(), [0.5, 0, 0, 0.5]),
        (lambda x: x.amax(0), [0, 0.5, 0.5, 0]),
        (lambda x: x.max(0).values, [0, 1, 0, 0]),
        (lambda x: x.min(0)[0], [1, 0, 0, 0]),
        (lambda x: x.norm(inf), [0, 0.5, 0.5, 0]),
        (lambda x: x.topk(1).values, [0, 1, 0, 0]),
        (lambda x: x.std() * 0, [0, 0, 0, 0]),
    ],
)
def test_gradients_of_ties(fn, grad):
    x = fastnn.tensor([1.0, 3.0, 3.0, 1.0], requires_grad=True)
    fn(x).sum().backward()
    assert x.grad.tolist() == grad


def test_which_index_wins():
    x = fastnn.tensor([[1.0, 3.0, 3.0], [nan, 2.0, nan]])
    assert x.argmax(1).tolist() == x.max(1).indices.tolist() == [1, 0]
    assert (
        x.argmin(1).tolist() == [0, 0] and x[0].argmax().item() == 1 and x[:1].argmax(1, keepdim=True).tolist() == [[1]]
    )
    channels_last = fastnn.Tensor(layout.channels_last(np.arange(24.0).reshape(1, 2, 3, 4)))
    assert channels_last.argmax().item() == 23 and channels_last[:, :1].argmax().item() == 11
    assert fastnn.max(fastnn.tensor([1, 5]), fastnn.tensor([2, 4])).tolist() == [2, 5]


def test_all_any():
    x = fastnn.tensor([[True, False], [True, True]])
    assert x.all().item() is False and x.any().item() is True
    assert x.all(1).tolist() == [False, True] and fastnn.any(x, 0, keepdim=True).tolist() == [[True, True]]
    assert fastnn.zeros(0).all().item() is True and fastnn.ones(2, dtype=fastnn.uint8).all().dtype == fastnn.uint8


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("descending", [False, True])
def test_sort_and_topk(rng, dim, descending):
    x = rng.permutation(np.arange(30.0)).reshape(2, 5, 3)
    sign = -1 if descending else 1
    oracle = lambda x: (sign * np.sort(sign * x, dim), np.argsort(sign * x, dim))  # noqa: E731
    check(lambda x: tuple(fastnn.sort(x, dim, descending)), x, oracle=oracle)
    check(
        lambda x: tuple(x.topk(2, dim, largest=descending)),
        x,
        oracle=lambda x: tuple(v.take([0, 1], dim) for v in oracle(x)),
    )


def test_sort_is_stable_and_puts_nan_above_all():
    x = fastnn.tensor([1.0, nan, 0.0, 1.0, 0.0])
    assert x.sort().indices.tolist() == [2, 4, 0, 3, 1]
    assert x.sort(descending=True).indices.tolist() == [1, 0, 3, 2, 4]


def test_tensors_without_dimensions_and_empty_ones():
    x = fastnn.tensor(3.0, requires_grad=True)
    for fn in (
        lambda x: x.sum(0),
        lambda x: x.prod(-1),
        lambda x: x.max(0).values,
        lambda x: x.sort().values,
        lambda x: x.cumsum(0),
    ):
        y = fn(x)
        assert y.shape == () and y.item() == 3
        y.backward()
    assert x.grad.item() == 5
    empty = fastnn.zeros(0, 3)
    assert empty.sum(0).tolist() == [0, 0, 0] and empty.mean(0).isnan().all() and empty.prod().item() == 1
    assert empty.amax(1).shape == (0,) and empty.logsumexp(0).tolist() == [-inf] * 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.sum(2), IndexError, "sum: dim 2 is out of range.*from -2 to 1"),
        (lambda x: x.sum((0, -2)), ShapeError, "twice"),
        (lambda x: x.sum("a"), TypeError, "dim must be an int"),
        (lambda x: x.long().mean(), DTypeError, "mean: a float tensor is needed, but its dtype is int64"),
        (lambda x: x.long().std(), DTypeError, "std"),
        (lambda x: x[:0].max(), RangeError, "amax: nothing to reduce"),
        (lambda x: x[:0].argmin(0), RangeError, "argmin: nothing to reduce"),
        (lambda x: x.topk(4), ShapeError, "topk: k must be from 0 to 3"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(fastnn.ones(2, 3))
