/* A caching allocator: memory that is freed serves the next request without the system, and without a page fault.

   Blocks lie side by side in segments of at least 256 MiB of address space, which takes memory only where it has been
   touched, in huge pages if the system grants them. A block begins with a header of 64 bytes, so that memory is 64-byte
   aligned but large arrays do not all begin at the start of a page, where they would compete for the same lines of a
   cache. Free blocks hang in lists by size, 2 to a power of two; the first list that has a larger one is found by
   looking. A freed block merges with its free neighbours. (After Masmano, Ripoll, Crespo, Real, "TLSF: a new dynamic
   memory allocator for real-time systems", ECRTS 2004. Lists that never merge are shorter still to write, but hold a
   fifth to a half more in a training step, and several times as much where the batch size varies.) What was freed last
   is handed out first, since caches hold it.

   When much more is kept than has been in use for a while, what is free goes back to the system. All calls need the
   interpreter lock. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#elif defined(_WIN32)
#include <malloc.h>
#define aligned_alloc(alignment, size) _aligned_malloc(size, alignment)
#define free _aligned_free
#endif

#define POOL_UNIT 64                       /* sizes in bytes are multiples of it */
#define POOL_PAGE ((size_t)2 << 20)        /* a huge page */
#define POOL_SEGMENT ((size_t)256 << 20)   /* least size of a segment */
#define POOL_SLACK ((size_t)32 << 20)      /* free memory that is never worth giving back by itself */
#define POOL_WINDOW 16384                  /* allocations over which use is observed */
#define POOL_LARGEST ((size_t)1 << 41)     /* more than a machine has */
#define POOL_TRIES 8                       /* blocks of the request's own list that are looked at */
#define POOL_LISTS 96

typedef struct Block {
    _Alignas(POOL_UNIT) size_t size;   /* with the header */
    struct Block *below, *above;       /* the neighbours in memory */
    struct Block *next, *last;         /* in the list, if free */
    uint8_t *segment;                  /* begins with a number for each of its pages: 1 if it takes memory, else 0 */
    int free;
} Block;

typedef struct { size_t allocated, peak, reserved, blocks, segments, allocations; } PoolStats;

static Block *pool_lists[POOL_LISTS];
static PoolStats pool_stats;
static size_t pool_recent; /* most in use in this window */

/* The list for blocks of a size: its number has the exponent and one more bit of the size in floating point. */
static inline Block **pool_list(size_t size) {
    const float units = (float)(size / POOL_UNIT);
    uint32_t bits;
    memcpy(&bits, &units, sizeof bits);
    return pool_lists + (bits >> 22) - (127 << 1);
}

static void pool_insert(Block *b) {
    Block **list = pool_list(b->size);
    b->free = 1;
    b->last = NULL;
    b->next = *list;
    if (b->next) b->next->last = b;
    *list = b;
}

static void pool_remove(Block *b) {
    if (b->next) b->next->last = b->last;
    *(b->last ? &b->last->next : pool_list(b->size)) = b->next;
    b->free = 0;
}

/* A free block of at least this size: one of the first few of its own list, or the first of the next that has one */
static Block *pool_find(size_t size) {
    for (Block **list = pool_list(size); list < pool_lists + POOL_LISTS; list++) {
        int tries = POOL_TRIES;
        for (Block *b = *list; b && tries--; b = b->next)
            if (b->size >= size) return b;
    }
    return NULL;
}

/* Marks the pages of a part of a segment as taking memory, or not */
static void pool_touch(uint8_t *segment, const void *from, const void *to, int touched) {
    size_t page = (size_t)((uint8_t *)from - segment) / POOL_PAGE;
    for (; page * POOL_PAGE < (size_t)((uint8_t *)to - segment); page++) {
        pool_stats.reserved += POOL_PAGE * touched - POOL_PAGE * segment[page];
        segment[page] = (uint8_t)touched;
    }
}

