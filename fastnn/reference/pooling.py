"""Twins of the pooling kernels: each output from the slices of the inputs that are its window."""
import numpy as np


def _windows(x, y, kernel=None, stride=None, padding=None, dilation=(1, 1)):
    """For each output its position, its window in x, the size of that with padding and the place of its first tap;
    without kernel y decides."""
    def axis(o, a):
        size, out = x.shape[2 + a], y.shape[2 + a]
        if kernel is None:
            return slice(o * size // out, -(-(o + 1) * size // out)), 0, 0
        start = o * stride[a] - padding[a]
        stop = min(start + dilation[a] * (kernel[a] - 1) + 1, size + padding[a])
        missing = max(0, -(start // dilation[a]))  # taps before the image
        return slice(start + missing * dilation[a], min(stop, size), dilation[a]), stop - start, missing

    for oh, ow in np.ndindex(y.shape[2:]):
        (rows, height, i), (cols, width, j) = axis(oh, 0), axis(ow, 1)
        yield (..., oh, ow), (..., rows, cols), height * width, (i, j)


def max_pool2d(x, y_out, place_out, kernel, stride, padding, dilation, n_threads):
    plane = np.arange(x.shape[2] * x.shape[3]).reshape(x.shape[2:])
    for o, window, _, (i, j) in _windows(x, y_out, kernel, stride, padding, dilation):
        places = plane[window]
        if kernel is not None and np.prod(kernel) <= 256:
            places = np.arange(np.prod(kernel)).reshape(kernel)[i:, j:][: places.shape[0], : places.shape[1]]
        values = x[window].reshape(*x.shape[:2], places.size)
        nan = np.isnan(values)  # the last of them wins, else the first maximum
        winner = np.where(nan.any(-1), places.size - 1 - nan[..., ::-1].argmax(-1), values.argmax(-1))
        y_out[o], place_out[o] = np.take_along_axis(values, winner[..., None], -1)[..., 0], places.ravel()[winner]


def max_pool2d_backward(dy, place, dx_out, kernel, stride, padding, dilation, n_threads):
    pixel, (H, W) = place, dx_out.shape[2:]
    if place.dtype == np.uint8:
        oh, ow = np.ogrid[: dy.shape[2], : dy.shape[3]]
        i, j = np.divmod(place, kernel[1], dtype=np.int64)
        h, w = oh * stride[0] - padding[0] + i * dilation[0], ow * stride[1] - padding[1] + j * dilation[1]
        dy, pixel = np.where((h >= 0) & (h < H) & (w >= 0) & (w < W), dy, 0), (h * W + w) % (H * W)
    n, c = np.ogrid[: dy.shape[0], : dy.shape[1]]
    dx = np.zeros((*dy.shape[:2], H * W))
    np.add.at(dx, (n[..., None, None], c[..., None, None], pixel), dy)
    dx_out[...] = dx.reshape(dx_out.shape)


def avg_pool2d(x, y_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    for o, window, size, _ in _windows(x, y_out, kernel, stride, padding):
        part = x[window]
        count = divisor or max(1, size if count_include_pad else part.shape[2] * part.shape[3])
        y_out[o] = part.sum((2, 3), np.float64) / count


def avg_pool2d_backward(dy, dx_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    dx = np.zeros(dx_out.shape)
    for o, window, size, _ in _windows(dx, dy, kernel, stride, padding):
        part = dx[window]
        part += dy[o][..., None, None] / np.float64(
            divisor or max(1, size if count_include_pad else part.shape[2] * part.shape[3]))
    dx_out[...] = dx
