"""Convolution over channels-last images, as a matrix product with the im2col matrix that is never written to memory.

Forward. A row of that matrix is a window: kH runs of kW·C values that lie side by side in the image. The register tile
(tile.h) has output pixels of one row as its rows, a panel of filters as its columns, and walks kH, kW·C. Weights are
packed as [panel][kH][kW][C][width]. A unit of work is a band of output rows of one image; where windows overlap the
border, or channels are grouped, the band is first copied with its border of zeros into working memory, where it stays
in cache. A 1×1 convolution without stride is one long row of pixels.

Gradient of the input. For stride 1 the same walk with flipped, transposed weights; for stride s, the s² phases of
the input see disjoint sets of taps, each a dense convolution of its own (zeros where no tap reaches).

Gradient of the weight. The same tile with values of a window as rows and filters as columns, walking over images and
pixels; or with filters as rows and channels as columns, where that fills more lanes, turned as the sums are merged. The
bounds of the walk leave out border pixels, except for few channels, where a copy with a border lets the tile span kW·C
values. Bands of images, or some small images, are summed in chunks, whose number depends on shapes only, merged in
order.

Fewer columns than lanes would leave lanes idle. What is least work, by an estimate from shapes, is taken instead:
- lanes along the kW·C values that a row of a window reads, as dot products (many channels, few filters);
- a column for each tap of a row, the taps being added up along the row afterwards (stride 1, and the input's gradient
  of any stride, all phases of a row at once);
- lanes along the pixels of planes (planes.h), one for each channel and phase of the stride, some groups together; the
  weight's gradient is then products of planes, of x with its border and dY with zeros where x has it.

Depthwise convolution, one channel a filter, has vectors of channels in the micro-kernels of depthwise.h, which take a
piece of an output row (or, for the gradient of the weight, rows) for a block of channels. A channel with a few filters
is repeated for each. The input's gradient gathers, stride by stride, as the dense one does: nothing is scattered. Fewer
channels than lanes may be faster in planes.

The limit is the rate of multiply-adds, for depthwise (3×3 both) and very small shapes bandwidth."""
cimport numpy as cnp
from cython cimport floating
from libc.string cimport memcpy, memset
from fastnn._kernels.kernel cimport *
from fastnn._kernels.tile cimport *

cdef extern from "depthwise.h" nogil:
    int piece_size(Py_ssize_t n)
    Py_ssize_t tap_rows(Py_ssize_t taps)

    ctypedef struct Piece:
        Py_ssize_t channels, rows, taps, x_row, x_tap, x_step, w_row, w_tap, y_step, column, tap, step, width
        Py_ssize_t high, wide, y_down, x_down, line, drop, down, height, first, last

    # macros, which choose by the type of y and of w
    void piece(int n, const Piece* s, const void* x, const void* w, const void* b, void* y)
    void gather(const Piece* s, const void* x, const void* y, void* w)

cdef extern from "planes.h" nogil:
    int PLANE_FILTERS
    Py_ssize_t plane_vectors(Py_ssize_t filters)

    ctypedef struct Plane:
        Py_ssize_t channels, size, taps, row, phase, high, wide
        const Py_ssize_t* places

    void planes(int filters, const Plane* s, const void* x, const void* w, const void* start, void* y,
                Py_ssize_t y_row, Py_ssize_t n)  # a macro, by the type of y

ctypedef void* Row

cdef extern from "norm.h" nogil:
    enum: ADD, RELU
    ctypedef struct NormRows:
        Row x, y, out, m, s, t
    void norm_map(const void* like, int kind, const NormRows* rows, Py_ssize_t lanes, Py_ssize_t size)

cnp.import_array()

cdef enum:
    BAND_BYTES = 131072  # a band with its border, in the second-level cache beside weights
    BLOCK = 128  # channels that a depthwise convolution walks together: rows for all taps in the first-level cache
    FIRST_BYTES = 32768  # that the first-level cache keeps
    FOLDED = 8  # vectors of columns that are added up along a row
    FEW_FILTERS = 8  # of one channel each: so many make a depthwise convolution, over repeated channels
    LANES = 512  # numbers that the epilogue takes in one loop, if filters allow
    ITEM_BYTES = 262144  # input of one item of the weight gradient
    DEPTH_BYTES = 32768  # the same, depthwise: in the first-level cache
    PLANES = 32  # channels of groups whose planes are made together
    PLANE = 512  # pixels that are worth a sum in the lanes of a vector
    MANY = 16  # units of work that keep threads busy
    SPAN = 8  # fewer channels than this: the weight gradient's tile spans taps
    SUM_BYTES = 1048576  # partial weight gradients together
    SUM_PIECE = 4096  # elements of them that are merged at a time
    LONG_ROW = 112  # pixels that a 1×1 convolution takes for a row
    LARGEST = 268435456  # 2²⁸, beyond any stride, dilation or padding, so that products do not overflow

ctypedef struct Conv:  # a convolution, its arrays, and how its weight gradient is cut; steps are in elements
    Py_ssize_t N, C, H, W, F, kH, kW, oH, oW, sh, sw, top, left, dh, dw, groups
    Py_ssize_t c, f  # channels and filters of one group
    Py_ssize_t w_f, w_c, w_h, w_w  # the weight's steps
    Bytes x, w, b, y, room
    Bytes mean, rstd, gamma, beta, residual  # of the epilogue, those there are
    Bytes norm  # its mean, scale and shift, `wide` numbers each; NULL if it is a ReLU alone
    bint relu, ends  # ends: with an epilogue
    int lanes, itemsize, threads
    bint depthwise, back  # back: from y to x, or from the im2col matrix to pixels
    Py_ssize_t bands, items, chunks, blocks, tile_rows, rows, panels, tiles, size, high, wide, edge_at, padded_at
    Py_ssize_t taps  # of a row, that have tiles of their own
    Bytes sums, edge, padded, spread
    int width, nv
    Py_ssize_t together  # items in planes at a time, or 0
    Plane plane  # an item's, for the weight's gradient
    Py_ssize_t pieces  # of the batch, of which items are bands
    bint swapped  # the tile's rows are filters, its columns channels of the image
    bint slides  # the tile has all taps of a row, for some channels
    bint spans  # the tile's rows run over kW·C of a padded copy, else over the C of one tap

ctypedef struct Dense:  # a dense walk: the convolution itself, or one phase of its input's gradient
    Py_ssize_t N, H, W, C, oH, oW, sh, sw, top, left, dh, dw, groups
    Py_ssize_t run, columns, kH, kW  # channels read and written of one group, and taps
    Py_ssize_t column, row, w_h, w_w, w_group  # the weight's steps
    Py_ssize_t begin  # where in it the walk's first tap is
    Py_ssize_t image_out, row_out, pixel_out  # the output's
    Py_ssize_t panels, panel_size, bands, band_size, padded_row, long_row
    Bytes x, w, b, y, packed, bias, band
    int width, nv, itemsize
    int shared  # taps of a row that share what they load, or 1
    bint copied
    Py_ssize_t taps, wide, shift  # folded: taps of a row as columns, or 0; pixels of an output row; the first's place
    Py_ssize_t step, lead, span  # pixels from one to the next, before the output's first, and in all; step 0: not yet
    Py_ssize_t time  # estimated, in quarters of a cycle for an image
    Py_ssize_t sums  # elements of a row of them, which lie before the output's; or of an output plane
    Py_ssize_t joined  # groups whose planes are made together
    Plane plane
    bint planar
    bint dotted  # the lanes run along what a kernel row reads
    const Conv* whole  # with the epilogue


# The dense walk --------------------------------------------------------------------------------------------------

cdef inline bint small_border(Py_ssize_t wide, Py_ssize_t high, Py_ssize_t pixels) noexcept nogil:
    """Whether a copy with borders does not grow far beyond the outputs."""
    return wide * high <= 4 * pixels


