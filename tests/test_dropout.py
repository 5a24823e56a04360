"""Dropout and the generator behind it."""

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, layout, nn

SETS = [("reference", ""), *(("compiled", isa) for isa in backend.instruction_sets())]


def philox(counter, key):
    """Four words of Philox-4x32-10 for one block, with Python's integers."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def masks(kernels, n, p, seed, dtype=np.float32):
    mask, y = np.zeros((n + 63) // 64, np.uint64), np.empty(n, dtype)
    kernels["dropout"].dropout(np.ones(n, dtype), p, seed, mask, y, 1)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    assert not bits[n:].any()
    np.testing.assert_array_equal(y, bits[:n] * np.asarray(1 / (1 - p), dtype))
    return bits[:n].astype(bool)


def test_oracle_is_philox():
    """Known answers that Random123 publishes."""
    ones = 0xFFFFFFFF
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([ones] * 4, [ones] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("kernel_set", SETS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mask_is_philox(kernel_set, dtype):
    kernels, n, seed = backend.load(*kernel_set), 2_500, 0x0123456789ABCDEF
    words = np.empty(n, np.uint32)
    for block in range((n + 63) // 64 * 16):
        for w, word in enumerate(philox([block, 0, 0, 0], [seed & 0xFFFFFFFF, seed >> 32])):
            place = block // 16 * 64 + 16 * w + block % 16
            if place < n:
                words[place] = word
    for p in (0.0, 0.1, 0.5, 0.999):
        np.testing.assert_array_equal(masks(kernels, n, p, seed, dtype), words >= int(p * 2**32))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_rate_and_independence(p):
    kernels = {"dropout": backend.dropout}
    n = 1_000_000
    a, b = masks(kernels, n, p, 1), masks(kernels, n, p, 2)
    deviation = 5 * np.sqrt(p * (1 - p) / n)
    assert abs(a.mean() - (1 - p)) < deviation
    for other in (b, np.roll(a, 1), np.roll(a, 16), np.roll(a, 64)):  # other keys, lanes, words, groups
        assert abs((a & other).mean() - (1 - p) ** 2) < deviation


@pytest.mark.parametrize("shape", [(), (3, 5), (2, 3, 4, 5), (5, 7, 41, 43)], ids=str)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_gradient_memory_and_threads(rng, shape, p):
    if len(shape) < 4:  # masks go by place in memory, which the harness changes for 4-D arrays
        check(F.dropout, rng.standard_normal(shape), kwargs={"p": p})
    else:
        check(F.dropout2d, rng.standard_normal(shape), kwargs={"p": p})


def test_mask_follows_memory(rng):
    x = np.ones((2, 3, 4, 5), np.float32)
    fastnn.manual_seed(7)
    y = F.dropout(fastnn.Tensor(layout.channels_last(x))).array
    assert layout.is_channels_last(y)
    fastnn.manual_seed(7)
    flat = F.dropout(fastnn.ones(120)).array
    np.testing.assert_array_equal(y.transpose(0, 2, 3, 1).ravel(), flat)


@pytest.mark.parametrize("op", [F.dropout, F.dropout2d])
def test_gradient_is_the_mask(op):
    x = fastnn.ones(8, 16, 3, 5, requires_grad=True)
    y = op(x, 0.25)
    assert set(np.unique(y.array)) == {np.float32(0), np.float32(1 / 0.75)}
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, y.array)
    if op is F.dropout2d:
        assert (y.array == y.array[:, :, :1, :1]).all()


@pytest.mark.parametrize("op", [F.dropout, F.dropout2d])
def test_evaluation_in_place_and_seeds(op):
    x = fastnn.ones(4, 5, 2, 3)
    assert op(x, 0.5, training=False) is x and op(x, 0.0) is x
    assert not op(x, 1.0).array.any()
    fastnn.manual_seed(3)
    a, b = op(x).array, op(x).array
    assert (a != b).any()
    fastnn.manual_seed(3)
    h = fastnn.ones(4, 5, 2, 3, requires_grad=True) * 1
    assert op(h, inplace=True) is h
    np.testing.assert_array_equal(h.array, a)


def test_nan_and_infinity_pass_as_products():
    x = fastnn.tensor([np.nan, np.inf, 1.0])
    close(F.dropout(x, 1.0), [np.nan, np.nan, 0.0])


def test_refusals():
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="p must be from 0 to 1"):
            F.dropout(fastnn.ones(3), p)
        with pytest.raises(ValueError, match="Dropout2d: the probability p must be from 0 to 1"):
            nn.Dropout2d(p)
    with pytest.raises(RuntimeError, match=r"dropout2d: input must be \(N, C, H, W\), but has shape \(3,\)"):
        F.dropout2d(fastnn.ones(3))
    with pytest.raises(TypeError, match="dropout: input must be float32 or float64, but is int64"):
        F.dropout(fastnn.tensor([1]))


def test_modules():
    x = fastnn.ones(50, 4, 2, 2)
    for module in (nn.Dropout(0.2), nn.Dropout2d(0.2)):
        assert (module(x).array == 0).any()
        assert module.eval()(x) is x
    assert repr(nn.Dropout2d(0.2, inplace=True)) == "Dropout2d(p=0.2, inplace=True)"


@pytest.mark.parametrize("isa", backend.instruction_sets())
def test_kernels_refuse_what_does_not_fit(isa):
    kernels = backend.load("compiled", isa)["dropout"]
    x, mask = np.ones(65, np.float32), np.zeros(2, np.uint64)
    for bad in (mask[:1], np.zeros(3, np.uint64), mask.view(np.int64), np.zeros(4, np.uint64)[::2], mask[None]):
        with pytest.raises(ValueError, match="kernel: the mask of 65 elements"):
            kernels.dropout(x, 0.5, 1, bad, x.copy(), 1)
    for p in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match="kernel: p must be from 0 to 1"):
            kernels.dropout_backward(x, mask, p, x.copy(), 1)


@pytest.mark.parametrize("op", [F.dropout1d, F.alpha_dropout, F.feature_alpha_dropout])
def test_kin_gradient_memory_and_threads(rng, op):
    x = rng.standard_normal((5, 7, 3))
    check(op, x, kwargs={"p": 0.3, "training": True})
    check(op, x, kwargs={"p": 1.0, "training": True})
    t = fastnn.tensor(x)
    assert op(t, 0.5, training=False) is t and op(t, 0.0, training=True) is t
    assert op(t, 0.5, training=True, inplace=True) is t
    for p in (-0.1, np.nan):
        with pytest.raises(ValueError, match="p must be from 0 to 1"):
            op(t, p)


@pytest.mark.parametrize("op", [F.alpha_dropout, F.feature_alpha_dropout])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(op, p):
    fastnn.manual_seed(0)
    x = fastnn.randn(600, 500, 2)
    y = op(x, p, training=True).array.astype(np.float64)
    assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.01
    low = y.min(2) if op is F.feature_alpha_dropout else y
    q, saturation = 1 - p, -1.7580993408473766
    a = (q + saturation**2 * q * (1 - q)) ** -0.5  # the paper's
    dropped = a * saturation - a * (1 - q) * saturation
    rate = (np.abs(low - dropped) < 1e-5).mean()
    assert abs(rate - p) < 5 * np.sqrt(p * (1 - p) / low.size)


@pytest.mark.parametrize("mode", ["batch", "row"])
@pytest.mark.parametrize("shape", [(400, 3), (400, 3, 2, 2), (400,)], ids=str)
def test_stochastic_depth(rng, mode, shape):
    check(lambda x: F.stochastic_depth(x, 0.3, mode), rng.standard_normal((5, *shape[1:])))
    fastnn.manual_seed(1)
    kept = [F.stochastic_depth(fastnn.ones(*shape), 0.3, mode).array.reshape(400, -1) for _ in range(40)]
    kept = np.concatenate(kept)
    assert (kept == kept[:, :1]).all() and set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.7)}
    draws = kept[:, 0] if mode == "row" else kept[::400, 0]
    assert abs((draws > 0).mean() - 0.7) < 5 * np.sqrt(0.21 / draws.size)
    assert mode == "row" or (kept.reshape(40, -1) == kept[::400, :1]).all()
    x = fastnn.ones(*shape)
    assert nn.StochasticDepth(0.3, mode).eval()(x) is x and not F.stochastic_depth(x, 1.0, mode).array.any()
    with pytest.raises(ValueError, match="mode must be 'batch' or 'row'"):
        F.stochastic_depth(x, 0.3, "rows")
    with pytest.raises(ValueError, match="p must be from 0 to 1"):
        nn.StochasticDepth(1.3, mode)


def test_gaussian_noise(rng):
    x = rng.standard_normal((300, 400)) * 3
    layer = nn.GaussianNoise(0.2)
    fastnn.manual_seed(2)
    noise = layer(fastnn.tensor(x)).array - x
    assert abs(noise.mean()) < 0.004 and abs(noise.std() - 0.2) < 0.002
    part = F.gaussian_noise(fastnn.tensor(x), 0.2, relative=True).array / x - 1
    assert abs(part.mean()) < 0.004 and abs(part.std() - 0.2) < 0.002
    check(lambda x: F.gaussian_noise(x, 0.2, True), x[:3, :4], dtypes=[np.float64])  # another stream in float32
    t = fastnn.tensor(x)
    assert layer.eval()(t) is t and repr(layer) == "GaussianNoise(std=0.2, relative=False)"
    with pytest.raises(ValueError, match="std must not be negative"):
        F.gaussian_noise(t, -1.0)


@pytest.mark.parametrize("biases", [False, True])
def test_dropconnect(rng, biases):
    layer = nn.Linear(30, 40)
    weight = layer.weight
    net, x = nn.DropConnect(layer, 0.25, biases), fastnn.randn(7, 30)
    assert list(net.state_dict()) == ["module.weight", "module.bias"]
    assert net.eval()(x).tolist() == layer(x).tolist()
    net.train()
    masks = []
    for _ in range(400):
        net.zero_grad()
        net(fastnn.ones(1, 30)).sum().backward()
        masks.append(weight.grad.array.copy())
    masks = np.stack(masks)
    assert set(np.unique(masks)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(masks.mean() - 1) < 5 * np.sqrt(0.25 / 0.75 / masks.size)  # so that expectations agree
    assert (layer.bias.grad.array == 1).all() != biases
    assert layer.weight is weight and dict(layer.named_parameters())["weight"] is weight
    with pytest.raises(ValueError):
        net(fastnn.ones(1, 31))
    assert layer.weight is weight
    conv = nn.DropConnect(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, (1, 2))), 1.0)
    conv(fastnn.randn(1, 2, 6, 7)).sum().backward()
    assert not conv.module[0].weight.grad.array.any()
    with pytest.raises(ValueError, match="DropConnect: the probability"):
        nn.DropConnect(layer, 2.0)


def test_dropconnect_nested_and_around_a_change():
    """Each drops on its own; in evaluation a weight that the call replaces stays replaced."""
    layer = nn.Linear(300, 200, bias=False)
    nn.DropConnect(nn.DropConnect(layer, 0.5), 0.75)(fastnn.ones(1, 300)).sum().backward()
    kept = layer.weight.grad.array
    assert set(np.unique(kept)) == {np.float32(0), np.float32(8)}
    assert abs((kept > 0).mean() - 1 / 8) < 5 * np.sqrt(7 / 64 / kept.size)
    assert vars(layer)["weight"] is layer._parameters["weight"]

    class Renewed(nn.Linear):
        def forward(self, x):
            self.weight = nn.Parameter(fastnn.zeros(2, 3))
            return super().forward(x)

    net = nn.DropConnect(Renewed(3, 2), 0.5).eval()
    assert net(fastnn.ones(1, 3)).tolist() == [net.module.bias.tolist()]
    assert net.module.weight is net.module._parameters["weight"]


@pytest.mark.parametrize("biases", [False, True])
def test_dropconnect_drops_the_weight_that_weight_norm_computes(biases):
    layer = nn.utils.weight_norm(nn.Linear(30, 20))
    weight, parts = layer.weight.array.copy(), [layer.weight_g, layer.weight_v]
    net = nn.DropConnect(nn.DropConnect(layer, 0.5, biases), 0.5)
    dropped = net(fastnn.eye(30)).array - net(fastnn.zeros(1, 30)).array * (not biases)
    if not biases:  # the bias is in both
        kept = np.abs(dropped.T) > 1e-6
        np.testing.assert_allclose(dropped.T[kept], 4 * weight[kept], rtol=1e-4)
        assert abs(kept.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
    net(fastnn.eye(30)).sum().backward()
    assert all(p.grad is not None and np.isfinite(p.grad.array).all() for p in parts)
    assert layer.weight_g is parts[0] and layer.weight_v is parts[1]
    np.testing.assert_array_equal(net.eval()(fastnn.eye(30)).array, layer(fastnn.eye(30)).array)
    np.testing.assert_allclose(layer.weight.array, weight, rtol=1e-6)


def test_masks_repeat_whatever_the_threads():
    makers = (nn.Dropout1d(0.3), nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3), nn.GaussianNoise(0.3),
              nn.StochasticDepth(0.3, "row"), nn.DropConnect(nn.Linear(90, 80), 0.3))  # fmt: skip
    x, threads = fastnn.randn(60, 20, 90), fastnn.get_num_threads()
    for module in makers:
        found = set()
        for n in (1, 2, 3):
            fastnn.set_num_threads(n)
            fastnn.manual_seed(5)
            found.add(module(x).array.tobytes())
        fastnn.set_num_threads(threads)
        assert len(found) == 1 and module(x).array.tobytes() not in found, module
