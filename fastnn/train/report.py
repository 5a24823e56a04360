"""A run as one HTML file that opens anywhere, without a network: what was trained, how it went, where it fails."""
import base64
import io
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from fastnn import backend, nn
from fastnn._version import __version__
from fastnn.errors import require
from fastnn.functional import softmax
from fastnn.tensor import Tensor, as_tensor
from fastnn.train import plots
from fastnn.train.callback import Callback
from fastnn.train.logs import Path, write_file
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
        image.save(out, "PNG")
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # the font may lack letters of the classes' names
            drawn.savefig(out, format=kind, dpi=90)
    kind, data = {"svg": "svg+xml"}.get(kind, kind), base64.b64encode(out.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{data}">'


def table(rows: Iterable[Sequence[Any]], head: Sequence[Any] = ()) -> str:
    """Rows as a table; of many, some from first to last."""
    rows, note = [*rows], ""
    if len(rows) > ROWS:
        note = f'<p class="note">{ROWS} of {len(rows)} rows</p>'
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, ROWS).round().astype(int)]

    def line(cells: Iterable[Any], tag: str) -> str:
        texts = (f"{c:.6g}" if isinstance(c, float) else str(c)[:2000] for c in cells)
        return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts) + "</tr>"

    body = (line(head, "th") if head else "") + "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{body}</table></div>{note}'


@contextmanager
def passing(model: nn.Module, data: Any) -> Iterator[Any]:
    """The batches of `data`, to be seen by `model` in evaluation mode, as if nobody had asked for them."""
    batches = as_batches(data, 256)
    epoch, own = getattr(batches, "epoch", None), getattr(batches, "generator", None)  # a loader counts its passes
    state = own.bit_generator.state if isinstance(own, np.random.Generator) else None
    try:
        with plots.watching(model):
            yield batches
    finally:
        if epoch is not None:
            batches.epoch = epoch
        if state is not None:
            own.bit_generator.state = state


def seen(x: np.ndarray, show: Callable | None) -> np.ndarray:
    """Inputs as they are to be looked at."""
    return as_tensor(show(Tensor(x)) if show else x).array


def image_shape(x: Tensor, show: Callable | None) -> tuple[int, ...] | None:
    """(C, H, W) if the inputs can be looked at as images."""
    shape = seen(x.array[:1], show).shape
    return shape[1:] if len(shape) == 4 and shape[1] in (1, 3) and 0 not in shape else None


