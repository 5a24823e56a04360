/* exp and expm1 of arguments up to 0, the logistic function and tanh, without branches, tables or calls, so that the
   compiler vectorizes loops over them; and these loops for the activations.

   x = k ln 2 + r with |r| <= ln(2) / 2 (Cody and Waite, "Software Manual for the Elementary Functions", 1980: ln 2 in two
   parts, the first with trailing zeros, so that k times it is exact). Adding MAGIC = 1.5 * 2^(mantissa bits) rounds to
   the integer k and leaves it in the low bits of the sum. Then expm1(r) = r + r^2 q(r), q by Chebyshev interpolation.
   NaN passes through every step. Of exp's argument k may be large; expm1 does with one part of ln 2, since what the other
   adds is k 2^k times it at most. Errors stay under 1.2 ulp for exp and expm1. The logistic function and tanh are
   quotients whose numerator and denominator are kept with what rounding took from them; fused multiply-adds find it
   again, and correct the quotient by it: 1.1 and 1.6 ulp in float32, where the processor has them, else 2.4 and 2.5.
   AVX-512 goes another way (vmath512.h). */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VM_Q1_f 0.16666576305560638f
#define VM_Q2_f 0.041666553762567638f
#define VM_Q3_f 0.0083632927530306023f
#define VM_Q4_f 0.00139263256181334621f
#define VM_Q_f(r) (0.5f + r * (VM_Q1_f + r * (VM_Q2_f + r * (VM_Q3_f + r * VM_Q4_f))))
#define VM_Q_(r) (0.5 + r * (0.16666666666666671 + r * (0.041666666666666670 + r * (0.0083333333333260250                 \
    + r * (0.0013888888888883670 + r * (0.00019841269875205077 + r * (2.4801587325822281e-5                               \
    + r * (2.7557254913486702e-6 + r * (2.7557273295539724e-7 + r * (2.5105419192016336e-8                                \
    + r * 2.0914831351380410e-9))))))))))

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define VM_EXACT 1
#else
#define VM_EXACT 0
#endif

enum { RELU, LEAKY_RELU, SIGMOID, TANH, ELU, BACKWARD };

#define vm_wide_(...) 0 /* of float64; `op` is not done yet */
#ifdef __AVX512F__
#include "vmath512.h"
#else
#define vm_wide_f(...) 0
#endif

#if VM_EXACT
#define VM_FMA(f) __builtin_fma##f
#else
#define VM_FMA(f) vm_no_fma /* not reached */
#define vm_no_fma(a, b, c) ((a) * (b) + (c))
#endif

#define VM_EACH(op, value)                                                                                                \
    case op:                                                                                                              \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                               \
            const vm_real x = in[i], g = dy[i];                                                                           \
            out[i] = ((void) g, value);                                                                                   \
        }                                                                                                                 \
        break;

/* Per dtype (f: C's suffix of its functions): number type and its bits, mantissa bits, exponent bias, ln 2 in two parts;
 * exp is 0 below LEAST, expm1 rounds to -1 below FLAT. */
