/* Working memory of a kernel, 64-byte aligned, from the pool. Acquire and release with the interpreter lock held. */
#pragma once
#include <Python.h>

static void *(*const *scratch_pool)(size_t) = NULL; /* the pool's two functions, to take and to give */

static inline void *scratch_acquire(ptrdiff_t bytes) {
    if (!scratch_pool) scratch_pool = PyCapsule_Import("fastnn._memory._functions", 0);
    if (!scratch_pool) return NULL;
    void *memory = bytes < 0 ? NULL : scratch_pool[0](bytes);
    if (!memory) return PyErr_Format(PyExc_MemoryError, "a kernel could not get %zd bytes of working memory", bytes);
    return memory;
}

static inline void scratch_release(void *memory) { ((void (*)(void *))scratch_pool[1])(memory); }
