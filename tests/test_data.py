"""Datasets, loaders, collation, the digits, resizing."""

import subprocess
import sys
import threading
import time
from collections import namedtuple

import numpy as np
import pytest

import fastnn
from fastnn import layout
from fastnn.data import digits, k_fold, resize, stratified_split, targets_of
from fastnn.data.transforms import Transform
from fastnn.errors import DTypeError, ShapeError
from fastnn.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split


@pytest.fixture
def dataset(rng):
    return TensorDataset(fastnn.from_numpy(rng.standard_normal((23, 2, 3, 5), np.float32)), np.arange(23))


class Singly(Dataset):
    """A dataset that hides its tensors, so that samples are asked for one by one."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        assert type(index) is int
        return self.dataset[index]


def arrays(batch):
    return [t.numpy() for t in batch]


@pytest.mark.parametrize("arguments", [
    {}, {"batch_size": 4}, {"batch_size": 4, "drop_last": True}, {"batch_size": 23}, {"batch_size": 100},
    {"batch_size": 100, "drop_last": True}, {"batch_size": 5, "shuffle": True, "generator": 3},
    {"batch_size": 5, "sampler": [3, 1, -1, 3, 22, 0]}, {"batch_size": 4, "sampler": range(6), "drop_last": True},
    {"batch_sampler": [[1, 2], [5], [-1, 3, 3]]}, {"batch_sampler": [np.array([1, 2])]},
    {"num_workers": 2, "pin_memory": True, "persistent_workers": True, "batch_size": 7},
], ids=str)  # fmt: skip
def test_batches_equal_collated_samples(dataset, arguments):
    whole, singly = DataLoader(dataset, **arguments), DataLoader(Singly(dataset), **arguments)
    for _ in range(2):
        fast, slow = list(whole), list(singly)
        assert len(fast) == len(slow) == len(whole) == len(singly)
        for a, b in zip(fast, slow, strict=True):
            assert type(a) is type(b) is list
            for x, y in zip(a, b, strict=True):
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_order_by_hand(dataset):
    labels = [y.tolist() for _, y in DataLoader(Subset(dataset, range(5)), batch_size=2)]
    assert labels == [[0, 1], [2, 3], [4]]
    assert [y.tolist() for _, y in DataLoader(dataset, batch_sampler=[[7, 0]])] == [[7, 0]]


def test_a_batch_is_a_copy(dataset):
    before = dataset.tensors[0].numpy().copy()
    for x, _ in DataLoader(dataset, batch_size=4):
        x.numpy()[...] = 0
    np.testing.assert_array_equal(dataset.tensors[0].numpy(), before)


def test_channels_last_images_give_channels_last_batches(rng):
    images = layout.channels_last(rng.standard_normal((9, 4, 3, 5), np.float32))
    x, _ = next(iter(DataLoader(TensorDataset(images, np.arange(9)), batch_size=4, shuffle=True, generator=0)))
    assert layout.is_channels_last(x.numpy())
    order = np.random.default_rng(0).permutation(9)[:4]
    np.testing.assert_array_equal(x.numpy(), images[order])


def test_images_that_are_not_contiguous(rng):
    images = rng.standard_normal((12, 2, 6, 5), np.float32)[::2, :, ::2]
    x, _ = next(iter(DataLoader(TensorDataset(images, np.arange(6)), batch_size=6)))
    np.testing.assert_array_equal(x.numpy(), images)


def test_shuffle_follows_the_seed(dataset):
    def epochs(seed=None, generator=None):
        if seed is not None:
            fastnn.manual_seed(seed)
        loader = DataLoader(dataset, batch_size=23, shuffle=True, generator=generator)
        return [next(iter(loader))[1].tolist() for _ in range(2)]

    first, second = epochs(seed=1)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert epochs(seed=1) == [first, second] != epochs(seed=2)
    assert epochs(generator=np.random.default_rng(5)) == epochs(generator=np.random.default_rng(5))
    fifth = epochs(generator=5)
    assert fifth == epochs(generator=5) != epochs(generator=6)
    assert fifth[0] != fifth[1]
    loader = DataLoader(dataset, batch_size=23, shuffle=True, generator=5)
    loader.set_epoch(1)  # follows from seed and epoch alone
    assert next(iter(loader))[1].tolist() == fifth[1]


class Noisy(Transform):
    """Adds noise to images and shifts labels: random, and different in every batch and epoch."""

    def mix(self, images, labels, rng):
        return images + rng.standard_normal(images.shape), None if labels is None else labels + rng.integers(1000)


@pytest.mark.parametrize("kind", ["whole", "singly", "subset"])
@pytest.mark.parametrize("generator", [7, None])
def test_workers_change_nothing(dataset, kind, generator):
    """Order and transforms depend on seed and epoch, not on the number of threads that prepare batches."""
    source = {"whole": dataset, "singly": Singly(dataset), "subset": Subset(dataset, range(1, 20))}[kind]

    def run(workers, **arguments):
        fastnn.manual_seed(3)
        loader = DataLoader(source, 4, shuffle=True, num_workers=workers, generator=generator,
                            transform=Noisy(), **arguments)
        return [[[t.numpy().copy() for t in batch] for batch in loader] for _ in range(2)]

    expected = run(0)
    assert any((a[0] != b[0]).any() for a, b in zip(*expected, strict=True))
    for workers, ahead in (1, 1), (2, None), (3, 5):
        for epoch, other in zip(expected, run(workers, prefetch_factor=ahead), strict=True):
            for batch, same in zip(epoch, other, strict=True):
                for a, b in zip(batch, same, strict=True):
                    np.testing.assert_array_equal(a, b)


def loaders():
    return [thread for thread in threading.enumerate() if "fastnn-loader" in thread.name]


def test_no_thread_is_left_behind(dataset):
    loader = DataLoader(dataset, 2, num_workers=3, transform=Noisy())
    for _ in loader:
        assert loaders()
        break
    assert not loaders()
    with pytest.raises(ZeroDivisionError):
        for _ in loader:
            raise ZeroDivisionError
    assert not loaders()
    assert len(list(loader)) == 12
    assert not loaders()
    batches = iter(loader)
    next(batches)
    del batches
    assert not loaders()


def test_workers_prepare_a_bounded_number_of_batches(dataset):
    asked = []

    class Counted(Singly):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    batches = iter(DataLoader(Counted(dataset), 1, num_workers=2, prefetch_factor=3))
    next(batches)
    time.sleep(0.1)
    assert 1 <= len(asked) <= 7
    assert len(list(batches)) == 22


def test_data_in_memory_are_made_several_batches_at_a_time(dataset, monkeypatch):
    """But samplers, collate_fn, and datasets of other kinds are asked for one batch after another."""
    asked = []

    class Watched(Transform):
        def mix(self, images, labels, rng):
            asked.append(len(images))
            if len(asked) == 6:
                raise OSError("sixth")
            return images, labels

    def first(dataset=dataset, batch_size=2, **arguments):
        asked.clear()
        next(iter(DataLoader(dataset, batch_size, transform=Watched(), **arguments)))
        return len(asked)

    assert first() == 6  # the error has to wait
    assert first(batch_size=9) == 3
    assert first(Subset(dataset, range(5))) == 3
    assert first(sampler=range(8)) == first(batch_size=1, batch_sampler=[[1], [2]]) == first(Singly(dataset)) == 1
    assert first(collate_fn=lambda samples: [x for x, _ in samples]) == 1
    monkeypatch.setattr("fastnn.data.loader.AT_ONCE", 3 * sum(t.array.nbytes for t in next(iter(DataLoader(dataset)))))
    assert first(batch_size=1) == 4
    assert first(batch_size=2) == 2
    assert first(batch_size=4) == 1

    asked.clear()
    seen = []
    monkeypatch.undo()
    with pytest.raises(OSError, match="sixth"):
        for _, y in DataLoader(dataset, 2, transform=Watched()):
            seen += y.tolist()
    assert seen == list(range(10))  # the batches before it came


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_names_the_sample(dataset, workers):
    class Broken(Singly):
        def __getitem__(self, index):
            if index == 9:
                raise OSError("cat.png is torn")
            return super().__getitem__(index)

    seen = []
    with pytest.raises(OSError, match=r"cat\.png is torn") as caught:
        for _, y in DataLoader(Broken(dataset), 4, num_workers=workers):
            seen += y.tolist()
    assert seen == list(range(8))  # the batches before it came
    assert caught.value.__notes__ == ["DataLoader: this was sample 9 of the Broken"]
    assert not loaders()


def test_interrupt_leaves_no_thread():
    code = """
