"""Twins of the convolution kernels: the im2col matrix, as the lectures build it, and products with it."""
import numpy as np

from fastnn.reference.normalization import batch_norm


def _windows(x, kernel, stride, padding, dilation, size):
    """Zero-padded x as a view (N, C, kH, kW, oH, oW): every window's values."""
    (kH, kW), (sh, sw), (top, left), (dh, dw), (oH, oW) = kernel, stride, padding, dilation, size
    N, C, H, W = x.shape
    high, wide = (oH - 1) * sh + (kH - 1) * dh + 1, (oW - 1) * sw + (kW - 1) * dw + 1
    padded = np.zeros((N, C, max(high, H + top), max(wide, W + left)), x.dtype)
    padded[:, :, top:top + H, left:left + W] = x
    n, c, h, w = padded.strides
    return np.lib.stride_tricks.as_strided(padded, (N, C, kH, kW, oH, oW), (n, c, dh * h, dw * w, sh * h, sw * w))


def im2col(x, columns_out, kernel, stride, padding, dilation, size, n_threads):
    columns_out[...] = _windows(x, kernel, stride, padding, dilation, size).reshape(columns_out.shape)


def col2im(columns, x_out, kernel, stride, padding, dilation, size, n_threads):
    (kH, kW), (sh, sw), (top, left), (dh, dw), (oH, oW) = kernel, stride, padding, dilation, size
    N, C, H, W = x_out.shape
    windows = columns.reshape(N, C, kH, kW, oH, oW)
    tall, wide = max(H + top, (oH - 1) * sh + (kH - 1) * dh + 1), max(W + left, (oW - 1) * sw + (kW - 1) * dw + 1)
    padded = np.zeros((N, C, tall, wide))
    for kh in range(kH):
        for kw in range(kW):
            h, w = kh * dh, kw * dw
            padded[:, :, h:h + oH * sh:sh, w:w + oW * sw:sw][:, :, :oH, :oW] += windows[:, :, kh, kw]
    x_out[...] = padded[:, :, top:top + H, left:left + W]


def _columns(x, weight, y, stride, padding, dilation, groups):
    """The im2col matrix by group, (N, groups, C/groups·kH·kW, oH·oW), and the weight, (groups, F/groups, the same)."""
    N, F, oH, oW = y.shape
    k = weight[0].size
    columns = _windows(x, weight.shape[2:], stride, padding, dilation, (oH, oW)).reshape(N, groups, k, oH * oW)
    return columns, weight.reshape(groups, F // groups, k)


def conv2d(x, weight, bias, y_out, stride, padding, dilation, groups, n_threads):
    if y_out.size:
        columns, w = _columns(x, weight, y_out, stride, padding, dilation, groups)
        y_out[...] = (w @ columns).reshape(y_out.shape)
        if bias is not None:
            y_out += bias[:, None, None]


def conv2d_batch_norm(x, weight, bias, mean, rstd, gamma, beta, residual, relu, y_out, stride, padding, dilation,
                      groups, n_threads):
    conv2d(x, weight, bias, y_out, stride, padding, dilation, groups, n_threads)
    F = y_out.shape[1]
    mean, rstd = np.zeros(F) if mean is None else mean, np.ones(F) if rstd is None else rstd
    batch_norm(y_out, mean, rstd, gamma, beta, residual, relu, y_out, n_threads)


def conv2d_backward_input(dy, weight, dx_out, stride, padding, dilation, groups, n_threads):
    N, F, oH, oW = dy.shape
    if not dy.size or not dx_out.size:
        dx_out[...] = 0
        return
    w = weight.reshape(groups, F // groups, weight[0].size)
    columns = w.swapaxes(1, 2) @ dy.reshape(N, groups, F // groups, oH * oW)
    col2im(columns, dx_out, weight.shape[2:], stride, padding, dilation, (oH, oW), n_threads)


def conv2d_backward_weight(dy, x, dweight_out, stride, padding, dilation, groups, n_threads):
    N, F, oH, oW = dy.shape
    if not dy.size or not dweight_out.size:
        dweight_out[...] = 0
        return
    columns, _ = _columns(x, dweight_out, dy, stride, padding, dilation, groups)
    grads = dy.reshape(N, groups, F // groups, oH * oW)
    dweight_out[...] = (grads @ columns.swapaxes(2, 3)).sum(axis=0, dtype=np.float64).reshape(dweight_out.shape)
