"""Losses against PyTorch: reductions, class weights, ignored targets, smoothing, probabilities, images of scores."""

import itertools
import math

import numpy as np
import pytest

from .pairs import LIBS, check, check_either, check_raises, integers, normal, positive, seeded

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


def test_losses_of_extreme_scores():
    x = np.array([[1000.0, 0.0, -1000.0], [-1e4, -1e4, 1e4], [0.0, 0.0, 0.0], [88.0, 89.0, 90.0]])
    for reduction in REDUCTIONS:
        check(lambda lib, x, t: F(lib).cross_entropy(x, t, reduction=reduction), x, np.array([1, 2, 0, 2]))


def test_losses_of_infinities_and_nan():
    x = normal(4, 3)
    x[0, 1], x[1, 0], x[2, 2] = -np.inf, np.inf, np.nan
    check(lambda lib, x, t: F(lib).cross_entropy(x, t, reduction="none"), x, np.array([0, 1, 1, 2]), grad=False)


def test_logits_at_infinity():
    x, t, v = np.array([np.inf, np.inf, -np.inf, 1e4, -1e4]), np.array([0.0, 0.5, 0.5, 0.0, 1.0]), np.array(2.0)
    check(lambda lib, x, t, v: F(lib).binary_cross_entropy_with_logits(
        x, t.detach(), pos_weight=v.detach(), reduction="none"), x, t, v)
    signs = np.array([1.0, 1.0, -1.0, 1.0])
    check(lambda lib, x, t: F(lib).soft_margin_loss(x, t.detach(), reduction="none"), x[:4], signs)


def test_classes_that_weigh_nothing():
    """0 / 0 is NaN, also when smoothing adds what other classes weigh."""
    for smoothing in (0.0, 0.2):
        check(lambda lib, x, w, s=smoothing: F(lib).cross_entropy(
            x, lib.tensor([0, 0]), w.detach(), label_smoothing=s), normal(2, 3), np.array([0.0, 1.0, 1.0]), grad=False)


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


# Losses of two or three tensors: name, inputs, arguments. Reductions, gradients of all inputs, modules.

SHAPES = [(4, 7), (3,), (), (2, 3, 4, 5), (0, 3)]


def signs(*shape, seed=0):
    return 2.0 * integers(0, 2, *shape, seed=seed) - 1


def probabilities(*shape, seed=0):
    return seeded(seed, shape).uniform(0, 1, shape)


def pairs(of_input, of_target, shapes=SHAPES):
    return [(of_input(*shape), of_target(*shape, seed=1)) for shape in shapes]


PLAIN = pairs(normal, normal)
VECTORS = [(4, 7), (3,)]
ELEMENTWISE = {
    "mse_loss": (PLAIN, [{}]),
    "l1_loss": ([*PLAIN, (np.array([1.0, 2.0]), np.array([1.0, 0.0]))], [{}]),
    "smooth_l1_loss": (PLAIN, [{}, {"beta": 0.5}, {"beta": 0.0}, {"beta": 3.0}]),
    "huber_loss": (PLAIN, [{}, {"delta": 0.5}, {"delta": 2.0}]),
    "binary_cross_entropy": (pairs(probabilities, probabilities), [{}]),
    "binary_cross_entropy_with_logits": (pairs(normal, probabilities), [{}]),
    "soft_margin_loss": (pairs(normal, signs), [{}]),
    "multilabel_soft_margin_loss": (pairs(normal, probabilities, [(4, 7), (3,), (2, 3, 4, 5)]), [{}]),
    "hinge_embedding_loss": (pairs(normal, signs), [{}, {"margin": 0.3}]),
    "kl_div": (pairs(normal, probabilities), [{}, {"log_target": True}, {"reduction": "batchmean"}]),
    "poisson_nll_loss": (pairs(positive, positive),

                         [{}, {"log_input": False}, {"full": True}, {"log_input": False, "eps": 0.1}]),
    "gaussian_nll_loss": (
        [(normal(4, 7), normal(4, 7, seed=1), positive(*shape)) for shape in ((4, 7), (4, 1), (4,))],
        [{}, {"full": True}, {"eps": 1.0}]),
    "margin_ranking_loss": (
        [(normal(*shape), normal(*shape, seed=1), signs(*shape)) for shape in SHAPES], [{}, {"margin": 0.4}]),
    "triplet_margin_loss": (
        [tuple(normal(*shape, seed=i) for i in range(3)) for shape in VECTORS],
        [{}, {"margin": 0.2}, {"p": 1.0}, {"p": 3.0, "eps": 0.1}, {"swap": True}, {"swap": True, "p": 1.0}]),
    "cosine_embedding_loss": (
        [(normal(4, 7), normal(4, 7, seed=1), signs(4)), (normal(3), normal(3, seed=1), signs())],
        [{}, {"margin": 0.2}]),
}  # fmt: skip
MODULES = {"mse_loss": "MSELoss", "l1_loss": "L1Loss", "binary_cross_entropy": "BCELoss", "kl_div": "KLDivLoss",
           "binary_cross_entropy_with_logits": "BCEWithLogitsLoss", "soft_margin_loss": "SoftMarginLoss",
           "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss", "poisson_nll_loss": "PoissonNLLLoss",
           "gaussian_nll_loss": "GaussianNLLLoss", "smooth_l1_loss": "SmoothL1Loss"}  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_losses_of_tensors(name):
    inputs, settings = ELEMENTWISE[name]
    module = MODULES.get(name) or "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    for arrays, setting, reduction in itertools.product(inputs, settings, REDUCTIONS):
        arguments = {"reduction": reduction} | setting
        if name != "soft_margin_loss":  # PyTorch's target has no gradient
            check(lambda lib, *x, a=arguments: getattr(F(lib), name)(*x, **a), *arrays)
        check(lambda lib, x, *t, a=arguments: getattr(lib.nn, module)(**a)(x, *(y.detach() for y in t)), *arrays)
    if name not in ("huber_loss", "binary_cross_entropy", "soft_margin_loss"):  # no two dtypes in PyTorch
        check(lambda lib, x, *t: getattr(F(lib), name)(x, *(y.double().detach() for y in t)), *inputs[0],
              dtypes=("float32",), tol=1e5)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
