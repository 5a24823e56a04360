"""Convolution against direct loops and `einsum`, by hand, at its borders, and what bad input gets."""
import copy
import pickle

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend


def direct(x, w, b=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Convolution by its definition: one output pixel at a time."""
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    N, _, H, W = x.shape
    Fo, c, kH, kW = w.shape
    oH, oW = (H + 2 * ph - dh * (kH - 1) - 1) // sh + 1, (W + 2 * pw - dw * (kW - 1) - 1) // sw + 1
    y = np.zeros((N, Fo, oH, oW))
    for f in range(Fo):
        group = f // (Fo // groups)
        for oh in range(oH):
            for ow in range(oW):
                for kh in range(kH):
                    for kw in range(kW):
                        ih, iw = oh * sh - ph + kh * dh, ow * sw - pw + kw * dw
                        if 0 <= ih < H and 0 <= iw < W:
                            y[:, f, oh, ow] += x[:, group * c:(group + 1) * c, ih, iw] @ w[f, :, kh, kw]
    return y if b is None else y + b[:, None, None]


@pytest.mark.parametrize(("shape", "filters", "kernel", "kwargs"), [
    ((2, 3, 6, 5), 4, (3, 2), {}),
    ((1, 1, 5, 8), 6, (5, 3), {"padding": (2, 1)}),
    ((2, 2, 7, 9), 3, (2, 3), {"stride": (2, 3), "padding": (1, 2)}),
    ((1, 4, 9, 7), 6, (3, 2), {"dilation": (2, 3), "groups": 2}),
    ((2, 5, 5, 6), 5, (3, 3), {"padding": (1, 0), "groups": 5}),
    ((1, 3, 8, 7), 6, (2, 3), {"stride": (3, 2), "padding": (0, 1), "groups": 3}),
    ((1, 2, 5, 4), 3, (1, 1), {"stride": (2, 3)}),
    ((1, 2, 3, 4), 2, (2, 2), {"padding": (3, 4), "stride": (2, 1), "dilation": (1, 2)}),
    ((3, 17, 4, 5), 33, (1, 1), {}),
])
def test_conv2d_against_its_definition(rng, shape, filters, kernel, kwargs):
    weight = rng.standard_normal((filters, shape[1] // kwargs.get("groups", 1), *kernel))
    check(F.conv2d, rng.standard_normal(shape), weight, rng.standard_normal(filters), oracle=direct, kwargs=kwargs)
    check(F.conv2d, rng.standard_normal(shape), weight, oracle=direct, kwargs=kwargs)


def test_conv2d_wide_tiles_against_einsum(rng):
    """Sizes around every tile's edge: many channels and filters, long rows."""
    for C, filters, W in [(31, 65, 16), (32, 16, 29), (5, 130, 43)]:
        x, w = rng.standard_normal((2, C, 3, W)), rng.standard_normal((filters, C, 2, 3))
        windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(2, 3))
        for dtype in (np.float32, np.float64):
            y = F.conv2d(fastnn.tensor(x, dtype=dtype), fastnn.tensor(w, dtype=dtype))
            close(y, np.einsum("nchwij,fcij->nfhw", windows, w, optimize=True), dtype, 1e-5)


def test_conv2d_by_hand():
    x = fastnn.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]], requires_grad=True)
    w = fastnn.tensor([[[[1.0, -1.0], [0.5, 2.0]]]], requires_grad=True)
    b = fastnn.tensor([10.0], requires_grad=True)
    y = F.conv2d(x, w, b)
    assert y.tolist() == [[[[21.0, 23.5]]]]
    y.backward(fastnn.tensor([[[[1.0, 2.0]]]]))
    assert x.grad.tolist() == [[[[1.0, 1.0, -2.0], [0.5, 3.0, 4.0]]]]
    assert w.grad.tolist() == [[[[5.0, 8.0], [14.0, 17.0]]]]
    assert b.grad.tolist() == [3.0]


