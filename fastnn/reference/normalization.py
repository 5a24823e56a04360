"""Twins of the normalization kernels. Channels are axis 1; statistics of batch norm run over all other axes, of group
norm over those of an image and group, of layer norm over rows, in float64."""
import numpy as np


def _over_rows(x):
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _wide(channels, x, default=1.0):
    """One number a channel in float64, of a shape that broadcasts against x."""
    if channels is None:
        return default
    return channels.astype(np.float64).reshape(1, -1, *(1,) * (x.ndim - 2))


def channel_sum(x, sum_out, n_threads):
    sum_out[...] = x.sum(_over_rows(x), np.float64)


def batch_norm_statistics(x, eps, momentum, mean_out, rstd_out, running_mean_out, running_var_out, n_threads):
    mean, var, R = x.mean(_over_rows(x), np.float64), x.var(_over_rows(x), np.float64), x[:, :1].size
    mean_out[...], rstd_out[...] = mean, 1 / np.sqrt(var + eps)
    if running_mean_out is not None:
        running_mean_out[...] = (1 - momentum) * running_mean_out.astype(np.float64) + momentum * mean
    if running_var_out is not None:
        running_var_out[...] = (1 - momentum) * running_var_out.astype(np.float64) + momentum * (var * R / (R - 1))


def batch_norm(x, mean, rstd, weight, bias, residual, relu, y_out, n_threads):
    y_out[...] = (x - _wide(mean, x)) * _wide(rstd, x) * _wide(weight, x) + _wide(bias, x, 0.0)
    if residual is not None:
        y_out += residual
    if relu:
        np.copyto(y_out, 0, where=y_out <= 0)


def batch_norm_backward(dy, x, mean, rstd, weight, bias, y, relu, training, dx_out, dweight_out, dbias_out, g_out,
                        n_threads):
    if relu:
        if y is None:
            batch_norm(x, mean, rstd, weight, bias, None, False, y := np.empty_like(x), n_threads)
        g = np.empty_like(dy) if g_out is None else g_out
        np.copyto(g, np.where(y <= 0, 0, dy))
        dy = g
    normalized = (x - _wide(mean, x)) * _wide(rstd, x)
    dbias, dweight = dy.sum(_over_rows(x), np.float64), (dy * normalized).sum(_over_rows(x))
    if dweight_out is not None:
        dbias_out[...], dweight_out[...] = dbias, dweight
    if dx_out is not None:
        R = x[:, :1].size
        through = _wide(dbias / R, x) + normalized * _wide(dweight / R, x) if training else 0
        dx_out[...] = _wide(weight, x) * _wide(rstd, x) * (dy - through)


def layer_norm(x, weight, bias, eps, y_out, mean_out, rstd_out, n_threads):
    mean = 0 if mean_out is None else x.mean(1, np.float64, keepdims=True)
    rstd = 1 / np.sqrt(np.square(x - mean, dtype=np.float64).mean(1, keepdims=True) + eps)
    if mean_out is not None:
        mean_out[...] = mean[:, 0]
    rstd_out[...] = rstd[:, 0]
    y_out[...] = (x - mean) * rstd * (1 if weight is None else weight) + (0 if bias is None else bias)


def layer_norm_backward(dy, x, mean, rstd, weight, dx_out, dweight_out, dbias_out, n_threads):
    rstd = rstd.astype(np.float64)[:, None]
    normalized = (x if mean is None else x - mean.astype(np.float64)[:, None]) * rstd
    g = dy if weight is None else dy * weight.astype(np.float64)
    if dx_out is not None:
        through = normalized * (g * normalized).mean(1, np.float64, keepdims=True)
        dx_out[...] = rstd * (g - through - (0 if mean is None else g.mean(1, np.float64, keepdims=True)))
    for out, terms in (dweight_out, dy * normalized), (dbias_out, dy):
        if out is not None:
            out[...] = terms.sum(0, np.float64)


def _groups(x, G):
    """x as rows (N·G, C/G·H·W), a group each."""
    return np.ascontiguousarray(x).reshape(len(x) * G, -1)


def group_norm(x, weight, bias, eps, y_out, mean_out, rstd_out, n_threads):
    rows = _groups(x, mean_out.shape[1]).astype(np.float64)
    layer_norm(rows, None, None, eps, rows, mean_out.reshape(-1), rstd_out.reshape(-1), n_threads)
    y_out[...] = rows.reshape(x.shape) * _wide(weight, x) + _wide(bias, x, 0.0)


def group_norm_backward(dy, x, mean, rstd, weight, dx_out, dweight_out, dbias_out, n_threads):
    rows, scaled = (_groups(a, mean.shape[1]).astype(np.float64) for a in (x, dy * _wide(weight, x)))
    normalized = ((rows - mean.reshape(-1, 1)) * rstd.reshape(-1, 1)).reshape(x.shape)
    if dx_out is not None:
        layer_norm_backward(scaled, rows, mean.reshape(-1), rstd.reshape(-1), None, dx := np.empty_like(rows), None,
                            None, n_threads)
        dx_out[...] = dx.reshape(x.shape)
    if dweight_out is not None:
        dweight_out[...], dbias_out[...] = ((a.sum(_over_rows(x), np.float64)) for a in (dy * normalized, dy))
