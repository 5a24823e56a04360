/* The register tile under every dense product: matrix product, convolution and its two gradients.

   C[i][j] = start + sum over k of A[i][k] * B[k][j], for MR rows i and NV vectors of columns j. The sums stay in
   registers; k is walked by three nested loops, each with its own step through A and B, so that the same tile reads a
   plain matrix, the rows of a convolution's windows, or pixels of many images. Each product is added to its sum in the
   order of the walk, so results do not depend on the size of the tile that computes them.

   One instance for each MR, NV, dtype and orientation of A: rows far apart with k side by side (`far`), or rows side
   by side with k far apart. All loops over the tile have literal bounds and unroll.

   Tiles one vector wide load as often as they multiply. For windows that overlap, stride 1 and TAPS = 3 or 5 taps in a
   row, each number of the image is loaded once for all the windows of a row that it belongs to: rows are output pixels
   side by side, the walk is rows of taps by channels, and B has TAPS vectors for each channel. The gradient of TAPS taps
   is `taps_side`: its vectors of columns are taps, and each number of the image is loaded once for all of them. */
#if !defined(TILE_ROWS) /* the file includes itself, once for each dtype */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__aarch64__) /* 32 registers */
#ifdef __aarch64__
#define TILE_ROWS 12
#else
#define TILE_ROWS 14 /* 28 sums, 2 vectors of B, and A from memory: 30 */
#endif
#define NARROW_ROWS 16
#define DOT_ROWS 4 /* 24 sums, 4 vectors of A, one of B */
#define DOT_COLUMNS 6
#define PLANE_FILTERS 8
#else
#define TILE_ROWS 6 /* 12 sums, 2 vectors of B, 1 of A: 15 of 16 */
#define NARROW_ROWS 10
#define DOT_ROWS 3
#define DOT_COLUMNS 4
#define PLANE_FILTERS 6
#endif
#define TAP_CHANNELS(TAPS) ((DOT_ROWS * DOT_COLUMNS + 1) / (TAPS)) /* 24 or 25 sums, TAPS vectors of B, one of A */

#if defined(__GNUC__)
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
typedef float vector_f32 __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef double vector_f64 __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
#define UNROLLED _Pragma("GCC unroll 32")
#define PREFETCH __builtin_prefetch
#define TILE_INLINE static inline __attribute__((always_inline))
#define TILE_APART __attribute__((noinline))
#if defined(__aarch64__)
#define KEEP(v) __asm__("" : "+w"(v)) /* in a register: GCC would rather load it anew for every use */
#else
#define KEEP(v) __asm__("" : "+v"(v))
#endif
typedef int32_t bits_f32 __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int64_t bits_f64 __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
typedef float four_f32 __attribute__((vector_size(16), aligned(4), may_alias));
typedef double four_f64 __attribute__((vector_size(32), aligned(8), may_alias));
#else /* one lane, left to the compiler */
#define VECTOR_BYTES 0
typedef float vector_f32;
typedef double vector_f64;
typedef int32_t bits_f32;
typedef int64_t bits_f64;
#define UNROLLED
#define PREFETCH(...)
#define KEEP(v) ((void)0)
#define TILE_INLINE static inline
#define TILE_APART
#endif

#define LANES_f32 ((int)(sizeof(vector_f32) / sizeof(float)))
#define LANES_f64 ((int)(sizeof(vector_f64) / sizeof(double)))
#define TILE_VECTORS 2
#define AHEAD 32 /* steps of k between prefetch and use */
#define DOT_MOST(NR) (DOT_ROWS * DOT_COLUMNS / (NR) >= 8 && DOT_ROWS > 3 ? 8 : DOT_ROWS) /* rows of few columns */

typedef struct {
    ptrdiff_t n[3]; /* steps of each loop, outermost first */
    ptrdiff_t a[3]; /* elements from one step to the next, in A */
    ptrdiff_t b[3]; /* and in B */
    ptrdiff_t first, width; /* of taps_side: which pixel of an image's row with its border is the first; outputs in a row */
} Walk;

