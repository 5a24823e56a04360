"""Matrix products against `einsum`, and the linear layer."""
import numpy as np
import pytest
from harness import check

import fastnn
import fastnn.nn.functional as F


@pytest.mark.parametrize(("a", "b", "sum_"), [
    ((5, 7), (7, 3), "ij,jk->ik"),
    ((7,), (7,), "i,i->"),
    ((7,), (7, 3), "i,ij->j"),
    ((5, 7), (7,), "ij,j->i"),
    ((2, 3, 5, 7), (7, 4), "abij,jk->abik"),
    ((3, 5, 7), (3, 7, 4), "aij,ajk->aik"),
    ((2, 1, 5, 7), (3, 7, 4), "xaij,bjk->xbik"),
    ((3, 5, 7), (7,), "aij,j->ai"),
    ((7,), (3, 7, 4), "j,ajk->ak"),
    ((33, 130), (130, 65), "ij,jk->ik"),
])
def test_matmul_against_einsum(rng, a, b, sum_):
    def oracle(x, y):
        return np.einsum(sum_, x, y)

    check(fastnn.matmul, rng.standard_normal(a), rng.standard_normal(b), oracle=oracle, tol=2e-5)


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 15, 40])
@pytest.mark.parametrize("inner", [1, 19, 300])
def test_matmul_of_every_orientation(rng, rows, inner):
    """Few and many rows, of matrices that lie by rows, by columns, and by neither."""
    a, b = rng.standard_normal((rows, inner)), rng.standard_normal((inner, 37))
    for x in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):
        for y in (b, np.asfortranarray(b), np.repeat(b, 3, axis=1)[:, ::3]):
            got = fastnn.Tensor(x) @ fastnn.Tensor(y)
            np.testing.assert_allclose(got.numpy(), np.einsum("ij,jk->ik", a, b), rtol=1e-12, atol=1e-12)


def test_linear_against_einsum(rng):
    for shape in [(4, 6), (6,), (2, 3, 6), (1, 6)]:
        w, b = rng.standard_normal((5, 6)), rng.standard_normal(5)
        check(F.linear, rng.standard_normal(shape), w, b, oracle=lambda x, w, b: np.einsum("...i,oi->...o", x, w) + b)
        check(F.linear, rng.standard_normal(shape), w, oracle=lambda x, w: np.einsum("...i,oi->...o", x, w))


def test_linear_by_hand():
    x, w = fastnn.tensor([[1.0, 2.0]], requires_grad=True), fastnn.tensor([[3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    b = fastnn.tensor([0.5, -0.5], requires_grad=True)
    y = F.linear(x, w, b)
    assert y.tolist() == [[11.5, 16.5]]
    y.backward(fastnn.tensor([[1.0, 10.0]]))
    assert x.grad.tolist() == [[53.0, 64.0]]
    assert w.grad.tolist() == [[1.0, 2.0], [10.0, 20.0]]
    assert b.grad.tolist() == [1.0, 10.0]


def test_integers_and_empty_sums():
    assert (fastnn.tensor([[1, 2]]) @ fastnn.tensor([[3], [4]])).tolist() == [[11]]
    assert (fastnn.ones(2, 0) @ fastnn.ones(0, 3)).tolist() == [[0.0] * 3] * 2
    assert fastnn.ones(0, 2).matmul(fastnn.ones(2, 3)).shape == (0, 3)


@pytest.mark.parametrize(("function", "shapes", "words"), [
    ("matmul", ((2, 3), (4, 5)), "3 columns meet 4 rows"),
    ("matmul", ((2, 2, 3), (3, 3, 5)), "do not broadcast"),
    ("matmul", ((), (4, 5)), "at least one dimension"),
    ("mm", ((2, 2, 3), (3, 5)), "two 2-D tensors"),
    ("bmm", ((2, 2, 3), (3, 3, 5)), "equal stacks"),
])
def test_bad_shapes(function, shapes, words):
    with pytest.raises(ValueError, match=words):
        getattr(fastnn, function)(*map(fastnn.ones, shapes))


def test_bad_linear():
    with pytest.raises(ValueError, match=r"linear: input of shape \(2, 3\) does not fit weight of shape \(5, 4\)"):
        F.linear(fastnn.ones(2, 3), fastnn.ones(5, 4))
    with pytest.raises(ValueError, match="bias has shape"):
        F.linear(fastnn.ones(2, 4), fastnn.ones(5, 4), fastnn.ones(4))
    with pytest.raises(TypeError, match="matmul: input is float32, but other is float64"):
        fastnn.ones(2, 2) @ fastnn.ones(2, 2, dtype=fastnn.float64)
