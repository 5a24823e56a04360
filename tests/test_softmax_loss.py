"""Softmax, log-softmax, cross-entropy, negative log-likelihood."""

import itertools

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, layout, nn

REDUCTIONS = ("none", "sum", "mean")


def softmax(x, dim):
    """By definition, in extended precision."""
    e = np.exp(x.astype(np.longdouble))
    return (e / e.sum(axis=dim, keepdims=True)).astype(float)


def losses(x, t, weight, ignore_index, smoothing):
    """Loss and weight of each position by loops over positions; x has its classes on axis 1."""
    C = x.shape[1]
    loss, weights = np.zeros(t.shape), np.zeros(t.shape)
    for place in np.ndindex(t.shape):
        if t[place] != ignore_index:
            log_p = np.log(softmax(x[(place[0], slice(None), *place[1:])], 0))
            hot = np.eye(C)[t[place]] * (1 - smoothing) + smoothing / C
            loss[place] = -sum(hot[c] * weight[c] * log_p[c] for c in range(C))
            weights[place] = weight[t[place]]
    return loss, weights


def reduced(loss, weights, reduction):
    with np.errstate(all="ignore"):
        return {"none": loss, "sum": loss.sum(), "mean": loss.sum() / weights.sum()}[reduction]


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((), 0), ((5,), -1), ((4, 7), 1), ((4, 7), 0), ((3, 1), 1), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), 2),
     ((2, 3, 4, 5), -1), ((2, 3, 4), 1), ((6, 31), 1), ((6, 33), 1), ((300, 10), 1), ((3, 4100), 1)],
)  # fmt: skip
def test_softmax(rng, shape, dim):
    x = rng.standard_normal(shape) * 3
    check(F.softmax, x, oracle=softmax, kwargs={"dim": dim})
    check(F.log_softmax, x, oracle=lambda x, dim: np.log(softmax(x, dim)), kwargs={"dim": dim})


def test_softmax_by_hand():
    x = fastnn.tensor([[0.0, np.log(3.0)], [1000.0, 1000.0]])
    close(F.softmax(x, 1), [[0.25, 0.75], [0.5, 0.5]])
    close(F.log_softmax(x, 0), [[-1000.0, np.log(3.0) - 1000], [0.0, 0.0]])


def test_softmax_of_infinities_and_nan():
    inf, nan = np.inf, np.nan
    x = fastnn.tensor([[0.0, -inf, 0.0], [-inf, -inf, -inf], [inf, 0.0, 1.0], [nan, 0.0, 1.0]])
    expected = [[0.5, 0.0, 0.5], [nan] * 3, [nan] * 3, [nan] * 3]
    close(F.softmax(x, 1), expected)
    with np.errstate(divide="ignore"):
        close(F.log_softmax(x, 1), np.log(expected))


def test_softmax_keeps_memory_order(rng):
    x = layout.channels_last(rng.standard_normal((2, 3, 4, 5)))
    for dim in range(4):
        assert layout.is_channels_last(F.softmax(fastnn.Tensor(x), dim).array)
    assert F.softmax(fastnn.ones(2, 3), 1, dtype=fastnn.float64).dtype == fastnn.float64


def test_softmax_refuses():
    with pytest.raises(IndexError, match=r"softmax: dim 2 is out of range; for 2 dimensions it must be from -2 to 1"):
        F.softmax(fastnn.ones(2, 3), 2)
    with pytest.raises(TypeError, match="log_softmax: input must be float32 or float64, but is int64"):
        F.log_softmax(fastnn.ones(2, 3, dtype=fastnn.int64), 1)


@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (6, 40), (2, 3, 7), (2, 4, 3, 5), (2, 3, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy(rng, shape, reduction):
    N, C, *rest = shape
    x, t, w = rng.standard_normal(shape) * 2, rng.integers(0, C, (N, *rest)), rng.uniform(0.5, 2, C)
    t[-1:] = t[-1:] if N == 1 else -100
    for weight, smoothing, ignore in itertools.product((None, w), (0.0, 0.2), (-100, 0)):
        target = np.where(t == -100, 0, t) if ignore == 0 and N > 1 and C > 1 else t
        if not (target != ignore).any():
            continue

        def op(x, t, *w, reduction=reduction, smoothing=smoothing, ignore=ignore):
            w = w[0].detach() if w else None
            return F.cross_entropy(x, t, w, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing)

        def oracle(x, t, w=np.ones(C), smoothing=smoothing, ignore=ignore):  # noqa: B008
            return reduced(*losses(x, t, w, ignore, smoothing), reduction)

        check(op, x, target, *(() if weight is None else (weight,)), oracle=oracle, grad=[0])


def test_cross_entropy_by_hand():
    x = fastnn.tensor([[0.0, np.log(3.0)], [0.0, 0.0]], requires_grad=True)
    loss = F.cross_entropy(x, fastnn.tensor([1, 0]), fastnn.tensor([2.0, 1.0]))
    # (1·−log 3/4 + 2·log 2) / 3
    assert abs(loss.item() - (0.2876820724 + 2 * 0.6931471806) / 3) < 1e-6
    loss.backward()
    close(x.grad, [[0.25 / 3, -0.25 / 3], [-1.0 / 3, 1.0 / 3]])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 4, 3, 5)], ids=str)
