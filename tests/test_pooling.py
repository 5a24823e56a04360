"""Pooling against direct loops over windows, by hand, at its borders, and for ties and NaN."""
import itertools

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, layout, nn


def windows(x, size, kernel, stride, padding=(0, 0), dilation=(1, 1)):
    """Each output's position and the positions of its taps, those outside the input too."""
    for oh in range(size[0]):
        for ow in range(size[1]):
            taps = [(oh * stride[0] - padding[0] + i * dilation[0], ow * stride[1] - padding[1] + j * dilation[1])
                    for i in range(kernel[0]) for j in range(kernel[1])]
            yield oh, ow, taps, [(h, w) for h, w in taps if 0 <= h < x.shape[-2] and 0 <= w < x.shape[-1]]


def out_size(x, kernel, stride, padding=(0, 0), dilation=(1, 1), ceil_mode=False):
    """By counting: windows that fit or, in ceil mode, that begin inside the input or its left padding and stick out."""
    size = []
    for n, k, s, p, d in zip(x.shape[-2:], kernel, stride, padding, dilation, strict=True):
        starts = [o * s - p for o in range(n + 2 * p)]
        fits = [a for a in starts if a + d * (k - 1) < n + p]
        if ceil_mode and (not fits or fits[-1] + d * (k - 1) != n + p - 1):
            fits += [a for a in starts if a < n and a not in fits][:1]
        size.append(len(fits))
    return size


def max_by_definition(x, kernel_size, stride=None, padding=(0, 0), dilation=(1, 1), ceil_mode=False,
                      return_indices=False):
    stride = stride or kernel_size
    size = out_size(x, kernel_size, stride, padding, dilation, ceil_mode)
    y, indices = np.empty((*x.shape[:-2], *size)), np.empty((*x.shape[:-2], *size), np.int64)
    for oh, ow, _, inside in windows(x, size, kernel_size, stride, padding, dilation):
        values = np.stack([x[..., h, w] for h, w in inside], -1)
        y[..., oh, ow] = values.max(-1)
        indices[..., oh, ow] = np.array([h * x.shape[-1] + w for h, w in inside])[values.argmax(-1)]
    return (y, indices) if return_indices else y


def avg_by_definition(x, kernel_size, stride=None, padding=(0, 0), ceil_mode=False, count_include_pad=True,
                      divisor_override=None):
    stride = stride or kernel_size
    size = out_size(x, kernel_size, stride, padding, ceil_mode=ceil_mode)
    y = np.empty((*x.shape[:-2], *size))
    H, W = np.add(x.shape[-2:], padding)
    for oh, ow, taps, inside in windows(x, size, kernel_size, stride, padding):
        padded = [(h, w) for h, w in taps if h < H and w < W]
        y[..., oh, ow] = sum(x[..., h, w] for h, w in inside) / (
            divisor_override or len(padded if count_include_pad else inside))
    return y


def distinct(rng, shape):
    """No two values closer than 1: a maximum without ties."""
    return rng.permutation(np.prod(shape)).reshape(shape) * 1.0


@pytest.mark.parametrize(("shape", "kwargs"), [
    ((2, 3, 6, 5), {"kernel_size": (3, 2)}),
    ((1, 1, 7, 8), {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 0)}),
    ((2, 17, 9, 7), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 1), "dilation": (2, 3)}),
    ((1, 4, 7, 6), {"kernel_size": (2, 4), "stride": (2, 3), "ceil_mode": True}),
    ((1, 2, 5, 4), {"kernel_size": (1, 2), "stride": (3, 4), "padding": (0, 1)}),  # inputs between windows
    ((3, 8, 9), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1), "ceil_mode": True}),  # one image
    ((1, 2, 20, 19), {"kernel_size": (17, 16), "stride": (2, 1), "padding": (8, 7)}),  # places beyond a byte
    ((2, 3, 4, 23), {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 1)}),  # few channels, long rows
    ((1, 2, 5, 37), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)}),
    ((5, 1, 6, 21), {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}),  # some images
    ((4, 3, 7, 9), {"kernel_size": (5, 4), "stride": (1, 1), "padding": (2, 1)}),
])
def test_max_pool2d_against_its_definition(rng, shape, kwargs):
    x = distinct(rng, shape)
    check(F.max_pool2d, x, oracle=max_by_definition, kwargs=kwargs)
    check(F.max_pool2d, x, oracle=max_by_definition, kwargs={**kwargs, "return_indices": True})


