"""The training loop and what a network is trained for."""

import math

import numpy as np
import pytest

import fastnn
from fastnn import nn, optim
from fastnn.data import DataLoader, TensorDataset
from fastnn.errors import ShapeError
from fastnn.train import Accuracy, Classification, Deviation, Regression, evaluate, fit


def test_evaluate_by_hand():
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.5))
    scores = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], np.float32))
    loader = DataLoader(TensorDataset(scores, np.array([0, 1, 1])), batch_size=2)
    loss, right = evaluate(model, loader)
    assert loss == pytest.approx(-(math.log(0.5) + math.log(0.8) + math.log(0.2)) / 3, rel=1e-6)
    assert right == pytest.approx(2 / 3)
    assert model.training
    model.eval()
    evaluate(model, loader)
    assert not model.training
    assert all(map(math.isnan, evaluate(model, [])))


def test_fit_returns_what_it_prints(capsys, rng):
    x = rng.standard_normal((40, 3), np.float32)
    dataset = TensorDataset(x, (x[:, 0] > 0).astype(np.int64))
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters(), 0.1)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    training = DataLoader(dataset, 16, shuffle=True, drop_last=True)
    history = fit(model, optimizer, training, DataLoader(dataset, 7), 3, schedule)
    assert capsys.readouterr().out.splitlines() == [str(epoch) for epoch in history]
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert history[-1].validation.loss < history[0].validation.loss
    assert history[-1].validation == evaluate(model, DataLoader(dataset, 7))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 8)


def test_a_schedule_may_step_every_batch(rng):
    dataset = TensorDataset(rng.standard_normal((40, 3), np.float32), np.zeros(40, np.int64))
    optimizer = optim.SGD((model := nn.Linear(3, 2)).parameters(), 0.1)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    fit(model, optimizer, DataLoader(dataset, 16), DataLoader(dataset, 16), 2, schedule, per_batch=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 2**6)


def test_regression_by_hand():
    task = Regression(mean=10.0, std=2.0)
    outputs, targets = fastnn.tensor([[0.0], [1.0], [-1.0]]), fastnn.tensor([[11.0], [12.0], [5.0]])
    assert task.answers(outputs).tolist() == [[10.0], [12.0], [8.0]]
    assert task.loss(outputs, targets).item() == pytest.approx((0.5**2 + 0 + 1.5**2) / 3)
    score = task.score(sum(task.sums(outputs[i : i + 1], targets[i : i + 1]) for i in range(3)))
    mean = 28 / 3
    spread = (11 - mean) ** 2 + (12 - mean) ** 2 + (5 - mean) ** 2
    assert score == pytest.approx(Deviation(10 / 3, 4 / 3, 1 - 10 / spread))
    assert str(score) == "mse 3.33333 mae 1.33333 R² 0.6512"
    with pytest.raises(ShapeError, match=r"gives \(3, 1\), but the targets are \(3, 2\)"):
        task.loss(outputs, fastnn.zeros(3, 2))
    assert task.loss(outputs, targets.flatten()).item() == task.loss(outputs, targets).item()
    assert all(map(math.isnan, evaluate(nn.Linear(2, 1), [], task)))
    assert math.isnan(task.score(task.sums(outputs[:1], targets[:1])).r2)


def test_r2_keeps_its_digits_far_from_zero(rng):
    y = rng.standard_normal((1000, 1)) + 1e8
    task = Regression(1e8, 1.0)
    outputs = fastnn.from_numpy(y - 1e8 + 0.1 * rng.standard_normal((1000, 1)))
    error, answers = task.score(task.sums(outputs, fastnn.from_numpy(y))), task.answers(outputs).numpy()
    assert error.r2 == pytest.approx(1 - ((answers - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-9)


def test_regression_learns_whatever_the_unit(rng):
    x = rng.standard_normal((256, 3), np.float32)
    y = (1e6 + 1e4 * (x @ np.array([[1.0], [-2.0], [0.5]]))).astype(np.float32)
    model, task = nn.Linear(3, 1), Regression(float(y.mean()), float(y.std()))
    batches = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    history = fit(model, optim.Adam(model.parameters(), 0.05), batches, batches, 12, task=task)
    assert history[-1].validation.r2 > 0.999
    assert history[-1].validation.mae < 500


def test_labels_may_be_probabilities():
    task, scores = Classification(), fastnn.tensor([[2.0, 0.0], [0.0, 1.0]])
    soft = fastnn.tensor([[0.9, 0.1], [0.6, 0.4]])
    score = task.score(task.sums(scores, soft))
    assert score.accuracy == 0.5
    logs = scores.numpy() - np.log(np.exp(scores.numpy()).sum(1, keepdims=True))
    assert score.loss == pytest.approx(-(soft.numpy() * logs).sum() / 2, rel=1e-6)


def test_views_are_combined_by_the_mean_of_their_probabilities(rng):
    views = [fastnn.from_numpy(10 * rng.standard_normal((4, 3))) for _ in range(5)]
    task = Classification()
    combined = task.answers(task.combine(views)).numpy()
    np.testing.assert_allclose(combined, np.mean([task.answers(view).numpy() for view in views], 0), rtol=1e-12)
    far = [fastnn.tensor([[1000.0, 0.0]]), fastnn.tensor([[0.0, 1000.0]])]
    np.testing.assert_allclose(task.answers(task.combine(far)).numpy(), [[0.5, 0.5]])
    np.testing.assert_allclose(Regression().combine(views).numpy(), np.mean([v.numpy() for v in views], 0))


def test_evaluate_restores_training_after_an_error():
    model = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError):
        evaluate(model, (1 // 0 for _ in range(1)))
    assert model.training
    assert str(Accuracy(0.5, 0.25)) == "loss 0.5000 accuracy 0.2500"
