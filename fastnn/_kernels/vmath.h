/* exp, expm1 of negative arguments, the logistic function and tanh, without branches, tables or calls, so that the
 * compiler vectorizes loops over them.
 *
 * x = k ln 2 + r with |r| <= ln(2) / 2 (Cody and Waite, "Software Manual for the Elementary Functions", 1980: ln 2 in two
 * parts, the first with trailing zeros, so that k times it is exact). Adding MAGIC = 1.5 * 2^(mantissa bits) rounds to
 * the integer k and leaves it in the low bits of the sum. Then expm1(r) = r + r^2 q(r), q by Chebyshev interpolation.
 * NaN passes through every step. Errors stay under 1.2 ulp for exp and expm1, 2.7 for the logistic function and tanh.
 */
#ifndef FASTNN_VMATH_H
#define FASTNN_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float vm_q_f32(float r)
{
    return 0.5f + r * (0.16666576305560638f + r * (0.041666553762567638f + r * (0.0083632927530306023f
         + r * 0.00139263256181334621f)));
}

static inline double vm_q_f64(double r)
{
    return 0.5 + r * (0.16666666666666671 + r * (0.041666666666666670 + r * (0.0083333333333260250
         + r * (0.0013888888888883670 + r * (0.00019841269875205077 + r * (2.4801587325822281e-5
         + r * (2.7557254913486702e-6 + r * (2.7557273295539724e-7 + r * (2.5105419192016336e-8
         + r * 2.0914831351380410e-9)))))))));
}

/* Per dtype: number type and its bits, mantissa bits, exponent bias, ln 2 in two parts; exp is 0 below LEAST and inf above
 * MOST; expm1 rounds to -1 below FLAT. */
#define VM_DEFINE(sfx, real, uint, MANTISSA, BIAS, LN2_HI, LN2_LO, LEAST, MOST, FLAT)                                     \
                                                                                                                          \
static inline uint vm_bits_##sfx(real x) { uint u; memcpy(&u, &x, sizeof u); return u; }                                  \
static inline real vm_real_##sfx(uint u) { real x; memcpy(&x, &u, sizeof x); return x; }                                  \
                                                                                                                          \
/* k as a two's complement integer; *r becomes the rest */                                                                \
static inline uint vm_reduce_##sfx(real x, real *r)                                                                       \
{                                                                                                                         \
    const real magic = (real) 1.5 * (real) ((uint) 1 << MANTISSA);                                                        \
    const real t = x * (real) 1.4426950408889634 + magic, k = t - magic;                                                  \
    *r = (x - k * (real) LN2_HI) - k * (real) LN2_LO;                                                                     \
    return vm_bits_##sfx(t) - vm_bits_##sfx(magic);                                                                       \
}                                                                                                                         \
                                                                                                                          \
static inline real vm_exp_##sfx(real x)                                                                                   \
{                                                                                                                         \
    real r;                                                                                                               \
    x = x < (real) LEAST ? (real) LEAST : x;                                                                              \
    x = x > (real) MOST ? (real) MOST : x;                                                                                \
    const uint k = vm_reduce_##sfx(x, &r);                                                                                \
    /* 2^k in two factors, since it may be subnormal or beyond the range; the shifts are of non-negative numbers */       \
    const uint both = k + 4 * (BIAS + 1), half = both >> 1;                                                               \
    const real low = vm_real_##sfx((half - (BIAS + 2)) << MANTISSA);                                                      \
    const real high = vm_real_##sfx((both - half - (BIAS + 2)) << MANTISSA);                                              \
    return ((real) 1 + (r + r * r * vm_q_##sfx(r))) * low * high;                                                         \
}                                                                                                                         \
                                                                                                                          \
static inline real vm_expm1_negative_##sfx(real x) /* x <= 0 */                                                           \
{                                                                                                                         \
    real r;                                                                                                               \
    x = x < (real) FLAT ? (real) FLAT : x;                                                                                \
    const uint k = vm_reduce_##sfx(x, &r);                                                                                \
    const real scale = vm_real_##sfx((k + BIAS) << MANTISSA);                                                             \
    return scale * (r + r * r * vm_q_##sfx(r)) + (scale - (real) 1);                                                      \
}                                                                                                                         \
                                                                                                                          \
static inline real vm_abs_##sfx(real x) { return vm_real_##sfx(vm_bits_##sfx(x) & ~((uint) 1 << (sizeof(uint) * 8 - 1))); } \
                                                                                                                          \
static inline real vm_sigmoid_##sfx(real x)                                                                               \
{                                                                                                                         \
    const real z = vm_exp_##sfx(-vm_abs_##sfx(x)), s = (real) 1 / ((real) 1 + z);                                         \
    return x < (real) 0 ? z * s : s; /* neither overflows, nor loses the small values */                                  \
}                                                                                                                         \
                                                                                                                          \
static inline real vm_tanh_##sfx(real x)                                                                                  \
{                                                                                                                         \
    const real t = vm_expm1_negative_##sfx((real) -2 * vm_abs_##sfx(x));                                                  \
    const uint sign = vm_bits_##sfx(x) & ((uint) 1 << (sizeof(uint) * 8 - 1));                                            \
    return vm_real_##sfx(vm_bits_##sfx(-t / ((real) 2 + t)) | sign);                                                      \
}

/* by the type of the argument */
#define VM_PICK(name, x) _Generic((x), float: vm_##name##_f32, default: vm_##name##_f64)(x)
#define vm_exp(x) VM_PICK(exp, x)
#define vm_expm1_negative(x) VM_PICK(expm1_negative, x)
#define vm_sigmoid(x) VM_PICK(sigmoid, x)
#define vm_tanh(x) VM_PICK(tanh, x)

VM_DEFINE(f32, float, uint32_t, 23, 127, 0.693359375, -2.12194440e-4, -104, 89, -18)
VM_DEFINE(f64, double, uint64_t, 52, 1023, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -746, 710, -38)

#endif
