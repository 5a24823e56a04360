"""Twins of the activation kernels: a table of formulae; PReLU; GLU."""
import math

import numpy as np

_quiet = np.errstate(all="ignore")  # infinities and NaN pass silently
_erfc = np.vectorize(math.erfc, otypes="d")


def _sigmoid(x):
    z = np.exp(-np.abs(x))  # never overflows
    return np.where(x < 0, z, 1) / (1 + z)


_NAMES = vars(np) | {
    "sigmoid": _sigmoid, "mish": lambda x: np.tanh(np.logaddexp(x, 0)),
    "normal": lambda x: (0.5 * _erfc(-x / math.sqrt(2))).astype(x.dtype),
    "slope": lambda x, s, t: s + x * (s * (1 - s)) * t,  # of x·s, s being the logistic function of what has the slope t
}
_FORMULAE = {  # y of x; dx of dy and of y or, where this does not suffice, x; a, b and c are parameters
    "relu": ("where(x <= 0, 0, x)", "where(y <= 0, 0, dy)"),
    "threshold": ("where(x <= a, b, x)", "where(y <= a, 0, dy)"),
    "leaky_relu": ("x * where(x > 0, 1, a)", "dy * where(y > 0, 1, a)"),
    "elu": ("where(x < 0, a * expm1(minimum(b * x, 0)), c * x)", "dy * where(y <= 0, b * (y + a), c)"),
    "sigmoid": ("sigmoid(x)", "dy * (y * (1 - y))"),
    "tanh": ("tanh(x)", "dy * (1 - y * y)"),
    "tanhshrink": ("x - tanh(x)", "dy * tanh(x) * tanh(x)"),
    "softsign": ("x / (1 + abs(x))", "dy * (1 - abs(y))**2"),
    "softplus": ("where(a * x > b, x, logaddexp(a * x, 0) / a)", "dy * where(a * x > b, 1, sigmoid(a * x))"),
    "gelu": ("x * normal(x)", "dy * (normal(x) + x * exp(-x * x / 2) / sqrt(2 * pi))"),
    "gelu_tanh": ("x * sigmoid(x * (a + b * x * x))",
                  "dy * slope(x, sigmoid(x * (a + b * x * x)), a + 3 * b * x * x)"),
    "silu": ("x * sigmoid(x)", "dy * slope(x, sigmoid(x), 1)"),
    "mish": ("x * mish(x)", "dy * (mish(x) + x * (1 - mish(x)**2) * sigmoid(x))"),
    "hardtanh": ("clip(x, a, b)", "where((y > a) & (y < b), dy, 0)"),
    "hardsigmoid": ("clip(x / 6 + 0.5, 0, 1)", "where((y > 0) & (y < 1), dy / 6, 0)"),
    "hardswish": ("x * clip(x / 6 + 0.5, 0, 1)", "where(x <= -3, 0, dy * where(x >= 3, 1, x / 3 + 0.5))"),
    "hardshrink": ("where((x >= -a) & (x <= a), 0, x)", "where((y < -a) | (y > a), dy, 0)"),
    "softshrink": ("where(x > a, x - a, where(x < -a, x + a, x * 0))", "where((y < 0) | (y > 0), dy, 0)"),
}


def _twins(name, y, dx):
    y, dx = eval(f"lambda x, a, b, c: {y}", _NAMES), eval(f"lambda dy, x, y, a, b, c: {dx}", _NAMES)

    @_quiet
    def forward(x, params, y_out, n_threads):
        np.copyto(y_out, y(x, *np.array((*params, 0, 0, 0)[:3], x.dtype)))

    @_quiet
    def backward(dy, kept, params, dx_out, n_threads):
        np.copyto(dx_out, dx(dy, kept, kept, *np.array((*params, 0, 0, 0)[:3], dy.dtype)))

    globals().update({name: forward, f"{name}_backward": backward})


for _name, _formulae in _FORMULAE.items():
    _twins(_name, *_formulae)


def _prelu(dy, x, weight):
    return dy.ravel("K") * np.where(x.ravel("K") > 0, x.dtype.type(1), np.resize(weight, x.size))


@_quiet
def prelu(x, weight, y_out, n_threads):
    y_out.ravel("K")[...] = _prelu(x, x, weight)


@_quiet
def prelu_backward(dy, x, weight, dx_out, sums_out, n_threads):
    dx_out.ravel("K")[...] = _prelu(dy, x, weight)
    U, rows = sums_out.size // weight.size, -(-x.size // weight.size)
    terms = np.zeros((U, -(-rows // U), weight.size))
    terms.ravel()[:x.size] = np.where(x > 0, 0, x * dy).ravel("K")
    sums_out[...] = terms.sum(1).ravel()


@_quiet
def glu(x, y_out, n_threads):
    a, b = np.split(x, 2, axis=1)
    y_out[...] = a * _sigmoid(b)


@_quiet
def glu_backward(dy, x, dx_out, n_threads):
    a, b = np.split(x, 2, axis=1)
    s = _sigmoid(b)
    dx_out[...] = np.hstack([dy * s, dy * a * (s * (1 - s))])
