"""DataLoader: an iterable of batches, which threads may prepare ahead of time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat, takewhile
from typing import Any

import numpy as np

from fastnn.data.dataset import Seed, as_generator, in_memory, take_batch
from fastnn.data.transforms import Transform
from fastnn.functional import stack
from fastnn.tensor import Tensor, as_tensor

AT_ONCE = 4 << 20  # bytes of batches that are made at once, if their samples lie in memory


class DataLoader:
    """Batches of `dataset`, epoch after epoch, in order or shuffled, with PyTorch's arguments.

    A TensorDataset, a dataset that has a method `batch(indices)`, or a Subset of one is asked for whole batches; any
    other `dataset`, which needs ``__getitem__`` and ``__len__``, is asked for its samples one by one and `collate_fn`
    joins them. A batch shares no memory with the dataset.

    `transform` is applied to the first member of each batch, the images, and if it mixes images, to the labels.
    `num_workers` threads, which end with the loop, prepare batches beside training, `prefetch_factor` each ahead of the
    one that is asked for. 0: the calling thread does it, several small batches at once if samples lie in memory. What
    an epoch holds does not depend on it. An exception is raised where its batch would have come, noting the sample.

    `generator`: a seed, from which and from the epoch's number alone (`set_epoch`) order and transforms follow; or a
    NumPy generator, by default fastnn's, from which every epoch draws. `pin_memory`, `persistent_workers`: no effect.

    >>> [x.tolist() for x in DataLoader(range(7), batch_size=3)]
    [[0, 1, 2], [3, 4, 5], [6]]"""

    def __init__(self, dataset: Any, batch_size: int = 1, shuffle: bool = False, sampler: Iterable[int] | None = None,
                 batch_sampler: Iterable[Sequence[int]] | None = None, num_workers: int = 0,
                 collate_fn: Callable[[list], Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
                 generator: Seed = None, prefetch_factor: int | None = None, persistent_workers: bool = False,
                 transform: Transform | None = None) -> None:
        if not hasattr(dataset, "__getitem__"):
            raise TypeError(f"DataLoader: a dataset needs __getitem__ and __len__, a {type(dataset).__name__} came")
        prefetch_factor = 2 if prefetch_factor is None else prefetch_factor
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0),
                                   ("prefetch_factor", prefetch_factor, 1)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"DataLoader: {name} must be an int of at least {least}, got {value!r}")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler excludes shuffle")
        if transform is not None and not isinstance(transform, Transform):
            raise TypeError(f"DataLoader: transform must be one of fastnn.data.transforms, got {transform!r:.40}")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, int(batch_size), shuffle, drop_last
        self.sampler, self.batch_sampler, self.collate_fn = sampler, batch_sampler, collate_fn or default_collate
        self.num_workers, self.prefetch_factor, self.transform = int(num_workers), int(prefetch_factor), transform
        as_generator(generator)  # may refuse it
        self.generator, self.epoch = generator, 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of number `epoch`, from 0; matters if `generator` is a seed."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        n = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def batches(self, first: int = 0) -> Iterator[Any]:
        """The next pass, from batch number `first`, counted from 0; those before are not made."""
        rng = as_generator(self.generator, self.epoch)
        self.epoch += 1
        order = rng.permutation(len(self.dataset)) if self.shuffle else None
        key = 0 if self.transform is None else int(rng.integers(2**63))
        jobs = ((indices, (key, i)) for i, indices in enumerate(self._indices(order)))
        deque(islice(jobs, first), 0)
        return self._ahead(jobs) if self.num_workers else self._here(jobs)

    def _here(self, jobs: Iterator[tuple]) -> Iterator[Any]:
        """The batches in their order; of samples in memory several are made at once if they are small: one alone,
        between steps of training that have emptied the caches, takes three to five times as long."""
        plain = self.collate_fn is default_collate and self.sampler is self.batch_sampler is None
        at_once = AT_ONCE if plain and in_memory(self.dataset) else 0
        for job in jobs:
            made, error = deque([self._load(*job)]), None
            size = at_once and sum(t.array.nbytes for t in made[0])
            try:
                made.extend(self._load(*job) for job in islice(jobs, min(at_once // max(size, 1), 15)))
            except Exception as caught:  # after the batches before it
                error = caught
            while made:
                yield made.popleft()
            if error:
                raise error

    def _ahead(self, jobs: Iterator[tuple]) -> Iterator[Any]:
        """The batches in their order, while threads prepare those that follow."""
        pool = ThreadPoolExecutor(self.num_workers, "fastnn-loader")
        try:
            first = islice(jobs, self.num_workers * self.prefetch_factor)
            waiting = deque(pool.submit(self._load, *job) for job in first)
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(pool.submit(self._load, *job) for job in islice(jobs, 1))
                yield batch
        finally:  # the end, an exception, Ctrl-C, or the loop was left
            pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, indices: Sequence[int] | np.ndarray, key: tuple[int, int]) -> Any:
        numbers = np.asarray(indices, None if len(indices) else np.int64)
        batch = take_batch(self.dataset, numbers) if self.collate_fn is default_collate else None
        if batch is None:
            batch = self.collate_fn([self._sample(int(i) if isinstance(i, np.integer) else i) for i in indices])
        if self.transform is None:
            return batch
        alone = not isinstance(batch, (list, tuple))
        images, *rest = [batch] if alone else batch
        out = self.transform(images, rest[0] if rest else None, np.random.default_rng(key))
        return out if alone else [*out, *rest[1:]] if rest else [out]

    def _sample(self, index: Any) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:
            error.add_note(f"DataLoader: this was sample {index} of the {type(self.dataset).__name__}")
            raise

    def _indices(self, order: np.ndarray | None) -> Iterable[Sequence[int] | np.ndarray]:
        if self.batch_sampler is not None:
            return self.batch_sampler
        size = self.batch_size
        if self.sampler is None:
            order = np.arange(len(self.dataset)) if order is None else order
            return (order[i * size : (i + 1) * size] for i in range(len(self)))
        indices, least = iter(self.sampler), size if self.drop_last else 1
        return takewhile(lambda batch: len(batch) >= least, (list(islice(indices, size)) for _ in repeat(None)))


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
