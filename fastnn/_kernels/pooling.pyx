"""Pooling over the H and W of channels-last images.

A unit of work is one row of the output: of y forward, of dx backward. Inside, all C channels of a position are contiguous, and
the loops of pooling.h run along them, four taps of a window at a time, so that a 2×2 window takes one pass.

Max pooling records where in its window each maximum was found, in one byte if the window has at most 256 places; ties
go to the first place in row-major order and NaN wins, as in PyTorch. Every backward gathers: each element of dx is put
together from the windows that hold it, in a fixed order, so that no element needs zeros written beforehand, an atomic,
or a second thread. The windows of average pooling, of whatever kind, are ranges of an axis, kept in a table for each.

Bandwidth is the limit for 16 channels and more; below that, the instructions spent on each position.
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
    void pool_max_f32(float*, int32_t*, float**, const int32_t*, Py_ssize_t, bint)
    void pool_max_f64(double*, int32_t*, double**, const int32_t*, Py_ssize_t, bint)
    void pool_give_f32(float*, const float*, const int32_t*, int32_t, Py_ssize_t, bint)
    void pool_give_f64(double*, const double*, const int32_t*, int32_t, Py_ssize_t, bint)
    void pool_sum_f32(float*, float**, float, Py_ssize_t, bint)
    void pool_sum_f64(double*, double**, double, Py_ssize_t, bint)
    void pool_share_f32(float*, const float*, float, Py_ssize_t, bint)
    void pool_share_f64(double*, const double*, double, Py_ssize_t, bint)


cdef int check_pair(cnp.ndarray x, cnp.ndarray y) except -1:
    """x and y: channels-last images of one dtype that agree in N and C."""
    check_rows(x)
    check_rows(y)
    if (cnp.PyArray_NDIM(x) != 4 or cnp.PyArray_NDIM(y) != 4 or cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(y)
            or cnp.PyArray_DIM(x, 0) != cnp.PyArray_DIM(y, 0) or cnp.PyArray_DIM(x, 1) != cnp.PyArray_DIM(y, 1)):
        raise ValueError("kernel: pooling needs two 4-D arrays of one dtype with the same N and C")
    return 0


cdef struct Pair:
    Py_ssize_t h, w


cdef Pair _pair(value) except *:
    cdef Pair p
    p.h, p.w = value
    return p


# Max pooling ------------------------------------------------------------------------------------------------------

cdef struct Axis:
    Py_ssize_t size, out, kernel, stride, padding, dilation
    Py_ssize_t tap_step, out_step  # from a tap of an input position to the next one that an output uses, and back by how many


cdef Axis _axis(Py_ssize_t size, Py_ssize_t out, Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t padding,
                Py_ssize_t dilation) except *:
    cdef Axis a
    if kernel < 1 or stride < 1 or padding < 0 or dilation < 1:
        raise ValueError("kernel: kernel, stride and dilation must be positive, padding not negative")
    a.size, a.out, a.kernel, a.stride, a.padding, a.dilation = size, out, kernel, stride, padding, dilation
    a.tap_step = 1
    while a.tap_step * dilation % stride:
        a.tap_step += 1
    a.out_step = a.tap_step * dilation // stride
    return a


cdef struct Range:
    Py_ssize_t first, last  # [first, last)


cdef inline Range _taps(const Axis* a, Py_ssize_t o) noexcept nogil:
    """The taps of output o's window that lie inside the image."""
    cdef Range r
    cdef Py_ssize_t start = o * a.stride - a.padding
    r.first, r.last = 0, a.kernel
    if start < 0:
        r.first = (a.dilation - 1 - start) // a.dilation
    if start + (a.kernel - 1) * a.dilation >= a.size:
        r.last = (a.size - start + a.dilation - 1) // a.dilation if start < a.size else 0
    return r


