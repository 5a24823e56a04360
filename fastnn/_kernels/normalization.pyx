"""Batch normalization: statistics of each channel over all rows, and the element-wise passes around them.

An array is R rows (R = N, or N·H·W) of C adjacent channels. It is walked in wide rows, max(1, LANES // C) rows side
by side, so that inner loops are long, contiguous and vectorized however few channels there are. DEPTH wide rows make a
block, the unit of work. Bandwidth is the limit: forward reads x twice and writes y, backward reads dy and x twice.

Sums run down a block in the array's dtype, lane by lane, then over lanes and blocks in float64. Variances come from
deviations from a shift, the mean of the block's first wide row: with s = Σ(x − shift) and q = Σ(x − shift)² over n
rows, the mean is shift + s/n, the sum of squared deviations q − s²/n. As n is at most DEPTH times the rows behind the
shift, cancellation costs at most a factor DEPTH + 1, whatever the data. Blocks are merged in pairs in an order fixed
by shape (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979)."""
cimport numpy as cnp
from cython cimport floating
from libc.math cimport sqrt
from libc.string cimport memcpy, memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef enum:
    LANES = 512  # numbers in a wide row, if C allows
    DEPTH = 64  # wide rows in a block

ctypedef struct Norm:
    Py_ssize_t rows, C, lanes, height, blocks  # lanes of a wide row, rows of a block
    Bytes dy, x, out, mean, rstd, var, weight, bias, dweight, dbias
    double* sums  # two numbers a channel for each block, at least one block; those of the first are the result
    Bytes wide  # four wide rows, the parameters of a pass, then three for each thread
    bint training
    double eps
    int threads


cdef void repeat(floating* wide, const Norm* b) noexcept nogil:
    """The first C numbers of a wide row over the rest of it."""
    cdef Py_ssize_t done = b.C
    while done < b.lanes:
        memcpy(wide + done, wide, min(done, b.lanes - done) * sizeof(floating))
        done *= 2


