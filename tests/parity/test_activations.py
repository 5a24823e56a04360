"""Activations against PyTorch: every function and module over its arguments, and values where formulae break."""

import inspect

import numpy as np
import pytest
import torch

import fastnn

from .pairs import FLOATS, LIBS, check, check_raises, fill, make, normal, positive, to_numpy

FUNCTIONS = {
    "relu": [{}],
    "leaky_relu": [{}, {"negative_slope": 0.2}, {"negative_slope": 0.0}, {"negative_slope": -0.3}],
    "rrelu": [{}, {"lower": 0.3, "upper": 0.3, "training": True}, {"lower": 0.1, "upper": 0.5}],
    "elu": [{}, {"alpha": 0.5}, {"alpha": 0.0}, {"alpha": -1.5}],
    "selu": [{}],
    "celu": [{}, {"alpha": 0.5}, {"alpha": 2.0}],
    "gelu": [{}, {"approximate": "tanh"}],
    "silu": [{}],
    "mish": [{}],
    "sigmoid": [{}],
    "logsigmoid": [{}],
    "tanh": [{}],
    "softplus": [{}, {"beta": 2}, {"beta": 0.5, "threshold": 0.3}, {"beta": -1.0}],
    "softsign": [{}],
    "hardtanh": [{}, {"min_val": 0.1, "max_val": 1.7}, {"min_val": 0.5, "max_val": 0.5}],
    "relu6": [{}],
    "hardswish": [{}],
    "hardsigmoid": [{}],
    "hardshrink": [{}, {"lambd": 0.0}, {"lambd": 1.3}],
    "softshrink": [{}, {"lambd": 0.0}, {"lambd": 1.3}],
    "tanhshrink": [{}],
    "threshold": [{"threshold": 0.3, "value": -1.0}, {"threshold": -0.3, "value": 5.0}],
    "glu": [{}, {"dim": 1}],
}
CASES = [(name, arguments) for name, many in FUNCTIONS.items() for arguments in many]
MODULES = {n.lower(): n for n, m in vars(torch.nn).items() if getattr(m, "__module__", "") == torch.nn.ReLU.__module__}
MODULES.pop("multiheadattention")  # the one of PyTorch's activations that is none
EXACT = np.tile([0.0, -0.0, 0.5, -0.5, 1, -1, 3, -3, 6, 1e-30, -1e-8, 20, 21, -30, 100, -800, 1e18, -1e18, np.inf,
                  -np.inf, np.nan, 0.3, -0.3, 2], 2)


DTYPES = {"hardsigmoid": ("float32",)}  # PyTorch's derivative is float32(1/6) in float64, too


def F(lib):
    return lib.nn.functional


def call(name, arguments):
    return lambda lib, x: getattr(F(lib), name)(x, **arguments)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
@pytest.mark.parametrize("shape", [(), (7,), (3, 6), (2, 4, 3, 6), (0, 4, 2, 2), (2, 130, 3, 4)], ids=str)
def test_functions(name, arguments, shape):
    if name == "glu" and (not shape or shape[-1] % 2 or arguments.get("dim", 0) >= len(shape)):
        return check_raises(call(name, arguments), normal(*shape))
    dtypes = DTYPES.get(name, FLOATS)
    check(call(name, arguments), 2 * normal(*shape), dtypes=dtypes)
    if len(shape) == 4 and name != "glu":
        check(lambda lib, x: call(name, arguments)(lib, x.permute(0, 2, 3, 1)[:, ::2]), normal(*shape), dtypes=dtypes)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_special_values(name, arguments):
    if name == "glu":
        return
    points = EXACT[~np.isposinf(EXACT)] if name == "gelu" else EXACT  # there PyTorch gives NaN in float32 alone
    check(call(name, arguments), points, grad=False)
    points = points[~np.isnan(points)]  # at which PyTorch's gradients depend on the place in a vector
    check(call(name, arguments), points, dtypes=DTYPES.get(name, FLOATS))


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_in_place(name, arguments):
    if "inplace" not in inspect.signature(getattr(F(fastnn), name)).parameters:
        return
    hidden = arguments.get("negative_slope", 0) < 0 or arguments.get("alpha", 0) < 0  # where PyTorch has no gradient

    def case(lib, x):
        y = x * 2
        z = getattr(F(lib), name)(y, **arguments, inplace=True)
        other = x * 1
        if hasattr(F(torch), f"{name}_"):
            getattr(F(lib), f"{name}_")(other, **arguments)
        return y, z * 3, other

    check(case, normal(2, 3, 4, 5), grad=not hidden, dtypes=DTYPES.get(name, FLOATS))


