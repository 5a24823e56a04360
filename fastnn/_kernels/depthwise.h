/* Depthwise convolution: each channel is a small convolution of its own, so the lanes of a vector are channels.

   Forward, and the input's gradient, which is the same sum with the taps reversed: `piece` computes a piece of a row,
   up to 16 outputs side by side, for some channels. The sums of a vector of channels stay in registers; per row of the
   kernel its taps are loaded once, and each vector of x once, to be added to every output that it reaches: with 3 taps,
   21 loads for 48 multiply-adds. The bounds are literal for 3, 5 and 7 taps at stride 1, 3 and 5 at stride 2, and 2
   (from the gradient of a stride); otherwise, and for float64, x is loaded for each tap.

   Gradient of the weight: `gather` keeps the sums of some rows of taps in registers and walks over rows of outputs,
   eight or four at a time.

   Taps outside the image are left out, never multiplied by zero: only the outermost columns of a piece are asked for
   that. The last channels are computed as a full vector that overlaps the one before; fewer channels than a vector has
   are taken by 16 bytes, or one by one. No order of summation depends on that, or on the size of a piece. */
#pragma once
#include <stdint.h>
#include "tile.h"

#ifdef FASTNN_CHECKED /* the sanitizers would take minutes over unrolled loops */
#define LITERAL
#else
#define LITERAL _Pragma("GCC unroll 64")
#endif
/* PIECE: outputs of the largest piece; SIZES: how many a piece may have, with their places in a table */
#if defined(__AVX512F__) || defined(__aarch64__)
#define PIECE 16
#define SIZES(F, ...) F(1, __VA_ARGS__) F(2, __VA_ARGS__) F(4, __VA_ARGS__) F(7, __VA_ARGS__) F(8, __VA_ARGS__) \
    F(14, __VA_ARGS__) F(16, __VA_ARGS__)
#define TAP_ROWS(KW) ((KW) == 5 ? 5 : 3) /* rows of taps whose sums fit into 32 registers */
#define WALK(KW) ((KW) == 5 ? 4 : 8)     /* outputs beside them */
#else
#define PIECE 8
#define SIZES(F, ...) F(1, __VA_ARGS__) F(2, __VA_ARGS__) F(4, __VA_ARGS__) F(7, __VA_ARGS__) F(8, __VA_ARGS__)
#define TAP_ROWS(KW) ((KW) <= 3 ? 3 : (KW) <= 5 ? 2 : 1)
#define WALK(KW) 4
#endif
#if defined(__GNUC__)
#define FEW_f32 4
typedef float few_f32 __attribute__((vector_size(16), aligned(4), may_alias));
#else
#define FEW_f32 1
typedef float few_f32;
#endif

typedef struct { /* steps in elements, places in pixels */
    ptrdiff_t channels, rows, taps;        /* rows and columns of the kernel; rows above or below the image left out */
    ptrdiff_t x_row, x_tap, x_step;        /* from one kernel row, tap and output to the next */
    ptrdiff_t w_row, w_tap, y_step;
    ptrdiff_t column, tap, step, width;    /* column of the first output's first tap, its steps, columns of x */
    /* gradient of the weight, which has rows of outputs */
    ptrdiff_t high, wide, y_down, x_down;  /* how many, and from one to the next */
    ptrdiff_t line, drop, down, height;    /* the first tap's row in x, its steps, rows of x */
    ptrdiff_t first, last;                 /* outputs all whose taps are inside */
} Piece;

/* SW is 0 where taps or strides are not literal. With literal ones, only the KW - 1 columns at either end of a piece
   may lie outside the image; `piece` sends other pieces to the instances for any taps, of which `edge` ones ask for
   every tap. */
