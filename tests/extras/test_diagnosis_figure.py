"""The figure of a diagnosis."""

import numpy as np
import pytest

import fastnn
from fastnn import models
from fastnn.train.diagnosis import Diagnosis, diagnose

pytest.importorskip("matplotlib")


def test_figure_has_a_panel_for_each_finding_with_arrays(tmp_path):
    digits = fastnn.data.digits()
    history = {"loss": np.linspace(2, 1, 6), "accuracy": np.linspace(0.1, 0.5, 6)}
    found = diagnose(models.cnn((1, 8, 8)), digits, fastnn.data.digits(train=False), history=history)
    figure = found.figure()
    shown = [f for f in found if f.values]
    assert [a.get_title() for a in figure.axes] == [f"{f.name}: {f.problem or f.verdict}" for f in shown]
    assert {"learning rate", "gradients", "dead units", "tiny sample"} <= {f.name for f in shown}
    rates = figure.axes[[f.name for f in shown].index("learning rate")]
    assert rates.get_xscale() == "log"
    np.testing.assert_array_equal(rates.lines[0].get_ydata(), found["learning rate"].values["loss"])
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10000
    assert not Diagnosis().figure().axes


def test_figure_of_a_sick_network(tmp_path):
    model = models.mlp((1, 8, 8))
    for p in model.parameters():
        fastnn.nn.init.zeros_(p)
    diagnose(model, fastnn.data.digits()).figure().savefig(tmp_path / "sick.png")
