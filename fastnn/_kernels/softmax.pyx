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
from libc.math cimport INFINITY, log
from libc.stdint cimport int64_t
from fastnn._kernels.kernel cimport check_plain, check_same, is_f32, threads_for

cnp.import_array()

cdef extern from "vmath.h" nogil:
    float vm_exp_f32(float x)
    double vm_exp_f64(double x)

cdef enum:
    LANES = 32  # partial sums; so many that the loop over them stays a loop and is vectorized
    BLOCK = 4096  # elements in a block of rows
    BLOCK_ROWS = 256  # and the most rows
    COST = 8  # of an exponential, in units of an element streamed

cdef enum Pass:
    SOFTMAX
    SOFTMAX_BACKWARD
    LOG_SOFTMAX
    LOG_SOFTMAX_BACKWARD
    CROSS_ENTROPY_BACKWARD


cdef floating _max(const floating* a, Py_ssize_t n) noexcept nogil:
    """The largest element; NaN may be passed over, since it reaches every sum of the row in any case."""
    cdef floating lane[LANES]
    cdef floating top = -INFINITY
    cdef Py_ssize_t i, j, full = n - n % LANES
    for i in range(full, n):
        top = a[i] if a[i] > top else top
    if full:
        for j in range(LANES):
            lane[j] = a[j]
        for i in range(1, n // LANES):
            for j in range(LANES):
                lane[j] = a[i * LANES + j] if a[i * LANES + j] > lane[j] else lane[j]
        for j in range(LANES):
            top = lane[j] if lane[j] > top else top
    return top


cdef floating _fold(floating* lane) noexcept nogil:
    cdef Py_ssize_t j, width = LANES
    while width > 1:
        width //= 2
        for j in range(width):
            lane[j] += lane[j + width]
    return lane[0]


cdef floating _dot(const floating* a, floating shift, const floating* b, Py_ssize_t n) noexcept nogil:
    """Sum of (a − shift)·b."""
    cdef floating lane[LANES]
    cdef floating total = 0
    cdef Py_ssize_t i, j, full = n - n % LANES
    for i in range(full, n):
        total += (a[i] - shift) * b[i]
    if full:
        for j in range(LANES):
            lane[j] = 0
        for i in range(n // LANES):
            for j in range(LANES):
                lane[j] += (a[i * LANES + j] - shift) * b[i * LANES + j]
        total += _fold(lane)
    return total


cdef floating _sum(const floating* a, Py_ssize_t n) noexcept nogil:
    cdef floating lane[LANES]
    cdef floating total = 0
    cdef Py_ssize_t i, j, full = n - n % LANES
    for i in range(full, n):
        total += a[i]
    if full:
        for j in range(LANES):
            lane[j] = a[j]
        for i in range(1, n // LANES):
            for j in range(LANES):
                lane[j] += a[i * LANES + j]
        total += _fold(lane)
    return total


cdef void _exp(const floating* x, floating* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if floating is float:
            y[i] = vm_exp_f32(x[i])
        else:
            y[i] = vm_exp_f64(x[i])


cdef void _shift_exp(const floating* x, floating* y, floating* top, Py_ssize_t rows, Py_ssize_t D) noexcept nogil:
    """y = exp(x − top), with top the maximum of the row."""
    cdef Py_ssize_t r, j
    for r in range(rows):
        top[r] = _max(x + r * D, D)
        for j in range(D):
            y[r * D + j] = x[r * D + j] - top[r]
    _exp(y, y, rows * D)


cdef void _block(
    Pass op, const floating* a, const floating* b, floating* out, Py_ssize_t rows, Py_ssize_t D
) noexcept nogil:
    """One block of rows: a is x or dy, b is y (of cross-entropy's backward, which has one dy a row: dx of a unit dy)."""
    cdef floating top[BLOCK_ROWS]
    cdef floating s
    cdef Py_ssize_t r, j
    if op == SOFTMAX or op == LOG_SOFTMAX:
        _shift_exp(a, out, top, rows, D)
    elif op == LOG_SOFTMAX_BACKWARD:
        _exp(b, out, rows * D)
    for r in range(rows):
        if op == SOFTMAX:
            s = 1 / _sum(out, D)
            for j in range(D):
                out[j] = out[j] * s
        elif op == LOG_SOFTMAX:
            s = <floating> log(_sum(out, D))
            for j in range(D):
                out[j] = (a[j] - top[r]) - s
        elif op == SOFTMAX_BACKWARD:
            s = _dot(a, <floating> 0, b, D)
            for j in range(D):
                out[j] = b[j] * (a[j] - s)
        elif op == LOG_SOFTMAX_BACKWARD:
            s = _sum(a, D)
            for j in range(D):
                out[j] = a[j] - out[j] * s
        else:
            s = a[r]
            for j in range(D):
                out[j] = b[j] * s
        out += D
        if op != SOFTMAX and op != LOG_SOFTMAX:
            b += D
        if op != CROSS_ENTROPY_BACKWARD:
            a += D


cdef Py_ssize_t _rows_of_block(Py_ssize_t D) noexcept nogil:
    return max(<Py_ssize_t> 1, min(<Py_ssize_t> BLOCK_ROWS, BLOCK // D))


cdef void _blocks(
    Pass op, const floating* a, const floating* b, floating* out, Py_ssize_t M, Py_ssize_t D, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, step = _rows_of_block(D), units = (M + step - 1) // step
    cdef Py_ssize_t width = 1 if op == CROSS_ENTROPY_BACKWARD else D
    if n_threads == 1:
        for i in range(units):
            _block(op, a + i * step * width, b + i * step * D, out + i * step * D, min(step, M - i * step), D)
    else:
        for i in prange(units, schedule="static", num_threads=n_threads):
            _block(op, a + i * step * width, b + i * step * D, out + i * step * D, min(step, M - i * step), D)


cdef int _run(Pass op, int cost, cnp.ndarray a, cnp.ndarray b, cnp.ndarray out, int n_threads) except -1:
    """Check the arrays (all have out's shape but a in cross-entropy's backward) and run over the blocks."""
    check_matrix(out)
    check_same(out, b)
    if op == CROSS_ENTROPY_BACKWARD:
        check_vector(a, out, 0)
    else:
        check_same(out, a)
    cdef Py_ssize_t M = cnp.PyArray_DIM(out, 0), D = cnp.PyArray_DIM(out, 1)
    cdef void* pa = cnp.PyArray_DATA(a)
    cdef void* pb = cnp.PyArray_DATA(b)
    cdef void* pout = cnp.PyArray_DATA(out)
    cdef bint single = is_f32(out)
    cdef int t = threads_for(cost * M * D, n_threads)
    if M * D == 0:
        return 0
    with nogil:
        if single:
            _blocks(op, <const float*> pa, <const float*> pb, <float*> pout, M, D, t)
        else:
            _blocks(op, <const double*> pa, <const double*> pb, <double*> pout, M, D, t)
    return 0


cdef int check_matrix(cnp.ndarray a) except -1:
    check_plain(a)
    if cnp.PyArray_NDIM(a) != 2:
        raise ValueError("kernel: an array that is not 2-D came where one is needed")
    return 0


cdef int check_vector(cnp.ndarray a, cnp.ndarray x, int axis) except -1:
    """One element of x's dtype for each index along the axis of x."""
    check_plain(a)
    if cnp.PyArray_NDIM(a) != 1 or cnp.PyArray_DIM(a, 0) != cnp.PyArray_DIM(x, axis) or is_f32(a) != is_f32(x):
        raise ValueError("kernel: a vector does not fit the matrix in length or dtype")
    return 0


def softmax(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = exp(x) / Σ exp(x)."""
    _run(SOFTMAX, COST, x, x, y_out, n_threads)


def softmax_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = y·(dy − Σ dy·y)."""
    _run(SOFTMAX_BACKWARD, 2, dy, y, dx_out, n_threads)


def log_softmax(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y = x − log Σ exp(x)."""
    _run(LOG_SOFTMAX, COST, x, x, y_out, n_threads)


def log_softmax_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx_out, int n_threads):
    """dx = dy − exp(y)·Σ dy."""
    _run(LOG_SOFTMAX_BACKWARD, COST, dy, y, dx_out, n_threads)


cdef void _cross_entropy_block(
    const floating* x, const int64_t* target, const floating* weight, floating weights, floating smoothing,
    int64_t ignore_index, floating* loss, floating* row_weight, floating* dx, Py_ssize_t rows, Py_ssize_t D
) noexcept nogil:
    """`weights` is the sum of weight. With ε the smoothing and w the weights, the loss of a row is
    −(1 − ε)·w[t]·log p[t] − ε/D·Σ w·log p, and its gradient p·((1 − ε)·w[t] + ε/D·Σ w) − ((1 − ε)·w[t] at t) − ε/D·w.
    """
    cdef floating top[BLOCK_ROWS]
    cdef floating s, log_s, hard, soft = smoothing / <floating> D
    cdef Py_ssize_t r, j, t
    _shift_exp(x, dx, top, rows, D)
    for r in range(rows):
        t = target[r]
        if t == ignore_index:
            loss[r] = 0
            row_weight[r] = 0
            for j in range(D):
                dx[j] = 0
        else:
            row_weight[r] = weight[t]
            hard = (1 - smoothing) * weight[t]
            s = _sum(dx, D)
            log_s = <floating> log(s)
            loss[r] = hard * (log_s - (x[t] - top[r]))
            s = (hard + soft * weights) / s
            for j in range(D):
                dx[j] = dx[j] * s
            dx[t] -= hard
            if soft > 0:
                loss[r] += soft * (weights * log_s - _dot(x, top[r], weight, D))
                for j in range(D):
                    dx[j] -= soft * weight[j]
        x += D
        dx += D


cdef void _cross_entropy(
    const floating* x, const int64_t* target, const floating* weight, floating smoothing, int64_t ignore_index,
    floating* loss, floating* row_weight, floating* dx, Py_ssize_t M, Py_ssize_t D, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, step = _rows_of_block(D), units = (M + step - 1) // step
    cdef floating weights = _sum(weight, D)
    if n_threads == 1:
        for i in range(units):
            _cross_entropy_block(
                x + i * step * D, target + i * step, weight, weights, smoothing, ignore_index, loss + i * step,
                row_weight + i * step, dx + i * step * D, min(step, M - i * step), D
            )
    else:
        for i in prange(units, schedule="static", num_threads=n_threads):
            _cross_entropy_block(
                x + i * step * D, target + i * step, weight, weights, smoothing, ignore_index, loss + i * step,
                row_weight + i * step, dx + i * step * D, min(step, M - i * step), D
            )


def cross_entropy(
    cnp.ndarray x, cnp.ndarray target, cnp.ndarray weight, double label_smoothing, int64_t ignore_index,
    cnp.ndarray loss_out, cnp.ndarray row_weight_out, cnp.ndarray dx_out, int n_threads
):
    """Loss, weight[target] and gradient of each row of logits; all three are 0 where target is ignore_index.

    IndexError, before anything is written, if a target is neither ignore_index nor a class.
    """
    check_matrix(x)
    check_same(x, dx_out)
    check_vector(loss_out, x, 0)
    check_vector(row_weight_out, x, 0)
    check_vector(weight, x, 1)
    cdef Py_ssize_t i, M = cnp.PyArray_DIM(x, 0), D = cnp.PyArray_DIM(x, 1)
    if (cnp.PyArray_TYPE(target) != cnp.NPY_INT64 or cnp.PyArray_NDIM(target) != 1 or cnp.PyArray_DIM(target, 0) != M
            or not cnp.PyArray_IS_C_CONTIGUOUS(target) or not cnp.PyArray_ISBEHAVED_RO(target)):
        raise ValueError("kernel: target must be a C-contiguous int64 vector with one element a row")
    cdef const int64_t* ptarget = <const int64_t*> cnp.PyArray_DATA(target)
    for i in range(M):
        if (ptarget[i] < 0 or ptarget[i] >= D) and ptarget[i] != ignore_index:
            raise IndexError(f"cross_entropy: target {ptarget[i]} is out of range for {D} classes")
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* pweight = cnp.PyArray_DATA(weight)
    cdef void* ploss = cnp.PyArray_DATA(loss_out)
    cdef void* prow = cnp.PyArray_DATA(row_weight_out)
    cdef void* pdx = cnp.PyArray_DATA(dx_out)
    cdef bint single = is_f32(x)
    cdef int t = threads_for(COST * M * D, n_threads)
    with nogil:
        if D == 0:  # then every row is ignored
            pass
        elif single:
            _cross_entropy(
                <const float*> px, ptarget, <const float*> pweight, <float> label_smoothing, ignore_index,
                <float*> ploss, <float*> prow, <float*> pdx, M, D, t
            )
        else:
            _cross_entropy(
                <const double*> px, ptarget, <const double*> pweight, label_smoothing, ignore_index,
                <double*> ploss, <double*> prow, <double*> pdx, M, D, t
            )


def cross_entropy_backward(cnp.ndarray dloss, cnp.ndarray dx, cnp.ndarray dx_out, int n_threads):
    """The rows of dx, as cross_entropy left it, times dloss."""
    _run(CROSS_ENTROPY_BACKWARD, 1, dloss, dx, dx_out, n_threads)
