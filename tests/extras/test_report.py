"""The report of a run: what is in it, that it is whole and needs nothing from outside. In a browser: browser.py."""

import base64
import io
import os
import re
import signal
from html.parser import HTMLParser
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import fastnn
from fastnn import backend, data, nn, optim
from fastnn.data import DataLoader, TensorDataset, source
from fastnn.data.preprocess import Standardize
from fastnn.data.transforms import Compose, ToFloat
from fastnn.train import Callback, Regression, Trainer, logs
from fastnn.train.report import Answers, Report, report
from fastnn.train.trainer import History

pytest.importorskip("matplotlib")
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Sections by title: their text, the cells of their tables, their images; every tag must be closed."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.texts, self.cells, self.images, self.open, self.title, self.rest = {}, {}, {}, [], "", ""
        self.feed(self.source)
        assert not self.open
        assert len(self.source) < 1_500_000
        assert not re.findall(r"(?:src|href)=\"(?!data:)|https?://|<script|@import|url\(", self.source)

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.title = None
        if tag == "tr":
            self.cells.setdefault(self.title, []).append([])
        if tag == "img":
            self.images.setdefault(self.title, []).append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "h2":
            self.title = text
            self.texts[text] = ""
        elif self.title:
            self.texts[self.title] += text
        else:
            self.rest += text
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[self.title][-1].append(text)

    def image(self, title, i=0):
        kind, text = self.images[title][i].removeprefix("data:image/").split(";base64,")
        raw = base64.b64decode(text)
        return raw if kind == "svg+xml" else np.asarray(Image.open(io.BytesIO(raw)))


def digits(n=300, transform=None):
    kept, _ = source.open_data("digits", ("train", "test"))
    part = data.Subset(kept, np.arange(n))
    return DataLoader(part, 64, transform=transform or ToFloat(np.float32))


def network():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))


def test_of_a_classification(tmp_path):
    path, model, batches = tmp_path / "run.html", network(), digits()
    history = Trainer(progress=False).fit(
        model, batches, batches, 3, callbacks=[Report(path, diagnosis=False)],
        config={"model": "cnn <b>", "lr": 1e-3})
    page = Page(path)
    assert set(page.texts) == {"Configuration", "Curves", "Epochs", "Confusion matrix", "Classes",
                               "Samples of the highest loss", "Filters", "Activations", "Network", "Environment"}
    scores = "loss", "accuracy", "val_loss", "val_accuracy", "lr"
    last = ", ".join(f"{name} {history[name][-1]:.4g}" for name in scores)
    assert f"Finished.\n3 of 3 epochs are done.\n{last}\n" in page.rest
    assert page.cells["Configuration"] == [["model", "cnn <b>"], ["lr", "0.001"]]
    assert page.cells["Epochs"][0] == history.columns
    assert [row[1] for row in page.cells["Epochs"][1:]] == [f"{loss:.6g}" for loss in history["loss"]]
    environment = dict(page.cells["Environment"])
    assert environment["instruction set"] == backend.isa and environment["fastnn"] == fastnn.__version__
    assert os.uname().nodename not in re.sub("<[^>]*>", "", page.source).split()
    assert b"<svg" in page.image("Curves")
    for title in "Confusion matrix", "Filters", "Activations":
        assert min(page.image(title).shape[:2]) > 50
    # classes and samples anew, by hand
    model.eval()
    x, y = (np.concatenate([part[i].array for part in batches]) for i in (0, 1))
    scores = model(fastnn.tensor(x)).array.astype(np.float64)
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    found, losses = p.argmax(1), -np.log(p[np.arange(len(y)), y])
    for k, row in enumerate(page.cells["Classes"][1:]):
        right = ((y == k) & (found == k)).sum()
        precision, recall = right / max((found == k).sum(), 1), right / (y == k).sum()
        f1 = 2 * right / ((y == k).sum() + (found == k).sum())
        assert row == [str(k), str((y == k).sum()), *(f"{v:.6g}" for v in (precision, recall, f1))]
    worst = np.argsort(-losses, kind="stable")[:24]
    captions = re.findall(r"<figcaption>(\d) → (\d) \(([\d.]+)\), loss ([\d.]+)</figcaption>", page.source)
    assert [(int(a), int(b)) for a, b, _, _ in captions] == [(y[i], found[i]) for i in worst]
    np.testing.assert_allclose([float(c[2]) for c in captions], p[worst, found[worst]], atol=0.0051)
    np.testing.assert_allclose([float(c[3]) for c in captions], losses[worst], rtol=6e-3)
    for n, i in enumerate(worst):
        image = page.image("Samples of the highest loss", n)
        low, high = x[i].min(), x[i].max()
        np.testing.assert_allclose(image[..., 0], 255 * (x[i, 0] - low) / (high - low), atol=0.51)
    assert len(page.images["Samples of the highest loss"]) == 24


