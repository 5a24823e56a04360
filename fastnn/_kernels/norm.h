/* Inner loops of batch normalization over `size` numbers in wide rows of `lanes`. Four wide rows are walked side by side,
   so that parameters and sums are loaded once for all of them; the rest goes row by row. Down a lane the order is the
   same. Each kind of loop is an instance of its own, without a branch inside, and the arrays do not overlap.

   The forward pass and a backward pass that finds the output's sign again must round alike: their (x - m) * s + t can be
   contracted in one way only, and so can the gradient (x - m) * a + (dy * u + c). NaN fails a comparison and passes. */
#if !defined(NORM_REAL) && !defined(NORM_INLINE) /* the file includes itself, once for each dtype */
#include <stddef.h>

#if defined(__GNUC__)
#define NORM_INLINE static inline __attribute__((always_inline))
#define NORM_PRAGMA(text) _Pragma(text)
#else
#define NORM_INLINE static inline
#define NORM_PRAGMA(text)
#endif
#if defined(__clang__)
#define NORM_INDEPENDENT NORM_PRAGMA("clang loop vectorize(assume_safety)")
#else
#define NORM_INDEPENDENT NORM_PRAGMA("GCC ivdep")
#endif

/* Sums of x - m and its square; of dy and dy * (x - m), dy as it is, or 0 where the output, found again or read from y,
   is not positive, and then written to out. Outputs. Gradients of x, with or without those through the statistics. */
enum { MOMENTS, GRADIENTS, GRADIENTS_OF_RELU, GRADIENTS_BY_Y };
enum { ADD = 1, RELU = 2, BACKWARD = 4, FIXED = 8 }; /* of norm_map, to be added up */

typedef struct { /* arrays and wide rows of either dtype, those that the kind of loop needs */
    const void *x, *dy, *y;
    void *out;
    const void *m, *s, *t, *u, *a, *c;
    void *sum, *dot;
} NormRows;

#define NORM_ROWS(rows, kind, R, n) rows(kind, R, x + i, dy + i, y + i, out + i, m, s, t, u, a, c, sum, dot, lanes, n)
#define NORM_CASE(rows, kind)                                                                                             \
    case kind:                                                                                                            \
        for (; i + 4 * lanes <= size; i += 4 * lanes) NORM_ROWS(rows, kind, 4, lanes);                                    \
        for (; i < size; i += lanes) NORM_ROWS(rows, kind, 1, size - i < lanes ? size - i : lanes);                       \
        break;
#define NORM_PARAMETERS const int kind, const int R, const NORM_REAL *restrict x, const NORM_REAL *restrict dy,           \
    const NORM_REAL *restrict y, NORM_REAL *restrict out, const NORM_REAL *restrict m, const NORM_REAL *restrict s,       \
    const NORM_REAL *restrict t, const NORM_REAL *restrict u, const NORM_REAL *restrict a, const NORM_REAL *restrict c,   \
    NORM_REAL *restrict sum, NORM_REAL *restrict dot, const ptrdiff_t lanes, const ptrdiff_t n
#define NORM_UNPACK                                                                                                       \
    const NORM_REAL *x = p->x, *dy = p->dy, *y = p->y, *m = p->m, *s = p->s, *t = p->t, *u = p->u, *a = p->a, *c = p->c;  \
    NORM_REAL *out = p->out, *sum = p->sum, *dot = p->dot;                                                                \
    ptrdiff_t i = 0;

#define NORM_REAL float
#define NORM(name) name##_f
#include "norm.h"
#undef NORM_REAL
#undef NORM
#define NORM_REAL double
#define NORM(name) name##_d
#include "norm.h"
#undef NORM_REAL
#undef NORM

#elif defined(NORM_REAL)

NORM_INLINE void NORM(norm_sum_rows)(NORM_PARAMETERS)
{
    NORM_INDEPENDENT
    for (ptrdiff_t k = 0; k < n; k++) {
        NORM_REAL total = sum[k], product = dot[k];
        NORM_PRAGMA("GCC unroll 4")
        for (int r = 0; r < R; r++) {
            const ptrdiff_t i = r * lanes + k;
            const NORM_REAL d = x[i] - m[k];
            NORM_REAL g = kind == MOMENTS ? d : dy[i];
            if (kind == GRADIENTS_OF_RELU) g = d * s[k] + t[k] <= 0 ? 0 : g;
            if (kind == GRADIENTS_BY_Y) out[i] = g = y[i] <= 0 ? 0 : g;
            total += g;
            product += g * d;
        }
        sum[k] = total;
        dot[k] = product;
    }
}

NORM_INLINE void NORM(norm_map_rows)(NORM_PARAMETERS)
{
    NORM_INDEPENDENT
    for (ptrdiff_t k = 0; k < n; k++) {
        NORM_PRAGMA("GCC unroll 4")
        for (int r = 0; r < R; r++) {
            const ptrdiff_t i = r * lanes + k;
            const NORM_REAL d = x[i] - m[k];
            if (kind & BACKWARD) {
                const NORM_REAL g = (kind & RELU) && d * s[k] + t[k] <= 0 ? 0 : dy[i];
                out[i] = kind & FIXED ? g * u[k] : d * a[k] + (g * u[k] + c[k]);
            } else {
                NORM_REAL v = d * s[k] + t[k];
                if (kind & ADD) v += y[i];
                out[i] = (kind & RELU) && v <= 0 ? 0 : v;
            }
        }
    }
}

/* of `size` numbers, the sums added to `sum` and `dot` */
static void NORM(norm_sums)(int kind, const NormRows *p, ptrdiff_t lanes, ptrdiff_t size)
{
    NORM_UNPACK
    switch (kind) {
    NORM_CASE(NORM(norm_sum_rows), MOMENTS)
    NORM_CASE(NORM(norm_sum_rows), GRADIENTS)
    NORM_CASE(NORM(norm_sum_rows), GRADIENTS_OF_RELU)
    NORM_CASE(NORM(norm_sum_rows), GRADIENTS_BY_Y)
    }
}

static void NORM(norm_map)(int kind, const NormRows *p, ptrdiff_t lanes, ptrdiff_t size)
{
    NORM_UNPACK
    switch (kind) {
    NORM_CASE(NORM(norm_map_rows), 0)
    NORM_CASE(NORM(norm_map_rows), ADD)
    NORM_CASE(NORM(norm_map_rows), RELU)
    NORM_CASE(NORM(norm_map_rows), ADD + RELU)
    NORM_CASE(NORM(norm_map_rows), BACKWARD)
    NORM_CASE(NORM(norm_map_rows), BACKWARD + RELU)
    NORM_CASE(NORM(norm_map_rows), BACKWARD + FIXED)
    NORM_CASE(NORM(norm_map_rows), BACKWARD + FIXED + RELU)
    }
}
#endif
