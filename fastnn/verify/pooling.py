"""Cases of the pooling kernels."""
import numpy as np

from fastnn.verify.arrays import normal, out, special

# N, C, H, W; kernel, stride, padding, dilation
_WINDOWS = [
    ((2, 1, 5, 7), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((1, 6, 9, 8), (3, 2), (2, 3), (1, 0), (1, 1)),
    ((2, 17, 6, 11), (2, 3), (1, 2), (1, 1), (2, 3)),
    ((1, 33, 4, 5), (1, 2), (3, 4), (0, 1), (1, 1)),  # inputs between windows
    ((1, 130, 5, 4), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((1, 3, 19, 18), (17, 16), (1, 2), (8, 7), (1, 1)),  # more places than a byte holds
    ((0, 4, 6, 6), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((8, 32, 32, 32), (2, 2), (2, 2), (0, 0), (1, 1)),
]
_ADAPTIVE = [((2, 1, 5, 7), (2, 3)), ((1, 17, 3, 4), (5, 4)), ((3, 130, 8, 7), (1, 1)), ((0, 2, 3, 3), (1, 2)),
             ((8, 32, 16, 16), (1, 1))]


def _size(shape, kernel, stride, padding, dilation):
    size = ((shape[2 + a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in (0, 1))
    return (*shape[:2], *size)


def _places(rng, shape, kernel):
    n = kernel[0] * kernel[1]
    place = out(shape, np.uint8 if n <= 256 else np.int32)
    place[...] = rng.integers(0, n, shape)
    return place


def max_pool2d(rng, dtype):
    for shape, *geometry in _WINDOWS:
        size = _size(shape, *geometry)
        yield (special(rng, shape, dtype), out(size, dtype), 0 * _places(rng, size, geometry[0]), *geometry), 1


def max_pool2d_backward(rng, dtype):
    for shape, *geometry in _WINDOWS:
        dy = normal(rng, _size(shape, *geometry), dtype)
        yield (dy, _places(rng, dy.shape, geometry[0]), out(shape, dtype), *geometry), np.prod(geometry[0])


def _averages():
    for i, (shape, *geometry, _) in enumerate(_WINDOWS):
        yield shape, _size(shape, *geometry, (1, 1)), geometry, (i % 2 == 0, (0, 0, 3, -2)[i % 4])


def avg_pool2d(rng, dtype):
    for i, (shape, size, geometry, settings) in enumerate(_averages()):
        x = special(rng, shape, dtype) if i < 2 else normal(rng, shape, dtype)
        yield (x, out(size, dtype), *geometry, *settings), np.prod(geometry[0])


def avg_pool2d_backward(rng, dtype):
    for shape, size, geometry, settings in _averages():
        yield (normal(rng, size, dtype), out(shape, dtype), *geometry, *settings), np.prod(geometry[0])


def adaptive_avg_pool2d(rng, dtype):
    for shape, size in _ADAPTIVE:
        yield (normal(rng, shape, dtype), out((*shape[:2], *size), dtype)), shape[2] * shape[3]


def adaptive_avg_pool2d_backward(rng, dtype):
    for shape, size in _ADAPTIVE:
        yield (normal(rng, (*shape[:2], *size), dtype), out(shape, dtype)), size[0] * size[1]