#define VM_DEFINE(f, real, uint, MANTISSA, BIAS, LN2_HI, LN2_LO, LEAST, FLAT)                                             \
/* expm1(r), and 2^(k + shift) in *scale */                                                                               \
static inline real vm_reduce_##f(real x, int shift, int coarse, real *scale)                                              \
{                                                                                                                         \
    const real magic = (real) 1.5 * (real) ((uint) 1 << MANTISSA);                                                        \
    const real t = x * (real) 1.4426950408889634 + magic, k = t - magic;                                                  \
    const real r = coarse ? x - k * (real) (LN2_HI + LN2_LO) : (x - k * (real) LN2_HI) - k * (real) LN2_LO;               \
    uint bits;                                                                                                            \
    memcpy(&bits, &t, sizeof t);                                                                                          \
    bits = (bits + (BIAS + shift)) << MANTISSA; /* magic's low bits are 0, its others are shifted out */                  \
    memcpy(scale, &bits, sizeof t);                                                                                       \
    return r + r * r * VM_Q_##f(r);                                                                                       \
}                                                                                                                         \
static inline real vm_exp_##f(real x)                                                                                     \
{                                                                                                                         \
    real scale; /* 2^64 times too large, since 2^k may be subnormal */                                                    \
    const real p = vm_reduce_##f(x < (real) LEAST ? (real) LEAST : x, 64, 0, &scale);                                     \
    return ((real) 1 + p) * scale * (real) 0x1p-64;                                                                       \
}                                                                                                                         \
static inline real vm_expm1_##f(real x)                                                                                   \
{                                                                                                                         \
    real scale;                                                                                                           \
    const real p = vm_reduce_##f(x < (real) FLAT ? (real) FLAT : x, 0, 1, &scale);                                        \
    return scale * p + (scale - (real) 1);                                                                                \
}                                                                                                                         \
/* (a + a_rest) / (c + b + b_rest), of which the rests are small */                                                       \
static inline real vm_divide_##f(real a, real a_rest, real c, real b, real b_rest)                                        \
{                                                                                                                         \
    const real d = c + b, d_rest = (c - d) + b + b_rest, r = (real) 1 / d, q = a * r;                                     \
    return q + r * (VM_FMA(f)(-q, d, a) + VM_FMA(f)(-q, d_rest, a_rest));                                                 \
}                                                                                                                         \
static inline real vm_sigmoid_##f(real x)                                                                                 \
{                                                                                                                         \
    real s, z, rest;                                                                                                      \
    const real p = vm_reduce_##f(-fabs##f(x) < (real) LEAST ? (real) LEAST : -fabs##f(x), 64, 0, &s);                     \
    if (!VM_EXACT) {                                                                                                      \
        z = ((real) 1 + p) * s * (real) 0x1p-64;                                                                          \
        return (x < (real) 0 ? z : (real) 1) / ((real) 1 + z); /* neither overflows, nor loses the small values */        \
    }                                                                                                                     \
    z = VM_FMA(f)(p, s, s);                                                                                               \
    rest = VM_FMA(f)(p, s, s - z) * (real) 0x1p-64;                                                                       \
    z *= (real) 0x1p-64;                                                                                                  \
    return vm_divide_##f(x < (real) 0 ? z : (real) 1, x < (real) 0 ? rest : (real) 0, (real) 1, z, rest);                 \
}                                                                                                                         \
static inline real vm_tanh_##f(real x)                                                                                    \
{                                                                                                                         \
    real s, t;                                                                                                            \
    const real a = (real) -2 * fabs##f(x), p = vm_reduce_##f(a < (real) FLAT ? (real) FLAT : a, 0, !VM_EXACT, &s);        \
    t = s * p + (s - (real) 1);                                                                                           \
    if (!VM_EXACT) return copysign##f(t / ((real) 2 + t), x);                                                             \
    const real rest = VM_FMA(f)(s, p, (s - (real) 1) - t);                                                                \
    return copysign##f(vm_divide_##f(t, rest, (real) 2, t, rest), x);                                                     \
}                                                                                                                         \
/* out from the input, or backward from the gradient dy of the output `in`; a: the slope or alpha. NaN fails comparisons, \
 * which are written so that it passes. */                                                                                \
static inline void vm_apply_##f(int op, real a, const real *dy, const real *in, real *out, ptrdiff_t n)                   \
{                                                                                                                         \
    typedef real vm_real;                                                                                                 \
    if (vm_wide_##f(op, a, in, out, n)) return;                                                                           \
    switch (op) {                                                                                                         \
    VM_EACH(RELU, x <= 0 ? 0 : x)                                                                                         \
    VM_EACH(RELU + BACKWARD, x <= 0 ? 0 : g)                                                                              \
    VM_EACH(LEAKY_RELU, x * (x > 0 ? 1 : a))                                                                              \
    VM_EACH(LEAKY_RELU + BACKWARD, g * (x > 0 ? 1 : a))                                                                   \
    VM_EACH(SIGMOID, vm_sigmoid_##f(x))                                                                                   \
    VM_EACH(SIGMOID + BACKWARD, g * (x * (1 - x)))                                                                        \
    VM_EACH(TANH, vm_tanh_##f(x))                                                                                         \
    VM_EACH(TANH + BACKWARD, g * (1 - x * x))                                                                             \
    VM_EACH(ELU, x < 0 ? a * vm_expm1_##f(x) : x)                                                                         \
    VM_EACH(ELU + BACKWARD, g * (x <= 0 ? x + a : 1))                                                                     \
    }                                                                                                                     \
}

VM_DEFINE(f, float, uint32_t, 23, 127, 0.693359375, -2.12194440e-4, -104, -18)
VM_DEFINE(, double, uint64_t, 52, 1023, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -746, -38)

/* by the type of the argument */
#define vm_exp(x) _Generic((x), float: vm_exp_f, default: vm_exp_)(x)
#define vm_apply(op, a, ...) _Generic((a), float: vm_apply_f, default: vm_apply_)(op, a, __VA_ARGS__)
