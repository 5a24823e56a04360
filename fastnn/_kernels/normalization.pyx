"""Normalization: batch and group norm, with statistics of channels over rows, layer and RMS norm, with those of rows.

For batch norm an array is R rows (R = N, or N·H·W) of C adjacent channels, walked in wide rows, max(1, LANES // C) of
them side by side, so that inner loops (norm.h) are long, contiguous and vectorized however few channels. DEPTH wide
rows make a block, the unit of work. Bandwidth is the limit: forward reads x twice and writes y, backward reads dy and x
twice and writes dx. A residual that is added and a ReLU behind cost no pass of their own. ReLU's mask is found again
from x in the backward pass, or if a residual was added, from y by the pass of the sums, which writes the masked dy.

Sums run down a block in the array's dtype, lane by lane, then over lanes and blocks in float64. Variances come from
deviations from a shift, the mean of the block's first wide row: with s = Σ(x − shift) and q = Σ(x − shift)² over n
rows, the mean is shift + s/n, the sum of squared deviations q − s²/n. As n is at most DEPTH times the rows behind the
shift, cancellation costs at most a factor DEPTH + 1, whatever the data. Blocks are merged in order (Chan, Golub,
LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).

Group norm is the same done image by image, with groups of channels merged; instance norm has groups of one channel.
Threads share the images, so that an image is still in the cache when it is read again, or one image's blocks if there
are fewer images than threads. Sums of the images are added in order.

Layer norm takes some rows, then in the first-level cache, three times: means, deviations from them (rows.h), outputs.
Backward, each row is read twice: for two sums along it, then for its gradient and what it adds to the sums down the
columns, which are a block's as above."""
cimport numpy as cnp
from cython cimport floating
from libc.math cimport sqrt
from libc.string cimport memcpy, memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

ctypedef void* Row

cdef extern from "norm.h" nogil:
    enum: MOMENTS, GRADIENTS, GRADIENTS_OF_RELU, GRADIENTS_BY_Y, PLAIN
    enum: ADD, RELU, BACKWARD, FIXED
    ctypedef struct NormRows:
        Row x, dy, y, out, m, s, t, a, c, sum, dot
    # macros, by the type of like or x
    void norm_sums(const void* like, int kind, const NormRows* rows, Py_ssize_t lanes, Py_ssize_t size)
    void norm_map(const void* like, int kind, const NormRows* rows, Py_ssize_t lanes, Py_ssize_t size)
    void layer_map(Py_ssize_t rows, const void* x, const void* w, const void* b, double eps, void* y, void* mean,
                   void* rstd, Py_ssize_t n)
    void layer_back(Py_ssize_t rows, const void* x, const void* dy, const void* mean, const void* rstd, const void* w,
                    void* dx, void* sum, void* dot, Py_ssize_t n)

cdef enum:
    LANES = 512  # numbers in a wide row, if C allows
    DEPTH = 64  # wide rows in a block
    CACHED = 4096  # numbers in those rows that layer norm's outputs are made of together
    OWN = 3  # wide rows of working memory for each thread

ctypedef struct Norm:
    Py_ssize_t images, rows, C, size  # channels of a group
    Py_ssize_t lanes, height, blocks  # of a wide row; rows of a block
    int sums_kind, map_kind
    bint learns, layered, relu, training
    Bytes dy, x, y, out, g, mean, rstd, weight, bias, dweight, dbias, running_mean, running_var
    double* sums  # two numbers a channel for each block, of each image; those of the first are the result
    Bytes wide  # five wide rows, the parameters of a pass, then OWN for each thread; or both for each thread's image
    Bytes plain  # weight 1 and bias 0
    double eps, momentum
    int threads


cdef void repeat(floating* wide, const Norm* b) noexcept nogil:
    """The first C numbers of a wide row over the rest of it."""
    cdef Py_ssize_t done = b.C
    while done < b.lanes:
        memcpy(wide + done, wide, min(done, b.lanes - done) * sizeof(floating))
        done *= 2


