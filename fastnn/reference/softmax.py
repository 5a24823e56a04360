"""Twins of the softmax and cross-entropy kernels: (M, D) arrays, along the last axis; sums in float64."""
import numpy as np

_quiet = np.errstate(all="ignore")  # infinities and NaN pass silently


def softmax(x, y_out, n_threads):
    np.exp(_log_softmax(x), out=y_out, casting="same_kind")


@_quiet
def softmax_backward(dy, y, dx_out, n_threads):
    np.copyto(dx_out, y * (dy - np.sum(dy * y, axis=1, keepdims=True, dtype=np.float64)), casting="same_kind")


def log_softmax(x, y_out, n_threads):
    np.copyto(y_out, _log_softmax(x), casting="same_kind")


@_quiet
def log_softmax_backward(dy, y, dx_out, n_threads):
    total = dy.sum(axis=1, keepdims=True, dtype=np.float64)
    np.copyto(dx_out, dy - np.exp(y, dtype=np.float64) * total, casting="same_kind")


@_quiet
def cross_entropy(x, target, weight, label_smoothing, ignore_index, loss_out, sums_out, dx_out, n_threads):
    D = x.shape[1]
    weight = np.ones(D, x.dtype) if weight is None else weight
    kept = target != ignore_index
    wrong = target[kept & ((target < 0) | (target >= D))]
    if wrong.size:
        raise IndexError(f"cross_entropy: Target {wrong[0]} is out of bounds. There are {D} classes")
    for out in (loss_out, dx_out):
        out[...] = 0
    t = target[kept]
    hot = np.arange(len(t)), t
    log_p = _log_softmax(x[kept])
    hard, soft = (1 - label_smoothing) * weight[t], label_smoothing / max(D, 1) * weight
    loss = hard * (0 - log_p[hot])
    if label_smoothing:
        loss -= np.sum(soft * log_p, axis=1)
    dx = np.exp(log_p) * (hard + soft.sum())[:, np.newaxis] - soft
    dx[hot] -= hard
    loss_out[kept], dx_out[kept] = loss, dx
    sums_out[...] = loss_out.sum(dtype=np.float64), weight[t].sum(dtype=np.float64)


@_quiet
def cross_entropy_backward(dloss, dx, dx_out, n_threads):
    np.multiply(dx, dloss[:, np.newaxis], out=dx_out)


@_quiet
def _log_softmax(x):
    z = x.astype(np.float64) - x.max(axis=1, keepdims=True, initial=-np.inf)
    return z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
