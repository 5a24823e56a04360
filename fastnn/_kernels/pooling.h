/* A row of pooling's output, all taps of a window for some channels at a time: four vectors, one, or part of one.

   Backward is the same walk as forward: an element of dx gathers from the outputs whose windows hold it. Sums and maxima
   stay in registers, every element is written once, and no branch depends on data. Channels that are no multiple of a
   vector are covered by vectors that overlap; fewer than a vector, by one that spills over into the next pixel of the
   row, which is written afterwards. */
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
#else
#define FEW(real) 1
#define POOL_TYPE(type, lanes) type
#define POOL_SELECT(mask, a, b) ((mask) ? (a) : (b))
#define POOL_CONVERT(a, type) ((type)(a))
#endif

typedef struct { /* along W: the first tap of an output, how many there are, and which place the first has in its window */
    ptrdiff_t at, column, taps, first; /* at: in elements, column: in pixels */
} Window;

typedef struct {
    int maximum, backward, narrow, uniform; /* narrow: places are bytes; uniform: all averages have one size */
    int32_t number, down, right; /* of the first row's taps, and by how much it rises to the next row and tap */
    ptrdiff_t C, outputs, rows, row, col, reach; /* rows of taps; elements from one to the next, from tap to tap, in a row */
    ptrdiff_t tap_h, tap_w; /* averages: from tap to tap in the tables, which are 1 / a window's height and width */
    const double *per_h, *per_w;
    const Window *windows;
    const char *end; /* of x */
} Row;

/* Forward y = the taps' maximum, and place = the number of the tap it is from; or y = their mean. Backward x is dy and y
   is dx = the sum of those taps whose `place` is their number, or of all, each over its window's size. `to`: where y's
   place goes; `u` counts vectors. Rows and taps are literals for the windows that matter most, whose averages are
   uniform. GCC widens bytes by vector instructions if it is asked to double them step by step. */
#define POOL_LANES(name, real, whole, lanes, vectors)                                                                     \
    TILE_INLINE void name(const Row *r, int maximum, int backward, ptrdiff_t rows, ptrdiff_t taps, int uniform,           \
                          real all, const Window *w, ptrdiff_t c, const real *x, const char *place, real *y, char *to) {            \
        typedef POOL_TYPE(real, (lanes)) Real;                                                                            \
        typedef POOL_TYPE(whole, (lanes)) Whole;                                                                          \
        typedef POOL_TYPE(uint8_t, (lanes)) Narrow;                                                                       \
        typedef POOL_TYPE(uint16_t, (lanes)) Half;                                                                        \
        typedef POOL_TYPE(int32_t, (lanes)) Wide;                                                                         \
        const ptrdiff_t row = r->row, col = r->col;                                                                       \
        const real scale = uniform ? all : (real)(r->per_h[0] * r->per_w[backward ? 0 : w - r->windows]);                 \
        Real best[vectors], v;                                                                                            \
        Whole at[vectors], take;                                                                                          \
        UNROLLED for (int u = 0; u < vectors; u++) {                                                                      \
            best[u] = (Real){0} + (real)(maximum && !backward ? -INFINITY : 0);                                           \
            at[u] = (Whole){0} + (whole)(r->number + w->first);                                                           \
        }                                                                                                                 \
        for (ptrdiff_t i = 0; i < rows; i++)                                                                              \
            for (ptrdiff_t j = 0; j < taps; j++) {                                                                        \
                const ptrdiff_t tap = w->at + c + i * row + j * col;                                                      \
                const whole number = (whole)(r->number + w->first + i * r->down + j * r->right);                          \
                const Whole here = (Whole){0} + number;                                                                   \
                const real part = maximum || !backward ? (real)1 : uniform ? scale                                        \
                    : (real)(r->per_h[i * r->tap_h] * r->per_w[w->column + j * r->tap_w]);                                \
                UNROLLED for (int u = 0; u < vectors; u++) {                                                              \
                    v = ((const Real *)(x + tap))[u];                                                                     \
                    if (!maximum) best[u] += v * part;                                                                    \
                    else if (backward) {                                                                                  \
                        if (r->narrow)                                                                                    \
                            take = POOL_CONVERT(POOL_CONVERT(POOL_CONVERT(((const Narrow *)(place + tap))[u], Half), Wide), Whole); \
                        else take = POOL_CONVERT(((const Wide *)(place + 4 * tap))[u], Whole);                            \
                        take = take == here;                                                                              \
                        best[u] += (Real)POOL_SELECT(take, v, (Real){0});                                                 \
                    } else { /* a later tap wins only if it is greater or NaN, as in PyTorch */                           \
                        take = (v > best[u]) | (v != v);                                                                  \
                        best[u] = (Real)POOL_SELECT(take, v, best[u]);                                                    \
                        at[u] = POOL_SELECT(take, here, at[u]);                                                           \
                    }                                                                                                     \
                }                                                                                                         \
            }                                                                                                             \
        UNROLLED for (int u = 0; u < vectors; u++) {                                                                      \
            if (!maximum && !backward) best[u] *= scale;                                                                  \
            ((Real *)y)[u] = best[u];                                                                                     \
            if (!maximum || backward) continue;                                                                           \
            if (r->narrow) ((Narrow *)to)[u] = POOL_CONVERT(at[u], Narrow);                                               \
            else ((Wide *)to)[u] = POOL_CONVERT(at[u], Wide);                                                             \
        }                                                                                                                 \
    }

