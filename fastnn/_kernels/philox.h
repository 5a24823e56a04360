/* Masks from Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), 16 blocks at a time.

   A block's counter is its number, and its four 32-bit words go to elements 16 apart, so that the lanes of a vector are
   neighbours in memory: element 64 g + 16 w + l has word w of block 16 g + l. Words sit in 64-bit lanes: multiplication
   reads the low halves and fills both. Two vectors run side by side to hide its latency. */
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__SSE2__)
#include <immintrin.h>
#if defined(__AVX512F__)
#define PHILOX_LANES 8
#define PHILOX_MUL(a, b) ((philox_word) _mm512_mul_epu32((__m512i) (a), (__m512i) (b)))
#elif defined(__AVX2__)
#define PHILOX_LANES 4
#define PHILOX_MUL(a, b) ((philox_word) _mm256_mul_epu32((__m256i) (a), (__m256i) (b)))
#else
#define PHILOX_LANES 2
#define PHILOX_MUL(a, b) ((philox_word) _mm_mul_epu32((__m128i) (a), (__m128i) (b)))
#endif
typedef uint64_t philox_word __attribute__((vector_size(8 * PHILOX_LANES)));
#define PHILOX_INLINE static inline __attribute__((always_inline)) /* so that the keys stay in registers */
#else
#define PHILOX_LANES 1
#define PHILOX_MUL(a, b) (((a) & 0xFFFFFFFFu) * (b))
typedef uint64_t philox_word;
#define PHILOX_INLINE static inline
#endif

#define FOUR_BITS(i) 1u << (i), 2u << (i), 4u << (i), 8u << (i)
static const uint32_t philox_bit[32] = {
    FOUR_BITS(0), FOUR_BITS(4), FOUR_BITS(8), FOUR_BITS(12), FOUR_BITS(16), FOUR_BITS(20), FOUR_BITS(24), FOUR_BITS(28)};

/* Whether the words of the 64 elements of a group are at least `least`, in the bits of two numbers */
PHILOX_INLINE void philox_mask(uint64_t group, uint64_t key, uint32_t least, uint32_t mask[2])
{
    static const uint64_t lane[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const philox_word zero = {0}, factor0 = zero + 0xD2511F53u, factor2 = zero + 0xCD9E8D57u;
    uint32_t words[64];
    for (int first = 0; first < 16; first += 2 * PHILOX_LANES) {
        uint32_t key0 = (uint32_t) key, key1 = (uint32_t) (key >> 32);
        philox_word c[2][4];
        for (int v = 0; v < 2; v++) {
            memcpy(&c[v][0], lane, sizeof zero);
            c[v][0] += 16 * group + first + v * PHILOX_LANES;
            c[v][1] = c[v][0] >> 32;
            c[v][2] = c[v][3] = zero;
        }
        for (int round = 0; round < 10; round++, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u)
            for (int v = 0; v < 2; v++) {
                const philox_word a = PHILOX_MUL(c[v][0], factor0), b = PHILOX_MUL(c[v][2], factor2);
                c[v][0] = (b >> 32) ^ c[v][1] ^ (zero + key0);
                c[v][2] = (a >> 32) ^ c[v][3] ^ (zero + key1);
                c[v][1] = b;
                c[v][3] = a;
            }
        for (int v = 0; v < 2; v++)
            for (int w = 0; w < 4; w++)
                for (int l = 0; l < PHILOX_LANES; l++)
                    words[16 * w + first + v * PHILOX_LANES + l] = (uint32_t) ((uint64_t *) &c[v][w])[l];
    }
    for (int half = 0; half < 2; half++) {
        mask[half] = 0;
        for (int i = 0; i < 32; i++)
            mask[half] |= words[32 * half + i] >= least ? philox_bit[i] : 0;
    }
}
