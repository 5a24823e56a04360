/* Inner loops of batch normalization over `size` numbers in wide rows of `lanes`. Each kind of loop is an instance of its
   own, without a branch inside, and the arrays do not overlap, but out may be dy: each number is read before it is
   written. Sums take four wide rows side by side, which saves loads and stores of the sums; elsewhere, where parameters
   alone would be saved, it gains nothing: memory sets the pace.

   The forward pass and a backward pass that finds the output's sign again must round alike: their (x - m) * s + t can be
   contracted in one way only, and so can the gradient (x - m) * a + (dy * u + c). NaN fails a comparison and passes. */
#if !defined(NORM_REAL) && !defined(NORM_INLINE) /* the file includes itself, once for each dtype */
#include <stddef.h>

#if defined(__clang__)
#define NORM_INLINE static inline __attribute__((always_inline))
#define NORM_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define NORM_UNROLLED _Pragma("GCC unroll 4")
#elif defined(__GNUC__)
#define NORM_INLINE static inline __attribute__((always_inline))
#define NORM_INDEPENDENT _Pragma("GCC ivdep")
#define NORM_UNROLLED _Pragma("GCC unroll 4")
#else
#define NORM_INLINE static inline
#define NORM_INDEPENDENT
#define NORM_UNROLLED
#endif

/* Sums of x - m and its square; of dy and dy * (x - m), dy as it is, or 0 where the output, found again or read from y,
   is not positive, and then written to out; of dy alone. Outputs. Gradients of x, with or without those through the statistics. */
enum { MOMENTS, GRADIENTS, GRADIENTS_OF_RELU, GRADIENTS_BY_Y, PLAIN };
enum { ADD = 1, RELU = 2, BACKWARD = 4, FIXED = 8 }; /* of norm_map, to be added up */

typedef struct { /* arrays and wide rows of either dtype, those that the kind of loop needs */
    const void *x, *dy, *y;
    void *out;
    const void *m, *s, *t, *u, *a, *c;
    void *sum, *dot;
} NormRows;

#define NORM_ROWS(row, kind, deep, n)                                                                                     \
    row(kind, deep, x + i, dy + i, y + i, out + i, m, s, t, u, a, c, sum, dot, lanes, n)
#define NORM_CASE(row, kind, rows)                                                                                        \
    case kind:                                                                                                            \
        rows                                                                                                              \
        for (; i < size; i += lanes) NORM_ROWS(row, kind, 1, size - i < lanes ? size - i : lanes);                        \
        break;
#define NORM_SUM(kind)                                                                                                    \
    NORM_CASE(NORM(norm_sum_row), kind,                                                                                   \
        for (; size - i >= 4 * lanes; i += 4 * lanes) NORM_ROWS(NORM(norm_sum_row), kind, 4, lanes);)
#define NORM_MAP(kind) NORM_CASE(NORM(norm_map_row), kind, )
#define NORM_PARAMETERS const int kind, const int deep, const NORM_REAL *restrict x, const NORM_REAL *restrict dy,        \
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

NORM_INLINE void NORM(norm_sum_row)(NORM_PARAMETERS)
{
    NORM_INDEPENDENT
    for (ptrdiff_t k = 0; k < n; k++) {
        NORM_REAL total = sum[k], product = dot[k];
        NORM_UNROLLED
        for (int r = 0; r < deep; r++) {
            const ptrdiff_t j = k + r * lanes;
            const NORM_REAL d = kind == PLAIN ? 0 : x[j] - m[k];
            NORM_REAL g = kind == MOMENTS ? d : dy[j];
            if (kind == GRADIENTS_OF_RELU) g = d * s[k] + t[k] <= 0 ? 0 : g;
            if (kind == GRADIENTS_BY_Y) out[j] = g = y[j] <= 0 ? 0 : g;
            total += g;
            if (kind != PLAIN) product += g * d;
        }
        sum[k] = total;
        dot[k] = product;
    }
}

NORM_INLINE void NORM(norm_map_row)(NORM_PARAMETERS)
{
    NORM_INDEPENDENT
    for (ptrdiff_t k = 0; k < n; k++) {
        const NORM_REAL d = x[k] - m[k];
        if (kind & BACKWARD) {
            const NORM_REAL g = (kind & RELU) && d * s[k] + t[k] <= 0 ? 0 : dy[k];
            out[k] = kind & FIXED ? g * u[k] : d * a[k] + (g * u[k] + c[k]);
        } else {
            NORM_REAL v = d * s[k] + t[k];
            if (kind & ADD) v += y[k];
            out[k] = (kind & RELU) && v <= 0 ? 0 : v;
        }
    }
}

/* of `size` numbers, the sums added to `sum` and `dot` */
static inline void NORM(norm_sums)(int kind, const NormRows *p, ptrdiff_t lanes, ptrdiff_t size)
{
    NORM_UNPACK
    switch (kind) {
    NORM_SUM(MOMENTS)
    NORM_SUM(GRADIENTS)
    NORM_SUM(GRADIENTS_OF_RELU)
    NORM_SUM(GRADIENTS_BY_Y)
    NORM_SUM(PLAIN)
    }
}

static inline void NORM(norm_map)(int kind, const NormRows *p, ptrdiff_t lanes, ptrdiff_t size)
{
    NORM_UNPACK
    switch (kind) {
    NORM_MAP(0)
    NORM_MAP(ADD)
    NORM_MAP(RELU)
    NORM_MAP(ADD + RELU)
    NORM_MAP(BACKWARD)
    NORM_MAP(BACKWARD + RELU)
    NORM_MAP(BACKWARD + FIXED)
    NORM_MAP(BACKWARD + FIXED + RELU)
    }
}
#endif
