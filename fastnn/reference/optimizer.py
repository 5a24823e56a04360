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


def sgd_step(params_out, grads, momentum_buffers_out, lr, momentum, dampening, weight_decay, nesterov, maximize,
             grad_scale, first, n_threads):
    for i, (p, g) in enumerate(zip(params_out, grads, strict=True)):
        d = (-grad_scale if maximize else grad_scale) * g
        if weight_decay != 0:
            d = d + weight_decay * p
        if momentum_buffers_out:
            b = momentum_buffers_out[i]
            b[...] = d if first[i] else momentum * b + (1 - dampening) * d
            d = d + momentum * b if nesterov else b
        p -= lr * d


def adam_step(params_out, grads, exp_avgs_out, exp_avg_sqs_out, max_exp_avg_sqs_out, steps_out, lr, beta1, beta2,
              eps, weight_decay, decoupled, maximize, grad_scale, n_threads):
    for i, (p, g, m, v) in enumerate(zip(params_out, grads, exp_avgs_out, exp_avg_sqs_out, strict=True)):
        steps_out[i] += 1
        step = float(steps_out[i])
        d = (-grad_scale if maximize else grad_scale) * g
        if decoupled:
            p *= 1 - lr * weight_decay
        elif weight_decay != 0:
            d = d + weight_decay * p
        m[...] = m + (1 - beta1) * (d - m) if beta1 > 0.5 else d - beta1 * (d - m)  # as torch.lerp
        v[...] = beta2 * v + (1 - beta2) * d * d
        if max_exp_avg_sqs_out:
            v = np.maximum(max_exp_avg_sqs_out[i], v, out=max_exp_avg_sqs_out[i])
        p -= lr / (1 - beta1**step) * m / (np.sqrt(v) / np.sqrt(1 - beta2**step) + eps)