@pytest.mark.parametrize(("shape", "kwargs"), [
    ((2, 3, 6, 5), {"kernel_size": (3, 2)}),
    ((1, 1, 7, 8), {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 0), "count_include_pad": False}),
    ((2, 17, 9, 7), {"kernel_size": (3, 4), "stride": (1, 2), "padding": (1, 2)}),
    ((1, 4, 7, 6), {"kernel_size": (2, 4), "stride": (2, 3), "padding": (1, 1), "ceil_mode": True}),
    ((1, 4, 7, 6), {"kernel_size": (2, 4), "stride": (3, 3), "ceil_mode": True, "count_include_pad": False}),
    ((1, 2, 5, 4), {"kernel_size": (1, 2), "stride": (3, 4), "divisor_override": 3}),
    ((3, 8, 9), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1), "divisor_override": -2}),
    ((2, 3, 4, 23), {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 1)}),  # few channels, long rows
    ((2, 1, 3, 40), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (0, 1), "count_include_pad": False}),
])
def test_avg_pool2d_against_its_definition(rng, shape, kwargs):
    check(F.avg_pool2d, rng.standard_normal(shape), oracle=avg_by_definition, kwargs=kwargs)


@pytest.mark.parametrize(("shape", "size"), [
    ((2, 3, 7, 5), (3, 2)), ((1, 2, 3, 4), (5, 6)), ((2, 33, 6, 5), (1, 1)), ((2, 5, 4), (3, 1)),
    ((2, 3, 5, 7), (5, 7)), ((2, 3, 4, 9), (1, 1)),
])
def test_adaptive_avg_pool2d_against_its_definition(rng, shape, size):
    def oracle(x, output_size):
        y = np.empty((*x.shape[:-2], *output_size))
        H, W, (oH, oW) = *x.shape[-2:], output_size
        for i in range(oH):
            for j in range(oW):
                rows = slice(int(np.floor(i * H / oH)), int(np.ceil((i + 1) * H / oH)))
                cols = slice(int(np.floor(j * W / oW)), int(np.ceil((j + 1) * W / oW)))
                y[..., i, j] = x[..., rows, cols].mean((-2, -1))
        return y

    check(F.adaptive_avg_pool2d, rng.standard_normal(shape), oracle=oracle, kwargs={"output_size": size})


