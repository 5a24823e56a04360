"""Softmax, its logarithm and the cross-entropy of classes, along the rows of (M, D) arrays in C order.

Rows are taken in blocks of about 4096 elements, which stay in the first-level cache while several loops pass over them:
row maxima are subtracted, the exponential runs over the whole block at once (so that ten classes use full vectors too),
then rows are summed and scaled. Memory is read and written once; with many classes the exponential takes as long
as the traffic. Blocks are cut by shape alone and each is one unit of work for the threads; sums over a row run in
LANES partial sums, folded in a fixed order. Cross-entropy leaves the gradient of each row's loss in the same pass.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport log
from libc.stdint cimport int64_t
from fastnn._kernels.kernel cimport check_plain, check_rows, check_same, is_f32, threads_for

cnp.import_array()

cdef extern from "vmath.h" nogil:  # a macro: float gives float
    double vm_exp(double x)

cdef enum:
    LANES = 32  # partial sums; so many that the loop over them stays a loop and is vectorized
    BLOCK = 4096  # elements in a block of rows
    BLOCK_ROWS = 256  # and the most rows
    COST = 8  # of an exponential, in units of an element streamed

cdef enum Op:
    SOFTMAX, SOFTMAX_BACKWARD, LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD, CROSS_ENTROPY, CROSS_ENTROPY_BACKWARD

cdef struct Job:
    Op op
    void* x  # logits, or the gradient of the output
    void* y  # the output of the forward pass, or the gradient for a unit gradient
    void* out
    Py_ssize_t M, D
    const int64_t* target  # the rest is cross-entropy's
    int64_t ignore_index
    double smoothing
    void* weight
    void* loss
    void* row_weight


cdef inline floating _merge(bint maximum, floating a, floating b) noexcept nogil:
    return (b if b > a else a) if maximum else a + b


cdef inline floating _reduce(bint maximum, const floating* a, Py_ssize_t n) noexcept nogil:
    """The sum or the maximum of n > 0 numbers; NaN may be passed over by it, since it reaches every sum of its row."""
    cdef floating lane[LANES]
    cdef floating total = a[0]
    cdef Py_ssize_t i, j, width = LANES, full = n // LANES * LANES
    if not full:
        for j in range(1, n):
            total = _merge(maximum, total, a[j])
        return total
    for j in range(LANES):
        lane[j] = a[j]
    for i in range(1, n // LANES):
        for j in range(LANES):
            lane[j] = _merge(maximum, lane[j], a[i * LANES + j])
    for j in range(n - full):
        lane[j] = _merge(maximum, lane[j], a[full + j])
    while width > 1:
        width //= 2
        for j in range(width):
            lane[j] = _merge(maximum, lane[j], lane[j + width])
    return lane[0]


cdef void _shifted_exp(const floating* x, floating* y, floating* top, Py_ssize_t rows, Py_ssize_t D) noexcept nogil:
    """y = exp(x − top), with top the maximum of the row."""
    cdef Py_ssize_t r, j
    for r in range(rows):
        top[r] = _reduce(True, x + r * D, D)
        for j in range(D):
            y[r * D + j] = x[r * D + j] - top[r]
    for j in range(rows * D):
        y[j] = vm_exp(y[j])


cdef void _block(Job* job, floating dtype, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    """The rows from `first` on; `dtype` only chooses it."""
    cdef Py_ssize_t r, j, D = job.D
    cdef const floating* x = <floating*> job.x + first * (1 if job.op == CROSS_ENTROPY_BACKWARD else D)
    cdef const floating* y = <floating*> job.y + first * D
    cdef floating* out = <floating*> job.out + first * D
    cdef floating top[BLOCK_ROWS]
    cdef floating s
    if job.op == CROSS_ENTROPY:
        _cross_entropy_block(job, dtype, first, rows)
        return
    if job.op == SOFTMAX or job.op == LOG_SOFTMAX:
        _shifted_exp(x, out, top, rows, D)
    elif job.op == LOG_SOFTMAX_BACKWARD:
        for j in range(rows * D):
            out[j] = vm_exp(y[j])
    for r in range(rows):
        if job.op == SOFTMAX:
            s = 1 / _reduce(False, out, D)
            for j in range(D):
                out[j] *= s
        elif job.op == LOG_SOFTMAX:
            s = log(_reduce(False, out, D))
            for j in range(D):
                out[j] = (x[j] - top[r]) - s
        elif job.op == SOFTMAX_BACKWARD:
            for j in range(D):
                out[j] = x[j] * y[j]
            s = _reduce(False, out, D)
            for j in range(D):
                out[j] = y[j] * (x[j] - s)
        elif job.op == LOG_SOFTMAX_BACKWARD:
            s = _reduce(False, x, D)
            for j in range(D):
                out[j] = x[j] - out[j] * s
        else:
            for j in range(D):
                out[j] = y[j] * x[0]
        x += 1 if job.op == CROSS_ENTROPY_BACKWARD else D
        y += D
        out += D


cdef void _cross_entropy_block(Job* job, floating dtype, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    """With ε the smoothing, w the weights and W their sum, the loss of a row is −(1 − ε)·w[t]·log p[t] − ε/D·Σ w·log p,
    and its gradient p·((1 − ε)·w[t] + ε/D·W) − ((1 − ε)·w[t] at t) − ε/D·w.
    """
    cdef Py_ssize_t r, j, t, D = job.D
    cdef const floating* x = <floating*> job.x + first * D
    cdef const floating* weight = <floating*> job.weight
    cdef floating* loss = <floating*> job.loss + first
    cdef floating* row_weight = <floating*> job.row_weight + first
    cdef floating* dx = <floating*> job.out + first * D
    cdef floating top[BLOCK_ROWS]
    cdef floating s, log_s, hard, soft = job.smoothing / D, W = _reduce(False, weight, D)
    _shifted_exp(x, dx, top, rows, D)
    for r in range(rows):
        t = job.target[first + r]
        if t == job.ignore_index:
            loss[r] = row_weight[r] = 0
            for j in range(D):
                dx[j] = 0
        else:
            row_weight[r] = weight[t]
            hard = (1 - job.smoothing) * weight[t]
            s = _reduce(False, dx, D)
            log_s = log(s)
            loss[r] = hard * (log_s - (x[t] - top[r]))
            s = (hard + soft * W) / s
            for j in range(D):
                dx[j] *= s
            dx[t] -= hard
            if soft > 0:
                s = 0
                for j in range(D):
                    s += weight[j] * (log_s - (x[j] - top[r]))
                    dx[j] -= soft * weight[j]
                loss[r] += soft * s
        x += D
        dx += D


cdef void _blocks(Job* job, floating dtype, int n_threads) noexcept nogil:
    cdef Py_ssize_t step = max(<Py_ssize_t> 1, min(<Py_ssize_t> BLOCK_ROWS, BLOCK // job.D))
    cdef Py_ssize_t i, units = (job.M + step - 1) // step
    if n_threads == 1:
        for i in range(units):
            _block(job, dtype, i * step, min(step, job.M - i * step))
    else:
        for i in prange(units, schedule="static", num_threads=n_threads):
            _block(job, dtype, i * step, min(step, job.M - i * step))


cdef int _check_vector(cnp.ndarray a, cnp.ndarray x, int axis) except -1:
    """One element of x's dtype for each index along the axis of x."""
    check_plain(a)
    if cnp.PyArray_NDIM(a) != 1 or cnp.PyArray_DIM(a, 0) != cnp.PyArray_DIM(x, axis) or is_f32(a) != is_f32(x):
        raise ValueError("kernel: a vector does not fit the matrix in length or dtype")
    return 0


