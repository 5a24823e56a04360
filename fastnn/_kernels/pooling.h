/* A row of pooling's output, all taps of a window for some channels at a time: four vectors, one, or part of one.

   Backward is the same walk as forward: an element of dx gathers from the outputs whose windows hold it. Sums and
   maxima stay in registers, every element is written once, and no branch depends on data but for NaN. Outputs whose
   taps lie alike, one step on, make a run; backward of a stride, each phase of the pixels has runs of its own, but for
   windows of 2x2 or 3x3 places two steps apart, whose dx is made in blocks of two by two. Channels that are no multiple
   of a vector are covered by vectors that overlap; fewer than a vector, by one that spills over into the next pixel of
   the row, which is written afterwards. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "tile.h"

#if defined(__GNUC__)
#define FEW(real) (16 / (int)sizeof(real))
#define POOL_TYPE(type, lanes) __attribute__((vector_size(lanes * sizeof(type)), aligned(sizeof(type)), may_alias)) type
#define POOL_SELECT(mask, a, b) (((Whole)(a) & (mask)) | ((Whole)(b) & ~(mask)))
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

/* Steps of a float32 vector whose instructions GCC does not find: the larger of two, the first if they are equal, and a
   number where that is the second; the sum of those whose place is a number. */
#define pool_larger(lanes, ...) POOL_LANES_OF(lanes, pool_larger, __VA_ARGS__)
#define pool_gather(lanes, ...) POOL_LANES_OF(lanes, pool_gather, __VA_ARGS__)
#if defined(__GNUC__) && defined(__SSE4_1__)
#include <immintrin.h>
#define POOL_HERE(v) __asm__ volatile("" : "+v"(v)) /* not earlier, not later: GCC would run out of registers */
#define POOL_POINTER(p) __asm__ volatile("" : "+r"(p))
#define POOL_LANES_OF(lanes, name, ...) do {                                                                           \
        if ((lanes) == 4) name##_4(__VA_ARGS__);                                                                       \
        if ((lanes) == 8) name##_8(__VA_ARGS__);                                                                       \
        if ((lanes) == 16) name##_16(__VA_ARGS__);                                                                     \
    } while (0)
TILE_INLINE void pool_larger_4(void *best, const void *tap, void *at, const void *number) {
    const __m128 v = _mm_loadu_ps(tap), old = _mm_loadu_ps(best);
    _mm_storeu_ps(at, _mm_blendv_ps(_mm_loadu_ps(at), _mm_loadu_ps(number), _mm_cmpgt_ps(v, old)));
    _mm_storeu_ps(best, _mm_max_ps(v, old));
}
TILE_INLINE void pool_gather_4(void *sum, const void *v, const void *place, int number) {
    int four;
    memcpy(&four, place, sizeof four);
    const __m128i take = _mm_cmpeq_epi32(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)), _mm_set1_epi32(number));
    _mm_storeu_ps(sum, _mm_add_ps(_mm_loadu_ps(sum), _mm_and_ps(_mm_castsi128_ps(take), _mm_loadu_ps(v))));
}
#if defined(__AVX2__)
TILE_INLINE void pool_larger_8(void *best, const void *tap, void *at, const void *number) {
    const __m256 v = _mm256_loadu_ps(tap), old = _mm256_loadu_ps(best);
    const __m256 take = _mm256_cmp_ps(v, old, _CMP_GT_OQ);
    _mm256_storeu_ps(at, _mm256_blendv_ps(_mm256_loadu_ps(at), _mm256_loadu_ps(number), take));
    _mm256_storeu_ps(best, _mm256_max_ps(v, old));
}
TILE_INLINE void pool_gather_8(void *sum, const void *v, const void *place, int number) {
    const __m256i take = _mm256_cmpeq_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(place)), _mm256_set1_epi32(number));
    const __m256 part = _mm256_and_ps(_mm256_castsi256_ps(take), _mm256_loadu_ps(v));
    _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), part));
}
#else
#define pool_larger_8(...) (void)0
#define pool_gather_8(...) (void)0
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define POOL_STEP 16
TILE_INLINE void pool_larger_16(void *best, const void *tap, void *at, const void *number) {
    const __m512 v = _mm512_loadu_ps(tap), old = _mm512_loadu_ps(best);
    const __mmask16 take = _mm512_cmp_ps_mask(v, old, _CMP_GT_OQ);
    _mm512_storeu_si512(at, _mm512_mask_mov_epi32(_mm512_loadu_si512(at), take, _mm512_loadu_si512(number)));
    _mm512_storeu_ps(best, _mm512_max_ps(v, old));
}
TILE_INLINE void pool_gather_16(void *sum, const void *v, const void *place, int number) {
    const __mmask16 take = _mm_cmpeq_epi8_mask(_mm_loadu_si128(place), _mm_set1_epi8((char)number));
    const __m512 old = _mm512_loadu_ps(sum);
    _mm512_storeu_ps(sum, _mm512_mask_add_ps(old, take, old, _mm512_loadu_ps(v)));
}
#else
#define POOL_STEP (VECTOR_BYTES / 4)
#define pool_larger_16(...) (void)0
#define pool_gather_16(...) (void)0
#endif
#else
#define POOL_STEP 0 /* the most lanes that there are steps for */
#define POOL_HERE(v) (void)0
#define POOL_POINTER(p) (void)0
#define POOL_LANES_OF(...) (void)0
#endif

