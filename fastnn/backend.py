"""The door to the kernels: which set of them runs, on how many threads, and where random numbers come from.

`backend.conv`, `backend.pooling`, … are the compiled modules of the best instruction set that this processor and its
operating system support, or the NumPy twins if FASTNN_KERNELS=reference. FASTNN_ISA=baseline|avx2|avx512 overrides the
choice of the set. Nothing is chosen silently: what cannot be had is an ImportError that names the cure.
"""

import importlib
import math
import os
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np

from fastnn.errors import ArgumentError

FAMILIES = ("activation", "conv", "dropout", "matmul", "normalization", "optimizer", "pooling", "softmax")

try:
    from fastnn import _runtime
except ImportError as error:
    if os.environ.get("FASTNN_KERNELS") != "reference":
        raise ImportError(
            "fastnn: the compiled kernels are missing. Build them by 'pip install .' in the sources (a C compiler "
            f"is needed), or set FASTNN_KERNELS=reference for the slow NumPy twins. The reason: {error}"
        ) from error
    _runtime = None


def _choose_kernel_set() -> str:
    choice = os.environ.get("FASTNN_KERNELS", "compiled")
    if choice not in ("compiled", "reference"):
        raise ImportError(f"FASTNN_KERNELS={choice!r} is not known; it may be 'compiled' or 'reference'")
    return choice


def _choose_isa() -> str:
    supported = instruction_sets()
    choice = os.environ.get("FASTNN_ISA") or (supported[-1] if supported else "")
    if choice not in ("baseline", "avx2", "avx512"):
        raise ImportError(
            f"FASTNN_ISA={choice!r} is not known; it may be baseline, avx2 or avx512" if choice else
            "fastnn: this processor lacks SSE4.2, which the lowest compiled set needs; set FASTNN_KERNELS=reference"
        )
    if choice not in supported:
        raise ImportError(f"FASTNN_ISA={choice}: this machine supports only {', '.join(supported)}")
    return choice


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that this processor, its operating system and this build support, the lowest first."""
    return _runtime.instruction_sets() if _runtime else ()


def load(kernel_set: str, isa: str) -> dict[str, ModuleType]:
    """The kernel modules of a set, by family."""
    package = "fastnn.reference" if kernel_set == "reference" else f"fastnn._kernels.{isa}"
    try:
        return {family: importlib.import_module(f"{package}.{family}") for family in FAMILIES}
    except ImportError as error:
        raise ImportError(
            f"fastnn: the kernels of the set {isa!r} are missing from this build; build it again with 'pip install .', "
            f"or choose another set by FASTNN_ISA. The reason: {error}"
        ) from error


kernel_set = _choose_kernel_set()
isa = _choose_isa() if kernel_set == "compiled" else "none"
_modules = load(kernel_set, isa)
activation = _modules["activation"]
conv = _modules["conv"]
dropout = _modules["dropout"]
matmul = _modules["matmul"]
normalization = _modules["normalization"]
optimizer = _modules["optimizer"]
pooling = _modules["pooling"]
softmax = _modules["softmax"]


# Threads ---------------------------------------------------------------------------------------------------------

def _quota() -> float:
    """Processors that the control group grants, infinity if it does not say."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]  # version 2
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return math.inf
    return int(quota) / int(period) if quota not in ("max", "-1") else math.inf


def _default_threads() -> tuple[int, str]:
    """How many threads to start with, and why."""
    if _runtime is None:
        return 1, "the NumPy twins run on one thread"
    if not _runtime.build()["openmp"]:
        return 1, "built without OpenMP"
    if os.environ.get("OMP_NUM_THREADS"):
        return _runtime.openmp_threads(), "OMP_NUM_THREADS"
    quota = max(1, math.ceil(_quota())) if _quota() < math.inf else sys.maxsize
    processors = _runtime.processors()
    return (quota, "the control group's quota") if quota < processors else (processors, "processors available")


_threads, threads_reason = _default_threads()
_main = threading.get_ident()
_forked = False


def _after_fork() -> None:
    """libgomp's threads do not survive a fork, and waiting for them would hang: a child runs on one."""
    global _main, _forked, threads_reason
    _main, _forked, threads_reason = threading.get_ident(), True, "a forked child runs on one thread"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def n_threads() -> int:
    """Threads for a kernel called here and now: 1 off the main thread and in a forked child."""
    return _threads if threading.get_ident() == _main and not _forked else 1


def get_num_threads() -> int:
    """The number of threads that kernels use when called from the main thread."""
    return 1 if _forked else _threads


def set_num_threads(n: int) -> None:
    """Let kernels use `n` threads. Results do not depend on it, bit for bit.

    A forked child stays at one thread. Raises TypeError or ValueError unless n is an int of at least 1.
    """
    global _threads, threads_reason
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"set_num_threads: n must be an int, but a {type(n).__name__} came")
    if not 1 <= n <= 1024:
        raise ArgumentError(f"set_num_threads: n must be from 1 to 1024, but {n} came")
    if not _forked:
        _threads, threads_reason = n, "set_num_threads"


# Random numbers --------------------------------------------------------------------------------------------------

generator: np.random.Generator = np.random.Generator(np.random.PCG64())


def manual_seed(seed: int) -> None:
    """Start the stream of random numbers anew: initialization, shuffles, rand, dropout.

    Raises TypeError unless `seed` is an integer; negative ones are taken modulo 2⁶⁴.
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise TypeError(f"manual_seed: seed must be an int, but a {type(seed).__name__} came")
    generator.bit_generator.state = np.random.PCG64(int(seed) % 2**64).state


def next_seed() -> int:
    """A fresh 64-bit key for a counter-based generator, drawn from the seeded stream."""
    return int(generator.integers(0, 2**64, dtype=np.uint64))
