"""Pooling over the H and W of channels-last images.

All are one walk: for each element of a row of the result, which taps it reads, and what is made of them (pooling.h's
part). Forward the taps of an output lie in its window; backward the taps of an input are the outputs whose windows hold
it, so that dx is gathered, written once and never zeroed, and any row of it, or pair of rows, is a unit of work of its
own. (Where windows overlap and are large, differ in size, or channels fill vectors badly, a maximum's gradient is
scattered, image by image.) Where taps lie along H and W is worked out once a call: it takes divisions.

A maximum records where it was found: if windows are alike and have at most 256 places, in which of them, in one byte,
else at which of the H·W pixels. Ties go to the first in row-major order and NaN wins, as in PyTorch. Its gradient goes
to that place alone. Bandwidth is the limit, but for a maximum's forward pass over windows that overlap (a comparison a
cycle) and below 16 channels."""
import math

cimport numpy as cnp
from cython cimport floating
from libc.stdint cimport int32_t
from libc.string cimport memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "pooling.h" nogil:
    ctypedef struct Window:
        Py_ssize_t at, taps, first, run
    ctypedef struct Pool:
        int maximum, backward, merged, same, longs, narrow, uniform, blocks
        int32_t kernel, down, right
        Py_ssize_t C, height, width, tall, wide, row, col, units, phases, step, plane, share, soon, each, tap_h, tap_w
        const double* per_h
        const double* per_w
        const Window* h
        const Window* w
        const char* end
        Bytes x, place, y, to, work

    enum:
        VECTOR_BYTES
    void pool_f32(const void* job, Py_ssize_t unit, void* kind)
    void pool_f64(const void* job, Py_ssize_t unit, void* kind)

cdef enum:
    LARGEST = 2147483647  # size of a window, a step or an image
    FEW_IMAGES = 4  # fewer are no units of work
    MANY_TAPS = 16  # more than scattering takes for one
    LONG_ROW = 256  # pixels that are worth making its phases in planes rather than scattering
    FAR = 1 << 24  # bytes: of less, the processor's own prefetch is enough

ctypedef struct Axis:
    Py_ssize_t size, out, kernel, stride, padding, dilation  # kernel 0: windows cover the axis evenly

ctypedef struct Job:
    Pool pool
    Axis h, w


cdef bint lay(const Axis* a, bint backward, bint padded, Py_ssize_t divisor, Window* windows, double* per) noexcept:
    """The taps of each element of the result, and 1 / what averages count; whether that is the same for all."""
    cdef Py_ssize_t o, t, begin, first, taps, counted
    cdef bint uniform = True
    cdef Window* w
    memset(windows, 0, (a.size if backward else a.out) * sizeof(Window))
    for o in range(a.out):
        if a.kernel == 0:
            begin, first = o * a.size // a.out, 0
            counted = taps = parts((o + 1) * a.size, a.out) - begin
        else:
            begin = o * a.stride - a.padding
            first = parts(-begin, a.dilation) if begin < 0 else 0
            taps = max(min(a.kernel, parts(a.size - begin, a.dilation)) - first, <Py_ssize_t> 0)
            counted = min(a.kernel, a.size + a.padding - begin) if padded else taps
        per[o] = 1. / (divisor if divisor != 0 else max(counted, <Py_ssize_t> 1))
        uniform = uniform and per[o] == per[0]
        begin += first * a.dilation
        if not backward:
            windows[o].at, windows[o].taps, windows[o].first = begin, taps, first
        for t in range(taps if backward else 0):
            w = &windows[begin + t * a.dilation]
            if w.taps == 0:
                w.at, w.first = o, first + t if a.kernel != 0 else 0
            w.taps += 1
    return uniform


