"""A whole tutorial script, its text executed on both libraries with nothing but the import lines replaced."""

import numpy as np
import pytest

from .pairs import LIBS, assert_close, ported


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tutorial_gives_the_same_losses(tmp_path, capsys):
    histories = []
    for lib in LIBS:
        script = ported(lib, "examples/pytorch_tutorial.py")
        assert script.torch is lib
        options = ["--train-size=1000", "--epochs=3", "--batch-size=50", f"--save={tmp_path / lib.__name__}.pt"]
        histories.append(np.array(script.main(options)))
    ours, theirs = histories
    assert len(ours) == 4 * 20 + 4 * 2
    assert theirs[-1] < 0.5 * theirs[0]
    assert_close(ours[:20], theirs[:20], 1e-5, "losses of the first epoch")
    assert_close(ours, theirs, 1e-3, "losses")
    assert "Test set: Average loss" in capsys.readouterr().out
