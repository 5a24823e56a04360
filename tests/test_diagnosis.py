"""Diagnosis: networks made sick on purpose get the verdict that names their disease, healthy ones get none; and who
watches changes nothing."""

import copy
import math
import warnings

import numpy as np
import pytest

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, data, models, nn, optim
from fastnn.data import DataLoader, TensorDataset
from fastnn.nn import init
from fastnn.train import Classification, Regression, Trainer
from fastnn.train.diagnosis import CHECKS, LIMITS, Diagnosis, diagnose
from fastnn.train.watch import DiagnosisWarning, Watch

DIGITS, OTHERS = data.digits(), data.digits(train=False)
IMAGES, LABELS = (t.array for t in DIGITS.tensors)


def problems(findings):
    return {f.problem for f in findings if f.problem}


def sgd(lr, **options):
    return lambda p: optim.SGD(p, lr, **options)


def adam(lr):
    return lambda p: optim.Adam(p, lr)


def stack(act=nn.ReLU, weight=init.xavier_normal_, bias=0.0, depth=3, width=100, inputs=64, outputs=10):
    """Hidden layers of which `weight` and `bias` initialize the parameters, behind them one as by default."""
    layers = [nn.Flatten()]
    for i in range(depth):
        linear = nn.Linear(inputs if i == 0 else width, width)
        weight(linear.weight)
        init.constant_(linear.bias, bias)
        layers += [linear, act()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def normal(std):
    return lambda w: init.normal_(w, std=std)


def constant(value):
    model = models.mlp((1, 8, 8))
    for p in model.parameters():
        init.constant_(p, value)
    return model


def plain():
    return models.mlp((1, 8, 8))


def small(outputs=1, act=nn.ReLU, *end):
    return nn.Sequential(nn.Linear(8, 32), act(), nn.Linear(32, 32), act(), nn.Linear(32, outputs), *end)


def table(rng, n=900):
    """Inputs (n, 8), numbers (n, 1) that follow from them up to a little noise, and whether they are positive."""
    x = rng.standard_normal((n, 8)).astype(np.float32)
    y = np.sin(x[:, :1]) + x[:, 1:2] * 0.5 - x[:, 2:3] + 0.1 * rng.standard_normal((n, 1)).astype(np.float32)
    return x, y.astype(np.float32), (y > 0).astype(np.float32)


X, Y, POSITIVE = table(np.random.default_rng(1))
STD = (IMAGES - IMAGES.mean()) / IMAGES.std()

# The network, its training data, loss, optimizer; what diagnosis has to say, and what a Watch has to.
SICK = {
    "small weights": (lambda: stack(nn.Tanh, normal(0.01), depth=10), DIGITS, None, sgd(0.01),
                      {"activations collapse", "vanishing gradients"}, {"activations collapse", "vanishing gradients"}),
    "large weights": (lambda: stack(nn.Tanh, normal(1), depth=10), DIGITS, None, sgd(0.01),
                      {"saturated units"}, {"saturated units"}),
    "saturated sigmoid": (lambda: stack(nn.Sigmoid, normal(3)), DIGITS, None, sgd(0.01),
                          {"saturated units"}, {"saturated units"}),
    "large ReLU": (lambda: stack(weight=normal(1), depth=10), DIGITS, None, sgd(0.01),
                   {"activations explode", "exploding gradients", "outputs too large"},
                   {"activations explode", "exploding gradients", "not finite"}),
    "all zeros": (lambda: constant(0.0), DIGITS, None, sgd(0.01),
                  {"all units of a layer learn the same", "all weights are zero"}, {"dead ReLUs", "stalled loss"}),
    "all alike": (lambda: constant(0.1), DIGITS, None, sgd(0.01), {"all units of a layer learn the same"}, set()),
    "biases -10": (lambda: stack(weight=normal(0.1), bias=-10.0), DIGITS, None, sgd(0.01),
                   {"dead ReLUs", "20 samples cannot be fitted", "loss falls at no rate"},
                   {"dead ReLUs", "stalled loss"}),
    "SGD 1e-6": (plain, DIGITS, None, sgd(1e-6), {"rate too small", "weights hardly move"},
                 {"weights hardly move", "stalled loss"}),
    "Adam 1e-6": (plain, DIGITS, None, adam(1e-6), {"rate too small"}, {"stalled loss"}),
    "SGD 1e6": (plain, DIGITS, None, sgd(1e6), {"rate too large", "weights move too far"},
                {"weights move too far", "not finite"}),
    "Adam 1e6": (plain, DIGITS, None, adam(1e6), {"rate too large", "weights move too far"}, {"weights move too far"}),
    "grey values": (plain, (255 * IMAGES, LABELS), None, sgd(0.01), {"unscaled inputs", "outputs too large"}, set()),
    "tiny inputs": (plain, (1e-4 * IMAGES, LABELS), None, sgd(0.01), {"tiny inputs"}, {"stalled loss"}),
    "far inputs": (plain, (10 + IMAGES, LABELS), None, sgd(0.01), {"inputs far from zero"}, set()),
    "shuffled labels": (plain, (STD[:320], np.random.default_rng(0).permutation(LABELS)[:320]), None, adam(3e-3),
                        {"what is learned does not hold for the validation data"}, {"overfitting"}),
    "two softmaxes": (lambda: nn.Sequential(*plain(), nn.Softmax(1)), DIGITS, None, adam(1e-3),
                      {"softmax applied twice"}, set()),
    "and smoothed": (lambda: nn.Sequential(*plain(), nn.Softmax(1)), DIGITS, Classification(0.1), adam(1e-3),
                     {"softmax applied twice"}, set()),
    "two sigmoids": (lambda: small(1, nn.ReLU, nn.Sigmoid()), (X, POSITIVE), F.binary_cross_entropy_with_logits,
                     adam(1e-3), {"sigmoid applied twice"}, set()),
    "heavy decay": (plain, DIGITS, None, sgd(0.01, weight_decay=10.0), {"penalty outweighs the loss"},
                    {"stalled loss"}),
    "raw targets": (small, (X, 50 + Y), None, adam(1e-3), {"outputs too large"}, set()),
}


@pytest.mark.parametrize("name", SICK)
def test_sick_networks(name):
    build, train, loss, optimizer, expected, watched = SICK[name]
    model = build()
    fit_by = optimizer(model.parameters())
    validation = OTHERS if build is plain or model[0].__class__ is nn.Flatten else None
    if name == "shuffled labels":
        x, y = OTHERS.tensors
        validation = ((x.array - IMAGES.mean()) / IMAGES.std(), y.array)
    found = diagnose(model, train, validation, loss, fit_by)
    assert expected <= problems(found), found
    assert found.failures and not found.ok
    assert all(f.advice and f.source and f.expected for f in found if f.problem)
    watch = Watch(5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            Trainer().fit(model, train, validation, 40 if name == "shuffled labels" else 6, fit_by, loss=loss,
                          callbacks=[watch])
        except FloatingPointError:
            assert "not finite" in watched
    assert watched <= problems(watch.findings), watch.findings
    assert [str(w.message) for w in caught if w.category is DiagnosisWarning] == [str(f) for f in watch.findings]


class Residual(nn.Module):
    """Convolutions with batch norm, blocks with functions in them, global average pooling."""

    def __init__(self, block, widens=1, channels=8):
        super().__init__()
        self.stem = models.networks.cbr(1, channels)
        self.blocks = nn.Sequential(block(channels, channels), block(channels * widens, 2 * channels, 2))
        self.output = nn.Linear(2 * channels * widens, 10)

    def forward(self, x):
        return self.output(self.blocks(self.stem(x)).mean((2, 3)))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 80), nn.Linear(80, 40), nn.Linear(40, 10)

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x.flatten(1))))))


