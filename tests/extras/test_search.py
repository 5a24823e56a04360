"""Hyperparameter search with the real Optuna and SQLite."""

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
from extras.search_objectives import Dying, Failing, Noted, Unsendable, draw, hill, perceptron, threads

import fastnn
from fastnn import nn, optim
from fastnn.data import digits, k_fold
from fastnn.search import Choice, LogUniform, Search, Stage, TrainObjective, Uniform
from fastnn.train import MSE, Trainer

LR = {"lr": LogUniform(1e-5, 1e-1)}
PATH = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(fastnn.__file__).parents[1])])
SPACE = {**LR, "option": Choice(["b", "a"])}


@pytest.fixture
def tmp_path():
    """In memory if possible: SQLite waits for the disk after each step."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def by_number(result):
    return sorted(result.trials, key=lambda trial: trial.number)


# Methods and stages ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["random", "tpe"])
def test_methods_find_the_optimum(method):
    result = Search(hill, SPACE, [Stage(40)], method, storage=None).run()
    assert len(result.trials) == 40 and {t.state for t in result.trials} == {"complete"}
    best = result.best
    assert best is result.trials[0] and best.value == max(t.value for t in result.trials) > -0.15
    assert best.params["option"] == "a" and abs(math.log10(best.params["lr"]) + 3) < 0.2
    assert len({t.params["lr"] for t in result.trials}) == 40


def test_tpe_looks_where_it_is_good():
    near = {method: np.mean([abs(math.log10(t.params["lr"]) + 3) for t in by_number(
        Search(hill, SPACE, [Stage(60)], method, storage=None).run())[30:]]) for method in ("random", "tpe")}
    assert near["tpe"] < 0.7 * near["random"]


def test_grid_is_complete():
    result = Search(hill, SPACE, [Stage(10)], "grid", storage=None).run()
    points = {(round(math.log10(t.params["lr"])), t.params["option"]) for t in result.trials}
    assert points == {(e, o) for e in range(-5, 0) for o in "ab"} and len(result.trials) == 10
    assert result.best.params == {"lr": pytest.approx(1e-3), "option": "a"}
    result = Search(hill, SPACE, [Stage(99)], "grid", storage=None, points={"lr": 3}).run()
    assert Counter(t.params["option"] for t in result.trials) == {"a": 3, "b": 3}


def test_minimize():
    result = Search(lambda params, epochs, report: params["x"] ** 2, {"x": Uniform(-1, 1)}, [Stage(20)], "tpe",
                    "minimize", storage=None).run()
    assert result.best.value == min(t.value for t in result.trials) < 0.01


def test_from_coarse_to_fine():
    seen = []
    result = Search(lambda p, epochs, report: seen.append(epochs) or hill(p, epochs, report), SPACE,
                    [Stage(16, 1, keep=0.25), Stage(12, 3, keep=0.5), Stage(8, 6)], storage=None).run()
    assert seen == [1] * 16 + [3] * 12 + [6] * 8
    assert [t.stage for t in by_number(result)] == [1] * 16 + [2] * 12 + [3] * 8
    coarse = [t for t in result.trials if t.stage == 1]
    narrow = SPACE["lr"].narrowed([t.params["lr"] for t in coarse[:4]])
    rates = [t.params["lr"] for t in result.trials if t.stage == 2]
    assert narrow.low <= min(rates) and max(rates) <= narrow.high and max(rates) / min(rates) < 300
    widths = [np.ptp(np.log([t.params["lr"] for t in result.trials if t.stage == stage])) for stage in (1, 2, 3)]
    assert widths[0] > widths[1] > widths[2]
    assert abs(math.log10(result.best.params["lr"]) + 3) < 0.1


def test_best_at_the_border_is_told_and_followed():
    def up(params, epochs, report):
        return math.log10(params["lr"])

    result = Search(up, {"lr": LogUniform(1e-5, 1e-2)}, [Stage(30), Stage(20)], storage=None).run()
    assert "stage 1: the best lr" in str(result) and "border of 1e-05 … 0.01" in str(result)
    assert result.best.params["lr"] > 2e-2
    assert not Search(hill, LR | {"option": Choice(["a"])}, [Stage(30)], storage=None).run().notes


# Trials that end early, or badly ---------------------------------------------------------------------------------

@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_pruning_ends_trials_early(pruner):
    ran = []

    def objective(params, epochs, report):
        ran.append(0)
        for epoch in range(1, epochs + 1):
            ran[-1] = epoch
            report(epoch, -(math.log10(params["lr"]) + 3) ** 2 - 1 / epoch)
        return -(math.log10(params["lr"]) + 3) ** 2

    result = Search(objective, LR, [Stage(20, 9)], storage=None, pruner=pruner).run()
    trials = by_number(result)
    assert [t.epochs for t in trials] == ran
    assert {t.state for t in trials} == {"complete", "pruned"}
    assert all((t.state == "pruned") == (t.epochs < 9) for t in trials)
    assert sum(ran) < 0.7 * 20 * 9
    assert all(math.isfinite(t.value) for t in trials)
    states = [t.state for t in result.trials]
    assert states == sorted(states)  # complete ones first
    everything = Search(objective, LR, [Stage(20, 9)], storage=None).run()
    assert {t.state for t in everything.trials} == {"complete"}
    assert [t.params for t in by_number(everything)] == [t.params for t in trials]


def test_divergence_is_the_worst_value():
    def objective(params, epochs, report):
        exponent = math.log10(params["lr"])
        if exponent > -2:
            raise FloatingPointError("the loss is nan")
        if exponent > -3:
            report(1, math.nan)
        return math.inf if exponent > -4 else 1 / params["lr"]

    for direction in "maximize", "minimize":
        result = Search(objective, LR, [Stage(20), Stage(5)], direction=direction, storage=None).run()
        first = [t for t in result.trials if t.stage == 1]
        assert len(result.trials) == 25
        assert all((t.state == "diverged") == (t.params["lr"] > 1e-4) for t in first)
        assert {t.value for t in first if t.state == "diverged"} == {-math.inf if direction == "maximize" else math.inf}
        assert {t.message for t in first} == {
            "", "the loss is nan", "nan was reported for epoch 1", "the objective gave inf"}
        assert result.best.state == "complete" and first[-1].state == "diverged"
        assert all(t.params["lr"] < 1e-3 for t in result.trials if t.stage == 2)


def test_all_diverge():
    space = {"lr": LogUniform(0.02, 0.1)}
    result = Search(Failing(FloatingPointError), space, [Stage(3), Stage(2)], storage=None).run()
    assert [t.state for t in result.trials] == ["diverged"] * 5
    with pytest.raises(ValueError, match="no trial has a value"):
        _ = result.best
    result.plot_parallel(), result.plot_parameter("lr")


@pytest.mark.parametrize(("processes", "error", "args"), [
    (1, KeyError, ("hidden",)), (2, KeyError, ("hidden",)), (2, Unsendable, ("a", "b"))])
def test_other_errors_end_the_search(tmp_path, processes, error, args):
    options = {"space": LR, "stages": [Stage(8)], "storage": tmp_path / "s.db", "processes": processes}
    with pytest.raises((error, RuntimeError), match=r"hidden|ab|'a', 'b'") as caught:
        Search(Failing(error, *args), **options).run()
    assert any("search 'search', stage 1, trial" in note for note in caught.value.__notes__)
    assert isinstance(caught.value, error) or (processes == 2 and error is Unsendable)
    result = Search(draw, **options | {"processes": 1}).run()  # mended
    assert len(result.trials) == 8 and {t.state for t in result.trials} == {"complete"}


# Processes -------------------------------------------------------------------------------------------------------

def test_processes_change_nothing(tmp_path):
    options = {"stages": [Stage(6), Stage(4)], "space": SPACE}
    one = Search(draw, **options, storage=None).run()
    two = Search(draw, **options, storage=tmp_path / "two.db", processes=2).run()
    assert by_number(one) == by_number(two) and str(one) == str(two)
    assert len({t.value - t.params["lr"] for t in one.trials}) == 10  # a seed for each
    other = Search(draw, **options, storage=None, seed=1).run()
    assert {t.params["lr"] for t in other.trials}.isdisjoint(t.params["lr"] for t in one.trials)


def test_processes_divide_the_threads():
    fastnn.set_num_threads(4)
    for processes, each in (1, 4), (2, 2):
        result = Search(threads, LR, [Stage(2)], storage=None, processes=processes).run()
        assert {t.value for t in result.trials} == {each}
    assert fastnn.get_num_threads() == 4


def test_a_process_that_dies_once(tmp_path):
    expected = Search(Noted(tmp_path, 0), LR, [Stage(8)], storage=None).run()
    assert max(t.params["lr"] for t in expected.trials) > 0.06
    result = Search(Dying(tmp_path, always=False), LR, [Stage(8)], storage=tmp_path / "s.db", processes=2).run()
    assert (tmp_path / "died").exists() and by_number(result) == by_number(expected)


def test_a_trial_whose_process_always_dies(tmp_path):
    search = Search(Dying(tmp_path, always=True), LR, [Stage(8)], storage=tmp_path / "s.db", processes=2)
    expected = Search(Noted(tmp_path, 0), LR, [Stage(8)], storage=None).run()
    lost = sum(t.params["lr"] > 0.06 for t in expected.trials)
    for _ in range(lost):
        with pytest.raises(RuntimeError, match=r"exit code 3, twice; run the search again"):
            search.run()
    result = search.run()
    assert [t.state for t in result.trials] == ["complete"] * (8 - lost) + ["crashed"] * lost and lost
    assert all(t.params["lr"] > 0.06 and "exit code 3" in t.message for t in result.trials[8 - lost:])


@pytest.mark.parametrize("storage", ["None", "'s.db'"])
def test_a_script_without_a_guard(tmp_path, storage):
    (tmp_path / "script.py").write_text(f"""
