"""What a run leaves behind as it goes on: tables of its figures for other programs, and TensorBoard's event files."""
import contextlib
import csv
import io
import json
import os
import secrets
import time
from typing import Any

import numpy as np

from fastnn.errors import require
from fastnn.train.callback import Callback
from fastnn.train.plots import as_images, tile

Path = str | os.PathLike[str]


def write_file(path: Path, data: bytes) -> None:
    """Put `data` in place of the file `path`: whoever looks finds the old or the new one whole, also after a failure."""
    target = os.path.realpath(os.fsdecode(path))  # a link stays, and the file behind it is replaced
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"{target} is a folder, device, pipe or socket, and no file to be replaced")
    temporary = "{}/.{:.64}.{}.tmp".format(*os.path.split(target), secrets.token_hex(6))  # has a new file's permissions
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


class CSVLogger(Callback):
    """Writes the history to the file `path`, a row an epoch with all figures that are numbers, in all their digits.

    The file is replaced at the end of each epoch: it is whole at any instant, and after a resumption says what the
    history says. To follow it, open it anew (`tail -F`). A fit that starts anew begins a new file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def text(self, rows: list[dict[str, Any]]) -> str:
        out = io.StringIO()
        names = [name for name in (rows[0] if rows else ()) if not np.ndim(rows[0][name])]
        csv.writer(out, lineterminator="\n").writerows(
            [names, *([np.asarray(row[name]).item() for name in names] for row in rows)] if rows else ())
        return out.getvalue()

    def on_fit_begin(self, trainer: Any) -> None:
        """Shows at once whether the file can be written."""
        write_file(self.path, self.text(trainer.history.rows()).encode())

    on_epoch_end = on_fit_begin


class JSONLinesLogger(CSVLogger):
    """Writes the history to the file `path`, a JSON object an epoch: arrays as lists, NaN and infinity, which JSON does
    not have, as null; all else as `CSVLogger`."""

    def text(self, rows: list[dict[str, Any]]) -> str:
        return "".join(json.dumps({name: np.where(np.isfinite(value), value, None).tolist()  # type: ignore[arg-type]
                                   for name, value in row.items()}) + "\n" for row in rows)


class TensorBoard(Callback):
    """Writes event files for TensorBoard into `folder`, by tensorboardX (`pip install 'fastnn[tensorboard]'`).

    Over the steps of the optimizer: at each epoch's end its figures, as loss/train, loss/validation, accuracy/train, …,
    lr, and matrices, such as a confusion matrix, as images whose rows add up to white; the loss of every `every`-th
    step's batch as loss/batch; with `histograms`, those of the weights at the epoch's end and of the gradients of its
    first batch; and once the first `images` images of a batch. What a resumed fit, or one that starts anew, does once
    more takes the place of what was there. The files are on disk whenever an epoch ends."""

    def __init__(self, folder: Path, every: int = 100, histograms: bool = True, images: int = 0) -> None:
        for name, value, least in ("every", every, 1), ("images", images, 0):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"TensorBoard: {name} must be an int of at least {least}, but {value!r} came")
        self._x, self._writer = require("tensorboardX", "tensorboard", "TensorBoard"), None
        require("PIL", "tensorboard", "TensorBoard")  # for images
        self.folder, self.every, self.histograms, self.images = os.fspath(folder), every, histograms, images

    def on_fit_begin(self, trainer: Any) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # writes at once; SummaryWriter's thread lags behind

        os.makedirs(self.folder, exist_ok=True)
        proto = self._x.proto.event_pb2
        self._writer = EventsWriter(os.path.join(self.folder, "events"), f".{time.time_ns()}")
        start = proto.SessionLog(status=proto.SessionLog.START)  # hides earlier events of this step or later
        self._writer.write_event(proto.Event(session_log=start, step=trainer.step + 1, wall_time=time.time()))
        self._writer.flush()

    def _add(self, kind: str, tag: str, step: int, *values: Any) -> None:
        summary = getattr(self._x.summary, kind)(tag, *values)
        event = self._x.proto.event_pb2.Event(summary=summary, step=step, wall_time=time.time())
        self._writer.write_event(event)  # type: ignore[attr-defined]

    def _histogram(self, tag: str, step: int, a: np.ndarray) -> None:
        a = a[np.isfinite(a)].astype(np.float64)
        if a.size:
            self._add("histogram", tag, step, a, 64)

    def on_backward(self, trainer: Any) -> None:
        if trainer.batch == 0 and self.histograms:
            for name, p in trainer.model.named_parameters():
                if p.grad is not None:
                    self._histogram(f"gradients/{name}", trainer.step + 1, p.grad.array)
        x = trainer.inputs[0] if isinstance(trainer.inputs, tuple) else trainer.inputs
        if trainer.batch == 0 and trainer.epoch == 1 and self.images:
            self._add("image", "images", trainer.step + 1, tile(as_images(x.array[: self.images])), 1, "HWC")

    def on_step(self, trainer: Any) -> None:
        if trainer.step % self.every == 0:
            self._add("scalar", "loss/batch", trainer.step, trainer.loss.item())

    def on_epoch_end(self, trainer: Any) -> None:
        for name, value in trainer.logs.items():
            part = "validation" if name.startswith("val_") else "train"
            scored = name.removeprefix("val_") in [metric.name for metric in trainer.metrics] + ["loss"]
            tag = f"{name.removeprefix('val_')}/{part}" if scored else name
            if np.ndim(value) == 0:
                self._add("scalar", tag, trainer.step, float(value))
            elif np.ndim(value) == 2:
                shares = value / np.maximum(np.sum(value, 1, keepdims=True), 1)
                grey = np.kron(255 * shares, np.ones((max(1, 256 // len(shares)),) * 2)).astype(np.uint8)
                self._add("image", tag, trainer.step, np.stack([grey] * 3, 2), 1, "HWC")
        for name, p in trainer.model.named_parameters() if self.histograms else ():
            self._histogram(f"weights/{name}", trainer.step, p.array)
        self._writer.flush()  # type: ignore[attr-defined]

    def on_fit_end(self, trainer: Any) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
