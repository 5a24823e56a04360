"""Cases of the dropout kernels: the mask must be the twin's, bit by bit."""
import numpy as np

from fastnn.verify.arrays import out, special

CASES = [
    ((), 0.5, 0), ((0, 3), 0.5, 1), ((1,), 0.9, 2), ((63,), 0.1, 3), ((64,), 0.5, 2**64 - 1), ((5, 13), 0.0, 5),
    ((1023,), 0.25, 6), ((1025,), 1.0, 7), ((2, 3, 5, 7), 0.5, 8), ((3, 130, 4, 5), 0.7, 2**32), ((33_001,), 1 / 3, 10),
]  # fmt: skip


def dropout(rng, dtype):
    for shape, p, seed in CASES:
        x = special(rng, shape, dtype)
        yield (x, p, seed, np.zeros((x.size + 63) // 64, np.uint64), out(shape, dtype)), 1


def dropout_backward(rng, dtype):
    for (dy, p, _, mask, dx), _ in dropout(rng, dtype):
        yield (dy, rng.integers(0, 2**64, mask.shape, np.uint64), p, dx), 1
