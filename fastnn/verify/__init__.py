"""Every compiled kernel against its NumPy twin in float64, on this machine.

The kernels are found by walking the compiled modules; ``fastnn/verify/<family>.py`` holds for each kernel a generator
of its name, which yields the arguments of a case and K, the number of terms of its longest sum. A kernel without cases
fails. Each case runs on every instruction set that this machine supports, in float32 and float64, on 1, 2 and 3
threads. It passes if

- every number lies within 8 ε √K · max(1, largest finite |truth|) of the twin's, ε that of the dtype (independent
  rounding errors add up as √K: Higham, Mary, "A new approach to probabilistic rounding error analysis", 2019),
- infinities and NaN sit where the twin's do once rounded to the dtype, and integers are equal,
- the bits are the same on any number of threads, and no input is written to.
"""

import importlib
import inspect
import math
import pkgutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from fastnn import backend

__all__ = ["Row", "kernels", "report", "rows", "run"]

FACTOR = 8.0
THREADS = (1, 2, 3)


class Row(NamedTuple):
    """What one kernel of one instruction set did in one dtype."""

    kernel: str  # family and name, "pooling.max_pool2d"
    isa: str
    dtype: str
    cases: int
    error: float  # the largest, in units of the tolerance; infinite where NaN, infinities or integers differ
    same_bits: bool  # on 1, 2 and 3 threads
    speedup: float  # time of the twin / time of the kernel, on the largest case
    problem: str = ""  # what else is wrong

    @property
    def ok(self) -> bool:
        return self.error <= 1 and self.same_bits and not self.problem


def kernels() -> list[str]:
    """The names of all compiled kernels, "family.kernel"."""
    found = set()
    for isa in backend.instruction_sets():
        package = importlib.import_module(f"fastnn._kernels.{isa}")
        for module in pkgutil.iter_modules(package.__path__):
            members = vars(importlib.import_module(f"{package.__name__}.{module.name}")).items()
            found |= {f"{module.name}.{name}" for name, member in members if name[0] != "_" and callable(member)}
    return sorted(found)


def run(names: Sequence[str] = (), isas: Sequence[str] = ()) -> list[Row]:
    """The rows of :func:`rows`, as a list."""
    return list(rows(names, isas))


def rows(names: Sequence[str] = (), isas: Sequence[str] = ()) -> Iterator[Row]:
    """Checks kernels one after the other.

    Args:
        names: kernels ("conv.conv2d") or families ("conv"); all by default.
        isas: instruction sets; all that this machine supports by default.

    Raises ValueError if a name or a set is not known here, or if there are no compiled kernels.
    """
    present, every = backend.instruction_sets(), kernels()
    if not every:
        raise ValueError("verify: this build has no compiled kernels")
    if unknown := set(names) - {*every, *(kernel.split(".")[0] for kernel in every)} | set(isas) - set(present):
        raise ValueError(f"verify: no such kernel, family or instruction set here: {', '.join(sorted(unknown))}")
    for kernel in every:
        if not names or kernel in names or kernel.split(".")[0] in names:
            for dtype in (np.float32, np.float64):
                yield from _check(kernel, np.dtype(dtype), isas or present)


def report(names: Sequence[str] = ()) -> int:
    """Prints the table of :func:`rows`; returns 1 if anything failed, else 0."""
    failed = count = 0
    for row in rows(names):
        if not count:
            print(f"{'kernel':38} {'set':8} {'dtype':8} {'cases':>5} {'error/tol':>9} {'bits':>6} {'speed':>8}")
        count += 1
        failed += not row.ok
        bits = "equal" if row.same_bits else "DIFFER"
        print(
            f"{row.kernel:38} {row.isa:8} {row.dtype:8} {row.cases:5} {row.error:9.3f} {bits:>6} {row.speedup:7.1f}x"
            f"{'' if row.ok else '  FAILED ' + row.problem}",
            flush=True,
        )
    print(f"{count - failed} of {count} rows passed, on {', '.join(map(str, THREADS))} threads")
    return int(failed > 0)