import os, signal, threading, time
from fastnn.data import DataLoader
class Slow:
    def __len__(self): return 1000
    def __getitem__(self, i):
        time.sleep(0.02)
        return i
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is begun with it ignored
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    for batch in DataLoader(Slow(), 8, num_workers=2): pass
except KeyboardInterrupt:
    print(sum("fastnn-loader" in t.name for t in threading.enumerate()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_dataset_with_a_method_batch(dataset):
    class Whole(Singly):
        def batch(self, indices):
            return [t[indices] for t in self.dataset.tensors]

        def __getitem__(self, index):
            raise AssertionError

    for kind in Whole(dataset), Subset(Whole(dataset), range(23)):
        for batch, other in zip(DataLoader(kind, 4), DataLoader(dataset, 4), strict=True):
            for a, b in zip(batch, other, strict=True):
                np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_transforms_of_batches_that_are_not_pairs(dataset):
    x = dataset.tensors[0]
    (images,) = next(iter(DataLoader(TensorDataset(x), 3, transform=Noisy(), generator=0)))
    alone = next(iter(DataLoader(x, 3, transform=Noisy(), generator=0)))
    three = next(iter(DataLoader(TensorDataset(x, dataset.tensors[1], x), 3, transform=Noisy(), generator=0)))
    np.testing.assert_array_equal(images.numpy(), alone.numpy())
    np.testing.assert_array_equal(images.numpy(), three[0].numpy())
    np.testing.assert_array_equal(three[2].numpy(), x.numpy()[:3])


def test_a_subclass_that_changes_samples_is_asked_singly(dataset):
    class Negative(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return -x, y

    x, _ = next(iter(DataLoader(Negative(*dataset.tensors), batch_size=3)))
    np.testing.assert_array_equal(x.numpy(), -dataset.tensors[0].numpy()[:3])


def test_gradients_pass_through_a_batch():
    x = fastnn.ones(4, 3, requires_grad=True)
    (batch,) = next(iter(DataLoader(TensorDataset(x), batch_size=2)))
    batch.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[1] * 3] * 2 + [[0] * 3] * 2)


def test_collate_fn_and_endless_sampler(dataset):
    def endless():
        while True:
            yield 2

    loader = DataLoader(dataset, batch_size=3, sampler=endless(), collate_fn=len)
    assert [n for n, _ in zip(loader, range(2), strict=False)] == [3, 3]


def test_subset_of_a_subset(dataset):
    inner = Subset(Subset(dataset, [20, 10, 5, 1]), [3, 0, 2])
    assert [inner[i][1].item() for i in range(len(inner))] == [1, 20, 5]
    assert arrays(next(iter(DataLoader(inner, batch_size=3))))[1].tolist() == [1, 20, 5]
    assert list(DataLoader(Subset(dataset, []))) == []


def test_random_split(dataset):
    parts = random_split(dataset, [20, 3], generator=1)
    assert [len(part) for part in parts] == [20, 3]
    assert sorted(i for part in parts for i in part.indices) == list(range(23))
    assert [len(part) for part in random_split(dataset, [0.5, 0.25, 0.25])] == [12, 6, 5]
    assert [len(part) for part in random_split(dataset, [23])] == [23]
    assert [len(part) for part in random_split([7], [0.8, 0.2])] == [1, 0]
    assert [len(part) for part in random_split([7], [0, 1])] == [0, 1]
    with pytest.raises(ValueError, match="add up to the dataset's 23"):
        random_split(dataset, [20, 4])
    with pytest.raises(ValueError, match="add up"):
        random_split(dataset, [0.5, 0.6])


def test_stratified_split():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    train, rest = stratified_split(TensorDataset(np.arange(100), labels), 0.2, generator=0)
    assert np.bincount(labels[rest.indices]).tolist() == [12, 6, 2]
    assert sorted([*train.indices, *rest.indices]) == list(range(100))
    assert rest.indices.tolist() != stratified_split(train.dataset, 0.2, generator=1)[1].indices.tolist()
    with pytest.raises(ValueError, match="0 < fraction < 1"):
        stratified_split(train.dataset, 1.0)
    with pytest.raises(ValueError, match=r"integer labels, got \(3,\) float32"):
        stratified_split(TensorDataset(np.zeros(3, np.float32)), 0.5)


def test_default_collate():
    Point = namedtuple("Point", "x y")
    samples = [
        {"t": fastnn.tensor([1.0, 2.0]), "a": np.ones(2, np.uint8), "f": 0.5, "i": 3, "b": True, "s": "é",
         "p": Point(1, 2.0), "l": [np.float32(1), (b"x",)]}
    ] * 2  # fmt: skip
    batch = default_collate(samples)
    assert {key: str(batch[key].dtype) for key in "tafib"} == {
        "t": "float32", "a": "uint8", "f": "float64", "i": "int64", "b": "bool"
    }  # fmt: skip
    assert batch["t"].tolist() == [[1.0, 2.0]] * 2
    assert batch["a"].shape == (2, 2)
    assert batch["s"] == ["é", "é"]
    assert type(batch["p"]) is Point
    assert batch["p"].x.tolist() == [1, 1]
    assert batch["l"][0].dtype == np.float32
    assert batch["l"][1] == [[b"x", b"x"]]
    with pytest.raises(TypeError, match="samples of type object"):
        default_collate([object()])
    with pytest.raises(ValueError, match="unequal lengths"):
        default_collate([(1, 2), (1,)])


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"batch_size": 0}, ValueError, "at least 1, got 0"),
    ({"batch_size": None}, ValueError, "batch_size"),
    ({"batch_size": 2.0}, ValueError, "batch_size"),
    ({"sampler": [1], "shuffle": True}, ValueError, "excludes shuffle"),
    ({"batch_sampler": [[1]], "batch_size": 2}, ValueError, "batch_sampler excludes"),
    ({"generator": "x"}, TypeError, "generator must be"),
    ({"num_workers": -1}, ValueError, "num_workers must be an int of at least 0, got -1"),
    ({"num_workers": True}, ValueError, "num_workers"),
    ({"prefetch_factor": 0, "num_workers": 1}, ValueError, "prefetch_factor"),
    ({"transform": lambda x: x}, TypeError, "transform must be one of fastnn.data.transforms"),
])  # fmt: skip
def test_bad_arguments(dataset, arguments, error, message):
    with pytest.raises(error, match=message):
        DataLoader(dataset, **arguments)


