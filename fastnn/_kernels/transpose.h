/* to[j][i] = a[i][j], by square tiles in registers, in blocks that stay in the first-level cache. */
#ifndef TRANSPOSE_TILE /* the file includes itself, once for each dtype */
#include <stddef.h>
#include <string.h>

/* `rows` <= N rows of a, and N columns; rows of `to` are written whole. Interleaving row i with row i + N/2, log2(N)
   times over, transposes. */
#if defined(__GNUC__) && (defined(__clang__) || __GNUC__ >= 12)
#define TRANSPOSE_UNROLLED _Pragma("GCC unroll 16")
#define LOW_4 0, 4, 1, 5
#define HIGH_4 2, 6, 3, 7
#define LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define TRANSPOSE_TILE(N) \
static inline __attribute__((always_inline)) void NAME(square_##N)(const REAL *a, ptrdiff_t row, REAL *to, \
    ptrdiff_t to_row, int rows) { \
    typedef REAL V __attribute__((vector_size(N * sizeof(REAL)))); \
    V v[N], w[N]; \
    TRANSPOSE_UNROLLED for (int i = 0; i < N; i++) memcpy(&v[i], a + (i < rows ? i : 0) * row, sizeof(V)); \
    TRANSPOSE_UNROLLED for (int stage = 1; stage < N; stage *= 2) { \
        TRANSPOSE_UNROLLED for (int i = 0; i < N / 2; i++) { \
            w[2 * i] = __builtin_shufflevector(v[i], v[i + N / 2], LOW_##N); \
            w[2 * i + 1] = __builtin_shufflevector(v[i], v[i + N / 2], HIGH_##N); \
        } \
        TRANSPOSE_UNROLLED for (int i = 0; i < N; i++) v[i] = w[i]; \
    } \
    TRANSPOSE_UNROLLED for (int i = 0; i < N; i++) memcpy(to + i * to_row, &v[i], sizeof(V)); \
}
#else
#define TRANSPOSE_TILE(N) \
static inline void NAME(square_##N)(const REAL *a, ptrdiff_t row, REAL *to, ptrdiff_t to_row, int rows) { \
    for (int j = 0; j < N; j++) \
        for (int i = 0; i < N; i++) to[j * to_row + i] = a[(i < rows ? i : 0) * row + j]; \
}
#endif
/* the last tiles of a block overlap others */
#define TRANSPOSE_BLOCK(N) \
    if (last - first >= N && columns >= N) { \
        for (j = 0; j < columns; j += N) { \
            j = j + N > columns ? columns - N : j; \
            for (i = first; i < last; i += N) { \
                i = i + N > last ? last - N : i; \
                NAME(square_##N)(a + i * row + j, row, to + j * to_row + i, to_row, N); \
            } \
        } \
        continue; \
    }
#define TYPED "transpose.h"
#include "types.h"
#define transpose(a, rows, row, columns, to, to_row) BY_TYPE(to, transpose)(a, rows, row, columns, to, to_row)

#elif defined(REAL)
TRANSPOSE_TILE(4)
TRANSPOSE_TILE(8)
TRANSPOSE_TILE(16)

static void NAME(transpose)(const REAL *a, ptrdiff_t rows, ptrdiff_t row, ptrdiff_t columns, REAL *to, ptrdiff_t to_row) {
    const ptrdiff_t blocks = columns < 4 ? 1 : (rows + 63) / 64;
    ptrdiff_t i = 0, j = 0;
    if (rows == to_row && rows <= 4) /* short rows of `to` are written in tiles too, each spilling over into the next */
        for (; j + 4 + 4 / rows <= columns; j += 4) NAME(square_4)(a + j, row, to + j * to_row, to_row, (int)rows);
    else if (rows == to_row && rows < 8)
        for (; j + 8 + 8 / rows <= columns; j += 8) NAME(square_8)(a + j, row, to + j * to_row, to_row, (int)rows);
    a += j, to += j * to_row, columns -= j;
    for (ptrdiff_t block = 0; block < blocks; block++) {
        const ptrdiff_t first = rows * block / blocks, last = rows * (block + 1) / blocks;
#ifdef __AVX512F__ /* a tile's rows are lines of memory */
        if (sizeof(REAL) == 4) TRANSPOSE_BLOCK(16)
#endif
        TRANSPOSE_BLOCK(8)
        TRANSPOSE_BLOCK(4)
        for (j = 0; j < columns; j++)
            for (i = first; i < last; i++) to[j * to_row + i] = a[i * row + j];
    }
}
#endif
