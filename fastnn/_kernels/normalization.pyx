"""Batch normalization: statistics of each channel over all rows, and the element-wise passes around them.

An array is R rows (R = N, or N·H·W) of C adjacent channels. It is walked in wide rows, each of G = max(1, LANES // C) rows
side by side, so that the inner loops are long, contiguous and vectorized however few channels there are; a lane of a
wide row belongs to channel lane % C. DEPTH wide rows make a block, the unit of work of all passes.

Sums run over a block in the array's dtype, lane by lane, and over lanes and blocks in float64. The variance comes from
deviations from a shift, the mean of the block's first wide row: with s = Σ(x − shift) and q = Σ(x − shift)² over n rows,
the block has mean shift + s/n and squared deviations M = q − s²/n. Since n is at most DEPTH times the rows behind the
shift, the cancellation costs at most a factor DEPTH + 1, whatever the data. Blocks are merged in pairs, always in the same
order, by the formula of Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing sample
variances", 1979). Nothing depends on the number of threads. Bandwidth is the limit: forward reads x twice and writes y,
backward reads dy and x twice and writes dx.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from fastnn._kernels.kernel cimport (
    check_rows, check_same, is_f32, n_channels, n_rows, omp_get_thread_num, scratch_acquire, scratch_align,
    scratch_release, threads_for,
)

cnp.import_array()

cdef enum:
    LANES = 512  # numbers in a wide row, if C allows; sums of so many lanes are kept at a time
    DEPTH = 64   # wide rows in a block


cdef struct Cut:
    Py_ssize_t rows, channels
    Py_ssize_t group   # rows in a wide row
    Py_ssize_t lanes   # group * channels
    Py_ssize_t height  # rows in a block
    Py_ssize_t blocks
    Py_ssize_t parts   # at least 1


cdef Cut _cut(cnp.ndarray a) noexcept:
    cdef Cut cut
    cut.rows, cut.channels = n_rows(a), n_channels(a)
    cut.group = max(<Py_ssize_t> 1, LANES // max(<Py_ssize_t> 1, cut.channels))
    cut.lanes = cut.group * cut.channels
    cut.height = DEPTH * cut.group
    cut.blocks = (cut.rows + cut.height - 1) // cut.height if cut.channels > 0 else 0
    cut.parts = max(<Py_ssize_t> 1, cut.blocks)
    return cut


cdef int check_channels(cnp.ndarray a, cnp.ndarray x) except -1:
    """`a` holds one number a channel of `x`, in x's dtype."""
    if (cnp.PyArray_NDIM(a) != 1 or cnp.PyArray_DIM(a, 0) != n_channels(x) or cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(x)
            or not cnp.PyArray_IS_C_CONTIGUOUS(a) or not cnp.PyArray_ISBEHAVED_RO(a)):
        raise ValueError("kernel: a contiguous array of one number a channel, in the dtype of the input, is needed")
    return 0


cdef inline void* data(cnp.ndarray a) noexcept:
    return NULL if a is None else cnp.PyArray_DATA(a)


# Sums of a block --------------------------------------------------------------------------------------------------

cdef inline void _add_squares(
    floating* s, floating* q, const floating* x, const floating* shift, Py_ssize_t stride, Py_ssize_t n
) noexcept nogil:
    """s += d and q += d², d = x − shift, over four wide rows, or over one if stride is 0."""
    cdef Py_ssize_t l
    cdef floating d0, d1, d2, d3
    if stride == 0:
        for l in range(n):
            d0 = x[l] - shift[l]
            s[l] += d0
            q[l] += d0 * d0
        return
    for l in range(n):
        d0, d1 = x[l] - shift[l], x[l + stride] - shift[l]
        d2, d3 = x[l + 2 * stride] - shift[l], x[l + 3 * stride] - shift[l]
        s[l] += (d0 + d1) + (d2 + d3)
        q[l] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)


