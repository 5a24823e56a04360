"""Activations and their derivatives, element by element.

Memory is walked in the order in which it lies, whatever the shape, in chunks of fixed length shared out to the
threads. Each element is read and written once, and the bodies (vmath.h) are branch-free, so that the compiler
vectorizes the loops: ReLU and leaky ReLU are bound by bandwidth, the others by it or by some twenty
multiply-adds an element. The derivatives are had from the output, which the next layer keeps anyway."""
cimport numpy as cnp
from cython cimport floating
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "vmath.h" nogil:
    enum: RELU, LEAKY_RELU, SIGMOID, TANH, ELU, BACKWARD
    void vm_apply(int op, double a, const void* dy, const void* x, void* out, Py_ssize_t n)  # a macro: by a's type

cdef struct Job:
    int op
    double a
    Bytes dy, x, out
    Py_ssize_t size


cdef void chunk(const Job* job, Py_ssize_t i, floating* kind) noexcept nogil:
    vm_apply(job.op, <floating> job.a, <const floating*> job.dy + i * CHUNK, <const floating*> job.x + i * CHUNK,
             <floating*> job.out + i * CHUNK, min(<Py_ssize_t> CHUNK, job.size - i * CHUNK))


cdef int run(int op, double a, int cost, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray out, int n_threads) except -1:
    """`a`: the slope or alpha. `cost` of an element in halves of one streamed. Forward passes have x for dy."""
    check_order(x, True, True)
    check_same(x, dy)
    check_same(x, out)
    cdef Job job = Job(op, a, dy.data, x.data, out.data, x.size)
    return start(<Unit> chunk[float], <Unit> chunk[double], x, &job, parts(job.size, CHUNK),
                 threads_for(cost * job.size // (2 * STREAM), n_threads))


def relu(cnp.ndarray x not None, cnp.ndarray y_out not None, int n_threads):
    """y = max(x, 0)."""
    run(RELU, 0, 2, x, x, y_out, n_threads)


def relu_backward(cnp.ndarray dy not None, cnp.ndarray y not None, cnp.ndarray dx_out not None, int n_threads):
    """dx = dy where y > 0, else 0."""
    run(RELU + BACKWARD, 0, 2, dy, y, dx_out, n_threads)


def leaky_relu(cnp.ndarray x not None, double negative_slope, cnp.ndarray y_out not None, int n_threads):
    """y = x where x > 0, else negative_slope·x."""
    run(LEAKY_RELU, negative_slope, 2, x, x, y_out, n_threads)


def leaky_relu_backward(cnp.ndarray dy not None, cnp.ndarray y not None, double negative_slope,
                        cnp.ndarray dx_out not None, int n_threads):
    """dx = dy where y > 0, else negative_slope·dy; if the slope is negative, y must be the input instead."""
    run(LEAKY_RELU + BACKWARD, negative_slope, 2, dy, y, dx_out, n_threads)


def sigmoid(cnp.ndarray x not None, cnp.ndarray y_out not None, int n_threads):
    """y = 1 / (1 + exp(−x))."""
    run(SIGMOID, 0, 3, x, x, y_out, n_threads)


def sigmoid_backward(cnp.ndarray dy not None, cnp.ndarray y not None, cnp.ndarray dx_out not None, int n_threads):
    """dx = dy·y·(1 − y)."""
    run(SIGMOID + BACKWARD, 0, 2, dy, y, dx_out, n_threads)


def tanh(cnp.ndarray x not None, cnp.ndarray y_out not None, int n_threads):
    """y = tanh(x)."""
    run(TANH, 0, 3, x, x, y_out, n_threads)


def tanh_backward(cnp.ndarray dy not None, cnp.ndarray y not None, cnp.ndarray dx_out not None, int n_threads):
    """dx = dy·(1 − y²)."""
    run(TANH + BACKWARD, 0, 2, dy, y, dx_out, n_threads)


def elu(cnp.ndarray x not None, double alpha, cnp.ndarray y_out not None, int n_threads):
    """y = x where x >= 0, else alpha·(exp(x) − 1)."""
    run(ELU, alpha, 3, x, x, y_out, n_threads)


def elu_backward(cnp.ndarray dy not None, cnp.ndarray y not None, double alpha, cnp.ndarray dx_out not None,
                 int n_threads):
    """dx = dy where y > 0, else dy·(y + alpha); alpha >= 0."""
    run(ELU + BACKWARD, alpha, 2, dy, y, dx_out, n_threads)
