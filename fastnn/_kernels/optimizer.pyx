"""Optimizer steps: one call updates all parameters of a group; and what clipping needs of their gradients.

Every element is read and written once, so bandwidth is the limit: a float32 parameter takes 12 bytes, and 8 for every
array of its state (SGD with momentum 20, Adam 28, with amsgrad 36). To share out many small parameters beside few large
ones evenly, they are laid, on paper, end to end, each padded to a multiple of 64 elements, and this line is cut every
CHUNK elements. Any memory order serves that a parameter, its gradient and its state have in common. A loop loads all
operands before it stores: a load that follows a store to the same place of another page waits for it (measured: 1.6
times slower). Scalars are formed in double and rounded once to the parameter's dtype, as in PyTorch; both dtypes may
occur in a call.

The optimizers are a table in optimizer.h: a formula for one element, and one that makes its scalars from the options
and from the numbers, such as the count of steps, that each parameter has. All kernels take parameters; gradients;
states_out, a list of arrays for each state, empty if it is not kept; numbers_out, lists of 0-d float32 arrays; options;
and direction, (weight_decay, maximize, l1, grad_scale), which stands for d = ±grad_scale·gradient + weight_decay·p +
l1·sign(p). A decay and l1 of 0 cost nothing.

The norm of gradients is formed in double, chunk by chunk of the line, and the chunks are merged in order. Its factor
may be handed to a step as `grad_scale`, so that clipping reads the gradients once more and never writes them."""
cimport numpy as cnp
from cython cimport binding, floating
from libc.math cimport fabs, sqrt
from libc.string cimport memcmp, memcpy, memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "optimizer.h" nogil:
    ctypedef struct OptRule:
        const char* name
        const char* about
        void (*scalars)(const double* options, double* numbers, double* c) noexcept nogil
        int needs, may  # bits of states
    const OptRule* opt_rules
    enum: OPT_STEPS, OPT_scale, OPT_clamp, MOST
    void opt_step(const void* kind, int rule, int states, const Bytes* data, Py_ssize_t lo, Py_ssize_t n,
                  const double* scalars)  # a macro, which chooses by the type of kind

cdef enum:
    LANES = 16  # partial sums
    COMMON = 3  # scalars that all rules have
    NUMBERS = 3  # a parameter's own numbers, at most
    OPTIONS = 6  # of an optimizer, at most

cdef enum:  # norms: none, Σ g², max |g|
    NONE, SQUARES, LARGEST

cdef struct Slot:  # one parameter
    Bytes data[5]  # itself, its gradient, up to three arrays of state
    Py_ssize_t size, start  # start: its place in the line
    bint single
    int states  # bits: which arrays of state there are
    float* numbers[NUMBERS]
    double[MOST] scalars

cdef struct Job:
    Slot* slots
    Py_ssize_t n_slots
    int rule
    double[OPTIONS] options
    double[COMMON] common  # scalars
    int norm
    double* sums  # of the chunks, for the norm


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


cdef void update(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind) noexcept nogil:
    """n elements from lo on; `kind` is as Unit's."""
    if job.norm == NONE:
        opt_step(kind, job.rule, s.states, s.data, lo, n, s.scalars)
    elif job.norm == SQUARES:
        norm_loop(job, s, lo, n, kind, False)
    else:
        norm_loop(job, s, lo, n, kind, True)


cdef void update_chunk(const Job* job, Py_ssize_t i, void* kind) noexcept nogil:
    """Update the elements i·CHUNK, …, (i + 1)·CHUNK − 1 of the line."""
    cdef const Slot* slot
    cdef Py_ssize_t k, lo, hi
    for k in range(job.n_slots):
        slot = &job.slots[k]
        lo, hi = max(<Py_ssize_t> 0, i * CHUNK - slot.start), min(slot.size, (i + 1) * CHUNK - slot.start)
        if lo < hi and slot.single:
            update(job, slot, lo, hi - lo, <float*> NULL)
        elif lo < hi:
            update(job, slot, lo, hi - lo, <double*> NULL)


