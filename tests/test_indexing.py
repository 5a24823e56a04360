"""Indexing and index assignment as in PyTorch, gathering, masks, one-hot: values, gradients, bad input."""

import numpy as np
import pytest
from harness import check, close

import fastnn
from fastnn import layout
from fastnn.errors import AutogradError, DTypeError, ShapeError

ROWS, COLUMNS = np.array([0, 2, 2, -1]), np.array([1, 0, 2, 1])
MASK = np.array([True, False, True, True])
INDICES = [
    0,
    -1,
    slice(1, 3),
    slice(None, None, 2),
    slice(-3, 100),
    slice(3, 1),
    None,
    ...,
    (0, 1),
    (0, ..., 1),
    (..., None),
    (None, 0, ..., None),
    (slice(None), 1, slice(2, None)),
    (0, 1, 2, 3),
    [0, 2],
    [],
    ROWS,
    (ROWS, COLUMNS),
    (slice(None), COLUMNS),
    (ROWS, slice(None), COLUMNS),
    (ROWS[:, None], COLUMNS[None, :2]),
    (None, ROWS),
    (ROWS, ..., 0),
    MASK,
    (MASK, 0),
    (slice(0, 0), COLUMNS),
    True,
    [[0, 1], [1, 2]],
    (slice(None), np.array([True, False, True])),
    np.arange(12).reshape(4, 3) % 5 < 2,
    (ROWS, COLUMNS, ROWS, COLUMNS),
    np.array(2),
]


def _tensors(index):
    """The index with its arrays as tensors."""
    if isinstance(index, tuple):
        return tuple(map(_tensors, index))
    return fastnn.Tensor(index) if isinstance(index, np.ndarray) else index


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_getitem(rng, index):
    x = rng.standard_normal((4, 3, 5, 6))
    check(lambda x: x[_tensors(index)] * 2, x, oracle=lambda x: x[index] * 2, dtypes=("float32",))
    assert (fastnn.Tensor(x)[index].array == x[index]).all()


def test_integers_come_before_arrays(rng):
    x = rng.standard_normal((4, 3, 5, 6))
    close(
        fastnn.Tensor(x)[0, :, fastnn.Tensor(COLUMNS)], x[0][:, COLUMNS]
    )  # NumPy moves the arrays' dimension to the front
    close(fastnn.Tensor(x)[fastnn.Tensor(ROWS), ..., 1], x[..., 1][ROWS])


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_setitem(rng, index):
    x = rng.standard_normal((4, 3, 5, 6))
    value = rng.standard_normal(x[index].shape)
    places = np.arange(x.size).reshape(x.shape)[index]

    def put(x, value):
        y = x * 1
        y[_tensors(index)] = value
        return y * y

    def same(x, value):
        y = x.copy()
        y[index] = value
        return y * y

    if len(np.unique(places)) == places.size:  # else the order of assignment decides
        check(put, x, value, oracle=same, dtypes=("float32",))
    check(lambda x: put(x, 2), x, oracle=lambda x: same(x, 2), dtypes=("float64",))


def test_setitem_broadcasts_and_casts():
    x = fastnn.zeros(2, 3, dtype=fastnn.int64)
    x[0] = 1.9
    x[:, 1] = fastnn.tensor([[[4.0, 5.0]]])
    x[fastnn.tensor([False, True]), 2] = 7
    assert x.tolist() == [[1, 4, 1], [0, 5, 7]]
    x[1:] = x[:1]
    x[0, 0] = fastnn.tensor(9)
    assert x.tolist() == [[9, 4, 1], [1, 4, 1]]


def test_gradients_of_repeated_indices_add_up():
    x = fastnn.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x[[0, 2, 2, 0, 2]] * fastnn.tensor([1.0, 10, 100, 1000, 10000])).sum().backward()
    assert x.grad.tolist() == [1001, 0, 10110]


@pytest.mark.parametrize("index", [[2, 0], [[0, 1]], MASK, slice(1, 3), (MASK, [0, 1, 2]), (slice(None), [0, 1])])
def test_channels_last_stays(rng, index):
    x = rng.standard_normal((4, 3, 5, 6))
    y = fastnn.Tensor(layout.channels_last(x))[index]
    close(y, x[index])
    assert y.ndim != 4 or layout.is_channels_last(y.array)


