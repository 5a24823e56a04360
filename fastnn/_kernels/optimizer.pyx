"""Optimizer steps: one call updates all parameters of a group.

Every element is read and written once, so bandwidth is the limit: 12 bytes a float32 parameter for plain SGD, 20 with
momentum, 28 for Adam, 36 with amsgrad. A network has many small parameters beside few large ones; to share them out
evenly they are laid, on paper, end to end, each padded to a multiple of PAD elements, and this line is cut every CHUNK
elements. A unit of work is then a chunk of the line, which may end one parameter, cover several and begin another.
Update rules are element-wise, hence any memory order serves that parameter, gradient and state have in common.
Scalars are formed in double and rounded once to the parameters' dtype, as in PyTorch; both dtypes may occur in one call.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport pow, sqrt, sqrtf
from fastnn._kernels.kernel cimport (
    CHUNK, check_float, check_same, is_f32, scratch_acquire, scratch_align, scratch_release, threads_for
)

cnp.import_array()

cdef enum:
    PAD = 64  # elements; pieces begin at multiples of it, so that a vector never straddles two threads' cache lines
    COLUMNS = 5  # arrays of one parameter at most: itself, its gradient, three of state

cdef struct Slot:  # one parameter
    char* data[COLUMNS]
    Py_ssize_t size
    Py_ssize_t start  # its place in the line
    bint single

cdef struct Rule:  # the scalars of an update
    double lr, momentum, damp, beta1, beta2, eps, decay, keep, scale, sign
    bint nesterov, first, amsgrad

ctypedef void (*Update)(const Slot*, Py_ssize_t, Py_ssize_t, const Rule*) noexcept nogil


cdef cnp.ndarray array(object a):
    if not isinstance(a, cnp.ndarray):  # None passes an ndarray variable unseen
        raise TypeError(f"kernel: a {type(a).__name__} came where an ndarray is needed")
    return a


cdef bint is_packed(cnp.ndarray a) noexcept:
    """Whether a's memory is dense in some order of its axes. Strides of size-1 axes are not read."""
    cdef Py_ssize_t expected = cnp.PyArray_ITEMSIZE(a)
    cdef int axis, left = 0, n = cnp.PyArray_NDIM(a)
    if cnp.PyArray_SIZE(a) == 0:
        return True
    for axis in range(n):
        left += cnp.PyArray_DIM(a, axis) != 1
    while left > 0:
        for axis in range(n):
            if cnp.PyArray_DIM(a, axis) != 1 and cnp.PyArray_STRIDE(a, axis) == expected:
                expected *= cnp.PyArray_DIM(a, axis)
                left -= 1
                break
        else:
            return False
    return True


cdef Py_ssize_t fill(Slot* slots, tuple columns) except -1:
    """Check the arrays, enter them into the table, and return the length of the line."""
    cdef Py_ssize_t i, column, start = 0
    cdef cnp.ndarray first, a
    for i in range(len(columns[0])):
        first = array(columns[0][i])
        check_float(first)
        if not is_packed(first):
            raise ValueError("kernel: a parameter has gaps in its memory")
        for column in range(len(columns)):
            slots[i].data[column] = NULL
            if columns[column]:
                a = array(columns[column][i])
                check_same(first, a)
                if column != 1 and not cnp.PyArray_ISWRITEABLE(a):
                    raise ValueError("kernel: a parameter or its state is read-only")
                slots[i].data[column] = <char*> cnp.PyArray_DATA(a)
        slots[i].size = cnp.PyArray_SIZE(first)
        slots[i].start = start
        slots[i].single = is_f32(first)
        start += (slots[i].size + PAD - 1) // PAD * PAD
    return start


