"""DataLoader: an iterable of batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from fastnn.data.dataset import Seed, as_generator, take_batch
from fastnn.functional import stack
from fastnn.tensor import Tensor, as_tensor


class DataLoader:
    """Batches of `dataset`, epoch after epoch, in order or shuffled, with PyTorch's arguments.

    A TensorDataset, or a Subset of one, is batched by one indexing of each whole tensor; any other `dataset`, which
    needs ``__getitem__`` and ``__len__``, is asked for its samples one by one and `collate_fn` joins them. A batch
    shares no memory with the dataset. `generator`: a seed, or a NumPy generator, by default fastnn's (`manual_seed`).
    `num_workers`, `pin_memory`, `persistent_workers` change nothing: the calling thread loads the samples.

    >>> [x.tolist() for x in DataLoader(range(7), batch_size=3)]
    [[0, 1, 2], [3, 4, 5], [6]]
    """

    def __init__(self, dataset: Any, batch_size: int = 1, shuffle: bool = False, sampler: Iterable[int] | None = None,
                 batch_sampler: Iterable[Sequence[int]] | None = None, num_workers: int = 0,
                 collate_fn: Callable[[list], Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
                 generator: Seed = None, persistent_workers: bool = False) -> None:
        if not hasattr(dataset, "__getitem__"):
            raise TypeError(f"DataLoader: a dataset needs __getitem__ and __len__, a {type(dataset).__name__} came")
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"DataLoader: batch_size must be an int of at least 1, got {batch_size!r}")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler excludes shuffle")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, int(batch_size), shuffle, drop_last
        self.sampler, self.batch_sampler, self.collate_fn = sampler, batch_sampler, collate_fn or default_collate
        self.generator = as_generator(generator)

    def __len__(self) -> int:
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        n = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        for indices in self._indices():
            batch = take_batch(self.dataset, np.asarray(indices)) if self.collate_fn is default_collate else None
            if batch is None:
                indices = indices.tolist() if isinstance(indices, np.ndarray) else indices
                batch = self.collate_fn([self.dataset[i] for i in indices])
            yield batch

    def _indices(self) -> Iterator[Sequence[int] | np.ndarray]:
        if self.batch_sampler is not None:
            yield from self.batch_sampler
        elif self.sampler is not None:
            indices = iter(self.sampler)
            while len(batch := list(islice(indices, self.batch_size))) > (self.batch_size - 1 if self.drop_last else 0):
                yield batch
        else:
            n = len(self.dataset)
            order = self.generator.permutation(n) if self.shuffle else np.arange(n)
            for i in range(len(self)):
                yield order[i * self.batch_size : (i + 1) * self.batch_size]


def default_collate(batch: Sequence[Any]) -> Any:
    """Joins samples into a batch, as PyTorch does, by the kind of the first sample: tensors and arrays are stacked,
    numbers become a 1-D tensor, strings and bytes stay a list, mappings, tuples and lists are joined member by member.
    Raises TypeError for any other kind, ValueError for sequences of unequal length."""
    first = batch[0]
    if isinstance(first, (Tensor, np.ndarray)):
        return stack([as_tensor(sample) for sample in batch])
    if isinstance(first, (np.number, np.bool_, bool, int, float)):
        return as_tensor(np.asarray(batch))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, (tuple, list)):
        if len({*map(len, batch)}) > 1:
            raise ValueError(f"default_collate: samples of unequal lengths, {sorted({*map(len, batch)})}")
        members = [default_collate(member) for member in zip(*batch, strict=True)]
        return type(first)(*members) if hasattr(first, "_fields") else members
    raise TypeError(f"default_collate: cannot join samples of type {type(first).__name__}; pass a collate_fn")