def adaptive_max_by_definition(x, output_size, return_indices=False):
    """Over the windows of adaptive averages: floor(i H / oH) to ceil((i + 1) H / oH)."""
    (H, W), (oH, oW), C = x.shape[-2:], output_size, x.shape[:-2]
    y, indices = np.empty((*C, oH, oW)), np.empty((*C, oH, oW), np.int64)
    for i in range(oH):
        for j in range(oW):
            pixels = [(h, w) for h in range(i * H // oH, -(-(i + 1) * H // oH))
                      for w in range(j * W // oW, -(-(j + 1) * W // oW))]
            values = np.stack([x[..., h, w] for h, w in pixels], -1)
            y[..., i, j] = values.max(-1)
            indices[..., i, j] = np.array([h * W + w for h, w in pixels])[values.argmax(-1)]
    return (y, indices) if return_indices else y


@pytest.mark.parametrize(("shape", "size"), [
    ((2, 3, 7, 5), (3, 2)), ((1, 2, 3, 4), (5, 6)), ((2, 33, 6, 5), (1, 1)), ((2, 5, 4), (3, 1)),
    ((2, 3, 5, 7), (5, 7)), ((1, 16, 20, 18), (1, 2)), ((5, 4, 6, 8), (4, 3)),
])
def test_adaptive_max_pool2d_against_its_definition(rng, shape, size):
    for more in {}, {"return_indices": True}:
        check(F.adaptive_max_pool2d, distinct(rng, shape), oracle=adaptive_max_by_definition,
              kwargs={"output_size": size, **more})


@pytest.mark.parametrize(("name", "oracle", "kwargs"), [
    ("max_pool1d", max_by_definition, {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}),
    ("max_pool1d", max_by_definition, {"kernel_size": 2, "ceil_mode": True, "return_indices": True}),
    ("avg_pool1d", avg_by_definition, {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    ("adaptive_max_pool1d", adaptive_max_by_definition, {"output_size": 4, "return_indices": True}),
])
@pytest.mark.parametrize("shape", [(2, 3, 11), (5, 9), (1, 20, 8)])
def test_lines_are_images_of_one_row(rng, name, oracle, kwargs, shape):
    beside = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_size": 1}
    wide = {key: (beside[key], value) if key in beside else value for key, value in kwargs.items()}

    def of_image(x, **_):
        y = oracle(x[..., None, :], **wide)
        return tuple(part[..., 0, :] for part in y) if isinstance(y, tuple) else y[..., 0, :]

    check(getattr(F, name), distinct(rng, shape), oracle=of_image, kwargs=kwargs)


@pytest.mark.parametrize("p", [1, 2, 3, 2.5, np.inf])
def test_power_means_against_their_definition(rng, p):
    def by_definition(x):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), (-2, -1))[..., ::2, ::1, :, :]
        return windows.max((-2, -1)) if p == np.inf else (windows**p).sum((-2, -1)) ** (1 / p)

    x = rng.uniform(0.5, 2, (2, 5, 7, 6))
    check(lambda x: F.lp_pool2d(x, p, (3, 2), (2, 1)), x, oracle=by_definition)
    y = F.lp_pool1d(fastnn.tensor(x[:, :, 0]), p, 2, 1).array
    power = np.abs(x[:, :, 0]) if p == np.inf else x[:, :, 0] ** p
    pairs = np.stack([power[..., :-1], power[..., 1:]])
    close(y, (pairs.max(0) if p == np.inf else pairs.sum(0) ** (1 / p)).astype(y.dtype))


@pytest.mark.parametrize("p", [1, 2, 3, 1.5])
def test_power_means_of_zeros_have_gradient_0(p):
    x = fastnn.zeros(1, 2, 4, 6, requires_grad=True)
    (F.lp_pool2d(x, p, 2).sum() + F.lp_pool1d(x[0], p, 3).sum()).backward()
    assert not x.grad.array.any()
    x = fastnn.tensor([[[-1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]], requires_grad=True)
    F.lp_pool2d(F.relu(x), p, (1, 2), 1).sum().backward()
    close(x.grad, np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]], np.float32))


def fractional_by_definition(x, kernel, size, samples):
    """Graham's regions, for each image and channel: increments of floor(alpha (i + u)); the last ends the axis."""
    y, indices = np.empty((*x.shape[:2], *size)), np.empty((*x.shape[:2], *size), np.int64)
    for n, c in np.ndindex(x.shape[:2]):
        starts = []
        for axis in range(2):
            space, u = x.shape[2 + axis] - kernel[axis], samples[n, c, 1 - axis]
            alpha = space / max(size[axis] - 1, 1)
            starts.append([int((i + u) * alpha) - int(u * alpha) for i in range(size[axis] - 1)] + [space])
        for oh, top in enumerate(starts[0]):
            for ow, left in enumerate(starts[1]):
                window = x[n, c, top : top + kernel[0], left : left + kernel[1]]
                y[n, c, oh, ow] = window.max()
                i, j = divmod(window.argmax(), kernel[1])
                indices[n, c, oh, ow] = (top + i) * x.shape[3] + left + j
    return y, indices


@pytest.mark.parametrize(("shape", "kernel", "size"), [
    ((2, 3, 9, 8), (2, 3), (4, 5)), ((1, 17, 7, 7), (3, 2), (1, 6)), ((5, 2, 6, 5), (1, 1), (6, 5)),
    ((1, 2, 20, 19), (16, 17), (3, 2)),
])
def test_fractional_max_pool2d_against_its_definition(rng, shape, kernel, size):
    samples = rng.integers(0, 256, (*shape[:2], 2)) / 256  # so that both dtypes have the same regions

    def pool(x):
        u = fastnn.tensor(samples[: len(x)]).to(x.dtype)
        return F.fractional_max_pool2d(x, kernel, size, return_indices=True, _random_samples=u)

    check(pool, distinct(rng, shape),
          oracle=lambda x: fractional_by_definition(x, kernel, size, samples))


def test_fractional_regions_are_random_in_training_and_fixed_or_averaged_in_evaluation():
    x = fastnn.randn(2, 3, 9, 10)
    pool = nn.FractionalMaxPool2d(2, output_ratio=(0.6, 0.5))

    def outputs(seed, n=2):
        fastnn.manual_seed(seed)
        return [pool(x).array for _ in range(n)]

    assert pool(x).shape == (2, 3, 5, 5)
    assert (outputs(1)[0] == outputs(1)[0]).all() and (outputs(1)[0] != outputs(1)[1]).any()
    drawn = outputs(2, 4)
    pool.eval()
    fixed = fractional_by_definition(x.array, (2, 2), (5, 5), np.full((2, 3, 2), 0.5))[0]
    assert all((y == fixed.astype(np.float32)).all() for y in outputs(2))
    pool.draws = 4
    close(outputs(2, 1)[0], np.mean(drawn, axis=0))
    with pytest.raises(ValueError, match="either output_size"):
        nn.FractionalMaxPool2d(2)
    for samples in fastnn.ones(1, 3, 2), fastnn.ones(2, 3, 2) * 2:
        with pytest.raises(ValueError, match="_random_samples must be"):
            F.fractional_max_pool2d(x, 2, 3, _random_samples=samples)


def test_by_hand():
    x = fastnn.tensor([[[[1.0, 5.0, 2.0], [4.0, 3.0, 6.0]]]], requires_grad=True)
    y, indices = F.max_pool2d(x, (2, 2), stride=1, return_indices=True)
    assert y.tolist() == [[[[5.0, 6.0]]]] and indices.tolist() == [[[[1, 5]]]] and indices.dtype == fastnn.int64
    y.backward(fastnn.tensor([[[[10.0, 20.0]]]]))
    assert x.grad.tolist() == [[[[0.0, 10.0, 0.0], [0.0, 0.0, 20.0]]]]
    x.grad = None
    y = F.avg_pool2d(x, (2, 2), stride=1)
    assert y.tolist() == [[[[3.25, 4.0]]]]
    y.backward(fastnn.tensor([[[[4.0, 8.0]]]]))
    assert x.grad.tolist() == [[[[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]]]]
    assert F.avg_pool2d(x, (2, 2), padding=(1, 0), stride=1).tolist()[0][0][0] == [1.5, 1.75]
    assert F.avg_pool2d(x, (2, 2), padding=(1, 0), stride=1, count_include_pad=False).tolist()[0][0][0] == [3.0, 3.5]
    assert F.adaptive_avg_pool2d(x, (None, 1)).tolist()[0][0] == [[close_to(8 / 3)], [close_to(13 / 3)]]


def close_to(value):
    return pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [1, 5, 16, 33])