def test_cross_entropy_of_probabilities(rng, shape, reduction):
    dim = min(1, len(shape) - 1)
    x, w = rng.standard_normal(shape), rng.uniform(0.5, 2, shape[dim])
    q = softmax(rng.standard_normal(shape), dim)

    def op(x, q, w, smoothing):
        return F.cross_entropy(x, q, w.detach(), reduction=reduction, label_smoothing=smoothing)

    def oracle(x, q, w, smoothing):
        q = (1 - smoothing) * q + smoothing / shape[dim]
        w = w.reshape((-1,) + (1,) * (len(shape) - dim - 1))
        loss = -(w * q * np.log(softmax(x, dim))).sum(axis=dim)
        return {"none": loss, "sum": loss.sum(), "mean": loss.sum() / max(loss.size, 1)}[reduction]

    for smoothing in (0.0, 0.3):
        check(op, x, q, w, oracle=oracle, grad=[0, 1], kwargs={"smoothing": smoothing})


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 3, 5)], ids=str)
def test_nll_loss(rng, shape, reduction):
    x, w = rng.standard_normal(shape), rng.uniform(0.5, 2, shape[1])
    t = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    t.flat[1] = -1

    def oracle(x, t, w):
        loss, weights = np.zeros(t.shape), np.zeros(t.shape)
        for place in np.ndindex(t.shape):
            if t[place] != -1:
                weights[place] = w[t[place]]
                loss[place] = -w[t[place]] * x[(place[0], t[place], *place[1:])]
        return reduced(loss, weights, reduction)

    def op(x, t, w):
        return F.nll_loss(x, t, w.detach(), ignore_index=-1, reduction=reduction)

    check(op, x, t, w, oracle=oracle, grad=[0])


def test_extreme_logits():
    x = fastnn.tensor([[1e4, -1e4, 0.0], [-np.inf, 0.0, 0.0], [88.0, 89.0, 90.0]])
    close(F.cross_entropy(x, fastnn.tensor([1, 1, 2]), reduction="none"), [2e4, np.log(2), 0.4076059644])


@pytest.mark.parametrize("op", [F.cross_entropy, F.nll_loss])
def test_nothing_to_average(op):
    x = fastnn.ones(2, 3, requires_grad=True)
    loss = op(x, fastnn.tensor([-100, -100]))
    assert np.isnan(loss.item())
    loss.backward()
    close(x.grad, np.zeros((2, 3), "float32"))
    empty = fastnn.ones(0, 3), fastnn.ones(0, dtype=fastnn.int64)
    assert np.isnan(op(*empty).item()) and op(*empty, reduction="sum").item() == 0
    assert op(*empty, reduction="none").shape == (0,)


