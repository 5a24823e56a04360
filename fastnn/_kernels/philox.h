/* Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), 16 blocks at a time, and
 * packing of 64 bytes that are 0 or 1 into 64 bits.
 *
 * A block's counter is its number, and its four 32-bit words go to elements 16 apart, so that the lanes of a vector are
 * neighbours in memory: element 64 g + 16 w + l has word w of block 16 g + l. Words sit in 64-bit lanes, for that is what
 * the multiplication of 32 by 32 bits takes and gives; it reads the low halves only, so the high ones need no clearing
 * before the end. Two vectors run side by side to hide its latency.
 */
#ifndef FASTNN_PHILOX_H
#define FASTNN_PHILOX_H

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
#else
#define PHILOX_LANES 1
#define PHILOX_MUL(a, b) (((a) & 0xFFFFFFFFu) * (b))
typedef uint64_t philox_word;
#endif

/* the words of the 64 elements of a group */
static inline void philox_64(uint64_t group, uint64_t key, uint32_t words[64])
{
    static const uint64_t lane[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const philox_word zero = {0}, factor0 = zero + 0xD2511F53u, factor2 = zero + 0xCD9E8D57u;
    for (int first = 0; first < 16; first += 2 * PHILOX_LANES) {
        uint32_t key0 = (uint32_t) key, key1 = (uint32_t) (key >> 32);
        philox_word c[2][4];
        for (int v = 0; v < 2; v++) {
            memcpy(&c[v][0], lane, sizeof zero);
            c[v][0] += 16 * group + first + v * PHILOX_LANES;
            c[v][1] = c[v][0] >> 32;
            c[v][2] = c[v][3] = zero;
        }
        for (int round = 0; round < 10; round++) {
            for (int v = 0; v < 2; v++) {
                const philox_word a = PHILOX_MUL(c[v][0], factor0), b = PHILOX_MUL(c[v][2], factor2);
                c[v][0] = (b >> 32) ^ c[v][1] ^ (zero + key0);
                c[v][2] = (a >> 32) ^ c[v][3] ^ (zero + key1);
                c[v][1] = b;
                c[v][3] = a;
            }
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        for (int v = 0; v < 2; v++)
            for (int w = 0; w < 4; w++) {
                uint64_t lanes[PHILOX_LANES];
                memcpy(lanes, &c[v][w], sizeof lanes);
                for (int l = 0; l < PHILOX_LANES; l++)
                    words[16 * w + first + v * PHILOX_LANES + l] = (uint32_t) lanes[l];
            }
    }
}

/* bit i of the result is byte i, each of which is 0 or 1 (little-endian) */
static inline uint64_t pack_64(const uint8_t bytes[64])
{
    uint64_t bits = 0, eight;
    for (int i = 0; i < 64; i += 8) {
        memcpy(&eight, bytes + i, 8);
        bits |= ((eight * 0x0102040810204080u) >> 56) << i;
    }
    return bits;
}

/* the inverse; a set bit becomes some byte that is not 0 */
static inline void unpack_64(uint64_t bits, uint8_t bytes[64])
{
    for (int i = 0; i < 64; i += 8) {
        const uint64_t eight = (((bits >> i) & 0xFF) * 0x0101010101010101u) & 0x8040201008040201u;
        memcpy(bytes + i, &eight, 8);
    }
}

#endif
