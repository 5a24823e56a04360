/* The logistic function and tanh in float32 with AVX-512. Six vectors go side by side: enough for the multiply-adds of
   one to fill the latency of another's, and as many as the registers hold. vpermps looks 16 numbers up in a register:
   polynomials are shorter, and nothing is divided. Of some 20 instructions a vector 10 and 6 go to the two ports that
   multiply: 5 cycles at best, where the third-level cache takes 4. Errors stay under 1.7 and 1.2 ulp.

   Logistic: exp(-x) = 2^-n 2^(-j/16) exp(r) with |r| < 0.024, and y = s / (s + t), s = 2^n, t = 2^(-j/16) exp(r), so
   that no power overflows. Both are 2^32 times larger, so that s is normal where y is subnormal. One step of Newton's
   makes 14 bits of q = 1 / (s + t) whole; s q is exact, and the residual 1 - t q - s q does without the rounded sum.

   tanh: [0, 9) is cut by the exponent of |x| + 1 and the two bits behind it. A piece's polynomial, of least relative
   errors, begins at a point near its middle where tanh is all but a float32 (Gal, "Computing elementary functions: a new
   approach for achieving high accuracy and good performance", 1986). The first piece's is 0, its slope there 1. */
#pragma once
#include <immintrin.h>

static const float vm_power_table[2][16] = { /* 2^(32 - j/16) of nine bits, and the logarithm of what these lack */
    {4.2949673e+09f, 4.11041792e+09f, 3.94264576e+09f, 3.7748736e+09f, 3.61549005e+09f, 3.4561065e+09f,
     3.31350016e+09f, 3.17089382e+09f, 3.0366761e+09f, 2.91084698e+09f, 2.78501786e+09f, 2.66757734e+09f,
     2.55013683e+09f, 2.44947354e+09f, 2.34042163e+09f, 2.23975834e+09f},
    {0.0f, 0.000597535167f, -0.00105146726f, -0.000888054084f, -0.00107026019f, 0.000692781759f, -0.000491332554f,
     0.000178537928f, 0.000106822932f, -0.000895443955f, -2.73317273e-05f, -0.000265444367f, 0.00143653818f,
     -0.0016112614f, 0.000609060226f, 0.00125048484f}};
static const float vm_tanh_table[8][16] = { /* points, tanh there, and the coefficients from the first to the sixth */
    {1.24971187f, 1.74976504f, 2.24957728f, 2.74952292f, 3.50058651f, 4.50029421f, 5.49858046f, 6.49897194f,
     7.99713898f, 0.0f, 0.0f, 0.0f, 0.0f, 0.375086069f, 0.625106633f, 0.875141978f},
    {0.848202825f, 0.941348791f, 0.978007734f, 0.991851985f, 0.998180032f, 0.999753356f, 0.999966502f, 0.99999547f,
     0.999999762f, 1.0f, 1.0f, 1.0f, 0.0f, 0.358432412f, 0.554673553f, 0.703977227f},
    {0.280551851f, 0.113862403f, 0.0435008705f, 0.0162296426f, 0.00363669544f, 0.000493237982f, 6.69959845e-05f,
     9.060087e-06f, 4.53214341e-07f, 0.0f, 0.0f, 0.0f, 1.0f, 0.871526182f, 0.692337275f, 0.504416049f},
    {-0.237964973f, -0.107184239f, -0.0425441824f, -0.0160973985f, -0.00363003509f, -0.000493109517f, -6.6992754e-05f,
     -9.05992147e-06f, -3.56538578e-07f, 0.0f, 0.0f, 0.0f, -1.14828288e-06f, -0.312383384f, -0.384021163f,
     -0.355097473f},
    {0.108340509f, 0.0629502609f, 0.0271085817f, 0.0105559556f, 0.0024089166f, 0.00032822974f, 4.46110498e-05f,
     6.03341095e-06f, 2.97397975e-07f, 0.0f, 0.0f, 0.0f, -0.333268404f, -0.178537086f, -0.0177814905f, 0.081843473f},
    {-0.0125580253f, -0.023527842f, -0.0123313991f, -0.00510457437f, -0.00119612168f, -0.000164019308f,
     -2.23132538e-05f, -3.01798764e-06f, -3.42173962e-07f, 0.0f, 0.0f, 0.0f, -0.00120408915f, 0.16814886f,
     0.137865797f, 0.0607626811f},
    {-0.019715745f, 0.00348026049f, 0.00397909945f, 0.00191686489f, 0.000489826547f, 6.82649552e-05f, 9.30589522e-06f,
     1.25909253e-06f, 7.00577445e-08f, 0.0f, 0.0f, 0.0f, 0.14317748f, 0.0186893586f, -0.0542377643f, -0.0587205403f},
    {0.0151108485f, 0.0020892676f, -0.000718214607f, -0.000545411312f, -0.000157061499f, -2.24929245e-05f,
     -3.07060327e-06f, -4.16009442e-07f, 8.72668835e-08f, 0.0f, 0.0f, 0.0f, -0.0371257886f, -0.0704648122f,
     -0.0240041483f, 0.0125704622f}};

