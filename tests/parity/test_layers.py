"""Layers and their functions against PyTorch, over rectangular kernels, odd sizes and empty batches."""

import itertools
import math

import numpy as np
import pytest

from .pairs import check, check_either, check_raises, fill, integers, normal, positive, seeded


def F(lib):
    return lib.nn.functional


# ---------------------------------------------------------------- linear

LINEAR = [((3, 4), 5, True), ((3, 4), 5, False), ((4,), 5, True), ((2, 3, 4), 1, True), ((0, 4), 5, True),
          ((1, 1), 1, True), ((2, 3, 2, 4), 3, False), ((65, 130), 37, True)]  # fmt: skip


@pytest.mark.parametrize(("shape", "out", "bias"), LINEAR, ids=str)
def test_linear(shape, out, bias):
    x, w, b = normal(*shape), normal(out, shape[-1], seed=1), normal(out, seed=2)
    if bias:
        check(lambda lib, x, w, b: F(lib).linear(x, w, b), x, w, b)
    else:
        check(lambda lib, x, w: F(lib).linear(x, w), x, w)


def test_linear_of_a_transpose():
    check(lambda lib, x, w: F(lib).linear(x.T, w.T), normal(4, 3), normal(4, 5))
    check(lambda lib, x, w: F(lib).linear(x, w), normal(2, 5, 3), normal(3))
    check(lambda lib, x, w, b: F(lib).linear(x, w, b), normal(3), normal(3), normal())


def test_linear_refuses():
    check_raises(lambda lib, x, w: F(lib).linear(x, w), normal(3, 4), normal(5, 3))
    check_raises(lambda lib, x, w, b: F(lib).linear(x, w, b), normal(3, 4), normal(5, 4), normal(4))
    check_raises(lambda lib, x, w: F(lib).linear(x, w.float()), normal(3, 4), normal(5, 4))
    check_raises(lambda lib, x: lib.nn.Linear(3, 5)(x), normal(2, 4), dtype="float32")


# ---------------------------------------------------------------- convolution


def conv_case(stride, padding, dilation, groups):
    def case(lib, x, w, *b):
        return F(lib).conv2d(x, w, *b, stride=stride, padding=padding, dilation=dilation, groups=groups)

    return case


def draw_convolution(rng):
    """Arguments of a convolution; about one in eight is a mistake."""
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    i, o = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    if rng.random() < 0.25:  # depthwise, sometimes with a multiplier
        groups = i
        o = i * int(rng.integers(1, 3))
    n, h, w = int(rng.choice([0, 1, 1, 2, 3])), int(rng.integers(3, 10)), int(rng.integers(3, 10))
    kernel = tuple(rng.integers(1, 5, 2).tolist())

    def one_or_two(low, high):
        return int(rng.integers(low, high)) if rng.random() < 0.5 else tuple(rng.integers(low, high, 2).tolist())

    padding = ["same", "valid", one_or_two(0, 3), one_or_two(0, 3), one_or_two(0, 3)][rng.integers(5)]
    stride = 1 if padding == "same" and rng.random() < 0.9 else one_or_two(1, 4)
    return (n, i, h, w), (o, i // groups, *kernel), stride, padding, one_or_two(1, 3), groups, bool(rng.random() < 0.6)


CONVOLUTIONS = [draw_convolution(rng) for rng in [seeded("convolutions")] for _ in range(160)]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("shape", "weight", "stride", "padding", "dilation", "groups", "bias"), CONVOLUTIONS)
def test_conv2d(shape, weight, stride, padding, dilation, groups, bias):
    arrays = [normal(*shape), normal(*weight, seed=1), *([normal(weight[0], seed=2)] if bias else [])]
    check_either(conv_case(stride, padding, dilation, groups), *arrays)


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "padding", "groups"),
    [
        ((2, 3, 17, 13), (16, 3, 3, 3), 1, 1, 1),
        ((2, 16, 9, 11), (33, 16, 1, 1), 1, 0, 1),
        ((2, 16, 9, 11), (33, 16, 1, 1), 2, 0, 1),
        ((1, 64, 7, 7), (64, 64, 3, 3), 1, 1, 1),
        ((3, 70, 6, 5), (70, 1, 3, 3), 1, 1, 70),
        ((3, 70, 6, 5), (70, 1, 5, 3), 2, (2, 1), 70),
        ((2, 24, 8, 8), (48, 6, 3, 3), 2, 1, 4),
        ((2, 1, 28, 28), (6, 1, 5, 5), 1, 2, 1),
        ((1, 3, 32, 32), (8, 3, 7, 7), 2, 3, 1),
        ((1, 2, 5, 6), (4, 2, 5, 6), 1, 0, 1),
        ((1, 2, 5, 40), (4, 2, 1, 9), (1, 3), (0, 4), 1),
        ((2, 130, 3, 3), (17, 130, 3, 2), 1, 1, 1),
    ],
    ids=str,
)
def test_conv2d_of_typical_layers(shape, weight, stride, padding, groups):
    check(
        conv_case(stride, padding, 1, groups), normal(*shape), normal(*weight, seed=1), normal(weight[0], seed=2), tol=3
    )