#define OUTER(j, n, KW, SW) ((j) < (KW) - 1 || (j) > ((n) - 1) * (SW))
#define PIECE_BODY(T, V, L, S) \
TILE_INLINE void piece_body_##S(const int n, const int KW, const int SW, const int edge, const Piece s, const T *x, \
    const T *w, const T *b, T *y) { \
    uint64_t inside = 0; /* a bit for each column of x */ \
    if (SW) LITERAL for (int j = 0; j < (n - 1) * SW + KW; j++) \
        if (OUTER(j, n, KW, SW)) inside |= (uint64_t)((size_t)(s.column + j) < (size_t)s.width) << j; \
    for (ptrdiff_t c = 0; c < s.channels; c += L) { \
        V sum[PIECE], tap[7]; \
        if (c + L > s.channels) c = s.channels - L; \
        LITERAL for (int i = 0; i < n; i++) { \
            if (b) sum[i] = *(const V *)(b + c); \
            else sum[i] = (V){0}; \
        } \
        for (ptrdiff_t h = 0; h < s.rows; h++) { \
            const T *px = x + c + h * s.x_row, *pw = w + c + h * s.w_row; \
            if (SW) { \
                LITERAL for (int k = 0; k < KW; k++) tap[k] = *(const V *)(pw + k * s.w_tap); \
                LITERAL for (int j = 0; j < (n - 1) * SW + KW; j++, px += s.x_tap) { \
                    if (OUTER(j, n, KW, SW) && !(inside >> j & 1)) continue; \
                    V v = *(const V *)px; \
                    KEEP(v); \
                    LITERAL for (int k = 0; k < KW; k++) \
                        if (j >= k && (j - k) % SW == 0 && (j - k) / SW < n) sum[(j - k) / SW] += v * tap[k]; \
                } \
            } else for (ptrdiff_t k = 0; k < s.taps; k++, px += s.x_tap, pw += s.w_tap) { \
                const T *p = px; \
                tap[0] = *(const V *)pw; \
                LITERAL for (int i = 0; i < n; i++, p += s.x_step) \
                    if (!edge || (size_t)(s.column + k * s.tap + i * s.step) < (size_t)s.width) \
                        sum[i] += *(const V *)p * tap[0]; \
            } \
        } \
        LITERAL for (int i = 0; i < n; i++) *(V *)(y + i * s.y_step + c) = sum[i]; \
    } \
}

#define GATHER_COLUMN(h, j, n, KW, SW) do { \
    KEEP(v); \
    LITERAL for (int k = 0; k < KW; k++) \
        if (j >= k && (j - k) % SW == 0 && (j - k) / SW < n) sum[h][k] += v * g[(j - k) / SW]; \
} while (0)
/* n outputs: column by column where all rows of taps are inside, which lets sums wait for each other least */
#define GATHER_PIECE(V, n, KH, KW, SW) do { \
    const ptrdiff_t at = s.column + i * SW, left = at < 0 ? -at : 0, right = s.width - at; \
    const uint64_t in = (~(uint64_t)0 << left) & (right < 64 ? ((uint64_t)1 << right) - 1 : ~(uint64_t)0); \
    LITERAL for (int j = 0; j < n; j++, py += s.y_step) g[j] = *(const V *)py; \
    if (n > 1 && inside == (1 << KH) - 1) { \
        p = px; \
        LITERAL for (int j = 0; j < (n - 1) * SW + KW; j++, p += s.x_tap) { \
            if (OUTER(j, n, KW, SW) && !(in >> j & 1)) continue; \
            LITERAL for (int h = 0; h < KH; h++) { \
                V v = *(const V *)(p + h * s.x_row); \
                GATHER_COLUMN(h, j, n, KW, SW); \
            } \
        } \
    } else LITERAL for (int h = 0; h < KH; h++) if (inside >> h & 1) { \
        p = px + h * s.x_row; \
        LITERAL for (int j = 0; j < (n - 1) * SW + KW; j++, p += s.x_tap) { \
            if (OUTER(j, n, KW, SW) && !(in >> j & 1)) continue; \
            V v = *(const V *)p; \
            GATHER_COLUMN(h, j, n, KW, SW); \
        } \
    } \
    px += n * s.x_step; \
    i += n; \
} while (0)

