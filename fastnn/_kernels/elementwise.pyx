"""Arithmetic on two arrays, an array and a number, or one for each channel; copies from one memory order to another.

Bandwidth is the limit. Arithmetic walks memory as it lies, so both arrays must lie alike; results are single IEEE
operations, NumPy's bits. A copy walks the output in its own order. Axes that lie one within the other in both arrays
are merged first; what then remains are runs of elements that both have side by side, or, where an axis a is innermost
in y and another, b, in x, matrices to transpose. These are taken in blocks that the first-level cache holds, so that
each line of memory is touched once, and transposed in registers by square tiles (transpose.h)."""
cimport numpy as cnp
from cython cimport floating
from libc.string cimport memcpy
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "elementwise.h" nogil:
    enum: ADD, SUB, MUL, DIV
    # macros, which choose by the type of x
    void ew_apply(int op, int fixed, const void* x, const void* y, void* z, Py_ssize_t n)

cdef extern from "transpose.h" nogil:
    void transpose(const void* a, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t columns, void* to, Py_ssize_t to_row)

cdef enum:
    AXES = 64  # NumPy's most
    BLOCK = 64  # elements along a of a block to transpose
    RUN = 4096  # elements of a block, and of a unit of copying
    ROW = 1024  # elements over which few channels are repeated

cdef struct Job:
    int op, fixed
    Bytes x, y, z
    Py_ssize_t size

cdef struct Axis:
    Py_ssize_t n, x, y  # elements, and how far apart they are in each array

cdef struct Copy:
    Bytes x, y
    int axes  # outer ones
    Axis[AXES] axis
    Axis a, b  # innermost in y, and in x; no b: n = 1
    Py_ssize_t blocks, lines, together  # of b or else a; how many there are in all; and in a unit


cdef void chunk(const Job* job, Py_ssize_t i, floating* kind) noexcept nogil:
    cdef Py_ssize_t begin = i * CHUNK
    ew_apply(job.op, job.fixed, <floating*> job.x + (0 if job.fixed == 1 else begin),
             <floating*> job.y + (0 if job.fixed == 2 else begin), <floating*> job.z + begin,
             min(<Py_ssize_t> CHUNK, job.size - begin))


