"""Activations against their formulae, and the accuracy of the vectorized functions under them."""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, layout, memory, nn

erf = np.vectorize(math.erf, otypes="d")
ORACLES = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, negative_slope=0.01: np.maximum(x, 0) + negative_slope * np.minimum(x, 0),
    "prelu": lambda x, w: np.maximum(x, 0) + np.minimum(x, 0) * (
        w.reshape(-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else w[0]),
    "rrelu": lambda x, lower=1 / 8, upper=1 / 3: np.maximum(x, 0) + (lower + upper) / 2 * np.minimum(x, 0),
    "elu": lambda x, alpha=1.0: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "celu": lambda x, alpha=1.0: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha)),
    "gelu": lambda x, approximate="none": x / 2 * (1 + (
        erf(x / 2**0.5) if approximate == "none" else np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(x / 2)),
    "logsigmoid": lambda x: -np.log1p(np.exp(-x)),
    "tanh": lambda x: np.expm1(2 * x) / (np.expm1(2 * x) + 2),
    "softplus": lambda x, beta=1.0, threshold=20.0: np.where(
        beta * x > threshold, x, np.log1p(np.exp(beta * x)) / beta),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: np.minimum(np.maximum(x, min_val), max_val),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "hardswish": lambda x: x * np.clip((x + 3) / 6, 0, 1),
    "hardsigmoid": lambda x: np.clip((x + 3) / 6, 0, 1),
    "hardshrink": lambda x, lambd=0.5: x * (np.abs(x) > lambd),
    "softshrink": lambda x, lambd=0.5: np.sign(x) * np.maximum(np.abs(x) - lambd, 0),
    "tanhshrink": lambda x: x - np.tanh(x),
    "threshold": lambda x, threshold, value: np.where(x > threshold, x, value),
}  # fmt: skip
CASES = [(name, {}) for name in ORACLES if name not in ("prelu", "threshold")] + [
    ("leaky_relu", {"negative_slope": 0.0}), ("leaky_relu", {"negative_slope": -0.3}), ("elu", {"alpha": 0.4}),
    ("elu", {"alpha": 0.0}), ("elu", {"alpha": -0.7}), ("celu", {"alpha": 1.7}), ("gelu", {"approximate": "tanh"}),
    ("rrelu", {"lower": 0.2, "upper": 0.2}),
    ("softplus", {"beta": 2.0, "threshold": 1.0}), ("softplus", {"beta": -0.5}),
    ("hardtanh", {"min_val": 0.2, "max_val": 1.6}), ("hardshrink", {"lambd": 0.9}), ("softshrink", {"lambd": 0.0}),
    ("threshold", {"threshold": 0.3, "value": -0.5}), ("threshold", {"threshold": -0.2, "value": 2.0}),
]  # fmt: skip
KINKS = np.array([0, 0.2, 0.3, 0.5, 0.9, 1, 1.6, 3, 6])  # some of them, and their negatives


@pytest.mark.parametrize(("name", "kwargs"), CASES)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 5, 4), (3, 1, 2, 2), (5, 7, 41, 43)], ids=str)
def test_against_oracle(rng, name, kwargs, shape):
    x = rng.standard_normal(shape) * 2
    x = np.where(np.abs(np.abs(x)[..., None] - KINKS).min(axis=-1) < 1e-3, 0.25, x)
    check(getattr(F, name), x, oracle=ORACLES[name], kwargs=kwargs)


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4), (2, 3, 5, 4), (3, 1, 2, 2), (2, 2, 3, 2, 3), (2, 700),
                                   (5, 7, 41, 43), (2, 3, 150, 151)], ids=str)  # fmt: skip
def test_prelu(rng, shape):
    x = rng.standard_normal(shape)
    x = np.where(np.abs(x) < 1e-3, 0.25, x)
    for n in {1, *shape[1:2]}:
        check(F.prelu, x, rng.standard_normal(n), oracle=ORACLES["prelu"], tol=3e-5 if x.size > 1e4 else None)


