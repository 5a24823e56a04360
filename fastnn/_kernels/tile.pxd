"""The register tile of tile.h for both dtypes, and the cutting of a length into even parts."""
from cython cimport floating

cdef extern from "tile.h" nogil:
    int TILE_ROWS, TILE_VECTORS, LANES_f32, LANES_f64

    ctypedef struct Walk:
        Py_ssize_t n[3]
        Py_ssize_t a[3]
        Py_ssize_t b[3]

    void tile_f32(
        int mr, int nv, int columns, int side, const float* a, Py_ssize_t row, const Walk* w, const float* b,
        float* c, Py_ssize_t c_row, const float* start, int add)
    void tile_f64(
        int mr, int nv, int columns, int side, const double* a, Py_ssize_t row, const Walk* w, const double* b,
        double* c, Py_ssize_t c_row, const double* start, int add)
    float dot_f32(const float* x, const float* y, Py_ssize_t n)
    double dot_f64(const double* x, const double* y, Py_ssize_t n)


cdef inline void tile(
    int mr, int nv, int columns, bint side, const floating* a, Py_ssize_t row, const Walk* w, const floating* b,
    floating* c, Py_ssize_t c_row, const floating* start, bint add
) noexcept nogil:
    if floating is float:
        tile_f32(mr, nv, columns, side, a, row, w, b, c, c_row, start, add)
    else:
        tile_f64(mr, nv, columns, side, a, row, w, b, c, c_row, start, add)


cdef inline floating dot(const floating* x, const floating* y, Py_ssize_t n) noexcept nogil:
    if floating is float:
        return dot_f32(x, y, n)
    else:
        return dot_f64(x, y, n)


cdef inline int lanes(const floating* _) noexcept nogil:
    """Elements in a vector."""
    if floating is float:
        return LANES_f32
    else:
        return LANES_f64


cdef inline int vectors_for(Py_ssize_t columns, int n_lanes) noexcept nogil:
    """Vectors in a tile for this many columns: one if they fit."""
    return 1 if columns <= n_lanes else TILE_VECTORS


cdef inline Py_ssize_t parts(Py_ssize_t n, Py_ssize_t largest) noexcept nogil:
    """How many parts of at most `largest` cut n."""
    return (n + largest - 1) // largest


cdef inline Py_ssize_t cut(Py_ssize_t n, Py_ssize_t n_parts, Py_ssize_t i) noexcept nogil:
    """Where part i of n_parts even parts of n begins; part i ends where i + 1 begins."""
    return n * i // n_parts
