"""Clipping of gradients; parameters as a vector; weight norm; Monte-Carlo dropout."""

import copy
import math
import pickle

import numpy as np
import pytest
from harness import close

import fastnn
from fastnn import layout, nn
from fastnn.nn import utils
from fastnn.tensor import Tensor


def parameters(rng, dtype=np.float32):
    """With gradients of different memory orders, and one without."""
    params = [Tensor(np.zeros(shape, dtype), True) for shape in ((3, 5), (), (2, 3, 4, 5), (7,), (0,))]
    for p in params:
        p.grad = Tensor(np.asarray(rng.standard_normal(p.shape), dtype))
    params[2].grad = Tensor(layout.channels_last(params[2].grad.array))
    params[3].grad = None
    return params


def vector(params):
    return np.concatenate([p.grad.array.ravel() for p in params if p.grad is not None]).astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm_type", [1, 2, 2.0, 3.5, math.inf, "inf"])
def test_clip_grad_norm(rng, norm_type, dtype):
    params = parameters(rng, dtype)
    before = vector(params)
    norm = np.linalg.norm(before, float(norm_type))
    close(utils.clip_grad_norm_(iter(params), 1e9, norm_type), norm, np.dtype(dtype))
    assert vector(params).tolist() == before.tolist()  # not clipped, so not touched
    total = utils.clip_grad_norm_(iter(params), 0.5, norm_type)
    assert total.dtype == dtype and total.shape == ()
    close(total, norm)
    close(vector(params), before * 0.5 / (norm + 1e-6), np.dtype(dtype))


def test_clip_grad_norm_by_hand():
    p, q = fastnn.zeros(1, requires_grad=True), fastnn.zeros(1, requires_grad=True)
    p.grad, q.grad = fastnn.tensor([3.0]), fastnn.tensor([-4.0])
    grad = p.grad
    assert utils.clip_grad_norm_([p, q], 10).item() == 5 and p.grad.item() == 3
    assert utils.clip_grad_norm_([p, q], 2.5).item() == 5
    assert p.grad is grad
    close([p.grad.item(), q.grad.item()], [1.5, -2.0], np.dtype("float32"))
    assert utils.clip_grad_norm_(p, 100.0, 1).item() == pytest.approx(1.5)


def test_clip_grad_norm_without_gradients():
    assert utils.clip_grad_norm_([], 1.0).item() == 0
    assert utils.clip_grad_norm_([fastnn.ones(2, requires_grad=True)], 1.0).item() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clip_grad_norm_of_nonfinite_gradients(bad):
    p = fastnn.zeros(2, requires_grad=True)
    p.grad = fastnn.tensor([1.0, bad])
    with pytest.raises(RuntimeError, match="error_if_nonfinite"):
        utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad[0].item() == 1
    total = utils.clip_grad_norm_([p], 1.0).item()
    close(total, bad)
    close(p.grad, [math.nan if math.isnan(bad) else 0.0, math.nan])


def test_norms_do_not_overflow_on_the_way():
    p = fastnn.zeros(2, requires_grad=True)
    p.grad = fastnn.tensor([3e30, 4e30])
    close(utils.clip_grad_norm_([p], 1.0).item() / 5e30, 1.0, np.dtype("float32"))
    close(p.grad, [0.6, 0.8])


def test_norm_type_is_checked():
    with pytest.raises(ValueError, match="norm_type"):
        utils.clip_grad_norm_([], 1.0, norm_type=0)


def test_clip_grad_value(rng):
    params = parameters(rng)
    before = vector(params)
    utils.clip_grad_value_(params, 0.4)
    assert vector(params).tolist() == np.clip(before, np.float32(-0.4), np.float32(0.4)).tolist()
    assert params[3].grad is None


def test_parameters_to_vector_and_back(rng):
    params = [Tensor(rng.standard_normal(shape), True) for shape in ((3, 2), (), (2, 3, 2, 4))]
    params[2] = Tensor(layout.channels_last(params[2].array), True)
    strides = params[2].array.strides
    vec = utils.parameters_to_vector(p for p in params)
    expected = np.concatenate([p.array.ravel() for p in params])
    assert vec.tolist() == expected.tolist()
    (vec * Tensor(np.arange(55.0))).sum().backward()
    assert vector(params).tolist() == list(range(55))
    assert params[2].array.strides == strides


