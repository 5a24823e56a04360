"""Bad input gets an error that names the operation: never a crash, never a wrong answer."""

import numpy as np
import pytest

import fastnn
from fastnn import data, nn, optim
from fastnn.errors import AutogradError
from fastnn.nn import functional as F
from fastnn.optim import lr_scheduler


def t(*shape, dtype=fastnn.float32):
    return fastnn.ones(shape, dtype=dtype)


def f64(*shape):
    return t(*shape, dtype=fastnn.float64)


def ints(*values):
    return fastnn.tensor(values)


# operation, or names that a message may give it: calls that must be refused
BAD = {
    "conv2d": [
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 4, 3, 3)),
        lambda: F.conv2d(t(2, 3, 8), t(8, 3, 3, 3), t(8), padding=(1, 1, 1)),
        lambda: F.conv2d(t(2, 8), t(8, 3, 3, 3)),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3)),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), t(7)),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), t(8, 1)),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 9, 3)),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), dilation=4),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 0, 3)),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), stride=0),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), stride=(1, -1)),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), stride=1.5),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), padding=-1),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), padding="full"),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), padding="same", stride=2),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), dilation=0),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), groups=2),
        lambda: F.conv2d(t(2, 4, 8, 8), t(9, 2, 3, 3), groups=2),
        lambda: F.conv2d(t(2, 4, 8, 8), t(8, 2, 3, 3), groups=0),
        lambda: F.conv2d(f64(2, 3, 8, 8), t(8, 3, 3, 3)),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), f64(8)),
        lambda: F.conv2d(t(2, 3, 8, 8, dtype=fastnn.int64), t(8, 3, 3, 3, dtype=fastnn.int64)),
        lambda: F.conv2d("image", t(8, 3, 3, 3)),
        lambda: F.conv2d(None, t(8, 3, 3, 3)),
        lambda: F.conv2d(t(2, 3, 8, 8), None),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), stride=None),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 1, 1), stride=2**31),
        lambda: F.conv2d(t(2, 3, 8, 8), t(8, 3, 3, 3), padding=2**40, dilation=2**40),
    ],
    "linear": [
        lambda: F.linear(t(2, 3), t(5, 4)),
        lambda: F.linear(t(2, 3), t(5, 3), t(4)),
        lambda: F.linear(t(2, 3), f64(5, 3)),
        lambda: F.linear(t(2, 3), t(5, 3), f64(5)),
        lambda: F.linear(t(2, 3, dtype=fastnn.int64), t(5, 3)),
        lambda: F.linear(None, t(5, 3)),
        lambda: F.linear(t(2, 3), None),
    ],
    "matmul": [
        lambda: fastnn.matmul(t(2, 3), t(4, 5)),
        lambda: fastnn.matmul(t(2, 3), f64(3, 4)),
        lambda: fastnn.matmul(t(), t(3)),
        lambda: fastnn.matmul(t(2, 3, 4), t(3, 4, 5)),
        lambda: t(2, 3) @ t(2, 3),
    ],
    "mm|matmul": [lambda: fastnn.mm(t(2, 3, 4), t(4, 5)), lambda: fastnn.mm(t(2, 3), t(4, 5))],
    "bmm|matmul": [
        lambda: fastnn.bmm(t(2, 3), t(3, 4)),
        lambda: fastnn.bmm(t(2, 3, 4), t(3, 4, 5)),
        lambda: fastnn.bmm(t(2, 3, 4), t(2, 5, 4)),
    ],
    "max_pool2d": [
        lambda: F.max_pool2d(t(2, 8), 2),
        lambda: F.max_pool2d(t(2, 3, 8, 8), 0),
        lambda: F.max_pool2d(t(2, 3, 8, 8), (2, 2, 2)),
        lambda: F.max_pool2d(t(2, 3, 8, 8), 9),
        lambda: F.max_pool2d(t(2, 3, 8, 8), 2, padding=2),
        lambda: F.max_pool2d(t(2, 3, 8, 8), 2, stride=-1),
        lambda: F.max_pool2d(t(2, 3, 8, 8), 2, dilation=0),
        lambda: F.max_pool2d(t(2, 3, 8, 8), "2"),
        lambda: F.max_pool2d(t(2, 3, 8, 8), 2, 1, "same"),
        lambda: F.max_pool2d(None, 2),
    ],
    "avg_pool2d": [
        lambda: F.avg_pool2d(t(2, 8), 2),
        lambda: F.avg_pool2d(t(2, 3, 8, 8), 0),
        lambda: F.avg_pool2d(t(2, 3, 8, 8), 9),
        lambda: F.avg_pool2d(t(2, 3, 8, 8), 2, padding=2),
        lambda: F.avg_pool2d(t(2, 3, 8, 8), 2, divisor_override=0),
        lambda: F.avg_pool2d(t(2, 3, 8, 8), 2, 1, "valid"),
    ],
    "adaptive_avg_pool2d": [
        lambda: F.adaptive_avg_pool2d(t(2, 8), 2),
        lambda: F.adaptive_avg_pool2d(t(2, 3, 8, 8), -1),
        lambda: F.adaptive_avg_pool2d(t(2, 3, 8, 8), (1, 2, 3)),
    ],
    "batch_norm": [
        lambda: F.batch_norm(t(4), t(4), t(4), training=True),
        lambda: F.batch_norm(t(4, 3, 2, 2), t(4), t(4), training=True),
        lambda: F.batch_norm(t(4, 3, 2, 2), t(3), t(3), weight=t(4), training=True),
        lambda: F.batch_norm(t(1, 3), t(3), t(3), training=True),
        lambda: F.batch_norm(t(4, 3), None, None, training=False),
        lambda: F.batch_norm(t(4, 3, dtype=fastnn.int64), None, None, training=True),
    ],
    "softmax": [
        lambda: F.softmax(t(2, 3), dim=2),
        lambda: F.softmax(t(2, 3), dim=-3),
        lambda: F.softmax(ints(1, 2, 3), dim=0),
    ],
    "log_softmax": [lambda: F.log_softmax(t(2, 3), dim=2)],
    "cross_entropy": [
        lambda: F.cross_entropy(t(2, 3), ints(0, 3)),
        lambda: F.cross_entropy(t(2, 3), ints(0, -1)),
        lambda: F.cross_entropy(t(2, 3), ints(0, 1, 2)),
        lambda: F.cross_entropy(t(2, 3), t(2)),
        lambda: F.cross_entropy(t(2, 3), ints(0, 1), weight=t(2)),
        lambda: F.cross_entropy(t(2, 3), ints(0, 1), reduction="total"),
        lambda: F.cross_entropy(t(2, 3), ints(0, 1), label_smoothing=1.5),
        lambda: F.cross_entropy(t(2, 3, dtype=fastnn.int64), ints(0, 1)),
    ],
    "nll_loss": [
        lambda: F.nll_loss(t(2, 3), ints(0, 3)),
        lambda: F.nll_loss(t(2, 3), ints(0)),
        lambda: F.nll_loss(t(2, 3), ints(0, 1), reduction="total"),
    ],
    "mse_loss|sub": [
        lambda: F.mse_loss(t(2, 3), t(2, 3), reduction="total"),
        lambda: F.mse_loss(t(2, 3), t(2, 4)),
    ],
    "dropout|Dropout": [
        lambda: F.dropout(t(2, 3), p=1.5),
        lambda: F.dropout(t(2, 3), p=-0.1),
        lambda: nn.Dropout(p=2),
        lambda: F.dropout(ints(1, 2), p=0.5),
        lambda: F.dropout(None, training=False),
        lambda: nn.Dropout().eval()(None),
    ],
    "relu": [lambda: F.relu("x"), lambda: F.relu(None), lambda: F.relu(np.ones(3))],
    "elu": [lambda: F.elu(None, -1.0, True), lambda: F.elu_(ints(1, 2))],
    "silu": [lambda: F.silu(None, inplace=True)],
    "prelu": [lambda: F.prelu(t(2, 3), None), lambda: F.prelu(t(2, 0), t(0)), lambda: F.prelu(t(2, 3), t(3, 1))],
    "rrelu": [lambda: F.rrelu(np.ones(3)), lambda: F.rrelu(t(2), 0.3, 0.2)],
    "glu": [lambda: F.glu(t(3, 3)), lambda: F.glu(t()), lambda: F.glu(t(3, 4), 2)],
    "unfold": [
        lambda: F.im2col(t(2, 8), 3),
        lambda: F.im2col(t(2, 3, 8, 8), 9),
        lambda: F.im2col(t(2, 3, 8, 8), 0),
        lambda: F.unfold(t(2, 3, 8, 8), 2, padding="same"),
        lambda: F.unfold(t(2, 3, 8, 8), 2, stride=None),
    ],
    "add|+|in-place": [lambda: t(2, 3) + t(2, 4), lambda: t(2, 3) + "1", lambda: t(2).add_(t(3, 2))],
    "mul|as_tensor": [lambda: t(2, 3) * t(4, 1, 2), lambda: fastnn.mul(t(2), None)],
    "maximum": [lambda: fastnn.maximum(t(2), t(3))],
    "where": [lambda: fastnn.where(t(2), t(2), t(2)), lambda: fastnn.where(t(2) > 0, t(3), t(2))],
    "clamp": [lambda: fastnn.clamp(t(2))],
    "sum": [lambda: t(2, 3).sum(2), lambda: t(2, 3).sum((0, 0)), lambda: t(2, 3).sum(-3), lambda: t(2, 3).sum(dim=1.5)],
    "mean": [lambda: ints(1, 2).mean(), lambda: t(2).mean(1)],
    "max": [lambda: t(0).max(), lambda: t(2, 0).max(1), lambda: t(2).max(3)],
    "argmax": [lambda: t(0).argmax(), lambda: t(2).argmax(1)],
    "cumsum": [lambda: t(2).cumsum(1)],
    "reshape": [
        lambda: t(2, 3).reshape(4),
        lambda: t(2, 3).reshape(-1, -1),
        lambda: t(2, 3).reshape(-1, 4),
        lambda: t(2, 3).reshape(-2, -3),
    ],
    "view": [lambda: t(2, 3).view(5), lambda: t(2, 3).view(-1, -1)],
    "permute": [lambda: t(2, 3).permute(0, 0), lambda: t(2, 3).permute(0), lambda: t(2, 3).permute(0, 2)],
    "transpose": [lambda: t(2, 3).transpose(0, 2)],
    "squeeze": [lambda: t(2, 1).squeeze(2)],
    "unsqueeze": [lambda: t(2).unsqueeze(3)],
    "expand": [lambda: t(2, 3).expand(2, 4), lambda: t(2, 3).expand(3)],
    "repeat": [lambda: t(2, 3).repeat(2), lambda: t(2).repeat(-1)],
    "flip": [lambda: t(2, 3).flip(2), lambda: t(2, 3).flip(0, 0)],
    "roll": [lambda: t(2, 3).roll((1, 2), 0)],
    "flatten": [lambda: t(2, 3).flatten(1, 0), lambda: t(2, 3).flatten(3)],
    "cat": [
        lambda: fastnn.cat([]),
        lambda: fastnn.cat([t(2, 3), t(2, 4)]),
        lambda: fastnn.cat([t(2, 3), t(2, 3)], dim=2),
        lambda: fastnn.cat(3),
    ],
    "stack": [lambda: fastnn.stack([]), lambda: fastnn.stack([t(2), t(3)]), lambda: fastnn.stack([t(2), t(2)], dim=2)],
    "split": [lambda: t(4).split([1, 2]), lambda: t(4).split(-1), lambda: t(4).split(2, dim=1)],
    "chunk": [lambda: t(4).chunk(0)],
    "gather": [
        lambda: t(2, 3).gather(1, ints(0, 1)),
        lambda: t(3).gather(0, ints(0, 3)),
        lambda: t(3).gather(0, ints(0, -1)),
        lambda: t(3).gather(0, t(2)),
    ],
    "index_select": [
        lambda: t(3).index_select(0, ints(3)),
        lambda: t(3).index_select(1, ints(0)),
        lambda: t(3).index_select(0, t(1)),
    ],
    "masked_fill|where": [lambda: t(3).masked_fill(t(3), 0.0), lambda: t(3).masked_fill(t(2) > 0, 0.0)],
    "tril": [lambda: t(3).tril()],
    "sort": [lambda: t(3).sort(1)],
    "topk": [lambda: t(3).topk(4), lambda: t(3).topk(-1), lambda: t(3).topk(1, dim=1)],
    "index|setitem|expand": [
        lambda: t(3)[3],
        lambda: t(3)[0, 0],
        lambda: t(3)[ints(0, 3)],
        lambda: t(3)[t(2) > 0],
        lambda: t(3)["a"],
        lambda: t(3)[1.0],
        lambda: t(3)[t(3)],
        lambda: t(3).__setitem__(5, 1.0),
        lambda: t(3).__setitem__(ints(0, 1), t(3)),
    ],
    "tensor": [
        lambda: fastnn.tensor([[1.0, 2.0], [3.0]]),
        lambda: fastnn.tensor("abc"),
        lambda: fastnn.tensor([1.0], dtype="float128"),
        lambda: fastnn.tensor([1 + 2j]),
    ],
    "from_numpy": [lambda: fastnn.from_numpy([1.0]), lambda: fastnn.from_numpy(np.array(["a"]))],
    "zeros": [lambda: fastnn.zeros(2, -1), lambda: fastnn.zeros("2"), lambda: fastnn.zeros(2, dtype="complex64")],
    "arange": [lambda: fastnn.arange(0, 3, 0), lambda: fastnn.arange(3, 0)],
    "linspace": [lambda: fastnn.linspace(0, 1, -1)],
    "eye": [lambda: fastnn.eye(-1)],
    "randint": [lambda: fastnn.randint(3, 3, (2,))],
    "randperm": [lambda: fastnn.randperm(-1)],
    "requires_grad": [lambda: fastnn.tensor([1], requires_grad=True), lambda: ints(1).requires_grad_()],
    "item": [lambda: t(2).item()],
    "device": [
        lambda: fastnn.device("cuda"),
        lambda: t(2).to("cuda"),
        lambda: fastnn.zeros(2, device="cuda:0"),
        lambda: nn.Linear(2, 2).to("cuda"),
    ],
    "manual_seed": [lambda: fastnn.manual_seed("a"), lambda: fastnn.manual_seed(1.5)],
    "Conv2d": [
        lambda: nn.Conv2d(3, 8, 3, groups=2),
        lambda: nn.Conv2d(4, 9, 3, groups=2),
        lambda: nn.Conv2d(0, 8, 3),
        lambda: nn.Conv2d(3, 8, (3, 3, 3)),
        lambda: nn.Conv2d(3, 8, 0),
        lambda: nn.Conv2d(3, 8, 3, padding="full"),
        lambda: nn.Conv2d(3, 8, 3, padding_mode="mirror"),
    ],
    "Linear": [lambda: nn.Linear(-1, 2), lambda: nn.Linear(2, 2.5)],
    "BatchNorm2d": [lambda: nn.BatchNorm2d(3)(t(4, 3))],
    "BatchNorm1d": [lambda: nn.BatchNorm1d(3)(t(4, 3, 2, 2))],
    "load_state_dict": [
        lambda: nn.Linear(2, 2).load_state_dict({}),
        lambda: nn.Linear(2, 2).load_state_dict({"weight": t(3, 2), "bias": t(2)}),
        lambda: nn.Linear(2, 2).load_state_dict({"weight": t(2, 2), "bias": t(2), "extra": t(1)}),
        lambda: nn.Linear(2, 2).load_state_dict(3),
    ],
    "Sequential": [lambda: nn.Sequential(3), lambda: nn.Sequential(nn.ReLU())[1]],
    "SGD": [
        lambda: optim.SGD([], lr=0.1),
        lambda: optim.SGD([t(2)], lr=-1),
        lambda: optim.SGD([t(2)], lr=0.1, momentum=-1),
        lambda: optim.SGD([t(2)], lr=0.1, nesterov=True),
        lambda: optim.SGD([3], lr=0.1),
        lambda: optim.SGD([t(2)], lr=0.1, weight_decay=-1),
    ],
    "Adam": [
        lambda: optim.Adam([t(2)], lr=-1),
        lambda: optim.Adam([t(2)], betas=(1.0, 0.9)),
        lambda: optim.Adam([t(2)], eps=-1),
    ],
    "StepLR": [lambda: lr_scheduler.StepLR(3, 1), lambda: lr_scheduler.StepLR(optim.SGD([t(2)], lr=0.1), 0)],
    "TensorDataset": [lambda: data.TensorDataset(t(2), t(3)), lambda: data.TensorDataset()],
    "DataLoader": [
        lambda: data.DataLoader(data.TensorDataset(t(2)), batch_size=0),
        lambda: data.DataLoader(data.TensorDataset(t(2)), batch_size=1.5),
    ],
}


