/* The inner loops of pooling, over the n channels of one position: contiguous, and branch-free since a mispredicted
 * branch costs more than ten channels; the compiler vectorizes them. They are C for `restrict`: without it, a test for
 * overlap at every call would cost as much as the work. `first`: nothing has been written to this position yet. */
#ifndef FASTNN_POOLING_H
#define FASTNN_POOLING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A later tap replaces the maximum only if it is greater or NaN, as in PyTorch. */
#define POOL_TAKE(sfx, real, uint, tap, number)                                                                       \
    {                                                                                                                 \
        const real v = tap[l];                                                                                        \
        const uint take = -(uint) ((v > pool_real_##sfx(b)) | (v != v));                                              \
        b = (pool_bits_##sfx(v) & take) | (b & ~take);                                                                \
        place_of_b = (number & (int32_t) take) | (place_of_b & ~(int32_t) take);                                      \
    }

#define POOL_DEFINE(sfx, real, uint)                                                                                  \
                                                                                                                      \
static inline uint pool_bits_##sfx(real x) { uint u; memcpy(&u, &x, sizeof u); return u; }                            \
static inline real pool_real_##sfx(uint u) { real x; memcpy(&x, &u, sizeof x); return x; }                            \
                                                                                                                      \
static inline void pool_max_loop_##sfx(real *__restrict best, int32_t *__restrict place, real **taps,                 \
                                       const int32_t *k, ptrdiff_t n, const int first)                                \
{                                                                                                                     \
    const real *p0 = taps[0], *p1 = taps[1], *p2 = taps[2], *p3 = taps[3]; /* may be the same */                      \
    const int32_t k0 = k[0], k1 = k[1], k2 = k[2], k3 = k[3];                                                         \
    for (ptrdiff_t l = 0; l < n; l++) {                                                                               \
        uint b = pool_bits_##sfx(first ? p0[l] : best[l]);                                                            \
        int32_t place_of_b = first ? k0 : place[l];                                                                   \
        if (!first) POOL_TAKE(sfx, real, uint, p0, k0)                                                                \
        POOL_TAKE(sfx, real, uint, p1, k1)                                                                            \
        POOL_TAKE(sfx, real, uint, p2, k2)                                                                            \
        POOL_TAKE(sfx, real, uint, p3, k3)                                                                            \
        best[l] = pool_real_##sfx(b);                                                                                 \
        place[l] = place_of_b;                                                                                        \
    }                                                                                                                 \
}                                                                                                                     \
                                                                                                                      \
/* best = the maximum of four taps, and of best unless first; place = where it was found, k numbering the taps */     \
static inline void pool_max_##sfx(real *best, int32_t *place, real **taps, const int32_t *k, ptrdiff_t n, int first)  \
{                                                                                                                     \
    if (first) pool_max_loop_##sfx(best, place, taps, k, n, 1);                                                       \
    else pool_max_loop_##sfx(best, place, taps, k, n, 0);                                                             \
}                                                                                                                     \
                                                                                                                      \
/* dx (+)= dy where the maximum of the window was found here */                                                       \
static inline void pool_give_##sfx(real *__restrict dx, const real *__restrict dy, const int32_t *__restrict place,   \
                                   int32_t here, ptrdiff_t n, int first)                                              \
{                                                                                                                     \
    for (ptrdiff_t l = 0; l < n; l++) {                                                                               \
        const real d = pool_real_##sfx(pool_bits_##sfx(dy[l]) & -(uint) (place[l] == here));                          \
        dx[l] = first ? d : dx[l] + d;                                                                                \
    }                                                                                                                 \
}                                                                                                                     \
                                                                                                                      \
/* sum = (the sum of four taps, and of sum unless first) * scale */                                                   \
static inline void pool_sum_##sfx(real *__restrict sum, real **taps, real scale, ptrdiff_t n, int first)              \
{                                                                                                                     \
    const real *p0 = taps[0], *p1 = taps[1], *p2 = taps[2], *p3 = taps[3];                                            \
    for (ptrdiff_t l = 0; l < n; l++) {                                                                               \
        const real s = (p0[l] + p1[l]) + (p2[l] + p3[l]);                                                             \
        sum[l] = (first ? s : sum[l] + s) * scale;                                                                    \
    }                                                                                                                 \
}                                                                                                                     \
                                                                                                                      \
/* dx (+)= dy * scale */                                                                                              \
static inline void pool_share_##sfx(real *__restrict dx, const real *__restrict dy, real scale, ptrdiff_t n, int first)\
{                                                                                                                     \
    for (ptrdiff_t l = 0; l < n; l++)                                                                                 \
        dx[l] = first ? dy[l] * scale : dx[l] + dy[l] * scale;                                                        \
}

POOL_DEFINE(f32, float, uint32_t)
POOL_DEFINE(f64, double, uint64_t)

#undef POOL_TAKE
#undef POOL_DEFINE
#endif
