"""Tables of a run's figures: equal to its history, whole at any instant, and also after resuming."""

import csv
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import nn
from fastnn.train import Accuracy, Callback, ConfusionMatrix, Trainer, logs
from fastnn.train.logs import CSVLogger, JSONLinesLogger


class Copy(Callback):
    """What the files hold at each epoch's end."""

    def __init__(self, *paths):
        self.paths, self.texts = paths, []

    def on_epoch_end(self, trainer):
        self.texts.append([path.read_text() for path in self.paths])


class Fail(Callback):
    """Breaks a fit off in the middle of an epoch."""

    def __init__(self, epoch, batch):
        self.place = epoch, batch

    def on_batch_end(self, trainer):
        if (trainer.epoch, trainer.batch) == self.place:
            raise RuntimeError("power failure")


def fit(rng, callbacks, epochs=3, **options):
    data = rng.standard_normal((40, 3), np.float32), rng.integers(0, 3, 40)
    metrics = [Accuracy(), ConfusionMatrix()]
    return Trainer(10, progress=False).fit(nn.Linear(3, 3), data, data, epochs, metrics=metrics, callbacks=callbacks,
                                           **options)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_files_are_the_history(tmp_path, rng):
    table, lines = tmp_path / "log.csv", tmp_path / "log.jsonl"
    copy = Copy(table, lines)
    history = fit(rng, [CSVLogger(table), JSONLinesLogger(lines), copy])
    rows, objects = read(table), [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(rows) == len(objects) == 3
    numbers = [name for name in history.columns if "matrix" not in name]
    assert list(rows[0]) == numbers and list(objects[0]) == history.columns
    for name in numbers:
        assert [float(row[name]) for row in rows] == [o[name] for o in objects] == history[name].tolist()
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for name in "confusion_matrix", "val_confusion_matrix":
        assert [o[name] for o in objects] == history[name].tolist()
    for n, texts in enumerate(copy.texts, 1):  # at each epoch, those so far
        whole = [text.splitlines(True) for text in copy.texts[-1]]
        assert texts == ["".join(whole[0][: n + 1]), "".join(whole[1][:n])]
    assert sorted(os.listdir(tmp_path)) == ["log.csv", "log.jsonl"]


def test_a_new_fit_begins_a_new_file(tmp_path, rng):
    log = CSVLogger(tmp_path / "log.csv")
    fit(rng, [log], epochs=3)
    fit(rng, [log], epochs=2)
    assert [row["epoch"] for row in read(log.path)] == ["1", "2"]
    fit(rng, [log], epochs=0)
    assert log.path.read_text() == ""


def test_a_resumed_fit_loses_and_doubles_no_row(tmp_path, rng):
    class Save(Callback):
        def on_epoch_end(self, trainer):
            if trainer.epoch == 2:
                fastnn.save(trainer.state_dict(), tmp_path / "two")

    table, lines = tmp_path / "log.csv", tmp_path / "log.jsonl"
    with pytest.raises(RuntimeError, match="power"):
        fit(rng, [CSVLogger(table), JSONLinesLogger(lines), Save(), Fail(4, 2)], epochs=5)
    assert len(read(table)) == len(lines.read_text().splitlines()) == 3  # one more than the checkpoint knows of
    history = fit(rng, [CSVLogger(table), JSONLinesLogger(lines)], epochs=5, resume=tmp_path / "two")
    assert [row["epoch"] for row in read(table)] == ["1", "2", "3", "4", "5"]
    assert [float(row["loss"]) for row in read(table)] == history["loss"].tolist()
    assert [json.loads(line)["val_loss"] for line in lines.read_text().splitlines()] == history["val_loss"].tolist()


def test_json_has_no_nan(tmp_path):
    rows = [{"epoch": 1, "loss": math.nan, "lr": np.float32(0.5), "f1": np.array([0.5, math.inf])}]
    assert JSONLinesLogger("").text(rows) == '{"epoch": 1, "loss": null, "lr": 0.5, "f1": [0.5, null]}\n'
    assert CSVLogger("").text(rows) == "epoch,loss,lr\n1,nan,0.5\n"


def test_a_file_that_cannot_be_written_is_told_before_training(tmp_path, rng):
    ran = Copy()
    with pytest.raises(FileNotFoundError, match="missing"):
        fit(rng, [CSVLogger(tmp_path / "missing" / "log.csv"), ran])
    with pytest.raises(ValueError, match="folder"):
        fit(rng, [JSONLinesLogger(tmp_path), ran])
    assert ran.texts == []


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    logs.write_file(path, b"old")
    (tmp_path / "link").symlink_to(path)
    for name in "fsync", "replace":
        def fail(*_):
            raise OSError("no space left")
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="no space"):
                logs.write_file(path, b"new")
        assert path.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["link", "log.csv"]
    logs.write_file(tmp_path / "link", b"new")
    assert path.read_bytes() == b"new" and (tmp_path / "link").is_symlink()


def test_a_reader_finds_whole_files_at_any_time(tmp_path):
    """Another process reads while the file is replaced again and again."""
    path = tmp_path / "log.csv"
    logs.write_file(path, b"a" * 100000)
    code = f"""
import time
end, seen = time.time() + 1, set()
while time.time() < end:
    data = open({str(path)!r}, "rb").read()
    assert len(data) == 100000 and len(set(data)) == 1, "torn"
    seen.add(data[0])
assert len(seen) > 1
"""
    reader = subprocess.Popen([sys.executable, "-c", code])
    i = 0
    while reader.poll() is None:
        logs.write_file(path, b"ab"[i % 2 : i % 2 + 1] * 100000)
        i += 1
    assert reader.returncode == 0