def test_names_are_text(tmp_path, rng):
    names = ["<script>alert(1)</script>", "$\\frac$", "日本 & \"x'"]
    dataset = TensorDataset(rng.standard_normal((60, 3, 5, 6), np.float32), rng.integers(0, 3, 60), classes=names)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(48, 3))
    Trainer(progress=False).fit(model, dataset, DataLoader(dataset, 20), callbacks=[
        Report(tmp_path / "run.html", diagnosis=False)], config={"$where": "</table>$title ${x}"})
    page = Page(tmp_path / "run.html")
    assert [row[0] for row in page.cells["Classes"][1:]] == names
    assert page.cells["Configuration"] == [["$where", "</table>$title ${x}"]]
    assert names[0] in page.texts["Samples of the highest loss"]
    assert page.image("Samples of the highest loss").shape == (5, 6, 3)
    assert "could not" not in page.source


def test_of_a_regression(tmp_path, rng):
    x = rng.standard_normal((200, 4), np.float32)
    y = 100 + 10 * (x @ np.array([1.0, 2, -1, 0.5], np.float32))
    task, model = Regression(100.0, 20.0), nn.Linear(4, 1)
    Trainer(progress=False).fit(model, (x, y), (x, y), 5, loss=task, optimizer=optim.Adam(model.parameters(), 0.1),
                                callbacks=[Report(tmp_path / "run.html", diagnosis=False)])
    page = Page(tmp_path / "run.html")
    assert set(page.texts) == {"Curves", "Epochs", "Predicted numbers", "Activations", "Network", "Environment"}
    answers = Answers()
    answers.ask(model, (x, y), task)
    np.testing.assert_allclose(answers.found, 100 + 20 * model(fastnn.tensor(x)).detach().array, rtol=1e-5)
    np.testing.assert_array_equal(answers.true[:, 0], y)


def test_show_makes_images_of_what_is_not(tmp_path, rng):
    raw = digits(200, Compose([ToFloat(np.float32)]))
    images = np.concatenate([x.array for x, _ in raw])
    labels = np.concatenate([y.array for _, y in raw])
    prepare = Standardize().fit(images.reshape(200, 64) + np.float32(0.1))
    flat = prepare(images.reshape(200, 64)).array
    answers = Answers(lambda x: prepare.inverse(x).reshape(len(x), 1, 8, 8))
    model = nn.Linear(64, 10)
    answers.ask(model, (flat, labels), None)
    assert answers.shape == (1, 8, 8) and len(answers.worst) == 24
    report(tmp_path / "run.html", History(), model, (flat, labels), show=answers.show)
    page = Page(tmp_path / "run.html")
    assert "Filters" in page.texts and "Samples of the highest loss" in page.texts
    report(tmp_path / "run.html", History(), model, (flat, labels))
    page = Page(tmp_path / "run.html")
    assert "Filters" not in page.texts and "Samples of the highest loss" not in page.texts
    assert "Classes" in page.texts


