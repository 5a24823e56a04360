"""What a network is trained for."""
import math

import numpy as np
import pytest

import fastnn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.data import DataLoader, TensorDataset
from fastnn.errors import ShapeError
from fastnn.train import R2, Classification, Regression, Trainer, evaluate
from fastnn.train.task import as_task


def test_evaluate_by_hand():
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.5))
    scores = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], np.float32))
    loader = DataLoader(TensorDataset(scores, np.array([0, 1, 1])), batch_size=2)
    found = evaluate(model, loader)
    assert list(found) == ["loss", "accuracy"]
    assert found["loss"] == pytest.approx(-(math.log(0.5) + math.log(0.8) + math.log(0.2)) / 3, rel=1e-6)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert evaluate(model, loader.dataset) == evaluate(model, (scores, np.array([0, 1, 1]))) == pytest.approx(found)
    assert model.training
    model.eval()
    evaluate(model, loader)
    assert not model.training
    assert all(map(math.isnan, evaluate(model, []).values()))


def test_label_smoothing_is_for_training_alone():
    task, scores, labels = Classification(0.2), fastnn.tensor([[2.0, 0.0]]), fastnn.tensor([0])
    plain = math.log(1 + math.exp(-2))
    assert task.error(scores, labels).item() == pytest.approx(plain, rel=1e-6)
    assert task.loss(scores, labels).item() == pytest.approx(plain + 0.1 * 2, rel=1e-6)
    assert evaluate(nn.Identity(), (scores, labels), task)["loss"] == pytest.approx(plain, rel=1e-6)


def test_regression_by_hand():
    task = Regression(mean=10.0, std=2.0)
    outputs, targets = fastnn.tensor([[0.0], [1.0], [-1.0]]), fastnn.tensor([[11.0], [12.0], [5.0]])
    assert task.answers(outputs).tolist() == [[10.0], [12.0], [8.0]]
    assert task.loss(outputs, targets).item() == pytest.approx((0.5**2 + 0 + 1.5**2) / 3)
    score = evaluate(nn.Identity(), DataLoader(TensorDataset(outputs, targets)), task)
    mean = 28 / 3
    spread = (11 - mean) ** 2 + (12 - mean) ** 2 + (5 - mean) ** 2
    assert score == pytest.approx({"loss": 2.5 / 3, "mse": 10 / 3, "mae": 4 / 3, "r2": 1 - 10 / spread})
    with pytest.raises(ShapeError, match=r"gives \(3, 1\), but the targets are \(3, 2\)"):
        task.loss(outputs, fastnn.zeros(3, 2))
    assert task.loss(outputs, targets.flatten()).item() == task.loss(outputs, targets).item()
    assert all(map(math.isnan, evaluate(nn.Linear(2, 1), [], task).values()))
    assert math.isnan(evaluate(nn.Identity(), (outputs[:1], targets[:1]), task)["r2"])


def test_regression_of_several_numbers(rng):
    y = (rng.standard_normal((50, 2)) * [1, 100] + [5, -300]).astype(np.float32)
    task = Regression(y.mean(0), y.std(0))
    outputs = fastnn.from_numpy(((y - y.mean(0)) / y.std(0) + 0.1).astype(np.float32))
    assert task.loss(outputs, fastnn.from_numpy(y)).item() == pytest.approx(0.01, rel=1e-4)
    np.testing.assert_allclose(task.answers(outputs).numpy(), y + 0.1 * y.std(0), rtol=1e-5)


def test_r2_keeps_its_digits_far_from_zero(rng):
    y = rng.standard_normal((1000, 1)) + 1e8
    task = Regression(1e8, 1.0)
    outputs = fastnn.from_numpy(y - 1e8 + 0.1 * rng.standard_normal((1000, 1)))
    r2, answers = R2(), task.answers(outputs)
    for part in range(0, 1000, 128):
        r2.update(answers[part : part + 128], fastnn.from_numpy(y[part : part + 128]))
    answers = answers.numpy()
    assert r2.compute() == pytest.approx(1 - ((answers - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-9)


def test_regression_learns_whatever_the_unit(rng):
    x = rng.standard_normal((256, 3), np.float32)
    y = (1e6 + 1e4 * (x @ np.array([[1.0], [-2.0], [0.5]]))).astype(np.float32)
    model, task = nn.Linear(3, 1), Regression(float(y.mean()), float(y.std()))
    adam = fastnn.optim.Adam(model.parameters(), 0.05)
    history = Trainer(batch_size=32).fit(model, (x, y), (x, y), 12, adam, loss=task)
    assert history["val_r2"][-1] > 0.999
    assert history["val_mae"][-1] < 500


def test_labels_may_be_probabilities():
    scores = fastnn.tensor([[2.0, 0.0], [0.0, 1.0]])
    soft = fastnn.tensor([[0.9, 0.1], [0.6, 0.4]])
    score = evaluate(nn.Identity(), (scores, soft), Classification())
    assert score["accuracy"] == 0.5
    logs = scores.numpy() - np.log(np.exp(scores.numpy()).sum(1, keepdims=True))
    assert score["loss"] == pytest.approx(-(soft.numpy() * logs).sum() / 2, rel=1e-6)


def test_views_are_combined_by_the_mean_of_their_probabilities(rng):
    views = [fastnn.from_numpy(10 * rng.standard_normal((4, 3))) for _ in range(5)]
    task = Classification()
    combined = task.answers(task.combine(views)).numpy()
    np.testing.assert_allclose(combined, np.mean([task.answers(view).numpy() for view in views], 0), rtol=1e-12)
    far = [fastnn.tensor([[1000.0, 0.0]]), fastnn.tensor([[0.0, 1000.0]])]
    np.testing.assert_allclose(task.answers(task.combine(far)).numpy(), [[0.5, 0.5]])
    np.testing.assert_allclose(Regression().combine(views).numpy(), np.mean([v.numpy() for v in views], 0))


def test_the_task_that_targets_suggest():
    assert as_task(None, np.zeros(1, np.int64)).name == "classification"
    assert as_task(None, np.zeros(1, np.float32)).name == "regression"
    assert [m.name for m in as_task(F.cross_entropy, np.zeros(1, np.int64)).metrics()] == ["accuracy"]
    assert as_task(F.mse_loss, np.zeros(1)).metrics() == []
    with pytest.raises(TypeError, match="loss must be a function of .* or a task, got a float"):
        as_task(0.5, np.zeros(1))


def test_evaluate_restores_training_after_an_error():
    class Broken(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError

    model = Broken()
    with pytest.raises(ZeroDivisionError):
        evaluate(model, (np.zeros((1, 1)), np.zeros(1, int)))
    assert model.training
