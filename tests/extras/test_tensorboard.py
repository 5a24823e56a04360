"""What TensorBoard reads of a run's event files, by its own reader."""

import io
import os

import numpy as np
import pytest
from PIL import Image

import fastnn
from fastnn import nn
from fastnn.train import Accuracy, Callback, ConfusionMatrix, Trainer
from fastnn.train.logs import TensorBoard

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
PURGED = "Detected out of order event.step"


def network():
    fastnn.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 3))


def fit(callbacks, epochs=4, model=None, **options):
    rng = np.random.default_rng(0)
    data = rng.standard_normal((40, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, 40)
    metrics = [Accuracy(), ConfusionMatrix()]
    return Trainer(10, progress=False, ema=options.pop("ema", None)).fit(
        model or network(), data, (data[0][:15], data[1][:15]), epochs, metrics=metrics, callbacks=callbacks, seed=1,
        **options)


def read(folder):
    events = accumulator.EventAccumulator(str(folder), size_guidance=dict.fromkeys(
        ("scalars", "histograms", "images", "tensors", "compressedHistograms"), 0))
    return events.Reload()


def scalars(events, tag):
    return [(e.step, e.value) for e in events.Scalars(tag)]


class Losses(Callback):
    def __init__(self):
        self.values, self.weights, self.gradients = [], [], []

    def on_step(self, trainer):
        self.values.append(trainer.loss.item())

    def on_backward(self, trainer):
        if trainer.batch == 0:
            self.gradients.append(trainer.model[0].weight.grad.array.copy())

    def on_epoch_end(self, trainer):
        self.weights.append(trainer.model[0].weight.array.copy())


def test_scalars_are_those_of_the_history(tmp_path):
    losses = Losses()
    history = fit([TensorBoard(tmp_path / "run", every=3), losses])
    events = read(tmp_path / "run")
    steps = [4, 8, 12, 16]
    for tag, column in (("loss/train", "loss"), ("loss/validation", "val_loss"), ("accuracy/train", "accuracy"),
                        ("accuracy/validation", "val_accuracy"), ("lr", "lr"), ("epoch", "epoch"),
                        ("samples_per_second", "samples_per_second")):
        found = scalars(events, tag)
        assert [step for step, _ in found] == steps
        np.testing.assert_allclose([value for _, value in found], history[column], rtol=1e-6, err_msg=tag)
    found = scalars(events, "loss/batch")
    assert [step for step, _ in found] == [3, 6, 9, 12, 15]
    np.testing.assert_allclose([value for _, value in found], losses.values[2::3], rtol=1e-6)


def test_histograms(tmp_path):
    losses = Losses()
    fit([TensorBoard(tmp_path), losses])
    events = read(tmp_path)
    assert set(events.Tags()["histograms"]) == {
        f"{kind}/{name}" for kind in ("weights", "gradients") for name, _ in network().named_parameters()}
    for tag, arrays, steps in (("weights/0.weight", losses.weights, [4, 8, 12, 16]),
                               ("gradients/0.weight", losses.gradients, [1, 5, 9, 13])):
        found = events.Histograms(tag)
        assert [e.step for e in found] == steps
        for event, a in zip(found, arrays, strict=True):
            value = event.histogram_value
            assert (value.num, value.min, value.max) == (a.size, a.min(), a.max())
            assert value.sum == pytest.approx(a.sum(), rel=1e-5, abs=1e-6)
            assert sum(value.bucket) == a.size
    fit([TensorBoard(tmp_path / "plain", histograms=False)])
    assert not read(tmp_path / "plain").Tags()["histograms"]


def test_images(tmp_path):
    history = fit([TensorBoard(tmp_path, images=6)])
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {"images", "confusion_matrix/train", "confusion_matrix/validation"}
    (grid,) = events.Images("images")
    assert (grid.step, grid.width, grid.height) == (1, 6 * 5 - 1, 4)
    picture = np.asarray(Image.open(io.BytesIO(grid.encoded_image_string)))
    assert picture[:, :4].min() == 0 and picture[:, :4].max() == 255 and (picture[:, 4] == 255).all()
    matrices = events.Images("confusion_matrix/validation")
    assert [e.step for e in matrices] == [4, 8, 12, 16]
    for event, matrix in zip(matrices, history["val_confusion_matrix"], strict=True):
        picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        share = matrix / matrix.sum(1, keepdims=True)
        np.testing.assert_array_equal(picture[42::85, 42::85, 0], (255 * share).astype(np.uint8))


class Save(Callback):
    """A checkpoint after a batch; a failure later."""

    def __init__(self, path, at, fail):
        self.path, self.at, self.fail = path, at, fail

    def on_batch_end(self, trainer):
        if (trainer.epoch, trainer.batch) == self.at:
            fastnn.save(trainer.state_dict(), self.path)
        if (trainer.epoch, trainer.batch) == self.fail:
            raise RuntimeError("power failure")


@pytest.mark.parametrize("at", [(2, 4), (3, 1), (3, 2)])
def test_resuming_doubles_and_loses_no_point(tmp_path, at):
    history = fit([TensorBoard(tmp_path / "whole", every=1)])
    with pytest.raises(RuntimeError, match="power"):
        fit([TensorBoard(tmp_path / "run", every=1), Save(tmp_path / "saved", at, (4, 2))])
    resumed = fit([TensorBoard(tmp_path / "run", every=1)], resume=tmp_path / "saved")
    assert resumed["loss"].tolist() == history["loss"].tolist()
    whole, run = read(tmp_path / "whole"), read(tmp_path / "run")
    assert whole.Tags() == run.Tags()
    for tag in whole.Tags()["scalars"]:
        if tag not in ("seconds", "samples_per_second"):
            hidden = [8] if tag == "loss/batch" and at == (2, 4) else []  # with the epoch's figures, which came again
            assert scalars(run, tag) == [point for point in scalars(whole, tag) if point[0] not in hidden]
    for tag in whole.Tags()["histograms"]:
        assert [(e.step, e.histogram_value) for e in run.Histograms(tag)] == [
            (e.step, e.histogram_value) for e in whole.Histograms(tag)]


def test_a_new_run_takes_the_place_of_the_old(tmp_path):
    log = TensorBoard(tmp_path, every=1)
    fit([log], epochs=4)
    history = fit([log], epochs=2)
    assert len(os.listdir(tmp_path)) == 2
    events = read(tmp_path)
    assert [step for step, _ in scalars(events, "loss/train")] == [4, 8]
    assert len(scalars(events, "loss/batch")) == 8
    np.testing.assert_allclose([value for _, value in scalars(events, "loss/train")], history["loss"], rtol=1e-6)


def test_watching_changes_no_bit(tmp_path):
    plain, watched = network(), network()
    a = fit([], model=plain, ema=0.9)
    b = fit([TensorBoard(tmp_path, every=1, images=3)], model=watched, ema=0.9)
    for name in "loss", "val_loss":
        assert a[name].tolist() == b[name].tolist()
    for p, q in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert p.array.tobytes() == q.array.tobytes()


def test_what_is_written_survives_a_failure(tmp_path):
    """Without any closing of files: what was there at the end of an epoch."""
    class Look(Callback):
        def on_epoch_end(self, trainer):
            assert len(scalars(read(tmp_path), "loss/train")) == trainer.epoch

    fit([TensorBoard(tmp_path, histograms=False), Look()])


def test_weights_that_are_not_finite(tmp_path):
    model = network()
    model[0].bias.data = fastnn.tensor([np.nan, np.inf])
    with pytest.raises(FloatingPointError):
        fit([TensorBoard(tmp_path, images=2)], model=model)
    assert "gradients/0.weight" not in read(tmp_path).Tags()["histograms"]


@pytest.mark.parametrize("options", [{"every": 0}, {"every": 2.5}, {"images": -1}, {"images": True}])
def test_arguments(tmp_path, options):
    with pytest.raises(ValueError, match=f"TensorBoard: {next(iter(options))} must be an int"):
        TensorBoard(tmp_path, **options)


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"TensorBoard needs tensorboardX: pip install 'fastnn\[tensorboard\]'"):
        TensorBoard(tmp_path)
