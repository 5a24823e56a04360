"""Datasets: things with a length that answer an index with one sample."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ShapeError
from fastnn.tensor import Tensor, as_tensor

Seed = int | np.random.Generator | None


class Dataset:
    """Base class: a subclass defines ``__getitem__(index)``, one sample, and ``__len__()``, their number; it may define
    ``batch(indices)``: the samples at `indices`, (N,) ints, joined, a list of tensors. `classes`: the labels' names."""
    classes: list[str] | None = None

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")


class TensorDataset(Dataset):
    """Samples along the first axis of tensors: sample i is ``(tensors[0][i], tensors[1][i], …)``.

    Arrays are taken too; the dataset shares the memory of both. Raises ShapeError unless all have one length."""

    def __init__(self, *tensors: Tensor | np.ndarray, classes: list[str] | None = None) -> None:
        self.tensors = tuple(as_tensor(t) for t in tensors)
        if classes is not None:
            self.classes = list(classes)
        shapes = [t.shape for t in self.tensors]
        if len({shape[:1] for shape in shapes}) != 1 or () in shapes:
            raise ShapeError(f"TensorDataset: needs tensors of one length along axis 0, got the shapes {shapes}")

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)  # type: ignore[index]

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class Subset(Dataset):
    """The samples of `dataset` at `indices` (a sequence of ints), in that order."""

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        vars(self).update((name, getattr(dataset, name, None)) for name in ("classes", "features", "target"))
        self.indices = np.asarray(indices, None if len(indices) else np.int64)
        if self.indices.ndim != 1 or self.indices.dtype.kind not in "iu":
            raise TypeError(f"Subset: indices must be a sequence of ints, got {indices!r:.80}")

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def __len__(self) -> int:
        return len(self.indices)


def in_memory(dataset: Any) -> bool:
    """Whether a batch of it is a mere copy out of whole tensors."""
    while getattr(type(dataset), "__getitem__", None) is Subset.__getitem__:
        dataset = dataset.dataset
    cls = type(dataset)
    whole = getattr(cls, "__getitem__", None) is TensorDataset.__getitem__ and not hasattr(cls, "batch")
    return whole and not any(t.requires_grad for t in dataset.tensors)


def take_batch(dataset: Any, indices: np.ndarray) -> list[Tensor] | None:
    """The samples at `indices`, (N,) ints, out of whole tensors, in their memory order, or by `batch`; else None."""
    while getattr(type(dataset), "__getitem__", None) is Subset.__getitem__:
        dataset, indices = dataset.dataset, dataset.indices[indices]
    if callable(getattr(type(dataset), "batch", None)):
        return dataset.batch(indices)
    if not in_memory(dataset):
        return None
    if indices.dtype.kind not in "iu":
        raise TypeError(f"samples of a {type(dataset).__name__} are asked for by ints, not by {indices.dtype}")
    if indices.size and not -len(dataset) <= indices.min() <= indices.max() < len(dataset):
        raise IndexError(f"samples {indices.min()} to {indices.max()} are asked of a dataset of {len(dataset)}")
    batch = []
    for source in (t.array for t in dataset.tensors):
        permuted = layout.is_channels_last(source)
        out = layout.empty((len(indices), *source.shape[1:]), source.dtype, permuted)
        batch.append(Tensor(out))
        source, out = (a.transpose(0, 2, 3, 1) if permuted else a for a in (source, out))
        if source.flags.c_contiguous:
            source.take(indices, 0, out, "wrap")  # they are in range; "raise" would buffer the output
        else:
            out[...] = source[indices]  # take would copy the whole source
    return batch


def batches_of(data: Any, batch_size: int) -> Iterator[Any]:
    """The first member of each batch of a dataset, of an array, or of batches; none is held while the next is made."""
    data = TensorDataset(data) if isinstance(data, (Tensor, np.ndarray)) else data
    if not isinstance(data, (list, tuple)) and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        for start in range(0, len(data) or in_memory(data), batch_size):  # an empty array is one batch
            indices = np.arange(start, min(start + batch_size, len(data)))
            yield first_of(take_batch(data, indices) or _singly(data, indices))
    elif isinstance(data, Iterable):
        yield from map(first_of, data)
    else:
        raise TypeError(f"fit: data must be a dataset, batches, or an array, got a {type(data).__name__}")


