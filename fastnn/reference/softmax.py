"""Twins of the softmax and cross-entropy kernels: (M, D) arrays, along the last axis; sums in float64."""
import numpy as np


def softmax(x, y_out, n_threads):
    z = _shifted_exp(x)
    np.divide(z, z.sum(axis=1, keepdims=True), out=y_out, casting="same_kind")


def softmax_backward(dy, y, dx_out, n_threads):
    np.copyto(dx_out, y * (dy - np.sum(dy * y, axis=1, keepdims=True, dtype=np.float64)), casting="same_kind")


def log_softmax(x, y_out, n_threads):
    np.copyto(y_out, _log_softmax(x), casting="same_kind")


def log_softmax_backward(dy, y, dx_out, n_threads):
    total = dy.sum(axis=1, keepdims=True, dtype=np.float64)
    np.copyto(dx_out, dy - np.exp(y, dtype=np.float64) * total, casting="same_kind")


def cross_entropy(x, target, weight, label_smoothing, ignore_index, loss_out, row_weight_out, dx_out, n_threads):
    D = x.shape[1]
    kept = target != ignore_index
    wrong = target[kept & ((target < 0) | (target >= D))]
    if wrong.size:
        raise IndexError(f"cross_entropy: target {wrong[0]} is out of range for {D} classes")
    loss_out[...] = row_weight_out[...] = 0
    dx_out[...] = 0
    rows, t = np.flatnonzero(kept), target[kept]
    log_p = _log_softmax(x[kept])
    hard, soft = (1 - label_smoothing) * weight[t], label_smoothing / max(D, 1) * weight
    row_weight_out[rows] = weight[t]
    loss_out[rows] = -hard * log_p[np.arange(len(t)), t]
    if label_smoothing:
        loss_out[rows] -= np.sum(soft * log_p, axis=1, dtype=np.float64)
    dx = np.exp(log_p) * (hard + soft.sum())[:, np.newaxis] - soft
    dx[np.arange(len(t)), t] -= hard
    dx_out[rows] = dx


def cross_entropy_backward(dloss, dx, dx_out, n_threads):
    np.multiply(dx, dloss[:, np.newaxis], out=dx_out)


def _shifted_exp(x):
    return np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf), dtype=np.float64)


def _log_softmax(x):
    z = x - x.max(axis=1, keepdims=True, initial=-np.inf)
    return z - np.log(np.sum(np.exp(z, dtype=np.float64), axis=1, keepdims=True))
