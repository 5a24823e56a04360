/* exp and expm1 of arguments up to 0, log1p of 0 to 1, the logistic function, tanh, the normal distribution, without
   branches, tables or calls, so that the compiler vectorizes loops over them; and these loops: the activations.

   exp: x = k ln 2 + r with |r| <= ln(2) / 2 (Cody and Waite, "Software Manual for the Elementary Functions", 1980: ln 2
   in two parts, the first with trailing zeros, so that k times it is exact). Adding MAGIC = 1.5 * 2^(mantissa bits)
   rounds to the integer k and leaves it in the low bits of the sum. Then expm1(r) = r + r^2 q(r), q by Chebyshev
   interpolation. NaN passes through every step. Of exp's argument k may be large; expm1 does with one part of ln 2, since
   what the other adds is k 2^k times it at most. Errors stay under 1.2 ulp for both. The logistic function and tanh are
   quotients whose numerator and denominator are kept with what rounding took from them; fused multiply-adds find it
   again, and correct the quotient by it: 1.1 and 1.6 ulp in float32, where the processor has them, else 2.4 and 2.5.
   AVX-512 goes another way (vmath512.h). log1p(z) = z + z^2 p(z). The normal distribution at -z < 0 is exp(-z^2 / 2) r
   p((z - K) r), r = 1 / (z + K) (Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x", 1981),
   z^2 with what rounding took from it: gelu is exact to 4 ulp where 1 + erf has no digit left. Both p have the least
   relative error of their degree (Remez), under 1e-8 in float32, 1e-17 in float64. */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define VM_INLINE static inline __attribute__((always_inline))
#else
#define VM_INLINE static inline
#endif
#if defined(__GNUC__) && !defined(__clang__) /* or comparisons with constants make it compute all behind them twice */
#define VM_STRAIGHT static inline __attribute__((optimize("no-thread-jumps")))
#else
#define VM_STRAIGHT static inline
#endif

#define VM_POLYNOMIAL(name, real, ...) /* coefficients, the constant one first */                                         \
VM_INLINE real name(real x) {                                                                                             \
    const real c[] = {__VA_ARGS__};                                                                                       \
    const int last = (int) (sizeof c / sizeof *c) - 1;                                                                    \
    real p = c[last];                                                                                                     \
    _Pragma("GCC unroll 32") for (int k = last - 1; k >= 0; k--) p = c[k] + x * p;                                        \
    return p;                                                                                                             \
}
VM_POLYNOMIAL(vm_q_f, float, 0.5f, 0.16666576305560638f, 0.041666553762567638f, 0.0083632927530306023f,
    0.00139263256181334621f)
VM_POLYNOMIAL(vm_q_, double, 0.5, 0.16666666666666671, 0.041666666666666670, 0.0083333333333260250,
    0.0013888888888883670, 0.00019841269875205077, 2.4801587325822281e-5, 2.7557254913486702e-6, 2.7557273295539724e-7,
    2.5105419192016336e-8, 2.0914831351380410e-9)
VM_POLYNOMIAL(vm_log_f, float, -0.499999328f, 0.333305114f, -0.249585879f, 0.196954026f, -0.153554015f, 0.106805636f,
    -0.0576645181f, 0.0202046216f, -0.00331848017f)
VM_POLYNOMIAL(vm_log_, double, -0.4999999999999946, 0.33333333333235051, -0.2499999999367696, 0.19999999791333535,
    -0.16666662498672778, 0.14285658898933824, -0.12499479624536677, 0.11107506054657087, -0.099810151474821137,
    0.090131543570844236, -0.080812133882165007, 0.07035546444952644, -0.057502093911802415, 0.042300221242121457,
    -0.026744063841988549, 0.013838657681878873, -0.0055431413336199415, 0.001595751624545369, -0.00029176330880116707,
    2.5330131490935307e-5)
VM_POLYNOMIAL(vm_mills_f, float, 0.744416074f, -0.565561739f, 0.315425091f, -0.116053175f, 0.017405821f, 0.00649372679f,
    -0.00317282777f, -0.00049503921f, 0.000418322297f, 0.000108692884f)