def test_iteration_and_unpacking():
    x = fastnn.arange(6).view(2, 3)
    a, b = x
    assert (
        a.tolist() == [0, 1, 2]
        and b.tolist() == [3, 4, 5]
        and [row.sum().item() for row in x] == [3, 12]
        and x[1][2].item() == 5
    )
    assert x[fastnn.tensor(1)].tolist() == [3, 4, 5] and x[np.int64(1), 0].item() == 3


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 2, 3), (1, 1, 1)])
def test_gather(rng, dim, shape):
    x = rng.standard_normal((3, 3, 4))
    shape = tuple(5 if i == dim % 3 else n for i, n in enumerate(shape))
    index = rng.integers(0, x.shape[dim], shape)

    def oracle(x, index):
        y = np.empty(index.shape)
        for place, i in np.ndenumerate(index):
            source = list(place)
            source[dim] = i
            y[place] = x[tuple(source)]
        return y

    check(lambda x, i: fastnn.gather(x, dim, i), x, index, oracle=oracle)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_index_select(rng, dim):
    x, index = rng.standard_normal((4, 3, 2, 5)), np.array([0, 1, 1])
    check(
        lambda x, i: fastnn.index_select(x, dim, i),
        x,
        index,
        oracle=lambda x, i: np.stack([np.moveaxis(x, dim, 0)[j] for j in i], dim),
    )


def test_masks(rng):
    x, mask = rng.standard_normal((2, 3, 4, 5)), rng.random((3, 1, 5)) < 0.5
    check(lambda x, m: fastnn.masked_fill(x, m, -1.5), x, mask, oracle=lambda x, m: np.where(m, -1.5, x))
    check(
        lambda x, m, v: x.masked_fill(m, v), x, mask, rng.standard_normal(()), oracle=lambda x, m, v: np.where(m, v, x)
    )
    y = fastnn.tensor([1, 2]).masked_fill_(fastnn.tensor([True, False]), 7)
    assert y.tolist() == [7, 2] and y.dtype == fastnn.int64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x[3], IndexError, "out of bounds"),
        (lambda x: x[[0, -4]], IndexError, "out of bounds"),
        (lambda x: x[0, 0, 0], IndexError, r"3 indices for a tensor of shape \(3, 4\)"),
        (lambda x: x[..., ...], IndexError, "one Ellipsis"),
        (lambda x: x[::-1], ValueError, "step of a slice must be positive, but -1 came"),
        (lambda x: x[1.5], IndexError, "integers or bools"),
        (lambda x: x["a"], IndexError, "integers or bools"),
        (lambda x: x[fastnn.ones(2)], IndexError, "integers or bools"),
        (lambda x: x[[True, False]], IndexError, "boolean"),
        (lambda x: x.__setitem__(0, fastnn.ones(3)), ShapeError, "does not expand"),
        (lambda x: x.gather(1, fastnn.tensor([[4]])), IndexError, "gather: an index is out of range"),
        (lambda x: x.gather(1, fastnn.tensor([[-1]])), IndexError, "gather: an index is out of range"),
        (lambda x: x.gather(1, fastnn.tensor([[1.0]])), DTypeError, "tensor of integers, but float32"),
        (lambda x: x.gather(1, fastnn.tensor([1])), ShapeError, "gather: index of shape"),
        (lambda x: x.index_select(0, fastnn.tensor([3])), IndexError, "index_select: an index is out of range"),
        (lambda x: x.masked_fill(fastnn.ones(4), 1), DTypeError, "mask must be a bool tensor, but float32"),
        (lambda x: x.masked_fill(x > 0, fastnn.ones(4)), ShapeError, "0-d tensor"),
        (lambda x: x.requires_grad_().__setitem__(0, 1), AutogradError, "leaf"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(fastnn.ones(3, 4))


def test_indices_may_change_before_the_backward_pass():
    x, index = fastnn.tensor([[1.0, 2.0, 3.0]], requires_grad=True), fastnn.tensor([[2, 0]])
    values, places = x.topk(1)
    y = x[0, index[0]].sum() + x.gather(1, index).sum() + values.sum()
    index.fill_(1)
    places.zero_()
    y.backward()
    assert x.grad.tolist() == [[2, 0, 3]]
