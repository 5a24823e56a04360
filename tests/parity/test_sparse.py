"""Embedding and Bilinear against PyTorch."""

import pytest

from .pairs import check, check_either, check_raises, fill, integers, normal


def F(lib):
    return lib.nn.functional


@pytest.mark.parametrize("shape", [(7,), (3, 4), (), (0, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("kwargs", [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"scale_grad_by_freq": True},
                                    {"max_norm": 1.5}, {"max_norm": 1.0, "norm_type": 1.0}])  # fmt: skip
def test_embedding(shape, kwargs):
    def case(lib, index, w):
        table = w * 1 if "max_norm" not in kwargs else w.detach().clone().requires_grad_()
        y = F(lib).embedding(index, table, **kwargs)
        grads = lib.autograd.grad((y**2).sum(), table, allow_unused=True, retain_graph=True)
        return y, table, grads if "max_norm" in kwargs else ()

    check(case, integers(0, 6, *shape), normal(6, 4), tol=3)
    check(lambda lib, index, w: F(lib).embedding(index.int(), w), integers(0, 6, *shape), normal(6, 4))


@pytest.mark.parametrize("kwargs", [{}, {"padding_idx": 2}, {"padding_idx": -2, "max_norm": 2.0, "norm_type": 1.0},
                                    {"scale_grad_by_freq": True}])  # fmt: skip
def test_embedding_module(kwargs):
    def case(lib, index):
        m = lib.nn.Embedding(5, 3, **kwargs)
        zero = m.weight.detach().sum(1) == 0
        fill(lib, m)
        y = m(index)
        y.sum().backward(retain_graph=True)
        pretrained = lib.nn.Embedding.from_pretrained(lib.ones(5, 3), **kwargs)
        return (y, m.weight.grad, dict(m.state_dict()), repr(m), m.padding_idx, zero, pretrained(index),
                pretrained.weight.requires_grad)  # fmt: skip

    check(case, integers(0, 5, 3, 4))


MISTAKES = {
    "range": lambda lib, index: lib.nn.Embedding(4, 2)(index),
    "negative": lambda lib, index: lib.nn.Embedding(9, 2)(index - 9),
    "floats": lambda lib, index: lib.nn.Embedding(9, 2)(index.float()),
    "padding": lambda lib, index: lib.nn.Embedding(4, 2, padding_idx=4),
    "padding below": lambda lib, index: F(lib).embedding(index, lib.ones(5, 2), padding_idx=-6),
    "bilinear": lambda lib, index: lib.nn.Bilinear(2, 3, 4)(lib.ones(5, 2), lib.ones(5, 2)),
    "bilinear lead": lambda lib, index: lib.nn.Bilinear(2, 3, 4)(lib.ones(5, 2), lib.ones(4, 3)),
    "bilinear zero": lambda lib, index: lib.nn.Bilinear(0, 3, 4),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name], integers(0, 5, 20), dtype="float32")


@pytest.mark.parametrize("lead", [(), (4,), (0,), (2, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_bilinear(lead, bias):
    def case(lib, a, b):
        m = fill(lib, lib.nn.Bilinear(3, 4, 5, bias=bias))
        m = m.double() if a.dtype == lib.float64 else m
        y = m(a, b)
        return y, lib.autograd.grad((y**2).sum(), list(m.parameters()), retain_graph=True), repr(m)

    check_either(case, normal(*lead, 3), normal(*lead, 4))
