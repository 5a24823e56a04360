"""Checkpoints: whole files whatever kills the process, folders in order, fits that go on with the same bits."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_child import fit, known, which

import fastnn
from fastnn import nn, serialization
from fastnn.errors import CheckpointError
from fastnn.tensor import Tensor
from fastnn.train import Callback, Trainer
from fastnn.train.checkpoint import Checkpoint, latest, load_checkpoint

CHILD = Path(__file__).with_name("checkpoint_child.py")


def start(*task, **options):
    """The child process at work on a task; one that forks has a single thread."""
    threads = "2" if task[0] == "fit" else "1"
    environment = {**os.environ, "PYTHONPATH": str(Path(fastnn.__file__).parents[1]), "OMP_NUM_THREADS": threads}
    return subprocess.Popen([sys.executable, "-W", "error", str(CHILD), json.dumps(task)], text=True, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def answer(*task):
    child = start(*task)
    out, err = child.communicate(timeout=100)
    assert child.returncode == 0, err
    return json.loads(out)


# --- A file is there wholly, or the one before it ---


def test_killed_at_random(tmp_path):
    count = answer("random", str(tmp_path / "state.safetensors"), 50)
    assert count["inside"] >= 50 and count["leftovers"], count
    assert all(count["states"]), count  # the old one, and each of the new ones


def test_killed_at_each_step(tmp_path):
    found = answer("steps", str(tmp_path / "state.safetensors"))
    done = [name for name, _, after, state, _ in found if state == 1]
    assert len(found) == 18 and [name for name, *_ in found].count("contiguous") == 6
    for name, nth, after, state, left in found:
        renamed = (name == "replace" and after) or (name == "fsync" and nth == 2) or name == "open" or name == "close"
        assert state == renamed, (name, nth, after, state)
        assert left == (not renamed and (name != "_create" or after)), (name, nth, after, left)
    assert len(done) == 7


def test_saves_at_the_same_time(tmp_path):
    found = answer("together", str(tmp_path / "state.safetensors"), 3, 40)
    assert found["codes"] == [0, 0, 0] and not found["others"] and found["state"] in (0, 1, 2)


def test_living_files_are_not_swept(tmp_path):
    with serialization._create(f"{tmp_path}/.a") as file:
        path = file.name
        fastnn.save({}, tmp_path / "a")
        assert os.path.exists(path)
        serialization.sweep(str(tmp_path), "*")
        assert os.path.exists(path)
    for name in (".a.0123456789ab.tmp.bak", ".b.0123456789ab.tmp", "a.0123456789ab.tmp", ".a.0123.tmp", ".a.tmp"):
        (tmp_path / name).touch()
    fastnn.save({}, tmp_path / "a")
    assert not os.path.exists(path) and len(os.listdir(tmp_path)) == 6  # nothing of others


def test_swept_before_it_is_locked(tmp_path, monkeypatch):
    """Another process may take a file that was just created for a leftover: then a new one is made."""
    import fcntl

    lock, swept = fcntl.flock, []

    def late(file, how):
        if not swept:
            swept.append(file.name)
            os.unlink(file.name)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    fastnn.save({"a": 1}, tmp_path / "a")
    assert swept and fastnn.load(tmp_path / "a") == {"a": 1} and os.listdir(tmp_path) == ["a"]


def test_a_glob_in_a_name(tmp_path):
    folder = tmp_path / "[ab]*"
    folder.mkdir()
    (folder / ".x[1].0123456789ab.tmp").touch()
    (folder / ".x1.0123456789ab.tmp").touch()
    fastnn.save({}, folder / "x[1]")
    assert sorted(os.listdir(folder)) == [".x1.0123456789ab.tmp", "x[1]"]


def test_the_folder_is_synchronized(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.path.realpath(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    fastnn.save({}, tmp_path / "a")
    assert re.fullmatch(r".*/\.a\.[0-9a-f]{12}\.tmp", calls[0]) and calls[1:] == ["replace", str(tmp_path)]


def test_a_limit_of_the_file_size(tmp_path):
    """A disk that is full in the middle of a file."""
    path = tmp_path / "state.safetensors"
    fastnn.save(known(0, 9000), path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError) as caught:
            fastnn.save(known(1), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path) and str(path) in str(caught.value)
    assert which(fastnn.load(path)) == 0 and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("place", ["contiguous", "fsync", "replace"])
def test_a_full_disk(tmp_path, monkeypatch, place):
    path = tmp_path / "state.safetensors"
    fastnn.save(known(0, 9000), path)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(serialization.layout if place == "contiguous" else os, place, fail)
        with pytest.raises(OSError, match="No space left") as caught:
            fastnn.save(known(1, 9000), path)
    assert caught.value.filename == str(path)
    assert which(fastnn.load(path)) == 0 and os.listdir(tmp_path) == [path.name]


def test_the_header_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "LIMIT", 2000)
    with pytest.raises(ValueError, match=r"save: all but the tensors takes \d+ bytes, and 2000 are allowed"):
        fastnn.save("x" * 2000, tmp_path / "a")
    assert not os.listdir(tmp_path)


def test_arrays_begin_at_multiples_of_their_size(tmp_path):
    arrays = [np.ones(3, dtype) for dtype in ("bool", "float64", "uint8", "float16", "float32", "int64")]
    fastnn.save([Tensor(a) for a in arrays], tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    for i, a in enumerate(arrays):
        assert header[str(i)]["data_offsets"][0] % a.itemsize == 0


# --- Checkpoints of a fit ---


def run(folder, epochs=3, resume=None, trainer=None, callbacks=(), validation=True, **options):
    """A small fit with a Checkpoint, 4 steps an epoch."""
    fastnn.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 4), np.float32), rng.integers(0, 3, 32)
    trainer = trainer or Trainer(batch_size=8, progress=False)
    trainer.fit(nn.Linear(4, 3), (x, y), (x, y) if validation else None, epochs, resume=resume,
                callbacks=[Checkpoint(folder, **options), *callbacks])  # fmt: skip
    return trainer


def places(folder):
    """(epoch, step) of the checkpoints in a folder."""
    return [tuple(map(int, re.findall(r"\d+", name))) for name in sorted(os.listdir(folder)) if "checkpoint" in name]


@pytest.mark.parametrize("options, expected", [
    ({}, [(3, 12), (4, 16), (5, 20)]),
    ({"keep": 1}, [(5, 20)]),
    ({"every": 2, "keep": 9}, [(2, 8), (4, 16), (5, 20)]),  # the last one always
    ({"every": None, "every_steps": 3, "keep": 4}, [(3, 12), (4, 15), (5, 18), (5, 20)]),
    ({"every": None}, [(5, 20)]),
])  # fmt: skip
def test_which_are_kept(tmp_path, options, expected):
    run(tmp_path, 5, **options)
    assert places(tmp_path) == expected
    assert latest(tmp_path) == str(tmp_path / "checkpoint-0005-00000020.safetensors")


def test_each_step_is_saved_once(tmp_path, monkeypatch):
    """Also if several batches make a step, and in a fit that goes on."""
    paths = []
    save = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda self, trainer: paths.append(save(self, trainer)))
    for epochs, resume in (1, None), (2, tmp_path):
        run(tmp_path, epochs, resume, Trainer(batch_size=4, accumulate=4, progress=False), every_steps=2, best=False)
    assert [path[-13:-12] for path in paths] == ["2", "2", "4", "4"]  # after the step, and after the epoch


def test_other_files_are_never_deleted(tmp_path):
    mine = ["checkpoint-1-4.safetensors", "checkpoint-0001-00000001.safetensors.bak", "notes.txt",
            "my-checkpoint-0001-00000001.safetensors", "checkpoint-00001-00000001.safetensors",
            ".checkpoint-0001.tmp", ".notes.0123456789ab.tmp"]  # fmt: skip
    for name in mine:
        (tmp_path / name).touch()
    for name in (".checkpoint-0009-00000099.safetensors.0123456789ab.tmp", ".best.safetensors.0123456789ab.tmp"):
        (tmp_path / name).touch()  # left by a killed process
    run(tmp_path, 3, keep=1)
    assert sorted(os.listdir(tmp_path)) == sorted([*mine, "best.safetensors", "checkpoint-0003-00000012.safetensors"])


def test_an_older_one_goes_only_when_the_new_one_is_there(tmp_path, monkeypatch):
    run(tmp_path, 1, keep=1)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        run(tmp_path, 2, keep=1, resume=tmp_path)
    assert places(tmp_path) == [(1, 4)]
    assert load_checkpoint(tmp_path)["position"] == {"epoch": 1, "batch": 0, "step": 4, "pending": 0}


class Figures(Callback):
    """Writes given figures into the logs."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, trainer):
        trainer.logs[self.name] = self.values[trainer.epoch - 1]


