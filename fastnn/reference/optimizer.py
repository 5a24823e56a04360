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


def _each(params, grads, states, numbers, direction):
    """For each parameter: itself, d, its states, None where they are not kept, and its numbers."""
    weight_decay, maximize, l1, grad_scale = direction
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        d = (-grad_scale if maximize else grad_scale) * g
        if weight_decay != 0:
            d = d + weight_decay * p
        if l1 != 0:
            d = d + l1 * np.sign(p)
        yield p, d, *(column[i] if column else None for column in (*states, *numbers))


def sgd_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, momentum, dampening, nesterov = options
    for p, d, b, step in _each(params_out, grads, states_out, numbers_out, direction):
        if b is not None:
            b[...] = d if step == 0 else momentum * b + (1 - dampening) * d
            d = d + momentum * b if nesterov else b
        p -= lr * d


def adagrad_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, lr_decay, eps = options
    for p, d, total, step in _each(params_out, grads, states_out, numbers_out, direction):
        total += d * d
        p -= lr / (1 + float(step) * lr_decay) * d / (np.sqrt(total) + eps)
        step += 1


def adadelta_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, rho, eps = options
    for p, d, square, change, step in _each(params_out, grads, states_out, numbers_out, direction):
        square[...] = rho * square + (1 - rho) * d * d
        d = np.sqrt(change + eps) / np.sqrt(square + eps) * d
        change[...] = rho * change + (1 - rho) * d * d
        p -= lr * d
        step += 1


def rmsprop_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, alpha, eps, momentum = options
    for p, d, square, mean, b, step in _each(params_out, grads, states_out, numbers_out, direction):
        square[...] = alpha * square + (1 - alpha) * d * d
        if mean is not None:
            mean[...] = _lerp(mean, d, 1 - alpha)
            square = np.maximum(square - mean * mean, 0)
        d = d / (np.sqrt(square) + eps)
        if b is not None:
            d = b[...] = momentum * b + d
        p -= lr * d
        step += 1


def _lerp(a, b, weight):
    """From a towards b, from the nearer end, as torch.lerp does."""
    return a + weight * (b - a) if weight < 0.5 else b - (1 - weight) * (b - a)


def _moments(options, params, grads, states, numbers, direction):
    """What Adam and its kin share: p after its decay, d, m and v with d in them, the step; then what else there is."""
    lr, beta1, beta2, _, decay, *_ = options
    for p, d, m, v, *more, step in _each(params, grads, states, numbers[:1], direction):
        p *= 1 - lr * decay
        m[...] = _lerp(m, d, 1 - beta1)
        v[...] = beta2 * v + (1 - beta2) * d * d
        step += 1
        yield p, d, m, v, float(step), *more


def adam_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, beta1, beta2, eps, _ = options
    for p, _, m, v, s, largest in _moments(options, params_out, grads, states_out, numbers_out, direction):
        if largest is not None:
            v = np.maximum(largest, v, out=largest)
        p -= lr / (1 - beta1**s) * m / (np.sqrt(v) / np.sqrt(1 - beta2**s) + eps)


def adamax_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, beta1, beta2, eps = options
    for p, d, m, u, step in _each(params_out, grads, states_out, numbers_out, direction):
        step += 1
        m[...] = _lerp(m, d, 1 - beta1)
        np.maximum(beta2 * u, np.abs(d) + eps, out=u)
        p -= lr / (1 - beta1**float(step)) * m / u


def nadam_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, beta1, beta2, eps, _, momentum_decay = options
    parts = _moments(options, params_out, grads, states_out, numbers_out, direction)
    for (p, d, m, v, s), product in zip(parts, numbers_out[1] if params_out else (), strict=True):
        mu, after = (beta1 * (1 - 0.96**(t * momentum_decay) / 2) for t in (s, s + 1))
        product[...] = np.float32(product) * np.float32(mu)  # as PyTorch keeps it
        total = float(product)
        d = (1 - mu) / (1 - total) * d + after / (1 - total * after) * m
        p -= lr * d / (np.sqrt(v / (1 - beta2**s)) + eps)


def radam_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, beta1, beta2, eps, _ = options
    for p, _, m, v, s in _moments(options, params_out, grads, states_out, numbers_out, direction):
        limit, rest = 2 / (1 - beta2) - 1, 1 - beta2**s
        rho = limit - 2 * s * (1 - rest) / rest
        m = m / (1 - beta1**s)
        if rho > 5:
            m *= math.sqrt(rest * (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            m /= np.sqrt(v) + eps
        p -= lr * m


def rprop_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    down, up, least, most = options
    for p, d, before, size, step in _each(params_out, grads, states_out, numbers_out, direction):
        turn = np.sign(d) * np.sign(before)
        size *= np.select([turn > 0, turn < 0], [up, down], 1 + turn)
        np.clip(size, least, most, out=size)
        before[...] = np.where(turn < 0, 0, d)
        p -= np.sign(before) * size
        step += 1


def asgd_step(params_out, grads, states_out, numbers_out, options, direction, n_threads):
    lr, lambd, alpha, t0 = options
    for p, d, ax, step, eta, mu in _each(params_out, grads, states_out, numbers_out, direction):
        p[...] = (1 - lambd * float(eta)) * p - float(eta) * d
        ax[...] = p if mu == 1 else ax + (p - ax) * float(mu)
        step += 1
        eta[...] = np.float32(lr / (1 + lambd * lr * float(step))**alpha)  # as PyTorch keeps them
        mu[...] = np.float32(1 / max(1, float(step) - t0))
