"""The training loop, which can be watched, interrupted and resumed, and evaluation."""
import math
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice
from typing import Any

import numpy as np

from fastnn import backend, nn
from fastnn._version import __version__
from fastnn.data import DataLoader, TensorDataset
from fastnn.errors import CheckpointError
from fastnn.nn.parameter import evaluation
from fastnn.nn.utils import clip_grad_norm_, clip_grad_value_
from fastnn.optim import LBFGS, AdamW, Optimizer
from fastnn.optim.lr_scheduler import ReduceLROnPlateau
from fastnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from fastnn.tensor import Tensor, as_tensor
from fastnn.train.callback import Callback, Progress
from fastnn.train.checkpoint import Checkpoint, load_checkpoint
from fastnn.train.metrics import Metric
from fastnn.train.task import Task, as_task

RESERVED = ("", "epoch", "loss", "lr", "seconds", "samples_per_second")  # what no metric may be called


class History:
    """The figures of each epoch: `history["val_loss"]` is an array with one entry an epoch."""

    def __init__(self) -> None:
        self._columns: dict[str, list] = {}

    @property
    def columns(self) -> list[str]:
        return list(self._columns)

    def __len__(self) -> int:
        return len(self._columns.get("epoch", ()))

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            raise KeyError(f"History: there is no column {name!r}; there are {', '.join(self._columns) or 'none yet'}")
        return np.array(self._columns[name])

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each epoch."""
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*self._columns.values(), strict=True)]

    def append(self, row: dict[str, Any]) -> None:
        if self._columns and row.keys() != self._columns.keys():
            raise ValueError(f"History: a row has {', '.join(row)}; those before have {', '.join(self._columns)}")
        for name, value in row.items():
            self._columns.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        return {name: [as_tensor(value) if np.ndim(value) else value for value in values]
                for name, values in self._columns.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._columns = {name: [v.numpy() if isinstance(v, Tensor) else v for v in values]
                         for name, values in state.items()}

    def __repr__(self) -> str:
        return f"History of {len(self)} epochs: {', '.join(self._columns)}"


def as_batches(data: Any, batch_size: int, shuffle: bool = False, seed: int | None = None) -> Any:
    """Batches, again and again: `data` itself, or a loader of a dataset or of arrays (x, y, …)."""
    if isinstance(data, tuple) and data and all(isinstance(a, (Tensor, np.ndarray)) for a in data):
        data = TensorDataset(*data)
    if isinstance(data, (DataLoader, list)) or not hasattr(data, "__getitem__"):
        if not isinstance(data, Iterable) or isinstance(data, Iterator):
            raise TypeError("fit: data must be a DataLoader, a dataset, arrays (x, y), or batches that can be gone "
                            f"through again and again, but a {type(data).__name__} came")
        return data
    return DataLoader(data, batch_size, shuffle=shuffle, generator=seed)


def _parts(batch: Any) -> tuple[tuple, Tensor]:
    """Inputs and targets of a batch (x, …, y)."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(f"fit: a batch must be inputs and targets, (x, …, y), but a {type(batch).__name__} came")
    *inputs, targets = [as_tensor(part) if isinstance(part, np.ndarray) else part for part in batch]
    if not isinstance(targets, Tensor):
        raise TypeError(f"fit: targets must be a tensor or an array, but a {type(targets).__name__} came")
    return tuple(inputs), targets


def _checked(metrics: Sequence[Metric]) -> list[Metric]:
    """Metrics whose names can be those of columns."""
    if not isinstance(metrics, Sequence) or not all(isinstance(metric, Metric) for metric in metrics):
        raise TypeError(f"metrics must be a list of instances of Metric, but {metrics!r} came")
    names = [metric.name for metric in metrics]
    if len({*names, *RESERVED}) < len(names) + len(RESERVED):
        raise ValueError(f"metrics need names of their own, but {', '.join(names)} came")
    return [*metrics]


def evaluate(model: nn.Module, data: Any, loss: Any = None, metrics: Sequence[Metric] | None = None) -> dict[str, Any]:
    """The mean `loss` over the samples, and the metrics, of `model` in evaluation mode; NaN without samples.

    `data`, `loss`, `metrics`: as in `Trainer.fit`; of a Classification the loss is plain cross-entropy, in nats.

    >>> evaluate(nn.Linear(2, 3), (fastnn.ones(5, 2), np.ones(5, int)))
    {'loss': ..., 'accuracy': ...}"""
    return _evaluate(model, as_batches(data, 256), loss, metrics)


