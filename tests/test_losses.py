"""Losses of two and three tensors, multiclass hinge, distances, one_hot: loops over elements as the oracle."""

import copy
import gc
import math
import pickle
import warnings

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import nn

REDUCTIONS = ("none", "sum", "mean")
SHAPES = [(), (5,), (3, 4), (2, 3, 5, 4)]


def logistic(x):
    return 1 / (1 + math.exp(-x))


def huber(d, limit):
    return d * d / 2 if abs(d) < limit else limit * (abs(d) - limit / 2)


def norm(v, p):
    return sum(abs(a) ** p for a in v) ** (1 / p)


def cosine(a, b):
    return sum(a * b) / (norm(a, 2) * norm(b, 2))


def signs(rng, shape):
    return rng.choice([-1.0, 1.0], shape)


# name: the loss of single numbers; its arguments; which of the inputs x and t are probabilities ("p") or signs ("s")
ELEMENTS = [
    ("mse_loss", lambda x, t: (x - t) ** 2, {}, "xx"),
    ("l1_loss", lambda x, t: abs(x - t), {}, "xx"),
    ("huber_loss", lambda x, t: huber(x - t, 0.7), {"delta": 0.7}, "xx"),
    ("smooth_l1_loss", lambda x, t: huber(x - t, 0.7) / 0.7, {"beta": 0.7}, "xx"),
    ("smooth_l1_loss", lambda x, t: abs(x - t), {"beta": 0}, "xx"),
    ("binary_cross_entropy", lambda p, t: -t * math.log(p) - (1 - t) * math.log(1 - p), {}, "pp"),
    ("binary_cross_entropy_with_logits",
     lambda x, t: -t * math.log(logistic(x)) - (1 - t) * math.log(1 - logistic(x)), {}, "xp"),
    ("soft_margin_loss", lambda x, t: math.log(1 + math.exp(-t * x)), {}, "xs"),
    ("hinge_loss", lambda x, t: max(0, 1 - t * x), {}, "xs"),
    ("hinge_loss", lambda x, t: max(0, 0.4 - t * x) ** 2, {"p": 2, "margin": 0.4}, "xs"),
    ("hinge_embedding_loss", lambda x, t: x if t == 1 else max(0, 0.6 - x), {"margin": 0.6}, "xs"),
    ("kl_div", lambda x, t: t * (math.log(t) - x), {}, "xp"),
    ("kl_div", lambda x, t: math.exp(t) * (t - x), {"log_target": True}, "xx"),
    ("poisson_nll_loss", lambda x, t: math.exp(x) - t * x, {}, "xx"),
    ("poisson_nll_loss", lambda x, t: x - t * math.log(x + 0.1), {"log_input": False, "eps": 0.1}, "pp"),
    ("poisson_nll_loss", lambda x, t: math.exp(x) - 9 * t * x + (9 * t > 1) * (
        9 * t * math.log(9 * t) - 9 * t + math.log(2 * math.pi * 9 * t) / 2), {"full": True, "scale": 9}, "xp"),
]  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", ELEMENTS, ids=lambda case: f"{case[0]}-{'-'.join(map(str, case[2]))}")
@pytest.mark.filterwarnings("ignore:.*rarely as meant")
def test_losses_of_elements(rng, case, reduction):
    name, element, arguments, kinds = case
    scale = arguments.get("scale", 1)
    arguments = {k: v for k, v in arguments.items() if k != "scale"}

    def oracle(x, t):
        x, t = np.broadcast_arrays(x, t)
        y = np.array([element(a, b) for a, b in zip(x.ravel(), t.ravel(), strict=True)]).reshape(x.shape)
        return {"none": y, "sum": y.sum(), "mean": y.sum() / y.size if y.size else np.array(np.nan)}[reduction]

    def op(x, t):
        return getattr(F, name)(x, t if scale == 1 else t * scale, reduction=reduction, **arguments)

    draw = {"x": rng.standard_normal, "p": lambda shape: rng.uniform(0.05, 0.95, shape), "s": lambda s: signs(rng, s)}
    for shape in SHAPES:
        x, t = (draw[kind](shape) for kind in kinds)
        check(op, np.asarray(x), np.asarray(t), oracle=oracle, grad=[0, 1] if kinds[1] != "s" else [0], tol=2e-5)