enum { POOL_MEAN, POOL_MEAN_BACKWARD, POOL_MAXIMUM, POOL_EXACT, POOL_MAXIMUM_BACKWARD }; /* EXACT: right for NaN too */

typedef struct { /* along W: the first tap of an output, how many there are, and the first's place in its window */
    ptrdiff_t at, column, taps, first; /* at: in elements, column: in pixels */
    ptrdiff_t run; /* how many outputs, `phases` apart, have as many taps, with a whole vector each a step on */
} Window;

typedef struct {
    int maximum, backward;
    int narrow, uniform, blocks; /* places are bytes; all averages have one size; rows of the result come in pairs */
    int32_t kernel, down, right; /* places in a window's row; by how many they rise to the next row of taps and tap */
    const int32_t *numbers; /* of the taps of 3x3 places */
    ptrdiff_t C, outputs, row, col, reach; /* elements from one row of taps to the next, from tap to tap, in a row */
    ptrdiff_t phases, step; /* of a run: pixels from output to output, and elements from tap to tap */
    ptrdiff_t soon, each; /* bytes to what the next row reads, and how much of it to fetch at each output */
    ptrdiff_t tap_h, tap_w; /* averages: from tap to tap in the tables, which are 1 / a window's height and width */
    const double *per_w;
    const Window *windows;
    const char *end; /* of x */
} Row;

typedef struct { /* outputs from begin to end of a row, or of several */
    const Window *h; /* along H, of the first row */
    const double *per_h;
    const void *x; /* the image or, in the function of a row, where its taps begin */
    const char *place;
    void *y; /* where the first row begins */
    char *to;
    ptrdiff_t begin, end;
} Part;

/* Forward y = the taps' maximum, and place = the number of the tap it is from; or y = their mean. Backward x is dy and
   y is dx = the sum of those taps whose `place` is their number, or of all, each over its window's size. `w`: the
   output's window, whose first tap is at x; `to`: where y's place goes; `sum`: of a maximum's taps, NaN if one is;
   `u` counts vectors. `known`: all averages have one size; 2: there are as many taps as literals say, and places are
   bytes. */
