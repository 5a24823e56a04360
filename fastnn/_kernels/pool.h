/* A caching allocator: memory that is freed serves the next request without the system, and without a page fault.

   Blocks lie side by side in segments of at least 256 MiB of address space, which takes memory only where it has been
   touched, in huge pages if the system grants them. A block begins with a header of 64 bytes, so that memory is 64-byte
   aligned but large arrays do not all begin at the start of a page, where they would compete for the same lines of a
   cache. Free blocks hang in lists by size class, 16 classes to a power of two, with bitmaps that find the next class
   that has one; a freed block merges with its free neighbours (Masmano, Ripoll, Crespo, Real, "TLSF: a new dynamic
   memory allocator for real-time systems", ECRTS 2004). What was freed last is handed out first, since caches hold it.

   When the most that was in use at a time has fallen for good, what is free goes back to the system. All calls need
   the interpreter lock. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#else
#define MADV_HUGEPAGE 0
#endif

#define POOL_UNIT 64                       /* sizes in bytes are multiples of it */
#define POOL_PAGE ((size_t)2 << 20)        /* a huge page */
#define POOL_SEGMENT ((size_t)256 << 20)   /* least size of a segment */
#define POOL_SLACK ((size_t)32 << 20)      /* free memory that is never worth giving back by itself */
#define POOL_WINDOW 8192                   /* allocations over which use is observed */
#define POOL_CLASSES 16
#define POOL_LEVELS 48
#define POOL_LARGEST ((size_t)1 << 48)     /* more than there are addresses; classes go up to 2^57 bytes */
#define POOL_TRIES 8                       /* blocks of the request's own class that are looked at */

typedef struct Block {
    _Alignas(POOL_UNIT) size_t size; /* with the header */
    struct Block *below;          /* the neighbour at the lower address */
    struct Block *next, *last;    /* in the list, if free */
    struct Segment *segment;
    int free;
} Block;

typedef struct Segment {
    char *start;
    size_t size, mapped;          /* of its blocks; with what stands before and after them */
    void *mapping;
    struct Segment *next;
    uint8_t *touched;             /* of each page, whether it takes memory */
} Segment;

typedef struct { size_t allocated, peak, reserved, blocks, segments, allocations; } PoolStats;

static Block *pool_lists[POOL_LEVELS][POOL_CLASSES];
static uint64_t pool_levels;
static uint32_t pool_classes[POOL_LEVELS];
static Segment *pool_segments;
static PoolStats pool_stats;
static size_t pool_high, pool_recent, pool_before; /* most in use: since the last trim, in this window, the one before */

#if defined(__GNUC__)
#define POOL_LOWEST(bits) __builtin_ctzll(bits)
#define POOL_HIGHEST(bits) (63 - __builtin_clzll(bits))
#else
static int POOL_LOWEST(uint64_t bits) { int i = 0; while (!(bits >> i & 1)) i++; return i; }
static int POOL_HIGHEST(uint64_t bits) { int i = 63; while (!(bits >> i & 1)) i--; return i; }
#endif

/* Level 0 has a class for each number of units below 16; each level above cuts a power of two into 16 classes. */
static void pool_class(size_t size, int *level, int *class_) {
    const size_t units = size / POOL_UNIT;
    const int shift = units < POOL_CLASSES ? 0 : POOL_HIGHEST(units) - 4;
    *level = units < POOL_CLASSES ? 0 : shift + 1;
    *class_ = (int)((units >> shift) % POOL_CLASSES);
}

/* The neighbour at the higher address, NULL at the end of the segment */
static Block *pool_above(Block *b) {
    char *end = (char *)b + b->size;
    return end == b->segment->start + b->segment->size ? NULL : (Block *)end;
}

static void pool_insert(Block *b) {
    int level, class_;
    pool_class(b->size, &level, &class_);
    b->free = 1;
    b->last = NULL;
    b->next = pool_lists[level][class_];
    if (b->next) b->next->last = b;
    pool_lists[level][class_] = b;
    pool_levels |= (uint64_t)1 << level;
    pool_classes[level] |= 1u << class_;
}

static void pool_remove(Block *b) {
    int level, class_;
    pool_class(b->size, &level, &class_);
    if (b->next) b->next->last = b->last;
    if (b->last) b->last->next = b->next;
    else if (!(pool_lists[level][class_] = b->next) && !(pool_classes[level] &= ~(1u << class_)))
        pool_levels &= ~((uint64_t)1 << level);
    b->free = 0;
}

/* A free block of at least this size: of its own class if one of the first few fits, else of the next that has one */
static inline Block *pool_find(size_t size) {
    int level, class_, tries = 0;
    pool_class(size, &level, &class_);
    for (Block *b = pool_lists[level][class_]; b && tries < POOL_TRIES; b = b->next, tries++)
        if (b->size >= size) return b;
    uint32_t classes = pool_classes[level] & ~0u << (class_ + 1);
    if (!classes) {
        const uint64_t levels = pool_levels & ~(uint64_t)0 << (level + 1);
        if (!levels) return NULL;
        level = POOL_LOWEST(levels);
        classes = pool_classes[level];
    }
    return pool_lists[level][POOL_LOWEST(classes)];
}

/* Marks the pages of a part of a segment as taking memory, or not */
static void pool_touch(Segment *s, const char *from, const char *to, int touched) {
    for (size_t page = (from - s->start) / POOL_PAGE; page * POOL_PAGE < (size_t)(to - s->start); page++)
        if (s->touched[page] != touched) {
            s->touched[page] = (uint8_t)touched;
            pool_stats.reserved += touched ? POOL_PAGE : -POOL_PAGE;
        }
}

