"""Pooling over the H and W of channels-last images.

Every pooling is one walk over windows: a table for each axis says where the window of each output begins, which of its
taps lie inside the image, and which outputs an input may belong to. A unit of work is one row of what is written: of y
forward, of dx backward. All C channels of a position are contiguous, and the loops of pooling.h run along them, four
taps of a window at a time, so that a 2×2 window takes one pass.

Max pooling records where in its window each maximum was found, in one byte if the window has at most 256 places; ties
go to the first place in row-major order and NaN wins, as in PyTorch. The backward pass gathers: each element of dx is
put together from the windows that hold it, in a fixed order, so that it needs no zeros beforehand, no atomic, no
second thread. Bandwidth is the limit for 16 channels and more; below that, the instructions spent on each position.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memset
from fastnn._kernels.kernel cimport (
    check_rows, has_order, is_f32, omp_get_thread_num, scratch_acquire, scratch_align, scratch_release, threads_for,
)

cnp.import_array()

cdef extern from "pooling.h" nogil:
    void pool_f32(float*, int32_t*, Py_ssize_t, float**, const int32_t*, float, Py_ssize_t, bint)
    void pool_f64(double*, int32_t*, Py_ssize_t, double**, const int32_t*, double, Py_ssize_t, bint)
    void pool_backward_f32(float*, const float*, const int32_t*, Py_ssize_t, int32_t, float, Py_ssize_t, bint)
    void pool_backward_f64(double*, const double*, const int32_t*, Py_ssize_t, int32_t, double, Py_ssize_t, bint)


cdef struct Window:
    Py_ssize_t at, end  # where tap 0 lies, and one past the last; tap k lies at `at + k * dilation`
    Py_ssize_t lo, hi   # taps lo to hi - 1 lie inside the image
    double share        # weight in an average


cdef struct Axis:
    Py_ssize_t size, out, kernel, dilation
    Window* window      # of each output
    Py_ssize_t* first   # input i lies between the first and last taps of outputs first[i] to last[i] - 1 only
    Py_ssize_t* last


cdef struct Plan:
    Py_ssize_t N, C
    Axis h, w
    void* filler     # C numbers that change no result, for taps that a window lacks to a multiple of four
    void* place      # NULL: average
    bint narrow      # places are stored in bytes, and buffer is a row of int32 for each thread
    int32_t* buffer
    bint backward


# Windows ----------------------------------------------------------------------------------------------------------

cdef void* _room(Axis* a, cnp.ndarray x, cnp.ndarray y, int axis, void* memory) noexcept:
    """Lay the tables of an axis into `memory`; returns where they end."""
    a.size, a.out = cnp.PyArray_DIM(x, axis), cnp.PyArray_DIM(y, axis)
    a.window = <Window*> memory
    a.first = <Py_ssize_t*> (a.window + a.out)
    a.last = a.first + a.size
    return a.last + a.size


cdef int _slide(Axis* a, Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t padding, Py_ssize_t dilation,
                bint count_include_pad) except -1:
    """Windows of one kernel size, a stride apart."""
    cdef Py_ssize_t o
    cdef Window* w
    if kernel < 1 or stride < 1 or padding < 0 or dilation < 1:
        raise ValueError("kernel: kernel, stride and dilation must be positive, padding not negative")
    a.kernel, a.dilation = kernel, dilation
    for o in range(a.out):
        w = a.window + o
        w.at = o * stride - padding
        w.end = w.at + (kernel - 1) * dilation + 1
        w.lo = max(<Py_ssize_t> 0, dilation - 1 - w.at) // dilation
        w.hi = max(w.lo, min(kernel, max(<Py_ssize_t> 0, a.size - w.at + dilation - 1) // dilation))
        w.share = min(kernel, a.size + padding - w.at) if count_include_pad else w.hi - w.lo
    return 0


cdef void _divide(Axis* a) noexcept:
    """Windows that cover the axis evenly."""
    cdef Py_ssize_t o
    cdef Window* w
    a.kernel = a.dilation = 1
    for o in range(a.out):
        w = a.window + o
        w.at, w.end = o * a.size // a.out, ((o + 1) * a.size + a.out - 1) // a.out
        w.lo, w.hi = 0, w.end - w.at
        w.share = w.hi


cdef void _finish(Axis* a, double divisor) noexcept:
    """From lengths to shares, 1/divisor unless it is 0; from the bounds of each window to the windows of each input."""
    cdef Py_ssize_t i, first = 0, last = 0
    for i in range(a.out):
        a.window[i].share = 1 / (divisor if divisor != 0 else max(1., a.window[i].share))
    for i in range(a.size):
        while first < a.out and a.window[first].end <= i:
            first += 1
        while last < a.out and a.window[last].at <= i:
            last += 1
        a.first[i], a.last[i] = first, last


# Rows -------------------------------------------------------------------------------------------------------------

cdef void _row(floating* x, floating* y, const Plan* p, Py_ssize_t unit, int32_t* buffer) noexcept nogil:
    """One row of y, and of place if it is a maximum."""
    cdef Py_ssize_t oh = unit % p.h.out, ow, i, j, n, t, u, C = p.C, row = unit * p.w.out * C
    cdef int32_t* place = buffer if p.narrow or p.place == NULL else <int32_t*> p.place + row
    cdef uint8_t* narrow = <uint8_t*> p.place + row
    cdef floating* taps[4]
    cdef int32_t numbers[4]
    cdef floating scale = 1
    cdef Window h = p.h.window[oh], w
    x += unit // p.h.out * p.h.size * p.w.size * C
    for ow in range(p.w.out):
        w = p.w.window[ow]
        i, j = h.lo, w.lo
        n = (h.hi - i) * (w.hi - j)
        for t in range(0, max(<Py_ssize_t> 1, n), 4):
            for u in range(4):
                taps[u], numbers[u] = <floating*> p.filler, 0
                if t + u < n:
                    taps[u] = x + ((h.at + i * p.h.dilation) * p.w.size + w.at + j * p.w.dilation) * C
                    numbers[u] = <int32_t> (i * p.w.kernel + j)
                    j += 1
                    if j == w.hi:
                        i, j = i + 1, w.lo
            if p.place == NULL:
                scale = <floating> (h.share * w.share if t + 4 >= n else 1)
            if floating is float:
                pool_f32(y + row + ow * C, place, ow * C, taps, numbers, scale, C, t == 0)
            else:
                pool_f64(y + row + ow * C, place, ow * C, taps, numbers, scale, C, t == 0)
    if p.narrow:
        for i in range(p.w.out * C):
            narrow[i] = <uint8_t> place[i]


cdef void _row_backward(
    floating* dx, const floating* dy, const Plan* p, Py_ssize_t unit, int32_t* buffer
) noexcept nogil:
    """One row of dx."""
    cdef Py_ssize_t ih = unit % p.h.size, iw, oh, ow, i, j, row, C = p.C
    cdef int32_t* place = buffer
    cdef bint first, fresh = True  # nothing is written to this position yet, to this row
    cdef floating scale = 1
    dx += unit * p.w.size * C
    for oh in range(p.h.first[ih], p.h.last[ih]):
        i = (ih - p.h.window[oh].at) // p.h.dilation
        if p.h.window[oh].at + i * p.h.dilation != ih:
            continue
        row = (unit // p.h.size * p.h.out + oh) * p.w.out * C
        if p.narrow:
            for j in range(p.w.out * C):
                place[j] = (<uint8_t*> p.place)[row + j]
        elif p.place != NULL:
            place = <int32_t*> p.place + row
        for iw in range(p.w.size):
            first = fresh
            for ow in range(p.w.first[iw], p.w.last[iw]):
                j = iw - p.w.window[ow].at
                if p.w.dilation > 1:
                    if j % p.w.dilation != 0:
                        continue
                    j //= p.w.dilation
                j += i * p.w.kernel  # the number of the tap
                if p.place == NULL:
                    scale = <floating> (p.h.window[oh].share * p.w.window[ow].share)
                if floating is float:
                    pool_backward_f32(dx + iw * C, dy + row + ow * C, place, ow * C, <int32_t> j, scale, C, first)
                else:
                    pool_backward_f64(dx + iw * C, dy + row + ow * C, place, ow * C, <int32_t> j, scale, C, first)
                first = False
            if first:  # between windows
                memset(dx + iw * C, 0, C * sizeof(floating))
        fresh = False
    if fresh:
        memset(dx, 0, p.w.size * C * sizeof(floating))


cdef void _unit(floating* x, floating* y, const Plan* p, Py_ssize_t unit, int thread) noexcept nogil:
    cdef int32_t* buffer = p.buffer + thread * p.w.out * p.C if p.narrow else NULL
    if p.backward:
        _row_backward(x, y, p, unit, buffer)
    else:
        _row(x, y, p, unit, buffer)


cdef void _rows(floating* x, floating* y, const Plan* p, int n_threads) noexcept nogil:
    cdef Py_ssize_t c, i, units = p.N * (p.h.size if p.backward else p.h.out)
    for c in range(p.C):
        (<floating*> p.filler)[c] = <floating> (0 if p.place == NULL else -INFINITY)
    if n_threads == 1:
        for i in range(units):
            _unit(x, y, p, i, 0)
    else:
        for i in prange(units, schedule="static", num_threads=n_threads):
            _unit(x, y, p, i, omp_get_thread_num())


# Kernels ----------------------------------------------------------------------------------------------------------

cdef int _check(cnp.ndarray x, cnp.ndarray y, cnp.ndarray place, Py_ssize_t places) except -1:
    """x and y agree in dtype, N and C; place is like y, uint8 if the window has at most 256 places, else int32."""
    cdef int axis
    cdef bint good
    check_rows(x)
    check_rows(y)
    good = cnp.PyArray_NDIM(x) == 4 and cnp.PyArray_NDIM(y) == 4 and cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(y)
    good = good and cnp.PyArray_DIM(x, 0) == cnp.PyArray_DIM(y, 0) and cnp.PyArray_DIM(x, 1) == cnp.PyArray_DIM(y, 1)
    if place is not None:
        good = good and cnp.PyArray_NDIM(place) == 4 and has_order(place, True)
        good = good and cnp.PyArray_TYPE(place) == (<int> cnp.NPY_UINT8 if places <= 256 else <int> cnp.NPY_INT32)
        for axis in range(4 if good else 0):
            good = good and cnp.PyArray_DIM(place, axis) == cnp.PyArray_DIM(y, axis)
    if not good:
        raise ValueError("kernel: the arrays of a pooling do not fit together in dtype, shape or memory order")
    return 0


cdef int _pool(
    cnp.ndarray x, cnp.ndarray y, cnp.ndarray place, tuple geometry, bint count_include_pad, Py_ssize_t divisor,
    bint backward, int n_threads
) except -1:
    """x to y, or dy in `y` to dx in `x`. geometry: kernel, stride, padding, dilation; None: y's shape decides."""
    cdef Plan p
    cdef bint single
    cdef Py_ssize_t kH, kW, sH, sW, pH, pW, dH, dW
    (kH, kW), (sH, sW), (pH, pW), (dH, dW) = geometry or ((1, 1),) * 4
    _check(x, y, place, kH * kW)
    single = is_f32(x)
    cdef int t = threads_for(cnp.PyArray_SIZE(x) + cnp.PyArray_SIZE(y) * min(kH * kW, <Py_ssize_t> 64), n_threads)
    p.N, p.C = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1)
    cdef Py_ssize_t length = p.C * sizeof(double) + (
        (cnp.PyArray_DIM(y, 2) + cnp.PyArray_DIM(y, 3)) * sizeof(Window)
        + (cnp.PyArray_DIM(x, 2) + cnp.PyArray_DIM(x, 3)) * 2 * sizeof(Py_ssize_t))
    cdef void* block = scratch_acquire(length + t * cnp.PyArray_DIM(y, 3) * p.C * sizeof(int32_t))
    try:
        p.buffer = <int32_t*> (<char*> scratch_align(block) + length)
        p.filler = _room(&p.w, x, y, 3, _room(&p.h, x, y, 2, scratch_align(block)))
        p.place = NULL if place is None else cnp.PyArray_DATA(place)
        p.narrow, p.backward = place is not None and kH * kW <= 256, backward
        if geometry is None:
            _divide(&p.h)
            _divide(&p.w)
        else:
            _slide(&p.h, kH, sH, pH, dH, count_include_pad)
            _slide(&p.w, kW, sW, pW, dW, count_include_pad)
        _finish(&p.h, divisor)
        _finish(&p.w, divisor != 0)
        with nogil:
            if single:
                _rows(<float*> cnp.PyArray_DATA(x), <float*> cnp.PyArray_DATA(y), &p, t)
            else:
                _rows(<double*> cnp.PyArray_DATA(x), <double*> cnp.PyArray_DATA(y), &p, t)
    finally:
        scratch_release(block)
    return 0


