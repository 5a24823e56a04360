"""Pooling over the H and W of channels-last images.

All are one walk: for each element of a row of the result, which taps it reads, and what is made of them (pooling.h's
part). Forward the taps of an output lie in its window; backward the taps of an input are the outputs whose windows hold
it, so that dx is gathered, written once and never zeroed, and any row of it, or pair of rows, is a unit of work of its
own. (Where windows overlap and are large, or channels fill vectors badly, a maximum's gradient is scattered, image by
image.) Where taps lie along H and W is worked out once a call: it takes divisions.

A maximum records in which tap it was found, in one byte if the window has at most 256 places; ties go to the first
place in row-major order and NaN wins, as in PyTorch. Its gradient goes to that place alone. Bandwidth is the limit,
but for a maximum's forward pass over windows that overlap (a comparison a cycle) and below 16 channels."""
cimport numpy as cnp
from cython cimport floating
from libc.stdint cimport int32_t
from libc.string cimport memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "pooling.h" nogil:
    ctypedef struct Window:
        Py_ssize_t at, column, taps, first, run
    ctypedef struct Row:
        int maximum, backward, narrow, uniform, blocks
        int32_t kernel, down, right
        const int32_t* numbers
        Py_ssize_t C, outputs, row, col, reach, phases, step, soon, each, tap_h, tap_w
        const double* per_w
        const Window* windows
        const char* end
    ctypedef struct Part:
        const Window* h
        const double* per_h
        const void* x
        const char* place
        void* y
        char* to

    enum:
        VECTOR_BYTES, POOL_STEP
    # a macro, which chooses by the type of `kind`
    void pool(void* kind, const Row* r, const Part* p, Py_ssize_t rows)

cdef enum:
    LARGEST = 2147483647  # size of a window or a step
    FEW_IMAGES = 4  # fewer are no units of work
    MANY_TAPS = 16  # more than scattering takes for one
    FAR = 1 << 24  # bytes: of less, the processor's own prefetch is enough

ctypedef struct Axis:
    Py_ssize_t size, out, kernel, stride, padding, dilation  # kernel 0: windows cover the axis evenly
    Py_ssize_t step, fall  # backward, from one output that holds an input to the next, and by how much its place falls
    bint padded, backward  # padding counts in averages

ctypedef struct Pool:
    Axis h, w
    Py_ssize_t length, other, units  # per image: rows of the result and of what it is read from, units of work
    Py_ssize_t row, row_other  # their elements
    Bytes x, y, place, to
    const Window* windows  # along H
    const double* per_h
    int32_t[9] numbers
    Row common  # what all rows have in common