cdef double run(tuple columns, tuple numbers, Job* job, int n_threads) except? -1:
    """Check the arrays and run the job. `columns`: parameters, gradients, lists of state; `numbers`: lists of the
    parameters' numbers. Returns the sum or maximum, if a norm is wanted."""
    cdef Py_ssize_t i, column, length = 0, work = 1
    cdef cnp.ndarray a, p
    cdef double total = 0
    cdef Slot* slot
    cdef const OptRule* rule = &opt_rules[job.rule]
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
            slot.data[1] = p.data  # if there is no gradient beside it
            length += parts(slot.size, 64) * 64  # threads share no cache line
            for column in range(len(columns)):
                if columns[column]:
                    a = <cnp.ndarray?> columns[column][i]
                    check_same(p, a)
                    if column != 1 and job.norm == NONE and not cnp.PyArray_ISWRITEABLE(a):
                        raise ValueError("kernel: a parameter or its state is read-only")
                    slot.data[column] = a.data
                    slot.states |= 1 << column >> 2
            for column in range(len(numbers)):
                a = <cnp.ndarray?> numbers[column][i]
                if cnp.PyArray_TYPE(a) != cnp.NPY_FLOAT32 or a.ndim != 0 or not cnp.PyArray_ISBEHAVED(a):
                    raise ValueError("kernel: a parameter's numbers are writeable 0-d float32 arrays")
                slot.numbers[column] = <float*> a.data
            if rule.needs & ~slot.states or slot.states & ~rule.may:
                raise ValueError("kernel: states are missing, or too many")
        make_scalars(job, len(numbers))
        if job.norm != NONE:
            job.sums = <double*> scratch_acquire(parts(length, CHUNK) * sizeof(double))
            memset(job.sums, 0, parts(length, CHUNK) * sizeof(double))
        with nogil:
            share(<Unit> update_chunk, job, parts(length, CHUNK), threads_for(work * length // STREAM, n_threads))
        if job.norm != NONE:
            for i in range(parts(length, CHUNK)):
                total = merge(job.norm == LARGEST, total, job.sums[i])
            scratch_release(job.sums)
    finally:
        scratch_release(job.slots)
    return total


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
            opt_rules[job.rule].scalars(job.options, after, c + COMMON)
        memcpy(job.slots[i].scalars, c, sizeof(c))
        for k in range(n_numbers):
            job.slots[i].numbers[k][0] = <float> after[k]


cdef double step(int rule, tuple columns, list numbers, list options, tuple direction, int n_threads,
                 int norm=NONE) except? -1:
    """Update by the rule or, unless NONE, form the norm."""
    cdef Job job
    cdef Py_ssize_t i
    job.rule, job.norm = rule, norm
    for i in range(OPTIONS):
        job.options[i] = options[i] if i < len(options) else 0
    job.common[0] = -<double> direction[3] if direction[1] else <double> direction[3]
    job.common[1], job.common[2] = direction[0], direction[2]
    return run(columns, tuple(numbers), &job, n_threads)


def grad_norm(list grads, bint largest, cnp.ndarray norm_out, int n_threads):
    """norm = √Σ g² over all elements of all gradients, or `largest`: max |g|. float64, 0-d."""
    cdef double norm
    if cnp.PyArray_TYPE(norm_out) != cnp.NPY_FLOAT64 or norm_out.ndim != 0 or not cnp.PyArray_ISBEHAVED(norm_out):
        raise ValueError("kernel: the norm needs a writeable 0-d float64 array")
    norm = step(OPT_scale, (grads,), [], [], (0, False, 0, 1), n_threads, LARGEST if largest else SQUARES)
    (<double*> norm_out.data)[0] = norm if largest else sqrt(norm)


def grad_scale(list grads_out, double factor, int n_threads):
    """g = g·factor."""
    step(OPT_scale, (grads_out,), [], [factor], (0, False, 0, 1), n_threads)


def grad_clamp(list grads_out, double limit, int n_threads):
    """g limited to [−limit, limit]; limit >= 0, NaN stays."""
    step(OPT_clamp, (grads_out,), [], [limit], (0, False, 0, 1), n_threads)


@binding(True)  # its functions get names and docstrings
def _make(int rule):
    """The kernel of a row of the table."""
    def kernel(list params_out not None, list grads not None, list states_out not None, list numbers_out not None,
               list options not None, tuple direction not None, int n_threads):
        step(rule, (params_out, grads, *states_out), numbers_out, options, direction, n_threads)

    kernel.__name__ = kernel.__qualname__ = opt_rules[rule].name.decode()
    kernel.__doc__ = opt_rules[rule].about.decode()
    globals()[kernel.__name__] = kernel


for _rule in range(OPT_STEPS):
    _make(_rule)