cdef void update_chunk(
    const Slot* slots, Py_ssize_t n_slots, Py_ssize_t begin, Update update, const Rule* rule
) noexcept nogil:
    """Update the elements of the line from `begin` on, CHUNK of them."""
    cdef Py_ssize_t low = 0, high = n_slots, middle, lo, hi
    while high - low > 1:  # the last slot that starts at or before `begin`
        middle = (low + high) // 2
        if slots[middle].start <= begin:
            low = middle
        else:
            high = middle
    while low < n_slots and slots[low].start < begin + CHUNK:
        lo = max(<Py_ssize_t> 0, begin - slots[low].start)
        hi = min(slots[low].size, begin + CHUNK - slots[low].start)
        if lo < hi:
            update(&slots[low], lo, hi - lo, rule)
        low += 1


cdef int run(tuple columns, Update update, Rule rule, int n_threads) except -1:
    """Apply `update` to all parameters: columns[0] updated, columns[1] their gradients, the others state or empty."""
    cdef Py_ssize_t i, length, units, n_slots = len(columns[0])
    cdef int t
    for column in columns[1:]:
        if len(column) != n_slots and (column or column is columns[1]):
            raise ValueError(f"kernel: {n_slots} parameters came with {len(column)} gradients or arrays of state")
    cdef void* block = scratch_acquire((n_slots + 1) * sizeof(Slot))
    cdef Slot* slots = <Slot*> scratch_align(block)
    try:
        length = fill(slots, columns)
        units = (length + CHUNK - 1) // CHUNK
        t = threads_for(3 * length, n_threads)
        with nogil:
            if t == 1:
                for i in range(units):
                    update_chunk(slots, n_slots, i * CHUNK, update, &rule)
            else:
                for i in prange(units, schedule="static", num_threads=t):
                    update_chunk(slots, n_slots, i * CHUNK, update, &rule)
    finally:
        scratch_release(block)
    return 0


cdef inline void sgd(
    floating* p, const floating* g, floating* b, Py_ssize_t n, const Rule* rule, bint momentum
) noexcept nogil:
    cdef floating lr = <floating> rule.lr, mu = <floating> rule.momentum, damp = <floating> rule.damp
    cdef floating decay = <floating> rule.decay, sign = <floating> rule.sign, d, value, buffer
    cdef bint decays = decay != 0, nesterov = rule.nesterov, first = rule.first
    cdef Py_ssize_t i
    for i in range(n):
        d, value = sign * g[i], p[i]
        if decays:
            d = d + decay * value
        if momentum:
            buffer = d if first else mu * b[i] + damp * d
            d = d + mu * buffer if nesterov else buffer
            b[i] = buffer
        p[i] = value - lr * d


cdef void sgd_piece(const Slot* s, Py_ssize_t lo, Py_ssize_t n, const Rule* rule) noexcept nogil:
    if s.single:
        if s.data[2] != NULL:  # the literal makes each variant a loop of its own
            sgd(<float*> s.data[0] + lo, <float*> s.data[1] + lo, <float*> s.data[2] + lo, n, rule, True)
        else:
            sgd(<float*> s.data[0] + lo, <float*> s.data[1] + lo, <float*> NULL, n, rule, False)
    elif s.data[2] != NULL:
        sgd(<double*> s.data[0] + lo, <double*> s.data[1] + lo, <double*> s.data[2] + lo, n, rule, True)
    else:
        sgd(<double*> s.data[0] + lo, <double*> s.data[1] + lo, <double*> NULL, n, rule, False)


def sgd_step(
    list params_out, list grads, list momentum_buffers_out, double lr, double momentum, double dampening,
    double weight_decay, bint nesterov, bint maximize, bint first, int n_threads
):
    """d = ±g + weight_decay·p;  b = momentum·b + (1 − dampening)·d, or d at first;  p −= lr·(b, or d + momentum·b).

    Without buffers (an empty list) p −= lr·d.
    """
    cdef Rule rule
    rule.lr, rule.momentum, rule.damp, rule.decay = lr, momentum, 1 - dampening, weight_decay
    rule.sign, rule.nesterov, rule.first = -1 if maximize else 1, nesterov, first
    run((tuple(params_out), tuple(grads), tuple(momentum_buffers_out)), sgd_piece, rule, n_threads)


