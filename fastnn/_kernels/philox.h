/* Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), 16 blocks at a time, and
 * packing of 64 bytes that are 0 or 1 into 64 bits.
 *
 * A block's counter is its number, and its four 32-bit words go to elements 16 apart, so that the lanes of a vector are
 * neighbours in memory: element 64 g + 16 w + l has word w of block 16 g + l. Words sit in 64-bit lanes, for that is what
 * the multiplication of 32 by 32 bits takes and gives; it reads the low halves only, so the high ones need no clearing
 * before the end. Two chains run side by side to hide its latency.
 */
#ifndef FASTNN_PHILOX_H
#define FASTNN_PHILOX_H

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__AVX512F__)
#include <immintrin.h>
typedef uint64_t philox_lanes __attribute__((vector_size(64)));
#define PHILOX_MUL(a, b) ((philox_lanes) _mm512_mul_epu32((__m512i) (a), (__m512i) (b)))
#elif defined(__GNUC__) && defined(__AVX2__)
#include <immintrin.h>
typedef uint64_t philox_lanes __attribute__((vector_size(32)));
#define PHILOX_MUL(a, b) ((philox_lanes) _mm256_mul_epu32((__m256i) (a), (__m256i) (b)))
#elif defined(__GNUC__) && defined(__SSE2__)
#include <immintrin.h>
typedef uint64_t philox_lanes __attribute__((vector_size(16)));
#define PHILOX_MUL(a, b) ((philox_lanes) _mm_mul_epu32((__m128i) (a), (__m128i) (b)))
#else
typedef uint64_t philox_lanes;
#define PHILOX_MUL(a, b) (((a) & 0xFFFFFFFFu) * (b))
#endif

typedef struct { philox_lanes c[4]; } philox_state;

static inline philox_lanes philox_all(uint64_t value)
{
    const philox_lanes zero = {0};
    return zero + value;
}

/* the counters of the blocks from `block` on */
static inline philox_state philox_start(uint64_t block)
{
    static const uint64_t lane[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    philox_state s;
    memcpy(&s.c[0], lane, sizeof s.c[0]);
    s.c[0] += block;
    s.c[1] = s.c[0] >> 32;
    s.c[2] = s.c[3] = philox_all(0);
    return s;
}

static inline philox_state philox_round(philox_state s, uint32_t key0, uint32_t key1)
{
    const philox_lanes a = PHILOX_MUL(s.c[0], philox_all(0xD2511F53u)), b = PHILOX_MUL(s.c[2], philox_all(0xCD9E8D57u));
    const philox_state next = {{(b >> 32) ^ s.c[1] ^ philox_all(key0), b, (a >> 32) ^ s.c[3] ^ philox_all(key1), a}};
    return next;
}

static inline void philox_store(philox_state s, uint32_t *words)
{
    uint64_t lanes[sizeof(philox_lanes) / 8];
    for (int w = 0; w < 4; w++) {
        memcpy(lanes, &s.c[w], sizeof lanes);
        for (unsigned l = 0; l < sizeof(philox_lanes) / 8; l++)
            words[16 * w + l] = (uint32_t) lanes[l];
    }
}

/* the words of the 64 elements of a group */
static inline void philox_64(uint64_t group, uint64_t key, uint32_t words[64])
{
    const unsigned width = sizeof(philox_lanes) / 8;
    for (unsigned l = 0; l < 16; l += 2 * width) {
        philox_state s = philox_start(16 * group + l), t = philox_start(16 * group + l + width);
        uint32_t key0 = (uint32_t) key, key1 = (uint32_t) (key >> 32);
        for (int round = 0; round < 10; round++) {
            s = philox_round(s, key0, key1);
            t = philox_round(t, key0, key1);
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        philox_store(s, words + l);
        philox_store(t, words + l + width);
    }
}

/* bit i of the result is byte i, each of which is 0 or 1 (little-endian) */
static inline uint64_t pack_64(const uint8_t bytes[64])
{
    uint64_t bits = 0, eight;
    for (int i = 0; i < 8; i++) {
        memcpy(&eight, bytes + 8 * i, 8);
        bits |= ((eight * 0x0102040810204080u) >> 56) << (8 * i);
    }
    return bits;
}

/* the inverse; a set bit becomes some byte that is not 0 */
static inline void unpack_64(uint64_t bits, uint8_t bytes[64])
{
    for (int i = 0; i < 8; i++) {
        const uint64_t eight = (((bits >> (8 * i)) & 0xFF) * 0x0101010101010101u) & 0x8040201008040201u;
        memcpy(bytes + 8 * i, &eight, 8);
    }
}

#endif