/* Literals for the taps of windows of 2x2 and 3x3 places, 2 apart, in float32 */
#define POOL_SHAPES(call, ...)                                                                                               \
    const int known = sizeof *x == 4 && r.uniform && r.windows[o].taps < 4;                                                               \
    const ptrdiff_t kind = known ? 4 * r.rows + r.windows[o].taps : 0;                                                    \
    if (kind == 4 + 1 && backward) call(1, 1, 1, __VA_ARGS__);                                                            \
    else if (kind == 4 + 2 && backward) call(1, 2, 1, __VA_ARGS__);                                                       \
    else if (kind == 8 + 1 && backward) call(2, 1, 1, __VA_ARGS__);                                                       \
    else if (kind == 8 + 2) call(2, 2, 1, __VA_ARGS__);                                                                   \
    else if (kind == 12 + 3 && !backward) call(3, 3, 1, __VA_ARGS__);                                                     \
    else call(r.rows, r.windows[o].taps, 0, __VA_ARGS__);

/* A row of outputs of at least a vector of channels, and one of fewer. These are written together with what follows in
   memory, unless that lies outside the row; beyond the end of x nothing is read. */
#define POOL_WIDE(rows, taps, uniform, some, two, four) do {                                                                             \
        ptrdiff_t c = 0;                                                                                                  \
        for (; c + 4 * lanes <= C; c += 4 * lanes) four(POOL_ARGUMENTS(rows, taps, uniform, c));                          \
        for (; c + 2 * lanes <= C; c += 2 * lanes) two(POOL_ARGUMENTS(rows, taps, uniform, c));                           \
        for (; c < C; c += lanes) {                                                                                       \
            if (c + lanes > C) c = C - lanes;                                                                             \
            some(POOL_ARGUMENTS(rows, taps, uniform, c));                                                                 \
        }                                                                                                                 \
    } while (0)
#define POOL_NARROW(rows, taps, uniform, some, one, none) do {                                                                           \
        if (!safe && (const char *)(x + r.windows[o].at + (rows - 1) * r.row + (taps - 1) * r.col + lanes) > r.end)       \
            for (ptrdiff_t c = 0; c < C; c++) one(POOL_ARGUMENTS(rows, taps, uniform, c));                                \
        else if (o <= inside) some(POOL_ARGUMENTS(rows, taps, uniform, 0));                                               \
        else {                                                                                                            \
            some(&r, maximum, backward, rows, taps, uniform, all, r.windows + o, 0, x, place, spare, places);             \
            memcpy(y, spare, C * sizeof *y);                                                                              \
            if (maximum && !backward) memcpy(to, places, C * size);                                                       \
        }                                                                                                                 \
    } while (0)