@pytest.mark.parametrize("norm_type", [2.0, math.inf, 1.0])
def test_norms_of_any_memory(rng, norm_type):
    """Of gradients permuted, with gaps and byte-swapped; the same bits at any number of threads."""
    grads = [rng.standard_normal((30, 5, 3, 3)).transpose(2, 3, 1, 0), rng.standard_normal((6, 10))[:, ::2],
             rng.standard_normal(40_000).astype(np.float32), rng.standard_normal(9).astype(">f8")]
    flat = np.concatenate([g.astype(float).ravel() for g in grads])
    found = set()
    for threads in 1, 2, 3:
        fastnn.set_num_threads(threads)
        params = [fastnn.tensor(np.zeros(g.shape), requires_grad=True) for g in grads]
        for p, g in zip(params, grads, strict=True):
            p.grad = fastnn.Tensor(g.copy(order="K"))
        found.add(utils.clip_grad_norm_(params, 1.0, norm_type).item())
        after = np.concatenate([p.grad.array.astype(float).ravel() for p in params])
        np.testing.assert_allclose(np.linalg.norm(after, norm_type), 1, rtol=1e-5)
        utils.clip_grad_value_(params, 1e-3)
        assert max(np.abs(p.grad.array).max() for p in params) <= np.float32(1e-3)
    assert len(found) == 1
    np.testing.assert_allclose(found.pop(), np.linalg.norm(flat, norm_type), rtol=1e-6)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(rng, dim):
    layer = nn.Conv2d(3, 4, (3, 2))
    before = layer.weight.array.copy()
    assert utils.weight_norm(layer, dim=dim) is layer
    axes = tuple(a for a in range(4) if a != dim)
    lengths = np.sqrt((before.astype(np.float64) ** 2).sum(axes, keepdims=dim is not None))
    close(layer.weight_g, lengths, np.float32)
    close(layer.weight, before, np.float32)
    assert sorted(dict(layer.named_parameters())) == ["bias", "weight_g", "weight_v"]
    x = fastnn.randn(2, 3, 6, 5)
    layer(x).sum().backward()
    for p in (layer.weight_g, layer.weight_v):
        assert p.grad.shape == p.shape
    with fastnn.no_grad():
        layer.weight_g.mul_(2)  # v's length does not matter
        layer.weight_v.mul_(3)
    y = layer(x)
    close(layer.weight, 2 * before, np.float32)
    for again in copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)):
        assert again(x).tolist() == y.tolist() and again.weight_v is not layer.weight_v
    utils.remove_weight_norm(layer)
    assert sorted(dict(layer.named_parameters())) == ["bias", "weight"] and layer(x).tolist() == y.tolist()
    with pytest.raises(ValueError, match="has no weight norm of 'weight'"):
        utils.remove_weight_norm(layer)


