"""Batch norm, addition and ReLU in one pass: the same bits as without fusing, whoever watches or writes in between."""

import copy
import gc
import importlib
import os
import pickle
import signal
import threading
import time
import warnings
import weakref
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
from harness import check
from test_normalization import formula

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, models, nn, optim
from fastnn.nn import init

tape = importlib.import_module("fastnn.tensor")
Pending = tape.Pending
SHAPES = [(7, 3), (4, 5, 6), (2, 3, 4, 5), (5, 130, 3, 2), (5, 32, 7, 13), (3, 1, 2, 2), (2, 520, 2, 3)]


@contextmanager
def unfused():
    tape._mode.fuse = False
    try:
        yield
    finally:
        tape._mode.fuse = True


def bits(*values):
    return [None if v is None else np.array(getattr(v, "array", v), order="C").tobytes() for v in values]


def norm(x, w=None, b=None, training=True):
    C = x.shape[1]
    mean, var = fastnn.full((C,), 0.1, dtype=x.dtype), fastnn.full((C,), 1.5, dtype=x.dtype)
    return F.batch_norm(x, mean, var, w, b, training, eps=0.1)


def iadd_relu(x, s, w, b, t):
    y = norm(x, w, b, t)
    y += s
    return F.relu(y, inplace=True)


def used_twice(x, s, w, b, t):
    y = norm(x, w, b, t)
    return F.relu(y) + F.relu(y + s) * y


FORMS = {
    "relu": lambda x, s, w, b, t: F.relu(norm(x, w, b, t)),
    "relu_": lambda x, s, w, b, t: F.relu(norm(x, w, b, t), inplace=True),
    "add": lambda x, s, w, b, t: norm(x, w, b, t) + s,
    "add relu": lambda x, s, w, b, t: F.relu(norm(x, w, b, t) + s),
    "relu of skip + bn": lambda x, s, w, b, t: F.relu(s + norm(x, w, b, t)),
    "both": lambda x, s, w, b, t: F.relu(norm(x, w, b, t) + norm(s, b, w, t)),
    "itself": lambda x, s, w, b, t: F.relu(norm(x, w, b, t) + x),
    "twice": lambda x, s, w, b, t: (lambda y: F.relu(y + y))(norm(x, w, b, t)),
    "three": lambda x, s, w, b, t: F.relu(norm(x, w, b, t) + s + x),
    "+= relu_": iadd_relu,
    "used twice": used_twice,
    "bn of bn": lambda x, s, w, b, t: F.relu(norm(norm(x, w, b, t) + s, b, w, t)),
    "broadcast": lambda x, s, w, b, t: F.relu(norm(x, w, b, t) + s[:1]),
    "number": lambda x, s, w, b, t: F.relu(0.5 + norm(x, w, b, t)),
    "view": lambda x, s, w, b, t: F.relu(norm(x, w, b, t)[1:] + s[1:]),
    "leaky": lambda x, s, w, b, t: F.leaky_relu(norm(x, w, b, t) + s, 0.1),
}


def arrays(rng, shape, dtype):
    return [a.astype(dtype) for a in (*rng.standard_normal((2, *shape)), *rng.standard_normal((2, shape[1])))]


def run(form, values, training, needs=(True,) * 4, watch=None):
    """Output and gradients; inputs are outputs of operations, as in a network."""
    leaves = [fastnn.tensor(a, requires_grad=need) for a, need in zip(values, needs, strict=True)]
    x, s = (leaf * 1.0 for leaf in leaves[:2])
    y = FORMS[form](x, s, *leaves[2:], training)
    if y.requires_grad:
        y.backward(fastnn.tensor(np.random.default_rng(5).standard_normal(y.shape).astype(y.dtype)))
    return bits(y, *(leaf.grad for leaf in leaves))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bits_are_those_of_the_unfused_run(rng, shape, dtype):
    values = arrays(rng, shape, dtype)
    for form, training in product(FORMS, (True, False)):
        fused = run(form, values, training)
        with unfused():
            assert fused == run(form, values, training), (form, training)