#define VM_ALL(...) _Pragma("GCC unroll 6") for (int v = 0; v < n; v++) { __VA_ARGS__; }
#define VM_LOOKUP(row, j) _mm512_permutexvar_ps(_mm512_castps_si512(j), _mm512_loadu_ps(row))
#define vm_all _mm512_set1_ps
#define vm_fma _mm512_fmadd_ps

VM_INLINE void vm_sigmoid_wide(const int n, const float *in, float *out)
{
    const __m512 magic = vm_all(0x1.8p19f + 127 + 32); /* rounds to 16ths, and leaves n and j in the low bits */
    const __m512i exponent = _mm512_set1_epi32(0x7f800000);
    __m512 x[6], k[6], r[6], p[6], s[6], t[6], q[6];
    VM_ALL(x[v] = _mm512_min_ps(vm_all(32), _mm512_loadu_ps(in + 16 * v))) /* the second if one is NaN */
    VM_ALL(x[v] = _mm512_max_ps(vm_all(-105), x[v]))
    VM_ALL(t[v] = vm_fma(x[v], vm_all(1.44269504f), magic))
    VM_ALL(k[v] = _mm512_sub_ps(t[v], magic))
    VM_ALL(r[v] = _mm512_fmsub_ps(k[v], vm_all(0.693145752f), x[v]))
    VM_ALL(r[v] = vm_fma(k[v], vm_all(1.42860677e-6f), r[v]))
    VM_ALL(r[v] = _mm512_add_ps(r[v], VM_LOOKUP(vm_power_table[1], t[v])))
    VM_ALL(p[v] = vm_fma(r[v], vm_all(0.16666667f), vm_all(0.5f)))
    VM_ALL(p[v] = vm_fma(p[v], _mm512_mul_ps(r[v], r[v]), r[v])) /* exp(r) - 1 */
    VM_ALL(s[v] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_slli_epi32(_mm512_castps_si512(t[v]), 19), exponent)))
    VM_ALL(t[v] = VM_LOOKUP(vm_power_table[0], t[v]))
    VM_ALL(t[v] = vm_fma(t[v], p[v], t[v]))
    VM_ALL(q[v] = _mm512_rcp14_ps(_mm512_add_ps(s[v], t[v])))
    VM_ALL(t[v] = _mm512_fnmadd_ps(t[v], q[v], vm_all(1)))
    VM_ALL(q[v] = _mm512_mul_ps(q[v], s[v])) /* exact: s is a power of 2 */
    VM_ALL(t[v] = _mm512_sub_ps(t[v], q[v]))
    VM_ALL(_mm512_storeu_ps(out + 16 * v, vm_fma(q[v], t[v], q[v])))
}

VM_INLINE void vm_tanh_wide(const int n, const float *in, float *out)
{
    const __m512 sign = vm_all(-0.0f);
    __m512 x[6], j[6], p[6];
    VM_ALL(x[v] = _mm512_min_ps(vm_all(10), _mm512_andnot_ps(sign, _mm512_loadu_ps(in + 16 * v))))
    VM_ALL(j[v] = _mm512_add_ps(x[v], vm_all(1)))
    VM_ALL(j[v] = _mm512_castsi512_ps(_mm512_srli_epi32(_mm512_castps_si512(j[v]), 21)))
    VM_ALL(x[v] = _mm512_sub_ps(x[v], VM_LOOKUP(vm_tanh_table[0], j[v])))
    VM_ALL(p[v] = VM_LOOKUP(vm_tanh_table[7], j[v]))
    _Pragma("GCC unroll 6") for (int i = 6; i > 0; i--)
        VM_ALL(p[v] = vm_fma(p[v], x[v], VM_LOOKUP(vm_tanh_table[i], j[v])))
    VM_ALL(_mm512_storeu_ps(out + 16 * v, _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
        _mm512_castps_si512(p[v]), _mm512_castps_si512(_mm512_loadu_ps(in + 16 * v)), _mm512_castps_si512(sign), 0xf8))))
}

#define VM_WIDE(kind, f)                                                                                              \
    case kind:                                                                                                        \
        for (; i + 16 * 6 <= n; i += 16 * 6) f(6, in + i, out + i);                                                   \
        for (; i + 16 <= n; i += 16) f(1, in + i, out + i);                                                           \
        memcpy(last, in + i, (size_t) (n - i) * sizeof(float));                                                       \
        f(1, last, last);                                                                                             \
        memcpy(out + i, last, (size_t) (n - i) * sizeof(float));                                                      \
        return 1;

/* whether `op` is one of these two, which then is done; `out` may be `in` */
static inline int vm_wide_f(int op, const float *in, float *out, ptrdiff_t n)
{
    float last[16] = {0};
    ptrdiff_t i = 0;
    switch (op) {
    VM_WIDE(VM_sigmoid, vm_sigmoid_wide)
    VM_WIDE(VM_tanh, vm_tanh_wide)
    }
    return 0;
}
