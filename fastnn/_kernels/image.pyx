"""Parts of images at whole pixels, mirrored or not, images under affine maps and of another size, channels-last.

A unit of work is a band of an image's output rows. A row of a crop is one run of pixels inside the image, which is
copied, from the end if mirrored (image.h), between two borders that are made pixel by pixel: bandwidth is the limit. So
bytes become floats, and colours are shifted and scaled, while the row is in the first cache, each step in a loop of its
own: the bits are those of one step after another. An affine map is sampled pixel by pixel, from four pixels each;
working out which is the limit. Where a row or pixel lies is reduced to a range near the image first, so that no offset
or map, NaN included, leads out of it.

Another size is a product with a matrix, mostly of zeros, along each axis. A unit is an output row: the sum of some
input rows, then for each pixel the sum of some of its pixels, in the first cache; bandwidth limits many channels."""
cimport numpy as cnp
from cython cimport floating
from libc.math cimport fabs, floor, fmod
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "image.h" nogil:
    # macros, which choose by the type of y
    void mirror(const void* x, void* y, Py_ssize_t n, Py_ssize_t C)  # n pixels, the last first
    void as_floats(const uint8_t* x, void* y, Py_ssize_t n)  # y = x / 255
    void recolour(const void* x, const double* mean, const double* weight, void* y, Py_ssize_t n)  # (x − mean)·weight

cdef enum:
    CONSTANT, EDGE, REFLECT, SYMMETRIC  # what lies outside an image
    TAPS = 8  # a sampled element's work, in elements touched

cdef struct Job:
    int mode
    double value
    Bytes x, y
    const int64_t* top
    const int64_t* left
    const uint8_t* flip
    const double* theta
    const double* table  # for each element of an output row: what lies outside, and what is subtracted and multiplied
    bint of_bytes, recoloured  # whether x is uint8, and whether colours change
    char* scratch  # a row of x and one of y for each thread
    Py_ssize_t C, H, W, oH, oW, bands


cdef inline Py_ssize_t period(int mode, Py_ssize_t n) noexcept nogil:
    return 2 * n if mode == SYMMETRIC else max(2 * n - 2, <Py_ssize_t> 1)


cdef inline Py_ssize_t near(int mode, Py_ssize_t at, Py_ssize_t n, Py_ssize_t out) noexcept nogil:
    """An offset of `out` pixels along n with the same pixels as `at`, whose sum with `out` does not overflow."""
    if mode <= EDGE:
        return min(max(at, -out), n)
    at %= period(mode, n)
    return at if at >= 0 else at + period(mode, n)


