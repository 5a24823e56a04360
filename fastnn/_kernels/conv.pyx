"""Convolution over channels-last images, as a matrix product with the im2col matrix that is never written to memory.

Forward. A row of that matrix is a window: kH runs of kW·C values that lie side by side in the image. The register tile
(tile.h) takes a stretch of output pixels of one row as its rows, a panel of filters as its columns, and walks kH, kW·C.
Weights are packed as [panel][kH][kW][C][width]. A unit of work is a band of output rows of one image; where windows
overlap the border, or channels are grouped, the band is first copied with its border of zeros into working memory,
where it stays in cache. A 1×1 convolution without stride is one long row of pixels.

Gradient of the input. For stride 1 the same walk with flipped, transposed weights; for stride s, the s² phases of
the input see disjoint sets of taps, each a dense convolution of its own. Phases that no tap reaches are zeros.

Gradient of the weight. The same tile with values of a window as rows and filters as columns, walking over images and
pixels; nothing is transposed. Border pixels are left out by the bounds of the walk, except for few channels, where
a copy with a border lets the tile span kW·C values. Items (bands of images) are summed in a fixed number of chunks
that depends on shapes only, and merged in order.

Depthwise convolution has one channel a filter: plain loops along C, no product to tile.

The limit is the rate of multiply-adds, for depthwise and very small shapes bandwidth.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset
from fastnn._kernels.kernel cimport check_float, check_plain, check_rows, has_order, is_f32, omp_get_thread_num
from fastnn._kernels.kernel cimport scratch_acquire, scratch_align, scratch_release, threads_for
from fastnn._kernels.tile cimport TILE_ROWS, Walk, cut, lanes, parts, tile, vectors_for

cnp.import_array()

cdef enum:
    BAND_BYTES = 131072  # a band with its border, in the second-level cache beside weights
    ITEM_BYTES = 262144  # input of one item of the weight gradient
    MANY = 16  # units of work that keep threads busy
    SPAN = 8  # fewer channels than this: the weight gradient's tile spans taps
    SUM_BYTES = 1048576  # partial weight gradients together
    LONG_ROW = 112  # pixels that a 1x1 convolution takes for a row

ctypedef struct Geometry:
    Py_ssize_t N, C, H, W, F, kH, kW, oH, oW, sh, sw, top, left, dh, dw, groups
    bint depthwise

ctypedef struct Weights:  # a weight or a part of its taps: steps in elements
    Py_ssize_t column, row, h, w  # from one column, row or tap to the next
    Py_ssize_t columns, rows, kH, kW

ctypedef struct Dense:  # a dense walk: forward, or one phase of the input's gradient
    Py_ssize_t N, H, W, C, oH, oW, sh, sw, top, left, dh, dw, groups
    Py_ssize_t image_out, row_out, pixel_out  # steps of the output
    Py_ssize_t bands, padded_row, long_row
    int width, nv, itemsize
    bint copied
    Weights w


# Packing ---------------------------------------------------------------------------------------------------------

cdef void pack(
    const Weights* w, const floating* from_, floating* to, int width, Py_ssize_t unit
) noexcept nogil:
    """One tap of one panel: `rows` rows of `width` columns, zeros beyond the last column."""
    cdef Py_ssize_t taps = w.kH * w.kW, panel = unit // taps, tap = unit % taps, i, j
    cdef Py_ssize_t n = min(<Py_ssize_t> width, w.columns - panel * width)
    from_ += panel * width * w.column + tap // w.kW * w.h + tap % w.kW * w.w
    to += unit * w.rows * width
    if n < width:
        memset(to, 0, w.rows * width * sizeof(floating))
    if w.column == 1:
        for i in range(w.rows):
            for j in range(n):
                to[i * width + j] = from_[i * w.row + j]
    else:
        for j in range(n):
            for i in range(w.rows):
                to[i * width + j] = from_[i * w.row + j * w.column]


# The dense walk --------------------------------------------------------------------------------------------------

cdef Py_ssize_t plan_dense(Dense* d, int n_lanes, int itemsize) noexcept nogil:
    """Decide bands and panels from shapes only; returns the elements of one thread's band."""
    cdef Py_ssize_t run = d.C // d.groups, rows, overlap
    d.nv = vectors_for(d.w.columns, n_lanes)
    d.width = d.nv * n_lanes
    d.itemsize = itemsize
    d.padded_row = (d.oW - 1) * d.sw + (d.w.kW - 1) * d.dw + 1
    d.copied = (
        d.groups > 1 or d.top > 0 or d.left > 0 or d.padded_row - d.left > d.W
        or (d.oH - 1) * d.sh + (d.w.kH - 1) * d.dh + 1 - d.top > d.H)
    d.long_row = 0
    if not d.copied and d.top == 0 and d.left == 0 and d.w.kH == 1 and d.w.kW == 1 and d.sh == 1 and d.sw == 1 \
            and d.row_out == d.oW * d.pixel_out and d.image_out == d.oH * d.row_out and d.oH == d.H and d.oW == d.W:
        d.long_row = d.N * d.H * d.W  # pixels in all
        d.N, d.oH, d.oW, d.bands = parts(d.long_row, LONG_ROW), 1, LONG_ROW, 1
        return 0
    overlap = max(<Py_ssize_t> 0, (d.w.kH - 1) * d.dh + 1 - d.sh)
    rows = max(<Py_ssize_t> 1, (BAND_BYTES // (d.padded_row * run * itemsize) - overlap) // d.sh)
    rows = min(rows, max(parts(d.oH * d.N, MANY), <Py_ssize_t> 4))
    d.bands = parts(d.oH, rows)
    rows = parts(d.oH, d.bands)
    return ((rows - 1) * d.sh + (d.w.kH - 1) * d.dh + 1) * d.padded_row * run if d.copied else 0


cdef void copy_band(
    const Dense* d, const floating* x, floating* to, Py_ssize_t first, Py_ssize_t rows
) noexcept nogil:
    """Rows from `first` on of one image and one group, with zeros where the border is. `x` is at the group."""
    cdef Py_ssize_t run = d.C // d.groups, size = d.padded_row * run, i, j
    cdef Py_ssize_t begin = min(max(d.left, <Py_ssize_t> 0), d.padded_row)
    cdef Py_ssize_t end = max(begin, min(d.padded_row, d.W + d.left))
    cdef const floating* row
    for i in range(first, first + rows):
        if i < 0 or i >= d.H:
            memset(to, 0, size * sizeof(floating))
        else:
            memset(to, 0, begin * run * sizeof(floating))
            row = x + (i * d.W + begin - d.left) * d.C
            if d.groups == 1:
                memcpy(to + begin * run, row, (end - begin) * run * sizeof(floating))
            else:
                for j in range(end - begin):
                    memcpy(to + (begin + j) * run, row + j * d.C, run * sizeof(floating))
            memset(to + end * run, 0, (d.padded_row - end) * run * sizeof(floating))
        to += size


cdef void dense_unit(
    const Dense* d, const floating* x, const floating* packed, const floating* bias, floating* y, floating* room,
    Py_ssize_t unit
) noexcept nogil:
    """One band of output rows of one image and one group."""
    cdef Py_ssize_t n = unit // (d.bands * d.groups), group = unit // d.bands % d.groups, band = unit % d.bands
    cdef Py_ssize_t first = cut(d.oH, d.bands, band), last = cut(d.oH, d.bands, band + 1)
    cdef Py_ssize_t run = d.C // d.groups, row_in = d.W * d.C, pixel_in = d.C, oW = d.oW, panel, i, j, t, n_tiles, w
    cdef Py_ssize_t panels = parts(d.w.columns, d.width), size = d.w.kH * d.w.kW * run * d.width
    cdef Py_ssize_t top_row = first * d.sh - d.top
    cdef const floating* from_ = x + n * d.H * d.W * d.C + group * run
    cdef const floating* start = NULL
    cdef Walk walk
    if d.long_row:
        from_ = x + n * LONG_ROW * d.C
        y += n * LONG_ROW * d.pixel_out
        oW = min(<Py_ssize_t> LONG_ROW, d.long_row - n * LONG_ROW)
    else:
        y += n * d.image_out + group * d.w.columns
        if d.copied:
            copy_band(d, from_, room, top_row, (last - first - 1) * d.sh + (d.w.kH - 1) * d.dh + 1)
            from_, row_in, pixel_in = room, d.padded_row * run, run
        else:
            from_ += (top_row * d.W - d.left) * d.C
    walk.n[0] = d.w.kH
    walk.a[0] = d.dh * row_in
    walk.b[0] = d.w.kW * run * d.width
    if d.dw == 1 and pixel_in == run:  # taps of a row lie side by side
        walk.n[1], walk.n[2] = 1, d.w.kW * run
    else:
        walk.n[1], walk.n[2] = d.w.kW, run
    walk.a[1], walk.b[1] = d.dw * pixel_in, run * d.width
    walk.a[2], walk.b[2] = 1, d.width
    n_tiles = parts(oW, TILE_ROWS)
    for panel in range(panels):
        w = panel * d.width
        if bias != NULL:
            start = bias + (group * panels + panel) * d.width
        for i in range(last - first):
            for t in range(n_tiles):
                j = cut(oW, n_tiles, t)
                tile(
                    <int> (cut(oW, n_tiles, t + 1) - j), d.nv, <int> min(<Py_ssize_t> d.width, d.w.columns - w), False,
                    from_ + i * d.sh * row_in + j * d.sw * pixel_in, d.sw * pixel_in, &walk,
                    packed + (group * panels + panel) * size, y + (first + i) * d.row_out + j * d.pixel_out + w,
                    d.pixel_out, start, False)


cdef void dense(
    Dense* d, const floating* x, const floating* weight, const floating* bias, floating* y, floating* room,
    Py_ssize_t room_band, Py_ssize_t group_step, int n_threads
) noexcept nogil:
    """Pack the weights, then walk. `room` holds packed weights, the padded bias, and a band for each thread."""
    cdef Py_ssize_t panels = parts(d.w.columns, d.width), units = panels * d.w.kH * d.w.kW, i, g, j
    cdef Py_ssize_t size = units * d.w.rows * d.width
    cdef floating* padded = room + d.groups * size
    cdef floating* bands = padded + d.groups * panels * d.width
    for g in range(d.groups):
        for i in prange(units, schedule="static", num_threads=n_threads if size > 16384 else 1):
            pack(&d.w, weight + g * group_step, room + g * size, d.width, i)
        if bias != NULL:
            for j in range(panels * d.width):
                padded[g * panels * d.width + j] = bias[g * d.w.columns + j] if j < d.w.columns else 0
    for i in prange(d.N * d.groups * d.bands, schedule="static", num_threads=n_threads):
        dense_unit(d, x, room, NULL if bias == NULL else padded, y, bands + omp_get_thread_num() * room_band, i)


cdef Py_ssize_t dense_room(const Dense* d, Py_ssize_t band, int n_threads) noexcept nogil:
    cdef Py_ssize_t panels = parts(d.w.columns, d.width)
    return d.groups * panels * d.width * (d.w.kH * d.w.kW * d.w.rows + 1) + n_threads * band


# Depthwise -------------------------------------------------------------------------------------------------------

cdef void taps_within(
    Py_ssize_t at, Py_ssize_t step, Py_ssize_t n, Py_ssize_t size, Py_ssize_t* first, Py_ssize_t* last
) noexcept nogil:
    """The range of i in 0..n for which at + i·step lies in 0..size."""
    first[0] = min(n, max(<Py_ssize_t> 0, parts(-at, step))) if at < 0 else 0
    last[0] = max(first[0], min(n, parts(size - at, step))) if size > at else first[0]


cdef void depthwise_row(
    const Geometry* g, const floating* x, const floating* w, const floating* bias, floating* y, Py_ssize_t unit
) noexcept nogil:
    """One output row of one image."""
    cdef Py_ssize_t n = unit // g.oH, oh = unit % g.oH, C = g.C, i, j, k, c, first, last, ih
    cdef const floating* px
    cdef const floating* pw
    cdef floating* py
    y += unit * g.oW * C
    for j in range(g.oW):
        for c in range(C):
            y[j * C + c] = 0 if bias == NULL else bias[c]
    for i in range(g.kH):
        ih = oh * g.sh - g.top + i * g.dh
        if ih < 0 or ih >= g.H:
            continue
        for k in range(g.kW):
            taps_within(k * g.dw - g.left, g.sw, g.oW, g.W, &first, &last)
            pw = w + (i * g.kW + k) * C
            for j in range(first, last):
                px = x + ((n * g.H + ih) * g.W + j * g.sw - g.left + k * g.dw) * C
                py = y + j * C
                for c in range(C):
                    py[c] += px[c] * pw[c]


cdef void depthwise_row_backward(
    const Geometry* g, const floating* dy, const floating* w, floating* dx, Py_ssize_t unit
) noexcept nogil:
    """One row of the input's gradient."""
    cdef Py_ssize_t n = unit // g.H, ih = unit % g.H, C = g.C, i, j, k, c, first, last, oh
    cdef const floating* py
    cdef const floating* pw
    cdef floating* px
    dx += unit * g.W * C
    memset(dx, 0, g.W * C * sizeof(floating))
    for i in range(g.kH):
        oh = ih + g.top - i * g.dh
        if oh < 0 or oh % g.sh or oh // g.sh >= g.oH:
            continue
        for k in range(g.kW):
            taps_within(k * g.dw - g.left, g.sw, g.oW, g.W, &first, &last)
            pw = w + (i * g.kW + k) * C
            for j in range(first, last):
                py = dy + ((n * g.oH + oh // g.sh) * g.oW + j) * C
                px = dx + (j * g.sw - g.left + k * g.dw) * C
                for c in range(C):
                    px[c] += py[c] * pw[c]


cdef void depthwise_weight(
    const Geometry* g, const floating* dy, const floating* x, floating* dw, Py_ssize_t first_row, Py_ssize_t last_row
) noexcept nogil:
    """Sum over output rows (counted over all images) into dw, [kH][kW][C]."""
    cdef Py_ssize_t C = g.C, r, i, j, k, c, first, last, ih
    cdef const floating* px
    cdef const floating* py
    cdef floating* pw
    memset(dw, 0, g.kH * g.kW * C * sizeof(floating))
    for r in range(first_row, last_row):
        for i in range(g.kH):
            ih = r % g.oH * g.sh - g.top + i * g.dh
            if ih < 0 or ih >= g.H:
                continue
            for k in range(g.kW):
                taps_within(k * g.dw - g.left, g.sw, g.oW, g.W, &first, &last)
                pw = dw + (i * g.kW + k) * C
                for j in range(first, last):
                    px = x + ((r // g.oH * g.H + ih) * g.W + j * g.sw - g.left + k * g.dw) * C
                    py = dy + (r * g.oW + j) * C
                    for c in range(C):
                        pw[c] += px[c] * py[c]


# The three passes ------------------------------------------------------------------------------------------------

cdef void forward(
    const Geometry* g, const Weights* w, const floating* x, const floating* weight, const floating* bias, floating* y,
    Dense* d, Py_ssize_t band, floating* room, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i
    if g.depthwise:
        for i in range(g.kH * g.kW):
            pack(w, weight, room, <int> g.C, i)
        for i in prange(g.N * g.oH, schedule="static", num_threads=n_threads):
            depthwise_row(g, x, room, bias, y, i)
    else:
        dense(d, x, weight, bias, y, room, band, g.F // g.groups * w.column, n_threads)


cdef Py_ssize_t phase(
    const Geometry* g, Py_ssize_t at, Py_ssize_t size, Py_ssize_t before, Py_ssize_t stride, Py_ssize_t dilation,
    Py_ssize_t kernel, Py_ssize_t* first, Py_ssize_t* step, Py_ssize_t* taps, Py_ssize_t* shift
) noexcept nogil:
    """One axis of one phase: its positions are at, at + stride, …; its taps first, first + step, … (`taps` of them).

    The last tap reads the output at `shift` for the first position. Returns the number of positions.
    """
    cdef Py_ssize_t a = stride, b = dilation, k
    while b:
        a, b = b, a % b
    step[0] = stride // a
    taps[0] = 0
    first[0] = 0
    shift[0] = 0
    for k in range(min(kernel, step[0])):
        if (at + before - k * dilation) % stride == 0:
            first[0] = k
            taps[0] = (kernel - 1 - k) // step[0] + 1
            shift[0] = (at + before - (k + (taps[0] - 1) * step[0]) * dilation) // stride
    return parts(size - at, stride) if size > at else 0


cdef void zero_phase(
    floating* dx, Py_ssize_t N, Py_ssize_t image, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t n, Py_ssize_t pixel,
    Py_ssize_t C
) noexcept nogil:
    cdef Py_ssize_t i, j, k
    for i in range(N):
        for j in range(rows):
            for k in range(n):
                memset(dx + i * image + j * row + k * pixel, 0, C * sizeof(floating))


cdef void plan_phase(const Geometry* g, const Weights* w, Py_ssize_t ph, Py_ssize_t pw, Dense* d) noexcept nogil:
    """The dense walk over dY that gives the positions (ph, pw), (ph + sh, pw), … of dX; taps run backward."""
    cdef Py_ssize_t first_h, step_h, shift_h, first_w, step_w, shift_w
    d.oH = phase(g, ph, g.H, g.top, g.sh, g.dh, g.kH, &first_h, &step_h, &d.w.kH, &shift_h)
    d.oW = phase(g, pw, g.W, g.left, g.sw, g.dw, g.kW, &first_w, &step_w, &d.w.kW, &shift_w)
    d.N, d.H, d.W, d.C, d.groups = g.N, g.oH, g.oW, g.F, g.groups
    d.sh = d.sw = 1
    d.top, d.left = -shift_h, -shift_w
    d.dh, d.dw = step_h * g.dh // g.sh, step_w * g.dw // g.sw
    d.image_out, d.row_out, d.pixel_out = g.H * g.W * g.C, g.sh * g.W * g.C, g.sw * g.C
    d.w.columns, d.w.rows = g.C // g.groups, g.F // g.groups
    d.w.column, d.w.row = w.row, w.column
    d.w.h, d.w.w = -step_h * w.h, -step_w * w.w


cdef void backward_input(
    const Geometry* g, const Weights* w, const floating* dy, const floating* weight, floating* dx, floating* room,
    int n_lanes, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, ph, pw, band, last_h, last_w
    cdef Dense d
    if g.depthwise:
        for i in range(g.kH * g.kW):
            pack(w, weight, room, <int> g.C, i)
        for i in prange(g.N * g.H, schedule="static", num_threads=n_threads):
            depthwise_row_backward(g, dy, room, dx, i)
        return
    for ph in range(min(g.sh, g.H)):
        for pw in range(min(g.sw, g.W)):
            plan_phase(g, w, ph, pw, &d)
            if d.w.kH == 0 or d.w.kW == 0:
                zero_phase(
                    dx + (ph * g.W + pw) * g.C, g.N, d.image_out, d.oH, d.row_out, d.oW, d.pixel_out, g.C)
                continue
            band = plan_dense(&d, n_lanes, sizeof(floating))
            last_h = (ph + g.top + d.top * g.sh) // g.dh  # the tap that reads at the shift
            last_w = (pw + g.left + d.left * g.sw) // g.dw
            dense(
                &d, dy, weight + last_h * w.h + last_w * w.w, <const floating*> NULL,
                dx + (ph * g.W + pw) * g.C, room, band, g.F // g.groups * w.column, n_threads)


ctypedef struct Sums:  # how the weight gradient is cut
    Py_ssize_t bands, items, chunks, blocks, tiles_row, panels, rows, tiles
    int width, nv
    bint spans  # the tile's rows run over kW·C of a padded copy, else over the C of one tap


cdef void plan_sums(const Geometry* g, Sums* s, int n_lanes, int itemsize) noexcept nogil:
    cdef Py_ssize_t run = g.C // g.groups, size = g.kH * g.kW * run * g.F * itemsize
    s.nv = vectors_for(g.F // g.groups, n_lanes)
    s.width = s.nv * n_lanes
    s.panels = parts(g.F // g.groups, s.width)
    s.spans = g.groups == 1 and run < SPAN and g.kW > 1 and g.dw == 1
    s.rows = g.kW * run if s.spans else run
    s.tiles_row = parts(s.rows, TILE_ROWS)
    s.tiles = g.groups * g.kH * (1 if s.spans else g.kW) * s.tiles_row * s.panels
    s.bands = min(g.oH, parts(g.oH * g.oW * max(g.C * g.sh * g.sw, g.F) * itemsize, ITEM_BYTES))
    s.items = g.N * s.bands
    s.chunks = min(s.items, <Py_ssize_t> MANY)
    while s.chunks > 1 and s.chunks * size > SUM_BYTES:
        s.chunks //= 2
    s.blocks = min(s.tiles, parts(MANY, s.chunks))


cdef void weight_tile(
    const Geometry* g, const Sums* s, const floating* dy, const floating* edge, const floating* x, floating* dw,
    Py_ssize_t index, Py_ssize_t n, Py_ssize_t band, bint add
) noexcept nogil:
    """One tile of dw, summed over one item: a band of output rows of image n."""
    cdef Py_ssize_t run = g.C // g.groups, fg = g.F // g.groups, r, panel, kh, kw, group, first, last, wide, high
    cdef Py_ssize_t oh0, oh1, ow0, ow1, row, padded = (g.oW - 1) * g.sw + g.kW, begin, columns
    cdef Walk walk
    panel = index % s.panels
    index //= s.panels
    row = index % s.tiles_row
    index //= s.tiles_row
    kw = 0 if s.spans else index % g.kW
    index = index if s.spans else index // g.kW
    kh, group = index % g.kH, index // g.kH
    r = cut(s.rows, s.tiles_row, row)
    columns = min(<Py_ssize_t> s.width, fg - panel * s.width)
    begin = cut(g.oH, s.bands, band)
    high = cut(g.oH, s.bands, band + 1) - begin
    if s.spans:  # x is the copy with its border
        oh0, oh1, ow0, ow1 = begin, begin + high, 0, g.oW
        high = (g.oH - 1) * g.sh + (g.kH - 1) * g.dh + 1
        x += ((n * high + oh0 * g.sh + kh * g.dh) * padded) * g.C + r
        walk.a[1] = g.sh * padded * g.C
    else:
        taps_within(begin * g.sh + kh * g.dh - g.top, g.sh, high, g.H, &first, &last)
        taps_within(kw * g.dw - g.left, g.sw, g.oW, g.W, &ow0, &ow1)
        oh0, oh1 = begin + first, begin + last
        x += ((n * g.H + oh0 * g.sh + kh * g.dh - g.top) * g.W + ow0 * g.sw + kw * g.dw - g.left) * g.C
        x += group * run + r
        walk.a[1] = g.sh * g.W * g.C
    walk.n[0], walk.n[1], walk.n[2] = 1, oh1 - oh0, ow1 - ow0
    walk.a[0], walk.a[2] = 0, g.sw * g.C
    if columns < s.width:  # columns that end inside a vector are read from a copy
        wide = s.width
        dy = edge + group * g.N * g.oH * g.oW * wide
    else:
        wide = g.F
        dy += group * fg + panel * s.width
    dy += ((n * g.oH + oh0) * g.oW + ow0) * wide
    walk.b[0], walk.b[1], walk.b[2] = 0, g.oW * wide, wide
    if walk.n[1] <= 0 or walk.n[2] <= 0:
        walk.n[1], walk.n[2] = 0, 0
        if add:
            return
    tile(
        <int> (cut(s.rows, s.tiles_row, row + 1) - r), s.nv, <int> columns, True, x, 1, &walk, dy,
        dw + ((kh * g.kW + kw) * run + r) * g.F + group * fg + panel * s.width, g.F, <const floating*> NULL, add)


cdef void weight_unit(
    const Geometry* g, const Sums* s, const floating* dy, const floating* edge, const floating* x, floating* dw,
    floating* partial, Py_ssize_t unit
) noexcept nogil:
    """One chunk of items by one block of tiles."""
    cdef Py_ssize_t chunk = unit // s.blocks, block = unit % s.blocks, item, i
    cdef Py_ssize_t first = cut(s.items, s.chunks, chunk), size = g.kH * g.kW * (g.C // g.groups) * g.F
    cdef floating* to = dw if chunk == 0 else partial + (chunk - 1) * size
    for item in range(first, cut(s.items, s.chunks, chunk + 1)):
        for i in range(cut(s.tiles, s.blocks, block), cut(s.tiles, s.blocks, block + 1)):
            weight_tile(g, s, dy, edge, x, to, i, item // s.bands, item % s.bands, item > first)


cdef void pad_image(const Geometry* g, const floating* x, floating* to, Py_ssize_t row) noexcept nogil:
    """One row of the copy with its border, counted over all images."""
    cdef Py_ssize_t high = (g.oH - 1) * g.sh + (g.kH - 1) * g.dh + 1, wide = (g.oW - 1) * g.sw + g.kW, C = g.C
    cdef Py_ssize_t ih = row % high - g.top, begin = min(g.left, wide), end = max(begin, min(wide, g.W + g.left))
    to += row * wide * C
    if ih < 0 or ih >= g.H:
        begin = end = wide
    memset(to, 0, begin * C * sizeof(floating))
    if end > begin:
        memcpy(to + begin * C, x + ((row // high * g.H + ih) * g.W + begin - g.left) * C, (end - begin) * C * sizeof(floating))
    memset(to + end * C, 0, (wide - end) * C * sizeof(floating))


cdef void copy_edge(const Geometry* g, const Sums* s, const floating* dy, floating* to, Py_ssize_t unit) noexcept nogil:
    """The last panel's columns of one image and group, filled up with zeros to full vectors."""
    cdef Py_ssize_t fg = g.F // g.groups, pixels = g.oH * g.oW, n = unit // g.groups, group = unit % g.groups, i, j
    cdef Py_ssize_t first = (s.panels - 1) * s.width, columns = fg - first
    dy += n * pixels * g.F + group * fg + first
    to += (group * g.N + n) * pixels * s.width
    for i in range(pixels):
        for j in range(columns):
            to[i * s.width + j] = dy[i * g.F + j]
        for j in range(columns, s.width):
            to[i * s.width + j] = 0


cdef Py_ssize_t sums_room(const Geometry* g, const Sums* s, Py_ssize_t* edge, Py_ssize_t* padded) noexcept nogil:
    """Elements of working memory: sums of chunks, then columns of dY and rows of x that are copied."""
    edge[0] = g.groups * g.N * g.oH * g.oW * s.width if g.F // g.groups % s.width else 0
    padded[0] = g.N * ((g.oH - 1) * g.sh + (g.kH - 1) * g.dh + 1) * ((g.oW - 1) * g.sw + g.kW) * g.C if s.spans else 0
    return (s.chunks - 1) * g.kH * g.kW * (g.C // g.groups) * g.F + edge[0] + padded[0]


cdef void backward_weight(
    const Geometry* g, const Sums* s, const floating* dy, const floating* x, floating* dw, floating* room,
    Py_ssize_t edge, Py_ssize_t padded, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i, j, k, size = g.kH * g.kW * (g.C // g.groups) * g.F, rows = g.N * g.oH
    cdef floating* edges = room + (s.chunks - 1) * size
    cdef floating* copy = edges + edge
    cdef Py_ssize_t chunks = s.chunks
    if g.depthwise:
        chunks = min(rows, <Py_ssize_t> MANY)
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            depthwise_weight(
                g, dy, x, dw if i == 0 else room + (i - 1) * size, cut(rows, chunks, i), cut(rows, chunks, i + 1))
    else:
        if edge:
            for i in prange(g.N * g.groups, schedule="static", num_threads=n_threads):
                copy_edge(g, s, dy, edges, i)
        if s.spans:
            for i in prange(
                g.N * ((g.oH - 1) * g.sh + (g.kH - 1) * g.dh + 1), schedule="static", num_threads=n_threads
            ):
                pad_image(g, x, copy, i)
            x = copy
        for i in prange(chunks * s.blocks, schedule="static", num_threads=n_threads):
            weight_unit(g, s, dy, edges, x, dw, room, i)
    for i in prange(parts(size, 4096), schedule="static", num_threads=n_threads if size > 16384 else 1):
        for k in range(chunks - 1):
            for j in range(i * 4096, min(size, (i + 1) * 4096)):
                dw[j] += room[k * size + j]


# Entry points ----------------------------------------------------------------------------------------------------

cdef int read(
    Geometry* g, Weights* w, cnp.ndarray x, cnp.ndarray weight, cnp.ndarray y, stride, padding, dilation,
    Py_ssize_t groups
) except -1:
    """Fill the geometry and check that the arrays fit it; x is the input's or its gradient's array, y the output's."""
    cdef Py_ssize_t size
    check_rows(x)
    check_rows(y)
    check_float(weight)
    if cnp.PyArray_NDIM(x) != 4 or cnp.PyArray_NDIM(y) != 4 or cnp.PyArray_NDIM(weight) != 4:
        raise ValueError("kernel conv2d: arrays must be 4-D")
    g.N, g.C, g.H, g.W = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(x, 3)
    g.F, g.oH, g.oW = cnp.PyArray_DIM(y, 1), cnp.PyArray_DIM(y, 2), cnp.PyArray_DIM(y, 3)
    g.kH, g.kW = cnp.PyArray_DIM(weight, 2), cnp.PyArray_DIM(weight, 3)
    g.sh, g.sw = stride
    g.top, g.left = padding
    g.dh, g.dw = dilation
    g.groups = groups
    if (
        cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(y) or cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(weight)
        or cnp.PyArray_DIM(y, 0) != g.N or groups < 1 or g.C % groups or g.F % groups
        or cnp.PyArray_DIM(weight, 0) != g.F or cnp.PyArray_DIM(weight, 1) != g.C // groups or g.kH < 1 or g.kW < 1
        or min(g.sh, g.sw, g.dh, g.dw) < 1 or g.top < 0 or g.left < 0 or min(g.C, g.H, g.W, g.oH, g.oW) < 1
    ):
        raise ValueError("kernel conv2d: shapes or dtypes do not fit")
    size = cnp.PyArray_ITEMSIZE(weight)
    w.column, w.row = cnp.PyArray_STRIDE(weight, 0) // size, cnp.PyArray_STRIDE(weight, 1) // size
    w.h, w.w = cnp.PyArray_STRIDE(weight, 2) // size, cnp.PyArray_STRIDE(weight, 3) // size
    w.columns, w.rows, w.kH, w.kW = g.F // groups, g.C // groups, g.kH, g.kW
    g.depthwise = groups == g.C and g.F == g.C and g.C > 1
    if g.depthwise:
        w.columns = g.C  # packed as [kH][kW][C]
    return 0


cdef inline int threads_of(const Geometry* g, int n_threads) noexcept nogil:
    """Threads that the arithmetic of one pass keeps busy."""
    return threads_for(g.N * g.oH * g.oW * g.F * (g.C // g.groups) * g.kH * g.kW // 16, n_threads)


cdef inline int lanes_of(cnp.ndarray a) noexcept:
    return lanes(<float*> NULL) if is_f32(a) else lanes(<double*> NULL)


def conv2d(
    cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray y_out, tuple stride, tuple padding, tuple dilation,
    Py_ssize_t groups, int n_threads
):
    """y[n,f,oh,ow] = b[f] + Σ x[n, c, oh·sh − top + kh·dh, ow·sw − left + kw·dw] · weight[f, c, kh, kw].

    x (N, C, H, W) and y (N, F, oH, oW) channels-last; weight (F, C/groups, kH, kW) in any order; bias (F,) or None.
    `padding` is what lies above and to the left; what lies below and to the right follows from y's size.
    """
    cdef Geometry g
    cdef Weights w
    cdef Dense d
    cdef void* shift = NULL
    read(&g, &w, x, weight, y_out, stride, padding, dilation, groups)
    if bias is not None:
        check_plain(bias)
        if cnp.PyArray_SIZE(bias) != g.F or cnp.PyArray_TYPE(bias) != cnp.PyArray_TYPE(x):
            raise ValueError("kernel conv2d: bias does not fit")
        shift = cnp.PyArray_DATA(bias)
    if cnp.PyArray_SIZE(y_out) == 0:
        return
    d.N, d.H, d.W, d.C, d.oH, d.oW, d.groups = g.N, g.H, g.W, g.C, g.oH, g.oW, groups
    d.sh, d.sw, d.top, d.left, d.dh, d.dw = g.sh, g.sw, g.top, g.left, g.dh, g.dw
    d.image_out, d.row_out, d.pixel_out = g.oH * g.oW * g.F, g.oW * g.F, g.F
    d.w = w
    cdef int size = cnp.PyArray_ITEMSIZE(x), t = threads_of(&g, n_threads)
    cdef Py_ssize_t band = plan_dense(&d, lanes_of(x), size)
    cdef void* block = scratch_acquire((g.kH * g.kW * g.C if g.depthwise else dense_room(&d, band, t)) * size)
    cdef void* room = scratch_align(block)
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* pw = cnp.PyArray_DATA(weight)
    cdef void* py = cnp.PyArray_DATA(y_out)
    cdef bint single = is_f32(x)
    with nogil:
        if single:
            forward(
                &g, &w, <const float*> px, <const float*> pw, <const float*> shift, <float*> py, &d, band,
                <float*> room, t)
        else:
            forward(
                &g, &w, <const double*> px, <const double*> pw, <const double*> shift, <double*> py, &d, band,
                <double*> room, t)
    scratch_release(block)


def conv2d_backward_input(
    cnp.ndarray dy, cnp.ndarray weight, cnp.ndarray dx_out, tuple stride, tuple padding, tuple dilation,
    Py_ssize_t groups, int n_threads
):
    """The gradient of conv2d's input from dy; arrays as there."""
    cdef Geometry g
    cdef Weights w
    cdef Dense d
    cdef Py_ssize_t need, band, ph, pw
    read(&g, &w, dx_out, weight, dy, stride, padding, dilation, groups)
    if cnp.PyArray_SIZE(dy) == 0:
        dx_out.fill(0)
        return
    cdef int size = cnp.PyArray_ITEMSIZE(dy), n = lanes_of(dy), t = threads_of(&g, n_threads)
    need = g.kH * g.kW * g.C
    for ph in range(min(g.sh, g.H)):
        for pw in range(min(g.sw, g.W)):
            plan_phase(&g, &w, ph, pw, &d)
            if not g.depthwise and d.w.kH and d.w.kW:
                band = plan_dense(&d, n, size)
                need = max(need, dense_room(&d, band, t))
    cdef void* block = scratch_acquire(need * size)
    cdef void* room = scratch_align(block)
    cdef void* pdy = cnp.PyArray_DATA(dy)
    cdef void* pweight = cnp.PyArray_DATA(weight)
    cdef void* pdx = cnp.PyArray_DATA(dx_out)
    cdef bint single = is_f32(dy)
    with nogil:
        if single:
            backward_input(&g, &w, <const float*> pdy, <const float*> pweight, <float*> pdx, <float*> room, n, t)
        else:
            backward_input(&g, &w, <const double*> pdy, <const double*> pweight, <double*> pdx, <double*> room, n, t)
    scratch_release(block)


def conv2d_backward_weight(
    cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dweight_out, tuple stride, tuple padding, tuple dilation,
    Py_ssize_t groups, int n_threads
):
    """The gradient of conv2d's weight, (F, C/groups, kH, kW) with memory in the order kH, kW, C, F."""
    cdef Geometry g
    cdef Weights w
    cdef Sums s
    cdef Py_ssize_t edge = 0, padded = 0, need
    read(&g, &w, x, dweight_out, dy, stride, padding, dilation, groups)
    if not has_order(dweight_out.transpose(2, 3, 1, 0), False):
        raise ValueError("kernel conv2d_backward_weight: dweight_out must have the memory order kH, kW, C, F")
    if cnp.PyArray_SIZE(dweight_out) == 0:
        return
    cdef int size = cnp.PyArray_ITEMSIZE(dy), t = threads_of(&g, n_threads)
    if g.N == 0:
        dweight_out.fill(0)
        return
    plan_sums(&g, &s, lanes_of(dy), size)
    need = MANY * g.kH * g.kW * g.C if g.depthwise else sums_room(&g, &s, &edge, &padded)
    cdef void* block = scratch_acquire(max(need, <Py_ssize_t> 1) * size)
    cdef void* room = scratch_align(block)
    cdef void* pdy = cnp.PyArray_DATA(dy)
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* pdw = cnp.PyArray_DATA(dweight_out)
    cdef bint single = is_f32(dy)
    with nogil:
        if single:
            backward_weight(
                &g, &s, <const float*> pdy, <const float*> px, <float*> pdw, <float*> room, edge, padded, t)
        else:
            backward_weight(
                &g, &s, <const double*> pdy, <const double*> px, <double*> pdw, <double*> room, edge, padded, t)
    scratch_release(block)


# The im2col matrix itself ----------------------------------------------------------------------------------------

cdef void im2col_row(const Geometry* g, const floating* x, floating* columns, Py_ssize_t unit) noexcept nogil:
    """One row of the matrix: one value of the window, c·kH·kW + kh·kW + kw, at every position of one image."""
    cdef Py_ssize_t n = unit // (g.C * g.kH * g.kW), row = unit % (g.C * g.kH * g.kW), c = row // (g.kH * g.kW)
    cdef Py_ssize_t kh = row // g.kW % g.kH, kw = row % g.kW, i, j, ih, first, last
    columns += unit * g.oH * g.oW
    memset(columns, 0, g.oH * g.oW * sizeof(floating))
    taps_within(kw * g.dw - g.left, g.sw, g.oW, g.W, &first, &last)
    for i in range(g.oH):
        ih = i * g.sh - g.top + kh * g.dh
        if 0 <= ih < g.H:
            for j in range(first, last):
                columns[i * g.oW + j] = x[((n * g.H + ih) * g.W + j * g.sw - g.left + kw * g.dw) * g.C + c]


cdef void col2im_row(const Geometry* g, const floating* columns, floating* x, Py_ssize_t unit) noexcept nogil:
    """One row of pixels of one image: the sum of the matrix's values that were read from each."""
    cdef Py_ssize_t n = unit // g.H, ih = unit % g.H, c, kh, kw, i, j, first, last
    cdef const floating* from_
    x += unit * g.W * g.C
    memset(x, 0, g.W * g.C * sizeof(floating))
    for kh in range(g.kH):
        i = ih + g.top - kh * g.dh
        if i < 0 or i % g.sh or i // g.sh >= g.oH:
            continue
        for kw in range(g.kW):
            taps_within(kw * g.dw - g.left, g.sw, g.oW, g.W, &first, &last)
            for c in range(g.C):
                from_ = columns + ((((n * g.C + c) * g.kH + kh) * g.kW + kw) * g.oH + i // g.sh) * g.oW
                for j in range(first, last):
                    x[(j * g.sw - g.left + kw * g.dw) * g.C + c] += from_[j]


cdef void walk_columns(
    const Geometry* g, floating* x, floating* columns, bint back, int n_threads
) noexcept nogil:
    cdef Py_ssize_t i
    if back:
        for i in prange(g.N * g.H, schedule="static", num_threads=n_threads):
            col2im_row(g, columns, x, i)
    else:
        for i in prange(g.N * g.C * g.kH * g.kW, schedule="static", num_threads=n_threads):
            im2col_row(g, x, columns, i)


cdef int run_columns(
    cnp.ndarray x, cnp.ndarray columns, tuple kernel, tuple stride, tuple padding, tuple dilation, tuple size,
    bint back, int n_threads
) except -1:
    cdef Geometry g
    check_rows(x)
    check_plain(columns)
    g.kH, g.kW = kernel
    g.sh, g.sw = stride
    g.top, g.left = padding
    g.dh, g.dw = dilation
    g.oH, g.oW = size
    if (
        cnp.PyArray_NDIM(x) != 4 or cnp.PyArray_NDIM(columns) != 3 or cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(columns)
        or min(g.kH, g.kW, g.sh, g.sw, g.dh, g.dw) < 1 or min(g.top, g.left, g.oH, g.oW) < 0
        or cnp.PyArray_DIM(columns, 0) != cnp.PyArray_DIM(x, 0) or cnp.PyArray_DIM(columns, 2) != g.oH * g.oW
        or cnp.PyArray_DIM(columns, 1) != cnp.PyArray_DIM(x, 1) * g.kH * g.kW
    ):
        raise ValueError("kernel im2col: shapes or dtypes do not fit")
    g.N, g.C, g.H, g.W = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(x, 3)
    cdef int t = threads_for(cnp.PyArray_SIZE(columns), n_threads)
    cdef void* px = cnp.PyArray_DATA(x)
    cdef void* pc = cnp.PyArray_DATA(columns)
    cdef bint single = is_f32(x)
    with nogil:
        if single:
            walk_columns(&g, <float*> px, <float*> pc, back, t)
        else:
            walk_columns(&g, <double*> px, <double*> pc, back, t)
    return 0


def im2col(
    cnp.ndarray x, cnp.ndarray columns_out, tuple kernel, tuple stride, tuple padding, tuple dilation, tuple size,
    int n_threads
):
    """columns (N, C·kH·kW, oH·oW) of the windows of x (N, C, H, W); `size` is (oH, oW)."""
    run_columns(x, columns_out, kernel, stride, padding, dilation, size, False, n_threads)


def col2im(
    cnp.ndarray columns, cnp.ndarray x_out, tuple kernel, tuple stride, tuple padding, tuple dilation, tuple size,
    int n_threads
):
    """x (N, C, H, W), the sum of all window values read from each pixel: im2col's transpose."""
    run_columns(x_out, columns, kernel, stride, padding, dilation, size, True, n_threads)
