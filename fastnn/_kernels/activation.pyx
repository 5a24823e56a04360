"""Activations and their derivatives, element by element.

Memory is walked in the order in which it lies, whatever the shape, in chunks of fixed length shared out to the
threads. Each element is read and written once, and the bodies (vmath.h) are branch-free, so that the compiler
vectorizes the loops: ReLU and leaky ReLU are bound by bandwidth, the others by it or by some twenty
multiply-adds an element. The derivatives are had from the output, which the next layer keeps anyway.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from fastnn._kernels.kernel cimport CHUNK, check_dense, check_same, is_f32, threads_for

cnp.import_array()

cdef extern from "vmath.h" nogil:  # macros: float gives float
    double vm_expm1_negative(double x)
    double vm_sigmoid(double x)
    double vm_tanh(double x)

cdef enum Op:
    RELU, LEAKY_RELU, SIGMOID, TANH, ELU
    RELU_BACKWARD, LEAKY_RELU_BACKWARD, SIGMOID_BACKWARD, TANH_BACKWARD, ELU_BACKWARD


cdef void _chunk(Op op, floating a, const floating* g, const floating* x, floating* out, Py_ssize_t n) noexcept nogil:
    """Forward of x, or backward from the gradient g and the output x; `a` is the negative slope or alpha.

    Comparisons are written so that NaN passes, and nothing is read under a condition, which would not be vectorized.
    """
    cdef Py_ssize_t i
    cdef floating one = 1, zero = 0, v
    if op == RELU:
        for i in range(n):
            out[i] = zero if x[i] <= 0 else x[i]
    elif op == RELU_BACKWARD:
        for i in range(n):
            v = g[i]
            out[i] = zero if x[i] <= 0 else v
    elif op == LEAKY_RELU:
        for i in range(n):
            out[i] = x[i] * (one if x[i] > 0 else a)
    elif op == LEAKY_RELU_BACKWARD:
        for i in range(n):
            out[i] = g[i] * (one if x[i] > 0 else a)
    elif op == SIGMOID:
        for i in range(n):
            out[i] = vm_sigmoid(x[i])
    elif op == SIGMOID_BACKWARD:
        for i in range(n):
            out[i] = g[i] * (x[i] * (one - x[i]))
    elif op == TANH:
        for i in range(n):
            out[i] = vm_tanh(x[i])
    elif op == TANH_BACKWARD:
        for i in range(n):
            out[i] = g[i] * (one - x[i] * x[i])
    elif op == ELU:
        for i in range(n):
            v = x[i] if x[i] < 0 else zero
            v = a * vm_expm1_negative(v)
            out[i] = v if x[i] < 0 else x[i]
    elif op == ELU_BACKWARD:
        for i in range(n):
            out[i] = g[i] * (x[i] + a if x[i] <= 0 else one)


cdef void _all(Op op, floating a, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray out, int n_threads) noexcept nogil:
    cdef const floating* g = <const floating*> cnp.PyArray_DATA(dy)
    cdef const floating* p = <const floating*> cnp.PyArray_DATA(x)
    cdef floating* q = <floating*> cnp.PyArray_DATA(out)
    cdef Py_ssize_t i, n = cnp.PyArray_SIZE(x), units = (n + CHUNK - 1) // CHUNK
    if n_threads == 1:
        _chunk(op, a, g, p, q, n)
        return
    for i in prange(units, schedule="static", num_threads=n_threads):
        _chunk(op, a, g + i * CHUNK, p + i * CHUNK, q + i * CHUNK, min(<Py_ssize_t> CHUNK, n - i * CHUNK))


cdef int _run(Op op, double a, int cost, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray out, int n_threads) except -1:
    """`cost` of an element in units of one streamed; forward passes have x for dy."""
    check_dense(x)
    check_same(x, dy)
    check_same(x, out)
    cdef int t = threads_for(cost * cnp.PyArray_SIZE(x), n_threads)
    cdef bint single = is_f32(x)
    with nogil:
        if single:
            _all(op, <float> a, dy, x, out, t)
        else:
            _all(op, a, dy, x, out, t)
    return 0


def relu(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = max(x, 0)."""
    _run(RELU, 0, 1, x, x, y_out, n_threads)


def relu_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = dy where y > 0, else 0."""
    _run(RELU_BACKWARD, 0, 2, dy, y, dx_out, n_threads)


def leaky_relu(cnp.ndarray x, double negative_slope, cnp.ndarray y_out, int n_threads):
    """y = x where x > 0, else negative_slope·x."""
    _run(LEAKY_RELU, negative_slope, 1, x, x, y_out, n_threads)


def leaky_relu_backward(cnp.ndarray dy, cnp.ndarray y, double negative_slope, cnp.ndarray dx_out, int n_threads):
    """dx = dy where y > 0, else negative_slope·dy; if the slope is negative, y must be the input instead."""
    _run(LEAKY_RELU_BACKWARD, negative_slope, 2, dy, y, dx_out, n_threads)


def sigmoid(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = 1 / (1 + exp(−x))."""
    _run(SIGMOID, 0, 8, x, x, y_out, n_threads)


def sigmoid_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = dy·y·(1 − y)."""
    _run(SIGMOID_BACKWARD, 0, 2, dy, y, dx_out, n_threads)


def tanh(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = tanh(x)."""
    _run(TANH, 0, 8, x, x, y_out, n_threads)


def tanh_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = dy·(1 − y²)."""
    _run(TANH_BACKWARD, 0, 2, dy, y, dx_out, n_threads)


def elu(cnp.ndarray x, double alpha, cnp.ndarray y_out, int n_threads):
    """y = x where x >= 0, else alpha·(exp(x) − 1)."""
    _run(ELU, alpha, 8, x, x, y_out, n_threads)


def elu_backward(cnp.ndarray dy, cnp.ndarray y, double alpha, cnp.ndarray dx_out, int n_threads):
    """dx = dy where y > 0, else dy·(y + alpha); alpha >= 0."""
    _run(ELU_BACKWARD, alpha, 2, dy, y, dx_out, n_threads)
