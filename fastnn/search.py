"""Hyperparameter search on Optuna (extra `search`): random, grid or TPE, from coarse to fine, in several processes.

The calling process alone asks Optuna for trials, and writes each to the storage at once when it has ended; workers are
sent parameters and send back figures. So a worker that dies, or a search that Ctrl-C or a power cut stops, costs the
trials under way and no other, and the next run does the rest. Reference: CS231n, "Hyperparameter optimization"."""
import contextlib
import fcntl
import hashlib
import itertools
import math
import os
import pickle
import signal
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection, get_context, resource_tracker
from typing import Any

import numpy as np

from fastnn import backend
from fastnn.data import TensorDataset, k_fold, random_split, stratified_split, targets_of
from fastnn.errors import require
from fastnn.tensor import as_tensor
from fastnn.train import Callback, Trainer
from fastnn.train.callback import falls

DEFINITION = ("space", "stages", "method", "direction", "pruner", "seed", "points")  # and the objective's
STATES = ("complete", "pruned", "diverged", "crashed")  # of trials that are done with, from best to worst
Report = Callable[[int, float], Any]


# Spaces ----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Uniform:
    """Numbers from `low` to `high`, all as likely."""
    low: float
    high: float
    log, integer = False, False

    def __post_init__(self) -> None:
        ends, kind = (self.low, self.high), int if self.integer else (int, float)
        if not all(isinstance(v, kind) and not isinstance(v, bool) and math.isfinite(v) for v in ends) or not (
                self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError(f"{type(self).__name__}: needs {'ints' if self.integer else 'finite numbers'} "
                             f"{'0 < ' * self.log}low < high, got {self.low!r} and {self.high!r}")

    def share(self, value: Any) -> float:
        """Where `value` lies in the range: 0 at `low`, 1 at `high`."""
        x, low, high = (math.log(v) if self.log else v for v in (value, self.low, self.high))
        return (x - low) / (high - low)

    def at(self, share: float) -> float:
        """The number that lies at `share`."""
        if share in (0, 1):
            return self.high if share else self.low
        return self.low * (self.high / self.low)**share if self.log else self.low + share * (self.high - self.low)

    def grid(self, points: int) -> list[Any]:
        """`points` values in even steps from `low` to `high`; one is the middle."""
        values = [self.at(i / (points - 1)) for i in range(points)] if points > 1 else [self.at(0.5)]
        return sorted({round(v) for v in values}) if self.integer else values

    def suggest(self, trial: Any, name: str) -> Any:
        """The value that Optuna chooses for `trial`."""
        return (trial.suggest_int if self.integer else trial.suggest_float)(name, self.low, self.high, log=self.log)

    def narrowed(self, values: Sequence[Any]) -> "Uniform":
        """The part of this range that holds `values`, the best first, and a tenth of the range to either side. But a
        LogUniform goes on for a quarter of the range past a border at which the best lies (not past 1, if it is below).

        >>> LogUniform(1e-5, 1e-1).narrowed([1e-2, 1e-3]), LogUniform(1e-5, 1e-1).narrowed([0.09, 0.02])
        (LogUniform(low=0.000398..., high=0.0251...), LogUniform(low=0.00796..., high=0.9...))"""
        x, beyond = [self.share(value) for value in values], self.log and not self.integer
        low = self.at(x[0] - 0.25 if beyond and x[0] < 0.05 else max(min(x) - 0.1, 0))
        high = self.at(x[0] + 0.25 if beyond and x[0] > 0.95 else min(max(x) + 0.1, 1))
        if self.integer:
            return type(self)(max(math.floor(low), self.low), min(math.ceil(high), self.high))
        return type(self)(low, min(high, 1.0) if self.high <= 1 else high)


class LogUniform(Uniform):
    """Numbers whose logarithm is uniform: rates, strengths of regularization."""
    log = True


class Int(Uniform):
    """The ints from `low` to `high`, both included."""
    integer = True


class LogInt(Int):
    """Ints whose logarithm is about uniform: widths of layers, batch sizes."""
    log = True


@dataclass(frozen=True)
class Choice:
    """One of several options: None, bools, numbers or strings."""
    options: Sequence[Any]
    log = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        simple = all(isinstance(v, int | float | str | None) for v in self.options)
        if not (simple and 0 < len(set(self.options)) == len(self.options)):
            raise ValueError(f"Choice: options must be different numbers, strings, bools or None, got {self.options}")

    def share(self, value: Any) -> float:
        return self.options.index(value) / max(1, len(self.options) - 1)

    def grid(self, points: int) -> list[Any]:
        return list(self.options)

    def suggest(self, trial: Any, name: str) -> Any:
        return trial.suggest_categorical(name, self.options)

    def narrowed(self, values: Sequence[Any]) -> "Choice":
        """The options that are among `values`."""
        return Choice([option for option in self.options if option in values])


Space = Uniform | Choice


def parse_space(texts: Iterable[str]) -> dict[str, Space]:
    """Spaces by name, from texts as on a command line; ValueError that names the text.

    >>> parse_space(["lr=log:1e-5:1e-1", "dropout=0:0.5", "width=logint:16:256"])
    {'lr': LogUniform(low=1e-05, high=0.1), 'dropout': Uniform(low=0.0, high=0.5), 'width': LogInt(low=16, high=256)}
    >>> parse_space(["layers=int:1:3", "optimizer=sgd,adam"])
    {'layers': Int(low=1, high=3), 'optimizer': Choice(options=('sgd', 'adam'))}"""
    kinds: dict[str, Any] = {"log": (LogUniform, float), "int": (Int, int), "logint": (LogInt, int)}
    spaces: dict[str, Space] = {}
    for text in texts:
        name, _, body = text.partition("=")
        kind, *ends = body.split(":")
        cls, number = kinds.get(kind, (Uniform, float))
        try:
            if not name.isidentifier() or name in spaces:
                raise ValueError("there is no name, or one that came before")
            spaces[name] = Choice([_option(part) for part in body.split(",")]) if "," in body else cls(
                *map(number, ends if kind in kinds else [kind, *ends]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameter {text!r}: {error}. Examples: lr=log:1e-5:1e-1, dropout=0:0.5, "
                             "hidden=int:16:256, width=logint:16:256, optimizer=sgd,adam,adamw") from None
    return spaces


def _option(text: str) -> Any:
    """What a text stands for: an int, a finite float, a bool, or itself."""
    for convert in (int, float):
        with contextlib.suppress(ValueError):
            if math.isfinite(convert(text)):
                return convert(text)
    return {"true": True, "false": False}.get(text, text)


# The search ------------------------------------------------------------------------------------------------------

class Pruned(Exception):
    """Raised by `report` in a trial that is not worth going on with."""


@dataclass(frozen=True)
class Stage:
    """`trials` of `epochs` each; the next stage searches around the best of them, a share `keep`."""
    trials: int
    epochs: int = 1
    keep: float = 0.25


@dataclass(frozen=True)
class Trial:
    """`state`: complete, pruned, diverged, or crashed (its process died, twice); `epochs`: those reported."""
    number: int
    stage: int
    state: str
    value: float
    epochs: int
    params: dict[str, Any]
    message: str = ""


@dataclass
class Search:
    """Looks for the parameters with which `objective(params, epochs, report)` gives the best number.

    `objective` calls `report(epoch, value)` after each epoch, which raises `Pruned` if the trial is to end. fastnn's
    random numbers are seeded by the trial's number before it. FloatingPointError, or a value that is not finite, is
    the worst value; any other exception ends the search. Of its attributes, `direction` says whether to "maximize" or
    "minimize", `folds` how many times `epochs` it reports, `definition` (JSON) what it is.
    `method`: "random", "tpe", or "grid": `points` of ranges by name, of others as many as the stage's trials allow.
    `storage`: a file, an Optuna URL, or None. `processes` share the threads; the objective is pickled for them.
    `pruner`: "median", "halving" or None. Without pruner and TPE a trial depends on `seed` and its number alone."""
    objective: Callable[[dict[str, Any], int, Report], float]
    space: Mapping[str, Space]
    stages: Sequence[Stage] = (Stage(20),)
    method: str = "random"
    direction: str | None = None
    storage: str | os.PathLike | None = "search.db"
    name: str = "search"
    processes: int = 1
    pruner: str | None = None
    seed: int = 0
    points: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.space, self.stages, self.points = dict(self.space), tuple(self.stages), dict(self.points)
        self.direction = self.direction or getattr(self.objective, "direction", "maximize")
        for name, fits, needed in (
                ("objective", callable(self.objective), "a callable (params, epochs, report)"),
                ("space", self.space and all(isinstance(s, Space) for s in self.space.values()), "spaces by name"),
                ("stages", self.stages and all(s.trials > 0 < s.epochs and 0 < s.keep <= 1 for s in self.stages),
                 "Stages of trials ≥ 1, epochs ≥ 1 and 0 < keep ≤ 1"),
                ("method", self.method in ("random", "grid", "tpe"), "'random', 'grid' or 'tpe'"),
                ("direction", self.direction in ("maximize", "minimize"), "'maximize' or 'minimize'"),
                ("processes", self.processes >= 1, "at least 1"),
                ("pruner", self.pruner in ("median", "halving", None), "'median', 'halving' or None"),
                ("points", self.points.keys() <= self.space.keys() and all(n > 0 for n in self.points.values()),
                 "numbers of at least 1 by names of the space")):
            if not fits:
                raise ValueError(f"Search: {name} must be {needed}, got {getattr(self, name)!r:.200}")

    def run(self) -> "Result":
        """Does the trials that are not done yet; the result is that of all. KeyboardInterrupt says how to go on;
        ValueError if the storage has a search of this name that is defined otherwise, or is running."""
        optuna = require("optuna", "search", "Search")
        with contextlib.ExitStack() as stack:
            stack.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
            stack.callback(setattr, backend.generator.bit_generator, "state", backend.generator.bit_generator.state)
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            return _Run(self, optuna, stack).run()


@contextlib.contextmanager
def _shielded() -> Iterator[None]:
    """Lets Ctrl-C wait: within SQLAlchemy's own clearing up it would be swallowed."""
    before, came = signal.getsignal(signal.SIGINT), list[Any]()
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, lambda *event: came.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(*came[0])


class _Run:
    """A running search: its workers and, one after the other, its stages, which are Optuna studies NAME/1, NAME/2, …

    `kept` is the study in the storage, to which a trial is added when it is done; `study` its copy in memory."""

    def __init__(self, search: Search, optuna: Any, stack: contextlib.ExitStack) -> None:
        from tqdm import tqdm  # here, since importing fastnn loads NumPy alone
        self.search, self.optuna, self.stack, self.space = search, optuna, stack, search.space
        self.result = Result(dict(search.space), str(search.direction))
        self.workers: dict[Any, Any] = {}  # by the pipe to them
        self.storage = None if search.storage is None else self._open(os.fspath(search.storage))
        self.bar = stack.enter_context(tqdm(total=sum(stage.trials for stage in search.stages), unit=" trials",
                                            leave=False, disable=None))

    def _open(self, text: str) -> Any:
        """The storage, locked on this machine for the search of this name."""
        url = text if "://" in text else f"sqlite:///{os.path.abspath(text)}"
        key = hashlib.sha256(f"{os.getuid()} {url} {self.search.name}".encode()).hexdigest()[:20]
        lock = os.open(os.path.join(tempfile.gettempdir(), f"fastnn-search-{key}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        self.stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            storage = self.optuna.storages.RDBStorage(url)
        except BlockingIOError:
            raise ValueError(f"Search: another process is running the search {self.search.name!r} of {text}") from None
        except Exception as error:  # SQLAlchemy's own, of many classes
            raise ValueError(f"Search: the storage {text} cannot be opened: {error}") from error
        self.stack.callback(storage.engine.dispose)
        self.stack.callback(storage.remove_session)
        return storage

    def run(self) -> "Result":
        try:
            for number, stage in enumerate(self.search.stages, 1):
                self._begin(number, stage)
                (self._share if self.search.processes > 1 else self._alone)()
                self._end()
        except KeyboardInterrupt:
            if self.storage is None:
                raise
            raise KeyboardInterrupt(f"search {self.search.name!r}: stopped; finished trials are kept in "
                                    f"{self.search.storage}; run it again to do the rest") from None
        self.result.trials = self.result.ranked(self.result.trials)
        return self.result

    def _begin(self, number: int, stage: Stage) -> None:
        """Opens the study, refuses that of another search, and finds out what is still to do."""
        search, pruners, create = self.search, self.optuna.pruners, self.optuna.create_study
        self.number, self.stage = number, stage
        self.steps = stage.epochs * (getattr(search.objective, "folds", None) or 1)
        self.grid = self._grid() if search.method == "grid" else []
        self.n = len(self.grid) or stage.trials
        self.kept = create(storage=self.storage, study_name=f"{search.name}/{number}", direction=search.direction,
                           load_if_exists=True)
        self.study = create(direction=search.direction, pruner={
            None: pruners.NopPruner(), "halving": pruners.SuccessiveHalvingPruner(1, 3),
            "median": pruners.MedianPruner(max(1, min(5, self.n // 4)))}[search.pruner])
        self.study.add_trials(self.kept.trials)
        mine = {name: repr(getattr(search, name)) for name in DEFINITION}
        mine["objective"] = repr(getattr(search.objective, "definition", None))
        there = self.kept.user_attrs.get("definition", {} if self.study.trials else mine)
        if other := [f"{k} is {there.get(k)} there, {mine[k]} here" for k in mine if there.get(k) != mine[k]]:
            raise ValueError(f"Search: {search.storage} has a search {search.name!r} that is defined otherwise: "
                             f"{'; '.join(other)}. Take another name or storage")
        self.kept.set_user_attr("definition", mine)
        self.done = {trial.user_attrs["index"]: trial for trial in self.study.trials}
        self.todo, self.crashed = deque(i for i in range(self.n) if i not in self.done), set[int]()
        self.bar.update(len(self.done))

    def _grid(self) -> list[tuple]:
        """The grid's points: as many values of each range as make no more points than there are trials."""
        grids = [[space.grid(self.search.points.get(name, n)) for name, space in self.space.items()]
                 for n in range(1, self.stage.trials + 1)]
        fitting = [axes for axes in grids if math.prod(map(len, axes)) <= self.stage.trials]
        return list(itertools.product(*(fitting or grids[:1])[-1]))

    def _end(self) -> None:
        """Adds the stage's trials to the result, and narrows the space around the best."""
        trials, first = [], len(self.result.trials)
        for i, t in sorted(self.done.items()):
            (state, message), value = t.user_attrs["outcome"], math.nan if t.value is None else t.value
            epochs = t.last_step or (self.steps if state == "complete" else 0)
            trials.append(Trial(first + i, self.number, state, value, epochs, t.params, message))
        self.result.trials += trials
        best = self.result.ranked([t for t in trials if math.isfinite(t.value)])[:math.ceil(self.stage.keep * self.n)]
        for name, space in self.space.items() if best else ():
            values = [t.params[name] for t in best]
            if isinstance(space, Uniform) and not 0.05 <= space.share(values[0]) <= 0.95:
                self.result.notes.append(f"stage {self.number}: the best {name}, {values[0]:.3g}, lies at the border "
                                         f"of {space.low:.3g} … {space.high:.3g}; better ones may lie beyond")
            self.space = {**self.space, name: space.narrowed(values)}

    def _ask(self, i: int) -> tuple[Any, int]:
        """Optuna's trial for number i of this stage, and the seed for it."""
        seed = int(np.random.SeedSequence((self.search.seed, self.number, i)).generate_state(1)[0])
        random = max(1, min(10, self.n // 3)) if self.search.method == "tpe" else self.n  # as many trials come first
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=random)
        self.study.enqueue_trial(dict(zip(self.space, self.grid[i], strict=True)) if self.grid else {}, {"index": i})
        trial = self.study.ask()
        for name, space in self.space.items():
            space.suggest(trial, name)
        return trial, seed

    def _report(self, trial: Any, step: int, value: float) -> bool:
        """Notes the figure; whether the trial is to end."""
        trial.report(value, step)
        return step < self.steps and trial.should_prune()

    def _tell(self, trial: Any, state: str, value: Any = None, message: str = "") -> None:
        """Keeps a trial that has ended; but one that crashed for the first time is done again."""
        i, worst = trial.user_attrs["index"], -math.inf if self.search.direction == "maximize" else math.inf
        where = f"search {self.search.name!r}, stage {self.number}, trial {i}: {trial.params}"
        if state == "error":
            value.add_note(where)
            raise value
        if state == "crashed" and i not in self.crashed:
            self.crashed.add(i)
            return self.todo.appendleft(i)
        trial.set_user_attr("outcome", (state, message))
        self.done[i] = self.study.tell(trial, worst if state == "diverged" else value, self.optuna.trial.TrialState[
            {"pruned": "PRUNED", "crashed": "FAIL"}.get(state, "COMPLETE")])
        with _shielded():
            self.kept.add_trial(self.done[i])
        if state == "crashed":
            raise RuntimeError(f"{message}, twice; run the search again to go on without it. {where}")
        if state == "complete":
            self.bar.set_postfix_str(f"stage {self.number}, best {self.study.best_value:.4g}", refresh=False)
        self.bar.update()

    def _alone(self) -> None:
        for i in self.todo:
            trial, seed = self._ask(i)
            ask = partial(self._report, trial)
            self._tell(trial, *_attempt(self.search.objective, ask, trial.params, self.stage.epochs, seed))

    def _share(self) -> None:
        """Gives trials to the workers, and answers what they send."""
        running: dict[Any, Any] = {}
        while self.todo or running:
            while self.todo and len(running) < self.search.processes:
                pipe = next((pipe for pipe in self.workers if pipe not in running), None) or self._start()
                running[pipe], seed = self._ask(self.todo.popleft())
                with contextlib.suppress(OSError):  # it died: recv will say so
                    pipe.send((running[pipe].params, self.stage.epochs, seed))
            for pipe in list[Any](connection.wait(running)):
                try:
                    kind, *rest = pipe.recv()
                    if kind == "report":
                        pipe.send(self._report(running[pipe], *rest))
                        continue
                except (EOFError, OSError):
                    kind, rest = "crashed", [None, self._autopsy(self.workers.pop(pipe))]
                self._tell(running.pop(pipe), kind, *rest)

    def _autopsy(self, process: Any) -> str:
        """What a worker died of."""
        process.join()
        if process.exitcode == 1:  # an exception, and not in a trial: those are sent
            raise RuntimeError("Search: a worker cannot start, for the reason above; a script that asks for "
                               "processes must run the search under `if __name__ == '__main__':`") from None
        return f"the trial's process died, exit code {process.exitcode}"

    def _start(self) -> Any:
        """Starts a worker; the pipe to it."""
        context = get_context("spawn")  # a forked child of fastnn would run on one thread
        ours, theirs = context.Pipe()
        threads = max(1, backend.get_num_threads() // self.search.processes)
        process = context.Process(target=_work, args=(theirs, self.search.objective, threads))
        resource_tracker.ensure_running()  # starting it unblocks the signal
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the child inherits it: Ctrl-C is for us
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(f"Search: processes={self.search.processes} needs an objective that can be pickled, a "
                            f"function of a module or an object of such a class: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        self.workers[ours] = process
        for end in process.join, process.terminate, partial(process.join, 2), ours.close:  # from the last to the first
            self.stack.callback(end)
        return ours


def _attempt(objective: Any, ask: Report, params: dict[str, Any], epochs: int, seed: int) -> tuple:
    """Runs a trial: state, value, message. `ask(step, value)` keeps the figure and says whether the trial is to end."""
    def report(step: int, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(f"{value} was reported for epoch {step}")
        if ask(int(step), float(value)):
            raise Pruned

    backend.manual_seed(seed)
    try:
        value = float(objective(params, epochs, report))
        return ("complete", value, "") if math.isfinite(value) else ("diverged", None, f"the objective gave {value}")
    except Pruned:
        return "pruned", None, ""
    except FloatingPointError as error:
        return "diverged", None, str(error)
    except Exception as error:
        return "error", error, traceback.format_exc()


def _work(pipe: Any, objective: Any, threads: int) -> None:
    """A worker: does one trial after another, until the pipe ends."""
    def ask(step: int, value: float) -> bool:
        pipe.send(("report", step, value))
        return pipe.recv()

    backend.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        while True:
            state, value, message = _attempt(objective, ask, *pipe.recv())
            if state == "error":
                try:
                    pickle.loads(pickle.dumps(value))
                except Exception:  # some exceptions cannot be sent
                    value = RuntimeError(repr(value))
                value.add_note(message)
            pipe.send((state, value, message))


@dataclass
class Result:
    """The `trials` of a search, the best first, and `notes` on best values that lie at the border of their range."""
    space: dict[str, Space]
    direction: str
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def ranked(self, trials: Iterable[Trial]) -> list[Trial]:
        """The best first: complete ones by value, then pruned ones, diverged ones, crashed ones."""
        sign = -1 if self.direction == "maximize" else 1
        return sorted(trials, key=lambda t: (STATES.index(t.state), sign * t.value, t.number))

    @property
    def best(self) -> Trial:
        """The trial of the best value; ValueError if there is none."""
        if not self.trials or not math.isfinite(self.trials[0].value):
            raise ValueError("Result: no trial has a value")
        return self.trials[0]

    def __str__(self) -> str:
        rows: list[tuple] = [("trial", "stage", "state", "value", "epochs", *self.space)]
        rows += [(t.number, t.stage, t.state, t.value, t.epochs, *map(t.params.get, self.space)) for t in self.trials]
        cells = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(["  ".join(map(str.rjust, row, widths)) for row in cells] + self.notes)

    def _axes(self, what: str) -> tuple[Any, list[Trial]]:
        """The axes of a new matplotlib figure, and the trials that have a value."""
        require("matplotlib", "plot", f"Result.{what}")
        from matplotlib.figure import Figure
        axes = Figure(figsize=(8, 4.5), layout="constrained").add_subplot(ylabel="value")
        return axes, [t for t in self.trials if math.isfinite(t.value)]

    def plot_parameter(self, name: str) -> Any:
        """A matplotlib Figure of the trials' values over parameter `name`; trials without a value at the foot."""
        axes, valued = self._axes("plot_parameter")
        show = str if isinstance(self.space[name], Choice) else float
        for stage in sorted({t.stage for t in valued}):
            points = [(show(t.params[name]), t.value) for t in valued if t.stage == stage]
            axes.plot(*zip(*points, strict=True), "o", label=f"stage {stage}")
        if lost := [show(t.params[name]) for t in self.trials if t not in valued]:
            axes.plot(lost, [0.02] * len(lost), "kx", transform=axes.get_xaxis_transform(), label="diverged")
        axes.set(xlabel=name, **{"xscale": "log"} if self.space[name].log else {})
        axes.legend()
        return axes.figure

    def plot_parallel(self) -> Any:
        """A matplotlib Figure in parallel coordinates: a line for each trial that has a value, coloured by it."""
        axes, valued = self._axes("plot_parallel")
        from matplotlib import cm, colors
        values = [t.value for t in valued] or [0.0]
        scale: Any = cm.ScalarMappable(colors.Normalize(min(values), max(values)), "viridis")
        for t in reversed(valued):
            heights = [space.share(t.params[name]) for name, space in self.space.items()]
            axes.plot([*heights, scale.norm(t.value)], color=scale.to_rgba(t.value))
        for x, space in enumerate(self.space.values()):
            for tick in space.options if isinstance(space, Choice) else (space.low, space.high):
                axes.annotate(f"{tick:.3g}" if isinstance(tick, float) else str(tick), (x, space.share(tick)))
        axes.set(xticks=range(len(self.space) + 1), xticklabels=[*self.space, "value"], yticks=[], ylabel="")
        axes.grid(axis="x")
        axes.figure.colorbar(scale, ax=axes, label="value")
        return axes.figure


# Objectives ------------------------------------------------------------------------------------------------------

class ReportEpochs(Callback):
    """Reports the figure `metric` of each epoch, as that of epoch `first` + 1, …, averaged with those `before`."""

    def __init__(self, report: Report, metric: str = "val_accuracy", before: Sequence[float] = (), first: int = 0):
        self.report, self.metric, self.before, self.first = report, metric, before, first

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self.metric not in trainer.logs:
            raise ValueError(f"ReportEpochs: there is no figure {self.metric!r}; there are {', '.join(trainer.logs)}")
        values = [*self.before, float(trainer.logs[self.metric])]
        self.report(self.first + trainer.epoch, sum(values) / len(values))


class TrainObjective:
    """Trains what `build(params)` gives, (model, optimizer) or (model, optimizer, scheduler); its value is `metric` of
    the last epoch: on a share `validation` of `data` cut off at random, or on that data; with `folds`, the mean over as
    many parts, each trained anew on the others. Parts are the same in all trials, with each class in proportion.

    `data`: (x, y), or a dataset; never the test samples. `fit`: arguments of `Trainer.fit`, such as a loss. `options`:
    those of the Trainer; a parameter of the search named `batch_size` goes there too."""

    def __init__(self, build: Callable[[dict[str, Any]], Sequence[Any]], data: Any, validation: Any = 0.2,
                 folds: int | None = None, metric: str = "val_accuracy", seed: int = 0,
                 fit: Mapping[str, Any] | None = None, **options: Any) -> None:
        data = TensorDataset(*map(as_tensor, data)) if isinstance(data, tuple) else data
        self.build, self.folds, self.metric, self.fit = build, folds, metric, dict(fit or {})
        self.options = {"progress": False, **options}
        self.direction = "minimize" if falls(metric) else "maximize"
        labels = targets_of(data)
        by_class, share = labels.ndim == 1 and labels.dtype.kind in "iu", isinstance(validation, float)
        self.parts: list[Any] = list(k_fold(data, folds, by_class, seed)) if folds else [
            (data, validation) if not share else stratified_split(data, validation, seed) if by_class else
            random_split(data, [1 - validation, validation], seed)]
        self.definition = {"samples": len(data), "validation": validation if share else "given", "folds": folds,
                           "metric": metric, "seed": seed, "options": repr(options), "fit": repr(fit)}

    def __call__(self, params: dict[str, Any], epochs: int, report: Report) -> float:
        options = self.options | {k: v for k, v in params.items() if k == "batch_size"}
        values: list[float] = []
        for i, (training, validation) in enumerate(self.parts):
            model, optimizer, *scheduler = self.build(params)
            watch = ReportEpochs(report, self.metric, values[:], i * epochs)
            history = Trainer(**options).fit(
                model, training, validation, epochs, optimizer, next(iter(scheduler), None),
                callbacks=[watch], **self.fit)
            values.append(float(history[self.metric][-1]))
        return sum(values) / len(values)