cdef inline Py_ssize_t turned(Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """The time to bring that many rows of n pixels into a plane, by fours if they can be, in quarters of a cycle."""
    return rows * (3 * n + 5 * (n % 4))


cdef Py_ssize_t plan_planes(Plane* p, Py_ssize_t oH, Py_ssize_t oW, Py_ssize_t kH, Py_ssize_t kW, Py_ssize_t sh,
                            Py_ssize_t sw, Py_ssize_t dh, Py_ssize_t dw) noexcept nogil:
    """The rows of a channel's planes, and their phases; returns how many rows are needed."""
    p.row, p.high, p.wide = oW + (kW - 1) * dw // sw, min(sh, (kH - 1) * dh + 1), min(sw, (kW - 1) * dw + 1)
    return oH + (kH - 1) * dh // sh


cdef void plan_few(Dense* d, int n_lanes) noexcept nogil:
    """How to walk for fewer columns than a vector has, by estimates of the time, in quarters of a cycle.

    Folded, the tile has a column for each tap of a row too, at each pixel of the input, to be added up along the row
    afterwards; the walk's pixels are set so, and its taps of a row to one. Planar, the lanes are pixels."""
    cdef Py_ssize_t first = max(-d.left, <Py_ssize_t> 0), last = min(d.W, d.oW + d.kW - 1 - d.left)
    cdef Py_ssize_t nv = parts(d.kW * d.columns, n_lanes), n_panels = parts(d.columns, PLANE_FILTERS)
    cdef Py_ssize_t width = parts(d.columns, n_panels), step = plane_vectors(width) * n_lanes
    cdef Py_ssize_t work = min(d.oH, d.H) * d.kH * d.run * 5 // 2  # for a column of pixels, less what lies outside
    cdef Py_ssize_t dense = (work * d.kW + 20 * d.oH) * d.oW * d.nv * parts(d.columns, d.nv * n_lanes)
    cdef Py_ssize_t folded = (work + 20 * d.oH) * (last - first) * nv
    cdef Py_ssize_t rows = plan_planes(&d.plane, d.oH, d.oW, d.kH, d.kW, d.sh, d.sw, d.dh, d.dw), row = d.plane.row
    cdef Py_ssize_t planar = n_panels * parts((d.oH - 1) * row + d.oW, step) * plane_vectors(width) \
        * (d.kH * d.kW * d.run * (2 * width + 3) + 20)
    cdef Py_ssize_t side_by_side = d.run if d.dw > 1 else d.kW * d.run, blocks = parts(d.columns, DOT_COLUMNS)
    d.panel_size = d.kH * d.kW * d.run * parts(d.columns, blocks) * d.itemsize
    cdef Py_ssize_t dotted = min(d.oH, d.H) * d.oW * (
        d.kH * d.kW * d.run // max(side_by_side, 1) * parts(side_by_side, n_lanes) * (
            4 * blocks + (2 if d.panel_size <= FIRST_BYTES else 4) * d.columns)  # weights from the second-level cache
        + 50 * d.columns)
    d.time = dense
    if d.nv > 1 or d.kH * d.kW == 0:
        return
    if d.groups > 1:  # their copies
        dense += 60 * d.H * d.W
        folded += 60 * d.H * d.W
        dotted += (60 + d.run) * d.H * d.W
    planar += d.run * turned(rows, row) * d.plane.high * d.plane.wide + d.columns * turned(d.oH, d.oW)
    if d.sw > 1 or d.sh > 1 or d.dw > 1 or d.kW == 1 or nv > TILE_VECTORS or first >= last:
        folded = dense
    if not small_border(row, rows, d.oH * d.oW):
        planar = dense
    d.time = min(min(dense, dotted if side_by_side >= n_lanes else dense), min(folded, planar))
    if side_by_side >= n_lanes and dotted < min(dense, min(folded, planar)):
        d.dotted, d.panels, d.width = True, blocks, parts(d.columns, blocks)
    elif folded < min(dense, planar):
        d.taps, d.wide, d.shift, d.nv = d.kW, d.oW, first + d.left, <int> nv
        d.step, d.lead, d.span = 1, d.taps - 1, d.wide + 2 * d.taps
        d.oW, d.kW, d.left = last - first, 1, -first
    elif planar < dense:
        d.planar, d.panels, d.width, d.padded_row = True, n_panels, width, row
        d.joined = min(d.groups, parts(PLANES, max(d.run, d.columns)))


