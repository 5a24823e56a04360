"""Learning-rate schedules, against their closed forms."""

import math
import warnings

import numpy as np
import pytest
from harness import close

import fastnn
from fastnn import optim
from fastnn.optim import lr_scheduler

RATES = (0.1, 0.03)  # of two groups


def make_optimizer(**options):
    groups = [{"params": [fastnn.zeros(1, requires_grad=True)], "lr": lr, **options} for lr in RATES]
    return optim.SGD(groups)


SCHEDULES = {
    "StepLR": ({"step_size": 3, "gamma": 0.3}, lambda lr, t: lr * 0.3 ** (t // 3)),
    "MultiStepLR": (
        {"milestones": [5, 2, 2, 9], "gamma": 0.7}, lambda lr, t: lr * 0.7 ** sum(t >= m for m in (2, 2, 5, 9))
    ),
    "ExponentialLR": ({"gamma": 0.9}, lambda lr, t: lr * 0.9**t),
    "CosineAnnealingLR": (
        {"T_max": 6, "eta_min": 0.01}, lambda lr, t: 0.01 + (lr - 0.01) * (1 + math.cos(math.pi * t / 6)) / 2
    ),
    "ConstantLR": ({"factor": 0.2, "total_iters": 7}, lambda lr, t: lr * (0.2 if t < 7 else 1)),
    "LinearLR": (
        {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 8}, lambda lr, t: lr * (0.1 + 0.6 * min(t, 8) / 8)
    ),
    "PolynomialLR": ({"total_iters": 12, "power": 1.5}, lambda lr, t: lr * (1 - min(t, 12) / 12) ** 1.5),
    "InverseTimeLR": ({"decay_rate": 0.5, "decay_steps": 3}, lambda lr, t: lr / (1 + 0.5 * t / 3)),
    "MultiplicativeLR": ({"lr_lambda": lambda epoch: 0.9}, lambda lr, t: lr * 0.9**t),
    "CosineAnnealingWarmRestarts": (
        {"T_0": 6, "T_mult": 2, "eta_min": 0.01},
        lambda lr, t: 0.01
        + (lr - 0.01) * (1 + math.cos(math.pi * ((t + 6) / 6 / 2 ** (t // 6 > 0) / 2 ** (t > 17) - 1))) / 2,
    ),
    "CyclicLR": (
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 2, "step_size_down": 4, "mode": "triangular2"},
        lambda lr, t: 0.1 + 0.4 / 2 ** (t // 6) * (t % 6 / 2 if t % 6 < 2 else (6 - t % 6) / 4),
    ),
    "OneCycleLR": (
        {"max_lr": 0.5, "total_steps": 31, "pct_start": 11 / 31, "anneal_strategy": "linear", "div_factor": 5.0,
         "final_div_factor": 10.0},
        lambda lr, t: 0.1 + 0.4 * t / 10 if t <= 10 else 0.5 - 0.49 * (t - 10) / 20,
    ),
    "LambdaLR": ({"lr_lambda": lambda epoch: 1 / (epoch + 1)}, lambda lr, t: lr / (t + 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_closed_form(name):
    options, rate = SCHEDULES[name]
    optimizer = make_optimizer()
    schedule = getattr(lr_scheduler, name)(optimizer, **options)
    for t in range(25):
        assert schedule.last_epoch == t
        assert schedule.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        close(schedule.get_last_lr(), [rate(lr, t) for lr in RATES])
        first = [0.1, 0.1] if name in ("CyclicLR", "OneCycleLR") else list(RATES)
        assert [group["initial_lr"] for group in optimizer.param_groups] == first
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_dict_resumes(name, tmp_path):
    options, _ = SCHEDULES[name]
    optimizer = make_optimizer()
    schedule = getattr(lr_scheduler, name)(optimizer, **options)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    fastnn.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, tmp_path / "state")
    other = make_optimizer()
    resumed = getattr(lr_scheduler, name)(other, **options)
    state = fastnn.load(tmp_path / "state")
    other.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["schedule"])
    for _ in range(12):
        optimizer.step()
        schedule.step()
        other.step()
        resumed.step()
        assert resumed.get_last_lr() == schedule.get_last_lr() == [group["lr"] for group in other.param_groups]


def test_last_epoch_goes_on():
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(make_optimizer(), 3, last_epoch=4)
    schedule = lr_scheduler.StepLR(make_optimizer(initial_lr=1.0), 5, gamma=0.5, last_epoch=4)
    assert schedule.last_epoch == 5 and schedule.get_last_lr() == [0.05, 0.015]
    schedule = lr_scheduler.LambdaLR(make_optimizer(initial_lr=1.0), lambda epoch: epoch, last_epoch=4)
    assert schedule.get_last_lr() == [5.0, 5.0]


def test_changes_by_hand_compose():
    optimizer = make_optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.param_groups[0]["lr"] = 8.0
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [4.0, 0.015]


def test_lambdas_one_a_group():
    optimizer = make_optimizer()
    schedule = lr_scheduler.LambdaLR(optimizer, [lambda epoch: 1 + epoch, lambda epoch: 2])
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.2, 0.06]
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        lr_scheduler.LambdaLR(optimizer, [lambda epoch: 1])


def test_stepping_before_the_optimizer_warns():
    optimizer = make_optimizer()
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.9)
    with pytest.warns(UserWarning, match="before optimizer.step"):
        schedule.step()

    class Other(optim.SGD):
        def step(self, closure=None):
            pass

    with warnings.catch_warnings():  # an optimizer with a step of its own is left in peace
        warnings.simplefilter("error")
        lr_scheduler.ExponentialLR(Other([fastnn.zeros(1, requires_grad=True)]), 0.9).step()


def test_needs_an_optimizer():
    with pytest.raises(TypeError, match="list is not an Optimizer"):
        lr_scheduler.StepLR([], 3)


def test_own_schedule():
    class Halving(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [lr / 2**self.last_epoch for lr in self.base_lrs]

    optimizer = make_optimizer()
    schedule = Halving(optimizer)
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.05, 0.015]


def run(optimizer, schedule, steps, *arguments):
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step(*arguments)
    return rates


def test_linear_warm_up():
    optimizer = make_optimizer()
    warmup = lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    decay = lr_scheduler.InverseTimeLR(optimizer, decay_rate=1.0)
    schedule = lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[3])
    close(run(optimizer, schedule, 7), [0.025, 0.05, 0.075, 0.1, 0.05, 0.1 / 3, 0.025])


def test_schedules_at_once():
    optimizer = make_optimizer()
    parts = [lr_scheduler.ConstantLR(optimizer, 0.5, 2), lr_scheduler.ExponentialLR(optimizer, 0.1)]
    close(run(optimizer, lr_scheduler.ChainedScheduler(parts), 4), [0.05, 0.005, 0.001, 0.0001])


def test_plateau():
    optimizer = make_optimizer()
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, min_lr=0.03)
    for metric, rate in ((5, 0.1), (5, 0.1), (5, 0.05), (5, 0.05), (5, 0.05), (5, 0.03), (1, 0.03), (0.9999, 0.03)):
        schedule.step(metric)
        assert schedule.get_last_lr() == [rate, 0.03]
    assert schedule.best == 1 and schedule.last_epoch == 8


def test_plateau_lowers_a_group_that_came_later():
    optimizer = make_optimizer()
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, min_lr=0.02)
    optimizer.add_param_group({"params": fastnn.zeros(1, requires_grad=True), "lr": 1.0})
    for _ in range(2):
        schedule.step(1.0)
    assert schedule.get_last_lr() == [0.05, 0.02, 0.5]


def test_restarts_begin_exactly():
    """Where the logarithm that counts the runs would be rounded down: 3⁵ = 1 + 2·121."""
    schedule = lr_scheduler.CosineAnnealingWarmRestarts(make_optimizer(), 1, 3)
    for epoch in (1, 4, 13, 40, 121, 364, 1093):
        schedule.step(epoch)
        assert schedule.get_last_lr() == list(RATES) and schedule.T_cur == 0 and schedule.T_i == 2 * epoch + 1


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_momentum_falls_while_the_rate_rises(name):
    optimizer = getattr(optim, name)([fastnn.zeros(1, requires_grad=True)], lr=0.1)
    schedule, momenta = lr_scheduler.OneCycleLR(optimizer, 1.0, 11, pct_start=5 / 11, anneal_strategy="linear"), []
    for _ in range(11):
        group = optimizer.param_groups[0]
        momenta.append(group["momentum"] if name == "SGD" else group["betas"][0])
        optimizer.step()
        schedule.step()
    close(momenta, [*np.linspace(0.95, 0.85, 5), *np.linspace(0.85, 0.95, 7)[1:]])


@pytest.mark.parametrize("name", SCHEDULES)
def test_step_to_an_epoch(name):
    options, rate = SCHEDULES[name]
    optimizer = make_optimizer()
    schedule = getattr(lr_scheduler, name)(optimizer, **options)
    optimizer.step()
    for epoch in (7, 2, 20, 0) if name != "MultiplicativeLR" else ():
        schedule.step(epoch)
        assert schedule.last_epoch == epoch
        close(schedule.get_last_lr(), [rate(lr, epoch) for lr in RATES])


@pytest.mark.parametrize("make, error", [
    (lambda o: lr_scheduler.InverseTimeLR(o, -1.0), "decay_rate >= 0"),
    (lambda o: lr_scheduler.InverseTimeLR(o, 1.0, 0), "decay_steps > 0"),
    (lambda o: lr_scheduler.StepLR(o, 0), "step_size must be at least 1, but 0 came"),
    (lambda o: lr_scheduler.LinearLR(o, start_factor=0), "start_factor must be"),
    (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3).step(math.inf), "non-negative epoch, but got inf"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="up"), "mode up is unknown"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ConstantLR(o)], [3]), "1 schedulers need one milestone less"),
])  # fmt: skip
def test_refusals(make, error):
    with pytest.raises(ValueError, match=error):
        make(make_optimizer())