@pytest.mark.parametrize("shapes", [((3, 1), (3,)), ((2, 3, 4, 5), (3, 1, 5)), ((4,), ()), ((0, 3), (3,))], ids=str)
def test_broadcasting_warns(name, shapes):
    def case(lib, x, t):
        with pytest.warns(UserWarning):
            return getattr(F(lib), name)(x, t), getattr(F(lib), name)(x, t, reduction="none")

    check(case, normal(*shapes[0]), normal(*shapes[1], seed=1))


BROADCAST = {
    "hinge_embedding_loss": [(3, 1), (4,)], "kl_div": [(3, 1), (4,)],
    "poisson_nll_loss": [(3, 1), (4,)], "margin_ranking_loss": [(3, 1), (1, 4), (1, 1)],
    "triplet_margin_loss": [(3, 4), (1, 4), (3, 1)]}  # fmt: skip


@pytest.mark.parametrize("name", BROADCAST)
def test_broadcasting_in_silence(name):
    arrays = [positive(*shape) for shape in BROADCAST[name]]
    check(lambda lib, x, *t: getattr(F(lib), name)(x, *(y.detach() for y in t), reduction="sum"), *arrays)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_binary_losses(reduction):
    x, p, t = normal(2, 3, 5), probabilities(2, 3, 5), probabilities(2, 3, 5, seed=1)
    for shape, other in itertools.product([(2, 3, 5), (3, 5), (5,), (3, 1), ()], [(5,), (3, 1), ()]):
        w, v = positive(*shape), positive(*other, seed=1)

        def both(lib, x, t, w, v):
            loss = lib.nn.BCEWithLogitsLoss(w.detach(), pos_weight=v.detach(), reduction=reduction)
            return loss(x, t), list(loss.state_dict())

        check(both, x, t, w, v)
        check(lambda lib, x, t, w: F(lib).binary_cross_entropy_with_logits(
            x, t, w.detach(), reduction=reduction), x, t, w)
        check(lambda lib, x, t, w: lib.nn.BCELoss(w.detach(), reduction=reduction)(x, t), p, t, w)
    check(lambda lib, x, t, w: lib.nn.MultiLabelSoftMarginLoss(w.detach(), reduction=reduction)(x, t),
          x, t, positive(5))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 7), (3,), (2, 1)], ids=str)
def test_multi_margin_loss(shape, reduction):
    target, classes = targets(shape)
    for p, margin, weighted in itertools.product((1, 2), (1.0, 0.3), (False, True)):

        def case(lib, x, t, w):
            return lib.nn.MultiMarginLoss(p, margin, w.detach() if weighted else None, reduction=reduction)(x, t)

        check(case, normal(*shape), target, positive(classes))
    check(lambda lib, x, t: F(lib).multi_margin_loss(x, t, reduction=reduction), np.zeros(shape), target)