#define UP_TO_4(F, ...) F(1, __VA_ARGS__) F(2, __VA_ARGS__) F(3, __VA_ARGS__) F(4, __VA_ARGS__)
#define UP_TO_6(F, ...) UP_TO_4(F, __VA_ARGS__) F(5, __VA_ARGS__) F(6, __VA_ARGS__)
#define UP_TO_8(F, ...) UP_TO_6(F, __VA_ARGS__) F(7, __VA_ARGS__) F(8, __VA_ARGS__)
#define UP_TO_10(F, ...) UP_TO_8(F, __VA_ARGS__) F(9, __VA_ARGS__) F(10, __VA_ARGS__)
#define UP_TO_12(F, ...) UP_TO_10(F, __VA_ARGS__) F(11, __VA_ARGS__) F(12, __VA_ARGS__)
#define UP_TO_14(F, ...) UP_TO_12(F, __VA_ARGS__) F(13, __VA_ARGS__) F(14, __VA_ARGS__)
#define UP_TO_16(F, ...) UP_TO_14(F, __VA_ARGS__) F(15, __VA_ARGS__) F(16, __VA_ARGS__)
#define JOIN_AS_IS(a, b) a##b
#define JOIN(a, b) JOIN_AS_IS(a, b)

/* Brings n bytes into the second-level cache, while the processor does something else */
static inline void prefetch(const void *from, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += 64) PREFETCH((const char *)from + i, 0, 2);
    (void)from;
}

/* how many of n rows to take at a time as dot products with nr others */
static inline int dot_rows(int nr, ptrdiff_t n) {
    return n >= DOT_MOST(nr) ? DOT_MOST(nr) : n >= 2 ? 2 : (int)n;
}

/* most rows of a tile of nv vectors */
static inline int tile_rows(int nv) { return nv == 1 ? NARROW_ROWS : TILE_ROWS; }

