"""What is seen inside networks: their summary, and class activation maps."""
from itertools import pairwise

import numpy as np
import pytest
from harness import close

import fastnn
from fastnn import backend, models, nn


def mlp(*sizes):
    return nn.Sequential(*(nn.Linear(i, o) for i, o in pairwise(sizes)))


def test_sizes_of_the_notes():
    small, deep = fastnn.summary(mlp(3, 4, 2), (3,)), fastnn.summary(mlp(3, 4, 4, 1), (3,))
    assert (small.parameters, deep.parameters) == (26, 41)
    assert [layer.parameters for layer in deep.layers] == [16, 20, 5]
    assert [layer.output_shape for layer in deep.layers] == [(4,), (4,), (1,)]
    assert small.flops == 2 * (12 + 8) and small.parameter_bytes == 4 * 26


def test_layers_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, (3, 5), stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Flatten(), nn.Linear(8 * 4 * 3, 10))  # fmt: skip
    model[1].weight.requires_grad_(False)
    found = fastnn.summary(model, (3, 17, 15), batch_size=5)
    assert [layer.output_shape for layer in found.layers] == [(8, 8, 6)] * 3 + [(8, 4, 3), (96,), (10,)]
    assert [layer.parameters for layer in found.layers] == [3 * 8 * 15 + 8, 16, 0, 0, 0, 970]
    assert [layer.flops for layer in found.layers] == [2 * 48 * 8 * 45, 384, 384, 384, 0, 2 * 960]
    assert (found.parameters, found.trainable) == (368 + 16 + 970, 368 + 8 + 970)
    text = str(found).splitlines()
    assert "(N, 8, 8, 6)" in text[1] and "1,354 parameters (1,346 trained)" in text[7]


def test_a_transposed_convolution_and_a_layer_used_twice():
    found = fastnn.summary(nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 7)).flops
    assert found == 0  # the model itself is no row; its layers are
    wrapped = fastnn.summary(nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2)), (4, 5, 7))
    assert wrapped.layers[0].flops == 2 * 5 * 7 * 4 * 6 * 9
    shared = nn.Linear(7, 7)
    twice = fastnn.summary(nn.Sequential(shared, nn.ReLU(), shared), (7,))
    assert [layer.flops for layer in twice.layers] == [2 * 2 * 49, 7] and twice.parameters == 56


@pytest.mark.skipif(not fastnn.memory._memory, reason="the pool is not compiled")
def test_memory_of_a_step_grows_with_the_batch():
    small, large = (fastnn.summary(models.cnn(), (1, 28, 28), batch_size=n).step_bytes for n in (8, 64))
    activations = 4 * 64 * (2 * 32 * 28 * 28 + 2 * 64 * 14 * 14)  # of two convolutions, and their gradients
    assert small < large and 0.5 * activations < large < 4 * activations


def test_nested_networks_are_indented_and_nothing_changes():
    model, x = models.resnet20(), fastnn.randn(2, 3, 16, 16)
    with model[0].register_forward_hook(lambda *_: calls.append(1)):
        calls = []
        state = {k: v.numpy().copy() for k, v in model.state_dict().items()}
        random = backend.generator.bit_generator.state
        found = fastnn.summary(model, (3, 16, 16))
        assert backend.generator.bit_generator.state == random and not calls
    assert all(p.grad is None for p in model.parameters()) and model.training
    for key, value in model.state_dict().items():
        assert np.array_equal(state[key], value.numpy()), key
    assert {layer.depth for layer in found.layers} == {0, 1, 2} and found.parameters == sum(
        layer.parameters for layer in found.layers)
    assert "    0: Conv2d" in str(found)
    model(x)


class Parts(nn.Module):
    """Two layers that share a weight; the output is that of `ends`."""

    def __init__(self, ends):
        super().__init__()
        self.first, self.second, self.ends = nn.Linear(4, 4), nn.Linear(4, 4), ends
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.ends(self.first(x), self.second(input=x))


@pytest.mark.parametrize("ends", [lambda x, y: (x, y), lambda x, y: [x, None, (y, 1)], lambda x, y: {"x": x, "y": y}])
def test_networks_of_several_outputs(no_collector, ends):  # which would free memory of others between two measurements
    model = nn.Sequential(Parts(ends)).double()
    model[0].second.eval()
    found = fastnn.summary(model, (4,), batch_size=7)
    assert [layer.output_shape for layer in found.layers] == [(4,)] * 3
    assert [layer.flops for layer in found.layers] == [0, 32, 32]
    assert found.parameters == 24 and found.parameter_bytes == 8 * 24
    assert model.training and not model[0].second.training
    with fastnn.no_grad():
        assert fastnn.summary(model, (4,), batch_size=7).step_bytes == found.step_bytes