cdef inline Py_ssize_t _first_tap(const Axis* a, Py_ssize_t position) noexcept nogil:
    """The first tap through which an output sees an input position; `kernel` if none does."""
    cdef Py_ssize_t tap, offset
    for tap in range(a.kernel):
        offset = position + a.padding - tap * a.dilation
        if offset < 0:
            break
        if offset % a.stride == 0 and offset // a.stride < a.out:
            return tap
    return a.kernel


cdef inline Py_ssize_t _output(const Axis* a, Py_ssize_t position, Py_ssize_t tap) noexcept nogil:
    return (position + a.padding - tap * a.dilation) // a.stride


cdef void _max_row(
    floating* x, floating* y, int32_t* place, const Axis* h, const Axis* w, Py_ssize_t C, Py_ssize_t oh
) noexcept nogil:
    """Row oh of one image's maxima and their places; x is the image, y and place the row."""
    cdef Py_ssize_t ow, t, n, i, j, u, c
    cdef Range rows = _taps(h, oh), cols
    cdef floating* taps[4]
    cdef int32_t places[4]
    for ow in range(w.out):
        cols = _taps(w, ow)
        i, j = rows.first, cols.first
        n = (rows.last - i) * (cols.last - j) if rows.last > i and cols.last > j else 0
        for t in range(0, n, 4):
            for u in range(4):  # four taps; the last one is repeated, which changes nothing
                taps[u] = x + ((oh * h.stride - h.padding + i * h.dilation) * w.size
                               + ow * w.stride - w.padding + j * w.dilation) * C
                places[u] = <int32_t> (i * w.kernel + j)
                if t + u + 1 < n:
                    j += 1
                    if j == cols.last:
                        i, j = i + 1, cols.first
            if floating is float:
                pool_max_f32(y, place, taps, places, C, t == 0)
            else:
                pool_max_f64(y, place, taps, places, C, t == 0)
        if n == 0:  # a window that misses the image
            for c in range(C):
                y[c], place[c] = <floating> -INFINITY, 0
        y += C
        place += C