def test_first_of_equals_wins_and_nan_over_all(C, dtype):
    planes = np.array([[0.0, -0.0, 7.0, 7.0], [np.nan, 1.0, 7.0, np.inf], [-np.inf] * 4, [np.nan, 3.0, np.nan, 2.0]])
    x = layout.channels_last(np.broadcast_to(planes.reshape(4, 1, 2, 2), (4, C, 2, 2)).astype(dtype))
    y, indices = F.max_pool2d(fastnn.tensor(x), 2, return_indices=True)
    np.testing.assert_array_equal(y.array[:, 0, 0, 0], [7.0, np.nan, -np.inf, np.nan])
    assert (indices.array == np.array([2, 0, 0, 2]).reshape(4, 1, 1, 1)).all()  # of several NaN the last, as in PyTorch
    x = fastnn.zeros(2, C, 4, 6, requires_grad=True)
    F.max_pool2d(x, (2, 3)).sum().backward()
    first = np.zeros((4, 6))
    first[::2, ::3] = 1
    np.testing.assert_array_equal(x.grad.array, np.broadcast_to(first, x.shape))


def test_every_channel_count(rng):
    """Vector loops and what they leave over."""
    for C in [*range(1, 20), 31, 32, 63, 65, 130]:
        x = distinct(rng, (1, C, 5, 4)).astype(np.float32)
        close(F.max_pool2d(fastnn.tensor(x), (2, 3), (1, 1)), max_by_definition(x, (2, 3), (1, 1)))
        close(F.avg_pool2d(fastnn.tensor(x), (2, 3), (1, 1)), avg_by_definition(x, (2, 3), (1, 1)))


