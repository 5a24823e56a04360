"""What the benchmark scripts share: rows, workers, timing in turns, the limits of the machine, tables.

A script lists `Case`s in CASES and calls `main(CASES, __doc__)`. Each library (fastnn's compiled kernels, its NumPy
twins, PyTorch with NCHW or with channels-last tensors) runs in a process of its own. Results are compared before
anything is timed. Then the processes take turns, A B B A, and the median of the ratios within the rounds counts,
because speed drifts by more than the differences that matter. The limit of a row is max(arithmetic / peak, bytes /
bandwidth at that working set), with peak and bandwidth measured within ten seconds by machine.c. Cold rows have the
caches flushed before each call; their bandwidth is that of main memory.

A case of the kernel `relu`, with the same thing in PyTorch:

    Case("activation", "relu", "64x32x32x32", lambda rng: (normal(rng, 64, 32, 32, 32), out(64, 32, 32, 32)),
         bytes=2 * 4 * 64 * 32 * 32 * 32, torch=lambda torch, x, y_out: lambda: [torch.relu(x)])
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import inspect
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

MARCH = {"baseline": ["-march=x86-64-v2"], "avx2": ["-march=x86-64-v3"],
         "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}  # fmt: skip


class Row:
    """One row of a table; what these defaults do not fit, a script's rows say otherwise."""

    name: str
    flops = 0.0  # a multiply-add is two
    bytes = 0.0
    working_set = 0.0  # bytes of all arrays
    tol = 1e-4
    quick = True  # whether the row belongs to the short version

    def has(self, library: str) -> bool:
        return True


@dataclass
class Case(Row):
    """A call of a kernel.

    `args(rng)` makes the kernel's arguments, n_threads excepted: numbers, arrays, lists of arrays.
    `torch(torch, *args)` gets tensors for arrays; it returns a function without arguments that computes the same and
    returns, for each `_out` array, a tensor or, where there is no counterpart, None.
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

    @property
    def name(self) -> str:
        return f"{self.kernel} {self.label}"

    @functools.cached_property
    def working_set(self) -> float:
        return float(sum(a.nbytes for a in flat(self.args(np.random.default_rng(0)))))

    def has(self, library: str) -> bool:
        return self.torch is not None or not library.startswith("torch")


def flat(args: Iterable) -> list[np.ndarray]:
    """The arrays among arguments, those in lists included."""
    parts = [b for a in args for b in (flat(a) if isinstance(a, list) else [a])]
    return [a for a in parts if isinstance(a, np.ndarray)]


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
    """A copy that begins at a line of memory, as fastnn's own arrays do: NumPy's may begin anywhere."""
    a = a.transpose(0, 2, 3, 1) if a.ndim == 4 else a
    memory = np.empty(a.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    b = memory[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    b[...] = a
    return b.transpose(0, 3, 1, 2) if a.ndim == 4 else b


# Workers: one process for each library --------------------------------------------------------------------------


def kernel_runner(library: str, case: Case, threads: int) -> Callable[[], list]:
    """The function that a worker times for a case; it returns the output arrays, in the order of the arguments."""
    args = case.args(np.random.default_rng(0))
    if library.startswith("torch"):
        import torch

        order = torch.channels_last if library == "torch-cl" else torch.contiguous_format

        def tensor(a):
            if isinstance(a, list):
                return [tensor(b) for b in a]
            if not isinstance(a, np.ndarray):
                return a
            return torch.from_numpy(a).contiguous(memory_format=order if a.ndim == 4 else torch.contiguous_format)

        return case.torch(torch, *map(tensor, args))
    from fastnn import backend

    kernel = getattr(getattr(backend, case.family), case.kernel)
    names = inspect.signature(kernel).parameters
    results = flat(a for a, name in zip(args, names, strict=False) if name.endswith("_out"))

    def run():
        kernel(*args, threads)
        return results

    return run


def flusher(library: str, threads: int) -> Callable[[], Any]:
    """A function that reads twice as much as the last cache holds, by the library's own threads."""
    images = math.ceil(2 * max(size for _, size in caches()) / (4 * 128 * 64 * 64))
    x = _channels_last(np.ones((images, 128, 64, 64), np.float32))
    if library.startswith("torch"):
        import torch

        return torch.from_numpy(x).sum
    from fastnn import backend

    return functools.partial(backend.pooling.avg_pool2d, x, out(images, 128, 1, 1), None, None, None, False, 0, threads)


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _work(connection: Any, library: str, threads: int) -> None:
    script = sys.modules["__main__"]  # the script that was started, imported anew in this process
    if library.startswith("torch"):
        import torch
        import torch._dynamo  # its optimizers import this when one is made: part of the import, not of the training

        torch.set_num_threads(threads)
    elif library == "jax":
        bind(threads)
    else:
        from fastnn import backend

        backend.set_num_threads(threads)
    run = flush = None
    while (message := connection.recv()) is not None:
        task, value = message
        try:
            if task == "prepare":
                run = None  # frees the arrays of the row before
                run = script.runner(library, value, threads) if hasattr(script, "runner") else kernel_runner(
                    library, script.CASES[value], threads)
                connection.send([None if y is None else np.array(y) for y in run()])
            elif task == "time":
                connection.send(_time(run, value))
            elif task == "time cold":
                flush = flush or flusher(library, threads)
                connection.send(_time(run, value, flush))
            else:
                connection.send(peak_memory())
        except Exception as error:
            connection.send(error)


