/* Inner loops of layer norm and RMS norm along rows of n adjacent numbers, and down columns. Sums stay in vectors, of
   decreasing length towards the end of a row, and are folded in a fixed order. */
#pragma once
#include "rows.h"

/* Add Σ g and Σ g·(x − m) from i on, by `lanes` at a time, to the two totals; returns where it stopped. g is dy·w, or
   x − m without dy; w may be NULL. Two chains of sums are taken in turns. */
#define LAYER_STEP(name, real, lanes)                                                                                     \
    TILE_INLINE ptrdiff_t name(const real *x, const real *dy, const real *w, real m, ptrdiff_t i, ptrdiff_t n,            \
                               real *total, real *product) {                                                              \
        typedef ROWS_TYPE(real, (lanes)) V;                                                                               \
        V s[2] = {(V){0}, (V){0}}, p[2] = {(V){0}, (V){0}};                                                               \
        real lane[2][lanes];                                                                                              \
        if (n - i < (lanes)) return i;                                                                                    \
        for (; n - i >= (lanes); i += (lanes)) {                                                                          \
            const V d = *(const V *) (x + i) - m;                                                                         \
            V g = dy ? *(const V *) (dy + i) : d, next;                                                                   \
            if (w) g *= *(const V *) (w + i);                                                                             \
            next = s[0] + g, s[0] = s[1], s[1] = next;                                                                    \
            next = p[0] + g * d, p[0] = p[1], p[1] = next;                                                                \
        }                                                                                                                 \
        s[0] += s[1], s[1] = p[0] + p[1];                                                                                 \
        memcpy(lane, s, sizeof lane);                                                                                     \
        for (int h = (lanes) / 2; h > 0; h /= 2)                                                                          \
            UNROLLED for (int j = 0; j < h; j++) lane[0][j] += lane[0][j + h], lane[1][j] += lane[1][j + h];              \
        *total += lane[0][0], *product += lane[1][0];                                                                     \
        return i;                                                                                                         \
    }

/* Of `rows` rows: y = (x − m)·s·w + b, where w and b may be NULL; dx = dy·w·s + (x − m)·a + c; and of their columns
   Σ dy and Σ dy·(x − m)·s, added to what is there. */
#define LAYER(sfx, real)                                                                                                  \
    LAYER_STEP(layer_full_##sfx, real, LANES_##sfx)                                                                       \
    LAYER_STEP(layer_few_##sfx, real, ROWS_FEW(real))                                                                     \
    TILE_INLINE void layer_sums_##sfx(const real *x, const real *dy, const real *w, real m, ptrdiff_t n, real *total,     \
                                      real *product) {                                                                    \
        real s = 0, p = 0;                                                                                                \
        ptrdiff_t i = layer_full_##sfx(x, dy, w, m, 0, n, &s, &p);                                                        \
        i = layer_few_##sfx(x, dy, w, m, i, n, &s, &p);                                                                   \
        for (; i < n; i++) {                                                                                              \
            const real d = x[i] - m, g = (dy ? dy[i] : d) * (w ? w[i] : 1);                                               \
            s += g, p += g * d;                                                                                           \
        }                                                                                                                 \
        *total = s, *product = p;                                                                                         \
    }                                                                                                                     \
    TILE_INLINE void layer_map_##sfx(const real *restrict x, const real *restrict w, const real *restrict b, real m,      \
                                     real s, ptrdiff_t n, real *restrict y) {                                             \
        for (ptrdiff_t j = 0; j < n; j++) y[j] = (x[j] - m) * s * (w ? w[j] : 1) + (b ? b[j] : 0);                        \
    }                                                                                                                     \
    TILE_INLINE void layer_map_back_##sfx(const real *restrict x, const real *restrict dy, const real *restrict w,        \
                                          real m, real s, real a, real c, ptrdiff_t n, real *restrict dx) {               \
        for (ptrdiff_t j = 0; j < n; j++) dx[j] = dy[j] * (w ? w[j] : 1) * s + ((x[j] - m) * a + c);                      \
    }                                                                                                                     \
    TILE_INLINE void layer_columns_##sfx(const real *restrict x, const real *restrict dy, const real *m, const real *s,   \
                                         ptrdiff_t n, ptrdiff_t rows, real *restrict sum, real *restrict dot) {           \
        ptrdiff_t r = 0;                                                                                                  \
        for (; rows - r >= 4; r += 4)                                                                                     \
            for (ptrdiff_t j = 0; j < n; j++)                                                                             \
                UNROLLED for (ptrdiff_t k = r; k < r + 4; k++) {                                                          \
                    sum[j] += dy[k * n + j];                                                                              \
                    dot[j] += dy[k * n + j] * ((x[k * n + j] - m[k]) * s[k]);                                             \
                }                                                                                                         \
        for (; r < rows; r++)                                                                                             \
            for (ptrdiff_t j = 0; j < n; j++) {                                                                           \
                sum[j] += dy[r * n + j];                                                                                  \
                dot[j] += dy[r * n + j] * ((x[r * n + j] - m[r]) * s[r]);                                                 \
            }                                                                                                             \
    }
LAYER(f32, float)
LAYER(f64, double)
#define LAYER_OF(name, a) _Generic((a), const float *: name##_f32, float *: name##_f32, default: name##_f64)
#define layer_sums(x, ...) LAYER_OF(layer_sums, x)(x, __VA_ARGS__)
#define layer_map(x, ...) LAYER_OF(layer_map, x)(x, __VA_ARGS__)
#define layer_map_back(x, ...) LAYER_OF(layer_map_back, x)(x, __VA_ARGS__)
#define layer_columns(x, ...) LAYER_OF(layer_columns, x)(x, __VA_ARGS__)