def test_conv2d_of_strided_operands():
    def case(lib, x, w):
        return F(lib).conv2d(x.transpose(0, 1)[:, :, ::2], w.permute(3, 2, 0, 1), padding=1)

    check(case, normal(3, 2, 9, 7), normal(3, 2, 3, 5, seed=1))


def test_conv2d_of_one_image_without_batch():
    check(lambda lib, x, w, b: F(lib).conv2d(x, w, b, padding=1), normal(3, 6, 5), normal(4, 3, 3, 3), normal(4))


def test_conv2d_only_needed_gradients():
    def case(lib, x, w, b):
        return F(lib).conv2d(x.detach(), w, b), F(lib).conv2d(x, w.detach(), b.detach())

    check(case, normal(2, 3, 6, 5), normal(4, 3, 3, 2), normal(4))


def test_conv2d_chain_with_inplace_and_views():
    def case(lib, x, w):
        y = F(lib).relu(F(lib).conv2d(x, w, padding="same"))
        y = y[:, :, 1:] + x[:, :, 1:]
        return F(lib).conv2d(y, w, padding=(1, 2)).view(y.size(0), -1)

    check(case, normal(2, 4, 6, 5), normal(4, 4, 3, 3, seed=1))


CONV_MISTAKES = {
    "channels": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 4, 3, 3, dtype=x.dtype)),
    "groups of channels": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 2, 3, 3, dtype=x.dtype), groups=2),
    "groups of outputs": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 1, 3, 3, dtype=x.dtype), groups=3),
    "groups zero": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=x.dtype), groups=0),
    "kernel too large": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 9, 3, dtype=x.dtype)),
    "bias": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=x.dtype), lib.ones(3, dtype=x.dtype)),
    "dtype": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=lib.float32)),
    "integers": lambda lib, x: F(lib).conv2d(x.long(), lib.ones(8, 3, 3, 3, dtype=lib.float32)),
    "dims": lambda lib, x: F(lib).conv2d(x[0, 0], lib.ones(8, 3, 3, 3, dtype=x.dtype)),
    "weight dims": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, dtype=x.dtype)),
    "stride": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=x.dtype), stride=0),
    "padding": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=x.dtype), padding=-1),
    "dilation": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=x.dtype), dilation=0),
    "padding name": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=x.dtype), padding="equal"),
    "same with stride": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=x.dtype), padding="same", stride=2),
    "triple": lambda lib, x: F(lib).conv2d(x, lib.ones(8, 3, 3, 3, dtype=x.dtype), stride=(1, 1, 1)),
    "module channels": lambda lib, x: lib.nn.Conv2d(4, 8, 3)(x.float()),
    "module groups": lambda lib, x: lib.nn.Conv2d(4, 8, 3, groups=3),
    "module output groups": lambda lib, x: lib.nn.Conv2d(6, 8, 3, groups=3),
    "module groups zero": lambda lib, x: lib.nn.Conv2d(6, 8, 3, groups=0),
    "module same with stride": lambda lib, x: lib.nn.Conv2d(3, 8, 3, stride=2, padding="same"),
    "module padding name": lambda lib, x: lib.nn.Conv2d(3, 8, 3, padding="equal"),
}


@pytest.mark.parametrize("name", CONV_MISTAKES)
def test_conv2d_mistakes(name):
    check_raises(CONV_MISTAKES[name], normal(2, 3, 6, 5))


# ---------------------------------------------------------------- pooling