cdef Py_ssize_t plan_dense(Dense* d, const Conv* c) noexcept nogil:
    """Decide bands and panels from shapes only; returns the elements of working memory."""
    cdef Py_ssize_t rows, overlap, step, run
    d.N, d.groups, d.w, d.itemsize, d.whole = c.N, c.groups, c.w, c.itemsize, c
    d.run = d.C // d.groups
    d.planar = d.dotted = False
    if d.step == 0:
        d.taps = d.sums = d.span = 0
        d.nv = vectors_for(d.columns, c.lanes)
        plan_few(d, c.lanes)
    if not d.planar and not d.dotted:
        d.width = d.nv * c.lanes
        d.panels = 1 if d.taps else parts(d.columns, d.width)
    if not d.planar:
        d.padded_row = (d.oW - 1) * d.sw + (d.kW - 1) * d.dw + 1
    d.panel_size = d.kH * d.kW * d.run * d.width
    d.copied = d.kH * d.kW > 0 and (d.groups > 1 or d.left > 0 or d.padded_row - d.left > d.W)
    d.shared = <int> d.kW if (d.nv == 1 and not d.taps and not d.dotted and d.sw == 1 and d.dw == 1
                              and (d.kW == 3 or d.kW == 5)) else 1
    d.long_row = d.band_size = 0
    run = d.run
    if d.planar:
        run = d.joined * d.run * d.plane.high * d.plane.wide
    if not d.planar and not d.copied and not d.taps and d.kH == d.kW == d.sh == d.sw == 1 and d.oH == d.H \
            and d.oW == d.W and d.top == 0 and d.row_out == d.oW * d.pixel_out and d.image_out == d.oH * d.row_out:
        d.long_row = d.N * d.H * d.W  # pixels in all
        d.N, d.oH, d.oW, d.bands = parts(d.long_row, LONG_ROW), 1, LONG_ROW, 1
    else:
        overlap = max(<Py_ssize_t> 0, (d.kH - 1) * d.dh + 1 - d.sh)
        rows = max(<Py_ssize_t> 1, (BAND_BYTES // (max(d.padded_row, 1) * run * d.itemsize) - overlap) // d.sh)
        d.bands = parts(d.oH, min(rows, max(parts(d.oH * d.N, MANY), <Py_ssize_t> 4)))
        if d.planar:
            rows, step = parts(d.oH, d.bands), plane_vectors(d.width) * c.lanes
            d.plane.channels, d.plane.taps = d.run, d.kH * d.kW
            d.plane.phase = (rows + (d.kH - 1) * d.dh // d.sh) * d.padded_row
            d.plane.size = d.plane.high * d.plane.wide * d.plane.phase
            d.sums = parts((rows - 1) * d.padded_row + d.oW, step) * step
            d.band_size = d.joined * d.run * d.plane.size + step + (d.joined * d.columns + d.width) * d.sums
        elif d.copied:
            d.band_size = ((parts(d.oH, d.bands) - 1) * d.sh + (d.kH - 1) * d.dh + 1) * d.padded_row * d.run
        if d.taps:
            d.sums = d.oW * d.width
            d.band_size += d.sums + d.span * d.columns + d.width
    return d.groups * d.panels * (d.panel_size + d.width) + c.threads * d.band_size + table_size(d)


cdef inline Py_ssize_t table_size(const Dense* d) noexcept nogil:
    """Elements that the places of a plane's taps take."""
    return d.kH * d.kW * <Py_ssize_t> sizeof(Py_ssize_t) // d.itemsize if d.planar else 0


cdef void pack_unit(const Dense* d, Py_ssize_t i, floating* kind) noexcept nogil:
    """A panel of a group: weights, tap by tap as `run` rows of `width` columns, zeros beyond the last; and biases."""
    cdef Py_ssize_t group = i // d.panels, first = i % d.panels * d.width, h, w, j
    cdef Py_ssize_t n = min(<Py_ssize_t> d.width, d.columns - first)
    cdef const floating* weight = <floating*> d.w + d.begin + group * d.w_group + first * d.column
    cdef floating* to = <floating*> d.packed + i * d.panel_size
    cdef floating* bias = <floating*> d.bias + i * d.width
    cdef Py_ssize_t step = d.kH * d.kW if d.planar else d.shared  # from row to row
    for j in range(d.width):
        bias[j] = (<floating*> d.b)[group * d.columns + first + j] if d.b != NULL and j < n and not d.taps else 0
    if d.taps:
        memset(to, 0, d.panel_size * sizeof(floating))
    for j in range(n if d.dotted else 0):  # a row for each filter
        for h in range(d.kH):
            for w in range(d.kW):
                pack(weight + j * d.column + h * d.w_h + w * d.w_w, d.run, d.row, 1, 1, to, 1, 1)
                to += d.run
    for h in range(0 if d.dotted else d.kH):
        for w in range(0 if d.taps else d.kW):
            pack(weight + h * d.w_h + w * d.w_w, d.run, d.row, n, d.column,
                 to + w * d.width * (d.run if step == 1 else 1), d.width, d.width * step)
        for w in range(d.taps):  # the last tap first: what it adds to lies leftmost
            pack(weight + h * d.w_h + w * d.w_w, d.run, d.row, n, d.column,
                 to + (d.taps - 1 - w) * d.columns, n, d.width)
        to += d.kW * d.width * (1 if d.planar else d.run)


cdef void within(Py_ssize_t at, Py_ssize_t step, Py_ssize_t n, Py_ssize_t size,
                 Py_ssize_t* first, Py_ssize_t* last) noexcept nogil:
    """The range of i in 0..n for which at + i·step lies in 0..size."""
    first[0] = min(n, parts(-at, step)) if at < 0 else 0
    last[0] = max(first[0], min(n, parts(size - at, step))) if size > at else first[0]


cdef inline void turn(const floating* a, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t columns, floating* to,
                      Py_ssize_t to_row) noexcept nogil:
    """Transpose, or copy what is one dense row or column."""
    if rows == to_row == 1 or columns == row == 1:
        memcpy(to, a, rows * columns * sizeof(floating))
    else:
        transpose(a, rows, row, columns, to, to_row)


cdef void copy_band(const Dense* d, const floating* x, floating* to, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    """Rows from `first` on of one image and one group, with zeros to the left and right where the border is; `x` is at
    the group. Rows of the border above and below are left out: the walk does not read them."""
    cdef Py_ssize_t size = d.padded_row * d.run, i, j
    cdef Py_ssize_t begin = min(max(d.left, <Py_ssize_t> 0), d.padded_row)
    cdef Py_ssize_t end = max(begin, min(d.padded_row, d.W + d.left))
    cdef const floating* row
    for i in range(first, first + rows):
        if 0 <= i < d.H:
            memset(to, 0, begin * d.run * sizeof(floating))
            row = x + (i * d.W + begin - d.left) * d.C
            if d.groups == 1:
                memcpy(to + begin * d.run, row, (end - begin) * d.run * sizeof(floating))
            else:
                for j in range(end - begin):
                    memcpy(to + (begin + j) * d.run, row + j * d.C, d.run * sizeof(floating))
            memset(to + end * d.run, 0, (d.padded_row - end) * d.run * sizeof(floating))
        to += size


cdef void epilogue(const Conv* c, floating* y, Py_ssize_t pixels, Py_ssize_t f, Py_ssize_t filters,
                   floating* kind) noexcept nogil:
    """y = (y − mean)·scale + shift + residual, then ReLU if asked, for some pixels of a row and filters from f on, to
    which y points: while they are in the first-level cache."""
    cdef Py_ssize_t size = filters, at = y - <floating*> c.y, i, j
    cdef int asked = ADD * (c.residual != NULL) + RELU * c.relu
    cdef NormRows rows
    memset(&rows, 0, sizeof(rows))
    if filters == c.F:  # pixels lie side by side
        size, pixels = pixels * filters, 1
    if c.norm != NULL:
        rows.m = <floating*> c.norm + f
        rows.s, rows.t = <floating*> rows.m + c.wide, <floating*> rows.m + 2 * c.wide
    for i in range(pixels):
        rows.x, rows.out, rows.y = y + i * c.F, y + i * c.F, <floating*> c.residual + at + i * c.F
        if c.norm == NULL:
            for j in range(size):
                y[i * c.F + j] = 0 if y[i * c.F + j] <= 0 else y[i * c.F + j]
        else:
            norm_map(kind, asked, &rows, c.wide, size)


cdef void fold(const Dense* d, floating* sums, const floating* bias, floating* y, bint some) noexcept nogil:
    """A row of pixels, which are their bias and what each tap adds to them, from left to right, if there are any."""
    cdef floating* row = sums + d.sums
    cdef Py_ssize_t size = d.columns, i, j
    memset(row, 0, (d.span * size + d.width) * sizeof(floating))
    if bias != NULL:
        for i in range(d.wide):
            for j in range(size):
                row[(d.lead + i) * size + j] = bias[j]
    if some:
        overlap(sums, d.oW, d.nv, row + d.shift * size, d.step * size)
    row += d.lead * size
    if d.pixel_out == size:
        memcpy(y, row, d.wide * size * sizeof(floating))
    else:
        for i in range(d.wide):
            memcpy(y + i * d.pixel_out, row + i * size, size * sizeof(floating))


cdef void dense_unit(const Dense* d, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One band of output rows of one image and one group."""
    cdef Py_ssize_t n = unit // (d.bands * d.groups), group = unit // d.bands % d.groups, band = unit % d.bands
    cdef Py_ssize_t first = cut(d.oH, d.bands, band), last = cut(d.oH, d.bands, band + 1), top_row, i, j, t, panel
    cdef Py_ssize_t row_in = d.W * d.C, pixel_in = d.C, oW = d.oW, n_tiles, begin, end
    cdef int columns
    cdef const floating* x = <floating*> d.x + n * d.H * d.W * d.C + group * d.run
    cdef const floating* from_
    cdef const floating* weight
    cdef floating* y = <floating*> d.y
    cdef floating* to
    cdef floating* room = <floating*> d.band + omp_get_thread_num() * d.band_size
    cdef floating* sums = room + d.band_size - d.sums - d.span * d.columns - d.width  # if folded
    cdef Bytes ahead = NULL
    cdef Py_ssize_t ahead_size = 0, at, lanes = d.whole.lanes, v, k, pair
    cdef Walk walk
    if d.long_row:
        x = <floating*> d.x + n * LONG_ROW * d.C
        y += n * LONG_ROW * d.pixel_out
        oW = min(<Py_ssize_t> LONG_ROW, d.long_row - n * LONG_ROW)
    else:
        y += n * d.image_out + group * d.columns
        top_row = first * d.sh - d.top
        if d.copied:
            copy_band(d, x, room, top_row, (last - first - 1) * d.sh + (d.kH - 1) * d.dh + 1)
            x, row_in, pixel_in = room, d.padded_row * d.run, d.run
        else:
            x += (top_row * d.W - d.left) * d.C
    if d.long_row:
        ahead_size = LONG_ROW * d.C * d.itemsize if n + 1 < d.N else 0
        ahead = <Bytes> x + LONG_ROW * d.C * d.itemsize
    elif d.groups == 1:
        unit += 1
        band, n = unit % d.bands, unit // d.bands
        if n < d.N:
            at = n * d.H + max(cut(d.oH, d.bands, band) * d.sh - d.top, <Py_ssize_t> 0)
            ahead = d.x + at * d.W * d.C * d.itemsize
            ahead_size = min((last - first) * d.sh, d.N * d.H - at) * d.W * d.C * d.itemsize
    walk.n[0], walk.a[0], walk.b[0] = d.kH, d.dh * row_in, d.kW * d.run * d.width
    walk.n[1], walk.a[1], walk.b[1] = d.kW, d.dw * pixel_in, d.run * d.width
    walk.n[2], walk.a[2], walk.b[2] = d.run, 1, d.shared * d.width
    if d.shared > 1:
        walk.n[1] = 1
    elif d.dw == 1 and pixel_in == d.run:  # taps of a row lie side by side
        walk.n[1], walk.n[2] = 1, d.kW * d.run
    if d.dotted:
        walk.b[0], walk.b[1] = d.kW * d.run, d.run
    for panel in range(group * d.panels, (group + 1) * d.panels):
        for i in range(last - first):
            within((first + i) * d.sh - d.top, d.dh, d.kH, d.H, &begin, &end)  # taps between the borders
            walk.n[0] = end - begin
            from_ = x + (i * d.sh + begin * d.dh) * row_in
            weight = <floating*> d.packed + panel * d.panel_size + begin * walk.b[0]
            columns = <int> min(<Py_ssize_t> d.width, d.columns - panel % d.panels * d.width)
            to = y + (first + i) * d.row_out + panel % d.panels * d.width
            if panel == group * d.panels and ahead != NULL:  # the next unit's input, a row's share at a time
                at = cut(ahead_size, last - first, i)
                prefetch(ahead + at, cut(ahead_size, last - first, i + 1) - at)
            n_tiles = parts(oW, dot_rows(columns, oW) if d.dotted else tile_rows(min(d.nv, TILE_VECTORS)))
            for t in range(0 if d.taps and begin == end else n_tiles):
                j = cut(oW, n_tiles, t)
                n = cut(oW, n_tiles, t + 1) - j
                if d.dotted:
                    n = dot_rows(columns, oW)
                    j = min(t * n, oW - n)  # the last ones overlap those before
                    dots(<int> n, columns, from_ + j * d.sw * pixel_in, d.sw * pixel_in, weight,
                         d.panel_size // d.width, &walk, to + j * d.pixel_out, d.pixel_out,
                         <floating*> d.bias + panel * d.width, False)
                elif d.taps:
                    for pair in range(parts(d.nv, TILE_VECTORS)):
                        v = pair * TILE_VECTORS * lanes
                        k = min(d.width - v, TILE_VECTORS * lanes)
                        tile(<int> n, <int> (k // lanes), <int> k, 1, from_ + j * pixel_in, pixel_in, &walk,
                             weight + v, sums + j * d.width + v, d.width, <floating*> d.bias, False)
                    continue
                else:
                    tile(<int> n, d.nv, columns, d.shared, from_ + j * d.sw * pixel_in, d.sw * pixel_in, &walk, weight,
                         to + j * d.pixel_out, d.pixel_out, <floating*> d.bias + panel * d.width, False)
                if d.whole.ends:
                    epilogue(d.whole, to + j * d.pixel_out, n, group * d.columns + panel % d.panels * d.width, columns,
                             kind)
            if d.taps:
                fold(d, sums, NULL if d.b == NULL else <floating*> d.b + group * d.columns, to, begin < end)
                if d.whole.ends:
                    epilogue(d.whole, to, d.wide, group * d.columns, d.columns, kind)


cdef inline Py_ssize_t place(const Plane* p, Py_ssize_t y, Py_ssize_t x, Py_ssize_t sh, Py_ssize_t sw) noexcept nogil:
    """Where a pixel of the image with its border lies in a channel's planes."""
    return (y % sh * p.wide + x % sw) * p.phase + y // sh * p.row + x // sw


cdef void fill_planes(const Plane* p, const floating* x, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t H, Py_ssize_t W,
                      Py_ssize_t C, Py_ssize_t left, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t channels, floating* to,
                      Py_ssize_t size) noexcept nogil:
    """Some rows of an image from `first` on, some channels of which x points to, as planes `size` elements apart that
    have zeros already."""
    cdef Py_ssize_t i, j, begin, end
    for j in range(p.wide):
        within(j - left, sw, p.row, W, &begin, &end)
        for i in range(max(-first, <Py_ssize_t> 0), min(rows, H - first)):
            if i % sh < p.high:
                turn(x + ((first + i) * W + begin * sw + j - left) * C, end - begin, sw * C, channels,
                     to + (i % sh * p.wide + j) * p.phase + i // sh * p.row + begin, size)


cdef void planar_unit(const Dense* d, Py_ssize_t unit, floating* kind) noexcept nogil:
    """The same, with pixels in the lanes: the band's planes, their sums, and these back as pixels of some channels."""
    cdef Py_ssize_t blocks = parts(d.groups, d.joined), n = unit // (d.bands * blocks), block = unit // d.bands % blocks
    cdef Py_ssize_t first = cut(d.oH, d.bands, unit % d.bands), rows = cut(d.oH, d.bands, unit % d.bands + 1) - first
    cdef Py_ssize_t begin = cut(d.groups, blocks, block), groups = cut(d.groups, blocks, block + 1) - begin, panel, i
    cdef floating* room = <floating*> d.band + omp_get_thread_num() * d.band_size
    cdef floating* sums = room + d.band_size - (d.joined * d.columns + d.width) * d.sums
    cdef floating* y = <floating*> d.y + n * d.image_out + first * d.row_out + begin * d.columns
    memset(room, 0, groups * d.run * d.plane.size * sizeof(floating))
    fill_planes(&d.plane, <floating*> d.x + n * d.H * d.W * d.C + begin * d.run, first * d.sh - d.top,
                (rows - 1) * d.sh + (d.kH - 1) * d.dh + 1, d.H, d.W, d.C, d.left, d.sh, d.sw, groups * d.run, room,
                d.plane.size)
    for i in range(groups):
        for panel in range(d.panels):  # the last filters of a group write where the next ones do
            planes(<int> d.width, &d.plane, room + i * d.run * d.plane.size,
                   <floating*> d.packed + ((begin + i) * d.panels + panel) * d.panel_size,
                   <floating*> d.bias + ((begin + i) * d.panels + panel) * d.width,
                   sums + (i * d.columns + panel * d.width) * d.sums, d.sums, (rows - 1) * d.padded_row + d.oW)
    for i in range(rows):
        turn(sums + i * d.padded_row, groups * d.columns, d.sums, d.oW, y, d.pixel_out)
        if d.whole.ends:
            epilogue(d.whole, y, d.oW, begin * d.columns, groups * d.columns, kind)
        y += d.row_out


cdef void zero_unit(const Dense* d, Py_ssize_t unit, floating* kind) noexcept nogil:
    """A row that no tap reaches, of a phase or, with all its pixels, folded."""
    cdef floating* y = <floating*> d.y + unit // d.oH * d.image_out + unit % d.oH * d.row_out
    cdef Py_ssize_t i
    for i in range(d.wide if d.taps else d.oW):
        memset(y + i * d.pixel_out, 0, d.groups * d.columns * sizeof(floating))


cdef void dense(Dense* d, const Conv* c, floating* kind) noexcept nogil:
    """Pack the weights, then walk."""
    cdef Py_ssize_t panels = d.groups * d.panels, units = d.N * d.bands * d.groups, i
    if d.kH * d.kW == 0:
        share(<Unit> zero_unit[floating], d, c.N * d.oH, c.threads)
        return
    d.packed = c.room + table_size(d) * d.itemsize
    d.bias = d.packed + panels * d.panel_size * d.itemsize
    if d.planar:
        units = d.N * d.bands * parts(d.groups, d.joined)
        d.plane.places = <Py_ssize_t*> c.room
        for i in range(d.plane.taps):
            (<Py_ssize_t*> c.room)[i] = place(&d.plane, i // d.kW * d.dh, i % d.kW * d.dw, d.sh, d.sw)
    d.band = d.bias + panels * d.width * d.itemsize
    share(<Unit> pack_unit[floating], d, panels, c.threads if panels * d.panel_size > 16384 else 1)
    share(<Unit> planar_unit[floating] if d.planar else <Unit> dense_unit[floating], d, units, c.threads)


# Depthwise -------------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t spread_size(const Conv* c) noexcept nogil:
    """Working memory for x with its channels repeated, where they have several filters."""
    return c.N * c.H * c.W * c.F if c.depthwise and c.f > 1 else 0


cdef Py_ssize_t depthwise_time(const Conv* c) noexcept nogil:
    """Of one image, in quarters of a cycle."""
    cdef Py_ssize_t lanes = c.lanes if c.F >= c.lanes else 4 if c.F >= 4 == c.itemsize else 1
    cdef Py_ssize_t step = 3 if lanes == c.lanes else 5 if lanes > 1 else 8
    return step * c.oH * c.oW * c.kH * c.kW * parts(c.F, lanes) + (6 * c.F * c.H * c.W if c.f > 1 else 0)


cdef bint finite(const Conv* c, floating* kind) noexcept nogil:
    """Whether all weights of a channel a filter are: others must not meet the zeros of a border."""
    cdef Py_ssize_t i, f
    cdef floating w
    for i in range(c.kH * c.kW):
        for f in range(c.F):
            w = (<floating*> c.w)[f * c.w_f + i // c.kW * c.w_h + i % c.kW * c.w_w]
            if w - w != 0:
                return False
    return True


cdef bint is_depthwise(const Conv* c) noexcept nogil:
    """Whether that is faster than planes, which have channels that are alone too, with zeros for a border."""
    cdef Plane p
    cdef Py_ssize_t rows = plan_planes(&p, c.oH, c.oW, c.kH, c.kW, c.sh, c.sw, c.dh, c.dw), phases = p.high * p.wide
    cdef Py_ssize_t moved = c.F * turned(c.oH, c.oW) * phases + c.C * turned(c.H, c.W) if c.back else \
        c.F * turned(c.oH, c.oW) + c.C * phases * turned(rows, p.row)
    if not c.depthwise or not small_border(p.row, rows, c.oH * c.oW):
        return c.depthwise
    return depthwise_time(c) < moved + rows * p.row * c.F * (c.kH * c.kW * 5 + 20) // c.lanes or not (
        finite[float](c, NULL) if c.itemsize == 4 else finite[double](c, NULL))


cdef void depthwise_rows(const Dense* d, Py_ssize_t n, Py_ssize_t first, Py_ssize_t last, Py_ssize_t c,
                         Py_ssize_t channels, floating* kind) noexcept nogil:
    """Rows of the output, or of one phase of it, of image n: so many channels from c on."""
    cdef Py_ssize_t i, j, kh, end, row_in = d.W * d.C
    cdef const floating* x
    cdef const floating* w
    cdef const floating* b = NULL if d.b == NULL else <floating*> d.b + c
    cdef floating* y
    cdef int size
    cdef Piece s
    s.channels, s.taps, s.width, s.tap, s.step = channels, d.kW, d.W, d.dw, d.sw
    s.x_row, s.x_tap, s.x_step = d.dh * row_in, d.dw * d.C, d.sw * d.C
    s.w_row, s.w_tap, s.y_step = d.w_h, d.w_w, d.pixel_out
    for i in range(first, last):
        within(i * d.sh - d.top, d.dh, d.kH, d.H, &kh, &end)
        s.rows = end - kh
        x = <floating*> d.x + (n * d.H + i * d.sh - d.top + kh * d.dh) * row_in + c
        w = <floating*> d.w + d.begin + kh * d.w_h + c
        y = <floating*> d.y + n * d.image_out + i * d.row_out + c
        j = 0
        while j < d.oW:
            size = piece_size(d.oW - j)
            s.column = j * d.sw - d.left
            piece(size, &s, x + s.column * d.C, w, b, y + j * d.pixel_out)
            if d.whole.ends:
                epilogue(d.whole, y + j * d.pixel_out, size, c, channels, kind)
            j += size


cdef void depthwise_unit(const Conv* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One band of output rows of one image; of the input's gradient, a band of sets of rows with all their phases."""
    cdef Py_ssize_t n = unit // c.bands, first = cut(c.rows, c.bands, unit % c.bands), ph, pw
    cdef Py_ssize_t last = cut(c.rows, c.bands, unit % c.bands + 1), blocks = max(c.C // BLOCK, <Py_ssize_t> 1), i
    cdef Py_ssize_t channels
    cdef Dense d
    d.w, d.whole = c.w, c
    for i in range(blocks):
        channels = BLOCK if i < blocks - 1 else c.C - i * BLOCK
        for ph in range(min(c.sh, c.H) if c.back else 1):
            for pw in range(min(c.sw, c.W) if c.back else 1):
                if c.back:
                    plan_phase(c, ph, pw, &d)
                else:
                    plan_forward(c, &d)
                depthwise_rows(&d, n, first, min(last, d.oH), i * BLOCK, channels, kind)


cdef void spread_unit(const Conv* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One row of x with each channel once for each of its filters; `back`: from their gradients the sum."""
    cdef Py_ssize_t p, j, m = c.F // c.groups
    cdef floating* x = <floating*> c.x + unit * c.W * c.groups
    cdef floating* wide = <floating*> c.spread + unit * c.W * c.F
    for p in range(c.W * c.groups):
        if c.back:
            x[p] = 0
            for j in range(m):
                x[p] += wide[p * m + j]
        else:
            for j in range(m):
                wide[p * m + j] = x[p]


cdef void depthwise(const Conv* c, floating* kind) noexcept nogil:
    """The forward pass or the input's gradient; the weight's channels are brought side by side first."""
    cdef Conv d = c[0]
    cdef Py_ssize_t i
    d.spread = c.room + c.size * c.itemsize
    if c.f > 1:
        if not c.back:
            share(<Unit> spread_unit[floating], &d, c.N * c.H, c.threads)
        d.x, d.C = d.spread, c.F
    if c.w_f != 1:
        for i in range(c.kH * c.kW):
            pack(<floating*> c.w + i // c.kW * c.w_h + i % c.kW * c.w_w, 1, 0, c.F, c.w_f,
                 <floating*> c.room + i * c.F, c.F, c.F)
        d.w, d.w_f, d.w_h, d.w_w = c.room, 1, c.kW * c.F, c.F
    d.rows = parts(c.H, c.sh) if c.back else c.oH
    d.bands = min(d.rows, parts(4 * MANY, c.N))
    share(<Unit> depthwise_unit[floating], &d, c.N * d.bands, c.threads)
    if c.back and c.f > 1:
        d.x = c.x
        share(<Unit> spread_unit[floating], &d, c.N * c.H, c.threads)


cdef void depthwise_weight_unit(const Conv* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One chunk of items, which are bands of output rows, into its sum, [kH][kW][C]."""
    cdef Py_ssize_t item, n, begin, i, kh, kw, left, at, row_in = c.W * c.C, row_out = c.oW * c.C
    cdef Py_ssize_t blocks = max(c.C // BLOCK, <Py_ssize_t> 1)
    cdef floating* w = <floating*> (c.w if unit == 0 else c.sums) + max(unit - 1, <Py_ssize_t> 0) * c.size
    cdef Piece s
    memset(w, 0, c.size * sizeof(floating))
    s.width, s.tap, s.step, s.height, s.drop, s.down = c.W, c.dw, c.sw, c.H, c.dh, c.sh
    s.x_row, s.x_tap, s.x_step, s.x_down = c.dh * row_in, c.dw * c.C, c.sw * c.C, c.sh * row_in
    s.w_row, s.w_tap, s.y_step, s.y_down, s.wide = c.kW * c.C, c.C, c.C, row_out, c.oW
    for item in range(cut(c.items, c.chunks, unit) * blocks, cut(c.items, c.chunks, unit + 1) * blocks):
        at = item % blocks * BLOCK
        s.channels = BLOCK if item % blocks < blocks - 1 else c.C - at
        n, begin = item // blocks // c.bands, cut(c.oH, c.bands, item // blocks % c.bands)
        s.high = cut(c.oH, c.bands, item // blocks % c.bands + 1) - begin
        for kw in range(0, c.kW, 7):
            s.taps = min(c.kW - kw, <Py_ssize_t> 7)
            s.column = kw * c.dw - c.left
            within(s.column, c.sw, c.oW, c.W, &s.first, &left)
            within(s.column + (s.taps - 1) * c.dw, c.sw, c.oW, c.W, &left, &s.last)
            for i in range(parts(c.kH, tap_rows(s.taps))):
                kh = i * tap_rows(s.taps)
                s.rows = min(c.kH - kh, tap_rows(s.taps))
                s.line = begin * c.sh + kh * c.dh - c.top
                gather(&s, <floating*> c.x + ((n * c.H + s.line) * c.W + s.column) * c.C + at,
                       <floating*> c.y + (n * c.oH + begin) * row_out + at, w + (kh * c.kW + kw) * c.C + at)


# Forward and the input's gradient --------------------------------------------------------------------------------

cdef void plan_forward(const Conv* c, Dense* d) noexcept nogil:
    d.H, d.W, d.C, d.oH, d.oW, d.kH, d.kW = c.H, c.W, c.C, c.oH, c.oW, c.kH, c.kW
    d.sh, d.sw, d.top, d.left, d.dh, d.dw = c.sh, c.sw, c.top, c.left, c.dh, c.dw
    d.columns, d.column, d.row, d.w_h, d.w_w, d.w_group = c.f, c.w_f, c.w_c, c.w_h, c.w_w, c.f * c.w_f
    d.image_out, d.row_out, d.pixel_out = c.oH * c.oW * c.F, c.oW * c.F, c.F
    d.x, d.y, d.b, d.begin, d.step = c.x, c.y, c.b, 0, 0


cdef Py_ssize_t phase(Py_ssize_t at, Py_ssize_t size, Py_ssize_t before, Py_ssize_t stride, Py_ssize_t dilation,
                      Py_ssize_t kernel, Py_ssize_t* last, Py_ssize_t* step, Py_ssize_t* taps,
                      Py_ssize_t* shift) noexcept nogil:
    """One axis of one phase, the positions at, at + stride, … of the input: returns how many there are.

    The taps that reach them lie `step` apart up to `last`, `taps` of them; the last one reads, for the first
    position, the output at `shift`."""
    cdef Py_ssize_t a = stride, b = dilation, k
    while b:
        a, b = b, a % b
    step[0], taps[0], last[0], shift[0] = stride // a, 0, 0, 0
    for k in range(min(kernel, step[0])):
        if (at + before - k * dilation) % stride == 0:
            taps[0] = (kernel - 1 - k) // step[0] + 1
            last[0] = k + (taps[0] - 1) * step[0]
            shift[0] = (at + before - last[0] * dilation) // stride
    return parts(size - at, stride)


cdef void plan_phase(const Conv* c, Py_ssize_t ph, Py_ssize_t pw, Dense* d) noexcept nogil:
    """The dense walk over dY that gives the positions (ph, pw), (ph + sh, pw), … of dX, taps running backward."""
    cdef Py_ssize_t last_h, step_h, shift_h, last_w, step_w, shift_w, corner = (ph * c.W + pw) * c.C
    d.oH = phase(ph, c.H, c.top, c.sh, c.dh, c.kH, &last_h, &step_h, &d.kH, &shift_h)
    d.oW = phase(pw, c.W, c.left, c.sw, c.dw, c.kW, &last_w, &step_w, &d.kW, &shift_w)
    d.H, d.W, d.C, d.sh, d.sw, d.top, d.left = c.oH, c.oW, c.F, 1, 1, -shift_h, -shift_w
    d.dh, d.dw = step_h * c.dh // c.sh, step_w * c.dw // c.sw
    d.columns, d.column, d.row, d.w_group = c.c, c.w_c, c.w_f, c.f * c.w_f
    d.w_h, d.w_w = -step_h * c.w_h, -step_w * c.w_w
    d.image_out, d.row_out, d.pixel_out = c.H * c.W * c.C, c.sh * c.W * c.C, c.sw * c.C
    d.x, d.y, d.b = c.y, c.x + corner * c.itemsize, NULL
    d.begin, d.step = last_h * c.w_h + last_w * c.w_w, 0


cdef void plan_folded(const Conv* c, Py_ssize_t ph, Dense* d) noexcept nogil:
    """The rows ph, ph + sh, … of dX as a walk over dY with a column for each tap of a row, which are added up there."""
    cdef Py_ssize_t last, step, shift
    plan_phase(c, ph, 0, d)
    phase(ph, c.H, c.top, c.sh, c.dh, c.kH, &last, &step, &d.kH, &shift)
    d.begin = last * c.w_h + (c.kW - 1) * c.w_w
    d.w_w, d.pixel_out, d.y = -c.w_w, c.C, c.x + ph * c.W * c.C * c.itemsize
    d.taps, d.step, d.wide, d.shift, d.lead, d.nv = c.kW, c.sw, c.W, 0, c.left, <int> parts(c.kW * c.c, c.lanes)
    d.span = max((c.oW - 1) * c.sw + c.kW, c.W + c.left)
    d.oW, d.kW, d.left, d.dw = c.oW, 1, 0, 1
    d.time = (min(d.oH, d.H) * d.kH * c.f * 5 // 2 + 20 * d.oH) * d.oW * d.nv + d.oH * d.wide * d.columns
    if c.groups > 1:  # pixel by pixel
        d.time += 60 * (d.H * d.W + d.oH * d.wide)


cdef bint folds(const Conv* c, Py_ssize_t ph) noexcept nogil:
    """Whether that is faster than a walk for each phase of a row."""
    cdef Py_ssize_t time = 0, pw
    cdef Dense d
    if c.sw == 1 or c.dw > 1 or c.kW * c.c > FOLDED * c.lanes:
        return False
    for pw in range(min(c.sw, c.W)):
        plan_phase(c, ph, pw, &d)
        plan_dense(&d, c)
        time += d.time
    plan_folded(c, ph, &d)
    return d.time < time


cdef Py_ssize_t walks(const Conv* c, bint run, floating* kind) noexcept nogil:
    """Plan the walk of the forward pass, or those of the phases of the input's gradient, and run each if asked; returns
    the elements of working memory that they need."""
    cdef Py_ssize_t need = 0, ph, pw
    cdef bint folded
    cdef Dense d
    if c.depthwise:
        return c.size + spread_size(c)  # its packed weight; it has no walk
    for ph in range(min(c.sh, c.H) if c.back else 1):
        folded = c.back and folds(c, ph)
        for pw in range(min(c.sw, c.W) if c.back and not folded else 1):
            if folded:
                plan_folded(c, ph, &d)
            elif c.back:
                plan_phase(c, ph, pw, &d)
            else:
                plan_forward(c, &d)
            need = max(need, plan_dense(&d, c))
            if run:
                dense(&d, c, kind)
    return need


cdef void convolve(const Conv* c, Py_ssize_t _, floating* kind) noexcept nogil:
    """The forward pass, or the input's gradient."""
    if c.depthwise:
        depthwise(c, kind)
    else:
        walks(c, True, kind)


# The weight's gradient -------------------------------------------------------------------------------------------

cdef Py_ssize_t plan_weight(Conv* c) noexcept nogil:
    """Decide tiles, items and chunks from shapes only; returns the elements of working memory."""
    cdef Py_ssize_t image, dense, planar, rows, n, pixels = c.oH * c.oW
    cdef int nv
    c.edge_at = c.padded_at = 0
    c.nv = vectors_for(c.f, c.lanes)
    c.width = c.nv * c.lanes
    c.panels = parts(c.f, c.width)
    c.high, c.wide = (c.oH - 1) * c.sh + (c.kH - 1) * c.dh + 1, (c.oW - 1) * c.sw + c.kW
    nv = 1 if c.c < 2 * c.lanes else TILE_VECTORS
    c.swapped = c.c >= c.lanes and 4 * parts(c.c, nv * c.lanes) * max(8, c.f * nv) < 3 * c.c * c.panels * c.nv
    if c.swapped:
        c.nv, c.width, c.panels = nv, nv * c.lanes, parts(c.c, nv * c.lanes)
        c.size = c.groups * c.kH * c.kW * c.panels * c.f * c.width
    c.slides = c.nv == 1 and c.sw == 1 and c.dw == 1 and (c.kW == 3 or c.kW == 5) and not c.swapped
    c.spans = c.groups == 1 and c.C < SPAN and c.kW > 1 and c.dw == 1 and not c.slides and not c.swapped
    c.taps = 1 if c.spans or c.slides else c.kW
    c.rows = c.f if c.swapped else c.kW * c.c if c.spans else c.c
    c.tile_rows = parts(c.rows, TAP_CHANNELS(<int> c.kW) if c.slides else tile_rows(c.nv))
    c.tiles = c.groups * c.kH * c.taps * c.tile_rows * c.panels
    image = c.oH * c.oW * max(c.C * min(c.sh, c.H) * min(c.sw, c.W), c.F) * c.itemsize
    c.bands, c.pieces = min(c.oH, parts(image, ITEM_BYTES)), c.N
    if c.bands == 1 and not c.depthwise:  # small images walk together
        c.pieces = parts(c.N, min(max(ITEM_BYTES // image, <Py_ssize_t> 1), parts(c.N, 4)))
    if c.depthwise:
        c.bands = min(c.oH, parts(c.oH * c.oW * min(c.C, <Py_ssize_t> BLOCK) * c.itemsize
                                  * (1 + min(c.sh, c.H) * min(c.sw, c.W)), DEPTH_BYTES))
    c.together, rows = 0, plan_planes(&c.plane, c.oH, c.oW, c.kH, c.kW, c.sh, c.sw, c.dh, c.dw)
    image = rows * c.plane.row  # pixels in quarters of a cycle, as in plan_few
    n = BAND_BYTES // ((c.C * c.plane.high * c.plane.wide + c.F) * c.itemsize)  # steps of a dot product
    planar = max(16 * parts(c.c, 2), c.c * c.f * 3 + 4 * c.c * parts(c.f, DOT_COLUMNS)) // c.lanes
    planar = c.groups * c.kH * c.kW * image * (planar + parts(40 * c.c * c.f, max(image, n))) \
        + c.C * c.plane.high * c.plane.wide * turned(rows, c.plane.row) + c.F * turned(c.oH, c.oW)
    dense = c.groups * c.kH * c.taps * pixels * c.panels * max(16, c.rows * c.nv * (c.kW if c.slides else 1) * 9 // 4)
    if c.f % c.width and not c.swapped:
        dense += c.groups * pixels * (c.width + 20)  # their copy
    if c.depthwise:
        dense = depthwise_time(c)
    if planar < dense and small_border(c.plane.row, rows, pixels):
        c.bands = min(c.oH, max(c.bands, min(parts(MANY, c.N), parts(pixels, PLANE))))
        c.wide = c.plane.row
        image = (parts(c.oH, c.bands) + (c.kH - 1) * c.dh // c.sh) * c.wide
        c.together = max(n // image, <Py_ssize_t> 1)
        c.depthwise = c.slides = c.spans = False
        c.pieces, c.swapped, c.size = c.N, False, c.kH * c.kW * c.c * c.F
    c.items = c.pieces * c.bands
    c.chunks = min(c.items, <Py_ssize_t> MANY)
    if c.together:
        c.chunks = min(c.chunks, parts(c.N * c.oH * c.oW, PLANE))
    while c.chunks > 1 and c.chunks * c.size * c.itemsize > SUM_BYTES:
        c.chunks //= 2
    c.blocks = min(c.tiles, parts(MANY, c.chunks))
    c.edge_at = (c.chunks - (0 if c.swapped else 1)) * c.size
    if c.together:
        c.together = min(c.together, parts(c.items, c.chunks))
        c.plane.phase = c.together * image
        c.plane.size = c.plane.high * c.plane.wide * c.plane.phase
        return c.edge_at + c.threads * (c.C * c.plane.size + c.F * c.plane.phase)
    c.padded_at = c.edge_at
    if c.f % c.width and not c.swapped and not c.depthwise:
        c.padded_at += c.groups * c.N * c.oH * c.oW * c.width
    return c.padded_at + (c.N * c.high * c.wide * c.C if c.spans else 0) + spread_size(c)


cdef void edge_unit(const Conv* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    """The last panel's columns of dY, of one image and group, filled up with zeros to full vectors."""
    cdef Py_ssize_t pixels = c.oH * c.oW, n = unit // c.groups, group = unit % c.groups
    cdef Py_ssize_t first = (c.panels - 1) * c.width
    pack(<floating*> c.y + n * pixels * c.F + group * c.f + first, pixels, c.F, c.f - first, 1,
         <floating*> c.edge + (group * c.N + n) * pixels * c.width, c.width, c.width)


cdef void pad_unit(const Conv* c, Py_ssize_t n, floating* kind) noexcept nogil:
    """The copy of one image of x with its border."""
    cdef Dense d
    plan_forward(c, &d)
    d.groups, d.run, d.padded_row = 1, c.C, c.wide
    copy_band(&d, <floating*> c.x + n * c.H * c.W * c.C, <floating*> c.padded + n * c.high * c.wide * c.C,
              -c.top, c.high)


cdef void weight_tile(const Conv* c, floating* to, Py_ssize_t index, Py_ssize_t n, Py_ssize_t band,
                      bint add) noexcept nogil:
    """One tile of dW, summed over one item: a band of output rows of image n."""
    cdef Py_ssize_t r, panel, kh, kw, group, first, last, step_y = c.F, ow0 = 0, ow1 = c.oW, row, columns, height
    cdef Py_ssize_t begin = cut(c.oH, c.bands, band), n_rows = cut(c.oH, c.bands, band + 1) - begin
    cdef const floating* x
    cdef const floating* y
    cdef Walk walk
    panel, row, index = index % c.panels, index // c.panels % c.tile_rows, index // (c.panels * c.tile_rows)
    kw, kh, group = index % c.taps, index // c.taps % c.kH, index // (c.taps * c.kH)
    r, height = cut(c.rows, c.tile_rows, row), cut(c.rows, c.tile_rows, row + 1) - cut(c.rows, c.tile_rows, row)
    walk.n[0] = cut(c.N, c.pieces, n + 1) - cut(c.N, c.pieces, n)
    n = cut(c.N, c.pieces, n)
    columns = min(<Py_ssize_t> c.width, c.f - panel * c.width)
    within(begin * c.sh + kh * c.dh - c.top, c.sh, n_rows, c.H, &first, &last)
    if c.spans:
        x = <floating*> c.padded + (n * c.high + (begin + first) * c.sh + kh * c.dh) * c.wide * c.C + r
        walk.a[0], walk.a[1] = c.high * c.wide * c.C, c.sh * c.wide * c.C
    else:
        if c.slides:  # pixels of the image, counted with the border
            ow0, ow1 = c.left, min(c.left + c.W, c.oW + c.kW - 1)
        else:
            within(kw * c.dw - c.left, c.sw, c.oW, c.W, &ow0, &ow1)
        row = n * c.H + (begin + first) * c.sh + kh * c.dh - c.top
        x = <floating*> c.x + (row * c.W + ow0 * c.sw + kw * c.dw - c.left) * c.C + group * c.c + (
            0 if c.swapped else r)
        walk.a[0], walk.a[1] = c.H * c.W * c.C, c.sh * c.W * c.C
    if c.swapped:
        y = <floating*> c.y + group * c.f + r
    elif columns < c.width:
        step_y = c.width
        y = <floating*> c.edge + group * c.N * c.oH * c.oW * step_y
    else:
        y = <floating*> c.y + group * c.f + panel * c.width
    y += ((n * c.oH + begin + first) * c.oW + ow0) * step_y
    walk.n[1], walk.n[2] = last - first, ow1 - ow0
    walk.a[2] = c.sw * c.C
    walk.b[0], walk.b[1], walk.b[2] = c.oH * c.oW * step_y, c.oW * step_y, step_y
    if c.swapped:
        for row in range(3):
            walk.a[row], walk.b[row] = walk.b[row], walk.a[row]
        to += ((((group * c.kH + kh) * c.kW + kw) * c.panels + panel) * c.f + r) * c.width
        tile(<int> height, c.nv, <int> c.width, 0, y, 1, &walk, x + min(panel * c.width, c.c - c.width), to, c.width,
             NULL, add)
        return
    if c.slides:
        walk.first, walk.width = ow0, c.oW
        taps_side(<int> height, <int> c.kW, <int> columns, x, &walk, y, to + (kh * c.kW * c.c + r) * c.F + group * c.f,
                  c.c * c.F, c.F, add)
        return
    tile(<int> height, c.nv, <int> columns, 0, x, 1, &walk, y,
         to + ((kh * c.kW + kw) * c.c + r) * c.F + group * c.f + panel * c.width, c.F, NULL, add)


cdef void weight_unit(const Conv* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One chunk of items by one block of tiles."""
    cdef Py_ssize_t chunk = unit // c.blocks, block = unit % c.blocks, first = cut(c.items, c.chunks, chunk), item, i
    cdef floating* to = <floating*> c.sums + (chunk if c.swapped else chunk - 1) * c.size
    if chunk == 0 and not c.swapped:
        to = <floating*> c.w
    for item in range(first, cut(c.items, c.chunks, chunk + 1)):
        for i in range(cut(c.tiles, c.blocks, block), cut(c.tiles, c.blocks, block + 1)):
            weight_tile(c, to, i, item // c.bands, item % c.bands, item > first)


cdef void strip(const Conv* c, const floating* x, const floating* y, Py_ssize_t n, floating* to, Py_ssize_t size,
                Py_ssize_t step_x, Py_ssize_t step, bint add) noexcept nogil:
    """`size` rows of dW, `step` elements apart, as products of planes of x, `step_x` elements apart, and of dY."""
    cdef Py_ssize_t row = c.plane.phase, blocks = parts(c.f, DOT_COLUMNS), i, j, f
    cdef int columns, rows
    cdef Walk walk
    memset(&walk, 0, sizeof(Walk))
    walk.n[0], walk.n[1], walk.n[2] = 1, 1, n
    for j in range(blocks):
        f, i = cut(c.f, blocks, j), 0
        columns = <int> (cut(c.f, blocks, j + 1) - f)
        while i < size:
            rows = dot_rows(columns, size - i)
            dots(rows, columns, x + i * step_x, step_x, y + f * row, row, &walk, to + i * step + f, step, NULL, add)
            i += rows


cdef void planar_weight_unit(const Conv* c, Py_ssize_t chunk, floating* kind) noexcept nogil:
    """One chunk of items: x with its border and dY, with zeros beside it, as planes whose products are dW."""
    cdef Py_ssize_t item = cut(c.items, c.chunks, chunk), last = cut(c.items, c.chunks, chunk + 1)
    cdef const Plane* p = &c.plane
    cdef Py_ssize_t size = c.C * p.size + c.F * p.phase, image = p.phase // c.together, n_taps = c.kH * c.kW
    cdef floating* x = <floating*> c.edge + omp_get_thread_num() * size
    cdef floating* y = x + c.C * p.size
    cdef floating* to = <floating*> c.w if chunk == 0 else <floating*> c.sums + (chunk - 1) * c.size
    cdef Py_ssize_t i, k, n, begin, rows, at, kh, kw, tap = c.c * c.F, whole = c.kW - c.kW % DOT_ROWS
    cdef bint add = False
    while item < last:
        memset(x, 0, size * sizeof(floating))
        for k in range(min(c.together, last - item)):
            n, begin = (item + k) // c.bands, cut(c.oH, c.bands, (item + k) % c.bands)
            rows = cut(c.oH, c.bands, (item + k) % c.bands + 1) - begin
            fill_planes(p, <floating*> c.x + n * c.H * c.W * c.C, begin * c.sh - c.top,
                        (rows - 1) * c.sh + (c.kH - 1) * c.dh + 1, c.H, c.W, c.C, c.left, c.sh, c.sw, c.C,
                        x + k * image, p.size)
            for i in range(rows):
                turn(<floating*> c.y + (n * c.oH + begin + i) * c.oW * c.F, c.oW, c.F, c.F,
                     y + k * image + i * c.wide, p.phase)
        item += c.together
        n = p.phase - (c.kH - 1) * c.dh // c.sh * c.wide - (c.kW - 1) * c.dw // c.sw
        if c.c >= DOT_ROWS or c.groups > 1 or p.size > p.phase:
            for i in range(n_taps * c.groups):
                k, at = i // n_taps, i % n_taps
                strip(c, x + k * c.c * p.size + place(p, at // c.kW * c.dh, at % c.kW * c.dw, c.sh, c.sw),
                      y + k * c.f * p.phase, n, to + at * tap + k * c.f, c.c, p.size, c.F, add)
        else:  # along the kernel's rows, and what is left along its columns
            for k in range(c.C):
                for kh in range(c.kH):
                    strip(c, x + k * p.size + kh * c.dh * c.wide, y, n, to + kh * c.kW * tap + k * c.F, whole, c.dw,
                          tap, add)
                for kw in range(whole, c.kW):
                    strip(c, x + k * p.size + kw * c.dw, y, n, to + kw * tap + k * c.F, c.kH, c.dh * c.wide, c.kW * tap,
                          add)
        add = True


cdef void merge_unit(const Conv* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One piece of dW: the chunks' sums added in order."""
    cdef Py_ssize_t k, j
    for k in range(c.chunks - 1):
        for j in range(unit * SUM_PIECE, min(c.size, (unit + 1) * SUM_PIECE)):
            (<floating*> c.w)[j] += (<floating*> c.sums)[k * c.size + j]


cdef void swapped_merge_unit(const Conv* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    """The chunks' sums of one tap of some channels added in order, and turned. The last channels may overlap others."""
    cdef Py_ssize_t k, j, at = unit // c.panels, tap = at % (c.kH * c.kW), size = c.f * c.width
    cdef floating* sums = <floating*> c.sums + unit * size
    for k in range(1, c.chunks):
        for j in range(size):
            sums[j] += sums[k * c.size + j]
    transpose(sums, c.f, c.width, c.width, <floating*> c.w + at // (c.kH * c.kW) * c.f
              + (tap * c.c + min(unit % c.panels * c.width, c.c - c.width)) * c.F, c.F)


cdef void backward_weight(Conv* c, Py_ssize_t _, floating* kind) noexcept nogil:
    c.sums, c.edge, c.padded = c.room, c.room + c.edge_at * c.itemsize, c.room + c.padded_at * c.itemsize
    if c.together:
        share(<Unit> planar_weight_unit[floating], c, c.chunks, c.threads)
    elif c.depthwise:
        c.spread, c.back = c.padded, False
        if c.f > 1:
            share(<Unit> spread_unit[floating], c, c.N * c.H, c.threads)
            c.x, c.C = c.spread, c.F
        share(<Unit> depthwise_weight_unit[floating], c, c.chunks, c.threads)
    else:
        if not c.swapped and c.f % c.width:
            share(<Unit> edge_unit[floating], c, c.N * c.groups, c.threads)
        if c.spans:
            share(<Unit> pad_unit[floating], c, c.N, c.threads)
        share(<Unit> weight_unit[floating], c, c.chunks * c.blocks, c.threads)
    if c.swapped:
        share(<Unit> swapped_merge_unit[floating], c, c.groups * c.kH * c.kW * c.panels,
              c.threads if c.size > 16384 else 1)
        return
    share(<Unit> merge_unit[floating], c, parts(c.size, SUM_PIECE), c.threads if c.size > 16384 else 1)


# Entry points ----------------------------------------------------------------------------------------------------

cdef int read(Conv* c, cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray y, stride, padding, dilation,
              int groups, int n_threads) except -1:
    """Fill in the convolution and check that the arrays fit it: the input (or its gradient) and so on."""
    cdef int kind = cnp.PyArray_TYPE(x), size = cnp.PyArray_ITEMSIZE(x)
    check_rows(x)
    check_rows(y)
    check_float(weight)
    if x.ndim != 4 or y.ndim != 4 or weight.ndim != 4 or groups < 1:
        raise ValueError("kernel conv2d: arrays must be 4-D, and groups at least 1")
    c.N, c.C, c.H, c.W = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    c.F, c.oH, c.oW, c.kH, c.kW = y.shape[1], y.shape[2], y.shape[3], weight.shape[2], weight.shape[3]
    (c.sh, c.sw), (c.top, c.left), (c.dh, c.dw) = stride, padding, dilation
    c.groups, c.c, c.f = groups, c.C // groups, c.F // groups
    c.size = c.kH * c.kW * c.c * c.F
    if (kind != cnp.PyArray_TYPE(y) or kind != cnp.PyArray_TYPE(weight) or y.shape[0] != c.N or c.c * groups != c.C
            or c.f * groups != c.F or weight.shape[0] != c.F or weight.shape[1] != c.c or min(c.top, c.left) < 0
            or min(c.kH, c.kW, c.sh, c.sw, c.dh, c.dw) < 1 or min(c.C, c.H, c.W, c.oH, c.oW) < 1
            or max(c.sh, c.sw, c.dh, c.dw, c.top, c.left) >= LARGEST  # nor may a copy with borders take a petabyte
            or c.N * c.C * ((c.oH - 1.) * c.sh + c.kH * c.dh) * ((c.oW - 1.) * c.sw + c.kW * c.dw) > 1e14):
        raise ValueError("kernel conv2d: shapes or dtypes do not fit, or sizes are too large")
    c.x, c.w, c.b, c.y = x.data, weight.data, vector(bias, c.F, x), y.data
    c.w_f, c.w_c = weight.strides[0] // size, weight.strides[1] // size
    c.w_h, c.w_w = weight.strides[2] // size, weight.strides[3] // size
    c.depthwise = groups == c.C and c.f <= FEW_FILTERS and c.C > 1
    c.itemsize, c.lanes, c.norm = size, LANES_f32 if size == 4 else LANES_f64, NULL
    c.ends = c.back = False
    c.threads = threads_for(c.N * c.oH * c.oW * c.F * c.c * c.kH * c.kW // 16, n_threads)
    return 0


cdef int start_in(Conv* c, Unit single, Unit double_, Py_ssize_t need) except -1:
    """One pass, of the instance for the dtype, with working memory for `need` elements."""
    c.room = <Bytes> scratch_acquire(need * c.itemsize)
    with nogil:
        (single if c.itemsize == 4 else double_)(c, 0, NULL)
    scratch_release(c.room)
    return 0


cdef int run(Conv* c) except -1:
    """The forward pass, or the input's gradient."""
    c.depthwise = is_depthwise(c)
    if c.N * c.F:
        start_in(c, <Unit> convolve[float], <Unit> convolve[double], walks[float](c, False, NULL))
    return 0


def conv2d(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray y_out not None, stride,
           padding, dilation, int groups, int n_threads):
    """y[n,f,oh,ow] = b[f] + Σ x[n, c, oh·sh − top + kh·dh, ow·sw − left + kw·dw] · weight[f, c, kh, kw].

    x (N, C, H, W) and y (N, F, oH, oW) channels-last; weight (F, C/groups, kH, kW) in any order; bias (F,) or None.
    `padding` is what lies above and to the left; what lies below and to the right follows from y's size."""
    cdef Conv c
    read(&c, x, weight, bias, y_out, stride, padding, dilation, groups, n_threads)
    run(&c)


cdef void norm_of(const Conv* c, Py_ssize_t _, floating* kind) noexcept nogil:
    """The epilogue's mean, scale and shift, for as many pixels as fit; without a batch norm what changes nothing."""
    cdef Py_ssize_t i, f
    cdef double scale
    cdef floating* to = <floating*> c.norm
    for i in range(c.wide):
        f = i % c.F
        scale = <double> (<floating*> c.rstd)[f] if c.rstd != NULL else 1
        to[i] = (<floating*> c.mean)[f] if c.mean != NULL else 0
        to[c.wide + i] = <floating> (scale * (<floating*> c.gamma)[f] if c.gamma != NULL else scale)
        to[2 * c.wide + i] = (<floating*> c.beta)[f] if c.beta != NULL else 0


def conv2d_batch_norm(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray mean,
                      cnp.ndarray rstd, cnp.ndarray gamma, cnp.ndarray beta, cnp.ndarray residual, bint relu,
                      cnp.ndarray y_out not None, stride, padding, dilation, int groups, int n_threads):
    """y = (conv2d(x) − mean)·rstd·gamma + beta + residual, then max(y, 0) if `relu`, in one pass over y.

    mean, rstd, gamma, beta (F,) and residual like y may be None; the rest as in conv2d. The same bits as from conv2d
    and batch_norm."""
    cdef Conv c
    read(&c, x, weight, bias, y_out, stride, padding, dilation, groups, n_threads)
    c.mean, c.rstd = vector(mean, c.F, x), vector(rstd, c.F, x)
    c.gamma, c.beta = vector(gamma, c.F, x), vector(beta, c.F, x)
    if residual is not None:
        check_same(y_out, residual)
    c.residual, c.relu, c.ends = NULL if residual is None else residual.data, relu, True
    if y_out.size and (not relu or residual is not None or c.mean or c.rstd or c.gamma or c.beta):
        c.wide = c.F * max(LANES // c.F, <Py_ssize_t> 1)
        c.norm = <Bytes> scratch_acquire(3 * c.wide * c.itemsize)
        (<Unit> norm_of[float] if c.itemsize == 4 else <Unit> norm_of[double])(&c, 0, NULL)
    try:
        run(&c)
    finally:
        if c.norm != NULL:
            scratch_release(c.norm)


def conv2d_backward_input(cnp.ndarray dy not None, cnp.ndarray weight not None, cnp.ndarray dx_out not None, stride,
                          padding, dilation, int groups, int n_threads):
    """The gradient of conv2d's input from dy; arrays as there."""
    cdef Conv c
    read(&c, dx_out, weight, None, dy, stride, padding, dilation, groups, n_threads)
    c.back = True
    run(&c)
    if c.F == 0:
        dx_out.fill(0)


def conv2d_backward_weight(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray dweight_out not None, stride,
                           padding, dilation, int groups, int n_threads):
    """The gradient of conv2d's weight, (F, C/groups, kH, kW) with its memory in the order kH, kW, C, F."""
    cdef Conv c
    read(&c, x, dweight_out, None, dy, stride, padding, dilation, groups, n_threads)
    check_plain(dweight_out.transpose(2, 3, 1, 0))
    if dy.size == 0:
        dweight_out.fill(0)
        return
    start_in(&c, <Unit> backward_weight[float], <Unit> backward_weight[double], plan_weight(&c))


# The im2col matrix itself ----------------------------------------------------------------------------------------

cdef void columns_unit(const Conv* c, Py_ssize_t unit, floating* kind) noexcept nogil:
    """One channel of one image: every value of a window is copied, or with `back` added to the pixel it came from."""
    cdef Py_ssize_t pixels = c.oH * c.oW, n = unit // c.C, kh, kw, i, j, top, bottom, left, right
    cdef floating* column = <floating*> c.y + unit * c.kH * c.kW * pixels
    cdef floating* x = <floating*> c.x + n * c.H * c.W * c.C + unit % c.C
    cdef floating* row
    if not c.back:
        memset(column, 0, c.kH * c.kW * pixels * sizeof(floating))
    for i in range(c.H * c.W if c.back else 0):
        x[i * c.C] = 0
    for kh in range(c.kH):
        within(kh * c.dh - c.top, c.sh, c.oH, c.H, &top, &bottom)
        for kw in range(c.kW):
            within(kw * c.dw - c.left, c.sw, c.oW, c.W, &left, &right)
            for i in range(top, bottom):
                row = x + ((i * c.sh - c.top + kh * c.dh) * c.W - c.left + kw * c.dw) * c.C
                for j in range(left, right):
                    if c.back:
                        row[j * c.sw * c.C] += column[i * c.oW + j]
                    else:
                        column[i * c.oW + j] = row[j * c.sw * c.C]
            column += pixels


cdef int columns_pass(cnp.ndarray x, cnp.ndarray columns, kernel, stride, padding, dilation, size, int n_threads,
                      bint back) except -1:
    cdef Conv c
    check_rows(x)
    check_plain(columns)
    (c.kH, c.kW), (c.sh, c.sw), (c.top, c.left), (c.dh, c.dw), (c.oH, c.oW) = kernel, stride, padding, dilation, size
    if (x.ndim != 4 or columns.ndim != 3 or cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(columns)
            or min(c.kH, c.kW, c.sh, c.sw, c.dh, c.dw) < 1 or min(c.top, c.left, c.oH, c.oW) < 0
            or max(c.sh, c.sw, c.dh, c.dw, c.top, c.left) >= LARGEST or columns.shape[0] != x.shape[0]
            or columns.shape[1] != 1. * x.shape[1] * c.kH * c.kW or columns.shape[2] != 1. * c.oH * c.oW):
        raise ValueError("kernel im2col: shapes or dtypes do not fit")
    c.N, c.C, c.H, c.W = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    c.x, c.y = x.data, columns.data
    c.threads = threads_for(columns.size, n_threads)
    c.back = back
    return start(<Unit> columns_unit[float], <Unit> columns_unit[double], x, &c, c.N * c.C, c.threads)


def im2col(cnp.ndarray x not None, cnp.ndarray columns_out not None, kernel, stride, padding, dilation, size,
           int n_threads):
    """columns (N, C·kH·kW, oH·oW) of the windows of x (N, C, H, W); `size` is (oH, oW)."""
    columns_pass(x, columns_out, kernel, stride, padding, dilation, size, n_threads, False)


def col2im(cnp.ndarray columns not None, cnp.ndarray x_out not None, kernel, stride, padding, dilation, size,
           int n_threads):
    """x (N, C, H, W), the sum of all window values read from each pixel: im2col's transpose."""
    columns_pass(x_out, columns, kernel, stride, padding, dilation, size, n_threads, True)