def test_unusual_sizes():
    assert F.max_pool2d(fastnn.ones(0, 3, 6, 5), 2).shape == (0, 3, 3, 2)
    assert F.adaptive_avg_pool2d(fastnn.ones(2, 3, 4, 5), (0, 2)).shape == (2, 3, 0, 2)
    assert F.max_pool2d(fastnn.ones(1, 2, 1, 1), 2, ceil_mode=True).tolist() == [[[[1.0]], [[1.0]]]]
    x = fastnn.ones(0, 3, 6, 5, requires_grad=True)
    F.avg_pool2d(x, 2).sum().backward()
    assert x.grad.shape == (0, 3, 6, 5)


def test_fractional_ties_and_nan():
    x = np.zeros((1, 3, 4, 4))
    x[:, 1, 0, 0], x[:, 1, 1, 0], x[:, 2] = np.nan, np.nan, -np.inf
    samples = fastnn.zeros(1, 3, 2, dtype=fastnn.float64)
    y, indices = F.fractional_max_pool2d(fastnn.tensor(x), 2, (1, 2), return_indices=True, _random_samples=samples)
    np.testing.assert_array_equal(y.array[0, :, 0], [[0, 0], [0, 0], [-np.inf, -np.inf]])
    assert indices.tolist()[0] == [[[8, 10]]] * 3  # the one row of windows is the last; the first of equals wins
    x[:, 1, 2, 0] = x[:, 1, 3, 0] = np.nan
    y, indices = F.fractional_max_pool2d(fastnn.tensor(x), 2, (1, 2), return_indices=True, _random_samples=samples)
    assert np.isnan(y.array[0, 1, 0, 0]) and indices.array[0, 1, 0, 0] == 12  # the last NaN


def test_indices_of_rows_with_a_large_dilation():
    x = fastnn.arange(20.0).view(1, 1, 2, 10)
    _, indices = F.max_pool2d(x, (1, 3), 1, (0, 1), (2**27, 2), return_indices=True)
    assert indices.tolist()[0][0][0] == [3, 4, 5, 6, 7, 8, 9, 8]


def test_integer_input_padding_and_divisor_are_refused():
    x = fastnn.ones(1, 1, 4, 4)
    with pytest.raises(TypeError, match=r"max_pool2d: input must be float32 or float64, but is int64"):
        F.max_pool2d(x.long(), 2)
    with pytest.raises(RuntimeError, match=r"padding=\(2, 0\) must be at most half of kernel_size=\(3, 2\)"):
        F.avg_pool2d(x, (3, 2), padding=(2, 0))
    with pytest.raises(ValueError, match="divisor_override must be an int other than 0"):
        F.avg_pool2d(x, 2, divisor_override=0)
    with pytest.raises(ValueError, match="does not fit into an input of size 4"):
        F.max_pool2d(x, (2, 7))
    with pytest.raises(ValueError, match=r"^lp_pool1d: a window of 7 does not fit"):
        F.lp_pool1d(x[0], 2, 7)
    with pytest.raises(TypeError, match=r"^lp_pool2d: input must be float32"):
        F.lp_pool2d(x.long(), 2, 2)


def test_kernels_refuse_what_does_not_fit():
    x, y = (layout.empty(shape, np.float32, True) for shape in ((1, 2, 4, 4), (1, 2, 2, 2)))
    place, pairs = layout.empty(y.shape, np.uint8, True), ((2, 2), (2, 2), (0, 0), (1, 1))
    kernels = backend.load("compiled", backend.isa)["pooling"] if backend.kernel_set == "compiled" else None
    if kernels is None:
        pytest.skip("the twins trust their caller")
    for args in [
        (x, y.astype(np.float64), place, *pairs), (np.ascontiguousarray(x), y, place, *pairs),
        (x[:0], y, place, *pairs),
        (x, y, place.astype(np.int32), *pairs), (x, y, place[:, :1], *pairs), (x, y, place, (0, 2), *pairs[1:]),
        (x, y, place, (2,), *pairs[1:]), (x, y, place, *pairs[:2], (-1, 0), pairs[3]), (x[0], y[0], place[0], *pairs),
        (x, y, place, (16, 17), *pairs[1:]),
    ]:
        with pytest.raises(ValueError, match=r"kernel|unpack"):
            kernels.max_pool2d(*args, 1)


