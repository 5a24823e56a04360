"""Matrix product C = A·B (+ bias), for matrices of either orientation.

B is packed into panels of one or two vectors' width, so that the register tile (tile.h) reads it side by side; A is
read where it lies, by rows or by columns. A unit of work is a block of row tiles times one panel; within it k is cut
so that the panel's piece stays in the first-level cache. With few rows, B is not packed but streamed once. Where k is
contiguous in both, for few rows or few columns, dot products need no packing: a unit is some columns by some rows. A
long k over few outputs is cut into slices whose sums are added in order. All cuts depend on shapes only. The limit
is the rate of multiply-adds for large matrices, bandwidth for few rows."""
cimport numpy as cnp
from cython cimport floating
from fastnn._kernels.kernel cimport *
from fastnn._kernels.tile cimport *

cnp.import_array()

cdef enum:
    K_BLOCK = 256  # steps of k between two visits of C
    BLOCK_TILES = 8  # row tiles in a unit of work, at most
    DOT_BLOCK = 1024  # steps of k of a dot product: rows of A and B stay in the first-level cache
    DOT_LEAST = 256  # the shortest k for which dot products of many rows by less than a vector of columns pay
    DOT_LONG = 512  # and the shortest for which those of 5 to 8 rows do
    LEFT_BYTES = 524288  # A, if it is to stay in the second-level cache from panel to panel
    SLICE = 2048  # steps of k in a slice, at least
    ROWS = 14  # of a tile, at most: more that lie far apart are too many pointers
    MANY = 16  # units of work that keep threads busy

ctypedef struct Product:
    Py_ssize_t M, N, K, a_row, a_k, b_k, b_col  # sizes, and steps in elements
    Bytes a, b, c, bias, packed, padded, partial
    Py_ssize_t panels, tiles, blocks, slices, wide  # wide: the columns of all panels
    int width, nv, itemsize, threads
    bint is_packed, dots
    bint by_panel  # a thread has all rows of some panels, which it has packed itself; else all panels for some rows