@pytest.mark.parametrize("shape", [(), (7,), (3, 6), (2, 4, 3), (2, 4, 3, 6), (2, 2, 3, 2, 2), (0, 4, 2, 2)], ids=str)
def test_prelu(shape):
    for n in {1, *shape[1:2]}:
        check(lambda lib, x, w: F(lib).prelu(x, w), normal(*shape), positive(n), tol=3)
    check(lambda lib, x, w: F(lib).prelu(x, w), EXACT, np.array([-0.5]))
    check_raises(lambda lib, x, w: F(lib).prelu(x, w), normal(*shape), normal(5))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmin(dim):
    check(lambda lib, x: F(lib).softmin(x, dim=dim), normal(3, 4, 5))


MODULE_CASES = {"glu": [{"dim": 1}], "softmax": [{"dim": 1}], "logsoftmax": [{"dim": 0}], "softmin": [{"dim": -1}],
                "threshold": [{"threshold": 0.1, "value": 20.0}], "leakyrelu": FUNCTIONS["leaky_relu"],
                "hardtanh": FUNCTIONS["hardtanh"][:2], "prelu": [{}, {"num_parameters": 4, "init": 0.1}],
                "rrelu": [{"lower": 0.3, "upper": 0.3}]}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    """Names of arguments, their order and defaults are PyTorch's, and so are outputs in training and evaluation."""
    kinds = [getattr(lib.nn, MODULES[name]) for lib in LIBS]
    ours, theirs = ({n: p.default for n, p in inspect.signature(kind).parameters.items()} for kind in kinds)
    theirs = {n: d for n, d in theirs.items() if n not in ("min_value", "max_value", "args", "kwargs")}  # deprecated
    if "dim" in ours and name != "glu":  # a default of PyTorch's that warns; ours has a dtype instead
        assert ours.pop("dtype") is theirs.pop("dim") is None and ours.pop("dim") is inspect.Parameter.empty
    assert [*ours.items()] == [*theirs.items()]
    for arguments in MODULE_CASES.get(name) or FUNCTIONS.get(name, [{}]):

        def case(lib, x, arguments=arguments):
            module = fill(lib, getattr(lib.nn, MODULES[name])(**arguments))
            module = module.double() if x.dtype == lib.float64 else module
            settings = {n: getattr(module, n) for n in arguments}
            return module(x), module.eval()(x), settings, module.state_dict()

        check(case, normal(2, 4, 3, 6), dtypes=DTYPES.get(name, FLOATS), tol=3)


def test_prelu_loads_a_state_dict():
    for n in (1, 4):
        theirs, ours = torch.nn.PReLU(n, init=0.3), fastnn.nn.PReLU(n)
        ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
        x = normal(2, 4, 3, 3)
        got, want = ours(make(fastnn, x, "float32")), theirs(make(torch, x, "float32"))
        np.testing.assert_allclose(to_numpy(got), to_numpy(want), rtol=1e-6)


MISTAKES = {
    "hardtanh": lambda lib, x: F(lib).hardtanh(x, 1.0, -1.0),
    "softshrink": lambda lib, x: F(lib).softshrink(x, -0.1),
    "gelu": lambda lib, x: F(lib).gelu(x, approximate="erf"),
    "celu": lambda lib, x: F(lib).celu(x, 0.0),
    "rrelu": lambda lib, x: F(lib).rrelu(x, 0.5, 0.1, True),
    "glu odd": lambda lib, x: F(lib).glu(x, 0),
    "glu dim": lambda lib, x: F(lib).glu(x, 5),
    "prelu": lambda lib, x: F(lib).prelu(x, lib.ones(2, dtype=x.dtype)),
    "prelu dtype": lambda lib, x: F(lib).prelu(x, lib.ones(1, dtype=lib.float32)),
    "Softmax2d": lambda lib, x: lib.nn.Softmax2d()(x),
    "threshold": lambda lib, x: F(lib).threshold(x),
    "PReLU": lambda lib, x: lib.nn.PReLU(7)(x),
    "leaf in place": lambda lib, x: F(lib).elu_(x),
    "unknown argument": lambda lib, x: F(lib).hardtanh_(x, inplaces=True),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name], normal(3, 4))
