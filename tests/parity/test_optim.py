"""Optimizers against PyTorch: many steps from the same parameters and gradients."""

import itertools
import math

import numpy as np
import pytest
import torch

import fastnn

from .pairs import TOLERANCE, assert_close, check, check_raises, fill, make, normal

SHAPES = [(3, 4), (5,), (), (4, 3, 3, 2), (0, 3), (2, 1, 1, 130)]
STEPS = 20


def train(lib, optimizer_of, like, steps=STEPS, missing=(), between=None):
    """`steps` steps on parameters of all shapes; parameter 1 has no gradient in the steps of `missing`."""
    dtype = str(like.dtype).removeprefix("torch.")
    params = [lib.nn.Parameter(make(lib, normal(*s, seed=("p", s)), dtype)) for s in SHAPES]
    optimizer = optimizer_of(lib, params)
    for step in range(steps):
        optimizer.zero_grad()
        for i, (p, shape) in enumerate(zip(params, SHAPES, strict=True)):
            if i == 1 and step in missing:
                continue
            p.grad = make(lib, normal(*shape, seed=("g", shape, step)), dtype)
        optimizer.step()
        if between:
            between(step, optimizer)
    return [p.detach() for p in params], [p.grad is None for p in params], optimizer


def state_of(optimizer):
    """The state of the parameters that took a step, names sorted; what each has but one of as a number."""
    state = {i: entry for i, entry in optimizer.state_dict()["state"].items() if float(entry.get("step", 1))}
    return {
        i: {
            name: float(value) if name in ("step", "mu_product", "eta", "mu") else value
            for name, value in sorted(entry.items())
            if value is not None
        }
        for i, entry in sorted(state.items())
    }


def case_of(name, missing=(), **arguments):
    def case(lib, like):
        params, gone, optimizer = train(
            lib, lambda lib, p: getattr(lib.optim, name)(p, **arguments), like, missing=missing
        )
        return params, gone, state_of(optimizer)

    return case