def he(w):
    return init.kaiming_normal_(w, nonlinearity="relu")


def big(dataset):
    x, y = dataset.tensors
    return np.kron(x.array, np.ones((1, 1, 2, 2), np.float32))[:900], y.array[:900]


def conv(norm, *more):
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), norm(16), nn.ReLU(), *more, nn.MaxPool2d(2),
                         nn.Conv2d(16, 32, 3, padding=1), norm(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))


def spiral(n=600):
    rng = np.random.default_rng(2)
    label = np.arange(n) % 3
    t = rng.random(n)
    angle = 2 * np.pi * label / 3 + 3 * t + 0.1 * rng.standard_normal(n)
    return np.stack([t * np.cos(angle), t * np.sin(angle)], 1).astype(np.float32) * 2, label


TWO = np.concatenate([Y, X[:, :1] ** 2], 1)
LABELLED = np.concatenate([POSITIVE, (X[:, :2] > 0).astype(np.float32)], 1)
CLASS = POSITIVE[:, 0].astype(np.int64)

# These were not used to choose the limits.
HEALTHY = {
    "lenet5": (lambda: models.lenet5((1, 16, 16)), big(DIGITS), None, sgd(0.02, momentum=0.9)),
    "lenet5 Adam": (lambda: models.lenet5((1, 16, 16)), big(DIGITS), None, adam(1e-3)),
    "cnn": (lambda: models.cnn((1, 8, 8)), DIGITS, None, adam(1e-3)),
    "mlp SGD": (plain, DIGITS, None, sgd(0.1)),
    "mlp AdamW": (plain, (STD, LABELS), Classification(0.1), lambda p: optim.AdamW(p, 2e-3, weight_decay=0.05)),
    "blocks": (lambda: Residual(models.networks.BasicBlock), DIGITS, None, sgd(0.1, momentum=0.9, weight_decay=1e-4)),
    "bottlenecks": (lambda: Residual(models.networks.Bottleneck, 4), DIGITS, None, adam(3e-3)),
    "tanh Xavier": (lambda: stack(nn.Tanh), (STD, LABELS), None, sgd(0.05, momentum=0.9)),
    "leaky He": (lambda: stack(nn.LeakyReLU, he), (STD, LABELS), None, adam(1e-3)),
    "ELU": (lambda: stack(nn.ELU, he), DIGITS, None, lambda p: optim.RMSprop(p, 1e-3)),
    "SELU": (lambda: stack(nn.SELU, lambda w: init.normal_(w, std=w.shape[1] ** -0.5)), (STD, LABELS), None, sgd(0.02)),
    "GELU": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10)),
             DIGITS, None, lambda p: optim.AdamW(p, 3e-3)),
    "dropout": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 200), nn.ReLU(), nn.Dropout(0.5), nn.Linear(200, 100),
                                      nn.ReLU(), nn.Dropout(0.5), nn.Linear(100, 10)), DIGITS, None, adam(2e-3)),
    "batch norm": (lambda: conv(nn.BatchNorm2d, nn.Dropout2d(0.2)), DIGITS, None, adam(1e-3)),
    "group norm": (lambda: conv(lambda c: nn.GroupNorm(4, c)), DIGITS, None, sgd(0.05, nesterov=True, momentum=0.9)),
    "regression": (small, (X, Y), None, sgd(0.05, momentum=0.9)),
    "two numbers": (lambda: small(2, nn.Tanh), (X, TWO), None, adam(3e-3)),
    "Huber": (lambda: small(1, nn.SiLU), (X, Y), F.huber_loss, adam(3e-3)),
    "in units": (small, (X, 50 + 20 * Y), Regression(50.0, 20.0), adam(3e-3)),
    "logits": (lambda: small(3), (X, LABELLED), F.binary_cross_entropy_with_logits, adam(3e-3)),
    "probabilities": (lambda: small(1, nn.ReLU, nn.Sigmoid()), (X, POSITIVE), F.binary_cross_entropy, adam(3e-3)),
    "NLL": (lambda: small(2, nn.ReLU, nn.LogSoftmax(1)), (X, CLASS), F.nll_loss, adam(3e-3)),
    "hinge": (lambda: small(2), (X, CLASS), F.multi_margin_loss, sgd(0.1, momentum=0.9)),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), DIGITS, None, sgd(0.2)),
    "PReLU": (lambda: stack(nn.PReLU, he), DIGITS, None, adam(1e-3)),
    "sigmoid": (lambda: stack(nn.Sigmoid, depth=1), (STD, LABELS), None, adam(1e-2)),
    "functions": (Functional, DIGITS, None, lambda p: optim.NAdam(p, 2e-3)),
    "spiral": (lambda: nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)),
               spiral(), None, adam(3e-3)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_networks(name):
    build, train, loss, optimizer = HEALTHY[name]
    model = build()
    fit_by = optimizer(model.parameters())
    validation = OTHERS if train is DIGITS else tuple(a[-150:] for a in train)
    train = train if train is DIGITS else tuple(a[:-150] for a in train)
    found = diagnose(model, train, validation, loss, fit_by)
    assert found.ok, found
    assert sum(f.verdict == "ok" for f in found) >= 9, found
    watch = Watch(5)
    history = Trainer().fit(model, train, validation, 10 if len(train[0]) < 1000 else 6, fit_by, loss=loss,
                            callbacks=[watch])  # warnings are errors
    assert not watch.findings
    assert diagnose(model, train, validation, loss, fit_by, history=history).ok
    assert history["loss"][-1] < history["loss"][0]


