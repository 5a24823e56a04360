"""Twins of the pooling kernels: one pass over the places of a window, each a strided slice of the input."""
import numpy as np


def _places(kernel, stride, padding, dilation, size, out):
    """For each place (i, j) of the window, in order: its number, slices of the outputs and inputs meeting there."""
    def axis(k, a):  # outputs o with 0 <= o * stride + k * dilation - padding < size
        offset = k * dilation[a] - padding[a]
        first = max(0, -(offset // stride[a]))
        last = min(out[a], (size[a] - 1 - offset) // stride[a] + 1)
        start = first * stride[a] + offset
        count = max(0, last - first)
        return slice(first, first + count), slice(start, start + count * stride[a], stride[a])

    for i in range(kernel[0]):
        for j in range(kernel[1]):
            (rows, from_rows), (cols, from_cols) = axis(i, 0), axis(j, 1)
            yield i * kernel[1] + j, (..., rows, cols), (..., from_rows, from_cols)


def max_pool2d(x, y_out, place_out, kernel, stride, padding, dilation, n_threads):
    y_out[...], place_out[...] = -np.inf, 0
    unset = np.ones(y_out.shape, bool)  # the first place inside the image counts even if it holds -inf
    for place, to, source in _places(kernel, stride, padding, dilation, x.shape[2:], y_out.shape[2:]):
        take = unset[to] | (x[source] > y_out[to]) | np.isnan(x[source])
        y_out[to] = np.where(take, x[source], y_out[to])
        place_out[to] = np.where(take, place, place_out[to])
        unset[to] = False


def max_pool2d_backward(dy, place, dx_out, kernel, stride, padding, dilation, n_threads):
    dx = np.zeros(dx_out.shape)
    for number, to, source in _places(kernel, stride, padding, dilation, dx.shape[2:], dy.shape[2:]):
        dx[source] += np.where(place[to] == number, dy[to], 0)
    dx_out[...] = dx


def _avg_windows(size, out, kernel, stride, padding, count_include_pad):
    """Of one axis, for each output: its window [start, stop), and the number of places that it is divided by."""
    start = np.arange(out) * stride - padding
    stop = np.minimum(start + kernel, size + padding)
    inside = np.maximum(start, 0), np.minimum(stop, size)
    return list(zip(*inside, stop - start if count_include_pad else inside[1] - inside[0], strict=True))


def _adaptive_windows(size, out):
    bounds = [(o * size // out, -(-(o + 1) * size // out)) for o in range(out)]
    return [(start, stop, stop - start) for start, stop in bounds]


def _average(x, y_out, rows, cols, divisor=0):
    for oh, (top, bottom, height) in enumerate(rows):
        for ow, (left, right, width) in enumerate(cols):
            total = x[:, :, top:bottom, left:right].sum((2, 3), np.float64)
            y_out[:, :, oh, ow] = total / (divisor or max(1, height * width))


def _average_backward(dy, dx_out, rows, cols, divisor=0):
    dx = np.zeros(dx_out.shape)
    for oh, (top, bottom, height) in enumerate(rows):
        for ow, (left, right, width) in enumerate(cols):
            share = dy[:, :, oh, ow, None, None] / np.float64(divisor or max(1, height * width))
            dx[:, :, top:bottom, left:right] += share
    dx_out[...] = dx


def _avg_axes(size, out, kernel, stride, padding, count_include_pad):
    return (_avg_windows(size[a], out[a], kernel[a], stride[a], padding[a], count_include_pad) for a in (0, 1))


def avg_pool2d(x, y_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    axes = _avg_axes(x.shape[2:], y_out.shape[2:], kernel, stride, padding, count_include_pad)
    _average(x, y_out, *axes, divisor)


def avg_pool2d_backward(dy, dx_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    axes = _avg_axes(dx_out.shape[2:], dy.shape[2:], kernel, stride, padding, count_include_pad)
    _average_backward(dy, dx_out, *axes, divisor)


def adaptive_avg_pool2d(x, y_out, n_threads):
    _average(x, y_out, *map(_adaptive_windows, x.shape[2:], y_out.shape[2:]))


def adaptive_avg_pool2d_backward(dy, dx_out, n_threads):
    _average_backward(dy, dx_out, *map(_adaptive_windows, dx_out.shape[2:], dy.shape[2:]))
