"""The commands that need what is optional: search, TensorBoard's events, reports, figures."""
import re
import sqlite3

import pytest

from fastnn.__main__ import main

SEARCH = ("search", "--model", "mlp", "--batch-size", 64)


def run(capsys, *arguments):
    status = main([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out.splitlines()


def fails(capsys, *arguments):
    assert main([*map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_a_search_goes_on_where_it_stopped(capsys, tmp_path):
    common = (*SEARCH, "--space", "lr=log:1e-5:1e-1", "weight-decay=log:1e-6:1", "--storage", tmp_path / "s.db")
    run(capsys, *common, "--stages", "3x1,2x2", "--figures", tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["lr.png", "parallel.png",
                                                                             "weight_decay.png"]  # fmt: skip
    with sqlite3.connect(tmp_path / "s.db") as database:
        before = database.execute("select * from trials").fetchall()
    lines = run(capsys, *common, "--stages", "3x1,2x2")
    with sqlite3.connect(tmp_path / "s.db") as database:
        assert database.execute("select * from trials").fetchall() == before
    rows = [line.split() for line in lines if re.match(r" +\d", line)]
    assert len(rows) == 5
    assert lines[0].split() == ["trial", "stage", "state", "value", "epochs", "lr", "weight_decay"]
    best = re.fullmatch(r"best: (--lr \S+ --weight-decay \S+)", lines[-1])[1]
    assert "defined otherwise" in fails(capsys, *common, "--stages", "4x1")
    assert "defined otherwise" in fails(capsys, *common, "--stages", "3x1,2x2", "--optimizer", "sgd")
    values = [float(row[3]) for row in rows]
    assert values == sorted(values, reverse=True)
    trained = run(capsys, "train", "--model", "mlp", "--batch-size", 64, "--epochs", 2, *best.split())
    assert re.search(rf"validation loss \S+ accuracy {values[0]:.4f}"[:-1], trained[2])  # the same split, the same run


def test_two_processes_find_what_one_finds(capsys, tmp_path):
    common = (*SEARCH, "--space", "lr=log:1e-4:1e-1", "--space", "optimizer=adam,adamw", "--stages", "4x1")
    one, two = (run(capsys, *common, "--processes", n, "--storage", tmp_path / f"{n}.db") for n in (1, 2))
    assert one == two


def test_folds_and_regression(capsys, tmp_path, rng):
    x = rng.standard_normal((80, 2))
    table = "\n".join(",".join(map("{:.5f}".format, (*row, row.sum()))) for row in x)
    (tmp_path / "sums.csv").write_text(f"a,b,sum\n{table}\n")
    common = ("search", "--model", "mlp", "--data", tmp_path / "sums.csv", "--space", "lr=log:1e-4:1e-1", "--stages",
              "3x2", "--folds", 3, "--storage", tmp_path / "s.db")  # fmt: skip
    lines = run(capsys, *common, "--metric", "val_r2", "--pruner", "median", "--method", "tpe")
    assert {line.split()[4] for line in lines[1:4] if "complete" in line} == {"6"}
    assert "there is no figure 'val_accuracy'" in fails(capsys, *common, "--name", "other")


def test_mistakes_with_searches(capsys, tmp_path):
    for space, message in (("lr=log:1:0.1", "lr=log:1:0.1"), ("depth=1:3", "depth is no option"), ("lr", "lr"),
                           ("epochs=int:1:3", "epochs is no option")):
        assert message in fails(capsys, *SEARCH, "--space", space, "--storage", tmp_path / "s.db")
    for arguments, message in ((["--space", "optimizer=adam,rprop"], "invalid choice: 'rprop'"),
                               (["--space", "lr=log:1e-3:1", "--stages", "3x"], "3x is no list of trials"),
                               (["--space", "batch-size=0.5:3"], "invalid int value"), ([], "--space")):
        with pytest.raises(SystemExit) as stop:
            main([*map(str, SEARCH), *arguments, "--storage", str(tmp_path / "s.db")])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_events_and_reports(capsys, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(capsys, "train", "--model", "cnn", "--epochs", 2, "--batch-size", 64, "--output", tmp_path / "run", "--report",
        "--tensorboard", tmp_path / "events")
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<img") > 10
    assert "batch_size" in page
    events = EventAccumulator(str(tmp_path / "events"), {"scalars": 0, "images": 0})
    events.Reload()
    assert len(events.Scalars("loss/validation")) == 2
    assert events.Tags()["images"]


def test_the_figure_of_a_diagnosis(capsys, tmp_path):
    run(capsys, "diagnose", "--model", "mlp", "--figure", tmp_path / "diagnosis.png")
    assert (tmp_path / "diagnosis.png").read_bytes()[:4] == b"\x89PNG"
