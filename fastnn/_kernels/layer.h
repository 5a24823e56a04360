/* Inner loops of layer norm and RMS norm along rows of n adjacent numbers, and down columns. A row is walked in vectors,
   then in 16 bytes, then one by one; sums are folded in a fixed order. Arrays may be NULL where it says so. */
#pragma once
#include "rows.h"

/* Of numbers from i on, by `lanes` at a time; each returns where it stopped. The sums: Σ g and Σ g·(x − m), added to the
   two totals, in two chains taken in turns; g is dy·w, or x − m without dy. The map: y = (x − m)·s·w + b. Backward:
   dx = dy·w·s + (x − m)·a + c. w and b may be NULL. */
#define LAYER_STEPS(part, real, lanes)                                                                                    \
    TILE_INLINE real layer_fold_##part(const void *sums) {                                                                \
        typedef ROWS_TYPE(real, ((lanes) < ROWS_FEW(real) ? (lanes) : ROWS_FEW(real))) Q;                                 \
        Q quarter[(lanes) * sizeof(real) / sizeof(Q)];                                                                    \
        real few[sizeof(Q) / sizeof(real)];                                                                               \
        memcpy(quarter, sums, sizeof quarter);                                                                            \
        UNROLLED for (size_t k = 1; k < sizeof quarter / sizeof(Q); k++) quarter[0] += quarter[k];                        \
        memcpy(few, quarter, sizeof few);                                                                                 \
        if (sizeof few == 4 * sizeof(real)) few[0] += few[2], few[1] += few[3];                                           \
        return sizeof few == sizeof(real) ? few[0] : few[0] + few[1];                                                     \
    }                                                                                                                     \
    TILE_INLINE ptrdiff_t layer_sums_##part(const real *x, const real *dy, const real *w, real m, ptrdiff_t i,            \
                                            ptrdiff_t n, real *total, real *product) {                                    \
        typedef ROWS_TYPE(real, (lanes)) V;                                                                               \
        V s[2] = {(V){0}, (V){0}}, p[2] = {(V){0}, (V){0}};                                                               \
        if (n - i < (lanes)) return i;                                                                                    \
        for (; n - i >= (lanes); i += (lanes)) {                                                                          \
            const V d = *(const V *) (x + i) - m;                                                                         \
            V g = dy ? *(const V *) (dy + i) : d, next;                                                                   \
            if (w) g *= *(const V *) (w + i);                                                                             \
            next = s[0] + g, s[0] = s[1], s[1] = next;                                                                    \
            next = p[0] + g * d, p[0] = p[1], p[1] = next;                                                                \
        }                                                                                                                 \
        s[0] += s[1], p[0] += p[1];                                                                                       \
        *total += layer_fold_##part(s), *product += layer_fold_##part(p);                                                 \
        return i;                                                                                                         \
    }                                                                                                                     \
    TILE_INLINE ptrdiff_t layer_map_##part(const real *x, const real *w, const real *b, real m, real s, ptrdiff_t i,      \
                                           ptrdiff_t n, real *y) {                                                        \
        typedef ROWS_TYPE(real, (lanes)) V;                                                                               \
        for (; n - i >= (lanes); i += (lanes)) {                                                                          \
            V d = (*(const V *) (x + i) - m) * s;                                                                         \
            if (w) d *= *(const V *) (w + i);                                                                             \
            if (b) d += *(const V *) (b + i);                                                                             \
            *(V *) (y + i) = d;                                                                                           \
        }                                                                                                                 \
        return i;                                                                                                         \
    }                                                                                                                     \
    TILE_INLINE ptrdiff_t layer_back_##part(const real *x, const real *dy, const real *w, real m, real s, real a, real c, \
                                            ptrdiff_t i, ptrdiff_t n, real *dx) {                                         \
        typedef ROWS_TYPE(real, (lanes)) V;                                                                               \
        for (; n - i >= (lanes); i += (lanes)) {                                                                          \
            V g = *(const V *) (dy + i) * s;                                                                              \
            if (w) g *= *(const V *) (w + i);                                                                             \
            *(V *) (dx + i) = g + ((*(const V *) (x + i) - m) * a + c);                                                   \
        }                                                                                                                 \
        return i;                                                                                                         \
    }