def first_of(batch: Any) -> Any:
    """The first member of a batch or sample (x, …), or what is x alone."""
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _singly(data: Any, indices: np.ndarray) -> np.ndarray:
    """The first members of the samples at `indices`, asked for one by one."""
    for row, i in enumerate(indices.tolist()):
        a = as_tensor(first_of(data[i])).array
        if row == 0:
            out = np.empty((len(indices), *a.shape), a.dtype)
        if a.shape != out.shape[1:] or a.dtype != out.dtype:
            raise ShapeError(f"fit: sample {i} is {a.dtype} {a.shape}, others are {out.dtype} {out.shape[1:]}")
        out[row] = a
    return out


def random_split(dataset: Any, lengths: Sequence[float], generator: Seed = None) -> list[Subset]:
    """Cuts `dataset` at random into subsets of the given lengths, which do not overlap.

    `lengths` add up to the dataset's; or they are fractions that add up to 1, rounded down, the samples left over dealt
    out from the first subset on. `generator`: a seed or a NumPy generator, by default fastnn's own (`manual_seed`)."""
    n, sizes = len(dataset), list(lengths)
    if abs(sum(sizes) - 1) < 1e-9 and min(sizes) >= 0 and (n != 1 or any(size != int(size) for size in sizes)):
        sizes = [int(n * size) for size in sizes]
        sizes = [size + (i < n - sum(sizes)) for i, size in enumerate(sizes)]
    if sum(sizes) != n or any(size != int(size) or size < 0 for size in sizes):
        raise ValueError(f"random_split: lengths must add up to the dataset's {n}, or as fractions to 1, got {lengths}")
    order = as_generator(generator).permutation(n)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes[:-1], dtype=np.int64))]


def stratified_split(dataset: Any, fraction: float, generator: Seed = None) -> tuple[Subset, Subset]:
    """Cuts off `fraction` of the samples of each class, for validation: returns the rest, and the part cut off.

    The classes are the dataset's targets (`targets_of`), (N,) integers. `generator` as for `random_split`."""
    if not 0 < fraction < 1:
        raise ValueError(f"stratified_split: needs 0 < fraction < 1, got {fraction}")
    order = _by_class("stratified_split", dataset, as_generator(generator))
    chosen = np.diff(np.floor(np.arange(len(order) + 1) * fraction + 0.5)) > 0
    return Subset(dataset, np.sort(order[~chosen])), Subset(dataset, np.sort(order[chosen]))


def k_fold(dataset: Any, k: int, stratified: bool = False, generator: Seed = None) -> Iterator[tuple[Subset, Subset]]:
    """Cuts `dataset` at random into k parts, for cross-validation: yields k pairs (the other parts, one part), each
    sample in one part, to train and to validate on. Sizes of parts differ by at most 1; if `stratified`, so do their
    numbers of samples of each class, the dataset's targets (`targets_of`). `generator` as for `random_split`.

    >>> [part.indices.tolist() for _, part in k_fold(range(7), 3, generator=0)]
    [[1, 2, 6], [4, 5], [0, 3]]"""
    n, rng = len(dataset), as_generator(generator)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 2 <= k <= n:
        raise ValueError(f"k_fold: k must be an int from 2 to the dataset's {n} samples, got {k!r}")
    order = _by_class("k_fold", dataset, rng) if stratified else rng.permutation(n)
    parts = [np.sort(order[i::k]) for i in range(k)]
    return ((Subset(dataset, np.setdiff1d(order, part)), Subset(dataset, part)) for part in parts)


def targets_of(dataset: Any) -> np.ndarray:
    """The targets of all samples, (N, …): the last tensor of a TensorDataset, `targets` of others, else TypeError."""
    if isinstance(dataset, Subset):
        return targets_of(dataset.dataset)[dataset.indices]
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[-1].array
    if not hasattr(dataset, "targets"):
        raise TypeError(f"a {type(dataset).__name__} has no targets: give it an attribute `targets`")
    return np.asarray(dataset.targets)


def _by_class(op: str, dataset: Any, rng: np.random.Generator) -> np.ndarray:
    """The numbers of all samples, those of a class together, at random within."""
    labels = targets_of(dataset)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{op}: targets must be (N,) integer labels, got {labels.shape} {labels.dtype}")
    order = rng.permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]


def as_generator(generator: Seed, *more: int) -> np.random.Generator:
    """The NumPy generator meant: itself, one started from a seed, and `more` of it, or fastnn's own for None."""
    if generator is None or isinstance(generator, np.random.Generator):
        return generator or backend.generator
    if isinstance(generator, (int, np.integer)) and not isinstance(generator, bool):
        return np.random.default_rng((int(generator) % 2**64, *more))
    raise TypeError(f"generator must be None, an int or a numpy.random.Generator, got a {type(generator).__name__}")
