"""Convolutions of one and two axes, transposed ones, padding: against PyTorch over random arguments."""

import numpy as np
import pytest

from .pairs import check, check_either, check_raises, fill, integers, normal, seeded

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


def F(lib):
    return lib.nn.functional


def sizes(rng, n, low, high):
    """An int, a tuple of one for one axis, or one for each of n axes."""
    many = tuple(rng.integers(low, high, n).tolist())
    return many[0] if rng.random() < 0.5 else many


def draw(rng, n, transposed):
    """Shapes of input and weight, whether there is a bias, keywords; about one in eight is a mistake."""
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    c, f = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    if rng.random() < 0.2:  # depthwise
        groups, f = c, c * int(rng.integers(1, 3))
    image = tuple(rng.integers(2, 9, n).tolist())
    kernel = tuple(rng.integers(1, 5, n).tolist())
    batch = (int(rng.choice([0, 1, 2, 3])),) if rng.random() < 0.85 else ()
    kwargs = {"stride": sizes(rng, n, 1, 4), "padding": sizes(rng, n, 0, 3), "dilation": sizes(rng, n, 1, 3),
              "groups": groups}  # fmt: skip
    if transposed and batch != (0,) and rng.random() < 0.6:
        kwargs["output_padding"] = sizes(rng, n, 0, 2)
    if not transposed and rng.random() < 0.3:
        kwargs["padding"] = "same" if rng.random() < 0.7 else "valid"
        kwargs["stride"] = 1 if rng.random() < 0.8 else 2
    wrong = int(rng.random() < 0.08)
    first, second = (c, f) if transposed else (f, c)
    return (*batch, c, *image), (first + wrong, second // groups, *kernel), f if rng.random() < 0.6 else 0, kwargs


@pytest.mark.parametrize("name", ["conv1d", "conv_transpose1d", "conv_transpose2d"])
def test_functions(name):
    rng = seeded(name)
    for _ in range(60):
        shape, weight, bias, kwargs = draw(rng, int(name[-2]), "transpose" in name)
        arrays = normal(*shape), normal(*weight, seed=1), *([normal(bias, seed=2)] if bias else [])
        dtypes = ("float64",) if rng.random() < 0.7 else ("float32",)
        check_either(lambda lib, *a: getattr(F(lib), name)(*a, **kwargs), *arrays, dtypes=dtypes, tol=3)


def module_case(name, args, kwargs, shape, call=()):
    """Forward, gradients, state dict, repr of a module with filled parameters, and that PyTorch's state dict loads."""
    def case(lib, x):
        module = fill(lib, getattr(lib.nn, name)(*args, **kwargs))
        module = module.double() if x.dtype == lib.float64 else module
        y = module(x, *call)
        grads = lib.autograd.grad((y**2).sum(), list(module.parameters()), retain_graph=True)
        return y, grads, dict(module.state_dict()), repr(module)

    return case, normal(*shape)


PADDED = [(1, 1), (2, 0), (0, 3)]


@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"])
def test_modules(name):
    rng = seeded(name)
    n = int(name[-2])
    for _ in range(24):
        shape, weight, bias, kwargs = draw(rng, n, "Transpose" in name)
        c, f = shape[-n - 1], bias or kwargs["groups"]
        if "Transpose" not in name and rng.random() < 0.7:
            kwargs["padding_mode"] = str(rng.choice(["reflect", "replicate", "circular"]))
        case = module_case(name, (c, f, weight[2:] if rng.random() < 0.5 else weight[2]), {**kwargs, "bias": bias > 0},
                           shape if shape[0] or kwargs.get("padding_mode") else (1, *shape[1:]))  # fmt: skip
        check_either(*case, dtypes=("float64",))


def test_chains_in_place():
    def case(lib, x, w, v):
        y = F(lib).relu(F(lib).conv1d(x, w, padding="same"), inplace=True)
        y = F(lib).conv_transpose1d(y, v, stride=2)
        y[:, :, ::2] *= 2
        z = F(lib).relu(F(lib).conv_transpose2d(y[:, :, None], v[..., None]), inplace=True)
        return F(lib).pad(z, (1, 1, 0, 1), "replicate")[..., 0], y

    check(case, normal(2, 3, 9), normal(4, 3, 3, seed=1), normal(4, 4, 2, seed=2))


def test_a_change_in_place_of_what_backward_reads_is_noticed():
    def case(lib, x, w, name):
        x = x * 1
        y = getattr(F(lib), name)(x, w)
        x.add_(1)
        return y

    for name in "conv1d", "conv_transpose1d":
        check_raises(lambda lib, x, w: case(lib, x, w, name), normal(2, 3, 9), normal(3, 3, 2))


@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"])
def test_what_follows_a_layer(name):
    """Batch norm in evaluation, an addition, a ReLU, whatever the padding mode; with and without a tape."""
    modes = ["zeros"] if "Transpose" in name else ["zeros", "reflect", "replicate", "circular"]
    for mode in modes:
        for trained in True, False:
            def case(lib, x):
                layer = fill(lib, getattr(lib.nn, name)(4, 4, 3, padding=1, padding_mode=mode)).to(x.dtype)
                norm = fill(lib, getattr(lib.nn, f"BatchNorm{name[-2]}d")(4)).to(x.dtype).eval()
                for module in layer, norm:
                    module.requires_grad_(trained)
                x = x if trained else x.detach()
                y = norm(layer(x))
                return F(lib).relu(y), F(lib).relu(y + x, inplace=True), F(lib).relu(layer(x) + x)

            check(case, normal(2, 4, *(5, 6)[:int(name[-2])]))


def test_operands_that_are_views():
    """Slices of channels and of filters, expanded and reversed weights and biases."""
    def case(lib, x, w, b):
        line, f = w[..., 0], F(lib)
        return (f.conv2d(x[:, 1:5], w), f.conv2d(x[:, ::2], w[:, :3], b), f.conv2d(x[:, :1].expand(-1, 4, -1, -1), w),
                f.conv2d(x[:1, :4].expand(3, -1, -1, -1), w[:1].expand(4, -1, -1, -1), b[:1].expand(4)),
                f.conv2d(x[:, :4, ::2, 1:], w.mT, b), f.conv2d(x[:, :4], w.transpose(0, 1).flip(2, 3)[::2], b[::2]),
                f.conv1d(x[:, 1:5, :, 0], line, b, padding="same"), f.conv1d(x[0, ::2, 0], line[:, :3].flip(2)),
                f.conv_transpose1d(x[:, :4, ::2, 0], line, b[:1].expand(4), stride=2, output_padding=1),
                f.conv_transpose2d(x[1, 1:5, ::2], w, b.flip(0), stride=2), f.conv2d(w, w), f.conv1d(line, line))

    check(case, normal(2, 6, 7, 8), normal(4, 4, 3, 2, seed=1), normal(4, seed=2))


def test_sizes_of_transposed_convolutions():
    for name, shape, output in [("ConvTranspose2d", (1, 2, 4, 5), (9, 13)), ("ConvTranspose2d", (2, 4, 5), (8, 14)),
                                ("ConvTranspose2d", (1, 2, 4, 5), (1, 3, 8, 12)), ("ConvTranspose1d", (2, 2, 5), (12,)),
                                ("ConvTranspose2d", (1, 2, 4, 5), (7, 13)), ("ConvTranspose2d", (1, 2, 4, 5), (8,)),
                                ("ConvTranspose2d", (1, 2, 4, 5), (8, 15))]:  # fmt: skip
        stride = 2 if name == "ConvTranspose1d" else (2, 3)
        case = module_case(name, (2, 3, 3), {"stride": stride, "padding": 1}, shape, (output,))
        check_either(*case)


def test_initialization():
    """The bounds, by the extremes of many draws."""
    def case(lib):
        bounds = []
        for name, args in [("Conv1d", (8, 64, 9)), ("Conv2d", (8, 32, (3, 5))), ("ConvTranspose1d", (64, 8, 9)),
                           ("ConvTranspose2d", (32, 8, (5, 3)))]:
            module = getattr(lib.nn, name)(*args, groups=2)
            assert module.weight.shape[1] * np.prod(args[2]) in (36, 60)
            bounds.append(round(float(module.weight.detach().abs().max()), 2))
        return bounds

    check(case)


MISTAKES = {
    "conv1d dims": lambda lib, x: F(lib).conv1d(x[0, 0], lib.ones(4, 3, 2, dtype=x.dtype)),
    "conv1d weight": lambda lib, x: F(lib).conv1d(x, lib.ones(4, 3, dtype=x.dtype)),
    "conv1d stride": lambda lib, x: F(lib).conv1d(x, lib.ones(4, 3, 2, dtype=x.dtype), stride=(1, 1)),
    "conv1d no stride": lambda lib, x: F(lib).conv1d(x, lib.ones(4, 3, 2, dtype=x.dtype), stride=(1, 1, 1)),
    "conv1d zero": lambda lib, x: F(lib).conv1d(x, lib.ones(4, 3, 2, dtype=x.dtype), stride=0),
    "conv1d long": lambda lib, x: F(lib).conv1d(x, lib.ones(4, 3, 9, dtype=x.dtype)),
    "conv1d dtype": lambda lib, x: F(lib).conv1d(x, lib.ones(4, 3, 2)),
    "conv1d same": lambda lib, x: F(lib).conv1d(x, lib.ones(4, 3, 2, dtype=x.dtype), padding="same", stride=2),
    "transposed channels": lambda lib, x: F(lib).conv_transpose1d(x, lib.ones(4, 3, 2, dtype=x.dtype)),
    "transposed groups": lambda lib, x: F(lib).conv_transpose1d(x, lib.ones(3, 3, 2, dtype=x.dtype), groups=2),
    "transposed bias": lambda lib, x: F(lib).conv_transpose1d(
        x, lib.ones(3, 2, 2, dtype=x.dtype), lib.ones(3, dtype=x.dtype)),
    "transposed output": lambda lib, x: F(lib).conv_transpose1d(
        x, lib.ones(3, 2, 2, dtype=x.dtype), output_padding=1),
    "transposed nothing": lambda lib, x: F(lib).conv_transpose1d(x, lib.ones(3, 2, 2, dtype=x.dtype), padding=9),
    "mode": lambda lib, x: lib.nn.Conv1d(3, 4, 2, padding_mode="mirror"),
    "transposed mode": lambda lib, x: lib.nn.ConvTranspose1d(3, 4, 2, padding_mode="reflect"),
    "groups": lambda lib, x: lib.nn.ConvTranspose2d(3, 4, 2, groups=3),
    "reflected too far": lambda lib, x: lib.nn.Conv1d(3, 4, 2, padding=7, padding_mode="reflect").double()(x),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name], normal(2, 3, 7))


