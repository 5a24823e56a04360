/* Rows of pixels of three floats, mirrored: as many whole pixels as a vector holds are one shuffle. */
#pragma once
#include <stddef.h>
#include <string.h>

#if defined(__GNUC__) && defined(__AVX512F__)
#define RGB_PIXELS 5
#define RGB_ORDER 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0
#elif defined(__GNUC__) && defined(__AVX2__)
#define RGB_PIXELS 2
#define RGB_ORDER 5, 6, 7, 2, 3, 4, 0, 1
#elif defined(__GNUC__)
#define RGB_PIXELS 1
#define RGB_ORDER 1, 2, 3, 0
#endif

/* pixel j of y = pixel n - 1 - j of x */
static inline void mirror_rgb(const float *x, float *y, ptrdiff_t n) {
    ptrdiff_t j = 0;
#ifdef RGB_PIXELS
    enum { LANES = RGB_PIXELS == 5 ? 16 : 4 * RGB_PIXELS };
    typedef float vector __attribute__((vector_size(4 * LANES)));
    for (; j + RGB_PIXELS < n; j += RGB_PIXELS) { /* pixels to come overwrite what a vector holds beyond its own */
        vector v;
        memcpy(&v, x + 3 * (n - j) - LANES, sizeof v);
        v = __builtin_shufflevector(v, v, RGB_ORDER);
        memcpy(y + 3 * j, &v, sizeof v);
    }
#endif
    for (; j < n; j++)
        for (int c = 0; c < 3; c++) y[3 * j + c] = x[3 * (n - 1 - j) + c];
}