/* whose last lanes are a mask for the end of a vector */
static const int32_t last_f32[32] = {[16] = -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
static const int64_t last_f64[16] = {[8] = -1, -1, -1, -1, -1, -1, -1, -1};

#define TYPED "tile.h"
#include "types.h"
#define tile(mr, nv, columns, taps, a, row, w, b, c, ...) \
    BY_TYPE(c, tile)(mr, nv, columns, taps, a, row, w, b, c, __VA_ARGS__)
#define taps_side(mr, taps, columns, a, w, b, c, ...) BY_TYPE(c, taps_side)(mr, taps, columns, a, w, b, c, __VA_ARGS__)
#define dots(mr, nr, a, a_row, b, b_row, n, c, ...) BY_TYPE(c, dots)(mr, nr, a, a_row, b, b_row, n, c, __VA_ARGS__)
#define overlap(a, n, nv, c, step) BY_TYPE(c, overlap)(a, n, nv, c, step)

#elif defined(REAL)
#define V NAME(vector)
#define L NAME(LANES)

/* `row` is a literal 1 in the instances for rows side by side, and `step` in those for rows far apart; so is `next`, from
   vector to vector in C, but for `taps_side`. Rows far apart are reached from one pointer for each three of them, which
   x86 addresses with the scales 0, 1 and 2. */
TILE_INLINE void NAME(tile_body)(const int MR, const int NV, const int TAPS, const REAL *a, const ptrdiff_t row,
    const Walk *w, const REAL *b, REAL *c, ptrdiff_t c_row, const ptrdiff_t next, const REAL *start, int add) {
    V sum[NARROW_ROWS][5];
    const int far = TAPS > 0, numbers = TAPS > 1 ? MR + TAPS - 1 : MR, vectors = TAPS > 1 ? TAPS : NV;
    const ptrdiff_t step_a = far ? 1 : w->a[2], step_b = w->b[2], n1 = TAPS > 1 ? 1 : w->n[1], n2 = w->n[2];
    UNROLLED for (int i = 0; i < MR; i++)
        UNROLLED for (int j = 0; j < NV; j++) PREFETCH(c + i * c_row + j * next, 1, 3); /* to be stored */
    UNROLLED for (int i = 0; i < MR; i++)
        UNROLLED for (int j = 0; j < NV; j++) {
            const REAL *from = add ? c + i * c_row + j * next : start ? start + j * L : NULL;
            if (from) sum[i][j] = *(const V *)from;
            else sum[i][j] = (V){0};
        }
    for (ptrdiff_t k0 = 0; k0 < w->n[0]; k0++)
        for (ptrdiff_t k1 = 0; k1 < n1; k1++) {
            const REAL *pb = b + k0 * w->b[0] + k1 * w->b[1], *p[(NARROW_ROWS + 6) / 3];
            p[0] = a + k0 * w->a[0] + k1 * w->a[1];
            UNROLLED for (int i = 1; i < (numbers + 2) / 3; i++) p[i] = p[i - 1] + 3 * row;
            V vb[5];
            UNROLLED for (int j = 1; j < NV; j++) {
                vb[j - 1] = (V){0};
                if (NV > 2 && w->first >= j && w->first - j < w->width) vb[j - 1] = *(const V *)(pb - j * step_b);
            }
            for (ptrdiff_t k2 = 0; k2 < n2; k2++) {
                if (!far && NV <= 2 && VECTOR_BYTES == 64) { /* strides that it does not foresee: 1.2 to 1.5 times faster
                    at C = 64; shorter vectors would wait for the loads: 0.8 times */
                    PREFETCH(p[0] + AHEAD * step_a, 0, 3);
                    PREFETCH(p[0] + AHEAD * step_a + MR - 1, 0, 3);
                    UNROLLED for (int j = 0; j < NV; j++) PREFETCH(pb + AHEAD * step_b + j * L, 0, 3);
                }
                if (NV > 2) {
                    UNROLLED for (int j = NV - 1; j > 0; j--) vb[j] = vb[j - 1];
                    vb[0] = (V){0};
                    if (w->first + k2 < w->width) vb[0] = *(const V *)pb;
                } else UNROLLED for (int j = 0; j < vectors; j++) vb[j] = *(const V *)(pb + j * L);
                UNROLLED for (int i = 0; i < numbers; i++) {
                    const REAL x = far ? p[i / 3][i % 3 * row] : p[0][i];
                    if (TAPS < 2) UNROLLED for (int j = 0; j < NV; j++) sum[i][j] += x * vb[j];
                    else UNROLLED for (int k = 0; k < TAPS; k++) if (i >= k && i - k < MR) sum[i - k][0] += x * vb[k];
                }
                UNROLLED for (int i = 0; i < (numbers + 2) / 3; i++) p[i] += step_a;
                pb += step_b;
            }
        }
    UNROLLED for (int i = 0; i < MR; i++)
        UNROLLED for (int j = 0; j < NV; j++) *(V *)(c + i * c_row + j * next) = sum[i][j];
}

/* mr rows, `columns` columns (at most NV vectors; B and `start` must be readable to the full vectors); taps: 0 for rows
   side by side, 1 for rows far apart, more where they share what they load. `start` is a row of values to begin with (a
   bias), or NULL for 0; `add` begins with C itself. */
#define TILE_CASE(MR, NV, TAPS) case MR: \
    NAME(tile_body)(MR, NV, TAPS, a, TAPS ? row : 1, w, b, to, to_row, L, start, add); break;
static inline void NAME(tile)(int mr, int nv, int columns, int taps, const REAL *a, ptrdiff_t row, const Walk *w,
    const REAL *b, REAL *c, ptrdiff_t c_row, const REAL *start, int add) {
    const int width = nv * L, whole = columns == width;
    REAL edge[NARROW_ROWS * TILE_VECTORS * L], *const to = whole ? c : edge;
    const ptrdiff_t to_row = whole ? c_row : width;
    if (!whole && add) for (int i = 0; i < mr; i++) {
        memset(edge + i * width, 0, width * sizeof(REAL));
        memcpy(edge + i * width, c + i * c_row, columns * sizeof(REAL));
    }
    if (nv == 2 && !taps) switch (mr) { JOIN(UP_TO_, TILE_ROWS)(TILE_CASE, 2, 0) }
    else if (nv == 2) switch (mr) { JOIN(UP_TO_, TILE_ROWS)(TILE_CASE, 2, 1) }
    else if (taps == 0) switch (mr) { JOIN(UP_TO_, NARROW_ROWS)(TILE_CASE, 1, 0) }
    else if (taps == 1) switch (mr) { JOIN(UP_TO_, NARROW_ROWS)(TILE_CASE, 1, 1) }
    else if (taps == 3) switch (mr) { JOIN(UP_TO_, NARROW_ROWS)(TILE_CASE, 1, 3) }
    else switch (mr) { JOIN(UP_TO_, NARROW_ROWS)(TILE_CASE, 1, 5) }
    if (!whole) for (int i = 0; i < mr; i++) memcpy(c + i * c_row, edge + i * width, columns * sizeof(REAL));
}

/* The gradient of some taps of mr channels, which lie `tap` elements apart in C. Tap k of a pixel of the image belongs to
   the gradient of the output k pixels before it in B, if there is one; B points to where the first pixel's would be. */
#define TAPS_CASE(MR, TAPS) case MR: NAME(tile_body)(MR < TAP_CHANNELS(TAPS) ? MR : TAP_CHANNELS(TAPS), TAPS, 0, a, 1, w, \
    b, to, to_row, to_tap, NULL, add); break;
