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
    TILE = 1024  # elements whose mask is held unpacked


cdef void _chunk(
    const floating* x, bint draw, uint64_t key, double p, uint64_t group, uint64_t* mask, floating* y, Py_ssize_t n
) noexcept nogil:
    """y of n elements, the first of which belongs to `group`; the mask is drawn or read."""
    cdef uint32_t words[64]
    cdef uint8_t keep[TILE]
    cdef uint32_t least = <uint32_t> min(p * 4294967296.0, 4294967295.0)
    cdef floating scale = 1 / (1 - p) if p < 1 else 0
    cdef Py_ssize_t tile, g, i, k
    for tile in range((n + TILE - 1) // TILE):
        k = min(<Py_ssize_t> TILE, n - tile * TILE)
        for g in range((k + 63) // 64):
            if draw:
                philox_64(group + g, key, words)
                for i in range(64):
                    keep[64 * g + i] = words[i] >= least
                for i in range(k - 64 * g, 64):
                    keep[64 * g + i] = 0
                mask[g] = pack_64(keep + 64 * g)
            else:
                unpack_64(mask[g], keep + 64 * g)
        for i in range(k):
            y[i] = x[i] * (scale if keep[i] != 0 else <floating> 0)
        x += TILE
        y += TILE
        mask += TILE // 64
        group += TILE // 64


cdef void _all(
    floating _, cnp.ndarray x, bint draw, uint64_t key, double p, cnp.ndarray mask, cnp.ndarray y, int n_threads
) noexcept nogil:
    cdef const floating* px = <const floating*> cnp.PyArray_DATA(x)
    cdef floating* py = <floating*> cnp.PyArray_DATA(y)
    cdef uint64_t* bits = <uint64_t*> cnp.PyArray_DATA(mask)
    cdef Py_ssize_t i, group, n = cnp.PyArray_SIZE(x), units = (n + CHUNK - 1) // CHUNK
    if n_threads == 1:
        _chunk(px, draw, key, p, 0, bits, py, n)
        return
    for i in prange(units, schedule="static", num_threads=n_threads):
        group = i * (CHUNK // 64)
        _chunk(
            px + i * CHUNK, draw, key, p, group, bits + group, py + i * CHUNK, min(<Py_ssize_t> CHUNK, n - i * CHUNK)
        )


cdef int _run(
    cnp.ndarray x, bint draw, uint64_t key, double p, cnp.ndarray mask, cnp.ndarray y, int n_threads
) except -1:
    check_dense(x)
    check_same(x, y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    if (cnp.PyArray_TYPE(mask) != cnp.NPY_UINT64 or cnp.PyArray_NDIM(mask) != 1 or not cnp.PyArray_ISBEHAVED_RO(mask)
            or not cnp.PyArray_IS_C_CONTIGUOUS(mask) or cnp.PyArray_DIM(mask, 0) != (n + 63) // 64):
        raise ValueError(f"kernel: the mask of {n} elements must be a C-contiguous uint64 vector, a bit an element")
    if not 0 <= p <= 1:
        raise ValueError(f"kernel: p must be from 0 to 1, but {p} came")
    cdef int t = threads_for((8 if draw else 2) * n, n_threads)
    cdef bint single = is_f32(x)
    with nogil:
        if single:
            _all(<float> 0, x, draw, key, p, mask, y, t)
        else:
            _all(<double> 0, x, draw, key, p, mask, y, t)
    return 0


def dropout(cnp.ndarray x, double p, uint64_t seed, cnp.ndarray mask_out, cnp.ndarray y_out, int n_threads):
    """y = x / (1 − p) where the mask's bit is 1, else 0·x; a bit is 0 with probability p. All of y is 0·x if p = 1.

    Bit i of the mask belongs to element i in memory order: it is 1 where word (i // 16) % 4 of the Philox-4x32-10 block
    16·(i // 64) + i % 16, under the key `seed`, is at least min(⌊2³²·p⌋, 2³² − 1). Bits beyond the last element are 0.
    """
    _run(x, True, seed, p, mask_out, y_out, n_threads)


def dropout_backward(cnp.ndarray dy, cnp.ndarray mask, double p, cnp.ndarray dx_out, int n_threads):
    """dx = dy / (1 − p) where the mask's bit is 1, else 0·dy."""
    _run(dy, False, 0, p, mask, dx_out, n_threads)
