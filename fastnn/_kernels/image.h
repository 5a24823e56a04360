/* Rows of floats: mirrored, made of bytes, shifted and scaled. Vectors take a row from its beginning; the last one ends
   with the row, and does again what the one before it has done. */
#pragma once
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
typedef VECTOR(float, LANES) floats;
typedef VECTOR(double, LANES) doubles;
#define BY_VECTORS(k, n, size) \
    if (n >= size) \
        for (;; k = k + 2 * size <= n ? k + size : n - size)
#endif

/* pixel j of y = pixel n - 1 - j of x, of one float each */
static inline void mirror_grey(const float *x, float *y, ptrdiff_t n) {
    ptrdiff_t k = 0;
#ifdef LANES
    BY_VECTORS(k, n, LANES) {
        floats v;
        memcpy(&v, x + n - k - LANES, sizeof v);
        v = __builtin_shufflevector(v, v, ORDER);
        memcpy(y + k, &v, sizeof v);
        if (k == n - LANES) return;
    }
#endif
    for (; k < n; k++) y[k] = x[n - 1 - k];
}

/* the same, of three floats each: as many whole pixels as a vector holds are one shuffle */
static inline void mirror_rgb(const float *x, float *y, ptrdiff_t n) {
    ptrdiff_t j = 0;
#ifdef LANES
    for (; j + RGB_PIXELS < n; j += RGB_PIXELS) { /* pixels to come overwrite what a vector holds beyond its own */
        floats v;
        memcpy(&v, x + 3 * (n - j) - LANES, sizeof v);
        v = __builtin_shufflevector(v, v, RGB_ORDER);
        memcpy(y + 3 * j, &v, sizeof v);
    }
#endif
    for (; j < n; j++)
        for (int c = 0; c < 3; c++) y[3 * j + c] = x[3 * (n - 1 - j) + c];
}

/* y = x / 255 */
static inline void floats_of(const unsigned char *x, float *y, ptrdiff_t n) {
    ptrdiff_t k = 0;
#ifdef LANES
    typedef VECTOR(unsigned char, 16) bytes;
    typedef VECTOR(unsigned short, 16) shorts;
    typedef VECTOR(int, 16) ints;
    typedef VECTOR(float, 16) row;
    BY_VECTORS(k, n, 16) {
        bytes v;
        memcpy(&v, x + k, sizeof v);
        row r = __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(v, shorts), ints), row);
        r *= (float)(1 / 255.);
        memcpy(y + k, &r, sizeof r);
        if (k == n - 16) return;
    }
#endif
    for (; k < n; k++) y[k] = x[k] * (float)(1 / 255.);
}

/* y = (x - mean) weight, the difference in double */
static inline void recolour_floats(const float *x, const double *mean, const double *weight, float *y, ptrdiff_t n) {
    ptrdiff_t k = 0;
#ifdef LANES
    BY_VECTORS(k, n, LANES) {
        floats v;
        doubles m, w;
        memcpy(&v, x + k, sizeof v);
        memcpy(&m, mean + k, sizeof m);
        memcpy(&w, weight + k, sizeof w);
        v = __builtin_convertvector(__builtin_convertvector(v, doubles) - m, floats);
        v *= __builtin_convertvector(w, floats);
        memcpy(y + k, &v, sizeof v);
        if (k == n - LANES) return;
    }
#endif
    for (; k < n; k++) y[k] = (float)(x[k] - mean[k]) * (float)weight[k];
}
