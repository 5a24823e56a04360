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
    "ConstantLR": [{}, {"factor": 0.2, "total_iters": 9}, {"factor": 1.0}],
    "LinearLR": [{}, {"start_factor": 0.1, "total_iters": 12}, {"start_factor": 1.0, "end_factor": 0.0}],
    "PolynomialLR": [{}, {"total_iters": 12, "power": 2.0}, {"total_iters": 40, "power": 0.9}],
    "ExponentialLR": [{"gamma": 0.9}, {"gamma": 1.1}],
    "MultiplicativeLR": [
        {"lr_lambda": lambda epoch: 0.95},
        {"lr_lambda": [lambda epoch: 1 / (1 + epoch), lambda epoch: math.cos(epoch / 30)]},
    ],
    "CosineAnnealingWarmRestarts": [{"T_0": 5}, {"T_0": 3, "T_mult": 2, "eta_min": 0.01}, {"T_0": 1}],
    "CyclicLR": [
        {"base_lr": 0.01, "max_lr": 0.4, "step_size_up": 4},
        {"base_lr": [0.01, 0.1], "max_lr": [0.4, 0.3], "step_size_up": 3, "step_size_down": 5, "mode": "triangular2"},
        {"base_lr": 0.1, "max_lr": 0.9, "step_size_up": 6, "mode": "exp_range", "gamma": 0.97, "cycle_momentum": False},
        {"base_lr": 0.1, "max_lr": 0.9, "step_size_up": 4, "scale_fn": lambda x: 1 / x, "max_momentum": [0.95, 0.8]},
        {"base_lr": 0.1, "max_lr": 0.9, "step_size_up": 4, "scale_fn": lambda x: 0.9**x, "scale_mode": "iterations"},
    ],
    "OneCycleLR": [
        {"max_lr": 0.5, "total_steps": 40},
        {"max_lr": [0.5, 1.0], "epochs": 5, "steps_per_epoch": 8, "anneal_strategy": "linear", "pct_start": 0.1},
        {"max_lr": 0.5, "total_steps": 40, "three_phase": True, "div_factor": 10.0, "final_div_factor": 50.0},
        {"max_lr": 0.5, "total_steps": 45, "cycle_momentum": False, "base_momentum": 0.5},
    ],
    "CosineAnnealingLR": [{"T_max": 10}, {"T_max": 4, "eta_min": 0.01}, {"T_max": 20, "eta_min": 0.2}, {"T_max": 1}],
    "LambdaLR": [
        {"lr_lambda": lambda epoch: 0.95**epoch},
        {"lr_lambda": lambda epoch: min(1.0, (epoch + 1) / 5)},
        {"lr_lambda": [lambda epoch: 1 / (1 + epoch), lambda epoch: math.cos(epoch / 30)]},
    ],
}
CASES = [(name, arguments) for name, table in SCHEDULES.items() for arguments in table]


def optimizer_of(lib, lr=0.1, name="SGD", **options):
    p, q = lib.nn.Parameter(lib.ones(2)), lib.nn.Parameter(lib.ones(3))
    return getattr(lib.optim, name)([{"params": [p]}, {"params": [q], "lr": 0.7}], lr=lr, **options)


def momenta(optimizer):
    return [g.get("momentum", g.get("betas", (0.0,))[0]) for g in optimizer.param_groups]


def rates(optimizer, scheduler, steps):
    out = []
    for _ in range(steps):
        last = getattr(scheduler, "last_epoch", None)
        out.append((scheduler.get_last_lr(), [g["lr"] for g in optimizer.param_groups], momenta(optimizer), last))
        optimizer.step()
        scheduler.step()
    return out


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_rates(name, arguments):
    def case(lib):
        optimizer = optimizer_of(lib)
        return rates(optimizer, getattr(lib.optim.lr_scheduler, name)(optimizer, **arguments), 32)

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
            group |= {"initial_lr": group["lr"] * 2, "max_lr": group["lr"] * 3, "min_lr": 0.01}
            group |= {"max_momentum": 0.9, "base_momentum": 0.8}
        scheduler = getattr(lib.optim.lr_scheduler, name)(optimizer, **arguments, last_epoch=4)
        return rates(optimizer, scheduler, 8)[name == "CyclicLR" :]  # PyTorch's first one begins at initial_lr

    check(case, dtypes=("float64",))


