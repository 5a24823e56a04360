"""Every compiled kernel against its NumPy twin in float64, on this machine.

Kernels are found by walking the compiled modules, their arguments by name in the cases of ``cases.py``. Every case runs
on all instruction sets, in float32 and float64, on 1 to 8 threads. A number must lie within 8 ε √K · max(1, largest
finite |truth|) of the twin's, K being the number of terms of the longest sum (independent rounding errors add up as √K:
Higham, Mary, "A new approach to probabilistic rounding error analysis", 2019); infinities and NaN must sit where the
twin's do once rounded to the dtype, integers be equal, bits not depend on the threads, inputs not be written to."""
import importlib
import inspect
import itertools
import math
import pkgutil
import time
import timeit
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn import backend
from fastnn.verify import cases

FACTOR = 8.0
THREADS = (1, 2, 3, 4, 8)


class Row(NamedTuple):
    """What one kernel of one instruction set did in one dtype."""
    kernel: str  # "pooling.max_pool2d"
    isa: str
    dtype: str
    cases: int = 0
    error: float = 0.0  # the largest, in units of the tolerance; infinite where NaN, infinities or integers differ
    same_bits: bool = True
    speedup: float = 0.0  # the twin's time over the kernel's, on the largest case
    problem: str = ""  # what else is wrong

    @property
    def ok(self) -> bool:
        return self.error <= 1 and self.same_bits and not self.problem

    def __str__(self) -> str:
        bits, verdict = "equal" if self.same_bits else "DIFFER", "" if self.ok else f"  FAILED {self.problem}"
        return (f"{self.kernel:38} {self.isa:8} {self.dtype:8} {self.cases:5} {self.error:9.3f} {bits:>6} "
                f"{self.speedup:7.1f}x{verdict}")


def kernels() -> list[str]:
    """The names of all compiled kernels, "family.kernel"."""
    found = set()
    for isa in backend.instruction_sets():
        package = importlib.import_module(f"fastnn._kernels.{isa}")
        for module in pkgutil.iter_modules(package.__path__):
            members = vars(importlib.import_module(f"{package.__name__}.{module.name}")).items()
            found |= {f"{module.name}.{name}" for name, member in members if name[0] != "_" and callable(member)}
    return sorted(found)


@np.errstate(all="ignore")
def run(names: Sequence[str] = (), isas: Sequence[str] = (), show: Callable[[Row], Any] = bool) -> list[Row]:
    """Checks kernels ("conv.conv2d") or families ("conv"), by default all, on the given or all sets of this machine.

    `show` is called with each row as it comes. Raises ValueError if a name is not known, or nothing is compiled."""
    names_of, present = {kernel: {kernel, kernel.split(".")[0]} for kernel in kernels()}, backend.instruction_sets()
    if not names_of:
        raise ValueError("verify: this build has no compiled kernels")
    if unknown := {*names}.difference(*names_of.values()) | {*isas} - {*present}:
        raise ValueError(f"verify: no kernel, family or instruction set here is called {', '.join(sorted(unknown))}")
    chosen, rows = [kernel for kernel, known in names_of.items() if not names or known & {*names}], []
    for kernel, dtype in itertools.product(chosen, (np.float32, np.float64)):
        for row in _check(kernel, np.dtype(dtype), isas or present):
            rows.append(row)
            show(row)
    return rows


def report(names: Sequence[str] = ()) -> int:
    """Prints the rows of :func:`run` as a table; returns 1 if anything failed, else 0."""
    print(f"{'kernel':38} {'set':8} {'dtype':8} cases error/tol   bits    speed")
    rows = run(names, show=lambda row: print(row, flush=True))
    passed = sum(row.ok for row in rows)
    print(f"{passed} of {len(rows)} rows passed, on {', '.join(map(str, THREADS))} threads")
    return int(passed < len(rows))