cdef void reduce_unit(const Norm* b, Py_ssize_t block, floating* kind) noexcept nogil:
    """Of one block and each channel: Σ dy and Σ dy·(x − mean), or without dy the mean and squared deviations."""
    cdef Py_ssize_t C = b.C, start = block * b.height * C, rows = min(b.height, b.rows - block * b.height), c, i, k
    cdef Py_ssize_t n = rows * C, first = min(b.lanes // C, rows)
    cdef const floating* dy = <floating*> b.dy
    cdef const floating* x = <floating*> b.x + start
    cdef floating* s = <floating*> b.wide + (4 + 3 * omp_get_thread_num()) * b.lanes
    cdef floating* q = s + b.lanes
    cdef floating* shift = <floating*> b.wide if dy != NULL else q + b.lanes
    cdef double* total = b.sums + block * 2 * C
    cdef floating d, g
    if dy == NULL:
        memset(total, 0, C * sizeof(double))
        for i in range(first):
            for c in range(C):
                total[c] += x[i * C + c]
        for c in range(C):
            shift[c] = <floating> (total[c] / first)
        repeat(shift, b)
    memset(s, 0, 2 * b.lanes * sizeof(floating))
    i = 0
    while i < n:
        for k in range(min(b.lanes, n - i)):
            d = x[i + k] - shift[k]
            g = d if dy == NULL else dy[start + i + k]
            s[k] += g
            q[k] += g * d
        i += b.lanes
    memset(total, 0, 2 * C * sizeof(double))
    for i in range(b.lanes // C):
        for c in range(C):
            total[c] += s[i * C + c]
            total[C + c] += q[i * C + c]
    for c in range(C if dy == NULL else 0):
        total[C + c] = max(total[C + c] - total[c] * total[c] / rows, 0.)  # NaN stays
        total[c] = shift[c] + total[c] / rows


cdef void reduce(const Norm* b, floating* kind) noexcept nogil:
    """reduce_unit of all blocks, merged in pairs into the first."""
    cdef Py_ssize_t pair, c, i, C = b.C, step = 1
    cdef double n, m, delta
    cdef double* to
    cdef double* from_
    share(<Unit> reduce_unit[floating], b, b.blocks, b.threads)
    while step < b.blocks:
        for pair in range(parts(b.blocks - step, 2 * step)):
            i = pair * 2 * step
            to, from_ = b.sums + i * 2 * C, b.sums + (i + step) * 2 * C
            n, m = step * b.height, min(b.rows - (i + step) * b.height, step * b.height)
            for c in range(C):
                delta = from_[c] - to[c]
                to[c] += from_[c] if b.dy != NULL else delta * (m / (n + m))
                to[C + c] += from_[C + c] + (0 if b.dy != NULL else delta * delta * (n * m / (n + m)))
        step *= 2


cdef void map_unit(const Norm* b, Py_ssize_t block, floating* kind) noexcept nogil:
    """out = (x − m)·s + t, or with dy (x − m)·s + (dy − t)·u, of one block; m, s, t, u are the wide rows."""
    cdef const floating* m = <floating*> b.wide
    cdef const floating* s = m + b.lanes
    cdef const floating* t = s + b.lanes
    cdef const floating* u = t + b.lanes
    cdef Py_ssize_t start = block * b.height * b.C, end = min(start + b.height * b.C, b.rows * b.C), i = start, k
    cdef const floating* dy
    cdef const floating* x
    cdef floating* out
    while i < end:
        dy, x, out = <floating*> b.dy + i, <floating*> b.x + i, <floating*> b.out + i
        for k in range(min(b.lanes, end - i)):
            out[k] = (x[k] - m[k]) * s[k] + (t[k] if b.dy == NULL else (dy[k] - t[k]) * u[k])
        i += b.lanes


cdef void steps(Norm* b, Py_ssize_t _, floating* kind) noexcept nogil:
    """Reduce what there is to reduce, derive the wide rows m, s, t, u from the sums, and map."""
    cdef Py_ssize_t c, C = b.C
    cdef floating* m = <floating*> b.wide
    cdef floating* s = m + b.lanes
    cdef floating* t = s + b.lanes
    cdef floating* u = t + b.lanes
    cdef floating* mean = <floating*> b.mean
    cdef floating* rstd = <floating*> b.rstd
    cdef double scale
    memset(b.sums, 0, 2 * C * sizeof(double))
    if b.var != NULL:
        reduce(b, kind)
        for c in range(C):
            mean[c] = <floating> b.sums[c]
            (<floating*> b.var)[c] = <floating> (b.sums[C + c] / b.rows)
            rstd[c] = <floating> (1 / sqrt(b.sums[C + c] / b.rows + b.eps))
    memcpy(m, mean, C * sizeof(floating))
    repeat(m, b)
    if b.dweight != NULL:
        reduce(b, kind)
        for c in range(C):
            (<floating*> b.dbias)[c] = <floating> b.sums[c]
            (<floating*> b.dweight)[c] = <floating> (b.sums[C + c] * rstd[c])
    if b.out == NULL:
        return
    for c in range(C):
        scale = <double> rstd[c] * ((<floating*> b.weight)[c] if b.weight != NULL else 1)
        s[c], t[c], u[c] = <floating> scale, (<floating*> b.bias)[c] if b.bias != NULL else 0, <floating> scale
        if b.dy != NULL and b.training:
            s[c] = <floating> (-scale * rstd[c] * rstd[c] * b.sums[C + c] / b.rows)
            t[c] = <floating> (b.sums[c] / b.rows)
        elif b.dy != NULL:
            m[c] = 0
    for c in range(4):
        repeat(m + c * b.lanes, b)
    if not b.training and b.dy != NULL:  # dx = (dy − 0)·scale + 0
        b.x, b.dy = b.dy, NULL
    share(<Unit> map_unit[floating], b, b.blocks, b.threads)


cdef Bytes data(cnp.ndarray a, cnp.ndarray x, bint whole) except? NULL:
    """The data of `a`, NULL for None: an array like x if `whole`, else one number a channel of x."""
    if a is None:
        return NULL
    if whole:
        check_same(x, a)
    else:
        check_vector(a, x.shape[1], x)
    return a.data


cdef int run(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray rstd, cnp.ndarray var, cnp.ndarray weight,
             cnp.ndarray bias, cnp.ndarray out, cnp.ndarray dweight, cnp.ndarray dbias, double eps, bint training,
             int n_threads) except -1:
    """Forward (x to out) if dy is None, else backward (dy to out)."""
    cdef Norm b
    cdef Py_ssize_t group, n_sums, size
    if x is None or mean is None or rstd is None:
        raise ValueError("kernel: batch norm needs an input, mean and rstd")
    check_rows(x)
    b.dy, b.x, b.out = data(dy, x, True), x.data, data(out, x, True)
    b.mean, b.rstd, b.var = data(mean, x, False), data(rstd, x, False), data(var, x, False)
    b.weight, b.bias = data(weight, x, False), data(bias, x, False)
    b.dweight, b.dbias = data(dweight, x, False), data(dbias, x, False)
    b.C, b.training, b.eps, size = x.shape[1], training, eps, cnp.PyArray_ITEMSIZE(x)
    b.rows = x.size // b.C if b.C > 0 else 0
    if ((dweight is None) != (dbias is None) or (var is not None and b.rows == 0)
            or (training and dy is not None and dweight is None)):
        raise ValueError("kernel: batch_norm needs a row; in training dweight_out and dbias_out, else both or none")
    group = max(<Py_ssize_t> 1, LANES // max(<Py_ssize_t> 1, b.C))
    b.lanes, b.height = group * b.C, DEPTH * group
    b.blocks, b.threads = parts(b.rows, b.height), threads_for(2 * b.rows * b.C, n_threads)
    n_sums = 2 * b.C * max(<Py_ssize_t> 1, b.blocks)
    b.sums = <double*> scratch_acquire(8 * n_sums + (4 + 3 * b.threads) * b.lanes * size)
    b.wide = <Bytes> (b.sums + n_sums)
    start(<Unit> steps[float], <Unit> steps[double], x, &b, 1, 1)
    scratch_release(b.sums)
    return 0


def batch_norm(x, weight, bias, eps, y_out, mean_out, rstd_out, var_out, n_threads):
    """y = (x − mean)·rstd·weight + bias, rstd = 1/√(var + eps), with mean and biased variance over the rows of x.

    x: (N, C) or (N, C, H, W), at least one row; the rest: (C,). weight and bias may be None."""
    run(None, x, mean_out, rstd_out, var_out, weight, bias, y_out, None, None, eps, True, n_threads)


def batch_norm_eval(x, mean, rstd, weight, bias, y_out, n_threads):
    """y = (x − mean)·rstd·weight + bias with given mean and rstd."""
    run(None, x, mean, rstd, None, weight, bias, y_out, None, None, 0, False, n_threads)


def batch_norm_backward(dy, x, mean, rstd, weight, training, dx_out, dweight_out, dbias_out, n_threads):
    """dbias = Σ dy, dweight = Σ dy·x̂, x̂ = (x − mean)·rstd, and dx = weight·rstd·dy or, if `training`, through the
    statistics of the R rows too, weight·rstd·(dy − dbias/R − x̂·dweight/R), which needs the other two.

    dx_out may be None; so may dweight_out with dbias_out."""
    run(dy, x, mean, rstd, None, weight, None, dx_out, dweight_out, dbias_out, 0, training, n_threads)
