"""Memory and reference counts stay flat over many steps, without the help of the cycle collector."""

import gc
import sys
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import layout, memory, nn, optim
from fastnn.nn import functional as F


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8),
        nn.ELU(), nn.AvgPool2d(2), nn.Dropout(0.1), nn.Flatten(), nn.Linear(72, 10),
    )  # fmt: skip


def resident() -> int:
    """Resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
def test_training_keeps_its_memory(optimizer, no_collector, rng):
    model = network()
    steps = optimizer(model.parameters(), lr=1e-3)
    x = fastnn.tensor(rng.standard_normal((16, 3, 16, 16)), dtype=fastnn.float32)
    y = fastnn.tensor(rng.integers(0, 10, 16))

    def run(count):
        for _ in range(count):
            steps.zero_grad()
            F.cross_entropy(model(x), y).backward()
            steps.step()
        return resident()

    run(30)
    before = run(30)
    # what 150 steps allocate is about 500 MB; what they may keep is noise of the allocator
    assert run(150) - before < 4 << 20


def test_dropping_the_loss_drops_the_graph(no_collector, rng):
    x = fastnn.tensor(rng.standard_normal((4, 3, 16, 16)), dtype=fastnn.float32)
    model = network()
    hidden = model[0](x)
    held = weakref.ref(hidden)
    loss = model[1:](hidden).sum()
    del hidden
    loss.backward()
    del loss
    assert held() is None
    loss = model(x).sum()  # never differentiated
    node = weakref.ref(loss.grad_fn)
    del loss
    assert node() is None


def test_operations_keep_no_references(no_collector, rng):
    x = fastnn.tensor(rng.standard_normal((4, 3, 16, 16)), dtype=fastnn.float32, requires_grad=True)
    w = fastnn.tensor(rng.standard_normal((8, 3, 3, 3)), dtype=fastnn.float32, requires_grad=True)
    y = fastnn.tensor(rng.integers(0, 8, (4,)))

    def step():
        h = F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2)
        h = F.adaptive_avg_pool2d(F.dropout(F.tanh(h) * F.sigmoid(h), 0.5), 1).flatten(1)
        F.cross_entropy(F.log_softmax(h, dim=1), y).backward()

    step()
    objects = (x, w, y, x.array, w.array, y.array)
    before = [sys.getrefcount(o) for o in objects]
    for _ in range(20):
        step()
    assert [sys.getrefcount(o) for o in objects] == before


@pytest.mark.skipif(memory._memory is None, reason="the pool is not compiled")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("operation", [
    F.dropout2d, partial(F.alpha_dropout, training=True), partial(F.feature_alpha_dropout, training=True),
    partial(F.stochastic_depth, p=0.5, mode="row"), F.gaussian_noise, F.glu, F.instance_norm,
    partial(F.group_norm, num_groups=2), partial(F.layer_norm, normalized_shape=(6,)),
    partial(F.interpolate, scale_factor=2, mode="bilinear"), partial(F.pad, pad=(1, 1, 1, 1), mode="reflect"),
    partial(F.local_response_norm, size=2), partial(F.lp_pool2d, norm_type=2, kernel_size=2),
    partial(F.unfold, kernel_size=2), partial(F.pixel_shuffle, upscale_factor=2), F.normalize])
def test_operations_keep_no_memory(operation, channels_last, no_collector, rng):
    a = rng.standard_normal((2, 4, 6, 6)).astype(np.float32)
    x = fastnn.Tensor(layout.channels_last(a) if channels_last else a, requires_grad=True)
    blocks = []
    for _ in range(3):
        operation(x).sum().backward()
        blocks.append(memory.stats()["blocks"])
    assert blocks[1] == blocks[2]


def test_errors_keep_no_references(no_collector):
    x = np.zeros((2, 3, 8, 8), np.float32)
    w = np.zeros((8, 4, 3, 3), np.float32)
    before = sys.getrefcount(x), sys.getrefcount(w)
    for _ in range(20):
        with pytest.raises(ValueError):
            F.conv2d(fastnn.Tensor(x), fastnn.Tensor(w))
    gc.collect()
    assert (sys.getrefcount(x), sys.getrefcount(w)) == before
