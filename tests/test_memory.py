"""The pool behind tensors: alignment, reuse without page faults, bounds, errors; nothing reads what it held before."""

import gc
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import backend, layout, memory, models, optim
from fastnn.nn import functional as F

CHECKED = "asan" in os.environ.get("LD_PRELOAD", "")  # where every block is malloc's own
MB = 2**20
needs_pool = pytest.mark.skipif(memory._memory is None, reason="the pool is not compiled")
needs_cache = pytest.mark.skipif(CHECKED or memory._memory is None, reason="the build caches nothing")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 5), (7, 3), (2, 3, 4, 5), (1,) * 9])
def test_arrays_are_ordinary(shape, dtype):
    a = layout.empty(shape, dtype)
    assert type(a) is np.ndarray
    assert (a.shape, a.dtype) == (shape, dtype)
    assert a.flags.c_contiguous and a.flags.writeable and a.flags.aligned
    a[...] = 1
    assert (a == 1).all()
    if len(shape) == 4:
        b = layout.empty(shape, dtype, True)
        assert b.shape == shape and b.transpose(0, 2, 3, 1).flags.c_contiguous


@needs_pool
def test_arrays_are_aligned_and_disjoint(rng):
    held = {}
    for i in range(2000):
        size = int(rng.integers(0, 1 << int(rng.integers(1, 18))))
        held[i] = layout.empty((size,), np.uint8)
        assert held[i].ctypes.data % 64 == 0
        held[i][...] = i % 251
        if rng.random() < 0.6:
            del held[int(rng.choice(list(held)))]
    for i, a in held.items():
        assert (a == i % 251).all(), "two arrays share memory"


@needs_pool
def test_stats_count_what_is_in_use():
    before = memory.stats()
    x = fastnn.empty(1000, 1000)
    memory.reset_peak()
    now = memory.stats()
    assert 4_000_000 < now["allocated"] - before["allocated"] < 4_000_200
    assert now["blocks"] == before["blocks"] + 1 and now["allocations"] > before["allocations"]
    view = x[10:20]
    del x
    assert memory.stats()["allocated"] == now["allocated"], "a view keeps the memory"
    del view
    assert memory.stats()["allocated"] == before["allocated"]
    assert memory.stats()["peak"] == now["peak"]


@needs_cache
def test_freed_memory_is_reused():
    a = layout.empty((100, 1000), np.float32)
    address = a.ctypes.data
    del a
    assert layout.empty((100, 1000), np.float32).ctypes.data == address


@needs_cache
def test_empty_cache_gives_memory_back():
    memory.empty_cache()
    before = memory.stats()["reserved"]
    kept, x = fastnn.zeros(10), fastnn.zeros(64, MB // 4)  # 64 MiB
    assert memory.stats()["reserved"] >= before + 64 * MB
    del x
    assert memory.stats()["reserved"] >= before + 64 * MB
    memory.empty_cache()
    assert memory.stats()["reserved"] <= before + 4 * MB
    assert kept.sum().item() == 0
    y = fastnn.zeros(64, MB // 4)
    assert y.sum().item() == 0


@needs_cache
def test_the_pool_shrinks_when_less_is_needed_for_good():
    memory.empty_cache()
    before = memory.stats()["reserved"]
    x = [fastnn.zeros(16, MB // 4) for _ in range(10)]  # 160 MiB
    del x
    assert memory.stats()["reserved"] >= before + 150 * MB
    for _ in range(4 * 8192):
        layout.empty((1000,), np.float32)
    assert memory.stats()["reserved"] <= before + 8 * MB


def test_what_cannot_be_had_is_a_memory_error():
    for shape in [(2**62,), (2**40, 2**40), (2**31, 2**31, 2**31), (2**50,)]:
        with pytest.raises((MemoryError, ValueError)):
            layout.empty(shape, np.float32)
    with pytest.raises(ValueError, match="negative"):
        layout.empty((3, -1), np.float32)


RUN = """
import json, resource, sys
sys.path.insert(0, {bench!r})
import numpy as np
import fastnn, networks
from fastnn import memory, models, optim
from fastnn.nn import functional as F

fastnn.set_num_threads(2)
faults, grown = {{}}, {{}}
for name in {names!r}:
    shape = (2, 3, 32, 32) if name in ("vgg", "resnet20", "mobile") else (2, 1, 28, 28)
    fastnn.manual_seed(0)
    model = getattr(models, name, None) or getattr(networks, name)
    model = model(shape[1:])
    steps = optim.Adam(model.parameters())
    x, y = fastnn.randn(*shape), fastnn.randint(0, 10, (shape[0],))

    def step():
        steps.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        steps.step()

    for _ in range(10):
        step()
    least, segments = 10**9, memory.stats()["segments"]
    for _ in range(100):  # until the interpreter's own lists of free objects have grown, too
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            step()
        least = min(least, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        if least == 0:
            break
    faults[name], grown[name] = least, memory.stats()["segments"] - segments
print(json.dumps([faults, grown]))
"""


@needs_cache
@pytest.mark.skipif(backend.kernel_set == "reference", reason="twins have NumPy's temporaries")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted by Linux")
def test_a_warm_training_step_faults_no_page():
    bench = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench")
    names = ["mlp", "lenet5", "cnn", "vgg", "resnet20", "mobile", "dropnet"]
    code = RUN.format(bench=bench, names=names)
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300).stdout
    faults, grown = json.loads(out)
    assert faults == dict.fromkeys(names, 0)
    assert grown == dict.fromkeys(names, 0)


@needs_pool
@pytest.mark.parametrize("name", ["mlp", "lenet5", "cnn"])
def test_nothing_depends_on_what_memory_held(name):
    def train(value):
        gc.collect()
        memory.empty_cache()
        filled = [layout.empty((1 << k,), np.float32) for k in range(4, 22) for _ in range(3)]
        for a in filled:
            a.fill(value)
        del filled, a
        fastnn.manual_seed(0)
        model = getattr(models, name)((1, 28, 28))
        steps = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        x, y = fastnn.randn(6, 1, 28, 28), fastnn.randint(0, 10, (6,))
        for _ in range(3):
            steps.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            steps.step()
        return [p.detach().numpy().tobytes() for p in model.parameters()]

    assert train(0.0) == train(np.nan)


@pytest.mark.parametrize("power", [48, 55, 57, 60, 62])
def test_no_size_is_too_large_to_be_refused(power):
    with pytest.raises((MemoryError, ValueError)):
        fastnn.empty(2**power, dtype=fastnn.uint8)
