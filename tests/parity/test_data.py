"""Datasets and loaders against PyTorch: which samples are in which batch, and as what."""

from collections import namedtuple

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fastnn.data import digits

from .pairs import check, check_raises, flat, normal


def utils(lib):
    return lib.utils.data


def squares(lib, n=11):
    class Squares(utils(lib).Dataset):
        def __len__(self):
            return n

        def __getitem__(self, i):
            if i >= n:
                raise IndexError
            return lib.ones(2, 3) * i, i * i

    return Squares()


def tensors(lib, n=11):
    return utils(lib).TensorDataset(lib.tensor(normal(n, 1, 3, 2).astype("float32")), lib.arange(n))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 20])
@pytest.mark.parametrize("dataset", [squares, tensors])
def test_batches(dataset, batch_size, drop_last):
    def case(lib):
        loader = utils(lib).DataLoader(dataset(lib), batch_size=batch_size, drop_last=drop_last)
        return (
            len(loader),
            len(loader.dataset),
            list(loader),
            loader.batch_size,
            [type(batch).__name__ for batch in loader],
        )

    check(case)


@pytest.mark.parametrize("dataset", [squares, tensors])
def test_shuffled_batches_hold_every_sample_once(dataset):
    def case(lib):
        loader = utils(lib).DataLoader(dataset(lib), batch_size=4, shuffle=True)
        epochs = [[label for _, labels in loader for label in labels.tolist()] for _ in range(3)]
        return [sorted(e) for e in epochs], epochs[0] == epochs[1] == epochs[2], len(loader)

    check(case)


def test_samplers():
    def case(lib):
        data = tensors(lib)
        order = utils(lib).DataLoader(data, batch_size=3, sampler=[5, 1, 1, 0, 9])
        batches = utils(lib).DataLoader(data, batch_sampler=[[0, 2], [5], [7, 8, 9]])
        return list(order), len(order), list(batches), len(batches)

    check(case)


def test_collate():
    def case(lib):
        return list(utils(lib).DataLoader(squares(lib), batch_size=4, collate_fn=lambda samples: len(samples)))

    check(case)


Point = namedtuple("Point", "x y")
KINDS = {
    "int": 3,
    "float": 2.5,
    "bool": True,
    "array": np.arange(3),
    "numpy number": np.float32(2),
    "text": "a",
    "tuple": (1, 2.0, "b"),
    "list": [1, [2, 3]],
    "dict": {"x": 1, "y": (np.ones(2), "c")},
    "named tuple": Point(1, 2.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_default_collate(kind):
    check(lambda lib: list(flat(next(iter(utils(lib).DataLoader([KINDS[kind]] * 3, batch_size=3))))))


def test_subset_and_split():
    def case(lib):
        data = tensors(lib)
        subset = utils(lib).Subset(data, [3, 1, 4])
        parts = utils(lib).random_split(data, [5, 6])
        labels = sorted(int(part[i][1]) for part in parts for i in range(len(part)))
        fractions = [len(part) for part in utils(lib).random_split(data, [0.5, 0.3, 0.2])]
        return (
            [subset[i][1] for i in range(len(subset))],
            list(utils(lib).DataLoader(subset, batch_size=2)),
            labels,
            fractions,
        )

    check(case)


def test_tensor_dataset():
    check(lambda lib: (tensors(lib)[2], len(tensors(lib)), tensors(lib)[-1], [len(t) for t in tensors(lib).tensors]))


MISTAKES = {
    "lengths": lambda lib: utils(lib).TensorDataset(lib.ones(3), lib.ones(4)),
    "batch size": lambda lib: utils(lib).DataLoader(tensors(lib), batch_size=0),
    "shuffle and sampler": lambda lib: utils(lib).DataLoader(tensors(lib), shuffle=True, sampler=[0]),
    "batch sampler and size": lambda lib: utils(lib).DataLoader(tensors(lib), batch_size=2, batch_sampler=[[0]]),
    "ragged": lambda lib: next(iter(utils(lib).DataLoader([lib.ones(2), lib.ones(3)], batch_size=2))),
    "odd kind": lambda lib: next(iter(utils(lib).DataLoader([object(), object()], batch_size=2))),
    "split": lambda lib: utils(lib).random_split(tensors(lib), [5, 5]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name])


def test_digits_equal_their_source():
    """The embedded digits, both parts together, are those of scikit-learn, label by label."""
    source = load_digits()
    parts = [digits(train=part).tensors for part in (True, False)]
    images = np.concatenate([x.numpy().reshape(len(x), 64) * 16 for x, _ in parts]).astype(np.uint8)
    labels = np.concatenate([y.numpy() for _, y in parts])
    want = zip(source.data.astype(np.uint8), source.target, strict=True)
    assert sorted((bytes(x), y) for x, y in zip(images, labels, strict=True)) == sorted((bytes(x), y) for x, y in want)
