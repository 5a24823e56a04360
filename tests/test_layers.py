"""Linear, Identity, Flatten, Unflatten, Conv2d as modules; what they compute is tested with the functions."""

import numpy as np
import pytest
from harness import close

import fastnn
import fastnn.nn.functional as F
from fastnn import layout, nn


def test_linear_by_hand():
    m = nn.Linear(3, 2)
    m.load_state_dict({"weight": np.array([[1.0, 2, 3], [4, 5, 6]]), "bias": np.array([0.5, -0.5])})
    x = fastnn.tensor([[1.0, 0, -1], [2, 2, 2]])
    y = m(x)
    close(y, [[-1.5, -2.5], [12.5, 29.5]])
    y.sum().backward()
    close(m.weight.grad, [[3.0, 2, 1], [3, 2, 1]])
    close(m.bias.grad, [2.0, 2.0])


def test_linear_shapes_and_dtypes():
    m = nn.Linear(3, 2, bias=False, device="cpu", dtype=fastnn.float64)
    assert m.bias is None and "bias" in m._parameters and m.weight.dtype == fastnn.float64
    assert m(fastnn.ones(4, 5, 3, dtype=fastnn.float64)).shape == (4, 5, 2)
    assert m(fastnn.ones(3, dtype=fastnn.float64)).shape == (2,)
    assert nn.Linear(3, 2).weight.shape == (2, 3) and nn.Linear(3, 2).weight.dtype == fastnn.float32
    assert repr(m) == "Linear(in_features=3, out_features=2, bias=False)"
    with pytest.raises(ValueError, match="'cuda' is not available"):
        nn.Linear(3, 2, device="cuda")


def test_linear_without_inputs_has_zero_bias():
    assert nn.Linear(0, 2).bias.tolist() == [0.0, 0.0]


def test_linear_refuses():
    with pytest.raises(ValueError, match=r"Linear: .*negative"):
        nn.Linear(-1, 2)
    with pytest.raises(TypeError, match=r"Linear: .*integers"):
        nn.Linear(2, 2.5)


def test_identity_takes_and_ignores_anything():
    x = fastnn.ones(2)
    assert nn.Identity(3, key="value")(x) is x


def test_flatten_and_unflatten(rng):
    x = fastnn.tensor(rng.standard_normal((2, 3, 4, 5)), requires_grad=True)
    y = nn.Flatten()(x)
    close(y, x.array.reshape(2, 60))
    close(nn.Flatten(0, 2)(x), x.array.reshape(24, 5))
    close(nn.Unflatten(1, (3, -1, 5))(y), x.array)
    close(nn.Unflatten(-1, [12, 5])(y), x.array.reshape(2, 12, 5))
    y.sum().backward()
    close(x.grad, np.ones((2, 3, 4, 5)))
    assert repr(nn.Flatten()) == "Flatten(start_dim=1, end_dim=-1)"
    assert repr(nn.Unflatten(1, (3, 4))) == "Unflatten(dim=1, unflattened_size=(3, 4))"
    with pytest.raises(IndexError):
        nn.Unflatten(2, (3, 4))(y)
    with pytest.raises(RuntimeError):
        nn.Unflatten(1, (7, 3))(y)


def test_flatten_of_channels_last_memory_gives_the_order_of_nchw(rng):
    a = rng.standard_normal((2, 3, 4, 5))
    x = fastnn.Tensor(layout.channels_last(a))
    close(nn.Flatten()(x), a.reshape(2, 60))


def test_conv2d_by_hand():
    m = nn.Conv2d(1, 1, (1, 2), stride=(2, 1), padding=(0, 1))
    m.load_state_dict({"weight": np.array([[[[1.0, 10.0]]]]), "bias": np.array([0.5])})
    x = fastnn.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    close(m(x), [[[[10.5, 21.5, 32.5, 3.5], [70.5, 87.5, 98.5, 9.5]]]])


@pytest.mark.parametrize(
    "kwargs",
    [
        {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)},
        {"padding": "same", "groups": 2},
        {"padding": "valid", "bias": False},
    ],
)
def test_conv2d_calls_the_function_with_its_settings(rng, kwargs):
    m = nn.Conv2d(4, 6, (3, 2), **kwargs)
    x = fastnn.tensor(rng.standard_normal((2, 4, 9, 8)), dtype=fastnn.float32)
    named = {name: getattr(m, name) for name in ("stride", "padding", "dilation", "groups")}
    np.testing.assert_array_equal(m(x).array, F.conv2d(x, m.weight, m.bias, **named).array)


def test_conv2d_weight_is_stored_for_the_kernels():
    m = nn.Conv2d(4, 6, (3, 2), groups=2)
    assert m.weight.shape == (6, 2, 3, 2) and m.weight.array.transpose(2, 3, 1, 0).flags.c_contiguous
    m(fastnn.ones(1, 4, 5, 5)).sum().backward()
    assert m.weight.grad.array.strides == m.weight.array.strides


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({}, "3, 8, kernel_size=(3, 5), stride=(1, 1)"),
        ({"stride": 2, "padding": (1, 0)}, "3, 8, kernel_size=(3, 5), stride=(2, 2), padding=(1, 0)"),
        ({"padding": "same", "dilation": (1, 2)},
         "3, 8, kernel_size=(3, 5), stride=(1, 1), padding=same, dilation=(1, 2)"),
        ({"bias": False}, "3, 8, kernel_size=(3, 5), stride=(1, 1), bias=False"),
    ],
)  # fmt: skip
def test_conv2d_repr(kwargs, text):
    assert repr(nn.Conv2d(3, 8, (3, 5), **kwargs)) == f"Conv2d({text})"


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((3, 8, 3), {"groups": 2}, "in_channels=3 and out_channels=8 must be divisible by groups=2"),
        ((4, 6, 3), {"groups": 4}, "divisible by groups=4"),
        ((3, 8, 3), {"groups": 0}, "all be positive"),
        ((0, 8, 3), {}, "in_channels=0"),
        ((3, 8, 3), {"padding_mode": "mirror"}, "padding_mode must be one of zeros, reflect, .*, but 'mirror' came"),
        ((3, 8, 3), {"padding": "full"}, "'same' or 'valid', but 'full' came"),
        ((3, 8, 3), {"padding": "same", "stride": (1, 2)}, "padding='same' needs stride 1"),
        ((3, 8, 0), {}, "kernel_size must be at least 1"),
        ((3, 8, 3), {"stride": (1, 0)}, "stride must be at least 1"),
        ((3, 8, 3), {"padding": -1}, "padding must be at least 0"),
        ((3, 8, 3), {"device": "cuda"}, "'cuda' is not available"),
    ],
)
def test_conv2d_refuses(args, kwargs, text):
    with pytest.raises(ValueError, match=text):
        nn.Conv2d(*args, **kwargs)


@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.Conv2d(3, 2, 3)])
def test_mixed_dtypes_are_refused(layer):
    x = fastnn.ones(2, 3, 5, 3, dtype=fastnn.float64)
    with pytest.raises(TypeError, match=r"float64.*float32|float32.*float64"):
        layer(x)
