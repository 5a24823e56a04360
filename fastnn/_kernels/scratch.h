/* Working memory of a kernel, 64-byte aligned. One block a module is kept between calls, so that a warm call faults
   no page. Acquire and release with the interpreter lock held; a nested or concurrent call gets memory of its own. */
#ifndef FASTNN_SCRATCH_H
#define FASTNN_SCRATCH_H
#include <stdint.h>
#include <stdlib.h>

#ifdef FASTNN_CHECKED /* under the sanitizer every block is its own, so that an overrun is seen */
#define SCRATCH_KEPT ((size_t)0)
#else
#define SCRATCH_KEPT ((size_t)64 << 20) /* a larger block is given back to the system after use */
#endif

static void *scratch_block = NULL; /* as malloc returned it */
static size_t scratch_size = 0;
static int scratch_taken = 0;

static inline void *scratch_align(void *block) { return (void *)(((uintptr_t)block + 64) & ~(uintptr_t)63); }

/* The pointer to use is scratch_align(result); NULL means that memory ran out. */
static void *scratch_acquire_block(size_t bytes) {
    if (scratch_taken || bytes >= SCRATCH_KEPT) return malloc(bytes + 64);
    if (bytes > scratch_size || !scratch_block) {
        free(scratch_block);
        scratch_block = malloc(bytes + 64);
        scratch_size = scratch_block ? bytes : 0;
    }
    scratch_taken = scratch_block != NULL;
    return scratch_block;
}

static void scratch_release_block(void *block) {
    if (block == scratch_block) scratch_taken = 0;
    else free(block);
}
#endif
