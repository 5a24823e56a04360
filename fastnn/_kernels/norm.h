/* Inner loops of batch norm over `size` numbers in wide rows of `lanes`, and of layer norm over rows. Each kind of loop
   is an instance of its own, without a branch inside, and the arrays do not overlap, but out may be dy: each number is
   read before it is written. Sums take four wide rows side by side, which saves loads and stores of the sums;
   elsewhere, where parameters alone would be saved, it gains nothing: memory sets the pace.

   The forward pass and a backward pass that finds the output's sign again must round alike: their (x - m) * s + t can
   be contracted in one way only, and so can the gradient (x - m) * a + (dy * s + c). NaN fails a comparison and
   passes. */
#ifndef INDEPENDENT /* the file includes itself, once for each dtype */
#include "rows.h"

#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Sums of x - m and its square; of dy and dy * (x - m), dy as it is, or 0 where the output, found again or read from y,
   is not positive, and then written to out; of dy alone. Outputs. Gradients of x, with or without those through the
   statistics. */
enum { MOMENTS, GRADIENTS, GRADIENTS_OF_RELU, GRADIENTS_BY_Y, PLAIN };
enum { ADD = 1, RELU = 2, BACKWARD = 4, FIXED = 8 }; /* of norm_map, to be added up */

typedef struct { /* arrays and wide rows of either dtype, those that the kind of loop needs */
    const void *x, *dy, *y;
    void *out, *m, *s, *t, *a, *c, *sum, *dot;
} NormRows;

#define TYPED "norm.h"
#include "types.h"
#define norm_sums(like, kind, rows, lanes, size) BY_TYPE(like, norm_sums)(kind, rows, lanes, size)
#define norm_map(like, kind, rows, lanes, size) BY_TYPE(like, norm_map)(kind, rows, lanes, size)
#define layer_map(rows, x, ...) BY_TYPE(x, layer_map)(rows, x, __VA_ARGS__)
#define layer_back(rows, x, ...) BY_TYPE(x, layer_back)(rows, x, __VA_ARGS__)

#elif defined(REAL)

TILE_INLINE void NAME(norm_sum_row)(const int kind, const int deep, const NormRows *p, ptrdiff_t i, ptrdiff_t lanes,
    ptrdiff_t n) {
    const REAL *x = (const REAL *)p->x + i, *dy = (const REAL *)p->dy + i, *y = (const REAL *)p->y + i;
    const REAL *m = p->m, *s = p->s, *t = p->t;
    REAL *out = (REAL *)p->out + i, *sum = p->sum, *dot = p->dot;
    INDEPENDENT
    for (ptrdiff_t k = 0; k < n; k++) {
        REAL total = sum[k], product = dot[k];
        UNROLLED for (int r = 0; r < deep; r++) {
            const ptrdiff_t j = k + r * lanes;
            const REAL d = kind == PLAIN ? 0 : x[j] - m[k];
            REAL g = kind == MOMENTS ? d : dy[j];
            if (kind == GRADIENTS_OF_RELU) g = d * s[k] + t[k] <= 0 ? 0 : g;
            if (kind == GRADIENTS_BY_Y) out[j] = g = y[j] <= 0 ? 0 : g;
            total += g;
            if (kind != PLAIN) product += g * d;
        }
        sum[k] = total;
        dot[k] = product;
    }
}

TILE_INLINE void NAME(norm_sum_rows)(const int kind, const NormRows *p, ptrdiff_t lanes, ptrdiff_t size) {
    ptrdiff_t i = 0;
    for (; size - i >= 4 * lanes; i += 4 * lanes) NAME(norm_sum_row)(kind, 4, p, i, lanes, lanes);
    for (; i < size; i += lanes) NAME(norm_sum_row)(kind, 1, p, i, lanes, size - i < lanes ? size - i : lanes);
}