@pytest.mark.parametrize("op", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize("label", [-1, 3, 2**40, -(2**63)])
def test_labels_out_of_range(op, label):
    name = op.__name__
    with pytest.raises(IndexError, match=rf"{name}: Target {label} is out of bounds\. There are 3 classes"):
        op(fastnn.ones(2, 3), fastnn.tensor([0, label]))


@pytest.mark.parametrize("op", [F.cross_entropy, F.nll_loss])
def test_class_losses_refuse(op):
    x, t = fastnn.ones(2, 3), fastnn.tensor([0, 1])
    for error, match, arguments in [
        (RuntimeError, r"target has shape \(3,\), but an input of shape \(2, 3\) needs \(2,\)",
         (x, fastnn.tensor([0, 1, 2]))),
        (RuntimeError, r"weight has shape \(2,\), but .* needs \(3,\)", (x, t, fastnn.ones(2))),
        (TypeError, "input is float32, but weight is float64", (x, t, fastnn.ones(3, dtype=fastnn.float64))),
        (TypeError, r"int64, but is int32; use .long\(\)", (x, t.int())),
        (TypeError, r"int64, but is float32; use .long\(\)", (x, t.float())),
        (TypeError, "input and target hold no floats; use .float", (x.long(), t)),
        (TypeError, "target must be a Tensor, but a list came", (x, [0, 1])),
        (ValueError, "input must be .* but is 0-d", (fastnn.tensor(1.0), fastnn.tensor(0).reshape(1))),
    ]:  # fmt: skip
        with pytest.raises(error, match=f"{op.__name__}: .*{match}"):
            op(*arguments)
    with pytest.raises(ValueError, match="reduction must be 'none', 'mean' or 'sum', but 'average' came"):
        op(x, t, reduction="average")


def test_cross_entropy_refuses():
    x, t = fastnn.ones(2, 3), fastnn.tensor([0, 1])
    with pytest.raises(RuntimeError, match=r"label_smoothing must be from 0 to 1, but 1\.5 came"):
        F.cross_entropy(x, t, label_smoothing=1.5)
    with pytest.raises(TypeError, match=r"input is float32, but target of the input.s shape is float64"):
        F.cross_entropy(x, fastnn.ones(2, 3, dtype=fastnn.float64))
    with pytest.raises(TypeError, match="target of the input's shape must be float32 or float64, but is int64"):
        F.cross_entropy(x, fastnn.ones(2, 3, dtype=fastnn.int64))


def test_unbatched_and_uint8_targets():
    x = fastnn.tensor([0.0, np.log(3.0)])
    assert abs(F.cross_entropy(x, fastnn.tensor(1)).item() - np.log(4 / 3)) < 1e-6
    close(F.cross_entropy(x.reshape(1, 2), fastnn.tensor([1], dtype=fastnn.uint8), reduction="none"), [np.log(4 / 3)])


def test_no_classes():
    """Only rows that are left out can have none; the memory of their losses is not left as it came."""
    x, t = fastnn.zeros(50, 0, requires_grad=True), fastnn.full((50,), -100)
    for fill in (np.nan, 1e9):
        np.full((2, 50), fill, np.float32)  # what freed memory may hold
        loss = F.cross_entropy(x, t, reduction="none")
        assert not loss.array.any()
    loss.sum().backward()
    assert x.grad.shape == (50, 0)


def test_backward_twice():
    """The gradient kept by the forward pass is not given away."""
    x = fastnn.tensor([[0.0, 0.0]], requires_grad=True)
    loss = F.cross_entropy(x, fastnn.tensor([0]))
    loss.backward(retain_graph=True)
    loss.backward()
    close(x.grad, [[-1.0, 1.0]])


def test_modules(rng):
    x, t, w = fastnn.tensor(rng.standard_normal((4, 3))), fastnn.tensor([0, 2, -1, 1]), fastnn.tensor([1.0, 2.0, 0.5])
    x, w = x.float(), w.float()
    loss = nn.CrossEntropyLoss(w, ignore_index=-1, reduction="sum", label_smoothing=0.1)
    close(loss(x, t), F.cross_entropy(x, t, w, ignore_index=-1, reduction="sum", label_smoothing=0.1).array)
    close(nn.NLLLoss(w, ignore_index=-1)(x, t), F.nll_loss(x, t, w, ignore_index=-1).array)
    assert list(loss.state_dict()) == ["weight"] and not list(loss.parameters())
    assert loss.double().weight.dtype == fastnn.float64
    assert list(nn.CrossEntropyLoss().state_dict()) == [] and repr(nn.NLLLoss()) == "NLLLoss()"


@pytest.mark.parametrize("isa", backend.instruction_sets())
def test_kernels_refuse_what_does_not_fit(isa):
    kernels = backend.load("compiled", isa)["softmax"]
    x = np.ones((4, 6), np.float32)
    for bad in (x.T.copy(), x.astype(np.float64), x[:, ::2], x.reshape(4, 2, 3)):
        with pytest.raises(ValueError, match="kernel:"):
            kernels.softmax(x, bad, 1)
    column = np.ones(4, np.float32)
    good = [x, np.zeros(4, np.int64), np.ones(6, np.float32), 0.0, -100, column, np.zeros(2), x.copy()]
    kernels.cross_entropy(*good, 1)
    for i, bad in [(1, np.zeros(3, np.int64)), (1, np.zeros(4, np.int32)), (1, np.zeros(8, np.int64)[::2]),
                   (2, np.ones(4, np.float32)), (2, np.ones(6)), (5, np.ones(3, np.float32)), (6, np.ones(4)),
                   (7, np.ones((6, 4), np.float32))]:  # fmt: skip
        with pytest.raises(ValueError, match="kernel:"):
            kernels.cross_entropy(*good[:i], bad, *good[i + 1 :], 1)
    before = [a.copy() for a in good[5:]]
    with pytest.raises(IndexError, match=r"Target 6 is out of bounds\. There are 6 classes"):
        kernels.cross_entropy(x, np.array([0, 1, 2, 6]), *good[2:], 1)
    for a, b in zip(good[5:], before, strict=True):
        np.testing.assert_array_equal(a, b)