static void *pool_map(size_t size) {
#if defined(__linux__)
    void *mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return NULL;
    madvise(mapping, size, MADV_HUGEPAGE); /* a wish */
    return mapping;
#else
    return malloc(size);
#endif
}

static void pool_unmap(void *mapping, size_t size) {
#if defined(__linux__)
    munmap(mapping, size);
#else
    (void)size;
    free(mapping);
#endif
}

/* A new segment whose one free block has at least this size, NULL if the system refuses */
static inline Block *pool_extend(size_t size) {
    Segment *s = malloc(sizeof *s);
    if (!s) return NULL;
    size = (size + POOL_PAGE - 1) & ~(POOL_PAGE - 1);
    s->size = size > POOL_SEGMENT ? size : POOL_SEGMENT;
    s->mapping = pool_map(s->mapped = s->size + POOL_PAGE);
    if (!s->mapping && s->size > size) s->mapping = pool_map(s->mapped = (s->size = size) + POOL_PAGE);
    s->touched = s->mapping ? calloc(s->size / POOL_PAGE, 1) : NULL;
    if (!s->touched) {
        if (s->mapping) pool_unmap(s->mapping, s->mapped);
        free(s);
        return NULL;
    }
    s->start = (char *)(((uintptr_t)s->mapping + POOL_PAGE - 1) & ~(uintptr_t)(POOL_PAGE - 1));
    s->next = pool_segments;
    pool_segments = s;
    pool_stats.segments++;
    Block *b = (Block *)s->start;
    *b = (Block){.size = s->size, .segment = s};
    pool_touch(s, s->start, s->start + sizeof(Block), 1);
    pool_insert(b);
    return b;
}

/* Gives what is free back to the system: whole segments, and the whole pages inside free blocks */
static void pool_trim(void) {
    for (Segment **at = &pool_segments, *s; (s = *at);) {
        Block *b = (Block *)s->start;
        if (b->free && !pool_above(b)) {
            pool_remove(b);
            pool_touch(s, s->start, s->start + s->size, 0);
            *at = s->next;
            pool_stats.segments--;
            pool_unmap(s->mapping, s->mapped);
            free(s->touched);
            free(s);
            continue;
        }
#if defined(__linux__)
        for (; b; b = pool_above(b)) {
            char *from = (char *)(((uintptr_t)(b + 1) + POOL_PAGE - 1) & ~(uintptr_t)(POOL_PAGE - 1));
            char *to = (char *)(((uintptr_t)b + b->size) & ~(uintptr_t)(POOL_PAGE - 1));
            if (b->free && from < to && madvise(from, to - from, MADV_DONTNEED) == 0) pool_touch(s, from, to, 0);
        }
#endif
        at = &s->next;
    }
    pool_high = pool_recent = pool_before = pool_stats.allocated;
}

/* At the end of a window: gives memory back if much less has been in use, for two windows, than once was */
static void pool_observe(void) {
    const size_t use = pool_recent > pool_before ? pool_recent : pool_before;
    if (pool_high > use + use / 2 + POOL_SLACK) {
        pool_trim();
        pool_high = use;
    }
    pool_before = pool_recent;
    pool_recent = pool_stats.allocated;
}

/* Memory of this many bytes, 64-byte aligned; NULL if there is none */
static void *pool_take(size_t bytes) {
    if (bytes > POOL_LARGEST) return NULL;
    const size_t size = sizeof(Block) + ((bytes ? bytes : 1) + POOL_UNIT - 1) / POOL_UNIT * POOL_UNIT;
    if (++pool_stats.allocations % POOL_WINDOW == 0) pool_observe();
#ifdef FASTNN_CHECKED /* under the sanitizer every block is malloc's, so that an overrun is seen */
    Block *b = aligned_alloc(POOL_UNIT, size);
    if (!b) return NULL;
    b->size = size;
#else
    Block *b = pool_find(size);
    if (!b && !(b = pool_extend(size))) return NULL;
    pool_remove(b);
    size_t end = size;
    if (b->size >= size + 2 * sizeof(Block)) {
        Block *rest = (Block *)((char *)b + size);
        *rest = (Block){.size = b->size - size, .below = b, .segment = b->segment};
        b->size = size;
        if (pool_above(rest)) pool_above(rest)->below = rest;
        pool_insert(rest);
        end += sizeof(Block);
    }
    pool_touch(b->segment, (char *)b, (char *)b + end, 1);
#endif
    pool_stats.blocks++;
    pool_stats.allocated += b->size;
    if (pool_stats.allocated > pool_recent) pool_recent = pool_stats.allocated;
    if (pool_stats.allocated > pool_stats.peak) pool_stats.peak = pool_stats.allocated;
    if (pool_recent > pool_high) pool_high = pool_recent;
    return b + 1;
}

static void pool_give(void *memory) {
    Block *b = (Block *)memory - 1;
    pool_stats.blocks--;
    pool_stats.allocated -= b->size;
#ifdef FASTNN_CHECKED
    free(b);
#else
    Block *above = pool_above(b);
    if (above && above->free) {
        pool_remove(above);
        b->size += above->size;
    }
    if (b->below && b->below->free) {
        pool_remove(b->below);
        b->below->size += b->size;
        b = b->below;
    }
    if (pool_above(b)) pool_above(b)->below = b;
    pool_insert(b);
#endif
}
