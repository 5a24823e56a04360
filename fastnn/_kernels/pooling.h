/* The inner loops of pooling, over the n channels of one position: contiguous, branch-free, vectorized by the compiler.
 * They are C for `restrict`: without it the compiler would test for overlap at every call, which costs as much as the
 * work. `first` is a constant at each call. */
#ifndef FASTNN_POOLING_H
#define FASTNN_POOLING_H

#include <stddef.h>
#include <stdint.h>

/* The maximum so far and its place in the window; later ones replace it only if greater or NaN, as in PyTorch. */
#define POOL_TAKE(u) { const real v = p##u[l]; const int take = (v > b) | (v != v); b = take ? v : b; k = take ? k##u : k; }

#define POOL_DEFINE(sfx, real_type)                                                                                       \
                                                                                                                          \
static inline void pool_max_##sfx(real_type *__restrict best, int32_t *__restrict place, real_type **taps,                \
                                  const int32_t *places, ptrdiff_t n, const int first)                                    \
{                                                                                                                         \
    typedef real_type real;                                                                                               \
    const real *__restrict p0 = taps[0], *__restrict p1 = taps[1], *__restrict p2 = taps[2], *__restrict p3 = taps[3];    \
    const int32_t k0 = places[0], k1 = places[1], k2 = places[2], k3 = places[3];                                         \
    for (ptrdiff_t l = 0; l < n; l++) {                                                                                   \
        real b = first ? p0[l] : best[l];                                                                                 \
        int32_t k = first ? k0 : place[l];                                                                                \
        if (!first) POOL_TAKE(0)                                                                                          \
        POOL_TAKE(1) POOL_TAKE(2) POOL_TAKE(3)                                                                            \
        best[l] = b;                                                                                                      \
        place[l] = k;                                                                                                     \
    }                                                                                                                     \
}                                                                                                                         \
                                                                                                                          \
/* dx (+)= dy where the winner of the window sits at this place */                                                        \
static inline void pool_give_##sfx(real_type *__restrict dx, const real_type *__restrict dy,                              \
                                   const int32_t *__restrict place, int32_t here, ptrdiff_t n, const int first)           \
{                                                                                                                         \
    for (ptrdiff_t l = 0; l < n; l++) {                                                                                   \
        const real_type d = place[l] == here ? dy[l] : 0;                                                                 \
        dx[l] = first ? d : dx[l] + d;                                                                                    \
    }                                                                                                                     \
}                                                                                                                         \
                                                                                                                          \
/* sum (+)= the sum of four taps, times scale */                                                                          \
static inline void pool_sum_##sfx(real_type *__restrict sum, real_type **taps, real_type scale, ptrdiff_t n,              \
                                  const int first)                                                                        \
{                                                                                                                         \
    const real_type *p0 = taps[0], *p1 = taps[1], *p2 = taps[2], *p3 = taps[3]; /* may be the same */                     \
    for (ptrdiff_t l = 0; l < n; l++) {                                                                                   \
        const real_type s = (p0[l] + p1[l]) + (p2[l] + p3[l]);                                                            \
        sum[l] = (first ? s : sum[l] + s) * scale;                                                                        \
    }                                                                                                                     \
}                                                                                                                         \
                                                                                                                          \
/* dx (+)= dy * scale */                                                                                                  \
static inline void pool_share_##sfx(real_type *__restrict dx, const real_type *__restrict dy, real_type scale,            \
                                    ptrdiff_t n, const int first)                                                         \
{                                                                                                                         \
    for (ptrdiff_t l = 0; l < n; l++)                                                                                     \
        dx[l] = first ? dy[l] * scale : dx[l] + dy[l] * scale;                                                            \
}

POOL_DEFINE(f32, float)
POOL_DEFINE(f64, double)

#undef POOL_TAKE
#undef POOL_DEFINE
#endif