def _time(run: Callable, seconds: float, before: Callable = lambda: None) -> list[float]:
    """Times of single calls, in seconds, over at least `seconds`; the first does not count unless it takes as long."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        before()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times[1:] or times


def bind(threads: int) -> None:
    """Keep this process to as many processors, on different cores if there are enough: XLA sizes its pools by that."""

    def key(cpu):
        siblings = _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", str(cpu))
        return cpu != int(siblings.replace("-", ",").split(",")[0]), cpu

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0), key=key)[:threads])


def _read(path: str, default: str) -> str:
    return Path(path).read_text().strip() if os.path.exists(path) else default


def caches() -> list[tuple[str, int]]:
    """Name and bytes of the first processor's caches, the last one last; a guess where the system does not say."""
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(str(folder / name), "0") for name in ("level", "type", "size"))
        found.append((f"L{level}{kind[0].lower() if level == '1' else ''}", 1024 * int(size.rstrip("K"))))
    return found or [("L3", 32 << 20)]


class Worker:
    """A process that runs one library; what it runs comes from `runner` in the script, if it has one, else CASES."""

    def __init__(self, library: str, threads: int):
        saved = os.environ.copy()
        os.environ |= {"OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
        if library == "twin":
            os.environ["FASTNN_KERNELS"] = "reference"
        context = multiprocessing.get_context("spawn")
        self.library, self.threads = library, threads
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, library, threads), daemon=True)
        self.process.start()
        os.environ.clear()
        os.environ.update(saved)

    def ask(self, task: str, value: Any = None) -> Any:
        self.connection.send((task, value))
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise RuntimeError(f"{self.library}, {task} {value}: {answer}") from answer
        return answer

    def close(self) -> None:
        self.connection.send(None)
        self.process.join()


def difference(row: Row, ours: list, theirs: list) -> str:
    """Where results differ by more than the row's tolerance, relative to the largest value; nothing if they agree."""
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a is not None and b is not None:
            if a.shape != b.shape:
                return f"output {i} has shape {a.shape} and not {b.shape}"
            error = np.max(np.abs(np.subtract(a, b, dtype=np.float64)), initial=0.0)
            error /= max(1.0, float(np.max(np.abs(b), initial=0.0)))
            if not error <= row.tol:
                return f"output {i} differs by {error:.1e} of its largest value"
    return ""


COMPARED, STILL = 2, 1e-9
"""Training steps whose losses are compared, and the rate after them: thousands of steps on one batch would train until
numbers are denormal, which processors are slow with."""
PAUSE = 0.04
"""Seconds between turns: idle threads of OpenBLAS and OpenMP keep their cores busy for up to 30 ms after a call."""


def in_turns(workers: list[Worker], rounds: int, seconds: float, cold: bool = False) -> list[list[float]]:
    """Median time of each worker in each round; in a round all work forwards, then backwards."""
    result: list[list[float]] = [[] for _ in workers]
    for _ in range(rounds):
        times: list[list[float]] = [[] for _ in workers]
        for i in [*range(len(workers)), *reversed(range(len(workers)))]:
            time.sleep(PAUSE)
            times[i] += workers[i].ask("time cold" if cold else "time", seconds)
        for values, collected in zip(times, result, strict=True):
            collected.append(statistics.median(values))
    return result


# Limits of the machine -------------------------------------------------------------------------------------------


