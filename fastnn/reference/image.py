"""Twins of the image kernels: tables of pixels along each axis, and indexing with them."""
import numpy as np


def crop(x, top, left, flip, mode, table, y_out, n_threads):
    if not y_out.size:
        return
    rows, above = _pixels(top, flip & 2, mode, x.shape[2], y_out.shape[2])
    columns, aside = _pixels(left, flip & 1, mode, x.shape[3], y_out.shape[3])
    y = x.transpose(0, 2, 3, 1)[np.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None]]
    if x.dtype == np.uint8:
        y = y * y_out.dtype.type(1 / 255)
    if len(table) == 3:
        y = (y - table[1]).astype(y.dtype) * table[2].astype(y.dtype)
    y = np.where((above[:, :, None] | aside[:, None])[..., None], table[0].astype(y.dtype), y)
    y_out[...] = y.transpose(0, 3, 1, 2)


def _pixels(start, flip, mode, n, out):
    """For each image and output place along an axis, which of n pixels it shows, (N, out), and whether it is value."""
    if mode < 2:
        start = np.clip(start, -out, n)
    else:
        period = 2 * n if mode == 3 else max(2 * n - 2, 1)
        start = start % max(period, 1)
    order = np.arange(out)
    place = start[:, None] + np.where(flip[:, None], order[::-1], order)
    if mode < 2:
        return np.clip(place, 0, max(n - 1, 0)), (place < 0) | (place >= n) if mode == 0 else place < -out
    place %= max(period, 1)
    return np.where(place < n, place, period - (mode == 3) - place), np.zeros(place.shape, bool)


def affine(x, theta, mode, value, y_out, n_threads):
    if not y_out.size:
        return
    i, j = np.ogrid[: y_out.shape[2], : y_out.shape[3]]
    with np.errstate(all="ignore"):
        u, v = (t[..., 0] * (j + 0.5) + (t[..., 1] * (i + 0.5) + t[..., 2]) - 0.5
                for t in theta.transpose(1, 0, 2)[:, :, None, None])  # (N, oH, oW) each
        if mode:
            u, v = _inside(u, mode, x.shape[3]), _inside(v, mode, x.shape[2])
        else:  # a border of value around the image, and all that is farther away at its rim
            x = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2)), constant_values=value)
            outside = ~((u > -1) & (u < x.shape[3] - 3) & (v > -1) & (v < x.shape[2] - 3))
            u, v = np.where(outside, 0, u + 1), np.where(outside, 0, v + 1)
        x = x.transpose(0, 2, 3, 1)
        n, column, row = np.arange(len(x))[:, None, None], u.astype(np.intp), v.astype(np.intp)
        a, b = ((place - np.floor(place))[..., None] for place in (u, v))
        right, below = np.minimum(column + 1, x.shape[2] - 1), np.minimum(row + 1, x.shape[1] - 1)
        y = ((x[n, row, column] * (1 - a) + x[n, row, right] * a) * (1 - b)
             + (x[n, below, column] * (1 - a) + x[n, below, right] * a) * b)
        if not mode:
            y[outside] = value
        y_out[...] = y.transpose(0, 3, 1, 2)


def _inside(at, mode, n):
    if mode == 3:
        at = np.abs(at + 0.5) % (2 * n)
        at = np.where(at < n, at, 2 * n - at) - 0.5
    return np.clip(np.nan_to_num(at, posinf=n, neginf=-1), 0, n - 1)


def resample(x, top, down, left, along, y_out, n_threads):
    rows, columns = (first[:, None] + np.arange(weights.shape[1]) for first, weights in ((top, down), (left, along)))
    pixels = x[:, :, rows[:, None, :, None], columns[:, None]].astype(np.float64)  # N, C, oH, oW, taps, taps
    y_out[...] = np.einsum("ncijst,is,jt->ncij", pixels, down, along)
