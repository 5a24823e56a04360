"""Matrix product C = A·B (+ bias), for matrices of either orientation.

B is packed into panels of one or two vectors' width, so that the register tile (tile.h) reads it side by side; A is
read where it lies, by rows or by columns. A unit of work is a block of row tiles times one panel; within it k is cut
so that the panel's piece stays in the first-level cache. Few rows make the product as light as reading B: then B is not
packed but streamed once, by dot products if its columns are contiguous. A long k over few outputs is cut into
slices whose sums are added in order. All cuts depend on shapes only. The limit is the rate of multiply-adds for large
matrices, bandwidth for few rows.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from fastnn._kernels.kernel cimport check_float, check_plain, check_rows, is_f32, n_channels, n_rows
from fastnn._kernels.kernel cimport scratch_acquire, scratch_align, scratch_release
from fastnn._kernels.kernel cimport threads_for
from fastnn._kernels.tile cimport TILE_ROWS, Walk, cut, dot, lanes, parts, tile, vectors_for

cnp.import_array()

cdef enum:
    K_BLOCK = 256  # steps of k between two visits of C
    BLOCK_TILES = 8  # row tiles in a unit of work, at most
    SLICE = 2048  # steps of k in a slice, at least
    MANY = 16  # units of work that keep threads busy

ctypedef struct Matrices:
    Py_ssize_t M, N, K
    Py_ssize_t a_row, a_k, b_k, b_col, c_row  # steps in elements
    Py_ssize_t panels, tiles, blocks, slices
    int width, nv
    bint packed, dots


cdef void plan(Matrices* m, int n_lanes) noexcept nogil:
    """Decide how the product is cut, from shapes and orientations only."""
    m.nv = vectors_for(m.N, n_lanes)
    m.width = m.nv * n_lanes
    m.panels = parts(m.N, m.width)
    m.tiles = parts(m.M, TILE_ROWS)
    m.dots = m.M <= 4 and m.b_k == 1 and m.a_k == 1
    m.packed = not (m.b_col == 1 and m.M <= TILE_ROWS)
    m.blocks = parts(m.tiles, min(<Py_ssize_t> BLOCK_TILES, max(<Py_ssize_t> 1, m.tiles * m.panels // MANY)))
    m.slices = 1
    if m.blocks * m.panels < MANY // 2 and m.K >= 2 * SLICE and not m.dots:
        m.slices = min(<Py_ssize_t> MANY, m.K // SLICE)


cdef void pack_panel(const Matrices* m, const floating* b, floating* packed, Py_ssize_t panel) noexcept nogil:
    """Columns of one panel as K rows of the panel's width, zeros beyond the last column."""
    cdef Py_ssize_t k, j, first = panel * m.width, n = min(<Py_ssize_t> m.width, m.N - first)
    cdef floating* to = packed + panel * m.K * m.width
    b += first * m.b_col
    if n < m.width:
        for k in range(m.K * m.width):
            to[k] = 0
    if m.b_col == 1:
        for k in range(m.K):
            for j in range(n):
                to[k * m.width + j] = b[k * m.b_k + j]
    else:
        for j in range(n):
            for k in range(m.K):
                to[k * m.width + j] = b[k * m.b_k + j * m.b_col]


cdef void block(
    const Matrices* m, const floating* a, const floating* b, const floating* packed, const floating* bias,
    floating* c, Py_ssize_t c_row, Py_ssize_t unit, Py_ssize_t k_first, Py_ssize_t k_last
) noexcept nogil:
    """One unit: a block of row tiles by one panel, over k from k_first to k_last."""
    cdef Py_ssize_t panel = unit % m.panels, which = unit // m.panels, k = k_first, t, i, first = panel * m.width
    cdef int columns = <int> min(<Py_ssize_t> m.width, m.N - first)
    cdef bint direct = not m.packed and columns == m.width
    cdef const floating* from_
    cdef Walk walk
    if bias != NULL:
        bias += first
    walk.n[0] = walk.n[1] = 1
    walk.a[0] = walk.a[1] = walk.b[0] = walk.b[1] = 0
    walk.a[2] = m.a_k
    walk.b[2] = m.b_k if direct else m.width
    while k < k_last or k == k_first:
        walk.n[2] = min(<Py_ssize_t> K_BLOCK, k_last - k)
        from_ = b + k * m.b_k + first if direct else packed + (panel * m.K if m.packed else 0) * m.width + k * m.width
        for t in range(cut(m.tiles, m.blocks, which), cut(m.tiles, m.blocks, which + 1)):
            i = cut(m.M, m.tiles, t)
            tile(
                <int> (cut(m.M, m.tiles, t + 1) - i), m.nv, columns, m.a_k != 1, a + i * m.a_row + k * m.a_k, m.a_row,
                &walk, from_, c + i * c_row + first, c_row,
                bias, k > k_first)
        k += K_BLOCK


