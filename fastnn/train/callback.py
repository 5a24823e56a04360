"""What may watch a fit, and steer it."""
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer


class Callback:
    """A subclass overrides some of these hooks. `trainer` is the running Trainer: its attributes say where it is, and a
    text in `trainer.stop`, the reason, ends the fit after the batch. What is not overridden costs nothing.

    >>> from fastnn.train import Callback, Trainer
    >>> class Rate(Callback):
    ...     def on_epoch_end(self, trainer):
    ...         print(trainer.epoch, trainer.logs["lr"])
    >>> _ = Trainer().fit(nn.Linear(2, 3), (fastnn.ones(8, 2), np.arange(8) % 3), epochs=2, callbacks=[Rate()])
    1 0.001
    2 0.001"""

    def on_fit_begin(self, trainer: "Trainer") -> None:
        """Everything is in place; of a resumed fit, its state too."""

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        """Before the first batch, or the first after resuming."""

    def on_batch_begin(self, trainer: "Trainer") -> None:
        """`trainer.inputs` and `trainer.targets` are there."""

    def on_backward(self, trainer: "Trainer") -> None:
        """So are `trainer.outputs`, `trainer.loss` and the gradients, not clipped yet."""

    def on_step(self, trainer: "Trainer") -> None:
        """The parameters were changed."""

    def on_batch_end(self, trainer: "Trainer") -> None:
        """The batch is counted."""

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """`trainer.logs` are the figures of the epoch, the last of `trainer.history`."""

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Always called, also if an exception or Ctrl-C (`trainer.interrupted`) ends the fit."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: tensors, dicts, lists, None, numbers and strings."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


def falls(figure: str) -> bool:
    """Whether the figure of this name is better when it is smaller."""
    return figure.removeprefix("val_").startswith(("loss", "mse", "mae", "error"))


class Monitor(Callback):
    """Keeps the `best` value of the figure `monitor`: the smallest (`mode` "min") or the largest ("max"), by default as
    its name suggests: losses and errors are to fall, all else is to rise. Without validation, the training's counts."""

    def __init__(self, monitor: str = "val_loss", mode: str | None = None, min_delta: float = 0.0) -> None:
        if mode not in (None, "min", "max"):
            raise ValueError(f"{type(self).__name__}: mode must be min, max or None, but {mode!r} came")
        self.monitor, self.sign = monitor, 1 if (mode or ("min" if falls(monitor) else "max")) == "max" else -1
        self.min_delta, self.best, self.waited = min_delta, None, 0

    def improved(self, trainer: "Trainer") -> bool:
        """Whether the epoch's figure is the best so far; else `waited` counts."""
        name = self.monitor if self.monitor in trainer.logs else self.monitor.removeprefix("val_")
        if name not in trainer.logs or np.ndim(trainer.logs[name]):
            raise ValueError(f"{type(self).__name__}: there is no figure {self.monitor!r}; there are "
                             f"{', '.join(k for k, v in trainer.logs.items() if not np.ndim(v))}")
        value = trainer.logs[name]
        if trainer.logs.get("epoch") == 1:  # forget an earlier fit
            self.best, self.waited = None, 0
        better = value == value and (self.best is None or self.sign * (value - self.best) > self.min_delta)
        self.best, self.waited = (value, 0) if better else (self.best, self.waited + 1)
        return better

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class EarlyStopping(Monitor):
    """Ends the fit when `monitor` has not improved, by more than `min_delta`, for `patience` epochs; in the end the
    model has the weights of the best epoch, if `restore_best`. (Prechelt, Early stopping - but when?, 1998.)"""

    def __init__(self, monitor: str = "val_loss", patience: int = 5, mode: str | None = None, min_delta: float = 0.0,
                 restore_best: bool = True) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.restore_best = patience, restore_best
        self.weights: dict[str, Any] | None = None

    def on_fit_begin(self, trainer: "Trainer") -> None:
        if not len(trainer.history):
            self.best, self.waited, self.weights = None, 0, None
        self._stop_if_due(trainer)  # what is resumed may have ended so

    def on_epoch_end(self, trainer: "Trainer") -> None:
        if self.improved(trainer) and self.restore_best:
            self.weights = {name: t.detach().clone() for name, t in trainer.evaluation_model.state_dict().items()}
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: "Trainer") -> None:
        if self.waited >= max(self.patience, 1):
            trainer.stop = f"{self.monitor} has not improved for {self.waited} epochs"

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self.weights is not None and not trainer.interrupted and trainer.error is None:
            trainer.evaluation_model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.weights = state["weights"]


class Progress(Callback):
    """A progress bar by tqdm, in terminals and notebooks, or None; with `lines`, a line each epoch."""

    def __init__(self, bar: bool | None = None, lines: bool = False) -> None:
        self.disable, self.lines = None if bar is None else not bar, lines
        self.bar: Any = None

    def on_fit_begin(self, trainer: "Trainer") -> None:
        if self.disable:
            return
        from tqdm.auto import tqdm  # here, since importing fastnn loads NumPy alone

        total = trainer.batches and trainer.epochs * trainer.batches
        done = (trainer.epoch - 1) * (trainer.batches or 0) + trainer.batch
        self.bar = tqdm(total=total, initial=done, unit=" batches", leave=False, disable=self.disable)
        self.shown = 0.0

    def on_batch_end(self, trainer: "Trainer") -> None:
        if self.bar is None or self.bar.disable:
            return
        now = time.perf_counter()
        if now - self.shown > 0.1:
            self.shown = now
            self.bar.set_description_str(f"epoch {trainer.epoch}/{trainer.epochs}", refresh=False)
            speed = trainer.speed()
            self.bar.set_postfix_str(f"{in_words(trainer.running())} rate {speed['lr']:.3g}, "
                                     f"{speed['samples_per_second']:.0f} samples/s", refresh=False)
        self.bar.update()

    def on_epoch_end(self, trainer: "Trainer") -> None:
        if self.lines:
            logs, names = trainer.logs, [*trainer.running()]
            parts = {"training": {name: logs[name] for name in names},
                     "validation": {name: logs[f"val_{name}"] for name in names if f"val_{name}" in logs}}
            text = "  ".join(f"{part} {in_words(figures)}" for part, figures in parts.items() if figures)
            line = f"epoch {logs['epoch']:3}  {text}  {logs['samples_per_second']:.0f} samples/s"
            (self.bar.write if self.bar else print)(line)

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def in_words(figures: dict[str, Any]) -> str:
    """Names and numbers in a row; arrays are left out."""
    return " ".join(f"{name} {value:{'.6g' if name in ('mse', 'mae') else '.4f'}}"
                    for name, value in figures.items() if not np.ndim(value))
