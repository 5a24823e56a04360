/* The register tile under every dense product: matrix product, convolution and its two gradients.

   C[i][j] = start + sum over k of A[i][k] * B[k][j], for MR rows i and NV vectors of columns j. The sums stay in
   registers; k is walked by three nested loops, each with its own step through A and B, so that the same tile reads a
   plain matrix, the rows of a convolution's windows, or pixels of many images. Each product is added to its sum in the
   order of the walk, so results do not depend on the size of the tile that computes them.

   One instance for each MR, NV, dtype and orientation of A: rows far apart with k side by side (`far`), or rows side
   by side with k far apart (`side`). All loops over the tile have literal bounds and unroll. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define TILE_ROWS 14 /* 28 sums, 2 vectors of B, and A from memory: 30 of 32 registers */
#define SLIDE_ROWS 16
#define DOT_ROWS 4 /* 24 sums, 4 vectors of A, one of B */
#define DOT_COLUMNS 6
#define SLIDE_CHANNELS(KW) (KW == 3 ? 8 : 5) /* 24 or 25 sums, KW vectors of B, one of A */
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define TILE_ROWS 6 /* 12 sums, 2 vectors of B, 1 of A: 15 of 16 registers */
#define SLIDE_ROWS 10
#define DOT_ROWS 3
#define DOT_COLUMNS 4
#define SLIDE_CHANNELS(KW) (KW == 3 ? 4 : 2)
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define TILE_ROWS 12
#define SLIDE_ROWS 16
#define DOT_ROWS 4 /* 24 sums, 4 vectors of A, one of B */
#define DOT_COLUMNS 6
#define SLIDE_CHANNELS(KW) (KW == 3 ? 8 : 5)
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 6
#define SLIDE_ROWS 10
#define DOT_ROWS 3
#define DOT_COLUMNS 4
#define SLIDE_CHANNELS(KW) (KW == 3 ? 4 : 2)
#endif
typedef float vector_f32 __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef double vector_f64 __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
#define UNROLLED _Pragma("GCC unroll 32")
#define PREFETCH __builtin_prefetch
#define TILE_INLINE static inline __attribute__((always_inline))
#if defined(__aarch64__)
#define KEEP(v) __asm__("" : "+w"(v)) /* in a register: GCC would rather load it anew for every use */
#else
#define KEEP(v) __asm__("" : "+v"(v))
#endif
#else /* one lane, left to the compiler */
#define VECTOR_BYTES 0
#define TILE_ROWS 4
#define SLIDE_ROWS 4
#define DOT_ROWS 3
#define DOT_COLUMNS 4
#define SLIDE_CHANNELS(KW) 2
typedef float vector_f32;
typedef double vector_f64;
#define UNROLLED
#define PREFETCH(...)
#define KEEP(v) ((void)0)
#define TILE_INLINE static inline
#endif

#define LANES_f32 ((int)(sizeof(vector_f32) / sizeof(float)))
#define LANES_f64 ((int)(sizeof(vector_f64) / sizeof(double)))
#define TILE_VECTORS 2
#define AHEAD 32 /* steps of k between prefetch and use */

/* Brings n bytes into the second-level cache, while the processor does something else */
static inline void prefetch(const void *from, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += 64) PREFETCH((const char *)from + i, 0, 2);
    (void)from;
}

typedef struct {
    ptrdiff_t n[3]; /* steps of each loop, outermost first */
    ptrdiff_t a[3]; /* elements from one step to the next, in A */
    ptrdiff_t b[3]; /* and in B */
} Walk;

#define ROWS_4(F, ...) F(1, __VA_ARGS__) F(2, __VA_ARGS__) F(3, __VA_ARGS__) F(4, __VA_ARGS__)
#define ROWS_6(F, ...) ROWS_4(F, __VA_ARGS__) F(5, __VA_ARGS__) F(6, __VA_ARGS__)
#define ROWS_12(F, ...) ROWS_6(F, __VA_ARGS__) F(7, __VA_ARGS__) F(8, __VA_ARGS__) F(9, __VA_ARGS__) \
    F(10, __VA_ARGS__) F(11, __VA_ARGS__) F(12, __VA_ARGS__)
