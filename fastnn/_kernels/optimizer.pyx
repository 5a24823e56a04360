"""Optimizer steps: one call updates all parameters of a group; and what clipping needs of their gradients.

Every element is read and written once, so bandwidth is the limit: a float32 parameter takes 12 bytes, and 8 for every
array of its state (SGD with momentum 20, Adam 28, with amsgrad 36). To share out many small parameters beside few large
ones evenly, they are laid, on paper, end to end, each padded to a multiple of 64 elements, and this line is cut every
CHUNK elements. Any memory order serves that a parameter, its gradient and its state have in common. A loop loads all
operands before it stores: a load that follows a store to the same place of another page waits for it (measured: 1.6
times slower). Scalars are formed in double and rounded once to the parameter's dtype, as in PyTorch; both dtypes may
occur in a call.

An optimizer is a formula for one element in optimizer.h, a function here that makes the formula's scalars from the
options and from the numbers, such as the count of steps, that each parameter has, and a `def` that names both. All
`def`s take parameters; gradients; states_out, a list of arrays for each state, empty if it is not kept; numbers_out,
lists of 0-d float32 arrays; options; and direction, (weight_decay, maximize, l1, grad_scale), which stands for
d = ±grad_scale·gradient + weight_decay·p + l1·sign(p). A decay or l1 of 0 costs nothing.

The norm of gradients is formed in double, chunk by chunk of the line, and the chunks are merged in order. Its factor
may be handed to a step as `grad_scale`, so that clipping reads the gradients once more and never writes them."""
cimport numpy as cnp
from cython cimport floating
from libc.math cimport fabs, pow, sqrt
from libc.string cimport memcmp, memcpy, memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "optimizer.h" nogil:
    enum: SGD, ADAGRAD, ADADELTA, RMSPROP, ADAM, ADAMAX, NADAM, RADAM, RPROP, ASGD, MOST
    void opt_step(const void* kind, int rule, int states, const Bytes* data, Py_ssize_t lo, Py_ssize_t n,
                  const double* scalars)  # a macro, which chooses by the type of kind

cdef enum:
    LANES = 16  # partial sums
    COMMON = 3  # scalars that all rules have
    NUMBERS = 3  # a parameter's own numbers, at most
    OPTIONS = 6  # of an optimizer, at most

cdef struct Slot:  # one parameter
    Bytes data[5]  # itself, its gradient, up to three arrays of state
    Py_ssize_t size, start  # start: its place in the line
    bint single
    int states  # bits: which arrays of state there are
    float* numbers[NUMBERS]
    double[MOST] scalars

ctypedef void (*Update)(const Job*, const Slot*, Py_ssize_t, Py_ssize_t, void*) noexcept nogil
ctypedef void (*Scalars)(const double* options, double* numbers, double* c) noexcept nogil

cdef struct Job:
    Update[2] update  # of n elements from lo on, for double and float; the last argument is as Unit's
    Slot* slots
    Py_ssize_t n_slots
    int rule
    Scalars scalars
    const double* options
    double[COMMON] common  # scalars
    double factor
    bint largest
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


