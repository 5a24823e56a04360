"""Shapes: values and gradients from every memory order, sharing of memory, changes through views, bad input."""

import numpy as np
import pytest
from harness import check, close

import fastnn
from fastnn import layout
from fastnn.errors import AutogradError, RangeError, ShapeError

# operation on a tensor of shape (2, 3, 4, 6), and the same in NumPy
OPERATIONS = {
    "reshape": (lambda x: x.reshape(6, -1), lambda a: a.reshape(6, 24)),
    "reshape to 4-D": (lambda x: x.reshape((3, 2, 6, 4)), lambda a: a.reshape(3, 2, 6, 4)),
    "view": (lambda x: x.contiguous().view(2, -1), lambda a: a.reshape(2, 72)),
    "flatten": (lambda x: x.flatten(1), lambda a: a.reshape(2, 72)),
    "flatten middle": (lambda x: fastnn.flatten(x, 1, -2), lambda a: a.reshape(2, 12, 6)),
    "unflatten": (lambda x: x.unflatten(-1, (3, -1)), lambda a: a.reshape(2, 3, 4, 3, 2)),
    "permute": (lambda x: x.permute(0, 2, 3, 1), lambda a: np.einsum("nchw->nhwc", a)),
    "permute to 4-D": (lambda x: fastnn.permute(x, (-1, 0, 2, 1)), lambda a: np.einsum("nchw->wnhc", a)),
    "transpose": (lambda x: x.transpose(1, -1), lambda a: np.einsum("nchw->nwhc", a)),
    "swapaxes": (lambda x: x.swapaxes(0, 2), lambda a: np.einsum("nchw->hcnw", a)),
    "T": (lambda x: x[0, 0].T, lambda a: np.einsum("hw->wh", a[0, 0])),
    "t": (lambda x: x[0, 1].t(), lambda a: np.einsum("hw->wh", a[0, 1])),
    "mT": (lambda x: x.mT, lambda a: np.einsum("nchw->ncwh", a)),
    "squeeze": (lambda x: x[:, :1, :, 2:3].squeeze(), lambda a: a[:, 0, :, 2]),
    "squeeze dim": (lambda x: x[:, :1, :, 2:3].squeeze((1, 2)), lambda a: a[:, 0, :, 2:3]),
    "unsqueeze": (lambda x: x[0].unsqueeze(-1).unsqueeze(0), lambda a: a[:1, ..., None]),
    "expand": (lambda x: x[:, :1].expand(5, -1, 3, 4, -1), lambda a: np.repeat(a[None, :, :1], 5, 0).repeat(3, 2)),
    "expand_as": (lambda x: x[:1, :, :1].expand_as(x), lambda a: a[:1, :, :1].repeat(2, 0).repeat(4, 2)),
    "contiguous": (lambda x: x.contiguous(), lambda a: a),
    "repeat": (lambda x: x.repeat(1, 2, 1, 3), lambda a: np.concatenate([np.concatenate([a] * 3, 3)] * 2, 1)),
    "repeat more": (lambda x: x[0].repeat(2, 1, 1, 1), lambda a: np.stack([a[0], a[0]])),
    "flip": (lambda x: x.flip(1, -1), lambda a: a[:, ::-1, :, ::-1]),
    "roll": (lambda x: x.roll((1, -2), (0, 3)), lambda a: a[np.ix_([1, 0], range(3), range(4), [2, 3, 4, 5, 0, 1])]),
    "roll flat": (
        lambda x: fastnn.roll(x, 5),
        lambda a: np.concatenate([a.ravel()[-5:], a.ravel()[:-5]]).reshape(a.shape),
    ),
    "tril": (lambda x: x.tril(-1), lambda a: a * (np.arange(4)[:, None] > np.arange(6))),
    "triu": (lambda x: fastnn.triu(x, 1), lambda a: a * (np.arange(4)[:, None] < np.arange(6))),
    "split": (lambda x: x.split(4, 3), lambda a: (a[..., :4], a[..., 4:])),
    "split sizes": (lambda x: fastnn.split(x, [1, 0, 2], dim=1), lambda a: (a[:, :1], a[:, 1:1], a[:, 1:])),
    "chunk": (lambda x: x.chunk(4, -1), lambda a: (a[..., :2], a[..., 2:4], a[..., 4:])),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients(rng, name):
    fn, oracle = OPERATIONS[name]
    try:
        check(fn, rng.standard_normal((2, 3, 4, 6)), oracle=oracle)
    except IndexError as error:  # the oracle has no answer for an empty batch
        assert "bounds" in str(error) and name in ("T", "t", "repeat more", "unsqueeze", "roll")


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cat_and_stack(rng, dim):
    x, y = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 4, 5))
    check(lambda x, y: fastnn.cat([x, y], dim), x, y, oracle=lambda x, y: np.concatenate([x, y], dim))
    check(lambda x, y: fastnn.stack((x, y), dim), x[0], y[0], oracle=lambda x, y: np.stack([x, y], dim))
    assert fastnn.cat([fastnn.zeros(0), fastnn.Tensor(x)]).shape == x.shape
    assert fastnn.cat([fastnn.ones(2), fastnn.ones(2, dtype=fastnn.int64)]).dtype == fastnn.float32