def _evaluate(model: nn.Module, batches: Any, loss: Any, metrics: Sequence[Metric] | None, trainer: Any = None) -> dict:
    count, total, task = 0, 0.0, loss if isinstance(loss, Task) else None
    metrics = None if metrics is None else _checked(metrics)
    for metric in metrics or ():
        metric.reset()
    with evaluation(model):
        for batch in batches:
            inputs, targets = _parts(batch)
            task = task or as_task(loss, targets.array)
            metrics = task.metrics() if metrics is None else metrics
            outputs = model(*inputs)
            total += task.error(outputs, targets).item() * len(targets)
            count += len(targets)
            scored = task.scored(outputs)
            for metric in metrics:
                metric.update(scored, targets)
            if trainer is not None and trainer.interrupted:
                break
    if metrics is None:  # without samples
        metrics = (task or as_task(loss, np.zeros(0, int))).metrics()
    return {"loss": total / count if count else math.nan, **{m.name: m.compute() for m in metrics}}


class Trainer:
    """The loop around a model, with what one expects of it; a plain loop does the same without.

    `batch_size`: of data that are no loader. `accumulate`: batches whose mean gradient makes a step. `clip_norm`,
    `clip_value`: limits of the gradients' norm or magnitude. `ema`: decay of an exponential moving average of the
    parameters (0.999), which is validated, and in the end is the model in `evaluation_model`. `schedule`: the scheduler
    steps after each "epoch" or each "step" of the optimizer. `progress`: a bar, by default in terminals and notebooks.

    While it runs, and afterwards, its attributes tell: `model`, `optimizer`, `epoch` (from 1), `batch` (of this epoch,
    done), `step` (of the optimizer, done in all), `history`, `logs` (figures of the last epoch); of the last batch,
    `inputs`, `targets`, `outputs`, `loss`.

    >>> x = fastnn.rand(200, 2)
    >>> y = (x[:, 0] > x[:, 1]).long()
    >>> model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> history = Trainer(batch_size=20).fit(model, (x, y), epochs=30, optimizer=optim.Adam(model.parameters(), 0.02))
    >>> bool(history["accuracy"][-1] > 0.9)
    True"""
    model: nn.Module
    optimizer: Optimizer
    logs: dict[str, Any]
    messages: list[str]
    task: Any
    inputs: Any
    targets: Any
    outputs: Any
    loss: Any
    error: BaseException | None

    def __init__(self, batch_size: int = 64, accumulate: int = 1, clip_norm: float | None = None,
                 clip_value: float | None = None, ema: float | None = None, schedule: str = "epoch",
                 progress: bool | None = None) -> None:
        for name, value in ("batch_size", batch_size), ("accumulate", accumulate):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"Trainer: {name} must be a positive int, but {value!r} came")
        for name, limit in ("clip_norm", clip_norm), ("clip_value", clip_value):
            if limit is not None and not limit > 0:
                raise ValueError(f"Trainer: {name} must be positive, but {limit!r} came")
        if schedule not in ("epoch", "step"):
            raise ValueError(f"Trainer: schedule must be 'epoch' or 'step', but {schedule!r} came")
        self._average = None if ema is None else get_ema_multi_avg_fn(ema)
        self.batch_size, self.accumulate, self.schedule, self.progress = batch_size, accumulate, schedule, progress
        self.clip_norm, self.clip_value, self.history = clip_norm, clip_value, History()

    def fit(self, model: nn.Module, data: Any, validation: Any = None, epochs: int = 1,
            optimizer: Optimizer | None = None, scheduler: Any = None, loss: Any = None,
            metrics: Sequence[Metric] | None = None, callbacks: Sequence[Callback] = (), seed: int | None = None,
            resume: Any = None, config: dict[str, Any] | None = None) -> History:
        """Train `model` until `epochs` passes over `data` are done; returns the history.

        `data`, `validation`: a DataLoader, a dataset or arrays (x, y), which are shuffled in training, or other batches
        (x, …, y); the model is called with what comes before y. `loss`: a function of outputs and targets, whose value
        is the mean over the batch, or a task; by default cross-entropy for integer targets, else mean squared error.
        `metrics`: by default accuracy for integer targets. `optimizer`: by default AdamW. `seed`: of the order and
        dropout. `resume`: a checkpoint, or a folder of them: the fit goes on where that was written, with the same bits
        as if it had never stopped, given the same arguments. `config`: a description, kept in checkpoints.

        History has the columns epoch, loss, metrics, val_loss, val_…, lr, seconds, samples_per_second. Training figures
        are gathered while the weights change. The first Ctrl-C ends the batch and raises KeyboardInterrupt after the
        callbacks have saved; the second interrupts at once. FloatingPointError if the loss is not finite."""
        if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
            raise ValueError(f"fit: epochs must be an int of at least 0, but {epochs!r} came")
        if seed is not None:
            backend.manual_seed(seed)
        self.model, self.epochs, self.config = model, epochs, dict(config or {})
        self.data = as_batches(data, self.batch_size, True, seed)
        self.validation = None if validation is None else as_batches(validation, max(self.batch_size, 256))
        self.batches = len(self.data) if hasattr(self.data, "__len__") else None
        self.optimizer, self.scheduler = optimizer or AdamW(model.parameters(), lr=1e-3), scheduler
        self.ema = self._average and AveragedModel(model, multi_avg_fn=self._average)
        if isinstance(self.optimizer, LBFGS) and (self.accumulate > 1 or self.clip_norm or self.clip_value):
            raise ValueError("fit: LBFGS evaluates the loss itself, and cannot be used with accumulate or clipping")
        if isinstance(scheduler, ReduceLROnPlateau) and self.schedule == "step":
            raise ValueError("fit: ReduceLROnPlateau needs the loss of an epoch: schedule must be 'epoch'")
        if not isinstance(callbacks, Sequence) or not all(isinstance(callback, Callback) for callback in callbacks):
            raise TypeError(f"fit: callbacks must be a list of instances of Callback, but {callbacks!r} came")
        self._given_loss, self._given_metrics = loss, None if metrics is None else _checked(metrics)
        self._parameters = list(model.parameters())
        self.task = None
        self.metrics: list[Metric] = []
        last = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))  # which saves what others are
        self.callbacks = last if any(isinstance(c, Progress) for c in last) else [*last, Progress(self.progress)]
        self._hooks = {name: [getattr(c, name) for c in self.callbacks if getattr(type(c), name, hook) is not hook]
                       for name, hook in vars(Callback).items() if name.startswith("on_")}
        self.history, self.logs, self.stop, self.interrupted, self.messages = History(), {}, "", False, []
        self.epoch, self.batch, self.step, self._finished, self._pending = 1, 0, 0, 0, 0
        self._loss_sum, self._samples, self._seconds, self._start = 0.0, 0, 0.0, time.perf_counter()  # of the epoch
        self.inputs = self.targets = self.outputs = self.loss = self._resumed = self.error = None
        if resume is not None:
            try:
                self.load_state_dict(load_checkpoint(resume))
            except (KeyError, TypeError, AttributeError, IndexError) as error:
                raise CheckpointError(f"fit: {resume} is not the checkpoint of such a fit: {error!r}") from error
        try:
            with self._interruptible():
                self._call("on_fit_begin")
                while self._finished < epochs and not self.stop and not self.interrupted:
                    self._run_epoch()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._end()
        if self.interrupted:
            place = f"interrupted in epoch {self.epoch} of {epochs}, after {self.batch} batches"
            raise KeyboardInterrupt("\n".join([place, *self.messages]))
        return self.history

    @property
    def evaluation_model(self) -> nn.Module:
        """The average, if there is one, else the model."""
        return self.ema.module if self.ema else self.model

    def running(self) -> dict[str, Any]:
        """The figures of the epoch so far."""
        return {"loss": self._loss_sum / max(self._samples, 1), **{m.name: m.compute() for m in self.metrics}}

    def speed(self) -> dict[str, float]:
        """Of the epoch so far: the learning rate, seconds of training, samples per second."""
        seconds = self._seconds + time.perf_counter() - self._start
        rate = float(self.optimizer.param_groups[0]["lr"])
        return {"lr": rate, "seconds": seconds, "samples_per_second": self._samples / seconds}

    def _call(self, name: str) -> None:
        for hook in self._hooks[name]:
            hook(self)

    def _end(self) -> None:
        """Tell all callbacks, whatever one raises."""
        failed = None
        for hook in self._hooks["on_fit_end"]:
            try:
                hook(self)
            except BaseException as error:
                failed = failed or error
        if failed:
            raise failed

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C sets `interrupted`, the second acts as ever; another handler than Python's own stays."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
            yield
            return

        def note(number: int, frame: Any) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _set_task(self, targets: np.ndarray) -> None:
        """The task and the metrics that the first targets decide on."""
        self._labels = targets.dtype.kind in "iub"
        self.task = as_task(self._given_loss, targets)
        self.metrics = self.task.metrics() if self._given_metrics is None else self._given_metrics

    def _run_epoch(self) -> None:
        self.epoch, resumed, self._resumed = self._finished + 1, self._resumed, None
        if resumed is None:
            self.batch, self._loss_sum, self._samples, self._seconds = 0, 0.0, 0, 0.0
            self._begin = self._random_state()
            for metric in self.metrics:
                metric.reset()
        else:  # draw what the epoch drew, then go on
            self._set_random_state(self._begin)
        if isinstance(self.data, DataLoader):
            batches = self.data.batches(self.batch)
        else:
            batches = iter(self.data)
            deque(islice(batches, self.batch), 0)
        if resumed is not None:
            self._set_random_state(resumed)
        self.model.train()
        self._start = time.perf_counter()
        self._call("on_epoch_begin")
        for batch in batches:
            self._run_batch(batch)
            if self.interrupted or self.stop:
                return
        if self._pending:
            self._update()
        logs = {"epoch": self.epoch, **self.running()}
        speed, before = self.speed(), self._random_state()
        if not self._samples:
            raise ValueError("fit: data have no batches")
        if self.validation is not None:
            found = _evaluate(self.evaluation_model, self.validation, self.task, deepcopy(self.metrics), self)
            if self.interrupted:
                self._set_random_state(before)
                return
            logs |= {f"val_{name}": value for name, value in found.items()}
        if self.scheduler is not None and self.schedule == "epoch":
            plateau = isinstance(self.scheduler, ReduceLROnPlateau)
            self.scheduler.step(*[logs.get("val_loss", logs["loss"])] if plateau else ())
        self.logs, self._finished, self.batch = logs | speed, self.epoch, 0
        self.history.append(self.logs)
        self._call("on_epoch_end")

    def _run_batch(self, batch: Any) -> None:
        inputs, targets = _parts(batch)
        if self.task is None:
            self._set_task(targets.array)
        self.inputs, self.targets, self._inputs = inputs[0] if len(inputs) == 1 else inputs, targets, inputs
        self._call("on_batch_begin")
        if not self._pending:  # batches of a group that makes a step
            self.optimizer.zero_grad()
        rest = math.inf if self.batches is None else self.batches - self.batch + self._pending
        size = min(self.accumulate, rest)
        self.outputs = self.model(*inputs)
        self.loss = self.task.loss(self.outputs, targets)
        (self.loss if size == 1 else self.loss / size).backward()
        value = self.loss.item()
        self._call("on_backward")
        if not math.isfinite(value):
            raise FloatingPointError(f"the training loss is {value} in epoch {self.epoch}, batch {self.batch + 1}: try "
                                     "a lower learning rate")
        self._loss_sum += value * len(targets)
        self._samples += len(targets)
        scored = self.task.scored(self.outputs)
        for metric in self.metrics:
            metric.update(scored, targets)
        self.batch, self._pending = self.batch + 1, self._pending + 1
        if self._pending == size:
            self._update()
        self._call("on_batch_end")

    def _update(self) -> None:
        """A step of the optimizer."""
        self._pending = 0
        if self.clip_value is not None:
            clip_grad_value_(self._parameters, self.clip_value)
        if self.clip_norm is not None:
            clip_grad_norm_(self._parameters, self.clip_norm)
        self.optimizer.step(*[self._again] if isinstance(self.optimizer, LBFGS) else ())
        if self.scheduler is not None and self.schedule == "step":
            self.scheduler.step()
        if self.ema:
            self.ema.update_parameters(self.model)
        self.step += 1
        self._call("on_step")

    def _again(self) -> Tensor:
        """Loss and gradients of the last batch with the parameters as they are, for L-BFGS."""
        self.optimizer.zero_grad()
        loss = self.task.loss(self.model(*self._inputs), self.targets)
        loss.backward()
        return loss

    def _generators(self) -> list[Any]:
        """Those of fastnn, and of the loader and its samplers if they have their own."""
        owners = self.data, *(getattr(self.data, name, None) for name in ("sampler", "batch_sampler"))
        return [backend.generator, *(found for owner in owners for found in getattr(owner, "__dict__", {}).values()
                                     if isinstance(found, np.random.Generator))]

    def _random_state(self) -> dict[str, Any]:
        """Where all streams of random numbers are, Python's and NumPy's global ones too."""
        return {"generators": [_plain(generator.bit_generator.state) for generator in self._generators()],
                "numpy": _plain(np.random.get_state(legacy=False)),  # noqa: NPY002
                "python": random.getstate(), "loader": getattr(self.data, "epoch", None)}

    def _set_random_state(self, state: dict[str, Any]) -> None:
        for generator, saved in zip(self._generators(), state["generators"], strict=True):
            generator.bit_generator.state = saved
        np.random.set_state(state["numpy"])  # noqa: NPY002
        random.setstate(state["python"])
        if state["loader"] is not None:
            self.data.epoch = state["loader"]

    def _with_state(self) -> list[Callback]:
        return [callback for callback in self.callbacks if type(callback).state_dict is not Callback.state_dict]

    def state_dict(self) -> dict[str, Any]:
        """All that a fit needs to go on, to be written by `fastnn.save`. Its tensors are shared, not copied."""
        grads = {name: p.grad for name, p in self.model.named_parameters() if self._pending}
        return {"fastnn": __version__, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler else None,
                "ema": self.ema.state_dict() if self.ema else None,
                "gradients": {name: grad for name, grad in grads.items() if grad is not None},
                "random": {"now": self._random_state(), "begin": self._begin if self.batch else None},
                "position": {"epoch": self._finished, "batch": self.batch, "step": self.step, "pending": self._pending},
                "epoch": {"loss": self._loss_sum, "samples": self._samples, "seconds": self.speed()["seconds"],
                          "labels": self.task and self._labels,
                          "metrics": {m.name: None if m.total is None else as_tensor(np.asarray(m.total))
                                      for m in self.metrics}},
                "history": self.history.state_dict(), "config": self.config,
                "callbacks": [[type(c).__name__, c.state_dict()] for c in self._with_state()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, from within a fit; ValueError if it is of another setup."""
        for name in "scheduler", "ema":
            if (state[name] is None) != (not getattr(self, name)):
                raise ValueError(f"fit: the checkpoint was written {'without' if state[name] is None else 'with'} "
                                 f"{name}, the fit that is to go on has {'one' if state[name] is None else 'none'}")
        own, position, epoch, now = self._with_state(), state["position"], state["epoch"], state["random"]["now"]
        if epoch["labels"] is not None:
            self._set_task(np.zeros(0, np.int64 if epoch["labels"] else np.float32))
        for what, saved, names in (
                ("callbacks", [name for name, _ in state["callbacks"]], [type(c).__name__ for c in own]),
                ("figures", [*epoch["metrics"]], [metric.name for metric in self.metrics]),
                ("random streams", [saved["bit_generator"] for saved in now["generators"]],
                 [type(generator.bit_generator).__name__ for generator in self._generators()])):
            if names != saved:
                raise ValueError(f"fit: the checkpoint has the state of {what} {saved}, but those here are {names}")
        self.optimizer.load_state_dict(state["optimizer"])
        self.model.load_state_dict(state["model"])
        for name in "scheduler", "ema":
            if state[name] is not None:
                getattr(self, name).load_state_dict(state[name])
        for name, p in self.model.named_parameters():
            p.grad = state["gradients"].get(name)
        for callback, (_, inner) in zip(own, state["callbacks"], strict=True):
            callback.load_state_dict(inner)
        self.history.load_state_dict(state["history"])
        self.logs = self.history.rows()[-1] if len(self.history) else {}
        self._finished, self.batch, self.step, self._pending = (position[name] for name in (
            "epoch", "batch", "step", "pending"))
        self.epoch = self._finished + (self.batch > 0 or not self._finished)
        self._loss_sum, self._samples, self._seconds = epoch["loss"], epoch["samples"], epoch["seconds"]
        for metric, total in zip(self.metrics, epoch["metrics"].values(), strict=True):
            metric.total = total if total is None else total.numpy()
        self._set_random_state(now)
        self._begin, self._resumed = state["random"]["begin"], now if self.batch else None


def _plain(value: Any) -> Any:
    """A generator's state without arrays."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
