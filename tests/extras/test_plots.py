"""Pictures: what they show is read back from the figures' axes."""

import io
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import backend, nn
from fastnn.errors import ShapeError
from fastnn.train import Accuracy, ConfusionMatrix, Trainer, plots
from fastnn.train.trainer import History

pytest.importorskip("matplotlib")


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
                         nn.Linear(36, 3))


def save(figure):
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def test_curves(rng):
    data = rng.standard_normal((30, 1, 5, 5), np.float32), rng.integers(0, 3, 30)
    history = Trainer(progress=False).fit(network(), data, data, 3, metrics=[Accuracy(), ConfusionMatrix()])
    figure = plots.plot_curves(history)
    assert [axis.get_title() for axis in figure.axes] == ["loss", "accuracy", "lr"]
    for axis, names in zip(figure.axes, (["loss", "val_loss"], ["accuracy", "val_accuracy"], ["lr"]), strict=True):
        assert len(axis.lines) == len(names)
        for line, name in zip(axis.lines, names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(line.get_ydata(), history[name])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["training", "validation"]
    save(figure)
    with pytest.raises(ValueError, match="no epochs"):
        plots.plot_curves(History())


def test_curves_that_break_off():
    history = History()
    for epoch, loss in enumerate((1.0, np.inf, np.nan), 1):
        history.append({"epoch": epoch, "loss": loss, "lr": 0.1})
    save(plots.plot_curves(history))


def test_activations(rng):
    model, x = network(), rng.standard_normal((6, 1, 5, 5), np.float32)
    model(fastnn.tensor(x))
    before = {name: t.array.tobytes() for name, t in model.state_dict().items()}
    state = backend.generator.bit_generator.state
    figure = plots.plot_activations(model, x)
    assert model.training and backend.generator.bit_generator.state == state
    assert before == {name: t.array.tobytes() for name, t in model.state_dict().items()}
    assert not any(m._forward_hooks for m in model.modules())
    titles = [axis.get_title() for axis in figure.axes]
    assert [title.split("\n")[0] for title in titles] == [
        "0: Conv2d", "1: BatchNorm2d", "2: ReLU", "3: Dropout", "5: Linear"]
    model.eval()
    a = model[:3](fastnn.tensor(x)).array
    assert f"mean {a.mean():.3g}, std {a.std():.3g}, {(a == 0).mean():.0%} zero" in titles[2]
    counts, edges, _ = figure.axes[2].patches[0].get_data()
    np.testing.assert_array_equal(counts, np.histogram(a, 50)[0])
    assert edges[-1] == pytest.approx(a.max())
    save(figure)


def test_activations_of_many_layers_and_of_nan(rng):
    x = rng.standard_normal((4, 3), np.float32)
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(40)])
    titles = [axis.get_title() for axis in plots.plot_activations(model, x, layers=5).axes]
    assert [title.split(":")[0] for title in titles] == ["0", "10", "20", "29", "39"]
    model[3].bias.data = fastnn.tensor([np.nan] * 3)
    save(plots.plot_activations(model, x))
    with pytest.raises(ValueError, match="no layer"):
        plots.plot_activations(nn.Identity(), x)


def test_activations_of_several_inputs(rng):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 3), nn.Embedding(5, 3)

        def forward(self, x, i):
            return self.a(x) + self.b(i)

    figure = plots.plot_activations(Two(), (rng.standard_normal((4, 2), np.float32), np.arange(4)))
    assert [axis.get_title().split("\n")[0] for axis in figure.axes] == ["a: Linear", "b: Embedding"]


@pytest.mark.parametrize(("model", "shape", "size", "title"), [
    (network(), None, (3, 15), "4 of 4 filters, 3×3"),
    (nn.Conv2d(3, 10, (2, 3)), None, (5, 31), "10 of 10 filters, 2×3"),
    (nn.Conv2d(5, 4, 3), None, (11, 31), "20 of 20 filters, 3×3"),
    (nn.Linear(12, 100), (1, 4, 3), (39, 31), "64 of 100 filters, 4×3"),
    (nn.Linear(12, 2), (3, 2, 2), (2, 5), "2 of 2 filters, 2×2")])
def test_filters(model, shape, size, title):
    figure = plots.plot_filters(model, shape)
    (axis,) = figure.axes
    image = axis.images[0].get_array()
    assert image.shape == (*size, 3) and axis.get_title() == title
    weight = next(iter(model.parameters())).array
    if weight.ndim == 4 and weight.shape[1] == 3:
        kernel = weight[1].transpose(1, 2, 0)
        scaled = 255 * (kernel - kernel.min()) / (kernel.max() - kernel.min())
        np.testing.assert_allclose(image[:2, 4:7], scaled, atol=0.51)
    save(figure)


