"""Twins of the batch normalization kernels. Channels are axis 1; statistics run over all other axes, in float64."""
import numpy as np


def _over_rows(x):
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _wide(channels, x, default=1.0):
    """One number a channel in float64, of a shape that broadcasts against x."""
    if channels is None:
        return default
    return channels.astype(np.float64).reshape(1, -1, *(1,) * (x.ndim - 2))


def batch_norm(x, weight, bias, eps, y_out, mean_out, rstd_out, var_out, n_threads):
    mean, var = x.mean(_over_rows(x), np.float64), x.var(_over_rows(x), np.float64)
    mean_out[...], var_out[...], rstd_out[...] = mean, var, 1 / np.sqrt(var + eps)
    batch_norm_eval(x, mean_out, rstd_out, weight, bias, y_out, n_threads)


def batch_norm_eval(x, mean, rstd, weight, bias, y_out, n_threads):
    y_out[...] = (x - _wide(mean, x)) * _wide(rstd, x) * _wide(weight, x) + _wide(bias, x, 0.0)


def batch_norm_backward(dy, x, mean, rstd, weight, training, dx_out, dweight_out, dbias_out, n_threads):
    normalized = (x - _wide(mean, x)) * _wide(rstd, x)
    dbias, dweight = dy.sum(_over_rows(x), np.float64), (dy * normalized).sum(_over_rows(x))
    if dweight_out is not None:
        dbias_out[...], dweight_out[...] = dbias, dweight
    if dx_out is not None:
        R = x[:, :1].size
        through = _wide(dbias / R, x) + normalized * _wide(dweight / R, x) if training else 0
        dx_out[...] = _wide(weight, x) * _wide(rstd, x) * (dy - through)
