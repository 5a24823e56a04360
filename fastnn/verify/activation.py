"""Cases of the activation kernels."""
import numpy as np

from fastnn.verify.arrays import normal, out, special

SHAPES = [(), (0, 3), (1,), (7,), (16,), (33,), (5, 3), (2, 1, 5, 7), (3, 5, 4, 3), (2, 130, 3, 3), (40_001,)]


def relu(rng, dtype):
    for shape in SHAPES:
        yield (special(rng, shape, dtype), out(shape, dtype)), 1


def relu_backward(rng, dtype):
    for shape in SHAPES:
        yield (special(rng, shape, dtype), special(rng, shape, dtype), out(shape, dtype)), 1


def leaky_relu(rng, dtype):
    for i, shape in enumerate(SHAPES):
        yield (special(rng, shape, dtype), (0.01, 0.0, -0.5)[i % 3], out(shape, dtype)), 1


def leaky_relu_backward(rng, dtype):
    for i, shape in enumerate(SHAPES):
        yield (special(rng, shape, dtype), special(rng, shape, dtype), (0.01, 0.0, -0.5)[i % 3], out(shape, dtype)), 1


def sigmoid(rng, dtype):
    yield from relu(rng, dtype)
    yield from _wide(dtype)


def sigmoid_backward(rng, dtype):
    for shape in SHAPES:
        yield (special(rng, shape, dtype), _within(rng, shape, dtype, 0, 1), out(shape, dtype)), 1


def tanh(rng, dtype):
    yield from relu(rng, dtype)
    yield from _wide(dtype)


def tanh_backward(rng, dtype):
    for shape in SHAPES:
        yield (special(rng, shape, dtype), _within(rng, shape, dtype, -1, 1), out(shape, dtype)), 1


def elu(rng, dtype):
    for i, shape in enumerate(SHAPES):
        yield (special(rng, shape, dtype), (1.0, 0.3, 0.0)[i % 3], out(shape, dtype)), 1
    for (x, y_out), terms in _wide(dtype):
        yield (x, 1.7, y_out), terms


def elu_backward(rng, dtype):
    for i, shape in enumerate(SHAPES):
        alpha = (1.0, 0.25, 0.0)[i % 3]  # exact in both dtypes, so that y + alpha vanishes in both
        y = np.maximum(normal(rng, shape, dtype), -alpha, out=out(shape, dtype))
        yield (special(rng, shape, dtype), y, alpha, out(shape, dtype)), 1


def _within(rng, shape, dtype, low, high):
    """Values of an output that lies between `low` and `high`, both included."""
    return np.clip(special(rng, shape, dtype), low, high, out=out(shape, dtype))


def _wide(dtype):
    """Every magnitude at which the exponential does something else: tiny, steps of its reduction, overflow."""
    limit = 2 * np.log(np.finfo(dtype).max)
    x = np.concatenate([np.geomspace(np.finfo(dtype).tiny / 8, 1, 2000), np.linspace(1, limit, 5000)]).astype(dtype)
    yield (np.concatenate([x, -x]), out((2 * x.size,), dtype)), 1
