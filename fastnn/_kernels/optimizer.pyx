"""Optimizer steps: one call updates all parameters of a group; and what clipping needs of their gradients.

Every element is read and written once, so bandwidth is the limit: 12 bytes a float32 parameter for plain SGD, 20 with
momentum, 28 for Adam, 36 with amsgrad. To share out many small parameters beside few large ones evenly, they are laid,
on paper, end to end, each padded to a multiple of 64 elements, and this line is cut every CHUNK elements. Any memory
order serves that a parameter, its gradient and its state have in common. A loop loads all operands before it stores: a
load that follows a store to the same place of another page waits for it (measured: 1.6 times slower). Scalars are
formed in double and rounded once to the parameter's dtype, as in PyTorch; both dtypes may occur in a call.

The norm of gradients is formed in double, chunk by chunk of the line, and the chunks are merged in order. Its factor
may be handed to a step as `grad_scale`, so that clipping reads the gradients once more and never writes them."""
cimport numpy as cnp
from cython cimport floating
from libc.math cimport fabs, pow, sqrt, sqrtf
from libc.string cimport memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef enum:
    LANES = 16  # partial sums

cdef struct Slot:  # one parameter
    Bytes data[5]  # itself, its gradient, up to three arrays of state
    Py_ssize_t size, start  # start: its place in the line
    bint single, first
    double lr, scale  # Adam's, corrected for the bias

ctypedef void (*Update)(const Job*, const Slot*, Py_ssize_t, Py_ssize_t, void*) noexcept nogil

cdef struct Job:
    Update[2] update  # of n elements from lo on, for double and float; the last argument is as Unit's
    Slot* slots
    Py_ssize_t n_slots
    double lr, momentum, damp, beta1, beta2, eps, decay, keep, sign, factor
    bint nesterov, largest
    double* sums  # of the chunks


cdef void update_chunk(const Job* job, Py_ssize_t i, void* kind) noexcept nogil:
    """Update the elements i·CHUNK, …, (i + 1)·CHUNK − 1 of the line."""
    cdef const Slot* slot
    cdef Py_ssize_t k, lo, hi
    for k in range(job.n_slots):
        slot = &job.slots[k]
        lo, hi = max(<Py_ssize_t> 0, i * CHUNK - slot.start), min(slot.size, (i + 1) * CHUNK - slot.start)
        if lo < hi:
            job.update[slot.single](job, slot, lo, hi - lo, NULL)