def draw_pooling(rng, average):
    def one_or_two(low, high):
        return int(rng.integers(low, high)) if rng.random() < 0.5 else tuple(rng.integers(low, high, 2).tolist())

    kernel = one_or_two(1, 5)
    arguments = {"kernel_size": kernel, "ceil_mode": bool(rng.random() < 0.5)}
    if rng.random() < 0.7:
        arguments["stride"] = one_or_two(1, 5)
    if rng.random() < 0.6:
        arguments["padding"] = one_or_two(0, 3)
    if average:
        arguments["count_include_pad"] = bool(rng.random() < 0.5)
        if rng.random() < 0.2:
            arguments["divisor_override"] = int(rng.integers(1, 5))
    elif rng.random() < 0.4:
        arguments["dilation"] = one_or_two(1, 3)
    shape = (
        int(rng.choice([0, 1, 2])),
        int(rng.choice([1, 2, 3, 17])),
        int(rng.integers(2, 12)),
        int(rng.integers(2, 12)),
    )
    return shape, arguments


@pytest.mark.parametrize(
    ("shape", "arguments"), [draw_pooling(r, False) for r in [seeded("max pooling")] for _ in range(120)], ids=str
)
def test_max_pool2d(shape, arguments):
    check_either(lambda lib, x: F(lib).max_pool2d(x, **arguments), normal(*shape))
    check_either(
        lambda lib, x: F(lib).max_pool2d(x, **arguments, return_indices=True), integers(0, 3, *shape).astype(float)
    )


@pytest.mark.parametrize(
    ("shape", "arguments"), [draw_pooling(r, True) for r in [seeded("average pooling")] for _ in range(120)], ids=str
)
def test_avg_pool2d(shape, arguments):
    check_either(lambda lib, x: F(lib).avg_pool2d(x, **arguments), normal(*shape))


@pytest.mark.parametrize("output", [1, (1, 1), 2, (3, 2), (None, 2), (5, None), (7, 9), (2, 11)], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 7, 9), (0, 2, 4, 4), (1, 5, 3, 2), (1, 17, 10, 6)], ids=str)
def test_adaptive_avg_pool2d(shape, output):
    check_either(lambda lib, x: F(lib).adaptive_avg_pool2d(x, output), normal(*shape))


@pytest.mark.parametrize("output", [1, 2, (3, 2), (None, 2), (5, None), (7, 9), (2, 11), -1], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 7, 9), (0, 2, 4, 4), (1, 17, 10, 6), (3, 8, 5), (2, 3)], ids=str)
def test_adaptive_max_pool2d(shape, output):
    check_either(lambda lib, x: F(lib).adaptive_max_pool2d(x, output), normal(*shape))
    ties = integers(0, 3, *shape).astype(float)
    check_either(lambda lib, x: F(lib).adaptive_max_pool2d(x, output, return_indices=True), ties)


def draw_line(rng):
    """An operation in 1-D and its arguments, some of which are mistakes."""
    def one(low, high):
        n = int(rng.integers(low, high))
        return n if rng.random() < 0.6 or "lp" in name else (n,) if rng.random() < 0.9 else (n, n)

    name = str(rng.choice(["max_pool1d", "avg_pool1d", "lp_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d"]))
    shape = [int(rng.choice([1, 2, 3])), int(rng.choice([1, 2, 17])), int(rng.integers(2, 14))]
    arguments = {"norm_type": float(rng.choice([1, 2, 3, 2.5, math.inf]))} if "lp" in name else {}
    if "adaptive" in name:
        arguments["output_size"] = one(1, 8)
    else:
        options = {"stride": one(1, 5), "ceil_mode": bool(rng.random() < 0.5)}
        if "lp" not in name:
            options["padding"] = one(0, 3)
        options |= {"max_pool1d": {"dilation": one(1, 3)}, "avg_pool1d": {"count_include_pad": False}}.get(name, {})
        arguments |= {"kernel_size": one(1, 6)} | {k: v for k, v in options.items() if rng.random() < 0.5}
    if "max" in name and rng.random() < 0.5:
        arguments["return_indices"] = True
    return name, tuple(shape[rng.random() < 0.2 :]), arguments


@pytest.mark.parametrize(("name", "shape", "arguments"),
                         [draw_line(r) for r in [seeded("lines")] for _ in range(120)], ids=str)
def test_pooling_in_1d(name, shape, arguments):
    check_either(lambda lib, x: getattr(F(lib), name)(x, **arguments), positive(*shape), tol=4)


