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

static void chains(long n) {
    vector s[CHAINS], a = {0}, b = {0};
    for (int i = 0; i < LANES; i++) { a[i] = 0.999f; b[i] = 1e-3f; }
    for (int k = 0; k < CHAINS; k++) s[k] = a + (float) k;
    for (long i = 0; i < n; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) s[k] = s[k] * a + b;
        __asm__ volatile("" : "+x"(a));
    }
    for (int k = 0; k < CHAINS; k++) __asm__ volatile("" : : "m"(s[k])); /* what nobody reads is not computed */
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

/* What one thread reads and writes in a number of passes over its arrays. */
static void stream(const char* from, char* to, size_t size, long passes) {
    for (long p = 0; p < passes; p++) {
        __asm__ volatile("" ::: "memory");
        for (size_t i = 0; i < size / BYTES; i++) ((vector*) to)[i] = ((const vector*) from)[i] + 1.0f;
    }
}

/* Arithmetic: the threads work at the same time, but do not wait for one another; each counts its best sample, and the
   sum is the machine's rate, even while something else runs now and then. Streaming, which they share the machine for:
   the best sample of all threads together. */
int main(int argc, char** argv) {
    const double seconds = argc > 1 ? atof(argv[1]) : 0.1;
    const long n = 100000;
    double total = 0;
    int threads = 0;
#pragma omp parallel reduction(+ : total, threads)
    {
        double best = 0, start, rate;
        for (double end = now() + 5 * seconds; now() < end;) {
            start = now();
            chains(n);
            rate = 2.0 * LANES * CHAINS * n / (now() - start) / 1e9;
            best = rate > best ? rate : best;
        }
        total += best;
        threads += 1;
    }
    printf("flops %.6g\n", total);
    for (size_t size = 1 << 16; size <= (size_t) 1 << 28; size *= 2) { /* half read, half written */
        const size_t part = size / 2 / threads / BYTES * BYTES; /* of each thread */
        const long passes = 1 + (long) ((4 << 20) / size);
        const double end = now() + seconds;
        double best = 0, begin = 0;
        int failed = 0, more = 1;
#pragma omp parallel
        {
            char* from = array(part);
            char* to = array(part);
            if (!from || !to) {
#pragma omp atomic
                failed += 1;
            }
#pragma omp barrier
            while (more && !failed) {
#pragma omp barrier
#pragma omp master
                begin = now();
                stream(from, to, part, passes);
#pragma omp barrier
#pragma omp master
                {
                    const double rate = 2.0 * part * threads * passes / (now() - begin) / 1e9;
                    best = rate > best ? rate : best;
                    more = now() < end;
                }
#pragma omp barrier
            }
            free(from);
            free(to);
        }
        if (failed) return 1;
        printf("stream %zu %.6g\n", size, best);
    }
    return 0;
}