# ---------------------------------------------------------------- padding


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad(mode):
    """Random widths, negative ones too, of all kinds of memory."""
    rng = seeded(mode)
    for _ in range(120):
        k = int(rng.integers(0, 5) if mode == "constant" else rng.integers(1, 3))
        ndim = max(k, int(rng.integers(1, 5))) if mode == "constant" else k + int(rng.integers(1, 3))
        shape = tuple(rng.integers(1, 6, ndim).tolist())
        shape = (0, *shape[1:]) if rng.random() < 0.1 and ndim == k + 2 else shape
        widths = rng.integers(-2, 4, 2 * k).tolist()
        kwargs = {"value": 1.5} if mode == "constant" and rng.random() < 0.5 else {}
        turned = bool(rng.random() < 0.3 and ndim == 4)
        order = [0, 3, 1, 2] if turned else range(ndim)
        if mode == "circular" and any(shape[i] + min(a, 0) + min(b, 0) < max(a, b, 1) for i, a, b in zip(
                order[::-1], widths[::2], widths[1::2], strict=False)):
            continue  # PyTorch reads what it has not written
        if mode in ("reflect", "replicate") and all(shape[i] + a + b == 0 for i, a, b in zip(
                order[::-1], widths[::2], widths[1::2], strict=False)):
            continue  # an empty tensor here, an error there unless only one of two axes is empty

        def case(lib, x):
            x = x.permute(*order) if turned else x
            return F(lib).pad(x, widths, mode, **kwargs)

        check_either(case, normal(*shape), dtypes=("float64",))
    check(lambda lib, x: F(lib).pad(x, (1, 2)), integers(0, 9, 3, 4))
    check(lambda lib, x: F(lib).pad(x > 4, (1, 2), value=True), integers(0, 9, 3, 4))


