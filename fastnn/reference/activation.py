"""Twins of the activation kernels, made from a table of formulae."""
import math

import numpy as np

_quiet = np.errstate(all="ignore")  # infinities and NaN pass silently
_erfc = np.vectorize(math.erfc, otypes="d")


def _sigmoid(x):
    z = np.exp(-np.abs(x))  # never overflows
    return np.where(x < 0, z, 1) / (1 + z)


def _normal(x):
    return (0.5 * _erfc(-x / math.sqrt(2))).astype(x.dtype)


def _tanh_softplus(x):
    return np.tanh(np.logaddexp(x, 0))


def _swish_slope(x, s, t):
    return s + x * (s * (1 - s)) * t


_sixth = 1 / 6
_FORMULAE = {  # y of x; dx of dy and of y or, where this does not suffice, x; a, b and c are parameters
    "relu": (lambda x, a, b, c: np.where(x <= 0, 0, x),
             lambda dy, y, a, b, c: np.where(y <= 0, 0, dy)),
    "threshold": (lambda x, a, b, c: np.where(x <= a, b, x),
                  lambda dy, y, a, b, c: np.where(y <= a, 0, dy)),
    "leaky_relu": (lambda x, a, b, c: x * np.where(x > 0, 1, a),
                   lambda dy, y, a, b, c: dy * np.where(y > 0, 1, a)),
    "elu": (lambda x, a, b, c: np.where(x < 0, a * np.expm1(np.minimum(b * x, 0)), c * x),
            lambda dy, y, a, b, c: dy * np.where(y <= 0, b * (y + a), c)),
    "sigmoid": (lambda x, a, b, c: _sigmoid(x), lambda dy, y, a, b, c: dy * (y * (1 - y))),
    "tanh": (lambda x, a, b, c: np.tanh(x), lambda dy, y, a, b, c: dy * (1 - y * y)),
    "tanhshrink": (lambda x, a, b, c: x - np.tanh(x), lambda dy, x, a, b, c: dy * np.tanh(x) * np.tanh(x)),
    "softsign": (lambda x, a, b, c: x / (1 + np.abs(x)), lambda dy, y, a, b, c: dy * (1 - np.abs(y))**2),
    "softplus": (lambda x, a, b, c: np.where(a * x > b, x, np.logaddexp(a * x, 0) / a),
                 lambda dy, x, a, b, c: dy * np.where(a * x > b, 1, _sigmoid(a * x))),
    "gelu": (lambda x, a, b, c: x * _normal(x),
             lambda dy, x, a, b, c: dy * (_normal(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))),
    "gelu_tanh": (lambda x, a, b, c: x * _sigmoid(x * (a + b * x * x)),
                  lambda dy, x, a, b, c: dy * _swish_slope(x, _sigmoid(x * (a + b * x * x)), a + 3 * b * x * x)),
    "silu": (lambda x, a, b, c: x * _sigmoid(x), lambda dy, x, a, b, c: dy * _swish_slope(x, _sigmoid(x), 1)),
    "mish": (lambda x, a, b, c: x * _tanh_softplus(x),
             lambda dy, x, a, b, c: dy * (_tanh_softplus(x) + x * (1 - _tanh_softplus(x)**2) * _sigmoid(x))),
    "hardtanh": (lambda x, a, b, c: np.clip(x, a, b), lambda dy, y, a, b, c: np.where((y > a) & (y < b), dy, 0)),
    "hardsigmoid": (lambda x, a, b, c: np.clip(x / 6 + 0.5, 0, 1),
                    lambda dy, y, a, b, c: np.where((y > 0) & (y < 1), dy / 6, 0)),
    "hardswish": (lambda x, a, b, c: x * np.clip(x / 6 + 0.5, 0, 1),
                  lambda dy, x, a, b, c: np.where(x <= -3, 0, dy * np.where(x >= 3, 1, x / 3 + 0.5))),
    "hardshrink": (lambda x, a, b, c: np.where((x >= -a) & (x <= a), 0, x),
                   lambda dy, y, a, b, c: np.where((y < -a) | (y > a), dy, 0)),
    "softshrink": (lambda x, a, b, c: np.where(x > a, x - a, np.where(x < -a, x + a, x * 0)),
                   lambda dy, y, a, b, c: np.where((y < 0) | (y > 0), dy, 0)),
}


def _twins(name, y, dx):
    def padded(params, x):
        return [x.dtype.type(p) for p in (*params, 0, 0, 0)[:3]]

    @_quiet
    def forward(x, params, y_out, n_threads):
        np.copyto(y_out, y(x, *padded(params, x)))

    @_quiet
    def backward(dy, kept, params, dx_out, n_threads):
        np.copyto(dx_out, dx(dy, kept, *padded(params, kept)))

    forward.__name__, backward.__name__ = name, f"{name}_backward"
    return forward, backward


for _name, _pair in _FORMULAE.items():
    globals()[_name], globals()[f"{_name}_backward"] = _twins(_name, *_pair)


def _slopes(x, weight):
    return weight.reshape(-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else weight[0]


@_quiet
def prelu(x, weight, y_out, n_threads):
    np.copyto(y_out, x * np.where(x > 0, x.dtype.type(1), _slopes(x, weight)))


@_quiet
def prelu_backward(dy, x, weight, dx_out, dweight_out, n_threads):
    np.copyto(dx_out, dy * np.where(x > 0, dy.dtype.type(1), _slopes(x, weight)))
    terms = np.where(x > 0, 0, x.astype(np.float64) * dy)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    dweight_out[...] = terms.sum() if weight.size == 1 else terms.sum(axes)