def test_hand_computed_values():
    x = fastnn.arange(6).view(2, 3)
    assert x.T.tolist() == [[0, 3], [1, 4], [2, 5]] and x.flip(0).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert x.roll(1, 1).tolist() == [[2, 0, 1], [5, 3, 4]] and x.tril().tolist() == [[0, 0, 0], [3, 4, 0]]
    assert fastnn.stack([x[0], x[1]], 1).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_merging_channels_last_gives_the_order_of_the_indices(rng):
    a = rng.standard_normal((2, 3, 4, 5))
    x = fastnn.Tensor(layout.channels_last(a))
    for y in (x.view(2, -1), x.reshape(2, 60), x.flatten(1), fastnn.flatten(x, 1)):
        close(y, a.reshape(2, 60))
        assert y.array.flags.c_contiguous


@pytest.mark.parametrize("name", ["flip", "roll", "tril", "contiguous", "cat", "repeat"])
def test_copies_keep_channels_last(rng, name):
    x = fastnn.Tensor(layout.channels_last(rng.standard_normal((2, 3, 4, 5))))
    y = {
        "flip": lambda: x.flip(1),
        "roll": lambda: x.roll(1, 2),
        "tril": lambda: x.tril(),
        "repeat": lambda: x.repeat(1, 2, 1, 1),
        "contiguous": lambda: x,
        "cat": lambda: fastnn.cat([x.contiguous(), x], 1),
    }[name]()
    assert layout.is_channels_last(y.array)


def test_views_share_memory():
    x = fastnn.zeros(4, 6)
    views = (
        x.view(2, 12),
        x.T,
        x.reshape(-1),
        x.unsqueeze(0),
        x.expand(2, 4, 6),
        x.split(2)[0],
        x.chunk(2, 1)[0],
        x[1:],
    )
    assert all(np.shares_memory(v.array, x.array) for v in views)
    with pytest.raises(ShapeError, match="view: memory"):
        x.T.view(24)
    assert x.T.reshape(24).shape == (24,)


def test_changes_reach_through_views(rng):
    def change(x):
        y = x * 1
        v = y[1].view(3, 2)
        v.mul_(2)
        y[0, :2] = 5
        v += 1
        y.t()[0] *= 3
        w = y.expand(2, 4, 6)
        return y * y, v * 2, w.exp().sum()

    def same(x):
        y = x.copy()
        y[1] = 2 * y[1] + 1
        y[0, :2] = 5
        y[:, 0] *= 3
        return y * y, 2 * y[1].reshape(3, 2), 2 * np.exp(y).sum()

    check(change, rng.standard_normal((4, 6)), oracle=same)


