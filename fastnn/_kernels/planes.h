/* Convolution with fewer filters than a vector has lanes: the lanes are output pixels instead.

   The images are in planes, one a channel, and one for each phase of a stride, rows with their border one after another,
   so that the windows' values for a tap lie at one distance from the outputs, over all rows; between rows some outputs
   mean nothing. FR filters by NV vectors of pixels stay in registers; a tap takes NV loads and FR broadcasts. Each
   product is added to its sum in the order of the walk (channels, taps), whatever FR and NV. */
#pragma once
#include "tile.h"

#if defined(__AVX512F__) || defined(__aarch64__)
#define PLANE_FILTERS 8
#define PLANE_SUMS 24
#else
#define PLANE_FILTERS 6
#define PLANE_SUMS 12
#endif
#define PLANE_VECTORS(FR) (PLANE_SUMS / (FR) < 8 ? PLANE_SUMS / (FR) : 8)

typedef struct { /* elements; channels lie `size` apart, taps at `places` */
    ptrdiff_t channels, size, taps, row, phase; /* from row to row, and from phase to phase of a stride */
    ptrdiff_t high, wide;                       /* phases that there are, of rows and columns */
    const ptrdiff_t *places;
} Plane;

#define PLANES_BODY(T, S) \
TILE_INLINE void planes_body_##S(const int FR, const Plane *s, const T *x, const T *w, const T *start, T *y, \
    ptrdiff_t y_row, ptrdiff_t n) { \
    const ptrdiff_t *const places = s->places, n_taps = s->taps; \
    const int NV = PLANE_VECTORS(FR), L = LANES_##S; \
    for (ptrdiff_t at = 0; at < n; at += NV * L) { \
        vector_##S sum[PLANE_FILTERS][8]; \
        const T *pw = w; \
        UNROLLED for (int f = 0; f < FR; f++) \
            UNROLLED for (int j = 0; j < NV; j++) sum[f][j] = (vector_##S){0} + start[f]; \
        for (ptrdiff_t c = 0; c < s->channels; c++) \
            for (ptrdiff_t k = 0; k < n_taps; k++, pw += FR) { \
                const T *px = x + at + c * s->size + places[k]; \
                vector_##S v[8], u; \
                if (FR < 4) { /* few weights are kept in registers, else pixels */ \
                    UNROLLED for (int f = 0; f < FR; f++) v[f] = (vector_##S){0} + pw[f]; \
                    UNROLLED for (int j = 0; j < NV; j++) { \
                        u = *(const vector_##S *)(px + j * L); \
                        UNROLLED for (int f = 0; f < FR; f++) sum[f][j] += v[f] * u; \
                    } \
                } else { \
                    UNROLLED for (int j = 0; j < NV; j++) v[j] = *(const vector_##S *)(px + j * L); \
                    UNROLLED for (int f = 0; f < FR; f++) \
                        UNROLLED for (int j = 0; j < NV; j++) sum[f][j] += pw[f] * v[j]; \
                } \
            } \
        UNROLLED for (int f = 0; f < FR; f++) \
            UNROLLED for (int j = 0; j < NV; j++) *(vector_##S *)(y + f * y_row + at + j * L) = sum[f][j]; \
    } \
}

PLANES_BODY(float, f32)
PLANES_BODY(double, f64)

#define PLANES_INSTANCE(FR, T, S) \
static void planes_##FR##_##S(const Plane *s, const T *x, const T *w, const T *start, T *y, ptrdiff_t y_row, \
    ptrdiff_t n) { planes_body_##S(FR, s, x, w, start, y, y_row, n); }
#define PLANES_NAME(FR, S) planes_##FR##_##S,
#define EACH_PLANES JOIN(ROWS_, PLANE_FILTERS)

/* planes_S: `filters` rows of y, y_row elements apart, n pixels each, rounded up to whole steps of that many vectors,
   which x and y must have room for; w is [channels][taps][filters], `start` a number for each filter. */
#define PLANES_FAMILY(T, S) \
EACH_PLANES(PLANES_INSTANCE, T, S) \
typedef void (*planes_function_##S)(const Plane *, const T *, const T *, const T *, T *, ptrdiff_t, ptrdiff_t); \
static const planes_function_##S planes_table_##S[PLANE_FILTERS] = {EACH_PLANES(PLANES_NAME, S)}; \
static inline void planes_##S(int filters, const Plane *s, const T *x, const T *w, const T *start, T *y, \
    ptrdiff_t y_row, ptrdiff_t n) { planes_table_##S[filters - 1](s, x, w, start, y, y_row, n); }

PLANES_FAMILY(float, f32)
PLANES_FAMILY(double, f64)

static inline ptrdiff_t plane_vectors(ptrdiff_t filters) { return PLANE_VECTORS(filters); }
/* by the type of y */
#define planes(filters, s, x, w, start, y, y_row, n) \
    _Generic((y), float *: planes_f32, default: planes_f64)(filters, s, x, w, start, y, y_row, n)