cdef void scatter(const Job* s, Py_ssize_t n, floating* kind) noexcept nogil:
    """Of one image: the gradient of each maximum, added where it was found. (A place that is none goes nowhere.)"""
    cdef const Pool* p = &s.pool
    cdef Py_ssize_t C = p.C, row = p.width * C, size = p.height * row, before = n * p.tall * p.wide * C, i, j, c, at
    cdef Py_ssize_t step = s.w.stride if C == 1 else 1, run = p.wide * C if s.w.stride == step else C
    cdef floating* dx = <floating*> p.y + n * size
    cdef const floating* dy = <floating*> p.x + before
    cdef const unsigned char* place = <unsigned char*> p.place + before
    cdef const int32_t* pixel = <int32_t*> p.place + before
    cdef Py_ssize_t[256] offsets
    memset(dx, 0, size * sizeof(floating))
    if not p.narrow:
        for i in range(p.tall * p.wide):
            for c in range(C):
                at = pixel[i * C + c] * C + c
                if <size_t> at < <size_t> size:
                    dx[at] += dy[i * C + c]
        return
    for i in range(256):
        offsets[i] = -(<Py_ssize_t> 1 << 62)  # far outside
        if i < s.h.kernel * s.w.kernel:
            offsets[i] = i // s.w.kernel * s.h.dilation * row + i % s.w.kernel * s.w.dilation * C
    for i in range(p.tall):
        for j in range(p.wide * C // run):
            at = (i * s.h.stride - s.h.padding) * row + (j * s.w.stride - s.w.padding) * C
            for c in range(run):
                if <size_t> (at + c * step + offsets[place[c]]) < <size_t> size:
                    dx[at + c * step + offsets[place[c]]] += dy[c]
            dy += run
            place += run


cdef bint fits(const Axis* a) noexcept:
    return min(a.kernel, a.stride, a.dilation, a.padding + 1) >= 1 and (
        max(a.kernel, a.stride, a.dilation, a.padding, a.size) < LARGEST)


cdef int run(cnp.ndarray x, cnp.ndarray y, cnp.ndarray place, tuple geometry, bint padded, Py_ssize_t divisor,
             bint backward, int n_threads) except -1:
    """x to y, or dy in `y` to dx in `x`. geometry: kernel, stride, padding, dilation; no kernel: y's shape decides."""
    cdef Job s
    cdef Pool* p = &s.pool
    cdef Axis* h = &s.h
    cdef Axis* w = &s.w
    cdef int axis, threads
    cdef Py_ssize_t places, i
    cdef Window* windows
    cdef Window* after
    cdef double* per
    cdef bint adaptive = geometry[0] is None
    (h.kernel, w.kernel), (h.stride, w.stride), (h.padding, w.padding), (h.dilation, w.dilation) = (
        ((1, 1), (1, 1), (0, 0), (1, 1)) if adaptive else geometry)
    if x is None or y is None:
        raise ValueError("kernel: a pooling needs its arrays")
    check_rows(x)
    check_rows(y)
    h.size, w.size, h.out, w.out = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    if adaptive and h.out == w.out == 1:  # all pixels are one row
        h.size, w.size = 1, h.size * w.size
    cdef bint good = fits(h) and fits(w) and x.ndim == 4 and y.ndim == 4 and is_f32(x) == is_f32(y)
    good = good and x.shape[0] == y.shape[0] and x.shape[1] == y.shape[1]
    places, p.maximum, p.narrow = h.kernel * w.kernel, place is not None, 1
    if place is not None:
        p.narrow = not adaptive and places <= 256
        good = good and place.ndim == 4 and has_order(place, True) and h.size * w.size < LARGEST
        good = good and cnp.PyArray_TYPE(place) == (<int> cnp.NPY_UINT8 if p.narrow else <int> cnp.NPY_INT32)
        for axis in range(4 if good else 0):
            good = good and place.shape[axis] == y.shape[axis]
    if not good:
        raise ValueError("kernel: the arrays and sizes of a pooling do not fit together")
    if x.size == 0 and backward or y.size == 0 and not backward:
        return 0
    threads = threads_for(x.size + y.size * min(places, <Py_ssize_t> 64), n_threads)
    p.C, p.backward, p.kernel = x.shape[1], backward, <int32_t> w.kernel
    p.x, p.y, p.height, p.width, p.tall, p.wide = x.data, y.data, h.out, w.out, h.size, w.size
    p.end = x.data + cnp.PyArray_NBYTES(x)
    p.row, p.col, p.down, p.right = h.dilation * w.size * p.C, w.dilation * p.C, p.kernel, 1
    if backward:
        p.x, p.y, p.height, p.width, p.tall, p.wide = y.data, x.data, h.size, w.size, h.out, w.out
        p.end = y.data + cnp.PyArray_NBYTES(y)
        p.tap_h, p.tap_w = h.dilation // math.gcd(h.dilation, h.stride), w.dilation // math.gcd(w.dilation, w.stride)
        p.row, p.col = p.tap_h * w.out * p.C, p.tap_w * p.C
        p.down = <int32_t> (-p.tap_h * h.stride // h.dilation * w.kernel)
        p.right = <int32_t> (-p.tap_w * w.stride // w.dilation)
    elif not p.narrow:
        p.kernel, p.down, p.right = <int32_t> w.size, <int32_t> (w.size * h.dilation), <int32_t> w.dilation
    p.place = p.to = p.y if place is None else place.data
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(x), lanes = max(VECTOR_BYTES // size, <Py_ssize_t> 1)
    p.phases = min(w.stride, p.width) if backward else 1
    p.step = p.C * (p.wide // p.width if adaptive else 1 if backward else w.stride)
    p.merged = p.step == p.C and (p.phases == 1 or p.phases == 2 and p.C * size < 16 and p.C < lanes)
    p.plane = parts(p.width, 2) * p.C + lanes if p.merged and p.phases == 2 else 0
    cdef bint split = not (backward or adaptive) and p.C == h.dilation == w.dilation == 1 and (
        w.kernel == w.stride == 2 and w.padding == 0)
    p.plane = parts(p.wide, 2) + lanes if split else p.plane
    p.share = 2 * p.plane * (h.kernel if split else 1)
    p.longs = not (backward or p.maximum or p.merged) and p.C <= 16 and (
        p.C * (w.size // w.out if adaptive else w.kernel) >= 1024)
    p.same = p.step == 0 and p.width >= 8 * p.wide
    cdef bint overlaps = h.kernel > h.stride or w.kernel > w.stride, ragged = p.C < lanes or overlaps and (
        lanes < p.C < 2 * lanes)
    if backward and p.maximum and (not p.narrow or x.shape[0] >= FEW_IMAGES and (
            overlaps and places > MANY_TAPS or ragged and p.phases > 1 and (p.plane == 0 or p.width < LONG_ROW))):
        return start(<Unit> scatter[float], <Unit> scatter[double], x, &s, x.shape[0], threads)
    p.soon = p.each = 0
    if p.maximum and not backward and w.kernel > w.stride and cnp.PyArray_NBYTES(x) >= FAR:
        p.soon = h.kernel * w.size * p.C * size
        p.each = h.stride * w.size * p.C * size // p.width
    if adaptive:
        h.kernel = w.kernel = 0
    cdef Py_ssize_t n_windows = p.width + p.height, n_per = h.out + w.out + 1
    windows = <Window*> scratch_acquire(n_windows * sizeof(Window) + n_per * sizeof(double)
                                        + threads * p.share * size)
    p.w, p.h = windows, windows + p.width
    per = <double*> (windows + n_windows)
    p.per_w, p.per_h, p.work = per, per + w.out, <Bytes> (per + n_per)
    p.uniform = lay(h, backward, padded, divisor, windows + p.width, per + w.out)
    p.uniform = lay(w, backward, padded, divisor != 0, windows, per) and p.uniform or p.maximum
    p.merged = p.merged and p.uniform
    for i in range(0 if p.narrow else n_windows):
        windows[i].first = windows[i].at
    for i in range(p.width - 1, -1, -1):
        windows[i].run = 1
        after = &windows[i + p.phases]
        if i + p.phases < p.width and windows[i].taps == after.taps and windows[i].first == after.first and (
                windows[i].at * p.C + p.step == after.at * p.C):
            windows[i].run += after.run
    if split:
        p.merged, p.step, p.row, p.col = p.uniform, 1, 2 * p.plane, p.plane
    p.blocks = (VECTOR_BYTES and backward and p.uniform and is_f32(x) and p.C >= 4 and p.phases == h.stride == 2
                and h.dilation == w.dilation == 1)
    p.units = parts(p.height, 1 + p.blocks)
    start(<Unit> pool_f32, <Unit> pool_f64, x, &s, x.shape[0] * p.units, threads)
    scratch_release(windows)
    return 0


def max_pool2d(x, y_out, cnp.ndarray place_out not None, kernel, stride, padding, dilation, n_threads):
    """y[oh, ow] = max over (i, j) of x[oh·sH − pH + i·dH, ow·sW − pW + j·dW]; place = i·kW + j of the winner.

    Without kernel y[o] = max x[⌊o·size/out⌋ : ⌈(o + 1)·size/out⌉] along H and W; place = h·W + w of the pixel."""
    run(x, y_out, place_out, (kernel, stride, padding, dilation), False, 0, False, n_threads)


def max_pool2d_backward(dy, cnp.ndarray place not None, dx_out, kernel, stride, padding, dilation, n_threads):
    """dx = Σ dy over the windows, of whatever kind without kernel, whose maximum was found here, as `place` tells."""
    run(dx_out, dy, place, (kernel, stride, padding, dilation), False, 0, True, n_threads)


def avg_pool2d(x, y_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    """y = Σ x over the window / `divisor`; if that is 0, / the window's size, with padding counted or not. Without
    kernel windows are those of max_pool2d: a 1×1 output is the global average."""
    run(x, y_out, None, (kernel, stride, padding, (1, 1)), count_include_pad, divisor, False, n_threads)


def avg_pool2d_backward(dy, dx_out, kernel, stride, padding, count_include_pad, divisor, n_threads):
    """dx = Σ over the windows that hold this element of dy / what the window was divided by."""
    run(dx_out, dy, None, (kernel, stride, padding, (1, 1)), count_include_pad, divisor, True, n_threads)