cdef int run(int op, cnp.ndarray x, cnp.ndarray y, cnp.ndarray z, int n_threads) except -1:
    cdef int fixed = 0 if x.ndim == y.ndim else 1 if x.ndim == 0 else 2
    check_float(z)
    check_float(x)
    check_float(y)
    if not is_packed(z) or not cnp.PyArray_ISWRITEABLE(z) or fixed == 2 and y.ndim != 0:
        raise ValueError("kernel: an array and a number, or two arrays of one shape, and a dense output are needed")
    if is_f32(x) != is_f32(z) or is_f32(y) != is_f32(z):
        raise ValueError("kernel: operands and output must have one dtype")
    if fixed != 1:
        check_same(z, x)
    if fixed != 2:
        check_same(z, y)
    cdef Job job = Job(op, fixed, x.data, y.data, z.data, z.size)
    return start(<Unit> chunk[float], <Unit> chunk[double], z, &job, parts(job.size, CHUNK),
                 threads_for(job.size // STREAM, n_threads))


def add(cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray z_out not None, int n_threads):
    """z = x + y, for arrays of one shape and memory order, or with one of them 0-d."""
    run(ADD, x, y, z_out, n_threads)


def sub(cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray z_out not None, int n_threads):
    """z = x − y, likewise."""
    run(SUB, x, y, z_out, n_threads)


def mul(cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray z_out not None, int n_threads):
    """z = x·y, likewise."""
    run(MUL, x, y, z_out, n_threads)


def div(cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray z_out not None, int n_threads):
    """z = x / y, likewise."""
    run(DIV, x, y, z_out, n_threads)


cdef struct Channels:
    Bytes x, factor, y
    Py_ssize_t N, C, pixels, bands
    bint innermost


cdef void scale_band(const Channels* s, Py_ssize_t unit, floating* kind) noexcept nogil:
    """A band of pixels of one image, or one channel of it. Few channels are repeated to fill vectors."""
    cdef Py_ssize_t image = unit // s.bands, i, n, at, C = s.C, begin, end, period
    cdef floating repeated[2 * ROW]
    cdef floating* factor = <floating*> s.factor + image * C
    cdef floating* x = <floating*> s.x + image * C * s.pixels
    cdef floating* y = <floating*> s.y + image * C * s.pixels
    if not s.innermost:
        at = unit % s.bands
        ew_apply(MUL, 2, x + at * s.pixels, factor + at, y + at * s.pixels, s.pixels)
        return
    begin, end = cut(s.pixels, s.bands, unit % s.bands) * C, cut(s.pixels, s.bands, unit % s.bands + 1) * C
    period = C
    if C < ROW:
        period = C * parts(ROW, C)
        for i in range(parts(ROW, C)):
            memcpy(repeated + i * C, factor, C * sizeof(floating))
        factor = repeated
    at = begin
    while at < end:
        n = min(period, end - at)
        ew_apply(MUL, 0, x + at, factor, y + at, n)
        at += n


def scale_channels(cnp.ndarray x not None, cnp.ndarray factor not None, cnp.ndarray y_out not None, int n_threads):
    """y[n, c, h, w] = x[n, c, h, w]·factor[n, c], in C order or channels-last."""
    check_order(x, True, True)
    check_same(x, y_out)
    check_plain(factor)
    if (x.ndim != 4 or factor.ndim != 2 or factor.shape[0] != x.shape[0] or factor.shape[1] != x.shape[1]
            or is_f32(x) != is_f32(factor) or not cnp.PyArray_ISWRITEABLE(y_out)):
        raise ValueError("kernel: scale_channels needs images (N, C, H, W) and factors (N, C) of one dtype")
    cdef Channels s = Channels(x.data, factor.data, y_out.data, x.shape[0], x.shape[1], x.shape[2] * x.shape[3],
                               1, not has_order(x, False))
    if x.size == 0:
        return
    s.bands = parts(s.pixels * s.C, CHUNK) if s.innermost else s.C
    start(<Unit> scale_band[float], <Unit> scale_band[double], x, &s, s.N * s.bands,
          threads_for(x.size // STREAM, n_threads))


cdef void copy_line(const Copy* c, Py_ssize_t line, floating* kind) noexcept nogil:
    """A block of columns of b, all of a, of one matrix; or a piece of a run along a."""
    cdef const Axis* axis = &c.b if c.b.n > 1 else &c.a
    cdef Py_ssize_t rest = line // c.blocks, begin = cut(axis.n, c.blocks, line % c.blocks), i, k
    cdef Py_ssize_t n = cut(axis.n, c.blocks, line % c.blocks + 1) - begin
    cdef floating* x = <floating*> c.x + begin * axis.x
    cdef floating* y = <floating*> c.y + begin * axis.y
    for k in range(c.axes - 1, -1, -1):
        i = rest % c.axis[k].n
        x, y, rest = x + i * c.axis[k].x, y + i * c.axis[k].y, rest // c.axis[k].n
    if c.b.n > 1:
        transpose(x, c.a.n, c.a.x, n, y, c.b.y)
    elif c.a.x == 1:
        memcpy(y, x, n * sizeof(floating))
    else:
        for i in range(n):
            y[i] = x[i * c.a.x]


cdef void copy_lines(const Copy* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t line
    for line in range(unit * c.together, min(c.lines, (unit + 1) * c.together)):
        copy_line(c, line, kind)


def copy(cnp.ndarray x not None, cnp.ndarray y_out not None, int n_threads):
    """y = x, from any strides to any dense order of axes."""
    cdef Copy c
    cdef Axis axis
    cdef int i, k
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(y_out)
    check_float(x)
    check_float(y_out)
    if ((<object> x).shape != (<object> y_out).shape or is_f32(x) != is_f32(y_out) or not is_packed(y_out)
            or not cnp.PyArray_ISWRITEABLE(y_out)):
        raise ValueError("kernel: a copy needs arrays of one shape and dtype, and a dense output")
    c.x, c.y, c.axes, c.lines = x.data, y_out.data, 0, 1
    c.a, c.b = Axis(1, 1, 1), Axis(1, 0, 0)
    if y_out.size == 0:
        return
    for i in range(x.ndim):  # the axes of y, outermost first, by insertion
        axis = Axis(y_out.shape[i], x.strides[i] // size, y_out.strides[i] // size)
        if axis.n > 1:
            if x.strides[i] % size != 0:
                raise ValueError("kernel: x has strides that are no multiple of its elements' size")
            k = c.axes
            while k > 0 and c.axis[k - 1].y < axis.y:
                c.axis[k] = c.axis[k - 1]
                k -= 1
            c.axis[k] = axis
            c.axes += 1
    k = 0
    for i in range(1, c.axes):  # merge an axis with the one around it where it fills that one's step
        if c.axis[k].x == c.axis[i].x * c.axis[i].n:
            c.axis[k] = Axis(c.axis[k].n * c.axis[i].n, c.axis[i].x, c.axis[i].y)
        else:
            k += 1
            c.axis[k] = c.axis[i]
    c.axes = k if c.axes > 0 else 0
    if y_out.size > 1:
        c.a = c.axis[k]
    for i in range(c.axes if c.a.x != 1 else 0):
        if c.axis[i].x == 1:
            c.b = c.axis[i]
            c.axes -= 1
            for k in range(i, c.axes):
                c.axis[k] = c.axis[k + 1]
            break
    c.blocks = parts(c.b.n * min(c.a.n, <Py_ssize_t> BLOCK), RUN) if c.b.n > 1 else parts(c.a.n, RUN)
    c.lines = c.blocks
    for i in range(c.axes):
        c.lines *= c.axis[i].n
    c.together = max(<Py_ssize_t> 1, RUN * c.lines // y_out.size)
    start(<Unit> copy_lines[float], <Unit> copy_lines[double], y_out, &c, parts(c.lines, c.together),
          threads_for(y_out.size, n_threads))