def bits(model, optimizer):
    """All that a diagnosis could change."""
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
    state = optimizer.state_dict()
    kept = [(i, k, v.array.tobytes() if hasattr(v, "array") else v) for i, s in state["state"].items()
            for k, v in s.items()]
    return ([None if t is None else t.array.tobytes() for t in tensors], kept, state["param_groups"],
            [m.training for m in model.modules()], [[*m._forward_hooks] for m in model.modules()],
            backend.generator.bit_generator.state)


def watched_net():
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3),
                          nn.Flatten(), nn.Linear(128, 32), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(32, 10))
    return model, optim.Adam(model.parameters(), 3e-3, weight_decay=1e-3)


def train_on(model, optimizer, steps=5):
    for x, y in [*DataLoader(DIGITS, 64, shuffle=True)][:steps]:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def test_diagnosis_changes_nothing():
    model, optimizer = watched_net()
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    train_on(model, optimizer)
    model[4].eval()
    twin = copy.deepcopy((model, optimizer))
    own = np.random.default_rng(3)
    loaders = DataLoader(DIGITS, 32, shuffle=True), DataLoader(DIGITS, 32, shuffle=True, generator=own), DataLoader(
        OTHERS, 32, shuffle=True, generator=5)
    before, draws, called = bits(model, optimizer), own.bit_generator.state, len(calls)

    def step(x, y):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        model.train()
        fastnn.rand(3)

    grads = [p.grad for p in model.parameters()]
    for loader in loaders:
        found = diagnose(model, loader, loaders[2], optimizer=optimizer, step=step)
        assert found["zero_grad"].verdict == "ok" and found["generalization"].verdict == "ok", found
    assert bits(model, optimizer) == before and own.bit_generator.state == draws and len(calls) == called
    assert [loader.epoch for loader in loaders] == [0, 0, 0]
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    state = backend.generator.bit_generator.state
    train_on(model, optimizer)
    after = bits(model, optimizer)[:3]
    backend.generator.bit_generator.state = state
    train_on(*twin)
    assert bits(*twin)[:3] == after


