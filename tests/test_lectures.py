"""The page on the lectures: every name in its table exists, every script that it lists is there."""
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "lectures.md").read_text()
ROWS = [line for line in PAGE.split("## What they claim")[0].splitlines() if line.startswith("| ")][2:]
TOPICS = ["neurons and gates", "layers", "activations", "costs", "preprocessing", "initialization", "normalization",
          "optimizers", "learning rate", "regularization", "ensembles", "augmentation", "watching it learn",
          "hyperparameters", "transfer", "sizing"]  # fmt: skip


def resolve(name):
    """The object of a dotted name: a module, then attributes."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[2].strip()[:40])
def test_each_feature_has_names_that_exist(row):
    names = re.findall(r"`(fastnn[\w.]*)`", row)
    assert names
    for name in names:
        assert callable(resolve(name)), name


def test_all_topics_are_there():
    assert [topic for row in ROWS if (topic := row.split("|")[1].strip())] == TOPICS


def test_scripts_are_those_listed():
    folder = ROOT / "examples" / "lectures"
    if not folder.exists():
        pytest.skip("the tests of an installed package have no examples beside them")
    listed = re.findall(r"`(claim\d\d_\w+\.py)`", PAGE)
    assert listed == sorted(path.name for path in folder.glob("claim*.py"))
    assert [int(name[5:7]) for name in listed] == list(range(1, 31))