def max_pool2d(
    cnp.ndarray x, cnp.ndarray y_out, cnp.ndarray place_out not None, kernel, stride, padding, dilation, int n_threads
):
    """y[oh, ow] = max over (i, j) of x[oh·sH − pH + i·dH, ow·sW − pW + j·dW]; place = i·kW + j of the winner."""
    _pool(x, y_out, place_out, (kernel, stride, padding, dilation), False, 0, False, n_threads)


def max_pool2d_backward(
    cnp.ndarray dy, cnp.ndarray place not None, cnp.ndarray dx_out, kernel, stride, padding, dilation, int n_threads
):
    """dx = Σ dy over the windows whose maximum was found here, as `place` tells."""
    _pool(dx_out, dy, place, (kernel, stride, padding, dilation), False, 0, True, n_threads)


def avg_pool2d(
    cnp.ndarray x, cnp.ndarray y_out, kernel, stride, padding, bint count_include_pad, Py_ssize_t divisor, int n_threads
):
    """y = Σ x over the window / `divisor`; if that is 0, / the window's size, with padding counted or not."""
    _pool(x, y_out, None, (kernel, stride, padding, (1, 1)), count_include_pad, divisor, False, n_threads)


def avg_pool2d_backward(
    cnp.ndarray dy, cnp.ndarray dx_out, kernel, stride, padding, bint count_include_pad, Py_ssize_t divisor,
    int n_threads
):
    """dx = Σ over the windows that hold this element of dy / what the window was divided by."""
    _pool(dx_out, dy, None, (kernel, stride, padding, (1, 1)), count_include_pad, divisor, True, n_threads)


def adaptive_avg_pool2d(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y[o] = the mean of x[⌊o·size/out⌋ : ⌈(o + 1)·size/out⌉] along H and W; a 1×1 output is the global average."""
    _pool(x, y_out, None, None, False, 0, False, n_threads)


def adaptive_avg_pool2d_backward(cnp.ndarray dy, cnp.ndarray dx_out, int n_threads):
    """dx = Σ over the windows that hold this element of dy / the window's size."""
    _pool(dx_out, dy, None, None, False, 0, True, n_threads)
