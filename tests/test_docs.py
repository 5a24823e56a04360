"""The examples on the pages of docs/ are run."""

import doctest
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "docs" / "benchmarks.md"  # tables only
PAGES = sorted({*(Path(__file__).parent.parent / "docs").glob("*.md")} - {BENCHMARKS})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page):
    failed, tried = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert failed == 0 and tried > 0
