"""The door to the kernels: which set of them runs, on how many threads, and where random numbers come from.

`backend.conv`, `backend.pooling`, … are the compiled modules of the best instruction set that this processor and its
operating system support, or the NumPy twins if FASTNN_KERNELS=reference. FASTNN_ISA=baseline|avx2|avx512 overrides the
choice of the set. Nothing is chosen silently: what cannot be had is an ImportError that names the cure."""
import contextlib
import importlib
import math
import os
import threading
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.errors import ArgumentError

FAMILIES = (
    "activation", "conv", "dropout", "elementwise", "image", "matmul", "normalization", "optimizer", "pooling",
    "softmax")

try:
    from fastnn import _runtime  # type: ignore[attr-defined]
except ImportError as error:
    if os.environ.get("FASTNN_KERNELS") != "reference":
        raise ImportError("fastnn: the compiled kernels are missing. Build them by 'pip install .' with a C compiler, "
                          f"or set FASTNN_KERNELS=reference for the slow NumPy twins. The reason: {error}") from error
    _runtime = None

build: dict[str, Any] = _runtime.build() if _runtime else {"compiler": "none", "flags": "", "openmp": 0}


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that this processor, its operating system and this build support, the lowest first."""
    return _runtime.instruction_sets() if _runtime else ()


def _choose() -> tuple[str, str]:
    """The kernel set and the instruction set, from the environment and the machine."""
    kernel_set = os.environ.get("FASTNN_KERNELS", "compiled")
    if kernel_set not in ("compiled", "reference"):
        raise ImportError(f"FASTNN_KERNELS={kernel_set!r} is not known; it may be 'compiled' or 'reference'")
    if kernel_set == "reference":
        return kernel_set, "none"
    supported = instruction_sets()
    if not supported:
        raise ImportError("fastnn: this processor lacks SSE4.2, which the kernels need; set FASTNN_KERNELS=reference")
    isa = os.environ.get("FASTNN_ISA") or supported[-1]
    if isa not in ("baseline", "avx2", "avx512"):
        raise ImportError(f"FASTNN_ISA={isa!r} is not known; it may be baseline, avx2 or avx512")
    if isa not in supported:
        raise ImportError(f"FASTNN_ISA={isa}: this machine supports only {', '.join(supported)}")
    return kernel_set, isa


def load(kernel_set: str, isa: str) -> dict[str, Any]:
    """The kernel modules of a set, by family."""
    package = "fastnn.reference" if kernel_set == "reference" else f"fastnn._kernels.{isa}"
    try:
        return {family: importlib.import_module(f"{package}.{family}") for family in FAMILIES}
    except ImportError as error:
        raise ImportError(f"fastnn: {package} is missing from this build; build it again by 'pip install .', or choose "
                          f"another set by FASTNN_ISA. The reason: {error}") from error


kernel_set, isa = _choose()
(activation, conv, dropout, elementwise, image, matmul, normalization, optimizer, pooling,
 softmax) = load(kernel_set, isa).values()


# Threads ---------------------------------------------------------------------------------------------------------

def _quota(folder: str = "/sys/fs/cgroup") -> float:
    """Processors that the control group grants, infinity if it does not say."""
    for names in ("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"):  # versions 2 and 1
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as files:
            text = " ".join([files.enter_context(open(f"{folder}/{name}")).read() for name in names])
            quota, period = map(int, text.split())  # ValueError: "max", which is no limit, as -1 is
            return quota / period if quota > 0 < period else math.inf
    return math.inf


def _default_threads() -> tuple[int, str]:
    """How many threads to start with, and why."""
    if not build["openmp"]:
        return 1, "built without OpenMP"
    if os.environ.get("OMP_NUM_THREADS"):
        return _runtime.openmp_threads(), "OMP_NUM_THREADS"
    processors, quota = _runtime.processors(), _quota()
    if quota < processors:
        return max(1, math.ceil(quota)), "the control group's quota"
    return processors, "processors available"


_threads, threads_reason = _default_threads()
_main: int | None = threading.get_ident()  # None in a forked child


def _after_fork() -> None:
    """libgomp's threads do not survive a fork, and waiting for them would hang: a child runs on one."""
    global _main, _threads, threads_reason
    _main, _threads, threads_reason = None, 1, "a forked child runs on one thread"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def n_threads() -> int:
    """Threads for a kernel called here and now: 1 off the main thread and in a forked child."""
    return _threads if threading.get_ident() == _main else 1


def get_num_threads() -> int:
    """The number of threads that kernels use when called from the main thread."""
    return _threads


def set_num_threads(n: int) -> None:
    """Let kernels use `n` threads. Results do not depend on it, bit for bit.

    A forked child stays at one thread. Raises TypeError or ValueError unless n is an int of at least 1."""
    global _threads, threads_reason
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"set_num_threads: n must be an int, but a {type(n).__name__} came")
    if not 1 <= n <= 1024:
        raise ArgumentError(f"set_num_threads: n must be from 1 to 1024, but {n} came")
    if _main is not None:
        _threads, threads_reason = n, "set_num_threads"


# What lower levels leave to kernels ------------------------------------------------------------------------------

def _copyto(out: np.ndarray, a: np.ndarray, casting: Any = "same_kind") -> None:
    """np.copyto; by the kernel where that is faster and takes the arrays."""
    plain = a.dtype == out.dtype and a.dtype.char in "fd" and a.shape == out.shape
    if plain and a.size >= 512 and layout.sound(a) and a.strides != out.strides:
        elementwise.copy(a, out, n_threads())
    else:
        np.copyto(out, a, casting=casting)


layout.copyto = _copyto


# Random numbers --------------------------------------------------------------------------------------------------

generator: np.random.Generator = np.random.Generator(np.random.PCG64())


def manual_seed(seed: int) -> None:
    """Start the stream of random numbers anew: initialization, shuffles, rand, dropout.

    Raises TypeError unless `seed` is an integer; negative ones are taken modulo 2⁶⁴."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise TypeError(f"manual_seed: seed must be an int, but a {type(seed).__name__} came")
    generator.bit_generator.state = np.random.PCG64(int(seed) % 2**64).state


def next_seed() -> int:
    """A fresh 64-bit key for a counter-based generator, drawn from the seeded stream."""
    return int(generator.integers(0, 2**64, dtype=np.uint64))
