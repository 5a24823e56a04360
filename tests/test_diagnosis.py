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
                   {"dead ReLUs", "20 samples cannot be fitted"}, {"dead ReLUs", "stalled loss"}),
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
    "heavy decay": (plain, DIGITS, None, sgd(0.01, weight_decay=10.0), {"penalty outweighs the loss"}, {"stalled loss"}),
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

    def __init__(self, block, channels=8):
        super().__init__()
        self.stem = models.networks.cbr(1, channels)
        self.blocks = nn.Sequential(block(channels, channels), block(channels * block.widens, 2 * channels, 2))
        self.output = nn.Linear(2 * channels * block.widens, 10)

    def forward(self, x):
        return self.output(self.blocks(self.stem(x)).mean((2, 3)))


models.networks.BasicBlock.widens, models.networks.Bottleneck.widens = 1, 4


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
    "bottlenecks": (lambda: Residual(models.networks.Bottleneck), DIGITS, None, adam(3e-3)),
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