#define ROWS_14(F, ...) ROWS_12(F, __VA_ARGS__) F(13, __VA_ARGS__) F(14, __VA_ARGS__)
#define JOIN_AS_IS(a, b) a##b
#define JOIN(a, b) JOIN_AS_IS(a, b)
#define EACH_ROWS JOIN(ROWS_, TILE_ROWS)

/* `row` is a literal 1 in the instances for rows side by side, and `step` in those for rows far apart. Rows far apart
   are reached from one pointer for each three of them, which x86 addresses with the scales 0, 1 and 2. */
#define TILE_BODY(T, S) \
TILE_INLINE void tile_body_##S(const int MR, const int NV, const T *a, const ptrdiff_t row, const int far, \
    const Walk *w, const T *b, T *c, ptrdiff_t c_row, const T *start, int add) { \
    vector_##S sum[TILE_ROWS][TILE_VECTORS]; \
    const ptrdiff_t step_a = far ? 1 : w->a[2], step_b = w->b[2], n2 = w->n[2]; \
    UNROLLED for (int i = 0; i < MR; i++) \
        UNROLLED for (int j = 0; j < NV; j++) PREFETCH(c + i * c_row + j * LANES_##S, 1, 3); /* to be stored */ \
    UNROLLED for (int i = 0; i < MR; i++) \
        UNROLLED for (int j = 0; j < NV; j++) { \
            const T *from = add ? c + i * c_row : start; \
            if (from) sum[i][j] = *(const vector_##S *)(from + j * LANES_##S); \
            else sum[i][j] = (vector_##S){0}; \
        } \
    for (ptrdiff_t k0 = 0; k0 < w->n[0]; k0++) \
        for (ptrdiff_t k1 = 0; k1 < w->n[1]; k1++) { \
            const T *pb = b + k0 * w->b[0] + k1 * w->b[1]; \
            const T *p0 = a + k0 * w->a[0] + k1 * w->a[1]; \
            const T *p3 = p0 + 3 * row, *p6 = p3 + 3 * row, *p9 = p6 + 3 * row, *p12 = p9 + 3 * row; \
            for (ptrdiff_t k2 = 0; k2 < n2; k2++) { \
                vector_##S vb[TILE_VECTORS]; \
                if (!far && VECTOR_BYTES == 64) { /* strides that it does not foresee: 1.2 to 1.5 times faster at C = 64; \
                    shorter vectors would wait for the loads: 0.8 times */ \
                    PREFETCH(p0 + AHEAD * step_a, 0, 3); \
                    PREFETCH(p0 + AHEAD * step_a + MR - 1, 0, 3); \
                    UNROLLED for (int j = 0; j < NV; j++) PREFETCH(pb + AHEAD * step_b + j * LANES_##S, 0, 3); \
                } \
                UNROLLED for (int j = 0; j < NV; j++) vb[j] = *(const vector_##S *)(pb + j * LANES_##S); \
                UNROLLED for (int i = 0; i < MR; i++) { \
                    const T *p = !far ? p0 : i < 3 ? p0 : i < 6 ? p3 : i < 9 ? p6 : i < 12 ? p9 : p12; \
                    const T x = far ? p[(i % 3) * row] : p[i]; \
                    UNROLLED for (int j = 0; j < NV; j++) sum[i][j] += x * vb[j]; \
                } \
                p0 += step_a; pb += step_b; \
                if (far) { p3 += 1; p6 += 1; p9 += 1; p12 += 1; } \
            } \
        } \
    UNROLLED for (int i = 0; i < MR; i++) \
        UNROLLED for (int j = 0; j < NV; j++) *(vector_##S *)(c + i * c_row + j * LANES_##S) = sum[i][j]; \
}

TILE_BODY(float, f32)
TILE_BODY(double, f64)

#define TILE_INSTANCE(MR, NV, T, S) \
static void tile_far_##MR##_##NV##_##S(const T *a, ptrdiff_t row, const Walk *w, const T *b, T *c, ptrdiff_t c_row, \
    const T *start, int add) { tile_body_##S(MR, NV, a, row, 1, w, b, c, c_row, start, add); } \
static void tile_side_##MR##_##NV##_##S(const T *a, ptrdiff_t row, const Walk *w, const T *b, T *c, ptrdiff_t c_row, \
    const T *start, int add) { (void)row; tile_body_##S(MR, NV, a, 1, 0, w, b, c, c_row, start, add); }

#define FAR_NAME(MR, NV, S) tile_far_##MR##_##NV##_##S,
#define SIDE_NAME(MR, NV, S) tile_side_##MR##_##NV##_##S,

/* tile_S: mr rows, `columns` columns (at most NV vectors; B and `start` must be readable to the full vectors).
   `start` is a row of values to begin with (a bias), or NULL for 0; `add` begins with C itself. */
#define TILE_FAMILY(T, S) \
EACH_ROWS(TILE_INSTANCE, 1, T, S) \
EACH_ROWS(TILE_INSTANCE, 2, T, S) \
typedef void (*tile_function_##S)(const T *, ptrdiff_t, const Walk *, const T *, T *, ptrdiff_t, const T *, int); \
static const tile_function_##S tiles_##S[2][TILE_VECTORS][TILE_ROWS] = { \
    {{EACH_ROWS(FAR_NAME, 1, S)}, {EACH_ROWS(FAR_NAME, 2, S)}}, \
    {{EACH_ROWS(SIDE_NAME, 1, S)}, {EACH_ROWS(SIDE_NAME, 2, S)}}}; \
static inline void tile_##S(int mr, int nv, int columns, int side, const T *a, ptrdiff_t row, const Walk *w, const T *b, \
    T *c, ptrdiff_t c_row, const T *start, int add) { \
    const tile_function_##S tile = tiles_##S[side][nv - 1][mr - 1]; \
    const int width = nv * LANES_##S; \
    T edge[TILE_ROWS * TILE_VECTORS * LANES_##S]; \
    if (columns == width) { tile(a, row, w, b, c, c_row, start, add); return; } \
    if (add) for (int i = 0; i < mr; i++) { \
        memset(edge + i * width, 0, width * sizeof(T)); \
        memcpy(edge + i * width, c + i * c_row, columns * sizeof(T)); \
    } \
    tile(a, row, w, b, edge, width, start, add); \
    for (int i = 0; i < mr; i++) memcpy(c + i * c_row, edge + i * width, columns * sizeof(T)); \
}

TILE_FAMILY(float, f32)
TILE_FAMILY(double, f64)

/* Tiles one vector wide load as often as they multiply. For windows that overlap, stride 1 and KW = 3 or 5 taps in a
   row, each number of the image is loaded once for all the windows of a row that it belongs to. In float32 alone.

   slide: MR output pixels of a row, side by side, `pixel` elements apart in A; the walk is kH rows of taps by channels,
   and B has KW vectors for each channel. slide_side: the gradient of KW taps by MR channels; the walk is images (0) by
   rows (1) by pixels of the image (2), of which the first is number `first` of the row with its border; B is the
   gradient of a row of `width` output pixels, C the weight's gradient with `c_tap` elements from tap to tap. */
TILE_INLINE void slide_body(const int MR, const int KW, const float *a, const ptrdiff_t pixel, const Walk *w,
    const float *b, float *c, ptrdiff_t c_row, const float *start) {
    vector_f32 sum[SLIDE_ROWS], vb[5];
    UNROLLED for (int i = 0; i < MR; i++) PREFETCH(c + i * c_row, 1, 3);
    UNROLLED for (int i = 0; i < MR; i++) sum[i] = *(const vector_f32 *)start;
    for (ptrdiff_t k0 = 0; k0 < w->n[0]; k0++) {
        const float *p[(SLIDE_ROWS + 6) / 3], *pb = b + k0 * w->b[0];
        UNROLLED for (int i = 0; i < (MR + KW + 1) / 3; i++) p[i] = a + k0 * w->a[0] + 3 * i * pixel;
        for (ptrdiff_t k2 = 0; k2 < w->n[2]; k2++) {
            UNROLLED for (int k = 0; k < KW; k++) vb[k] = *(const vector_f32 *)(pb + k * LANES_f32);
            UNROLLED for (int q = 0; q < MR + KW - 1; q++) {
                const float x = p[q / 3][q % 3 * pixel];
                UNROLLED for (int k = 0; k < KW; k++) if (q - k >= 0 && q - k < MR) sum[q - k] += x * vb[k];
            }
            UNROLLED for (int i = 0; i < (MR + KW + 1) / 3; i++) p[i] += 1;
            pb += KW * LANES_f32;
        }
    }
    UNROLLED for (int i = 0; i < MR; i++) *(vector_f32 *)(c + i * c_row) = sum[i];
}

TILE_INLINE void slide_side_body(const int MR, const int KW, const float *a, const Walk *w, ptrdiff_t first,
    const float *b, ptrdiff_t width, float *c, ptrdiff_t c_tap, ptrdiff_t c_row, int add) {
    vector_f32 sum[5][8], vb[5];
    UNROLLED for (int k = 0; k < KW; k++)
        UNROLLED for (int i = 0; i < MR; i++)
            sum[k][i] = add ? *(const vector_f32 *)(c + k * c_tap + i * c_row) : (vector_f32){0};
    for (ptrdiff_t k = 0; k < w->n[0] * w->n[1]; k++) {
        const ptrdiff_t k0 = k / w->n[1], k1 = k % w->n[1];
        const float *pa = a + k0 * w->a[0] + k1 * w->a[1];
        const float *pb = b + k0 * w->b[0] + k1 * w->b[1] + first * w->b[2];
        UNROLLED for (int k = 1; k < KW; k++) {
            vb[k - 1] = (vector_f32){0};
            if (first >= k && first - k < width) vb[k - 1] = *(const vector_f32 *)(pb - k * w->b[2]);
        }
        for (ptrdiff_t q = first; q < first + w->n[2]; q++) {
            UNROLLED for (int k = KW - 1; k > 0; k--) vb[k] = vb[k - 1];
            vb[0] = (vector_f32){0};
            if (q < width) vb[0] = *(const vector_f32 *)pb;
            UNROLLED for (int i = 0; i < MR; i++)
                UNROLLED for (int k = 0; k < KW; k++) sum[k][i] += pa[i] * vb[k];
            pa += w->a[2]; pb += w->b[2];
        }
    }
    UNROLLED for (int k = 0; k < KW; k++)
        UNROLLED for (int i = 0; i < MR; i++) *(vector_f32 *)(c + k * c_tap + i * c_row) = sum[k][i];
}

#define ROWS_8(F, ...) ROWS_6(F, __VA_ARGS__) F(7, __VA_ARGS__) F(8, __VA_ARGS__)
#define ROWS_10(F, ...) ROWS_8(F, __VA_ARGS__) F(9, __VA_ARGS__) F(10, __VA_ARGS__)
#define ROWS_16(F, ...) ROWS_14(F, __VA_ARGS__) F(15, __VA_ARGS__) F(16, __VA_ARGS__)
#define EACH_SLIDE JOIN(ROWS_, SLIDE_ROWS)

#define SLIDE_INSTANCE(MR, KW) \
static void slide_##MR##_##KW(const float *a, ptrdiff_t pixel, const Walk *w, const float *b, float *c, \
    ptrdiff_t c_row, const float *start) { slide_body(MR, KW, a, pixel, w, b, c, c_row, start); }
#define SLIDE_SIDE_INSTANCE(MR, KW) \
static void slide_side_##MR##_##KW(const float *a, const Walk *w, ptrdiff_t first, const float *b, \
    ptrdiff_t width, float *c, ptrdiff_t c_tap, ptrdiff_t c_row, int add) { \
    slide_side_body(MR < SLIDE_CHANNELS(KW) ? MR : SLIDE_CHANNELS(KW), KW, a, w, first, b, width, c, c_tap, \
        c_row, add); }
#define SLIDE_NAME(MR, KW) slide_##MR##_##KW,
#define SLIDE_SIDE_NAME(MR, KW) slide_side_##MR##_##KW,

EACH_SLIDE(SLIDE_INSTANCE, 3)
EACH_SLIDE(SLIDE_INSTANCE, 5)
ROWS_8(SLIDE_SIDE_INSTANCE, 3)
ROWS_6(SLIDE_SIDE_INSTANCE, 5)
typedef void (*slide_function)(const float *, ptrdiff_t, const Walk *, const float *, float *, ptrdiff_t,
    const float *);
typedef void (*slide_side_function)(const float *, const Walk *, ptrdiff_t, const float *, ptrdiff_t, float *,
    ptrdiff_t, ptrdiff_t, int);
static const slide_function slides[2][SLIDE_ROWS] = {{EACH_SLIDE(SLIDE_NAME, 3)}, {EACH_SLIDE(SLIDE_NAME, 5)}};
static const slide_side_function slide_sides[2][8] = {{ROWS_8(SLIDE_SIDE_NAME, 3)}, {ROWS_6(SLIDE_SIDE_NAME, 5)}};

static inline void slide(int mr, int kw, int columns, const float *a, ptrdiff_t pixel, const Walk *w, const float *b,
    float *c, ptrdiff_t c_row, const float *start) {
    const slide_function instance = slides[kw == 5][mr - 1];
    float edge[SLIDE_ROWS * LANES_f32];
    if (columns == LANES_f32) { instance(a, pixel, w, b, c, c_row, start); return; }
    instance(a, pixel, w, b, edge, LANES_f32, start);
    for (int i = 0; i < mr; i++) memcpy(c + i * c_row, edge + i * LANES_f32, columns * sizeof(float));
}

static inline void slide_side(int mr, int kw, int columns, const float *a, const Walk *w, ptrdiff_t first,
    const float *b, ptrdiff_t width, float *c, ptrdiff_t c_tap, ptrdiff_t c_row, int add) {
    const slide_side_function instance = slide_sides[kw == 5][mr - 1];
    float edge[5 * 8 * LANES_f32];
    if (columns == LANES_f32) { instance(a, w, first, b, width, c, c_tap, c_row, add); return; }
    memset(edge, 0, sizeof edge);
    for (int i = 0; i < kw * mr && add; i++)
        memcpy(edge + i * LANES_f32, c + i / mr * c_tap + i % mr * c_row, columns * sizeof(float));
    instance(a, w, first, b, width, edge, mr * LANES_f32, LANES_f32, add);
    for (int i = 0; i < kw * mr; i++)
        memcpy(c + i / mr * c_tap + i % mr * c_row, edge + i * LANES_f32, columns * sizeof(float));
}


/* n rows of nv vectors are added to places in C that lie `step` elements apart, less than a row: in passes over rows that
   do not overlap, because a load of what two stores just wrote waits for both */
#define OVERLAP(T, S) \
static inline void overlap_##S(const T *a, ptrdiff_t n, int nv, T *c, ptrdiff_t step) { \
    const ptrdiff_t passes = (nv * LANES_##S + step - 1) / step; \
    for (ptrdiff_t first = 0; first < passes; first++) \
        for (ptrdiff_t i = first; i < n; i += passes) \
            for (ptrdiff_t j = 0; j < nv * LANES_##S; j += LANES_##S) \
                *(vector_##S *)(c + i * step + j) += *(const vector_##S *)(a + i * nv * LANES_##S + j); \
}
OVERLAP(float, f32)
OVERLAP(double, f64)

/* the last few lanes of a vector, zeros before them */
#if defined(__GNUC__)
typedef int32_t bits_f32 __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int64_t bits_f64 __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
#define LAST_MASK(S) bits_##S
/* the sum of a vector's lanes in memory, by fours, whose lanes are then folded */
typedef float four_f32 __attribute__((vector_size(16), aligned(4), may_alias));
typedef double four_f64 __attribute__((vector_size(32), aligned(8), may_alias));
#define FOUR(S, p) (*(const four_##S *)(p))
static inline float fold_four_f32(four_f32 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static inline double fold_four_f64(four_f64 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
#define FOLD_LANES(S, p) \
    (LANES_##S == 16 ? fold_four_##S((FOUR(S, p) + FOUR(S, p + 8 % LANES_##S)) + \
        (FOUR(S, p + 4 % LANES_##S) + FOUR(S, p + 12 % LANES_##S))) : \
    LANES_##S == 8 ? fold_four_##S(FOUR(S, p) + FOUR(S, p + 4 % LANES_##S)) : \
    LANES_##S == 4 ? fold_four_##S(FOUR(S, p)) : p[0] + p[1])
#define MOST_f32 16
#define MOST_f64 8
#define LAST(S, p, mask) (vector_##S)(*(const bits_##S *)(p) & (mask))
static const int32_t last_f32[32] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
static const int64_t last_f64[16] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
#else
#define LAST_MASK(S) vector_##S
#define LAST(S, p, mask) (*(p) * (mask)) /* a vector of one lane is always whole */
#define FOLD_LANES(S, p) p[0]
#define MOST_f32 1
#define MOST_f64 1
static const float last_f32[2] = {0};
static const double last_f64[2] = {0};
#endif

/* C[i][j] (+)= dot product of row i of A and row j of B, for MR by NR rows, plus start[j]: over a walk whose innermost
   steps lie side by side in both. Sums run in the lanes of a vector, the last one of a run overlapping the one before
   with zeros for what was summed already; then they fold in halves. Runs shorter than a vector are summed one by one.
   The order depends on the walk alone. */
#define DOT_MOST(NR) (DOT_ROWS * DOT_COLUMNS / (NR) >= 8 && DOT_ROWS > 3 ? 8 : DOT_ROWS) /* rows of few columns */
#define DOTS_BODY(T, S) \
static void fold_dots_##S(T *lane, int rows, int columns, const T *a, ptrdiff_t a_row, const T *b, ptrdiff_t b_row, \
    const Walk *w, T *c, ptrdiff_t c_row, const T *start, int add) { \
    const int L = LANES_##S, few = w->n[2] < L; \
    for (int i = 0; i < rows; i++) \
        for (int j = 0; j < columns; j++, lane += L) { \
            T sum = FOLD_LANES(S, lane); \
            for (ptrdiff_t k0 = 0; k0 < w->n[0] && few; k0++) \
                for (ptrdiff_t k1 = 0; k1 < w->n[1]; k1++) \
                    for (ptrdiff_t k = 0; k < w->n[2]; k++) \
                        sum += a[i * a_row + k0 * w->a[0] + k1 * w->a[1] + k] \
                            * b[j * b_row + k0 * w->b[0] + k1 * w->b[1] + k]; \
            if (start) sum += start[j]; \
            c[i * c_row + j] = add ? c[i * c_row + j] + sum : sum; \
        } \
} \
TILE_INLINE void dots_body_##S(const int MR, const int NR, const T *a, ptrdiff_t a_row, const T *b, ptrdiff_t b_row, \
    const Walk *w, T *c, ptrdiff_t c_row, const T *start, int add) { \
    vector_##S sum[DOT_MOST(1)][DOT_COLUMNS], va[DOT_MOST(1)], vb[DOT_COLUMNS]; \
    const int L = LANES_##S; \
    const ptrdiff_t n = w->n[2] < L ? 0 : w->n[2], whole = n - n % L; \
    UNROLLED for (int i = 0; i < MR; i++) UNROLLED for (int j = 0; j < NR; j++) sum[i][j] = (vector_##S){0}; \
    for (ptrdiff_t k0 = 0; k0 < w->n[0]; k0++) \
        for (ptrdiff_t k1 = 0; k1 < w->n[1]; k1++) { \
            const T *pa = a + k0 * w->a[0] + k1 * w->a[1], *pb = b + k0 * w->b[0] + k1 * w->b[1]; \
            for (ptrdiff_t k = 0; k < whole; k += L) { \
                if (MR > NR) { /* the fewer stay in registers */ \
                    UNROLLED for (int j = 0; j < NR; j++) vb[j] = *(const vector_##S *)(pb + j * b_row + k); \
                    UNROLLED for (int i = 0; i < MR; i++) { \
                        va[0] = *(const vector_##S *)(pa + i * a_row + k); \
                        KEEP(va[0]); \
                        UNROLLED for (int j = 0; j < NR; j++) sum[i][j] += va[0] * vb[j]; \
                    } \
                } else { \
                    UNROLLED for (int i = 0; i < MR; i++) va[i] = *(const vector_##S *)(pa + i * a_row + k); \
                    UNROLLED for (int j = 0; j < NR; j++) { \
                        vb[0] = *(const vector_##S *)(pb + j * b_row + k); \
                        KEEP(vb[0]); \
                        UNROLLED for (int i = 0; i < MR; i++) sum[i][j] += va[i] * vb[0]; \
                    } \
                } \
            } \
            if (whole < n) { \
                const LAST_MASK(S) mask = *(const LAST_MASK(S) *)(last_##S + MOST_##S - L + n - whole); \
                UNROLLED for (int j = 0; j < NR; j++) vb[j] = LAST(S, pb + j * b_row + n - L, mask); \
                UNROLLED for (int i = 0; i < MR; i++) { \
                    va[0] = LAST(S, pa + i * a_row + n - L, mask); \
                    UNROLLED for (int j = 0; j < NR; j++) sum[i][j] += va[0] * vb[j]; \
                } \
            } \
        } \
    T lanes[DOT_MOST(1) * DOT_COLUMNS * LANES_##S]; \
    UNROLLED for (int i = 0; i < MR; i++) \
        UNROLLED for (int j = 0; j < NR; j++) *(vector_##S *)(lanes + (i * NR + j) * L) = sum[i][j]; \
    fold_dots_##S(lanes, MR, NR, a, a_row, b, b_row, w, c, c_row, start, add); \
}

DOTS_BODY(float, f32)
DOTS_BODY(double, f64)

#define DOTS_INSTANCE(NR, MR, T, S) \
static void dots_##MR##_##NR##_##S(const T *a, ptrdiff_t a_row, const T *b, ptrdiff_t b_row, const Walk *w, T *c, \
    ptrdiff_t c_row, const T *start, int add) { \
    dots_body_##S(MR < DOT_ROWS ? MR : DOT_MOST(NR), NR, a, a_row, b, b_row, w, c, c_row, start, add); }
#define DOTS_NAME(NR, MR, S) dots_##MR##_##NR##_##S,
#define EACH_DOTS JOIN(ROWS_, DOT_COLUMNS)
#define DOTS_FAMILY(T, S) \
EACH_DOTS(DOTS_INSTANCE, 1, T, S) \
EACH_DOTS(DOTS_INSTANCE, 2, T, S) \
EACH_DOTS(DOTS_INSTANCE, DOT_ROWS, T, S) \
static void (*const dots_table_##S[3][DOT_COLUMNS])(const T *, ptrdiff_t, const T *, ptrdiff_t, const Walk *, T *, \
    ptrdiff_t, const T *, int) = \
    {{EACH_DOTS(DOTS_NAME, 1, S)}, {EACH_DOTS(DOTS_NAME, 2, S)}, {EACH_DOTS(DOTS_NAME, DOT_ROWS, S)}}; \
/* mr is from dot_rows */ \
static inline void dots_##S(int mr, int nr, const T *a, ptrdiff_t a_row, const T *b, ptrdiff_t b_row, const Walk *w, T *c, \
    ptrdiff_t c_row, const T *start, int add) { \
    dots_table_##S[mr < DOT_ROWS ? mr - 1 : 2][nr - 1](a, a_row, b, b_row, w, c, c_row, start, add); \
}

DOTS_FAMILY(float, f32)
DOTS_FAMILY(double, f64)

/* how many of n rows to take at a time */
static inline int dot_rows(int nr, ptrdiff_t n) {
    return n >= DOT_MOST(nr) ? DOT_MOST(nr) : n >= 2 ? 2 : (int)n;
}

/* to[j][i] = a[i][j], in blocks that stay in the first-level cache, of squares that stay in registers */
#define TRANSPOSE(T, S) \
static inline void transpose_##S(const T *a, ptrdiff_t rows, ptrdiff_t row, ptrdiff_t columns, T *to, ptrdiff_t to_row) { \
    for (ptrdiff_t first = 0; first < columns; first += 64) { \
        const ptrdiff_t last = first + 64 < columns ? first + 64 : columns; \
        for (ptrdiff_t i = 0, j; i < rows; i += 4) { \
            for (j = first; j + 4 <= last && i + 4 <= rows && SQUARE; j += 4) \
                square_##S(a + i * row + j, row, to + j * to_row + i, to_row); \
            for (; j < last; j++) \
                for (ptrdiff_t k = i; k < i + 4 && k < rows; k++) to[j * to_row + k] = a[k * row + j]; \
        } \
    } \
}
#if defined(__GNUC__) && (defined(__clang__) || __GNUC__ >= 12)
#define SQUARE 1
#define SQUARE_BODY(T, S) \
static inline void square_##S(const T *a, ptrdiff_t row, T *to, ptrdiff_t to_row) { \
    const four_##S r0 = *(const four_##S *)a, r1 = *(const four_##S *)(a + row); \
    const four_##S r2 = *(const four_##S *)(a + 2 * row), r3 = *(const four_##S *)(a + 3 * row); \
    const four_##S t0 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), t1 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7); \
    const four_##S t2 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), t3 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7); \
    *(four_##S *)to = __builtin_shufflevector(t0, t2, 0, 1, 4, 5); \
    *(four_##S *)(to + to_row) = __builtin_shufflevector(t0, t2, 2, 3, 6, 7); \
    *(four_##S *)(to + 2 * to_row) = __builtin_shufflevector(t1, t3, 0, 1, 4, 5); \
    *(four_##S *)(to + 3 * to_row) = __builtin_shufflevector(t1, t3, 2, 3, 6, 7); \
}
SQUARE_BODY(float, f32)
SQUARE_BODY(double, f64)
#else
#define SQUARE 0
#define square_f32(...) ((void)0)
#define square_f64(...) ((void)0)
#endif
TRANSPOSE(float, f32)
TRANSPOSE(double, f64)

/* by the type of C */
#define tile(mr, nv, columns, side, a, row, w, b, c, ...) \
    _Generic((c), float *: tile_f32, default: tile_f64)(mr, nv, columns, side, a, row, w, b, c, __VA_ARGS__)
#define transpose(a, rows, row, columns, to, to_row) \
    _Generic((to), float *: transpose_f32, default: transpose_f64)(a, rows, row, columns, to, to_row)
#define dots(mr, nr, a, a_row, b, b_row, n, c, ...) \
    _Generic((c), float *: dots_f32, default: dots_f64)(mr, nr, a, a_row, b, b_row, n, c, __VA_ARGS__)
#define overlap(a, n, nv, c, step) _Generic((c), float *: overlap_f32, default: overlap_f64)(a, n, nv, c, step)
