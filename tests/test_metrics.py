"""Figures of merit, against sums by hand and NumPy."""
import math
import os

import numpy as np
import pytest

import fastnn
from fastnn import nn
from fastnn.errors import ShapeError
from fastnn.train import (
    F1,  # fmt: skip
    MAE,
    MSE,
    R2,
    Accuracy,
    Checkpoint,
    ConfusionMatrix,
    Metric,
    Precision,
    Recall,
    TopK,
    Trainer,
)

SCORES = np.array([[3, 1, 2], [0, 2, 1], [1, 2, 0], [5, 4, 6], [1, 1, 0]], np.float32)
LABELS = np.array([0, 1, 0, 0, 1])  # predicted: 0 1 1 2 0


def compute(metric, outputs=SCORES, targets=LABELS, size=2):
    metric.reset()
    for i in range(0, len(targets), size):
        metric.update(fastnn.tensor(outputs[i : i + size]), fastnn.tensor(targets[i : i + size]))
    return metric.compute()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_by_hand(size):
    assert compute(Accuracy(), size=size) == 2 / 5
    assert compute(TopK(1), size=size) == 2 / 5
    np.testing.assert_array_equal(compute(ConfusionMatrix(), size=size), [[1, 1, 1], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(compute(Precision(None), size=size), [1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(compute(Recall(None), size=size), [1 / 3, 1 / 2, 0])
    np.testing.assert_allclose(compute(F1(None), size=size), [2 / 5, 1 / 2, 0])
    assert compute(F1(), size=size) == pytest.approx(0.9 / 3)
    assert compute(F1("weighted"), size=size) == pytest.approx((3 * 0.4 + 2 * 0.5) / 5)
    assert compute(Precision("micro"), size=size) == pytest.approx(2 / 5)


def test_top2_by_hand():
    ranks = [0, 0, 1, 1, 1]  # of the labels' scores; of equal scores the first counts
    for k in 1, 2, 3:
        assert compute(TopK(k)) == np.mean(np.array(ranks) < k)
    assert compute(TopK(2), np.array([[np.nan, 1.0]]), np.array([0])) in (0.0, 1.0)


def test_classes_that_do_not_occur_do_not_count():
    scores, labels = np.eye(4, dtype=np.float32)[[0, 1]], np.array([0, 1])
    assert compute(F1(), scores, labels) == compute(Recall(), scores, labels) == 1


def test_one_score_a_sample_and_ignored_labels():
    scores, labels = np.array([-1.0, 2.0, 3.0]), np.array([0, 1, 0])
    for outputs, targets in ((scores, labels), (scores[:, None], labels), (scores[:, None], labels[:, None] * 1.0)):
        assert compute(Accuracy(), outputs, targets) == pytest.approx(2 / 3)
        np.testing.assert_array_equal(compute(ConfusionMatrix(), outputs, targets), [[1, 1], [0, 1]])
    some = np.array([0, -100, 0, 0, 1])
    assert compute(Accuracy(), targets=some) == 1 / 4
    assert compute(TopK(3), targets=some) == 1
    assert compute(ConfusionMatrix(), targets=some).sum() == 4


def test_scores_of_pixels(rng):
    scores, labels = rng.standard_normal((4, 3, 5, 6)), rng.integers(0, 3, (4, 5, 6))
    assert compute(Accuracy(), scores, labels) == pytest.approx((scores.argmax(1) == labels).mean())
    assert compute(TopK(1), scores, labels) == pytest.approx((scores.argmax(1) == labels).mean())
    assert compute(ConfusionMatrix(), scores, labels).sum() == 120


def test_errors_of_regression(rng):
    found, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 3))
    assert compute(MSE(), found, y, 6) == pytest.approx(((found - y) ** 2).mean(), rel=1e-6)
    assert compute(MAE(), found, y, 6) == pytest.approx(abs(found - y).mean(), rel=1e-6)
    by_hand = 1 - ((found - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    assert compute(R2(), found, y, 6) == pytest.approx(by_hand.mean(), rel=1e-6)
    assert compute(MSE(), found[:, :1], y[:, 0]) == pytest.approx(((found - y)[:, 0] ** 2).mean(), rel=1e-6)


def test_nothing_to_score():
    for metric in Accuracy(), TopK(), F1(), ConfusionMatrix(), MSE(), R2():
        assert math.isnan(metric.compute())
    assert math.isnan(compute(R2(), np.ones((3, 1)), np.ones((3, 1))))


def test_mistakes():
    with pytest.raises(ValueError, match="average must be macro, weighted, micro or None, got 'mean'"):
        F1("mean")
    for k in 0, 1.5, True:
        with pytest.raises(ValueError, match="TopK: k must be a positive int"):
            TopK(k)
    with pytest.raises(ShapeError, match=r"outputs \(2, 3\) do not fit the targets \(2, 1\)"):
        Accuracy().update(fastnn.zeros(2, 3), fastnn.zeros(2, 1))
    with pytest.raises(ValueError, match="scores of 3 classes, but the label 3 came"):
        ConfusionMatrix().update(fastnn.zeros(2, 3), fastnn.tensor([0, 3]))
    with pytest.raises(ValueError, match="TopK: there are scores of 3 classes"):
        TopK().update(fastnn.zeros(2, 3), fastnn.tensor([0, 3]))
    with pytest.raises(ShapeError, match=r"gives \(2, 3\), but the targets are \(2,\)"):
        MSE().update(fastnn.zeros(2, 3), fastnn.zeros(2))


@pytest.mark.parametrize("kind", [float, np.float32, np.int64, np.array, fastnn.tensor])
def test_an_own_metric_may_be_any_kind_of_number(tmp_path, kind):
    class Share(Metric):
        name = "share"

        def __init__(self):
            pass

        def sums(self, outputs, targets):
            return 0.1

        def score(self, total):
            return kind(total)

    def run(epochs, resume=None):
        model = nn.Linear(2, 3)
        return Trainer(2).fit(model, (np.ones((6, 2), np.float32), np.arange(6) % 3), epochs=epochs, metrics=[Share()],
                              callbacks=[Checkpoint(tmp_path, every_steps=1)], resume=resume)

    run(1)
    os.unlink(tmp_path / "checkpoint-0001-00000003.safetensors")
    (found,) = run(1, tmp_path)["share"].tolist()  # as saved after two batches
    assert found == np.asarray(kind(np.array(0.1 + 0.1 + 0.1))).item()
