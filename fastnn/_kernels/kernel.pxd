"""What every kernel module shares: dtypes, checks of memory order, the number of threads, working memory.

Inline functions only: a kernel module imports no other compiled module, because its full name is fixed before it is
known for which instruction set it is compiled."""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange

cdef extern from "openmp.h" nogil:
    int omp_get_thread_num()

cdef extern from "scratch.h":
    void* scratch_acquire(Py_ssize_t size) except NULL
    void scratch_release(void* memory)

cdef enum:
    CHUNK = 16384  # elements in one unit of element-wise work
    GRAIN = 32768  # least work, in elements touched, that pays for waking the threads
    STREAM = 2  # elements only streamed that make up one of these: 65,536 are added in some 4 us

ctypedef char* Bytes  # an array of either dtype, or NULL

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


cdef inline bint is_f32(cnp.ndarray a) noexcept:
    return cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32


cdef inline int start(Unit single, Unit double_, cnp.ndarray like, const void* job, Py_ssize_t units,
                      int n_threads) except -1:
    """`share`, of the instance for the dtype of `like`, without the interpreter lock."""
    cdef Unit unit = single if is_f32(like) else double_
    with nogil:
        share(unit, job, units, n_threads)
    return 0


cdef inline int threads_for(Py_ssize_t work, int n_threads) noexcept nogil:
    """Threads for `work` elements touched (or as much arithmetic): one where waking others costs more than it saves."""
    return n_threads if n_threads > 1 and work >= GRAIN else 1


cdef inline Py_ssize_t parts(Py_ssize_t n, Py_ssize_t largest) noexcept nogil:
    """How many parts of at most `largest` cut n."""
    return (n + largest - 1) // largest


cdef inline Py_ssize_t cut(Py_ssize_t n, Py_ssize_t n_parts, Py_ssize_t i) noexcept nogil:
    """Where part i of n_parts even parts of n begins; part i ends where i + 1 begins."""
    return n * i // n_parts


cdef inline bint lies_in(cnp.ndarray a, bint channels_last) noexcept:
    """Whether a's memory is dense, in C order or, asked so, N, H, W, C. Strides of size-1 axes are not read."""
    cdef Py_ssize_t expected = cnp.PyArray_ITEMSIZE(a)
    cdef int i, axis, n = a.ndim
    if a.size == 0:
        return True
    if channels_last and n != 4:
        return False
    for i in range(n - 1, -1, -1):
        axis = i if not channels_last else 0 if i == 0 else 1 if i == 3 else i + 1
        if a.shape[axis] != 1:
            if a.strides[axis] != expected:
                return False
            expected *= a.shape[axis]
    return True


cdef inline bint has_order(cnp.ndarray a, bint channels_last) noexcept:
    """The same, aligned and in native bytes."""
    return cnp.PyArray_ISBEHAVED_RO(a) and lies_in(a, channels_last)


cdef inline bint is_packed(cnp.ndarray a) noexcept:
    """Whether a's memory is dense in some order of its axes. Strides of size-1 axes are not read."""
    cdef Py_ssize_t expected = cnp.PyArray_ITEMSIZE(a)
    cdef int axis
    while expected < cnp.PyArray_NBYTES(a):
        for axis in range(a.ndim):
            if a.shape[axis] != 1 and a.strides[axis] == expected:
                expected *= a.shape[axis]
                break
        else:
            return False
    return True


cdef inline int check_float(cnp.ndarray a) except -1:
    """float32 or float64 in native bytes, aligned."""
    cdef int kind = cnp.PyArray_TYPE(a)
    if (kind != cnp.NPY_FLOAT32 and kind != cnp.NPY_FLOAT64) or not cnp.PyArray_ISBEHAVED_RO(a):
        raise ValueError(f"kernel: an array of dtype {a.dtype} came where aligned native float32 or float64 is needed")
    return 0


cdef inline int check_order(cnp.ndarray a, bint in_c, bint channels_last) except -1:
    """A float array in C order, or channels-last, if that is taken."""
    check_float(a)
    if not (in_c and has_order(a, False) or channels_last and has_order(a, True)):
        raise ValueError(f"kernel: an array of shape {(<object> a).shape} came in a memory order that is not taken")
    return 0


cdef inline int check_plain(cnp.ndarray a) except -1:
    """A float array in C order."""
    return check_order(a, True, False)


cdef inline int check_rows(cnp.ndarray a) except -1:
    """A float array with the channels innermost: (N, C) in C order, or (N, C, H, W) channels-last."""
    return check_order(a, a.ndim == 2, a.ndim == 4)


cdef inline int check_vector(cnp.ndarray a, Py_ssize_t n, cnp.ndarray like) except -1:
    """n contiguous numbers of the dtype of `like`."""
    check_plain(a)
    if a.ndim != 1 or a.shape[0] != n or is_f32(a) != is_f32(like):
        raise ValueError(f"kernel: a vector of {n} numbers of the operation's dtype is needed")
    return 0


cdef inline Bytes vector(cnp.ndarray a, Py_ssize_t n, cnp.ndarray like) except? NULL:
    """The data of such a vector, NULL for None."""
    if a is None:
        return NULL
    check_vector(a, n, like)
    return a.data


cdef inline bint lies_like(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether b has a's dtype, shape and memory order, and is aligned in native bytes."""
    cdef int axis, n = a.ndim
    cdef bint same = n == b.ndim and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b) and cnp.PyArray_ISBEHAVED_RO(b)
    for axis in range(n if same else 0):
        same = same and a.shape[axis] == b.shape[axis]
        same = same and (a.size == 0 or a.shape[axis] == 1 or a.strides[axis] == b.strides[axis])
    return same


cdef inline int check_same(cnp.ndarray a, cnp.ndarray b) except -1:
    """The same dtype, shape and memory order. Call it after one of the checks above on `a`."""
    if not lies_like(a, b):
        raise ValueError("kernel: two arrays differ in dtype, shape or memory order")
    return 0