def test_bad_datasets(dataset):
    with pytest.raises(TypeError, match="needs __getitem__ and __len__, a generator came"):
        DataLoader(i for i in range(3))
    with pytest.raises(ShapeError, match="one length"):
        TensorDataset(np.zeros(3), np.zeros(4))
    with pytest.raises(ShapeError, match="one length"):
        TensorDataset()
    with pytest.raises(ShapeError, match="one length"):
        TensorDataset(fastnn.tensor(1.0))
    with pytest.raises(TypeError, match="sequence of ints"):
        Subset(dataset, np.zeros(23, bool))
    with pytest.raises(TypeError, match="asked for by ints, not by bool"):
        list(DataLoader(dataset, 4, sampler=np.array([True, False])))
    (nothing,) = DataLoader(dataset, batch_sampler=[[]])
    assert [t.shape for t in nothing] == [(0, 2, 3, 5), (0,)]
    with pytest.raises(IndexError, match="samples 0 to 23 are asked of a dataset of 23"):
        list(DataLoader(dataset, batch_sampler=[[0, 23]]))
    with pytest.raises(NotImplementedError, match="Dataset does not define __getitem__"):
        Dataset()[0]


def test_digits():
    train, test = digits(), digits(train=False)
    assert (len(train), len(test)) == (1437, 360)
    for part in train, test:
        images, labels = part.tensors
        assert images.shape == (len(part), 1, 8, 8)
        assert (images.dtype, labels.dtype) == (np.float32, np.int64)
        assert (images.numpy().min(), images.numpy().max()) == (0, 1)
        assert set(np.unique(images.numpy() * 16)) == set(range(17))
    counts = [np.bincount(part.tensors[1].numpy(), minlength=10) for part in (train, test)]
    assert np.abs(counts[1] - (counts[0] + counts[1]) * 360 / 1797).max() < 1  # stratified
    seen = {image.tobytes() for image in train.tensors[0].numpy()}
    assert sum(image.tobytes() in seen for image in test.tensors[0].numpy()) == 0