def test_diagnosis_of_what_fails_changes_nothing():
    model, optimizer = watched_net()
    before = bits(model, optimizer)
    with pytest.raises(ZeroDivisionError):
        diagnose(model, DIGITS, optimizer=optimizer, step=lambda x, y: train_on(model, optimizer) or 1 / 0)
    assert bits(model, optimizer) == before


@pytest.mark.parametrize("accumulate", [1, 3])
def test_watching_changes_no_bit(accumulate):
    results = []
    for watches in [], [Watch(2)], [Watch(7)]:
        fastnn.manual_seed(3)
        model, optimizer = watched_net()
        history = Trainer(clip_norm=1.0, accumulate=accumulate).fit(
            model, DIGITS, OTHERS, 2, optimizer, callbacks=watches, seed=4)
        results.append((bits(model, optimizer), [history[c].tolist() for c in ("loss", "val_loss", "accuracy")]))
        assert not any(m._forward_hooks for m in model.modules())
        assert not any(p._hooks for p in model.parameters())
    assert results[0] == results[1] == results[2]


def test_watching_blocks_changes_no_bit():
    results = []
    for watches in [], [Watch(1)]:
        fastnn.manual_seed(3)
        model = Residual(models.networks.BasicBlock)
        optimizer = sgd(0.1, momentum=0.9)(model.parameters())
        Trainer().fit(model, big(DIGITS), epochs=1, optimizer=optimizer, callbacks=watches)
        results.append(bits(model, optimizer))
    assert results[0] == results[1]


