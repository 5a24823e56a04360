"""Pooling over the H and W of channels-last images.

All are one walk over windows: for each output, where its window begins and which of its taps (pooling.h's part) lie
inside the image. A unit of work is one row of y forward. Backward adds into dx window by window: a unit is an image, or
a block of its channels, so that no two units write to one place; where windows tile the image, it writes instead.

A maximum records in which tap it was found, in one byte if the window has at most 256 places; ties go to the first
place in row-major order and NaN wins, as in PyTorch. Its gradient goes to that place alone. Bandwidth is the limit for
16 channels and more; below that, the instructions spent on each window."""
cimport numpy as cnp
from cython cimport floating
from libc.stdint cimport int32_t
from libc.string cimport memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "pooling.h" nogil:
    ctypedef struct Taps:
        Py_ssize_t rows, cols, row, col
        int32_t number, width
        int maximum, narrow, backward, fresh
        double scale
        const char* end

    void pool(const Taps* t, void* x, void* y, char* place, Py_ssize_t n)  # a macro, which chooses by the type of x

cdef enum:
    BLOCK = 64  # channels of a unit of backward work
    MANY = 16  # images that need no such units to keep threads busy
    LARGEST = 2147483647  # size of a window or a step

ctypedef struct Axis:
    Py_ssize_t size, out, kernel, stride, padding, dilation  # kernel 0: windows cover the axis evenly
    bint padded  # padding counts in averages

ctypedef struct Window:  # along one axis
    Py_ssize_t at, first, taps  # where its first tap inside the image lies, which one that is, and how many are there
    Py_ssize_t length  # that an average counts

ctypedef struct Pool:
    Py_ssize_t C, bands, blocks, divisor
    Axis h, w
    Bytes x, y, place
    Taps taps  # what all windows have in common


cdef inline Window window(const Axis* a, Py_ssize_t o) noexcept nogil:
    """The window of output o."""
    cdef Window w
    cdef Py_ssize_t begin = o * a.stride - a.padding, last = a.kernel
    if a.kernel == 0:
        w.at, w.first = o * a.size // a.out, 0
        w.taps = w.length = parts((o + 1) * a.size, a.out) - w.at
        return w
    w.first = parts(-begin, a.dilation) if begin < 0 else 0
    if begin + (a.kernel - 1) * a.dilation >= a.size:
        last = parts(a.size - begin, a.dilation)
    w.at, w.taps = begin + w.first * a.dilation, last - w.first
    w.length = min(a.kernel, a.size + a.padding - begin) if a.padded else w.taps
    return w


cdef void pool_unit(const Pool* p, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One band of rows of y and one block of channels of one image."""
    cdef Py_ssize_t image = unit // (p.bands * p.blocks), band = unit // p.blocks % p.bands, block = unit % p.blocks
    cdef Py_ssize_t C = p.C, c = cut(C, p.blocks, block), n = cut(C, p.blocks, block + 1) - c, oh, ow, o, at
    cdef floating* x = <floating*> p.x + image * p.h.size * p.w.size * C + c
    cdef floating* y = <floating*> p.y
    cdef Window h, w
    cdef Taps t = p.taps
    if t.backward and not t.fresh and n == C:
        memset(x, 0, p.h.size * p.w.size * C * sizeof(floating))
    elif t.backward and not t.fresh:
        for at in range(p.h.size * p.w.size):
            memset(x + at * C, 0, n * sizeof(floating))
    for oh in range(cut(p.h.out, p.bands, band), cut(p.h.out, p.bands, band + 1)):
        h = window(&p.h, oh)
        for ow in range(p.w.out):
            w = window(&p.w, ow)
            t.rows, t.cols = h.taps, w.taps
            t.number = <int32_t> (h.first * t.width + w.first) if h.taps > 0 and w.taps > 0 else 0
            if not t.maximum:
                t.scale = 1. / (p.divisor if p.divisor != 0 else max(<Py_ssize_t> 1, h.length * w.length))
            at, o = (h.at * p.w.size + w.at) * C, ((image * p.h.out + oh) * p.w.out + ow) * C + c
            pool(&t, x + at, y + o, p.place + (o if t.narrow else 4 * o), n)


cdef bint fits(const Axis* a) noexcept:
    return min(a.kernel, a.stride, a.dilation, a.padding + 1) >= 1 and (
        max(a.kernel, a.stride, a.dilation, a.padding) < LARGEST)


cdef bint tiles(const Axis* a) noexcept:
    """Whether each input belongs to exactly one window."""
    if a.kernel == 0:
        return a.out > 0 and a.size % a.out == 0
    return a.kernel == a.stride and a.dilation == 1 and a.padding == 0 and a.out * a.stride >= a.size


cdef int run(cnp.ndarray x, cnp.ndarray y, cnp.ndarray place, tuple geometry, bint padded, Py_ssize_t divisor,
             bint backward, int n_threads) except -1:
    """x to y, or dy in `y` to dx in `x`. geometry: kernel, stride, padding, dilation; None: y's shape decides."""
    cdef Pool p
    cdef int axis, threads
    cdef Py_ssize_t places
    (p.h.kernel, p.w.kernel), (p.h.stride, p.w.stride), (p.h.padding, p.w.padding), (p.h.dilation, p.w.dilation) = (
        geometry or ((1, 1), (1, 1), (0, 0), (1, 1)))
    if x is None or y is None:
        raise ValueError("kernel: a pooling needs its arrays")
    check_rows(x)
    check_rows(y)
    cdef bint good = fits(&p.h) and fits(&p.w) and x.ndim == 4 and y.ndim == 4 and is_f32(x) == is_f32(y)
    good = good and x.shape[0] == y.shape[0] and x.shape[1] == y.shape[1]
    places, p.taps.scale = p.h.kernel * p.w.kernel, 1
    p.taps.maximum, p.taps.narrow, p.taps.backward = place is not None, places <= 256, backward
    p.place = y.data if place is None else place.data
    if place is not None:
        good = good and place.ndim == 4 and has_order(place, True) and places < LARGEST
        good = good and cnp.PyArray_TYPE(place) == (<int> cnp.NPY_UINT8 if p.taps.narrow else <int> cnp.NPY_INT32)
        for axis in range(4 if good else 0):
            good = good and place.shape[axis] == y.shape[axis]
    if not good:
        raise ValueError("kernel: the arrays and sizes of a pooling do not fit together")
    p.C, p.x, p.y = x.shape[1], x.data, y.data
    p.h.size, p.w.size, p.h.out, p.w.out = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    p.h.padded, p.w.padded, p.divisor, p.taps.end = padded, padded, divisor, p.x + cnp.PyArray_NBYTES(x)
    p.bands = 1 if backward else p.h.out
    p.blocks = parts(p.C, BLOCK) if backward and x.shape[0] < MANY else 1
    p.taps.row, p.taps.col, p.taps.width = p.h.dilation * p.w.size * p.C, p.w.dilation * p.C, <int32_t> p.w.kernel
    if geometry is None:
        p.h.kernel = p.w.kernel = 0
    p.taps.fresh = tiles(&p.h) and tiles(&p.w)
    threads = threads_for(x.size + y.size * min(places, <Py_ssize_t> 64), n_threads)
    return start(<Unit> pool_unit[float], <Unit> pool_unit[double], x, &p, x.shape[0] * p.bands * p.blocks, threads)


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