@pytest.mark.parametrize(("shape", "dim"), [
    ((4, 3, 2, 6), -1), ((4, 3, 2, 6), 0), ((4, 3, 2, 6), 2), ((2, 8, 5, 3), 1), ((6,), 0), ((4, 2, 3), 1),
    ((3, 16, 30, 20), 1), ((2, 2, 1, 1), -3), ((2, 2, 3, 5), 1), ((3, 2600), 1), ((2600, 3), 0), ((0, 4), 1),
    ((3, 0, 2), 1)], ids=str)  # fmt: skip
def test_glu(rng, shape, dim):
    x = rng.standard_normal(shape)
    check(F.glu, x, kwargs={"dim": dim},
          oracle=lambda x, dim: (lambda a, b: a / (1 + np.exp(-b)))(*np.split(x, 2, dim)))  # fmt: skip


def test_glu_keeps_the_memory_order_and_notices_changes(rng):
    x = fastnn.tensor(rng.standard_normal((2, 8, 4, 6)))
    h = fastnn.Tensor(layout.channels_last(x.array), requires_grad=True) * 1
    for dim in (1, 2, 3):
        y = F.glu(h, dim)
        assert layout.is_channels_last(y.array) and y.grad_fn.name() == "GluBackward"
        close(y, F.glu(x, dim).array)
        close(F.glu(fastnn.Tensor(x.array.astype(">f8")), dim), y.array)
    h.mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        y.sum().backward()


@pytest.mark.skipif(memory._memory is None, reason="the pool is not compiled")
@pytest.mark.parametrize(("name", "kwargs"), [*CASES, ("glu", {"dim": 1}), ("softmax", {"dim": 1})])
def test_memory_is_free_without_the_cycle_collector(rng, no_collector, name, kwargs):
    x = fastnn.tensor(rng.standard_normal((2, 4, 3, 5)), requires_grad=True)
    x.grad = fastnn.zeros_like(x)
    getattr(F, name)(x, **kwargs).sum().backward()
    blocks = memory.stats()["blocks"]
    getattr(F, name)(x, **kwargs).sum().backward()
    assert memory.stats()["blocks"] == blocks


