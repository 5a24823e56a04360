"""The memory of tensors: ordinary NumPy arrays whose base is a block of the pool (pool.h). Compiled once."""
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from cython cimport freelist
from fastnn._kernels.kernel cimport is_packed, lies_in, lies_like

import numpy as np

cnp.import_array()

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "pool.h":
    ctypedef struct PoolStats:
        size_t allocated, peak, reserved, blocks, segments, allocations

    PoolStats pool_stats
    void* pool_take(size_t bytes)
    void pool_give(void* memory)
    void pool_trim()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(type subtype, cnp.dtype descr, int nd, const Py_ssize_t* dims,
                                const Py_ssize_t* strides, void* data, int flags, object obj)  # steals descr

cdef (void*)[2] functions = [<void*> pool_take, <void*> pool_give]
_functions = PyCapsule_New(functions, "fastnn._memory._functions", NULL)  # for the working memory of kernels


@freelist(64)
cdef class Block:
    """Memory of the pool. It goes back when the last array on it is gone."""
    cdef void* memory

    def __dealloc__(self):
        if self.memory != NULL:
            pool_give(self.memory)


def empty(shape, dtype, bint channels_last=False):
    """An uninitialized array of the pool, 64-byte aligned; `channels_last` asks for memory order N, H, W, C under a
    4-D shape (N, C, H, W). MemoryError if there is not so much memory."""
    cdef cnp.dtype descr = <cnp.dtype> dtype if type(dtype) is cnp.dtype else np.dtype(dtype)
    cdef tuple sizes = shape if type(shape) is tuple else (shape,) if isinstance(shape, int) else tuple(shape)
    cdef Py_ssize_t dims[32]
    cdef Py_ssize_t strides[32]
    cdef Py_ssize_t step = descr.itemsize
    cdef int n = len(sizes), i, axis
    cdef Block block
    cdef bint large = False
    if n > 32 or descr.hasobject:
        return np.empty(shape, dtype)
    for i in range(n):
        dims[i] = sizes[i]
        if dims[i] < 0:
            raise ValueError(f"empty: sizes must not be negative, but {sizes} came")
    if channels_last and n != 4:
        raise ValueError(f"empty: only 4-D arrays can be channels-last, but {sizes} came")
    for i in range(n - 1, -1, -1):
        axis = i if not channels_last else 0 if i == 0 else 1 if i == 3 else i + 1
        strides[axis] = step
        if dims[axis] > 0:
            large = large or step > PY_SSIZE_T_MAX // dims[axis]
            step *= 1 if large else dims[axis]
    for i in range(n):
        step = 0 if dims[i] == 0 else step
    block = Block.__new__(Block)
    block.memory = NULL if large else pool_take(step)
    if block.memory == NULL:
        raise MemoryError(f"no memory for a tensor of shape {sizes} and dtype {descr}")
    Py_INCREF(descr)
    array = PyArray_NewFromDescr(cnp.ndarray, descr, n, dims, strides, block.memory, cnp.NPY_ARRAY_BEHAVED, None)
    cnp.set_array_base(array, block)
    return array


def is_channels_last(array):
    """Whether `array` is 4-D with memory order N, H, W, C."""
    return isinstance(array, cnp.ndarray) and (<cnp.ndarray> array).ndim == 4 and lies_in(<cnp.ndarray> array, True)


def sound(array):
    """Whether `array` is aligned and in native bytes, as kernels need it."""
    return not isinstance(array, cnp.ndarray) or bool(cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray> array))


def same_order(first, second):
    """Whether both have one dtype, one shape and one dense memory order. (False may be wrong, True is not.)"""
    return (isinstance(first, cnp.ndarray) and isinstance(second, cnp.ndarray) and sound(first)
            and lies_like(<cnp.ndarray> first, <cnp.ndarray> second) and is_packed(<cnp.ndarray> second))


def stats():
    """Counts of the pool, in bytes and numbers."""
    return dict(pool_stats)


def reset_peak():
    """Let the peak begin anew."""
    pool_stats.peak = pool_stats.allocated


def trim():
    """Give what is free back to the system."""
    pool_trim()