TILE_INLINE void NAME(norm_map_rows)(const int kind, const NormRows *p, ptrdiff_t lanes, ptrdiff_t size) {
    const REAL *m = p->m, *s = p->s, *t = p->t, *a = p->a, *c = p->c;
    for (ptrdiff_t i = 0; i < size; i += lanes) {
        const REAL *x = (const REAL *)p->x + i, *dy = (const REAL *)p->dy + i, *y = (const REAL *)p->y + i;
        REAL *out = (REAL *)p->out + i;
        const ptrdiff_t n = size - i < lanes ? size - i : lanes;
        INDEPENDENT
        for (ptrdiff_t k = 0; k < n; k++) {
            const REAL d = x[k] - m[k];
            if (kind & BACKWARD) {
                const REAL g = (kind & RELU) && d * s[k] + t[k] <= 0 ? 0 : dy[k];
                out[k] = kind & FIXED ? g * s[k] : d * a[k] + (g * s[k] + c[k]);
            } else {
                REAL v = d * s[k] + t[k];
                if (kind & ADD) v += y[k];
                out[k] = (kind & RELU) && v <= 0 ? 0 : v;
            }
        }
    }
}

#define NORM_CASE(rows, kind) case kind: NAME(rows)(kind, p, lanes, size); break;
/* of `size` numbers, the sums added to `sum` and `dot` */
static inline void NAME(norm_sums)(int kind, const NormRows *p, ptrdiff_t lanes, ptrdiff_t size) {
    switch (kind) {
    NORM_CASE(norm_sum_rows, MOMENTS) NORM_CASE(norm_sum_rows, GRADIENTS)
    NORM_CASE(norm_sum_rows, GRADIENTS_OF_RELU) NORM_CASE(norm_sum_rows, GRADIENTS_BY_Y)
    NORM_CASE(norm_sum_rows, PLAIN)
    }
}

static inline void NAME(norm_map)(int kind, const NormRows *p, ptrdiff_t lanes, ptrdiff_t size) {
    switch (kind) {
    NORM_CASE(norm_map_rows, 0) NORM_CASE(norm_map_rows, ADD)
    NORM_CASE(norm_map_rows, RELU) NORM_CASE(norm_map_rows, ADD + RELU)
    NORM_CASE(norm_map_rows, BACKWARD) NORM_CASE(norm_map_rows, BACKWARD + RELU)
    NORM_CASE(norm_map_rows, BACKWARD + FIXED) NORM_CASE(norm_map_rows, BACKWARD + FIXED + RELU)
    }
}

/* Rows of layer norm, or without means of RMS norm: statistics and outputs of at most 64; gradients, if there is a
   place for them, and what is added to the sums down the columns. */
static inline void NAME(layer_map)(ptrdiff_t rows, const REAL *x, const REAL *w, const REAL *b, double eps, REAL *y,
    REAL *mean, REAL *rstd, ptrdiff_t n) {
    REAL m[64] = {0}, t[64];
    if (mean) NAME(row_sums)(rows, x, NULL, NULL, NULL, n, m, NULL);
    for (ptrdiff_t r = 0; r < rows; r++) m[r] /= n;
    NAME(row_sums)(rows, x, m, NULL, NULL, n, t, rstd);
    for (ptrdiff_t r = 0; r < rows; r++) {
        t[r] = mean ? t[r] / n : 0; /* what rounding left of the mean */
        const double square = rstd[r] * (1. / n) - (double)t[r] * t[r];
        rstd[r] = (REAL)(1 / sqrt((square < 0 ? 0 : square) + eps)); /* NaN stays */
        if (mean) mean[r] = m[r] + (isfinite(t[r]) ? t[r] : 0);
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        const REAL shift = m[r], rest = t[r], scale = rstd[r];
        prefetch(x + (rows + r) * n, n * sizeof(REAL)); /* the rows after these, while there is nothing to load */
        INDEPENDENT
        for (ptrdiff_t k = 0; k < n; k++) y[r * n + k] = (x[r * n + k] - shift - rest) * scale * w[k] + b[k];
    }
}

static inline void NAME(layer_back)(ptrdiff_t rows, const REAL *x, const REAL *dy, const REAL *mean, const REAL *rstd,
    const REAL *w, REAL *dx, REAL *sum, REAL *dot, ptrdiff_t n) {
    for (ptrdiff_t r = 0; r < rows; r++, x += n, dy += n) {
        const REAL m = mean ? mean[r] : 0, s = rstd[r];
        REAL a, c, *out = dx ? dx + r * n : dot + n;
        NAME(row_sums)(1, x, &m, dy, w, n, &c, &a);
        a *= s / n, c = mean ? c / n : 0;
        INDEPENDENT
        for (ptrdiff_t k = 0; k < n; k++) {
            const REAL d = (x[k] - m) * s, g = dy[k];
            sum[k] += g;
            dot[k] += g * d;
            out[k] = (g * w[k] - c - d * a) * s;
        }
    }
}
#endif