@dataclass
class Machine:
    """Peak arithmetic in FLOP/s, and pairs of working set in bytes and bandwidth in bytes/s, the smallest first."""

    peak: float
    streams: list[tuple[float, float]]

    def seconds(self, flops: float, moved: float, working_set: float) -> float:
        """The least time for this much arithmetic and this many bytes, of arrays that take `working_set` bytes."""
        sizes, rates = zip(*self.streams, strict=True)
        bandwidth = np.interp(math.log(max(working_set, 1)), np.log(sizes), rates)
        return max(flops / self.peak, moved / float(bandwidth))


class Limits:
    """The limits of the machine for a number of threads, with the instruction set in use, of the last ten seconds."""

    def __init__(self, isa: str, seconds: float):
        self.seconds, self.folder = seconds, tempfile.TemporaryDirectory()
        self.program: str | None = f"{self.folder.name}/machine"
        self.known: dict[int, tuple[float, Machine]] = {}
        flags = ["-O3", "-ffp-contract=fast", "-falign-loops=64", "-fopenmp", *MARCH.get(isa, [])]
        source = Path(__file__).with_name("machine.c")
        try:
            subprocess.run(["cc", *flags, source, "-o", self.program], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            self.program = None  # no C compiler that takes GCC's extensions: no limits

    def __call__(self, threads: int) -> Machine | None:
        if self.program and time.monotonic() - self.known.get(threads, (-math.inf,))[0] > 10:
            text = subprocess.run(
                [self.program, str(self.seconds)], env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            (_, peak), *streams = [line.split() for line in text.splitlines()]
            pairs = [(float(size), float(rate) * 1e9) for _, size, rate in streams]
            self.known[threads] = time.monotonic(), Machine(float(peak) * 1e9, pairs)
        return self.known[threads][1] if self.program else None


# The table -------------------------------------------------------------------------------------------------------


def parser_for(description: str, peers: Sequence[str], default: Sequence[str]) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and shorter turns")
    parser.add_argument("--peers", nargs="*", choices=peers, default=default, help="what to compare with")
    parser.add_argument("--threads", type=int, nargs="+", help="of each library (default: fastnn's own)")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name contains one of these")
    parser.add_argument("--json", type=Path, help="write the times to this file as well")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    options = parser.parse_args()
    options.rounds, options.seconds = (3, 0.02) if options.quick else (9, 0.1)
    from fastnn import backend

    options.threads = sorted(options.threads or [backend.get_num_threads()])
    return options


def ratios(result: dict, library: str, of: str = "fastnn") -> float:
    """How many times the time of `of` a library takes: the median over the rounds."""
    pairs = zip(result["seconds"][library], result["seconds"][of], strict=True)
    return statistics.median(theirs / own for theirs, own in pairs)


def best(result: dict) -> float:
    """How many times fastnn's time the fastest of the peers takes."""
    return min(ratios(result, library) for library in result["seconds"] if library not in ("fastnn", "1 thread"))


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def fraction(result: dict) -> float | None:
    """What part of the machine's limit, which is a best sample too, fastnn reaches in its best round."""
    return result["limit"] / min(result["seconds"]["fastnn"]) if result["limit"] else None


def spread(values: list[float]) -> float:
    """Half the distance between the quartiles, relative to the median."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float((high - low) / 2 / middle)


class Comparison:
    """The workers of fastnn and its peers at each number of threads, and the table that they fill.

    `checker` takes part in the check of the results only; without `limits` there is no column for them."""

    def __init__(self, options: argparse.Namespace, limits: Limits | None = None, checker: str = "fastnn"):
        libraries = ["fastnn", *options.peers]
        self.options, self.limits = options, limits
        self.timed = [Worker(library, threads) for threads in options.threads for library in libraries]
        self.others = [Worker(checker, options.threads[-1])] if checker not in libraries else []
        self.columns = [*(["1 thread"] if 1 in options.threads[:-1] else []), *options.peers]

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.timed + self.others:
            worker.close()

    def check(self, key: Any, row: Row) -> list[Worker]:
        """Prepare a row everywhere and compare its results; the workers that can time it.

        Peers have bugs, too: if fastnn disagrees with one but not with its own twin, a line says so and no more."""
        active = [worker for worker in self.timed + self.others if row.has(worker.library)]
        ours, *theirs = [worker.ask("prepare", key) for worker in active]
        for worker, results in zip(active[1:], theirs, strict=True):
            if found := difference(row, ours, results):
                if worker.library not in ("fastnn", "twin"):
                    with contextlib.closing(Worker("twin", worker.threads)) as twin:
                        if not difference(row, ours, twin.ask("prepare", key)):
                            print(f"{row.name}: {worker.library} is wrong (fastnn equals the twin): {found}")
                            continue
                sys.exit(f"{row.name}: fastnn and {worker.library}: {found}")
        return [worker for worker in active if worker in self.timed]

    def measure(self, key: Any, row: Row, cold: bool = False) -> list[dict]:
        """Check a row, time it and print the results: hot caches, then cold ones, at each number of threads."""
        active, results = self.check(key, row), []
        for state in ("hot", "cold")[: 1 + cold]:
            times = in_turns(active, self.options.rounds, self.options.seconds, state == "cold")
            for threads in self.options.threads:
                seconds = {w.library: t for w, t in zip(active, times, strict=True) if w.threads == threads}
                if "1 thread" in self.columns and threads > 1:
                    seconds["1 thread"] = times[0]
                machine = self.limits(threads) if self.limits and row.flops + row.bytes else None
                working_set = math.inf if state == "cold" else row.working_set
                limit = machine.seconds(row.flops, row.bytes, working_set) if machine else None
                results.append({"name": row.name, "working_set": row.working_set, "threads": threads, "caches": state,
                                "limit": limit, "seconds": seconds})  # fmt: skip
                self.print_row(results[-1])
        return results

    def print_row(self, result: dict) -> None:
        """fastnn's time: median, least, spread, fraction of the limit; and the others' times over it."""
        mine, reached = result["seconds"]["fastnn"], fraction(result)
        print(f"{result['name']:52}{result['threads']:3}{result['caches']:>6}", end="")
        print(f"{1e3 * statistics.median(mine):10.3f}{1e3 * min(mine):10.3f}{100 * spread(mine):5.0f}%", end="")
        print(f"{100 * reached:6.0f}%" if reached else f"{'':7}", end="")
        for library in self.columns:
            print(f"{ratios(result, library):10.2f}" if library in result["seconds"] else f"{'':10}", end="")
        print(flush=True)

    def print_head(self, title: str) -> None:
        """The table's head; ratios above 1 mean that fastnn is faster, or faster than on one thread."""
        from fastnn import backend

        print(f"\n{title}\n{backend.isa}, float32")
        for threads in self.options.threads if self.limits else []:
            if machine := self.limits(threads):
                rates = ", ".join(f"{size / 2**20:g} MB {rate / 1e9:.0f}" for size, rate in machine.streams[::3])
                print(f"{threads} threads: peak {machine.peak / 1e9:.0f} GFLOP/s; streaming in GB/s: {rates}")
        head = f"{'':52}{'thr':>3}{'cache':>6}{'ms':>10}{'least':>10}{'+-':>6}{'limit':>7}"
        print(head + "".join(f"{'/' + name:>10}" for name in self.columns), flush=True)

    def print_summary(self, name: str, results: list[dict]) -> None:
        """Mean and worst of the fastest peer's time over fastnn's, at the largest number of threads."""
        if results and self.options.peers:
            found = {r["name"]: best(r) for r in results if r["threads"] == self.options.threads[-1]}
            worst, mean = min(found, key=found.__getitem__), geometric_mean(found.values())
            print(f"{name}, best peer / fastnn: geometric mean {mean:.2f}, worst {found[worst]:.2f} ({worst})")


def write(path: Path | None, results: list[dict], limits: Limits | None = None) -> None:
    """What was measured, for the report."""
    if path:
        machines = {threads: asdict(machine) for threads, (_, machine) in limits.known.items()} if limits else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machines": machines, "results": results}))


def main(cases: list[Case], description: str) -> None:
    """Check and time the cases that the command line asks for, and print the table."""
    from fastnn import backend

    parser = parser_for(description, ("twin", "torch", "torch-cl"), ("twin",))
    parser.add_argument("--cold", action="store_true", help="also with the caches flushed before each call")
    options = parse(parser)
    limits = Limits(backend.isa, 0.02 if options.quick else 0.2)
    results = []
    with Comparison(options, limits, "twin") as comparison:
        comparison.print_head(description.partition("\n")[0])
        for i, case in enumerate(cases):
            if (case.quick or not options.quick) and any(part in case.name for part in options.only):
                results += comparison.measure(i, case, options.cold)
    write(options.json, results, limits)
