/* Pooling of one window, all its taps for some channels at a time: four vectors, one, 16 bytes or a single channel.
   Sums and maxima stay in registers, and no branch depends on data. */
#pragma once
#include <math.h>
#include <stdint.h>
#include "tile.h"

#if defined(__GNUC__)
#define FEW(real) (16 / sizeof(real))
#define POOL_TYPE(type, lanes) __attribute__((vector_size(lanes * sizeof(type)), aligned(sizeof(type)), may_alias)) type
#define POOL_SELECT(mask, a, b) (((Whole)(a) & (mask)) | ((Whole)(b) & ~(mask)))
#define POOL_CONVERT __builtin_convertvector
#else
#define FEW(real) 1
#define POOL_TYPE(type, lanes) type
#define POOL_SELECT(mask, a, b) ((mask) ? (a) : (b))
#define POOL_CONVERT(a, type) ((type)(a))
#endif

typedef struct { /* the taps of a window that lie inside the image */
    ptrdiff_t rows, cols, row, col; /* how many, and elements of x from one to the next */
    int32_t number, width; /* the first one's number, and by how much it rises from row to row */
    int maximum, narrow, backward, fresh; /* narrow: places are bytes; fresh: backward overwrites */
    double scale; /* 1 for a maximum */
    const char *end; /* of x */
} Taps;

/* Forward y = the taps' maximum, and place = the number of the tap it is from; or y = their sum * scale.
   Backward each tap += y * scale; for a maximum, where place tells its number. `u` counts vectors. `t` comes by value,
   so that no store can change it. */
#define POOL_LANES(name, real, whole, lanes, vectors)                                                                  \
    TILE_INLINE void name(const Taps t, real *x, real *y, void *place) {                                               \
        typedef POOL_TYPE(real, (lanes)) Real;                                                                         \
        typedef POOL_TYPE(whole, (lanes)) Whole;                                                                       \
        typedef POOL_TYPE(uint8_t, (lanes)) Narrow;                                                                    \
        typedef POOL_TYPE(int32_t, (lanes)) Wide;                                                                      \
        Real best[vectors], v;                                                                                         \
        Whole at[vectors], number, take;                                                                               \
        UNROLLED for (int u = 0; u < vectors; u++) {                                                                   \
            best[u] = (Real){0} + (real)(t.maximum ? -INFINITY : 0);                                                   \
            at[u] = (Whole){0} + (whole)t.number;                                                                      \
            if (t.backward) best[u] = ((Real *)y)[u] * (real)t.scale;                                                  \
            if (t.backward && t.maximum)                                                                               \
                at[u] = t.narrow ? POOL_CONVERT(((Narrow *)place)[u], Whole)                                           \
                                  : POOL_CONVERT(((Wide *)place)[u], Whole);                                           \
        }                                                                                                              \
        for (ptrdiff_t i = 0; i < t.rows; i++)                                                                         \
            for (ptrdiff_t j = 0; j < t.cols; j++) {                                                                   \
                Real *tap = (Real *)(x + i * t.row + j * t.col);                                                       \
                number = (Whole){0} + (whole)(t.number + i * t.width + j);                                             \
                UNROLLED for (int u = 0; u < vectors; u++)                                                             \
                    if (t.backward) {                                                                                  \
                        take = at[u] == number;                                                                        \
                        v = t.maximum ? (Real)POOL_SELECT(take, best[u], (Real){0}) : best[u];                         \
                        if (!t.fresh) v += tap[u];                                                                     \
                        tap[u] = v;                                                                                    \
                    } else if (t.maximum) { /* a later tap wins only if it is greater or NaN, as in PyTorch */         \
                        v = tap[u];                                                                                    \
                        take = (v > best[u]) | (v != v);                                                               \
                        best[u] = (Real)POOL_SELECT(take, v, best[u]);                                                 \
                        at[u] = POOL_SELECT(take, number, at[u]);                                                      \
                    } else                                                                                             \
                        best[u] += tap[u];                                                                             \
            }                                                                                                          \
        if (t.backward) return;                                                                                        \
        Whole found[vectors];                                                                                          \
        UNROLLED for (int u = 0; u < vectors; u++) {                                                                   \
            ((Real *)y)[u] = best[u] * (real)t.scale;                                                                  \
            found[u] = at[u];                                                                                          \
        }                                                                                                              \
        if (!t.maximum) return;                                                                                        \
        if (t.narrow)                                                                                                  \
            for (int l = 0; l < (int)(lanes * vectors); l++) ((uint8_t *)place)[l] = (uint8_t)((whole *)found)[l];     \
        else                                                                                                           \
            for (int l = 0; l < (int)(lanes * vectors); l++) ((int32_t *)place)[l] = (int32_t)((whole *)found)[l];     \
    }

/* The same for n channels. Forward, the last few may be computed twice, and memory after the channels be read. */
#define POOL(sfx, real, whole)                                                                                         \
    POOL_LANES(pool_four_##sfx, real, whole, LANES_##sfx, 4)                                                           \
    POOL_LANES(pool_full_##sfx, real, whole, LANES_##sfx, 1)                                                           \
    POOL_LANES(pool_few_##sfx, real, whole, FEW(real), 1)                                                              \
    POOL_LANES(pool_one_##sfx, real, whole, 1, 1)                                                                      \
    static void pool_##sfx(const Taps *t, real *x, real *y, char *place, ptrdiff_t n) {                                \
        const ptrdiff_t full = LANES_##sfx, few = FEW(real), size = t->narrow ? 1 : 4;                                 \
        if (n < few && !t->backward && (char *)(x + (t->rows - 1) * t->row + (t->cols - 1) * t->col + few) <= t->end) { \
            real lanes[FEW(real)];                                                                                     \
            char places[4 * FEW(real)];                                                                                \
            pool_few_##sfx(*t, x, lanes, places);                                                                      \
            for (ptrdiff_t c = 0; c < n; c++) y[c] = lanes[c];                                                         \
            for (ptrdiff_t c = 0; c < n * size && t->maximum; c++) place[c] = places[c];                               \
            return;                                                                                                    \
        }                                                                                                              \
        for (ptrdiff_t c = 0, done; c < n; c += done) {                                                                \
            if (n - c < few && n >= few && !t->backward) c = n - few;                                                  \
            done = n - c >= 4 * full ? 4 * full : n - c >= full ? full : n - c >= few ? few : 1;                       \
            if (done == 4 * full) pool_four_##sfx(*t, x + c, y + c, place + c * size);                                 \
            else if (done == full) pool_full_##sfx(*t, x + c, y + c, place + c * size);                                \
            else if (done == few) pool_few_##sfx(*t, x + c, y + c, place + c * size);                                  \
            else pool_one_##sfx(*t, x + c, y + c, place + c * size);                                                   \
        }                                                                                                              \
    }

POOL(f32, float, int32_t)
POOL(f64, double, int64_t)
#define pool(t, x, ...) _Generic((x), float *: pool_f32, default: pool_f64)(t, x, __VA_ARGS__)