def test_softmin_and_softmax2d(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    check(F.softmin, x, kwargs={"dim": 1}, oracle=lambda x, dim: np.exp(-x) / np.exp(-x).sum(dim, keepdims=True))
    close(nn.Softmax2d()(fastnn.tensor(x)), np.exp(x) / np.exp(x).sum(1, keepdims=True))
    with pytest.raises(ValueError, match="its shape is"):
        nn.Softmax2d()(fastnn.ones(2, 3))


def test_rrelu_draws_slopes(rng):
    a = rng.standard_normal((3, 4, 50, 6))
    x = fastnn.tensor(a, requires_grad=True)
    draws = []
    for seed, threads in (0, 1), (0, 2), (1, 1):
        fastnn.manual_seed(seed)
        fastnn.set_num_threads(threads)
        draws.append(F.rrelu(x, 0.1, 0.3, training=True))
    fastnn.set_num_threads(1)
    first, again, other = (y.detach().numpy() for y in draws)
    assert (first == again).all() and (first != other).any()
    slopes = first[a < 0] / a[a < 0]
    assert 0.1 <= slopes.min() < 0.101 and 0.299 < slopes.max() <= 0.3 and abs(slopes.mean() - 0.2) < 0.01
    assert (first[a > 0] == a[a > 0]).all()
    draws[0].sum().backward()
    close(x.grad, first / a)
    fastnn.manual_seed(0)
    h = x * 1
    assert (F.rrelu(h, 0.1, 0.3, training=True, inplace=True) is h) and (h.detach().numpy() == first).all()


def test_by_hand():
    x = fastnn.tensor([-2.0, 0.0, 3.0])
    close(F.relu(x), [0.0, 0.0, 3.0])
    close(F.leaky_relu(x, 0.25), [-0.5, 0.0, 3.0])
    close(F.elu(x, 2.0), [2 * (0.1353352832 - 1), 0.0, 3.0])
    close(F.sigmoid(x), [0.1192029220, 0.5, 0.9525741268])
    close(F.tanh(x), [-0.9640275801, 0.0, 0.9950547537])


@pytest.mark.parametrize(("name", "kwargs", "x", "slope"), [
    ("relu", {}, 0, 0), ("leaky_relu", {}, 0, 0.01), ("elu", {}, 0, 1), ("elu", {"alpha": -2.0}, 0, -2),
    ("selu", {}, 0, 1.7580993408473766), ("celu", {"alpha": 3.0}, 0, 1), ("hardtanh", {}, -1, 0),
    ("hardtanh", {}, 1, 0), ("relu6", {}, 6, 0), ("hardswish", {}, -3, 0), ("hardswish", {}, 3, 1),
    ("hardsigmoid", {}, -3, 0), ("hardsigmoid", {}, 3, 0), ("hardshrink", {}, 0.5, 0), ("softshrink", {}, -0.5, 0),
    ("threshold", {"threshold": 0.5, "value": 2.0}, 0.5, 0), ("softplus", {"threshold": 1.0}, 1, 0.7310585786300049),
])  # fmt: skip
def test_gradient_at_the_kink(name, kwargs, x, slope):
    x = fastnn.full((3,), float(x), requires_grad=True)
    getattr(F, name)(x, **kwargs).sum().backward()
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
        "gelu": [np.nan, 0, 0, 0, 0, top, np.inf, np.nan],
        "silu": [np.nan, 0, 0, 0, 0, top, np.inf, np.nan],
        "mish": [np.nan, 0, -tiny, 0, tiny, top, np.inf, np.nan],  # 0.6·tiny
        "softplus": [0, 0, np.log(2), np.log(2), np.log(2), top, np.inf, np.nan],
        "logsigmoid": [-np.inf, -top, -np.log(2), -np.log(2), -np.log(2), 0, 0, np.nan],
        "softsign": [np.nan, -1, -tiny, 0, tiny, 1, np.nan, np.nan],
        "hardtanh": [-1, -1, -tiny, 0, tiny, 1, 1, np.nan],
        "hardswish": [np.nan, 0, 0, 0, 0, top, np.inf, np.nan],
        "hardsigmoid": [0, 0, 0.5, 0.5, 0.5, 1, 1, np.nan],
        "softshrink": [-np.inf, -top, 0, 0, 0, top, np.inf, np.nan],
        "tanhshrink": [-np.inf, -top, 0, 0, 0, top, np.inf, np.nan],
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
    kernels["activation"].tanh(x, (), y, 1)
    assert ulps(y, np.tanh(wide)).max() < (2.6 if isa == "baseline" else 1.7)  # which may have no multiply-adds
    kernels["activation"].sigmoid(x, (), y, 1)
    bound = 2.5 if isa == "baseline" else 1.7 if isa == "avx512" and dtype == "float32" else 1.2  # by tables there
    assert ulps(y, 1 / (1 + np.exp(-wide))).max() < bound
    kernels["activation"].elu(x, (1.0, 1.0, 1.0), y, 1)
    assert ulps(y, np.where(x > 0, wide, np.expm1(np.minimum(wide, 0)))).max() < 1.2
    kernels["activation"].softplus(x, (-1.0, math.inf), y, 1)  # the logarithm of sigmoid, by log1p and exp
    assert ulps(y, np.where(x > 0, -np.log1p(np.exp(-np.abs(wide))), wide - np.log1p(np.exp(-np.abs(wide))))).max() < 4


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double is no wider than double here")
@pytest.mark.parametrize("isa", backend.instruction_sets())
def test_the_normal_distribution_far_out(isa):
    """Where 1 + erf has no correct digit left; by the continued fraction of Mills's ratio (Laplace)."""
    x = -np.linspace(3, 12, 5000).astype(np.float32)
    wide, y = -x.astype(np.longdouble), np.empty_like(x)
    backend.load("compiled", isa)["activation"].gelu(x, (), y, 1)
    fraction = wide
    for k in range(200, 0, -1):
        fraction = wide + k / fraction
    truth = -wide * np.exp(-wide * wide / 2) / np.sqrt(2 * np.longdouble(np.pi)) / fraction
    bound = 80 if isa == "baseline" else 4  # which may have no multiply-adds
    assert ulps(y, truth)[np.abs(truth) > np.finfo(np.float32).tiny].max() < bound


@pytest.mark.parametrize("isa", backend.instruction_sets())
@pytest.mark.parametrize("name, argument", [("elu", (0.7, 1.0, 1.0)), ("sigmoid", ()), ("tanh", ()), ("gelu", ()),
                                            ("mish", ()), ("softplus", (1.0, 20.0))])  # fmt: skip
def test_bits_do_not_depend_on_the_place(rng, isa, name, argument):
    kernel = getattr(backend.load("compiled", isa)["activation"], name)
    x = (4 * rng.standard_normal(200)).astype(np.float32)
    whole = np.empty_like(x)
    kernel(x, argument, whole, 1)
    for n in (1, 15, 16, 63, 64, 65, 128, 199):
        y = np.full(n + 1, 7, np.float32)
        kernel(x[-n:].copy(), argument, y[:n], 1)
        np.testing.assert_array_equal(y, [*whole[-n:], 7])


IN_PLACE = [name for name in ORACLES if "inplace" in inspect.signature(getattr(F, name)).parameters]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(rng, name):
    a = rng.standard_normal((3, 4))
    grads, arguments = [], (0.1, -0.2) if name == "threshold" else ()
    for inplace in (False, True):
        x = fastnn.tensor(a, requires_grad=True)
        h = x * 2
        y = getattr(F, name)(h, *arguments, inplace=inplace)
        assert (y is h) is inplace
        (y * y).sum().backward()
        grads.append(x.grad)
    close(grads[1], grads[0].array)
    with pytest.raises(RuntimeError, match="leaf"):
        getattr(F, name)(fastnn.ones(2, requires_grad=True), *arguments, inplace=True)


@pytest.mark.parametrize("name", [name for name in vars(F) if name.endswith("relu_") or name in (
    "celu_", "elu_", "hardtanh_", "selu_", "threshold_")])  # fmt: skip
def test_names_with_an_underscore_work_in_place(rng, name):
    function, arguments = getattr(F, name[:-1]), (0.1, -0.2) if name == "threshold_" else ()
    x = fastnn.tensor(rng.standard_normal(9))
    y = function(x, *arguments)
    assert getattr(F, name)(x, *arguments) is x
    close(x, y.array)
    with pytest.raises(TypeError):
        getattr(F, name)(x, *arguments, inplaces=True)


def test_change_of_a_saved_output_is_noticed():
    x = fastnn.ones(3, requires_grad=True)
    y = F.tanh(x)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        y.sum().backward()


@pytest.mark.parametrize(("name", "arguments"), [("leaky_relu", (-1.0,)), ("elu", (-1.0,)), ("threshold", (0.0, 1.0))])
def test_in_place_where_the_output_hides_the_sign(rng, name, arguments):
    grads = []
    for inplace in (False, True):
        x = fastnn.tensor(np.linspace(-2, 2, 8), requires_grad=True)
        getattr(F, name)(x * 1, *arguments, inplace=inplace).sum().backward()
        grads.append(x.grad)
    close(grads[1], grads[0].array)


def test_dtypes():
    ints = fastnn.tensor([-1, 0, 2])
    assert F.relu(ints).tolist() == [0, 0, 2] and F.relu(ints).dtype == fastnn.int64
    assert F.sigmoid(ints).dtype == F.tanh(ints).dtype == fastnn.float32
    for op in (F.leaky_relu, F.elu, F.gelu, F.relu6, F.logsigmoid, F.glu, F.rrelu):
        with pytest.raises(TypeError, match=r"float32 or float64, but is int64; use .float\(\)"):
            op(ints)
    with pytest.raises(TypeError, match="relu: input must be a Tensor, but a ndarray came"):
        F.relu(np.ones(3))
    with pytest.raises(TypeError, match="selu: input must be float32"):
        F.selu(ints)


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: F.celu(x, 0.0), "celu: alpha must be above 0, but 0.0 came"),
    (lambda x: F.gelu(x, "erf"), "gelu: approximate must be 'none' or 'tanh', but 'erf' came"),
    (lambda x: F.hardtanh(x, 1, -1), "hardtanh: min_val must be at most max_val, but 1 and -1 came"),
    (lambda x: F.softshrink(x, -1), "softshrink: lambd must be at least 0, but -1 came"),
    (lambda x: F.rrelu(x, 0.5, 0.1), "rrelu: lower must be at most upper, but 0.5 and 0.1 came"),
    (lambda x: F.glu(x, 0), "glu: dim 0 of the input must have an even size"),
    (lambda x: F.prelu(x, fastnn.ones(2)), r"must have 1 or 4 numbers for input \(3, 4\), but has shape \(2,\)"),
])  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(fastnn.ones(3, 4))


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


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "prelu"])
def test_a_module_for_each_function(rng, name):
    module, function = {n.lower(): m for n, m in vars(nn).items()}[name.replace("_", "")], getattr(F, name)
    made = module(0.5, 0.1) if name == "threshold" else module()
    x = fastnn.tensor(rng.standard_normal((2, 3)))
    settings = {p: getattr(made, p) for p in inspect.signature(function).parameters if p not in ("input", "training")}
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        close(copied.eval()(x), function(x, **settings).array)
        assert repr(copied) == repr(made) and not copied.state_dict()


