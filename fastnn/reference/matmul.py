"""Twin of the matrix product."""
import numpy as np


def matmul(a, b, bias, c_out, n_threads):
    np.matmul(a, b, out=c_out)
    if bias is not None:
        c_out += bias
