"""Checkpoints of a fit: written while it runs, found and checked when it is to go on."""
import os
import re
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastnn.errors import CheckpointError
from fastnn.serialization import Path, load, save, sweep
from fastnn.train.callback import Monitor

if TYPE_CHECKING:
    from fastnn.train.trainer import Trainer

NAME = re.compile(r"checkpoint-(\d{4}|[1-9]\d{4,})-(\d{8}|[1-9]\d{8,})\.safetensors")  # epoch, step
BEST = "best.safetensors"
KEYS = {**dict.fromkeys(("model", "optimizer", "gradients", "random", "position", "epoch", "history", "config"), dict),
        "fastnn": str, "callbacks": list, "scheduler": dict | None, "ema": dict | None}


class Checkpoint(Monitor):
    """Saves all that a fit needs to go on: `trainer.fit(…, resume=folder)` does, with the same bits.

    Writes `checkpoint-EPOCH-STEP.safetensors` to `folder` after each `every` epochs and each `every_steps` steps of the
    optimizer, and whenever the fit ends without an error, by Ctrl-C too; deletes the oldest when more than `keep` are
    there, never other files. `best.safetensors` is that of the epoch with the best `monitor`, see `Monitor`, if `best`.

    Each file appears wholly or not at all, see `fastnn.save`. ValueError when the fit begins in a folder with a
    checkpoint that it does not go on from: another fit's are never overwritten.

    >>> trainer = fastnn.train.Trainer(batch_size=4)
    >>> model, data = nn.Linear(2, 3), (fastnn.ones(8, 2), np.arange(8) % 3)
    >>> _ = trainer.fit(model, data, epochs=2, callbacks=[Checkpoint("run")])
    >>> sorted(os.listdir("run"))
    ['best.safetensors', 'checkpoint-0001-00000002.safetensors', 'checkpoint-0002-00000004.safetensors']
    >>> len(trainer.fit(model, data, epochs=3, callbacks=[Checkpoint("run")], resume="run"))
    3"""

    def __init__(self, folder: Path, every: int | None = 1, every_steps: int | None = None, keep: int = 3,
                 best: bool = True, monitor: str = "val_loss", mode: str | None = None) -> None:
        super().__init__(monitor, mode)
        for name, n in ("every", every), ("every_steps", every_steps), ("keep", keep):
            if not (n is None and name != "keep") and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
                raise ValueError(f"Checkpoint: {name} must be a positive int, but {n!r} came")
        self.folder, self.every, self.every_steps, self.keep = os.fsdecode(folder), every, every_steps, keep
        self.keep_best, self.saved = best, 0

    def on_fit_begin(self, trainer: "Trainer") -> None:
        os.makedirs(self.folder, exist_ok=True)
        for names in "checkpoint-*.safetensors", BEST:
            sweep(self.folder, names)
        self.saved = trainer.step
        with suppress(CheckpointError):  # there is none
            path, state = _newest(self.folder)
            if state["position"]["step"] > trainer.step:
                raise ValueError(f"Checkpoint: {path} is of a fit that went further than this one, at step "
                                 f"{trainer.step}: go on with resume={self.folder!r}, or take another folder")

    def on_batch_end(self, trainer: "Trainer") -> None:
        due = self.every_steps and trainer.step % self.every_steps == 0 and trainer.step != self.saved
        if due or trainer.stop:
            self.save(trainer)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        if self.keep_best and self.improved(trainer):  # first, as the other one knows of it
            save(trainer.state_dict(), os.path.join(self.folder, BEST))
        if (self.every and trainer.epoch % self.every == 0) or trainer.epoch == trainer.epochs or trainer.stop:
            self.save(trainer)

    def on_fit_end(self, trainer: "Trainer") -> None:
        if trainer.interrupted and trainer.error is None:  # in between two batches
            trainer.messages.append(f"saved {self.save(trainer)}; fit(…, resume={self.folder!r}) goes on from there")

    def save(self, trainer: "Trainer") -> str:
        """Write a checkpoint, then delete the oldest; returns the path of the new one."""
        path = os.path.join(self.folder, f"checkpoint-{trainer.epoch:04}-{trainer.step:08}.safetensors")
        save(trainer.state_dict(), path)
        self.saved = trainer.step
        for old in [name for step, _, name in _numbered(self.folder) if step <= trainer.step][:-self.keep]:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self.folder, old))
        return path


def latest(folder: Path) -> str:
    """The path of the newest whole checkpoint in `folder`; warns of damaged ones, CheckpointError if there is none."""
    return _newest(os.fsdecode(folder))[0]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, or in the `latest` of a folder. OSError, or CheckpointError if it is none."""
    path = os.fsdecode(path)
    return _newest(path)[1] if os.path.isdir(path) else _checked(path)


def _numbered(folder: str) -> list[tuple[int, int, str]]:
    """Step, epoch and name of the checkpoints in `folder`, the newest last."""
    return sorted((int(m[2]), int(m[1]), m[0]) for m in map(NAME.fullmatch, os.listdir(folder)) if m)


def _newest(folder: str) -> tuple[str, dict[str, Any]]:
    for name in [*(name for _, _, name in reversed(_numbered(folder))), BEST]:
        path = os.path.join(folder, name)
        try:
            return path, _checked(path)
        except FileNotFoundError:  # BEST, or one that another process deleted
            continue
        except CheckpointError as error:
            warnings.warn(f"passing over a damaged checkpoint: {error}", stacklevel=4)
    raise CheckpointError(f"load: the folder {folder} holds no checkpoint that is whole")


def _checked(path: str) -> dict[str, Any]:
    state = load(path)
    found = state if isinstance(state, dict) else {}
    wrong = [name for name, kind in KEYS.items() if name not in found or not isinstance(found[name], kind)]
    if wrong or not all(isinstance(found["position"].get(name), int) for name in ("epoch", "batch", "step", "pending")):
        raise CheckpointError(f"load: {path} is no checkpoint of a fit: it lacks {', '.join(wrong or ['a position'])}")
    return found
