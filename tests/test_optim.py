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


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_threads_give_equal_bits(rng, name):
    results = []
    for threads in (1, 2, 3):
        fastnn.set_num_threads(threads)
        seeded = np.random.default_rng(5)
        params = [Tensor(seeded.standard_normal(n).astype(np.float32), True) for n in (7, 70001, 1, 40000, 12)]
        optimizer = optim.SGD(params, momentum=0.9) if name == "SGD" else optim.Adam(params)
        run(optimizer, params, [[seeded.standard_normal(p.shape) for p in params] for _ in range(3)])
        results.append(b"".join(p.array.tobytes() for p in params))
    assert results[0] == results[1] == results[2]


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
    assert "Parameter Group 1\n    dampening: 0\n    lr: 2.0" in repr(optimizer)


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
    (lambda p: optim.AdamW([p], betas=(0.9, -0.1)), ValueError, "Invalid beta parameter at index 1: -0.1"),
])  # fmt: skip
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make(fastnn.ones(2, requires_grad=True))


def test_gradient_of_another_shape_is_refused():
    p = fastnn.ones(3, requires_grad=True)
    p.grad = fastnn.ones(1)
    with pytest.raises(ValueError, match="shape"):
        optim.SGD([p]).step()
    assert p.tolist() == [1, 1, 1]


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.SGD(p, lr=0.1), lambda p: optim.Adam(p, amsgrad=True)
])  # fmt: skip
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
            step(params, grads, [buffers], [[count]], (0.1, 0.0, 0.0, False), (0.0, False, 0.0, 1.0), 1)
    for moments, largest, counts in ([], [], [count]), ([ok], [ok, ok], [count]), ([ok], [], [ok]), ([ok], [], []):
        with pytest.raises(ValueError):
            options = (0.1, 0.9, 0.9, 1e-8, 0.0), (0.0, False, 0.0, 1.0)
            backend.optimizer.adam_step([ok], [ok], [moments, moments, largest], [counts], *options, 1)
    assert ok.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, momentum=0.9), lambda p: optim.Adam(p, amsgrad=True)])
def test_state_follows_a_cast_of_the_model(make):
    model = fastnn.nn.Conv2d(2, 3, (2, 3)).double()
    optimizer = make(model.parameters())
    for cast in (model.double, model.float, model.double):
        model(fastnn.ones(4, 2, 2, 4, dtype=cast().weight.dtype)).sum().backward()
        optimizer.step()
    held = [v for state in optimizer.state.values() for v in state.values() if v.shape]
    assert {v.dtype for v in held} == {fastnn.float64}


@pytest.mark.parametrize("make", [
    lambda p, **options: optim.SGD(p, lr=0.1, momentum=0.9, **options), lambda p, **options: optim.AdamW(p, **options),
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