VM_POLYNOMIAL(vm_mills_, double, 0.77376963427640677, -0.68518342057433811, 0.53559648906249469, -0.36704906529361979,
    0.21787243285795867, -0.10970308995871821, 0.045097580814909536, -0.013923510565679242, 0.0024429826743545839,
    0.00026960400087299126, -0.00032452265085166865, 7.141485103093802e-5, 1.6319979487964332e-5,
    -1.2118899378999523e-5, 4.4635261190285355e-7, 1.4838656353190234e-6, -2.6777544473928215e-7,
    -1.7759534737000625e-7, 5.0251119414861794e-8, 2.2939765280665699e-8, -5.6528220958600146e-9, -2.579997797556424e-9)

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define VM_EXACT 1
#define VM_FMA(f) __builtin_fma##f
#else
#define VM_EXACT 0
#define VM_FMA(f) vm_no_fma
#define vm_no_fma(a, b, c) ((a) * (b) + (c))
#endif

/* Each activation: its name; what an element costs forward and backward, in halves of one streamed; y; dx, in y where
   the output suffices, else in x. a, b and c are parameters; zero is 0, written so that the compiler loads dy without a
   mask. NaN goes where it does in PyTorch's vectors. */
#define VM_ACTIVATIONS(X)                                                                                                 \
    X(relu, 2, 2, x <= 0 ? 0 : x, y <= 0 ? zero : dy)                                                                     \
    X(threshold, 2, 2, x <= a ? b : x, y <= a ? zero : dy)                                                                \
    X(leaky_relu, 2, 2, x * (x > 0 ? 1 : a), dy * (y > 0 ? 1 : a))                                                        \
    X(elu, 3, 2, x < 0 ? a * VM(expm1, b * x) : c * x, dy * (y <= 0 ? b * (y + a) : c))                                   \
    X(sigmoid, 3, 2, VM(sigmoid, x), dy * (y * (1 - y)))                                                                  \
    X(tanh, 3, 2, VM(tanh, x), dy * (1 - y * y))                                                                          \
    X(tanhshrink, 3, 3, x - VM(tanh, x), dy * VM(tanh, x) * VM(tanh, x))                                                  \
    X(softsign, 2, 2, x / (1 + VM(abs, x)), dy * (1 - VM(abs, y)) * (1 - VM(abs, y)))                                     \
    X(softplus, 4, 3, a * x > b ? x : VM(softplus, a * x) * (1 / a), dy * (a * x > b ? 1 : VM(logistic, a * x)))          \
    X(gelu, 4, 4, x * VM(normal, x, 0), dy * VM(normal, x, 1))                                                            \
    X(gelu_tanh, 3, 3, x * VM(logistic, x * (a + b * x * x)),                                                             \
      dy * VM(slope, x, VM(logistic, x * (a + b * x * x)), a + 3 * b * x * x))                                            \
    X(silu, 3, 3, x * VM(logistic, x), dy * VM(slope, x, VM(logistic, x), 1))                                             \
    X(mish, 3, 3, x * VM(mish, x, 0), dy * VM(mish, x, 1))                                                                \
    X(hardtanh, 2, 2, x < a ? a : x > b ? b : x, !(y > a) | !(y < b) ? zero : dy)                                         \
    X(hardsigmoid, 2, 2, x <= -3 ? 0 : x >= 3 ? 1 : (x + 3) * VM_SIXTH, (!(y > 0) | !(y < 1) ? zero : dy) * VM_SIXTH)     \
    X(hardswish, 2, 2, x * (x <= -3 ? 0 : x >= 3 ? 1 : (x + 3) * VM_SIXTH),                                               \
      x <= -3 ? 0 : x >= 3 ? dy : dy * ((2 * x + 3) * VM_SIXTH))                                                          \
    X(hardshrink, 2, 2, (x >= -a) & (x <= a) ? 0 : x, !(y < -a) & !(y > a) ? zero : dy)                                   \
    X(softshrink, 2, 2, x > a ? x - a : x < -a ? x + a : x * 0, !(y < 0) & !(y > 0) ? zero : dy)

#define VM(name, ...) _Generic(VM_FIRST(__VA_ARGS__, 0), float: vm_##name##_f, default: vm_##name##_)(__VA_ARGS__)
#define VM_FIRST(x, ...) (x) /* by whose type one of the two is chosen */
#define VM_SIXTH ((vm_real) (1.0 / 6))
#define VM_ENUM(name, ...) VM_##name,
#define VM_ROW(name, forward_cost, backward_cost, y, dx) {#name, {forward_cost, backward_cost}, {#y, #dx}},