#define POOL_ARGUMENTS(rows, taps, uniform, c) \
    &r, maximum, backward, rows, taps, uniform, all, r.windows + o, c, x, place, y + (c), to + (c) * size
#define POOL_ROW(name, real, lanes_, fill, ...)                                                               \
    TILE_INLINE void name(const Row r, int maximum, int backward, const real *x, const char *place, real *y, char *to) {  \
        const ptrdiff_t C = r.C, lanes = lanes_;                     \
        const ptrdiff_t size = r.narrow ? 1 : 4, inside = r.outputs - (lanes + C - 1) / C;                                \
        const int safe = (const char *)(x + (r.rows - 1) * r.row + r.reach + lanes) <= r.end;                             \
        const real all = (real)(r.per_h[0] * r.per_w[0]);                                                                 \
        real spare[lanes_];                                                                                               \
        char places[4 * (lanes_)];                                                                                        \
        (void)inside, (void)safe, (void)spare, (void)places;                                                              \
        for (ptrdiff_t o = 0; o < r.outputs; o++, y += C, to += size * C) { POOL_SHAPES(fill, __VA_ARGS__) }                           \
    }

/* x and place: where rows of taps begin; y and to: where the row of outputs does */
#define POOL_OP(sfx, maximum, backward)                                                                                   \
    if (r->C <= FEW(*x) && r->C < LANES_##sfx) pool_row_few_##sfx(*r, maximum, backward, x, place, y, to);                \
    else if (r->C <= HALF_##sfx && r->C < LANES_##sfx) pool_row_half_##sfx(*r, maximum, backward, x, place, y, to);       \
    else if (r->C < LANES_##sfx) pool_row_full_##sfx(*r, maximum, backward, x, place, y, to);                             \
    else pool_row_wide_##sfx(*r, maximum, backward, x, place, y, to);
#define POOL(sfx, real, whole)                                                                                            \
    POOL_LANES(pool_four_##sfx, real, whole, LANES_##sfx, 4)                                                              \
    POOL_LANES(pool_two_##sfx, real, whole, LANES_##sfx, 2)                                                              \
    POOL_LANES(pool_full_##sfx, real, whole, LANES_##sfx, 1)                                                              \
    POOL_LANES(pool_half_##sfx, real, whole, HALF_##sfx, 1)                                                               \
    POOL_LANES(pool_few_##sfx, real, whole, FEW(real), 1)                                                                 \
    POOL_LANES(pool_one_##sfx, real, whole, 1, 1)                                                                         \
    POOL_ROW(pool_row_wide_##sfx, real, LANES_##sfx, POOL_WIDE, pool_full_##sfx, pool_two_##sfx, pool_four_##sfx)                    \
    POOL_ROW(pool_row_full_##sfx, real, LANES_##sfx, POOL_NARROW, pool_full_##sfx, pool_one_##sfx, )                      \
    POOL_ROW(pool_row_half_##sfx, real, HALF_##sfx, POOL_NARROW, pool_half_##sfx, pool_one_##sfx, )                       \
    POOL_ROW(pool_row_few_##sfx, real, FEW(real), POOL_NARROW, pool_few_##sfx, pool_one_##sfx, )                          \
    static void pool_##sfx(const Row *r, const real *x, const char *place, real *y, char *to) {                           \
        if (r->maximum && r->backward) { POOL_OP(sfx, 1, 1) }                                                             \
        else if (r->maximum) { POOL_OP(sfx, 1, 0) }                                                                       \
        else if (r->backward) { POOL_OP(sfx, 0, 1) }                                                                      \
        else { POOL_OP(sfx, 0, 0) }                                                                                       \
    }

#define HALF_f32 (LANES_f32 / 2 > FEW(float) ? LANES_f32 / 2 : FEW(float))
#define HALF_f64 (LANES_f64 / 2 > FEW(double) ? LANES_f64 / 2 : FEW(double))
POOL(f32, float, int32_t)
POOL(f64, double, int64_t)
#define pool(r, x, ...) _Generic((x), float *: pool_f32, default: pool_f64)(r, x, __VA_ARGS__)
