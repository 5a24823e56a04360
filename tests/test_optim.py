"""Optimizers, against the formulae written out for single numbers."""

import copy
import itertools
import math

import numpy as np
import pytest
from harness import close

import fastnn
from fastnn import backend, layout, optim
from fastnn.tensor import Tensor

SHAPES = [(), (0,), (3,), (130, 17), (5, 2, 3, 4), (4, 7, 1, 3)]


def sgd_oracle(p, grads, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    """One number after its steps; None stands for a step without gradient."""
    buffer = None
    for g in grads:
        if g is None:
            continue
        d = (-g if maximize else g) + weight_decay * p
        if momentum:
            buffer = d if buffer is None else momentum * buffer + (1 - dampening) * d
            d = d + momentum * buffer if nesterov else buffer
        p -= lr * d
    return p


def adam_oracle(p, grads, lr, betas, eps, weight_decay, amsgrad, maximize, decoupled):
    m = v = largest = step = 0
    for g in grads:
        if g is None:
            continue
        step += 1
        d = -g if maximize else g
        if decoupled:
            p *= 1 - lr * weight_decay
        else:
            d += weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * d
        v = betas[1] * v + (1 - betas[1]) * d * d
        largest = max(largest, v)
        v_hat = (largest if amsgrad else v) / (1 - betas[1] ** step)
        p -= lr * m / (1 - betas[0] ** step) / (math.sqrt(v_hat) + eps)
    return p


def parameters(rng, dtype):
    """Leaves of all shapes; the 4-D ones channels-last, and in the order H, W, I, O of a convolution weight."""
    arrays = [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]
    arrays[-2] = layout.channels_last(arrays[-2])
    arrays[-1] = np.ascontiguousarray(arrays[-1].transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    return [Tensor(a, requires_grad=True) for a in arrays]


def gradients(rng, params, i):
    """One gradient a parameter, none for a different one in each of the first steps."""
    return [None if i == j else rng.standard_normal(p.shape) for j, p in enumerate(params)]


def run(optimizer, params, steps):
    for grads in steps:
        for p, g in zip(params, grads, strict=True):
            p.grad = None if g is None else Tensor(np.asarray(g, p.dtype))
        optimizer.step()


def check(make, oracle, rng, dtype, tol=None):
    params = parameters(rng, dtype)
    starts = [p.array.astype(np.float64) for p in params]
    strides = [p.array.strides for p in params]
    steps = [gradients(rng, params, i) for i in range(8)]
    optimizer = make(params)
    run(optimizer, params, steps)
    for j, (p, start) in enumerate(zip(params, starts, strict=True)):
        expected = np.empty(p.shape)
        for place in np.ndindex(p.shape):
            expected[place] = oracle(start[place], [None if g[j] is None else g[j][place] for g in steps])
        close(p.array, expected, np.dtype(dtype), tol, f"parameter {j}")
    assert [p.array.strides for p in params] == strides
    for p in params:
        for value in optimizer.state[p].values():
            assert value.shape == () or value.array.strides == np.empty_like(p.array).strides


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [
    {}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    {"momentum": 0.8, "nesterov": True}, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    {"maximize": True},
])  # fmt: skip
def test_sgd(rng, dtype, options):
    check(lambda p: optim.SGD(p, lr=0.1, **options), lambda p, g: sgd_oracle(p, g, 0.1, **options), rng, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.3, 0.5), (0.0, 0.9)])
def test_adam(rng, dtype, name, betas):
    for weight_decay, amsgrad, maximize in itertools.product((0.0, 0.1), (False, True), (False, True)):
        options = {"betas": betas, "eps": 1e-3, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize}
        check(
            lambda p, options=options: getattr(optim, name)(p, lr=0.01, **options),
            lambda p, g, options=options: adam_oracle(p, g, 0.01, decoupled=name == "AdamW", **options),
            rng, dtype,
        )  # fmt: skip


def test_by_hand():
    p = fastnn.tensor([1.0, -2.0], requires_grad=True)
    sgd = optim.SGD([p], lr=0.5, momentum=0.5)
    run(sgd, [p], [[np.array([1.0, 4.0])], [np.array([2.0, 0.0])]])  # b = g, then 0.5 b + g = 2.5, 2
    assert p.tolist() == [1 - 0.5 - 1.25, -2 - 2 - 1]
    q = fastnn.tensor([1.0, -2.0], requires_grad=True)
    adam = optim.Adam([q], lr=0.25)
    run(adam, [q], [[np.array([8.0, -0.5])]])  # the first step of Adam is lr times the sign of the gradient
    close(q.array, [0.75, -1.75])