def test_modules():
    x = fastnn.randn(2, 3, 7, 9)
    pool = nn.MaxPool2d((3, 2), stride=(2, 1), padding=1, dilation=(1, 2), return_indices=True, ceil_mode=True)
    y, indices = pool(x)
    expected = F.max_pool2d(x, (3, 2), (2, 1), 1, (1, 2), True, True)
    assert (y.array == expected[0].array).all() and (indices.array == expected[1].array).all()
    assert repr(pool) == "MaxPool2d(kernel_size=(3, 2), stride=(2, 1), padding=1, dilation=(1, 2), ceil_mode=True)"
    pool = nn.AvgPool2d(3, padding=1, ceil_mode=True, count_include_pad=False, divisor_override=5)
    assert (pool(x).array == F.avg_pool2d(x, 3, None, 1, True, False, 5).array).all()
    assert repr(pool) == "AvgPool2d(kernel_size=3, stride=3, padding=1)"
    assert repr(nn.LPPool1d(2, 3)) == "LPPool1d(norm_type=2, kernel_size=3, ceil_mode=False)"
    assert repr(nn.AdaptiveMaxPool1d(3)) == "AdaptiveMaxPool1d(output_size=3)"
    with pytest.raises(ValueError, match=r"max_pool1d: input must be \(N, C, L\) or \(C, L\)"):
        nn.MaxPool1d(2)(x)
    with pytest.raises(ValueError, match="avg_pool1d: a window of 9 does not fit"):
        nn.AvgPool1d(9)(x[0, :, :, 0])
    pool = nn.AdaptiveAvgPool2d((None, 2))
    assert pool(x).shape == (2, 3, 7, 2) and repr(pool) == "AdaptiveAvgPool2d(output_size=(None, 2))"


@pytest.mark.parametrize("kernel", [(1, 5), (1, 6), (2, 7), (1, 11), (3, 7), (5, 5), (2, 5), (1, 9)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_long_windows(rng, kernel, stride):
    """Of all lengths, since some shapes of windows have loops of their own."""
    x = rng.permutation(2 * 3 * 8 * 13).reshape(2, 3, 8, 13) / 50.0

    def direct(x, reduce):
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))[:, :, ::stride, ::stride]
        return reduce(windows, axis=(4, 5))

    check(lambda x: F.avg_pool2d(x, kernel, stride), x, oracle=lambda x: direct(x, np.mean))
    check(lambda x: F.max_pool2d(x, kernel, stride), x, oracle=lambda x: direct(x, np.max))


