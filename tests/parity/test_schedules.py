"""Learning-rate schedules against PyTorch: the rate of every step, of every group, also resumed from a state dict."""

import math

import pytest

from .pairs import check, check_raises

SCHEDULES = {
    "StepLR": [{"step_size": 3}, {"step_size": 1, "gamma": 0.5}, {"step_size": 7, "gamma": 2.0}],
    "MultiStepLR": [
        {"milestones": [2, 5, 5, 11]},
        {"milestones": [8, 3], "gamma": 0.3},
        {"milestones": [0, 1], "gamma": 0.5},
    ],
    "ExponentialLR": [{"gamma": 0.9}, {"gamma": 1.1}],
    "CosineAnnealingLR": [{"T_max": 10}, {"T_max": 4, "eta_min": 0.01}, {"T_max": 20, "eta_min": 0.2}, {"T_max": 1}],
    "LambdaLR": [
        {"lr_lambda": lambda epoch: 0.95**epoch},
        {"lr_lambda": lambda epoch: min(1.0, (epoch + 1) / 5)},
        {"lr_lambda": [lambda epoch: 1 / (1 + epoch), lambda epoch: math.cos(epoch / 30)]},
    ],
}
CASES = [(name, arguments) for name, table in SCHEDULES.items() for arguments in table]


def optimizer_of(lib, lr=0.1):
    p, q = lib.nn.Parameter(lib.ones(2)), lib.nn.Parameter(lib.ones(3))
    return lib.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.7}], lr=lr)


def rates(optimizer, scheduler, steps):
    out = []
    for _ in range(steps):
        out.append((scheduler.get_last_lr(), [g["lr"] for g in optimizer.param_groups], scheduler.last_epoch))
        optimizer.step()
        scheduler.step()
    return out


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_rates(name, arguments):
    def case(lib):
        optimizer = optimizer_of(lib)
        return rates(optimizer, getattr(lib.optim.lr_scheduler, name)(optimizer, **arguments), 25)

    check(case, dtypes=("float64",))


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_resuming(name, arguments):
    """State dicts of optimizer and schedule carry on where the first run was."""

    def case(lib):
        optimizer = optimizer_of(lib)
        scheduler = getattr(lib.optim.lr_scheduler, name)(optimizer, **arguments)
        rates(optimizer, scheduler, 6)
        optimizer2 = optimizer_of(lib, lr=0.3)
        scheduler2 = getattr(lib.optim.lr_scheduler, name)(optimizer2, **arguments)
        optimizer2.load_state_dict(optimizer.state_dict())
        scheduler2.load_state_dict(scheduler.state_dict())
        return rates(optimizer2, scheduler2, 12), rates(optimizer, scheduler, 12)

    check(case, dtypes=("float64",))


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_starting_late(name, arguments):
    """`last_epoch` with the groups' `initial_lr`, as when a run is resumed by hand."""

    def case(lib):
        optimizer = optimizer_of(lib)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"] * 2
        scheduler = getattr(lib.optim.lr_scheduler, name)(optimizer, **arguments, last_epoch=4)
        return rates(optimizer, scheduler, 8)

    check(case, dtypes=("float64",))


def test_two_schedules_chained():
    def case(lib):
        optimizer = optimizer_of(lib)
        first = lib.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        second = lib.optim.lr_scheduler.StepLR(optimizer, 3)
        out = []
        for _ in range(8):
            optimizer.step()
            first.step()
            second.step()
            out.append([g["lr"] for g in optimizer.param_groups])
        return out

    check(case, dtypes=("float64",))


def test_the_schedule_moves_the_optimizer():
    def case(lib):
        p = lib.nn.Parameter(lib.ones(2, dtype=lib.float64))
        optimizer = lib.optim.SGD([p], lr=1.0)
        scheduler = lib.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
        for _ in range(5):
            p.grad = lib.ones(2, dtype=lib.float64)
            optimizer.step()
            scheduler.step()
        return p.detach(), scheduler.last_epoch

    check(case, dtypes=("float64",))


MISTAKES = {
    "not an optimizer": lambda lib: lib.optim.lr_scheduler.StepLR(lib.ones(2), 3),
    "lambda count": lambda lib: lib.optim.lr_scheduler.LambdaLR(optimizer_of(lib), [lambda epoch: 1.0]),
    "late without initial_lr": lambda lib: lib.optim.lr_scheduler.StepLR(optimizer_of(lib), 3, last_epoch=4),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name])