cdef Py_ssize_t plan(Product* p, int n_lanes) noexcept nogil:
    """Decide how the product is cut, from shapes and orientations only; returns the elements of working memory."""
    p.nv = vectors_for(p.N, n_lanes)
    p.width = p.nv * n_lanes
    p.panels = parts(p.N, p.width)
    p.wide = p.panels * p.width
    p.tiles = parts(p.M, min(tile_rows(p.nv), ROWS))
    p.dots = p.b_k == p.a_k == 1 and (p.M <= (4 if p.K < DOT_LONG else 8) or p.N < n_lanes and p.K >= DOT_LEAST)
    p.is_packed = not (p.b_col == 1 and p.M <= min(tile_rows(p.nv), ROWS))
    p.by_panel = p.K > p.M and p.M * p.K * p.itemsize <= LEFT_BYTES
    p.blocks = parts(p.tiles, min(<Py_ssize_t> BLOCK_TILES, max(<Py_ssize_t> 1, p.tiles * p.panels // MANY)))
    p.slices = 1
    if p.dots:
        p.panels, p.tiles = parts(p.N, DOT_COLUMNS), parts(p.M, DOT_ROWS)
        p.blocks = parts(p.tiles, max(<Py_ssize_t> 1, min(<Py_ssize_t> 32, p.tiles * p.panels // MANY)))
        return 0
    if p.blocks * p.panels < MANY // 2 and p.K >= 2 * SLICE:
        p.slices = min(<Py_ssize_t> MANY, p.K // SLICE)
    return p.wide * (1 + p.K) + (p.slices * p.M * p.wide if p.slices > 1 else 0)


cdef void pack_unit(const Product* p, Py_ssize_t panel, floating* kind) noexcept nogil:
    """The columns of one panel as K rows of the panel's width, and their biases; zeros beyond the last column."""
    cdef Py_ssize_t j, first = panel * p.width, n = min(<Py_ssize_t> p.width, p.N - first)
    for j in range(p.width):
        (<floating*> p.padded)[first + j] = (<floating*> p.bias)[first + j] if p.bias != NULL and j < n else 0
    if p.is_packed or n < p.width:
        pack(<floating*> p.b + first * p.b_col, p.K, p.b_k, n, p.b_col,
             <floating*> p.packed + panel * p.K * p.width, p.width, p.width)


cdef void block_unit(const Product* p, Py_ssize_t i, floating* kind) noexcept nogil:
    """A block of row tiles by one panel, over one slice of k."""
    cdef Py_ssize_t panel = i // p.blocks % p.panels if p.by_panel else i % p.panels, part = i // (p.panels * p.blocks)
    cdef Py_ssize_t which = i % p.blocks if p.by_panel else i // p.panels % p.blocks, t, row
    cdef Py_ssize_t first = panel * p.width, k = cut(p.K, p.slices, part), begin = k, end = cut(p.K, p.slices, part + 1)
    cdef Py_ssize_t c_row = p.N if p.slices == 1 else p.wide
    cdef int columns = <int> min(<Py_ssize_t> p.width, p.N - first)
    cdef bint direct = not p.is_packed and columns == p.width
    cdef const floating* b
    cdef floating* c = <floating*> (p.c if p.slices == 1 else p.partial) + part * p.M * p.wide
    cdef Walk walk
    walk.n[0] = walk.n[1] = 1
    walk.a[0] = walk.a[1] = walk.b[0] = walk.b[1] = 0
    walk.a[2], walk.b[2] = p.a_k, p.b_k if direct else p.width
    while k < end or k == begin:  # once even if there is no k, for the bias
        walk.n[2] = min(<Py_ssize_t> K_BLOCK, end - k)
        b = <floating*> p.packed + (panel * p.K + k) * p.width
        if direct:
            b = <floating*> p.b + k * p.b_k + first
        for t in range(cut(p.tiles, p.blocks, which), cut(p.tiles, p.blocks, which + 1)):
            row = cut(p.M, p.tiles, t)
            tile(<int> (cut(p.M, p.tiles, t + 1) - row), p.nv, columns, p.a_k == 1,
                 <floating*> p.a + row * p.a_row + k * p.a_k, p.a_row, &walk, b, c + row * c_row + first, c_row,
                 <floating*> p.padded + first if part == 0 else NULL, k > begin)
        k += K_BLOCK


cdef void merge_unit(const Product* p, Py_ssize_t row, floating* kind) noexcept nogil:
    """One row of C: the slices' sums added in order."""
    cdef Py_ssize_t k, j
    cdef floating* c = <floating*> p.c + row * p.N
    for k in range(p.slices):
        for j in range(p.N):
            c[j] = (c[j] if k else 0) + (<floating*> p.partial)[(k * p.M + row) * p.wide + j]


cdef void dots_unit(const Product* p, Py_ssize_t unit, floating* kind) noexcept nogil:
    """Some columns of C by some rows, as dot products of rows of A and columns of B."""
    cdef Py_ssize_t block = unit // p.panels, j = unit % p.panels * DOT_COLUMNS, i, k, rows, part
    cdef Py_ssize_t first = min(p.M, cut(p.tiles, p.blocks, block) * DOT_ROWS)
    cdef Py_ssize_t last = min(p.M, cut(p.tiles, p.blocks, block + 1) * DOT_ROWS)
    cdef int columns = <int> min(<Py_ssize_t> DOT_COLUMNS, p.N - j)
    cdef Walk walk
    memset(&walk, 0, sizeof(Walk))
    walk.n[0] = walk.n[1] = 1
    for part in range(max(<Py_ssize_t> 1, parts(p.K, DOT_BLOCK))):
        i, k = first, part * DOT_BLOCK
        walk.n[2] = min(p.K - k, <Py_ssize_t> DOT_BLOCK)
        while i < last:
            rows = dot_rows(columns, last - i)
            dots(<int> rows, columns, <floating*> p.a + i * p.a_row + k, p.a_row, <floating*> p.b + j * p.b_col + k,
                 p.b_col, &walk, <floating*> p.c + i * p.N + j, p.N,
                 <floating*> p.bias + j if p.bias != NULL and k == 0 else NULL, k > 0)
            i += rows


cdef void multiply(const Product* p, Py_ssize_t _, floating* kind) noexcept nogil:
    if p.dots:
        share(<Unit> dots_unit[floating], p, p.blocks * p.panels, p.threads)
        return
    share(<Unit> pack_unit[floating], p, p.panels, p.threads)
    share(<Unit> block_unit[floating], p, p.blocks * p.panels * p.slices, p.threads)
    if p.slices > 1:
        share(<Unit> merge_unit[floating], p, p.M, p.threads)


def matmul(cnp.ndarray a not None, cnp.ndarray b not None, cnp.ndarray bias, cnp.ndarray c_out not None, int n_threads):
    """c = a @ b + bias, for (M, K) @ (K, N), or stacks (B, M, K) @ (B, K, N); bias (N,) or None.

    Each matrix is contiguous along one of its two axes; c along its last."""
    cdef int d = a.ndim, kind = cnp.PyArray_TYPE(a)
    cdef Py_ssize_t _n, stack, size = cnp.PyArray_ITEMSIZE(a)
    cdef Product p
    check_float(a)
    check_float(b)
    check_plain(c_out)
    if not (2 <= d <= 3 and b.ndim == d and c_out.ndim == d):
        raise ValueError("kernel matmul: operands must all be matrices, or all be stacks of them")
    p.M, p.K, p.N = a.shape[d - 2], a.shape[d - 1], b.shape[d - 1]
    stack = a.shape[0] if d == 3 else 1
    if (b.shape[d - 2] != p.K or c_out.shape[d - 2] != p.M or c_out.shape[d - 1] != p.N
            or (d == 3 and (b.shape[0] != stack or c_out.shape[0] != stack))
            or cnp.PyArray_TYPE(b) != kind or cnp.PyArray_TYPE(c_out) != kind):
        raise ValueError("kernel matmul: shapes or dtypes do not fit")
    p.bias = vector(bias, p.N, a)
    if c_out.size == 0:
        return
    # the steps of axes of size 1 say nothing: such an axis counts as contiguous where that helps
    p.a_row = 1 if p.M == 1 else a.strides[d - 2] // size
    p.a_k = 1 if p.K <= 1 and p.a_row != 1 else a.strides[d - 1] // size
    p.b_k = 1 if p.K <= 1 else b.strides[d - 2] // size
    p.b_col = 1 if p.N == 1 and (p.b_k != 1 or p.K <= 1) else b.strides[d - 1] // size
    if p.a_row != 1 and p.a_k != 1 or p.b_k != 1 and p.b_col != 1:
        raise ValueError("kernel matmul: a matrix is contiguous along neither axis")
    p.itemsize = <int> size
    p.a, p.b, p.c = a.data, b.data, c_out.data
    p.threads = threads_for(p.M * p.N * p.K // 16 + p.N * p.K + p.M * p.N // STREAM, n_threads)
    p.padded = <Bytes> scratch_acquire(plan(&p, LANES_f32 if size == 4 else LANES_f64) * size)
    p.packed = p.padded + p.wide * size
    p.partial = p.packed + p.wide * p.K * size
    cdef Unit run = <Unit> multiply[float] if size == 4 else <Unit> multiply[double]
    with nogil:
        for _n in range(stack):
            run(&p, 0, NULL)
            p.a, p.b, p.c = p.a + a.strides[0], p.b + b.strides[0], p.c + p.M * p.N * size
    scratch_release(p.padded)