@pytest.mark.parametrize("norm", [1, 2, 3, 2.5, -1, math.inf, -math.inf, 0])
@pytest.mark.parametrize(("shape", "arguments"), [
    ((2, 3, 7, 8), {"kernel_size": 2}), ((1, 17, 6, 9), {"kernel_size": (3, 2), "stride": (2, 1)}),
    ((3, 8, 7), {"kernel_size": (2, 3), "ceil_mode": True}), ((2, 3, 4, 4), {"kernel_size": 5})], ids=str)
def test_lp_pool2d(shape, arguments, norm):
    check_either(lambda lib, x: F(lib).lp_pool2d(x, norm, **arguments), positive(*shape), tol=4)
    if norm in (1, 2, 3, math.inf):
        check_either(lambda lib, x: F(lib).lp_pool2d(x, norm, **arguments), normal(*shape), tol=30)


@pytest.mark.parametrize("settings", [
    {"output_size": 3}, {"output_size": (4, 2)}, {"output_ratio": (0.7, 0.4)},
    {"output_size": 1}, {"output_size": (7, 8)}, {"output_size": (6, 7)}, {}, {"output_size": 8}], ids=str)
@pytest.mark.parametrize("kernel", [2, (3, 2), 1], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (1, 17, 9, 8), (3, 8, 9)], ids=str)
def test_fractional_max_pool2d(shape, kernel, settings):
    samples = seeded(shape, "samples").random((shape[0] if len(shape) == 4 else 1, shape[-3], 2))
    ties = integers(0, 4, *shape).astype(float)
    for x in normal(*shape), np.where(ties == 3, math.nan, ties):
        def case(lib, x, samples):
            return F(lib).fractional_max_pool2d(
                x, kernel, **settings, return_indices=True, _random_samples=samples.detach())

        check_either(case, x, samples)


def test_lp_pool2d_of_zeros():
    for p in (1, 2, 3, 1.5):
        check(lambda lib, x, p=p: F(lib).lp_pool2d(F(lib).relu(x), p, 2, 1), normal(2, 3, 6, 5) - 1)


def test_fractional_size_before_ratio():
    def case(lib, x):
        samples = lib.tensor(np.full((2, 3, 2), 0.25), dtype=x.dtype)
        return F(lib).fractional_max_pool2d(x, 2, 3, 0.9, return_indices=True, _random_samples=samples)

    check(case, normal(2, 3, 7, 6))


def test_pooling_of_one_image_without_batch():
    check(lambda lib, x: F(lib).max_pool2d(x, 2), normal(3, 6, 5))
    check(lambda lib, x: F(lib).avg_pool2d(x, 2), normal(3, 6, 5))
    check(lambda lib, x: F(lib).adaptive_avg_pool2d(x, 2), normal(3, 6, 5))


def test_max_pool2d_of_nan_and_infinity():
    x = normal(1, 2, 6, 6)
    x[0, 0, 1, 1], x[0, 0, 2:4, 2:4], x[0, 1, 0, 0], x[0, 1, 4, 4] = math.nan, -math.inf, math.inf, math.nan
    check(lambda lib, x: F(lib).max_pool2d(x, 2, return_indices=True), x)
    check(lambda lib, x: F(lib).max_pool2d(x, 3, 2, 1, return_indices=True), x)


POOL_MISTAKES = {
    "padding": lambda lib, x: F(lib).max_pool2d(x, 2, padding=2),
    "average padding": lambda lib, x: F(lib).avg_pool2d(x, 2, padding=2),
    "too large": lambda lib, x: F(lib).max_pool2d(x, 7),
    "average too large": lambda lib, x: F(lib).avg_pool2d(x, (2, 7)),
    "stride": lambda lib, x: F(lib).max_pool2d(x, 2, stride=0),
    "average stride": lambda lib, x: F(lib).avg_pool2d(x, 2, stride=0),
    "kernel": lambda lib, x: F(lib).max_pool2d(x, 0),
    "dims": lambda lib, x: F(lib).max_pool2d(x[0, 0], 2),
    "divisor": lambda lib, x: F(lib).avg_pool2d(x, 2, divisor_override=0),
    "triple": lambda lib, x: F(lib).max_pool2d(x, (2, 2, 2)),
    "adaptive dims": lambda lib, x: F(lib).adaptive_max_pool2d(x[0, 0], 2),
    "adaptive size": lambda lib, x: F(lib).adaptive_max_pool2d(x, -1),
    "line dims": lambda lib, x: F(lib).max_pool1d(x[0, 0, 0], 2),
    "line kernel": lambda lib, x: F(lib).max_pool1d(x[0], 0),
    "line too large": lambda lib, x: F(lib).avg_pool1d(x[0], 7),
    "line padding": lambda lib, x: F(lib).max_pool1d(x[0], 2, padding=2),
    "power kernel": lambda lib, x: F(lib).lp_pool2d(x, 2, 0),
    "fractional size": lambda lib, x: F(lib).fractional_max_pool2d(x, 2, 6),
    "fractional none": lambda lib, x: F(lib).fractional_max_pool2d(x, 2),
    "fractional both": lambda lib, x: lib.nn.FractionalMaxPool2d(2, 3, 0.5),
    "fractional neither": lambda lib, x: lib.nn.FractionalMaxPool2d(2),
    "fractional ratio": lambda lib, x: lib.nn.FractionalMaxPool2d(2, output_ratio=1.5),
}


