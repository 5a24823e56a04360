"""Cases of the convolution kernels: nothing square, borders beyond the kernel, groups, depthwise, channels 1 to 130."""
import numpy as np

from fastnn.verify.arrays import normal, out

#        N, C, H, W, F, kernel, stride, padding, dilation, groups
CASES = [
    (2, 1, 9, 8, 6, (5, 3), (1, 1), (2, 0), (1, 1), 1),
    (1, 3, 11, 17, 33, (3, 2), (2, 1), (1, 1), (1, 2), 1),
    (3, 16, 7, 7, 10, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 130, 4, 5, 17, (1, 3), (1, 1), (0, 2), (1, 1), 1),
    (2, 17, 5, 31, 40, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (2, 5, 8, 9, 7, (1, 1), (2, 3), (0, 0), (1, 1), 1),
    (1, 4, 6, 13, 8, (2, 3), (3, 2), (5, 4), (2, 3), 1),
    (2, 12, 9, 6, 15, (3, 1), (1, 2), (1, 0), (1, 1), 3),
    (2, 33, 9, 14, 33, (3, 5), (1, 1), (1, 2), (1, 1), 33),
    (1, 6, 12, 7, 12, (3, 3), (2, 1), (0, 1), (2, 1), 6),
    (1, 8, 10, 6, 8, (2, 3), (2, 2), (1, 0), (1, 2), 8),
    (0, 3, 5, 5, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (1, 2, 3, 4, 0, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (4, 32, 21, 19, 64, (3, 3), (1, 1), (1, 1), (1, 1), 1),
]


def _size(case):
    N, C, H, W, F, kernel, stride, padding, dilation, groups = case
    spans = zip((H, W), kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in spans)


def _weight(rng, case, dtype):
    _, C, _, _, F, kernel, *_, groups = case
    return normal(rng, (*kernel, C // groups, F), dtype).copy().transpose(3, 2, 0, 1)


def conv2d(rng, dtype):
    for i, case in enumerate(CASES):
        N, C, H, W, F, *arguments = case
        weight = _weight(rng, case, dtype)
        bias = normal(rng, (F,), dtype) if i % 2 else None
        y = out((N, F, *_size(case)), dtype)
        yield (normal(rng, (N, C, H, W), dtype), weight, bias, y, *arguments[1:]), weight[:1].size


def conv2d_backward_input(rng, dtype):
    for case in CASES:
        N, C, H, W, F, *arguments = case
        weight = np.ascontiguousarray(_weight(rng, case, dtype)) if N == 1 else _weight(rng, case, dtype)
        dy, dx = normal(rng, (N, F, *_size(case)), dtype), out((N, C, H, W), dtype)
        yield (dy, weight, dx, *arguments[1:]), weight[:, :1].size


def conv2d_backward_weight(rng, dtype):
    for case in CASES:
        N, C, H, W, F, kernel, *arguments = case
        oH, oW = _size(case)
        dweight = np.zeros((*kernel, C // arguments[-1], F), dtype).transpose(3, 2, 0, 1)
        yield (normal(rng, (N, F, oH, oW), dtype), normal(rng, (N, C, H, W), dtype), dweight, *arguments), N * oH * oW


def im2col(rng, dtype):
    for case in CASES:
        N, C, H, W, _, kernel, *arguments, _ = case
        oH, oW = _size(case)
        columns = out((N, C * kernel[0] * kernel[1], oH * oW), dtype)
        yield (normal(rng, (N, C, H, W), dtype), columns, kernel, *arguments, (oH, oW)), 1


def col2im(rng, dtype):
    for (x, columns, *arguments), _ in im2col(rng, dtype):
        yield (normal(rng, columns.shape, dtype), np.zeros_like(x), *arguments), arguments[0][0] * arguments[0][1]