@pytest.mark.parametrize(
    ("name", "call"),
    [pytest.param(name, call, id=f"{name}-{i}") for name, calls in BAD.items() for i, call in enumerate(calls)],
)
def test_bad_input_is_refused_by_name(name, call):
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError)) as error:
        call()
    kind = error.type
    assert issubclass(kind, ValueError | TypeError | IndexError) or kind is AutogradError, repr(error.value)
    assert any(n in str(error.value) for n in name.split("|")), f"the message does not name {name}: {error.value}"


def test_backward_says_what_is_wrong():
    x = t(3).requires_grad_()
    with pytest.raises(RuntimeError, match="gradient"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match="gradient has shape"):
        (x * 2).backward(t(2))
    with pytest.raises(RuntimeError, match=r"requires? grad"):
        t(3).sum().backward()
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    with pytest.raises(RuntimeError, match="create_graph"):
        (x * x).sum().backward(create_graph=True)


SOUND = {
    "conv2d": lambda x: F.conv2d(x, t(4, 3, 3, 2), t(4), padding=1),
    "max_pool2d": lambda x: F.max_pool2d(x, (2, 3)),
    "avg_pool2d": lambda x: F.avg_pool2d(x, (2, 3)),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    "batch_norm": lambda x: F.batch_norm(x, t(3), t(3)),
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "gelu": F.gelu,
    "prelu": lambda x: F.prelu(x, t(3)),
    "rrelu": lambda x: F.rrelu(x, training=True),
    "glu": lambda x: F.glu(x, 2),
    "softmax": lambda x: F.softmax(x, dim=1),
    "log_softmax": lambda x: F.log_softmax(x, dim=1),
    "dropout": F.dropout,
    "dropout2d": F.dropout2d,
    "linear": lambda x: F.linear(x, t(2, x.shape[-1])),
    "add": lambda x: x + 1,
    "sum": lambda x: x.sum((2, 3)),
}


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("shape", [(0, 3, 6, 7), (1, 3, 6, 7), (2, 3, 6, 7)], ids=str)
def test_empty_and_single_batches_pass(name, shape):
    x = t(*shape).requires_grad_()
    y = SOUND[name](x)
    assert y.shape[0] == shape[0]
    y.sum().backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize("name", SOUND)
def test_foreign_memory_is_converted(name, rng):
    """Byte-swapped, unaligned and read-only arrays, from NumPy or wrapped."""
    a = rng.standard_normal((2, 3, 6, 7)).astype(np.float32)

    def value(x):
        fastnn.manual_seed(0)
        return SOUND[name](x).numpy()

    expected = value(fastnn.tensor(a))
    unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(a.shape)
    unaligned[...] = a
    read_only = a.copy()
    read_only.flags.writeable = False
    for foreign in (a.astype(">f4"), unaligned, read_only):
        np.testing.assert_allclose(value(fastnn.tensor(foreign)), expected, rtol=1e-6, atol=1e-6)
    for foreign in (unaligned, read_only):
        np.testing.assert_allclose(value(fastnn.from_numpy(foreign)), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(TypeError, match="from_numpy"):  # it shares memory, so that it cannot convert
        fastnn.from_numpy(a.astype(">f4"))
