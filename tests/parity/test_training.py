"""The networks that fastnn is made for, on both libraries from one source: logits, gradients, twenty training steps."""

import numpy as np
import pytest
import torch

import fastnn

from .pairs import FLOATS, LIBS, TOLERANCE, assert_close, integers, normal, ported, to_numpy

NETWORKS = {
    "mlp": (1, 28, 28), "lenet5": (1, 28, 28), "cnn": (1, 28, 28), "vgg": (3, 32, 32), "resnet20": (3, 32, 32),
    "mobile": (3, 32, 32), "dropnet": (1, 28, 28),
}  # fmt: skip
MODELS = {lib: ported("fastnn/models/networks.py", lib) for lib in LIBS}


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


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_gradients(name, dtype):
    """In training (dropout switched off, its masks are each library's own) and in evaluation."""
    results = {}
    for lib, model in models(name, dtype).items():
        for module in model.modules():
            if "Dropout" in type(module).__name__:
                module.p = 0.0
        x, y = batch(lib, name, dtype, 8)
        x.requires_grad_()
        logits = model(x)
        loss = lib.nn.functional.cross_entropy(logits, y)
        loss.backward()
        model.eval()
        with lib.no_grad():
            later = model(x)
        results[lib] = {
            "loss": loss, "logits": logits, "evaluation": later, "input": x.grad,
            **{f"gradient of {n}": p.grad for n, p in model.named_parameters()}, **dict(model.named_buffers()),
        }  # fmt: skip
    assert list(results[fastnn]) == list(results[torch])
    for key, want in results[torch].items():
        got, want = to_numpy(results[fastnn][key]), to_numpy(want)
        scale = max(1e-3, np.abs(want).max())
        assert_close(got / scale, want / scale, 10 * TOLERANCE[dtype], f"{name} {key}")


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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize(("name", "n"), [("mlp", 32), ("cnn", 32), ("resnet20", 16)])
def test_twenty_steps(name, n, dtype, tolerance):
    """The distance between the libraries' parameters, relative to the distance that training has moved them."""
    ends, starts, losses = {}, {}, {}
    for lib, model in models(name, dtype).items():
        optim = optimizer(lib, name, model)
        starts[lib] = [to_numpy(p).astype(np.float64) for p in model.parameters()]
        losses[lib] = []
        for step in range(20):
            x, y = batch(lib, name, dtype, n, seed=step % 5)
            optim.zero_grad()
            loss = lib.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optim.step()
            losses[lib].append(loss.item())
        ends[lib] = [to_numpy(p).astype(np.float64) for p in model.parameters()]
        assert losses[lib][-1] < losses[lib][0]

    def distance(a, b):
        return np.sqrt(sum(((p - q) ** 2).sum() for p, q in zip(a, b, strict=True)))

    assert distance(starts[fastnn], starts[torch]) == 0
    moved = distance(ends[torch], starts[torch])
    assert distance(ends[fastnn], ends[torch]) <= tolerance * moved
    assert_close(np.array(losses[fastnn]), np.array(losses[torch]), tolerance, "losses")