def product(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


UP, DECAYS = (False, True), (0.0, 0.1)
BETAS = (0.9, 0.999), (0.5, 0.9)
OPTIONS = {
    "SGD": [
        row
        for row in product(
            lr=[0.1], momentum=(0.0, 0.9), dampening=(0.0, 0.3), weight_decay=DECAYS, nesterov=UP, maximize=UP
        )
        if not (row["nesterov"] and (not row["momentum"] or row["dampening"]))
    ],
    "Adagrad": product(
        lr=[0.1], lr_decay=(0, 1), weight_decay=DECAYS, initial_accumulator_value=(0, 1), eps=(1e-10, 0.1), maximize=UP
    ),
    "Adadelta": product(lr=(1.0, 0.5), rho=(0.9, 0.3), eps=(1e-6, 1e-2), weight_decay=DECAYS, maximize=UP),
    "RMSprop": product(
        lr=[0.01], alpha=(0.99, 0.4), eps=[1e-4], weight_decay=DECAYS, momentum=(0, 0.9), centered=UP, maximize=UP
    ),
    "Adam": product(lr=[0.01], betas=BETAS, eps=(1e-8, 1e-3), weight_decay=DECAYS, amsgrad=UP, maximize=UP),
    "AdamW": product(lr=[0.01], betas=BETAS, eps=(1e-8, 1e-3), weight_decay=DECAYS, amsgrad=UP, maximize=UP),
    "Adamax": product(lr=[0.02], betas=BETAS, eps=(1e-8, 1e-3), weight_decay=DECAYS, maximize=UP),
    "NAdam": product(
        lr=[0.02], betas=BETAS, weight_decay=DECAYS, momentum_decay=(4e-3, 0.5), decoupled_weight_decay=UP, maximize=UP
    ),
    "RAdam": product(lr=[0.02], betas=BETAS, weight_decay=DECAYS, decoupled_weight_decay=UP, maximize=UP),
    "Rprop": product(lr=(0.01, 0.3), etas=((0.5, 1.2), (0.1, 3.0)), step_sizes=((1e-6, 50), (0.005, 0.1)), maximize=UP),
    "ASGD": product(lr=[0.1], lambd=(1e-4, 0.1), alpha=(0.75, 0.3), t0=(1e6, 4), weight_decay=DECAYS, maximize=UP),
}


@pytest.mark.parametrize(("name", "arguments"), [(n, a) for n, table in OPTIONS.items() for a in table], ids=str)
def test_options(name, arguments):
    """Every combination of options; a parameter without gradient at times."""
    check(case_of(name, missing=(1, 4), **arguments), normal(1))


DEFAULTS = [
    ("SGD", {}),
    ("Adam", {}),
    ("AdamW", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("Adam", {"lr": 0.1, "amsgrad": True}),
    ("RMSprop", {"momentum": 0.9, "centered": True, "eps": 1e-3}),
    *((name, {}) for name in OPTIONS if name not in ("SGD", "Adam", "AdamW")),
]


@pytest.mark.parametrize(("name", "arguments"), DEFAULTS, ids=str)
def test_parameters_without_gradient(name, arguments):
    """A parameter whose gradient is None is skipped: no decay, no state, no step counted."""
    check(case_of(name, missing=range(STEPS), **arguments), normal(1))
    check(case_of(name, missing=(0, 1, 4, 7), **arguments), normal(1))


@pytest.mark.parametrize(("name", "arguments"), DEFAULTS, ids=str)
def test_defaults(name, arguments):
    def case(lib):
        optimizer = getattr(lib.optim, name)([lib.nn.Parameter(lib.ones(2))], **arguments)
        taken = optimizer.defaults.keys() - {"foreach", "fused", "capturable", "differentiable", "l1"}
        return [(k, optimizer.param_groups[0][k], optimizer.defaults[k]) for k in sorted(taken)]

    check(case)


@pytest.mark.parametrize("name", OPTIONS)
def test_groups(name):
    def optimizer_of(lib, params):
        groups = [
            {"params": params[:2]},
            {"params": params[2:4], "lr": 0.5, "maximize": True},
            {"params": params[4]},
        ]
        optimizer = getattr(lib.optim, name)(groups, lr=0.1)
        optimizer.add_param_group({"params": params[5], "lr": 0.02})
        return optimizer

    def case(lib, like):
        params, _, optimizer = train(lib, optimizer_of, like)
        groups = optimizer.state_dict()["param_groups"]
        return params, [(g["params"], g["lr"], g["maximize"]) for g in groups], len(optimizer.param_groups)

    check(case, normal(1))


@pytest.mark.parametrize("name", OPTIONS)
def test_learning_rate_changed_between_steps(name):
    def between(step, optimizer):
        for group in optimizer.param_groups:
            group["lr"] *= 0.8

    check(
        lambda lib, like: train(lib, lambda lib, p: getattr(lib.optim, name)(p, lr=0.1), like, between=between)[0],
        normal(1),
    )


@pytest.mark.parametrize(
    ("name", "arguments"), [*DEFAULTS, ("SGD", {"lr": 0.1, "momentum": 0.5, "nesterov": True})], ids=str
)
def test_resuming_from_a_state_dict(name, arguments):
    def case(lib, like):
        def optimizer_of(lib, params):
            return getattr(lib.optim, name)(params, **arguments)

        half, _, first = train(lib, optimizer_of, like, steps=5)
        dtype = str(like.dtype).removeprefix("torch.")
        params = [lib.nn.Parameter(p.clone()) for p in half]
        second = getattr(lib.optim, name)(params, lr=77.0)
        second.load_state_dict(first.state_dict())
        for step in range(5, 9):
            for p, shape in zip(params, SHAPES, strict=True):
                p.grad = make(lib, normal(*shape, seed=("g", shape, step)), dtype)
            second.step()
        straight = train(lib, optimizer_of, like, steps=9)[0]
        return (
            params,
            straight,
            second.param_groups[0]["lr"],
            # equal bits; PyTorch casts NAdam's mu_product when it loads
            lib is torch or all(bool((a == b).all()) for a, b in zip(params, straight, strict=True)),
        )

    check(case, normal(1), grad=False)


@pytest.mark.parametrize("name", OPTIONS)
def test_closure(name):
    def case(lib, x, y):
        model = fill(lib, lib.nn.Linear(4, 1))
        model = model.double() if x.dtype == lib.float64 else model
        optimizer = getattr(lib.optim, name)(model.parameters(), lr=0.05)

        def closure():
            optimizer.zero_grad()
            loss = lib.nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        return [optimizer.step(closure).item() for _ in range(5)], list(model.parameters())

    check(case, normal(8, 4), normal(8, 1), grad=False)


def of_pytorch(value):
    """A state dict of PyTorch's with fastnn's tensors."""
    if isinstance(value, dict):
        return {key: of_pytorch(item) for key, item in value.items()}
    return fastnn.tensor(value.detach().numpy()) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "arguments"), DEFAULTS, ids=str)
