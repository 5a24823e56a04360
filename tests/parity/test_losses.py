"""Losses against PyTorch: reductions, class weights, ignored targets, smoothing, probabilities, images of scores."""

import itertools

import numpy as np
import pytest

from .pairs import check, check_either, check_raises, integers, normal, positive

REDUCTIONS = ["mean", "sum", "none"]
SCORES = [(4, 7), (1, 3), (5, 2), (3,), (2, 4, 5), (2, 3, 4, 5), (0, 4), (6, 130), (3, 1)]


def F(lib):
    return lib.nn.functional


def targets(shape):
    classes = shape[0] if len(shape) == 1 else shape[1]
    return integers(0, classes, *(() if len(shape) == 1 else (shape[0], *shape[2:]))), classes


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SCORES, ids=str)
def test_cross_entropy(shape, reduction, weighted, smoothing):
    target, classes = targets(shape)
    weight = positive(classes)
    ignored = target.copy()
    ignored.reshape(-1)[::2] = -100

    def case(lib, x, target, weight, **arguments):
        if weighted:
            arguments["weight"] = weight.detach()
        return F(lib).cross_entropy(x, target, reduction=reduction, label_smoothing=smoothing, **arguments)

    check(case, 3 * normal(*shape), target, weight)
    check(case, 3 * normal(*shape), ignored, weight)
    check(lambda *a: case(*a, ignore_index=1), 3 * normal(*shape), target, weight)
    check(lambda *a: case(*a, ignore_index=-1), 3 * normal(*shape), np.where(target == 1 % classes, -1, target), weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 7), (3,), (2, 4, 5), (2, 3, 4, 5), (3, 1)], ids=str)
def test_cross_entropy_of_probabilities(shape, reduction, weighted, smoothing):
    axis = 0 if len(shape) == 1 else 1
    probabilities = positive(*shape, seed="p")
    probabilities /= probabilities.sum(axis, keepdims=True)

    def case(lib, x, p, w):
        weight = w.detach() if weighted else None
        return F(lib).cross_entropy(x, p, weight, reduction=reduction, label_smoothing=smoothing)

    check(case, 3 * normal(*shape), probabilities, positive(shape[axis]))
    check(lambda lib, x, p, w: case(lib, x, p.detach(), w), 3 * normal(*shape), probabilities, positive(shape[axis]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SCORES, ids=str)
def test_nll_loss(shape, reduction, weighted):
    target, classes = targets(shape)

    def case(lib, x, target, weight, **arguments):
        if weighted:
            arguments["weight"] = weight.detach()
        axis = 0 if len(shape) == 1 else 1
        return F(lib).nll_loss(F(lib).log_softmax(x, axis), target, reduction=reduction, **arguments)

    check(case, normal(*shape), target, positive(classes))
    check(lambda *a: case(*a, ignore_index=1), normal(*shape), target, positive(classes))
    check(lambda lib, x, t: F(lib).nll_loss(x, t, reduction=reduction), normal(*shape), target)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 7), (3,), (), (2, 3, 4, 5), (0, 3)], ids=str)
def test_mse_loss(shape, reduction):
    check(lambda lib, x, y: F(lib).mse_loss(x, y, reduction=reduction), normal(*shape), normal(*shape, seed=1))
    check(lambda lib, x, y: F(lib).mse_loss(x, y.detach(), reduction=reduction), normal(*shape), normal(*shape, seed=1))


def test_losses_of_extreme_scores():
    x = np.array([[1000.0, 0.0, -1000.0], [-1e4, -1e4, 1e4], [0.0, 0.0, 0.0], [88.0, 89.0, 90.0]])
    for reduction in REDUCTIONS:
        check(lambda lib, x, t: F(lib).cross_entropy(x, t, reduction=reduction), x, np.array([1, 2, 0, 2]))


def test_losses_of_infinities_and_nan():
    x = normal(4, 3)
    x[0, 1], x[1, 0], x[2, 2] = -np.inf, np.inf, np.nan
    check(lambda lib, x, t: F(lib).cross_entropy(x, t, reduction="none"), x, np.array([0, 1, 1, 2]), grad=False)


def test_int32_targets():
    """PyTorch takes int64 and uint8 class indices only."""
    check(lambda lib, x, t: F(lib).cross_entropy(x, t), normal(4, 3), integers(0, 3, 4, dtype="int64"))
    check_either(lambda lib, x, t: F(lib).cross_entropy(x, t), normal(4, 3), integers(0, 3, 4, dtype="uint8"))


LOSSES = {
    "cross_entropy": lambda nn, **kw: nn.CrossEntropyLoss(**kw),
    "nll_loss": lambda nn, **kw: nn.NLLLoss(**kw),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_modules(name):
    for reduction, ignore, weighted in itertools.product(REDUCTIONS, (-100, 1), (False, True)):

        def case(lib, x, t, w):
            arguments = {"weight": w.detach()} if weighted else {}
            loss = LOSSES[name](lib.nn, ignore_index=ignore, reduction=reduction, **arguments)
            return loss(x, t), loss.reduction, loss.ignore_index, list(loss.state_dict()), len(list(loss.parameters()))

        check(case, normal(5, 4), integers(0, 4, 5), positive(4))


def test_other_loss_modules():
    check(lambda lib, x, t: lib.nn.CrossEntropyLoss(label_smoothing=0.3)(x, t), normal(5, 4), integers(0, 4, 5))
    for reduction in REDUCTIONS:
        check(lambda lib, x, y: lib.nn.MSELoss(reduction=reduction)(x, y), normal(5, 4), normal(5, 4, seed=1))


MISTAKES = {
    "target too large": lambda lib, x: F(lib).cross_entropy(x, lib.tensor([0, 1, 2, 3])),
    "target negative": lambda lib, x: F(lib).cross_entropy(x, lib.tensor([0, 1, 2, -1])),
    "target count": lambda lib, x: F(lib).cross_entropy(x, lib.tensor([0, 1, 2])),
    "target dims": lambda lib, x: F(lib).cross_entropy(x, lib.tensor([[0], [1], [2], [0]])),
    "target dtype": lambda lib, x: F(lib).cross_entropy(x, lib.tensor([0.0, 1.0, 2.0, 0.0])),
    "probabilities shape": lambda lib, x: F(lib).cross_entropy(x, lib.ones(4, 4, dtype=x.dtype)),
    "reduction": lambda lib, x: F(lib).cross_entropy(x, lib.tensor([0, 1, 2, 0]), reduction="average"),
    "smoothing": lambda lib, x: F(lib).cross_entropy(x, lib.tensor([0, 1, 2, 0]), label_smoothing=1.5),
    "weight": lambda lib, x: F(lib).cross_entropy(x, lib.tensor([0, 1, 2, 0]), lib.ones(4, dtype=x.dtype)),
    "nll target": lambda lib, x: F(lib).nll_loss(x, lib.tensor([0, 1, 2, 3])),
    "nll weight": lambda lib, x: F(lib).nll_loss(x, lib.tensor([0, 1, 2, 0]), lib.ones(2, dtype=x.dtype)),
    "nll count": lambda lib, x: F(lib).nll_loss(x, lib.tensor([0, 1, 2])),
    "mse reduction": lambda lib, x: F(lib).mse_loss(x, x, reduction="average"),
    "integer scores": lambda lib, x: F(lib).cross_entropy(x.long(), lib.tensor([0, 1, 2, 0])),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name], normal(4, 3))