@pytest.mark.parametrize("needs", [(0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 1, 1, 0), (0, 0, 0, 0)])
def test_bits_when_some_need_no_gradient(rng, needs):
    values = arrays(rng, (6, 17, 3, 4), np.float32)
    for form, training in product(FORMS, (True, False)):
        fused = run(form, values, training, [bool(n) for n in needs])
        with unfused():
            assert fused == run(form, values, training, [bool(n) for n in needs]), (form, training)


def test_nan_infinity_and_zeros_pass_as_without_fusing(rng):
    x, s, w, b = arrays(rng, (40, 6, 2, 3), np.float32)
    x[3, 0], x[5, 1], w[2], b[3], b[4], w[4] = np.nan, np.inf, 0, np.nan, -0.0, 0
    s[::3, 4], s[1, 5] = -0.0, np.nan
    for form, training in product(FORMS, (True, False)):
        with np.errstate(all="ignore"):
            fused = run(form, (x, s, w, b), training)
            with unfused():
                assert fused == run(form, (x, s, w, b), training), (form, training)


def test_bits_do_not_depend_on_threads(rng):
    values, results = arrays(rng, (16, 32, 32, 32), np.float32), []
    threads = fastnn.get_num_threads()
    try:
        for n in (1, 2, 3):
            fastnn.set_num_threads(n)
            results.append([run(form, values, True) for form in ("relu", "add relu", "both")])
        with unfused():
            results.append([run(form, values, True) for form in ("relu", "add relu", "both")])
    finally:
        fastnn.set_num_threads(threads)
    assert results[0] == results[1] == results[2] == results[3]


