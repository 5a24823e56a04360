"""ReLU, leaky ReLU, ELU, sigmoid, tanh, and the vectorized exponential under them."""

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, nn

ORACLES = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, negative_slope=0.01: np.maximum(x, 0) + negative_slope * np.minimum(x, 0),
    "elu": lambda x, alpha=1.0: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0)),
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(x / 2)),
    "tanh": lambda x: np.expm1(2 * x) / (np.expm1(2 * x) + 2),
}
CASES = [
    ("relu", {}), ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.0}), ("leaky_relu", {"negative_slope": -0.3}),
    ("elu", {}), ("elu", {"alpha": 0.4}), ("elu", {"alpha": 0.0}), ("sigmoid", {}), ("tanh", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs"), CASES)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 5, 4), (3, 1, 2, 2), (5, 7, 41, 43)], ids=str)
def test_against_oracle(rng, name, kwargs, shape):
    x = rng.standard_normal(shape) * 2
    x = np.where(np.abs(x) < 1e-3, 0.5, x)  # away from the kink
    check(getattr(F, name), x, oracle=ORACLES[name], kwargs=kwargs)


def test_by_hand():
    x = fastnn.tensor([-2.0, 0.0, 3.0])
    close(F.relu(x), [0.0, 0.0, 3.0])
    close(F.leaky_relu(x, 0.25), [-0.5, 0.0, 3.0])
    close(F.elu(x, 2.0), [2 * (0.1353352832 - 1), 0.0, 3.0])
    close(F.sigmoid(x), [0.1192029220, 0.5, 0.9525741268])
    close(F.tanh(x), [-0.9640275801, 0.0, 0.9950547537])


@pytest.mark.parametrize(("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.01), ("elu", 1.0)])
def test_gradient_at_the_kink(name, slope):
    x = fastnn.zeros(3, requires_grad=True)
    getattr(F, name)(x).sum().backward()
    close(x.grad, np.full(3, slope, "float32"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities_nan_and_extremes(dtype):
    top, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    x = fastnn.tensor(np.array([-np.inf, -top, -tiny, -0.0, tiny, top, np.inf, np.nan], dtype))
    for name, expected in {
        "relu": [0, 0, 0, 0, tiny, top, np.inf, np.nan],
        "leaky_relu": [-np.inf, np.multiply(-top, 0.01, dtype=dtype), 0, 0, tiny, top, np.inf, np.nan],
        "elu": [-1, -1, -tiny, 0, tiny, top, np.inf, np.nan],
        "sigmoid": [0, 0, 0.5, 0.5, 0.5, 1, 1, np.nan],
        "tanh": [-1, -1, -tiny, 0, tiny, 1, 1, np.nan],
    }.items():
        np.testing.assert_array_equal(getattr(F, name)(x).numpy(), np.array(expected, dtype), err_msg=name)


def ulps(actual, truth):
    """Errors in units of the last place of the truth."""
    return np.abs(actual.astype(np.longdouble) - truth) / np.spacing(np.abs(truth).astype(actual.dtype))


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double is no wider than double here")
@pytest.mark.parametrize("isa", backend.instruction_sets())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_of_a_few_ulps(rng, isa, dtype):
    """Over all magnitudes, small and large: tanh, sigmoid (which has exp within) and, by way of ELU, expm1."""
    kernels = backend.load("compiled", isa)
    span = np.log10(float(np.finfo(dtype).tiny)), np.log10(np.log(float(np.finfo(dtype).max)))
    x = np.concatenate([10 ** rng.uniform(*span, 50_000), 10 ** rng.uniform(-3, span[1], 50_000)]).astype(dtype)
    x = np.concatenate([x, -x])
    wide = x.astype(np.longdouble)
    y = np.empty_like(x)
    kernels["activation"].tanh(x, y, 1)
    assert ulps(y, np.tanh(wide)).max() < (2.6 if isa == "baseline" else 1.7)  # which may have no multiply-adds
    kernels["activation"].sigmoid(x, y, 1)
    bound = 2.5 if isa == "baseline" else 1.7 if isa == "avx512" and dtype == "float32" else 1.2  # by tables there
    assert ulps(y, 1 / (1 + np.exp(-wide))).max() < bound
    kernels["activation"].elu(x, 1.0, y, 1)
    assert ulps(y, np.where(x > 0, wide, np.expm1(np.minimum(wide, 0)))).max() < 1.2


@pytest.mark.parametrize("isa", backend.instruction_sets())
@pytest.mark.parametrize("name, argument", [("elu", (0.7,)), ("sigmoid", ()), ("tanh", ())])
def test_bits_do_not_depend_on_the_place(rng, isa, name, argument):
    kernel = getattr(backend.load("compiled", isa)["activation"], name)
    x = (4 * rng.standard_normal(200)).astype(np.float32)
    whole = np.empty_like(x)
    kernel(x, *argument, whole, 1)
    for n in (1, 15, 16, 63, 64, 65, 128, 199):
        y = np.full(n + 1, 7, np.float32)
        kernel(x[-n:].copy(), *argument, y[:n], 1)
        np.testing.assert_array_equal(y, [*whole[-n:], 7])


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu"])
def test_in_place(rng, name):
    a = rng.standard_normal((3, 4))
    grads = []
    for inplace in (False, True):
        x = fastnn.tensor(a, requires_grad=True)
        h = x * 2
        y = getattr(F, name)(h, inplace=inplace)
        assert (y is h) is inplace
        (y * y).sum().backward()
        grads.append(x.grad)
    close(grads[1], grads[0].array)
    with pytest.raises(RuntimeError, match="leaf"):
        getattr(F, name)(fastnn.ones(2, requires_grad=True), inplace=True)


def test_change_of_a_saved_output_is_noticed():
    x = fastnn.ones(3, requires_grad=True)
    y = F.tanh(x)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        y.sum().backward()


def test_negative_slope_in_place_is_noticed():
    x = fastnn.ones(3, requires_grad=True) * 1
    with pytest.raises(RuntimeError, match="in place"):
        F.leaky_relu(x, -1.0, inplace=True).sum().backward()


def test_dtypes():
    ints = fastnn.tensor([-1, 0, 2])
    assert F.relu(ints).tolist() == [0, 0, 2] and F.relu(ints).dtype == fastnn.int64
    assert F.sigmoid(ints).dtype == F.tanh(ints).dtype == fastnn.float32
    for op in (F.leaky_relu, F.elu):
        with pytest.raises(TypeError, match=r"float32 or float64, but is int64; use .float\(\)"):
            op(ints)
    with pytest.raises(TypeError, match="relu: input must be a Tensor, but a ndarray came"):
        F.relu(np.ones(3))
    with pytest.raises(ValueError, match=r"alpha must be at least 0, but -1\.0 came"):
        F.elu(fastnn.ones(2), -1.0)


def test_modules_and_methods(rng):
    x = fastnn.tensor(rng.standard_normal((2, 3)))
    for module, y in [
        (nn.ReLU(), F.relu(x)), (nn.LeakyReLU(0.2), F.leaky_relu(x, 0.2)), (nn.ELU(0.5), F.elu(x, 0.5)),
        (nn.Sigmoid(), x.sigmoid()), (nn.Tanh(), x.tanh()), (nn.Softmax(dim=1), x.softmax(1)),
        (nn.LogSoftmax(dim=0), x.log_softmax(0)), (nn.ReLU(), x.relu()),
    ]:  # fmt: skip
        close(module(x), y.array)
    assert repr(nn.ReLU(inplace=True)) == "ReLU(inplace=True)" and repr(nn.ReLU()) == "ReLU()"
    assert repr(nn.LeakyReLU(0.1, True)) == "LeakyReLU(negative_slope=0.1, inplace=True)"
    assert repr(nn.ELU()) == "ELU(alpha=1.0)" and repr(nn.LogSoftmax(dim=1)) == "LogSoftmax(dim=1)"


@pytest.mark.parametrize("isa", backend.instruction_sets())
def test_kernels_refuse_what_does_not_fit(isa):
    kernels = backend.load("compiled", isa)["activation"]
    x = np.ones((4, 6), np.float32)
    for bad in (x.astype(np.float64), x[:3].copy(), np.ones((6, 4), np.float32).T, x.astype(">f4"), x.ravel()):
        with pytest.raises(ValueError, match="kernel:"):
            kernels.relu(x, bad, 1)
    with pytest.raises(ValueError, match="kernel:"):
        kernels.elu(x[:, ::2], 1.0, x[:, ::2], 1)
