"""What a build and a machine are: instruction sets of this CPU, OpenMP, compiler. Compiled once, for the lowest set."""
cdef extern from *:
    """
    #include "openmp.h"
    #if defined(__x86_64__) && defined(__GNUC__)
    /* these built-ins ask the processor and, by XGETBV, the operating system, which must save the registers */
    #define HAS __builtin_cpu_supports
    static int isa_level(void) {
        if (!(HAS("ssse3") && HAS("sse4.2") && HAS("popcnt"))) return 0;
        if (!(HAS("avx2") && HAS("fma") && HAS("bmi") && HAS("bmi2"))) return 1;
        return HAS("avx512f") && HAS("avx512bw") && HAS("avx512cd") && HAS("avx512dq") && HAS("avx512vl") ? 3 : 2;
    }
    #else
    static int isa_level(void) { return 1; }
    #endif
    #ifdef __clang__
    #define COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define COMPILER "GCC " __VERSION__
    #else
    #define COMPILER "unknown"
    #endif
    #ifdef _OPENMP
    #define OPENMP _OPENMP
    #else
    #define OPENMP 0
    #endif"""
    int isa_level()
    int omp_get_num_procs()
    int omp_get_max_threads()
    const char* COMPILER
    const char* FASTNN_FLAGS
    int OPENMP


def instruction_sets() -> tuple:
    """Kernel sets that this processor and operating system can run, the lowest first."""
    return ("baseline", "avx2", "avx512")[:isa_level()]


def processors() -> int:
    """Processors that OpenMP may use; 1 in a build without OpenMP."""
    return omp_get_num_procs()


def openmp_threads() -> int:
    """OpenMP's own default, which honours OMP_NUM_THREADS."""
    return omp_get_max_threads()


def build() -> dict:
    """Compiler, flags and OpenMP version (year and month, 0 without) of this build."""
    return {"compiler": COMPILER.decode(), "flags": FASTNN_FLAGS.decode(), "openmp": OPENMP}
