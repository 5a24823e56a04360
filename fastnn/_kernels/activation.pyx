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

cdef extern from "vmath.h" nogil:
    float vm_expm1_negative_f32(float x)
    double vm_expm1_negative_f64(double x)
    float vm_sigmoid_f32(float x)
    double vm_sigmoid_f64(double x)
    float vm_tanh_f32(float x)
    double vm_tanh_f64(double x)

cdef enum Activation:
    RELU
    LEAKY_RELU
    SIGMOID
    TANH
    ELU


cdef void _forward_chunk(Activation op, floating a, const floating* x, floating* y, Py_ssize_t n) noexcept nogil:
    """y of x; `a` is the negative slope or alpha. Comparisons are written so that NaN passes."""
    cdef Py_ssize_t i
    cdef floating low
    if op == RELU:
        for i in range(n):
            y[i] = <floating> 0 if x[i] <= 0 else x[i]
    elif op == LEAKY_RELU:
        for i in range(n):
            y[i] = x[i] if x[i] > 0 else a * x[i]
    elif op == SIGMOID:
        for i in range(n):
            if floating is float:
                y[i] = vm_sigmoid_f32(x[i])
            else:
                y[i] = vm_sigmoid_f64(x[i])
    elif op == TANH:
        for i in range(n):
            if floating is float:
                y[i] = vm_tanh_f32(x[i])
            else:
                y[i] = vm_tanh_f64(x[i])
    else:
        for i in range(n):
            low = x[i] if x[i] < 0 else <floating> 0
            if floating is float:
                low = a * vm_expm1_negative_f32(low)
            else:
                low = a * vm_expm1_negative_f64(low)
            y[i] = low if x[i] < 0 else x[i]


cdef void _backward_chunk(
    Activation op, floating a, const floating* dy, const floating* y, floating* dx, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating one = 1, grad
    if op == RELU:
        for i in range(n):
            grad = dy[i]  # read in any case: a load under a condition is not vectorized where there are no masks
            dx[i] = <floating> 0 if y[i] <= 0 else grad
    elif op == LEAKY_RELU:
        for i in range(n):
            dx[i] = dy[i] * (one if y[i] > 0 else a)
    elif op == SIGMOID:
        for i in range(n):
            dx[i] = dy[i] * (y[i] * (one - y[i]))
    elif op == TANH:
        for i in range(n):
            dx[i] = dy[i] * (one - y[i] * y[i])
    else:
        for i in range(n):
            dx[i] = dy[i] * (y[i] + a if y[i] <= 0 else one)


cdef void _forward_all(
    Activation op, floating a, const floating* x, floating* y, Py_ssize_t n, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, units = (n + CHUNK - 1) // CHUNK
    if n_threads == 1:
        _forward_chunk(op, a, x, y, n)
        return
    for i in prange(units, schedule="static", num_threads=n_threads):
        _forward_chunk(op, a, x + i * CHUNK, y + i * CHUNK, min(<Py_ssize_t> CHUNK, n - i * CHUNK))


cdef void _backward_all(
    Activation op, floating a, const floating* dy, const floating* y, floating* dx, Py_ssize_t n, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, units = (n + CHUNK - 1) // CHUNK
    if n_threads == 1:
        _backward_chunk(op, a, dy, y, dx, n)
        return
    for i in prange(units, schedule="static", num_threads=n_threads):
        _backward_chunk(
            op, a, dy + i * CHUNK, y + i * CHUNK, dx + i * CHUNK, min(<Py_ssize_t> CHUNK, n - i * CHUNK)
        )


cdef int _forward(Activation op, double a, int work, cnp.ndarray x, cnp.ndarray y, int n_threads) except -1:
    """`work`: what an element costs, in units of an element streamed."""
    check_dense(x)
    check_same(x, y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* py = cnp.PyArray_DATA(y)
    cdef bint single = is_f32(x)
    cdef int t = threads_for(work * n, n_threads)
    with nogil:
        if single:
            _forward_all(op, <float> a, <const float*> px, <float*> py, n, t)
        else:
            _forward_all(op, a, <const double*> px, <double*> py, n, t)
    return 0


cdef int _backward(Activation op, double a, cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx, int n_threads) except -1:
    check_dense(y)
    check_same(y, dy)
    check_same(y, dx)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(y)
    cdef void* pdy = cnp.PyArray_DATA(dy)
    cdef void* py = cnp.PyArray_DATA(y)
    cdef void* pdx = cnp.PyArray_DATA(dx)
    cdef bint single = is_f32(y)
    cdef int t = threads_for(2 * n, n_threads)
    with nogil:
        if single:
            _backward_all(op, <float> a, <const float*> pdy, <const float*> py, <float*> pdx, n, t)
        else:
            _backward_all(op, a, <const double*> pdy, <const double*> py, <double*> pdx, n, t)
    return 0


def relu(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = max(x, 0)."""
    _forward(RELU, 0, 1, x, y_out, n_threads)


def relu_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = dy where y > 0, else 0."""
    _backward(RELU, 0, dy, y, dx_out, n_threads)


def leaky_relu(cnp.ndarray x, double negative_slope, cnp.ndarray y_out, int n_threads):
    """y = x where x > 0, else negative_slope·x."""
    _forward(LEAKY_RELU, negative_slope, 1, x, y_out, n_threads)


def leaky_relu_backward(cnp.ndarray dy, cnp.ndarray y, double negative_slope, cnp.ndarray dx_out, int n_threads):
    """dx = dy where y > 0, else negative_slope·dy; y is the output or, as one must where the slope is negative, the input."""
    _backward(LEAKY_RELU, negative_slope, dy, y, dx_out, n_threads)


def sigmoid(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = 1 / (1 + exp(−x))."""
    _forward(SIGMOID, 0, 8, x, y_out, n_threads)


def sigmoid_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = dy·y·(1 − y)."""
    _backward(SIGMOID, 0, dy, y, dx_out, n_threads)


def tanh(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = tanh(x)."""
    _forward(TANH, 0, 8, x, y_out, n_threads)


def tanh_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = dy·(1 − y²)."""
    _backward(TANH, 0, dy, y, dx_out, n_threads)


def elu(cnp.ndarray x, double alpha, cnp.ndarray y_out, int n_threads):
    """y = x where x >= 0, else alpha·(exp(x) − 1)."""
    _forward(ELU, alpha, 8, x, y_out, n_threads)


def elu_backward(cnp.ndarray dy, cnp.ndarray y, double alpha, cnp.ndarray dx_out, int n_threads):
    """dx = dy where y > 0, else dy·(y + alpha); alpha >= 0."""
    _backward(ELU, alpha, dy, y, dx_out, n_threads)
