"""Twins of the optimizer kernels."""
import math

import numpy as np


def grad_norm(grads, largest, norm_out, n_threads):
    if largest:
        norm_out[...] = np.max([np.abs(g).max(initial=0) for g in grads], initial=0)
    else:
        norm_out[...] = math.sqrt(sum(np.square(g, dtype=np.float64).sum() for g in grads))


def grad_scale(grads_out, factor, n_threads):
    for g in grads_out:
        g *= factor


def grad_clamp(grads_out, limit, n_threads):
    for g in grads_out:
        np.clip(g, -limit, limit, out=g)


def _for_each(rule):
    """The twin, from what it does to one parameter p in its step s: with d, the states (None if not kept), s, the other
    numbers and options. SGD alone counts no steps; its s is 0 at first."""
    def step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
        weight_decay, maximize, l1, grad_scale = direction
        for i, (p, g) in enumerate(zip(params_out, grads, strict=True)):
            d = (-grad_scale if maximize else grad_scale) * g
            if weight_decay != 0:
                d = d + weight_decay * p
            if l1 != 0:
                d = d + l1 * np.sign(p)
            steps, *others = (number[i] for number in numbers_out)
            steps += rule.__name__ != "sgd_step"
            rule(p, d, *(state[i] if state else None for state in states_out), float(steps), *others, *options)
    step.__name__ = step.__qualname__ = rule.__name__
    return step


@_for_each
def sgd_step(p, d, b, s, lr, momentum, dampening, nesterov):
    if b is not None:
        b[...] = d if s == 0 else momentum * b + (1 - dampening) * d
        d = d + momentum * b if nesterov else b
    p -= lr * d


@_for_each
def adagrad_step(p, d, total, s, lr, lr_decay, eps):
    total += d * d
    p -= lr / (1 + (s - 1) * lr_decay) * d / (np.sqrt(total) + eps)


@_for_each
def adadelta_step(p, d, square, change, s, lr, rho, eps):
    square[...] = rho * square + (1 - rho) * d * d
    d = np.sqrt(change + eps) / np.sqrt(square + eps) * d
    change[...] = rho * change + (1 - rho) * d * d
    p -= lr * d


@_for_each
def rmsprop_step(p, d, square, mean, b, s, lr, alpha, eps, momentum):
    square[...] = alpha * square + (1 - alpha) * d * d
    if mean is not None:
        mean[...] = _lerp(mean, d, 1 - alpha)
        square = np.maximum(square - mean * mean, 0)
    d = d / (np.sqrt(square) + eps)
    if b is not None:
        d = b[...] = momentum * b + d
    p -= lr * d


def _lerp(a, b, weight):
    """From a towards b, from the nearer end, as torch.lerp does."""
    return a + weight * (b - a) if weight < 0.5 else b - (1 - weight) * (b - a)


def _moments(p, d, m, v, lr, beta1, beta2, decay):
    """What Adam and its kin begin with."""
    p *= 1 - lr * decay
    m[...] = _lerp(m, d, 1 - beta1)
    v[...] = beta2 * v + (1 - beta2) * d * d


@_for_each
def adam_step(p, d, m, v, largest, s, lr, beta1, beta2, eps, decay):
    _moments(p, d, m, v, lr, beta1, beta2, decay)
    if largest is not None:
        v = np.maximum(largest, v, out=largest)
    p -= lr / (1 - beta1**s) * m / (np.sqrt(v) / np.sqrt(1 - beta2**s) + eps)


@_for_each
def adamax_step(p, d, m, u, s, lr, beta1, beta2, eps):
    m[...] = _lerp(m, d, 1 - beta1)
    np.maximum(beta2 * u, np.abs(d) + eps, out=u)
    p -= lr / (1 - beta1**s) * m / u


@_for_each
def nadam_step(p, d, m, v, s, product, lr, beta1, beta2, eps, decay, momentum_decay):
    _moments(p, d, m, v, lr, beta1, beta2, decay)
    mu, after = (beta1 * (1 - 0.96**(t * momentum_decay) / 2) for t in (s, s + 1))
    product[...] = np.float32(product) * np.float32(mu)  # as PyTorch keeps it
    total = float(product)
    d = (1 - mu) / (1 - total) * d + after / (1 - total * after) * m
    p -= lr * d / (np.sqrt(v / (1 - beta2**s)) + eps)


@_for_each
def radam_step(p, d, m, v, s, lr, beta1, beta2, eps, decay):
    _moments(p, d, m, v, lr, beta1, beta2, decay)
    limit, rest = 2 / (1 - beta2) - 1, 1 - beta2**s
    rho = limit - 2 * s * (1 - rest) / rest
    m = m / (1 - beta1**s)
    if rho > 5:
        m *= math.sqrt(rest * (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
        m /= np.sqrt(v) + eps
    p -= lr * m


@_for_each
def rprop_step(p, d, before, size, s, down, up, least, most):
    turn = np.sign(d) * np.sign(before)
    size *= np.select([turn > 0, turn < 0], [up, down], 1 + turn)
    np.clip(size, least, most, out=size)
    before[...] = np.where(turn < 0, 0, d)
    p -= np.sign(before) * size


@_for_each
def asgd_step(p, d, ax, s, eta, mu, lr, lambd, alpha, t0):
    p[...] = (1 - lambd * float(eta)) * p - float(eta) * d
    ax[...] = p if mu == 1 else ax + (p - ax) * float(mu)
    eta[...] = np.float32(lr / (1 + lambd * lr * s)**alpha)  # as PyTorch keeps them
    mu[...] = np.float32(1 / max(1, s - t0))
