/* The limits of this machine: fused multiply-adds in registers, and streaming through each level of memory.
   Prints "flops <GFLOP/s>", then "stream <bytes in use> <GB/s>" for several sizes. Argument: seconds for each figure. */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifdef __AVX512F__
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define LANES (BYTES / 4)
#define CHAINS 12 /* independent sums: latency 4 times 2 units, and some to spare */

typedef float vector __attribute__((vector_size(BYTES)));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static float chains(long n) {
    vector s[CHAINS], a = {0}, b = {0};
    float sum = 0;
    for (int i = 0; i < LANES; i++) { a[i] = 0.999f; b[i] = 1e-3f; }
    for (int k = 0; k < CHAINS; k++) s[k] = a + (float) k;
    for (long i = 0; i < n; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) s[k] = s[k] * a + b;
        __asm__ volatile("" : "+x"(a));
    }
    for (int k = 0; k < CHAINS; k++) sum += s[k][0];
    return sum;
}

/* Zeros, in large pages where the system has them, as NumPy asks for them. */
static char* array(size_t size) {
    const size_t page = 1 << 21;
    char* start = aligned_alloc(page, (size + page - 1) / page * page);
    if (!start) return start;
#ifdef MADV_HUGEPAGE
    madvise(start, size, MADV_HUGEPAGE);
#endif
    return memset(start, 0, size);
}

int main(int argc, char** argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 0.1, best = 0, start, rate;
    const long n = 1000000;
    volatile float sink = 0;
    for (double end = now() + seconds; now() < end;) {
        int threads = 0;
        float sum = 0;
        start = now();
#pragma omp parallel reduction(+ : threads, sum)
        {
            threads += 1;
            sum += chains(n);
        }
        rate = 2.0 * LANES * CHAINS * n * threads / (now() - start) / 1e9;
        best = rate > best ? rate : best;
        sink = sink + sum;
    }
    printf("flops %.6g\n", best);
    for (size_t size = 1 << 16; size <= (size_t) 1 << 28; size *= 2) { /* half read, half written */
        const size_t half = size / 2, chunk = 1 << 14, units = half / chunk;
        char* from = array(half);
        char* to = array(half);
        if (!from || !to) return 1;
        best = 0;
        for (double end = now() + seconds; now() < end;) {
            const int repeats = 1 + (int) ((32 << 20) / size);
            start = now();
#pragma omp parallel
            for (int r = 0; r < repeats; r++) { /* each thread keeps to its part: nothing to wait for */
                __asm__ volatile("" ::: "memory");
#pragma omp for schedule(static) nowait
                for (size_t u = 0; u < units; u++) {
                    vector* x = (vector*) (from + u * chunk);
                    vector* y = (vector*) (to + u * chunk);
                    for (size_t i = 0; i < chunk / BYTES; i++) y[i] = x[i] + 1.0f;
                }
            }
            rate = (double) size * repeats / (now() - start) / 1e9;
            best = rate > best ? rate : best;
        }
        printf("stream %zu %.6g\n", size, best);
        free(from);
        free(to);
    }
    return 0;
}
