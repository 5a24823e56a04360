"""Averaged models against PyTorch: averages, state dicts, batch statistics, the schedule."""

import pytest

from .pairs import check, check_raises, fill, make, normal


def network(lib, seed=0):
    model = fill(lib, lib.nn.Sequential(lib.nn.Conv2d(2, 3, (2, 3)), lib.nn.BatchNorm2d(3), lib.nn.Flatten()), seed)
    return model.double()


AVERAGES = {
    "default": lambda s: {},
    "ema": lambda s: {"avg_fn": s.get_ema_avg_fn(0.9)},
    "swa": lambda s: {"avg_fn": s.get_swa_avg_fn()},
    "ema, all": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.9)},
    "ema, fast": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.2)},
    "swa, all": lambda s: {"multi_avg_fn": s.get_swa_multi_avg_fn()},
    "own": lambda s: {"avg_fn": lambda average, current, n: average * 0.5 + current / (n + 2)},
}


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("name", AVERAGES)
def test_averages(name, use_buffers):
    def case(lib):
        swa = lib.optim.swa_utils
        model = network(lib)
        averaged = swa.AveragedModel(model, use_buffers=use_buffers, **AVERAGES[name](swa))
        with lib.no_grad():
            for i in range(5):
                fill(lib, model, i)
                averaged.update_parameters(model)
        x = make(lib, normal(4, 2, 5, 6), "float64")
        state = {key: value for key, value in averaged.state_dict().items() if "tracked" not in key}
        other = swa.AveragedModel(network(lib, 7), **AVERAGES[name](swa))
        other.load_state_dict(averaged.state_dict())
        return state, averaged.eval()(x), int(other.n_averaged), other.eval()(x)

    if (name, use_buffers) != ("swa, all", True):  # where PyTorch fails on integers, and else has float32 weights
        check(case, dtypes=("float64",), grad=False, tol=1e6 if name == "swa, all" else 1)


@pytest.mark.parametrize("training", [False, True])
def test_update_bn(training):
    def case(lib):
        model = network(lib).train(training)
        batches = [make(lib, normal(4, 2, 5, 6, seed=i), "float64") for i in range(3)]
        loader = [batches[0], (batches[1], 1), [batches[2]]]
        lib.optim.swa_utils.update_bn(loader, model)
        lib.optim.swa_utils.update_bn(loader, lib.nn.Linear(2, 2))
        return dict(model.named_buffers()), model.training, model[1].momentum

    check(case, dtypes=("float64",))


@pytest.mark.parametrize(
    "arguments",
    [{"swa_lr": 0.05}, {"swa_lr": [0.5, 0.01], "anneal_epochs": 4, "anneal_strategy": "linear"},
     {"swa_lr": 0.05, "anneal_epochs": 0}, {"swa_lr": 0.05, "anneal_epochs": 1}], ids=str,
)  # fmt: skip
def test_swalr(arguments):
    def case(lib):
        groups = [{"params": [lib.nn.Parameter(lib.ones(2))]}, {"params": [lib.nn.Parameter(lib.ones(2))], "lr": 0.7}]
        optimizer, out = lib.optim.SGD(groups, lr=0.1), []
        scheduler = lib.optim.swa_utils.SWALR(optimizer, **arguments)
        for i in range(30):
            out.append((scheduler.get_last_lr(), scheduler.last_epoch))
            optimizer.step()
            scheduler.step()
            if i == 5:
                state = scheduler.state_dict()
                rates = [group["lr"] for group in optimizer.param_groups]
                scheduler = lib.optim.swa_utils.SWALR(optimizer, **arguments)
                scheduler.load_state_dict(state)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
        return out

    check(case, dtypes=("float64",))


MISTAKES = {
    "decay": lambda lib: lib.optim.swa_utils.get_ema_avg_fn(1.5),
    "decay of all": lambda lib: lib.optim.swa_utils.get_ema_multi_avg_fn(-0.5),
    "both": lambda lib: lib.optim.swa_utils.AveragedModel(lib.nn.Linear(2, 2), None, max, max),
    "strategy": lambda lib: lib.optim.swa_utils.SWALR(sgd(lib), 0.1, 3, "log"),
    "epochs": lambda lib: lib.optim.swa_utils.SWALR(sgd(lib), 0.1, -1),
    "rates": lambda lib: lib.optim.swa_utils.SWALR(sgd(lib), [0.1, 0.2]),
}


def sgd(lib):
    return lib.optim.SGD([lib.nn.Parameter(lib.ones(2))], lr=0.1)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name])
