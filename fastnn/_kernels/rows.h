/* Sums, inner products and maxima of a row, in vectors, the last of which overlaps the one before with zeros for what was
   summed already; rows shorter than a vector number by number. Partial sums stay in registers, two chains of each taken
   in turns, and are folded in a fixed order. NaN may be passed over by a maximum. */
#ifndef ROWS_LARGER /* the file includes itself, once for each dtype */
#include <math.h>
#include "tile.h"

#if defined(__GNUC__)
#define ROWS_LARGER(a, b) ((V) (((NAME(bits)) (a) & ((a) > (b))) | ((NAME(bits)) (b) & ~((a) > (b)))))
#else
#define ROWS_LARGER(a, b) ((a) > (b) ? (a) : (b))
#endif

#define TYPED "rows.h"
#include "types.h"
#define row_max(a, n) BY_TYPE(a, row_max)(a, n)
#define row_sum(a, n) BY_TYPE(a, row_sums)(a, 0, NULL, NULL, n, NULL)
#define row_dot(a, b, n) BY_TYPE(a, row_dot)(a, b, n)
#define row_sums(a, m, b, w, n, product) BY_TYPE(a, row_sums)(a, m, b, w, n, product)
#define layer_map(x, m, t, s, w, b, y, n) BY_TYPE(x, layer_map)(x, m, t, s, w, b, y, n)
#define layer_back(x, dy, m, s, a, c, w, dx, sum, dot, n) BY_TYPE(x, layer_back)(x, dy, m, s, a, c, w, dx, sum, dot, n)

#elif defined(REAL)
#define V NAME(vector)
#define L NAME(LANES)

TILE_INLINE REAL NAME(rows_fold)(V v) {
    REAL lane[L];
    *(V *)lane = v;
#if VECTOR_BYTES
    if (L >= 4) {
        NAME(four) sum = *(const NAME(four) *)lane;
        UNROLLED for (int j = 4; j < L; j += 4) sum += *(const NAME(four) *)(lane + j);
        return (sum[0] + sum[2]) + (sum[1] + sum[3]);
    }
#endif
    return L == 2 ? lane[0] + lane[1] : lane[0];
}

/* Σ g; and Σ g·(a − m), where g = b·w, b without w, a − m without b */
#define ROWS_TERMS(T, i)                                                                                                  \
    T d = *(const T *)(a + (i)) - m, g = d;                                                                               \
    if (b) g = *(const T *)(b + (i));                                                                                     \
    if (b && w) g *= *(const T *)(w + (i));
TILE_INLINE REAL NAME(row_sums)(const REAL *a, const REAL m, const REAL *b, const REAL *w, ptrdiff_t n, REAL *product) {
    REAL sum = 0, dot = 0;
    if (n < L) {
        for (ptrdiff_t i = 0; i < n; i++) {
            ROWS_TERMS(REAL, i)
            sum += g, dot += g * d;
        }
    } else {
        V s[2] = {{0}, {0}}, q[2] = {{0}, {0}};
        const ptrdiff_t whole = n - n % L;
        for (ptrdiff_t i = 0; i < whole; i += L) {
            ROWS_TERMS(V, i)
            const V next = s[0] + g, then = q[0] + g * d;
            s[0] = s[1], s[1] = next, q[0] = q[1], q[1] = then;
        }
        if (whole < n) {
            const NAME(bits) mask = *(const NAME(bits) *)(NAME(last) + 64 / sizeof(REAL) - L + n - whole);
            ROWS_TERMS(V, n - L)
            g = (V)((NAME(bits))g & mask), d = (V)((NAME(bits))d & mask);
            s[0] += g, q[0] += g * d;
        }
        sum = NAME(rows_fold)(s[0] + s[1]), dot = NAME(rows_fold)(q[0] + q[1]);
    }
    if (product) *product = dot;
    return sum;
}

/* Steps through a row: STEP(type, where, what to do with that which is added to a sum) */
#define ROWS_EACH(STEP)                                                                                                   \
    const NAME(bits) mask = *(const NAME(bits) *)(NAME(last) + 64 / sizeof(REAL) - L + n % L);                            \
    (void)mask; ptrdiff_t i = 0;                                                                                                      \
    if (n < L) for (; i < n; i++) { STEP(REAL, i, ROWS_SAME) }                                                            \
    else for (; i + L <= n; i += L) { STEP(V, i, ROWS_SAME) }                                                             \
    if (i < n) { STEP(V, n - L, ROWS_NEW) }
#define ROWS_SAME(v) (v)
#define ROWS_NEW(v) ((V)((NAME(bits))(v) & mask))

/* One row of layer norm: its outputs; or its gradient, and what it adds to the sums down the columns. */
#define LAYER_MAP(T, i, NEW) \
    *(T *)(y + (i)) = (*(const T *)(x + (i)) - m - t) * s * *(const T *)(w + (i)) + *(const T *)(b + (i));
TILE_INLINE void NAME(layer_map)(const REAL *x, const REAL m, const REAL t, const REAL s, const REAL *w, const REAL *b,
    REAL *y, ptrdiff_t n) {
    ROWS_EACH(LAYER_MAP)
}

#define LAYER_BACK(T, i, NEW)                                                                                             \
    const T g = *(const T *)(dy + (i)), d = (*(const T *)(x + (i)) - m) * s, v = g * d;                                   \
    *(T *)(dx + (i)) = (g * *(const T *)(w + (i)) - c - d * a) * s;                                                       \
    *(T *)(sum + (i)) += NEW(g);                                                                                          \
    *(T *)(dot + (i)) += NEW(v);
TILE_INLINE void NAME(layer_back)(const REAL *x, const REAL *dy, const REAL m, const REAL s, const REAL a, const REAL c,
    const REAL *w, REAL *dx, REAL *sum, REAL *dot, ptrdiff_t n) {
    ROWS_EACH(LAYER_BACK)
}

TILE_INLINE REAL NAME(row_dot)(const REAL *a, const REAL *b, ptrdiff_t n) {
    REAL dot;
    NAME(row_sums)(a, 0, b, NULL, n, &dot);
    return dot;
}

TILE_INLINE REAL NAME(row_max)(const REAL *a, ptrdiff_t n) {
    REAL most = (REAL)-INFINITY;
    if (n < L) {
        for (ptrdiff_t i = 0; i < n; i++) most = a[i] > most ? a[i] : most;
        return most;
    }
    V s[2] = {(V){0} + most, *(const V *)(a + n - L)};
    for (ptrdiff_t i = 0; i + L <= n; i += L) {
        const V x = *(const V *)(a + i), next = ROWS_LARGER(x, s[0]);
        s[0] = s[1], s[1] = next;
    }
    REAL lane[L];
    *(V *)lane = ROWS_LARGER(s[1], s[0]);
    UNROLLED for (int w = L / 2; w > 0; w /= 2)
        UNROLLED for (int j = 0; j < w; j++) lane[j] = lane[j + w] > lane[j] ? lane[j + w] : lane[j];
    return lane[0];
}
#undef V
#undef L
#endif
