"""The register tile of tile.h for both dtypes, and the packing of what it reads."""
from cython cimport floating
from libc.string cimport memset

cdef extern from "tile.h" nogil:
    int TILE_VECTORS, DOT_ROWS, DOT_COLUMNS, LANES_f32, LANES_f64
    int tile_rows(int nv)
    int TAP_CHANNELS(int taps)
    int dot_rows(int nr, Py_ssize_t n)

    ctypedef struct Walk:
        Py_ssize_t n[3]
        Py_ssize_t a[3]
        Py_ssize_t b[3]
        Py_ssize_t first, width

    void prefetch(const void* start, Py_ssize_t n)
    # macros, which choose by the type of c
    void tile(int mr, int nv, int columns, int taps, const void* a, Py_ssize_t row, const Walk* w, const void* b,
              void* c, Py_ssize_t c_row, const void* start, bint add)
    void taps_side(int mr, int taps, int columns, const void* a, const Walk* w, const void* b, void* c, Py_ssize_t tap,
                   Py_ssize_t c_row, bint add)
    void overlap(const void* a, Py_ssize_t n, int nv, void* c, Py_ssize_t step)
    void dots(int mr, int nr, const void* a, Py_ssize_t a_row, const void* b, Py_ssize_t b_row, const Walk* w,
              void* c, Py_ssize_t c_row, const void* start, bint add)

cdef extern from "transpose.h" nogil:
    void transpose(const void* a, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t columns, void* to, Py_ssize_t to_row)


cdef inline int vectors_for(Py_ssize_t columns, int n_lanes) noexcept nogil:
    """Vectors in a tile for this many columns: one if they fit."""
    return 1 if columns <= n_lanes else TILE_VECTORS


cdef inline void pack(const floating* a, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t columns, Py_ssize_t column,
                      floating* to, Py_ssize_t width, Py_ssize_t to_row) noexcept nogil:
    """A block of a matrix, its rows and columns so many elements apart, as rows of `width`, `to_row` elements apart,
    with zeros after the columns."""
    cdef Py_ssize_t k, j
    for k in range(rows if columns < width else 0):
        memset(to + k * to_row, 0, width * sizeof(floating))
    if column == 1:
        for k in range(rows):
            prefetch(a + k * row + columns, columns * sizeof(floating))  # what comes after: rows are far apart
            for j in range(columns):
                to[k * to_row + j] = a[k * row + j]
    elif row == 1:
        transpose(a, columns, column, rows, to, to_row)
    else:
        for j in range(columns):
            for k in range(rows):
                to[k * to_row + j] = a[k * row + j * column]