@pytest.mark.parametrize("kind", ["Zero", "Constant", "Reflection", "Replication", "Circular"])
@pytest.mark.parametrize("axes", [1, 2])
def test_padding_modules(kind, axes):
    for padding in 2, tuple(range(2 * axes)), (1,) * axes:
        value = (0.5,) if kind == "Constant" else ()

        def case(lib, x):
            module = getattr(lib.nn, f"{kind}Pad{axes}d")(padding, *value)
            return module(x), module(x[0]), repr(module), module.padding

        check_either(case, normal(2, 3, *(4, 5)[:axes]))


PAD_MISTAKES = {
    "odd": lambda lib, x: F(lib).pad(x, (1, 2, 3)),
    "many": lambda lib, x: F(lib).pad(x, (1,) * 10),
    "mode": lambda lib, x: F(lib).pad(x, (1, 1), "edge"),
    "value": lambda lib, x: F(lib).pad(x, (1, 1, 1, 1), "reflect", 2.0),
    "reflect": lambda lib, x: F(lib).pad(x, (5, 0, 0, 0), "reflect"),
    "circular": lambda lib, x: F(lib).pad(x, (6, 0, 0, 0), "circular"),
    "axes": lambda lib, x: F(lib).pad(x, (1, 1), "replicate"),
    "cropped": lambda lib, x: F(lib).pad(x, (-3, -3)),
    "cropped replicate": lambda lib, x: F(lib).pad(x, (-3, -2, -5, 0), "replicate"),
}


@pytest.mark.parametrize("name", PAD_MISTAKES)
def test_pad_mistakes(name):
    check_raises(PAD_MISTAKES[name], normal(2, 3, 4, 5))