def _check(kernel: str, dtype: np.dtype, isas: Sequence[str]) -> Iterator[Row]:
    family, name = kernel.split(".")
    twin, make_cases = (getattr(_module(f"fastnn.{part}.{family}"), name, None) for part in ("reference", "verify"))
    if twin is None or make_cases is None:
        missing = "twin in fastnn/reference" if twin is None else "cases in fastnn/verify"
        yield Row(kernel, "-", dtype.name, 0, 0.0, True, 0.0, f"no {missing}/{family}.py")
        return
    rng = np.random.default_rng(zlib.crc32(kernel.encode()))
    parameters = list(inspect.signature(twin).parameters)[:-1]  # without n_threads
    with np.errstate(all="ignore"):
        cases = list(make_cases(rng, dtype))
        truths = [_call(twin, args, 1, np.float64) for args, _ in cases]
        largest = max((args for args, _ in cases), key=lambda args: sum(a.nbytes for a in _arrays(args)), default=())
        twin_seconds = _seconds(twin, largest) if cases else 0.0
        for isa in isas:
            function = getattr(_module(f"fastnn._kernels.{isa}.{family}"), name, None)
            error, same_bits, speedup, problem = 0.0, True, 0.0, "" if cases else "its generator yields no case"
            try:
                bits: list[set[int]] = [set() for _ in cases]
                for n_threads in THREADS:  # outermost: to change their number takes longer than most cases
                    for (args, terms), truth, seen in zip(cases, truths, bits, strict=True):
                        outcome = _call(function, args, n_threads)
                        seen.add(hash(_bits(outcome)))
                        for parameter, got, start, true in zip(parameters, outcome, args, truth, strict=True):
                            if parameter.endswith("_out"):
                                for pair in zip(_arrays(got), _arrays(true), strict=True):
                                    error = max(error, _error(*pair, terms, dtype))
                            elif _bits(got) != _bits(start) and not _shared(start, args, parameters):
                                problem = f"writes to its input {parameter}"
                same_bits = all(len(seen) == 1 for seen in bits)
                speedup = twin_seconds / _seconds(function, largest) if cases else 0.0
            except Exception as e:  # a kernel that refuses a case is a finding, not the end of the run
                problem = f"{type(e).__name__}: {e}"
            yield Row(kernel, isa, dtype.name, len(cases), error, same_bits, speedup, problem)


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name != name:
            raise
        return None


def _call(function: Callable, args: Sequence, n_threads: int, dtype: DTypeLike = None) -> list:
    """Copies `args`, floating-point arrays as `dtype` if given, calls the function, and returns the copies."""
    copies: dict[int, np.ndarray] = {}  # an array that comes twice is copied once

    def copy(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(copy, value))
        if isinstance(value, np.ndarray) and id(value) not in copies:
            copies[id(value)] = value.astype(dtype if dtype and value.dtype.kind == "f" else value.dtype, order="K")
        return copies.get(id(value), value)

    args = [copy(value) for value in args]
    function(*args, n_threads)
    return args


def _arrays(value: Any) -> list[np.ndarray]:
    if isinstance(value, (list, tuple)):
        return [array for member in value for array in _arrays(member)]
    return [value] if isinstance(value, np.ndarray) else []


def _bits(value: Any) -> tuple[bytes, ...]:
    return tuple(array.tobytes() for array in _arrays(value))


def _shared(value: Any, args: Sequence, parameters: Sequence[str]) -> bool:
    """Whether `value` is also given as an output: a kernel that works in place."""
    outputs = [arg for parameter, arg in zip(parameters, args, strict=True) if parameter.endswith("_out")]
    return not {*map(id, _arrays(outputs))}.isdisjoint(map(id, _arrays(value)))


def _error(got: np.ndarray, truth: np.ndarray, terms: int, dtype: np.dtype) -> float:
    """The largest error in units of the tolerance."""
    if got.dtype.kind != "f":
        return 0.0 if np.array_equal(got, truth) else math.inf
    rounded = truth.astype(got.dtype)
    finite = np.isfinite(rounded)
    if got.shape != truth.shape or not np.array_equal(np.where(finite, 0, got), np.where(finite, 0, rounded), True):
        return math.inf  # NaN or infinities elsewhere
    truth = truth[finite]
    largest = np.abs(got[finite] - truth).max(initial=0.0)  # in float64, as truth is; NaN or inf if got is
    if not np.isfinite(largest):
        return math.inf
    scale = np.abs(truth).max(initial=1.0)
    return float(largest / (FACTOR * np.finfo(dtype).eps * math.sqrt(max(terms, 1)) * scale))


def _seconds(function: Callable, args: Sequence) -> float:
    """The shortest time of one call, out of five or of as many as fit into 50 ms."""
    args, times = _call(function, args, backend.n_threads()), []
    while len(times) < 5 and sum(times) < 0.05:
        start = time.perf_counter()
        function(*args, backend.n_threads())
        times.append(time.perf_counter() - start)
    return min(times)