@pytest.mark.parametrize(("kernel", "dilation"), [((3, 5), 1), ((2, 4), 1), ((3, 2), (2, 3))])
def test_same_padding_keeps_the_size(rng, kernel, dilation):
    x, w = rng.standard_normal((2, 3, 7, 9)), rng.standard_normal((4, 3, *kernel))
    dh, dw = (dilation, dilation) if isinstance(dilation, int) else dilation
    total = dh * (kernel[0] - 1), dw * (kernel[1] - 1)
    borders = ((0, 0), (0, 0), (total[0] // 2, -(-total[0] // 2)), (total[1] // 2, -(-total[1] // 2)))
    check(F.conv2d, x, w, oracle=lambda x, w, **_: direct(np.pad(x, borders), w, dilation=(dh, dw)),
          kwargs={"padding": "same", "dilation": dilation})


def test_valid_padding_and_unbatched_input(rng):
    x, w = rng.standard_normal((3, 7, 9)), rng.standard_normal((4, 3, 2, 3))
    y = F.conv2d(fastnn.tensor(x), fastnn.tensor(w), padding="valid")
    close(y, direct(x[None], w)[0], np.float64)
    check(F.conv2d, x, w, oracle=lambda x, w: direct(x[None], w)[0])


@pytest.mark.parametrize(("shape", "filters", "kernel", "kwargs"), [
    ((2, 3, 8), 4, 3, {"stride": 2, "padding": 1}), ((1, 4, 9), 6, 2, {"dilation": 3, "groups": 2}),
    ((3, 5, 5), 5, 4, {"padding": 3, "groups": 5}), ((4, 9), 2, 3, {"padding": 0}), ((2, 2, 300), 3, 5, {"stride": 3}),
])
def test_conv1d_against_its_definition(rng, shape, filters, kernel, kwargs):
    def oracle(x, w, b, stride=1, padding=0, dilation=1, groups=1):
        y = direct(x.reshape(-1, *x.shape[-2:])[:, :, None], w[:, :, None], b, (1, stride), (0, padding), (1, dilation),
                   groups)
        return y[:, :, 0].reshape(*x.shape[:-2], *y[0, :, 0].shape)

    weight = rng.standard_normal((filters, shape[-2] // kwargs.get("groups", 1), kernel))
    check(F.conv1d, rng.standard_normal(shape), weight, rng.standard_normal(filters), oracle=oracle, kwargs=kwargs)


def scattered(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """A transposed convolution by its definition: each pixel of each image adds the weight times itself."""
    sizes = (np.broadcast_to(a, 2) for a in (stride, padding, output_padding, dilation))
    (sh, sw), (ph, pw), (eh, ew), (dh, dw) = sizes
    (N, C, H, W), (_, f, kH, kW) = x.shape, w.shape
    y = np.zeros((N, f * groups, (H - 1) * sh + dh * (kH - 1) + 1 + eh, (W - 1) * sw + dw * (kW - 1) + 1 + ew))
    for c in range(C):
        filters = slice(c // (C // groups) * f, (c // (C // groups) + 1) * f)
        for h in range(H):
            for i in range(W):
                part = y[:, filters, h * sh:h * sh + dh * (kH - 1) + 1:dh, i * sw:i * sw + dw * (kW - 1) + 1:dw]
                part += x[:, c, h, i, None, None, None] * w[c]
    y = y[:, :, ph:y.shape[2] - ph, pw:y.shape[3] - pw]
    return y if b is None else y + b[:, None, None]


@pytest.mark.parametrize(("shape", "filters", "kernel", "kwargs"), [
    ((2, 3, 4, 5), 2, (3, 2), {}), ((1, 4, 3, 4), 3, (2, 3), {"stride": (2, 3), "padding": (1, 2), "groups": 2}),
    ((2, 2, 3, 3), 5, (3, 1), {"stride": 3, "output_padding": (2, 1), "dilation": (2, 1)}),
    ((2, 6, 4, 3), 1, (4, 4), {"stride": 2, "padding": 1, "groups": 6}), ((1, 17, 5, 4), 9, (1, 1), {"stride": (1, 2)}),
    ((1, 2, 2, 3), 3, (2, 2), {"dilation": 3, "output_padding": 2}),
])
def test_transposed_convolutions_against_their_definition(rng, shape, filters, kernel, kwargs):
    weight = rng.standard_normal((shape[1], filters, *kernel))
    bias = rng.standard_normal(filters * kwargs.get("groups", 1))
    check(F.conv_transpose2d, rng.standard_normal(shape), weight, bias, oracle=scattered, kwargs=kwargs)
    kwargs = {name: value[1] if isinstance(value, tuple) else value for name, value in kwargs.items()}
    x, weight = rng.standard_normal((*shape[:2], shape[3])), weight[:, :, 0]
    height = {name: (int(name in ("stride", "dilation")), value) for name, value in kwargs.items() if name != "groups"}

    def oracle(x, w, **_):
        return scattered(x[:, :, None], w[:, :, None], groups=kwargs.get("groups", 1), **height)[:, :, 0]

    check(F.conv_transpose1d, x, weight, oracle=oracle, kwargs=kwargs)


def test_what_is_1d_shares_memory(rng):
    """Input with the channels innermost is read as it is; so lies the output; gradients lie as weights do."""
    layer = fastnn.nn.Conv1d(3, 5, 4)
    assert layer.weight.array.transpose(2, 1, 0).flags.c_contiguous
    y = layer(fastnn.randn(2, 9, 3).permute(0, 2, 1))
    assert y.array.transpose(0, 2, 1).flags.c_contiguous
    y.sum().backward()
    assert layer.weight.grad.array.strides == layer.weight.array.strides


@pytest.mark.parametrize(("name", "shape"), [("Conv1d", (2, 4, 9)), ("ConvTranspose1d", (2, 4, 9)),
                                             ("Conv2d", (2, 4, 6, 7)), ("ConvTranspose2d", (2, 4, 6, 7))])
def test_a_weight_keeps_its_memory_order(name, shape):
    """So do gradient and state, so that a step copies nothing: after loading, copies, other dtypes, and steps."""
    layer = getattr(fastnn.nn, name)(4, 6, 3, groups=2)
    order = np.argsort(layer.weight.array.strides).tolist()
    layer.load_state_dict({key: np.ascontiguousarray(value.numpy()) for key, value in layer.state_dict().items()})
    for module in layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer).double():
        optimizer = fastnn.optim.Adam(module.parameters())
        for _ in range(2):
            module(fastnn.randn(*shape, dtype=module.weight.dtype)).sum().backward()
            optimizer.step()
        weight, *state = module.weight, *optimizer.state[module.weight].values()
        assert np.argsort(weight.array.strides).tolist() == order
        for t in weight.grad, *[t for t in state if getattr(t, "shape", None) == weight.shape]:
            assert t.array.strides == weight.array.strides


def test_one_operation_in_1d():
    """No views on the tape; the gradient of the operation is named as it is."""
    x, w = fastnn.ones(2, 3, 9, requires_grad=True), fastnn.ones(3, 3, 2, requires_grad=True)
    for convolve, name in (F.conv1d, "Conv1dBackward"), (F.conv_transpose1d, "ConvTranspose1dBackward"):
        y = convolve(x, w)
        assert y.grad_fn.name() == name
        with pytest.raises(TypeError, match=f"{convolve.__name__}: stride must be an int or a tuple of one"):
            convolve(x, w, stride=())


def test_padding_modes_of_layers_against_numpy(rng):
    x, w = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((4, 3, 2, 4))
    for mode, name in ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap"):
        for padding, borders in ((1, 2), ((1, 1), (2, 2))), ("same", ((0, 1), (1, 2))):
            layer = fastnn.nn.Conv2d(3, 4, (2, 4), padding=padding, padding_mode=mode, bias=False).double()
            layer.load_state_dict({"weight": w})
            close(layer(fastnn.tensor(x)), direct(np.pad(x, ((0, 0), (0, 0), *borders), name), w), np.float64)


def test_locally_connected_against_its_definition(rng):
    def oracle(x, w, b, stride, padding, dilation):
        y = [[direct(x, w[i, j], b[:, i, j], stride, padding, dilation)[:, :, i, j] for j in range(w.shape[1])]
             for i in range(w.shape[0])]
        return np.array(y).transpose(2, 3, 0, 1)

    kwargs = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
    weight, bias = rng.standard_normal((3, 4, 5, 2, 2, 3)), rng.standard_normal((5, 3, 4))
    check(F.locally_connected2d, rng.standard_normal((2, 2, 5, 8)), weight, bias, oracle=oracle, kwargs=kwargs)
    layer = fastnn.nn.LocallyConnected2d(2, 5, (5, 8), (2, 3), (2, 1), (1, 0), (1, 2))
    assert layer.weight.shape == weight.shape and layer.bias.shape == bias.shape
    assert float(layer.weight.detach().abs().max()) <= 12**-0.5
    shown = "2, 5, kernel_size=(2, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 2)"
    assert repr(layer) == f"LocallyConnected2d({shown})"
    with pytest.raises(ValueError, match="do not fit"):
        layer(fastnn.zeros(1, 2, 6, 9))


def test_gradient_of_a_shared_weight_is_the_sum_of_those_of_unshared_ones(rng):
    x, w = fastnn.tensor(rng.standard_normal((3, 2, 6, 7))), rng.standard_normal((4, 2, 3, 2))
    shared = fastnn.tensor(w, requires_grad=True)
    unshared = fastnn.tensor(np.broadcast_to(w, (6, 6, *w.shape)).copy(), requires_grad=True)
    y, z = F.conv2d(x, shared, padding=(1, 0)), F.locally_connected2d(x, unshared, padding=(1, 0))
    close(y, z.array)
    dy = fastnn.tensor(rng.standard_normal(y.shape))
    y.backward(dy)
    z.backward(dy)
    close(shared.grad, unshared.grad.array.sum((0, 1)))


def test_unfold_is_the_matrix_of_the_product(rng):
    x, w = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((4, 3, 2, 3))
    kwargs = {"kernel_size": (2, 3), "dilation": (2, 1), "padding": (1, 0), "stride": (1, 2)}
    columns = F.im2col(fastnn.tensor(x), **kwargs)
    y = direct(x, w, stride=(1, 2), padding=(1, 0), dilation=(2, 1))
    close(w.reshape(4, -1) @ columns.numpy(), y.reshape(2, 4, -1), np.float64)
    check(F.unfold, x, kwargs=kwargs)
    check(F.fold, rng.standard_normal(columns.shape), kwargs={**kwargs, "output_size": (6, 7)})


def test_fold_counts_how_often_a_pixel_is_read():
    ones = F.unfold(fastnn.ones(1, 1, 3, 4), (2, 2))
    assert F.fold(ones, (3, 4), (2, 2)).tolist() == [[[[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]]]]


@pytest.mark.parametrize("stride", [9, 10**5, 2**28 - 1])
def test_strides_beyond_the_image(rng, stride):
    """One window is all there is, and nothing is sized by the stride."""
    x, w = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 2, 3))
    check(lambda x, w: F.conv2d(x, w, stride=stride), x, w, oracle=lambda x, w: direct(x, w, stride=(9, 9)))


@pytest.mark.parametrize("isa", backend.instruction_sets())
def test_kernels_refuse_sizes_whose_products_overflow(isa):
    kernels = backend.load("compiled", isa)["conv"]
    x, w, y, none = (np.ones(shape, np.float32) for shape in ((1, 1, 1, 1), (1, 1, 3, 3), (1, 1, 1, 1), (1, 9, 1)))
    for where in (((2**40,) * 2, (0, 0), (1, 1)), ((1, 1), (2**31,) * 2, (2**31,) * 2), ((1, 1), (0, 0), (2**27,) * 2)):
        with pytest.raises(ValueError, match="kernel conv2d"):
            kernels.conv2d(x, w, None, y, *where, 1, 1)
        with pytest.raises(ValueError, match="kernel conv2d"):
            kernels.conv2d_backward_weight(y, x, w.transpose(2, 3, 1, 0).copy().transpose(3, 2, 0, 1), *where, 1, 1)
    with pytest.raises(ValueError, match="kernel im2col"):
        kernels.im2col(x, none, (3, 3), (2**40,) * 2, (0, 0), (1, 1), (1, 1), 1)


def test_weight_gradient_lies_as_the_weight_does(rng):
    layer = fastnn.nn.Conv2d(3, 5, (2, 3))
    layer(fastnn.randn(2, 3, 5, 6)).sum().backward()
    assert layer.weight.grad.array.strides == layer.weight.array.strides
    assert layer.weight.array.transpose(2, 3, 1, 0).flags.c_contiguous


def test_first_layer_asks_for_no_input_gradient(monkeypatch):
    from fastnn import backend

    calls = []
    kernel = backend.conv.conv2d_backward_input
    monkeypatch.setattr(backend.conv, "conv2d_backward_input", lambda *a: calls.append(1) or kernel(*a))
    w = fastnn.ones(1, 1, 2, 2, requires_grad=True)
    F.conv2d(fastnn.ones(1, 1, 3, 3), w).sum().backward()
    assert not calls


@pytest.mark.parametrize(("args", "kwargs", "error", "words"), [
    (((1, 3, 5, 5), (8, 4, 3, 3)), {}, ValueError,
     r"conv2d: input has 3 channels, but weight of shape \(8, 4, 3, 3\) with groups=1 needs 4"),
    (((1, 4, 5, 5), (8, 4, 6, 3)), {}, ValueError, "does not fit into an input of size 5"),
    (((1, 4, 5), (8, 4, 3, 3)), {}, ValueError, "input has 1 channels"),
    (((4, 5), (8, 4, 3, 3)), {}, ValueError, r"\(N, C, H, W\)"),
    (((1, 4, 5, 5), (8, 4, 3, 3)), {"stride": 0}, ValueError, "conv2d: stride must be at least 1"),
    (((1, 4, 5, 5), (8, 4, 3, 3)), {"stride": (1, 2, 3)}, TypeError, "conv2d: stride must be an int or a pair"),
    (((1, 4, 5, 5), (8, 4, 3, 3)), {"padding": -1}, ValueError, "conv2d: padding must be at least 0"),
    (((1, 4, 5, 5), (8, 4, 3, 3)), {"padding": "full"}, ValueError, "'same' or 'valid'"),
    (((1, 4, 5, 5), (8, 4, 3, 3)), {"padding": "same", "stride": 2}, ValueError, "needs stride 1"),
    (((1, 4, 5, 5), (8, 2, 3, 3)), {"groups": 3}, ValueError, "groups must be an int that divides"),
    (((1, 4, 5, 5), (8, 4, 3, 3)), {"dilation": 1.5}, TypeError, "dilation"),
])
def test_bad_input(args, kwargs, error, words):
    with pytest.raises(error, match=words):
        F.conv2d(*map(fastnn.ones, args), **kwargs)


def test_mixed_dtypes_are_refused_with_the_cure():
    with pytest.raises(TypeError, match=r"conv2d: input is float32, but weight is float64; .*\.to\(float32\)"):
        F.conv2d(fastnn.ones(1, 1, 3, 3), fastnn.ones(1, 1, 2, 2, dtype=fastnn.float64))
    with pytest.raises(TypeError, match="must be float32 or float64"):
        F.conv2d(fastnn.ones(1, 1, 3, 3).long(), fastnn.ones(1, 1, 2, 2).long())


# Depthwise ------------------------------------------------------------------------------------------------------


def depthwise(x, w, b, dy, stride, padding, dilation):
    """y, dx and dw of a depthwise convolution by definition, tap by tap; the filters of a channel lie side by side."""
    (sh, sw), (ph, pw), (dh, dw_), (oH, oW) = stride, padding, dilation, dy.shape[2:]
    m = w.shape[0] // x.shape[1]
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    dx, dw, y = np.zeros_like(padded), np.zeros(w.shape), np.zeros(dy.shape) + b[:, None, None]
    for kh in range(w.shape[2]):
        for kw in range(w.shape[3]):
            where = np.s_[:, :, kh * dh:kh * dh + (oH - 1) * sh + 1:sh, kw * dw_:kw * dw_ + (oW - 1) * sw + 1:sw]
            taps = padded[where].repeat(m, axis=1)
            y += taps * w[:, 0, kh, kw, None, None]
            dw[:, 0, kh, kw] = (taps * dy).sum((0, 2, 3))
            dx[where] += (dy * w[:, 0, kh, kw, None, None]).reshape(len(x), -1, m, oH, oW).sum(2)
    return y, dx[:, :, ph:ph + x.shape[2], pw:pw + x.shape[3]], dw


def draw_depthwise(rng):
    """N, C, size, filters a channel, kernel, stride, padding, dilation of a convolution that has an output."""
    while True:
        kernel, stride = rng.integers(1, 8, 2) if rng.random() < 0.4 else [3, 3], rng.integers(1, 4, 2)
        if rng.random() < 0.5:
            stride = [stride[0]] * 2 if rng.random() < 0.5 else [1, 1]
        dilation = rng.integers(1, 4, 2) if rng.random() < 0.3 else [1, 1]
        padding = [int(rng.integers(0, k + 1)) for k in kernel]
        size = rng.integers(1, 40, 2)
        if all(n + 2 * p > d * (k - 1) for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)):
            C = int(rng.choice([2, 3, 5, 8, 10, 15, 16, 17, 24, 31, 32, 33, 48, 130, 257]))
            where = tuple(tuple(int(i) for i in pair) for pair in (kernel, stride, padding, dilation))
            return int(rng.integers(1, 4)), C, tuple(map(int, size)), int(rng.choice([1, 1, 1, 2, 3])), *where


def last(a, dtype):
    """`a` channels-last."""
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1), dtype).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("isa", backend.instruction_sets())
@pytest.mark.parametrize("case", range(48))
def test_depthwise_against_its_definition(isa, case):
    rng = np.random.default_rng(case)
    N, C, size, m, kernel, stride, padding, dilation = draw_depthwise(rng)
    axes = zip(size, padding, dilation, kernel, stride, strict=True)
    shapes = (N, C, *size), (m * C, 1, *kernel), m * C, (N, m * C, *((n + 2 * p - d * (k - 1) - 1) // s + 1
                                                                     for n, p, d, k, s in axes))
    x, w, b, dy = map(rng.standard_normal, shapes)
    truth = depthwise(x, w, b, dy, stride, padding, dilation)
    kernels, where = backend.load("compiled", isa)["conv"], (stride, padding, dilation, C)
    for dtype, counts in ((np.float32, (1, 2, 3, 4, 8)), (np.float64, (3, 1))):
        bits = {}
        for threads in counts:
            a, grad, weight = last(x, dtype), last(dy, dtype), w.astype(dtype)
            if case % 2:  # the memory order of a parameter
                weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
            y, dx = (last(np.full(shape.shape, np.nan), dtype) for shape in (dy, x))
            dw = np.full((*kernel, 1, m * C), np.nan, dtype).transpose(3, 2, 0, 1)
            kernels.conv2d(a, weight, b.astype(dtype), y, *where, threads)
            kernels.conv2d_backward_input(grad, weight, dx, *where, threads)
            kernels.conv2d_backward_weight(grad, a, dw, *where, threads)
            for name, got, true in zip(("y", "dx", "dw"), (y, dx, dw), truth, strict=True):
                if threads == counts[0]:
                    close(got, true, dtype, what=f"{name} of {(N, C, size, m, kernel, stride, padding, dilation)}")
                assert bits.setdefault(name, got.tobytes()) == got.tobytes(), f"{name} at {threads} threads"


