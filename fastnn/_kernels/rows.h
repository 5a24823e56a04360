/* Sums, inner products and maxima of a row, in vectors, then in 16 bytes, then one by one; NaN may be passed over by a
   maximum. Partial sums stay in registers and are folded in a fixed order. */
#pragma once
#include <math.h>
#include "tile.h"

#if defined(__GNUC__)
#define ROWS_MASK(type, lanes) __attribute__((vector_size(lanes * sizeof(type)))) type
#define ROWS_LARGER(a, b) ((V) (((W) (a) & ((a) > (b))) | ((W) (b) & ~((a) > (b)))))
#define ROWS_FEW(real) (16 / (int) sizeof(real))
#define ROWS_TYPE(real, lanes) __attribute__((vector_size(lanes * sizeof(real)), aligned(sizeof(real)), may_alias)) real
#else
#define ROWS_MASK(type, lanes) type
#define ROWS_LARGER(a, b) ((a) > (b) ? (a) : (b))
#define ROWS_FEW(real) 1
#define ROWS_TYPE(real, lanes) real
#endif

enum { ROW_SUM, ROW_DOT, ROW_MAX };

/* Fold lanes w to 2·w − 1 into the first w; with w a literal these are vectors, too. */
#define ROWS_HALVE(w, lanes)                                                                                              \
    UNROLLED for (int j = 0; j < ((lanes) > w ? w : 0); j++)                                                              \
        lane[j] = op == ROW_MAX ? (lane[j + w] > lane[j] ? lane[j + w] : lane[j]) : lane[j] + lane[j + w];
/* Fold what begins at i into `total`, by `lanes` at a time; returns where it stopped. */
#define ROWS_STEP(name, real, whole, lanes)                                                                               \
    TILE_INLINE ptrdiff_t name(int op, const real *a, const real *b, ptrdiff_t i, ptrdiff_t n, real *total) {             \
        typedef ROWS_TYPE(real, (lanes)) V;                                                                               \
        typedef ROWS_MASK(whole, (lanes)) W;                                                                              \
        const real start = op == ROW_MAX ? (real) -INFINITY : (real) 0;                                                   \
        V s[2] = {(V){0} + start, (V){0} + start};                                                                        \
        if (n - i < (lanes)) return i;                                                                                    \
        for (; n - i >= (lanes); i += (lanes)) {                                                                          \
            const V x = *(const V *) (a + i);                                                                             \
            V next = s[0]; /* two chains of sums, taken in turns */                                                       \
            if (op == ROW_SUM) next += x;                                                                                 \
            else if (op == ROW_DOT) next += x * *(const V *) (b + i);                                                     \
            else next = ROWS_LARGER(x, next);                                                                             \
            s[0] = s[1], s[1] = next;                                                                                     \
        }                                                                                                                 \
        if (op == ROW_MAX) s[0] = ROWS_LARGER(s[1], s[0]);                                                                \
        else s[0] += s[1];                                                                                                \
        real lane[lanes];                                                                                                 \
        memcpy(lane, s, sizeof lane);                                                                                     \
        ROWS_HALVE(8, lanes) ROWS_HALVE(4, lanes) ROWS_HALVE(2, lanes) ROWS_HALVE(1, lanes)                               \
        *total = op == ROW_MAX ? (lane[0] > *total ? lane[0] : *total) : *total + lane[0];                                \
        return i;                                                                                                         \
    }
#define ROWS(sfx, real, whole)                                                                                            \
    ROWS_STEP(rows_full_##sfx, real, whole, LANES_##sfx)                                                                  \
    ROWS_STEP(rows_few_##sfx, real, whole, ROWS_FEW(real))                                                                \
    TILE_INLINE real row_##sfx(int op, const real *a, const real *b, ptrdiff_t n) {                                       \
        real total = op == ROW_MAX ? (real) -INFINITY : (real) 0;                                                         \
        ptrdiff_t i = rows_few_##sfx(op, a, b, rows_full_##sfx(op, a, b, 0, n, &total), n, &total);                       \
        for (; i < n; i++)                                                                                                \
            total = op == ROW_SUM ? total + a[i] : op == ROW_DOT ? total + a[i] * b[i] : a[i] > total ? a[i] : total;     \
        return total;                                                                                                     \
    }
ROWS(f32, float, int32_t)
ROWS(f64, double, int64_t)
#define row(op, a, b, n) _Generic((a), const float *: row_f32, float *: row_f32, default: row_f64)(op, a, b, n)