cdef void _max_unit(
    floating* x, floating* y, void* place, int32_t* buffer, const Axis* h, const Axis* w, Py_ssize_t C, Py_ssize_t unit
) noexcept nogil:
    cdef Py_ssize_t c, length = w.out * C
    cdef int32_t* wide = <int32_t*> place + unit * length if buffer == NULL else buffer
    cdef uint8_t* narrow
    _max_row(x + unit // h.out * h.size * w.size * C, y + unit * length, wide, h, w, C, unit % h.out)
    if buffer != NULL:
        narrow = <uint8_t*> place + unit * length
        for c in range(length):
            narrow[c] = <uint8_t> wide[c]


cdef void _max(
    floating* x, floating* y, void* place, int32_t* buffer, Py_ssize_t N, Py_ssize_t C, Axis h, Axis w, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, length = w.out * C
    if n_threads == 1:
        for i in range(N * h.out):
            _max_unit(x, y, place, buffer, &h, &w, C, i)
    else:
        for i in prange(N * h.out, schedule="static", num_threads=n_threads):
            _max_unit(x, y, place, NULL if buffer == NULL else buffer + omp_get_thread_num() * length, &h, &w, C, i)


cdef int check_place(cnp.ndarray place, cnp.ndarray y, Py_ssize_t places) except -1:
    """`place` is like y, but uint8 if the window has at most 256 places, else int32."""
    cdef int axis
    cdef bint fits = (cnp.PyArray_TYPE(place) == (<int> cnp.NPY_UINT8 if places <= 256 else <int> cnp.NPY_INT32)
                      and cnp.PyArray_NDIM(place) == 4 and has_order(place, True))
    for axis in range(4 if fits else 0):
        fits = fits and cnp.PyArray_DIM(place, axis) == cnp.PyArray_DIM(y, axis)
    if not fits:
        raise ValueError("kernel: place must be a channels-last array of y's shape, uint8 for up to 256 places, else int32")
    return 0


def max_pool2d(
    cnp.ndarray x, cnp.ndarray y_out, cnp.ndarray place_out, kernel, stride, padding, dilation, int n_threads
):
    """y[oh, ow] = max over (i, j) of x[oh·sH − pH + i·dH, ow·sW − pW + j·dW], and place = i·kW + j of the winner."""
    check_pair(x, y_out)
    cdef Py_ssize_t N = cnp.PyArray_DIM(x, 0), C = cnp.PyArray_DIM(x, 1)
    cdef Pair k = _pair(kernel), s = _pair(stride), p = _pair(padding), d = _pair(dilation)
    cdef Axis h = _axis(cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(y_out, 2), k.h, s.h, p.h, d.h)
    cdef Axis w = _axis(cnp.PyArray_DIM(x, 3), cnp.PyArray_DIM(y_out, 3), k.w, s.w, p.w, d.w)
    check_place(place_out, y_out, k.h * k.w)
    cdef bint single = is_f32(x)
    cdef int t = threads_for(cnp.PyArray_SIZE(x) + cnp.PyArray_SIZE(y_out) * k.h * k.w, n_threads)
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* py = cnp.PyArray_DATA(y_out)
    cdef void* pp = cnp.PyArray_DATA(place_out)
    cdef bint narrow = cnp.PyArray_TYPE(place_out) == cnp.NPY_UINT8
    cdef void* block = scratch_acquire(t * w.out * C * sizeof(int32_t) if narrow else 0)
    cdef int32_t* buffer = <int32_t*> scratch_align(block) if narrow else NULL
    with nogil:
        if single:
            _max(<float*> px, <float*> py, pp, buffer, N, C, h, w, t)
        else:
            _max(<double*> px, <double*> py, pp, buffer, N, C, h, w, t)
    scratch_release(block)


cdef void _max_backward_unit(
    const floating* dy, const void* place, floating* dx, int32_t* buffer, const Py_ssize_t* first_taps, const Axis* h,
    const Axis* w, Py_ssize_t C, Py_ssize_t unit
) noexcept nogil:
    """One row of dx: tap (i, j) of it takes dy from output (oh, ow) if that window's winner sits at (i, j)."""
    cdef Py_ssize_t c, iw, j, oh, ow, row, length = w.out * C
    cdef Py_ssize_t i = _first_tap(h, unit % h.size)
    cdef const int32_t* wide
    cdef const uint8_t* narrow
    cdef floating* out
    cdef int32_t here
    cdef bint first, fresh = True  # nothing written to this position, to this row yet
    dx += unit * w.size * C
    oh = _output(h, unit % h.size, i)
    while i < h.kernel and oh >= 0:
        row = (unit // h.size * h.out + oh) * length
        if buffer == NULL:
            wide = <const int32_t*> place + row
        else:
            narrow = <const uint8_t*> place + row
            for c in range(length):
                buffer[c] = narrow[c]
            wide = buffer
        for iw in range(w.size):
            out = dx + iw * C
            j = first_taps[iw]
            ow = first_taps[w.size + iw]
            first = fresh
            while j < w.kernel and ow >= 0:
                here = <int32_t> (i * w.kernel + j)
                if floating is float:
                    pool_give_f32(out, dy + row + ow * C, wide + ow * C, here, C, first)
                else:
                    pool_give_f64(out, dy + row + ow * C, wide + ow * C, here, C, first)
                first = False
                j += w.tap_step
                ow -= w.out_step
            if first:  # between windows
                memset(out, 0, C * sizeof(floating))
        fresh = False
        i += h.tap_step
        oh -= h.out_step
    if fresh:
        memset(dx, 0, w.size * C * sizeof(floating))


cdef void _max_backward(
    const floating* dy, const void* place, floating* dx, int32_t* buffer, Py_ssize_t* first_taps, Py_ssize_t N,
    Py_ssize_t C, Axis h, Axis w, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, length = w.out * C
    for i in range(w.size):
        first_taps[i] = _first_tap(&w, i)
        first_taps[w.size + i] = _output(&w, i, first_taps[i])
    if n_threads == 1:
        for i in range(N * h.size):
            _max_backward_unit(dy, place, dx, buffer, first_taps, &h, &w, C, i)
    else:
        for i in prange(N * h.size, schedule="static", num_threads=n_threads):
            _max_backward_unit(dy, place, dx, NULL if buffer == NULL else buffer + omp_get_thread_num() * length, first_taps,
                               &h, &w, C, i)


def max_pool2d_backward(
    cnp.ndarray dy, cnp.ndarray place, cnp.ndarray dx_out, kernel, stride, padding, dilation, int n_threads
):
    """dx = the sum of dy over the windows whose maximum was found here, as `place` tells."""
    check_pair(dx_out, dy)
    cdef Py_ssize_t N = cnp.PyArray_DIM(dy, 0), C = cnp.PyArray_DIM(dy, 1)
    cdef Pair k = _pair(kernel), s = _pair(stride), p = _pair(padding), d = _pair(dilation)
    cdef Axis h = _axis(cnp.PyArray_DIM(dx_out, 2), cnp.PyArray_DIM(dy, 2), k.h, s.h, p.h, d.h)
    cdef Axis w = _axis(cnp.PyArray_DIM(dx_out, 3), cnp.PyArray_DIM(dy, 3), k.w, s.w, p.w, d.w)
    check_place(place, dy, k.h * k.w)
    cdef bint single = is_f32(dy)
    cdef int t = threads_for(cnp.PyArray_SIZE(dx_out) + cnp.PyArray_SIZE(dy) * k.h * k.w, n_threads)
    cdef const void* pdy = cnp.PyArray_DATA(dy)
    cdef const void* pp = cnp.PyArray_DATA(place)
    cdef void* pdx = cnp.PyArray_DATA(dx_out)
    cdef bint narrow = cnp.PyArray_TYPE(place) == cnp.NPY_UINT8
    cdef void* block = scratch_acquire(2 * w.size * sizeof(Py_ssize_t) + t * w.out * C * sizeof(int32_t))
    cdef Py_ssize_t* first_taps = <Py_ssize_t*> scratch_align(block)
    cdef int32_t* buffer = <int32_t*> (first_taps + 2 * w.size) if narrow else NULL
    with nogil:
        if single:
            _max_backward(<const float*> pdy, pp, <float*> pdx, buffer, first_taps, N, C, h, w, t)
        else:
            _max_backward(<const double*> pdy, pp, <double*> pdx, buffer, first_taps, N, C, h, w, t)
    scratch_release(block)


# Average pooling --------------------------------------------------------------------------------------------------

cdef struct Windows:
    # Along one axis, output o averages the inputs start[o] to stop[o] - 1, each with weight share[o]; input i belongs to
    # the outputs first[i] to last[i] - 1.
    Py_ssize_t size, out
    Py_ssize_t* start
    Py_ssize_t* stop
    Py_ssize_t* first
    Py_ssize_t* last
    double* share


cdef struct Plan:
    Py_ssize_t N, C
    Windows h, w
    void* zeros  # C of them, for the taps that a window lacks to a multiple of four


cdef Py_ssize_t* _place_tables(Windows* a, Py_ssize_t size, Py_ssize_t out, Py_ssize_t* memory) noexcept:
    a.size, a.out = size, out
    a.start, a.stop, a.share = memory, memory + out, <double*> (memory + 2 * out)
    a.first = memory + 3 * out
    a.last = a.first + size
    return a.last + size


cdef void* _plan(Plan* p, cnp.ndarray x, cnp.ndarray y) except NULL:
    """Sizes and room for the tables of a pooling of x to y. Returns the block of scratch memory that holds them."""
    check_pair(x, y)
    cdef Py_ssize_t H = cnp.PyArray_DIM(x, 2), W = cnp.PyArray_DIM(x, 3)
    cdef Py_ssize_t oH = cnp.PyArray_DIM(y, 2), oW = cnp.PyArray_DIM(y, 3)
    p.N, p.C = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1)
    cdef void* block = scratch_acquire(8 * (3 * (oH + oW) + 2 * (H + W) + p.C))
    p.zeros = _place_tables(&p.w, W, oW, _place_tables(&p.h, H, oH, <Py_ssize_t*> scratch_align(block)))
    memset(p.zeros, 0, 8 * p.C)
    return block


cdef void _average_windows(
    Windows* a, Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t padding, bint count_include_pad
) noexcept nogil:
    cdef Py_ssize_t o, stop
    for o in range(a.out):
        stop = min(o * stride - padding + kernel, a.size + padding)
        a.share[o] = stop - (o * stride - padding)
        a.start[o], a.stop[o] = max(<Py_ssize_t> 0, o * stride - padding), min(stop, a.size)
        if not count_include_pad:
            a.share[o] = a.stop[o] - a.start[o]


cdef void _adaptive_windows(Windows* a) noexcept nogil:
    cdef Py_ssize_t o
    for o in range(a.out):
        a.start[o], a.stop[o] = o * a.size // a.out, ((o + 1) * a.size + a.out - 1) // a.out
        a.share[o] = a.stop[o] - a.start[o]


cdef void _invert(Windows* a, double divisor) noexcept nogil:
    """From lengths to shares, and from the inputs of an output to the outputs of an input: both bounds grow with o."""
    cdef Py_ssize_t i, o
    for o in range(a.out):
        a.share[o] = 1 / (divisor if divisor != 0 else max(1., a.share[o]))
    for i in range(a.size):
        o = a.first[i - 1] if i > 0 else 0
        while o < a.out and a.stop[o] <= i:
            o += 1
        a.first[i] = o
        while o < a.out and a.start[o] <= i:
            o += 1
        a.last[i] = o


cdef void _average_row(floating* x, floating* y, const Plan* p, Py_ssize_t unit) noexcept nogil:
    """One row of y."""
    cdef Py_ssize_t oh = unit % p.h.out, ow, i, j, n, t, u
    cdef double scale
    cdef floating* taps[4]
    x += unit // p.h.out * p.h.size * p.w.size * p.C
    y += unit * p.w.out * p.C
    for ow in range(p.w.out):
        i, j = p.h.start[oh], p.w.start[ow]
        n = max(<Py_ssize_t> 0, p.h.stop[oh] - i) * max(<Py_ssize_t> 0, p.w.stop[ow] - j)
        for t in range(0, n if n > 0 else 1, 4):
            for u in range(4):
                taps[u] = x + (i * p.w.size + j) * p.C if t + u < n else <floating*> p.zeros
                j += 1
                if j == p.w.stop[ow]:
                    i, j = i + 1, p.w.start[ow]
            scale = p.h.share[oh] * p.w.share[ow] if t + 4 >= n else 1
            if floating is float:
                pool_sum_f32(y, taps, <float> scale, p.C, t == 0)
            else:
                pool_sum_f64(y, taps, scale, p.C, t == 0)
        y += p.C


cdef void _average_row_backward(floating* dx, const floating* dy, const Plan* p, Py_ssize_t unit) noexcept nogil:
    """One row of dx."""
    cdef Py_ssize_t ih = unit % p.h.size, iw, oh, ow
    cdef double scale
    cdef bint first
    dx += unit * p.w.size * p.C
    dy += unit // p.h.size * p.h.out * p.w.out * p.C
    for iw in range(p.w.size):
        first = True
        for oh in range(p.h.first[ih], p.h.last[ih]):
            for ow in range(p.w.first[iw], p.w.last[iw]):
                scale = p.h.share[oh] * p.w.share[ow]
                if floating is float:
                    pool_share_f32(dx, dy + (oh * p.w.out + ow) * p.C, <float> scale, p.C, first)
                else:
                    pool_share_f64(dx, dy + (oh * p.w.out + ow) * p.C, scale, p.C, first)
                first = False
        if first:  # between windows
            memset(dx, 0, p.C * sizeof(floating))
        dx += p.C


cdef void _average(floating* x, floating* y, const Plan* p, bint backward, int n_threads) noexcept nogil:
    cdef Py_ssize_t i, units = p.N * (p.h.size if backward else p.h.out)
    if n_threads == 1:
        for i in range(units):
            if backward:
                _average_row_backward(x, y, p, i)
            else:
                _average_row(x, y, p, i)
    else:
        for i in prange(units, schedule="static", num_threads=n_threads):
            if backward:
                _average_row_backward(x, y, p, i)
            else:
                _average_row(x, y, p, i)


cdef int _run(cnp.ndarray x, cnp.ndarray y, Plan* p, double divisor, bint backward, int n_threads) except -1:
    """From the windows' bounds in `p` to the averages, or from dy in `y` to dx in `x`."""
    cdef bint single = is_f32(x)
    cdef int t = threads_for(cnp.PyArray_SIZE(x) + cnp.PyArray_SIZE(y), n_threads)
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* py = cnp.PyArray_DATA(y)
    with nogil:
        _invert(&p.h, divisor)
        _invert(&p.w, 1 if divisor != 0 else 0)
        if single:
            _average(<float*> px, <float*> py, p, backward, t)
        else:
            _average(<double*> px, <double*> py, p, backward, t)
    return 0


def avg_pool2d(
    cnp.ndarray x, cnp.ndarray y_out, kernel, stride, padding, bint count_include_pad, Py_ssize_t divisor, int n_threads
):
    """y = Σ x over the window / `divisor`, or if that is 0 the window's size, which counts padding or not."""
    _run_average(x, y_out, _pair(kernel), _pair(stride), _pair(padding), count_include_pad, divisor, False, n_threads)


def avg_pool2d_backward(
    cnp.ndarray dy, cnp.ndarray dx_out, kernel, stride, padding, bint count_include_pad, Py_ssize_t divisor, int n_threads
):
    """dx = the sum over the windows that hold this element of dy / what the window was divided by."""
    _run_average(dx_out, dy, _pair(kernel), _pair(stride), _pair(padding), count_include_pad, divisor, True, n_threads)


cdef int _run_average(
    cnp.ndarray x, cnp.ndarray y, Pair kernel, Pair stride, Pair padding, bint count_include_pad, Py_ssize_t divisor,
    bint backward, int n_threads
) except -1:
    cdef Plan plan
    if min(kernel.h, kernel.w, stride.h, stride.w) < 1 or min(padding.h, padding.w) < 0:
        raise ValueError("kernel: kernel and stride must be positive, padding not negative")
    cdef void* block = _plan(&plan, x, y)
    _average_windows(&plan.h, kernel.h, stride.h, padding.h, count_include_pad)
    _average_windows(&plan.w, kernel.w, stride.w, padding.w, count_include_pad)
    _run(x, y, &plan, divisor, backward, n_threads)
    scratch_release(block)
    return 0


def adaptive_avg_pool2d(cnp.ndarray x, cnp.ndarray y_out, int n_threads):
    """y[o] = the mean of x[⌊o·size/out⌋ : ⌈(o + 1)·size/out⌉] along H and W; y_out's shape tells how many outputs."""
    _run_adaptive(x, y_out, False, n_threads)


def adaptive_avg_pool2d_backward(cnp.ndarray dy, cnp.ndarray dx_out, int n_threads):
    """dx = the sum over the windows that hold this element of dy / the window's size."""
    _run_adaptive(dx_out, dy, True, n_threads)


cdef int _run_adaptive(cnp.ndarray x, cnp.ndarray y, bint backward, int n_threads) except -1:
    cdef Plan plan
    cdef void* block = _plan(&plan, x, y)
    _adaptive_windows(&plan.h)
    _adaptive_windows(&plan.w)
    _run(x, y, &plan, 0, backward, n_threads)
    scratch_release(block)
    return 0