#define GATHER_BODY(T, V, L, S) \
TILE_INLINE void gather_body_##S(const int KH, const int KW, const int SW, const Piece s, const T *x, const T *y, \
    T *w) { \
    for (ptrdiff_t c = 0; c < s.channels; c += L) { \
        const int fresh = c + L > s.channels ? (int)(s.channels - c) : L; \
        V sum[5][7], g[8]; \
        c -= L - fresh; \
        LITERAL for (int h = 0; h < KH; h++) LITERAL for (int k = 0; k < KW; k++) sum[h][k] = (V){0}; \
        for (ptrdiff_t r = 0; r < s.high; r++) { \
            const T *py = y + c + r * s.y_down, *px = x + c + r * s.x_down, *p; \
            int inside = 0; \
            LITERAL for (int h = 0; h < KH; h++) \
                if (h < s.rows && (size_t)(s.line + r * s.down + h * s.drop) < (size_t)s.height) inside |= 1 << h; \
            if (SW) for (ptrdiff_t i = 0; i < s.wide;) { \
                if (WALK(KW) == 8 && i + 8 <= s.wide) GATHER_PIECE(V, 8, KH, KW, SW); \
                else if (i + 4 <= s.wide) GATHER_PIECE(V, 4, KH, KW, SW); \
                else GATHER_PIECE(V, 1, KH, KW, SW); \
            } \
            else for (ptrdiff_t i = 0; i < s.wide; i++, px += s.x_step, py += s.y_step) { \
                g[0] = *(const V *)py; \
                const int edge = i < s.first || i >= s.last; \
                LITERAL for (int h = 0; h < KH; h++) if (inside >> h & 1) { \
                    p = px + h * s.x_row; \
                    if (!edge) LITERAL for (int k = 0; k < KW; k++, p += s.x_tap) sum[h][k] += *(const V *)p * g[0]; \
                    else LITERAL for (int k = 0; k < KW; k++, p += s.x_tap) \
                        if ((size_t)(s.column + i * s.step + k * s.tap) < (size_t)s.width) \
                            sum[h][k] += *(const V *)p * g[0]; \
                } \
            } \
        } \
        T lanes[5 * 7 * L]; \
        LITERAL for (int h = 0; h < KH; h++) if (h < s.rows) LITERAL for (int k = 0; k < KW; k++) { \
            if (fresh == L) *(V *)(w + h * s.w_row + k * s.w_tap + c) += sum[h][k]; \
            else *(V *)(lanes + (h * KW + k) * L) = sum[h][k]; \
        } \
        for (int h = 0; h < KH && h < s.rows && fresh < L; h++) \
            for (int k = 0; k < KW; k++) \
                for (int l = L - fresh; l < L; l++) w[h * s.w_row + k * s.w_tap + c + l] += lanes[(h * KW + k) * L + l]; \
    } \
}

#define PIECE_INSTANCE(n, KW, SW, edge, T, S) \
static void piece_##n##_##KW##_##SW##_##edge##_##S(const Piece *s, const T *x, const T *w, const T *b, T *y) { \
    piece_body_##S(n, KW, SW, edge, *s, x, w, b, y); }
#define PIECE_NAME(n, KW, SW, edge, T, S) piece_##n##_##KW##_##SW##_##edge##_##S,
#define GATHER_INSTANCE(KW, SW, T, S) \
static void gather_##KW##_##SW##_##S(const Piece *s, const T *x, const T *y, T *w) { \
    gather_body_##S(TAP_ROWS(KW), KW, SW, *s, x, y, w); }
#define GATHERS(F, ...) UP_TO_6(F, 0, __VA_ARGS__) F(7, 0, __VA_ARGS__)
#define GATHER_NAME(KW, SW, T, S) gather_##KW##_##SW##_##S,

#define PIECES(KW, SW, edge, T, S) SIZES(PIECE_INSTANCE, KW, SW, edge, T, S)
#define PIECE_NAMES(KW, SW, edge, T, S) {SIZES(PIECE_NAME, KW, SW, edge, T, S)},

