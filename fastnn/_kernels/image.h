/* Rows of numbers: mirrored, made of bytes, shifted and scaled. Vectors take a row from its beginning; the last one ends
   with the row, and does again what the one before it has done. */
#ifndef BY_VECTORS /* the file includes itself, once for each dtype */
#include <stddef.h>
#include <string.h>

#ifdef __GNUC__
#if defined(__AVX512F__)
#define LANES 16
#define RGB_PIXELS 5
#define RGB_ORDER 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0
#define ORDER 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0
#elif defined(__AVX2__)
#define LANES 8
#define RGB_PIXELS 2
#define RGB_ORDER 5, 6, 7, 2, 3, 4, 0, 1
#define ORDER 7, 6, 5, 4, 3, 2, 1, 0
#else
#define LANES 4
#define RGB_PIXELS 1
#define RGB_ORDER 1, 2, 3, 0
#define ORDER 3, 2, 1, 0
#endif
#define VECTOR(type, size) __attribute__((vector_size((size) * sizeof(type)))) type
typedef VECTOR(double, LANES) doubles;
#endif
#define BY_VECTORS(k, n, size) \
    if (n >= size) \
        for (;; k = k + 2 * size <= n ? k + size : n - size)

#define TYPED "image.h"
#include "types.h"
#define mirror(x, y, n, C) BY_TYPE(y, mirror)(x, y, n, C)
#define as_floats(x, y, n) BY_TYPE(y, as_floats)(x, y, n)
#define recolour(x, mean, weight, y, n) BY_TYPE(y, recolour)(x, mean, weight, y, n)

#elif defined(REAL)
/* pixel j of y = pixel n - 1 - j of x */
static inline void NAME(mirror)(const REAL *x, REAL *y, ptrdiff_t n, ptrdiff_t C) {
    ptrdiff_t j = 0;
#ifdef LANES
    typedef VECTOR(REAL, LANES) V;
    V v;
    if (C == 1) BY_VECTORS(j, n, LANES) {
        memcpy(&v, x + n - j - LANES, sizeof v);
        v = __builtin_shufflevector(v, v, ORDER);
        memcpy(y + j, &v, sizeof v);
        if (j == n - LANES) return;
    }
    if (C == 3) /* as many whole pixels as a vector holds are one shuffle */
        for (; j + RGB_PIXELS < n; j += RGB_PIXELS) { /* pixels to come overwrite what it holds beyond its own */
            memcpy(&v, x + 3 * (n - j) - LANES, sizeof v);
            v = __builtin_shufflevector(v, v, RGB_ORDER);
            memcpy(y + 3 * j, &v, sizeof v);
        }
#endif
    for (; j < n; j++) memcpy(y + j * C, x + (n - 1 - j) * C, C * sizeof(REAL));
}

/* y = x / 255 */
static inline void NAME(as_floats)(const unsigned char *x, REAL *y, ptrdiff_t n) {
    ptrdiff_t k = 0;
#ifdef LANES
    typedef VECTOR(unsigned char, 16) bytes;
    typedef VECTOR(unsigned short, 16) shorts;
    typedef VECTOR(int, 16) ints;
    typedef VECTOR(REAL, 16) row;
    BY_VECTORS(k, n, 16) {
        bytes v;
        memcpy(&v, x + k, sizeof v);
        row r = __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(v, shorts), ints), row);
        r *= (REAL)(1 / 255.);
        memcpy(y + k, &r, sizeof r);
        if (k == n - 16) return;
    }
#endif
    for (; k < n; k++) y[k] = x[k] * (REAL)(1 / 255.);
}

/* y = (x - mean) weight, the difference in double */
static inline void NAME(recolour)(const REAL *x, const double *mean, const double *weight, REAL *y, ptrdiff_t n) {
    ptrdiff_t k = 0;
#ifdef LANES
    typedef VECTOR(REAL, LANES) V;
    BY_VECTORS(k, n, LANES) {
        V v;
        doubles m, w;
        memcpy(&v, x + k, sizeof v);
        memcpy(&m, mean + k, sizeof m);
        memcpy(&w, weight + k, sizeof w);
        v = __builtin_convertvector(__builtin_convertvector(v, doubles) - m, V);
        v *= __builtin_convertvector(w, V);
        memcpy(y + k, &v, sizeof v);
        if (k == n - LANES) return;
    }
#endif
    for (; k < n; k++) y[k] = (REAL)(x[k] - mean[k]) * (REAL)weight[k];
}
#endif