def bilinear(image, size):
    """One pixel at a time, from the definition."""
    h, w = image.shape
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = min(max((i + 0.5) * h / size[0] - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / size[1] - 0.5, 0), w - 1)
            for k in range(h):
                for m in range(w):
                    out[i, j] += max(0, 1 - abs(y - k)) * max(0, 1 - abs(x - m)) * image[k, m]
    return out


@pytest.mark.parametrize("size", [(8, 6), (3, 4), (1, 1), (13, 5), (28, 28)])
def test_resize(rng, size):
    images = rng.standard_normal((2, 3, 8, 6))
    expected = [[bilinear(channel, size) for channel in image] for image in images]
    np.testing.assert_allclose(resize(fastnn.from_numpy(images), size).numpy(), expected, atol=1e-14)
    single = resize(images.astype(np.float32), size)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.numpy(), expected, atol=1e-5)


def test_resize_bad_arguments():
    with pytest.raises(ShapeError, match=r"interpolate: .*3 dimensions"):
        resize(np.zeros((3, 8, 8)), 28)
    with pytest.raises(ShapeError, match=r"interpolate: .* only N may be 0"):
        resize(np.zeros((1, 1, 8, 0)), 28)
    with pytest.raises(DTypeError, match="uint8"):
        resize(np.zeros((1, 1, 8, 8), np.uint8), 28)