@pytest.mark.parametrize("name", POOL_MISTAKES)
def test_pooling_mistakes(name):
    check_raises(POOL_MISTAKES[name], normal(2, 3, 6, 5))


# ---------------------------------------------------------------- batch norm

NORMALIZED = [(4, 3), (2, 3, 5), (0, 3, 4, 5), (2, 3, 4, 5), (1, 2, 7, 3), (3, 17, 2, 2), (8, 1, 1, 1), (2, 3, 4, 5, 2)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [s for s in NORMALIZED if len(s) < 5], ids=str)
def test_batch_norm_function(shape, training):
    c = shape[1]
    arrays = normal(*shape), normal(c, seed=1), normal(c, seed=2), normal(c, seed=3), positive(c, seed=4)

    def case(lib, x, w, b, mean, var, momentum=0.1, eps=1e-5):
        mean, var = mean.detach().clone(), var.detach().clone()
        y = F(lib).batch_norm(x, mean, var, w, b, training, momentum, eps)
        return y, mean, var

    check_either(case, *arrays)
    check_either(lambda *a: case(*a, momentum=0.3, eps=1e-2), *arrays)
    check_either(
        lambda lib, x, mean, var: F(lib).batch_norm(x, mean.detach(), var.detach(), training=training),
        *arrays[:1],
        *arrays[3:],
    )
    if training:
        check_either(lambda lib, x, w, b: F(lib).batch_norm(x, None, None, w, b, training=True), *arrays[:3])


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 2, 5)], ids=str)
def test_batch_norm_modules(shape, track, affine, momentum):
    """Three training batches, then evaluation, gradients through all of them."""

    def case(lib, *batches):
        kind = lib.nn.BatchNorm2d if len(shape) == 4 else lib.nn.BatchNorm1d
        module = fill(lib, kind(3, affine=affine, track_running_stats=track, momentum=momentum, eps=1e-3))
        module = module.double() if batches[0].dtype == lib.float64 else module
        outputs = [module(x) for x in batches[:3]]
        module.eval()
        outputs.append(module(batches[3]))
        total = sum((y**3).sum() for y in outputs)
        total.backward(retain_graph=True)
        return outputs, dict(module.state_dict()), [p.grad for p in module.parameters()]

    check(case, *[normal(*shape, seed=i) for i in range(4)])


def test_batch_norm_far_from_zero():
    check(lambda lib, x: lib.nn.BatchNorm2d(3).double()(x + 1000), normal(4, 3, 5, 5), dtypes=("float64",), tol=1e3)


NORM_MISTAKES = {
    "one value": lambda lib, x: lib.nn.BatchNorm1d(3)(x[:1, :, 0, 0]),
    "one value 2d": lambda lib, x: lib.nn.BatchNorm2d(3)(x[:1, :, :1, :1]),
    "channels": lambda lib, x: lib.nn.BatchNorm2d(4)(x),
    "dims": lambda lib, x: lib.nn.BatchNorm2d(3)(x[0]),
    "dims 1d": lambda lib, x: lib.nn.BatchNorm1d(3)(x),
    "dtype": lambda lib, x: lib.nn.BatchNorm2d(3).double()(x),
    "evaluation without statistics": lambda lib, x: F(lib).batch_norm(x, None, None),
}


@pytest.mark.parametrize("name", NORM_MISTAKES)
def test_batch_norm_mistakes(name):
    check_raises(NORM_MISTAKES[name], normal(2, 3, 4, 5), dtype="float32")