@pytest.mark.skipif(backend.kernel_set == "reference", reason="the twin multiplies its border of zeros")
def test_depthwise_leaves_taps_outside_alone():
    """What a window would read beyond the image is not multiplied: an infinite gradient or weight makes no NaN."""
    for C in (3, 40):
        x = np.ones((1, C, 4, 5))
        w = np.full((C, 1, 3, 3), np.inf)
        y = F.conv2d(fastnn.tensor(x), fastnn.tensor(w), padding=1, groups=C)
        assert np.isposinf(y.numpy()).all()


def test_depthwise_bits_do_not_depend_on_alignment(rng):
    kernels = backend.conv
    x, w, y = rng.standard_normal((2, 9, 11, 40)), rng.standard_normal((3, 3, 1, 40)), np.zeros((2, 9, 11, 40))
    results = []
    for shift in (0, 1, 5):
        arrays = []
        for a in (x, w, y):
            flat = np.zeros(a.size + 16, np.float32)[shift:shift + a.size]
            flat[...] = a.ravel()
            arrays.append(flat.reshape(a.shape))
        x_, w_, y_ = arrays[0].transpose(0, 3, 1, 2), arrays[1].transpose(3, 2, 0, 1), arrays[2].transpose(0, 3, 1, 2)
        kernels.conv2d(x_, w_, None, y_, (1, 1), (1, 1), (1, 1), 40, 1)
        forward = y_.tobytes()
        kernels.conv2d_backward_weight(x_, x_, w_, (1, 1), (1, 1), (1, 1), 40, 1)
        results.append((forward, w_.tobytes()))
    assert results[0] == results[1] == results[2]


