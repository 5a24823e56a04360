"""Dropout, with a mask from a counter-based generator.

The random number of an element depends on the key and on the element's position in memory alone, so every thread starts
where it likes and all instruction sets draw the same mask (philox.h). Elements go in groups of 64, whose mask is one
64-bit word; the chunks of the threads are multiples of it. The generator's integer multiplications are what the forward
pass costs; the backward pass is bound by bandwidth, to which the mask adds 1/32.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastnn._kernels.kernel cimport CHUNK, check_dense, check_same, is_f32, threads_for

cnp.import_array()

cdef extern from "philox.h" nogil:
    void philox_64(uint64_t group, uint64_t key, uint32_t* words)
    uint64_t pack_64(const uint8_t* bytes)
    void unpack_64(uint64_t bits, uint8_t* bytes)

cdef enum:
    TILE = 1024  # elements whose random numbers are drawn before they are used


cdef void _forward_chunk(
    const floating* x, floating scale, uint32_t least, uint64_t key, uint64_t first, uint64_t* mask, floating* y,
    Py_ssize_t n
) noexcept nogil:
    """An element is kept if its random number is at least `least`; `first` is the number of the first group."""
    cdef uint32_t words[TILE]
    cdef uint8_t keep[TILE]
    cdef Py_ssize_t g, i, k, tile, start
    for tile in range((n + TILE - 1) // TILE):
        start = tile * TILE
        k = min(<Py_ssize_t> TILE, n - start)
        for g in range((k + 63) // 64):
            philox_64(first + start // 64 + g, key, words + 64 * g)
        for i in range(k):
            keep[i] = words[i] >= least
        for i in range(k, (k + 63) // 64 * 64):
            keep[i] = 0
        for g in range((k + 63) // 64):
            mask[start // 64 + g] = pack_64(keep + 64 * g)
        for i in range(k):
            y[start + i] = x[start + i] * (scale if words[i] >= least else <floating> 0)


cdef void _backward_chunk(
    const floating* dy, const uint64_t* mask, floating scale, floating* dx, Py_ssize_t n
) noexcept nogil:
    cdef uint8_t keep[TILE]
    cdef Py_ssize_t g, i, k, tile, start
    for tile in range((n + TILE - 1) // TILE):
        start = tile * TILE
        k = min(<Py_ssize_t> TILE, n - start)
        for g in range((k + 63) // 64):
            unpack_64(mask[start // 64 + g], keep + 64 * g)
        for i in range(k):
            dx[start + i] = dy[start + i] * (scale if keep[i] != 0 else <floating> 0)


cdef void _forward(
    const floating* x, floating scale, uint32_t least, uint64_t key, uint64_t* mask, floating* y, Py_ssize_t n,
    int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, units = (n + CHUNK - 1) // CHUNK
    if n_threads == 1:
        _forward_chunk(x, scale, least, key, 0, mask, y, n)
        return
    for i in prange(units, schedule="static", num_threads=n_threads):
        _forward_chunk(
            x + i * CHUNK, scale, least, key, i * (CHUNK // 64), mask + i * (CHUNK // 64), y + i * CHUNK,
            min(<Py_ssize_t> CHUNK, n - i * CHUNK)
        )


cdef void _backward(
    const floating* dy, const uint64_t* mask, floating scale, floating* dx, Py_ssize_t n, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, units = (n + CHUNK - 1) // CHUNK
    if n_threads == 1:
        _backward_chunk(dy, mask, scale, dx, n)
        return
    for i in prange(units, schedule="static", num_threads=n_threads):
        _backward_chunk(
            dy + i * CHUNK, mask + i * (CHUNK // 64), scale, dx + i * CHUNK, min(<Py_ssize_t> CHUNK, n - i * CHUNK)
        )


cdef int check_mask(cnp.ndarray mask, Py_ssize_t n, double p) except -1:
    if (cnp.PyArray_TYPE(mask) != cnp.NPY_UINT64 or cnp.PyArray_NDIM(mask) != 1 or not cnp.PyArray_ISBEHAVED_RO(mask)
            or not cnp.PyArray_IS_C_CONTIGUOUS(mask) or cnp.PyArray_DIM(mask, 0) != (n + 63) // 64):
        raise ValueError(f"kernel: the mask of {n} elements must be a C-contiguous uint64 vector, a bit an element")
    if not 0 <= p <= 1:
        raise ValueError(f"kernel: p must be from 0 to 1, but {p} came")
    return 0


def dropout(cnp.ndarray x, double p, uint64_t seed, cnp.ndarray mask_out, cnp.ndarray y_out, int n_threads):
    """y = x / (1 − p) where the mask's bit is 1, else 0·x; a bit is 0 with probability p. All of y is 0·x if p = 1.

    Bit i of the mask belongs to element i in memory order: it is 1 where word (i // 16) % 4 of the Philox-4x32-10 block
    16·(i // 64) + i % 16, under the key `seed`, is at least min(⌊2³²·p⌋, 2³² − 1). Bits beyond the last element are 0.
    """
    check_dense(x)
    check_same(x, y_out)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    check_mask(mask_out, n, p)
    cdef uint32_t least = <uint32_t> min(p * 4294967296.0, 4294967295.0)
    cdef double scale = 1 / (1 - p) if p < 1 else 0
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* pmask = cnp.PyArray_DATA(mask_out)
    cdef void* py = cnp.PyArray_DATA(y_out)
    cdef bint single = is_f32(x)
    cdef int t = threads_for(8 * n, n_threads)
    with nogil:
        if single:
            _forward(<const float*> px, <float> scale, least, seed, <uint64_t*> pmask, <float*> py, n, t)
        else:
            _forward(<const double*> px, scale, least, seed, <uint64_t*> pmask, <double*> py, n, t)


def dropout_backward(cnp.ndarray dy, cnp.ndarray mask, double p, cnp.ndarray dx_out, int n_threads):
    """dx = dy / (1 − p) where the mask's bit is 1, else 0·dy."""
    check_dense(dy)
    check_same(dy, dx_out)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(dy)
    check_mask(mask, n, p)
    cdef double scale = 1 / (1 - p) if p < 1 else 0
    cdef void* pdy = cnp.PyArray_DATA(dy)
    cdef void* pmask = cnp.PyArray_DATA(mask)
    cdef void* pdx = cnp.PyArray_DATA(dx_out)
    cdef bint single = is_f32(dy)
    cdef int t = threads_for(2 * n, n_threads)
    with nogil:
        if single:
            _backward(<const float*> pdy, <const uint64_t*> pmask, <float> scale, <float*> pdx, n, t)
        else:
            _backward(<const double*> pdy, <const uint64_t*> pmask, scale, <double*> pdx, n, t)
