"""Optimizers against PyTorch: many steps from the same parameters and gradients."""

import itertools

import pytest

from .pairs import check, check_raises, fill, make, normal

SHAPES = [(3, 4), (5,), (), (4, 3, 3, 2), (0, 3), (2, 1, 1, 130)]
STEPS = 12


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
    """The optimizer's state by parameter, names sorted; step counts as numbers."""
    state = optimizer.state_dict()["state"]
    return {
        i: {
            name: float(value) if name == "step" else value
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


SGD = [
    {"lr": 0.1, "momentum": momentum, "dampening": damp, "weight_decay": decay, "nesterov": nesterov, "maximize": up}
    for momentum, damp, decay, nesterov, up in itertools.product(
        (0.0, 0.9), (0.0, 0.3), (0.0, 0.01), (False, True), (False, True)
    )
    if not (nesterov and (not momentum or damp))
]
ADAM = [
    {"lr": lr, "betas": betas, "eps": eps, "weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize}
    for lr, betas, eps, decay, amsgrad, maximize in itertools.product(
        (0.01,), ((0.9, 0.999), (0.5, 0.9)), (1e-8, 1e-3), (0.0, 0.1), (False, True), (False, True)
    )
]


@pytest.mark.parametrize("arguments", SGD, ids=str)
def test_sgd(arguments):
    check(case_of("SGD", **arguments), normal(1))


@pytest.mark.parametrize("arguments", ADAM, ids=str)
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_adam(name, arguments):
    check(case_of(name, **arguments), normal(1))


DEFAULTS = [
    ("SGD", {}),
    ("Adam", {}),
    ("AdamW", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("Adam", {"lr": 0.1, "amsgrad": True}),
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
        known = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "betas", "eps", "amsgrad")
        return [(k, optimizer.param_groups[0][k], optimizer.defaults[k]) for k in known if k in optimizer.defaults]

    check(case)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups(name):
    def optimizer_of(lib, params):
        groups = [
            {"params": params[:2]},
            {"params": params[2:4], "lr": 0.5, "weight_decay": 0.2},
            {"params": params[4]},
        ]
        optimizer = getattr(lib.optim, name)(groups, lr=0.1)
        optimizer.add_param_group({"params": params[5], "lr": 0.02})
        return optimizer

    def case(lib, like):
        params, _, optimizer = train(lib, optimizer_of, like)
        groups = optimizer.state_dict()["param_groups"]
        return params, [(g["params"], g["lr"], g["weight_decay"]) for g in groups], len(optimizer.param_groups)

    check(case, normal(1))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
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
            [bool((a == b).all()) for a, b in zip(params, straight, strict=True)],
        )

    check(case, normal(1), grad=False)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
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


def one(lib):
    return [lib.nn.Parameter(lib.ones(2))]


MISTAKES = {
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
