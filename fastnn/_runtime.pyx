"""What a build and a machine are: instruction sets of this CPU, OpenMP, compiler. Compiled once, for the lowest set."""
cdef extern from *:
    """
    #include "openmp.h"
    #if defined(__x86_64__) && defined(__GNUC__)
    /* these built-ins ask the processor and, by XGETBV, the operating system, which must save the registers */
    #define HAS(name) (__builtin_cpu_supports(name) != 0)
    static int has_baseline(void) { return HAS("ssse3") && HAS("sse4.2") && HAS("popcnt"); }
    static int has_avx2(void) { return HAS("avx2") && HAS("fma") && HAS("bmi") && HAS("bmi2"); }
    static int has_avx512(void) {
        return has_avx2() && HAS("avx512f") && HAS("avx512bw") && HAS("avx512cd") && HAS("avx512dq") && HAS("avx512vl");
    }
    #else
    static int has_baseline(void) { return 1; }
    static int has_avx2(void) { return 0; }
    static int has_avx512(void) { return 0; }
    #endif
    #ifndef COMPILER
    #ifdef __clang__
    #define COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define COMPILER "GCC " __VERSION__
    #else
    #define COMPILER "unknown"
    #endif
    #endif
    #ifdef _OPENMP
    #define OPENMP _OPENMP
    #else
    #define OPENMP 0
    #endif
    #ifndef FASTNN_FLAGS
    #define FASTNN_FLAGS ""
    #endif
    """
    bint has_baseline()
    bint has_avx2()
    bint has_avx512()
    int omp_get_num_procs()
    int omp_get_max_threads()
    const char* COMPILER
    const char* FASTNN_FLAGS
    int OPENMP


def instruction_sets() -> tuple:
    """Kernel sets that this processor and operating system can run, the lowest first."""
    found = []
    if has_baseline():
        found.append("baseline")
        if has_avx2():
            found.append("avx2")
            if has_avx512():
                found.append("avx512")
    return tuple(found)


def processors() -> int:
    """Processors that OpenMP may use; 1 in a build without OpenMP."""
    return omp_get_num_procs()


def openmp_threads() -> int:
    """OpenMP's own default, which honours OMP_NUM_THREADS."""
    return omp_get_max_threads()


def build() -> dict:
    """Compiler, flags and OpenMP version (year and month, 0 without) of this build."""
    return {"compiler": COMPILER.decode(), "flags": FASTNN_FLAGS.decode(), "openmp": OPENMP}