enum { VM_ACTIVATIONS(VM_ENUM) BACKWARD };
typedef struct { const char *name; int cost[2]; const char *formula[2]; } VmRow;
static const VmRow vm_activations[] = {VM_ACTIVATIONS(VM_ROW)};

#define vm_wide_(...) 0 /* of float64; `op` is not done yet */
#ifdef __AVX512F__
#include "vmath512.h"
#else
#define vm_wide_f(...) 0
#endif

#define VM_LOOP(op, value)                                                                                                \
    case op:                                                                                                              \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                               \
            const vm_real x = in[i], y = x, dy = grad[i];                                                                 \
            out[i] = ((void) y, (void) dy, value);                                                                        \
        }                                                                                                                 \
        break;
#define VM_BOTH(name, forward_cost, backward_cost, y, dx) VM_LOOP(VM_##name, y) VM_LOOP(VM_##name + BACKWARD, dx)

/* Per dtype (f: C's suffix of its functions): number type and its bits, mantissa bits, exponent bias, ln 2 in two parts;
 * exp is 0 below LEAST, expm1 rounds to -1 below FLAT, the normal distribution is 0 below -FAR; its K. */
#define VM_DEFINE(f, real, uint, MANTISSA, BIAS, LN2_HI, LN2_LO, LEAST, FLAT, FAR, K)                                     \
/* expm1(r - rest), and 2^(k + shift) in *scale */                                                                        \
VM_INLINE real vm_reduce_##f(real x, real rest, int shift, int coarse, real *scale) {                                     \
    const real magic = (real) 1.5 * (real) ((uint) 1 << MANTISSA) + (BIAS + shift);                                       \
    const real t = x * (real) 1.4426950408889634 + magic, k = t - magic;                                                  \
    const real r = (coarse ? x - k * (real) (LN2_HI + LN2_LO) : (x - k * (real) LN2_HI) - k * (real) LN2_LO) - rest;      \
    uint bits;                                                                                                            \
    memcpy(&bits, &t, sizeof t);                                                                                          \
    bits <<= MANTISSA; /* k, biased; the others are shifted out */                                                        \
    memcpy(scale, &bits, sizeof t);                                                                                       \
    return r + r * r * vm_q_##f(r);                                                                                       \
}                                                                                                                         \
VM_INLINE real vm_exp_less_##f(real x, real rest) {                                                                       \
    real scale; /* 2^64 times too large, since 2^k may be subnormal */                                                    \
    const real p = vm_reduce_##f(x < (real) LEAST ? (real) LEAST : x, rest, 64, 0, &scale);                               \
    return ((real) 1 + p) * scale * (real) 0x1p-64;                                                                       \
}                                                                                                                         \
VM_INLINE real vm_exp_##f(real x) { return vm_exp_less_##f(x, 0); }                                                       \
VM_INLINE real vm_expm1_##f(real x) {                                                                                     \
    real scale;                                                                                                           \
    const real p = vm_reduce_##f(x < (real) FLAT ? (real) FLAT : x, 0, 0, 1, &scale);                                     \
    return scale * p + (scale - (real) 1);                                                                                \
}                                                                                                                         \
/* (a + a_rest) / (c + b + b_rest), of which the rests are small */                                                       \
VM_INLINE real vm_divide_##f(real a, real a_rest, real c, real b, real b_rest) {                                          \
    const real d = c + b, d_rest = (c - d) + b + b_rest, r = (real) 1 / d, q = a * r;                                     \
    return q + r * (VM_FMA(f)(-q, d, a) + VM_FMA(f)(-q, d_rest, a_rest));                                                 \
}                                                                                                                         \
VM_INLINE real vm_logistic_##f(real x) {                                                                                  \
    const real z = vm_exp_##f(-fabs##f(x));                                                                               \
    return (x < (real) 0 ? z : (real) 1) / ((real) 1 + z); /* neither overflows, nor loses the small values */            \
}                                                                                                                         \
VM_INLINE real vm_sigmoid_##f(real x) {                                                                                   \
    real s, z, rest;                                                                                                      \
    if (!VM_EXACT) return vm_logistic_##f(x);                                                                             \
    const real p = vm_reduce_##f(-fabs##f(x) < (real) LEAST ? (real) LEAST : -fabs##f(x), 0, 64, 0, &s);                  \
    z = VM_FMA(f)(p, s, s);                                                                                               \
    rest = VM_FMA(f)(p, s, s - z) * (real) 0x1p-64;                                                                       \
    z *= (real) 0x1p-64;                                                                                                  \
    return vm_divide_##f(x < (real) 0 ? z : (real) 1, x < (real) 0 ? rest : (real) 0, (real) 1, z, rest);                 \
}                                                                                                                         \
VM_INLINE real vm_tanh_##f(real x) {                                                                                      \
    real s, t;                                                                                                            \
    const real a = (real) -2 * fabs##f(x), p = vm_reduce_##f(a < (real) FLAT ? (real) FLAT : a, 0, 0, !VM_EXACT, &s);     \
    t = s * p + (s - (real) 1);                                                                                           \
    if (!VM_EXACT) return copysign##f(t / ((real) 2 + t), x);                                                             \
    const real rest = VM_FMA(f)(s, p, (s - (real) 1) - t);                                                                \
    return copysign##f(vm_divide_##f(t, rest, (real) 2, t, rest), x);                                                     \
}                                                                                                                         \
VM_INLINE real vm_abs_##f(real x) { return fabs##f(x); }                                                                  \
VM_INLINE real vm_softplus_##f(real x) {                                                                                  \
    const real z = vm_exp_##f(-fabs##f(x));                                                                               \
    return (x > 0 ? x : 0) + (z + z * z * vm_log_##f(z));                                                                 \
}                                                                                                                         \
/* The normal distribution or, backward, the derivative of x times it */                                                  \
VM_INLINE real vm_normal_##f(real x, int backward) {                                                                      \
    const real z = fabs##f(x) > (real) FAR ? (real) FAR : fabs##f(x), r = 1 / (z + (real) K), h = z * z;                  \
    const real bell = vm_exp_less_##f(h / -2, VM_EXACT ? VM_FMA(f)(z, z, -h) / 2 : 0);                                    \
    const real tail = bell * (r * vm_mills_##f((z - (real) K) * r)), p = x < 0 ? tail : 1 - tail;                         \
    return backward ? p + x * (bell * (real) 0.3989422804014327) : p;                                                     \
}                                                                                                                         \
/* tanh(softplus(x)) = q / d, in exp(-|x|), or the derivative of x times it; its own is 4 exp(x) (exp(x) + 1) / d^2 */    \
VM_INLINE real vm_mish_##f(real x, int backward) {                                                                        \
    const real z = vm_exp_##f(-fabs##f(x)), q = x < 0 ? z * (z + 2) : 1 + 2 * z;                                          \
    const real r = 1 / (q + (x < 0 ? 2 : 2 * z * z));                                                                     \
    return backward ? q * r + x * (4 * (x < 0 ? z : z * z) * (1 + z)) * r * r : q * r;                                    \
}                                                                                                                         \
/* the derivative of x times the logistic function s of something with the derivative t */                                \
VM_INLINE real vm_slope_##f(real x, real s, real t) { return s + x * (s * (1 - s)) * t; }

VM_DEFINE(f, float, uint32_t, 23, 127, 0.693359375, -2.12194440e-4, -104, -18, 15, 3.5)
VM_DEFINE(, double, uint64_t, 52, 1023, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -746, -38, 39, 5.5)

/* out from the input, or backward from the gradient of the output and what `in` keeps, input or output */
#define VM_APPLY(f, real)                                                                                                 \
VM_STRAIGHT void vm_apply_##f(int op, const double *p, const real *grad, const real *in, real *out, ptrdiff_t n) {        \
    typedef real vm_real;                                                                                                 \
    const real a = (real) p[0], b = (real) p[1], c = (real) p[2], zero = (real) p[3];                                     \
    if (vm_wide_##f(op, in, out, n)) return;                                                                              \
    switch (op) { VM_ACTIVATIONS(VM_BOTH) }                                                                               \
}
VM_APPLY(f, float)
VM_APPLY(, double)

#define vm_exp(x) VM(exp, x)
#define vm_apply(op, p, x, ...) _Generic((x), const float *: vm_apply_f, default: vm_apply_)(op, p, x, __VA_ARGS__)