cdef inline Py_ssize_t source(int mode, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """The pixel that place i shows, of n, or -1 for the constant."""
    if 0 <= i < n:
        return i
    if mode <= EDGE:
        return -1 if mode == CONSTANT else 0 if i < 0 else n - 1
    i = near(mode, i, n, 0)
    return i if i < n else period(mode, n) - (mode == SYMMETRIC) - i


cdef inline void fill(floating* y, const double* values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = <floating> values[i]


cdef void crop_band(const Job* job, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t n = unit // job.bands, band = unit % job.bands, C = job.C, oW = job.oW, i, j, k, row, column
    cdef Py_ssize_t top = near(job.mode, job.top[n], job.H, job.oH), left = near(job.mode, job.left[n], job.W, oW)
    cdef Py_ssize_t begin = min(max(-left, <Py_ssize_t> 0), oW), end = max(min(job.W - left, oW), begin)
    cdef bint over = job.flip[n] & 1, upside = job.flip[n] & 2, constant = job.mode == CONSTANT
    cdef Py_ssize_t first = (left + begin) * C if constant else 0, last = (left + end) * C if constant else job.W * C
    cdef Py_ssize_t to = (oW - end if over else begin) * C, run = (end - begin) * C, length = oW * C
    cdef const double* mean = job.table + length
    cdef const double* weight = mean + length
    cdef floating* floats = <floating*> job.scratch + omp_get_thread_num() * (job.W + oW) * C  # of a row of bytes
    cdef floating* plain = floats + job.W * C  # the row before its colours change
    cdef const floating* x
    cdef const floating* inner
    cdef floating* y
    for i in range(cut(job.oH, job.bands, band), cut(job.oH, job.bands, band + 1)):
        row = source(job.mode, top + (job.oH - 1 - i if upside else i), job.H)
        y = <floating*> job.y + (n * job.oH + i) * length
        if row < 0 or constant and run == 0:
            fill(y, job.table, length)
            continue
        row = (n * job.H + row) * job.W * C
        x = <const floating*> job.x + row
        if job.of_bytes:
            as_floats(<const uint8_t*> job.x + row + first, floats + first, last - first)
            x = floats
        inner = x + (left + begin) * C
        if not job.recoloured:
            plain = y
        if over:
            mirror(inner, plain + to, end - begin, C)
            inner = plain + to
        if constant:
            if job.recoloured:
                recolour(inner, mean + to, weight + to, y + to, run)
            elif not over:
                memcpy(y + to, inner, run * sizeof(floating))
            fill(y, job.table, to)
            fill(y + to + run, job.table + to + run, length - to - run)
            continue
        if not over:
            memcpy(plain + to, inner, run * sizeof(floating))
        for j in range(oW - (end - begin)):
            column = j if j < begin else j + end - begin
            k = oW - 1 - column if over else column
            memcpy(plain + k * C, x + source(job.mode, left + column, job.W) * C, C * sizeof(floating))
        if job.recoloured:
            recolour(plain, mean, weight, y, length)


cdef inline double inside(int mode, double at, Py_ssize_t n) noexcept nogil:
    """A position along n pixels, 0 at the middle of the first, as one from 0 to n - 1; NaN as 0."""
    if mode == SYMMETRIC and not -0.5 <= at <= n - 0.5:
        at = fmod(fabs(at + 0.5), 2. * n)
        at = (at if at < n else 2. * n - at) - 0.5
    at = at if at > 0 else 0
    return at if at < n - 1 else n - 1


cdef inline void sample_row(const Job* job, const floating* x, Py_ssize_t n, Py_ssize_t i, floating* y,
                            Py_ssize_t C) noexcept nogil:
    """Row i of image n, whose input begins at x, to y."""
    cdef const double* t = job.theta + 6 * n
    cdef double across = t[1] * (i + 0.5) + t[2], down = t[4] * (i + 0.5) + t[5], u, v
    cdef Py_ssize_t H = job.H, W = job.W, j, c, row, column, right, below
    cdef const floating* p
    cdef floating a, b, value = <floating> job.value
    cdef floating[4] tap
    cdef bint[4] known
    for j in range(job.oW):
        u, v = t[0] * (j + 0.5) + across - 0.5, t[3] * (j + 0.5) + down - 0.5
        if job.mode != CONSTANT:
            u, v = inside(job.mode, u, W), inside(job.mode, v, H)
        elif not (-1 < u < W and -1 < v < H):
            for c in range(C):
                y[j * C + c] = value
            continue
        column, row = <Py_ssize_t> floor(u), <Py_ssize_t> floor(v)
        a, b = <floating> (u - column), <floating> (v - row)
        right, below = (C if column + 1 < W else 0), (W * C if row + 1 < H else 0)
        p = x + (row * W + column) * C
        if job.mode != CONSTANT or 0 <= column < W - 1 and 0 <= row < H - 1:
            for c in range(C):
                y[j * C + c] = ((p[c] * (1 - a) + p[c + right] * a) * (1 - b)
                                + (p[c + below] * (1 - a) + p[c + below + right] * a) * b)
            continue
        known[0], known[1] = row >= 0 and column >= 0, row >= 0 and right > 0
        known[2], known[3] = below > 0 and column >= 0, below > 0 and right > 0
        for c in range(C):
            tap[0], tap[1] = p[c] if known[0] else value, p[c + right] if known[1] else value
            tap[2], tap[3] = p[c + below] if known[2] else value, p[c + below + right] if known[3] else value
            y[j * C + c] = (tap[0] * (1 - a) + tap[1] * a) * (1 - b) + (tap[2] * (1 - a) + tap[3] * a) * b


cdef void affine_band(const Job* job, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t n = unit // job.bands, band = unit % job.bands, C = job.C, i
    cdef const floating* x = <floating*> job.x + n * job.H * job.W * C
    cdef floating* y
    for i in range(cut(job.oH, job.bands, band), cut(job.oH, job.bands, band + 1)):
        y = <floating*> job.y + (n * job.oH + i) * job.oW * C
        if C == 3:
            sample_row(job, x, n, i, y, 3)
        elif C == 1:
            sample_row(job, x, n, i, y, 1)
        else:
            sample_row(job, x, n, i, y, C)


cdef int prepare(Job* job, cnp.ndarray x, int mode, cnp.ndarray y) except -1:
    job.of_bytes = cnp.PyArray_TYPE(x) == cnp.NPY_UINT8
    if not job.of_bytes:
        check_rows(x)
    check_rows(y)
    if (x.ndim != 4 or y.ndim != 4 or not has_order(x, True) or not job.of_bytes and is_f32(x) != is_f32(y)
            or x.shape[0] != y.shape[0] or x.shape[1] != y.shape[1]
            or x.size == 0 and y.size != 0 or not cnp.PyArray_ISWRITEABLE(y)):
        raise ValueError("kernel: images and an output of as many images and channels, of one dtype, are needed")
    if not CONSTANT <= mode <= SYMMETRIC:
        raise ValueError(f"kernel: the mode must be from {CONSTANT} to {SYMMETRIC}, but {mode} came")
    job.mode, job.x, job.y, job.C = mode, x.data, y.data, x.shape[1]
    job.H, job.W, job.oH, job.oW = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    job.bands = min(parts(job.oH * job.oW * job.C, CHUNK), job.oH)
    return 0


cdef int check_table(cnp.ndarray a, int kind, int ndim, Py_ssize_t n) except -1:
    if (cnp.PyArray_TYPE(a) != kind or a.ndim != ndim or not cnp.PyArray_ISCARRAY_RO(a) or a.shape[0] != n
            or ndim == 3 and (a.shape[1] != 2 or a.shape[2] != 3)):
        raise ValueError(f"kernel: offsets (N,) int64, flips (N,) uint8 or maps (N, 2, 3) float64 are needed, N = {n}")
    return 0


def crop(cnp.ndarray x not None, cnp.ndarray top not None, cnp.ndarray left not None, cnp.ndarray flip not None,
         int mode, cnp.ndarray table not None, cnp.ndarray y_out not None, int n_threads):
    """y[n, c, i, j] = x[n, c, top[n] + i', left[n] + j'], where i' is i, or oH − 1 − i if flip[n] & 2, and j' is j, or
    oW − 1 − j if flip[n] & 1; of uint8, x / 255. Outside x: the nearest pixel (mode 1), x mirrored again and again
    without repeating pixels of the border (2), or repeating them (3), or (0) table[0], for each element of an output
    row. `table` is (1, oW, C) or (3, oW, C) float64: then what comes from x is (y − table[1])·table[2]."""
    cdef Job job
    cdef int threads = threads_for(y_out.size // STREAM, n_threads)
    prepare(&job, x, mode, y_out)
    check_table(top, cnp.NPY_INT64, 1, x.shape[0])
    check_table(left, cnp.NPY_INT64, 1, x.shape[0])
    check_table(flip, cnp.NPY_UINT8, 1, x.shape[0])
    check_plain(table)
    if (is_f32(table) or table.ndim != 3 or table.shape[0] not in (1, 3) or table.shape[1] != job.oW
            or table.shape[2] != job.C):
        raise ValueError(f"kernel: a table (1 or 3, {job.oW}, {job.C}) float64 is needed")
    job.top, job.left, job.flip = <int64_t*> top.data, <int64_t*> left.data, <uint8_t*> flip.data
    job.table, job.recoloured = <double*> table.data, table.shape[0] == 3
    if y_out.size == 0:
        return
    job.scratch = <char*> scratch_acquire(threads * (job.W + job.oW) * job.C * cnp.PyArray_ITEMSIZE(y_out))
    start(<Unit> crop_band[float], <Unit> crop_band[double], y_out, &job, x.shape[0] * job.bands, threads)
    scratch_release(job.scratch)


def affine(cnp.ndarray x not None, cnp.ndarray theta not None, int mode, double value, cnp.ndarray y_out not None,
           int n_threads):
    """y[n, c, i, j] = x[n, c] at (u, v) = theta[n]·(j + ½, i + ½, 1), bilinear between pixels, whose middles are at
    whole numbers + ½: u is measured from the left edge, v from the top edge, in pixels of x. Outside x: `value` for
    each of the four pixels that lies there (mode 0), u and v cut off (1), or mirrored at the edges (3). NaN shows
    `value`, or in the other modes the first pixel."""
    cdef Job job
    check_float(x)
    prepare(&job, x, mode, y_out)
    job.value = value
    check_table(theta, cnp.NPY_FLOAT64, 3, x.shape[0])
    if mode == REFLECT:
        raise ValueError("kernel: an affine map's mode must be 0, 1 or 3, but 2 came")
    job.theta = <double*> theta.data
    if y_out.size != 0:
        start(<Unit> affine_band[float], <Unit> affine_band[double], x, &job, x.shape[0] * job.bands,
              threads_for(y_out.size * TAPS, n_threads))


ctypedef struct Axis:  # place o of the output is the sum over t of weights[o, t] times place first[o] + t
    const int64_t* first
    Bytes weights
    Py_ssize_t taps

ctypedef struct Resampling:
    Bytes x, y, rows
    Py_ssize_t H, W, C, oH, oW
    Axis down, along


cdef inline void combine(const Axis* axis, Py_ssize_t o, const floating* x, Py_ssize_t n, floating* y) noexcept nogil:
    """Place o, of runs of n numbers in x; weights of 0 are left out."""
    cdef Py_ssize_t t, j
    cdef const floating* weights = <floating*> axis.weights + o * axis.taps
    cdef floating w = weights[0]
    x += axis.first[o] * n
    for j in range(n):
        y[j] = w * x[j] if w != 0 else 0
    for t in range(1, axis.taps):
        w = weights[t]
        if w != 0:
            for j in range(n):
                y[j] += w * x[t * n + j]


cdef void resample_row(const Resampling* r, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t size = r.W * r.C, j
    cdef floating* sums = <floating*> r.rows + omp_get_thread_num() * size
    cdef floating* y = <floating*> r.y + unit * r.oW * r.C
    combine(&r.down, unit % r.oH, <floating*> r.x + unit // r.oH * r.H * size, size, sums)
    for j in range(r.oW if r.C == 3 else 0):
        combine(&r.along, j, sums, 3, y + j * 3)
    for j in range(r.oW if r.C != 3 else 0):
        combine(&r.along, j, sums, r.C, y + j * r.C)


cdef Axis read_axis(cnp.ndarray first, cnp.ndarray weights, Py_ssize_t n, Py_ssize_t out, cnp.ndarray x) except *:
    cdef Axis axis
    check_table(first, cnp.NPY_INT64, 1, out)
    axis.first, axis.weights, axis.taps = <int64_t*> first.data, weights.data, weights.size // max(out, 1)
    check_vector(weights.reshape(-1), axis.taps * out, x)
    if out and (first.min() < 0 or first.max() + axis.taps > n or axis.taps < 1):
        raise ValueError(f"kernel: resample needs {out} places from 0 to {n}, and a weight for each or more")
    return axis


def resample(cnp.ndarray x not None, cnp.ndarray top not None, cnp.ndarray down not None, cnp.ndarray left not None,
             cnp.ndarray along not None, cnp.ndarray y_out not None, int n_threads):
    """y[n, c, i, j] = Σ over s, t of down[i, s]·along[j, t]·x[n, c, top[i] + s, left[j] + t].

    top (oH,) and left (oW,) int64; down (oH, taps) and along (oW, taps) of x's dtype."""
    cdef Job job
    cdef Resampling r
    cdef int threads = threads_for(y_out.size * TAPS // STREAM, n_threads)
    check_float(x)
    prepare(&job, x, CONSTANT, y_out)
    r.x, r.y, r.C, r.H, r.W, r.oH, r.oW = job.x, job.y, job.C, job.H, job.W, job.oH, job.oW
    r.down, r.along = read_axis(top, down, r.H, r.oH, x), read_axis(left, along, r.W, r.oW, x)
    if y_out.size:
        r.rows = <Bytes> scratch_acquire(threads * r.W * r.C * cnp.PyArray_ITEMSIZE(x))
        start(<Unit> resample_row[float], <Unit> resample_row[double], x, &r, x.shape[0] * r.oH, threads)
        scratch_release(r.rows)