cdef inline void _add_products(
    floating* s, floating* q, const floating* dy, const floating* x, const floating* shift, Py_ssize_t stride, Py_ssize_t n
) noexcept nogil:
    """s += dy and q += dy·(x − shift), over four wide rows, or over one if stride is 0."""
    cdef Py_ssize_t l
    cdef floating q0, q1
    if stride == 0:
        for l in range(n):
            s[l] += dy[l]
            q[l] += dy[l] * (x[l] - shift[l])
        return
    for l in range(n):
        q0 = dy[l] * (x[l] - shift[l]) + dy[l + stride] * (x[l + stride] - shift[l])
        q1 = dy[l + 2 * stride] * (x[l + 2 * stride] - shift[l]) + dy[l + 3 * stride] * (x[l + 3 * stride] - shift[l])
        s[l] += (dy[l] + dy[l + stride]) + (dy[l + 2 * stride] + dy[l + 3 * stride])
        q[l] += q0 + q1


cdef void _sums(
    const floating* dy, const floating* x, const floating* shift, Py_ssize_t rows, Cut cut, double* s_out, double* q_out
) noexcept nogil:
    """Per channel of a block s = Σ dy and q = Σ dy·d, or if dy is NULL s = Σ d and q = Σ d², where d = x − shift."""
    cdef floating s[LANES]
    cdef floating q[LANES]
    cdef Py_ssize_t c, i, l, n, turn, start, stride = cut.lanes
    cdef Py_ssize_t full = rows // cut.group, rest = rows % cut.group * cut.channels  # whole wide rows, lanes after them
    for c in range(cut.channels):
        s_out[c] = q_out[c] = 0
    for turn in range((cut.lanes + LANES - 1) // LANES):  # more than one turn only if C > LANES
        start = turn * LANES
        n = min(<Py_ssize_t> LANES, cut.lanes - start)
        for l in range(n):
            s[l] = q[l] = 0
        for i in range(0, full - full % 4, 4):
            l = i * stride + start
            if dy == NULL:
                _add_squares(s, q, x + l, shift + start, stride, n)
            else:
                _add_products(s, q, dy + l, x + l, shift + start, stride, n)
        for i in range(full - full % 4, full + (rest > 0)):
            l = i * stride + start
            if i == full:
                n = rest  # never if C > LANES
            if dy == NULL:
                _add_squares(s, q, x + l, shift + start, 0, n)
            else:
                _add_products(s, q, dy + l, x + l, shift + start, 0, n)
        n = min(<Py_ssize_t> LANES, cut.lanes - start)
        for i in range(cut.group):
            for c in range(min(cut.channels, n)):
                s_out[start + c] += s[i * cut.channels + c]
                q_out[start + c] += q[i * cut.channels + c]


cdef void _spread(const double* values, floating* wide, Cut cut) noexcept nogil:
    """Repeat one number a channel over the lanes of a wide row."""
    cdef Py_ssize_t c, i
    for i in range(cut.group):
        for c in range(cut.channels):
            wide[i * cut.channels + c] = <floating> values[c]


cdef void _block_statistics(const floating* x, floating* shift, Py_ssize_t rows, Cut cut, double* part) noexcept nogil:
    """Mean and squared deviations M of a block, per channel, to part[0:C] and part[C:2C]; `shift` has room for a wide row."""
    cdef Py_ssize_t c, i, C = cut.channels, first = min(cut.group, rows)
    cdef double* mean = part
    cdef double* squares = part + C
    for c in range(C):
        mean[c] = 0
    for i in range(first):
        for c in range(C):
            mean[c] += x[i * C + c]
    for c in range(C):
        mean[c] /= first
    _spread(mean, shift, cut)
    _sums(<const floating*> NULL, x, shift, rows, cut, mean, squares)
    for c in range(C):
        squares[c] = squares[c] - mean[c] * mean[c] / rows
        squares[c] = 0 if squares[c] < 0 else squares[c]
        mean[c] = shift[c] + mean[c] / rows


cdef void _merge(double* parts, bint statistics, Cut cut) noexcept nogil:
    """Merge the blocks' (mean, M), or plain sums, in pairs; the result replaces that of the first block."""
    cdef Py_ssize_t c, i, pair, C = cut.channels, step = 1
    cdef double n_a, n_b, delta
    cdef double* a
    cdef double* b
    while step < cut.blocks:
        for pair in range((cut.blocks + step - 1) // (2 * step)):
            i = pair * 2 * step
            a, b = parts + i * 2 * C, parts + (i + step) * 2 * C
            if statistics:
                n_a = step * cut.height
                n_b = min(cut.rows, (i + 2 * step) * cut.height) - (i + step) * cut.height
                for c in range(C):
                    delta = b[c] - a[c]
                    a[c] += delta * (n_b / (n_a + n_b))
                    a[C + c] += b[C + c] + delta * delta * (n_a * n_b / (n_a + n_b))
            else:
                for c in range(2 * C):
                    a[c] += b[c]
        step *= 2


# Element-wise passes ----------------------------------------------------------------------------------------------

cdef void _scale(
    const floating* x, const floating* wide, floating* y, Py_ssize_t rows, Cut cut
) noexcept nogil:
    """y = (x − m)·a + b over a block; m, a, b lie in `wide`, one wide row each."""
    cdef const floating* m = wide
    cdef const floating* a = wide + cut.lanes
    cdef const floating* b = wide + 2 * cut.lanes
    cdef Py_ssize_t i = 0, l
    while i < rows * cut.channels:
        for l in range(min(cut.lanes, rows * cut.channels - i)):
            y[i + l] = (x[i + l] - m[l]) * a[l] + b[l]
        i += cut.lanes


cdef void _scale_both(
    const floating* dy, const floating* x, const floating* wide, floating* dx, Py_ssize_t rows, Cut cut
) noexcept nogil:
    """dx = (x − m)·a + (dy − b)·c over a block; m, a, b, c lie in `wide`, one wide row each."""
    cdef const floating* m = wide
    cdef const floating* a = wide + cut.lanes
    cdef const floating* b = wide + 2 * cut.lanes
    cdef const floating* c = wide + 3 * cut.lanes
    cdef Py_ssize_t i = 0, l
    while i < rows * cut.channels:
        for l in range(min(cut.lanes, rows * cut.channels - i)):
            dx[i + l] = (x[i + l] - m[l]) * a[l] + (dy[i + l] - b[l]) * c[l]
        i += cut.lanes


cdef void _pass(
    const floating* dy, const floating* x, floating* out, floating* wide, double* parts, Cut cut, int what, int n_threads
) noexcept nogil:
    """One pass over all blocks: 0 statistics, 1 sums of dy and dy·(x − m), 2 `_scale`, 3 `_scale_both`."""
    cdef Py_ssize_t i
    if n_threads == 1:
        for i in range(cut.blocks):
            _block(dy, x, out, wide, parts, cut, what, i, 0)
    else:
        for i in prange(cut.blocks, schedule="static", num_threads=n_threads):
            _block(dy, x, out, wide, parts, cut, what, i, omp_get_thread_num())


cdef void _block(
    const floating* dy, const floating* x, floating* out, floating* wide, double* parts, Cut cut, int what, Py_ssize_t i,
    int thread
) noexcept nogil:
    cdef Py_ssize_t rows = min(cut.height, cut.rows - i * cut.height), at = i * cut.height * cut.channels
    cdef double* part = parts + i * 2 * cut.channels
    if what == 0:
        _block_statistics(x + at, wide + thread * cut.lanes, rows, cut, part)
    elif what == 1:
        _sums(dy + at, x + at, wide, rows, cut, part, part + cut.channels)
    elif what == 2:
        _scale(x + at, wide, out + at, rows, cut)
    else:
        _scale_both(dy + at, x + at, wide, out + at, rows, cut)


# Kernels ----------------------------------------------------------------------------------------------------------

cdef Py_ssize_t _working_memory(Cut cut, int n_threads) noexcept:
    """Bytes for two sums a channel and block, four numbers a channel, and wide rows: four, or one a thread."""
    return 8 * ((2 * cut.parts + 4) * cut.channels + max(4, n_threads) * cut.lanes)


cdef void _forward(
    const floating* x, const floating* weight, const floating* bias, double eps, floating* y, floating* mean,
    floating* rstd, floating* var, double* memory, bint training, Cut cut, int n_threads
) noexcept nogil:
    cdef Py_ssize_t c, C = cut.channels
    cdef double* parts = memory + 4 * C
    cdef floating* wide = <floating*> (parts + 2 * cut.parts * C)
    if training:
        _pass(<const floating*> NULL, x, y, wide, parts, cut, 0, n_threads)
        _merge(parts, True, cut)
        for c in range(C):
            mean[c] = <floating> parts[c]
            var[c] = <floating> (parts[C + c] / cut.rows)
            rstd[c] = <floating> (1 / sqrt(parts[C + c] / cut.rows + eps))
    for c in range(C):
        memory[c] = mean[c]
        memory[C + c] = rstd[c] if weight == NULL else <double> rstd[c] * weight[c]
        memory[2 * C + c] = 0 if bias == NULL else bias[c]
    for c in range(3):
        _spread(memory + c * C, wide + c * cut.lanes, cut)
    _pass(<const floating*> NULL, x, y, wide, parts, cut, 2, n_threads)


cdef void _backward(
    const floating* dy, const floating* x, const floating* mean, const floating* rstd, const floating* weight,
    floating* dx, floating* dweight, floating* dbias, double* memory, bint training, Cut cut, int n_threads
) noexcept nogil:
    cdef Py_ssize_t c, C = cut.channels
    cdef double* parts = memory + 4 * C  # begins with Σ dy and Σ dy·(x − mean) once merged
    cdef floating* wide = <floating*> (parts + 2 * cut.parts * C)
    cdef double scale
    if dweight != NULL:
        for c in range(C):
            memory[c] = mean[c]
            parts[c] = parts[C + c] = 0  # what remains if there are no rows
        _spread(memory, wide, cut)
        _pass(dy, x, dx, wide, parts, cut, 1, n_threads)
        _merge(parts, False, cut)
        for c in range(C):
            dbias[c] = <floating> parts[c]
            dweight[c] = <floating> (parts[C + c] * rstd[c])
    if dx == NULL:
        return
    for c in range(C):
        scale = rstd[c] if weight == NULL else <double> rstd[c] * weight[c]
        memory[c] = mean[c] if training else 0
        memory[C + c] = -scale * rstd[c] * rstd[c] * parts[C + c] / cut.rows if training else scale
        memory[2 * C + c] = parts[c] / cut.rows if training else 0
        memory[3 * C + c] = scale
    for c in range(4):
        _spread(memory + c * C, wide + c * cut.lanes, cut)
    if training:
        _pass(dy, x, dx, wide, parts, cut, 3, n_threads)
    else:
        _pass(<const floating*> NULL, dy, dx, wide, parts, cut, 2, n_threads)


def batch_norm(
    cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, double eps, cnp.ndarray y_out, cnp.ndarray mean_out,
    cnp.ndarray rstd_out, cnp.ndarray var_out, int n_threads
):
    """y = (x − mean)·rstd·weight + bias with rstd = 1/√(var + eps), mean and biased variance of each channel over all rows.

    weight and bias may be None. x: (N, C) or (N, C, H, W), at least one row; the others: (C,).
    """
    check_rows(x)
    check_same(x, y_out)
    for a in (mean_out, rstd_out, var_out, weight, bias):
        if a is not None:
            check_channels(a, x)
    if n_rows(x) == 0:
        raise ValueError("kernel: batch_norm needs at least one row")
    _run_forward(x, weight, bias, eps, y_out, mean_out, rstd_out, var_out, True, n_threads)


def batch_norm_eval(
    cnp.ndarray x, cnp.ndarray mean, cnp.ndarray rstd, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray y_out,
    int n_threads
):
    """y = (x − mean)·rstd·weight + bias with given mean and rstd. weight and bias may be None."""
    check_rows(x)
    check_same(x, y_out)
    for a in (mean, rstd, weight, bias):
        if a is not None:
            check_channels(a, x)
    _run_forward(x, weight, bias, 0, y_out, mean, rstd, None, False, n_threads)


cdef int _run_forward(
    cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, double eps, cnp.ndarray y, cnp.ndarray mean, cnp.ndarray rstd,
    cnp.ndarray var, bint training, int n_threads
) except -1:
    cdef Cut cut = _cut(x)
    cdef int t = threads_for(2 * cut.rows * cut.channels, n_threads)
    cdef bint single = is_f32(x)
    cdef void* px = data(x)
    cdef void* pw = data(weight)
    cdef void* pb = data(bias)
    cdef void* py = data(y)
    cdef void* pm = data(mean)
    cdef void* pr = data(rstd)
    cdef void* pv = data(var)
    cdef void* block = scratch_acquire(_working_memory(cut, t))
    cdef double* memory = <double*> scratch_align(block)
    with nogil:
        if single:
            _forward(<const float*> px, <const float*> pw, <const float*> pb, eps, <float*> py, <float*> pm, <float*> pr,
                     <float*> pv, memory, training, cut, t)
        else:
            _forward(<const double*> px, <const double*> pw, <const double*> pb, eps, <double*> py, <double*> pm,
                     <double*> pr, <double*> pv, memory, training, cut, t)
    scratch_release(block)
    return 0


def batch_norm_backward(
    cnp.ndarray dy, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray rstd, cnp.ndarray weight, cnp.ndarray dx_out,
    cnp.ndarray dweight_out, cnp.ndarray dbias_out, int n_threads
):
    """Gradients of batch_norm, through the statistics too, with x̂ = (x − mean)·rstd over R rows:

    dbias = Σ dy,  dweight = Σ dy·x̂,  dx = weight·rstd·(dy − dbias/R − x̂·dweight/R).  dx_out and weight may be None.
    """
    _run_backward(dy, x, mean, rstd, weight, dx_out, dweight_out, dbias_out, True, n_threads)


def batch_norm_eval_backward(
    cnp.ndarray dy, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray rstd, cnp.ndarray weight, cnp.ndarray dx_out,
    cnp.ndarray dweight_out, cnp.ndarray dbias_out, int n_threads
):
    """Gradients of batch_norm_eval: dbias = Σ dy, dweight = Σ dy·x̂, dx = weight·rstd·dy.

    dx_out may be None, so may dweight_out and dbias_out together, and weight.
    """
    _run_backward(dy, x, mean, rstd, weight, dx_out, dweight_out, dbias_out, False, n_threads)


cdef int _run_backward(
    cnp.ndarray dy, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray rstd, cnp.ndarray weight, cnp.ndarray dx,
    cnp.ndarray dweight, cnp.ndarray dbias, bint training, int n_threads
) except -1:
    check_rows(x)
    check_same(x, dy)
    if dx is not None:
        check_same(x, dx)
    for a in (mean, rstd, weight, dweight, dbias):
        if a is not None:
            check_channels(a, x)
    if (dweight is None) != (dbias is None) or training and dweight is None:
        raise ValueError("kernel: dweight_out and dbias_out are needed")
    cdef Cut cut = _cut(x)
    cdef int t = threads_for(2 * cut.rows * cut.channels, n_threads)
    cdef bint single = is_f32(x)
    cdef void* pdy = data(dy)
    cdef void* px = data(x)
    cdef void* pm = data(mean)
    cdef void* pr = data(rstd)
    cdef void* pw = data(weight)
    cdef void* pdx = data(dx)
    cdef void* pdw = data(dweight)
    cdef void* pdb = data(dbias)
    cdef void* block = scratch_acquire(_working_memory(cut, t))
    cdef double* memory = <double*> scratch_align(block)
    with nogil:
        if single:
            _backward(<const float*> pdy, <const float*> px, <const float*> pm, <const float*> pr, <const float*> pw,
                      <float*> pdx, <float*> pdw, <float*> pdb, memory, training, cut, t)
        else:
            _backward(<const double*> pdy, <const double*> px, <const double*> pm, <const double*> pr,
                      <const double*> pw, <double*> pdx, <double*> pdw, <double*> pdb, memory, training, cut, t)
    scratch_release(block)
    return 0