# ---------------------------------------------------------------- activations

ACTIVATIONS = {
    "relu": [{}],
    "leaky_relu": [{}, {"negative_slope": 0.2}, {"negative_slope": 0.0}],
    "elu": [{}, {"alpha": 0.5}],
    "sigmoid": [{}],
    "tanh": [{}],
}
POINTS = np.array([0.0, -0.0, 1.0, -1.0, 1e-30, -1e-8, 20.0, -30.0, 100.0, -800.0, math.inf, -math.inf, math.nan])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4, 5), (0, 3, 2, 2), (2, 130, 3, 3)], ids=str)
def test_activations(name, shape):
    for arguments in ACTIVATIONS[name]:
        check(lambda lib, x: getattr(F(lib), name)(x, **arguments), 2 * normal(*shape))
    check(lambda lib, x: getattr(F(lib), name)(x), POINTS)
    if len(shape) == 4:
        check(lambda lib, x: getattr(F(lib), name)(x.permute(0, 2, 3, 1)[:, ::2]), normal(*shape))


def test_relu_of_integers():
    check(lambda lib, x: F(lib).relu(x), integers(-3, 3, 10))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu"])
def test_activations_in_place(name):
    def case(lib, x):
        y = x * 2
        z = getattr(F(lib), name)(y, inplace=True)
        return y, z * 3

    check(case, normal(2, 3, 4, 5))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("shape", "dim"), [((5,), 0), ((4, 7), 1), ((4, 7), 0), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), -1),
        ((2, 3, 4, 5), 2), ((0, 4), 1), ((3, 1), 1), ((6, 300), -1), ((), 0)])  # fmt: skip
def test_softmax(name, shape, dim):
    check(lambda lib, x: getattr(F(lib), name)(x, dim=dim), 5 * normal(*shape))
    check(lambda lib, x: getattr(lib, name)(x, dim), 5 * normal(*shape))
    check(lambda lib, x: getattr(x, name)(dim), 300 * normal(*shape))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_infinities(name):
    x = np.array([[0.0, -math.inf, 1.0], [-math.inf, -math.inf, 2.0], [math.inf, 0.0, 1.0], [math.nan, 0.0, 1.0]])
    check(lambda lib, x: getattr(F(lib), name)(x, 1), x, grad=False)
    check_raises(lambda lib, x: getattr(F(lib), name)(x, 2), x)


# ---------------------------------------------------------------- dropout


@pytest.mark.parametrize("name", ["dropout", "dropout2d"])
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (1.0, True), (0.5, False), (0, True)])
def test_dropout_without_chance(name, p, training):
    check(lambda lib, x: getattr(F(lib), name)(x, p, training=training), normal(2, 3, 4, 5))


@pytest.mark.parametrize("name", ["dropout", "dropout2d"])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_statistics(name, p):
    """The mask is the library's own: compared are its two values, its pattern, its rate and its gradient."""

    def case(lib, x):
        lib.manual_seed(3)
        y = getattr(F(lib), name)(x, p, training=True)
        (gradient,) = lib.autograd.grad(y.sum(), x)
        mask = gradient.detach().numpy()
        kept = mask[:, :, 0, 0] if name == "dropout2d" else mask
        whole = name == "dropout" or bool((mask == mask[:, :, :1, :1]).all())
        scale = float(kept.max())
        rate = float((kept == 0).mean())
        values = bool(np.isin(mask, [0, np.float64(scale).astype(mask.dtype)]).all())
        product = bool(np.allclose(y.detach().numpy(), x.detach().numpy() * mask))
        close = abs(rate - p) < 5 * math.sqrt(p * (1 - p) / kept.size)
        return round(scale, 4), whole, values, product, close

    check(case, normal(40, 50, 4, 5))


@pytest.mark.parametrize("name", ["dropout", "dropout2d"])
@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_dropout_mistakes(name, p):
    check_raises(lambda lib, x: getattr(F(lib), name)(x, p), normal(2, 3, 4, 5))
    check_raises(lambda lib: getattr(lib.nn, name.replace("d", "D", 1))(p))


def test_dropout_is_seeded():
    def case(lib, x):
        module = lib.nn.Dropout(0.5)
        lib.manual_seed(1)
        a = module(x)
        b = module(x)
        lib.manual_seed(1)
        c = module(x)
        return bool((a == c).all()), bool((a == b).all())

    check(case, normal(20, 20))


