"""The loops, in Cython with OpenMP. Built once per instruction set, into the sub-packages baseline, avx2 and avx512."""
