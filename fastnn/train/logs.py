"""What a run leaves behind as it goes on: tables of its figures for other programs, and TensorBoard's event files."""
import csv
import io
import json
import os
import time
from typing import Any

import numpy as np

from fastnn.errors import require
from fastnn.serialization import Path, write_file
from fastnn.train.callback import Callback
from fastnn.train.plots import as_images, tile


class CSVLogger(Callback):
    """Writes the history to the file `path`, a row an epoch with all figures that are numbers, in all their digits.

    The file is replaced at the end of each epoch: it is whole at any instant, and after a resumption says what the
    history says. To follow it, open it anew (`tail -F`). A fit that starts anew begins a new file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def text(self, rows: list[dict[str, Any]]) -> str:
        out, names = io.StringIO(), [name for name, value in (rows[0] if rows else {}).items() if np.ndim(value) == 0]
        table = [names, *([np.asarray(row[name]).item() for name in names] for row in rows)]
        csv.writer(out, lineterminator="\n").writerows(table if rows else [])
        return out.getvalue()

    def on_fit_begin(self, trainer: Any) -> None:
        """Shows at once whether the file can be written."""
        write_file(self.path, self.text(trainer.history.rows()).encode())

    on_epoch_end = on_fit_begin


class JSONLinesLogger(CSVLogger):
    """As `CSVLogger`, but a JSON object an epoch: arrays as lists; NaN and infinity, which JSON does not have, null."""

    def text(self, rows: list[dict[str, Any]]) -> str:
        return "".join(json.dumps({name: np.where(np.isfinite(value), value, np.array(None)).tolist()
                                   for name, value in row.items()}) + "\n" for row in rows)


class TensorBoard(Callback):
    """Writes event files for TensorBoard into `folder`, by tensorboardX (`pip install 'fastnn[tensorboard]'`).

    Over the steps of the optimizer: at each epoch's end its figures, as loss/train, loss/validation, accuracy/train, …,
    lr, a confusion matrix as an image, white for a whole row; of every `every`-th step's batch, loss/batch; with
    `histograms`, the weights at each epoch's end and the gradients of its first batch; and once, the first `images`
    images. What a fit does once more, resumed or anew, takes the place of what was there. All is on disk at an epoch's
    end."""

    def __init__(self, folder: Path, every: int = 100, histograms: bool = True, images: int = 0) -> None:
        for name, value, least in ("every", every, 1), ("images", images, 0):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"TensorBoard: {name} must be an int of at least {least}, but {value!r} came")
        self._x, _ = (require(name, "tensorboard", "TensorBoard") for name in ("tensorboardX", "PIL"))
        self.folder, self.every, self.histograms, self.images = os.fspath(folder), every, histograms, images
        self._writer: Any = None

    def on_fit_begin(self, trainer: Any) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # writes at once; SummaryWriter's thread lags behind

        os.makedirs(self.folder, exist_ok=True)
        self._writer = EventsWriter(os.path.join(self.folder, "events"), f".{time.time_ns()}")
        log = self._x.proto.event_pb2.SessionLog
        again = trainer.batch == trainer.batches  # resumed just before an epoch's end, which comes once more
        self._add(trainer.step + (not again), session_log=log(status=log.START))  # hides events from this step on
        self._writer.flush()

    def _add(self, step: int, kind: str = "", *values: Any, **event: Any) -> None:
        event = {"summary": getattr(self._x.summary, kind)(*values)} if kind else event
        self._writer.write_event(self._x.proto.event_pb2.Event(step=step, wall_time=time.time(), **event))

    def _histogram(self, step: int, tag: str, a: np.ndarray) -> None:
        if (a := a[np.isfinite(a)].astype(np.float64)).size:
            self._add(step, "histogram", tag, a, 64)

    def on_backward(self, trainer: Any) -> None:
        if trainer.batch == 0 and self.histograms:
            for name, p in trainer.model.named_parameters():
                if p.grad is not None:
                    self._histogram(trainer.step + 1, f"gradients/{name}", p.grad.array)
        if trainer.batch == 0 and trainer.epoch == 1 and self.images:
            x = trainer.inputs[0] if isinstance(trainer.inputs, tuple) else trainer.inputs
            self._add(trainer.step + 1, "image", "images", tile(as_images(x.array[: self.images])), 1, "HWC")

    def on_step(self, trainer: Any) -> None:
        if trainer.step % self.every == 0:
            self._add(trainer.step, "scalar", "loss/batch", trainer.loss.item())

    def on_epoch_end(self, trainer: Any) -> None:
        scores = {"loss", *(metric.name for metric in trainer.metrics)}
        for name, value in trainer.logs.items():
            score = name.removeprefix("val_")
            tag = f"{score}/{'train' if name == score else 'validation'}" if score in scores else name
            if np.ndim(value) == 0:
                self._add(trainer.step, "scalar", tag, float(value))
            elif np.ndim(value) == 2:
                shares = value / np.maximum(value.sum(1, keepdims=True), 1)
                grey = np.kron(255 * shares, np.ones((max(1, 256 // len(shares)),) * 2)).astype(np.uint8)
                self._add(trainer.step, "image", tag, grey, 1, "HW")
        for name, p in trainer.model.named_parameters() if self.histograms else ():
            self._histogram(trainer.step, f"weights/{name}", p.array)
        self._writer.flush()

    def on_fit_end(self, trainer: Any) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
