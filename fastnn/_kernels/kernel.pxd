"""What every kernel module shares: dtypes, checks of memory order, the number of threads, working memory.

Inline functions only: a kernel module imports no other compiled module, because its full name is fixed before it is
known for which instruction set it is compiled.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange

cdef extern from "openmp.h" nogil:
    int omp_get_thread_num()

cdef extern from "scratch.h" nogil:
    void* scratch_acquire_block(size_t size)
    void scratch_release_block(void* block)
    void* scratch_align(void* block)

cdef enum:
    CHUNK = 16384  # elements in one unit of element-wise work
    GRAIN = 32768  # least work, in elements touched, that pays for waking the threads


# One unit of a kernel's work. `job` points to a struct of the kernel's; `kind` is never read: its type, float* or
# double*, names the instance, which is cast to Unit as qsort's users cast their comparisons.
ctypedef void (*Unit)(const void* job, Py_ssize_t i, void* kind) noexcept nogil


cdef inline void share(Unit unit, const void* job, Py_ssize_t units, int n_threads) noexcept nogil:
    """Run unit(job, 0), …, unit(job, units - 1), in even runs on the threads; one thread needs no OpenMP region."""
    cdef Py_ssize_t i
    if n_threads == 1:
        for i in range(units):
            unit(job, i, NULL)
    else:
        for i in prange(units, schedule="static", num_threads=n_threads):
            unit(job, i, NULL)


cdef inline int threads_for(Py_ssize_t work, int n_threads) noexcept nogil:
    """Threads for `work` elements touched (or as much arithmetic): one where waking others costs more than it saves."""
    return n_threads if n_threads > 1 and work >= GRAIN else 1


cdef inline void* scratch_acquire(Py_ssize_t size) except NULL:
    """A block to be given to scratch_release; use it through scratch_align."""
    cdef void* block = scratch_acquire_block(<size_t> size)
    if block == NULL:
        raise MemoryError(f"a kernel could not get {size} bytes of working memory")
    return block


cdef inline void scratch_release(void* block) noexcept:
    scratch_release_block(block)


cdef inline bint is_f32(cnp.ndarray a) noexcept:
    return cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32


cdef inline bint has_order(cnp.ndarray a, bint channels_last) noexcept:
    """Whether a's memory is dense, in C order or, asked so, N, H, W, C. Strides of size-1 axes are not read."""
    cdef Py_ssize_t expected = cnp.PyArray_ITEMSIZE(a)
    cdef int i, axis, n = cnp.PyArray_NDIM(a)
    if not cnp.PyArray_ISBEHAVED_RO(a):
        return False
    if cnp.PyArray_SIZE(a) == 0:
        return True
    if channels_last and n != 4:
        return False
    for i in range(n - 1, -1, -1):
        axis = i if not channels_last else 0 if i == 0 else 1 if i == 3 else i + 1
        if cnp.PyArray_DIM(a, axis) != 1:
            if cnp.PyArray_STRIDE(a, axis) != expected:
                return False
            expected *= cnp.PyArray_DIM(a, axis)
    return True


cdef inline int check_float(cnp.ndarray a) except -1:
    """float32 or float64 in native bytes, aligned."""
    cdef int kind = cnp.PyArray_TYPE(a)
    if (kind != cnp.NPY_FLOAT32 and kind != cnp.NPY_FLOAT64) or not cnp.PyArray_ISBEHAVED_RO(a):
        raise ValueError(f"kernel: an array of dtype {a.dtype} came where aligned native float32 or float64 is needed")
    return 0


cdef inline int check_plain(cnp.ndarray a) except -1:
    """A float array in C order."""
    check_float(a)
    if not has_order(a, False):
        raise ValueError("kernel: an array that is not C-contiguous came where one is needed")
    return 0


cdef inline int check_dense(cnp.ndarray a) except -1:
    """A float array in C order or channels-last."""
    check_float(a)
    if not (has_order(a, False) or has_order(a, True)):
        raise ValueError("kernel: an array that is neither C-contiguous nor channels-last came where one is needed")
    return 0


cdef inline int check_rows(cnp.ndarray a) except -1:
    """A float array with the channels innermost: (N, C) in C order, or (N, C, H, W) channels-last."""
    check_float(a)
    if not has_order(a, cnp.PyArray_NDIM(a) == 4) or cnp.PyArray_NDIM(a) not in (2, 4):
        raise ValueError("kernel: an array whose channels are not innermost came where such a one is needed")
    return 0


cdef inline int check_same(cnp.ndarray a, cnp.ndarray b) except -1:
    """The same dtype, shape and memory order. Call it after one of the checks above on `a`."""
    cdef int axis, n = cnp.PyArray_NDIM(a)
    cdef bint same = n == cnp.PyArray_NDIM(b) and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b)
    cdef bint strided = cnp.PyArray_SIZE(a) != 0
    if same:
        for axis in range(n):
            if cnp.PyArray_DIM(a, axis) != cnp.PyArray_DIM(b, axis):
                same = False
            elif strided and cnp.PyArray_DIM(a, axis) != 1:
                same = same and cnp.PyArray_STRIDE(a, axis) == cnp.PyArray_STRIDE(b, axis)
    if not same or not cnp.PyArray_ISBEHAVED_RO(b):
        raise ValueError("kernel: two arrays differ in dtype, shape or memory order")
    return 0


cdef inline Py_ssize_t n_channels(cnp.ndarray a) noexcept:
    return cnp.PyArray_DIM(a, 1)


cdef inline Py_ssize_t n_rows(cnp.ndarray a) noexcept:
    """Positions (N, or N·H·W) at each of which all channels lie side by side."""
    if cnp.PyArray_NDIM(a) == 2:
        return cnp.PyArray_DIM(a, 0)
    return cnp.PyArray_DIM(a, 0) * cnp.PyArray_DIM(a, 2) * cnp.PyArray_DIM(a, 3)
