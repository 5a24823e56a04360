"""Softmax, its logarithm and the cross-entropy of classes, along the rows of (M, D) arrays in C order.

Rows are taken in blocks of about 4096 elements, units of work that stay in the first-level cache while several loops
pass over them: row maxima are subtracted, the exponential runs over the whole block at once (so that ten classes use
full vectors too), then rows are summed (rows.h) and scaled. With many classes the exponential takes as long as the
traffic. Cross-entropy leaves the gradient of each row's loss in the same pass, and adds up the losses at its end."""
cimport numpy as cnp
from cython cimport floating
from libc.math cimport log
from libc.stdint cimport int64_t
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)  # a macro: float gives float

cdef extern from "rows.h" nogil:
    double row_dot(const void* a, const void* b, Py_ssize_t n)  # macros, by the type of a
    double row_max(const void* a, Py_ssize_t n)

cdef enum:
    BLOCK = 4096  # elements in a block of rows
    BLOCK_ROWS = 256  # and the most rows
    COST = 3  # of an exponential, in units of an element streamed

cdef enum Op:
    SOFTMAX, SOFTMAX_BACKWARD, LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD, CROSS_ENTROPY, CROSS_ENTROPY_BACKWARD

cdef struct Job:
    Op op
    Bytes x  # logits, or the gradient of the output, or of unit losses
    Bytes y  # the output of the forward pass
    Bytes out
    Py_ssize_t M, D, step  # step: rows in a block
    Bytes loss, weight  # the rest is cross-entropy's; backward, `loss` is the gradient of the losses
    Py_ssize_t loss_step  # 0: all rows have one gradient
    const int64_t* target
    int64_t ignore_index
    double hard, soft  # 1 − ε and ε/D with the smoothing ε


cdef void cross_entropy_row(const Job* job, Py_ssize_t r, const floating* x, floating top, floating* dx) noexcept nogil:
    """With ε the smoothing, w the weights and W their sum, the loss of a row is −(1 − ε)·w[t]·log p[t] − ε/D·Σ w·log p,
    and its gradient p·((1 − ε)·w[t] + ε/D·W) − ((1 − ε)·w[t] at t) − ε/D·w. `dx` holds exp(x − top)."""
    cdef Py_ssize_t j, t = job.target[r], D = job.D
    cdef const floating* weight = <floating*> job.weight
    cdef floating* loss = <floating*> job.loss + r
    cdef floating s, w, log_s, hard, soft = <floating> job.soft
    if t == job.ignore_index:
        loss[0] = 0
        for j in range(D):
            dx[j] = 0
        return
    hard = <floating> job.hard * (1 if weight == NULL else weight[t])
    w = 0 if soft == 0 else D if weight == NULL else <floating> row_dot(weight, NULL, D)
    s = <floating> row_dot(dx, NULL, D)
    log_s = log(s)
    loss[0] = hard * (log_s - (x[t] - top))
    s = (hard + soft * w) / s
    for j in range(D):
        dx[j] *= s
    dx[t] -= hard
    if soft > 0:
        s = 0
        for j in range(D):
            w = 1 if weight == NULL else weight[j]
            s += w * (log_s - (x[j] - top))
            dx[j] -= soft * w
        loss[0] += soft * s


