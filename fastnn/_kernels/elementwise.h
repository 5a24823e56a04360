/* Loops of arithmetic, and the transposition of square tiles in registers. */
#pragma once
#include <stddef.h>
#include <string.h>

#if defined(__GNUC__)
#define EW_LOOP _Pragma("GCC ivdep") for (ptrdiff_t i = 0; i < n; i++) /* z may be x or y, element for element */
#define EW_INLINE static inline __attribute__((always_inline))
#define EW_UNROLLED _Pragma("GCC unroll 16")
#else
#define EW_LOOP for (ptrdiff_t i = 0; i < n; i++)
#define EW_INLINE static inline
#define EW_UNROLLED
#endif

enum { ADD, SUB, MUL, DIV };

#define EW_OP(kind, op)                                                                                                   \
    case kind:                                                                                                            \
        if (fixed == 0) EW_LOOP z[i] = x[i] op y[i];                                                                      \
        else if (fixed == 1) EW_LOOP z[i] = x0 op y[i];                                                                   \
        else EW_LOOP z[i] = x[i] op y0;                                                                                   \
        break;

/* z = x op y; operand number `fixed` (1: x, 2: y) is one number */
#define EW_APPLY(sfx, real)                                                                                               \
    static void ew_apply_##sfx(int op, int fixed, const real *x, const real *y, real *z, ptrdiff_t n) {                   \
        const real x0 = *x, y0 = *y;                                                                                      \
        switch (op) { EW_OP(ADD, +) EW_OP(SUB, -) EW_OP(MUL, *) EW_OP(DIV, /) }                                           \
    }
EW_APPLY(f32, float)
EW_APPLY(f64, double)
#define ew_apply(op, fixed, x, ...) _Generic((x), float *: ew_apply_f32, default: ew_apply_f64)(op, fixed, x, __VA_ARGS__)

/* y[j * to + i] = x[i * from + j] for `rows` <= L rows i of x and L columns j; y's rows are written whole, L elements.
   Interleaving row i with row i + L/2, log2(L) times over, transposes. */
#define EW_SHUFFLES_4 const index_4 low = {0, 4, 1, 5}, high = {2, 6, 3, 7};
#define EW_SHUFFLES_8 const index_8 low = {0, 8, 1, 9, 2, 10, 3, 11}, high = {4, 12, 5, 13, 6, 14, 7, 15};
#define EW_SHUFFLES_16                                                                                                    \
    const index_16 low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};                                        \
    const index_16 high = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#if defined(__GNUC__)
#define EW_TILE(name, real, index, L)                                                                                     \
    EW_INLINE void name(const real *x, ptrdiff_t from, real *y, ptrdiff_t to, int rows) {                                 \
        typedef real V __attribute__((vector_size(L * sizeof(real))));                                                    \
        typedef index index_##L __attribute__((vector_size(L * sizeof(real))));                                           \
        EW_SHUFFLES_##L                                                                                                   \
        V a[L], b[L];                                                                                                     \
        EW_UNROLLED for (int i = 0; i < L; i++) memcpy(&a[i], x + (i < rows ? i : 0) * from, sizeof(V));                  \
        EW_UNROLLED for (int stage = 1; stage < L; stage *= 2) {                                                          \
            EW_UNROLLED for (int i = 0; i < L / 2; i++) {                                                                 \
                b[2 * i] = EW_SHUFFLE(a[i], a[i + L / 2], low);                                                           \
                b[2 * i + 1] = EW_SHUFFLE(a[i], a[i + L / 2], high);                                                      \
            }                                                                                                             \
            EW_UNROLLED for (int i = 0; i < L; i++) a[i] = b[i];                                                          \
        }                                                                                                                 \
        EW_UNROLLED for (int i = 0; i < L; i++) memcpy(y + i * to, &a[i], sizeof(V));                                     \
    }
#ifdef __clang__ /* whose shuffle takes its indices one by one; left to its vectorizer */
#undef EW_TILE
#define EW_TILE EW_PLAIN
#else
#define EW_SHUFFLE __builtin_shuffle
#endif
#else
#define EW_TILE EW_PLAIN
#endif
#define EW_PLAIN(name, real, index, L)                                                                                    \
    EW_INLINE void name(const real *x, ptrdiff_t from, real *y, ptrdiff_t to, int rows) {                                 \
        for (int j = 0; j < L; j++)                                                                                       \
            for (int i = 0; i < L; i++) y[j * to + i] = x[(i < rows ? i : 0) * from + j];                                 \
    }
#if defined(__AVX512F__) && !defined(__clang__) /* a tile's rows are lines of memory, in x and y */
EW_TILE(ew_tile16_f32, float, int, 16)
#define EW_LARGE_f32(...) EW_TILES(ew_tile16_f32, 16)
#else
#define EW_LARGE_f32(...)
#endif
#define EW_LARGE_f64(...)
EW_TILE(ew_tile8_f32, float, int, 8)
EW_TILE(ew_tile4_f32, float, int, 4)
EW_TILE(ew_tile8_f64, double, long long, 8)
EW_TILE(ew_tile4_f64, double, long long, 4)

/* y[j * to + i] = x[i * from + j] for i < rows, j < columns: tiles, the last of which overlap; where rows of y are as
   short as `to`, they are written in tiles too, each spilling over into the next. */
#define EW_TILES(tile, L)                                                                                                 \
    if (rows >= L && columns >= L) {                                                                                      \
        for (j = 0; j < columns; j += L) {                                                                                \
            j = j + L > columns ? columns - L : j;                                                                        \
            for (i = 0; i < rows; i += L) {                                                                               \
                i = i + L > rows ? rows - L : i;                                                                          \
                tile(x + i * from + j, from, y + j * to + i, to, L);                                                      \
            }                                                                                                             \
        }                                                                                                                 \
        return;                                                                                                           \
    }
#define EW_TRANSPOSE(sfx, real)                                                                                           \
    static void ew_transpose_##sfx(const real *x, ptrdiff_t from, real *y, ptrdiff_t to, ptrdiff_t rows,                  \
                                   ptrdiff_t columns) {                                                                   \
        ptrdiff_t i = 0, j = 0;                                                                                           \
        EW_LARGE_##sfx() EW_TILES(ew_tile8_##sfx, 8)                                                                      \
        if (rows == to && rows <= 4)                                                                                      \
            for (; j + 4 + 4 / rows <= columns; j += 4) ew_tile4_##sfx(x + j, from, y + j * to, to, (int)rows);           \
        else if (rows == to && rows <= 8)                                                                                 \
            for (; j + 8 + 8 / rows <= columns; j += 8) ew_tile8_##sfx(x + j, from, y + j * to, to, (int)rows);           \
        for (; j < columns; j++)                                                                                          \
            for (i = 0; i < rows; i++) y[j * to + i] = x[i * from + j];                                                   \
    }
EW_TRANSPOSE(f32, float)
EW_TRANSPOSE(f64, double)
#define ew_transpose(x, ...) _Generic((x), float *: ew_transpose_f32, default: ew_transpose_f64)(x, __VA_ARGS__)
