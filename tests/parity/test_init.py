"""Initializations against PyTorch: the fixed ones equal, the random ones equal in distribution (two-sample test)."""

import math

import numpy as np
import pytest

from .pairs import LIBS, check, check_raises

FIXED = {
    "constant_": lambda lib: lib.nn.init.constant_(lib.empty(3, 4), 0.3),
    "ones_": lambda lib: lib.nn.init.ones_(lib.empty(3)),
    "zeros_": lambda lib: lib.nn.init.zeros_(lib.empty(3, 2)),
    "eye_": lambda lib: lib.nn.init.eye_(lib.empty(3, 5)),
    "dirac_": lambda lib: lib.nn.init.dirac_(lib.empty(6, 3, 3, 5)),
    "dirac_ groups": lambda lib: lib.nn.init.dirac_(lib.empty(6, 2, 3, 4), groups=3),
    "gains": lambda lib: [
        float(lib.nn.init.calculate_gain(n))
        for n in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu")
    ],
    "gain of a slope": lambda lib: lib.nn.init.calculate_gain("leaky_relu", 0.2),
    "returns its argument": lambda lib: (lambda t: lib.nn.init.ones_(t) is t)(lib.empty(2)),
    "leaves requires_grad": lambda lib: lib.nn.init.uniform_(lib.nn.Parameter(lib.empty(2))).requires_grad,
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_fixed(name):
    check(FIXED[name])


RANDOM = {
    "uniform_": lambda lib: lib.nn.init.uniform_(lib.empty(100, 200)),
    "uniform_ range": lambda lib: lib.nn.init.uniform_(lib.empty(100, 200), -2, 0.5),
    "normal_": lambda lib: lib.nn.init.normal_(lib.empty(100, 200)),
    "normal_ moved": lambda lib: lib.nn.init.normal_(lib.empty(100, 200), mean=3, std=0.2),
    "trunc_normal_": lambda lib: lib.nn.init.trunc_normal_(lib.empty(100, 200)),
    "trunc_normal_ range": lambda lib: lib.nn.init.trunc_normal_(lib.empty(100, 200), 0.3, 2.0, -1, 0.7),
    "xavier_uniform_": lambda lib: lib.nn.init.xavier_uniform_(lib.empty(100, 200)),
    "xavier_uniform_ gain": lambda lib: lib.nn.init.xavier_uniform_(lib.empty(40, 30, 3, 5), gain=2.0),
    "xavier_normal_": lambda lib: lib.nn.init.xavier_normal_(lib.empty(40, 30, 3, 5)),
    "kaiming_uniform_": lambda lib: lib.nn.init.kaiming_uniform_(lib.empty(100, 200)),
    "kaiming_uniform_ slope": lambda lib: lib.nn.init.kaiming_uniform_(lib.empty(40, 30, 3, 5), a=math.sqrt(5)),
    "kaiming_uniform_ out": lambda lib: lib.nn.init.kaiming_uniform_(
        lib.empty(40, 30, 3, 5), mode="fan_out", nonlinearity="relu"
    ),
    "kaiming_normal_": lambda lib: lib.nn.init.kaiming_normal_(lib.empty(40, 30, 3, 5)),
    "kaiming_normal_ out": lambda lib: lib.nn.init.kaiming_normal_(
        lib.empty(100, 200), mode="fan_out", nonlinearity="tanh"
    ),
    "Linear weight": lambda lib: lib.nn.Linear(200, 100).weight,
    "Linear bias": lambda lib: lib.nn.Linear(5, 20000).bias,
    "Conv2d weight": lambda lib: lib.nn.Conv2d(30, 40, (3, 5)).weight,
    "Conv2d grouped weight": lambda lib: lib.nn.Conv2d(60, 400, (3, 5), groups=10).weight,
    "Conv2d bias": lambda lib: lib.nn.Conv2d(3, 20000, (2, 1)).bias,
    "randn": lambda lib: lib.randn(20000),
    "rand": lambda lib: lib.rand(20000),
    "randint": lambda lib: lib.randint(-3, 9, (20000,)).float(),
    "orthogonal_ entries": lambda lib: lib.nn.init.orthogonal_(lib.empty(150, 130)),
    "sparse_ entries": lambda lib: lib.nn.init.sparse_(lib.empty(200, 100), 0.3, std=0.5),
}


@pytest.mark.parametrize("name", RANDOM)
def test_distribution(name):
    """Two-sample Kolmogorov-Smirnov distance below its 1e-6 quantile, and the same range of a bounded distribution."""
    samples = []
    for lib in LIBS:
        lib.manual_seed(0)
        samples.append(np.sort(RANDOM[name](lib).detach().numpy().astype(np.float64).ravel()))
    ours, theirs = samples
    assert ours.shape == theirs.shape
    grid = np.concatenate(samples)
    distance = np.abs(
        np.searchsorted(ours, grid, side="right") / ours.size
        - np.searchsorted(theirs, grid, side="right") / theirs.size
    ).max()
    assert distance < math.sqrt(-0.5 * math.log(1e-6 / 2) * 2 / ours.size)
    if "normal" not in name and name not in ("randn", "orthogonal_ entries", "sparse_ entries"):
        width = theirs[-1] - theirs[0]
        assert abs(ours[0] - theirs[0]) < 0.002 * width
        assert abs(ours[-1] - theirs[-1]) < 0.002 * width


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (6, 2, 3, 1)], ids=str)
def test_orthogonal(shape):
    def case(lib):
        w = (
            lib.nn.init.orthogonal_(lib.empty(*shape, dtype=lib.float64), gain=2.0)
            .detach()
            .numpy()
            .reshape(shape[0], -1)
        )
        product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        return bool(np.allclose(product, 4 * np.eye(len(product)), atol=1e-10))

    check(case)


