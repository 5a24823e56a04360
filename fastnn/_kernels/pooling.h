/* A row of pooling's output, all taps of a window for some channels at a time: four vectors, one, or part of one.

   Backward is the same walk as forward: an element of dx gathers from the outputs whose windows hold it. Sums and
   maxima stay in registers, every element is written once, and no branch depends on data but for NaN. Elements whose
   windows have as many taps make a run; backward of a stride, each phase of the pixels has runs of its own, but where
   windows of 2x2 or 3x3 places stand two apart dx is made in blocks of two by two, in the order of its memory.
   A run whose taps lie side by side is one element of more channels; so that backward few channels fill vectors at any
   stride, the phases of a row are made in planes. Channels that are no multiple of a vector are covered by vectors
   that overlap; with fewer, forward, the vector goes on into the next pixel, which is written later. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "openmp.h"
#include "tile.h"

#if defined(__GNUC__)
#define FEW(real) (16 / (int)sizeof(real))
#define POOL_TYPE(type, lanes) __attribute__((vector_size(lanes * sizeof(type)), aligned(sizeof(type)), may_alias)) type
#define POOL_SELECT(mask, a, b) (((Whole)(a) & (mask)) + ((Whole)(b) & ~(mask))) /* + : GCC finds its blend */
#define POOL_CONVERT __builtin_convertvector
#define POOL_BYTES(a) POOL_CONVERT(POOL_CONVERT(POOL_CONVERT(a, Half), Wide), Whole) /* by vector instructions */
#define POOL_APART static __attribute__((noinline))
#else
#define FEW(real) 1
#define POOL_TYPE(type, lanes) type
#define POOL_SELECT(mask, a, b) ((mask) ? (a) : (b))
#define POOL_CONVERT(a, type) ((type)(a))
#define POOL_BYTES(a) ((Whole)(a))
#define POOL_APART static
#endif

/* Steps of a float32 vector whose instructions GCC does not find: the larger of two, the second if they are equal or
   not numbers; and bytes as 32 bits. 1: done. */