from extras.search_objectives import draw
from fastnn.search import Search, Uniform
Search(draw, {{"lr": Uniform(0, 1)}}, storage={storage}, processes=2).run()""")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": PATH},
                          stderr=subprocess.PIPE, timeout=30, text=True)
    assert done.returncode == 1 and "under `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]


def test_objectives_that_cannot_be_sent(tmp_path):
    search = Search(lambda params, epochs, report: 1.0, LR, [Stage(2)], storage=tmp_path / "s.db", processes=2)
    with pytest.raises(TypeError, match="processes=2 needs an objective that can be pickled"):
        search.run()
    assert len(Search(draw, LR, [Stage(2)], storage=tmp_path / "s.db").run().trials) == 2


# Stopping and continuing -----------------------------------------------------------------------------------------

SCRIPT = """
from extras.search_objectives import Noted
from fastnn.search import LogUniform, Search, Stage
if __name__ == "__main__":
    Search(Noted({folder!r}, {seconds}), {{"lr": LogUniform(1e-5, 1e-1)}}, [Stage(4, 2), Stage(6, 4)], {method!r},
           storage={folder!r} + "/s.db", processes={processes}).run()
"""


def start(folder, processes=1, seconds=0.05, method="random"):
    script = SCRIPT.format(folder=str(folder), processes=processes, seconds=seconds, method=method)
    (folder / "script.py").write_text(script)
    return subprocess.Popen([sys.executable, str(folder / "script.py")], stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env={**os.environ, "PYTHONPATH": PATH})


def lines(folder, name):
    return (folder / name).read_text().split() if (folder / name).exists() else []


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize(("processes", "stop", "ends"), [
    (1, signal.SIGINT, 2), (2, signal.SIGINT, 6), (2, signal.SIGKILL, 2)])
def test_a_search_goes_on(tmp_path, processes, stop, ends):
    process = start(tmp_path, processes)
    wait_for(lambda: len(lines(tmp_path, "ends")) >= ends)
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # as the terminal does
    else:
        process.send_signal(stop)
    stderr = process.communicate(timeout=20)[1]
    assert process.returncode == -stop
    wait_for(lambda: not any(alive(int(pid)) for pid in lines(tmp_path, "processes")))
    if stop == signal.SIGINT:
        message = "finished trials are kept in " + str(tmp_path / "s.db") + "; run it again to do the rest"
        assert message in stderr and "search 'search': stopped" in stderr
        assert stderr.count("Traceback") <= 2 and "SpawnProcess" not in stderr  # the children say nothing
    before = set(lines(tmp_path, "ends"))
    result = Search(Noted(tmp_path, 0.01), LR, [Stage(4, 2), Stage(6, 4)], storage=tmp_path / "s.db").run()
    (tmp_path / "fresh").mkdir()
    fresh = Search(Noted(tmp_path / "fresh", 0), LR, [Stage(4, 2), Stage(6, 4)], storage=None).run()
    assert by_number(result) == by_number(fresh)
    starts = Counter(lines(tmp_path, "starts"))
    assert len(starts) == 10 and sum(starts.values()) <= 10 + 2 * processes  # under way, or ended and not yet kept
    assert sum(starts[rate] > 1 for rate in before) <= processes
    again = Search(Noted(tmp_path, 0.01), LR, [Stage(4, 2), Stage(6, 4)], storage=tmp_path / "s.db").run()
    assert again == result and Counter(lines(tmp_path, "starts")) == starts
    for stage in 1, 2:
        study = optuna.load_study(study_name=f"search/{stage}", storage=f"sqlite:///{tmp_path}/s.db")
        assert all(trial.state.is_finished() for trial in study.trials)


def test_tpe_goes_on_as_if_it_had_not_stopped(tmp_path):
    process = start(tmp_path, method="tpe")
    wait_for(lambda: len(lines(tmp_path, "ends")) >= 6)
    process.kill()
    process.communicate()
    result = Search(Noted(tmp_path, 0), LR, [Stage(4, 2), Stage(6, 4)], "tpe", storage=tmp_path / "s.db").run()
    fresh = Search(Noted(tmp_path, 0), LR, [Stage(4, 2), Stage(6, 4)], "tpe", storage=None).run()
    assert by_number(result) == by_number(fresh)


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_pruning_goes_on_as_if_it_had_not_stopped(tmp_path, pruner):
    left = 7

    def objective(params, epochs, report):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        for epoch in range(1, epochs + 1):
            report(epoch, -(math.log10(params["lr"]) + 3) ** 2 - 1 / epoch)
        return -(math.log10(params["lr"]) + 3) ** 2

    options = {"objective": objective, "space": LR, "stages": [Stage(15, 9)], "pruner": pruner}
    with pytest.raises(KeyboardInterrupt, match="stopped; finished trials are kept"):
        Search(**options, storage=tmp_path / "s.db").run()
    result = Search(**options, storage=tmp_path / "s.db").run()
    assert left == -9 and by_number(result) == by_number(Search(**options, storage=None).run())
    assert {t.state for t in result.trials} == {"complete", "pruned"}


def test_a_study_of_something_else_is_refused(tmp_path):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/s.db", study_name="search/1", direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(ValueError, match="has a search 'search' that is defined otherwise: space is None there"):
        Search(draw, LR, [Stage(2)], storage=tmp_path / "s.db").run()


def test_ctrl_c_waits_for_the_storage(tmp_path, monkeypatch):
    add = optuna.Study.add_trial

    def interrupted(*args, **kwargs):
        with contextlib.suppress(BaseException):  # as SQLAlchemy may do
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return add(*args, **kwargs)

    search = Search(draw, SPACE, [Stage(3)], storage=tmp_path / "s.db")
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", interrupted)
        with pytest.raises(KeyboardInterrupt, match="stopped; finished trials are kept"):
            search.run()
    assert len(optuna.load_study(study_name="search/1", storage=f"sqlite:///{tmp_path}/s.db").trials) == 1
    assert len(search.run().trials) == 3


def test_ctrl_c_in_the_storage_leaves_no_half_trial(tmp_path, monkeypatch):
    options = {"objective": draw, "space": SPACE, "stages": [Stage(2)]}
    expected = by_number(Search(**options, storage=None).run())
    add, left = optuna.Study.add_trial, 0

    def interrupt(frame, event, arg):
        nonlocal left
        left -= event == "line"
        if left == 0:
            raise KeyboardInterrupt
        return interrupt

    def interrupted(*args, **kwargs):
        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            return add(*args, **kwargs)
        finally:
            sys.settrace(before)

    stopped = 0
    for lines in range(200, 9000, 550):
        with monkeypatch.context() as patch:
            patch.setattr(optuna.Study, "add_trial", interrupted)
            left, storage = lines, tmp_path / f"{lines}.db"
            with contextlib.suppress(KeyboardInterrupt):
                stopped += 1
                Search(**options, storage=storage).run()
                stopped -= 1
        assert by_number(Search(**options, storage=storage).run()) == expected
    assert stopped > 10


def test_one_process_at_a_time(tmp_path):
    process = start(tmp_path, seconds=20)
    wait_for(lambda: lines(tmp_path, "starts"))
    with pytest.raises(ValueError, match="another process is running the search 'search' of"):
        Search(draw, LR, [Stage(4, 2), Stage(6, 4)], storage=tmp_path / "s.db").run()
    assert len(Search(draw, LR, [Stage(2)], storage=tmp_path / "s.db", name="other").run().trials) == 2
    process.kill()
    process.communicate()


def test_another_definition_is_refused(tmp_path):
    search = {"objective": draw, "space": LR, "stages": [Stage(2)], "storage": tmp_path / "s.db"}
    result = Search(**search).run()
    other = Noted(tmp_path)
    other.definition = {"folds": 5}
    for name, value in [("space", {"lr": LogUniform(1e-5, 1)}), ("space", SPACE), ("stages", [Stage(3)]),
                        ("stages", [Stage(2, 2)]), ("method", "tpe"), ("direction", "minimize"), ("seed", 1),
                        ("pruner", "median"), ("points", {"lr": 3}), ("objective", other)]:
        with pytest.raises(ValueError, match="has a search 'search' that is defined otherwise") as caught:
            Search(**search | {name: value}).run()
        assert f"otherwise: {name} is" in str(caught.value)
    assert Search(**search).run() == result


def test_storages(tmp_path, monkeypatch):
    (tmp_path / "text.db").write_text("my diary" * 1000)
    for storage in tmp_path / "text.db", tmp_path / "none" / "s.db", "nosuch://x":
        with pytest.raises(ValueError, match=r"Search: the storage .* cannot be opened"):
            Search(draw, LR, [Stage(1)], storage=storage).run()
    assert (tmp_path / "text.db").read_text() == "my diary" * 1000
    monkeypatch.chdir(tmp_path)
    result = Search(draw, LR, [Stage(2)]).run()
    assert Search(draw, LR, [Stage(2)], storage=f"sqlite:///{tmp_path}/search.db").run() == result
    with contextlib.closing(sqlite3.connect("search.db")) as database:
        assert database.execute("select count(*) from trials where state='COMPLETE'").fetchone() == (2,)


def test_leaves_random_numbers_and_logging_alone():
    level = optuna.logging.get_verbosity()
    expected = fastnn.rand(3).tolist()
    fastnn.manual_seed(0)
    Search(draw, LR, [Stage(2)], storage=None).run()
    assert fastnn.rand(3).tolist() == expected and optuna.logging.get_verbosity() == level


# What is shown ---------------------------------------------------------------------------------------------------

def test_table_and_figures(tmp_path):
    result = Search(hill, SPACE, [Stage(6), Stage(4, 2)], storage=None, pruner="median").run()
    head, *rows = str(result).splitlines()[:11]
    assert head.split() == ["trial", "stage", "state", "value", "epochs", "lr", "option"]
    assert rows[0].split()[5:] == [f"{result.best.params['lr']:.4g}", result.best.params["option"]] and len(rows) == 10
    assert {len(row) for row in rows} == {len(head)}
    figure = result.plot_parameter("lr")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "lr"
    drawn = sorted((x, y) for line in axes.lines for x, y in line.get_xydata())
    assert drawn == sorted((t.params["lr"], t.value) for t in result.trials)
    figure.savefig(tmp_path / "lr.png")
    assert result.plot_parameter("option").axes[0].get_xscale() != "log"
    axes = result.plot_parallel().axes[0]
    assert len(axes.lines) == 10 and [t.get_text() for t in axes.get_xticklabels()] == ["lr", "option", "value"]
    best = axes.lines[-1].get_ydata()
    rate, option = result.best.params.values()
    np.testing.assert_allclose(best, [SPACE["lr"].share(rate), option == "a", 1])
    axes.figure.savefig(tmp_path / "parallel.png")
    assert "matplotlib.pyplot" not in sys.modules


# Training --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def arrays():
    dataset = digits(train=True)
    x, y = (t.numpy() for t in dataset.tensors)
    return x.astype(np.float32).reshape(len(x), -1)[:1000], y[:1000]


def test_coarse_to_fine_on_digits(arrays):
    objective = TrainObjective(perceptron, arrays, batch_size=50)
    space = {"lr": LogUniform(1e-5, 10.0), "batch_size": Choice([25, 50])}
    result = Search(objective, space, [Stage(8, 1), Stage(4, 4)], storage=None, pruner="median").run()
    assert result.best.value > 0.9 and 3e-3 < result.best.params["lr"] < 1
    assert any(t.value < 0.5 for t in result.trials)


def test_folds_are_averaged(arrays):
    objective = TrainObjective(perceptron, arrays, folds=3, batch_size=50)
    seen = []
    value = objective({"lr": 0.1}, 2, lambda *figures: seen.append(figures))
    fastnn.manual_seed(0)
    dataset = fastnn.data.TensorDataset(*map(fastnn.as_tensor, arrays))
    histories = []
    fastnn.manual_seed(0)
    for training, validation in k_fold(dataset, 3, True, 0):
        model, optimizer = perceptron({"lr": 0.1})
        histories.append(Trainer(batch_size=50).fit(model, training, validation, 2, optimizer)["val_accuracy"])
    assert value == np.mean([h[-1] for h in histories])
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    (a, b), (c, d), (e, f) = histories
    np.testing.assert_allclose([v for _, v in seen], [a, b, (b + c) / 2, (b + d) / 2, (b + d + e) / 3, (b + d + f) / 3])


def test_batch_size_is_a_parameter(arrays):
    losses = []
    for params, options in ({}, {"batch_size": 50}), ({"batch_size": 50}, {"batch_size": 99}), ({"batch_size": 99}, {}):
        fastnn.manual_seed(0)
        objective = TrainObjective(perceptron, arrays, metric="val_loss", **options)
        losses.append(objective({"lr": 0.1, **params}, 1, lambda step, value: None))
    assert losses[0] == losses[1] != losses[2]


def test_folds_in_processes(arrays, tmp_path):
    objective = TrainObjective(perceptron, arrays, folds=2, metric="val_loss", batch_size=50)
    options = {"space": {"lr": LogUniform(1e-3, 1.0)}, "stages": [Stage(4, 1)]}
    one = Search(objective, **options, storage=None).run()
    two = Search(objective, **options, storage=tmp_path / "s.db", processes=2).run()
    assert by_number(one) == by_number(two)
    assert one.best.value == min(t.value for t in one.trials) and {t.epochs for t in one.trials} == {2}
    with pytest.raises(ValueError, match="objective is"):
        Search(TrainObjective(perceptron, arrays, folds=3, metric="val_loss", batch_size=50), **options,
               storage=tmp_path / "s.db").run()


def test_divergence_in_training(arrays):
    objective = TrainObjective(perceptron, arrays, batch_size=50)
    result = Search(objective, {"lr": LogUniform(1e5, 1e12)}, [Stage(3, 3)], storage=None).run()
    assert "diverged" in {t.state for t in result.trials}


def test_objectives_of_other_kinds(arrays):
    x, y = arrays
    dataset = fastnn.data.TensorDataset(fastnn.as_tensor(x), fastnn.as_tensor(y.astype(np.float32)[:, None]))

    def build(params):
        model = nn.Linear(64, 1)
        optimizer = optim.Adam(model.parameters(), lr=params["lr"])
        return model, optimizer, optim.lr_scheduler.StepLR(optimizer, 1)

    objective = TrainObjective(build, dataset, validation=0.3, metric="val_mse", fit={"metrics": [MSE()]})
    assert objective.direction == "minimize" and [len(part) for part in objective.parts[0]] == [700, 300]
    assert objective({"lr": 0.01}, 1, lambda step, value: None) < 100
    given = TrainObjective(build, dataset, validation=dataset, metric="val_r3")
    assert given.parts == [(dataset, dataset)]
    with pytest.raises(ValueError, match="no figure 'val_r3'; there are epoch, loss"):
        given({"lr": 0.01}, 1, lambda step, value: None)