def test_one_score_for_two_classes():
    x = np.array([[-2.0], [1.0], [3.0]], np.float32)
    for targets in np.array([0, 0, 1]), np.array([[0], [0], [1]]):
        answers = Answers()
        answers.ask(nn.Identity(), [(fastnn.tensor(x), fastnn.tensor(targets))], lambda *_: None)
        assert answers.K == 2 and answers.found.tolist() == [0, 1, 1] and answers.true.tolist() == [0, 0, 1]


def test_ignored_labels_and_probabilities(rng):
    x = np.eye(3, dtype=np.float32)
    answers = Answers()
    answers.ask(nn.Identity(), [(fastnn.tensor(x), fastnn.tensor([0, -100, 1]))], None)
    assert answers.true.tolist() == [0, 1] and answers.found.tolist() == [0, 2]
    answers = Answers()
    answers.ask(nn.Identity(), [(fastnn.tensor(x), fastnn.tensor(x[::-1].copy()))], fastnn.train.Classification())
    assert answers.true.tolist() == [2, 1, 0] and answers.found.tolist() == [0, 1, 2]


class Fail(Callback):
    """An exception in the second epoch, or Ctrl-C."""

    def __init__(self, error):
        self.error = error

    def on_batch_end(self, trainer):
        if (trainer.epoch, trainer.batch) == (2, 1):
            if self.error is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            else:
                raise self.error


def fit(path, callbacks=(), epochs=3, model=None, **options):
    batches = digits(130)
    return Trainer(progress=False, **options).fit(
        model or network(), batches, batches, epochs, callbacks=[*callbacks, Report(path, diagnosis=False)])


@pytest.mark.parametrize(("error", "text"), [
    (OSError("no <power>"), "Failed in epoch 2 after 1 batches: OSError: no <power>\n1 of 3 epochs are done."),
    (KeyboardInterrupt, "Interrupted in epoch 2 after 1 batches.\n1 of 3 epochs are done."),
    (KeyboardInterrupt(), "Interrupted in epoch 2 after 1 batches.\n1 of 3 epochs are done.")])
def test_of_a_fit_that_breaks_off(tmp_path, error, text):
    with pytest.raises((OSError, KeyboardInterrupt)):
        fit(tmp_path / "run.html", [Fail(error)])
    page = Page(tmp_path / "run.html")
    assert text in page.rest and 'class="status bad"' in page.source
    assert len(page.cells["Epochs"]) == 2 and "Classes" in page.texts


def test_of_a_fit_within_an_exception(tmp_path):
    try:
        raise RuntimeError("elsewhere")
    except RuntimeError:
        fit(tmp_path / "run.html", epochs=1)
    assert "Finished." in Page(tmp_path / "run.html").rest


def test_of_a_fit_that_diverges(tmp_path):
    """Weights of NaN, no epoch done: all that can be shown is shown."""
    model = network()
    model[0].bias.data = fastnn.full((8,), np.nan)
    with pytest.raises(FloatingPointError):
        fit(tmp_path / "run.html", model=model)
    page = Page(tmp_path / "run.html")
    assert "FloatingPointError" in page.rest and "0 of 3 epochs" in page.rest
    assert {"Confusion matrix", "Classes", "Activations", "Filters"} <= set(page.texts) and "Curves" not in page.texts
    assert "could not" not in page.source


def test_of_a_fit_that_is_stopped(tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, trainer):
            trainer.stop = "enough & more"

    fit(tmp_path / "run.html", [Stop()])
    assert "Stopped: enough & more.\n1 of 3 epochs are done." in Page(tmp_path / "run.html").rest