class Bad(nn.Module):
    """The identity, or from its `call`th call on something that is not finite in one place; or its gradient is."""

    def __init__(self, call=1, value=math.nan, backward=False):
        super().__init__()
        self.call, self.value, self.backward = call, value, backward

    def forward(self, x):
        self.call -= 1
        if self.call > 0:
            return x
        if self.backward:
            return x + (x * 0).abs().sqrt()
        spoiled = np.zeros(x.shape, np.float32)
        spoiled.flat[-1] = self.value
        return x + fastnn.Tensor(spoiled)


def test_numbers_that_are_not_finite_are_located():
    x, y = DIGITS.tensors

    def place(model, images=x.array, labels=y.array, **more):
        found = diagnose(model, [(images[i : i + 50], labels[i : i + 50]) for i in (0, 50, 100)], **more)
        assert found["finite numbers"].verdict == "failure" and not found.ok
        assert {f.verdict for f in found[1:]} == {"skipped"}
        return found["finite numbers"].found

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), Bad(1), nn.Linear(9, 10))
    with pytest.warns(DiagnosisWarning, match=r"output of 2 \(Bad\), step 1"):  # the first step is looked at
        watch = Watch()
        watch.attach(model)
        loop(model, sgd(0.0)(model.parameters()), watch, 2)
    spoiled = x.array.copy()
    spoiled[120, 0, 3, 4] = math.inf
    assert place(plain(), spoiled) == "inputs at [20, 0, 3, 4], batch 3"
    model = plain()
    model[3].weight.array[7, 5] = math.nan
    assert place(model) == "3.weight at [7, 5], batch 1"
    bn = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    bn[1].running_var.array[2] = math.nan
    assert place(bn) == "1.running_var at [2], batch 1"
    for value in math.nan, -math.inf:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), Bad(2, value), nn.ReLU(), nn.Linear(9, 10))
        assert place(model) == "output of 2 (Bad), batch 2"
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), Bad(3, backward=True), nn.Linear(9, 10))
    assert place(model) == "gradient of 1.bias, batch 3"
    assert place(plain(), loss=lambda out, y: F.cross_entropy(out, y) + math.nan) == "loss, batch 1"


def test_watch_names_layer_and_batch():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), Bad(12), nn.ReLU(), nn.Linear(9, 10))
    watch = Watch()
    with pytest.warns(DiagnosisWarning, match=r"not finite: output of 2 \(Bad\), epoch 2, batch 5"), \
            pytest.raises(FloatingPointError):
        Trainer().fit(model, tuple(a[:448] for a in (IMAGES, LABELS)), epochs=3, callbacks=[watch])
    assert [f.problem for f in watch.findings] == ["not finite"]


def loop(model, optimizer, watch, steps=20, zero=True, every=1, size=16):
    for i in range(steps):
        if zero and i % every == 0:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(fastnn.Tensor(IMAGES[i * size : (i + 1) * size])),
                               fastnn.Tensor(LABELS[i * size : (i + 1) * size]))
        loss.backward()
        watch.check(loss)
        if (i + 1) % every == 0:
            optimizer.step()


def test_missing_zero_grad_in_a_loop():
    for sizes in {}, {"every": 4}:
        model, watch = plain(), Watch(3)
        watch.attach(model)
        loop(model, sgd(0.05)(model.parameters()), watch, **sizes)
        assert not watch.findings  # gradients that are accumulated with intent are no mistake
    model = plain()
    watch.attach(model)
    with pytest.warns(DiagnosisWarning, match="missing zero_grad") as caught:
        loop(model, sgd(0.05)(model.parameters()), watch, zero=False)
    assert problems(watch.findings) == {"missing zero_grad"} and len(caught) == 1
    watch.detach()
    assert not any(p._hooks for p in model.parameters()) and not any(m._forward_hooks for m in model.modules())


def test_stalled_loss_in_a_loop():
    model, watch = plain(), Watch(5)
    watch.attach(model)
    with pytest.warns(DiagnosisWarning):
        loop(model, sgd(1e-9)(model.parameters()), watch, 40, size=32)
    assert problems(watch.findings) == {"weights hardly move", "stalled loss"}