# Few filters ----------------------------------------------------------------------------------------------------


def windows(x, w, dy, stride, padding, dilation, groups):
    """y without bias, dx and dw by definition, tap by tap."""
    (sh, sw), (ph, pw), (dh, dw_), (oH, oW) = stride, padding, dilation, dy.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    dx, dw, y = np.zeros_like(padded), np.zeros(w.shape), np.zeros(dy.shape)
    c, f = x.shape[1] // groups, w.shape[0] // groups
    for g in range(groups):
        C, Fo = slice(g * c, (g + 1) * c), slice(g * f, (g + 1) * f)
        for kh in range(w.shape[2]):
            for kw in range(w.shape[3]):
                where = np.s_[:, C, kh * dh:kh * dh + (oH - 1) * sh + 1:sh, kw * dw_:kw * dw_ + (oW - 1) * sw + 1:sw]
                y[:, Fo] += np.einsum("nchw,fc->nfhw", padded[where], w[Fo, :, kh, kw])
                dw[Fo, :, kh, kw] = np.einsum("nchw,nfhw->fc", padded[where], dy[:, Fo])
                dx[where] += np.einsum("nfhw,fc->nchw", dy[:, Fo], w[Fo, :, kh, kw])
    return y, dx[:, :, ph:ph + x.shape[2], pw:pw + x.shape[3]], dw