static inline void NAME(taps_side)(int mr, int taps, int columns, const REAL *a, const Walk *w, const REAL *b, REAL *c,
    ptrdiff_t tap, ptrdiff_t c_row, int add) {
    REAL edge[5 * 8 * L] = {0}, *const to = columns == L ? c : edge;
    const ptrdiff_t to_row = columns == L ? c_row : L, to_tap = columns == L ? tap : mr * L;
    for (int i = 0; i < taps * mr && add && to == edge; i++)
        memcpy(edge + i * L, c + i / mr * tap + i % mr * c_row, columns * sizeof(REAL));
    if (taps == 3) switch (mr) { UP_TO_8(TAPS_CASE, 3) }
    else switch (mr) { UP_TO_6(TAPS_CASE, 5) }
    for (int i = 0; i < taps * mr && to == edge; i++)
        memcpy(c + i / mr * tap + i % mr * c_row, edge + i * L, columns * sizeof(REAL));
}

/* n rows of nv vectors are added to places in C that lie `step` elements apart, less than a row: in passes over rows that
   do not overlap, because a load of what two stores just wrote waits for both */
static inline void NAME(overlap)(const REAL *a, ptrdiff_t n, int nv, REAL *c, ptrdiff_t step) {
    const ptrdiff_t passes = (nv * L + step - 1) / step;
    for (ptrdiff_t first = 0; first < passes; first++)
        for (ptrdiff_t i = first; i < n; i += passes)
            for (ptrdiff_t j = 0; j < nv * L; j += L) *(V *)(c + i * step + j) += *(const V *)(a + i * nv * L + j);
}

/* dot products over runs shorter than a vector, one by one; never inlined, so that all are rounded alike */
static TILE_APART REAL NAME(short_dots)(const REAL *a, const REAL *b, const Walk *w, REAL sum) {
    for (ptrdiff_t k0 = 0; k0 < w->n[0]; k0++)
        for (ptrdiff_t k1 = 0; k1 < w->n[1]; k1++)
            for (ptrdiff_t k = 0; k < w->n[2]; k++)
                sum += a[k0 * w->a[0] + k1 * w->a[1] + k] * b[k0 * w->b[0] + k1 * w->b[1] + k];
    return sum;
}

#define FOUR(k) (*(const NAME(four) *)(lane + (k)))
/* C[i][j] (+)= dot product of row i of A and row j of B, for MR by NR rows, plus start[j]: over a walk whose innermost
   steps lie side by side in both. Sums run in the lanes of a vector, the last one of a run overlapping the one before
   with zeros for what was summed already; then they fold in halves. Runs shorter than a vector are summed one by one.
   The order depends on the walk alone. */
