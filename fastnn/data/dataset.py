"""Datasets: things with a length that answer an index with one sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ShapeError
from fastnn.tensor import Tensor, as_tensor

Seed = int | np.random.Generator | None


class Dataset:
    """Base class: a subclass defines ``__getitem__(index)``, one sample, and ``__len__()``, their number."""

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")


class TensorDataset(Dataset):
    """Samples along the first axis of tensors: sample i is ``(tensors[0][i], tensors[1][i], ...)``.

    Args:
        tensors: tensors or arrays of one length along axis 0; arrays share memory with the dataset.

    Raises:
        ShapeError: no tensors, or their lengths differ.

    Example:
        >>> dataset = TensorDataset(np.zeros((5, 3), np.float32), np.arange(5))
        >>> len(dataset), dataset[4][1].item()
        (5, 4)
    """

    def __init__(self, *tensors: Tensor | np.ndarray):
        self.tensors = tuple(as_tensor(t) for t in tensors)
        lengths = [t.shape[0] if t.ndim else None for t in self.tensors]
        if not lengths or None in lengths or len(set(lengths)) > 1:
            shapes = [tuple(t.shape) for t in self.tensors]
            raise ShapeError(f"TensorDataset: needs tensors of one length along axis 0, got the shapes {shapes}")

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class Subset(Dataset):
    """The samples of `dataset` at `indices` (a sequence of ints), in that order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]):
        self.dataset = dataset
        self.indices = np.asarray(indices)
        if self.indices.size == 0:
            self.indices = self.indices.astype(np.int64)
        if self.indices.ndim != 1 or self.indices.dtype.kind not in "iu":
            raise TypeError(f"Subset: indices must be a sequence of ints, got {indices!r:.80}")

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def __len__(self) -> int:
        return len(self.indices)


def take_batch(dataset: Any, indices: np.ndarray) -> list[Tensor] | None:
    """The batch at `indices`, (N,) ints, copied out of whole tensors; None if the samples must be asked for singly.

    Images stored channels-last give a batch stored channels-last.
    """
    while getattr(type(dataset), "__getitem__", None) is Subset.__getitem__:
        dataset, indices = dataset.dataset, dataset.indices[indices]
    if getattr(type(dataset), "__getitem__", None) is not TensorDataset.__getitem__:
        return None
    if any(t.requires_grad for t in dataset.tensors):
        return None
    n = len(dataset)
    if indices.size and not -n <= indices.min() <= indices.max() < n:
        raise IndexError(f"DataLoader: samples {indices.min()} to {indices.max()} are asked of a dataset of {n}")
    batch = []
    for tensor in dataset.tensors:
        array = tensor.array
        channels_last = not array.flags.c_contiguous and layout.is_channels_last(array)
        out = layout.empty((len(indices), *array.shape[1:]), array.dtype, channels_last)
        source, target = (a.transpose(0, 2, 3, 1) if channels_last else a for a in (array, out))
        if source.flags.c_contiguous:
            source.take(indices, axis=0, out=target, mode="wrap")  # in range already; "raise" would buffer the output
        else:
            target[...] = source[indices]  # take would copy the whole source
        batch.append(Tensor(out))
    return batch


def random_split(dataset: Dataset, lengths: Sequence[int | float], generator: Seed = None) -> list[Subset]:
    """Cuts `dataset` at random into subsets that do not overlap.

    Args:
        lengths: the subsets' lengths, which add up to the dataset's; or fractions that add up to 1, each rounded
            down and the samples left over dealt out from the first subset on.
        generator: a seed or a NumPy generator; None takes fastnn's own, which :func:`fastnn.manual_seed` seeds.

    Example:
        >>> [len(part) for part in random_split(TensorDataset(np.arange(10)), [0.75, 0.25], generator=0)]
        [8, 2]
    """
    n, sizes = len(dataset), list(lengths)
    if all(0 <= size <= 1 for size in sizes) and abs(sum(sizes) - 1) < 1e-9 and sum(sizes) != n:
        sizes = [int(n * size) for size in sizes]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if sum(sizes) != n or any(size != int(size) or size < 0 for size in sizes):
        raise ValueError(f"random_split: lengths must add up to the dataset's {n}, or as fractions to 1, got {lengths}")
    order = as_generator(generator).permutation(n)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes[:-1], dtype=np.int64))]


def stratified_split(dataset: TensorDataset, fraction: float = 0.1, generator: Seed = None) -> tuple[Subset, Subset]:
    """Cuts off `fraction` of the samples of each class, for validation: returns (the rest, the part cut off).

    The classes are read from the dataset's last tensor, (N,) integers. `generator` as for :func:`random_split`.

    Example:
        >>> from fastnn.data import digits
        >>> train, validation = stratified_split(digits(train=True), 0.1, generator=0)
        >>> len(train), len(validation)
        (1293, 144)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"stratified_split: fraction must lie between 0 and 1, got {fraction}")
    labels = dataset.tensors[-1].array
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ShapeError(f"stratified_split: the last tensor must be (N,) integers, got {labels.shape} {labels.dtype}")
    order = as_generator(generator).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, at random within
    chosen = np.floor((np.arange(len(order)) + 1) * fraction + 0.5) > np.floor(np.arange(len(order)) * fraction + 0.5)
    return Subset(dataset, np.sort(order[~chosen])), Subset(dataset, np.sort(order[chosen]))


def as_generator(generator: Seed) -> np.random.Generator:
    """The NumPy generator meant: itself, one started from a seed, or fastnn's own for None."""
    if generator is None:
        return backend.generator
    if isinstance(generator, np.random.Generator):
        return generator
    if isinstance(generator, (int, np.integer)) and not isinstance(generator, bool):
        return np.random.default_rng(int(generator) % 2**64)
    raise TypeError(f"generator must be None, an int or a numpy.random.Generator, got a {type(generator).__name__}")
