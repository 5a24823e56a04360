"""The training loop and the command line."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import data, models, nn, optim
from fastnn.__main__ import main
from fastnn.data import DataLoader, TensorDataset
from fastnn.train import evaluate, fit


def train(capsys, *arguments):
    """Standard output of `fastnn train --data digits …`, by lines."""
    assert main(["train", "--data", "digits", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no progress bar off a terminal
    return out.splitlines()


def accuracy(lines):
    assert re.fullmatch(r"test accuracy [01]\.\d{3}", lines[-1])
    return float(lines[-1].split()[-1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_mlp_learns_the_digits(capsys, optimizer):
    lines = train(capsys, "--model", "mlp", "--epochs", 12, "--optimizer", optimizer)
    assert accuracy(lines) > 0.93
    assert len([line for line in lines if re.match(r"epoch +\d+  training loss \d", line)]) == 12
    assert "1293 images to train on, 144 to validate, 360 to test" in lines[0]


@pytest.mark.parametrize("model", ["lenet5", "cnn"])
def test_convolutional_networks_train(capsys, model):
    lines = train(capsys, "--model", model, "--epochs", 2, "--batch-size", 64)
    assert accuracy(lines) > 0.7


def test_the_same_seed_gives_the_same_run(capsys):
    arguments = ["--model", "mlp", "--epochs", 2, "--seed"]

    def figures(*more):
        return [line.split("  ")[:-1] for line in train(capsys, *arguments, *more)[1:-1]]  # without images/s

    first = figures(1)
    assert first == figures(1, "--threads", 1) != figures(2)


def test_save(capsys, tmp_path):
    path = tmp_path / "weights"
    score = accuracy(train(capsys, "--model", "mlp", "--epochs", 1, "--save", path))
    saved = fastnn.load(path)
    assert (saved["model"], saved["classes"]) == ("mlp", list(range(10)))
    model = models.mlp((1, 8, 8), 10)
    model.load_state_dict(saved["state_dict"])
    assert evaluate(model, DataLoader(data.digits(train=False), 100))[1] == pytest.approx(score, abs=6e-4)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--model", "vgg"], "invalid choice: 'vgg'"),
    (["--data", "cats"], "invalid choice: 'cats'"),
    (["--epochs", "0"], "argument --epochs: 0 is not at least 1"),
    (["--batch-size", "1.5"], "argument --batch-size: invalid int value: '1.5'"),
    (["--lr", "-1"], "-1 is not at least 0"),
    (["--lr", "nan"], "nan is not at least 0"),
    (["--threads", "0"], "0 is not at least 1"),
    (["--save", "no/such/folder/file"], "--save"),
])  # fmt: skip
def test_bad_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_rate_that_is_too_high(capsys):
    with np.errstate(all="ignore"):
        status = main(["train", "--model", "mlp", "--epochs", "9", "--optimizer", "sgd", "--lr", "1e30"])
    assert status == 1
    assert "try a lower learning rate" in capsys.readouterr().err


def test_config_and_version(capsys):
    assert main(["config"]) == 0
    assert fastnn.__version__ in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2


def test_python_m_fastnn():
    done = subprocess.run([sys.executable, "-m", "fastnn", "train", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("data", "model", "epochs", "batch-size", "lr", "optimizer", "seed", "threads", "save"):
        assert f"--{option} " in done.stdout


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
    assert history[-1].validation_loss < history[0].validation_loss
    assert (history[-1].validation_loss, history[-1].validation_accuracy) == evaluate(model, DataLoader(dataset, 7))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 8)