/* Of whole rows, and Σ dy and Σ dy·(x − m)·s of their columns, added to what is there. */
#define LAYER(sfx, real)                                                                                                  \
    LAYER_STEPS(full_##sfx, real, LANES_##sfx)                                                                            \
    LAYER_STEPS(few_##sfx, real, ROWS_FEW(real))                                                                          \
    LAYER_STEPS(one_##sfx, real, 1)                                                                                       \
    TILE_INLINE void layer_sums_##sfx(const real *x, const real *dy, const real *w, real m, ptrdiff_t n, real *total,     \
                                      real *product) {                                                                    \
        *total = *product = 0;                                                                                            \
        ptrdiff_t i = layer_sums_full_##sfx(x, dy, w, m, 0, n, total, product);                                           \
        i = layer_sums_few_##sfx(x, dy, w, m, i, n, total, product);                                                      \
        layer_sums_one_##sfx(x, dy, w, m, i, n, total, product);                                                          \
    }                                                                                                                     \
    TILE_INLINE void layer_map_##sfx(const real *x, const real *w, const real *b, real m, real s, ptrdiff_t n, real *y) { \
        ptrdiff_t i = layer_map_full_##sfx(x, w, b, m, s, 0, n, y);                                                       \
        layer_map_one_##sfx(x, w, b, m, s, layer_map_few_##sfx(x, w, b, m, s, i, n, y), n, y);                            \
    }                                                                                                                     \
    TILE_INLINE void layer_back_##sfx(const real *x, const real *dy, const real *w, real m, real s, real a, real c,       \
                                      ptrdiff_t n, real *dx) {                                                            \
        ptrdiff_t i = layer_back_full_##sfx(x, dy, w, m, s, a, c, 0, n, dx);                                              \
        i = layer_back_few_##sfx(x, dy, w, m, s, a, c, i, n, dx);                                                         \
        layer_back_one_##sfx(x, dy, w, m, s, a, c, i, n, dx);                                                             \
    }                                                                                                                     \
    TILE_INLINE void layer_deep_##sfx(int deep, const real *restrict x, const real *restrict dy, const real *m,           \
                                      const real *s, ptrdiff_t n, real *restrict sum, real *restrict dot) {               \
        NORM_INDEPENDENT                                                                                                  \
        for (ptrdiff_t j = 0; j < n; j++) {                                                                               \
            real total = sum[j], product = dot[j];                                                                        \
            NORM_UNROLLED                                                                                                 \
            for (int k = 0; k < deep; k++) {                                                                              \
                const real g = dy[k * n + j];                                                                             \
                total += g;                                                                                               \
                product += g * ((x[k * n + j] - m[k]) * s[k]);                                                            \
            }                                                                                                             \
            sum[j] = total;                                                                                               \
            dot[j] = product;                                                                                             \
        }                                                                                                                 \
    }                                                                                                                     \
    TILE_INLINE void layer_columns_##sfx(const real *x, const real *dy, const real *m, const real *s, ptrdiff_t n,        \
                                         ptrdiff_t rows, real *sum, real *dot) {                                          \
        ptrdiff_t r = 0;                                                                                                  \
        for (; rows - r >= 4; r += 4) layer_deep_##sfx(4, x + r * n, dy + r * n, m + r, s + r, n, sum, dot);              \
        for (; r < rows; r++) layer_deep_##sfx(1, x + r * n, dy + r * n, m + r, s + r, n, sum, dot);                      \
    }
LAYER(f32, float)
LAYER(f64, double)
#define LAYER_OF(name, a) _Generic((a), const float *: name##_f32, float *: name##_f32, default: name##_f64)
#define layer_sums(x, ...) LAYER_OF(layer_sums, x)(x, __VA_ARGS__)
#define layer_map(x, ...) LAYER_OF(layer_map, x)(x, __VA_ARGS__)
#define layer_back(x, ...) LAYER_OF(layer_back, x)(x, __VA_ARGS__)
#define layer_columns(x, ...) LAYER_OF(layer_columns, x)(x, __VA_ARGS__)