@pytest.mark.parametrize("C", [1, 3, 6, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_of_thousands_of_few_channels(rng, C, dtype):
    x = rng.standard_normal((2, C, 37, 41)).astype(dtype)
    expected = x.mean((2, 3), np.float64, keepdims=True).astype(dtype)
    close(F.adaptive_avg_pool2d(fastnn.tensor(x), 1), expected)
    lines = np.concatenate([x.reshape(2, C, -1)] * 2, -1)
    expected = np.stack([lines[..., a : a + 1100].mean(-1, np.float64) for a in (0, 900, 1800)], -1).astype(dtype)
    close(F.avg_pool1d(fastnn.tensor(lines), 1100, 900), expected)
    close(F.avg_pool2d(fastnn.tensor(np.stack([lines, 3 * lines], 2)), (2, 1100), 900)[:, :, 0], 2 * expected)


@pytest.mark.parametrize("width", [2, 5, 40, 67])
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_means_of_two_of_one_channel(rng, width, count_include_pad):
    """Which begin as planes of even and of odd pixels; in ceil mode the last may have one of each row."""
    kwargs = {"kernel_size": (3, 2), "stride": 2, "padding": (1, 0), "ceil_mode": True}
    check(F.avg_pool2d, rng.standard_normal((3, 1, 7, width)), oracle=lambda x, **_: avg_by_definition(
        x, (3, 2), (2, 2), (1, 0), True, count_include_pad), kwargs={**kwargs, "count_include_pad": count_include_pad})


def test_adaptive_windows_of_one_row(rng):
    x = rng.standard_normal((2, 16, 4, 8))

    def direct(x):
        columns = [x[..., i * 8 // 40 : -(-(i + 1) * 8 // 40)].mean((2, 3)) for i in range(40)]
        return np.stack(columns, -1)[:, :, None]

    check(lambda x: F.adaptive_avg_pool2d(x, (1, 40)), x, oracle=direct)


@pytest.mark.parametrize("C", [1, 3, 7, 16, 20, 70])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [
    ((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 3), (1, 1), (1, 1)), ((3, 2), (2, 3), (1, 0)),
    ((5, 4), (2, 1), (2, 2)), ((2, 2), (3, 5), (0, 0)),
])
def test_kernels_agree_with_their_twins_on_all_kinds_of_numbers(rng, C, kernel, stride, padding):
    """Ties, zeros of both signs, infinities and NaN, in some rows and not in others; every phase of a stride."""
    twins, kernels = backend.load("reference", backend.isa)["pooling"], backend.pooling
    x = layout.channels_last(rng.integers(-3, 4, (4, C, 9, 11)).astype(np.float32))
    x *= rng.choice([-1, 1], x.shape).astype(np.float32)
    x[1][rng.random(x.shape[1:]) < 0.1] = -np.inf
    x[2][rng.random(x.shape[1:]) < 0.1] = np.inf
    x[2, :, 4:][rng.random(x[2, :, 4:].shape) < 0.05] = -np.inf
    x[3, :, 6][rng.random(x[3, :, 6].shape) < 0.2] = np.nan
    shape = (4, C, *out_size(x, kernel, stride, padding))
    window = kernel, stride, padding, (1, 1)
    got, expected = ([layout.empty(shape, np.float32, True), layout.empty(shape, np.uint8, True)] for _ in range(2))
    kernels.max_pool2d(x, *got, *window, 1)
    twins.max_pool2d(x, *expected, *window, 1)
    np.testing.assert_array_equal(got[1], expected[1])
    np.testing.assert_array_equal(got[0], expected[0])
    numbers = ~np.isnan(expected[0])
    np.testing.assert_array_equal(np.signbit(got[0])[numbers], np.signbit(expected[0])[numbers])
    dy = layout.channels_last(rng.integers(-9, 9, shape).astype(np.float32))
    dx, dx_expected = layout.empty(x.shape, np.float32, True), layout.empty(x.shape, np.float32, True)
    kernels.max_pool2d_backward(dy, got[1], dx, *window, 1)
    twins.max_pool2d_backward(dy, got[1], dx_expected, *window, 1)
    np.testing.assert_array_equal(dx, dx_expected)


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (3, 2), (4, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_windows_two_steps_apart(rng, kernel, dtype):
    """Gathered in blocks of two by two, with rows and columns left over at every side; the same bits on two threads."""
    twins, kernels = backend.load("reference", backend.isa)["pooling"], backend.pooling
    paddings = itertools.product((0, 1), (0, 1))
    for C, H, W, padding, more in itertools.product((16, 40), (4, 5, 8), (2, 7, 8), paddings, (0, 1)):
        axes = list(zip((H, W), padding, kernel, strict=True))
        size = [(n + 2 * p - k) // 2 + 1 + more for n, p, k in axes]
        if min(size) <= 0 or any(2 * (o - 1) >= n + p for o, (n, p, _) in zip(size, axes, strict=True)):
            continue  # no such output; with `more`, those of ceil_mode
        dy = layout.channels_last(rng.integers(-9, 9, (2, C, *size)).astype(dtype))
        place = layout.channels_last(rng.integers(0, kernel[0] * kernel[1], dy.shape, np.uint8))
        window, dx = (kernel, (2, 2), padding), [layout.empty((2, C, H, W), np.dtype(dtype), True) for _ in range(3)]
        for module, into, threads in (twins, dx[0], 1), (kernels, dx[1], 1), (kernels, dx[2], 2):
            module.max_pool2d_backward(dy, place, into, *window, (1, 1), threads)
        np.testing.assert_array_equal(dx[1], dx[0])
        np.testing.assert_array_equal(dx[2], dx[1])
        for include in True, False:
            for module, into, threads in (twins, dx[0], 1), (kernels, dx[1], 1), (kernels, dx[2], 2):
                module.avg_pool2d_backward(dy, into, *window, include, 0, threads)
            np.testing.assert_allclose(dx[1], dx[0], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(dx[2], dx[1])


def test_gradient_of_no_outputs(rng):
    x = fastnn.ones(2, 17, 4, 5, requires_grad=True)
    F.adaptive_avg_pool2d(x, (2, 0)).sum().backward()
    np.testing.assert_array_equal(x.grad.array, np.zeros(x.shape))
