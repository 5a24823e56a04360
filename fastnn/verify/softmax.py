"""Cases of the softmax and cross-entropy kernels: rows shorter and longer than the partial sums and the blocks."""
import numpy as np

from fastnn.verify.arrays import normal, out, special

SHAPES = [(0, 5), (3, 0), (1, 1), (7, 3), (5, 31), (4, 32), (3, 33), (300, 10), (2, 130), (70, 129), (2, 5003)]


def softmax(rng, dtype):
    for shape in SHAPES:
        for x in _logits(rng, shape, dtype):
            yield (x, out(shape, dtype)), shape[1]


def softmax_backward(rng, dtype):
    for shape in SHAPES:
        yield (normal(rng, shape, dtype), _probabilities(rng, shape, dtype), out(shape, dtype)), shape[1]
    yield (special(rng, (9, 40), dtype), special(rng, (9, 40), dtype), out((9, 40), dtype)), 40


log_softmax = softmax


def log_softmax_backward(rng, dtype):
    for shape in SHAPES:
        yield (normal(rng, shape, dtype), np.log(_probabilities(rng, shape, dtype)), out(shape, dtype)), shape[1]


def cross_entropy(rng, dtype):
    for i, shape in enumerate(SHAPES):
        M, D = shape
        for smoothing in (0.0, 0.3):
            for x in _logits(rng, shape, dtype)[: 2 - (smoothing > 0)]:  # -inf with smoothing: 0·inf, either way NaN
                target = rng.integers(0, D, M) if D else np.full(M, -100)
                target[rng.random(M) < 0.2] = -100
                weight = np.ones(D, dtype) if i % 2 else rng.random(D).astype(dtype)
                outs = out((M,), dtype), out((M,), dtype), out(shape, dtype)
                yield (x, target, weight, smoothing, -100, *outs), max(D, 1)


def cross_entropy_backward(rng, dtype):
    for M, D in SHAPES:
        yield (special(rng, (M,), dtype), special(rng, (M, D), dtype), out((M, D), dtype)), 1


def _logits(rng, shape, dtype):
    """Ordinary logits, far from 0 and apart; and rows with ties, infinities and NaN."""
    return normal(rng, shape, dtype) * dtype.type(5) + dtype.type(50), special(rng, shape, dtype)


def _probabilities(rng, shape, dtype):
    y = np.maximum(normal(rng, shape, dtype), 0)  # some are exactly 0
    return y / np.maximum(y.sum(axis=1, keepdims=True), 1)