cdef void multiply(
    const Matrices* m, const floating* a, const floating* b, const floating* bias, floating* c, floating* room,
    int n_threads
) noexcept nogil:
    """C = A·B + bias; `room` is working memory as `room_for` says."""
    cdef Py_ssize_t i, j, k, n, units = m.blocks * m.panels, slice_size = m.M * m.panels * m.width
    cdef floating* padded = NULL
    cdef floating* packed = room + m.panels * m.width
    cdef floating* partial = packed + (m.panels if m.packed else 1) * m.K * m.width
    cdef floating total
    if m.dots:
        for i in prange(m.N, schedule="static", num_threads=n_threads):
            for j in range(m.M):
                total = dot(a + j * m.a_row, b + i * m.b_col, m.K)
                c[j * m.c_row + i] = total if bias == NULL else total + bias[i]
        return
    if bias != NULL:  # padded, as the tile reads whole vectors
        padded = room
        for j in range(m.panels * m.width):
            padded[j] = bias[j] if j < m.N else 0
    if m.packed:
        for i in prange(m.panels, schedule="static", num_threads=n_threads):
            pack_panel(m, b, packed, i)
    elif m.N % m.width:
        pack_panel(m, b, packed - (m.panels - 1) * m.K * m.width, m.panels - 1)
    if m.slices == 1:
        for i in prange(units, schedule="static", num_threads=n_threads):
            block(m, a, b, packed, padded, c, m.c_row, i, 0, m.K)
        return
    for i in prange(units * m.slices, schedule="static", num_threads=n_threads):
        block(
            m, a, b, packed, padded if i // units == 0 else NULL, partial + i // units * slice_size,
            m.panels * m.width, i % units, cut(m.K, m.slices, i // units), cut(m.K, m.slices, i // units + 1))
    for i in prange(m.M, schedule="static", num_threads=n_threads):
        for j in range(m.N):
            c[i * m.c_row + j] = partial[i * m.panels * m.width + j]
        for k in range(1, m.slices):
            for j in range(m.N):
                c[i * m.c_row + j] += partial[k * slice_size + i * m.panels * m.width + j]


cdef Py_ssize_t room_for(const Matrices* m) noexcept nogil:
    """Elements of working memory: bias, packed panels, sums of slices."""
    cdef Py_ssize_t n = m.panels * m.width + (m.panels if m.packed else 1) * m.K * m.width
    return n if m.slices == 1 else n + m.slices * m.M * m.panels * m.width


def matmul(cnp.ndarray a, cnp.ndarray b, bias, cnp.ndarray c_out, int n_threads):
    """c = a @ b + bias, for (M, K) @ (K, N), or stacks (B, M, K) @ (B, K, N); bias (N,) or None.

    Each matrix is contiguous along one of its two axes; c along its last.
    """
    cdef int d = cnp.PyArray_NDIM(a), i
    cdef Py_ssize_t size, n, stack
    cdef Py_ssize_t[3][3] steps
    cdef Matrices m
    cdef void* shift = NULL
    cdef void* block_
    check_float(a)
    check_float(b)
    check_plain(c_out)
    if not (2 <= d <= 3 and cnp.PyArray_NDIM(b) == d and cnp.PyArray_NDIM(c_out) == d):
        raise ValueError("kernel matmul: operands must all be matrices, or all be stacks of them")
    m.M, m.K, m.N = cnp.PyArray_DIM(a, d - 2), cnp.PyArray_DIM(a, d - 1), cnp.PyArray_DIM(b, d - 1)
    stack = cnp.PyArray_DIM(a, 0) if d == 3 else 1
    if (
        cnp.PyArray_DIM(b, d - 2) != m.K or cnp.PyArray_DIM(c_out, d - 2) != m.M or cnp.PyArray_DIM(c_out, d - 1) != m.N
        or (d == 3 and (cnp.PyArray_DIM(b, 0) != stack or cnp.PyArray_DIM(c_out, 0) != stack))
        or cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(b) or cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(c_out)
    ):
        raise ValueError("kernel matmul: shapes or dtypes do not fit")
    if bias is not None:
        check_plain(bias)
        if cnp.PyArray_SIZE(bias) != m.N or cnp.PyArray_TYPE(bias) != cnp.PyArray_TYPE(a):
            raise ValueError("kernel matmul: bias does not fit")
        shift = cnp.PyArray_DATA(bias)
    if cnp.PyArray_SIZE(c_out) == 0:
        return
    size = cnp.PyArray_ITEMSIZE(a)
    for i in range(d):
        steps[0][i] = cnp.PyArray_STRIDE(a, i) // size
        steps[1][i] = cnp.PyArray_STRIDE(b, i) // size
    m.a_row = 1 if m.M <= 1 else steps[0][d - 2]
    m.a_k = 1 if m.K <= 1 and m.a_row != 1 else steps[0][d - 1]
    m.b_k = 1 if m.K <= 1 else steps[1][d - 2]
    m.b_col = 1 if m.N == 1 and (m.b_k != 1 or m.K <= 1) else steps[1][d - 1]
    if m.a_row != 1 and m.a_k != 1 or m.b_k != 1 and m.b_col != 1:
        raise ValueError("kernel matmul: a matrix is contiguous along neither axis")
    m.c_row = m.N
    plan(&m, lanes(<float*> NULL) if is_f32(a) else lanes(<double*> NULL))
    n = room_for(&m)
    block_ = scratch_acquire(n * size)
    cdef int threads = threads_for(m.M * m.N * m.K // 16 + m.N * m.K, n_threads)
    cdef char* pa = <char*> cnp.PyArray_DATA(a)
    cdef char* pb = <char*> cnp.PyArray_DATA(b)
    cdef char* pc = <char*> cnp.PyArray_DATA(c_out)
    cdef void* room = scratch_align(block_)
    cdef bint single = is_f32(a)
    cdef Py_ssize_t a_stack = steps[0][0] * size, b_stack = steps[1][0] * size, c_stack = m.M * m.N * size
    with nogil:
        for n in range(stack):
            if single:
                multiply(
                    &m, <const float*> (pa + n * a_stack), <const float*> (pb + n * b_stack), <const float*> shift,
                    <float*> (pc + n * c_stack), <float*> room, threads)
            else:
                multiply(
                    &m, <const double*> (pa + n * a_stack), <const double*> (pb + n * b_stack),
                    <const double*> shift, <double*> (pc + n * c_stack), <double*> room, threads)
    scratch_release(block_)


cdef enum:
    SUM_ROWS = 256  # rows in one partial sum


cdef void sum_rows(const floating* x, floating* total, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    for j in range(n):
        total[j] = 0
    for i in range(rows):
        for j in range(n):
            total[j] += x[i * n + j]


cdef void sum_columns(
    const floating* x, floating* sums, floating* partial, Py_ssize_t rows, Py_ssize_t n, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, j, units = parts(rows, SUM_ROWS)
    cdef double total
    for i in prange(units, schedule="static", num_threads=n_threads):
        sum_rows(x + i * SUM_ROWS * n, partial + i * n, min(<Py_ssize_t> SUM_ROWS, rows - i * SUM_ROWS), n)
    for j in range(n):
        total = 0
        for i in range(units):
            total = total + partial[i * n + j]
        sums[j] = <floating> total


def column_sum(cnp.ndarray x, cnp.ndarray sum_out, int n_threads):
    """Sum over all but the channels of x, (N, C) or channels-last (N, C, H, W): a bias's gradient."""
    check_rows(x)
    check_plain(sum_out)
    cdef Py_ssize_t rows = n_rows(x), n = n_channels(x)
    if cnp.PyArray_SIZE(sum_out) != n or cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(sum_out):
        raise ValueError("kernel column_sum: sum_out does not fit")
    cdef void* block_ = scratch_acquire(parts(rows, SUM_ROWS) * n * cnp.PyArray_ITEMSIZE(x))
    cdef void* room = scratch_align(block_)
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* py = cnp.PyArray_DATA(sum_out)
    cdef bint single = is_f32(x)
    cdef int threads = threads_for(rows * n, n_threads)
    with nogil:
        if single:
            sum_columns(<const float*> px, <float*> py, <float*> room, rows, n, threads)
        else:
            sum_columns(<const double*> px, <double*> py, <double*> room, rows, n, threads)
    scratch_release(block_)
