/* Convolution with fewer filters than a vector has lanes: the lanes are output pixels instead.

   The images are in planes, one a channel, and one for each phase of a stride, rows with their border one after another,
   so that the windows' values for a tap lie at one distance from the outputs, over all rows; between rows some outputs
   mean nothing. FR filters by NV vectors of pixels stay in registers; a tap takes NV loads and FR broadcasts. Each
   product is added to its sum in the order of the walk (channels, taps), whatever FR and NV. */
#ifndef PLANE_VECTORS /* the file includes itself, once for each dtype */
#include "tile.h"

#define PLANE_SUMS (DOT_ROWS * DOT_COLUMNS)
#define PLANE_VECTORS(FR) (PLANE_SUMS / (FR) < 8 ? PLANE_SUMS / (FR) : 8)

typedef struct { /* elements; channels lie `size` apart, taps at `places` */
    ptrdiff_t channels, size, taps, row, phase; /* from row to row, and from phase to phase of a stride */
    ptrdiff_t high, wide;                       /* phases that there are, of rows and columns */
    const ptrdiff_t *places;
} Plane;

static inline ptrdiff_t plane_vectors(ptrdiff_t filters) { return PLANE_VECTORS(filters); }
#define TYPED "planes.h"
#include "types.h"
#define planes(filters, s, x, w, start, y, y_row, n) BY_TYPE(y, planes)(filters, s, x, w, start, y, y_row, n)

#elif defined(REAL)
#define V NAME(vector)
#define L NAME(LANES)

TILE_INLINE void NAME(planes_body)(const int FR, const Plane *s, const REAL *x, const REAL *w, const REAL *start,
    REAL *y, ptrdiff_t y_row, ptrdiff_t n) {
    const ptrdiff_t *const places = s->places, n_taps = s->taps;
    const int NV = PLANE_VECTORS(FR);
    for (ptrdiff_t at = 0; at < n; at += NV * L) {
        V sum[PLANE_FILTERS][8];
        const REAL *pw = w;
        UNROLLED for (int f = 0; f < FR; f++)
            UNROLLED for (int j = 0; j < NV; j++) sum[f][j] = (V){0} + start[f];
        for (ptrdiff_t c = 0; c < s->channels; c++)
            for (ptrdiff_t k = 0; k < n_taps; k++, pw += FR) {
                const REAL *px = x + at + c * s->size + places[k];
                V v[8], u;
                if (FR < 4) { /* few weights are kept in registers, else pixels */
                    UNROLLED for (int f = 0; f < FR; f++) v[f] = (V){0} + pw[f];
                    UNROLLED for (int j = 0; j < NV; j++) {
                        u = *(const V *)(px + j * L);
                        UNROLLED for (int f = 0; f < FR; f++) sum[f][j] += v[f] * u;
                    }
                } else {
                    UNROLLED for (int j = 0; j < NV; j++) v[j] = *(const V *)(px + j * L);
                    UNROLLED for (int f = 0; f < FR; f++)
                        UNROLLED for (int j = 0; j < NV; j++) sum[f][j] += pw[f] * v[j];
                }
            }
        UNROLLED for (int f = 0; f < FR; f++)
            UNROLLED for (int j = 0; j < NV; j++) *(V *)(y + f * y_row + at + j * L) = sum[f][j];
    }
}

/* `filters` rows of y, y_row elements apart, n pixels each, rounded up to whole steps of that many vectors, which x and y
   must have room for; w is [channels][taps][filters], `start` a number for each filter. */
#define PLANES_CASE(FR, ...) case FR: NAME(planes_body)(FR, s, x, w, start, y, y_row, n); break;
static inline void NAME(planes)(int filters, const Plane *s, const REAL *x, const REAL *w, const REAL *start, REAL *y,
    ptrdiff_t y_row, ptrdiff_t n) {
    switch (filters) { JOIN(UP_TO_, PLANE_FILTERS)(PLANES_CASE, ) }
}
#undef V
#undef L
#endif