cdef Window window(const Axis* a, Py_ssize_t o) noexcept nogil:
    """The taps of element o of the result."""
    cdef Window w
    cdef Py_ssize_t begin = o * a.stride - a.padding, last = a.kernel
    cdef Py_ssize_t size = a.out if a.backward else a.size, out = a.size if a.backward else a.out
    w.first = w.column = 0
    w.run = 1
    if a.kernel == 0:  # what holds an input follows from the same formula
        w.at = o * size // out
        w.taps = parts((o + 1) * size, out) - w.at
    elif a.backward:
        begin = o + a.padding
        w.at = max(<Py_ssize_t> 0, parts(begin - (a.kernel - 1) * a.dilation, a.stride))
        last = min(begin // a.stride, a.out - 1)
        while a.dilation > 1 and w.at <= last and (begin - w.at * a.stride) % a.dilation != 0:
            w.at += 1
        w.first = (begin - w.at * a.stride) // a.dilation
        w.taps = (last - w.at) // a.step + 1 if last >= w.at else 0
    else:
        w.first = parts(-begin, a.dilation) if begin < 0 else 0
        if begin + (a.kernel - 1) * a.dilation >= a.size:
            last = parts(a.size - begin, a.dilation)
        w.at, w.taps = begin + w.first * a.dilation, last - w.first
    return w


cdef double per(const Axis* a, Py_ssize_t o) noexcept nogil:
    """1 / what an average counts along one axis of the window of output o."""
    cdef Py_ssize_t begin = o * a.stride - a.padding, length
    if a.kernel == 0:
        length = parts((o + 1) * a.size, a.out) - o * a.size // a.out
    elif a.padded:
        length = min(a.kernel, a.size + a.padding - begin)
    else:
        length = min(begin + a.kernel, a.size) - max(begin, <Py_ssize_t> 0)
    return 1. / max(length, <Py_ssize_t> 1)


cdef bint is_uniform(const double* a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(1, n):
        if a[i] != a[0]:
            return False
    return True


cdef void pool_rows(const Pool* p, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One row of the result, or two."""
    cdef const Row* r = &p.common
    cdef Py_ssize_t row = unit % p.units * (1 + r.blocks), n = unit // p.units, size = 1 if r.narrow else 4
    cdef Py_ssize_t at = n * p.other * p.row_other, to = (n * p.length + row) * p.row
    cdef Part part
    part.h, part.per_h = p.windows + row, p.per_h + (0 if r.backward else row)
    part.x, part.place = <floating*> p.x + at, p.place + at * size
    part.y, part.to = <floating*> p.y + to, p.to + to * size
    pool(kind, r, &part, min(<Py_ssize_t> (1 + r.blocks), p.length - row))


cdef void scatter(const Pool* p, Py_ssize_t n, floating* kind) noexcept nogil:
    """Of one image: the gradient of each maximum, added where it was found. (A place that is none goes nowhere.)"""
    cdef const Row* r = &p.common
    cdef Py_ssize_t size = p.length * p.row, i, j, c, at
    cdef floating* dx = <floating*> p.y + n * size
    cdef const floating* dy = <floating*> p.x + n * p.other * p.row_other
    cdef const unsigned char* place = <const unsigned char*> p.place + n * p.other * p.row_other
    cdef Py_ssize_t[256] offsets
    for i in range(256):
        offsets[i] = -(<Py_ssize_t> 1 << 62)  # far outside
        if i < p.h.kernel * p.w.kernel:
            offsets[i] = i // p.w.kernel * p.h.dilation * p.row + i % p.w.kernel * p.w.dilation * r.C
    memset(dx, 0, size * sizeof(floating))
    for i in range(p.other):
        for j in range(p.w.out):
            at = (i * p.h.stride - p.h.padding) * p.row + (j * p.w.stride - p.w.padding) * r.C
            for c in range(r.C):
                if <size_t> (at + c + offsets[place[c]]) < <size_t> size:
                    dx[at + c + offsets[place[c]]] += dy[c]
            dy += r.C
            place += r.C


cdef bint fits(const Axis* a) noexcept:
    return min(a.kernel, a.stride, a.dilation, a.padding + 1) >= 1 and (
        max(a.kernel, a.stride, a.dilation, a.padding) < LARGEST)


cdef int prepare(Axis* a, Py_ssize_t size, Py_ssize_t out, bint padded, bint backward, bint adaptive) except -1:
    cdef Py_ssize_t g = a.stride, rest = a.dilation
    while rest != 0:
        g, rest = rest, g % rest
    a.size, a.out, a.padded, a.backward = size, out, padded, backward
    a.step, a.fall = a.dilation // g, a.stride // g
    if adaptive:
        a.kernel = 0
    return 0


cdef int run(cnp.ndarray x, cnp.ndarray y, cnp.ndarray place, tuple geometry, bint padded, Py_ssize_t divisor,
             bint backward, int n_threads) except -1:
    """x to y, or dy in `y` to dx in `x`. geometry: kernel, stride, padding, dilation; None: y's shape decides."""
    cdef Pool p
    cdef Row* r = &p.common
    cdef int axis, threads
    cdef Py_ssize_t places, i
    cdef Window* windows
    cdef Window* after
    cdef double* per_h
    cdef double* per_w
    (p.h.kernel, p.w.kernel), (p.h.stride, p.w.stride), (p.h.padding, p.w.padding), (p.h.dilation, p.w.dilation) = (
        geometry or ((1, 1), (1, 1), (0, 0), (1, 1)))
    if x is None or y is None:
        raise ValueError("kernel: a pooling needs its arrays")
    check_rows(x)
    check_rows(y)
    cdef bint good = fits(&p.h) and fits(&p.w) and x.ndim == 4 and y.ndim == 4 and is_f32(x) == is_f32(y)
    good = good and x.shape[0] == y.shape[0] and x.shape[1] == y.shape[1]
    places, r.maximum, r.narrow = p.h.kernel * p.w.kernel, place is not None, 1
    if place is not None:
        r.narrow = places <= 256
        good = good and place.ndim == 4 and has_order(place, True) and places < LARGEST
        good = good and cnp.PyArray_TYPE(place) == (<int> cnp.NPY_UINT8 if r.narrow else <int> cnp.NPY_INT32)
        for axis in range(4 if good else 0):
            good = good and place.shape[axis] == y.shape[axis]
    if not good:
        raise ValueError("kernel: the arrays and sizes of a pooling do not fit together")
    if x.size == 0 and backward or y.size == 0 and not backward:
        return 0
    p.place = p.to = y.data if place is None else place.data
    prepare(&p.h, x.shape[2], y.shape[2], padded, backward, geometry is None)
    prepare(&p.w, x.shape[3], y.shape[3], padded, backward, geometry is None)
    r.C, r.kernel, r.backward = x.shape[1], <int32_t> p.w.kernel, backward
    threads = threads_for(x.size + y.size * min(places, <Py_ssize_t> 64), n_threads)
    p.x, p.y, p.length, p.other = x.data, y.data, p.h.out, p.h.size
    r.outputs, p.row_other, r.end = p.w.out, p.w.size * r.C, x.data + cnp.PyArray_NBYTES(x)
    r.row, r.col, r.down, r.right = p.h.dilation * p.row_other, p.w.dilation * r.C, <int32_t> p.w.kernel, 1
    if backward:
        p.x, p.y, p.length, p.other = y.data, x.data, p.h.size, p.h.out
        r.outputs, p.row_other, r.end = p.w.size, p.w.out * r.C, y.data + cnp.PyArray_NBYTES(y)
        r.row, r.col, r.tap_h, r.tap_w = p.h.step * p.row_other, p.w.step * r.C, p.h.step, p.w.step
        r.down, r.right = <int32_t> (-p.h.fall * p.w.kernel), <int32_t> -p.w.fall
    p.row, r.reach = r.outputs * r.C, p.row_other
    cdef Py_ssize_t lanes = max(VECTOR_BYTES // cnp.PyArray_ITEMSIZE(x), <Py_ssize_t> 1)
    cdef bint wide = r.C >= lanes
    if backward:
        r.phases = p.w.stride if wide else 1
        r.step = r.C * (1 if geometry else p.w.out // p.w.size)
    else:
        r.phases, r.step = 1, r.C * (p.w.stride if geometry else p.w.size // p.w.out)
    for i in range(9):
        p.numbers[i] = <int32_t> (i // 3 * p.w.kernel + i % 3)
    r.numbers = p.numbers
    r.soon = r.each = 0
    if place is not None and not backward and p.w.kernel > p.w.stride and cnp.PyArray_NBYTES(x) >= FAR:
        r.soon = p.h.kernel * p.row_other * cnp.PyArray_ITEMSIZE(x)
        r.each = p.h.stride * p.row_other * cnp.PyArray_ITEMSIZE(x) // r.outputs
    if (backward and r.maximum and r.narrow and x.shape[0] >= FEW_IMAGES
            and (r.C < 2 * lanes and r.C != lanes or places > MANY_TAPS)
            and (p.h.kernel > p.h.stride or p.w.kernel > p.w.stride)):
        return start(<Unit> scatter[float], <Unit> scatter[double], x, &p, x.shape[0], threads)
    windows = <Window*> scratch_acquire((r.outputs + p.length) * sizeof(Window) + (p.h.out + p.w.out) * sizeof(double))
    r.windows, p.windows = windows, windows + r.outputs
    p.per_h = per_h = <double*> (windows + r.outputs + p.length)
    r.per_w = per_w = per_h + p.h.out
    for i in range(r.outputs):
        windows[i] = window(&p.w, i)
        windows[i].column = windows[i].at
        windows[i].at *= r.C
    for i in range(r.outputs - 1, -1, -1):
        if i + r.phases < r.outputs:
            after = &windows[i + r.phases]
            if windows[i].taps == after.taps and (
                    not wide or windows[i].first == after.first and windows[i].at + r.step == after.at):
                windows[i].run += after.run
    for i in range(p.length):
        windows[r.outputs + i] = window(&p.h, i)
    for i in range(p.h.out):
        per_h[i] = 1. / divisor if divisor != 0 else per(&p.h, i)
    for i in range(p.w.out):
        per_w[i] = 1 if divisor != 0 else per(&p.w, i)
    r.uniform = r.maximum or is_uniform(per_h, p.h.out) and is_uniform(per_w, p.w.out)
    r.blocks = (POOL_STEP and backward and wide and r.uniform and r.narrow and is_f32(x) and r.phases == 2
                and r.row == p.row_other and r.col == r.C)
    p.units = parts(p.length, 1 + r.blocks)
    start(<Unit> pool_rows[float], <Unit> pool_rows[double], x, &p, x.shape[0] * p.units, threads)
    scratch_release(windows)
    return 0


def max_pool2d(x, y_out, cnp.ndarray place_out not None, kernel, stride, padding, dilation, n_threads):
    """y[oh, ow] = max over (i, j) of x[oh·sH − pH + i·dH, ow·sW − pW + j·dW]; place = i·kW + j of the winner."""
    run(x, y_out, place_out, (kernel, stride, padding, dilation), False, 0, False, n_threads)


def max_pool2d_backward(dy, cnp.ndarray place not None, dx_out, kernel, stride, padding, dilation, n_threads):
    """dx = Σ dy over the windows whose maximum was found here, as `place` tells."""
    run(dx_out, dy, place, (kernel, stride, padding, dilation), False, 0, True, n_threads)


def avg_pool2d(x, y_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    """y = Σ x over the window / `divisor`; if that is 0, / the window's size, with padding counted or not."""
    run(x, y_out, None, (kernel, stride, padding, (1, 1)), count_include_pad, divisor, False, n_threads)


def avg_pool2d_backward(dy, dx_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    """dx = Σ over the windows that hold this element of dy / what the window was divided by."""
    run(dx_out, dy, None, (kernel, stride, padding, (1, 1)), count_include_pad, divisor, True, n_threads)


def adaptive_avg_pool2d(x, y_out, n_threads):
    """y[o] = the mean of x[⌊o·size/out⌋ : ⌈(o + 1)·size/out⌉] along H and W; a 1×1 output is the global average."""
    run(x, y_out, None, None, False, 0, False, n_threads)


def adaptive_avg_pool2d_backward(dy, dx_out, n_threads):
    """dx = Σ over the windows that hold this element of dy / the window's size."""
    run(dx_out, dy, None, None, False, 0, True, n_threads)