class Answers:
    """What `model` says of all samples of `data`: `true` and `found`, labels (N,) or numbers (N, T); for classes, their
    number `classes` (0: it is a regression), `worst`: (loss, true, found, probability, image) of the highest losses."""

    def __init__(self, model: nn.Module, data: Any, loss: Any, show: Callable | None) -> None:
        self.classes, self.worst, true, found = 0, [], [], []
        with passing(model, data) as batches:
            for batch in batches:
                inputs, targets = _parts(batch)
                outputs, y = model(*inputs), targets.array
                task = as_task(loss, y)
                if isinstance(task, Classification) or y.dtype.kind in "iub":
                    y, answers = self._classes(outputs.array, y, inputs[0], show)
                else:
                    answers = getattr(task, "answers", task.scored)(outputs).array
                    y = y.reshape(answers.shape)
                true.append(y)
                found.append(answers)
        self.true, self.found = np.concatenate(true), np.concatenate(found)

    def _classes(self, scores: np.ndarray, y: np.ndarray, x: Tensor, show: Any) -> tuple[np.ndarray, np.ndarray]:
        if scores.ndim == 1 or scores.shape[1:] == (1,):  # the score of one class against the other
            scores = np.stack([np.zeros(len(scores)), scores.reshape(-1)], 1)
        y = (y.argmax(1) if y.shape == scores.shape else y.reshape(-1)).astype(np.int64)
        if scores.ndim != 2 or y.shape != scores.shape[:1]:
            raise ValueError(f"it shows the classes of samples, scores (N, K) and labels (N,), but there are "
                             f"{scores.shape} and {y.shape}")
        kept = np.flatnonzero((y >= 0) & (y < scores.shape[1]))
        p, y = softmax(Tensor(scores[kept].astype(np.float64)), 1).array, y[kept]
        self.classes, found, rows = scores.shape[1], p.argmax(1), np.arange(len(y))
        losses = np.nan_to_num(-np.log(np.maximum(p[rows, y], 1e-300)), nan=np.inf)
        chosen = np.argsort(-losses, kind="stable")[:WORST]
        shape = image_shape(x, show)
        images = plots.as_images(seen(x.array[kept[chosen]], show)) if shape and len(chosen) else [None] * len(chosen)
        self.worst += [(losses[i], y[i], found[i], p[i, found[i]], a) for i, a in zip(chosen, images, strict=True)]
        self.worst = sorted(self.worst, key=lambda sample: -sample[0])[:WORST]
        return y, found

    def parts(self, names: Sequence[str] | None) -> str:
        if not self.classes:
            return part("Predicted numbers", lambda: picture("predicted over true numbers",
                                                             plots.plot_regression(self.true, self.found)))
        K, note = self.classes, '<p class="note">true class → predicted class (its probability)</p>'
        matrix, own = np.bincount(self.true * K + self.found, minlength=K * K).reshape(K, K), names or [*map(str, range(K))]

        def scores() -> str:
            columns = [metric(None).score(matrix).tolist() for metric in (Precision, Recall, F1)]
            rows = [*zip(own, matrix.sum(1), *columns, strict=True)]
            rows = sorted(rows, key=lambda row: row[-1])[:ROWS] if K > ROWS else rows  # the worst
            return table(rows, ("class", "samples", "precision", "recall", "F1"))

        def samples() -> str:
            cards = [f"<figure>{picture('sample', image)}<figcaption>"
                     f"{escape(f'{own[y]} → {own[k]} ({p:.2f}), loss {loss:.3g}')}</figcaption></figure>"
                     for loss, y, k, p, image in self.worst if image is not None]
            return note + f'<div class="pictures">{"".join(cards)}</div>' if cards else ""

        return (part("Confusion matrix", lambda: picture("confusion matrix", plots.plot_confusion(matrix, names))) +
                part("Classes", scores) + part("Samples of the highest loss", samples))


def part(title: str, make: Callable[[], str]) -> str:
    """A section of what `make` returns, none if that is nothing, or the reason why there is none."""
    try:
        body = make()
    except Exception as error:
        body = f'<p class="problem">This could not be made: {escape(f"{type(error).__name__}: {error}")}</p>'
    return f"<section><h2>{title}</h2>\n{body}</section>\n" if body and title else body


