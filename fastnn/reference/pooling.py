"""Twins of the pooling kernels: maxima by the places of a window, each a strided slice; averages by windows."""
import numpy as np


def _places(kernel, stride, padding, dilation, size, out):
    """For each place (i, j) of the window, in order, slices of the outputs and inputs meeting there, and before them
    what tells the place: its number or, if there are more than 256, which pixels of the plane it is."""
    def axis(k, a):  # outputs o with 0 <= o * stride + k * dilation - padding < size
        offset = k * dilation[a] - padding[a]
        first = max(0, -(offset // stride[a]))
        count = max(0, min(out[a], (size[a] - 1 - offset) // stride[a] + 1) - first)
        start = first * stride[a] + offset
        return slice(first, first + count), slice(start, start + count * stride[a], stride[a])

    for i, j in np.ndindex(*kernel):
        (rows, from_rows), (cols, from_cols) = axis(i, 0), axis(j, 1)
        place = np.arange(size[0] * size[1]).reshape(size)[from_rows, from_cols]
        yield place if np.prod(kernel) > 256 else i * kernel[1] + j, (..., rows, cols), (..., from_rows, from_cols)


def max_pool2d(x, y_out, place_out, kernel, stride, padding, dilation, n_threads):
    y_out[...], place_out[...] = -np.inf, 0
    unset = np.ones(y_out.shape, bool)  # the first place inside the image counts even if it holds -inf
    for place, to, source in _places(kernel, stride, padding, dilation, x.shape[2:], y_out.shape[2:]):
        take = unset[to] | (x[source] > y_out[to]) | np.isnan(x[source])
        y_out[to] = np.where(take, x[source], y_out[to])
        place_out[to] = np.where(take, place, place_out[to])
        unset[to] = False


def max_pool2d_backward(dy, place, dx_out, kernel, stride, padding, dilation, n_threads):
    if place.dtype != np.uint8:
        return adaptive_max_pool2d_backward(dy, place, dx_out, n_threads)
    dx = np.zeros(dx_out.shape)
    for number, to, source in _places(kernel, stride, padding, dilation, dx.shape[2:], dy.shape[2:]):
        dx[source] += np.where(place[to] == number, dy[to], 0)
    dx_out[...] = dx


def _windows(x, y, kernel=None, stride=None, padding=None, count_include_pad=False, divisor=0):
    """For each output its position, its window in x, and what the sum is divided by; without kernel y decides."""
    def axis(o, a):
        size, out = x.shape[2 + a], y.shape[2 + a]
        if kernel is None:
            return slice(o * size // out, -(-(o + 1) * size // out)), 0
        start = o * stride[a] - padding[a]
        stop = min(start + kernel[a], size + padding[a])
        return slice(max(start, 0), min(stop, size)), stop - start

    for oh, ow in np.ndindex(y.shape[2:]):
        (rows, height), (cols, width) = axis(oh, 0), axis(ow, 1)
        inside = (rows.stop - rows.start) * (cols.stop - cols.start)
        yield (..., oh, ow), (..., rows, cols), divisor or max(1, height * width if count_include_pad else inside)


def avg_pool2d(x, y_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    for o, window, count in _windows(x, y_out, kernel, stride, padding, count_include_pad, divisor):
        y_out[o] = x[window].sum((2, 3), np.float64) / count


def avg_pool2d_backward(dy, dx_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    dx = np.zeros(dx_out.shape)
    for o, window, count in _windows(dx, dy, kernel, stride, padding, count_include_pad, divisor):
        dx[window] += dy[o][..., None, None] / np.float64(count)
    dx_out[...] = dx


def adaptive_avg_pool2d(x, y_out, n_threads):
    avg_pool2d(x, y_out, None, None, None, False, 0, n_threads)


def adaptive_avg_pool2d_backward(dy, dx_out, n_threads):
    avg_pool2d_backward(dy, dx_out, None, None, None, False, 0, n_threads)


def adaptive_max_pool2d(x, y_out, place_out, n_threads):
    plane = np.arange(x.shape[2] * x.shape[3]).reshape(x.shape[2:])
    for o, window, _ in _windows(x, y_out):
        pixels = plane[window].ravel()
        values = x[window].reshape(*x.shape[:2], pixels.size)
        nan = np.isnan(values)  # the last of them wins, else the first maximum
        winner = np.where(nan.any(-1), pixels.size - 1 - nan[..., ::-1].argmax(-1), values.argmax(-1))
        y_out[o], place_out[o] = np.take_along_axis(values, winner[..., None], -1)[..., 0], pixels[winner]


def adaptive_max_pool2d_backward(dy, place, dx_out, n_threads):
    dx = np.zeros((*dx_out.shape[:2], dx_out.shape[2] * dx_out.shape[3]))
    n, c = np.ogrid[: dx.shape[0], : dx.shape[1]]
    np.add.at(dx, (n[..., None, None], c[..., None, None], place), dy)
    dx_out[...] = dx.reshape(dx_out.shape)
