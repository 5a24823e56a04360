"""Cases of the optimizer kernels: lists of parameters, gradients and state, of mixed sizes, orders and dtypes."""
import numpy as np

from fastnn.verify.arrays import normal, special

SIZES = ((), (0,), (1,), (63,), (130, 17), (8, 3, 3, 5), (129, 130))  # the last is longer than a unit of work


def _weights(rng, dtype, make=normal):
    """Parameters of all sizes, 4-D ones channels-last, and a convolution weight in the memory order H, W, I, O."""
    return [*(make(rng, shape, dtype) for shape in SIZES), make(rng, (3, 5, 4, 7), dtype).transpose(3, 2, 0, 1)]


def sgd_step(rng, dtype):
    for momentum, dampening, decay, nesterov, maximize, first, make in (
        (0.0, 0.0, 0.0, False, False, False, normal), (0.0, 0.0, 0.1, False, True, False, special),
        (0.9, 0.0, 0.0, False, False, True, normal), (0.9, 0.3, 0.1, False, False, False, normal),
        (0.9, 0.0, 0.0, True, False, False, special), (0.9, 0.0, 0.1, True, True, True, special),
    ):
        params, grads = _weights(rng, dtype), _weights(rng, dtype, make)
        buffers = _weights(rng, dtype) if momentum else []
        yield (params, grads, buffers, 0.1, momentum, dampening, decay, nesterov, maximize, first), 1
    yield ([], [], [], 0.1, 0.0, 0.0, 0.0, False, False, False), 1


def adam_step(rng, dtype):
    for step, beta1, beta2, eps, decay, decoupled, maximize, amsgrad, make in (
        (1, 0.9, 0.999, 1e-8, 0.0, False, False, False, normal),
        (100000, 0.9, 0.999, 1e-8, 0.0, False, True, False, special),
        (3, 0.9, 0.999, 1e-3, 0.1, False, False, True, normal),
        (4, 0.3, 0.5, 1e-3, 0.1, True, False, True, special),
        (5, 0.0, 0.0, 1e-3, 0.1, True, True, False, normal),
        (2, 0.9, 0.99, 0.5, 0.0, False, False, True, special),
    ):
        params, grads = _weights(rng, dtype), _weights(rng, dtype, make)
        averages, squares = _weights(rng, dtype), [np.abs(a, out=a) for a in _weights(rng, dtype)]
        largest = [np.abs(a, out=a) for a in _weights(rng, dtype, make)] if amsgrad else []
        yield (params, grads, averages, squares, largest, step, 0.01, beta1, beta2, eps, decay, decoupled, maximize), 1
    yield ([], [], [], [], [], 1, 0.01, 0.9, 0.999, 1e-8, 0.0, False, False), 1