# ---------------------------------------------------------------- modules

MODULES = {
    "Linear": (lambda nn: nn.Linear(4, 5), (3, 4)),
    "Linear without bias": (lambda nn: nn.Linear(in_features=4, out_features=5, bias=False), (2, 3, 4)),
    "Conv2d": (lambda nn: nn.Conv2d(3, 4, 3), (2, 3, 6, 5)),
    "Conv2d rectangular": (
        lambda nn: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)),
        (2, 3, 7, 8),
    ),
    "Conv2d same": (lambda nn: nn.Conv2d(3, 4, (3, 5), padding="same"), (2, 3, 6, 5)),
    "Conv2d valid": (lambda nn: nn.Conv2d(3, 4, 2, padding="valid", bias=False), (2, 3, 6, 5)),
    "Conv2d groups": (lambda nn: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 6, 5)),
    "Conv2d depthwise": (lambda nn: nn.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 6, 5)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(2), (2, 3, 6, 5)),
    "MaxPool2d all": (
        lambda nn: nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0), dilation=1, ceil_mode=True),
        (2, 3, 6, 5),
    ),
    "MaxPool2d indices": (lambda nn: nn.MaxPool2d(2, return_indices=True), (2, 3, 6, 5)),
    "AvgPool2d": (lambda nn: nn.AvgPool2d(2), (2, 3, 6, 5)),
    "AvgPool2d all": (
        lambda nn: nn.AvgPool2d((3, 2), 2, padding=1, ceil_mode=True, count_include_pad=False),
        (2, 3, 6, 5),
    ),
    "AdaptiveAvgPool2d": (lambda nn: nn.AdaptiveAvgPool2d(1), (2, 3, 6, 5)),
    "AdaptiveAvgPool2d pair": (lambda nn: nn.AdaptiveAvgPool2d((3, None)), (2, 3, 6, 5)),
    "MaxPool1d": (lambda nn: nn.MaxPool1d(2), (2, 3, 6)),
    "MaxPool1d all": (lambda nn: nn.MaxPool1d(3, 2, 1, 2, return_indices=True, ceil_mode=True), (2, 3, 9)),
    "AvgPool1d": (lambda nn: nn.AvgPool1d(3, 2, 1, True, False), (2, 3, 9)),
    "LPPool1d": (lambda nn: nn.LPPool1d(2, 3, 2), (2, 3, 9)),
    "LPPool2d": (lambda nn: nn.LPPool2d(2.0, (3, 2), ceil_mode=True), (2, 3, 8, 9)),
    "AdaptiveAvgPool1d": (lambda nn: nn.AdaptiveAvgPool1d(3), (2, 3, 8)),
    "AdaptiveMaxPool1d": (lambda nn: nn.AdaptiveMaxPool1d(3, return_indices=True), (2, 3, 8)),
    "AdaptiveMaxPool2d": (lambda nn: nn.AdaptiveMaxPool2d((3, None)), (2, 3, 8, 9)),
    "FractionalMaxPool2d": (lambda nn: nn.FractionalMaxPool2d(1, output_size=(8, 9)), (2, 3, 8, 9)),
    "ReLU": (lambda nn: nn.ReLU(), (2, 3, 6, 5)),
    "ReLU in place": (lambda nn: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True)), (3, 4)),
    "LeakyReLU": (lambda nn: nn.LeakyReLU(0.1), (3, 4)),
    "ELU": (lambda nn: nn.ELU(alpha=0.7), (3, 4)),
    "Sigmoid": (lambda nn: nn.Sigmoid(), (3, 4)),
    "Tanh": (lambda nn: nn.Tanh(), (3, 4)),
    "Softmax": (lambda nn: nn.Softmax(dim=1), (3, 4)),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(dim=-1), (3, 4)),
    "Dropout": (lambda nn: nn.Dropout(0.3).eval(), (3, 4)),
    "Dropout2d": (lambda nn: nn.Dropout2d(p=0.0), (2, 3, 6, 5)),
    "Identity": (lambda nn: nn.Identity(), (3, 4)),
    "Identity with arguments": (lambda nn: nn.Identity(54, unused=1), (3, 4)),
    "Flatten": (lambda nn: nn.Flatten(), (2, 3, 6, 5)),
    "Flatten dims": (lambda nn: nn.Flatten(0, 2), (2, 3, 6, 5)),
    "Unflatten": (lambda nn: nn.Unflatten(1, (3, 4)), (2, 12)),
    "Unflatten -1": (lambda nn: nn.Unflatten(1, (3, 2, -1)), (2, 12)),
    "Flatten after Conv2d": (
        lambda nn: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(48, 2)),
        (2, 3, 6, 5),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    make, shape = MODULES[name]

    def case(lib, x):
        module = fill(lib, make(lib.nn))
        module = module.double() if x.dtype == lib.float64 else module
        y = module(x)
        parameters = list(module.parameters())
        head = y[0] if isinstance(y, tuple) else y
        grads = lib.autograd.grad((head**2).sum(), parameters, retain_graph=True) if parameters else ()
        return y, grads, [n for n, _ in module.named_parameters()], module.training

    check(case, normal(*shape))
    check(case, normal(0, *shape[1:])) if name != "Flatten dims" else None