def test_nan_in_a_loop():
    for given in (), (1,):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), Bad(3), nn.Linear(9, 10))
        watch = Watch()
        watch.attach(model)
        x, y = fastnn.Tensor(IMAGES[:20]), fastnn.Tensor(LABELS[:20])
        for step in range(3):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            if step < 2:
                watch.check(loss)
                model.zero_grad()
        with pytest.warns(DiagnosisWarning, match=r"output of 2 \(Bad\), step 3" if given else "finite: gradient of"):
            watch.check(loss, *[(x,), y, F.cross_entropy] if given else [])
        watch.detach()
        assert not any(m._forward_hooks for m in model.modules())


def test_losses_without_a_scale():
    for loss in lambda out, y: (out * out).mean() * 0, lambda out, y: (out * 0).mean() - 1:
        found = diagnose(small(), (X, 0 * Y), (X, 0 * Y), loss=loss, history={"loss": [1.0] * 6})
        assert {found[name].verdict for name in ("initial loss", "tiny sample", "loss curve")} == {"skipped"}, found


def test_gradients_filled_with_zeros_are_dropped():
    model, watch = plain(), Watch()
    watch.attach(model)
    optimizer = sgd(0.05)(model.parameters())
    for i in range(4):
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(fastnn.Tensor(IMAGES[i::4])), fastnn.Tensor(LABELS[i::4]))
        loss.backward()
        watch.check(loss)
        optimizer.step()
    assert not watch.findings


def test_missing_zero_grad_in_a_step():
    model, optimizer = watched_net()

    def step(x, y, zero=True, clip=None, end=False):
        if zero and not end:
            optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if zero and end:
            optimizer.zero_grad()

    for options, verdict in (({}, "ok"), ({"clip": 0.01}, "ok"), ({"end": True}, "ok"), ({"zero": False}, "failure"),
                             ({"zero": False, "clip": 0.01}, "failure")):
        found = diagnose(model, DIGITS, optimizer=optimizer, checks=["zero_grad"],
                         step=lambda x, y, options=options: step(x, y, **options))
        assert [f.verdict for f in found] == [verdict], options
    assert found["zero_grad"].problem == "missing zero_grad"
    assert diagnose(model, DIGITS, step=step, checks=["zero_grad"])[0].verdict == "skipped"


def test_history_is_judged():
    model = plain()

    def verdict(name, **history):
        return diagnose(model, DIGITS, history=history, checks=[name])[0]

    lecture = 2.302576 - np.linspace(0, 6e-5, 10)  # the loss does not move, accuracy rises
    assert verdict("loss curve", loss=lecture, accuracy=np.linspace(0.08, 0.2, 10)).problem == (
        "flat loss with rising accuracy: rate too small")
    assert verdict("loss curve", loss=lecture, accuracy=[0.1] * 10).problem == "stalled loss"
    assert verdict("loss curve", loss=lecture).problem == "stalled loss"
    assert verdict("loss curve", loss=[0.01, 0.01, 0.01, 0.01, 0.01]).verdict == "ok"  # it has been learned
    assert verdict("loss curve", loss=[2.3, 1, 0.5, 0.6, 1.5]).problem == "loss rises"
    assert verdict("loss curve", loss=[2.3, 1, 0.5, 0.6, 0.5]).verdict == "ok"
    assert verdict("loss curve", loss=[2.3, 2.3]).verdict == "skipped"
    right, wrong = [0.2, 0.5, 0.9, 1, 1], [0.1, 0.1, 0.12, 0.1, 0.1]
    gap = verdict("generalization", loss=right, accuracy=right, val_loss=right, val_accuracy=wrong)
    assert (gap.problem, gap.verdict) == ("overfitting", "failure")
    assert verdict("generalization", loss=right, accuracy=right, val_loss=right, val_accuracy=right).verdict == "ok"
    rising = verdict("generalization", loss=[1, 0.5, 0.1, 0.1, 0.1], val_loss=[1, 0.5, 0.8, 1, 1.5])
    assert rising.problem == "overfitting"
    assert verdict("generalization", loss=[1, 0.5, 0.4, 0.4, 0.4], val_loss=[1, 0.5, 0.5, 0.5, 0.5]).verdict == "ok"


