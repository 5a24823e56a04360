"""Learning-rate schedules, against their closed forms."""

import math
import warnings

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
        assert [group["initial_lr"] for group in optimizer.param_groups] == list(RATES)
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