@pytest.mark.parametrize("options, figure, best", [
    ({}, "val_loss", 2), ({"mode": "max"}, "val_loss", 3), ({"monitor": "val_accuracy"}, "val_accuracy", 3),
    ({"monitor": "val_mse"}, "val_mse", 2), ({"monitor": "val_mse"}, "mse", 2),  # without validation
])  # fmt: skip
def test_the_best_is_kept(tmp_path, options, figure, best):
    fastnn.manual_seed(0)
    x, y = np.ones((8, 4), np.float32), np.arange(8) % 3
    figures = Figures(figure, [0.3, 0.1, 0.5, float("nan"), 0.2])
    Trainer(progress=False).fit(nn.Linear(4, 3), (x, y), epochs=5, callbacks=[figures, Checkpoint(tmp_path, **options)])
    assert load_checkpoint(tmp_path / "best.safetensors")["position"]["epoch"] == best
    state = load_checkpoint(tmp_path)
    assert state["position"]["epoch"] == 5 and state["callbacks"][0][1]["best"] == [None, None, 0.1, 0.5][best]


def test_the_best_is_remembered(tmp_path):
    """A resumed fit does not take a worse epoch for the best."""
    x, y = np.ones((8, 4), np.float32), np.arange(8) % 3
    for epochs in (2, 4):
        figures = Figures("val_loss", [0.3, 0.1, 0.5, 0.2])
        Trainer(progress=False).fit(nn.Linear(4, 3), (x, y), epochs=epochs, callbacks=[figures, Checkpoint(tmp_path)],
                                    resume=tmp_path if epochs > 2 else None)  # fmt: skip
    assert load_checkpoint(tmp_path / "best.safetensors")["position"]["epoch"] == 2