@pytest.mark.parametrize("loss, outputs, targets, expected", [
    (None, 10, LABELS[:900], math.log(10)),
    (Classification(0.2), 10, LABELS[:900], math.log(10)),
    (None, 1, Y, float(Y.var())),
    (None, 1, Y + 50, float(Y.var())),
    (F.l1_loss, 1, Y, float(np.abs(Y).mean())),
    (F.binary_cross_entropy_with_logits, 1, POSITIVE, math.log(2)),
    (F.multi_margin_loss, 5, LABELS[:900] % 5, 0.8),
])
def test_expected_initial_loss(loss, outputs, targets, expected):
    model = small(outputs)
    init.zeros_(model[-1].weight)
    init.zeros_(model[-1].bias)
    loader = DataLoader(TensorDataset(X, targets), 900)
    found = diagnose(model, loader, loss=loss, checks=["initial loss"])[0]
    assert found.verdict == ("ok" if targets.mean() < 20 else "failure")
    constant = float(found.found.split()[-1])
    assert constant == pytest.approx(expected, rel=0.35 if targets.dtype.kind == "f" else 1e-3)  # of 64 samples


def test_trained_network_has_no_initial_loss():
    model = plain()
    Trainer().fit(model, DIGITS, epochs=4)
    found = diagnose(model, DIGITS, OTHERS)
    assert found.ok and found["initial loss"].verdict == "skipped" and "trained" in found["initial loss"].found


def test_what_cannot_be_checked_is_skipped():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 1))
    x = np.arange(90).reshape(30, 3) % 10
    found = diagnose(model.requires_grad_(False), (x, x[:, :1].astype(np.float32)))
    for name, reason in {"inputs": "int64", "saturation": "activation", "learning rate": "no parameter is trained",
                         "zero_grad": "no `step`", "loss curve": "five epochs", "generalization": "validation"}.items():
        assert found[name].verdict == "skipped" and reason in found[name].found, found
    model = small()
    optimizer = optim.LBFGS(model.parameters())
    assert diagnose(model, (X, Y), optimizer=optimizer)["updates"].found.endswith("chooses its own steps")
    tiny = diagnose(nn.Linear(8, 1), (X, Y), checks=["tiny sample"])[0]
    assert (tiny.verdict, tiny.found) == ("skipped", "9 parameters cannot fit 20 numbers")


def test_bad_input():
    with pytest.raises(ValueError, match="names out of finite numbers, inputs"):
        diagnose(plain(), DIGITS, checks=["overfitting"])
    with pytest.raises(ValueError, match="no batch"):
        diagnose(plain(), [])
    with pytest.raises(TypeError, match="data must be"):
        diagnose(plain(), 3)
    with pytest.raises(TypeError, match="loss must be"):
        diagnose(plain(), DIGITS, loss=3)
    with pytest.raises(ValueError, match="every must be a positive int"):
        Watch(0)
    with pytest.raises(ValueError, match="no parameter that is trained"):
        Watch().attach(nn.ReLU())
    with pytest.raises(RuntimeError, match="attach the model first"):
        Watch().check(fastnn.tensor(1.0))


def test_diagnosis_reads_well():
    found = diagnose(plain(), (255 * IMAGES, LABELS), checks=["inputs", "outputs"])
    assert isinstance(found, Diagnosis) and len(found) == 2 and found["inputs"] is found[0]
    text = str(found)
    assert text.splitlines()[0].startswith("failure  inputs: unscaled inputs: mean 77")
    assert "expected: mean 0, standard deviation 1" in text and "scale them" in text and "LeCun" in text
    assert text.endswith("1 failures, 0 warnings")
    assert len(text.splitlines()) == 4 and text.splitlines()[1].startswith(" " * 9 + "scale them")
    assert str(diagnose(plain(), DIGITS, checks=["finite numbers", "symmetry"])).splitlines()[:2] == [
        "ok       finite numbers: all inputs, parameters, activations and gradients are",
        "ok       symmetry: the units of each layer differ"]
    with pytest.raises(KeyError):
        found["symmetry"]
    assert found[0].values["mean"].shape == (64,)
    assert all(limit.source and limit.advice and limit.warning != limit.failure for limit in LIMITS.values())
    assert len(CHECKS) == 16