@pytest.mark.parametrize("shape", [(7, 3), (4, 5, 6), (3, 4, 2, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_against_formula_and_differences(rng, shape, training):
    def oracle(x, s, w, b):
        y = formula(x, w, b, *(() if training else (np.full(shape[1], 0.1), np.full(shape[1], 1.5))), eps=0.1)
        return np.maximum(y, 0), np.maximum(y + s, 0)

    def both(x, s, w, b):
        x, s = x * 1.0, s * 1.0
        y = norm(x, w, b, training)
        assert type(y) is Pending
        return F.relu(y), F.relu(y + s)

    check(both, *arrays(rng, shape, np.float64), oracle=oracle)


def test_empty_batch():
    x, s = (fastnn.zeros(0, 3, 4, 5, requires_grad=True) for _ in range(2))
    for training in (True, False):
        F.relu(norm(x * 1.0, training=training) + s * 1.0).sum().backward()
    assert x.grad.shape == s.grad.shape == (0, 3, 4, 5)


# Who watches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("watch", ["hook", "late hook", "retain", "capture", "read", "leaf hook"])
@pytest.mark.parametrize("both", [False, True])
def test_watched_gradients_are_those_of_the_unfused_run(rng, watch, both):
    values = arrays(rng, (4, 20, 5, 3), np.float32)

    def once():
        leaves, seen = [fastnn.tensor(a, requires_grad=True) for a in values], []
        x, s = (leaf * 1.0 for leaf in leaves[:2])
        y = norm(x, *leaves[2:])
        z = y + (norm(s) if both else s)
        hooked = (x, s, y, z)
        if watch == "hook":
            for t in hooked:
                t.register_hook(lambda g: seen.append(bits(g)))
        if watch == "leaf hook":
            leaves[1].register_hook(lambda g: seen.append(bits(g)))
        if watch == "read":
            seen.append(bits(y, z))
        out = F.relu(z) * F.relu(y)
        if watch == "late hook":
            y.register_hook(lambda g: g * 2.0)
            z.register_hook(lambda g: seen.append(bits(g)))
        if watch == "retain":
            for t in hooked:
                t.retain_grad()
        if watch == "capture":
            return bits(*fastnn.autograd.grad(out.sum(), [*hooked, *leaves]))
        out.sum().backward()
        return bits(out, *(leaf.grad for leaf in leaves)), seen, watch == "retain" and bits(*(t.grad for t in hooked))

    fused = once()
    with unfused():
        assert fused == once()


@pytest.mark.parametrize("both", [False, True])
def test_hooks_change_no_bits(rng, both):
    values = arrays(rng, (4, 20, 5, 3), np.float32)

    def once(watch):
        leaves = [fastnn.tensor(a, requires_grad=True) for a in values]
        x, s = (leaf * 1.0 for leaf in leaves[:2])
        y = norm(x, *leaves[2:])
        z = y + (norm(s) if both else s)
        for t in (y, z, s) if watch else ():
            t.register_hook(lambda g: None)
        out = F.relu(z)
        out.sum().backward()
        return bits(out, *(leaf.grad for leaf in leaves))

    assert once(True) == once(False)


def test_gradients_that_others_hold_are_not_written_into(rng):
    for keep in (lambda y: None, lambda y: y.retain_grad(), lambda y: y.register_hook(seen.append)):
        x, s = (fastnn.tensor(a) * 1.0 for a in arrays(rng, (4, 3, 2, 2), np.float32)[:2])
        x, s, seen, given = x.requires_grad_(), s.requires_grad_(), [], fastnn.tensor(np.ones((4, 3, 2, 2), np.float32))
        y = F.relu(norm(x) + s)
        keep(y)
        again = fastnn.from_numpy(given.array.transpose(0, 2, 3, 1).copy()).permute(0, 3, 1, 2)  # channels-last
        y.backward(again)
        for held in (again, *seen, *([y.grad] if y.grad is not None else [])):
            assert (held.array == 1).all()
        assert not (s.grad.array == 1).all()


def test_gradients_of_the_kernel_may_be_masked_in_place(rng):
    x, dy, y = rng.standard_normal((3, 600, 40)).astype(np.float32)
    c, results = rng.uniform(0.5, 1, (4, 40)).astype(np.float32), []
    for g in (np.empty_like(dy), dy):
        outs = np.empty_like(x), np.empty(40, np.float32), np.empty(40, np.float32)
        backend.normalization.batch_norm_backward(dy, x, *c, y, True, True, *outs, g, 1)
        results.append(bits(g, *outs))
    assert results[0] == results[1]


def test_backward_twice(rng):
    leaves = [fastnn.tensor(a, requires_grad=True) for a in arrays(rng, (4, 3, 2, 2), np.float32)]
    y = F.relu(norm(leaves[0] * 1.0, *leaves[2:]) + leaves[1] * 1.0)
    y.sum().backward(retain_graph=True)
    first = [leaf.grad.array.copy() for leaf in leaves]
    y.sum().backward()
    for leaf, one in zip(leaves, first, strict=True):
        np.testing.assert_array_equal(leaf.grad.array, 2 * one)
    with pytest.raises(RuntimeError, match="freed"):
        y.sum().backward()


# Who writes -------------------------------------------------------------------------------------------------------


def through_optimizer(t):
    p = nn.Parameter(t.detach())
    p.grad = fastnn.ones_like(p)
    optim.SGD([p], lr=0.5).step()


WRITERS = {
    "add_": lambda t: t.add_(1.0),
    "zero_": lambda t: t.zero_(),
    "setitem": lambda t: t.__setitem__(0, 3.0),
    "indexed": lambda t: t.__setitem__(fastnn.tensor([0, 1]), 3.0),
    "view": lambda t: t[1:].mul_(2.0),
    "reshaped": lambda t: t.permute(0, 2, 3, 1).reshape(-1).fill_(2.0),
    "relu_": lambda t: F.relu(t, inplace=True),
    "data": lambda t: setattr(t, "data", fastnn.ones_like(t)),
    "of data": lambda t: t.data.add_(1.0),
    "detach": lambda t: t.detach().add_(1.0),
    "numpy": lambda t: t.detach().numpy().fill(4.0),
    "numpy of a view": lambda t: t.detach()[1:].numpy().fill(4.0),
    "asarray": lambda t: np.asarray(t.detach()).fill(4.0),
    "init": lambda t: init.constant_(t, 5.0),
    "clip": lambda t: nn.utils.clip_grad_value_([holder(t)], 0.1),
    "clip norm": lambda t: nn.utils.clip_grad_norm_([holder(t)], 0.1),
    "accumulate": lambda t: (holder(t) * 2.0).sum().backward(),
    "optimizer": through_optimizer,
}


def holder(t):
    """A parameter whose gradient is t."""
    p = nn.Parameter(fastnn.ones_like(t))
    p.grad = t.detach()
    return p


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("which", ["source", "residual"])
@pytest.mark.parametrize("before", [False, True])
def test_what_is_pending_reads_before_others_write(rng, writer, which, before):
    a, b = (v for v in arrays(rng, (4, 3, 2, 5), np.float32)[:2])

    def once():
        x, s = fastnn.tensor(a) * 1.0, fastnn.tensor(b) * 1.0
        target = x if which == "source" else s
        kept = target.detach().numpy() if before else None  # a writer that was there before
        y = norm(x)
        z = y + s
        if before:
            kept.fill(7.0)
        WRITERS[writer](target)
        return bits(F.relu(z), F.relu(y), z, y, x, s)

    fused = once()
    with unfused():
        assert fused == once()


def test_parameters_and_statistics_may_change_at_once(rng):
    x, _, w, b = (fastnn.tensor(a) for a in arrays(rng, (4, 3, 2, 5), np.float32))
    expected, x = bits(F.relu(norm(x, w, b, False))), x * 1.0
    mean, var = fastnn.full((3,), 0.1), fastnn.full((3,), 1.5)
    y = F.batch_norm(x, mean, var, w, b, False, eps=0.1)
    for t in (mean, var, w, b):
        t.fill_(9.0)
    assert type(y) is Pending and bits(F.relu(y)) == expected


def test_changed_source_is_noticed_in_the_backward_pass():
    x = fastnn.randn(4, 3, requires_grad=True) * 1.0
    y = F.relu(norm(x))
    x.add_(1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_what_relu_in_place_needs_is_guarded():
    y = norm(fastnn.randn(4, 3, requires_grad=True) * 1.0)
    F.relu(y, inplace=True).add_(1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_foreign_memory_is_read_at_once():
    a = np.ones((4, 3, 2, 2), np.float32)

    class Wrap(fastnn.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return fastnn.from_numpy(a)

    op = fastnn.randn(4, 3, 2, 2) * 1.0
    handed = fastnn.randn(4, 3, 2, 2) * 1.0
    handed.numpy()
    for x in fastnn.from_numpy(a), fastnn.from_numpy(a)[1:], Wrap.apply(op), fastnn.Tensor(a).detach(), handed, op.data:
        assert type(norm(x)) is fastnn.Tensor
    op = op + 1.0
    assert type(norm(op)) is Pending and type(norm(op) + fastnn.from_numpy(a)) is fastnn.Tensor


# A pending tensor is a tensor -------------------------------------------------------------------------------------


def made():
    return norm(fastnn.randn(4, 3, 2, 5) * 1.0)


def test_questions_about_the_shape_compute_nothing():
    y = made()
    assert (y.shape, y.size(), y.size(1), y.ndim, y.dim(), y.numel()) == ((4, 3, 2, 5),) * 2 + (3, 4, 4, 120)
    assert y.dtype == fastnn.float32 and y.is_floating_point() and y.is_leaf and not y.requires_grad
    assert isinstance(y, fastnn.Tensor) and type(y) is Pending
    out = F.relu(y.requires_grad_())
    assert type(out) is fastnn.Tensor and type(y) is Pending
    out.sum().backward()
    np.testing.assert_array_equal(y.grad.array, out.array > 0)
    first = y.array
    assert type(y) is fastnn.Tensor and y.array is first


USES = {
    "pickle": lambda y: pickle.loads(pickle.dumps(y)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "parameter": nn.Parameter,
    "list": lambda y: nn.ParameterList([y])[0],
    "view": lambda y: y.permute(0, 2, 3, 1),
    "index": lambda y: y[1, ::2],
    "detach": lambda y: y.detach(),
    "data": lambda y: y.data,
    "numpy": lambda y: y.numpy(),
    "clone": lambda y: y.clone(),
    "double": lambda y: y.double(),
    "in place": lambda y: y.mul_(2.0),
    "+= number": lambda y: y.add_(2.0),
    "+= itself": lambda y: y.add_(y),
    "+= double": lambda y: y.add_(y.double()),
    "pool": lambda y: F.max_pool2d(y, 2),
    "cat": lambda y: fastnn.cat([y, y]),
    "repr": lambda y: np.array([repr(y)]),
}


@pytest.mark.parametrize("use", USES)
def test_everything_else_reads_it(use):
    results = []
    for switch in (unfused, fastnn.enable_grad):
        fastnn.manual_seed(0)
        with switch():
            y = made()
            assert (type(y) is Pending) == (switch is not unfused)
            used = USES[use](y)
            results.append((type(used).__name__, bits(used, y)))
            assert type(y) is fastnn.Tensor and type(used) is not Pending
    assert results[0] == results[1]


def test_a_function_of_ones_own_takes_and_returns_it():
    class Twice(fastnn.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return norm(x * 2.0)

        @staticmethod
        def backward(ctx, g):
            return g * 2.0

    x = fastnn.randn(4, 3, requires_grad=True)
    y = F.relu(norm(Twice.apply(norm(x * 1.0))))
    y.sum().backward()
    assert x.grad.shape == (4, 3)


def test_threads_may_read_the_same_one():
    for _ in range(20):
        y, found = made(), []
        expected = np.maximum(y.clone().array, 0)
        y = norm(fastnn.randn(64, 3, 20, 5) * 1.0)
        barrier = threading.Barrier(4)

        def read(i, y=y, found=found, barrier=barrier):
            barrier.wait()
            found.append((F.relu(y) if i % 2 else y.relu(), y.array))

        threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = np.maximum(y.array, 0)
        assert len(found) == 4 and all(array is y.array for _, array in found)
        assert all(bits(out) == bits(expected) for out, _ in found)


@pytest.mark.parametrize("grad", [False, True])
def test_memory_is_given_back_without_cycles(grad):
    gc.disable()
    try:
        leaf = fastnn.randn(4, 3, 2, 5, requires_grad=grad)
        x, s = leaf * 1.0, leaf * 2.0
        held = [weakref.ref(t.array) for t in (x, s)]
        y = norm(x)
        z = y + s
        out = F.relu(z)
        parts = [weakref.ref(t) for t in (x, s, y, z)]
        if not grad:
            y.array, z.array  # noqa: B018
            del x, s
            assert [r() for r in held] == [None, None]
        else:
            out.sum().backward()
            del x, s
        del y, z
        assert [r() for r in held + parts] == [None] * 6
    finally:
        gc.enable()


def test_dead_readers_are_forgotten():
    x = fastnn.randn(4, 3) * 1.0
    for _ in range(100):
        F.relu(norm(x))
    assert len(x._version) <= 18


# Networks ---------------------------------------------------------------------------------------------------------


class Never:
    def __init__(self, name):
        self.name = name

    def __call__(self, *_):
        raise AssertionError(f"{self.name} ran as a pass of its own")


class Block(nn.Module):
    def __init__(self, inplace, iadd):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.iadd = nn.ReLU(inplace=inplace), iadd

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.iadd:
            y += x
        else:
            y = y + x
        return self.relu(y)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("iadd", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_no_pass_of_relu_remains(monkeypatch, inplace, iadd, training):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=inplace), Block(inplace, iadd),
                        Block(inplace, iadd)).train(training)
    for name in ("relu", "relu_backward"):
        monkeypatch.setattr(backend.activation, name, Never(name))
    passes, kernel = [], backend.normalization.batch_norm
    monkeypatch.setattr(backend.normalization, "batch_norm", lambda *args: passes.append(kernel(*args)))
    out = net(fastnn.randn(2, 3, 8, 8))
    with fastnn.no_grad():
        net(fastnn.randn(2, 3, 8, 8))
    # one for each batch norm; those of the second run, in evaluation, ride in convolutions
    assert len(passes) == (10 if training else 5)
    out.sum().backward()


def test_addition_passes_its_gradient_on_without_a_copy():
    x, y = (fastnn.randn(3, 4, requires_grad=True) for _ in range(2))
    g = np.ones((3, 4), np.float32)
    assert all(part is g for z in (x + y, norm(x * 1.0) + y * 1.0) for part in z.grad_fn.backward(g))


@pytest.mark.parametrize("name", ["resnet20", "vgg"])
def test_training_has_the_same_bits(rng, name):
    x, y = rng.standard_normal((4, 3, 16, 16)).astype(np.float32), fastnn.tensor([1, 5, 0, 9])

    def train(watch):
        fastnn.manual_seed(0)
        net, losses = getattr(models, name)((3, 16, 16)), []
        steps = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        for module in net.modules() if watch else ():
            if isinstance(module, nn.BatchNorm2d | nn.ReLU):
                module.register_forward_hook(lambda module, args, out: losses.append(out.mean().item()))
                module.register_full_backward_hook(lambda module, grad_input, grad_output: None)
        for _ in range(5):
            steps.zero_grad()
            loss = F.cross_entropy(net(fastnn.from_numpy(x)), y)
            loss.backward()
            steps.step()
        net.eval()
        with fastnn.no_grad():
            return bits(loss, net(fastnn.from_numpy(x)), *net.state_dict().values())

    threads = fastnn.get_num_threads()
    fastnn.set_num_threads(1)  # so small a network is quicker so
    try:
        fused = train(False)
        assert fused == train(True)
        with unfused():
            assert fused == train(False)
    finally:
        fastnn.set_num_threads(threads)


CONVOLUTIONS = [
    ((2, 3, 9, 8), 5, {"padding": (1, 2)}), ((3, 16, 7, 6), 40, {"stride": (2, 1)}),
    ((2, 12, 8, 5), 12, {"groups": 12}),
    ((1, 6, 5, 9), 18, {"groups": 6, "padding": 1}),
    ((2, 8, 9, 7), 20, {"groups": 4, "dilation": (1, 2)}),
    ((2, 33, 6, 6), 35, {"kernel_size": 1}), ((0, 3, 5, 5), 4, {}),
]  # fmt: skip
EVAL_FORMS = {
    "conv": lambda c, bn, x, s: c(x),
    "relu": lambda c, bn, x, s: F.relu(c(x)),
    "norm": lambda c, bn, x, s: bn(c(x)),
    "norm relu": lambda c, bn, x, s: F.relu(bn(c(x))),
    "norm add": lambda c, bn, x, s: bn(c(x)) + s,
    "norm add relu": lambda c, bn, x, s: F.relu(s + bn(c(x))),
    "norm twice": lambda c, bn, x, s: F.relu(bn(bn(c(x)))),
    "add norm": lambda c, bn, x, s: bn(c(x) + s),
    "used twice": lambda c, bn, x, s: (lambda y: F.relu(y) + bn(y))(c(x)),
}


def eval_parts(rng, shape, F_out, options, dtype=fastnn.float32):
    options = {"kernel_size": (3, 2)} | options
    conv = nn.Conv2d(shape[1], F_out, bias=bool(shape[0] % 2), **options).to(dtype)
    norm = nn.BatchNorm2d(F_out).to(dtype).eval()
    for t, low in ((norm.weight, -1), (norm.bias, -1), (norm.running_mean, -1), (norm.running_var, 0.5)):
        t.data = rng.uniform(low, 2, F_out).astype(dtype)
    x = fastnn.tensor(rng.standard_normal(shape), dtype=dtype).clone()  # made by an operation
    with fastnn.no_grad():
        s = fastnn.tensor(rng.standard_normal(conv(x).shape), dtype=dtype).clone()
    return conv, norm, x, s


@pytest.mark.parametrize("dtype", [fastnn.float32, fastnn.float64], ids=str)
@pytest.mark.parametrize(("shape", "filters", "options"), CONVOLUTIONS)
def test_epilogue_has_the_bits_of_the_unfused_run(rng, shape, filters, options, dtype):
    parts = eval_parts(rng, shape, filters, options, dtype)
    for name, form in EVAL_FORMS.items():
        with fastnn.no_grad():
            fused = bits(form(*parts))
            with unfused():
                assert fused == bits(form(*parts)), name
        assert fused == bits(form(*parts)), f"{name}, recorded"


@pytest.mark.skipif(backend.kernel_set == "reference", reason="twins call one another")
def test_epilogue_takes_batch_norm_addition_and_relu(rng, monkeypatch):
    conv, norm, x, s = eval_parts(rng, (2, 3, 9, 8), 5, {})
    calls, kernels = [], [*dir(backend.conv), *dir(backend.normalization), *dir(backend.activation)]
    for family, kernel in product(("conv", "normalization", "activation"), kernels):
        function = getattr(getattr(backend, family), kernel, None)
        if callable(function) and not kernel.startswith("_"):
            spy = lambda *args, function=function, kernel=kernel: (calls.append(kernel), function(*args))[1]  # noqa: E731
            monkeypatch.setattr(getattr(backend, family), kernel, spy)
    with fastnn.no_grad():
        y = F.relu(norm(conv(x)) + s)
        assert type(y) is fastnn.Tensor
    assert calls == ["conv2d_batch_norm"]


@pytest.mark.parametrize("change", [
    lambda conv, norm, x, s: x.add_(1), lambda conv, norm, x, s: x.numpy().fill(0), lambda conv, norm, x, s: s.zero_(),
    lambda conv, norm, x, s: conv.weight.zero_(), lambda conv, norm, x, s: conv.weight.data.numpy().fill(0),
    lambda conv, norm, x, s: conv.load_state_dict({k: 0 * v for k, v in conv.state_dict().items()}),
    lambda conv, norm, x, s: norm.weight.zero_(), lambda conv, norm, x, s: norm.running_var.fill_(9.0),
    lambda conv, norm, x, s: (norm.train(), norm(s)),
])  # fmt: skip
def test_a_pending_convolution_reads_before_others_write(rng, change):
    def run(late):
        fastnn.manual_seed(0)
        conv, norm, x, s = eval_parts(np.random.default_rng(5), (2, 3, 9, 8), 5, {})
        with fastnn.no_grad():
            y = norm(conv(x)) + s
            if late:
                assert type(y) is Pending
                change(conv, norm, x, s)
            return bits(F.relu(y))

    assert run(True) == run(False)


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("shape", "filters", "options"), CONVOLUTIONS[:5])
def test_recorded_epilogue_has_the_gradients_of_the_unfused_run(rng, shape, filters, options, training, hooked):
    conv, norm, x, s = eval_parts(rng, shape, filters, options)

    def run(form):
        seen = []
        parts = copy.deepcopy(conv), copy.deepcopy(norm).train(training), x.detach(), s.detach()
        if hooked:
            watch = lambda module, args, y: y.register_hook(lambda g: seen.extend(bits(g))) and None  # noqa: E731
            parts[0].register_forward_hook(watch)
        leaves = [t.clone().requires_grad_() for t in parts[2:]]
        out = form(*parts[:2], *[t * 1 for t in leaves])
        (out * out.detach()).sum().backward()
        return bits(out, *(t.grad for t in (*leaves, *parts[0].parameters(), *parts[1].parameters()))), seen

    for name, form in EVAL_FORMS.items():
        fused = run(form)
        with unfused():
            assert fused == run(form), name


def test_a_frozen_convolution_before_a_batch_norm_that_learns(rng):
    conv, norm, x, _ = eval_parts(rng, (2, 3, 9, 8), 5, {})
    with fastnn.no_grad():
        y = conv(x)
        assert type(y) is Pending and y.shape == (2, 5, 7, 7)
    out = norm(y)
    out.sum().backward()
    assert norm.weight.grad is not None


def test_a_copy_that_shares_memory_is_seen(rng):
    x, w = fastnn.randn(1, 4, 3, 3), fastnn.randn(2, 4, 1, 1)
    want = bits(F.conv2d(x, w))
    shared = copy.copy(w)
    y = F.conv2d(x, w)
    shared.zero_()
    assert bits(y) == want


def test_a_reader_that_failed_is_asked_again(rng, monkeypatch):
    x, w = fastnn.randn(1, 4, 3, 3), fastnn.randn(2, 4, 1, 1)
    want, convolved = bits(F.conv2d(x, w)), importlib.import_module("fastnn.functional.conv").Convolved

    def fail(*_):
        raise MemoryError

    with fastnn.no_grad():
        y = F.conv2d(x, w)
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(convolved, "compute", fail)
            w.zero_()
        w.zero_()
    assert bits(y) == want


def test_optimizers_let_pending_tensors_read_first(rng):
    conv, x = nn.Conv2d(3, 4, 3), fastnn.randn(2, 3, 6, 6)
    want, y = bits(conv(x)), conv(x)
    for p in conv.parameters():
        p.grad = fastnn.ones_like(p)
    optim.SGD(conv.parameters(), lr=1.0).step()
    assert bits(y) == want


def test_many_unread_tensors_are_remembered_in_little_time(rng):
    x = fastnn.randn(1, 3, 2, 2)
    with fastnn.no_grad():
        conv = nn.Conv2d(3, 8, 1)
        kept = [conv(x) for _ in range(1000)]
        assert all(type(y) is Pending for y in kept) and len(x._version) >= 1000
        for _ in range(1000):
            conv(x).numpy()
        del kept
        for _ in range(1100):
            conv(x).numpy()
    assert len(x._version) < 2200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_wait_for_a_lock_of_its_parent():
    lock = importlib.import_module("fastnn.tensor")._lock
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, from Python 3.12 on
        child = os.fork()
    if child == 0:
        F.conv2d(fastnn.ones(1, 1, 2, 2), fastnn.ones(1, 1, 1, 1)).numpy()
        os._exit(0)
    for _ in range(300):
        if os.waitpid(child, os.WNOHANG)[0]:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    done.set()
    thread.join()


# Max pooling behind a ReLU -----------------------------------------------------------------------------------------

POOLED_FORMS = {
    "plain": lambda y, pool: pool(F.relu(y)),
    "in place": lambda y, pool: pool(F.relu(y, inplace=True)),
    "used twice": lambda y, pool: (lambda r: pool(r) * r.mean())(F.relu(y)),
    "pooled twice": lambda y, pool: (lambda r: pool(r) + pool(r) * 2)(F.relu(y)),
    "of a view": lambda y, pool: pool(F.relu(y)[1:]),
    "no relu": lambda y, pool: pool(y),
    "changed": lambda y, pool: pool(F.relu(y)).mul_(-1),
    "changed by relu": lambda y, pool: F.relu(pool(F.relu(y)) - 0.5, inplace=True),
}


@pytest.mark.parametrize("watch", [None, "hook", "retain", "numpy", "twice"])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("window", [(2,), (3, 2, 1), (3, 1), (2, 2, 0, 2)])
def test_pooling_behind_relu_has_the_gradients_of_the_unfused_run(rng, window, norm, watch):
    values = rng.standard_normal((3, 4, 9, 8), dtype=np.float32).round(1)
    values[0, 0, 0, 0], values[1, 1, 3, 3], values[2, :, 5] = np.nan, np.inf, -0.0
    conv, bn = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)

    def run(form):
        seen, x = [], fastnn.tensor(values, requires_grad=True)
        parts = copy.deepcopy(conv), copy.deepcopy(bn)
        y = parts[0](x * 1)
        out = form(parts[1](y) if norm else y, lambda r: keep(F.max_pool2d(r, *window)))
        if watch == "hook":
            out.register_hook(lambda g: seen.extend(bits(g)))
        if watch == "retain":
            seen_tensor.retain_grad()
        if watch == "numpy":
            out.detach().numpy()[...] = 3
        loss = (out.detach() * 2 * out if watch == "numpy" else out * out.detach().clone()).sum()
        loss.backward(retain_graph=watch == "twice")
        if watch == "twice":
            loss.backward()
        seen += bits(seen_tensor.grad) if watch == "retain" else []
        return bits(out, x.grad, *(p.grad for m in parts for p in m.parameters())), seen

    def keep(pooled):
        nonlocal seen_tensor
        seen_tensor = pooled
        return pooled

    seen_tensor = None
    for name, form in POOLED_FORMS.items():
        if watch == "numpy" and name.startswith("changed"):
            continue  # what is written unseen is read by other operations, too
        fused = run(form)
        with unfused():
            assert fused == run(form), name


@pytest.mark.skipif(backend.kernel_set == "reference", reason="twins call one another")
def test_relu_masks_what_pooling_kept(monkeypatch):
    sizes, kernel = [], backend.activation.relu_backward
    spy = lambda dy, *args: (sizes.append(dy.size), kernel(dy, *args))  # noqa: E731
    monkeypatch.setattr(backend.activation, "relu_backward", spy)
    F.max_pool2d(F.relu(nn.Conv2d(1, 2, 3, padding=1)(fastnn.randn(2, 1, 8, 8))), 2).sum().backward()
    assert sizes == [2 * 2 * 4 * 4]
