/* OpenMP's run-time functions, and what stands for them in a build without OpenMP. */
#pragma once
#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_num_procs(void) { return 1; }
static int omp_get_max_threads(void) { return 1; }
static int omp_get_thread_num(void) { return 0; }
#endif
