"""Figures of merit against scikit-learn's."""
import numpy as np
import pytest
from sklearn import metrics as sk

import fastnn
from fastnn.train import F1, MAE, MSE, R2, Accuracy, ConfusionMatrix, Precision, Recall, TopK


def compute(metric, outputs, targets):
    for i in range(0, len(targets), 33):
        metric.update(fastnn.tensor(outputs[i : i + 33]), fastnn.tensor(targets[i : i + 33]))
    return metric.compute()


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize("classes", [2, 7])
def test_classes(rng, classes, average):
    scores, labels = rng.standard_normal((200, classes)), rng.integers(0, classes, 200)
    found = scores.argmax(1)
    for metric, f in ((F1, sk.f1_score), (Precision, sk.precision_score), (Recall, sk.recall_score)):
        np.testing.assert_allclose(compute(metric(average), scores, labels), f(labels, found, average=average))
    assert compute(Accuracy(), scores, labels) == pytest.approx(sk.accuracy_score(labels, found))
    np.testing.assert_array_equal(compute(ConfusionMatrix(), scores, labels), sk.confusion_matrix(labels, found))


@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k(rng, k):
    scores, labels = rng.standard_normal((200, 8)), rng.integers(0, 8, 200)
    expected = sk.top_k_accuracy_score(labels, scores, k=k, labels=range(8))
    assert compute(TopK(k), scores, labels) == pytest.approx(expected)


def test_classes_that_nobody_has(rng):
    scores, labels = rng.standard_normal((100, 9)), rng.integers(0, 4, 100)
    scores[:, 6:] -= 100
    found = scores.argmax(1)
    for average in "macro", "weighted":
        expected = sk.f1_score(labels, found, average=average, zero_division=0)
        assert compute(F1(average), scores, labels) == pytest.approx(expected)


def test_numbers(rng):
    found, y = rng.standard_normal((100, 3)), rng.standard_normal((100, 3))
    for metric, f in (MSE, sk.mean_squared_error), (MAE, sk.mean_absolute_error), (R2, sk.r2_score):
        assert compute(metric(), found, y) == pytest.approx(f(y, found), rel=1e-6)