def test_modules_of_their_own_kind():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(fastnn.ones(3, 4))

        def forward(self, x):
            return x * self.weight

    class Silent(nn.Module):
        def forward(self, x):
            return None

    assert fastnn.summary(nn.Sequential(Scaled(), nn.LayerNorm((3, 4))), (3, 4)).flops == 24
    assert fastnn.summary(nn.Sequential(Silent()), (3,)).layers[0].output_shape == ()
    weighed = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)))
    assert fastnn.summary(weighed, (3,)).parameters == 12 + 4 + 4 and fastnn.summary(weighed, (3,)).flops == 24


def test_summary_refuses():
    for shape, n in (((0,), 1), ((3, -1), 1), ((3,), 0)):
        with pytest.raises(fastnn.errors.ShapeError, match="summary: sizes must be positive"):
            fastnn.summary(mlp(3, 2), shape, n)


def test_class_activation_map(rng):
    fastnn.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(6, 4))  # fmt: skip
    images = fastnn.from_numpy(rng.standard_normal((5, 3, 7, 9)).astype(np.float32))
    scores = model(images)
    maps = fastnn.class_activation_map(model, images)
    assert maps.shape == (5, 7, 9) and not maps.requires_grad and model.training
    best = scores.array.max(1)
    close(maps.array.mean((1, 2)) + model[4].bias.array[scores.array.argmax(1)], best, tol=1e-5)
    chosen = fastnn.class_activation_map(model, images, [0, 1, 2, 3, 0])
    features = np.maximum(model[0](images).array, 0)
    close(chosen[3], np.tensordot(model[4].weight.array[3], features[3], 1), tol=1e-5)


def test_a_map_shows_where_the_class_was_seen():
    fastnn.manual_seed(0)
    rng = np.random.default_rng(0)
    images, labels = np.zeros((200, 1, 12, 12), np.float32), rng.integers(0, 2, 200)
    places = rng.integers(0, 9, (200, 2))
    for image, label, (i, j) in zip(images, labels, places, strict=True):
        image[0, i : i + 3, j : j + 3] = np.eye(3) if label else np.fliplr(np.eye(3))
    x, y = fastnn.from_numpy(images), fastnn.from_numpy(labels)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(),
                          nn.Linear(8, 2))  # fmt: skip
    adam = fastnn.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        adam.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        adam.step()
    maps = fastnn.class_activation_map(model, x, labels).array.reshape(200, -1)
    i, j = np.divmod(maps.argmax(1), 12)
    assert np.mean((abs(i - places[:, 0] - 1) <= 2) & (abs(j - places[:, 1] - 1) <= 2)) > 0.95


def test_maps_refuse():
    images = fastnn.zeros(2, 3, 7, 7)
    with pytest.raises(ValueError, match=r"must end in AdaptiveAvgPool2d\(1\) and Linear"):
        fastnn.class_activation_map(nn.Sequential(nn.Conv2d(3, 4, 3)), images)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 2))
    with pytest.raises(ValueError, match="the last Linear has a weight"):
        fastnn.class_activation_map(model, images)
    with pytest.raises(ValueError, match="a class from 0 to 4"):
        fastnn.class_activation_map(model[:4], images, [0, 5])
    with pytest.raises(ValueError, match="a class from 0 to 4"):
        fastnn.class_activation_map(model[:4], images, [0.0, 1.0])


def test_maps_by_what_runs_last():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.features, self.unused = nn.Linear(6, 4), nn.Conv2d(3, 6, 3), nn.Linear(6, 4)
            self.pool, self.unused_pool = nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            y = self.features(x)
            return self.head(self.pool(y).flatten(1)), y

    model = Net().double()
    images = fastnn.randn(2, 3, 7, 7, dtype=fastnn.float64)
    maps = fastnn.class_activation_map(model, images, [1, 2])
    scores, _ = model(images)
    close(maps.array.mean((1, 2)) + model.head.bias.array[[1, 2]], scores.array[[0, 1], [1, 2]])
