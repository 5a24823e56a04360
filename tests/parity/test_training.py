"""The networks that fastnn is made for, on both libraries from one source: logits, gradients, twenty training steps."""

import numpy as np
import pytest
import torch

import fastnn

from .pairs import FLOATS, LIBS, SOURCES, TOLERANCE, assert_close, integers, normal, ported, to_numpy

NETWORKS = {
    "mlp": (1, 28, 28), "lenet5": (1, 28, 28), "cnn": (1, 28, 28), "vgg": (3, 32, 32), "resnet20": (3, 32, 32),
    "mobile": (3, 32, 32), "dropnet": (1, 28, 28),
}  # fmt: skip
MODELS = {lib: ported(lib, *SOURCES) for lib in LIBS}


def models(name, dtype, **arguments):
    """The network in both libraries, PyTorch's default initialization loaded by name into fastnn's."""
    torch.manual_seed(0)
    pair = {lib: getattr(MODELS[lib], name)(NETWORKS[name], **arguments) for lib in LIBS}
    if dtype == "float64":
        pair = {lib: model.double() for lib, model in pair.items()}
    state = {key: fastnn.tensor(value.numpy()) for key, value in pair[torch].state_dict().items()}
    assert list(pair[fastnn].state_dict()) == list(state)
    pair[fastnn].load_state_dict(state)
    return pair


def batch(lib, name, dtype, n, seed=0, classes=10):
    images = normal(n, *NETWORKS[name], seed=("images", seed)).astype(dtype)
    return lib.tensor(images), lib.tensor(integers(0, classes, n, seed=("labels", seed)))


def norm(arrays):
    return np.sqrt(sum((np.asarray(a, np.float64) ** 2).sum() for a in arrays))


def distance(first, second):
    return norm([np.subtract(a, b, dtype=np.float64) for a, b in zip(first, second, strict=True)])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_gradients(name, dtype):
    """In training (dropout switched off, its masks are each library's own) and in evaluation.

    float64: every element. float32: every logit, and the gradient of all parameters in the norm, because where a ReLU
    sees rounding noise around 0 the elements of the gradient depend on its sign: a single one of them can move the
    whole gradient of resnet20 by a thousandth. Few images, so that none is likely to.
    """
    outputs, gradients = {}, {}
    for lib, model in models(name, dtype).items():
        for module in model.modules():
            if "Dropout" in type(module).__name__:
                module.p = 0.0
        x, y = batch(lib, name, dtype, 3)
        x.requires_grad_()
        logits = model(x)
        loss = lib.nn.functional.cross_entropy(logits, y)
        loss.backward()
        model.eval()
        with lib.no_grad():
            later = model(x)
        outputs[lib] = {"loss": loss, "logits": logits, "evaluation": later, **dict(model.named_buffers())}
        gradients[lib] = {"input": x.grad, **{n: p.grad for n, p in model.named_parameters()}}
    assert list(outputs[fastnn]) == list(outputs[torch])
    assert list(gradients[fastnn]) == list(gradients[torch])
    for key, want in outputs[torch].items():
        assert_close(to_numpy(outputs[fastnn][key]), to_numpy(want), 3 * TOLERANCE[dtype], f"{name} {key}")
    got, want = ([to_numpy(g) for g in gradients[lib].values()] for lib in LIBS)
    if dtype == "float64":
        for key, a, b in zip(gradients[torch], got, want, strict=True):
            scale = np.abs(b).max()
            assert_close(a / scale, b / scale, 1e-10, f"{name} gradient of {key}")
    assert distance(got, want) <= {"float64": 1e-12, "float32": 1e-3}[dtype] * norm(want)


def test_batches_of_one():
    for name in ("mlp", "lenet5", "dropnet"):
        results = []
        for lib, model in models(name, "float64").items():
            x, _ = batch(lib, name, "float64", 1)
            results.append(to_numpy(model.eval()(x)))
        got, want = results
        assert_close(got, want, TOLERANCE["float64"], name)


def optimizer(lib, name, model):
    if name in ("vgg", "resnet20", "mobile"):
        return lib.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return lib.optim.Adam(model.parameters(), lr=1e-3)


def follow(models, optimizers):
    """Copies weights, buffers and momentum from PyTorch to fastnn."""

    def converted(state):
        return {key: fastnn.tensor(value.numpy()) for key, value in state.items() if value is not None}

    models[fastnn].load_state_dict(converted(models[torch].state_dict()))
    state = optimizers[fastnn].state_dict()
    state["state"] = {i: converted(entry) for i, entry in optimizers[torch].state_dict()["state"].items()}
    optimizers[fastnn].load_state_dict(state)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize(("name", "n"), [("mlp", 128), ("cnn", 32), ("resnet20", 16)])
def test_twenty_steps(name, n, dtype, tolerance):
    """The distance between the libraries' parameters, relative to the distance that training has moved them.

    cnn and resnet20 in float32 start every step from PyTorch's weights and optimizer state, and the differences of the
    steps are summed. Run freely they measure luck: a ReLU or a pooling window that rounding decides the other way (one
    in ten batches) changes the gradient by a thousandth, and training multiplies that. PyTorch's own float32 resnet20
    is 40% off its float64 after 20 steps.
    """
    pair = models(name, dtype)
    optimizers = {lib: optimizer(lib, name, model) for lib, model in pair.items()}
    following = name != "mlp" and dtype == "float32"

    def weights(lib):
        return [to_numpy(p).astype(np.float64) for p in pair[lib].parameters()]

    start, losses = weights(torch), {lib: [] for lib in LIBS}
    assert distance(weights(fastnn), start) == 0
    apart = [np.zeros_like(p) for p in start]
    for step in range(20):
        for lib, model in pair.items():
            x, y = batch(lib, name, dtype, n, seed=step % 5)
            optimizers[lib].zero_grad()
            loss = lib.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizers[lib].step()
            losses[lib].append(loss.item())
        if following or step == 19:
            apart = [total + (a - b) for total, a, b in zip(apart, weights(fastnn), weights(torch), strict=True)]
        if following:
            follow(pair, optimizers)
    assert losses[torch][-1] < losses[torch][0]
    assert norm(apart) <= tolerance * distance(weights(torch), start)
    assert_close(np.array(losses[fastnn]), np.array(losses[torch]), tolerance, "losses")
