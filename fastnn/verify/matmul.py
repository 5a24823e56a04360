"""Cases of the matrix-product kernels: all orientations, sizes around the tile's, few rows, long sums."""
import numpy as np

from fastnn.verify.arrays import normal, out, special

SIZES = [(1, 1, 1), (1, 33, 70), (3, 130, 65), (5, 17, 9), (14, 32, 40), (15, 33, 257), (29, 10, 31), (6, 5, 0),
         (0, 4, 3), (100, 70, 120), (9, 12, 4200), (130, 250, 784)]


def matmul(rng, dtype):
    for i, (M, N, K) in enumerate(SIZES):
        a = normal(rng, (K, M), dtype).T if i % 2 else normal(rng, (M, K), dtype)
        b = normal(rng, (N, K), dtype).T if i % 3 else normal(rng, (K, N), dtype)
        yield (a, b, normal(rng, (N,), dtype) if i % 4 else None, out((M, N), dtype)), K
    for M, N, K in SIZES[1:5]:
        yield (normal(rng, (3, M, K), dtype), normal(rng, (3, K, N), dtype), None, out((3, M, N), dtype)), K
    yield (special(rng, (7, 3), dtype), np.eye(3, dtype=dtype)[:, :1], None, out((7, 1), dtype)), 3