def test_a_missing_folder_is_told_before_training(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        fit(tmp_path / "missing" / "run.html")


def test_what_cannot_be_made_says_why(tmp_path, monkeypatch):
    class Bad:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            raise OSError("<the disk> is gone")

    report(tmp_path / "run.html", History(), network(), Bad())
    page = Page(tmp_path / "run.html")
    assert "This could not be made: OSError: <the disk> is gone" in page.texts.get("", "") + page.rest
    assert "Filters" in page.texts
    x = np.zeros((4, 3, 6, 6), np.float32)  # a class for each pixel
    report(tmp_path / "run.html", History(), nn.Conv2d(3, 2, 1), (x, np.zeros((4, 6, 6), np.int64)))
    page = Page(tmp_path / "run.html")
    assert "one class a sample" in page.source and "Activations" in page.texts


def test_an_older_report_survives_a_failure(tmp_path, monkeypatch):
    path = tmp_path / "run.html"
    report(path, History())
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(logs.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        report(path, History(), network())
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run.html"]


def test_the_diagnosis_is_in_it(tmp_path):
    batches = digits(130)
    Trainer(progress=False).fit(network(), batches, batches, 1, callbacks=[Report(tmp_path / "run.html")])
    page = Page(tmp_path / "run.html")
    assert page.cells["Diagnosis"][0][:2] == ["name", "verdict"] and len(page.cells["Diagnosis"]) > 5
    assert "could not" not in page.source


class Finding(NamedTuple):
    name: str
    verdict: str
    found: str
    advice: str
    values: Any


def test_findings(tmp_path):
    finding = Finding("initial loss", "warning", "9 <", "", {"x": np.zeros(1000)})
    for findings in [finding], lambda: [finding]:
        report(tmp_path / "run.html", History(), findings=findings)
        page = Page(tmp_path / "run.html")
        assert page.cells["Diagnosis"] == [["name", "verdict", "found"], ["initial loss", "warning", "9 <"]]

    def broken():
        raise ValueError("no data")

    report(tmp_path / "run.html", History(), findings=broken)
    assert "ValueError: no data" in Page(tmp_path / "run.html").texts["Diagnosis"]


def test_of_a_long_run_of_many_classes_and_large_pictures_is_small(tmp_path, rng):
    history = History()
    for epoch in range(1, 3001):
        history.append({"epoch": epoch, "loss": rng.random(), "accuracy": rng.random(), "val_loss": rng.random(),
                        "val_accuracy": rng.random(), "lr": 0.1, "seconds": 1.0, "samples_per_second": 1.0})
    x = rng.integers(0, 256, (60, 3, 200, 150)).astype(np.uint8)

    class Random(nn.Module):
        def forward(self, x):
            return fastnn.tensor(rng.standard_normal((len(x), 1000)))

    report(tmp_path / "run.html", history, Random(), (x, rng.integers(0, 1000, 60)), classes=["x" * 50] * 1000)
    page = Page(tmp_path / "run.html")
    assert len(page.cells["Epochs"]) == len(page.cells["Classes"]) == 201
    assert page.cells["Epochs"][-1][0] == "3000" and page.image("Samples of the highest loss").shape == (72, 54, 3)


def test_watching_changes_no_bit(tmp_path):
    """Nor does it move what comes after: random numbers, the loader's passes, the mode, averages."""
    def run(callbacks):
        fastnn.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10))
        x, y = (np.concatenate([part[i].array for part in digits(150)]) for i in (0, 1))
        own = np.random.default_rng(4)
        validation = DataLoader(TensorDataset(x, y), 40, shuffle=True, generator=own)
        seeded = DataLoader(TensorDataset(x, y), 40, shuffle=True, generator=7)
        for loader in validation, seeded:
            history = Trainer(progress=False, ema=0.9).fit(model, (x, y), loader, 2, callbacks=callbacks)
        return ([p.array.tobytes() for p in model.state_dict().values()], history["val_loss"].tolist(), model.training,
                own.random(), seeded.epoch, fastnn.rand(3).tolist())

    assert run([]) == run([Report(tmp_path / "run.html")])
    assert "could not" not in (tmp_path / "run.html").read_text()
