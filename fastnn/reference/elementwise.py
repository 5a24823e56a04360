"""Twins of the elementwise kernels."""
import numpy as np

_quiet = np.errstate(all="ignore")  # infinities and NaN pass silently


@_quiet
def add(x, y, z_out, n_threads):
    np.add(x, y, out=z_out)


@_quiet
def sub(x, y, z_out, n_threads):
    np.subtract(x, y, out=z_out)


@_quiet
def mul(x, y, z_out, n_threads):
    np.multiply(x, y, out=z_out)


@_quiet
def div(x, y, z_out, n_threads):
    np.divide(x, y, out=z_out)


@_quiet
def scale_channels(x, factor, y_out, n_threads):
    np.multiply(x, factor[:, :, None, None], out=y_out)


def copy(x, y_out, n_threads):
    np.copyto(y_out, x)
