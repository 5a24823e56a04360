/* Sums, inner products and maxima of rows, in vectors, the last of which overlaps the one before with zeros for what
   was summed already; rows shorter than a vector number by number. Partial sums stay in registers, two chains of each
   taken in turns, and are folded in a fixed order. NaN may be passed over by a maximum. */
#ifndef ROWS_LARGER /* the file includes itself, once for each dtype */
#include <math.h>
#include "tile.h"

#ifdef __GNUC__
#define ROWS_LARGER(a, b) ((V)(((NAME(bits))(a) & ((a) > (b))) | ((NAME(bits))(b) & ~((a) > (b)))))
#else
#define ROWS_LARGER(a, b) ((a) > (b) ? (a) : (b))
#endif
#define ROWS_SHORT 128 /* numbers in rows that are summed four side by side */

#define TYPED "rows.h"
#include "types.h"
#define row_max(a, n) BY_TYPE(a, row_max)(a, n)
#define row_dot(a, b, n) BY_TYPE(a, row_dot)(a, b, n)

#elif defined(REAL)
#define V NAME(vector)
#define L NAME(LANES)

TILE_INLINE REAL NAME(rows_fold)(V v) {
    REAL lane[L];
    *(V *)lane = v;
#if VECTOR_BYTES
    if (L >= 4) { /* in vectors, which GCC does not find by itself */
        NAME(four) sum = *(const NAME(four) *)lane;
        UNROLLED for (int j = 4; j < L; j += 4) sum += *(const NAME(four) *)(lane + j);
        return (sum[0] + sum[2]) + (sum[1] + sum[3]);
    }
#endif
    return L == 2 ? lane[0] + lane[1] : lane[0];
}

/* Of R rows, R a literal: Σ g; and Σ g·(a − m), where g = b·w, b without w, a − m without b */
#define ROWS_TERMS(T, i)                                                                                               \
    T d = *(const T *)(a + r * n + (i)) - (m ? m[r] : 0), g = d;                                                       \
    if (b) g = *(const T *)(b + r * n + (i));                                                                          \
    if (b && w) g *= *(const T *)(w + (i));
TILE_INLINE void NAME(rows_of)(const int R, const REAL *a, const REAL *m, const REAL *b, const REAL *w, ptrdiff_t n,
    REAL *sum, REAL *dot) {
    V s[4][2], q[4][2];
    const ptrdiff_t whole = n - n % L;
    UNROLLED for (int r = 0; r < R; r++) s[r][0] = s[r][1] = q[r][0] = q[r][1] = (V){0};
    for (ptrdiff_t i = 0; i < whole; i += L)
        UNROLLED for (int r = 0; r < R; r++) {
            ROWS_TERMS(V, i)
            const V next = s[r][0] + g, then = q[r][0] + g * d;
            s[r][0] = s[r][1], s[r][1] = next, q[r][0] = q[r][1], q[r][1] = then;
        }
    UNROLLED for (int r = 0; r < R; r++) {
        if (whole && whole < n) {
            const NAME(bits) mask = *(const NAME(bits) *)(NAME(last) + 64 / sizeof(REAL) - L + n - whole);
            ROWS_TERMS(V, n - L)
            g = (V)((NAME(bits))g & mask), d = (V)((NAME(bits))d & mask);
            s[r][0] += g, q[r][0] += g * d;
        }
        REAL total = 0, product = 0;
        if (whole) total = NAME(rows_fold)(s[r][0] + s[r][1]), product = dot ? NAME(rows_fold)(q[r][0] + q[r][1]) : 0;
        else for (ptrdiff_t i = 0; i < n; i++) {
            ROWS_TERMS(REAL, i)
            total += g, product += g * d;
        }
        sum[r] = total;
        if (dot) dot[r] = product;
    }
}

/* These of many rows */
TILE_INLINE void NAME(row_sums)(ptrdiff_t rows, const REAL *a, const REAL *m, const REAL *b, const REAL *w, ptrdiff_t n,
    REAL *sum, REAL *dot) {
    for (ptrdiff_t r = 0, R; r < rows; r += R, a += R * n, b += b ? R * n : 0, m += m ? R : 0, dot += dot ? R : 0) {
        R = n <= ROWS_SHORT && rows - r >= 4 ? 4 : 1;
        if (R == 4) NAME(rows_of)(4, a, m, b, w, n, sum + r, dot);
        else NAME(rows_of)(1, a, m, b, w, n, sum + r, dot);
    }
}

/* Σ a·b, Σ a without b */
TILE_INLINE REAL NAME(row_dot)(const REAL *a, const REAL *b, ptrdiff_t n) {
    REAL sum = 0, dot = 0;
    NAME(rows_of)(1, a, NULL, b, NULL, n, &sum, b ? &dot : NULL);
    return b ? dot : sum;
}

TILE_INLINE REAL NAME(row_max)(const REAL *a, ptrdiff_t n) {
    REAL lane[L], most = (REAL)-INFINITY;
    if (n < L) for (ptrdiff_t i = 0; i < n; i++) most = a[i] > most ? a[i] : most;
    else {
        V s[2] = {*(const V *)a, *(const V *)(a + n - L)};
        for (ptrdiff_t i = 0; i + L <= n; i += L) {
            const V x = *(const V *)(a + i), next = ROWS_LARGER(s[0], x);
            s[0] = s[1], s[1] = next;
        }
        *(V *)lane = ROWS_LARGER(s[1], s[0]);
        UNROLLED for (int j = 0; j < L; j++) most = lane[j] > most ? lane[j] : most;
    }
    return most;
}
#undef V
#undef L
#endif