def _check(kernel: str, dtype: np.dtype, isas: Sequence[str]) -> Iterator[Row]:
    family, name = kernel.split(".")
    twin: Any = getattr(backend.load("reference", "").get(family), name, None)
    parameters = [*inspect.signature(twin).parameters][:-1] if twin else []  # without n_threads
    made = getattr(cases, family, lambda *_: ())(name, cases.Arrays(zlib.crc32(kernel.encode()), dtype))
    tried = [([case[p] for p in parameters], terms) for case, terms in made if case.keys() >= {*parameters}]
    if not (twin and tried):
        missing = "cases in fastnn/verify/cases.py" if twin else f"twin in fastnn/reference/{family}.py"
        yield Row(kernel, "-", dtype.name, problem=f"no {missing}")
        return
    truths = [_call(twin, args, 1, np.dtype(np.float64)) for args, _ in tried]
    largest = max((args for args, _ in tried), key=lambda args: sum(a.nbytes for a in _arrays(args)))
    twin_seconds = _seconds(twin, largest)
    time.sleep(0.08)  # a BLAS called by the twin keeps the cores busy for up to 30 ms
    for isa in isas:
        error, speedup, problem = 0.0, 0.0, ""
        bits: list[set[int]] = [set() for _ in tried]
        try:
            function = getattr(backend.load("compiled", isa)[family], name)
            for n_threads in THREADS:  # outermost: to change their number takes longer than most cases
                for (args, terms), truth, seen in zip(tried, truths, bits, strict=True):
                    results = _call(function, args, n_threads)
                    seen.add(hash(_bits(results)))
                    for parameter, result, start, true in zip(parameters, results, args, truth, strict=True):
                        if parameter.endswith("_out"):
                            pairs = zip(_arrays(result), _arrays(true), strict=True)
                            error = max([error, *(_error(*pair, terms, dtype) for pair in pairs)])
                        elif _bits(result) != _bits(start):
                            problem = "writes to its input"
            speedup = twin_seconds / _seconds(function, largest)
        except Exception as e:  # a kernel that refuses a case is a finding, not the end of the run
            problem = f"{type(e).__name__}: {e}"
        yield Row(kernel, isa, dtype.name, len(tried), error, all(len(seen) < 2 for seen in bits), speedup, problem)


def _call(function: Callable, args: Sequence, n_threads: int, dtype: np.dtype | None = None) -> list:
    """Copies `args`, floating-point arrays as `dtype` if given, calls the function, and returns the copies."""
    def copy(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.astype(dtype if dtype and value.dtype.kind == "f" else value.dtype, order="K")
        return [*map(copy, value)] if isinstance(value, list) else value

    copies = copy(list(args))
    function(*copies, n_threads)
    return copies


def _arrays(value: Any) -> list[np.ndarray]:
    if isinstance(value, list):
        return [array for member in value for array in _arrays(member)]
    return [value] if isinstance(value, np.ndarray) else []


def _bits(value: Any) -> tuple[bytes, ...]:
    return tuple(array.tobytes() for array in _arrays(value))


def _error(got: np.ndarray, truth: np.ndarray, terms: int, dtype: np.dtype) -> float:
    """The largest error in units of the tolerance."""
    if got.dtype.kind != "f":
        return 0.0 if np.array_equal(got, truth) else math.inf
    finite = np.isfinite(rounded := truth.astype(got.dtype))
    if not np.array_equal(got[~finite], rounded[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return math.inf
    truth = truth[finite]
    largest, scale = np.abs(got[finite] - truth).max(initial=0.0), np.abs(truth).max(initial=1.0)
    return float(largest / (FACTOR * np.finfo(dtype).eps * math.sqrt(max(terms, 1)) * scale))


def _seconds(function: Callable, args: Sequence) -> float:
    """The shortest time of one call, out of twenty or of as many as fit into 50 ms."""
    args = [*_call(function, args, backend.n_threads()), backend.n_threads()]
    times: list[float] = []
    while len(times) < 20 and sum(times) < 0.05:
        times.append(timeit.timeit(lambda: function(*args), number=1))
    return min(times)
