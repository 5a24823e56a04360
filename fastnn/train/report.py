"""A run as one HTML file that opens anywhere, without a network: what was trained, how it went, where it fails."""
import base64
import io
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Self

import numpy as np

from fastnn import backend, nn
from fastnn._version import __version__
from fastnn.errors import require
from fastnn.functional import softmax
from fastnn.serialization import Path, write_file
from fastnn.tensor import Tensor, as_tensor
from fastnn.train import plots
from fastnn.train.callback import Callback
from fastnn.train.diagnosis import diagnose
from fastnn.train.metrics import F1, Precision, Recall
from fastnn.train.task import Classification, as_task
from fastnn.train.trainer import _parts, as_batches

ROWS = 200  # of a table, at most
WORST, SIDE = 24, 72  # samples that are shown, and pixels of a side of theirs, at most


def picture(alt: str, drawn: Any, kind: str = "png") -> str:
    """An <img> that holds a Figure, or an image (H, W, 3) of bytes."""
    out = io.BytesIO()
    if isinstance(drawn, np.ndarray):
        image = require("PIL.Image", "plot", "Report").fromarray(drawn)
        image.thumbnail((SIDE, SIDE))
        image.save(out, kind)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # the font may lack letters of the classes' names
            drawn.savefig(out, format=kind, dpi=90)
    mime, data = kind.replace("svg", "svg+xml"), base64.b64encode(out.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/{mime};base64,{data}">'


def table(rows: Iterable[Sequence[Any]], head: Sequence[Any] = ()) -> str:
    """Rows as a table, none as nothing; of many, some from first to last."""
    rows = [*rows]
    kept = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).round().astype(int))]
    html = ""
    for tag, line in [("th", head)] * bool(head) + [("td", row) for row in kept]:
        texts = (escape(f"{c:.6g}" if isinstance(c, float) else str(c)[:2000]) for c in line)
        html += "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>\n"
    note = f'<p class="note">{len(kept)} of {len(rows)} rows</p>' * (len(kept) < len(rows))
    return f'<div class="scroll"><table>{html}</table></div>{note}' if rows else ""


def section(title: str, body: str | Callable[[], str]) -> str:
    """A section of what `body` is or makes, none if that is nothing; or the reason why it could not be made."""
    try:
        body = body if isinstance(body, str) else body()
    except Exception as error:
        body = f'<p class="problem">This could not be made: {escape(f"{type(error).__name__}: {error}")}</p>'
    return f"<section><h2>{title}</h2>\n{body}</section>\n" if body and title else body