def test_going_on_from_pytorchs_state_dict(name, arguments, dtype):
    """Steps 8 to 14 of both from PyTorch's parameters and state after 8; one parameter lags behind."""
    params, _, optimizer = train(
        torch, lambda lib, p: getattr(lib.optim, name)(p, **arguments), make(torch, 1.0, dtype), steps=8, missing=(3,)
    )
    ours = [fastnn.nn.Parameter(fastnn.tensor(p.numpy())) for p in params]
    resumed = getattr(fastnn.optim, name)(ours, lr=77.0)
    resumed.load_state_dict(of_pytorch(optimizer.state_dict()))
    theirs = optimizer.param_groups[0]["params"]
    for step in range(8, 15):
        for p, q, shape in zip(ours, theirs, SHAPES, strict=True):
            p.grad, q.grad = (make(lib, normal(*shape, seed=("g", shape, step)), dtype) for lib in (fastnn, torch))
        resumed.step()
        optimizer.step()
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(p.detach().numpy(), q.detach().numpy(), TOLERANCE[dtype], f"parameter {i}")


@pytest.mark.parametrize("name", OPTIONS)
def test_memory_orders(name):
    """Parameters in plain, transposed and H, W, I, O order, gradients in others."""
    steps = [normal(4, 3, 3, 2, seed=i) for i in range(6)]
    results = []
    for axes in ((0, 1, 2, 3), (2, 3, 1, 0), (3, 2, 1, 0)):

        def laid_out(array, axes=axes):
            return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))

        p = fastnn.nn.Parameter(fastnn.Tensor(laid_out(normal(4, 3, 3, 2))))
        optimizer = getattr(fastnn.optim, name)([p], lr=0.1)
        for i, g in enumerate(steps):
            p.grad = fastnn.Tensor(laid_out(g) if i % 2 else g.copy())
            optimizer.step()
        results.append(p.detach().numpy())
    q = torch.nn.Parameter(torch.tensor(normal(4, 3, 3, 2)))
    optimizer = getattr(torch.optim, name)([q], lr=0.1)
    for g in steps:
        q.grad = torch.tensor(g)
        optimizer.step()
    for result in results:
        assert_close(result, q.detach().numpy(), 1e-12, name)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"history_size": 3, "max_iter": 6}, {"max_iter": 10, "max_eval": 4}, {"tolerance_change": 1e-3}, {"lr": 0.3}],
    ids=str,
)
def test_lbfgs(search, arguments):
    """Rosenbrock's valley and a small network: losses of some calls, parameters, what the state counts."""

    def run(lib, params, loss_of, steps, **arguments):
        optimizer = lib.optim.LBFGS(params, line_search_fn=search, **arguments)

        def closure():
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            return loss

        losses = []
        for i in range(steps):
            if i == 2:
                state = optimizer.state_dict()
                optimizer = lib.optim.LBFGS(params, line_search_fn=search)
                optimizer.load_state_dict(state)
            losses.append(optimizer.step(closure).item())
        state = optimizer.state_dict()["state"][0]
        return losses, [p.detach() for p in params], state["n_iter"], state["func_evals"], len(state["old_dirs"])

    def valley(lib):
        p = lib.nn.Parameter(lib.tensor([-1.2, 1.0], dtype=lib.float64))
        arguments_ = {**arguments, "lr": arguments.get("lr", 1.0) if search else 1e-3}
        return run(lib, [p], lambda: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2, 4, **arguments_)

    def network(lib, x, y):
        model = lib.nn.Sequential(lib.nn.Linear(4, 6), lib.nn.Tanh(), lib.nn.Linear(6, 1))
        fill(lib, model.double())
        return run(lib, list(model.parameters()), lambda: lib.nn.functional.mse_loss(model(x), y), 4, **arguments)

    check(valley, dtypes=("float64",), tol=1e4)
    check(network, normal(20, 4), normal(20, 1), dtypes=("float64",), grad=False, tol=1e4)