SCHEDULERS = "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "PolynomialLR", "ExponentialLR", "CosineAnnealingLR"


@pytest.mark.parametrize(
    ("name", "arguments"), [c for c in CASES if c[0] in (*SCHEDULERS, "CosineAnnealingWarmRestarts")], ids=str
)
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_step_to_an_epoch(name, arguments):
    def case(lib):
        optimizer = optimizer_of(lib)
        scheduler = getattr(lib.optim.lr_scheduler, name)(optimizer, **arguments)
        out = []
        for epoch in (3, 1, 11, 12, None, None, 0, 30, None):
            optimizer.step()
            scheduler.step(epoch)
            out.append((scheduler.get_last_lr(), scheduler.last_epoch))
        return out

    check(case, dtypes=("float64",))


def test_restarts_at_fractions_of_an_epoch():
    def case(lib):
        optimizer = optimizer_of(lib)
        scheduler = lib.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3, 2)
        out = []
        for i in range(60):
            scheduler.step(i / 5)
            out.append((scheduler.get_last_lr(), scheduler.last_epoch, scheduler.T_i))
        return out

    check(case, dtypes=("float64",))


@pytest.mark.parametrize("name", ["Adam", "RMSprop"])
def test_cycles_of_other_momenta(name):
    def case(lib):
        out = []
        for kind, arguments in ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 4}), (
            "OneCycleLR", {"max_lr": 0.5, "total_steps": 40}):  # fmt: skip
            optimizer = optimizer_of(lib, name=name)
            out += rates(optimizer, getattr(lib.optim.lr_scheduler, kind)(optimizer, **arguments), 30)
        return out

    check(case, dtypes=("float64",))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"mode": "max", "patience": 1, "factor": 0.5},
        {"threshold_mode": "abs", "threshold": 0.05, "patience": 2, "cooldown": 2},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.2, "patience": 0, "min_lr": [0.01, 0.3]},
        {"patience": 0, "eps": 0.01, "min_lr": 0.02},
    ],
    ids=str,
)
def test_plateau(arguments):
    metrics = [abs(math.sin(i * i)) / (1 + i % 11) for i in range(60)]

    def case(lib):
        optimizer, out = optimizer_of(lib), []
        scheduler = lib.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
        for i, metric in enumerate(metrics):
            if i == 25:
                state = scheduler.state_dict()
                scheduler = lib.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
                scheduler.load_state_dict(state)
            scheduler.step(lib.tensor(metric) if i % 2 else metric)
            out.append((scheduler.get_last_lr(), scheduler.best, scheduler.num_bad_epochs, scheduler.last_epoch))
        return out

    check(case, dtypes=("float64",), tol=1e7)  # PyTorch's tensors of Python numbers are float32


def composed(lib, optimizer, which):
    s = lib.optim.lr_scheduler
    if which == "warm-up":
        return s.SequentialLR(
            optimizer, [s.LinearLR(optimizer, 0.1, total_iters=5), s.CosineAnnealingLR(optimizer, 20)], [5]
        )
    if which == "three":
        parts = [s.ConstantLR(optimizer, 0.1, 3), s.ExponentialLR(optimizer, 0.9), s.StepLR(optimizer, 4)]
        return s.SequentialLR(optimizer, parts, milestones=[4, 15])
    if which == "odd ones":
        parts = [
            s.MultiplicativeLR(optimizer, lambda t: 0.9),
            s.CosineAnnealingWarmRestarts(optimizer, 4),
            s.LambdaLR(optimizer, lambda t: 1 / (1 + t)),
            s.PolynomialLR(optimizer, 10),
        ]
        return s.SequentialLR(optimizer, parts, milestones=[6, 13, 20])
    if which == "chained":
        return s.ChainedScheduler([s.ConstantLR(optimizer, 0.1, 3), s.ExponentialLR(optimizer, 0.9)], optimizer)
    inner = s.SequentialLR(optimizer, [s.LinearLR(optimizer), s.StepLR(optimizer, 3)], [5])
    return s.ChainedScheduler([inner, s.ExponentialLR(optimizer, 0.95)])


