"""Pictures of a run and of a network by matplotlib (`pip install 'fastnn[plot]'`). Each function returns a Figure, to
be written by its `savefig`: no window opens, no backend is chosen, and pyplot's state stays as it is. Nothing here
changes a model, a run or the stream of random numbers."""
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

from fastnn import backend, nn
from fastnn.errors import ShapeError, require
from fastnn.nn.parameter import evaluation
from fastnn.tensor import Tensor, as_tensor

COURSE = "epoch", "seconds", "samples_per_second"  # figures that tell nothing of how well it went
SHOWN = 30  # classes: a matrix of more has no names and no numbers


@contextmanager
def watching(model: nn.Module, loader: Any = None) -> Iterator[ExitStack]:
    """Evaluation mode, no tape; afterwards random numbers and the passes that `loader` counts are as before."""
    with evaluation(model), ExitStack() as stack:
        for generator in backend.generator, getattr(loader, "generator", None):
            if isinstance(generator, np.random.Generator):
                stack.callback(setattr, generator.bit_generator, "state", generator.bit_generator.state)
        if hasattr(loader, "epoch"):
            stack.callback(setattr, loader, "epoch", loader.epoch)
        yield stack


def figure_of(panels: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure and its axes, in rows of `columns`, each of `width`×`height` inches."""
    columns = min(columns, panels)
    rows, module = -(-panels // columns), require("matplotlib.figure", "plot", "plots")
    figure = module.Figure((width * columns, height * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]


def as_images(images: Any) -> np.ndarray:
    """Images (N, C, H, W), C = 1 or 3, as bytes (N, H, W, 3); of floats the range of each is spread to 0 … 255."""
    a = as_tensor(images).array
    if a.ndim != 4 or a.shape[1] not in (1, 3) or 0 in a.shape:
        raise ShapeError(f"images must be (N, C, H, W) with 1 or 3 channels, but {a.shape} came")
    if a.dtype != np.uint8:
        a = np.where(np.isfinite(a), a, 0).astype(np.float64)
        low, high = (f(a, (1, 2, 3), keepdims=True) for f in (np.min, np.max))
        a = (255 * ((a - low) / np.where(high > low, high - low, 1))).round().astype(np.uint8)
    return np.broadcast_to(a.transpose(0, 2, 3, 1), (len(a), *a.shape[2:], 3))


def tile(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Images (N, H, W, 3), bytes, as one, (H', W', 3), in rows of `columns` with white lines between."""
    n, h, w, _ = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    grid = np.full((rows * columns, h + 1, w + 1, 3), 255, np.uint8)
    grid[:n, :h, :w] = images
    return grid.reshape(rows, columns, h + 1, w + 1, 3).swapaxes(1, 2).reshape(rows * (h + 1), -1, 3)[:-1, :-1]


def plot_curves(history: Any) -> Any:
    """The figures of a fit over its epochs, a panel each: loss, metrics, rate; of training and of validation."""
    names = [name for name in history.columns
             if history[name].ndim == 1 and name not in COURSE and not name.startswith("val_")]
    if not names:
        raise ValueError("plot_curves: the history has no epochs")
    figure, axes = figure_of(len(names), 3, 4, 3)
    for axis, name in zip(axes, names, strict=True):
        for key, label in (name, "training"), (f"val_{name}", "validation"):
            if key in history:
                axis.plot(history["epoch"], history[key], ".-" if len(history) < 30 else "-", label=label)
        axis.set(title=name, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(alpha=0.3)
        if f"val_{name}" in history:
            axis.legend()
    return figure


def plot_activations(model: nn.Module, x: Any, layers: int = 16) -> Any:
    """Histograms of what the layers of `model` give for the batch `x`, an input or a tuple of them, in evaluation mode:
    their mean and standard deviation, and the share of zeros. Of more than `layers` layers, some from first to last."""
    found: dict[str, tuple] = {}

    def note(name: str, module: nn.Module, args: tuple, output: Any) -> None:
        if isinstance(output, Tensor) and output.dtype.kind == "f" and output.numel() and name not in found:
            a = output.array.astype(np.float64)
            good, zeros = a[np.isfinite(a)], (a == 0).mean()
            text = f"{name}: {type(module).__name__}\nmean {a.mean():.3g}, std {a.std():.3g}, {zeros:.0%} zero"
            found[name] = text, *np.histogram(good, 50)

    with watching(model) as hooks, np.errstate(all="ignore"):
        for name, module in model.named_modules():
            if not any(module.children()) and not isinstance(module, nn.Identity | nn.Flatten):
                hooks.enter_context(module.register_forward_hook(partial(note, name)))
        model(*map(as_tensor, x if isinstance(x, tuple) else (x,)))
    if not found:
        raise ValueError("plot_activations: no layer of the model gave a tensor of floats")
    kept = [[*found.values()][i] for i in np.unique(np.linspace(0, len(found) - 1, layers).round().astype(int))]
    figure, axes = figure_of(len(kept), 4, 3.2, 2.4)
    for axis, (text, counts, edges) in zip(axes, kept, strict=True):
        axis.stairs(counts, edges, fill=True)
        axis.set_title(text, fontsize=8)
        axis.set_yticks([])
    return figure


def plot_filters(model: nn.Module, shape: Sequence[int] | None = None, limit: int = 64) -> Any:
    """The weights of the first convolution as images, each in its own range: a filter of 1 or 3 input channels, of more
    a channel of a filter. Without a convolution, those of the first Linear layer, whose inputs are images of `shape`,
    (C, H, W). At most `limit` of them. ValueError if there is neither."""
    layers = [m for kind in (nn.Conv2d, nn.Linear) for m in model.modules() if isinstance(m, kind)]
    weight: Any = layers[0].weight.array if layers else np.empty(0)
    if weight.ndim == 4 and weight.shape[1] not in (1, 3):
        weight = weight.reshape(-1, 1, *weight.shape[2:])
    elif weight.ndim == 2 and shape is not None and weight.shape[1] == np.prod(shape):
        weight = weight.reshape(-1, *shape)
    if weight.ndim != 4:
        raise ValueError("plot_filters: the model needs a Conv2d, or a first Linear with as many inputs as there are "
                         f"numbers in `shape`, (C, H, W), but a weight of {weight.shape} and the shape {shape} came")
    image = tile(as_images(weight[:limit]))
    figure, (axis,) = figure_of(1, 1, 5, 5 * image.shape[0] / image.shape[1] + 0.4)
    axis.imshow(image, interpolation="nearest")
    axis.set_title(f"{min(limit, len(weight))} of {len(weight)} filters, {weight.shape[2]}×{weight.shape[3]}")
    axis.axis("off")
    return figure


def plot_confusion(matrix: Any, classes: Sequence[Any] | None = None) -> Any:
    """How many samples of each class (row) were taken for which (column), (K, K); dark is a large share of the row."""
    a = np.asarray(matrix)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not a.size or a.dtype.kind not in "iuf":
        raise ShapeError(f"plot_confusion: the matrix must be numbers (K, K), but {a.dtype} {a.shape} came")
    if classes is not None and len(classes) != len(a):
        raise ValueError(f"plot_confusion: the matrix has {len(a)} classes, but {len(classes)} names came")
    side, share = 2.5 + 0.35 * min(len(a), SHOWN), a / np.maximum(a.sum(1, keepdims=True), 1)
    figure, (axis,) = figure_of(1, 1, side, side)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted", ylabel="true")
    if len(a) <= SHOWN:
        names = [f"{c!s:.20}" for c in (range(len(a)) if classes is None else classes)]
        axis.set_xticks(range(len(a)), names, rotation=90 if max(map(len, names)) > 2 else 0, parse_math=False)
        axis.set_yticks(range(len(a)), names, parse_math=False)
        for (i, j), n in np.ndenumerate(a):
            if n:
                axis.text(j, i, f"{n:g}", ha="center", va="center", fontsize=7, color="w" if share[i, j] > 0.5 else "k")
    return figure


def plot_lr_range(rates: Any, losses: Any, suggested: float | None = None) -> Any:
    """The loss over the learning rate, (N,) each, of a range test; `suggested`: the rate to be marked."""
    rates, losses = np.asarray(rates, np.float64), np.asarray(losses, np.float64)
    if rates.ndim != 1 or rates.shape != losses.shape or not (rates > 0).all():
        raise ValueError(f"plot_lr_range: needs as many losses as positive rates, got {losses.shape} and {rates.shape}")
    figure, (axis,) = figure_of(1, 1, 6, 4)
    axis.semilogx(rates, losses)
    axis.set(xlabel="learning rate", ylabel="loss")
    if suggested is not None:
        axis.axvline(suggested, color="tab:red", linestyle="--", label=f"suggested: {suggested:.3g}")
        axis.legend()
    return figure


def plot_regression(true: Any, predicted: Any) -> Any:
    """Predicted over true numbers, and the residuals, true less predicted, over the predicted: arrays of one size."""
    true, predicted = (np.asarray(a, np.float64).reshape(-1) for a in (true, predicted))
    if true.shape != predicted.shape or not true.size:
        raise ShapeError(f"plot_regression: needs as many predicted as true numbers, got {predicted.size}, {true.size}")
    figure, (left, right) = figure_of(2, 2, 4.5, 4)
    for axis, x, xlabel, y, ylabel in ((left, true, "true", predicted, "predicted"),
                                       (right, predicted, "predicted", true - predicted, "true − predicted")):
        axis.scatter(x, y, s=20, alpha=0.6, linewidths=0)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.locator_params(nbins=5)
    left.axline((true.mean(),) * 2, slope=1, color="gray", linewidth=1)
    right.axhline(0, color="gray", linewidth=1)
    return figure
