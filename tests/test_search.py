"""Hyperparameter search: what needs no Optuna; the rest is in tests/extras/."""

import math
import subprocess
import sys

import pytest

from fastnn.search import Choice, Int, LogInt, LogUniform, Search, Stage, Uniform, parse_space


def test_import_loads_no_extra():
    code = "import sys, fastnn.search; sys.exit(bool({'optuna', 'matplotlib', 'sqlalchemy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"Search needs optuna: pip install 'fastnn\[search\]'"):
        Search(abs, {"x": Uniform(0, 1)}).run()


def test_spaces_from_texts():
    texts = ["lr=log:1e-5:1e-1", "hidden=int:16:256", "width=logint:1:64", "optimizer=sgd,adam,adamw", "dropout=0:0.5",
             "batch=16,32", "flip=true,false", "decay=0,1e-4", "size=8,big", "low=-1:1", "odd=nan,inf"]
    assert parse_space(texts) == {
        "lr": LogUniform(1e-5, 0.1), "hidden": Int(16, 256), "width": LogInt(1, 64), "dropout": Uniform(0.0, 0.5),
        "optimizer": Choice(["sgd", "adam", "adamw"]), "batch": Choice([16, 32]), "flip": Choice([True, False]),
        "decay": Choice([0, 1e-4]), "size": Choice([8, "big"]), "low": Uniform(-1.0, 1.0),
        "odd": Choice(["nan", "inf"])}
    assert type(parse_space(["lr=log:1:2"])["lr"]) is LogUniform and type(parse_space(["n=int:1:2"])["n"]) is Int


@pytest.mark.parametrize("text", [
    "", "lr", "=0:1", "lr=", "lr=log", "lr=log:1e-3", "lr=log:0:1", "lr=log:1:2:3", "lr=1:0", "lr=1:1", "lr=a:b",
    "lr=0:inf", "lr=5", "n=int:1.5:3", "n=int:3:1", "n=logint:0:4", "o=a,a", "a b=0:1", "lr=log:1e-1:1e-5", "lr=nan:1"])
def test_mistaken_texts(text):
    with pytest.raises(ValueError, match="Examples: lr=log") as caught:
        parse_space([text])
    assert repr(text) in str(caught.value)


def test_a_name_comes_once():
    with pytest.raises(ValueError, match="lr=2:3"):
        parse_space(["lr=0:1", "lr=2:3"])


@pytest.mark.parametrize(("cls", "ends"), [
    (Uniform, (1, 0)), (Uniform, (0, math.nan)), (Uniform, ("a", 1)), (Uniform, (False, True)), (LogUniform, (0, 1)),
    (Int, (1.0, 2.0)), (Int, (2, 2)), (LogInt, (0, 5))])
def test_mistaken_ranges(cls, ends):
    with pytest.raises(ValueError, match=f"{cls.__name__}: needs"):
        cls(*ends)


@pytest.mark.parametrize("options", [[], ["a", "a"], [[1]], [(1, 2)]])
def test_mistaken_choices(options):
    with pytest.raises((ValueError, TypeError)):
        Choice(options)


def test_shares_lie_on_the_right_axis():
    assert LogUniform(1e-4, 1).share(1e-2) == pytest.approx(0.5) and Uniform(0, 10).share(2.5) == 0.25
    assert LogUniform(1e-4, 1).at(0.25) == pytest.approx(1e-3) and Uniform(-1, 3).at(0.75) == 2
    for space in LogUniform(1e-5, 0.1), Uniform(0.1, 0.7), LogInt(3, 77):
        assert space.at(0) == space.low and space.at(1) == space.high


def test_grids():
    assert LogUniform(1e-4, 1).grid(5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert Uniform(0, 1).grid(3) == [0, 0.5, 1] and Uniform(0, 1).grid(1) == [0.5]
    assert Int(1, 3).grid(10) == [1, 2, 3] and LogInt(1, 100).grid(3) == [1, 10, 100]
    assert Choice(["a", None]).grid(7) == ["a", None]


def test_narrowing_in_the_middle():
    space = LogUniform(1e-6, 1).narrowed([1e-3, 1e-2, 1e-4])
    assert math.log10(space.low) == pytest.approx(-4.6) and math.log10(space.high) == pytest.approx(-1.4)
    assert Uniform(0, 8).narrowed([4, 6]) == Uniform(3.2, 6.8)
    assert Int(0, 100).narrowed([50]) == Int(40, 60)
    assert Choice(["a", "b", "c"]).narrowed(["c", "a", "c"]) == Choice(["a", "c"])


def test_narrowing_ends_at_the_range_unless_the_best_lies_there():
    low = LogUniform(1e-4, 1).narrowed([1e-2, 1e-4])  # not the best
    assert low.low == 1e-4
    low = LogUniform(1e-4, 1).narrowed([1.1e-4, 1e-2])
    assert math.log10(low.low) == pytest.approx(math.log10(1.1e-4) - 1)
    high = LogUniform(1, 1e4).narrowed([9e3, 10])
    assert math.log10(high.high) == pytest.approx(math.log10(9e3) + 1)
    assert LogUniform(1e-3, 0.5).narrowed([0.49]).high == 1  # a share stays one
    assert Uniform(0, 0.5).narrowed([0.5, 0]) == Uniform(0, 0.5)  # dropout is never negative
    assert LogInt(1, 64).narrowed([1]).low == 1


@pytest.mark.parametrize("ends", [(1, 2), (1, 3), (5, 6)])
def test_narrowed_ints_stay_a_range(ends):
    for value in range(ends[0], ends[1] + 1):
        space = Int(*ends).narrowed([value])
        assert ends[0] <= space.low <= value <= space.high <= ends[1]


@pytest.mark.parametrize(("argument", "value"), [
    ("objective", 3), ("space", {}), ("space", {"x": (0, 1)}), ("stages", []), ("stages", [Stage(0)]),
    ("stages", [Stage(1, 0)]), ("stages", [Stage(1, keep=0)]), ("method", "Random"), ("direction", "up"),
    ("processes", 0), ("pruner", "hyperband"), ("points", {"y": 3}), ("points", {"x": 0})])
def test_mistaken_searches(argument, value):
    with pytest.raises(ValueError, match=f"Search: {argument} must be"):
        Search(**{"objective": abs, "space": {"x": Uniform(0, 1)}, argument: value})
