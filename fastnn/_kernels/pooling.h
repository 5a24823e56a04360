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
        at = (number & (int32_t) take) | (at & ~(int32_t) take);                                                      \
    }

#define POOL_DEFINE(sfx, real, uint)                                                                                  \
                                                                                                                      \
static inline uint pool_bits_##sfx(real x) { uint u; memcpy(&u, &x, sizeof u); return u; }                            \
static inline real pool_real_##sfx(uint u) { real x; memcpy(&x, &u, sizeof x); return x; }                            \
                                                                                                                      \
static inline void pool_max_##sfx(real *__restrict y, int32_t *__restrict place, real **taps, const int32_t *numbers, \
                                  ptrdiff_t n, const int first)                                                       \
{                                                                                                                     \
    const real *p0 = taps[0], *p1 = taps[1], *p2 = taps[2], *p3 = taps[3]; /* may be the same */                      \
    const int32_t k0 = numbers[0], k1 = numbers[1], k2 = numbers[2], k3 = numbers[3];                                 \
    for (ptrdiff_t l = 0; l < n; l++) {                                                                               \
        uint b = pool_bits_##sfx(first ? p0[l] : y[l]);                                                               \
        int32_t at = first ? k0 : place[l];                                                                           \
        if (!first) POOL_TAKE(sfx, real, uint, p0, k0)                                                                \
        POOL_TAKE(sfx, real, uint, p1, k1)                                                                            \
        POOL_TAKE(sfx, real, uint, p2, k2)                                                                            \
        POOL_TAKE(sfx, real, uint, p3, k3)                                                                            \
        y[l] = pool_real_##sfx(b);                                                                                    \
        place[l] = at;                                                                                                \
    }                                                                                                                 \
}                                                                                                                     \
                                                                                                                      \
/* Four taps: if place is given, y = the maximum of them and of y, place[start:] = the number of the tap it came from;\
 * otherwise y = (the sum of them and of y) * scale. y counts unless first. */                                        \
static inline void pool_##sfx(real *__restrict y, int32_t *place, ptrdiff_t start, real **taps,                       \
                              const int32_t *numbers, real scale, ptrdiff_t n, int first)                             \
{                                                                                                                     \
    const real *p0 = taps[0], *p1 = taps[1], *p2 = taps[2], *p3 = taps[3];                                            \
    if (place && first)                                                                                               \
        pool_max_##sfx(y, place + start, taps, numbers, n, 1);                                                        \
    else if (place)                                                                                                   \
        pool_max_##sfx(y, place + start, taps, numbers, n, 0);                                                        \
    else                                                                                                              \
        for (ptrdiff_t l = 0; l < n; l++) {                                                                           \
            const real s = (p0[l] + p1[l]) + (p2[l] + p3[l]);                                                         \
            y[l] = (first ? s : y[l] + s) * scale;                                                                    \
        }                                                                                                             \
}                                                                                                                     \
                                                                                                                      \
/* dx (+)= dy where place[start:], if place is given, is number; otherwise dx (+)= dy * scale */                      \
static inline void pool_backward_##sfx(real *__restrict dx, const real *__restrict dy, const int32_t *__restrict place,\
                                       ptrdiff_t start, int32_t number, real scale, ptrdiff_t n, int first)           \
{                                                                                                                     \
    if (place)                                                                                                        \
        for (ptrdiff_t l = 0; l < n; l++) {                                                                           \
            const real d = pool_real_##sfx(pool_bits_##sfx(dy[l]) & -(uint) (place[start + l] == number));            \
            dx[l] = first ? d : dx[l] + d;                                                                            \
        }                                                                                                             \
    else                                                                                                              \
        for (ptrdiff_t l = 0; l < n; l++)                                                                             \
            dx[l] = first ? dy[l] * scale : dx[l] + dy[l] * scale;                                                    \
}

POOL_DEFINE(f32, float, uint32_t)
POOL_DEFINE(f64, double, uint64_t)

#undef POOL_TAKE
#undef POOL_DEFINE
#endif