def test_no_best(tmp_path):
    run(tmp_path, 1, best=False, monitor="nothing")
    assert os.listdir(tmp_path) == ["checkpoint-0001-00000004.safetensors"]
    with pytest.raises(ValueError, match="there is no figure 'nothing'"):
        run(tmp_path / "b", 1, monitor="nothing")


@pytest.mark.parametrize("name, value", [("every", 0), ("every", 1.5), ("every_steps", -1), ("keep", 0), ("keep", None),
                                         ("keep", True), ("mode", "least")])  # fmt: skip
def test_arguments(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"Checkpoint: {name} must be .*{value!r}"):
        Checkpoint(tmp_path, **{name: value})


def test_another_fit_is_not_overwritten(tmp_path):
    run(tmp_path, 2)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    for resume in (None, tmp_path / "checkpoint-0001-00000004.safetensors"):
        with pytest.raises(ValueError, match=r"0002-00000008\.safetensors is of a fit that went further .*resume="):
            run(tmp_path, 3, resume=resume)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    run(tmp_path, 3, resume=tmp_path)


def test_damaged_ones_are_passed_over(tmp_path):
    run(tmp_path, 3)
    newest, second = (tmp_path / f"checkpoint-{name}.safetensors" for name in ("0003-00000012", "0002-00000008"))
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="passing over a damaged checkpoint: .*0003-00000012"):
        assert latest(tmp_path) == str(second)
    second.write_bytes(b"")
    with pytest.warns(UserWarning, match="passing over a damaged checkpoint"):
        trainer = run(tmp_path, 4, resume=tmp_path)
    assert len(trainer.history) == 4 and latest(tmp_path) == str(tmp_path / "checkpoint-0004-00000016.safetensors")
    for name in os.listdir(tmp_path):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(CheckpointError, match="holds no checkpoint"):
        latest(tmp_path)


def test_the_best_is_better_than_none(tmp_path):
    run(tmp_path, 1)
    os.unlink(latest(tmp_path))
    assert latest(tmp_path) == str(tmp_path / "best.safetensors")


def test_numbers_are_compared_as_numbers(tmp_path):
    run(tmp_path, 1)
    state = fastnn.load(latest(tmp_path))
    for name in ("9999-99999999", "10000-100000000"):
        fastnn.save(state, tmp_path / f"checkpoint-{name}.safetensors")
    assert latest(tmp_path).endswith("checkpoint-10000-100000000.safetensors")


def test_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=f"the folder {tmp_path} holds no checkpoint"):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        latest(tmp_path / "missing")


def test_what_a_checkpoint_must_have(tmp_path):
    run(tmp_path, 1)
    whole, path = load_checkpoint(tmp_path), tmp_path / "x"
    for state, lacking in [
        (fastnn.ones(2), "model, "), ([], "model, "), ({}, "fastnn"), ({**whole, "model": None}, "lacks model$"),
        ({**whole, "ema": []}, "lacks ema$"), ({**whole, "position": {}}, "lacks a position"),
        ({k: v for k, v in whole.items() if k not in ("random", "callbacks")}, "lacks random, callbacks$"),
    ]:
        fastnn.save(state, path)
        with pytest.raises(CheckpointError, match=f"{path} is no checkpoint of a fit: it .*{lacking}"):
            load_checkpoint(path)


