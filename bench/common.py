"""What the benchmark scripts share: cases, workers, timing in turns, the limits of the machine, tables.

A script lists `Case`s in CASES and calls `main(CASES, __doc__)`. Each library (fastnn's compiled kernels, its NumPy
twins, PyTorch if asked for by --torch) runs in a process of its own. Results are compared before anything is timed.
Then the processes take turns, A B B A, and the median of the ratios within the rounds counts, because speed drifts by
more than the differences that matter. The limit of a row is max(arithmetic / peak, bytes / bandwidth at that working
set), with peak and bandwidth measured in the same minute by machine.c.

A case of the kernel `relu`, with the same thing in PyTorch:

    Case("activation", "relu", "64x32x32x32", lambda rng: (normal(rng, 64, 32, 32, 32), out(64, 32, 32, 32)),
         bytes=2 * 4 * 64 * 32 * 32 * 32, torch=lambda torch, x, y_out: lambda: [torch.relu(x)])
"""

from __future__ import annotations

import argparse
import inspect
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MARCH = {"baseline": ["-march=x86-64-v2"], "avx2": ["-march=x86-64-v3"],
         "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}  # fmt: skip


@dataclass
class Case:
    """One row of a table.

    `args(rng)` makes the kernel's arguments, n_threads excepted: numbers, arrays, lists of arrays.
    `torch(torch, *args)` gets tensors of the same memory order for arrays; it returns a function without arguments
    that computes the same and returns, for each `_out` array, a tensor or, where there is no counterpart, None.
    `flops` counts a multiply-add as two.
    """

    family: str
    kernel: str
    label: str
    args: Callable[[np.random.Generator], Sequence]
    flops: float = 0.0
    bytes: float = 0.0
    torch: Callable | None = None
    tol: float = 1e-4
    quick: bool = True
    """Whether the row belongs to the short version."""


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal float32 numbers; 4-D: channels-last."""
    return _channels_last(rng.standard_normal(shape, dtype=np.float32))


def out(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Zeros; 4-D: channels-last."""
    return _channels_last(np.zeros(shape, dtype))


def hwio(a: np.ndarray) -> np.ndarray:
    """A convolution weight (O, I, kH, kW) in the memory order of fastnn's parameters: kH, kW, I, O."""
    return np.ascontiguousarray(a.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


def _channels_last(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if a.ndim == 4 else a


# Workers: one process for each library --------------------------------------------------------------------------


def kernel_runner(library: str, case: Case, threads: int) -> Callable[[], list]:
    """The function that a worker times for a case; it returns the output arrays, in the order of the arguments."""
    args = case.args(np.random.default_rng(0))
    if library == "torch":
        import torch

        def tensor(a):
            if isinstance(a, list):
                return [tensor(b) for b in a]
            return torch.from_numpy(a) if isinstance(a, np.ndarray) else a

        return case.torch(torch, *map(tensor, args))
    from fastnn import backend

    kernel = getattr(getattr(backend, case.family), case.kernel)
    named = zip(args, inspect.signature(kernel).parameters, strict=False)
    flat = [b for a, name in named if name.endswith("_out") for b in (a if isinstance(a, list) else [a])]

    def run():
        kernel(*args, threads)
        return flat

    return run


def _work(connection: Any, library: str, threads: int) -> None:
    script = sys.modules["__main__"]  # the script that was started, imported anew in this process
    runner = getattr(script, "runner", kernel_runner)
    if library.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    else:
        from fastnn import backend

        backend.set_num_threads(threads)
    run = None
    while (message := connection.recv()) is not None:
        task, value = message
        try:
            if task == "prepare":
                run = runner(library, script.CASES[value], threads)
                connection.send([None if y is None else np.array(y) for y in run()])
            else:
                connection.send(_time(run, value))
        except Exception as error:
            connection.send(error)


def _time(run: Callable, seconds: float) -> list[float]:
    """Times of single calls, in seconds, over at least `seconds`; the first does not count unless it takes as long."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times[1:] or times


class Worker:
    """A process that runs one library; the cases' functions come from `runner` in the script, if it has one."""

    def __init__(self, library: str, threads: int):
        saved = os.environ.copy()
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if library == "twin":
            os.environ["FASTNN_KERNELS"] = "reference"
        context = multiprocessing.get_context("spawn")
        self.library = library
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, library, threads), daemon=True)
        self.process.start()
        os.environ.clear()
        os.environ.update(saved)

    def ask(self, task: str, value: Any) -> Any:
        self.connection.send((task, value))
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise RuntimeError(f"{self.library}, {task} {value}: {answer}") from answer
        return answer

    def close(self) -> None:
        self.connection.send(None)
        self.process.join()


def agree(case: Any, ours: list, theirs: list, library: str) -> None:
    """Stop unless the results are equal within the case's tolerance, relative to the largest value."""
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if b is None:
            continue
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        error = float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)), initial=0.0)) / scale
        if not error <= case.tol:
            sys.exit(f"{case.label}: output {i} differs from {library} by {error:.1e} of its largest value; not timed")