cdef int _run(Job* job, Op op, int cost, cnp.ndarray x, cnp.ndarray y, cnp.ndarray out, int n_threads) except -1:
    """Check the arrays that all operations have, enter them in the job, and run it."""
    job.op = op
    check_rows(out)
    check_same(out, y)
    if cnp.PyArray_NDIM(out) != 2:
        raise ValueError("kernel: an array that is not 2-D came where one is needed")
    if job.op == CROSS_ENTROPY_BACKWARD:
        _check_vector(x, out, 0)
    else:
        check_same(out, x)
    job.x, job.y, job.out = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), cnp.PyArray_DATA(out)
    job.M, job.D = cnp.PyArray_DIM(out, 0), cnp.PyArray_DIM(out, 1)
    cdef bint single = is_f32(out)
    cdef int t = threads_for(cost * job.M * job.D, n_threads)
    if job.D:
        with nogil:
            if single:
                _blocks(job, <float> 0, t)
            else:
                _blocks(job, <double> 0, t)
    return 0


def softmax(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = exp(x) / Σ exp(x)."""
    cdef Job job
    _run(&job, SOFTMAX, COST, x, x, y_out, n_threads)


def softmax_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = y·(dy − Σ dy·y)."""
    cdef Job job
    _run(&job, SOFTMAX_BACKWARD, 2, dy, y, dx_out, n_threads)


def log_softmax(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = x − log Σ exp(x)."""
    cdef Job job
    _run(&job, LOG_SOFTMAX, COST, x, x, y_out, n_threads)


def log_softmax_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = dy − exp(y)·Σ dy."""
    cdef Job job
    _run(&job, LOG_SOFTMAX_BACKWARD, COST, dy, y, dx_out, n_threads)


def cross_entropy(
    cnp.ndarray x, cnp.ndarray target, cnp.ndarray weight, double label_smoothing, int64_t ignore_index,
    cnp.ndarray loss_out, cnp.ndarray row_weight_out, cnp.ndarray dx_out, int n_threads
):
    """Loss, weight[target] and gradient of each row of logits; all three are 0 where target is ignore_index.

    IndexError, before anything is written, if a target is neither ignore_index nor a class.
    """
    cdef Job job
    cdef Py_ssize_t i
    check_rows(x)
    _check_vector(loss_out, x, 0)
    _check_vector(row_weight_out, x, 0)
    _check_vector(weight, x, 1)
    job.loss, job.row_weight = cnp.PyArray_DATA(loss_out), cnp.PyArray_DATA(row_weight_out)
    job.weight, job.ignore_index, job.smoothing = cnp.PyArray_DATA(weight), ignore_index, label_smoothing
    if (cnp.PyArray_TYPE(target) != cnp.NPY_INT64 or cnp.PyArray_NDIM(target) != 1
            or not cnp.PyArray_ISCARRAY_RO(target) or cnp.PyArray_DIM(target, 0) != cnp.PyArray_DIM(x, 0)):
        raise ValueError("kernel: target must be a C-contiguous int64 vector with one element a row")
    job.target = <const int64_t*> cnp.PyArray_DATA(target)
    for i in range(cnp.PyArray_DIM(x, 0)):
        if not 0 <= job.target[i] < cnp.PyArray_DIM(x, 1) and job.target[i] != ignore_index:
            raise IndexError(f"cross_entropy: target {job.target[i]} is out of range for {x.shape[1]} classes")
    _run(&job, CROSS_ENTROPY, COST, x, x, dx_out, n_threads)


def cross_entropy_backward(cnp.ndarray dloss, cnp.ndarray dx, cnp.ndarray dx_out, int n_threads):
    """The rows of dx, as cross_entropy left it, times dloss."""
    cdef Job job
    _run(&job, CROSS_ENTROPY_BACKWARD, 1, dloss, dx, dx_out, n_threads)