@pytest.mark.parametrize("which", ["warm-up", "three", "odd ones", "chained", "nested"])
def test_composed(which):
    def case(lib):
        optimizer = optimizer_of(lib)
        scheduler = composed(lib, optimizer, which)
        first = rates(optimizer, scheduler, 9)
        optimizer2 = optimizer_of(lib, lr=0.3)
        scheduler2 = composed(lib, optimizer2, which)
        optimizer2.load_state_dict(optimizer.state_dict())
        scheduler2.load_state_dict(scheduler.state_dict())
        return first, rates(optimizer2, scheduler2, 25), rates(optimizer, scheduler, 25)

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


def schedule(lib, kind, optimizer="SGD", **arguments):
    return getattr(lib.optim.lr_scheduler, kind)(optimizer_of(lib, name=optimizer), **arguments)


MISTAKES = {
    "not an optimizer": lambda lib: lib.optim.lr_scheduler.StepLR(lib.ones(2), 3),
    "Constant factor": lambda lib: schedule(lib, "ConstantLR", factor=2.0),
    "Linear start": lambda lib: schedule(lib, "LinearLR", start_factor=0.0),
    "Linear end": lambda lib: schedule(lib, "LinearLR", end_factor=-1.0),
    "restarts T_0": lambda lib: schedule(lib, "CosineAnnealingWarmRestarts", T_0=0),
    "restarts T_0 float": lambda lib: schedule(lib, "CosineAnnealingWarmRestarts", T_0=2.0),
    "restarts T_mult": lambda lib: schedule(lib, "CosineAnnealingWarmRestarts", T_0=2, T_mult=0),
    "restarts epoch": lambda lib: schedule(lib, "CosineAnnealingWarmRestarts", T_0=2).step(-1),
    "cyclic mode": lambda lib: schedule(lib, "CyclicLR", base_lr=0.1, max_lr=1.0, mode="square"),
    "cyclic rates": lambda lib: schedule(lib, "CyclicLR", base_lr=[0.1], max_lr=1.0),
    "cyclic momentum": lambda lib: schedule(lib, "CyclicLR", "Adagrad", base_lr=0.1, max_lr=1.0),
    "one cycle steps": lambda lib: schedule(lib, "OneCycleLR", max_lr=0.1),
    "one cycle epochs": lambda lib: schedule(lib, "OneCycleLR", max_lr=0.1, epochs=3, steps_per_epoch=0),
    "one cycle share": lambda lib: schedule(lib, "OneCycleLR", max_lr=0.1, total_steps=3, pct_start=2.0),
    "one cycle strategy": lambda lib: schedule(lib, "OneCycleLR", max_lr=0.1, total_steps=3, anneal_strategy="log"),
    "one cycle end": lambda lib: rates(
        *(lambda s: (s.optimizer, s))(schedule(lib, "OneCycleLR", max_lr=0.1, total_steps=5)), 9
    ),
    "plateau factor": lambda lib: schedule(lib, "ReduceLROnPlateau", factor=1.0),
    "plateau mode": lambda lib: schedule(lib, "ReduceLROnPlateau", mode="least"),
    "plateau threshold": lambda lib: schedule(lib, "ReduceLROnPlateau", threshold_mode="none"),
    "plateau least": lambda lib: schedule(lib, "ReduceLROnPlateau", min_lr=[0.1]),
    "multiplicative": lambda lib: schedule(lib, "MultiplicativeLR", lr_lambda=0.5),
    "sequence of none": lambda lib: schedule(lib, "SequentialLR", schedulers=[], milestones=[]),
    "sequence of others": lambda lib: schedule(lib, "SequentialLR", schedulers=[3], milestones=[]),
    "sequence with a plateau": lambda lib: schedule(
        lib, "SequentialLR", schedulers=[schedule(lib, "ReduceLROnPlateau")], milestones=[]
    ),
    "another's schedule": lambda lib: schedule(
        lib, "SequentialLR", schedulers=[schedule(lib, "StepLR", step_size=3)], milestones=[]
    ),
    "chain of none": lambda lib: lib.optim.lr_scheduler.ChainedScheduler([]),
    "unknown setting": lambda lib: schedule(lib, "StepLR", size=3),
    "lambda count": lambda lib: lib.optim.lr_scheduler.LambdaLR(optimizer_of(lib), [lambda epoch: 1.0]),
    "late without initial_lr": lambda lib: lib.optim.lr_scheduler.StepLR(optimizer_of(lib), 3, last_epoch=4),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name])