cdef int run(tuple columns, Job* job, list each, Py_ssize_t work, int n_threads) except -1:
    """Check the arrays and run the job. `columns`: parameters, gradients, lists of state, the last one maybe empty.
    `each`: whether it is a parameter's first step, or where its steps are counted. `work` of an element."""
    cdef Py_ssize_t i, column, length = 0
    cdef cnp.ndarray a, p
    cdef double last = 0, lr = 0, scale = 0
    cdef Slot* slot
    columns = tuple(map(tuple, columns))  # keeps the arrays alive, whatever becomes of the lists
    job.n_slots = len(columns[0])
    for i in range(1, len(columns)):
        if len(columns[i]) != job.n_slots and (columns[i] or i < len(columns) - 1):
            raise ValueError(f"kernel: {job.n_slots} parameters came with {len(columns[i])} gradients or states")
    if each is not None and len(each) != job.n_slots:
        raise ValueError(f"kernel: {job.n_slots} parameters came with {len(each)} steps")
    job.slots = <Slot*> scratch_acquire((job.n_slots + 1) * sizeof(Slot))
    try:
        for i in range(job.n_slots):
            slot, p = &job.slots[i], <cnp.ndarray?> columns[0][i]
            check_float(p)
            if not is_packed(p):
                raise ValueError("kernel: a parameter has gaps in its memory")
            for column in range(len(columns)):
                slot.data[column] = NULL
                if columns[column]:
                    a = <cnp.ndarray?> columns[column][i]
                    check_same(p, a)
                    if column != 1 and job.sums == NULL and not cnp.PyArray_ISWRITEABLE(a):
                        raise ValueError("kernel: a parameter or its state is read-only")
                    slot.data[column] = a.data
            slot.size, slot.start, slot.single = p.size, length, is_f32(p)
            length += parts(slot.size, 64) * 64  # threads share no cache line
            slot.first = False
            if each is not None and type(each[i]) is bool:
                slot.first = each[i]
            elif each is not None:
                a = <cnp.ndarray?> each[i]
                if cnp.PyArray_TYPE(a) != cnp.NPY_FLOAT32 or a.ndim != 0 or not cnp.PyArray_ISBEHAVED(a):
                    raise ValueError("kernel: steps are counted by writeable 0-d float32 arrays")
        for i in range(job.n_slots if each is not None else 0):
            if type(each[i]) is not bool:
                a = <cnp.ndarray> each[i]
                (<float*> a.data)[0] += 1
                if (<float*> a.data)[0] != last:
                    last = (<float*> a.data)[0]
                    lr, scale = job.lr / (1 - pow(job.beta1, last)), 1 / sqrt(1 - pow(job.beta2, last))
                job.slots[i].lr, job.slots[i].scale = lr, scale
        if job.sums != NULL:
            job.sums = <double*> scratch_acquire(parts(length, CHUNK) * sizeof(double))
            memset(job.sums, 0, parts(length, CHUNK) * sizeof(double))
        with nogil:
            share(<Unit> update_chunk, job, parts(length, CHUNK), threads_for(work * length // STREAM, n_threads))
        if job.sums != NULL:
            last = 0
            for i in range(parts(length, CHUNK)):
                last = merge(job.largest, last, job.sums[i])
            scratch_release(job.sums)
            job.factor = last
    finally:
        scratch_release(job.slots)
    return 0


cdef inline double merge(bint largest, double a, double b) noexcept nogil:
    return (b if (b > a) | (b != b) else a) if largest else a + b


cdef inline void norm_loop(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind,
                           bint largest) noexcept nogil:
    """Σ x² or max |x| of n elements, in lanes. NaN stays."""
    cdef const floating* x = <const floating*> s.data[0] + lo
    cdef double lane[LANES]
    cdef double value
    cdef Py_ssize_t i, j
    for j in range(LANES):
        lane[j] = 0
    for i in range(n // LANES):
        for j in range(LANES):
            value = <double> x[i * LANES + j]
            lane[j] = merge(largest, lane[j], fabs(value) if largest else value * value)
    for j in range(n % LANES):
        value = <double> x[n // LANES * LANES + j]
        lane[j] = merge(largest, lane[j], fabs(value) if largest else value * value)
    for j in range(1, LANES):
        lane[0] = merge(largest, lane[0], lane[j])
    job.sums[(s.start + lo) // CHUNK] = merge(largest, job.sums[(s.start + lo) // CHUNK], lane[0])


cdef void norm(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind) noexcept nogil:
    if job.largest:
        norm_loop(job, s, lo, n, kind, True)
    else:
        norm_loop(job, s, lo, n, kind, False)


def grad_norm(list grads, bint largest, cnp.ndarray norm_out, int n_threads):
    """norm = √Σ g² over all elements of all gradients, or `largest`: max |g|. float64, 0-d."""
    cdef Job job
    cdef double here = 0
    if cnp.PyArray_TYPE(norm_out) != cnp.NPY_FLOAT64 or norm_out.ndim != 0 or not cnp.PyArray_ISBEHAVED(norm_out):
        raise ValueError("kernel: the norm needs a writeable 0-d float64 array")
    job.largest, job.sums = largest, &here
    job.update[0], job.update[1] = <Update> norm[double], <Update> norm[float]
    run((grads,), &job, None, 1, n_threads)
    (<double*> norm_out.data)[0] = job.factor if largest else sqrt(job.factor)


cdef void clip(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind) noexcept nogil:
    cdef floating* x = <floating*> s.data[0] + lo
    cdef floating a = <floating> job.factor
    cdef Py_ssize_t i
    if job.largest:
        for i in range(n):
            x[i] = a if x[i] > a else -a if x[i] < -a else x[i]
    else:
        for i in range(n):
            x[i] *= a


def grad_scale(list grads_out, double factor, int n_threads):
    """g = g·factor."""
    cdef Job job
    job.largest, job.sums, job.factor = False, NULL, factor
    job.update[0], job.update[1] = <Update> clip[double], <Update> clip[float]
    run((grads_out,), &job, None, 1, n_threads)


def grad_clamp(list grads_out, double limit, int n_threads):
    """g limited to [−limit, limit]; limit >= 0, NaN stays."""
    cdef Job job
    job.largest, job.sums, job.factor = True, NULL, limit
    job.update[0], job.update[1] = <Update> clip[double], <Update> clip[float]
    run((grads_out,), &job, None, 1, n_threads)


cdef void sgd(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind) noexcept nogil:
    cdef floating* p = <floating*> s.data[0] + lo
    cdef const floating* g = <const floating*> s.data[1] + lo
    cdef floating* b = <floating*> s.data[2] + (lo if s.data[2] != NULL else 0)
    cdef floating mu = <floating> job.momentum, damp = <floating> job.damp, decay = <floating> job.decay
    cdef floating lr = <floating> job.lr, sign = <floating> job.sign, d, value, buffer
    cdef bint decays = decay != 0, nesterov = job.nesterov, first = s.first
    cdef Py_ssize_t i
    if b == NULL:
        for i in range(n):
            d = sign * g[i] + decay * p[i] if decays else sign * g[i]
            p[i] = p[i] - lr * d
        return
    for i in range(n):
        d, value = sign * g[i], p[i]
        d = d + decay * value if decays else d
        buffer = d if first else mu * b[i] + damp * d
        b[i] = buffer
        p[i] = value - lr * (d + mu * buffer if nesterov else buffer)


def sgd_step(list params_out, list grads, list momentum_buffers_out, double lr, double momentum, double dampening,
             double weight_decay, bint nesterov, bint maximize, double grad_scale, list first, int n_threads):
    """d = ±grad_scale·g + weight_decay·p;  b = momentum·b + (1 − dampening)·d, or d where it is the parameter's `first`
    step, a bool;  p −= lr·(b, or d + momentum·b).

    Without buffers (an empty list) p −= lr·d."""
    cdef Job job
    job.lr, job.momentum, job.damp, job.decay = lr, momentum, 1 - dampening, weight_decay
    job.sign, job.nesterov, job.sums = -grad_scale if maximize else grad_scale, nesterov, NULL
    job.update[0], job.update[1] = <Update> sgd[double], <Update> sgd[float]
    run((params_out, grads, momentum_buffers_out), &job, first, 3, n_threads)


cdef inline void adam_loop(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind,
                           bint amsgrad) noexcept nogil:
    cdef floating* p = <floating*> s.data[0] + lo
    cdef const floating* g = <const floating*> s.data[1] + lo
    cdef floating* m = <floating*> s.data[2] + lo
    cdef floating* v = <floating*> s.data[3] + lo
    cdef floating* x = <floating*> s.data[4] + (lo if amsgrad else 0)
    cdef floating w1 = <floating> (1 - job.beta1), b2 = <floating> job.beta2, w2 = <floating> (1 - job.beta2)
    cdef floating lr = <floating> s.lr, eps = <floating> job.eps, scale = <floating> s.scale
    cdef floating keep = <floating> job.keep, decay = <floating> job.decay, sign = <floating> job.sign
    cdef floating d, mean, square, value, top, root
    cdef bint decays = decay != 0, near = w1 < 0.5
    cdef Py_ssize_t i
    for i in range(n):
        d, mean, square, value = sign * g[i], m[i], v[i], p[i]
        d = d + decay * value if decays else d
        # the end nearer to the result is the one to start from, as in torch.lerp
        mean = mean + w1 * (d - mean) if near else d - (1 - w1) * (d - mean)
        square = b2 * square + w2 * d * d
        top = square
        if amsgrad:
            top = x[i]
            top = square if (top < square) | (square != square) else top  # NaN stays
            x[i] = top
        root = <floating> (sqrtf(top) if floating is float else sqrt(top))
        m[i], v[i] = mean, square
        p[i] = keep * value - lr * (mean / (scale * root + eps))


cdef void adam(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind) noexcept nogil:
    if s.data[4] == NULL:  # a loop of its own, else GCC vectorizes neither
        adam_loop(job, s, lo, n, kind, False)
    else:
        adam_loop(job, s, lo, n, kind, True)


def adam_step(list params_out, list grads, list exp_avgs_out, list exp_avg_sqs_out, list max_exp_avg_sqs_out,
              list steps_out, double lr, double beta1, double beta2, double eps, double weight_decay, bint decoupled,
              bint maximize, double grad_scale, int n_threads):
    """s += 1;  d = ±grad_scale·g;  d += weight_decay·p or, decoupled, p *= 1 − lr·weight_decay;  m = β₁m + (1 − β₁)d;
    v = β₂v + (1 − β₂)d²;  p −= lr/(1 − β₁ˢ) · m / (√v/√(1 − β₂ˢ) + eps).

    Steps s are 0-d float32 arrays. With max_exp_avg_sqs_out (else an empty list) the largest v so far stands under the
    root."""
    cdef Job job
    job.lr, job.beta1, job.beta2, job.eps, job.sums = lr, beta1, beta2, eps, NULL
    job.sign = -grad_scale if maximize else grad_scale
    job.decay = 0 if decoupled else weight_decay
    job.keep = 1 - lr * weight_decay if decoupled else 1
    job.update[0], job.update[1] = <Update> adam[double], <Update> adam[float]
    run((params_out, grads, exp_avgs_out, exp_avg_sqs_out, max_exp_avg_sqs_out), &job, steps_out, 5, n_threads)