def test_by_hand():
    def values(loss):
        return loss.array.astype(float).round(4).tolist()

    x = fastnn.tensor([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])  # the lecture's cat, car and frog
    assert values(3 * F.multi_margin_loss(x, fastnn.tensor([0, 1, 2]), reduction="none")) == [2.9, 0.0, 12.9]
    assert values(F.hinge_loss(fastnn.tensor([0.5, -1.0, 2.0]), fastnn.tensor([1, 1, -1]), reduction="none")) == [
        0.5, 2.0, 3.0]  # fmt: skip
    zeros = fastnn.zeros(3)
    assert values(F.huber_loss(fastnn.tensor([0.5, -3.0, 1.0]), zeros, reduction="none")) == [0.125, 2.5, 0.5]
    logits = F.binary_cross_entropy_with_logits(fastnn.tensor([0.0, 1e4, -1e4]), zeros, reduction="none")
    assert values(logits) == [0.6931, 1e4, 0.0]
    assert values(F.binary_cross_entropy(zeros, zeros + 1)) == 100.0
    assert values(F.gaussian_nll_loss(zeros, zeros + 2, 4.0, full=True)) == round(math.log(8 * math.pi) / 2 + 0.5, 4)
    assert values(F.cosine_similarity(fastnn.tensor([[1.0, 1.0]]), fastnn.tensor([[2.0, 0.0]]))) == [0.7071]
    assert values(F.pairwise_distance(fastnn.tensor([0.0, 3.0]), fastnn.tensor([4.0, 0.0]))) == 5.0
    assert F.one_hot(fastnn.tensor([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin_loss(rng, p, reduction):
    x, t, w = rng.standard_normal((5, 4)), rng.integers(0, 4, 5), rng.uniform(0.5, 2, 4)

    def oracle(x, t, w):
        y = [sum(w[c] * max(0, 0.8 - row[c] + row[j]) ** p for j in range(4) if j != c) / 4
             for row, c in zip(x, t, strict=True)]  # fmt: skip
        return {"none": np.array(y), "sum": np.sum(y), "mean": np.sum(y) / (len(y) or np.nan)}[reduction]

    check(lambda x, t, w: F.multi_margin_loss(x, t, p, 0.8, w.detach(), reduction=reduction), x, t, w,
          oracle=oracle, grad=[0])  # fmt: skip


def test_losses_of_vectors(rng):
    a, b, c, t = *rng.standard_normal((3, 4, 6)), signs(rng, 4)

    def loop(f):
        return lambda *arrays: np.array([f(*rows) for rows in zip(*arrays, strict=True)])

    def distance(x, y, p):
        return norm(x - y + 1e-2, p)

    for p in (1.0, 2.0, 3.0):
        check(lambda a, b, p=p: F.pairwise_distance(a, b, p, 1e-2), a, b,
              oracle=loop(lambda a, b, p=p: distance(a, b, p)))  # fmt: skip
        for swap in (False, True):
            check(lambda *x, p=p, swap=swap: F.triplet_margin_loss(*x, 0.5, p, 1e-2, swap, reduction="none"), a, b, c,
                  oracle=loop(lambda a, b, c, p=p, swap=swap: max(0, 0.5 + distance(a, b, p) - min(
                      distance(a, c, p), distance(b, c, p) if swap else math.inf))))  # fmt: skip
    check(lambda a, b: F.cosine_similarity(a, b), a, b, oracle=loop(cosine))
    check(lambda a, b: F.cosine_similarity(a, b, -3), rng.standard_normal((3, 4, 2)), rng.standard_normal((4, 1)),
          oracle=lambda a, b: np.array([[cosine(a[:, i, j], np.full(len(a), b[i, 0])) for j in range(2)]
                                        for i in range(4)]) if len(a) else np.zeros((4, 2)))  # fmt: skip
    check(lambda a, b, t: F.cosine_embedding_loss(a, b, t, 0.1, reduction="none"), a, b, t, grad=[0, 1],
          oracle=loop(lambda a, b, t: 1 - cosine(a, b) if t == 1 else max(0, cosine(a, b) - 0.1)))  # fmt: skip
    check(lambda a, b, t: F.margin_ranking_loss(a, b, t.reshape(4, 1), 0.3, reduction="none"), a, b, t, grad=[0, 1],
          oracle=loop(lambda a, b, t: np.maximum(0, 0.3 - t * (a - b))))  # fmt: skip
    entropy = np.vectorize(lambda x, t: -t * math.log(logistic(x)) - (1 - t) * math.log(1 - logistic(x)), [float])
    check(lambda x, t, w: F.multilabel_soft_margin_loss(x, t, w.detach(), reduction="none"), a, rng.random((4, 6)),
          c[0], grad=[0, 1], oracle=lambda x, t, w: (w * entropy(x, t)).sum(1) / 6)  # fmt: skip


def test_gaussian_nll_loss(rng):
    x, t, v = *rng.standard_normal((2, 4, 5)), rng.uniform(0.1, 2, (4, 5))

    def oracle(x, t, v):
        v = np.maximum(v, 0.5)
        return 0.5 * np.log(2 * np.pi * v) + (x - t) ** 2 / (2 * v)

    check(lambda *a: F.gaussian_nll_loss(*a, True, 0.5, reduction="none"), x, t, v, oracle=oracle, grad=[0, 1])
    check(lambda x, t, v: F.gaussian_nll_loss(x, t, v, reduction="none"), x, t, v, grad=[0, 1, 2])


def test_weights_of_binary_losses(rng):
    x, t, w, v = rng.standard_normal((4, 3)), rng.random((4, 3)), rng.random(3), rng.random((4, 1))

    def oracle(x, t, w, v):
        p = 1 / (1 + np.exp(-x))
        return np.sum(-w * (v * t * np.log(p) + (1 - t) * np.log(1 - p))) / (x.size or np.nan)

    check(lambda x, t, w, v: F.binary_cross_entropy_with_logits(x, t, w, pos_weight=v), x, t, w, v, oracle=oracle)
    check(lambda x, t, w, v: F.binary_cross_entropy(x.sigmoid(), t, w), x, t, w, np.ones((4, 1)), oracle=oracle,
          grad=[0, 1, 2])  # fmt: skip


def test_extreme_logits_have_finite_gradients():
    x = fastnn.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    F.binary_cross_entropy_with_logits(x, fastnn.tensor([0.0, 0.0, 1.0, 1.0]), reduction="sum").backward()
    close(x.grad, [1.0, 0.0, 0.0, -1.0])
    x = fastnn.tensor([1e4, -1e4], requires_grad=True)
    loss = F.soft_margin_loss(x, fastnn.tensor([-1.0, -1.0]), reduction="none")
    loss.sum().backward()
    assert loss.tolist() == [1e4, 0.0]
    close(x.grad, [1.0, 0.0])


def test_broadcasting_warns(rng):
    x, t = fastnn.tensor(rng.standard_normal((3, 1)), requires_grad=True), fastnn.tensor(rng.standard_normal(3))
    for op in (F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss):
        with pytest.warns(UserWarning, match=r"target has shape \(3,\) and input \(3, 1\); they are broadcast"):
            assert op(x, t).shape == ()
        with pytest.raises(RuntimeError, match=rf"{op.__name__}: .*\(2, 3\) and \(3, 2\) do not broadcast"):
            op(fastnn.ones(2, 3), fastnn.ones(3, 2))
    with pytest.warns(UserWarning):
        F.mse_loss(x, t).backward()
    d = x.detach().numpy() - t.numpy()
    close(x.grad, 2 * d.sum(axis=1, keepdims=True) / 9)


def test_dtypes():
    x, ints = fastnn.ones(2, dtype=fastnn.float64, requires_grad=True), fastnn.tensor([1, 3])
    assert F.mse_loss(x, fastnn.zeros(2)).dtype == fastnn.float64
    assert F.mse_loss(x, ints).item() == 2 and F.l1_loss(ints, x).item() == 1
    assert F.hinge_loss(fastnn.ones(2), fastnn.tensor([1, -1])).dtype == fastnn.float32
    y = fastnn.zeros(2, requires_grad=True)
    F.mse_loss(x, y).backward()
    assert x.grad.dtype == fastnn.float64 and y.grad.dtype == fastnn.float32
    assert np.isnan(F.mse_loss(fastnn.ones(0), fastnn.ones(0)).item())


def test_arguments_by_name_in_any_order():
    x, t = fastnn.tensor([3.0], requires_grad=True), fastnn.tensor([1.0], requires_grad=True)
    F.mse_loss(target=t, reduction="sum", input=x).backward()
    F.hinge_loss(x, p=1, target=t * 0, margin=2.0).backward()
    assert (x.grad.item(), t.grad.item()) == (4.0, -4.0)


def test_a_changed_operand_is_noticed():
    x = fastnn.ones(3, requires_grad=True)
    y = x * 2
    loss = F.mse_loss(y, fastnn.zeros(3))
    y.add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


ONE, T = fastnn.ones(2, 3), fastnn.tensor([0, 2])
MISTAKES = [
    (TypeError, "input and target hold no floats", lambda: F.mse_loss(T, T)),
    (TypeError, "target must be a Tensor, but a list came", lambda: F.l1_loss(ONE, [1.0])),
    (TypeError, "l1_loss: target must be a Tensor, but a NoneType came", lambda: F.l1_loss(ONE)),
    (TypeError, "unexpected keyword", lambda: F.l1_loss(ONE, ONE, beta=1)),
    (ValueError, "'none', 'mean' or 'sum', but 'batchmean' came", lambda: F.l1_loss(ONE, ONE, reduction="batchmean")),
    (ValueError, "huber_loss: delta must be positive", lambda: F.huber_loss(ONE, ONE, delta=0)),
    (ValueError, "smooth_l1_loss: beta must not be negative", lambda: F.smooth_l1_loss(ONE, ONE, beta=-1)),
    (ValueError, "binary_cross_entropy: .* between 0 and 1", lambda: F.binary_cross_entropy(ONE * 2, ONE)),
    (ValueError, "binary_cross_entropy: .* between 0 and 1", lambda: F.binary_cross_entropy(ONE * math.nan, ONE)),
    (ValueError, "binary_cross_entropy: target must have the shape", lambda: F.binary_cross_entropy(ONE, ONE[0])),
    (ValueError, "with_logits: target must have", lambda: F.binary_cross_entropy_with_logits(ONE, ONE[:, :1])),
    (RuntimeError, "soft_margin_loss: mul: shapes", lambda: F.soft_margin_loss(ONE, ONE[:, :2])),
    (ValueError, "multi_margin_loss: p must be 1 or 2", lambda: F.multi_margin_loss(ONE, T, p=3)),
    (IndexError, r"multi_margin_loss: Target 3 is out of bounds\.", lambda: F.multi_margin_loss(ONE, T + 1)),
    (RuntimeError, r"weight has shape \(2,\)", lambda: F.multi_margin_loss(ONE, T, weight=fastnn.ones(2))),
    (RuntimeError, "margin_ranking_loss: equal ndim", lambda: F.margin_ranking_loss(ONE, ONE, ONE[0])),
    (RuntimeError, "triplet_margin_loss: .*ndim equal", lambda: F.triplet_margin_loss(ONE, ONE, ONE[0])),
    (ValueError, "triplet_margin_loss: margin must be", lambda: F.triplet_margin_loss(ONE, ONE, ONE, margin=0)),
    (RuntimeError, "cosine_embedding_loss: inputs must be", lambda: F.cosine_embedding_loss(ONE, ONE, ONE)),
    (ValueError, "gaussian_nll_loss: var has negative", lambda: F.gaussian_nll_loss(ONE, ONE, -ONE)),
    (ValueError, "gaussian_nll_loss: ", lambda: F.gaussian_nll_loss(ONE, ONE, fastnn.ones(4))),
    (RuntimeError, "probabilities have no ignore_index", lambda: F.cross_entropy(ONE, ONE, ignore_index=1)),
    (IndexError, "dim 2 is out of range", lambda: F.cosine_similarity(ONE, ONE, 2)),
    (RuntimeError, "do not broadcast", lambda: F.cosine_similarity(ONE, ONE[:, :2])),
    (TypeError, "one_hot: an int64 tensor is needed, but float32", lambda: F.one_hot(ONE)),
    (IndexError, "one_hot: an index is out of range", lambda: F.one_hot(T, 2)),
    (IndexError, "one_hot: an index is out of range", lambda: F.one_hot(T - 1)),
    (ValueError, r"one_hot: num_classes=-1 came for a tensor of shape \(0,\)", lambda: F.one_hot(T[:0])),
]  # fmt: skip


@pytest.mark.parametrize(("error", "text", "call"), MISTAKES, ids=[text for _, text, _ in MISTAKES])
def test_mistakes(error, text, call):
    with pytest.raises(error, match=text):
        call()


def test_no_cycles_of_references():
    """What a loss held is freed with it, not some time later."""
    x, t = fastnn.rand(3, 4, requires_grad=True), fastnn.rand(3, 4)
    gc.collect()
    gc.disable()
    try:
        for op in (F.mse_loss, F.huber_loss, F.l1_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
            op(x, t).backward()
        for op in (F.cross_entropy, F.nll_loss, F.multi_margin_loss):
            op(x, fastnn.tensor([0, 1, 2])).backward()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_modules(rng):
    x, t = fastnn.tensor(rng.random((4, 3))), fastnn.tensor(rng.random((4, 3)))
    for make, call in [
        (lambda: nn.SmoothL1Loss(reduction="sum", beta=0.1), lambda: F.smooth_l1_loss(x, t, reduction="sum", beta=0.1)),
        (lambda: nn.HingeLoss(2, margin=3.0), lambda: F.hinge_loss(x, t, 2, 3.0)),
        (lambda: nn.BCEWithLogitsLoss(pos_weight=t), lambda: F.binary_cross_entropy_with_logits(x, t, pos_weight=t)),
        (lambda: nn.KLDivLoss(reduction="batchmean"), lambda: F.kl_div(x, t, reduction="batchmean")),
        (lambda: nn.MSELoss(), lambda: F.mse_loss(x, t)),
        (lambda: nn.CosineSimilarity(0), lambda: F.cosine_similarity(x, t, 0)),
    ]:  # fmt: skip
        for module in (make(), copy.deepcopy(make()), pickle.loads(pickle.dumps(make()))):
            close(module(x, t), call().array)
            assert repr(module) == f"{type(module).__name__}()" and type(module).__module__ == "fastnn.nn.loss"
    assert nn.GaussianNLLLoss(full=True)(x, t, t).item() == F.gaussian_nll_loss(x, t, t, full=True).item()
    assert nn.TripletMarginLoss(p=1.0, swap=True)(x, t, x).item() == F.triplet_margin_loss(
        x, t, x, p=1.0, swap=True).item()  # fmt: skip
    assert list(nn.BCEWithLogitsLoss(t, pos_weight=t).state_dict()) == ["weight", "pos_weight"]
    assert nn.HuberLoss.__doc__ == F.huber_loss.__doc__ and nn.HuberLoss(delta=2.0).delta == 2.0
    with pytest.raises(TypeError, match="L1Loss: got an unexpected keyword argument 'beta'"):
        nn.L1Loss(beta=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert F.mse_loss(x, t).item() > 0
