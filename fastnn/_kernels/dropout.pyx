"""Dropout, with a mask from a counter-based generator.

The random number of an element depends on the key and on the element's position in memory alone, so every thread starts
where it likes and all instruction sets draw the same mask (philox.h). Elements go in groups of 64, whose mask is two
32-bit halves of a word. A unit of work is short, so that drawing the mask of one overlaps with scaling in another. The
generator's multiplications bound the forward pass, bandwidth, to which the mask adds 1/32, the backward pass."""
cimport numpy as cnp
from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "philox.h" nogil:
    const uint32_t* philox_bit
    void philox_mask(uint64_t group, uint64_t key, uint32_t least, uint32_t* mask)

cdef enum:
    UNIT = 1024  # elements; a multiple of 64

cdef struct Job:
    bint draws  # the mask; else reads it
    uint64_t key
    double p
    uint32_t* mask
    Bytes x, y
    Py_ssize_t size


cdef inline void scale_32(const floating* x, uint32_t mask, floating scale, floating* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = x[i] * (scale if mask & philox_bit[i] else <floating> 0)


cdef void draw(const Job* job, Py_ssize_t begin, Py_ssize_t n) noexcept nogil:
    """The mask of n elements from `begin` on; bits beyond the last are 0."""
    cdef uint32_t least = <uint32_t> min(job.p * 4294967296.0, 4294967295.0)
    cdef uint32_t* mask = job.mask + begin // 32
    cdef Py_ssize_t i
    for i in range((n + 63) // 64):
        philox_mask(begin // 64 + i, job.key, least, mask + 2 * i)
    if n % 64:
        mask[n // 32] &= philox_bit[n % 32] - 1
    if 0 < n % 64 < 32:
        mask[n // 32 + 1] = 0


cdef void drop(const Job* job, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t begin = unit * UNIT, n = min(<Py_ssize_t> UNIT, job.size - begin), i
    cdef floating scale = 1 / (1 - job.p) if job.p < 1 else 0
    cdef const floating* x = <floating*> job.x + begin
    cdef const uint32_t* mask = job.mask + begin // 32
    cdef floating* y = <floating*> job.y + begin
    if job.draws:
        draw(job, begin, n)
    for i in range(n // 32):
        scale_32(x + 32 * i, mask[i], scale, y + 32 * i, 32)
    if n % 32:
        scale_32(x + n // 32 * 32, mask[n // 32], scale, y + n // 32 * 32, n % 32)


cdef int run(cnp.ndarray x, bint draws, uint64_t key, double p, cnp.ndarray mask, cnp.ndarray y, int threads) except -1:
    check_order(x, True, True)
    check_same(x, y)
    cdef Py_ssize_t n = x.size
    if (cnp.PyArray_TYPE(mask) != cnp.NPY_UINT64 or mask.ndim != 1 or not cnp.PyArray_ISCARRAY_RO(mask)
            or mask.shape[0] != (n + 63) // 64):
        raise ValueError(f"kernel: the mask of {n} elements must be a C-contiguous uint64 vector, a bit an element")
    if not 0 <= p <= 1:
        raise ValueError(f"kernel: p must be from 0 to 1, but {p} came")
    cdef Job job = Job(draws, key, p, <uint32_t*> mask.data, x.data, y.data, n)
    return start(<Unit> drop[float], <Unit> drop[double], x, &job, parts(n, UNIT),
                 threads_for((8 if draws else 2) * n, threads))


def dropout(cnp.ndarray x not None, double p, uint64_t seed, cnp.ndarray mask_out not None, cnp.ndarray y_out not None,
            int n_threads):
    """y = x / (1 − p) where the mask's bit is 1, else 0·x; a bit is 0 with probability p. All of y is 0·x if p = 1.

    Bit i of the mask belongs to element i in memory order: it is 1 where word (i // 16) % 4 of the Philox-4x32-10 block
    16·(i // 64) + i % 16, under the key `seed`, is at least min(⌊2³²·p⌋, 2³² − 1). Bits beyond the last element are 0.
    """
    run(x, True, seed, p, mask_out, y_out, n_threads)


def dropout_backward(cnp.ndarray dy not None, cnp.ndarray mask not None, double p, cnp.ndarray dx_out not None,
                     int n_threads):
    """dx = dy / (1 − p) where the mask's bit is 1, else 0·dy."""
    run(dy, False, 0, p, mask, dx_out, n_threads)
