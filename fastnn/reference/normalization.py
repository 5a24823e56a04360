"""Twins of the batch normalization kernels. Channels are axis 1; statistics run over all other axes, in float64."""
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