TILE_INLINE void NAME(dots_body)(const int MR, const int NR, const REAL *a, ptrdiff_t a_row, const REAL *b,
    ptrdiff_t b_row, const Walk *w, REAL *c, ptrdiff_t c_row, const REAL *start, int add) {
    V sum[DOT_MOST(1)][DOT_COLUMNS], va[DOT_MOST(1)], vb[DOT_COLUMNS];
    const ptrdiff_t n = w->n[2] < L ? 0 : w->n[2], whole = n - n % L;
    UNROLLED for (int i = 0; i < MR; i++) UNROLLED for (int j = 0; j < NR; j++) sum[i][j] = (V){0};
    for (ptrdiff_t k0 = 0; k0 < w->n[0]; k0++)
        for (ptrdiff_t k1 = 0; k1 < w->n[1]; k1++) {
            const REAL *pa = a + k0 * w->a[0] + k1 * w->a[1], *pb = b + k0 * w->b[0] + k1 * w->b[1];
            for (ptrdiff_t k = 0; k < whole; k += L) {
                if (MR > NR) { /* the fewer stay in registers */
                    UNROLLED for (int j = 0; j < NR; j++) vb[j] = *(const V *)(pb + j * b_row + k);
                    UNROLLED for (int i = 0; i < MR; i++) {
                        va[0] = *(const V *)(pa + i * a_row + k);
                        KEEP(va[0]);
                        UNROLLED for (int j = 0; j < NR; j++) sum[i][j] += va[0] * vb[j];
                    }
                } else {
                    UNROLLED for (int i = 0; i < MR; i++) va[i] = *(const V *)(pa + i * a_row + k);
                    UNROLLED for (int j = 0; j < NR; j++) {
                        vb[0] = *(const V *)(pb + j * b_row + k);
                        KEEP(vb[0]);
                        UNROLLED for (int i = 0; i < MR; i++) sum[i][j] += va[i] * vb[0];
                    }
                }
            }
            if (whole < n) {
                const NAME(bits) mask = *(const NAME(bits) *)(NAME(last) + 64 / sizeof(REAL) - L + n - whole);
                UNROLLED for (int j = 0; j < NR; j++)
                    vb[j] = (V)(*(const NAME(bits) *)(pb + j * b_row + n - L) & mask);
                UNROLLED for (int i = 0; i < MR; i++) {
                    va[0] = (V)(*(const NAME(bits) *)(pa + i * a_row + n - L) & mask);
                    UNROLLED for (int j = 0; j < NR; j++) sum[i][j] += va[0] * vb[j];
                }
            }
        }
    REAL lanes[DOT_MOST(1) * DOT_COLUMNS * L], *lane = lanes;
    UNROLLED for (int i = 0; i < MR; i++)
        UNROLLED for (int j = 0; j < NR; j++) *(V *)(lanes + (i * NR + j) * L) = sum[i][j];
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NR; j++, lane += L) {
            REAL sum = L == 2 ? lane[0] + lane[1] : lane[0];
#if VECTOR_BYTES
            if (L >= 4) {
                NAME(four) v = FOUR(0);
                if (L == 8) v += FOUR(4);
                if (L == 16) v = (v + FOUR(8)) + (FOUR(4) + FOUR(12));
                sum = (v[0] + v[2]) + (v[1] + v[3]);
            }
#endif
            if (w->n[2] < L) sum = NAME(short_dots)(a + i * a_row, b + j * b_row, w, sum);
            if (start) sum += start[j];
            c[i * c_row + j] = add ? c[i * c_row + j] + sum : sum;
        }
}

/* mr is from dot_rows */
#define DOTS_CASE(NR, MR) \
    case NR: NAME(dots_body)(MR < DOT_ROWS ? MR : DOT_MOST(NR), NR, a, a_row, b, b_row, w, c, c_row, start, add); break;
static inline void NAME(dots)(int mr, int nr, const REAL *a, ptrdiff_t a_row, const REAL *b, ptrdiff_t b_row,
    const Walk *w, REAL *c, ptrdiff_t c_row, const REAL *start, int add) {
    if (mr == 1) switch (nr) { JOIN(UP_TO_, DOT_COLUMNS)(DOTS_CASE, 1) }
    else if (mr == 2) switch (nr) { JOIN(UP_TO_, DOT_COLUMNS)(DOTS_CASE, 2) }
    else switch (nr) { JOIN(UP_TO_, DOT_COLUMNS)(DOTS_CASE, DOT_ROWS) }
}
#undef V
#undef L
#endif
