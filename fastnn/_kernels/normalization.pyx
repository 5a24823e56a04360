"""Batch normalization: statistics of each channel over all rows, and the element-wise passes around them.

An array is R rows (R = N, or N·H·W) of C adjacent channels. It is walked in wide rows, max(1, LANES // C) rows side
by side, so that inner loops are long, contiguous and vectorized however few channels there are; lane k of a wide row
belongs to channel k % C. DEPTH wide rows make a block, the unit of work of every pass. Bandwidth is the limit: forward
reads x twice and writes y, backward reads dy and x twice and writes dx.

Sums run down a block in the array's dtype, lane by lane, then over lanes and blocks in float64. Variances come from
deviations from a shift, the mean of the block's first wide row: with s = Σ(x − shift) and q = Σ(x − shift)² over n
rows, the mean is shift + s/n, the sum of squared deviations q − s²/n. As n is at most DEPTH times the rows behind the
shift, cancellation costs at most a factor DEPTH + 1, whatever the data. Blocks are merged in pairs in an order fixed
by the shape (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.string cimport memset
from fastnn._kernels.kernel cimport (
    check_rows, check_same, is_f32, n_channels, n_rows, omp_get_thread_num, scratch_acquire, scratch_align,
    scratch_release, threads_for,
)

cnp.import_array()

cdef enum:
    LANES = 512  # numbers in a wide row, if C allows
    DEPTH = 64   # wide rows in a block


ctypedef void* address

cdef struct Job:
    Py_ssize_t rows, C
    Py_ssize_t lanes    # in a wide row
    Py_ssize_t height   # rows in a block
    Py_ssize_t blocks
    double* channels    # scratch: three numbers a channel
    double* parts       # two numbers a channel for each block, at least one block; those of the first are the result
    void* wide          # four wide rows in the array's dtype, the parameters of a pass, then three for each thread
    bint training
    double eps
    int n_threads
    address dy, x, out, mean, rstd, var, weight, bias, dweight, dbias  # NULL where there is no such array


# Reduction --------------------------------------------------------------------------------------------------------

cdef void _spread(const double* values, floating* wide, const Job* job) noexcept nogil:
    """Repeat the numbers of the channels over a wide row."""
    cdef Py_ssize_t c, i
    for i in range(job.lanes // max(<Py_ssize_t> 1, job.C)):
        for c in range(job.C):
            wide[i * job.C + c] = <floating> values[c]


cdef void _sums(
    const floating* dy, const floating* x, const floating* shift, Py_ssize_t n, floating* s, const Job* job,
    double* part
) noexcept nogil:
    """Σ dy and Σ dy·d, or if dy is NULL Σ d and Σ d², with d = x − shift, per channel over n elements."""
    cdef floating* q = s + job.lanes  # s has room for two wide rows
    cdef Py_ssize_t c, i = 0, k, C = job.C
    cdef floating d, g
    memset(s, 0, 2 * job.lanes * sizeof(floating))
    while i < n:
        for k in range(min(job.lanes, n - i)):
            d = x[i + k] - shift[k]
            g = d if dy == NULL else dy[i + k]
            s[k] += g
            q[k] += g * d
        i += job.lanes
    memset(part, 0, 2 * C * sizeof(double))
    for i in range(job.lanes // C):
        for c in range(C):
            part[c] += s[i * C + c]
            part[C + c] += q[i * C + c]


cdef void _statistics(const floating* x, Py_ssize_t rows, floating* work, const Job* job, double* part) noexcept nogil:
    """Mean and squared deviations of each channel of a block; work: three wide rows."""
    cdef Py_ssize_t c, i, C = job.C, first = min(job.lanes // C, rows)
    memset(part, 0, C * sizeof(double))
    for i in range(first):
        for c in range(C):
            part[c] += x[i * C + c]
    for c in range(C):
        part[c] /= first
    _spread(part, work, job)
    _sums(<const floating*> NULL, x, work, rows * C, work + job.lanes, job, part)
    for c in range(C):
        part[C + c] -= part[c] * part[c] / rows
        part[C + c] = 0 if part[C + c] < 0 else part[C + c]
        part[c] = work[c] + part[c] / rows


cdef void _merge(bint statistics, const Job* job) noexcept nogil:
    """Merge the blocks' statistics, or sums, in pairs, into those of the first."""
    cdef Py_ssize_t c, i, pair, C = job.C, step = 1
    cdef double n_a, n_b, delta
    cdef double* a
    cdef double* b
    while step < job.blocks:
        for pair in range((job.blocks + step - 1) // (2 * step)):
            i = pair * 2 * step
            a, b = job.parts + i * 2 * C, job.parts + (i + step) * 2 * C
            n_a = step * job.height
            n_b = min(job.rows - (i + step) * job.height, step * job.height)
            for c in range(C):
                delta = b[c] - a[c]
                a[c] += delta * (n_b / (n_a + n_b)) if statistics else b[c]
                a[C + c] += b[C + c] + (delta * delta * (n_a * n_b / (n_a + n_b)) if statistics else 0)
        step *= 2


# Passes -----------------------------------------------------------------------------------------------------------

cdef void _affine(
    const floating* dy, const floating* x, const floating* m, floating* out, Py_ssize_t n, Py_ssize_t lanes
) noexcept nogil:
    """out = (x − m)·a + b, or if dy is not NULL (x − m)·a + (dy − b)·c; wide rows a, b, c follow m."""
    cdef const floating* a = m + lanes
    cdef const floating* b = a + lanes
    cdef const floating* c = b + lanes
    cdef Py_ssize_t i = 0, k
    while i < n:
        for k in range(min(lanes, n - i)):
            out[i + k] = (x[i + k] - m[k]) * a[k] + (b[k] if dy == NULL else (dy[i + k] - b[k]) * c[k])
        i += lanes


cdef void _block(
    const floating* dy, const floating* x, floating* out, const Job* job, Py_ssize_t i, int thread
) noexcept nogil:
    cdef floating* wide = <floating*> job.wide
    cdef floating* work = wide + (4 + 3 * thread) * job.lanes
    cdef double* part = job.parts + i * 2 * job.C
    cdef Py_ssize_t start = i * job.height * job.C, rows = min(job.height, job.rows - i * job.height)
    x += start
    if dy != NULL:
        dy += start
    if out != NULL:
        _affine(dy, x, wide, out + start, rows * job.C, job.lanes)
    elif dy != NULL:
        _sums(dy, x, wide, rows * job.C, work, job, part)
    else:
        _statistics(x, rows, work, job, part)


cdef void _pass(const floating* dy, const floating* x, floating* out, const Job* job) noexcept nogil:
    """If `out` is given `_affine`, else sums with dy or statistics without, of all blocks."""
    cdef Py_ssize_t i
    if job.n_threads == 1:
        for i in range(job.blocks):
            _block(dy, x, out, job, i, 0)
    else:
        for i in prange(job.blocks, schedule="static", num_threads=job.n_threads):
            _block(dy, x, out, job, i, omp_get_thread_num())
    if out == NULL:
        _merge(dy == NULL, job)


cdef void _forward(floating* x, const Job* job) noexcept nogil:
    cdef floating* mean = <floating*> job.mean
    cdef floating* rstd = <floating*> job.rstd
    cdef floating* weight = <floating*> job.weight
    cdef floating* bias = <floating*> job.bias
    cdef floating* wide = <floating*> job.wide
    cdef Py_ssize_t c, C = job.C
    if job.training:
        _pass(<const floating*> NULL, x, <floating*> NULL, job)
        for c in range(C):
            mean[c] = <floating> job.parts[c]
            (<floating*> job.var)[c] = <floating> (job.parts[C + c] / job.rows)
            rstd[c] = <floating> (1 / sqrt(job.parts[C + c] / job.rows + job.eps))
    for c in range(C):
        job.channels[c] = mean[c]
        job.channels[C + c] = <double> rstd[c] * (weight[c] if weight != NULL else 1)
        job.channels[2 * C + c] = bias[c] if bias != NULL else 0
    for c in range(3):
        _spread(job.channels + c * C, wide + c * job.lanes, job)
    _pass(<const floating*> NULL, x, <floating*> job.out, job)


cdef void _backward(floating* x, const Job* job) noexcept nogil:
    cdef floating* dy = <floating*> job.dy
    cdef floating* dx = <floating*> job.out
    cdef floating* mean = <floating*> job.mean
    cdef floating* rstd = <floating*> job.rstd
    cdef floating* weight = <floating*> job.weight
    cdef floating* wide = <floating*> job.wide
    cdef Py_ssize_t c, C = job.C
    cdef double* sums = job.parts
    memset(sums, 0, 2 * C * sizeof(double))
    for c in range(C):
        job.channels[c] = mean[c]
    _spread(job.channels, wide, job)
    if job.dweight != NULL:
        _pass(dy, x, <floating*> NULL, job)
        for c in range(C):
            (<floating*> job.dbias)[c] = <floating> sums[c]
            (<floating*> job.dweight)[c] = <floating> (sums[C + c] * rstd[c])
    if dx == NULL:
        return
    for c in range(C):
        job.channels[c] = <double> rstd[c] * (weight[c] if weight != NULL else 1)
        job.channels[C + c] = sums[c] / job.rows if job.training else 0
        job.channels[2 * C + c] = -job.channels[c] * rstd[c] * rstd[c] * sums[C + c] / job.rows
    if job.training:  # dx = (x − mean)·a + (dy − b)·c
        _spread(job.channels + 2 * C, wide + job.lanes, job)
        _spread(job.channels + C, wide + 2 * job.lanes, job)
        _spread(job.channels, wide + 3 * job.lanes, job)
        _pass(dy, x, dx, job)
    else:  # dx = (dy − 0)·a + 0
        memset(wide, 0, 3 * job.lanes * sizeof(floating))
        _spread(job.channels, wide + job.lanes, job)
        _pass(<const floating*> NULL, dy, dx, job)


cdef void _steps(floating* x, const Job* job) noexcept nogil:
    if job.dy == NULL:
        _forward(x, job)
    else:
        _backward(x, job)


# Kernels ----------------------------------------------------------------------------------------------------------

cdef void* _like(cnp.ndarray a, cnp.ndarray x) except? NULL:
    """The data of `a`, which is like x; NULL for None."""
    if a is None:
        return NULL
    check_same(x, a)
    return cnp.PyArray_DATA(a)


cdef void* _channels(cnp.ndarray a, cnp.ndarray x) except? NULL:
    """The data of `a`, which has one number a channel of x, in x's dtype; NULL for None."""
    if a is None:
        return NULL
    if not (cnp.PyArray_NDIM(a) == 1 and cnp.PyArray_DIM(a, 0) == n_channels(x)
            and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(x) and cnp.PyArray_ISCARRAY_RO(a)):
        raise ValueError("kernel: one number a channel, contiguous and in the dtype of the input, is needed")
    return cnp.PyArray_DATA(a)


cdef int _run(
    cnp.ndarray dy, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray rstd, cnp.ndarray var, cnp.ndarray weight,
    cnp.ndarray bias, cnp.ndarray out, cnp.ndarray dweight, cnp.ndarray dbias, double eps, bint training, int n_threads
) except -1:
    """Forward (x to out) if dy is None, else backward (dy to out)."""
    cdef Job job
    cdef bint single
    check_rows(x)
    job.dy, job.x, job.out = _like(dy, x), cnp.PyArray_DATA(x), _like(out, x)
    job.mean, job.rstd, job.var = _channels(mean, x), _channels(rstd, x), _channels(var, x)
    job.weight, job.bias = _channels(weight, x), _channels(bias, x)
    job.dweight, job.dbias = _channels(dweight, x), _channels(dbias, x)
    if (dweight is None) != (dbias is None):
        raise ValueError("kernel: dweight_out and dbias_out are both None or neither")
    job.rows, job.C = n_rows(x) if n_channels(x) > 0 else 0, n_channels(x)
    cdef Py_ssize_t group = max(<Py_ssize_t> 1, LANES // max(<Py_ssize_t> 1, job.C))
    job.lanes, job.height = group * job.C, DEPTH * group
    job.blocks = (job.rows + job.height - 1) // job.height
    job.training, job.eps, job.n_threads = training, eps, threads_for(2 * job.rows * job.C, n_threads)
    cdef Py_ssize_t parts = 2 * job.C * max(<Py_ssize_t> 1, job.blocks)
    cdef void* block = scratch_acquire(8 * (3 * job.C + parts + (4 + 3 * job.n_threads) * job.lanes))
    job.channels = <double*> scratch_align(block)
    job.parts = job.channels + 3 * job.C
    job.wide = job.parts + parts
    single = is_f32(x)
    with nogil:
        if single:
            _steps(<float*> job.x, &job)
        else:
            _steps(<double*> job.x, &job)
    scratch_release(block)
    return 0


def batch_norm(
    cnp.ndarray x not None, cnp.ndarray weight, cnp.ndarray bias, double eps, cnp.ndarray y_out not None,
    cnp.ndarray mean_out not None, cnp.ndarray rstd_out not None, cnp.ndarray var_out not None, int n_threads
):
    """y = (x − mean)·rstd·weight + bias, rstd = 1/√(var + eps), with mean and biased variance over the rows of x.

    x: (N, C) or (N, C, H, W), at least one row; the rest: (C,). weight and bias may be None.
    """
    if n_rows(x) == 0:
        raise ValueError("kernel: batch_norm needs at least one row")
    _run(None, x, mean_out, rstd_out, var_out, weight, bias, y_out, None, None, eps, True, n_threads)


def batch_norm_eval(
    cnp.ndarray x not None, cnp.ndarray mean not None, cnp.ndarray rstd not None, cnp.ndarray weight, cnp.ndarray bias,
    cnp.ndarray y_out not None, int n_threads
):
    """y = (x − mean)·rstd·weight + bias with given mean and rstd."""
    _run(None, x, mean, rstd, None, weight, bias, y_out, None, None, 0, False, n_threads)


def batch_norm_backward(
    cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray mean not None, cnp.ndarray rstd not None,
    cnp.ndarray weight, cnp.ndarray dx_out, cnp.ndarray dweight_out not None, cnp.ndarray dbias_out not None,
    int n_threads
):
    """dbias = Σ dy, dweight = Σ dy·x̂, dx = weight·rstd·(dy − dbias/R − x̂·dweight/R), x̂ = (x − mean)·rstd.

    The gradient passes through the statistics of the R rows too. dx_out may be None.
    """
    _run(dy, x, mean, rstd, None, weight, None, dx_out, dweight_out, dbias_out, 0, True, n_threads)


def batch_norm_eval_backward(
    cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray mean not None, cnp.ndarray rstd not None,
    cnp.ndarray weight, cnp.ndarray dx_out, cnp.ndarray dweight_out, cnp.ndarray dbias_out, int n_threads
):
    """dbias = Σ dy, dweight = Σ dy·x̂, dx = weight·rstd·dy. dx_out may be None; so may dweight_out with dbias_out."""
    _run(dy, x, mean, rstd, None, weight, None, dx_out, dweight_out, dbias_out, 0, False, n_threads)