FEW = [(64, 1, 1, 6, (28, 28), (5, 5), (1, 1), (2, 2), (1, 1)), (7, 1, 6, 16, (14, 14), (5, 5), (1, 1), (0, 0), (1, 1)),
       (2, 1, 2, 9, (12, 40), (2, 3), (1, 1), (1, 1), (2, 1)), (1, 1, 3, 3, (150, 33), (3, 3), (1, 1), (1, 1), (1, 1)),
       (9, 1, 70, 5, (11, 14), (3, 4), (2, 3), (1, 2), (1, 1)), (3, 1, 3, 40, (9, 31), (4, 5), (3, 3), (0, 4), (1, 1)),
       (5, 9, 2, 3, (12, 19), (3, 2), (2, 2), (1, 0), (2, 1)), (6, 3, 4, 1, (10, 23), (1, 2), (3, 3), (0, 0), (1, 1)),
       (21, 2, 37, 9, (4, 3), (3, 3), (1, 2), (1, 1), (1, 1))]


def draw_few(case):
    """N, groups, channels and filters of a group, size, kernel, stride, padding, dilation; at first those of FEW."""
    if case < len(FEW):
        return FEW[case]
    rng = np.random.default_rng(case)
    while True:
        kernel, stride, dilation = rng.integers(1, 6, 2), (1, 1), (1, 1)
        if rng.random() < 0.5:
            stride, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        padding, size = [int(rng.integers(0, k + 2)) for k in kernel], rng.integers(1, 36, 2)
        if all(n + 2 * p > d * (k - 1) for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)):
            where = tuple(tuple(int(i) for i in pair) for pair in (size, kernel, stride, padding, dilation))
            c, f = int(rng.choice([1, 1, 2, 3, 5, 6, 8, 10, 17, 37])), int(rng.choice([1, 2, 3, 4, 6, 7, 8, 9, 10, 12]))
            return int(rng.integers(1, 6)), int(rng.choice([1, 1, 2, 7])), c, f, *where