def test_sparse():
    def case(lib):
        w = lib.nn.init.sparse_(lib.empty(40, 30), 0.3, std=0.5).detach().numpy()
        return (w == 0).sum(0).tolist()

    check(case)


def test_default_parameters_of_norms():
    check(lambda lib: (lib.nn.BatchNorm2d(3).weight, lib.nn.BatchNorm2d(3).bias, lib.nn.BatchNorm1d(3).running_var))


def test_same_seed_same_parameters():
    def case(lib):
        weights = []
        for _ in range(2):
            lib.manual_seed(7)
            weights.append(lib.nn.Conv2d(3, 4, 3).weight)
        return bool((weights[0] == weights[1]).all())

    check(case)


MISTAKES = {
    "xavier of a vector": lambda lib: lib.nn.init.xavier_uniform_(lib.empty(3)),
    "kaiming mode": lambda lib: lib.nn.init.kaiming_uniform_(lib.empty(3, 3), mode="fan"),
    "gain name": lambda lib: lib.nn.init.calculate_gain("nonsense"),
    "eye of a vector": lambda lib: lib.nn.init.eye_(lib.empty(3)),
    "dirac of a matrix": lambda lib: lib.nn.init.dirac_(lib.empty(3, 3)),
    "dirac groups": lambda lib: lib.nn.init.dirac_(lib.empty(4, 3, 3, 3), groups=3),
    "orthogonal of a vector": lambda lib: lib.nn.init.orthogonal_(lib.empty(3)),
    "sparse of a tensor": lambda lib: lib.nn.init.sparse_(lib.empty(3, 3, 3), 0.1),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name])


MORE_MISTAKES = {
    "uniform bounds": lambda lib: lib.nn.init.uniform_(lib.empty(3), 2, 1),
    "normal std": lambda lib: lib.nn.init.normal_(lib.empty(3), 0, -1),
    "gain of a bool": lambda lib: lib.nn.init.calculate_gain("leaky_relu", True),
    "kaiming of a vector": lambda lib: lib.nn.init.kaiming_normal_(lib.empty(3)),
    "kaiming nonlinearity": lambda lib: lib.nn.init.kaiming_uniform_(lib.empty(3, 3), nonlinearity="gelu"),
    "xavier normal of a vector": lambda lib: lib.nn.init.xavier_normal_(lib.empty(3)),
}


@pytest.mark.parametrize("name", MORE_MISTAKES)
def test_more_mistakes(name):
    check_raises(MORE_MISTAKES[name])


def test_all_gains():
    names = ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
    names += [f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)]
    check(lambda lib: [float(lib.nn.init.calculate_gain(name)) for name in names])
    check(lambda lib: float(lib.nn.init.calculate_gain("leaky_relu", 1)))