def test_change_through_a_view_of_channels_last_memory(rng):
    weight = rng.standard_normal((2, 60))

    def change(x):
        y = x * 1
        y.permute(0, 2, 3, 1).reshape(-1, 3)[:, 0].mul_(2)
        return (y.reshape(2, -1) * fastnn.Tensor(weight)).sum()

    x = fastnn.Tensor(layout.channels_last(rng.standard_normal((2, 3, 4, 5))), requires_grad=True)
    change(x).backward()
    close(x.grad, weight.reshape(2, 3, 4, 5) * np.array([2.0, 1, 1])[:, None, None])


def test_a_change_reaches_expanded_views():
    x = fastnn.ones(1, 3, requires_grad=True)
    y = x * 1
    wide = y.expand(2, 3)
    row = wide[0]
    y.mul_(3)
    (wide * fastnn.arange(6).view(2, 3) + 10 * row).sum().backward()
    assert x.grad.tolist() == [[69, 75, 81]]
    with pytest.raises(ValueError, match=r"clone\(\) it first"):
        wide += 1


def test_a_view_forgets_what_its_root_forgets():
    x = fastnn.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    v, w = y[:], y[:1]
    y.zero_()
    assert not v.requires_grad and w.is_leaf and not (v * 3).requires_grad
    z = fastnn.zeros(3)
    part = z[:1]
    part.copy_(x[:1])
    with pytest.raises(RuntimeError, match="leaves only"):
        part.requires_grad_(False)
    (z.sum() + part.sum()).backward()
    assert x.grad.tolist() == [2, 0]


def test_views_of_leaves_are_not_changed_in_place():
    with pytest.raises(AutogradError, match="leaf"):
        fastnn.ones(2, 3, requires_grad=True).view(6).mul_(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: x.view(4, -1),
            ShapeError,
            r"view: shape \(4, -1\) does not fit a tensor of shape \(2, 3\) \(6 elements\)",
        ),
        (lambda x: x.reshape(-1, -1), ShapeError, "does not fit"),
        (lambda x: x[:0].reshape(0, -1), ShapeError, "does not fit"),
        (lambda x: x.reshape(1.5), TypeError, "integers are needed"),
        (lambda x: x.unflatten(1, (2, 2)), ShapeError, "unflatten: shape"),
        (lambda x: x.permute(0, 0), ShapeError, "each of the 2 dimensions once"),
        (lambda x: x.transpose(0, 2), IndexError, "transpose: dim 2 is out of range"),
        (lambda x: x.flatten(1, 0), ShapeError, "comes after"),
        (lambda x: x.unsqueeze(3), IndexError, "from -3 to 2"),
        (lambda x: x.expand(2, 4), ShapeError, r"shape \(2, 3\) does not expand to \(2, 4\)"),
        (lambda x: x.repeat(2), ShapeError, "at least 2 sizes"),
        (lambda x: x.roll((1, 2), 0), ShapeError, "2 shifts"),
        (lambda x: x.split([1, 1], 1), ShapeError, r"sizes \[1, 1\] must be positive and sum to 3"),
        (lambda x: x.split(0), ShapeError, "positive"),
        (lambda x: x.chunk(0), ShapeError, "positive"),
        (lambda x: x.sum().split(1), RangeError, "for 0 dimensions"),
        (
            lambda x: fastnn.cat([x, x[:, :2]]),
            ShapeError,
            r"cat: shapes \[\(2, 3\), \(2, 2\)\] may differ in dim 0 only",
        ),
        (lambda x: fastnn.cat([]), ShapeError, "at least one tensor"),
        (lambda x: fastnn.cat([x, 1]), TypeError, "list of Tensors"),
        (lambda x: fastnn.stack([x, x[0]]), ShapeError, "one shape"),
        (lambda x: x[0].tril(), ShapeError, "at least 2 dimensions"),
        (lambda x: x[None].t(), ShapeError, "at most 2 dimensions"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(fastnn.ones(2, 3))