@pytest.mark.parametrize(("model", "shape"), [(nn.ReLU(), None), (nn.Linear(4, 2), None), (nn.Linear(4, 2), (1, 2, 3))])
def test_without_filters(model, shape):
    with pytest.raises(ValueError, match="plot_filters: the model needs"):
        plots.plot_filters(model, shape)


def test_images_of_any_range_and_layout(rng):
    x = rng.standard_normal((3, 2, 4, 3), np.float32).transpose(0, 3, 1, 2)  # channels last in memory
    images = plots.as_images(fastnn.tensor(x))
    assert images.shape == (3, 2, 4, 3) and images.dtype == np.uint8
    assert (images.min((1, 2, 3)) == 0).all() and (images.max((1, 2, 3)) == 255).all()
    low, high = x[1].min(), x[1].max()
    np.testing.assert_allclose(images[1], 255 * (x[1].transpose(1, 2, 0) - low) / (high - low), atol=0.51)
    raw = rng.integers(3, 9, (2, 1, 4, 5)).astype(np.uint8)
    np.testing.assert_array_equal(plots.as_images(raw)[..., 2], raw[:, 0])
    assert (plots.as_images(np.full((1, 1, 2, 2), 7.0)) == 0).all()
    assert plots.as_images(np.array([[[[np.nan, 1.0, 2.0]]]])).tolist()[0][0] == [[0] * 3, [128] * 3, [255] * 3]
    for shape in (2, 2, 4, 4), (4, 4), (0, 1, 4, 4):
        with pytest.raises(ShapeError, match="1 or 3 channels"):
            plots.as_images(np.zeros(shape, np.float32))


def test_tiles():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    grid = plots.tile(images, 3)
    assert grid.shape == (5, 11, 3)
    assert grid[0, ::4, 0].tolist() == [0, 1, 2] and grid[3, ::4, 0].tolist() == [3, 4, 255]
    assert (grid[2] == 255).all() and (grid[:, 3] == 255).all()


def test_confusion():
    matrix = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 9]])
    figure = plots.plot_confusion(matrix, ["$\\frac$", "b<", "a_{name"])
    (axis,) = figure.axes
    np.testing.assert_allclose(axis.images[0].get_array(), [[0.8, 0.2, 0], [0, 0, 0], [0.1, 0, 0.9]])
    assert sorted((t.get_position(), t.get_text()) for t in axis.texts) == [
        ((0, 0), "8"), ((0, 2), "1"), ((1, 0), "2"), ((2, 2), "9")]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["$\\frac$", "b<", "a_{name"]
    save(figure)
    many = plots.plot_confusion(np.eye(200, dtype=int))
    assert not many.axes[0].texts
    save(many)


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.zeros(4), np.zeros((0, 0)), [["a"]]])
def test_confusion_refuses(matrix):
    with pytest.raises(ShapeError, match="plot_confusion: the matrix must be"):
        plots.plot_confusion(matrix)
    with pytest.raises(ValueError, match="2 classes, but 3 names"):
        plots.plot_confusion(np.eye(2), "abc")


def test_lr_range():
    figure = plots.plot_lr_range([1e-4, 1e-3, 1e-2], [2.0, 1.0, np.nan], 3e-4)
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [2, 1, np.nan])
    assert axis.lines[1].get_xdata() == [3e-4, 3e-4]
    save(figure)
    for rates, losses in ([1, 2], [1]), ([0, 1], [1, 2]), ([[1.0]], [[1.0]]):
        with pytest.raises(ValueError, match="plot_lr_range"):
            plots.plot_lr_range(rates, losses)


def test_regression(rng):
    y, found = rng.standard_normal((2, 20))
    figure = plots.plot_regression(y, found[:, None])
    left, right = figure.axes
    np.testing.assert_allclose(left.collections[0].get_offsets(), np.stack([y, found], 1))
    np.testing.assert_allclose(right.collections[0].get_offsets(), np.stack([found, y - found], 1))
    save(figure)
    with pytest.raises(ShapeError, match="plot_regression"):
        plots.plot_regression(y, found[:3])


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_no_global_state_and_no_window():
    run("""
import sys
import numpy as np
from fastnn.train import plots
assert "matplotlib" not in sys.modules
plots.plot_confusion(np.eye(3)).savefig("/dev/null", format="png")
assert "matplotlib.pyplot" not in sys.modules""")


def test_without_the_package():
    assert run("""
import sys
class Missing:
    def find_spec(name, path=None, target=None):
        if name == "matplotlib":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing)
from fastnn.train import plots, report
for make in lambda: plots.plot_confusion([[1]]), lambda: report.Report("x.html"), lambda: report.report("x.html", None):
    try:
        make()
    except ImportError as error:
        print(error)""").splitlines() == [
        f"{name} needs matplotlib: pip install 'fastnn[plot]'" for name in ("plots", "Report", "Report")]