@pytest.mark.parametrize("loss", ["a line", "a logarithm's end", "NaN"])
def test_line_search_without_a_minimum(loss):
    def case(lib):
        p = lib.nn.Parameter(lib.tensor([0.5, 0.25, 2.0], dtype=lib.float64))
        optimizer = lib.optim.LBFGS([p], 0.5, max_iter=3, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            value = {"a line": p, "a logarithm's end": p - lib.log(p) / 1024, "NaN": p * math.nan}[loss].sum()
            value.backward()
            return value

        return [optimizer.step(closure).item() for _ in range(2)], p.detach()

    check(case, dtypes=("float64",))


def test_zero_grad():
    def case(lib):
        p = lib.nn.Parameter(lib.ones(2))
        optimizer = lib.optim.SGD([p], lr=0.1)
        (p * 2).sum().backward()
        optimizer.zero_grad(set_to_none=False)
        zeros = p.grad.clone()
        optimizer.zero_grad()
        return zeros, p.grad is None

    check(case)


def test_parameters_named():
    def case(lib):
        model = lib.nn.Linear(3, 2)
        optimizer = lib.optim.SGD([p for n, p in model.named_parameters() if n != "bias"], lr=0.1)
        return len(optimizer.param_groups[0]["params"]), [
            len(g["params"]) for g in optimizer.state_dict()["param_groups"]
        ]

    check(case)


def test_pairs_of_name_and_parameter():
    def case(lib):
        model = lib.nn.Linear(3, 2)
        optimizer = lib.optim.SGD(model.named_parameters(), lr=0.1)
        optimizer.add_param_group({"params": [("x", lib.nn.Parameter(lib.ones(2)))], "lr": 0.2})
        unnamed = lib.optim.SGD([*model.parameters()], lr=0.3)
        unnamed.add_param_group({"params": lib.nn.Parameter(lib.ones(2))})
        optimizer.load_state_dict(unnamed.state_dict())
        groups = optimizer.state_dict()["param_groups"]
        return [(group["params"], group["param_names"], group["lr"]) for group in groups]

    check(case)


def one(lib):
    return [lib.nn.Parameter(lib.ones(2))]


MISTAKES = {
    "names for some": lambda lib: lib.optim.SGD([("a", *one(lib)), *one(lib)], lr=0.1),
    "names for some groups": lambda lib: (
        lib.optim.SGD([("a", *one(lib))], lr=0.1).add_param_group({"params": one(lib)})),
    "no parameters": lambda lib: lib.optim.SGD([], lr=0.1),
    "a tensor": lambda lib: lib.optim.SGD(lib.nn.Parameter(lib.ones(2)), lr=0.1),
    "not tensors": lambda lib: lib.optim.SGD([1.0], lr=0.1),
    "not a leaf": lambda lib: lib.optim.SGD([one(lib)[0] * 2], lr=0.1),
    "lr": lambda lib: lib.optim.SGD(one(lib), lr=-0.1),
    "momentum": lambda lib: lib.optim.SGD(one(lib), lr=0.1, momentum=-1),
    "decay": lambda lib: lib.optim.SGD(one(lib), lr=0.1, weight_decay=-1),
    "nesterov": lambda lib: lib.optim.SGD(one(lib), lr=0.1, nesterov=True),
    "nesterov with dampening": lambda lib: lib.optim.SGD(one(lib), lr=0.1, momentum=0.9, dampening=0.1, nesterov=True),
    "Adam lr": lambda lib: lib.optim.Adam(one(lib), lr=-1),
    "Adam betas": lambda lib: lib.optim.Adam(one(lib), betas=(1.0, 0.9)),
    "Adam second beta": lambda lib: lib.optim.Adam(one(lib), betas=(0.9, -0.1)),
    "Adam eps": lambda lib: lib.optim.Adam(one(lib), eps=-1e-8),
    "AdamW decay": lambda lib: lib.optim.AdamW(one(lib), weight_decay=-1),
    "Adadelta rho": lambda lib: lib.optim.Adadelta(one(lib), rho=1.5),
    "Adadelta eps": lambda lib: lib.optim.Adadelta(one(lib), eps=-1),
    "Adagrad lr_decay": lambda lib: lib.optim.Adagrad(one(lib), lr_decay=-1),
    "Adagrad accumulator": lambda lib: lib.optim.Adagrad(one(lib), initial_accumulator_value=-1),
    "RMSprop alpha": lambda lib: lib.optim.RMSprop(one(lib), alpha=-1),
    "RMSprop momentum": lambda lib: lib.optim.RMSprop(one(lib), momentum=-1),
    "Adamax betas": lambda lib: lib.optim.Adamax(one(lib), betas=(0.9, 1.0)),
    "NAdam momentum_decay": lambda lib: lib.optim.NAdam(one(lib), momentum_decay=-1),
    "RAdam decay": lambda lib: lib.optim.RAdam(one(lib), weight_decay=-1),
    "Rprop etas": lambda lib: lib.optim.Rprop(one(lib), etas=(0.5, 0.9)),
    "ASGD decay": lambda lib: lib.optim.ASGD(one(lib), weight_decay=-1),
    "LBFGS lr": lambda lib: lib.optim.LBFGS(one(lib), lr=-1),
    "LBFGS groups": lambda lib: lib.optim.LBFGS([{"params": one(lib)}, {"params": one(lib)}]),
    "LBFGS closure": lambda lib: lib.optim.LBFGS(one(lib)).step(),
    "unknown option": lambda lib: lib.optim.RAdam(one(lib), momentum=0.9),
    "group without params": lambda lib: lib.optim.SGD([{"lr": 0.1}], lr=0.1),
    "parameter in two groups": lambda lib: (lambda p: lib.optim.SGD([{"params": p}, {"params": p}], lr=0.1))(one(lib)),
    "add parameter again": lambda lib: (lambda p: lib.optim.SGD(p, lr=0.1).add_param_group({"params": p}))(one(lib)),
    "load other groups": lambda lib: lib.optim.SGD(one(lib), lr=0.1).load_state_dict(
        lib.optim.SGD([{"params": one(lib)}, {"params": one(lib)}], lr=0.1).state_dict()
    ),
    "load other count": lambda lib: lib.optim.SGD(one(lib), lr=0.1).load_state_dict(
        lib.optim.SGD(one(lib) + one(lib), lr=0.1).state_dict()
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name])
