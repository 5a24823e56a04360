"""Embedding, bilinear and maxout layers, against sums over indices."""
import copy
import pickle

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import nn


@pytest.mark.parametrize("shape", [(7,), (3, 4), (), (0, 3), (50, 60)])
def test_embedding_and_its_gradient(rng, shape):
    index, weight = rng.integers(0, 6, shape), rng.standard_normal((6, 5))
    check(lambda w: F.embedding(fastnn.Tensor(index), w), weight, oracle=lambda w: w[index])
    for kwargs in {"padding_idx": 2}, {"padding_idx": -1, "scale_grad_by_freq": True}:
        w = fastnn.tensor(weight, requires_grad=True)
        dy = rng.standard_normal((*shape, 5))
        F.embedding(fastnn.tensor(index), w, **kwargs).backward(fastnn.tensor(dy))
        true = np.zeros((6, 5))
        np.add.at(true, index, dy)
        if "scale_grad_by_freq" in kwargs:
            true /= np.maximum(np.bincount(index.ravel(), minlength=6), 1)[:, None]
        true[kwargs["padding_idx"]] = 0
        close(w.grad, true)


def test_norms_of_rows_that_are_used():
    w = fastnn.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]], requires_grad=True)
    y = F.embedding(fastnn.tensor([0, 1, 0]), w, max_norm=1.0)
    close(y, [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], tol=1e-6)
    close(w.detach(), [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]], tol=1e-6)
    close(F.embedding(fastnn.tensor([2]), w, max_norm=7.0, norm_type=1.0), [[3.0, 4.0]], tol=1e-6)


def test_embedding_module():
    m = nn.Embedding(5, 3, padding_idx=-2, max_norm=2.0)
    assert repr(m) == "Embedding(5, 3, padding_idx=3, max_norm=2.0)" and m.weight.array[3].tolist() == [0, 0, 0]
    assert list(m.state_dict()) == ["weight"]
    x = fastnn.tensor([[1, 2]])
    for other in copy.deepcopy(m), pickle.loads(pickle.dumps(m)):
        close(other(x), m(x).array)
    frozen = nn.Embedding.from_pretrained(fastnn.tensor([[1.0, 2.0], [3.0, 4.0]]), padding_idx=0)
    assert not frozen.weight.requires_grad and frozen(fastnn.tensor([1, 0])).tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: nn.Embedding(3, 2)(fastnn.tensor([3])), IndexError, "from 3 to 3 came, the size is 3"),
    (lambda: nn.Embedding(3, 2)(fastnn.tensor([-1])), IndexError, "out of range"),
    (lambda: nn.Embedding(3, 2)(fastnn.tensor([0.5])), TypeError, "tensor of integers"),
    (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "padding_idx must be from -3 to 2"),
    (lambda: nn.Embedding(3, 2, sparse=True), ValueError, "sparse gradients are not supported"),
    (lambda: F.embedding(fastnn.tensor([0]), fastnn.ones(3)), ValueError, "weight must be"),
    (lambda: nn.Bilinear(2, 3, 4)(fastnn.ones(5, 2), fastnn.ones(4, 3)), ValueError, "bilinear: inputs of shapes"),
    (lambda: nn.Bilinear(0, 3, 4), ValueError, "in1_features must be positive"),
    (lambda: F.maxout(fastnn.ones(2, 5), 2), ValueError, "num_pieces=2 must divide"),
])
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_bilinear(rng, lead):
    arrays = [rng.standard_normal(s) for s in ((*lead, 3), (*lead, 4), (5, 3, 4), (5,))]
    check(F.bilinear, *arrays, oracle=lambda a, b, w, c: np.einsum("...i,oij,...j->...o", a, w, b) + c)
    m = nn.Bilinear(3, 4, 5).double()
    assert repr(m) == "Bilinear(in1_features=3, in2_features=4, out_features=5, bias=True)"
    a, b = arrays[:2]
    close(m(fastnn.tensor(a), fastnn.tensor(b)),
          np.einsum("...i,oij,...j->...o", a, m.weight.array, b) + m.bias.array, np.float64)
    assert float(nn.Bilinear(4, 900, 3).weight.detach().abs().max()) <= 0.5


def test_maxout(rng):
    x = rng.standard_normal((4, 6, 3))
    check(F.maxout, x, oracle=lambda x, **_: np.maximum(x[:, ::2], x[:, 1::2]), kwargs={"num_pieces": 2})
    check(F.maxout, x, oracle=lambda x, **_: x.max(-1, keepdims=True), kwargs={"num_pieces": 3, "dim": -1})
    m = nn.Maxout(3, 4, 2)
    rows = x.astype(np.float32) @ m.weight.array.T + m.bias.array
    close(m(fastnn.tensor(x, dtype=fastnn.float32)), np.maximum(rows[..., ::2], rows[..., 1::2]), np.float32)
    assert repr(m) == "Maxout(in_features=3, out_features=4, num_pieces=2, bias=True)"
    assert sum(p.numel() for p in m.parameters()) == 2 * sum(p.numel() for p in nn.Linear(3, 4).parameters())


def test_maxout_contains_relu_and_leaky_relu(rng):
    """With pieces w·x and slope·w·x."""
    x, w = fastnn.tensor(rng.standard_normal((5, 3))), rng.standard_normal((4, 3))
    for slope, activation in (0.0, F.relu), (0.1, lambda x: F.leaky_relu(x, 0.1)):
        m = nn.Maxout(3, 4, 2, bias=False).double()
        m.load_state_dict({"weight": np.stack([w, slope * w], 1).reshape(8, 3)})
        close(m(x), activation(x @ fastnn.tensor(w.T)).array)