def test_prelu_module(rng):
    x = fastnn.tensor(rng.standard_normal((4, 3)), dtype=fastnn.float32)
    for made in (nn.PReLU(3, init=0.5), copy.deepcopy(nn.PReLU(3, 0.5)), pickle.loads(pickle.dumps(nn.PReLU(3, 0.5)))):
        close(made(x), F.leaky_relu(x, 0.5).array)
        assert repr(made) == "PReLU(num_parameters=3)" and [*made.state_dict()] == ["weight"]
        made(x).sum().backward()
        close(made.weight.grad, np.minimum(x.array, 0).sum(axis=0))
    assert nn.PReLU(dtype=fastnn.float64).weight.tolist() == [0.25]


@pytest.mark.parametrize("isa", backend.instruction_sets())
def test_kernels_refuse_what_does_not_fit(isa):
    kernels = backend.load("compiled", isa)["activation"]
    x = np.ones((4, 6), np.float32)
    for bad in (x.astype(np.float64), x[:3].copy(), np.ones((6, 4), np.float32).T, x.astype(">f4"), x.ravel()):
        with pytest.raises(ValueError, match="kernel:"):
            kernels.relu(x, (), bad, 1)
    with pytest.raises(ValueError, match="kernel:"):
        kernels.elu(x[:, ::2], (1.0, 1.0, 1.0), x[:, ::2], 1)
    with pytest.raises(ValueError, match="kernel: an activation has up to three parameters, but 4 came"):
        kernels.elu(x, (1.0,) * 4, x, 1)
    for weight in (np.ones(6), np.ones((1, 6), np.float32), np.ones(0, np.float32)[::2]):
        with pytest.raises(ValueError, match="kernel:"):
            kernels.prelu(x, weight, x.copy(), 1)
