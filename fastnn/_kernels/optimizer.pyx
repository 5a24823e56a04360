"""Optimizer steps: one call updates all parameters of a group.

Every element is read and written once, so bandwidth is the limit: 12 bytes a float32 parameter for plain SGD, 20 with
momentum, 28 for Adam, 36 with amsgrad. To share out many small parameters beside few large ones evenly, they are laid,
on paper, end to end, each padded to a multiple of 64 elements, and this line is cut every CHUNK elements. Any memory
order serves that a parameter, its gradient and its state have in common. A loop loads all operands before it stores: a
load that follows a store to the same place of another page waits for it (measured: 1.6 times slower). Scalars are
formed in double and rounded once to the parameter's dtype, as in PyTorch; both dtypes may occur in a call."""
cimport numpy as cnp
from cython cimport floating
from libc.math cimport pow, sqrt, sqrtf
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef struct Slot:  # one parameter
    Bytes data[5]  # itself, its gradient, up to three arrays of state
    Py_ssize_t size, start  # start: its place in the line
    bint single

ctypedef void (*Update)(const Job*, const Slot*, Py_ssize_t, Py_ssize_t, void*) noexcept nogil

cdef struct Job:
    Update[2] update  # of n elements from lo on, for double and float; the last argument is as Unit's
    Slot* slots
    Py_ssize_t n_slots
    double lr, momentum, damp, beta1, beta2, eps, decay, keep, scale, sign
    bint nesterov, first


cdef void update_chunk(const Job* job, Py_ssize_t i, void* kind) noexcept nogil:
    """Update the elements i·CHUNK, …, (i + 1)·CHUNK − 1 of the line."""
    cdef const Slot* slot
    cdef Py_ssize_t k, lo, hi
    for k in range(job.n_slots):
        slot = &job.slots[k]
        lo, hi = max(<Py_ssize_t> 0, i * CHUNK - slot.start), min(slot.size, (i + 1) * CHUNK - slot.start)
        if lo < hi:
            job.update[slot.single](job, slot, lo, hi - lo, NULL)


cdef int run(tuple columns, Job* job, int n_threads) except -1:
    """Check the arrays and run the job. `columns`: parameters, gradients, lists of state, the last one maybe empty."""
    cdef Py_ssize_t i, column, length = 0
    cdef cnp.ndarray a, p
    cdef Slot* slot
    columns = tuple(map(tuple, columns))  # keeps the arrays alive, whatever becomes of the lists
    job.n_slots = len(columns[0])
    for i in range(1, len(columns)):
        if len(columns[i]) != job.n_slots and (columns[i] or i < len(columns) - 1):
            raise ValueError(f"kernel: {job.n_slots} parameters came with {len(columns[i])} gradients or states")
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
                    if column != 1 and not cnp.PyArray_ISWRITEABLE(a):
                        raise ValueError("kernel: a parameter or its state is read-only")
                    slot.data[column] = a.data
            slot.size, slot.start, slot.single = p.size, length, is_f32(p)
            length += parts(slot.size, 64) * 64  # threads share no cache line
        with nogil:
            share(<Unit> update_chunk, job, parts(length, CHUNK), threads_for(3 * length, n_threads))
    finally:
        scratch_release(job.slots)
    return 0


cdef void sgd(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind) noexcept nogil:
    cdef floating* p = <floating*> s.data[0] + lo
    cdef const floating* g = <const floating*> s.data[1] + lo
    cdef floating* b = <floating*> s.data[2] + (lo if s.data[2] != NULL else 0)
    cdef floating mu = <floating> job.momentum, damp = <floating> job.damp, decay = <floating> job.decay
    cdef floating lr = <floating> job.lr, sign = <floating> job.sign, d, value, buffer
    cdef bint decays = decay != 0, nesterov = job.nesterov, first = job.first
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
             double weight_decay, bint nesterov, bint maximize, bint first, int n_threads):
    """d = ±g + weight_decay·p;  b = momentum·b + (1 − dampening)·d, or d at first;  p −= lr·(b, or d + momentum·b).

    Without buffers (an empty list) p −= lr·d."""
    cdef Job job
    job.lr, job.momentum, job.damp, job.decay = lr, momentum, 1 - dampening, weight_decay
    job.sign, job.nesterov, job.first = -1 if maximize else 1, nesterov, first
    job.update[0], job.update[1] = <Update> sgd[double], <Update> sgd[float]
    run((params_out, grads, momentum_buffers_out), &job, n_threads)


cdef inline void adam_loop(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind,
                           bint amsgrad) noexcept nogil:
    cdef floating* p = <floating*> s.data[0] + lo
    cdef const floating* g = <const floating*> s.data[1] + lo
    cdef floating* m = <floating*> s.data[2] + lo
    cdef floating* v = <floating*> s.data[3] + lo
    cdef floating* x = <floating*> s.data[4] + (lo if amsgrad else 0)
    cdef floating w1 = <floating> (1 - job.beta1), b2 = <floating> job.beta2, w2 = <floating> (1 - job.beta2)
    cdef floating lr = <floating> job.lr, eps = <floating> job.eps, scale = <floating> job.scale
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
              double step, double lr, double beta1, double beta2, double eps, double weight_decay, bint decoupled,
              bint maximize, int n_threads):
    """d = ±g;  d += weight_decay·p or, decoupled, p *= 1 − lr·weight_decay;  m = β₁m + (1 − β₁)d;
    v = β₂v + (1 − β₂)d²;  p −= lr/(1 − β₁ˢ) · m / (√v/√(1 − β₂ˢ) + eps) in step s = 1, 2, …

    With max_exp_avg_sqs_out (else an empty list) the largest v so far stands under the root."""
    cdef Job job
    job.lr, job.beta1, job.beta2, job.eps = lr / (1 - pow(beta1, step)), beta1, beta2, eps
    job.scale, job.sign = 1 / sqrt(1 - pow(beta2, step)), -1 if maximize else 1
    job.decay = 0 if decoupled else weight_decay
    job.keep = 1 - lr * weight_decay if decoupled else 1
    job.update[0], job.update[1] = <Update> adam[double], <Update> adam[float]
    run((params_out, grads, exp_avgs_out, exp_avg_sqs_out, max_exp_avg_sqs_out), &job, n_threads)
