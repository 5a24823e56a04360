"""Twin of the matrix product."""
import numpy as np


def matmul(a, b, bias, c_out, n_threads):
    np.matmul(a, b, out=c_out)
    if bias is not None:
        c_out += bias


def column_sum(x, sum_out, n_threads):
    sum_out[...] = x.sum(axis=tuple(i for i in range(x.ndim) if i != 1), dtype=np.float64)