MAKERS = {
    "SGD": lambda p, **options: optim.SGD(p, **{"lr": 0.1, "momentum": 0.9} | options),
    "plain SGD": lambda p, **options: optim.SGD(p, **{"lr": 0.1} | options),
    "Adam": lambda p, **options: optim.Adam(p, amsgrad=True, **options),
    "RMSprop": lambda p, **options: optim.RMSprop(p, momentum=0.9, centered=True, **options),
    **{n: getattr(optim, n) for n in ("AdamW", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD")},
}


def test_threads_give_equal_bits(rng):
    """Of all optimizers; the number of threads changes rarely, for that takes long."""
    results = []
    for threads in (1, 2, 3):
        fastnn.set_num_threads(threads)
        for make in MAKERS.values():
            seeded = np.random.default_rng(5)
            params = [Tensor(seeded.standard_normal(n).astype(np.float32), True) for n in (7, 70001, 1, 12)]
            run(make(params), params, [[seeded.standard_normal(p.shape) for p in params] for _ in range(3)])
            results.append(b"".join(p.array.tobytes() for p in params))
    n = len(MAKERS)
    assert results[:n] == results[n : 2 * n] == results[2 * n :]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MAKERS)
def test_l1_and_elastic_net(rng, name, dtype):
    """l1 adds l1 times the sign of p, of 0 that is 0, to the gradient, as the penalty in the loss does; beside it the
    decay of L2."""
    for decay, maximize in itertools.product((0.0, 0.1), (False, True)):
        options = {"maximize": maximize} | ({} if name == "Rprop" else {"weight_decay": decay})
        params, others = parameters(rng, dtype), []
        for p in params:
            p.array[...] = np.where(rng.random(p.shape) < 0.2, 0, p.array)
            others.append(Tensor(p.array.copy(order="K"), True))
        ours, hand = MAKERS[name](params, l1=0.05, **options), MAKERS[name](others, **options)
        for i in range(4):
            grads = gradients(rng, params, i)
            run(ours, params, [grads])
            penalty = [(-0.05 if maximize else 0.05) * np.sign(p.array) for p in others]
            run(hand, others, [[None if g is None else g + x for g, x in zip(grads, penalty, strict=True)]])
        for p, q in zip(params, others, strict=True):
            close(p.array, q.array, np.dtype(dtype), 1e-4 if dtype == "float32" else {np.dtype("float64"): 1e-9})
    with pytest.raises(ValueError, match="Invalid l1 value: -1"):
        MAKERS[name](params, l1=-1)


def test_l1_by_hand():
    p = fastnn.tensor([2.0, -2.0, 0.0], requires_grad=True)
    run(optim.SGD([p], lr=0.5, l1=0.5, weight_decay=0.25), [p], [[np.array([1.0, 1.0, 1.0])]])
    assert p.tolist() == [2 - 0.5 * (1 + 0.5 + 0.5), -2 - 0.5 * (1 - 0.5 - 0.5), -0.5]


def test_mixed_dtypes_and_gaps(rng):
    """float32 and float64 in one group; a parameter and a gradient with gaps in their memory."""
    wide, single = np.arange(12.0), np.ones(3, np.float32)
    params = [Tensor(wide[::2], True), Tensor(single, True)]
    optimizer = optim.SGD(params, lr=1.0, momentum=0.5)
    params[0].grad, params[1].grad = Tensor(np.ones(12)[1::2]), Tensor(np.full(3, 2, np.float32))
    optimizer.step()
    assert wide.tolist() == [-1, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11]
    assert single.tolist() == [-1, -1, -1]


def test_step_is_seen_by_the_tape():
    p = fastnn.tensor([3.0], requires_grad=True)
    loss = (p * p).sum()
    p.grad = fastnn.ones(1)
    optim.SGD([p]).step()
    with pytest.raises(RuntimeError, match="in place"):
        loss.backward()


def test_closure_and_training():
    p = fastnn.tensor([5.0, -3.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with fastnn.no_grad():
        losses = [float(optimizer.step(closure)) for _ in range(20)]
    close(losses, 34 * 0.8 ** (2 * np.arange(20)), np.dtype("float32"))


def test_zero_grad():
    p, q = fastnn.ones(2, requires_grad=True), fastnn.ones(2, requires_grad=True)
    optimizer = optim.SGD([p, q])
    p.grad = grad = fastnn.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad and grad.tolist() == [0, 0] and q.grad is None
    optimizer.zero_grad()
    assert p.grad is None


def test_groups():
    p, q, r = (fastnn.zeros(1, requires_grad=True) for _ in range(3))
    optimizer = optim.SGD([{"params": [p]}, {"params": q, "lr": 2.0, "name": "q"}], lr=1.0)
    optimizer.add_param_group({"params": iter([r]), "maximize": True})
    assert [group["params"] for group in optimizer.param_groups] == [[p], [q], [r]]
    for x in (p, q, r):
        x.grad = fastnn.ones(1)
    optimizer.step()
    assert [x.item() for x in (p, q, r)] == [-1, -2, 1]
    assert "Parameter Group 1\n    dampening: 0\n    l1: 0.0\n    lr: 2.0" in repr(optimizer)


@pytest.mark.parametrize("make, error, message", [
    (lambda p: optim.SGD([]), ValueError, "empty"),
    (lambda p: optim.SGD(iter([])), ValueError, "empty"),
    (lambda p: optim.SGD(p), TypeError, "Tensor"),
    (lambda p: optim.SGD({p}), TypeError, "ordered"),
    (lambda p: optim.SGD([{"params": {p}}]), TypeError, "set"),
    (lambda p: optim.SGD([p, p]), ValueError, "more than once: parameter 1"),
    (lambda p: optim.SGD([{"params": p}, {"params": [p]}]), ValueError, "more than once"),
    (lambda p: optim.SGD([p.array]), TypeError, "parameter 0 is a ndarray"),
    (lambda p: optim.SGD([p * 2]), ValueError, "non-leaf"),
    (lambda p: optim.SGD([p], lr=-1), ValueError, "Invalid learning rate: -1"),
    (lambda p: optim.SGD([p], lr=math.nan), ValueError, "Invalid learning rate: nan"),
    (lambda p: optim.SGD([p], momentum=-1), ValueError, "Invalid momentum value: -1"),
    (lambda p: optim.SGD([{"params": p, "weight_decay": -1}]), ValueError, "Invalid weight_decay value: -1"),
    (lambda p: optim.SGD([p], nesterov=True), ValueError, "Nesterov"),
    (lambda p: optim.SGD([p], nesterov=True, momentum=0.9, dampening=0.1), ValueError, "Nesterov"),
    (lambda p: optim.Adam([p], eps=-1), ValueError, "Invalid epsilon value: -1"),
    (lambda p: optim.Adam([p], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
    (lambda p: optim.Adam([p], betas=(0.9,)), ValueError, "betas must be two numbers, but .0.9,. came"),
    (lambda p: optim.Rprop([p], step_sizes=(1, 2, 3)), ValueError, "step_sizes must be two numbers"),
    (lambda p: optim.SGD([{"params": p}, fastnn.ones(1)]), TypeError, "a group must be a dict, but a Tensor came"),
    (lambda p: optim.LBFGS([p], history_size=0), ValueError, "history_size must be at least 1, but 0 came"),
    (lambda p: optim.AdamW([p], betas=(0.9, -0.1)), ValueError, "Invalid beta parameter at index 1: -0.1"),
])  # fmt: skip
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make(fastnn.ones(2, requires_grad=True))


def test_named_parameters():
    model = fastnn.nn.Linear(2, 3)
    sgd = optim.SGD(model.named_parameters(), lr=0.5)
    assert sgd.param_groups[0]["params"] == [model.weight, model.bias]
    assert sgd.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    copy.copy(sgd).load_state_dict(optim.SGD(model.parameters(), lr=0.25).state_dict())  # names are no condition
    sgd.add_param_group({"params": [("other", fastnn.ones(1, requires_grad=True))], "lr": 1.0})
    assert [group["param_names"] for group in sgd.param_groups] == [["weight", "bias"], ["other"]]
    with pytest.raises(ValueError, match="either all groups have names"):
        sgd.add_param_group({"params": [fastnn.ones(1, requires_grad=True)]})
    with pytest.raises(ValueError, match="some parameters came with a name, others without"):
        optim.SGD([("weight", model.weight), model.bias])
    with pytest.raises(TypeError, match="parameter 0 is a tuple"):
        optim.SGD([("weight", model.weight, 1)])


def test_gradient_of_another_shape_is_refused():
    p = fastnn.ones(3, requires_grad=True)
    p.grad = fastnn.ones(1)
    with pytest.raises(ValueError, match="shape"):
        optim.SGD([p]).step()
    assert p.tolist() == [1, 1, 1]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_state_dict_resumes_with_equal_bits(rng, make):
    params = parameters(rng, "float32")
    steps = [gradients(rng, params, i) for i in range(6)]
    optimizer = make(params)
    run(optimizer, params, steps[:3])
    others = [Tensor(p.array.copy(order="K"), True) for p in params]
    resumed = make(others)
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == list(range(len(params)))
    resumed.load_state_dict(copy.deepcopy(state))
    run(optimizer, params, steps[3:])
    run(resumed, others, steps[3:])
    assert all(p.array.tobytes() == q.array.tobytes() for p, q in zip(params, others, strict=True))
    for p in others:  # the copy is laid out as the parameter
        strides = [s for s, n in zip(np.empty_like(p.array).strides, p.shape, strict=True) if n > 1]
        for v in resumed.state[p].values():
            assert v.shape == () or [s for s, n in zip(v.array.strides, v.shape, strict=True) if n > 1] == strides


def test_state_dict_has_pytorchs_format():
    p = fastnn.ones(2, requires_grad=True)
    p.grad = fastnn.ones(2)
    optimizer = optim.AdamW([p], lr=0.1)
    optimizer.step()
    state = optimizer.state_dict()
    assert state.keys() == {"state", "param_groups"}
    assert state["state"].keys() == {0} and state["state"][0].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert state["state"][0]["step"].item() == 1.0 and state["state"][0]["step"].dtype == fastnn.float32
    assert state["param_groups"][0]["betas"] == (0.9, 0.999)


def test_load_state_dict_refuses_what_does_not_fit():
    def make(*sizes):
        params = [fastnn.ones(n, requires_grad=True) for n in sizes]
        for p in params:
            p.grad = fastnn.ones(p.shape)
        optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
        optimizer.step()
        return optimizer

    optimizer = make(2, 3)
    before = optimizer.state_dict()
    for other, message in ((make(2), "groups of"), (make(3, 2), "momentum_buffer has shape")):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(other.state_dict())
    two = copy.deepcopy(before)
    two["param_groups"] *= 2
    with pytest.raises(ValueError, match="groups of"):
        optimizer.load_state_dict(two)
    assert repr(optimizer.state_dict()) == repr(before)


def test_kernel_checks_its_arguments():
    ok, read_only, count = np.ones(4, np.float32), np.ones(4, np.float32), np.zeros((), np.float32)
    read_only.flags.writeable = False
    step = backend.optimizer.sgd_step
    if backend.kernel_set == "reference":
        pytest.skip("twins trust their callers")
    for params, grads, buffers, error in (
        ([ok], [], [], ValueError),
        ([ok], [ok.astype(np.float64)], [], ValueError),
        ([ok], [np.ones(5, np.float32)], [], ValueError),
        ([ok], [ok], [ok, ok], ValueError),
        ([ok[::2]], [ok[::2]], [], ValueError),
        ([np.broadcast_to(ok[:1], 4)], [ok], [], ValueError),
        ([read_only], [ok], [], ValueError),
        ([ok.astype(">f4")], [ok], [], ValueError),
        ([ok], [None], [], TypeError),
        ([[1.0]], [ok], [], TypeError),
        (None, [ok], [], TypeError),
    ):
        with pytest.raises(error):
            step(params, grads, [buffers], [[count]], [0.1, 0.0, 0.0, False], (0.0, False, 0.0, 1.0), 1)
    for moments, largest, counts in ([], [], [count]), ([ok], [ok, ok], [count]), ([ok], [], [ok]), ([ok], [], []):
        with pytest.raises(ValueError):
            options = [0.1, 0.9, 0.9, 1e-8, 0.0], (0.0, False, 0.0, 1.0)
            backend.optimizer.adam_step([ok], [ok], [moments, moments, largest], [counts], *options, 1)
    assert ok.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_state_follows_a_cast_of_the_model(make):
    model = fastnn.nn.Conv2d(2, 3, (2, 3)).double()
    optimizer = make(model.parameters())
    for cast in (model.double, model.float, model.double):
        model(fastnn.ones(4, 2, 2, 4, dtype=cast().weight.dtype)).sum().backward()
        optimizer.step()
    held = [v for state in optimizer.state.values() for v in state.values() if v.shape]
    assert {v.dtype for v in held} <= {fastnn.float64} and (held or make is MAKERS["plain SGD"])


@pytest.mark.parametrize("make", [
    *MAKERS.values(),
    lambda p, **options: optim.SGD([{"params": p[:2]}, {"params": p[2:], "lr": 0.3}], weight_decay=0.1, **options)])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_max_norm_is_clipping_before_the_step(rng, make, max_norm):
    shapes, results = [(3, 4, 5, 2), (7,), (300, 70)], []
    start = [rng.standard_normal(shape) for shape in shapes]
    gradients = [[rng.standard_normal(shape) for shape in shapes] for _ in range(3)]
    for fused in True, False:
        params = [fastnn.tensor(a, requires_grad=True) for a in start]
        optimizer = make(params, **({"max_norm": max_norm} if fused else {}))
        for step in gradients:
            for p, g in zip(params, step, strict=True):
                p.grad = fastnn.tensor(g)
            if not fused:
                fastnn.nn.utils.clip_grad_norm_(params, max_norm)
            optimizer.step()
        assert not fused or all((p.grad.array == g).all() for p, g in zip(params, gradients[-1], strict=True))
        assert "max_norm" not in repr(optimizer.state_dict())
        results.append([p.array for p in params])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="max_norm"):
        make(params, max_norm=-1.0)


def test_a_first_step_that_needs_another_look_is_still_the_first(rng):
    """A gradient in another memory order is laid out anew; momentum begins with it, undamped."""
    p = fastnn.tensor(np.zeros((4, 6)), requires_grad=True)
    p.grad = fastnn.Tensor(rng.standard_normal((6, 4)).T)
    optimizer = optim.SGD([p], lr=1.0, momentum=0.9, dampening=0.5)
    optimizer.step()
    np.testing.assert_array_equal(p.array, -p.grad.array)
    np.testing.assert_array_equal(optimizer.state[p]["momentum_buffer"].array, p.grad.array)
    optimizer.step()
    np.testing.assert_allclose(optimizer.state[p]["momentum_buffer"].array, 1.4 * p.grad.array)


# Oracles of the others, for one number: (p, d, memory, step s, options) -> p; d has decay and sign, memory is a dict.


def adagrad_rule(p, d, memory, s, lr, eps):
    memory["sum"] = memory.get("sum", 0) + d * d
    return p - lr * d / (math.sqrt(memory["sum"]) + eps)


def adadelta_rule(p, d, memory, s, lr, rho, eps):
    memory["v"] = rho * memory.get("v", 0) + (1 - rho) * d * d
    change = math.sqrt(memory.get("a", 0) + eps) / math.sqrt(memory["v"] + eps) * d
    memory["a"] = rho * memory.get("a", 0) + (1 - rho) * change**2
    return p - lr * change


def rmsprop_rule(p, d, memory, s, lr, alpha, eps, momentum, centered):
    memory["v"] = alpha * memory.get("v", 0) + (1 - alpha) * d * d
    memory["m"] = alpha * memory.get("m", 0) + (1 - alpha) * d
    square = max(memory["v"] - memory["m"] ** 2, 0) if centered else memory["v"]
    memory["b"] = momentum * memory.get("b", 0) + d / (math.sqrt(square) + eps)
    return p - lr * memory["b"]


def adamax_rule(p, d, memory, s, lr, betas, eps):
    memory["m"] = betas[0] * memory.get("m", 0) + (1 - betas[0]) * d
    memory["u"] = max(betas[1] * memory.get("u", 0), abs(d) + eps)
    return p - lr / (1 - betas[0] ** s) * memory["m"] / memory["u"]


def nadam_rule(p, d, memory, s, lr, betas, eps, momentum_decay):
    mu = [betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in range(s + 2)]
    memory["m"] = betas[0] * memory.get("m", 0) + (1 - betas[0]) * d
    memory["v"] = betas[1] * memory.get("v", 0) + (1 - betas[1]) * d * d
    top = (1 - mu[s]) * d / (1 - math.prod(mu[1 : s + 1])) + mu[s + 1] * memory["m"] / (1 - math.prod(mu[1:]))
    return p - lr * top / (math.sqrt(memory["v"] / (1 - betas[1] ** s)) + eps)


def radam_rule(p, d, memory, s, lr, betas, eps):
    memory["m"] = betas[0] * memory.get("m", 0) + (1 - betas[0]) * d
    memory["v"] = betas[1] * memory.get("v", 0) + (1 - betas[1]) * d * d
    m, longest = memory["m"] / (1 - betas[0] ** s), 2 / (1 - betas[1]) - 1
    length = longest - 2 * s * betas[1] ** s / (1 - betas[1] ** s)
    if length <= 5:
        return p - lr * m
    r = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
    return p - lr * r * m * math.sqrt(1 - betas[1] ** s) / (math.sqrt(memory["v"]) + eps)


def rprop_rule(p, d, memory, s, lr, etas, step_sizes):
    before, size = memory.get("d", 0), memory.get("size", lr)
    factor = etas[1] if before * d > 0 else etas[0] if before * d < 0 else 1
    memory["size"] = min(max(size * factor, step_sizes[0]), step_sizes[1])
    memory["d"] = 0 if before * d < 0 else d
    return p - memory["size"] * np.sign(memory["d"])


def asgd_rule(p, d, memory, s, lr, lambd, alpha):
    eta = np.float32(memory.get("eta", lr))  # kept in float32
    memory["eta"] = lr / (1 + lambd * lr * s) ** alpha
    return p * (1 - lambd * float(eta)) - float(eta) * d


RULES = {
    "Adagrad": (adagrad_rule, {"lr": 0.1, "eps": 1e-3}),
    "Adadelta": (adadelta_rule, {"lr": 0.5, "rho": 0.8, "eps": 1e-2}),
    "RMSprop": (rmsprop_rule, {"lr": 0.1, "alpha": 0.7, "eps": 0.1, "momentum": 0.6, "centered": True}),
    "Adamax": (adamax_rule, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-2}),
    "NAdam": (nadam_rule, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.1, "momentum_decay": 0.3}),
    "RAdam": (radam_rule, {"lr": 0.1, "betas": (0.8, 0.99), "eps": 0.1}),
    "Rprop": (rprop_rule, {"lr": 0.1, "etas": (0.4, 1.3), "step_sizes": (0.03, 0.2)}),
    "ASGD": (asgd_rule, {"lr": 0.1, "lambd": 0.2, "alpha": 0.6}),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_the_others(rng, name, dtype):
    rule, options = RULES[name]

    def oracle(p, grads, decay=0.0, sign=1.0):
        memory, step = {}, 0
        for g in grads:
            if g is not None:
                step += 1
                p = rule(p, sign * g + decay * p, memory, step, **options)
        return p

    tol = 1e-6 if name == "NAdam" else None  # whose product of all mu is kept in float32
    check(lambda p: getattr(optim, name)(p, **options), oracle, rng, dtype, tol and {np.dtype(dtype): max(tol, 1e-5)})
    if name != "Rprop":
        check(lambda p: getattr(optim, name)(p, weight_decay=0.1, maximize=True, **options),
              lambda p, g: oracle(p, g, 0.1, -1.0), rng, dtype, tol and {np.dtype(dtype): max(tol, 1e-5)})  # fmt: skip


def test_asgd_averages(rng):
    """ax is the mean of the parameters from step t0 + 2 on; before it equals them."""
    p = fastnn.tensor(rng.standard_normal(5), requires_grad=True)
    optimizer, seen = optim.ASGD([p], lr=0.1, t0=3), []
    for _ in range(9):
        run(optimizer, [p], [[rng.standard_normal(5)]])
        seen.append(p.detach().numpy().copy())
        mean = np.mean(seen[min(len(seen), 5) - 1 :], axis=0)
        close(optimizer.state[p]["ax"].array, mean, tol={np.dtype("float64"): 1e-7})  # mu is kept in float32


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_finds_the_minimum_of_a_quadratic(rng, search):
    """float64: a quadratic in 6 variables, of which two parameters in other memory orders consist."""
    root = rng.standard_normal((6, 6))
    matrix, target = fastnn.tensor(root @ root.T + np.eye(6)), fastnn.tensor(rng.standard_normal(6))
    params = [Tensor(np.zeros((2, 2)).T, True), Tensor(np.zeros(4)[::2], True)]
    optimizer = optim.LBFGS(params, lr=1.0 if search else 0.1, max_iter=300, line_search_fn=search)

    def closure():
        optimizer.zero_grad()
        x = fastnn.cat([params[0].reshape(-1), params[1]]) - target
        loss = (x @ matrix @ x) / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    solution = np.concatenate([p.detach().numpy().reshape(-1) for p in params])
    close(solution, target.numpy(), tol={np.dtype("float64"): 1e-4})
    assert optimizer.state[params[0]]["func_evals"] <= 375