def test_extremes():
    p, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-30, 0.5]), np.array([0.0, 1.0, 1.0, 0.0, 0.3, 1.0])
    check(lambda lib, p, t: F(lib).binary_cross_entropy(p, t.detach(), reduction="none"), p, t, tol=1e5)
    check(lambda lib, p, t: F(lib).binary_cross_entropy(p, t, reduction="none"), p, t, dtypes=("float64",), tol=1e5)
    x = np.array([1000.0, -1000.0, 1000.0, -1000.0, 0.0, 40.0, -40.0])
    t = np.array([0.0, 0.0, 1.0, 1.0, 0.5, 0.2, 1.0])
    check(lambda lib, x, t: F(lib).binary_cross_entropy_with_logits(x, t, reduction="none"), x, t)
    check(lambda lib, x, t, v: F(lib).binary_cross_entropy_with_logits(
        x, t, pos_weight=v.detach(), reduction="none"), x, t, np.array(3.0))
    inf, nan = np.inf, np.nan
    x, y = np.array([inf, -inf, inf, nan, 0.0, 1e200]), np.array([0.0, 0.0, inf, 0.0, nan, -1e200])
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        for reduction in REDUCTIONS:
            check(lambda lib, x, y, n=name, r=reduction: getattr(F(lib), n)(x, y, reduction=r), x, y,
                  dtypes=("float64",))
    check(lambda lib, x, t: F(lib).binary_cross_entropy_with_logits(x, t.detach(), reduction="none"),
          np.array([inf, -inf, nan, inf, 0.0]), np.array([0.0, 0.0, 0.0, 0.5, nan]), grad=False)
    check(lambda lib, x, t: F(lib).kl_div(x, t.detach(), reduction="none"), normal(4), np.array([0.0, 1.0, 0.5, 0.0]))
    check(lambda lib, x, t: F(lib).poisson_nll_loss(x, t.detach(), full=True),
          normal(4), np.array([0.0, 1.0, 2.0, 9.0]))


def test_targets_at_the_kink():
    """Slopes where a hinge bends, and targets that are neither 1 nor −1."""
    t = np.array([1.0, -1.0, 0.0, 2.0])
    check(lambda lib, x, t: F(lib).hinge_embedding_loss(x, t, reduction="none"), np.ones(4), t)
    check(lambda lib, x, y, t: F(lib).margin_ranking_loss(x, y, t, margin=0.0), np.ones(4), np.ones(4), t)
    check(lambda lib, x, y, t: F(lib).cosine_embedding_loss(x, y, t), np.ones((4, 3)), np.ones((4, 3)), t)
    check(lambda lib, x: F(lib).smooth_l1_loss(x, lib.zeros_like(x)), np.array([1.0, -1.0, 0.0]))


@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 4, 5), (3,), (0, 3), (2, 0)], ids=str)
def test_distances(shape):
    a, b = normal(*shape), normal(*shape, seed=1)
    powers = (2.0, 1.0, 3.0, 0.5, *((math.inf,) if shape[-1] else ()))
    for p, eps, keepdim in itertools.product(powers, (1e-6, 0.3), (False, True)):
        check(lambda lib, a, b: F(lib).pairwise_distance(a, b, p, eps, keepdim), a, b)
    check(lambda lib, a, b: lib.nn.PairwiseDistance(1.0, keepdim=True)(a, b), a, b)
    for dim in range(-len(shape), len(shape)):
        check(lambda lib, a, b: F(lib).cosine_similarity(a, b, dim), a, b)
        check(lambda lib, a, b: lib.nn.CosineSimilarity(dim, eps=2.0)(a, b), a, b)
    check(lambda lib, a, b: F(lib).cosine_similarity(a, b, -1), a, b[..., :1])
    check(lambda lib, a, b: F(lib).pairwise_distance(a, b), a, b[..., :1])
    check(lambda lib, a, b: F(lib).pairwise_distance(a, b, 2.0, 0.0), a, a)


def test_distances_broadcast():
    check(lambda lib, a, b: F(lib).cosine_similarity(a, b, 1), normal(4, 3, 5), normal(3, 1))
    check(lambda lib, a, b: F(lib).cosine_similarity(a, b, 0), normal(4, 3), normal(3))
    check(lambda lib, a, b: F(lib).cosine_similarity(a.long(), b), positive(4, 3), normal(4, 3))
    check(lambda lib, a, b: F(lib).pairwise_distance(a, b), normal(4, 1, 5), normal(3, 5))
    check(lambda lib, a, b: F(lib).cosine_similarity(a, b), np.zeros((2, 3)), normal(2, 3))


def test_one_hot():
    for shape in [(5,), (2, 3), (), (0,), (2, 0)]:
        check(lambda lib, t: F(lib).one_hot(t, 4), integers(0, 4, *shape))
        check_either(lambda lib, t: F(lib).one_hot(t), integers(0, 4, *shape))