#if defined(__GNUC__) && defined(__SSE4_1__)
#include <immintrin.h>
#define POOL_HERE(v) __asm__ volatile("" : "+v"(v)) /* not earlier, not later: GCC would run out of registers */
#define POOL_POINTER(p) __asm__ volatile("" : "+r"(p))
TILE_INLINE int pool_larger(int lanes, const void *v, void *best) {
    if (lanes == 4) _mm_storeu_ps(best, _mm_max_ps(_mm_loadu_ps(v), _mm_loadu_ps(best)));
#if defined(__AVX2__)
    if (lanes == 8) _mm256_storeu_ps(best, _mm256_max_ps(_mm256_loadu_ps(v), _mm256_loadu_ps(best)));
#endif
#if defined(__AVX512F__)
    if (lanes == 16) _mm512_storeu_ps(best, _mm512_max_ps(_mm512_loadu_ps(v), _mm512_loadu_ps(best)));
#endif
    return lanes >= 4;
}
TILE_INLINE int pool_widen(int lanes, const void *place, void *wide) {
    int four;
    memcpy(&four, place, sizeof four);
    if (lanes == 4) _mm_storeu_si128(wide, _mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
#if defined(__AVX2__)
    if (lanes == 8) _mm256_storeu_si256(wide, _mm256_cvtepu8_epi32(_mm_loadl_epi64(place)));
#endif
#if defined(__AVX512F__)
    if (lanes == 16) _mm512_storeu_si512(wide, _mm512_cvtepu8_epi32(_mm_loadu_si128(place)));
#endif
    return lanes >= 4;
}
#else
#define POOL_HERE(v) (void)0
#define POOL_POINTER(p) (void)0
#define pool_larger(...) 0
#define pool_widen(...) 0
#endif

enum { POOL_MEAN, POOL_MEAN_BACKWARD, POOL_MAXIMUM, POOL_EXACT, POOL_MAXIMUM_BACKWARD }; /* EXACT: right for NaN too */

typedef struct { /* of an element of the result, along H or W: its first tap, how many, the first's place in a window */
    ptrdiff_t at, taps, first;
    ptrdiff_t run; /* along W: how many elements, `phases` apart, have as many taps, each a step on */
} Window;

typedef struct {
    int maximum, backward;
    int merged, same, longs; /* a run is one element of more channels; or its elements are all alike; see POOL_LONG */
    int narrow, uniform, blocks; /* places are bytes; all averages have one size; rows of the result come in pairs */
    int32_t kernel, down, right; /* places in a window's row; by how many they rise to the next row of taps and tap */
    ptrdiff_t C, height, width, tall, wide; /* of the result, and of what it is read from */
    ptrdiff_t row, col, units; /* elements from one row of taps to the next, from tap to tap; work per image */
    ptrdiff_t phases, step; /* of a run: pixels from element to element, and elements from tap to tap */
    ptrdiff_t plane, share; /* elements of a phase of a row, of two, in the thread's part of `work`; or 0; its size */
    ptrdiff_t soon, each; /* bytes to what the next row reads, and how much of it to fetch at each output */
    ptrdiff_t tap_h, tap_w; /* averages: from tap to tap in the tables, which are 1 / a window's height and width */
    const double *per_h, *per_w;
    const Window *h, *w;
    const char *x, *place, *end; /* end: of x */
    char *y, *to, *work;
} Pool;

/* Forward y = the taps' maximum, and place = the number of the tap it is from; or y = their mean. Backward x is dy and
   y is dx = the sum of those taps whose `place` is their number, or of all, each over its window's size. The first tap
   is at x and has number `base`; `to`: where y's place goes; `sum`: of a maximum's taps, NaN if one is; `u` counts
   vectors. `known`: all averages have one size; 2: there are as many taps as literals say, and places are bytes. */
#define POOL_TAP(real, whole, lanes, vectors)                                                                          \
    {                                                                                                                  \
        const ptrdiff_t tap = i * row + j * col;                                                                       \
        const real *from = x + tap;                                                                                    \
        const char *here = place + tap;                                                                                \
        if (known == 2 && vectors > 1 && op != POOL_MEAN) POOL_POINTER(from);                                          \
        if (known == 2 && vectors > 1 && op == POOL_MAXIMUM_BACKWARD) POOL_POINTER(here);                              \
        const whole number = maximum && known == 2 ? i * taps + j : i * down + j * right + start;                      \
        Whole now = (Whole){0} + number;                                                                               \
        if (maximum && vectors > 1) POOL_HERE(now); /* else GCC loads it for each vector */                            \
        const real part = op != POOL_MEAN_BACKWARD ? (real)1 : known ? scale                                           \
            : (real)(per_h[i * p->tap_h] * per_w[j * p->tap_w]);                                                       \
        UNROLLED for (int u = 0; u < vectors; u++) {                                                                   \
            v = ((const Real *)from)[u];                                                                               \
            if (op == POOL_MEAN || op == POOL_MEAN_BACKWARD) best[u] += v * part;                                      \
            else if (maximum) {                                                                                        \
                if (lanes >= 4) POOL_HERE(v);                                                                          \
                total[u] += v;                                                                                         \
                if (lanes >= 4) POOL_HERE(total[u]);                                                                   \
                take = v > best[u]; /* a later tap wins only if it is greater or NaN, as in PyTorch */                 \
                if (op == POOL_EXACT) take |= v != v;                                                                  \
                if (known == 2 && i + j == 0) {                                                                        \
                    best[u] = v;                                                                                       \
                    continue;                                                                                          \
                }                                                                                                      \
                at[u] = POOL_SELECT(take, now, at[u]);                                                                 \
                if (op == POOL_EXACT || sizeof(real) == 8 || !pool_larger(lanes, &v, best + u))                        \
                    best[u] = (Real)POOL_SELECT(take, v, best[u]);                                                     \
            } else {                                                                                                   \
                if (sizeof(real) == 8 || !pool_widen(lanes, here + u * (lanes), &take))                                \
                    take = POOL_BYTES(((const Narrow *)here)[u]);                                                      \
                best[u] += (Real)POOL_SELECT(take == now, v, (Real){0});                                               \
            }                                                                                                          \
        }                                                                                                              \
    }
#define POOL_LANES(name, real, whole, lanes, vectors)                                                                  \
    TILE_INLINE void name(const Pool *p, int op, ptrdiff_t rows, ptrdiff_t taps, int known, real all,                  \
                          const double *per_h, const double *per_w, int32_t base, const real *x, const char *place,    \
                          real *y, char *to, real *sum) {                                                              \
        typedef POOL_TYPE(real, (lanes)) Real;                                                                         \
        typedef POOL_TYPE(whole, (lanes)) Whole;                                                                       \
        typedef POOL_TYPE(uint8_t, (lanes)) Narrow;                                                                    \
        typedef POOL_TYPE(uint16_t, (lanes)) Half;                                                                     \
        typedef POOL_TYPE(int32_t, (lanes)) Wide;                                                                      \
        const int maximum = op == POOL_MAXIMUM || op == POOL_EXACT;                                                    \
        const ptrdiff_t row = p->row, col = p->col;                                                                    \
        const int32_t start = maximum ? 0 : base, down = p->down, right = p->right;                                    \
        const real scale = known ? all : (real)(per_h[0] * per_w[0]);                                                  \
        Real best[vectors], total[vectors], v;                                                                         \
        Whole at[vectors], take;                                                                                       \
        UNROLLED for (int u = 0; u < vectors; u++) {                                                                   \
            best[u] = (Real){0} + (real)(maximum ? -INFINITY : 0);                                                     \
            total[u] = (Real){0};                                                                                      \
            at[u] = (Whole){0};                                                                                        \
        }                                                                                                              \
        if (known == 2) {                                                                                              \
            UNROLLED for (ptrdiff_t i = 0; i < rows; i++)                                                              \
                UNROLLED for (ptrdiff_t j = 0; j < taps; j++) POOL_TAP(real, whole, lanes, vectors)                    \
        } else {                                                                                                       \
            for (ptrdiff_t i = 0; i < rows; i++)                                                                       \
                for (ptrdiff_t j = 0; j < taps; j++) POOL_TAP(real, whole, lanes, vectors)                             \
        }                                                                                                              \
        UNROLLED for (int u = 0; u < vectors; u++) {                                                                   \
            if (op == POOL_MEAN) best[u] *= scale;                                                                     \
            ((Real *)y)[u] = best[u];                                                                                  \
            if (!maximum) continue;                                                                                    \
            at[u] += (Whole){0} + (whole)base;                                                                         \
            if (op == POOL_MAXIMUM) *(Real *)sum += total[u];                                                          \
            if (known == 2 || p->narrow) ((Narrow *)to)[u] = POOL_CONVERT(at[u], Narrow);                              \
            else ((Wide *)to)[u] = POOL_CONVERT(at[u], Wide);                                                          \
        }                                                                                                              \
    }

/* A row of n pixels from two planes: what is written beyond a pixel is written again by the next; and two planes from
   a row of one channel */
#define POOL_PLANES(gather, split, real)                                                                               \
    TILE_INLINE void gather(real *restrict row, const real *restrict work, ptrdiff_t n, ptrdiff_t C, ptrdiff_t plane) {\
        typedef POOL_TYPE(real, FEW(real)) Few;                                                                        \
        ptrdiff_t o = 0;                                                                                               \
        for (; C == 1 && o + 1 < n; o += 2) row[o] = work[o / 2], row[o + 1] = work[plane + o / 2];                    \
        for (; C > 1 && o + FEW(real) < n; o += 2) {                                                                   \
            *(Few *)(row + o * C) = *(const Few *)(work + o / 2 * C);                                                  \
            *(Few *)(row + o * C + C) = *(const Few *)(work + plane + o / 2 * C);                                      \
        }                                                                                                              \
        for (; o < n; o++)                                                                                             \
            for (ptrdiff_t c = 0; c < C; c++) row[o * C + c] = work[o % 2 * plane + o / 2 * C + c];                    \
    }                                                                                                                  \
    POOL_APART void split(real *restrict work, const real *restrict row, ptrdiff_t n, ptrdiff_t plane) {               \
        for (ptrdiff_t o = 0; o < n / 2; o++) work[o] = row[2 * o], work[plane + o] = row[2 * o + 1];                  \
        if (n % 2) work[n / 2] = row[n - 1];                                                                           \
    }

/* The mean of long rows of taps side by side, of up to 16 channels: one run, summed in up to 256 parts */
#define POOL_LONG(name, real)                                                                                          \
    POOL_APART void name(const Pool *p, ptrdiff_t image, ptrdiff_t i, ptrdiff_t o) {                                   \
        const ptrdiff_t n = p->w[o].taps * p->C;                                                                       \
        const real *x = (const real *)p->x + ((image * p->tall + p->h[i].at) * p->wide + p->w[o].at) * p->C;           \
        real *const y = (real *)p->y + ((image * p->height + i) * p->width + o) * p->C, sums[256] = {0};               \
        ptrdiff_t size = p->C, c;                                                                                      \
        while (size <= 128) size *= 2;                                                                                 \
        for (ptrdiff_t r = 0; r < p->h[i].taps; r++, x += p->row)                                                      \
            for (c = 0; c < n; c += size) {                                                                            \
                const ptrdiff_t most = n - c < size ? n - c : size;                                                    \
                for (ptrdiff_t k = 0; k < most; k++) sums[k] += x[c + k];                                              \
            }                                                                                                          \
        while (size > p->C)                                                                                            \
            for (size /= 2, c = 0; c < size; c++) sums[c] += sums[size + c];                                           \
        for (c = 0; c < size; c++) y[c] = sums[c] * (real)(p->per_h[i] * p->per_w[o]);                                 \
    }

/* A run of elements, all channels of each */
#define POOL_RUN(sfx, rows, taps, known)                                                                               \
    do for (; o < last; o += next, from += step, here += step, y += hop, to += hop * size) {                           \
        ptrdiff_t c = 0;                                                                                               \
        for (const char *b = soon + o * p->each, *const e = b + next * p->each; b < e; b += 64) PREFETCH(b, 0, 2);     \
        for (; c + 4 * lanes <= C; c += 4 * lanes) pool_four_##sfx(POOL_CALL(rows, taps, known));                      \
        for (; c + 2 * lanes <= C; c += 2 * lanes) pool_two_##sfx(POOL_CALL(rows, taps, known));                       \
        for (; C >= lanes && c < C; c += lanes) {                                                                      \
            if (c + lanes > C) c = C - lanes;                                                                          \
            pool_full_##sfx(POOL_CALL(rows, taps, known));                                                             \
        }                                                                                                              \
        if (C >= lanes) continue;                                                                                      \
        const int width = C > few ? lanes : few, on = hop == pixel && o * pixel + width <= inside;                     \
        if ((const char *)(from + ((rows) - 1) * p->row + ((taps) - 1) * p->col + width) > p->end)                     \
            for (; c < C; c++) pool_one_##sfx(POOL_CALL(rows, taps, known));                                           \
        else if (on && C > few) pool_full_##sfx(POOL_CALL(rows, taps, known));                                         \
        else if (on) pool_few_##sfx(POOL_CALL(rows, taps, known));                                                     \
        else if (C >= few)                                                                                             \
            for (; c < C; c += few) {                                                                                  \
                if (c + few > C) c = C - few;                                                                          \
                pool_few_##sfx(POOL_CALL(rows, taps, known));                                                          \
            }                                                                                                          \
        else {                                                                                                         \
            pool_few_##sfx(POOL_TAPS(rows, taps, known), spare, places, sum);                                          \
            memcpy(y, spare, C * sizeof *y);                                                                           \
            if (op == POOL_MAXIMUM || op == POOL_EXACT) memcpy(to, places, C * size);                                  \
        }                                                                                                              \
    } while (0)
#define POOL_CALL(rows, taps, known) POOL_TAPS(rows, taps, known), y + c, to + c * size, sum
#define POOL_TAPS(rows, taps, known)                                                                                   \
    p, op, rows, taps, known, all, per_h, p->per_w + (backward ? p->w[o].at : o), base, from + c, here + c

/* Elements o to `end` of row i of image n, by literals for windows of 2x2 and 3x3 places. A function for each
   operation: in one, GCC runs out of registers for addresses */
#define POOL_ROW(name, sfx, real, op_)                                                                                 \
    POOL_APART int pool_##name##_##sfx(const Pool *p, ptrdiff_t n, ptrdiff_t i, ptrdiff_t begin, ptrdiff_t end) {      \
        enum { lanes = LANES_##sfx, few = FEW(real) };                                                                 \
        const int op = op_, backward = op == POOL_MEAN_BACKWARD || op == POOL_MAXIMUM_BACKWARD;                        \
        const Window h = p->h[i];                                                                                      \
        const ptrdiff_t size = p->narrow ? 1 : 4, phases = p->phases, step = p->step, pixel = p->C;                    \
        const ptrdiff_t plane = backward ? p->plane : 0, hop = plane ? pixel : phases * pixel;                         \
        const ptrdiff_t at = (n * p->tall + h.at) * p->wide * pixel, into = (n * p->height + i) * p->width * pixel;    \
        const ptrdiff_t inside = plane ? PTRDIFF_MAX : p->width * pixel; /* of a row, where a vector may go on */      \
        const real *const x = (const real *)p->x + at, all = (real)(p->per_h[0] * p->per_w[0]);                        \
        const double *const per_h = p->per_h + (backward ? h.at : i);                                                  \
        const char *const soon = (const char *)x + p->soon;                                                            \
        real *const result = (real *)p->y + into, sum[lanes] = {0}, spare[few];                                        \
        const ptrdiff_t split = backward ? 0 : p->plane; /* of the rows of taps: even pixels, then odd */              \
        real *const work = p->plane ? (real *)p->work + omp_get_thread_num() * p->share : NULL;                        \
        char places[4 * few];                                                                                          \
        for (ptrdiff_t r = 0; split && r < h.taps; r++)                                                                \
            pool_split_##sfx(work + r * p->row, x + r * p->wide, p->wide, split);                                      \
        for (ptrdiff_t phase = 0; phase < phases; phase++)                                                             \
            for (ptrdiff_t o = begin + phase, last; o < end;) {                                                        \
                const Window *w = p->w + o;                                                                            \
                const ptrdiff_t taps = w->taps;                                                                        \
                const int32_t base = (int32_t)(h.first * p->kernel + w->first);                                        \
                const real *from = split ? work + w->at / 2 : x + w->at * pixel;                                       \
                const char *here = p->place + at + w->at * pixel;                                                      \
                real *y = plane ? work + phase * plane + o / 2 * pixel : result + o * pixel, *const begun = y;         \
                char *to = p->to + (into + o * pixel) * size;                                                          \
                const int simple = sizeof *x == 4 && p->uniform && p->narrow && taps < 4 && op != POOL_EXACT           \
                    && (op != POOL_MAXIMUM || p->kernel == taps);                                                      \
                const ptrdiff_t kind = simple ? 4 * h.taps + taps : 0;                                                 \
                last = o + w->run * phases;                                                                            \
                const ptrdiff_t run = last < end + phases ? w->run : (end - o + phases - 1) / phases;                  \
                if (last > end) last = end;                                                                            \
                const int same = op == POOL_MEAN_BACKWARD && p->same;                                                  \
                const ptrdiff_t C = p->merged ? run * pixel : pixel, next = p->merged || same ? run * phases : phases; \
                if (kind == 4 + 1 && backward) POOL_RUN(sfx, 1, 1, 2);                                                 \
                else if (kind == 4 + 2) POOL_RUN(sfx, 1, 2, 2);                                                        \
                else if (kind == 8 + 1 && backward) POOL_RUN(sfx, 2, 1, 2);                                            \
                else if (kind == 8 + 2) POOL_RUN(sfx, 2, 2, 2);                                                        \
                else if (kind == 12 + 3) POOL_RUN(sfx, 3, 3, 2);                                                       \
                else if (p->uniform && op <= POOL_MEAN_BACKWARD) POOL_RUN(sfx, h.taps, taps, 1);                       \
                else POOL_RUN(sfx, h.taps, taps, 0);                                                                   \
                for (ptrdiff_t c = C; same && c < run * C; c += c)                                                     \
                    memcpy(begun + c, begun, (c < run * C - c ? c : run * C - c) * sizeof *y);                         \
            }                                                                                                          \
        if (plane && pixel == 1) pool_gather_##sfx(result, work, p->width, 1, plane);                                  \
        else if (plane) pool_gather_##sfx(result, work, p->width, pixel, plane);                                       \
        for (int half = op == POOL_MAXIMUM ? lanes / 2 : 0; half > 0; half /= 2)                                       \
            UNROLLED for (int lane = 0; lane < half; lane++) sum[lane] += sum[lane + half];                            \
        return sum[0] != sum[0];                                                                                       \
    }

/* A maximum is made anew if a NaN, or infinities of both signs, may be among its row's taps. */
#define POOL(sfx, real, whole)                                                                                         \
    POOL_LANES(pool_four_##sfx, real, whole, LANES_##sfx, 4)                                                           \
    POOL_LANES(pool_two_##sfx, real, whole, LANES_##sfx, 2)                                                            \
    POOL_LANES(pool_full_##sfx, real, whole, LANES_##sfx, 1)                                                           \
    POOL_LANES(pool_few_##sfx, real, whole, FEW(real), 1)                                                              \
    POOL_LANES(pool_one_##sfx, real, whole, 1, 1)                                                                      \
    POOL_LONG(pool_long_##sfx, real)                                                                                   \
    POOL_PLANES(pool_gather_##sfx, pool_split_##sfx, real)                                                             \
    POOL_ROW(mean, sfx, real, POOL_MEAN)                                                                               \
    POOL_ROW(mean_backward, sfx, real, POOL_MEAN_BACKWARD)                                                             \
    POOL_ROW(maximum, sfx, real, POOL_MAXIMUM)                                                                         \
    POOL_ROW(exact, sfx, real, POOL_EXACT)                                                                             \
    POOL_ROW(maximum_backward, sfx, real, POOL_MAXIMUM_BACKWARD)                                                       \
    static void pool_row_##sfx(const Pool *p, ptrdiff_t n, ptrdiff_t i, ptrdiff_t o, ptrdiff_t end) {                  \
        if (p->maximum && p->backward) pool_maximum_backward_##sfx(p, n, i, o, end);                                   \
        else if (p->longs) for (; o < end; o++) pool_long_##sfx(p, n, i, o);                                           \
        else if (p->backward) { /* rows of dx that have the same taps are made once, unless in blocks */               \
            const Window *const h = p->h + i;                                                                          \
            const ptrdiff_t size = p->width * p->C, rows = p->blocks ? 0 : p->height;                                  \
            real *const dx = (real *)p->y + (n * p->height + i) * size;                                                \
            if (rows && i && h[-1].at == h->at && h[-1].taps == h->taps) return;                                       \
            pool_mean_backward_##sfx(p, n, i, o, end);                                                                 \
            for (ptrdiff_t k = 1; i + k < rows && h[k].at == h->at && h[k].taps == h->taps; k++)                       \
                memcpy(dx + k * size, dx, size * sizeof *dx);                                                          \
        }                                                                                                              \
        else if (!p->maximum) pool_mean_##sfx(p, n, i, o, end);                                                        \
        else if (pool_maximum_##sfx(p, n, i, o, end)) pool_exact_##sfx(p, n, i, o, end);                               \
    }
POOL(f32, float, int32_t)
POOL(f64, double, int64_t)

/* Backward for n blocks of two by two elements of dx, which have `first` and `second` taps along H and along W; the
   second's begin `apart` after the first's. Every tap is read once, and dx written in the order of its memory. */
#define POOL_BLOCK(name, lanes)                                                                                        \
    TILE_INLINE void name(const Pool *p, const Window *h, const Window *w, int maximum, int first, int second,         \
                          int apart, ptrdiff_t n, const float *x, const char *place, float *y) {                       \
        typedef POOL_TYPE(float, (lanes)) Real;                                                                        \
        typedef POOL_TYPE(int32_t, (lanes)) Whole;                                                                     \
        typedef POOL_TYPE(uint8_t, (lanes)) Narrow;                                                                    \
        const ptrdiff_t C = p->C, row = p->row, next = p->width * C;                                                   \
        const int read = apart + second > first ? apart + second : first;                                              \
        const int32_t down = p->down, right = p->right;                                                                \
        const float scale = (float)(p->per_h[0] * p->per_w[0]);                                                        \
        int32_t base[2][2];                                                                                            \
        for (int a = 0; a < 4; a++) base[a / 2][a % 2] = (int32_t)(h[a / 2].first * p->kernel + w[a % 2].first);       \
        for (; n > 0; n--, x += C, place += C, y += 2 * C)                                                             \
            for (ptrdiff_t c = 0; c < C; c += (lanes)) {                                                               \
                if (c + (lanes) > C) c = C - (lanes);                                                                  \
                Real v[2][2], sum;                                                                                     \
                Whole at[2][2];                                                                                        \
                UNROLLED for (int i = 0; i < 2; i++)                                                                   \
                    UNROLLED for (int j = 0; j < 2; j++) {                                                             \
                        if (i >= read || j >= read) continue;                                                          \
                        v[i][j] = *(const Real *)(x + i * row + j * C + c);                                            \
                        const Narrow *const here = (const Narrow *)(place + i * row + j * C + c);                      \
                        if (maximum && !pool_widen(lanes, here, &at[i][j])) at[i][j] = POOL_CONVERT(*here, Whole);     \
                    }                                                                                                  \
                UNROLLED for (int a = 0; a < 2; a++)                                                                   \
                    UNROLLED for (int b = 0; b < 2; b++) {                                                             \
                        sum = (Real){0};                                                                               \
                        UNROLLED for (int i = 0; i < 2; i++)                                                           \
                            UNROLLED for (int j = 0; j < 2; j++) {                                                     \
                                if (i >= (a ? second : first) || j >= (b ? second : first)) continue;                  \
                                const int r = a * apart + i, s = b * apart + j;                                        \
                                const Whole number = (Whole){0} + (base[a][b] + i * down + j * right);                 \
                                if (!maximum) sum += v[r][s] * scale;                                                  \
                                else sum += (Real)POOL_SELECT(at[r][s] == number, v[r][s], (Real){0});                 \
                            }                                                                                          \
                        *(Real *)(y + a * next + b * C + c) = sum;                                                     \
                    }                                                                                                  \
            }                                                                                                          \
    }
#define POOL_BLOCKS(name, maximum, block)                                                                              \
    POOL_APART void name(const Pool *p, ptrdiff_t image, const Window *h, const Window *w, ptrdiff_t n) {              \
        const ptrdiff_t at = ((image * p->tall + h->at) * p->wide + w->at) * p->C;                                     \
        const float *x = (const float *)p->x + at;                                                                     \
        float *y = (float *)p->y + ((image * p->height + (h - p->h)) * p->width + (w - p->w)) * p->C;                  \
        if (w[0].taps == 2) block(p, h, w, maximum, 2, 1, 1, n, x, p->place + at, y);                                  \
        else if (w[1].taps == 2) block(p, h, w, maximum, 1, 2, 0, n, x, p->place + at, y);                             \
        else block(p, h, w, maximum, 1, 1, 0, n, x, p->place + at, y);                                                 \
    }
POOL_BLOCK(pool_block_wide, LANES_f32)
POOL_BLOCK(pool_block_few, FEW(float))
POOL_BLOCKS(pool_maximum_blocks, 1, pool_block_wide)
POOL_BLOCKS(pool_maximum_blocks_few, 1, pool_block_few)
POOL_BLOCKS(pool_mean_blocks, 0, pool_block_wide)
POOL_BLOCKS(pool_mean_blocks_few, 0, pool_block_few)

/* Which of these taps two windows have: 1 and 1, 1 and 2, 2 and 1, or others: 0 */
static inline int pool_pattern(const Window *two) {
    const ptrdiff_t apart = two[1].at - two[0].at, first = two[0].taps, second = two[1].taps;
    if (first == 2 && second == 1 && apart == 1) return 3;
    return first == 1 && apart == 0 && (second == 1 || second == 2) ? (int)second : 0;
}

/* A unit of work: a row of the result, or two */
static void pool_f32(const void *job, ptrdiff_t unit, void *kind) {
    const Pool *p = job;
    const ptrdiff_t i = unit % p->units * (1 + p->blocks), n = unit / p->units;
    const int rows = p->blocks && i + 1 < p->height ? 2 : 1, pattern = rows == 2 ? pool_pattern(p->h + i) : 0;
    for (ptrdiff_t o = 0, end; o < p->width; o = end) {
        const Window *w = p->w + o;
        end = p->width;
        if (pattern && o + 1 < end) {
            end = o + 2 * (w[0].run < w[1].run ? w[0].run : w[1].run);
            if (pool_pattern(w) == pattern) {
                (p->C < LANES_f32 ? (p->maximum ? pool_maximum_blocks_few : pool_mean_blocks_few)
                 : p->maximum ? pool_maximum_blocks : pool_mean_blocks)(p, n, p->h + i, w, (end - o) / 2);
                continue;
            }
        }
        for (int a = 0; a < rows; a++) pool_row_f32(p, n, i + a, o, end);
    }
    (void)kind;
}
static void pool_f64(const void *job, ptrdiff_t unit, void *kind) {
    const Pool *p = job;
    pool_row_f64(p, unit / p->height, unit % p->height, 0, p->width);
    (void)kind;
}
