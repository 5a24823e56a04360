"""Threads: their number changes no bit, forks do not hang, kernels run off the main thread."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastnn
from fastnn import backend, nn, optim
from fastnn.nn import functional as F


def train(threads, dtype, steps=2):
    """Parameters after a few steps of a network with every kind of kernel, as bytes."""
    fastnn.set_num_threads(threads)
    fastnn.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 24, (3, 5), stride=(1, 2), padding=(1, 2)),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d((2, 3), stride=(2, 1)),
        nn.Conv2d(24, 24, 3, padding=1, groups=24),
        nn.ELU(),
        nn.AvgPool2d(2),
        nn.Dropout(0.2),
        nn.Conv2d(24, 40, 1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.Flatten(),
        nn.Linear(240, 64),
        nn.Sigmoid(),
        nn.Linear(64, 10),
    ).to(dtype)
    adam = optim.Adam(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(5)
    x = fastnn.tensor(rng.standard_normal((17, 3, 31, 29)), dtype=dtype)
    y = fastnn.tensor(rng.integers(0, 10, 17))
    losses = []
    for _ in range(steps):
        adam.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses, [p.array.tobytes() for p in model.state_dict().values()]


@pytest.mark.parametrize("dtype", [fastnn.float32, fastnn.float64], ids=str)
def test_training_has_the_same_bits_at_any_thread_count(dtype):
    one, *others = [train(n, dtype) for n in (1, 2, 3)]
    for other in others:
        assert other == one


def run(code, timeout=120, **env):
    """Run code in a process of its own; a hang is a failure."""
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, timeout=timeout, capture_output=True, text=True
    )


FORK = """
import os, sys
import numpy as np
import fastnn
from fastnn import backend
from fastnn.nn import functional as F

x = fastnn.tensor(np.random.default_rng(0).standard_normal((16, 8, 32, 32)), dtype=fastnn.float32)
w = fastnn.tensor(np.random.default_rng(1).standard_normal((8, 8, 3, 3)), dtype=fastnn.float32)
fastnn.set_num_threads(2)
before = F.conv2d(x, w).numpy()
assert backend.n_threads() == 2
child = os.fork()
if child == 0:
    fastnn.set_num_threads(2)
    same = np.array_equal(before, F.conv2d(x, w).numpy())
    os._exit(0 if same and backend.n_threads() == 1 and fastnn.get_num_threads() == 1 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert np.array_equal(before, F.conv2d(x, w).numpy())
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_on_one_thread():
    done = run(FORK)
    assert done.stdout == "done\n", done.stderr


def test_kernels_run_off_the_main_thread(rng):
    fastnn.set_num_threads(2)
    x = fastnn.tensor(rng.standard_normal((8, 16, 32, 32)), dtype=fastnn.float32)
    w = fastnn.tensor(rng.standard_normal((16, 16, 3, 3)), dtype=fastnn.float32)
    expected, results, counts = F.conv2d(x, w).numpy(), {}, set()

    def work(i):
        counts.add(backend.n_threads())
        results[i] = [F.conv2d(x, w).numpy() for _ in range(5)]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert counts == {1}
    assert all(np.array_equal(y, expected) for i in range(4) for y in results[i])


def test_grad_mode_belongs_to_a_thread():
    seen = []
    with fastnn.no_grad():
        worker = threading.Thread(target=lambda: seen.append(fastnn.is_grad_enabled()))
        worker.start()
        worker.join(60)
    assert seen == [True]


def test_set_num_threads():
    fastnn.set_num_threads(3)
    assert fastnn.get_num_threads() == backend.n_threads() == 3
    for bad, error in ((0, ValueError), (-1, ValueError), (2.0, TypeError), ("2", TypeError), (True, TypeError)):
        with pytest.raises(error, match="set_num_threads"):
            fastnn.set_num_threads(bad)
    assert fastnn.get_num_threads() == 3


def test_default_honours_omp_num_threads():
    if backend.kernel_set == "compiled" and not backend._runtime.build()["openmp"]:
        pytest.skip("built without OpenMP: one thread, whatever is asked for")
    code = "import fastnn; print(fastnn.get_num_threads())"
    for n in ("1", "3"):
        assert run(code, OMP_NUM_THREADS=n).stdout.strip() == n


@pytest.mark.parametrize("files, quota", [
    ({}, np.inf), ({"cpu.max": "150000 100000"}, 1.5), ({"cpu.max": "max 100000"}, np.inf),
    ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, np.inf), ({"cpu.max": ""}, np.inf),
], ids=str)  # fmt: skip
def test_quota_of_the_control_group(tmp_path, files, quota):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert backend._quota(tmp_path) == quota
