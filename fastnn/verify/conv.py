"""Cases of the convolution kernels: nothing square, borders beyond the kernel, groups, depthwise, channels 1 to 130."""
import numpy as np

from fastnn.verify.arrays import normal, out, window_size

#    N, C, H, W; F; kernel, stride, padding, dilation; groups
CASES = [
    ((2, 1, 9, 8), 6, ((5, 3), (1, 1), (2, 0), (1, 1)), 1), ((1, 3, 11, 17), 33, ((3, 2), (2, 1), (1, 1), (1, 2)), 1),
    ((3, 16, 7, 7), 10, ((3, 3), (1, 1), (1, 1), (1, 1)), 1), ((2, 130, 4, 5), 17, ((1, 3), (1, 1), (0, 2), (1, 1)), 1),
    ((2, 17, 5, 31), 40, ((1, 1), (1, 1), (0, 0), (1, 1)), 1), ((2, 5, 8, 9), 7, ((1, 1), (2, 3), (0, 0), (1, 1)), 1),
    ((1, 4, 6, 13), 8, ((2, 3), (3, 2), (5, 4), (2, 3)), 1), ((2, 12, 9, 6), 15, ((3, 1), (1, 2), (1, 0), (1, 1)), 3),
    ((2, 33, 9, 14), 33, ((3, 5), (1, 1), (1, 2), (1, 1)), 33), ((1, 6, 12, 7), 6, ((3, 3), (2, 1), (0, 1), (2, 1)), 6),
    ((1, 8, 10, 6), 8, ((2, 3), (2, 2), (1, 0), (1, 2)), 8), ((0, 3, 5, 5), 4, ((3, 3), (1, 1), (1, 1), (1, 1)), 1),
    ((1, 2, 3, 4), 0, ((3, 3), (1, 1), (1, 1), (1, 1)), 1), ((4, 32, 21, 19), 64, ((3, 3), (1, 1), (1, 1), (1, 1)), 1),
]  # fmt: skip


def conv2d(rng, dtype):
    for i, (shape, F, geometry, groups) in enumerate(CASES):
        weight = normal(rng, (*geometry[0], shape[1] // groups, F), dtype).copy().transpose(3, 2, 0, 1)
        bias = normal(rng, (F,), dtype) if i % 2 else None
        y = out((shape[0], F, *window_size(shape, *geometry)), dtype)
        yield (normal(rng, shape, dtype), weight, bias, y, *geometry[1:], groups), weight[:1].size


def conv2d_backward_input(rng, dtype):
    for (x, weight, _, y, *arguments), _ in conv2d(rng, dtype):
        weight = np.ascontiguousarray(weight) if len(x) == 1 else weight
        yield (normal(rng, y.shape, dtype), weight, out(x.shape, dtype), *arguments), weight[:, :1].size


def conv2d_backward_weight(rng, dtype):
    for (x, weight, _, y, *arguments), _ in conv2d(rng, dtype):
        yield (normal(rng, y.shape, dtype), x, np.zeros_like(weight), *arguments), y[:, :1].size


def im2col(rng, dtype):
    for shape, _, (kernel, *geometry), _ in CASES:
        oH, oW = window_size(shape, kernel, *geometry)
        columns = out((shape[0], shape[1] * kernel[0] * kernel[1], oH * oW), dtype)
        yield (normal(rng, shape, dtype), columns, kernel, *geometry, (oH, oW)), 1


def col2im(rng, dtype):
    for (x, columns, kernel, *arguments), _ in im2col(rng, dtype):
        yield (normal(rng, columns.shape, dtype), np.zeros_like(x), kernel, *arguments), kernel[0] * kernel[1]