def folds(dataset, k, **arguments):
    """The pairs of index lists of k_fold, which are checked to cut the dataset."""
    pairs = list(k_fold(dataset, k, **arguments))
    for training, validation in pairs:
        assert training.dataset is validation.dataset is dataset
        assert sorted([*training.indices, *validation.indices]) == list(range(len(dataset)))
    assert sorted(i for _, part in pairs for i in part.indices) == list(range(len(dataset)))
    return [part.indices.tolist() for _, part in pairs]


@pytest.mark.parametrize("k", [2, 3, 7, 23])
def test_k_fold(dataset, k):
    parts = folds(dataset, k, generator=1)
    assert len(parts) == k
    assert {len(part) for part in parts} <= {23 // k, -(-23 // k)}
    assert parts == folds(dataset, k, generator=np.random.default_rng(1)) != folds(dataset, k, generator=2)
    fastnn.manual_seed(4)
    first = folds(dataset, k)
    assert folds(dataset, k) != first
    fastnn.manual_seed(4)
    assert folds(dataset, k) == first


def test_k_fold_stratified(rng):
    labels = rng.permutation(np.repeat([0, 1, 2, 5], [40, 33, 2, 9]))
    dataset = TensorDataset(np.arange(84), labels)
    for k in 2, 5, 10:
        parts = folds(dataset, k, stratified=True, generator=0)
        assert {len(part) for part in parts} <= {84 // k, -(-84 // k)}
        counts = np.array([np.bincount(labels[part], minlength=6) for part in parts])
        assert (np.ptp(counts, axis=0) <= 1).all()
    part = Subset(Subset(dataset, range(10, 84)), np.arange(0, 74, 2))
    counts = [np.bincount(labels[10::2][:37][i], minlength=6) for i in folds(part, 3, stratified=True)]
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_k_fold_bad_arguments(dataset):
    for k in (1, 24, 2.0, True, "3"):
        with pytest.raises(ValueError, match="k must be an int from 2 to the dataset's 23 samples, got"):
            k_fold(dataset, k)  # at the call, not at the first pair
    with pytest.raises(ValueError, match=r"integer labels, got \(9,\) float32"):
        k_fold(TensorDataset(np.zeros(9, np.float32)), 2, stratified=True)
    with pytest.raises(TypeError, match="a Singly has no targets"):
        k_fold(Singly(dataset), 2, stratified=True)


def test_targets(dataset):
    assert targets_of(Subset(Subset(dataset, [5, 3, 1]), [2, 0])).tolist() == [1, 5]
    singly = Singly(dataset)
    singly.targets = [3, 1, 2] * 7 + [0, 0]
    assert targets_of(Subset(singly, [0, 22])).tolist() == [3, 0]
    _, part = stratified_split(singly, 0.5, generator=0)
    assert np.bincount(targets_of(part)).tolist() == [1, 4, 3, 4]
