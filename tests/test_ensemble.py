"""Ensembles of modules and of saved predictors; snapshots at the ends of cycles."""

import types

import numpy as np
import pytest
from harness import close

import fastnn
from fastnn import nn
from fastnn.train import Ensemble, Predictor, Regression, SnapshotEnsemble, evaluate


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_average_of_modules(rng):
    models = [nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)) for _ in range(3)]
    x = fastnn.tensor(rng.standard_normal((5, 4)).astype("float32"))
    scores = [model[0](x).detach().numpy().astype(float) for model in models]
    close(fastnn.softmax(Ensemble(models)(x), 1), np.mean([softmax(s) for s in scores], axis=0))
    close(Ensemble(models, "logits")(x), np.mean(scores, axis=0))
    ensemble = Ensemble(models)
    assert not models[0].training and len(list(ensemble.parameters())) == 6
    twin = Ensemble([nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)) for _ in range(3)])
    twin.load_state_dict(ensemble.state_dict())
    close(twin(x), ensemble(x).array)


def test_an_ensemble_is_scored_as_a_model_is(rng):
    model = nn.Linear(4, 3)
    batches = [(fastnn.tensor(rng.standard_normal((6, 4)).astype("float32")), fastnn.tensor(rng.integers(0, 3, 6)))]
    assert evaluate(Ensemble([model] * 2), batches) == pytest.approx(evaluate(model, batches), rel=1e-5)


def test_average_of_predictors(tmp_path, rng):
    x = rng.random((4, 6)).astype("float32")
    predictors = [Predictor("mlp", (6,), 3) for _ in range(2)]
    for i, predictor in enumerate(predictors):
        predictor.save(tmp_path / f"{i}.safetensors")
    ensemble = Ensemble([tmp_path / "0.safetensors", str(tmp_path / "1.safetensors")])
    expected = np.mean([predictor(x).array for predictor in predictors], axis=0)
    close(fastnn.softmax(ensemble(fastnn.tensor(x)), 1), expected)
    close(fastnn.softmax(Ensemble([predictors[0], tmp_path / "1.safetensors"])(fastnn.tensor(x)), 1), expected)
    numbers = [Predictor("mlp", (6,), 1, Regression(mean, std)) for mean, std in ((2.0, 3.0), (-1.0, 0.5))]
    expected = np.mean([predictor(x).array for predictor in numbers], axis=0)
    close(Ensemble(numbers, "logits")(fastnn.tensor(x)), expected, tol=1e-5)


def test_snapshots_by_count():
    model = nn.Linear(2, 1)
    snapshots = SnapshotEnsemble(model, 3, keep=2, average="logits")
    ended, kept = [], []
    for i in range(10):
        nn.init.constant_(model.weight, i)
        ended.append(snapshots.step())
        kept = [m.weight.array[0, 0] for m in snapshots.models]
    assert ended == [False, False, True] * 3 + [False] and kept == [5.0, 8.0]
    nn.init.zeros_(model.bias)
    x = fastnn.ones(1, 2)
    biases = [m.bias.item() for m in snapshots.models]
    assert snapshots(x).item() == pytest.approx((10 + 16 + sum(biases)) / 2, rel=1e-6)
    assert model.training and not snapshots.models[0].training and len(list(snapshots.parameters())) == 4


def test_snapshots_by_schedule():
    """The end of a cycle is where the schedule starts the next."""
    schedule, T = types.SimpleNamespace(T_cur=0), iter([1, 2, 0, 1, 2, 3, 4, 5, 0])
    snapshots = SnapshotEnsemble(nn.Linear(2, 1), schedule)
    ended = []
    for schedule.T_cur in T:
        ended.append(snapshots.step())
    assert [i for i, end in enumerate(ended) if end] == [2, 8] and len(snapshots.models) == 2


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match="'probabilities' or 'logits', but 'votes' came"):
        Ensemble([nn.Linear(1, 1)], "votes")
    with pytest.raises(RuntimeError, match="SnapshotEnsemble: there is no model yet"):
        SnapshotEnsemble(nn.Linear(1, 1), 2)(fastnn.ones(1, 1))
    for cycle, keep in ((0, 5), (3, 0)):
        with pytest.raises(ValueError, match="cycle and keep must be positive"):
            SnapshotEnsemble(nn.Linear(1, 1), cycle, keep)
    with pytest.raises(OSError):
        Ensemble([tmp_path / "missing.safetensors"])