def test_weight_norm_trains():
    layer, x = utils.weight_norm(nn.Linear(3, 2)), fastnn.randn(20, 3)
    target, optimizer = fastnn.randn(20, 2), fastnn.optim.SGD(layer.parameters(), 0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = ((layer(x) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and sorted(losses, reverse=True) == losses


def test_mc_dropout():
    net = nn.Sequential(nn.Linear(4, 50), nn.BatchNorm1d(50), nn.Dropout(0.5), nn.DropConnect(nn.Linear(50, 3), 0.2))
    net[2].eval()
    x, modes = fastnn.randn(6, 4), [m.training for m in net.modules()]
    fastnn.manual_seed(1)
    mean, std = utils.mc_dropout(net, x, samples=30)
    fastnn.manual_seed(1)
    again = utils.mc_dropout(net, x, samples=30)
    assert mean.tolist() == again[0].tolist() and std.tolist() == again[1].tolist()
    assert mean.shape == std.shape == (6, 3) and (std.array > 0).all() and not mean.requires_grad
    assert [m.training for m in net.modules()] == modes and net[1].num_batches_tracked.item() == 0
    fastnn.manual_seed(1)
    net.eval()
    net[2].training = net[3].training = True
    draws = np.stack([net(x).detach().numpy() for _ in range(30)]).astype(np.float64)
    close(mean, draws.mean(0), np.float32)
    close(std, draws.std(0, ddof=1), np.float32)
    net.train()
    with pytest.raises(ValueError):
        utils.mc_dropout(net, fastnn.randn(6, 5))
    assert all(m.training for m in net.modules())
    with pytest.raises(ValueError, match="samples must be at least 2"):
        utils.mc_dropout(net, x, samples=1)


def test_vector_to_parameters(rng):
    params = [Tensor(rng.standard_normal(shape), True) for shape in ((3, 2), (), (2, 3, 2, 4))]
    params[2] = Tensor(layout.channels_last(params[2].array), True)
    arrays, versions = [p.array for p in params], [p._version[0] for p in params]
    vec = Tensor(rng.standard_normal(55))
    utils.vector_to_parameters(vec, iter(params))
    assert vector_of(params) == vec.tolist()
    assert all(p.array is a and p._version[0] > v for p, a, v in zip(params, arrays, versions, strict=True))
    for wrong in (Tensor(np.zeros(54)), Tensor(np.zeros((5, 11)))):
        with pytest.raises(ValueError, match="a vector of shape"):
            utils.vector_to_parameters(wrong, params)


def vector_of(params):
    return np.concatenate([p.array.ravel() for p in params]).tolist()


def test_param_groups():
    nn = fastnn.nn
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2), nn.Linear(2, 2))
    model[4].weight.requires_grad_(False)
    decayed, others = utils.param_groups(model, 0.1, lr=0.5)
    assert decayed == {"params": [model[0].weight, model[3].weight], "weight_decay": 0.1, "lr": 0.5}
    assert others["params"] == [model[0].bias, model[1].weight, model[1].bias, model[3].bias, model[4].bias]
    assert others["weight_decay"] == 0 and others["lr"] == 0.5
    fastnn.optim.AdamW(utils.param_groups(model, 0.1))
    assert [g["weight_decay"] for g in utils.param_groups(nn.Linear(2, 3, bias=False), 0.1)] == [0.1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("shape, dim", [((5, 4), 0), ((5, 4), 1), ((6, 3, 2, 2), 0), ((2, 3, 4, 5), -2), ((7,), 0)])
def test_max_norm(rng, shape, dim, norm_type, dtype):
    p = Tensor(rng.standard_normal(shape).astype(dtype) * np.linspace(0.1, 2, shape[dim], dtype=dtype).reshape(
        [-1 if i == dim % len(shape) else 1 for i in range(len(shape))]), True)  # fmt: skip
    if p.ndim == 4:
        p = Tensor(layout.channels_last(p.array), True)
    before, array = p.array.copy(), p.array
    utils.max_norm_(p, 1.2, norm_type, dim)
    assert p.array is array
    changed = 0
    for i in range(shape[dim]):
        old, new = before.take(i, dim).astype(float).ravel(), p.array.take(i, dim).astype(float).ravel()
        norm = np.linalg.norm(old, norm_type)
        np.testing.assert_allclose(new, old if norm <= 1.2 else old * 1.2 / norm, rtol=1e-6)
        changed += norm > 1.2
    assert changed > 0


def test_max_norm_of_a_module(rng):
    model = fastnn.nn.Sequential(fastnn.nn.Linear(9, 4), fastnn.nn.Linear(4, 2)).double()
    with fastnn.no_grad():
        for p in model.parameters():
            p.fill_(3.0)
    loss = model(fastnn.ones(1, 9, dtype=fastnn.float64)).sum()
    utils.max_norm_(model, 1.0)
    close(model[0].weight, np.full((4, 9), 1 / 3))
    close(model[1].weight, np.full((2, 4), 1 / 2))
    assert model[0].bias.tolist() == [3.0] * 4 and model[0].weight.grad_fn is None
    with pytest.raises(RuntimeError, match="in place"):
        loss.backward()
    utils.max_norm_([model[0].weight], 0.0)
    assert not model[0].weight.array.any()
    for arguments in ((-1.0,), (1.0, 0.0)):
        with pytest.raises(ValueError, match="max_norm_"):
            utils.max_norm_(model, *arguments)


def test_max_norm_of_nothing_and_of_a_wrong_dim():
    for shape in ((0, 3), (3, 0)):
        utils.max_norm_(nn.Parameter(fastnn.zeros(*shape)), 1.0)
    with pytest.raises(IndexError, match="max_norm_: dim 2 is out of range"):
        utils.max_norm_(nn.Parameter(fastnn.zeros(2, 3)), 1.0, dim=2)
