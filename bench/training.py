"""What the comforts of training cost: `Trainer` with progress bar and CSV log, and `Watch`, over a plain loop; a
checkpoint over writing and syncing as many bytes.

Epochs of `cnn` on random images of 28×28, batches of 64, Adam; each in turns with the others, in one process. Ratios
are medians over rounds, with the least and the largest.
"""
import argparse
import contextlib
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

import fastnn
from fastnn import models, nn, optim
from fastnn.data import DataLoader, TensorDataset
from fastnn.functional import cross_entropy
from fastnn.train import CSVLogger, Trainer, Watch


def epochs(folder: Path, batches: int) -> dict:
    """For each way of training, a function that trains an epoch."""
    rng = np.random.default_rng(0)
    dataset = TensorDataset(rng.random((64 * batches, 1, 28, 28), np.float32), rng.integers(0, 10, 64 * batches))

    def plain(model, adam):
        model.train()
        for x, y in DataLoader(dataset, 64, shuffle=True):
            adam.zero_grad()
            cross_entropy(model(x), y).backward()
            adam.step()

    def trainer(model, adam, *callbacks):
        with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            loader = DataLoader(dataset, 64, shuffle=True)
            Trainer(progress=True).fit(model, loader, optimizer=adam, callbacks=[CSVLogger(folder / "log"), *callbacks])

    def watched(model, adam):
        trainer(model, adam, Watch())

    found = {}
    for run in plain, trainer, watched:
        fastnn.manual_seed(0)
        model = models.cnn()
        found[run.__name__] = partial(run, model, optim.Adam(model.parameters()))
    return found


def checkpoints(folder: Path) -> dict:
    """Saving ten million parameters with Adam's state, and writing and syncing as many bytes."""
    model = nn.Sequential(nn.Conv2d(512, 1024, 3, bias=False), nn.Conv2d(512, 512, 3, bias=False),
                          nn.Linear(1710, 1710, bias=False))  # fmt: skip
    adam = optim.Adam(model.parameters())
    for p in model.parameters():
        p.grad = fastnn.ones_like(p)
    adam.step()
    state, path = {"model": model.state_dict(), "optimizer": adam.state_dict()}, folder / "checkpoint.safetensors"
    fastnn.save(state, path)
    content = path.read_bytes()

    def written():
        with open(folder / "bytes", "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    return {"written": written, "checkpoint": lambda: fastnn.save(state, path)}


def compare(title: str, runs: dict, rounds: int) -> None:
    """Prints the median of each function's seconds and its ratio to that of the first."""
    for run in runs.values():
        run()
    seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(seconds.values()))
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, first, strict=True)]
        print(f"{title:12} {name:12} {statistics.median(times):8.3f} s   {statistics.median(ratios):6.3f} "
              f"({min(ratios):.3f} to {max(ratios):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    fastnn.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=".") as name:
        compare("cnn, epoch", epochs(Path(name), 60 if arguments.quick else 300), 3 if arguments.quick else 9)
        compare("120 MB", checkpoints(Path(name)), 3 if arguments.quick else 11)


if __name__ == "__main__":
    main()
