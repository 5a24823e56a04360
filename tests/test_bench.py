"""The benchmarks' own arithmetic: random shapes, limits, agreement, the report's pages. Nothing here is timed."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def load(monkeypatch):
    """Imports a script, as the scripts import one another: by its bare name."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def test_random_convolutions_stay_within_their_ranges(load):
    script = load("random_conv")
    drawn = [script.draw(np.random.default_rng(seed)) for seed in range(300)]
    assert drawn == [script.draw(np.random.default_rng(seed)) for seed in range(300)]
    for conv in drawn:
        assert 1 <= conv.N <= 64 and 1 <= conv.C <= 300 and 1 <= conv.F <= 300
        assert 4 <= conv.H <= 64 and 4 <= conv.W <= 64 and 1 <= conv.stride <= 3
        assert all(1 <= k <= 7 and 0 <= p <= k // 2 for k, p in zip(conv.kernel, conv.padding, strict=True))
        assert conv.C % conv.groups == 0 == conv.F % conv.groups
        assert 0 < conv.flops <= 3e9
        assert min(conv.shapes[2]) >= 1
    assert any(conv.groups == conv.C > 1 for conv in drawn) and any(1 < conv.groups < conv.C for conv in drawn)
    assert any(conv.kernel[0] != conv.kernel[1] for conv in drawn)


def test_flops_are_those_of_taps_inside_the_image(load):
    # H = 5 with 3 taps and a border of 1: 2 + 3 + 3 + 3 + 2 = 13; W = 4: 2 + 3 + 3 + 2 = 10
    assert load("conv").same(2, 3, 5, 4, 6, 3).flops == 2 * 2 * 6 * 3 * 13 * 10
    assert load("conv").same(1, 4, 6, 6, 4, 1, 2, 4).flops == 2 * 4 * 3 * 3  # depthwise, 1×1, every other pixel


def test_limit_is_the_longer_of_arithmetic_and_traffic(load):
    machine = load("common").Machine(1e9, [(1e3, 4e9), (1e5, 2e9)])
    assert machine.seconds(3e9, 0, 1) == 3.0
    assert machine.seconds(0, 8e9, 10) == 2.0  # the smallest working set's bandwidth
    assert machine.seconds(0, 6e9, 1e4) == pytest.approx(2.0)  # half way between in the logarithm
    assert machine.seconds(0, 8e9, float("inf")) == 4.0


def test_results_are_compared_relative_to_the_largest(load):
    common = load("common")
    row, ours = common.Row(), [np.array([1.0, 2.0], np.float32), None]
    assert common.difference(row, ours, [np.array([1.0, 2.0001]), np.zeros(3)]) == ""
    for wrong in np.array([1.0, 2.1]), np.array([1.0, np.nan]):
        assert common.difference(row, ours, [wrong, None]).startswith("output 0 differs by")
    assert common.difference(row, ours, [np.zeros((1, 2)), None]) == "output 0 has shape (2,) and not (1, 2)"


@pytest.mark.parametrize("equals_twin", [True, False])
def test_the_twin_decides_between_fastnn_and_a_peer(load, monkeypatch, capsys, equals_twin):
    common = load("common")
    answers = {"fastnn": 1.0, "torch": 2.0, "twin": 1.0 if equals_twin else 2.0}

    class Worker:
        def __init__(self, library, threads):
            self.library, self.threads = library, threads

        def ask(self, task, value):
            return [np.array(answers[self.library])]

        def close(self):
            pass

    monkeypatch.setattr(common, "Worker", Worker)
    row = common.Row()
    row.name = "a row"
    with common.Comparison(SimpleNamespace(peers=["torch"], threads=[1])) as comparison:
        if equals_twin:
            assert len(comparison.check(0, row)) == 2
            assert capsys.readouterr().out.startswith("a row: torch is wrong (fastnn equals the twin): output 0")
        else:
            with pytest.raises(SystemExit, match="a row: fastnn and torch: output 0 differs"):
                comparison.check(0, row)


def test_random_convolutions_against_the_twin():
    env = os.environ | {"PYTHONPATH": str(Path(fastnn.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, BENCH / "random_conv.py", "--check", "--count", "3", "--peers", "twin", "--threads", "1"],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 convolutions, forward and both gradients: compared with twin\n"


def result(name, threads=2, caches="hot", **ratios):
    seconds = {"fastnn": [1e-3] * 3} | {library.replace("_", "-"): [1e-3 * r] * 3 for library, r in ratios.items()}
    return {"name": name, "working_set": 1 << 22, "threads": threads, "caches": caches, "limit": 9e-4,
            "seconds": seconds}  # fmt: skip


@pytest.fixture
def data(load):
    """What the scripts would leave behind, were fastnn twice as fast as PyTorch and JAX slower still."""
    peers = {"torch": 3.0, "torch_cl": 2.0, "jax": 8.0}
    names = [case.name for case in load("steps").CASES]
    kernels = {
        name: [result("relu 8", t, c) | {"seconds": {"fastnn": [1e-3], "1 thread": [1.9e-3]}}
               for t in (2, 1) for c in ("hot", "cold")]
        for name in load("report").KERNELS
    }  # fmt: skip
    wide = sorted(load("report").WIDE)
    rows = [result(name, t, c) for name in wide for t in (2, 1) for c in ("hot", "cold")]
    for row in rows:
        row["seconds"]["1 thread"] = [1.9e-3] * 3
    bytes_ = {"fastnn": 10_000_000, "torch": 30_000_000, "torch-cl": 20_000_000}
    return kernels | {
        "conv": rows,
        "conv-avx2": rows,
        "steps": [result(name, **peers) for name in names],
        "scaling": [result("training vgg 1") | {"seconds": {"fastnn": [1e-3], "1 thread": [1.8e-3]}}],
        "memory": [{"name": names[0], "threads": 2, "bytes": bytes_}],
        "random_conv": [result("8,1,4,4 -> 2, 1x1", torch=0.5, torch_cl=0.7) | {"passes": [
            result("conv2d 8,1,4,4 -> 2, 1x1", torch=0.5, torch_cl=0.7)]}],
    }  # fmt: skip


def test_report_sets_figures_beside_targets(load, data):
    report = load("report")
    rows = {name: (reached, target) for name, reached, target, _ in report.rows_of_targets(data)}
    assert rows["training, best peer ÷ fastnn: geometric mean"] == (pytest.approx(2.0), 2.5)
    assert rows["random convolutions, best peer ÷ fastnn: worst"] == (pytest.approx(0.5), 0.8)
    assert rows["convolution, C, F ≥ 32, of FMA peak: worst forward"] == (pytest.approx(0.9), 0.85)
    assert rows["training, vgg: 2 threads over 1"] == (pytest.approx(1.8), 1.85)
    assert rows["peak memory of training, PyTorch's less format ÷ fastnn: worst"] == (2.0, 1.0)
    lines = report.of_targets(data).splitlines()
    assert "| training, best peer ÷ fastnn: geometric mean | 2.00 | ≥ 2.50 | no |" in lines
    assert "| inference, best peer ÷ fastnn: worst | 2.00 | ≥ 1.10 | yes |" in lines
    assert "| pooling, from 1 MiB on, of bandwidth: worst | 90% | ≥ 80% | yes |" in lines


def test_report_pages(load, data):
    report = load("report")
    about = {"processor": "one", "versions": "fastnn 0"}
    page = report.page(data, about)
    assert "- processor: one" in page
    assert "| mlp 128x1x28x28 | 1 | 3.00 | 2.00 | 8.00 | 2.00 |" in page
    assert "| relu 8 | 1 | 90% | 1 | 90% | 1 | 90% | 1 | 90% | 1.90 |" in page
    front = f"before\n{report.START}\nold\n{report.END}\nafter\n"
    written = report.readme(front, data, about)
    assert "| vgg 64x3x32x32 | 1 | 2.00 | 1 | 2.00 |" in written and "old" not in written
    assert written.startswith("before\n") and written.endswith("\nafter\n")
    assert report.readme(written, data, about) == written


def test_readme_has_the_place_for_the_table(load):
    text = (BENCH.parent / "README.md").read_text()
    report = load("report")
    assert text.count(report.START) == text.count(report.END) == 1