@pytest.mark.parametrize("isa", backend.instruction_sets())
@pytest.mark.parametrize("case", range(96))
def test_few_filters_against_the_definition(isa, case):
    N, groups, c, f, size, kernel, stride, padding, dilation = draw_few(case)
    rng = np.random.default_rng(case)
    axes = zip(size, padding, dilation, kernel, stride, strict=True)
    shape = (N, groups * f, *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in axes))
    x, w, dy = map(rng.standard_normal, ((N, groups * c, *size), (groups * f, c, *kernel), shape))
    b, mean, scale, shift = rng.standard_normal((4, groups * f))
    truth = windows(x, w, dy, stride, padding, dilation, groups)
    truth = truth[0] + b[:, None, None], *truth[1:]
    kernels, where = backend.load("compiled", isa)["conv"], (stride, padding, dilation, groups)
    for dtype, counts in ((np.float32, (1, 2, 3, 4, 8)), (np.float64, (3, 1))):
        bits = {}
        weight = w.astype(dtype)
        if case % 2:  # the memory order of a parameter
            weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
        a, grad, bias = last(x, dtype), last(dy, dtype), b.astype(dtype)
        for threads in counts:
            y, dx = (last(np.full(like.shape, np.nan), dtype) for like in (dy, x))
            dw = np.full((*kernel, c, groups * f), np.nan, dtype).transpose(3, 2, 0, 1)
            kernels.conv2d(a, weight, bias, y, *where, threads)
            kernels.conv2d_backward_input(grad, weight, dx, *where, threads)
            kernels.conv2d_backward_weight(grad, a, dw, *where, threads)
            for name, got, true in zip(("y", "dx", "dw"), (y, dx, dw), truth, strict=True):
                if threads == counts[0]:
                    close(got, true, dtype, 1e-5 if dtype == np.float32 else None, what=f"{name} of {draw_few(case)}")
                assert bits.setdefault(name, got.tobytes()) == got.tobytes(), f"{name} at {threads} threads"
        fused = last(np.full(dy.shape, np.nan), dtype)
        norm = mean.astype(dtype), scale.astype(dtype), None, shift.astype(dtype)
        kernels.conv2d_batch_norm(a, weight, bias, *norm, grad, True, fused, *where, 2)
        exact = (y.astype(np.float64) - mean[:, None, None]) * scale[:, None, None] + shift[:, None, None] + dy
        close(fused, np.maximum(exact, 0), dtype, 1e-5 if dtype == np.float32 else None, what="fused")