MORE_MISTAKES = {
    "mse of integers": lambda lib, x: F(lib).mse_loss(x.long(), x.long()),
    "mse shapes": lambda lib, x: F(lib).mse_loss(x, x[:2]),
    "huber delta": lambda lib, x: F(lib).huber_loss(x, x, delta=0.0),
    "smooth beta": lambda lib, x: F(lib).smooth_l1_loss(x, x, beta=-1.0),
    "bce above 1": lambda lib, x: F(lib).binary_cross_entropy(x * 0 + 1.5, x),
    "bce below 0": lambda lib, x: F(lib).binary_cross_entropy(x * 0 - 0.5, x),
    "bce nan": lambda lib, x: F(lib).binary_cross_entropy(x * math.nan, x),
    "bce shapes": lambda lib, x: F(lib).binary_cross_entropy(x * 0, x[0]),
    "bce weight": lambda lib, x: F(lib).binary_cross_entropy(x * 0, x, x[:2]),
    "bce reduction": lambda lib, x: F(lib).binary_cross_entropy(x * 0, x, reduction="x"),
    "logits shapes": lambda lib, x: F(lib).binary_cross_entropy_with_logits(x, x[0]),
    "logits pos_weight": lambda lib, x: F(lib).binary_cross_entropy_with_logits(x, x, pos_weight=x[:2]),
    "soft shapes": lambda lib, x: F(lib).soft_margin_loss(x, x[:2]),
    "margin target": lambda lib, x: F(lib).multi_margin_loss(x, lib.tensor([0, 1, 2, 3])),
    "margin target below": lambda lib, x: F(lib).multi_margin_loss(x, lib.tensor([0, 1, 2, -1])),
    "margin targets": lambda lib, x: F(lib).multi_margin_loss(x, lib.tensor([0, 1, 2])),
    "margin p": lambda lib, x: F(lib).multi_margin_loss(x, lib.tensor([0, 1, 2, 0]), p=3),
    "margin weight": lambda lib, x: F(lib).multi_margin_loss(x, lib.tensor([0, 1, 2, 0]), weight=x[:, 0]),
    "margin dims": lambda lib, x: F(lib).multi_margin_loss(x[None], lib.tensor([[0, 1, 2]])),
    "multilabel soft": lambda lib, x: F(lib).multilabel_soft_margin_loss(x, x, reduction="x"),
    "ranking dims": lambda lib, x: F(lib).margin_ranking_loss(x, x, x[0]),
    "triplet dims": lambda lib, x: F(lib).triplet_margin_loss(x, x, x[0]),
    "triplet margin": lambda lib, x: F(lib).triplet_margin_loss(x, x, x, margin=0.0),
    "cosine dims": lambda lib, x: F(lib).cosine_embedding_loss(x, x, x),
    "cosine unbatched": lambda lib, x: F(lib).cosine_embedding_loss(x, x, x[0, 0]),
    "cosine batch": lambda lib, x: F(lib).cosine_embedding_loss(x, x, x[0]),
    "kl reduction": lambda lib, x: F(lib).kl_div(x, x, reduction="x"),
    "kl shapes": lambda lib, x: F(lib).kl_div(x, x[:2], reduction="sum"),
    "poisson reduction": lambda lib, x: F(lib).poisson_nll_loss(x, x, reduction="x"),
    "gaussian negative": lambda lib, x: F(lib).gaussian_nll_loss(x, x, x * 0 - 1),
    "gaussian shape": lambda lib, x: F(lib).gaussian_nll_loss(x, x, x[:2]),
    "gaussian number": lambda lib, x: F(lib).gaussian_nll_loss(x, x, -1.0),
    "gaussian reduction": lambda lib, x: F(lib).gaussian_nll_loss(x, x, x * 0 + 1, reduction="x"),
    "similarity shapes": lambda lib, x: F(lib).cosine_similarity(x, x[:2]),
    "similarity dim": lambda lib, x: F(lib).cosine_similarity(x, x, 2),
    "distance shapes": lambda lib, x: F(lib).pairwise_distance(x, x[:2]),
    "one_hot floats": lambda lib, x: F(lib).one_hot(x),
    "one_hot negative": lambda lib, x: F(lib).one_hot(lib.tensor([-1, 2])),
    "one_hot large": lambda lib, x: F(lib).one_hot(lib.tensor([1, 3]), 3),
    "one_hot none": lambda lib, x: F(lib).one_hot(lib.tensor([0]), 0),
    "one_hot classes": lambda lib, x: F(lib).one_hot(lib.tensor([0]), -2),
    "probabilities ignored": lambda lib, x: F(lib).cross_entropy(x, x, ignore_index=1),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MORE_MISTAKES)
def test_more_mistakes(name):
    check_raises(MORE_MISTAKES[name], normal(4, 3))


def test_the_text_of_a_target_out_of_bounds():
    for name in ("cross_entropy", "nll_loss"):
        for lib in LIBS:
            with pytest.raises(IndexError, match=r"Target 12 is out of bounds\."):
                getattr(F(lib), name)(lib.zeros(2, 10), lib.tensor([3, 12]))
