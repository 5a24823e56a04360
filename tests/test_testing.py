"""gradcheck finds wrong derivatives and says where; rel_error."""

import numpy as np
import pytest

import fastnn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.autograd import Function, gradcheck
from fastnn.testing import rel_error


def double(*shape):
    return fastnn.randn(*shape, dtype=fastnn.float64, requires_grad=True)


class Wrong(Function):
    """Identity, whose derivative by element 2 is 1.5."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        grad = grad.clone()
        grad[2] = grad[2] * 1.5
        return grad


def test_rel_error():
    assert rel_error([1.0, 2.0], [1.0, 3.0]) == 0.2
    assert rel_error(fastnn.tensor([1.0]), np.array([-1.0])) == 1.0
    assert rel_error(0.0, 1e-9) == pytest.approx(0.1)
    assert rel_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0
    assert np.isnan(rel_error([1.0, np.nan], [1.0, 1.0]))


def test_right_derivatives():
    a, b, labels = double(2, 3), double(3, 2), fastnn.tensor([0, 2])
    before = a.array.copy(), b.array.copy()
    assert gradcheck(fastnn.matmul, (a, b))
    assert gradcheck(lambda x, t: F.cross_entropy(x, t), [a, labels])
    assert gradcheck(lambda a, b, s: (a * s, (b.sin(), labels)[0], a.sum()), (a, b, 2.0))
    assert gradcheck(lambda a, b: a.exp(), (a, b))  # b does not matter, and that is right
    assert gradcheck(nn.BatchNorm1d(3).double(), a)
    assert gradcheck(lambda x: x.T.relu(), fastnn.Tensor(before[0].T.copy().T, requires_grad=True))
    assert gradcheck(fastnn.sum, fastnn.tensor(2.0, dtype=fastnn.float64, requires_grad=True))
    for x, array in zip((a, b), before, strict=True):
        assert x.grad is None and (x.array == array).all()


def test_wrong_derivatives():
    x, y = double(2), double(4)
    with pytest.raises(RuntimeError, match=r"element 2 of output 1 has the derivative 1\.5 by element 2 of input 1; "):
        gradcheck(lambda x, y: (x.square(), Wrong.apply(y)), (x, y))
    assert gradcheck(lambda x, y: Wrong.apply(y), (x, y), raise_exception=False) is False
    assert gradcheck(lambda x, y: Wrong.apply(y), (x, y), rtol=0.6)
    with pytest.raises(RuntimeError, match="central differences give 2"):
        gradcheck(lambda y: y + y.detach(), y)
    with pytest.raises(RuntimeError, match="derivative nan"):
        gradcheck(lambda y: (y - y).sqrt() * 0 + y, y)


def test_mistakes():
    with pytest.raises(TypeError, match=r"must be float64, but input 1 is float32; use \.double"):
        gradcheck(lambda a, b: a * b, (double(2), fastnn.ones(2, requires_grad=True)))
    with pytest.raises(ValueError, match="at least one input must require grad"):
        gradcheck(lambda a: a * 2, fastnn.ones(2))
    with pytest.raises(ValueError, match="an output depend on it"):
        gradcheck(lambda a: a.detach(), double(2))
    with pytest.raises(ValueError, match="an output depend on it"):
        gradcheck(lambda a: (), double(2))
    assert gradcheck(lambda a: (a * 2, None, 3), double(2))