cdef int run(tuple columns, tuple numbers, int needs, int may, Job* job, int n_threads) except -1:
    """Check the arrays and run the job. `columns`: parameters, gradients, lists of state; `numbers`: lists of the
    parameters' numbers; bits of the states that it needs, and may have."""
    cdef Py_ssize_t i, column, length = 0, work = 1
    cdef cnp.ndarray a, p
    cdef double total = 0
    cdef Slot* slot
    columns, numbers = tuple([tuple(c) for c in columns]), tuple([tuple(c) for c in numbers])  # keep arrays alive
    job.n_slots = len(columns[0])
    if len(columns) > 5 or len(numbers) > NUMBERS:
        raise ValueError("kernel: too many lists of states or numbers")
    for i, values in enumerate(columns + numbers):
        work += i < len(columns) and len(values) > 0
        if len(values) != job.n_slots and (values or not 2 <= i < len(columns)):
            raise ValueError(f"kernel: {job.n_slots} parameters came with {len(values)} gradients, states or numbers")
    job.slots = <Slot*> scratch_acquire((job.n_slots + 1) * sizeof(Slot))
    try:
        for i in range(job.n_slots):
            slot, p = &job.slots[i], <cnp.ndarray?> columns[0][i]
            check_float(p)
            if not is_packed(p):
                raise ValueError("kernel: a parameter has gaps in its memory")
            slot.size, slot.start, slot.single, slot.states = p.size, length, is_f32(p), 0
            length += parts(slot.size, 64) * 64  # threads share no cache line
            for column in range(len(columns)):
                if columns[column]:
                    a = <cnp.ndarray?> columns[column][i]
                    check_same(p, a)
                    if column != 1 and job.sums == NULL and not cnp.PyArray_ISWRITEABLE(a):
                        raise ValueError("kernel: a parameter or its state is read-only")
                    slot.data[column] = a.data
                    slot.states |= 1 << column >> 2
            for column in range(len(numbers)):
                a = <cnp.ndarray?> numbers[column][i]
                if cnp.PyArray_TYPE(a) != cnp.NPY_FLOAT32 or a.ndim != 0 or not cnp.PyArray_ISBEHAVED(a):
                    raise ValueError("kernel: a parameter's numbers are writeable 0-d float32 arrays")
                slot.numbers[column] = <float*> a.data
            if needs & ~slot.states or slot.states & ~may:
                raise ValueError("kernel: states are missing, or too many")
        if job.scalars != NULL:
            make_scalars(job, len(numbers))
        if job.sums != NULL:
            job.sums = <double*> scratch_acquire(parts(length, CHUNK) * sizeof(double))
            memset(job.sums, 0, parts(length, CHUNK) * sizeof(double))
        with nogil:
            share(<Unit> update_chunk, job, parts(length, CHUNK), threads_for(work * length // STREAM, n_threads))
        if job.sums != NULL:
            for i in range(parts(length, CHUNK)):
                total = merge(job.largest, total, job.sums[i])
            scratch_release(job.sums)
            job.factor = total
    finally:
        scratch_release(job.slots)
    return 0


cdef void make_scalars(const Job* job, int n_numbers) noexcept nogil:
    """Of all parameters; most have the same numbers."""
    cdef double[NUMBERS] before = [0, 0, 0], now = [0, 0, 0], after = [0, 0, 0]
    cdef double[MOST] c
    cdef Py_ssize_t i
    cdef int k
    memcpy(c, job.common, sizeof(job.common))
    for i in range(job.n_slots):
        for k in range(n_numbers):
            now[k] = job.slots[i].numbers[k][0]
        if i == 0 or memcmp(before, now, n_numbers * sizeof(double)) != 0:
            memcpy(before, now, sizeof(now))
            memcpy(after, now, sizeof(now))
            job.scalars(job.options, after, c + COMMON)
        memcpy(job.slots[i].scalars, c, sizeof(c))
        for k in range(n_numbers):
            job.slots[i].numbers[k][0] = <float> after[k]


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
    job.largest, job.sums, job.scalars = largest, &here, NULL
    job.update[0], job.update[1] = <Update> norm[double], <Update> norm[float]
    run((grads,), (), 0, 0, &job, n_threads)
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
    job.largest, job.sums, job.scalars, job.factor = False, NULL, NULL, factor
    job.update[0], job.update[1] = <Update> clip[double], <Update> clip[float]
    run((grads_out,), (), 0, 0, &job, n_threads)


def grad_clamp(list grads_out, double limit, int n_threads):
    """g limited to [−limit, limit]; limit >= 0, NaN stays."""
    cdef Job job
    job.largest, job.sums, job.scalars, job.factor = True, NULL, NULL, limit
    job.update[0], job.update[1] = <Update> clip[double], <Update> clip[float]
    run((grads_out,), (), 0, 0, &job, n_threads)


cdef void update_by_rule(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind) noexcept nogil:
    opt_step(kind, job.rule, s.states, s.data, lo, n, s.scalars)


cdef int step(int rule, Scalars scalars, int needs, int may, list params, list grads, list states, list numbers,
              list options, tuple direction, int n_threads) except -1:
    cdef Job job
    cdef double[OPTIONS] o = [0, 0, 0, 0, 0, 0]
    cdef double sign = -1 if direction[1] else 1
    cdef Py_ssize_t i
    for i in range(min(len(options), <Py_ssize_t> OPTIONS)):
        o[i] = options[i]
    job.rule, job.scalars, job.options, job.sums = rule, scalars, o, NULL
    job.common[0], job.common[1], job.common[2] = sign * <double> direction[3], direction[0], direction[2]
    job.update[0], job.update[1] = <Update> update_by_rule[double], <Update> update_by_rule[float]
    return run((params, grads, *states), tuple(numbers), needs, may, &job, n_threads)


cdef void sgd(const double* o, double* numbers, double* c) noexcept nogil:
    c[0], c[1], c[2], c[3], c[4] = o[0], o[1], 1 - o[2], o[3], numbers[0] == 0


def sgd_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, momentum, dampening, nesterov; states: the buffer or none; numbers: steps so far, or at least whether any."""
    step(SGD, sgd, 0, 1, params_out, grads, states_out, numbers_out, options, direction, n_threads)


cdef void adagrad(const double* o, double* numbers, double* c) noexcept nogil:
    numbers[0] += 1
    c[0], c[1] = o[0] / (1 + (numbers[0] - 1) * o[1]), o[2]


def adagrad_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, lr_decay, eps; states: sum of squares; numbers: steps."""
    step(ADAGRAD, adagrad, 1, 1, params_out, grads, states_out, numbers_out, options, direction, n_threads)


cdef void average(const double* o, double* numbers, double* c) noexcept nogil:
    numbers[0] += 1
    c[0], c[1], c[2], c[3], c[4] = o[0], o[1], 1 - o[1], o[2], o[3]


def adadelta_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, rho, eps; states: averages of d² and of squared changes; numbers: steps."""
    step(ADADELTA, average, 3, 3, params_out, grads, states_out, numbers_out, options, direction, n_threads)


def rmsprop_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, alpha, eps, momentum; states: mean of d², if centered that of d, with momentum a buffer; numbers: steps."""
    step(RMSPROP, average, 1, 7, params_out, grads, states_out, numbers_out, options, direction, n_threads)


cdef inline void moments(const double* o, double* numbers, double* c) noexcept nogil:
    numbers[0] += 1
    c[0], c[1], c[2], c[3] = 1 - o[1], o[2], 1 - o[2], o[0] / (1 - pow(o[1], numbers[0]))
    c[4], c[5], c[6] = 1 / sqrt(1 - pow(o[2], numbers[0])), o[3], 1 - o[0] * o[4]


def adam_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, beta1, beta2, eps, decoupled decay; states: averages of d and d², for amsgrad the largest of those; numbers:
    steps."""
    step(ADAM, moments, 3, 7, params_out, grads, states_out, numbers_out, options, direction, n_threads)


def adamax_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, beta1, beta2, eps; states: average of d, and norm; numbers: steps."""
    step(ADAMAX, moments, 3, 3, params_out, grads, states_out, numbers_out, options, direction, n_threads)


cdef void nadam(const double* o, double* numbers, double* c) noexcept nogil:
    cdef double mu, after
    moments(o, numbers, c)
    mu = o[1] * (1 - 0.5 * pow(0.96, numbers[0] * o[5]))
    after = o[1] * (1 - 0.5 * pow(0.96, (numbers[0] + 1) * o[5]))
    numbers[1] = <float> numbers[1] * <float> mu  # as PyTorch keeps it
    c[3], c[7] = o[0] * after / (1 - numbers[1] * after), o[0] * (1 - mu) / (1 - numbers[1])


def nadam_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, beta1, beta2, eps, decoupled decay, momentum_decay; states: as Adam's; numbers: steps, product of all mu."""
    step(NADAM, nadam, 3, 3, params_out, grads, states_out, numbers_out, options, direction, n_threads)


cdef void radam(const double* o, double* numbers, double* c) noexcept nogil:
    cdef double limit = 2 / (1 - o[2]) - 1, power = pow(o[2], numbers[0] + 1)
    cdef double length = limit - 2 * (numbers[0] + 1) * power / (1 - power)
    moments(o, numbers, c)
    c[4] = length > 5
    if length > 5:
        c[3] *= sqrt((1 - power) * (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))


def radam_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, beta1, beta2, eps, decoupled decay; states: as Adam's; numbers: steps."""
    step(RADAM, radam, 3, 3, params_out, grads, states_out, numbers_out, options, direction, n_threads)


cdef void rprop(const double* o, double* numbers, double* c) noexcept nogil:
    numbers[0] += 1
    c[0], c[1], c[2], c[3] = o[0], o[1], o[2], o[3]


def rprop_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """Both etas, both step_sizes; states: d before, step sizes; numbers: steps."""
    step(RPROP, rprop, 3, 3, params_out, grads, states_out, numbers_out, options, direction, n_threads)


cdef void asgd(const double* o, double* numbers, double* c) noexcept nogil:
    c[0], c[1], c[2] = 1 - o[1] * numbers[1], numbers[1], numbers[2]
    numbers[0] += 1
    numbers[1], numbers[2] = o[0] / pow(1 + o[1] * o[0] * numbers[0], o[2]), 1 / max(1.0, numbers[0] - o[3])


def asgd_step(list params_out, list grads, list states_out, list numbers_out, options, direction, int n_threads):
    """lr, lambd, alpha, t0; states: average; numbers: steps, eta, mu."""
    step(ASGD, asgd, 1, 1, params_out, grads, states_out, numbers_out, options, direction, n_threads)