# --- The same bits ---


def plain(value):
    """A state for comparison: tensors as dtype, shape and bytes; without what a clock says."""
    if isinstance(value, Tensor):
        return str(value.dtype), value.shape, value.array.tobytes()
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items() if key not in ("seconds", "samples_per_second")}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else repr(value)


def same(a, b, at="state"):
    if isinstance(a, dict) and isinstance(b, dict):
        assert a.keys() == b.keys(), (at, a.keys() ^ b.keys())
        for key in a:
            same(a[key], b[key], f"{at}[{key!r}]")
    else:
        assert a == b, at


@pytest.mark.parametrize("kind, place", [("adam", (2, 7)), ("sgd", (3, 5))])
def test_a_killed_fit_goes_on_with_the_same_bits(tmp_path, kind, place):
    """Whole in this process; killed in an epoch in another, on one thread; taken up in a third, on other threads."""
    folder, out = tmp_path / "run", tmp_path / "out"
    child = start("fit", kind, 1, 0, str(folder), 2, None, (signal.SIGKILL, *place), None)
    whole = fit(kind, 2, 1, [Checkpoint(tmp_path / "whole", every_steps=2)])
    _, err = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, err
    killed = load_checkpoint(folder)["position"]
    assert killed["epoch"] == place[0] - 1 and 0 < killed["batch"] <= place[1]
    child = start("fit", kind, 2, 2, str(folder), 2, str(folder), None, str(out))
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    same(plain(whole.state_dict()), plain(fastnn.load(out)))
    for name in os.listdir(folder):  # and every file that either wrote
        same(plain(fastnn.load(tmp_path / "whole" / name)), plain(fastnn.load(folder / name)), name)


def test_ctrl_c(tmp_path):
    """Within a group of batches that makes one step: the batch ends, all is saved, the message says how to go on."""
    folder, out = tmp_path / "run", tmp_path / "out"
    child = start("fit", "adam", 1, 0, str(folder), None, None, (signal.SIGINT, 2, 5), None)
    whole = fit("adam", 1, 0, [Checkpoint(tmp_path / "whole")])
    _, err = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT, (child.returncode, err)
    path = f"{folder}/checkpoint-0002-00000007.safetensors"
    assert f"epoch 2 of 4, after 5 batches\nsaved {path}; fit(…, resume='{folder}') goes on from there" in err
    assert load_checkpoint(folder)["position"] == {"epoch": 1, "batch": 5, "step": 7, "pending": 1}
    child = start("fit", "adam", 1, 0, str(folder), None, path, None, str(out))
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    same(plain(whole.state_dict()), plain(fastnn.load(out)))


class StopAt(Callback):
    def __init__(self, step):
        self.at = step

    def on_step(self, trainer):
        trainer.stop = "enough" if trainer.step == self.at else ""


def test_a_stopped_fit_is_saved(tmp_path):
    fastnn.manual_seed(0)
    x, y = np.ones((32, 4), np.float32), np.arange(32) % 3
    for stop, place in (6, {"epoch": 1, "batch": 2, "step": 6}), (8, {"epoch": 1, "batch": 4, "step": 8}):
        Trainer(8, progress=False).fit(nn.Linear(4, 3), (x, y), epochs=4, resume=tmp_path if stop > 6 else None,
                                       callbacks=[StopAt(stop), Checkpoint(tmp_path, every=9)])  # fmt: skip
        assert load_checkpoint(tmp_path)["position"] == place | {"pending": 0}


def test_a_broken_fit_is_not_saved(tmp_path):
    """A second Ctrl-C or an error may leave half a step behind."""

    class Breaks(Callback):
        def on_backward(self, trainer):
            if trainer.step == 5:
                trainer.interrupted = True
                raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run(tmp_path, 3, callbacks=[Breaks()])
    assert places(tmp_path) == [(1, 4)]


def test_watching_changes_no_bits(tmp_path):
    a, b = (fit("adam", 1, 0, callbacks) for callbacks in ([], [Checkpoint(tmp_path, every_steps=1)]))
    same(plain(a.state_dict() | {"callbacks": []}), plain(b.state_dict() | {"callbacks": []}))