def report(path: Path, history: Any, model: nn.Module | None = None, data: Any = None, loss: Any = None,
           classes: Sequence[Any] | None = None, show: Callable | None = None, config: dict[str, Any] | None = None,
           findings: Any = (), status: str = "", bad: bool = False, title: str = "Training report") -> None:
    """Write the HTML file `path`, wholly or not at all, of at most 1.5 MB: configuration, environment, curves and table
    of `history`; of `model`, filters and activations; and, for `data`, as `Trainer.fit` takes it, with `loss`: confusion
    matrix, figures of each class and the samples of the highest loss, or predicted over true numbers.

    `classes`: their names. `show`: makes images (N, C, H, W), 1 or 3 channels, of the inputs (N, …), to be looked at,
    such as the `inverse` of a preprocessing; by default inputs of that shape are. `findings`: those of a diagnosis, or
    a function that makes them. `status`: how the run went, `bad` if not well. What cannot be made says why in its place.

    >>> report("run.html", Trainer().fit(nn.Linear(2, 3), (fastnn.ones(8, 2), np.arange(8) % 3)))"""
    require("matplotlib", "plot", "Report")
    x: tuple = ()
    if model is not None and data is not None:
        with suppress(Exception), passing(model, data) as batches:
            x = next((_parts(batch)[0] for batch in batches), ())

    def epochs() -> str:
        names = [name for name in history.columns if history[name].ndim == 1]
        return table(([row[name] for name in names] for row in history.rows()), names)

    def diagnosis() -> str:
        rows = [(f.check, f.verdict, f.expectation, f.finding, f.advice)
                for f in (findings() if callable(findings) else findings)]
        return table(rows, ("check", "verdict", "expected", "found", "advice")) if rows else ""

    def filters() -> str:
        with suppress(ValueError):  # it has none
            shape = image_shape(x[0], show) if x else None
            return picture("filters", plots.plot_filters(model, shape)) if model is not None else ""
        return ""

    def activations() -> str:
        first = tuple(t[:256] for t in x)
        return picture("activations", plots.plot_activations(model, first)) if model is not None and x else ""

    def answers() -> str:
        names = None if classes is None else [str(c) for c in classes]
        return Answers(model, data, loss, show).parts(names) if model is not None and x else ""

    environment = {"fastnn": __version__, "kernels": backend.kernel_set, "instruction set": backend.isa,
                   "threads": backend.get_num_threads(), "NumPy": np.__version__, "Python": platform.python_version()}
    sections = [
        part("Configuration", lambda: table((config or {}).items()) if config else ""),
        part("Curves", lambda: picture("curves", plots.plot_curves(history), "svg") if len(history) else ""),
        part("Diagnosis", diagnosis), part("Epochs", epochs), part("", answers), part("Filters", filters),
        part("Activations", activations),
        part("Network", lambda: f"<pre>{escape(repr(model)[:20000])}</pre>" if model is not None else ""),
        part("Environment", lambda: table(environment.items()))]
    template = Template(files("fastnn.train").joinpath("report.html").read_text("utf-8"))
    write_file(path, template.substitute(
        title=escape(title), time=time.strftime("%Y-%m-%d %H:%M"), version=__version__, mark=" bad" if bad else "",
        status=escape(status or f"{len(history)} epochs"), sections="".join(sections)).encode())


class Report(Callback):
    """Writes a report to the file `path` when a fit ends, however it ends; see `report`.

    `data`: the samples to be answered for, by default the validation's. `classes`: by default the dataset's. With
    `diagnosis`, unless the fit was interrupted, what `fastnn.train.diagnose` finds is in it. The model is the one that
    is validated; callbacks that change it in the end, as EarlyStopping does, go before this one."""

    def __init__(self, path: Path, data: Any = None, classes: Sequence[Any] | None = None,
                 show: Callable | None = None, diagnosis: bool = True) -> None:
        require("matplotlib", "plot", "Report")
        self.path, self.data, self.classes, self.show, self.diagnosis = path, data, classes, show, diagnosis
        self._before: BaseException | None = None

    def on_fit_begin(self, trainer: Any) -> None:
        folder = os.path.dirname(os.path.realpath(os.fsdecode(self.path)))
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"Report: there is no folder {folder}")
        self._before = sys.exception()  # fit may be called where one is handled

    def on_fit_end(self, trainer: Any) -> None:
        error, done = sys.exception(), f"{len(trainer.history)} of {trainer.epochs} epochs are done."
        error = None if error is self._before else error
        place = f"in epoch {trainer.epoch} after {trainer.batch} batches"
        if interrupted := trainer.interrupted or isinstance(error, KeyboardInterrupt):
            status = f"Interrupted {place}; {done}"
        elif error is not None:
            status = f"Failed {place}; {done}\n{type(error).__name__}: {error}"
        else:
            status = f"Stopped: {trainer.stop}. {done}" if trainer.stop else f"Finished: {done}"

        def findings() -> Any:
            from fastnn.train.diagnosis import diagnose

            return diagnose(trainer.model, trainer.data, validation=trainer.validation, loss=trainer.task,
                            optimizer=trainer.optimizer)

        data = trainer.validation if self.data is None else self.data
        classes = getattr(getattr(data, "dataset", data), "classes", None) if self.classes is None else self.classes
        report(self.path, trainer.history, trainer.evaluation_model, data, trainer.task, classes, self.show,
               trainer.config, findings if self.diagnosis and not interrupted else (), status,
               interrupted or error is not None)