cdef void block(const Job* job, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t first = unit * job.step, rows = min(job.step, job.M - first), r, j, D = job.D
    cdef const floating* x = <floating*> job.x + first * D
    cdef const floating* y = <floating*> job.y + first * D
    cdef floating* out = <floating*> job.out + first * D
    cdef floating top[BLOCK_ROWS]
    cdef floating s
    if job.op == SOFTMAX or job.op == LOG_SOFTMAX or job.op == CROSS_ENTROPY:
        for r in range(rows):
            top[r] = <floating> row_max(x + r * D, D)
            for j in range(D):
                out[r * D + j] = x[r * D + j] - top[r]
        for j in range(rows * D):
            out[j] = vm_exp(out[j])
    elif job.op == LOG_SOFTMAX_BACKWARD:
        for j in range(rows * D):
            out[j] = vm_exp(y[j])
    for r in range(rows):
        if job.op == SOFTMAX:
            s = 1 / <floating> row_dot(out, NULL, D)
            for j in range(D):
                out[j] *= s
        elif job.op == SOFTMAX_BACKWARD:
            s = <floating> row_dot(x, y, D)
            for j in range(D):
                out[j] = y[j] * (x[j] - s)
        elif job.op == LOG_SOFTMAX:
            s = log(<floating> row_dot(out, NULL, D))
            for j in range(D):
                out[j] = (x[j] - top[r]) - s
        elif job.op == LOG_SOFTMAX_BACKWARD:
            s = <floating> row_dot(x, NULL, D)
            for j in range(D):
                out[j] = x[j] - out[j] * s
        elif job.op == CROSS_ENTROPY:
            cross_entropy_row(job, first + r, x, top[r], out)
        else:
            s = (<floating*> job.loss)[(first + r) * job.loss_step]
            for j in range(D):
                out[j] = x[j] * s
        x += D
        y += D
        out += D


cdef int run(Job* job, Op op, int cost, cnp.ndarray x, cnp.ndarray y, cnp.ndarray out, int n_threads) except -1:
    """Check the arrays that all operations have, enter them in the job, and run it."""
    check_plain(out)
    if out.ndim != 2:
        raise ValueError("kernel: an array that is not 2-D came where one is needed")
    check_same(out, x)
    check_same(out, y)
    job.op, job.x, job.y, job.out = op, x.data, y.data, out.data
    job.M, job.D = out.shape[0], out.shape[1]
    if job.D:
        job.step = max(<Py_ssize_t> 1, min(<Py_ssize_t> BLOCK_ROWS, BLOCK // job.D))
        start(<Unit> block[float], <Unit> block[double], out, job, parts(job.M, job.step),
              threads_for(cost * job.M * job.D, n_threads))
    return 0


def softmax(cnp.ndarray x not None, cnp.ndarray y_out not None, int n_threads):
    """y = exp(x) / Σ exp(x)."""
    cdef Job job
    run(&job, SOFTMAX, COST, x, x, y_out, n_threads)


def softmax_backward(cnp.ndarray dy not None, cnp.ndarray y not None, cnp.ndarray dx_out not None, int n_threads):
    """dx = y·(dy − Σ dy·y)."""
    cdef Job job
    run(&job, SOFTMAX_BACKWARD, 2, dy, y, dx_out, n_threads)


def log_softmax(cnp.ndarray x not None, cnp.ndarray y_out not None, int n_threads):
    """y = x − log Σ exp(x)."""
    cdef Job job
    run(&job, LOG_SOFTMAX, COST, x, x, y_out, n_threads)


def log_softmax_backward(cnp.ndarray dy not None, cnp.ndarray y not None, cnp.ndarray dx_out not None, int n_threads):
    """dx = dy − exp(y)·Σ dy."""
    cdef Job job
    run(&job, LOG_SOFTMAX_BACKWARD, COST, dy, y, dx_out, n_threads)


cdef inline double number(Bytes numbers, Py_ssize_t i, bint single) noexcept:
    return (<float*> numbers)[i] if single else (<double*> numbers)[i]


def cross_entropy(cnp.ndarray x not None, cnp.ndarray target not None, cnp.ndarray weight, double label_smoothing,
                  int64_t ignore_index, cnp.ndarray loss_out not None, cnp.ndarray sums_out not None,
                  cnp.ndarray dx_out not None, int n_threads):
    """Loss and gradient of each row of logits, 0 where target is ignore_index; Σ loss and Σ weight[target] over the
    other rows as float64. weight None: all 1.

    IndexError, before anything is written, if a target is neither ignore_index nor a class."""
    cdef Job job
    cdef Py_ssize_t i
    cdef double total = 0, weights = 0
    cdef bint single = is_f32(x)
    if x.ndim != 2:
        raise ValueError("kernel: cross_entropy needs a matrix of logits")
    check_vector(loss_out, x.shape[0], x)
    if (cnp.PyArray_TYPE(sums_out) != cnp.NPY_FLOAT64 or sums_out.ndim != 1 or sums_out.shape[0] != 2
            or not cnp.PyArray_ISCARRAY(sums_out)):
        raise ValueError("kernel: the sums must be a C-contiguous float64 vector of two elements")
    job.loss, job.weight, job.ignore_index = loss_out.data, vector(weight, x.shape[1], x), ignore_index
    job.hard, job.soft = 1 - label_smoothing, label_smoothing / max(1, x.shape[1])
    if (cnp.PyArray_TYPE(target) != cnp.NPY_INT64 or target.ndim != 1
            or not cnp.PyArray_ISCARRAY_RO(target) or target.shape[0] != x.shape[0]):
        raise ValueError("kernel: target must be a C-contiguous int64 vector with one element a row")
    job.target = <const int64_t*> target.data
    for i in range(x.shape[0]):
        if job.target[i] == ignore_index:
            continue
        if not 0 <= job.target[i] < x.shape[1]:
            raise IndexError(f"cross_entropy: Target {job.target[i]} is out of bounds. There are {x.shape[1]} classes")
        weights += 1 if job.weight == NULL else number(job.weight, job.target[i], single)
    if x.shape[1] == 0:  # no row counts
        loss_out.fill(0)
    run(&job, CROSS_ENTROPY, COST, x, x, dx_out, n_threads)
    for i in range(x.shape[0]):
        total += number(job.loss, i, single)
    (<double*> sums_out.data)[0], (<double*> sums_out.data)[1] = total, weights


def cross_entropy_backward(cnp.ndarray dloss not None, cnp.ndarray dx not None, cnp.ndarray dx_out not None,
                           int n_threads):
    """The rows of dx, as cross_entropy left it, times dloss, a number for each row or one for all."""
    cdef Job job
    job.loss_step = dloss.shape[0] != 1
    check_vector(dloss, dx.shape[0] if job.loss_step else 1, dx)
    job.loss = dloss.data
    run(&job, CROSS_ENTROPY_BACKWARD, 1, dx, dx, dx_out, n_threads)
