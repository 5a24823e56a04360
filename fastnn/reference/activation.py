"""Twins of the activation kernels: a table of formulae; PReLU."""
import math

import numpy as np
from numpy import clip, exp, expm1, logaddexp, minimum, where

_quiet = np.errstate(all="ignore")  # infinities and NaN pass silently
_erfc = np.vectorize(math.erfc, otypes="d")


def _sigmoid(x):
    z = exp(-np.abs(x))  # never overflows
    return where(x < 0, z, 1) / (1 + z)


def _normal(x):
    return (0.5 * _erfc(-x / math.sqrt(2))).astype(x.dtype)


def _mish(x):
    return np.tanh(logaddexp(x, 0))


def _slope(x, s, t=1):  # of x·s, s being the logistic function of something whose slope is t
    return s + x * (s * (1 - s)) * t


_FORMULAE = {  # y of x; dx of dy and of y or, where this does not suffice, x; a, b and c are parameters
    "relu": (lambda x, a, b, c: where(x <= 0, 0, x), lambda dy, y, a, b, c: where(y <= 0, 0, dy)),
    "threshold": (lambda x, a, b, c: where(x <= a, b, x), lambda dy, y, a, b, c: where(y <= a, 0, dy)),
    "leaky_relu": (lambda x, a, b, c: x * where(x > 0, 1, a), lambda dy, y, a, b, c: dy * where(y > 0, 1, a)),
    "elu": (lambda x, a, b, c: where(x < 0, a * expm1(minimum(b * x, 0)), c * x),
            lambda dy, y, a, b, c: dy * where(y <= 0, b * (y + a), c)),
    "sigmoid": (lambda x, a, b, c: _sigmoid(x), lambda dy, y, a, b, c: dy * (y * (1 - y))),
    "tanh": (lambda x, a, b, c: np.tanh(x), lambda dy, y, a, b, c: dy * (1 - y * y)),
    "tanhshrink": (lambda x, a, b, c: x - np.tanh(x), lambda dy, x, a, b, c: dy * np.tanh(x) * np.tanh(x)),
    "softsign": (lambda x, a, b, c: x / (1 + np.abs(x)), lambda dy, y, a, b, c: dy * (1 - np.abs(y))**2),
    "softplus": (lambda x, a, b, c: where(a * x > b, x, logaddexp(a * x, 0) / a),
                 lambda dy, x, a, b, c: dy * where(a * x > b, 1, _sigmoid(a * x))),
    "gelu": (lambda x, a, b, c: x * _normal(x),
             lambda dy, x, a, b, c: dy * (_normal(x) + x * exp(-x * x / 2) / math.sqrt(2 * math.pi))),
    "gelu_tanh": (lambda x, a, b, c: x * _sigmoid(x * (a + b * x * x)),
                  lambda dy, x, a, b, c: dy * _slope(x, _sigmoid(x * (a + b * x * x)), a + 3 * b * x * x)),
    "silu": (lambda x, a, b, c: x * _sigmoid(x), lambda dy, x, a, b, c: dy * _slope(x, _sigmoid(x))),
    "mish": (lambda x, a, b, c: x * _mish(x),
             lambda dy, x, a, b, c: dy * (_mish(x) + x * (1 - _mish(x)**2) * _sigmoid(x))),
    "hardtanh": (lambda x, a, b, c: clip(x, a, b), lambda dy, y, a, b, c: where((y > a) & (y < b), dy, 0)),
    "hardsigmoid": (lambda x, a, b, c: clip(x / 6 + 0.5, 0, 1),
                    lambda dy, y, a, b, c: where((y > 0) & (y < 1), dy / 6, 0)),
    "hardswish": (lambda x, a, b, c: x * clip(x / 6 + 0.5, 0, 1),
                  lambda dy, x, a, b, c: where(x <= -3, 0, dy * where(x >= 3, 1, x / 3 + 0.5))),
    "hardshrink": (lambda x, a, b, c: where((x >= -a) & (x <= a), 0, x),
                   lambda dy, y, a, b, c: where((y < -a) | (y > a), dy, 0)),
    "softshrink": (lambda x, a, b, c: where(x > a, x - a, where(x < -a, x + a, x * 0)),
                   lambda dy, y, a, b, c: where((y < 0) | (y > 0), dy, 0)),
}


def _twins(name, y, dx):
    @_quiet
    def forward(x, params, y_out, n_threads):
        np.copyto(y_out, y(x, *np.array((*params, 0, 0, 0)[:3], x.dtype)))

    @_quiet
    def backward(dy, kept, params, dx_out, n_threads):
        np.copyto(dx_out, dx(dy, kept, *np.array((*params, 0, 0, 0)[:3], dy.dtype)))

    globals().update({name: forward, f"{name}_backward": backward})


for _name, _formulae in _FORMULAE.items():
    _twins(_name, *_formulae)


def _prelu(dy, x, weight):
    return dy.ravel("K") * where(x.ravel("K") > 0, x.dtype.type(1), np.resize(weight, x.size))


@_quiet
def prelu(x, weight, y_out, n_threads):
    y_out.ravel("K")[...] = _prelu(x, x, weight)


@_quiet
def prelu_backward(dy, x, weight, dx_out, sums_out, n_threads):
    dx_out.ravel("K")[...] = _prelu(dy, x, weight)
    U, rows = sums_out.size // weight.size, -(-x.size // weight.size)
    terms = np.zeros((U, -(-rows // U), weight.size))
    terms.ravel()[:x.size] = where(x > 0, 0, x * dy).ravel("K")
    sums_out[...] = terms.sum(1).ravel()
