"""The examples in docstrings are run. `fastnn`, `nn`, `F`, `optim` and `np` may be used in them without an import."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import fastnn
from fastnn import nn, optim
from fastnn.nn import functional as F

MODULES = ["fastnn"] + [
    info.name
    for info in pkgutil.walk_packages(fastnn.__path__, "fastnn.")
    if not info.name.startswith(("fastnn._", "fastnn.__main__"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if "pip install 'fastnn[" not in str(error):
            raise
        pytest.skip(str(error))
    names = {"fastnn": fastnn, "nn": nn, "F": F, "optim": optim, "np": np}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report = []
    for test in doctest.DocTestFinder().find(module, extraglobs=names):
        fastnn.manual_seed(0)
        runner.run(test, out=report.append, clear_globs=False)
    assert runner.failures == 0, "".join(report)
