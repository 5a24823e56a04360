"""Twins of the elementwise kernels."""
import numpy as np

_quiet = np.errstate(all="ignore")  # infinities and NaN pass silently


def _twin(ufunc):
    @_quiet
    def arithmetic(x, y, z_out, n_threads):
        ufunc(x, y, out=z_out)

    return arithmetic


add, sub, mul, div = map(_twin, (np.add, np.subtract, np.multiply, np.divide))


@_quiet
def scale_channels(x, factor, y_out, n_threads):
    np.multiply(x, factor[:, :, None, None], out=y_out)


def copy(x, y_out, n_threads):
    np.copyto(y_out, x)