class Answers:
    """What a model says of samples: `true` and `found`, classes (N,) of K (0: there are none), or numbers (N, T); the
    `worst` classified, of the highest losses: (loss, true, found, probability, image). `x`: the first batch; `shape`:
    (C, H, W) if `show`, by default the identity, makes images of inputs."""

    def __init__(self, show: Callable | None = None) -> None:
        self.show, self.K, self.worst = show or as_tensor, 0, list[Any]()
        self.x, self.shape = tuple[Any, ...](), tuple[int, ...]()

    def ask(self, model: nn.Module, data: Any, loss: Any) -> Self:
        batches, pairs = as_batches(data, 256), []
        with plots.watching(model, batches):
            for inputs, targets in map(_parts, batches):
                if not self.x:
                    self.x, shape = inputs, as_tensor(self.show(inputs[0][:1])).shape
                    self.shape = shape[1:] if len(shape) == 4 and shape[1] in (1, 3) and 0 not in shape else ()
                task, y, outputs = as_task(loss, targets.array), targets.array, model(*inputs)
                if isinstance(task, Classification) or y.dtype.kind in "iu":
                    pairs.append(self._classify(inputs[0].array, outputs.array.astype(np.float64), y))
                else:
                    found = task.scored(outputs).array
                    pairs.append((y.reshape(found.shape), found))
        self.true, self.found = map(np.concatenate, zip(*pairs, strict=True))
        return self

    def _classify(self, x: np.ndarray, scores: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """True and found classes of a batch; its worst samples are kept."""
        if scores.ndim == 1 or scores.shape[1:] == (1,):  # the score of one class against the other
            scores = np.pad(scores.reshape(-1, 1), ((0, 0), (1, 0)))
        y = y.argmax(1) if y.shape == scores.shape else y.reshape(-1).astype(np.int64)
        if scores.ndim != 2 or len(y) != len(scores):
            raise ValueError(f"there is one class a sample to show, not scores {scores.shape}")
        kept, self.K = np.flatnonzero((y >= 0) & (y < scores.shape[1])), scores.shape[1]  # not ignored ones
        p, y, rows = softmax(Tensor(scores[kept]), 1).array, y[kept], np.arange(len(kept))
        found, losses = p.argmax(1), np.nan_to_num(-np.log(np.maximum(p[rows, y], 1e-300)), nan=np.inf)
        if self.shape and len(y):
            chosen = np.argsort(-losses, kind="stable")[:WORST]
            images = plots.as_images(self.show(Tensor(x[kept[chosen]])))
            self.worst += [(losses[i], y[i], found[i], p[i, found[i]], a) for i, a in zip(chosen, images, strict=True)]
            self.worst = sorted(self.worst, key=lambda sample: -sample[0])[:WORST]
        return y, found

    def sections(self, classes: Sequence[Any] | None) -> str:
        if not self.K:
            return section("Predicted numbers", picture("predicted", plots.plot_regression(self.true, self.found)))
        matrix = np.bincount(self.true * self.K + self.found, minlength=self.K**2).reshape(self.K, self.K)
        names, cards = [str(c) for c in classes or range(self.K)], ""
        drawn = picture("confusion matrix", plots.plot_confusion(matrix, names))
        scores = [metric(None).score(matrix).tolist() for metric in (Precision, Recall, F1)]
        rows = [*zip(names, matrix.sum(1), *scores, strict=True)]
        rows = sorted(rows, key=lambda row: row[-1])[:ROWS] if len(rows) > ROWS else rows  # the worst
        for loss, y, k, p, image in self.worst:
            text = escape(f"{names[y]} → {names[k]} ({p:.2f}), loss {loss:.3g}")
            cards += f"<figure>{picture('sample', image)}<figcaption>{text}</figcaption></figure>"
        note = '<p class="note">true class → predicted class (its probability)</p>'
        return (section("Confusion matrix", drawn) +
                section("Classes", table(rows, ("class", "samples", "precision", "recall", "F1"))) +
                section("Samples of the highest loss", cards and f'{note}<div class="pictures">{cards}</div>'))


def report(path: Path, history: Any, model: nn.Module | None = None, data: Any = None, loss: Any = None,
           classes: Sequence[Any] | None = None, show: Callable | None = None, config: dict[str, Any] | None = None,
           findings: Any = (), status: str = "", bad: bool = False) -> None:
    """Write the HTML file `path`, of at most 1.5 MB, wholly or not at all: configuration, environment, curves and table
    of `history`; of `model`, filters and activations; and, for `data` and `loss` as in `Trainer.fit`, confusion matrix,
    figures of each class and the samples of the highest loss, or predicted over true numbers.

    `classes`: their names. `show`: makes images (N, C, H, W), 1 or 3 channels, of the inputs (N, …), to be looked at,
    such as the `inverse` of a preprocessing; by default inputs of that shape are. `findings`: those of a diagnosis, or
    what makes them. `status`: how the run went, `bad` if not well. In place of what cannot be made is the reason."""
    require("matplotlib", "plot", "Report")
    seen, figures = Answers(show), [name for name in history.columns if history[name].ndim == 1]

    def records(rows: list[dict[str, Any]], names: Sequence[str]) -> str:
        return table(([row[name] for name in names] for row in rows), names)

    def diagnosis() -> str:
        rows = [finding._asdict() for finding in (findings() if callable(findings) else findings)]
        return records(rows, [n for n in (rows or [{}])[0] if n != "values" and any(row[n] for row in rows)])

    def filters() -> str:
        with suppress(ValueError):  # it has none
            return picture("filters", plots.plot_filters(model or nn.Identity(), seen.shape or None))
        return ""

    def activations() -> str:
        x = tuple(part.array[:256] for part in seen.x)
        return picture("activations", plots.plot_activations(model, x)) if model and x else ""

    environment = {"fastnn": __version__, "kernels": backend.kernel_set, "instruction set": backend.isa,
                   "threads": backend.get_num_threads(), "NumPy": np.__version__, "Python": platform.python_version()}
    parts = {"Configuration": lambda: table((config or {}).items()), "Diagnosis": diagnosis,
             "Curves": lambda: picture("curves", plots.plot_curves(history), "svg") if len(history) else "",
             "Epochs": lambda: records(history.rows(), figures),
             "": lambda: "" if model is None or data is None else seen.ask(model, data, loss).sections(classes),
             "Filters": filters, "Activations": activations,
             "Network": lambda: f"<pre>{escape(repr(model)[:20000])}</pre>" if model else "",
             "Environment": lambda: table(environment.items())}
    last = [(name, history[name][-1]) for name in figures if name.removeprefix("val_") not in plots.COURSE]
    status = "\n".join([status or f"{len(history)} epochs", ", ".join(f"{name} {value:.4g}" for name, value in last)])
    template = Template((files("fastnn.train") / "report.html").read_text("utf-8"))
    write_file(path, template.substitute(
        time=time.strftime("%Y-%m-%d %H:%M"), version=__version__, mark=" bad" * bad, status=escape(status),
        sections="".join(map(section, parts, parts.values()))).encode())


class Report(Callback):
    """Writes a report to the file `path` when a fit ends, however it ends; see `report`.

    `data`: the samples to be answered for, by default the validation's. `classes`: by default the dataset's. With
    `diagnosis`, what `fastnn.train.diagnose` finds, unless the fit was interrupted. The model is the one that is
    validated. Callbacks that change it in the end, as EarlyStopping does, go before this one."""

    def __init__(self, path: Path, data: Any = None, classes: Sequence[Any] | None = None,
                 show: Callable | None = None, diagnosis: bool = True) -> None:
        require("matplotlib", "plot", "Report")
        self.path, self.data, self.classes, self.show, self.diagnosis = path, data, classes, show, diagnosis

    def on_fit_begin(self, trainer: Any) -> None:
        folder = os.path.dirname(os.path.realpath(os.fsdecode(self.path)))
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"Report: there is no folder {folder}")

    def on_fit_end(self, trainer: Any) -> None:
        error, place = trainer.error, f"in epoch {trainer.epoch} after {trainer.batch} batches"
        status = f"Stopped: {trainer.stop}." if trainer.stop else "Finished."
        if interrupted := trainer.interrupted or isinstance(error, KeyboardInterrupt):
            status = f"Interrupted {place}."
        elif error is not None:
            status = f"Failed {place}: {type(error).__name__}: {error}"
        findings = () if interrupted or not self.diagnosis else partial(
            diagnose, trainer.model, trainer.data, validation=trainer.validation, loss=trainer.task,
            optimizer=trainer.optimizer, history=trainer.history)
        data = trainer.validation if self.data is None else self.data
        classes = getattr(getattr(data, "dataset", data), "classes", None) if self.classes is None else self.classes
        report(self.path, trainer.history, trainer.evaluation_model, data, trainer.task, classes, self.show,
               trainer.config, findings, f"{status}\n{len(trainer.history)} of {trainer.epochs} epochs are done.",
               interrupted or error is not None)
