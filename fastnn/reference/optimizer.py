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


def _directions(params, grads, weight_decay, l1, maximize, grad_scale, *states):
    """For each parameter: itself, its direction d, its entry of each list of states, None where the list is empty."""
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        d = (-grad_scale if maximize else grad_scale) * g
        if weight_decay != 0:
            d = d + weight_decay * p
        if l1 != 0:
            d = d + l1 * np.sign(p)
        yield p, d, *(state[i] if state else None for state in states)


def sgd_step(params_out, grads, momentum_buffers_out, steps, lr, momentum, dampening, weight_decay, nesterov, maximize,
             l1, grad_scale, n_threads):
    for p, d, b, step in _directions(params_out, grads, weight_decay, l1, maximize, grad_scale, momentum_buffers_out,
                                     steps):
        if b is not None:
            b[...] = d if step == 0 else momentum * b + (1 - dampening) * d
            d = d + momentum * b if nesterov else b
        p -= lr * d


def adagrad_step(params_out, grads, sums_out, steps_out, lr, lr_decay, weight_decay, eps, maximize, l1, grad_scale,
                 n_threads):
    for p, d, total, step in _directions(params_out, grads, weight_decay, l1, maximize, grad_scale, sums_out,
                                         steps_out):
        step += 1
        total += d * d
        p -= lr / (1 + (float(step) - 1) * lr_decay) * d / (np.sqrt(total) + eps)


def adadelta_step(params_out, grads, square_avgs_out, acc_deltas_out, steps_out, lr, rho, eps, weight_decay, maximize,
                  l1, grad_scale, n_threads):
    for p, d, square, acc, step in _directions(params_out, grads, weight_decay, l1, maximize, grad_scale,
                                               square_avgs_out, acc_deltas_out, steps_out):
        step += 1
        square[...] = rho * square + (1 - rho) * d * d
        delta = np.sqrt(acc + eps) / np.sqrt(square + eps) * d
        acc[...] = rho * acc + (1 - rho) * delta * delta
        p -= lr * delta


def rmsprop_step(params_out, grads, square_avgs_out, grad_avgs_out, momentum_buffers_out, steps_out, lr, alpha, eps,
                 weight_decay, momentum, maximize, l1, grad_scale, n_threads):
    for p, d, square, mean, b, step in _directions(params_out, grads, weight_decay, l1, maximize, grad_scale,
                                                   square_avgs_out, grad_avgs_out, momentum_buffers_out, steps_out):
        step += 1
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


def _moments(lr, betas, weight_decay, decoupled, params, grads, l1, maximize, grad_scale, means, squares, *states):
    """What Adam and its kin share: `_directions`, after the decay of p and the update of both running averages."""
    for p, d, m, v, *more in _directions(params, grads, 0 if decoupled else weight_decay, l1, maximize, grad_scale,
                                         means, squares, *states):
        if decoupled:
            p *= 1 - lr * weight_decay
        m[...] = _lerp(m, d, 1 - betas[0])
        v[...] = betas[1] * v + (1 - betas[1]) * d * d
        yield p, d, m, v, *more


def adam_step(params_out, grads, exp_avgs_out, exp_avg_sqs_out, max_exp_avg_sqs_out, steps_out, lr, betas, eps,
              weight_decay, decoupled_weight_decay, maximize, l1, grad_scale, n_threads):
    for p, _, m, v, largest, step in _moments(
            lr, betas, weight_decay, decoupled_weight_decay, params_out, grads, l1, maximize, grad_scale, exp_avgs_out,
            exp_avg_sqs_out, max_exp_avg_sqs_out, steps_out):
        step += 1
        s = float(step)
        if largest is not None:
            v = np.maximum(largest, v, out=largest)
        p -= lr / (1 - betas[0]**s) * m / (np.sqrt(v) / np.sqrt(1 - betas[1]**s) + eps)


def adamax_step(params_out, grads, exp_avgs_out, exp_infs_out, steps_out, lr, betas, eps, weight_decay, maximize, l1,
                grad_scale, n_threads):
    for p, d, m, u, step in _directions(params_out, grads, weight_decay, l1, maximize, grad_scale, exp_avgs_out,
                                        exp_infs_out, steps_out):
        step += 1
        m[...] = _lerp(m, d, 1 - betas[0])
        np.maximum(betas[1] * u, np.abs(d) + eps, out=u)
        p -= lr / (1 - betas[0]**float(step)) * m / u


def nadam_step(params_out, grads, exp_avgs_out, exp_avg_sqs_out, steps_out, mu_products_out, lr, betas, eps,
               weight_decay, momentum_decay, decoupled_weight_decay, maximize, l1, grad_scale, n_threads):
    for p, d, m, v, step, product in _moments(
            lr, betas, weight_decay, decoupled_weight_decay, params_out, grads, l1, maximize, grad_scale, exp_avgs_out,
            exp_avg_sqs_out, steps_out, mu_products_out):
        step += 1
        s = float(step)
        mu, after = (betas[0] * (1 - 0.96**(t * momentum_decay) / 2) for t in (s, s + 1))
        product[...] = np.float32(product) * np.float32(mu)  # as PyTorch keeps it
        total = float(product)
        d = (1 - mu) / (1 - total) * d + after / (1 - total * after) * m
        p -= lr * d / (np.sqrt(v / (1 - betas[1]**s)) + eps)


def radam_step(params_out, grads, exp_avgs_out, exp_avg_sqs_out, steps_out, lr, betas, eps, weight_decay,
               decoupled_weight_decay, maximize, l1, grad_scale, n_threads):
    for p, _, m, v, step in _moments(
            lr, betas, weight_decay, decoupled_weight_decay, params_out, grads, l1, maximize, grad_scale, exp_avgs_out,
            exp_avg_sqs_out, steps_out):
        step += 1
        s = float(step)
        limit, rest = 2 / (1 - betas[1]) - 1, 1 - betas[1]**s
        rho = limit - 2 * s * (1 - rest) / rest
        m = m / (1 - betas[0]**s)
        if rho > 5:
            m *= math.sqrt(rest * (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            m /= np.sqrt(v) + eps
        p -= lr * m


def rprop_step(params_out, grads, prevs_out, step_sizes_out, steps_out, etas, step_sizes, maximize, l1, grad_scale,
               n_threads):
    for p, d, before, size, step in _directions(params_out, grads, 0, l1, maximize, grad_scale, prevs_out,
                                                step_sizes_out, steps_out):
        step += 1
        turn = np.sign(d) * np.sign(before)
        size *= np.select([turn > 0, turn < 0], [etas[1], etas[0]], 1 + turn)
        np.clip(size, *step_sizes, out=size)
        before[...] = np.where(turn < 0, 0, d)
        p -= np.sign(before) * size


def asgd_step(params_out, grads, axs_out, steps_out, etas_out, mus_out, lr, lambd, alpha, t0, weight_decay, maximize,
              l1, grad_scale, n_threads):
    for p, d, ax, step, eta, mu in _directions(params_out, grads, weight_decay, l1, maximize, grad_scale, axs_out,
                                               steps_out, etas_out, mus_out):
        p[...] = (1 - lambd * float(eta)) * p - float(eta) * d
        ax[...] = p if mu == 1 else ax + (p - ax) * float(mu)
        step += 1
        eta[...] = np.float32(lr / (1 + lambd * lr * float(step))**alpha)  # as PyTorch keeps them
        mu[...] = np.float32(1 / max(1, float(step) - t0))