cdef inline void adam(
    floating* p, const floating* g, floating* m, floating* v, floating* x, Py_ssize_t n, const Rule* rule, bint amsgrad
) noexcept nogil:
    cdef floating w1 = <floating> (1 - rule.beta1), b2 = <floating> rule.beta2, w2 = <floating> (1 - rule.beta2)
    cdef floating lr = <floating> rule.lr, eps = <floating> rule.eps, scale = <floating> rule.scale
    cdef floating decay = <floating> rule.decay, keep = <floating> rule.keep, sign = <floating> rule.sign
    cdef floating d, mean, square, value, top, root
    cdef bint decays = decay != 0, near = w1 < 0.5
    cdef Py_ssize_t i
    for i in range(n):
        d, mean, square, value = sign * g[i], m[i], v[i], p[i]
        if amsgrad:
            top = x[i]
        d = d + decay * value if decays else d
        # the end nearer to the result is the one to start from, as in torch.lerp
        mean = mean + w1 * (d - mean) if near else d - (1 - w1) * (d - mean)
        square = b2 * square + w2 * d * d
        if amsgrad:
            top = square if square > top or square != square else top  # NaN stays
            x[i] = top
        else:
            top = square
        if floating is float:
            root = sqrtf(top)
        else:
            root = sqrt(top)
        m[i], v[i] = mean, square
        p[i] = keep * value - lr * (mean / (scale * root + eps))


cdef void adam_piece(const Slot* s, Py_ssize_t lo, Py_ssize_t n, const Rule* rule) noexcept nogil:
    if s.single:
        if rule.amsgrad:
            adam(<float*> s.data[0] + lo, <float*> s.data[1] + lo, <float*> s.data[2] + lo, <float*> s.data[3] + lo,
                 <float*> s.data[4] + lo, n, rule, True)
        else:
            adam(<float*> s.data[0] + lo, <float*> s.data[1] + lo, <float*> s.data[2] + lo, <float*> s.data[3] + lo,
                 <float*> NULL, n, rule, False)
    elif rule.amsgrad:
        adam(<double*> s.data[0] + lo, <double*> s.data[1] + lo, <double*> s.data[2] + lo, <double*> s.data[3] + lo,
             <double*> s.data[4] + lo, n, rule, True)
    else:
        adam(<double*> s.data[0] + lo, <double*> s.data[1] + lo, <double*> s.data[2] + lo, <double*> s.data[3] + lo,
             <double*> NULL, n, rule, False)


def adam_step(
    list params_out, list grads, list exp_avgs_out, list exp_avg_sqs_out, list max_exp_avg_sqs_out, double step,
    double lr, double beta1, double beta2, double eps, double weight_decay, bint decoupled, bint maximize, int n_threads
):
    """d = ±g;  d += weight_decay·p, or, decoupled, p *= 1 − lr·weight_decay;  m = β₁m + (1 − β₁)d;  v = β₂v + (1 − β₂)d²;
    p −= lr/(1 − β₁ˢ) · m / (√v/√(1 − β₂ˢ) + eps) in step s = 1, 2, …

    With max_exp_avg_sqs_out (else an empty list) the largest v so far stands under the root.
    """
    cdef Rule rule
    rule.lr, rule.beta1, rule.beta2, rule.eps = lr / (1 - pow(beta1, step)), beta1, beta2, eps
    rule.scale = 1 / sqrt(1 - pow(beta2, step))
    rule.decay = 0 if decoupled else weight_decay
    rule.keep = 1 - lr * weight_decay if decoupled else 1
    rule.sign, rule.amsgrad = -1 if maximize else 1, len(max_exp_avg_sqs_out) > 0
    columns = (tuple(params_out), tuple(grads), tuple(exp_avgs_out), tuple(exp_avg_sqs_out), tuple(max_exp_avg_sqs_out))
    if len(exp_avgs_out) != len(params_out) or len(exp_avg_sqs_out) != len(params_out):
        raise ValueError("kernel: Adam needs both averages for every parameter")
    run(columns, adam_piece, rule, n_threads)