PAUSE = 0.08
"""Seconds between turns: idle threads of OpenBLAS and OpenMP keep their cores busy for up to 30 ms after a call."""


def in_turns(workers: list[Worker], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Median time of each worker in each round; in a round all work forwards, then backwards."""
    result: dict[str, list[float]] = {worker.library: [] for worker in workers}
    for _ in range(rounds):
        times: dict[str, list[float]] = {worker.library: [] for worker in workers}
        for worker in [*workers, *reversed(workers)]:
            time.sleep(PAUSE)
            times[worker.library] += worker.ask("time", seconds)
        for library, values in times.items():
            result[library].append(statistics.median(values))
    return result


# Limits of the machine -------------------------------------------------------------------------------------------


@dataclass
class Machine:
    """Peak arithmetic in FLOP/s, and pairs of working set in bytes and bandwidth in bytes/s."""

    peak: float
    streams: list[tuple[int, float]]

    def seconds(self, flops: float, moved: float) -> float:
        """The least time for this much arithmetic and this many bytes."""
        bandwidth = next((rate for size, rate in self.streams if size >= moved), self.streams[-1][1])
        return max(flops / self.peak, moved / bandwidth)


def probe(threads: int, isa: str, seconds: float) -> Machine | None:
    """Measure the limits, with the instruction set in use; None without a C compiler that takes GCC's extensions."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["-O3", "-ffp-contract=fast", "-fopenmp", *MARCH.get(isa, [])]
        source = Path(__file__).with_name("machine.c")
        try:
            subprocess.run(["cc", *flags, source, "-o", f"{folder}/machine"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        text = subprocess.run(
            [f"{folder}/machine", str(seconds)], env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    rows = [line.split() for line in text.splitlines()]
    streams = [(int(row[1]), float(row[2]) * 1e9) for row in rows if row[0] == "stream"]
    return Machine(float(rows[0][1]) * 1e9, streams)


# The table -------------------------------------------------------------------------------------------------------


def parse(description: str) -> argparse.Namespace:
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and shorter turns")
    parser.add_argument("--torch", action="store_true", help="time PyTorch as well")
    parser.add_argument("--threads", type=int, help="threads of each library (default: fastnn's own default)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    options.rounds, options.seconds = (3, 0.02) if options.quick else (9, 0.1)
    from fastnn import backend

    options.threads = options.threads or backend.get_num_threads()
    return options


def spread(values: list[float]) -> float:
    """Half the distance between the quartiles, relative to the median."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float((high - low) / 2 / middle)


def print_row(label: str, times: dict[str, list[float]], limit: float | None) -> None:
    """The first library's time: median, least, spread, fraction of the limit; and the others' times over it."""
    first, *others = times
    mine = times[first]
    fraction = f"{100 * limit / statistics.median(mine):6.0f}%" if limit else f"{'':7}"
    print(f"{label:52}{1e3 * statistics.median(mine):9.3f}{1e3 * min(mine):9.3f}", end="")
    print(f"{100 * spread(mine):6.0f}%{fraction}", end="")
    for library in others:
        ratios = [theirs / own for theirs, own in zip(times[library], mine, strict=True)]
        print(f"{statistics.median(ratios):9.2f}", end="")
    print(flush=True)


def print_head(title: str, libraries: list[str], threads: int, machine: Machine | None) -> None:
    """The table's head; ratios above 1 mean that fastnn is faster."""
    from fastnn import backend

    limits = ""
    if machine:
        rates = ", ".join(f"{size >> 20} MB {rate / 1e9:.0f}" for size, rate in machine.streams[::2])
        limits = f"\npeak {machine.peak / 1e9:.0f} GFLOP/s; streaming in GB/s: {rates}"
    print(f"\n{title}: {backend.isa}, {threads} threads, float32{limits}")
    head = f"{'':52}{'ms':>9}{'least':>9}{'+-':>7}{'limit':>7}"
    print(head + "".join(f"{'/' + library:>9}" for library in libraries[1:]), flush=True)


def main(cases: list[Case], description: str) -> None:
    """Check and time the cases that the command line asks for, and print the table."""
    from fastnn import backend

    options = parse(description)
    chosen = {
        i: case
        for i, case in enumerate(cases)
        if (case.quick or not options.quick) and options.only in f"{case.kernel} {case.label}"
    }
    machine = probe(options.threads, backend.isa, 0.02 if options.quick else 0.2)
    libraries = ["fastnn", "twin"] + (["torch"] if options.torch else [])
    print_head(description.partition("\n")[0].rstrip("."), libraries, options.threads, machine)
    workers = [Worker(library, options.threads) for library in libraries]
    for i, case in chosen.items():
        active = [worker for worker in workers if worker.library != "torch" or case.torch]
        ours, *others = [worker.ask("prepare", i) for worker in active]
        for worker, theirs in zip(active[1:], others, strict=True):
            agree(case, ours, theirs, worker.library)
        times = in_turns(active, options.rounds, options.seconds)
        limit = machine.seconds(case.flops, case.bytes) if machine and (case.flops or case.bytes) else None
        print_row(f"{case.kernel} {case.label}", times, limit)
    for worker in workers:
        worker.close()