cdef NormRows rows_of(const Norm* b, Py_ssize_t block, Bytes dy, Bytes out, floating* kind) noexcept nogil:
    """A block's arrays (those there are), parameters and sums; of layer norm m and s are the statistics of its rows."""
    cdef Py_ssize_t start = block * b.height * b.C
    cdef floating* wide = <floating*> b.wide
    cdef NormRows rows
    rows.x, rows.dy, rows.y = <floating*> b.x + start, <floating*> dy + start, <floating*> b.y + start
    rows.out = NULL if out == NULL else <floating*> out + start
    rows.m, rows.s, rows.t = wide, wide + b.lanes, wide + 2 * b.lanes
    rows.a, rows.c = wide + 3 * b.lanes, wide + 4 * b.lanes
    rows.sum = wide + (5 + OWN * (omp_get_thread_num() if b.threads > 1 else 0)) * b.lanes
    rows.dot = <floating*> rows.sum + b.lanes
    if b.layered:
        rows.m, rows.s = <floating*> b.mean + block * b.height, <floating*> b.rstd + block * b.height
        rows.m = NULL if b.mean == NULL else rows.m
    return rows


cdef void sum_unit(const Norm* b, Py_ssize_t block, floating* kind) noexcept nogil:
    """Of one block and each channel: Σ dy and Σ dy·(x − mean), or the mean and squared deviations."""
    cdef Py_ssize_t C = b.C, rows = min(b.height, b.rows - block * b.height), first = min(b.lanes // C, rows), c, i
    cdef NormRows p = rows_of(b, block, b.dy, b.out if b.layered else b.g, kind)
    cdef const floating* x = <floating*> p.x
    cdef floating* s = <floating*> p.sum
    cdef floating* q = <floating*> p.dot
    cdef floating* shift = q + b.lanes
    cdef double* total = b.sums + block * 2 * C
    if b.sums_kind == MOMENTS:
        memset(total, 0, C * sizeof(double))
        for i in range(first):
            for c in range(C):
                total[c] += x[i * C + c]
        for c in range(C):
            shift[c] = <floating> (total[c] / first)
        repeat(shift, b)
        p.m = shift
    memset(s, 0, 2 * b.lanes * sizeof(floating))
    if b.layered:
        layer_back(rows, x, p.dy, p.m, p.s, <floating*> b.weight, p.out, s, q, C)
    else:
        norm_sums(kind, b.sums_kind, &p, b.lanes, rows * C)
    memset(total, 0, 2 * C * sizeof(double))
    for i in range(b.lanes // C):
        for c in range(C):
            total[c] += s[i * C + c]
            total[C + c] += q[i * C + c]
    for c in range(C if b.sums_kind == MOMENTS else 0):
        total[C + c] = max(total[C + c] - total[c] * total[c] / rows, 0.)  # NaN stays
        total[c] = shift[c] + total[c] / rows


cdef void sum_part(const Norm* b, Py_ssize_t part, floating* kind) noexcept nogil:
    """sum_unit of a thread's blocks, the last first if a pass follows, which begins with what is still in the cache."""
    cdef Py_ssize_t first = cut(b.blocks, b.threads, part), end = cut(b.blocks, b.threads, part + 1), block
    for block in range(first, end):
        sum_unit(b, block if b.layered else first + end - 1 - block, kind)


cdef void sum_all(const Norm* b, floating* kind) noexcept nogil:
    """sum_unit of all blocks, merged in order into the first."""
    cdef Py_ssize_t i, c, C = b.C
    cdef double n, m, delta
    cdef const double* more
    share(<Unit> sum_part[floating], b, b.threads, b.threads)
    for i in range(1, b.blocks):
        more, n, m = b.sums + i * 2 * C, i * b.height, min(b.rows - i * b.height, b.height)
        for c in range(2 * C if b.sums_kind != MOMENTS else 0):
            b.sums[c] += more[c]
        for c in range(C if b.sums_kind == MOMENTS else 0):
            delta = more[c] - b.sums[c]
            b.sums[c] += delta * (m / (n + m))
            b.sums[C + c] += more[C + c] + delta * delta * (n * m / (n + m))


cdef void map_unit(const Norm* b, Py_ssize_t block, floating* kind) noexcept nogil:
    """The outputs, or the gradients of x, of one block."""
    cdef NormRows p = rows_of(b, block, b.dy, b.out, kind)
    cdef Py_ssize_t rows = min(b.height, b.rows - block * b.height)
    if b.layered:
        layer_map(rows, <floating*> p.x, <floating*> b.weight, <floating*> b.bias, b.eps, p.out, p.m, p.s, b.C)
    else:
        norm_map(kind, b.map_kind, &p, b.lanes, rows * b.C)


cdef void learn(Norm* b, floating* kind) noexcept nogil:
    """Statistics of an image: those of its channels, merged in each group."""
    cdef Py_ssize_t g, c, n = b.rows * b.size
    cdef double mean, square, keep = 1 - b.momentum
    cdef floating* running_mean = <floating*> b.running_mean
    cdef floating* running_var = <floating*> b.running_var
    b.sums_kind = MOMENTS
    sum_all(b, kind)
    for g in range(b.C // b.size):
        mean, square = 0, 0
        for c in range(g * b.size, (g + 1) * b.size):
            mean += b.sums[c]
        mean /= b.size
        for c in range(g * b.size, (g + 1) * b.size):
            square += b.sums[b.C + c] + (b.sums[c] - mean) * (b.sums[c] - mean) * b.rows
        (<floating*> b.mean)[g] = <floating> mean
        (<floating*> b.rstd)[g] = <floating> (1 / sqrt(square / n + b.eps))
        if running_mean != NULL:
            running_mean[g] = <floating> (keep * running_mean[g] + b.momentum * mean)
        if running_var != NULL:
            running_var[g] = <floating> (keep * running_var[g] + b.momentum * (square / (n - 1)))


cdef void apply(Norm* b, floating* kind) noexcept nogil:
    """Derive an image's wide rows m, s, t and map x, or sum dy, derive a, c and map dy."""
    cdef Py_ssize_t g, c, C = b.C
    cdef floating* m = <floating*> b.wide
    cdef floating* s = m + b.lanes
    cdef floating* t = s + b.lanes
    cdef floating* a = t + b.lanes
    cdef floating* shift = a + b.lanes
    cdef const floating* weight = <floating*> b.weight
    cdef double rstd, total, product
    for g in range(C // b.size):
        for c in range(g * b.size, (g + 1) * b.size):
            m[c], t[c], s[c] = (<floating*> b.mean)[g], (<floating*> b.bias)[c], (<floating*> b.rstd)[g] * weight[c]
    for c in range(3):
        repeat(m + c * b.lanes, b)
    b.map_kind = (ADD if b.y != NULL else 0) + (RELU if b.relu else 0)
    if b.dy != NULL:
        b.sums_kind = GRADIENTS_BY_Y if b.y != NULL else GRADIENTS_OF_RELU if b.relu else GRADIENTS
        b.map_kind = BACKWARD + (RELU if b.relu and b.y == NULL else 0) + (0 if b.training else FIXED)
        if b.training or b.dbias != NULL or b.y != NULL:
            sum_all(b, kind)
        for g in range(C // b.size):
            rstd, total, product = (<floating*> b.rstd)[g], 0, 0
            for c in range(g * b.size, (g + 1) * b.size):
                total += weight[c] * b.sums[c]
                product += weight[c] * b.sums[C + c]
                b.sums[C + c] *= rstd
            for c in range(g * b.size, (g + 1) * b.size):
                a[c] = <floating> (-rstd * rstd * rstd * product / (b.rows * b.size))
                shift[c] = <floating> (-rstd * total / (b.rows * b.size))
        for c in range(3, 5):
            repeat(m + c * b.lanes, b)
        if b.y != NULL:
            b.dy = b.g
    if b.out != NULL:
        share(<Unit> map_unit[floating], b, b.blocks, b.threads)


cdef void image(const Norm* b, Py_ssize_t n, floating* kind) noexcept nogil:
    """One image's statistics, outputs or gradients. (Batch norm takes a batch for one image.)"""
    cdef Norm own = b[0]
    cdef Py_ssize_t start = n * b.rows * b.C * sizeof(floating), groups = n * (b.C // b.size) * sizeof(floating)
    if b.images >= b.threads:
        own.threads, own.wide = 1, b.wide + omp_get_thread_num() * (5 + OWN) * b.lanes * <Py_ssize_t> sizeof(floating)
    own.sums += n * b.blocks * 2 * b.C
    own.x, own.mean, own.rstd = b.x + start, b.mean + groups, b.rstd + groups
    own.dy = NULL if b.dy == NULL else b.dy + start
    own.out = NULL if b.out == NULL else b.out + start
    if b.learns:
        learn(&own, kind)
    if not b.learns or b.out != NULL:
        apply(&own, kind)


cdef void everything(Norm* b, Py_ssize_t _, floating* kind) noexcept nogil:
    """All that is asked for."""
    cdef Py_ssize_t n, c, step = b.blocks * 2 * b.C
    cdef floating* plain = <floating*> b.plain
    for c in range(b.C if b.rstd != NULL else 0):
        plain[c], plain[b.C + c] = 1, 0
    b.weight = b.plain if b.weight == NULL else b.weight
    b.bias = <Bytes> (plain + b.C) if b.bias == NULL else b.bias
    if b.layered and b.dy == NULL:
        share(<Unit> map_unit[floating], b, b.blocks, b.threads)
    elif b.layered or b.rstd == NULL:
        b.sums_kind = GRADIENTS if b.layered else PLAIN
        sum_all(b, kind)
    else:
        share(<Unit> image[floating], b, b.images, b.threads if b.images >= b.threads else 1)
    for n in range(1, b.images if b.dbias != NULL else 0):
        for c in range(2 * b.C):
            b.sums[c] += b.sums[n * step + c]
    for c in range(b.C if b.dbias != NULL else 0):
        (<floating*> b.dbias)[c] = <floating> b.sums[c]
    for c in range(b.C if b.dweight != NULL else 0):
        (<floating*> b.dweight)[c] = <floating> b.sums[b.C + c]


cdef Bytes like(cnp.ndarray x, cnp.ndarray a) except? NULL:
    """The data of an array like x, NULL for None."""
    if a is None:
        return NULL
    check_same(x, a)
    return a.data


cdef int cut_up(Norm* b, cnp.ndarray x, Py_ssize_t images) except -1:
    """Cut x, or each of its images, into blocks of wide rows."""
    cdef Py_ssize_t group, C
    check_rows(x)
    memset(b, 0, sizeof(Norm))
    b.x, b.images, b.C, b.size, C = x.data, images, x.shape[1], 1, max(<Py_ssize_t> 1, x.shape[1])
    b.rows = x.size // C // images
    group = max(<Py_ssize_t> 1, min(LANES // C, b.rows // 8))
    b.lanes, b.height = group * b.C, DEPTH * group
    return 0


cdef int begin(Norm* b, bint layered, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray rstd, cnp.ndarray weight=None,
               cnp.ndarray bias=None, cnp.ndarray out=None) except -1:
    """Check arrays and cut x into blocks. Statistics are of rows if `layered`, with two axes of groups of an image,
    else of channels."""
    cdef bint grouped = rstd is not None and rstd.ndim == 2
    cdef Py_ssize_t n
    if (x is None or rstd is None or mean is None and not layered or grouped and (layered or x.ndim != 4)
            or layered and x.ndim != 2 or (layered or grouped) and not x.size):
        raise ValueError("kernel: a norm needs an input, mean and rstd: batch norm (C,); group norm (N, G) and layer "
                         "norm (M,) of a 4-D and a 2-D input that are not empty")
    cut_up(b, x, x.shape[0] if grouped else 1)
    b.layered, n = layered, b.rows if layered else b.C
    if grouped:
        check_plain(rstd)
        check_same(rstd, mean)
        if rstd.shape[0] != b.images or b.C % max(rstd.shape[1], 1) or is_f32(rstd) != is_f32(x):
            raise ValueError("kernel: mean and rstd must have a number of x's dtype for each image and group")
        b.size = b.C // rstd.shape[1]
        b.mean, b.rstd = mean.data, rstd.data
    else:
        b.mean, b.rstd = vector(mean, n, x), vector(rstd, n, x)
    b.weight, b.bias, b.out = vector(weight, b.C, x), vector(bias, b.C, x), like(x, out)
    return 0


cdef int gradients(Norm* b, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dweight, cnp.ndarray dbias) except -1:
    """Check what the backward pass has besides."""
    if dy is None or not b.layered and (dweight is None) != (dbias is None):
        raise ValueError("kernel: a norm's gradient needs dy and, but for layer norm's, dweight_out with dbias_out")
    b.dy, b.dweight, b.dbias = like(x, dy), vector(dweight, b.C, x), vector(dbias, b.C, x)
    return 0


cdef int run(Norm* b, cnp.ndarray x, int n_threads) except -1:
    """Get working memory, and start."""
    cdef Py_ssize_t n_sums, size = cnp.PyArray_ITEMSIZE(x)
    if b.C == 0:
        return 0
    if b.layered:
        b.lanes, b.height = b.C, DEPTH if b.dy != NULL else max(<Py_ssize_t> 1, min(<Py_ssize_t> DEPTH, CACHED // b.C))
    b.blocks = max(<Py_ssize_t> 1, parts(b.rows, b.height))
    b.threads = threads_for(2 * b.images * b.rows * b.C, n_threads)
    n_sums = parts(2 * b.C * b.blocks * b.images, 8) * 8 if b.learns or b.dy != NULL else 0  # wide rows are aligned
    b.sums = <double*> scratch_acquire(8 * n_sums + ((5 + OWN) * b.threads * b.lanes + 2 * b.C) * size)
    b.wide = <Bytes> (b.sums + n_sums)
    b.plain = b.wide + (5 + OWN) * b.threads * b.lanes * size
    start(<Unit> everything[float], <Unit> everything[double], x, b, 1, 1)
    scratch_release(b.sums)
    return 0


def channel_sum(x, sum_out, int n_threads):
    """Σ x over all axes but that of channels, the gradient of a bias: the same sums as dbias below.

    x: (N, C) or (N, C, H, W), sum_out: (C,)."""
    cdef Norm b
    if x is None or sum_out is None:
        raise ValueError("kernel: a sum needs its arrays")
    cut_up(&b, x, 1)
    b.dy, b.dbias = b.x, vector(sum_out, b.C, x)
    run(&b, x, n_threads)


def batch_norm_statistics(x, double eps, double momentum, mean_out, rstd_out, running_mean_out, running_var_out,
                          int n_threads):
    """mean over the rows of x, and rstd = 1/√(var + eps) with the biased variance. If given, the running statistics
    become (1 − momentum)·old + momentum·new, with the unbiased variance.

    x: (N, C) or (N, C, H, W), at least one row; the rest: (C,)."""
    cdef Norm b
    begin(&b, False, x, mean_out, rstd_out)
    if b.rows == 0:
        raise ValueError("kernel: batch norm's statistics need a row")
    b.running_mean, b.running_var = vector(running_mean_out, b.C, x), vector(running_var_out, b.C, x)
    b.eps, b.momentum, b.learns = eps, momentum, True
    run(&b, x, n_threads)


def batch_norm(x, mean, rstd, weight, bias, residual, bint relu, y_out, int n_threads):
    """y = (x − mean)·rstd·weight + bias + residual, then 0 where it is not positive if `relu`.

    residual is like x; it, weight and bias may be None."""
    cdef Norm b
    begin(&b, False, x, mean, rstd, weight, bias, y_out)
    b.y, b.relu = like(x, residual), relu
    run(&b, x, n_threads)


def batch_norm_backward(dy, x, mean, rstd, weight, bias, y, bint relu, bint training, dx_out, dweight_out, dbias_out,
                        g_out, int n_threads):
    """With g = dy, or if `relu` dy where batch_norm's output is positive, else 0: dbias = Σ g, dweight = Σ g·x̂,
    x̂ = (x − mean)·rstd, and dx = weight·rstd·g or, if `training`, through the statistics of the R rows too,
    weight·rstd·(g − dbias/R − x̂·dweight/R), which needs the other two.

    The sign is found again from x, which takes bias, or read from the output y if it is given (a residual had been
    added); then g, the residual's gradient, is written to g_out, which may be dy. dx_out may be None; so may
    dweight_out with dbias_out."""
    cdef Norm b
    if training and dweight_out is None or (y is None) != (g_out is None):
        raise ValueError("kernel: batch norm's gradient needs dweight_out in training, and y with g_out")
    begin(&b, False, x, mean, rstd, weight, bias, dx_out)
    gradients(&b, x, dy, dweight_out, dbias_out)
    b.y, b.g, b.relu, b.training = like(x, y), like(x, g_out), relu, training
    run(&b, x, n_threads)


def group_norm(x, weight, bias, double eps, y_out, mean_out, rstd_out, int n_threads):
    """y = (x − mean)·rstd·weight + bias with mean and rstd = 1/√(var + eps), var biased, of each image and group of C/G
    channels that follow one another.

    x: (N, C, H, W), not empty; weight, bias: (C,) or None; mean, rstd: (N, G)."""
    cdef Norm b
    begin(&b, False, x, mean_out, rstd_out, weight, bias, y_out)
    b.eps, b.learns = eps, True
    run(&b, x, n_threads)


def group_norm_backward(dy, x, mean, rstd, weight, dx_out, dweight_out, dbias_out, int n_threads):
    """dbias = Σ dy and dweight = Σ dy·x̂ over images and rows, x̂ = (x − mean)·rstd, and with means over each group of
    g = weight·dy, dx = rstd·(g − mean(g) − x̂·mean(g·x̂)). dx_out may be None; so may dweight_out with dbias_out."""
    cdef Norm b
    begin(&b, False, x, mean, rstd, weight, None, dx_out)
    gradients(&b, x, dy, dweight_out, dbias_out)
    b.training = True
    run(&b, x, n_threads)


def layer_norm(x, weight, bias, double eps, y_out, mean_out, rstd_out, int n_threads):
    """y = (x − mean)·rstd·weight + bias with mean and rstd = 1/√(var + eps), var biased, of each row; if mean_out is
    None RMS norm, in which 0 stands for the mean.

    x: (M, D), not empty; weight, bias: (D,) or None; mean, rstd: (M,)."""
    cdef Norm b
    begin(&b, True, x, mean_out, rstd_out, weight, bias, y_out)
    if y_out is None:
        raise ValueError("kernel: layer norm needs y_out")
    b.eps = eps
    run(&b, x, n_threads)


def layer_norm_backward(dy, x, mean, rstd, weight, dx_out, dweight_out, dbias_out, int n_threads):
    """dbias, dweight and dx as group norm's, the means over each row; if mean is None RMS norm's, without the term
    mean(g). Outputs may be None."""
    cdef Norm b
    begin(&b, True, x, mean, rstd, weight, None, dx_out)
    gradients(&b, x, dy, dweight_out, dbias_out)
    run(&b, x, n_threads)