/* for both dtypes: any taps of full vectors, and of single channels */
#define DEPTHWISE(T, S) \
PIECE_BODY(T, vector_##S, LANES_##S, S) \
PIECE_BODY(T, T, 1, one_##S) \
GATHER_BODY(T, vector_##S, LANES_##S, S) \
GATHER_BODY(T, T, 1, one_##S) \
typedef void (*piece_function_##S)(const Piece *, const T *, const T *, const T *, T *); \
typedef void (*gather_function_##S)(const Piece *, const T *, const T *, T *); \
PIECES(0, 0, 0, T, S) PIECES(0, 0, 1, T, S) PIECES(0, 0, 1, T, one_##S) \
GATHERS(GATHER_INSTANCE, T, S)

DEPTHWISE(float, f32)
DEPTHWISE(double, f64)

/* for float32 alone: literal taps, and channels by 16 bytes */
PIECE_BODY(float, few_f32, FEW_f32, few_f32)
GATHER_BODY(float, few_f32, FEW_f32, few_f32)
#define PIECE_KINDS(F) F(2, 1, 1, float, f32) F(3, 1, 1, float, f32) F(5, 1, 1, float, f32) F(7, 1, 1, float, f32) \
    F(3, 2, 1, float, f32) F(5, 2, 1, float, f32) \
    F(0, 0, 1, float, few_f32) F(3, 1, 1, float, few_f32) F(5, 1, 1, float, few_f32) F(3, 1, 1, float, one_f32)
#define GATHER_KINDS(F) F(3, 1, float, f32) F(5, 1, float, f32) F(7, 1, float, f32) F(3, 2, float, f32) \
    F(5, 2, float, f32) GATHERS(F, float, few_f32) F(3, 1, float, few_f32) F(5, 1, float, few_f32) \
    GATHERS(F, float, one_f32) F(3, 1, float, one_f32)
PIECE_KINDS(PIECES)
GATHER_KINDS(GATHER_INSTANCE)

static inline int piece_place(int n) { return n < 4 ? n - 1 : n == 4 ? 2 : n == 7 ? 3 : n == 8 ? 4 : n == 14 ? 5 : 6; }

static void piece_f64(int n, const Piece *s, const double *x, const double *w, const double *b, double *y) {
    static const piece_function_f64 all[][7] = {PIECE_NAMES(0, 0, 0, double, f64) PIECE_NAMES(0, 0, 1, double, f64)
        PIECE_NAMES(0, 0, 1, double, one_f64)};
    const ptrdiff_t end = s->column + (n - 1) * s->step + (s->taps - 1) * s->tap;
    all[s->channels < LANES_f64 ? 2 : s->column < 0 || end >= s->width][piece_place(n)](s, x, w, b, y);
}

static void gather_one_f64(const Piece *s, const double *x, const double *y, double *w) { /* with sums in memory */
    gather_body_one_f64(TAP_ROWS(s->taps), (int)s->taps, 0, *s, x, y, w);
}

static void gather_f64(const Piece *s, const double *x, const double *y, double *w) {
    static const gather_function_f64 all[] = {GATHERS(GATHER_NAME, double, f64)};
    (s->channels < LANES_f64 ? gather_one_f64 : all[s->taps - 1])(s, x, y, w);
}

static void piece_f32(int n, const Piece *s, const float *x, const float *w, const float *b, float *y) {
    static const piece_function_f32 all[][7] = {PIECE_NAMES(0, 0, 0, float, f32) PIECE_NAMES(0, 0, 1, float, f32)
        PIECE_NAMES(0, 0, 1, float, one_f32) PIECE_KINDS(PIECE_NAMES)};
    const ptrdiff_t last = s->column + (n - 1) * s->step, end = last + (s->taps - 1) * s->tap;
    const int literal = s->taps < 8 && s->tap == 1 && s->step <= 2 && s->column > -s->taps && last < s->width;
    int kind = s->column < 0 || end >= s->width;
    if (literal && s->step == 1) kind = (int[]){kind, kind, 3, 4, kind, 5, kind, 6}[s->taps];
    if (literal && s->step == 2) kind = (int[]){kind, kind, kind, 7, kind, 8, kind, kind}[s->taps];
    if (s->channels < LANES_f32) kind = s->channels < FEW_f32 ? (kind == 4 ? 12 : 2) : kind == 4 ? 10 : kind == 5 ? 11 : 9;
    all[kind][piece_place(n)](s, x, w, b, y);
}

static void gather_f32(const Piece *s, const float *x, const float *y, float *w) {
    static const gather_function_f32 all[] = {GATHERS(GATHER_NAME, float, f32) GATHER_KINDS(GATHER_NAME)};
    const int k = (int)s->taps, by = (int)(s->tap == 1 && s->step <= 2 && s->column > -s->taps
        && s->column + (s->wide - 1) * s->step < s->width ? s->step : 0);
    int kind = k - 1;
    if (by == 1) kind = k == 3 ? 7 : k == 5 ? 8 : k == 7 ? 9 : kind;
    if (by == 2) kind = k == 3 ? 10 : k == 5 ? 11 : kind;
    if (s->channels < LANES_f32)
        kind = s->channels < FEW_f32 ? (kind == 7 ? 28 : 20 + k) : kind == 7 ? 19 : kind == 8 ? 20 : 11 + k;
    all[kind](s, x, y, w);
}

#define piece(n, s, x, w, b, y) BY_TYPE(y, piece)(n, s, x, w, b, y)
#define gather(s, x, y, w) BY_TYPE(w, gather)(s, x, y, w)

/* Outputs of the first piece of a row of n: pieces as even as the sizes that there are allow. */
static inline int piece_size(ptrdiff_t n) {
    const ptrdiff_t pieces = (n + PIECE - 1) / PIECE, even = (n + pieces - 1) / pieces;
    return even >= PIECE ? PIECE : even >= 14 ? 14 : even >= 8 ? 8 : even >= 7 ? 7 : even >= 4 ? 4 : even >= 2 ? 2 : 1;
}

static inline ptrdiff_t tap_rows(ptrdiff_t taps) { return TAP_ROWS(taps); }
