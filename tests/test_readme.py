"""The README's code runs as it stands, from another folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)


def test_readme_has_code():
    assert BLOCKS


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.splitlines()[0])
def test_readme_code_runs(code, tmp_path):
    env = os.environ | {"PYTHONPATH": str(Path(fastnn.__file__).parents[1])}  # the package under test, wherever it is
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
