"""Averages of parameters, against sums written out."""

import copy

import numpy as np
import pytest
from harness import close

import fastnn
from fastnn import layout, nn
from fastnn.optim import SGD, swa_utils
from fastnn.tensor import Tensor


class Net(nn.Module):
    """Parameters of all memory orders, one with gaps, and an integer buffer."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Conv2d(3, 4, (2, 3), dtype=dtype).weight
        self.scale = nn.Parameter(Tensor(np.zeros((4, 6), dtype)[:, ::2]))
        self.register_buffer("count", Tensor(np.zeros(3, np.int64)))
        self.register_buffer("mean", Tensor(layout.channels_last(np.zeros((2, 3, 4, 5), dtype))))

    def draw(self, rng):
        for tensor in (self.weight, self.scale, self.count, self.mean):
            tensor.data = (10 * rng.standard_normal(tensor.shape)).astype(tensor.dtype)
        return [tensor.array.copy() for tensor in (self.weight, self.scale, self.count, self.mean)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("kind", ["mean", "mean, one by one", "ema", "ema, one by one"])
def test_averages(rng, kind, use_buffers, dtype):
    options = {
        "mean": {}, "mean, one by one": {"avg_fn": swa_utils.get_swa_avg_fn()},
        "ema": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.75)},
        "ema, one by one": {"avg_fn": swa_utils.get_ema_avg_fn(0.75)},
    }[kind]  # fmt: skip
    model = Net(dtype)
    averaged = swa_utils.AveragedModel(model, use_buffers=use_buffers, **options)
    drawn = []
    for i in range(5):
        drawn.append(model.draw(rng))
        averaged.update_parameters(model)
        weights = np.full(i + 1, 1 / (i + 1))
        if "ema" in kind:
            weights = 0.25 * 0.75 ** np.arange(i, -1.0, -1)
            weights[0] *= 4
        got = averaged.module.weight, averaged.module.scale, averaged.module.count, averaged.module.mean
        for j, tensor in enumerate(got):
            assert tensor.dtype == drawn[0][j].dtype
            if j < 2 or (use_buffers and j == 3):
                close(tensor.array, sum(w * d[j].astype(float) for w, d in zip(weights, drawn, strict=True)))
            elif not use_buffers:
                np.testing.assert_array_equal(tensor.array, drawn[-1][j])
    assert averaged.n_averaged.item() == 5 and not averaged.module.weight.grad_fn
    assert averaged.state_dict().keys() == {
        "n_averaged", "module.weight", "module.scale", "module.count", "module.mean"}  # fmt: skip
    other = swa_utils.AveragedModel(Net(dtype), **options)
    other.load_state_dict(averaged.state_dict())
    copied = copy.deepcopy(other)
    model.draw(rng)
    for a in (averaged, other, copied):
        a.update_parameters(model)
    for a in (other, copied):
        assert a.module.weight.array.tobytes() == averaged.module.weight.array.tobytes()
        assert a.n_averaged.item() == 6


def test_integers_of_averaged_buffers(rng):
    model = Net("float32")
    averaged = swa_utils.AveragedModel(model, use_buffers=True)
    for value in (3, 5):
        model.count.data = np.full(3, value)
        averaged.update_parameters(model)
    assert averaged.module.count.tolist() == [4, 4, 4]


def test_an_average_trains_no_more_and_predicts():
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    averaged = swa_utils.AveragedModel(model).eval()
    x = fastnn.ones(4, 3)
    before = averaged(x).tolist()
    model(x).sum().backward()
    SGD(model.parameters(), lr=1.0).step()
    assert averaged(x).tolist() == before
    assert model.training and averaged.module[0].weight.grad is None


def test_update_bn(rng):
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5, momentum=0.3), nn.Dropout(0.5)).double()
    averaged = swa_utils.AveragedModel(model).eval()
    batches = [Tensor(rng.standard_normal((8, 3))) for _ in range(4)]
    swa_utils.update_bn([batches[0], (batches[1], "label"), [batches[2]], batches[3]], averaged)
    outputs = [model[0](x).detach().numpy() for x in batches]
    norm = averaged.module[1]
    close(norm.running_mean, np.mean([y.mean(axis=0) for y in outputs], axis=0))
    close(norm.running_var, np.mean([y.var(axis=0, ddof=1) for y in outputs], axis=0))
    assert norm.momentum == 0.3 and norm.num_batches_tracked.item() == 4
    assert not averaged.training and not norm.training


def test_swalr():
    optimizer = SGD([fastnn.ones(1, requires_grad=True)], lr=1.0)
    schedule = swa_utils.SWALR(optimizer, swa_lr=0.2, anneal_epochs=4, anneal_strategy="linear")
    rates = []
    for _ in range(7):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    close(rates, [1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("make, message", [
    (lambda: swa_utils.get_ema_avg_fn(1.1), "Invalid decay value 1.1"),
    (lambda: swa_utils.get_ema_multi_avg_fn(-0.1), "Invalid decay value -0.1"),
    (lambda: swa_utils.AveragedModel(nn.Linear(2, 2), avg_fn=max, multi_avg_fn=max), "Only one of"),
])  # fmt: skip
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
