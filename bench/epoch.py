"""Whole epochs of `cnn` on Fashion-MNIST, batches of 64, Adam, against PyTorch; and what augmentation adds to them.

The images lie in memory, as float32, and are shuffled anew in each epoch: fastnn by its DataLoader, PyTorch by indexing
a tensor, the quickest way that it has. `augmented` takes uint8 images and flips, crops and standardizes them in the
loader. Each library runs in a process of its own, in turns; the seconds are the least, the ratios medians over rounds.
Without the files of Fashion-MNIST the images are random numbers, which take as long.
"""

import importlib
import statistics
import sys
import warnings

import numpy as np
from common import Worker, in_turns, parse, parser_for
from steps import load

ROUNDS = 3
CASES = ["plain", "augmented"]
LIBRARIES = {"torch": "PyTorch", "torch-cl": "PyTorch, channels-last", "fastnn": "fastnn"}


def arrays(n: int) -> tuple[np.ndarray, np.ndarray]:
    from fastnn.data import fashion_mnist

    try:
        images, labels = (t.numpy() for t in fashion_mnist().tensors)
    except FileNotFoundError:
        warnings.warn("Fashion-MNIST is not installed: random images", stacklevel=2)
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (60_000, 1, 28, 28), np.uint8), rng.integers(0, 10, 60_000)
    return images[:n], labels[:n]


def runner(library: str, key: tuple[str, int], threads: int):
    """One epoch."""
    case, n = key
    images, labels = arrays(n)
    lib, networks = load(library)
    lib.manual_seed(0)
    model = networks.cnn()
    floats = images.astype(np.float32) / 255
    batches = (in_torch if library.startswith("torch") else in_fastnn)(lib, case, images, floats, labels)
    fused = {"fused": True} if library.startswith("torch") else {}
    adam = lib.optim.Adam(model.parameters(), lr=1e-3, **fused)
    if library == "torch-cl":
        model = model.to(memory_format=lib.channels_last)

    def run():
        for x, y in batches():
            adam.zero_grad()
            lib.nn.functional.cross_entropy(model(x), y).backward()
            adam.step()
        return [None]

    return run


def in_torch(torch, case, images, floats, labels):
    x, y = torch.from_numpy(floats), torch.from_numpy(labels)

    def batches():
        order = torch.randperm(len(x))
        for i in range(0, len(x), 64):
            indices = order[i : i + 64]
            yield x[indices], y[indices]

    return batches


def in_fastnn(fastnn, case, images, floats, labels):
    data, transforms = importlib.import_module("fastnn.data"), importlib.import_module("fastnn.data.transforms")
    if case == "plain":
        return data.DataLoader(data.TensorDataset(floats, labels), 64, shuffle=True).__iter__
    parts = [transforms.ToFloat(), transforms.RandomCrop(28, padding=2), transforms.RandomHorizontalFlip(),
             transforms.Normalize(0.286, 0.353)]
    transform = transforms.Compose(parts)
    return data.DataLoader(data.TensorDataset(images, labels), 64, shuffle=True, transform=transform).__iter__


def main() -> int:
    options = parse(parser_for(__doc__, ["torch", "torch-cl"], []))
    n = 12_800 if options.quick else 60_000
    for threads in options.threads:
        names = [("plain", library) for library in ["fastnn", *options.peers]] + [("augmented", "fastnn")]
        workers = [Worker(library, threads) for _, library in names]
        for worker, (case, _) in zip(workers, names, strict=True):
            worker.ask("prepare", (case, n))
        times = in_turns(workers, ROUNDS, 0.0)
        print(f"\nan epoch of {n} images, {threads} threads: seconds, and how many times fastnn's without augmentation")
        for (case, library), values in zip(names, times, strict=True):
            ratio = statistics.median(a / b for a, b in zip(values, times[0], strict=True))
            print(f"{case:10} {LIBRARIES[library]:24} {min(values):7.2f} {ratio:7.3f}")
        for worker in workers:
            worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