ATTRIBUTES = {
    "Linear": "in_features out_features",
    "Conv2d rectangular": "in_channels out_channels kernel_size stride padding dilation groups",
    "Conv2d": "kernel_size stride padding dilation groups",
    "Conv2d same": "padding",
    "MaxPool2d all": "kernel_size stride padding dilation ceil_mode return_indices",
    "MaxPool2d": "kernel_size stride padding dilation ceil_mode",
    "AvgPool2d all": "kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "AdaptiveAvgPool2d pair": "output_size",
    "AdaptiveMaxPool1d": "output_size return_indices",
    "LPPool2d": "norm_type kernel_size stride ceil_mode",
    "MaxPool1d all": "kernel_size stride padding dilation ceil_mode return_indices",
    "ReLU": "inplace",
    "LeakyReLU": "negative_slope inplace",
    "ELU": "alpha",
    "Softmax": "dim",
    "Dropout": "p training",
    "Flatten dims": "start_dim end_dim",
    "Unflatten": "dim unflattened_size",
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_module_attributes(name):
    make, _ = MODULES[name]
    check(lambda lib: [getattr(make(lib.nn), attribute) for attribute in ATTRIBUTES[name].split()])


@pytest.mark.parametrize(("kind", "names"), [
    ("BatchNorm1d", "num_features eps momentum affine track_running_stats"),
    ("BatchNorm2d", "num_features eps momentum affine track_running_stats"),
])  # fmt: skip
def test_batch_norm_attributes(kind, names):
    check(lambda lib: [getattr(getattr(lib.nn, kind)(5), name) for name in names.split()])
    check(lambda lib: getattr(lib.nn, kind)(5).state_dict())
    check(lambda lib: getattr(lib.nn, kind)(5, affine=False).state_dict())
    check(lambda lib: getattr(lib.nn, kind)(5, track_running_stats=False).state_dict())


def test_every_combination_of_conv_module_arguments():
    """The module passes its arguments on: a small product, all on one input."""
    for kernel, stride, padding, dilation, groups, bias in itertools.product(
        (1, (2, 3)), (1, (2, 1)), (0, (1, 2)), (1, (1, 2)), (1, 2), (True, False)
    ):

        def case(lib, x):
            module = fill(lib, lib.nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups, bias))
            return module(x)

        check(case, normal(2, 4, 7, 6), dtypes=("float32",))


# ---------------------------------------------------------------- the im2col matrix


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 3, 5, 6), {"kernel_size": 2}),
        ((1, 2, 7, 5), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
        ((2, 1, 8, 9), {"kernel_size": (2, 3), "dilation": (2, 1), "padding": 1, "stride": 2}),
        ((0, 2, 4, 4), {"kernel_size": 3, "padding": 1}),
    ],
    ids=str,
)
def test_unfold_and_fold(shape, arguments):
    check(lambda lib, x: F(lib).unfold(x, **arguments), normal(*shape))
    check(lambda lib, x: F(lib).fold(F(lib).unfold(x, **arguments) ** 2, shape[2:], **arguments), normal(*shape))


def test_unfold_and_fold_refuse():
    check_raises(lambda lib, x: F(lib).unfold(x, 9), normal(1, 2, 4, 5))
    check_raises(lambda lib, x: F(lib).fold(x, (4, 5), 2), normal(1, 8, 7))
    check_raises(lambda lib, x: F(lib).fold(x, (4, 5), 2), normal(1, 7, 12))