#define POOL_TAP(real, whole, lanes, vectors)                                                                          \
    {                                                                                                                  \
        const ptrdiff_t tap = i * row + j * col;                                                                       \
        const real *from = x + tap;                                                                                    \
        const char *here = place + (narrow ? tap : 4 * tap);                                                           \
        if (known == 2 && vectors > 1 && op != POOL_MEAN) POOL_POINTER(from);                                          \
        if (known == 2 && vectors > 1 && op == POOL_MAXIMUM_BACKWARD) POOL_POINTER(here);                              \
        const whole number = maximum && literal ? r->numbers[3 * i + j]                                                \
            : (whole)(i * down + j * right + (maximum ? 0 : base));                                                    \
        Whole now = (Whole){0} + number;                                                                               \
        if (maximum && by_hand && vectors > 1) POOL_HERE(now); /* else GCC loads it for each vector */                 \
        const real part = op != POOL_MEAN_BACKWARD ? (real)1 : known ? scale                                           \
            : (real)(per_h[i * r->tap_h] * r->per_w[w->column + j * r->tap_w]);                                        \
        UNROLLED for (int u = 0; u < vectors; u++) {                                                                   \
            v = ((const Real *)from)[u];                                                                               \
            if (op == POOL_MEAN || op == POOL_MEAN_BACKWARD) best[u] += v * part;                                      \
            else if (op == POOL_MAXIMUM && by_hand) {                                                                  \
                POOL_HERE(v);                                                                                          \
                total[u] += v;                                                                                         \
                POOL_HERE(total[u]);                                                                                   \
                if (known == 2 && i + j == 0) best[u] = v;                                                             \
                else pool_larger(lanes, best + u, &v, at + u, &now);                                                   \
            } else if (op == POOL_MAXIMUM || op == POOL_EXACT) {                                                       \
                total[u] += v;                                                                                         \
                take = v > best[u]; /* a later tap wins only if it is greater or NaN, as in PyTorch */                 \
                if (op == POOL_EXACT) take |= v != v;                                                                  \
                best[u] = (Real)POOL_SELECT(take, v, best[u]);                                                         \
                at[u] = POOL_SELECT(take, now, at[u]);                                                                 \
            } else if (by_hand && narrow) pool_gather(lanes, best + u, &v, here + u * (lanes), (int)number);           \
            else {                                                                                                     \
                if (!narrow) take = POOL_CONVERT(((const Wide *)here)[u], Whole);                                      \
                else take = POOL_BYTES(((const Narrow *)here)[u]);                                                     \
                take = take == (Whole){0} + number;                                                                    \
                best[u] += (Real)POOL_SELECT(take, v, (Real){0});                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
#define POOL_LANES(name, real, whole, lanes, vectors)                                                                  \
    TILE_INLINE void name(const Row *r, const double *per_h, int op, ptrdiff_t rows, ptrdiff_t taps, int known,        \
                          real all, const Window *w, int32_t base, const real *x, const char *place, real *y,          \
                          char *to, real *sum) {                                                                       \
        typedef POOL_TYPE(real, (lanes)) Real;                                                                         \
        typedef POOL_TYPE(whole, (lanes)) Whole;                                                                       \
        typedef POOL_TYPE(uint8_t, (lanes)) Narrow;                                                                    \
        typedef POOL_TYPE(uint16_t, (lanes)) Half;                                                                     \
        typedef POOL_TYPE(int32_t, (lanes)) Wide;                                                                      \
        const int maximum = op == POOL_MAXIMUM || op == POOL_EXACT;                                                    \
        const int by_hand = sizeof(real) == 4 && lanes >= 4 && lanes <= POOL_STEP;                                     \
        const int literal = sizeof(real) == 4 && known == 2, narrow = literal || r->narrow;                            \
        const real scale = known ? all : (real)(per_h[0] * r->per_w[op == POOL_MEAN ? w - r->windows : 0]);            \
        const ptrdiff_t row = r->row, col = r->col;                                                                    \
        const int32_t down = r->down, right = r->right;                                                                \
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
            if (narrow) ((Narrow *)to)[u] = POOL_CONVERT(at[u], Narrow);                                               \
            else ((Wide *)to)[u] = POOL_CONVERT(at[u], Wide);                                                          \
        }                                                                                                              \
    }

/* Literals for the taps of windows of 2x2 and 3x3 places, in float32 */
#define POOL_SHAPES(call, ...)                                                                                         \
    const int simple = sizeof *x == 4 && r->uniform && r->narrow && taps < 4 && op != POOL_EXACT;                      \
    const ptrdiff_t kind = simple ? 4 * h->taps + taps : 0;                                                            \
    if (kind == 4 + 1 && backward) call(1, 1, 2, __VA_ARGS__);                                                         \
    else if (kind == 4 + 2 && backward) call(1, 2, 2, __VA_ARGS__);                                                    \
    else if (kind == 8 + 1 && backward) call(2, 1, 2, __VA_ARGS__);                                                    \
    else if (kind == 8 + 2) call(2, 2, 2, __VA_ARGS__);                                                                \
    else if (kind == 12 + 3) call(3, 3, 2, __VA_ARGS__);                                                               \
    else if (r->uniform && op <= POOL_MEAN_BACKWARD) call(h->taps, taps, 1, __VA_ARGS__);                              \
    else call(h->taps, taps, 0, __VA_ARGS__);

/* A run of outputs of at least a vector of channels, and one of fewer. These are written together with what follows in
   memory, unless that lies outside the row; beyond the end of x nothing is read. */
#define POOL_WIDE(rows, taps, known, some, two, four)                                                                  \
    do for (; o < last; POOL_NEXT) {                                                                                   \
        ptrdiff_t c = 0;                                                                                               \
        for (const char *b = soon + o * r->each, *const e = b + r->each; b < e; b += 256) {                            \
            PREFETCH(b, 0, 2);                                                                                         \
            PREFETCH(b + 64, 0, 2);                                                                                    \
            PREFETCH(b + 128, 0, 2);                                                                                   \
            PREFETCH(b + 192, 0, 2);                                                                                   \
        }                                                                                                              \
        for (; c + 4 * lanes <= C; c += 4 * lanes) four(POOL_ARGUMENTS(rows, taps, known, c));                         \
        for (; c + 2 * lanes <= C; c += 2 * lanes) two(POOL_ARGUMENTS(rows, taps, known, c));                          \
        for (; c < C; c += lanes) {                                                                                    \
            if (c + lanes > C) c = C - lanes;                                                                          \
            some(POOL_ARGUMENTS(rows, taps, known, c));                                                                \
        }                                                                                                              \
    } while (0)
#define POOL_NARROW(rows, taps, known, some, one, none)                                                                \
    do for (; o < last; POOL_NEXT) {                                                                                   \
        from = x + r->windows[o].at;                                                                                   \
        here = place + r->windows[o].at * size;                                                                        \
        base = (int32_t)(h->first * r->kernel + r->windows[o].first);                                                  \
        if (!safe && (const char *)(from + (rows - 1) * r->row + (taps - 1) * r->col + lanes) > r->end)                \
            for (ptrdiff_t c = 0; c < C; c++) one(POOL_ARGUMENTS(rows, taps, known, c));                               \
        else if (o <= inside) some(POOL_ARGUMENTS(rows, taps, known, 0));                                              \
        else {                                                                                                         \
            some(r, per_h, op, rows, taps, known, all, r->windows + o, base, from, here, spare, places, sum);          \
            memcpy(y, spare, C * sizeof *y);                                                                           \
            if (op == POOL_MAXIMUM || op == POOL_EXACT) memcpy(to, places, C * size);                                  \
        }                                                                                                              \
    } while (0)
#define POOL_NEXT o += r->phases, from += r->step, here += r->step * size, y += hop, to += hop * size
#define POOL_ARGUMENTS(rows, taps, known, c)                                                                           \
    r, per_h, op, rows, taps, known, all, r->windows + o, base, from + (c), here + (c) * size, y + (c),                \
    to + (c) * size, sum
#define POOL_ROW(name, real, lanes_, fill, ...)                                                                        \
    TILE_INLINE int name(const Row *r, const Part *p, int op) {                                                        \
        const Window *const h = p->h;                                                                                  \
        const double *const per_h = p->per_h;                                                                          \
        const real *const x = p->x;                                                                                    \
        const char *const place = p->place;                                                                            \
        real *const y0 = p->y;                                                                                         \
        char *const to0 = p->to;                                                                                       \
        const ptrdiff_t end = p->end;                                                                                  \
        const int backward = op == POOL_MEAN_BACKWARD || op == POOL_MAXIMUM_BACKWARD;                                  \
        const ptrdiff_t C = r->C, lanes = lanes_, size = r->narrow ? 1 : 4, hop = r->phases * C;                       \
        const ptrdiff_t inside = C < lanes ? r->outputs - (lanes + C - 1) / C : 0;                                     \
        const int safe = (const char *)(x + (h->taps - 1) * r->row + r->reach + lanes) <= r->end;                      \
        const real all = (real)(per_h[0] * r->per_w[0]);                                                               \
        const char *soon = (const char *)x + r->soon;                                                                  \
        real spare[lanes_], sum[lanes_] = {0};                                                                         \
        char places[4 * (lanes_)];                                                                                     \
        (void)inside, (void)safe, (void)spare, (void)places, (void)soon;                                               \
        for (ptrdiff_t phase = 0; phase < r->phases; phase++)                                                          \
            for (ptrdiff_t o = p->begin + phase, last; o < end;) {                                                     \
                const ptrdiff_t taps = r->windows[o].taps;                                                             \
                int32_t base = (int32_t)(h->first * r->kernel + r->windows[o].first);                                  \
                const real *from = x + r->windows[o].at;                                                               \
                const char *here = place + r->windows[o].at * size;                                                    \
                real *y = y0 + o * C;                                                                                  \
                char *to = to0 + o * C * size;                                                                         \
                last = o + r->windows[o].run * r->phases;                                                              \
                if (last > end) last = end;                                                                            \
                POOL_SHAPES(fill, __VA_ARGS__)                                                                         \
            }                                                                                                          \
        for (int half = lanes_ / 2; half > 0; half /= 2)                                                               \
            UNROLLED for (int lane = 0; lane < half; lane++) sum[lane] += sum[lane + half];                            \
        return sum[0] != sum[0];                                                                                       \
    }

/* Functions of their own: in one, GCC runs out of registers for addresses */
#define POOL_OP(name, sfx, real, op)                                                                                   \
    POOL_APART int pool_##name##_wide_##sfx(const Row *r, const Part *p) { return pool_row_wide_##sfx(r, p, op); }     \
    POOL_APART int pool_##name##_narrow_##sfx(const Row *r, const Part *p) {                                           \
        if (r->C <= FEW(real)) return pool_row_few_##sfx(r, p, op);                                                    \
        if (r->C <= HALF_##sfx) return pool_row_half_##sfx(r, p, op);                                                  \
        return pool_row_full_##sfx(r, p, op);                                                                          \
    }                                                                                                                  \
    static inline int pool_##name##_##sfx(const Row *r, const Part *p) {                                               \
        return r->C >= LANES_##sfx ? pool_##name##_wide_##sfx(r, p) : pool_##name##_narrow_##sfx(r, p);                \
    }

/* A maximum is made anew if a NaN, or infinities of both signs, may be among its row's taps. */
#define POOL(sfx, real, whole)                                                                                         \
    POOL_LANES(pool_four_##sfx, real, whole, LANES_##sfx, 4)                                                           \
    POOL_LANES(pool_two_##sfx, real, whole, LANES_##sfx, 2)                                                            \
    POOL_LANES(pool_full_##sfx, real, whole, LANES_##sfx, 1)                                                           \
    POOL_LANES(pool_half_##sfx, real, whole, HALF_##sfx, 1)                                                            \
    POOL_LANES(pool_few_##sfx, real, whole, FEW(real), 1)                                                              \
    POOL_LANES(pool_one_##sfx, real, whole, 1, 1)                                                                      \
    POOL_ROW(pool_row_wide_##sfx, real, LANES_##sfx, POOL_WIDE, pool_full_##sfx, pool_two_##sfx, pool_four_##sfx)      \
    POOL_ROW(pool_row_full_##sfx, real, LANES_##sfx, POOL_NARROW, pool_full_##sfx, pool_one_##sfx, )                   \
    POOL_ROW(pool_row_half_##sfx, real, HALF_##sfx, POOL_NARROW, pool_half_##sfx, pool_one_##sfx, )                    \
    POOL_ROW(pool_row_few_##sfx, real, FEW(real), POOL_NARROW, pool_few_##sfx, pool_one_##sfx, )                       \
    POOL_OP(mean, sfx, real, POOL_MEAN)                                                                                \
    POOL_OP(mean_backward, sfx, real, POOL_MEAN_BACKWARD)                                                              \
    POOL_OP(maximum, sfx, real, POOL_MAXIMUM)                                                                          \
    POOL_OP(exact, sfx, real, POOL_EXACT)                                                                              \
    POOL_OP(maximum_backward, sfx, real, POOL_MAXIMUM_BACKWARD)                                                        \
    static void pool_row_##sfx(const Row *r, const Part *image, ptrdiff_t i, ptrdiff_t begin, ptrdiff_t end) {         \
        const ptrdiff_t size = r->narrow ? 1 : 4, next = i * r->outputs * r->C, at = image->h[i].at * r->reach;        \
        const Part p = {image->h + i, image->per_h + (r->backward ? image->h[i].at : i), (const real *)image->x + at,  \
                        image->place + at * size, (real *)image->y + next, image->to + next * size, begin, end};       \
        if (r->maximum && r->backward) pool_maximum_backward_##sfx(r, &p);                                             \
        else if (r->backward) pool_mean_backward_##sfx(r, &p);                                                         \
        else if (!r->maximum) pool_mean_##sfx(r, &p);                                                                  \
        else if (pool_maximum_##sfx(r, &p)) pool_exact_##sfx(r, &p);                                                   \
    }

#define HALF_f32 (LANES_f32 / 2 > FEW(float) ? LANES_f32 / 2 : FEW(float))
#define HALF_f64 (LANES_f64 / 2 > FEW(double) ? LANES_f64 / 2 : FEW(double))
POOL(f32, float, int32_t)
POOL(f64, double, int64_t)

/* Backward for n blocks of two by two elements of dx, which have `first` and `second` taps along H and along W; the
   second's begin `apart` after the first's. Every tap is read once, and dx written in the order of its memory. */
TILE_INLINE void pool_blocks(const Row *r, const Window *h, const Window *w, int op, int first, int second, int apart,
                             ptrdiff_t n, float scale, const float *x, const char *place, float *y) {
    typedef POOL_TYPE(float, LANES_f32) Real;
    typedef POOL_TYPE(uint8_t, LANES_f32) Narrow;
    const ptrdiff_t C = r->C, row = r->row, next = r->outputs * C;
    const int read = apart + second > first ? apart + second : first;
    const int32_t down = r->down, right = r->right;
    int32_t base[2][2];
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) base[a][b] = (int32_t)(h[a].first * r->kernel + w[b].first);
    for (; n > 0; n--, x += C, place += C, y += 2 * C)
        for (ptrdiff_t c = 0; c < C; c += LANES_f32) {
            if (c + LANES_f32 > C) c = C - LANES_f32;
            Real v[2][2], sum;
            Narrow at[2][2];
            UNROLLED for (int i = 0; i < 2; i++)
                UNROLLED for (int j = 0; j < 2; j++) {
                    if (i >= read || j >= read) continue;
                    v[i][j] = *(const Real *)(x + i * row + j * C + c);
                    if (op == POOL_MAXIMUM_BACKWARD) at[i][j] = *(const Narrow *)(place + i * row + j * C + c);
                }
            UNROLLED for (int a = 0; a < 2; a++)
                UNROLLED for (int b = 0; b < 2; b++) {
                    sum = (Real){0};
                    UNROLLED for (int i = 0; i < 2; i++)
                        UNROLLED for (int j = 0; j < 2; j++) {
                            const int p = a * apart + i, q = b * apart + j;
                            if (i >= (a ? second : first) || j >= (b ? second : first)) continue;
                            if (op == POOL_MEAN_BACKWARD) sum += v[p][q] * scale;
                            else pool_gather(LANES_f32, &sum, &v[p][q], &at[p][q], base[a][b] + i * down + j * right);
                        }
                    *(Real *)(y + a * next + b * C + c) = sum;
                }
        }
}
#define POOL_BLOCKS(name, op)                                                                                          \
    POOL_APART void name(const Row *r, const Window *h, const Window *w, ptrdiff_t n, float scale, const float *x,     \
                         const char *place, float *y) {                                                                \
        if (w[0].taps == 2) pool_blocks(r, h, w, op, 2, 1, 1, n, scale, x, place, y);                                  \
        else if (w[1].taps == 2) pool_blocks(r, h, w, op, 1, 2, 0, n, scale, x, place, y);                             \
        else pool_blocks(r, h, w, op, 1, 1, 0, n, scale, x, place, y);                                                 \
    }
POOL_BLOCKS(pool_maximum_blocks, POOL_MAXIMUM_BACKWARD)
POOL_BLOCKS(pool_mean_blocks, POOL_MEAN_BACKWARD)

/* Which of these taps two windows have, `step` from one tap to the next: 1 and 1, 1 and 2, 2 and 1, or others: 0 */
static inline int pool_pattern(const Window *two, ptrdiff_t step) {
    const ptrdiff_t apart = two[1].at - two[0].at, first = two[0].taps, second = two[1].taps;
    if (first == 2 && second == 1 && apart == step) return 3;
    return first == 1 && apart == 0 && (second == 1 || second == 2) ? (int)second : 0;
}

static void pool_f32(const Row *r, const Part *p, ptrdiff_t rows) {
    const int pattern = rows == 2 ? pool_pattern(p->h, 1) : 0;
    const Window *w = r->windows;
    for (ptrdiff_t o = 0, n; o < r->outputs; o += n, w += n) {
        n = r->outputs - o;
        if (pattern && n >= 2) {
            n = 2 * (w[0].run < w[1].run ? w[0].run : w[1].run);
            if (pool_pattern(w, r->C) == pattern) {
                const ptrdiff_t at = p->h->at * r->reach + w->at;
                (r->maximum ? pool_maximum_blocks : pool_mean_blocks)(
                    r, p->h, w, n / 2, (float)(p->per_h[0] * r->per_w[0]), (const float *)p->x + at, p->place + at,
                    (float *)p->y + o * r->C);
                continue;
            }
        }
        for (ptrdiff_t i = 0; i < rows; i++) pool_row_f32(r, p, i, o, o + n);
    }
}
static void pool_f64(const Row *r, const Part *p, ptrdiff_t rows) {
    for (ptrdiff_t i = 0; i < rows; i++) pool_row_f64(r, p, i, 0, r->outputs);
}
#define pool(kind, r, p, rows) _Generic((kind), float *: pool_f32, default: pool_f64)(r, p, rows)
