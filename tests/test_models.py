"""The networks: shapes, sizes, that gradients reach everything."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
import fastnn.nn.functional as F
from fastnn import models as known
from fastnn import nn

BENCH = Path(__file__).parent.parent / "bench" / "networks.py"  # one more, which is timed
spec = spec_from_file_location("networks", BENCH)
other = module_from_spec(spec)
spec.loader.exec_module(other)
models = SimpleNamespace(**vars(other), **{name: getattr(known, name) for name in known.__all__})


def block(i, o):
    return 9 * i * o + 9 * o * o + 4 * o + (i * o + 2 * o if i != o else 0)


# parameters counted by hand from the layers: kernel · in · out (+ out), 2 · channels for a batch norm
def bottleneck(i, c):
    return i * c + 9 * c * c + 4 * c * c + 12 * c + (4 * i * c + 8 * c if i != 4 * c else 0)


SIZES = {
    "mlp": 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10,
    "lenet5": 25 * 6 + 6 + 25 * 6 * 16 + 16 + 400 * 120 + 120 + 120 * 84 + 84 + 84 * 10 + 10,
    "cnn": 9 * 32 + 32 + 9 * 32 * 64 + 64 + 3136 * 128 + 128 + 128 * 10 + 10,
    "dropnet": 9 * 32 + 32 + 9 * 32 * 32 + 32 + 1568 * 256 + 256 + 256 * 10 + 10,
    "vgg": sum(9 * i * o + 2 * o for i, o in [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)]) + 20490,
    "resnet20": 27 * 16 + 32 + 3 * block(16, 16) + block(16, 32) + 2 * block(32, 32) + block(32, 64) + 2 * block(64, 64)
    + 650,
    "resnet29": 27 * 16 + 32 + sum(
        bottleneck(i, c) + 2 * bottleneck(4 * c, c) for i, c in [(16, 16), (64, 32), (128, 64)]
    ) + 2570,
    "mobile": 27 * 32 + 64 + sum(
        9 * i + 2 * i + i * o + 2 * o for i, o in [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    ) + 2570,
}  # fmt: skip
SHAPES = {name: (1, 28, 28) if name in ("mlp", "lenet5", "cnn", "dropnet") else (3, 32, 32) for name in SIZES}


@pytest.mark.parametrize("name", SIZES)
def test_shapes_sizes_gradients(rng, name):
    network = getattr(models, name)()
    assert sum(p.numel() for p in network.parameters()) == SIZES[name]
    x = fastnn.from_numpy(rng.standard_normal((4, *SHAPES[name]), np.float32))
    scores = network(x)
    assert scores.shape == (4, 10)
    F.cross_entropy(scores, fastnn.tensor([1, 2, 3, 4])).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert np.isfinite(parameter.grad.numpy()).all(), key
    network.eval()
    with fastnn.no_grad():
        np.testing.assert_allclose(network(x).numpy()[:2], network(x[:2]).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [
    ("mlp", (2, 3, 5)), ("lenet5", (3, 12, 31)), ("cnn", (2, 9, 4)), ("dropnet", (2, 5, 7)), ("vgg", (1, 8, 17)),
    ("resnet20", (2, 7, 9)), ("resnet29", (2, 7, 9)), ("mobile", (2, 7, 9)),
])  # fmt: skip
def test_other_image_sizes_and_classes(name, shape):
    network = getattr(models, name)(shape, 3)
    assert network(fastnn.zeros(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize(("name", "smallest"), [("lenet5", 12), ("cnn", 4), ("dropnet", 4), ("vgg", 8)])
def test_images_too_small(name, smallest):
    getattr(models, name)((1, 32, smallest))(fastnn.zeros(1, 1, 32, smallest))
    with pytest.raises(ValueError):  # of the layer that has nothing left
        getattr(models, name)((1, 32, smallest - 1))(fastnn.zeros(1, 1, 32, smallest - 1))


def test_batch_norm_networks_have_no_bias_before_it():
    for name in "vgg", "resnet20", "resnet29", "mobile":
        modules = list(getattr(models, name)().modules())
        assert all(module.bias is None for module in modules if isinstance(module, nn.Conv2d))