/* The one free block, of at least this size, of a new segment; NULL if the system refuses */
static Block *pool_extend(size_t size) {
    const size_t least = size / POOL_PAGE + 2; /* what stands before the block takes less than a page */
    size_t pages = least > POOL_SEGMENT / POOL_PAGE ? least : POOL_SEGMENT / POOL_PAGE;
    uint8_t *segment = aligned_alloc(POOL_PAGE, pages * POOL_PAGE);
    if (!segment && !(segment = aligned_alloc(POOL_PAGE, (pages = least) * POOL_PAGE))) return NULL;
#if defined(__linux__)
    madvise(segment, pages * POOL_PAGE, MADV_HUGEPAGE); /* a wish */
#endif
    memset(segment, 0, pages);
    const size_t before = (pages + POOL_UNIT - 1) / POOL_UNIT * POOL_UNIT;
    Block *b = (Block *)(segment + before);
    *b = (Block){.size = pages * POOL_PAGE - before, .segment = segment};
    pool_touch(segment, segment, b + 1, 1);
    pool_insert(b);
    pool_stats.segments++;
    return b;
}

/* Gives what is free back to the system: whole segments, and the whole pages inside free blocks */
static void pool_trim(void) {
    for (Block **list = pool_lists; list < pool_lists + POOL_LISTS; list++)
        for (Block *b = *list, *next; b; b = next) {
            char *from = (char *)(((uintptr_t)(b + 1) + POOL_PAGE - 1) & ~(uintptr_t)(POOL_PAGE - 1));
            char *to = (char *)(((uintptr_t)b + b->size) & ~(uintptr_t)(POOL_PAGE - 1));
            next = b->next;
            if (!b->below && !b->above) {
                pool_remove(b);
                pool_touch(b->segment, b->segment, to, 0);
                pool_stats.segments--;
                free(b->segment);
            }
#if defined(__linux__)
            else if (from < to && madvise(from, to - from, MADV_DONTNEED) == 0) pool_touch(b->segment, from, to, 0);
#endif
        }
}

/* Memory of this many bytes, 64-byte aligned; NULL if there is none */
static void *pool_take(size_t bytes) {
    if (bytes > POOL_LARGEST) return NULL;
    const size_t size = sizeof(Block) + ((bytes ? bytes : 1) + POOL_UNIT - 1) / POOL_UNIT * POOL_UNIT;
    if (++pool_stats.allocations % POOL_WINDOW == 0) {
        if (pool_stats.reserved > pool_recent + pool_recent / 2 + POOL_SLACK) pool_trim();
        pool_recent = pool_stats.allocated;
    }
#ifdef FASTNN_CHECKED /* under the sanitizer every block is malloc's, so that an overrun is seen */
    Block *b = aligned_alloc(POOL_UNIT, size);
    if (!b) return NULL;
    b->size = size;
#else
    Block *b = pool_find(size);
    if (!b && !(b = pool_extend(size))) return NULL;
    pool_remove(b);
    Block *rest = (Block *)((char *)b + size);
    const int cut = b->size >= size + 2 * sizeof(Block);
    pool_touch(b->segment, b, rest + cut, 1);
    if (cut) {
        *rest = (Block){.size = b->size - size, .below = b, .above = b->above, .segment = b->segment};
        if (rest->above) rest->above->below = rest;
        b->size = size;
        b->above = rest;
        pool_insert(rest);
    }
#endif
    pool_stats.blocks++;
    pool_stats.allocated += b->size;
    if (pool_stats.allocated > pool_recent) pool_recent = pool_stats.allocated;
    if (pool_stats.allocated > pool_stats.peak) pool_stats.peak = pool_stats.allocated;
    return b + 1;
}

/* Takes a block in that lies above b; neither is in a list */
static inline void pool_merge(Block *b) {
    b->size += b->above->size;
    b->above = b->above->above;
    if (b->above) b->above->below = b;
}

static void pool_give(void *memory) {
    Block *b = (Block *)memory - 1;
    pool_stats.blocks--;
    pool_stats.allocated -= b->size;
#ifdef FASTNN_CHECKED
    free(b);
#else
    if (b->above && b->above->free) {
        pool_remove(b->above);
        pool_merge(b);
    }
    if (b->below && b->below->free) {
        b = b->below;
        pool_remove(b);
        pool_merge(b);
    }
    pool_insert(b);
#endif
}
