"""Cases of the pooling kernels."""
import numpy as np

from fastnn.verify.arrays import normal, out, special, window_size

# N, C, H, W; kernel, stride, padding, dilation
_WINDOWS = [
    ((2, 1, 5, 7), (2, 2), (2, 2), (0, 0), (1, 1)), ((1, 6, 9, 8), (3, 2), (2, 3), (1, 0), (1, 1)),
    ((2, 17, 6, 11), (2, 3), (1, 2), (1, 1), (2, 3)), ((1, 130, 5, 4), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((1, 33, 4, 5), (1, 2), (3, 4), (0, 1), (1, 1)),  # inputs between windows
    ((1, 3, 19, 18), (17, 16), (1, 2), (8, 7), (1, 1)),  # more places than a byte holds
    ((0, 4, 6, 6), (2, 2), (2, 2), (0, 0), (1, 1)), ((8, 32, 32, 32), (2, 2), (2, 2), (0, 0), (1, 1)),
]
_ADAPTIVE = [((2, 1, 5, 7), (2, 3)), ((1, 17, 3, 4), (5, 4)), ((3, 130, 8, 7), (1, 1)), ((0, 2, 3, 3), (1, 2)),
             ((8, 32, 16, 16), (1, 1))]


def max_pool2d(rng, dtype):
    for shape, kernel, *geometry in _WINDOWS:
        size = (*shape[:2], *window_size(shape, kernel, *geometry))
        places = out(size, np.uint8 if np.prod(kernel) <= 256 else np.int32)
        yield (special(rng, shape, dtype), out(size, dtype), places, kernel, *geometry), 1


def max_pool2d_backward(rng, dtype):
    for (x, y, places, kernel, *geometry), _ in max_pool2d(rng, dtype):
        places[...] = rng.integers(0, np.prod(kernel), y.shape)
        yield (normal(rng, y.shape, dtype), places, out(x.shape, dtype), kernel, *geometry), np.prod(kernel)


def avg_pool2d(rng, dtype):
    for i, (shape, *geometry, _) in enumerate(_WINDOWS):
        x = special(rng, shape, dtype) if i < 2 else normal(rng, shape, dtype)
        y = out((*shape[:2], *window_size(shape, *geometry)), dtype)
        yield (x, y, *geometry, i % 2 == 0, (0, 0, 3, -2)[i % 4]), np.prod(geometry[0])


def avg_pool2d_backward(rng, dtype):
    for (x, y, *arguments), terms in avg_pool2d(rng, dtype):
        yield (normal(rng, y.shape, dtype), out(x.shape, dtype), *arguments), terms


def adaptive_avg_pool2d(rng, dtype):
    for shape, size in _ADAPTIVE:
        yield (normal(rng, shape, dtype), out((*shape[:2], *size), dtype)), shape[2] * shape[3]


def adaptive_avg_pool2d_backward(rng, dtype):
    for shape, size in _ADAPTIVE:
        yield (normal(rng, (*shape[:2], *size), dtype), out(shape, dtype)), size[0] * size[1]
