"""Cases of the batch normalization kernels."""
import numpy as np

from fastnn.verify.arrays import normal, out, special

_SHAPES = [(2, 1), (5, 3), (200, 7), (70, 130), (33, 600), (2, 1, 5, 7), (3, 6, 9, 11), (2, 33, 4, 5), (1, 130, 3, 2),
           (5000, 1), (16, 32, 32, 32)]


def _channels(rng, shape, dtype):
    """mean, rstd, weight, bias."""
    mean, weight, bias = rng.standard_normal((3, shape[1])).astype(dtype)
    return mean, rng.uniform(0.5, 2, shape[1]).astype(dtype), weight, bias


def batch_norm(rng, dtype):
    for i, shape in enumerate(_SHAPES):
        x = special(rng, shape, dtype) if i == 2 else normal(rng, shape, dtype)
        x = x + 3 * x[:1] if i == 4 else x  # a first row unlike the others
        _, _, weight, bias = _channels(rng, shape, dtype)
        weight, bias = None if i == 3 else weight, None if i == 4 else bias
        yield (x, weight, bias, 0.1, out(shape, dtype), *np.zeros((3, shape[1]), dtype)), x.size // shape[1]


def batch_norm_eval(rng, dtype):
    for shape in [*_SHAPES, (0, 3), (2, 0, 3, 1)]:
        yield (special(rng, shape, dtype), *_channels(rng, shape, dtype), out(shape, dtype)), 1


def batch_norm_backward(rng, dtype):
    for i, shape in enumerate(_SHAPES):
        mean, rstd, weight, _ = _channels(rng, shape, dtype)
        outputs = None if i == 3 else out(shape, dtype), *np.zeros((2, shape[1]), dtype)
        x, dy = normal(rng, shape, dtype), normal(rng, shape, dtype)
        yield (dy, x, mean, rstd, None if i == 4 else weight, *outputs), x.size // shape[1]


def batch_norm_eval_backward(rng, dtype):
    for i, ((x, mean, rstd, weight, _, dx), _) in enumerate(batch_norm_eval(rng, dtype)):
        sums = (None, None) if i == 3 else np.zeros((2, x.shape[1]), dtype)
        x, dy = normal(rng, x.shape, dtype), normal(rng, x.shape, dtype)
        yield (dy, x, mean, rstd, weight, dx, *sums), max(1, len(x) * x[0:1, 0:1].size)
