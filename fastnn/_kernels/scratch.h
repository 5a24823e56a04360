/* Working memory of a kernel, 64-byte aligned. One block a module is kept between calls, so that a warm call faults
   no page. Acquire and release with the interpreter lock held; a nested or concurrent call gets memory of its own. */
#pragma once
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef FASTNN_CHECKED /* under the sanitizer every block is its own, so that an overrun is seen */
#define SCRATCH_KEPT 0
#else
#define SCRATCH_KEPT ((ptrdiff_t)64 << 20) /* a larger block is given back to the system after use */
#endif

static void *scratch_block = NULL; /* as malloc returned it */
static ptrdiff_t scratch_size = -1;
static int scratch_taken = 0;

static inline void *scratch_acquire(ptrdiff_t bytes) {
    const int kept = !scratch_taken && bytes < SCRATCH_KEPT, fresh = !kept || bytes > scratch_size;
    if (kept && fresh) free(scratch_block);
    void *block = bytes < 0 ? NULL : fresh ? malloc(bytes + 64) : scratch_block;
    if (kept) scratch_block = block, scratch_size = block ? bytes : -1, scratch_taken = block != NULL;
    if (!block) return PyErr_Format(PyExc_MemoryError, "a kernel could not get %zd bytes of working memory", bytes);
    void **memory = (void **)(((uintptr_t)block + 64) & ~(uintptr_t)63); /* malloc's alignment leaves room below */
    memory[-1] = block;
    return memory;
}

static inline void scratch_release(void *memory) {
    void *block = ((void **)memory)[-1];
    if (block == scratch_block) scratch_taken = 0;
    else free(block);
}
