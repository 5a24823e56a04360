"""Optimizer steps: one call updates all parameters of a group; and what clipping needs of their gradients.

Every element is read and written once, so bandwidth is the limit: a float32 parameter takes 12 bytes, and 8 for every
array of its state (SGD with momentum 20, Adam 28, with amsgrad 36). To share out many small parameters beside few large
ones evenly, they are laid, on paper, end to end, each padded to a multiple of 64 elements, and this line is cut every
CHUNK elements. Any memory order serves that a parameter, its gradient and its state have in common. A loop loads all
operands before it stores: a load that follows a store to the same place of another page waits for it (measured: 1.6
times slower). Scalars are formed in double and rounded once to the parameter's dtype, as in PyTorch; both dtypes may
occur in a call.

An optimizer is a formula for one element in optimizer.h, a function here that makes the scalars of the formula from the
options and the numbers, such as the count of steps, that each parameter has, and a `def` that names both. All steps use
d = ±grad_scale·gradient + weight_decay·p + l1·sign(p), with − to `maximize`; no decay or l1, no cost.

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


cdef int run(tuple columns, int optional, tuple numbers, Job* job, int n_threads) except -1:
    """Check the arrays and run the job. `columns`: parameters, gradients, lists of state; `optional`: bits of those
    states whose list may be empty; `numbers`: lists of the parameters' numbers."""
    cdef Py_ssize_t i, column, length = 0, work = 1
    cdef cnp.ndarray a, p
    cdef double total = 0
    cdef Slot* slot
    columns, numbers = tuple(map(tuple, columns)), tuple(map(tuple, numbers))  # keeps the arrays alive, whatever
    job.n_slots = len(columns[0])                                               # becomes of the lists
    for i, column_ in enumerate(columns + numbers):
        work += len(column_) > 0
        if len(column_) != job.n_slots and (column_ or not 1 << i >> 2 & optional):
            raise ValueError(f"kernel: {job.n_slots} parameters came with {len(column_)} gradients, states or numbers")
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
    cdef double[NUMBERS] before, now, after
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
    run((grads,), 0, (), &job, n_threads)
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
    run((grads_out,), 0, (), &job, n_threads)


def grad_clamp(list grads_out, double limit, int n_threads):
    """g limited to [−limit, limit]; limit >= 0, NaN stays."""
    cdef Job job
    job.largest, job.sums, job.scalars, job.factor = True, NULL, NULL, limit
    job.update[0], job.update[1] = <Update> clip[double], <Update> clip[float]
    run((grads_out,), 0, (), &job, n_threads)


cdef void update_by_rule(const Job* job, const Slot* s, Py_ssize_t lo, Py_ssize_t n, floating* kind) noexcept nogil:
    opt_step(kind, job.rule, s.states, s.data, lo, n, s.scalars)


cdef int step(int rule, Scalars scalars, const double* options, tuple columns, int optional, tuple numbers,
              double weight_decay, double l1, bint maximize, double grad_scale, int n_threads) except -1:
    cdef Job job
    job.rule, job.scalars, job.options, job.sums = rule, scalars, options, NULL
    job.common[0], job.common[1], job.common[2] = -grad_scale if maximize else grad_scale, weight_decay, l1
    job.update[0], job.update[1] = <Update> update_by_rule[double], <Update> update_by_rule[float]
    return run(columns, optional, numbers, &job, n_threads)


cdef void sgd(const double* o, double* numbers, double* c) noexcept nogil:
    c[0], c[1], c[2], c[3], c[4] = o[0], o[1], 1 - o[2], o[3], numbers[0] == 0


def sgd_step(list params_out, list grads, list momentum_buffers_out, list steps, double lr, double momentum,
             double dampening, double weight_decay, bint nesterov, bint maximize, double l1, double grad_scale,
             int n_threads):
    """b = momentum·b + (1 − dampening)·d, or d where the parameter's steps so far are 0;  p −= lr·(b, or d +
    momentum·b).  Without buffers (an empty list) p −= lr·d."""
    cdef double[4] options = [lr, momentum, dampening, nesterov]
    step(SGD, sgd, options, (params_out, grads, momentum_buffers_out), 1, (steps,), weight_decay, l1, maximize,
         grad_scale, n_threads)


cdef void adagrad(const double* o, double* numbers, double* c) noexcept nogil:
    numbers[0] += 1
    c[0], c[1] = o[0] / (1 + (numbers[0] - 1) * o[1]), o[2]


def adagrad_step(list params_out, list grads, list sums_out, list steps_out, double lr, double lr_decay,
                 double weight_decay, double eps, bint maximize, double l1, double grad_scale, int n_threads):
    """s += 1;  sum += d²;  p −= lr/(1 + (s − 1)·lr_decay) · d / (√sum + eps)."""
    cdef double[3] options = [lr, lr_decay, eps]
    step(ADAGRAD, adagrad, options, (params_out, grads, sums_out), 0, (steps_out,), weight_decay, l1, maximize,
         grad_scale, n_threads)


cdef void adadelta(const double* o, double* numbers, double* c) noexcept nogil:
    numbers[0] += 1
    c[0], c[1], c[2], c[3] = o[0], o[1], 1 - o[1], o[2]


def adadelta_step(list params_out, list grads, list square_avgs_out, list acc_deltas_out, list steps_out, double lr,
                  double rho, double eps, double weight_decay, bint maximize, double l1, double grad_scale,
                  int n_threads):
    """s += 1;  v = rho·v + (1 − rho)·d²;  δ = √(a + eps)/√(v + eps) · d;  a = rho·a + (1 − rho)·δ²;  p −= lr·δ."""
    cdef double[3] options = [lr, rho, eps]
    step(ADADELTA, adadelta, options, (params_out, grads, square_avgs_out, acc_deltas_out), 0, (steps_out,),
         weight_decay, l1, maximize, grad_scale, n_threads)


cdef void rmsprop(const double* o, double* numbers, double* c) noexcept nogil:
    numbers[0] += 1
    c[0], c[1], c[2], c[3], c[4] = o[0], o[1], 1 - o[1], o[2], o[3]


def rmsprop_step(list params_out, list grads, list square_avgs_out, list grad_avgs_out, list momentum_buffers_out,
                 list steps_out, double lr, double alpha, double eps, double weight_decay, double momentum,
                 bint maximize, double l1, double grad_scale, int n_threads):
    """s += 1;  v = alpha·v + (1 − alpha)·d²;  u = d / (√v + eps);  p −= lr·u.

    With averages m = alpha·m + (1 − alpha)·d, max(v − m², 0) stands under the root; with buffers b = momentum·b + u
    takes the place of u; else these lists are empty."""
    cdef double[4] options = [lr, alpha, eps, momentum]
    step(RMSPROP, rmsprop, options, (params_out, grads, square_avgs_out, grad_avgs_out, momentum_buffers_out), 6,
         (steps_out,), weight_decay, l1, maximize, grad_scale, n_threads)


cdef inline void moments(const double* o, double* numbers, double* c) noexcept nogil:
    """What Adam and its kin share, of options that begin with lr, beta1, beta2, eps, decoupled decay."""
    numbers[0] += 1
    c[0], c[1], c[2], c[3] = 1 - o[1], o[2], 1 - o[2], o[0] / (1 - pow(o[1], numbers[0]))
    c[4], c[5], c[6] = 1 / sqrt(1 - pow(o[2], numbers[0])), o[3], 1 - o[0] * o[4]


def adam_step(list params_out, list grads, list exp_avgs_out, list exp_avg_sqs_out, list max_exp_avg_sqs_out,
              list steps_out, double lr, tuple betas, double eps, double weight_decay, bint decoupled_weight_decay,
              bint maximize, double l1, double grad_scale, int n_threads):
    """s += 1;  m = β₁m + (1 − β₁)d;  v = β₂v + (1 − β₂)d²;  p −= lr/(1 − β₁ˢ) · m / (√v/√(1 − β₂ˢ) + eps).

    Decoupled, p *= 1 − lr·weight_decay takes the place of the decay in d. With max_exp_avg_sqs_out (else an empty list)
    the largest v so far stands under the root."""
    cdef double[5] options = [lr, betas[0], betas[1], eps, weight_decay if decoupled_weight_decay else 0]
    step(ADAM, moments, options, (params_out, grads, exp_avgs_out, exp_avg_sqs_out, max_exp_avg_sqs_out), 4,
         (steps_out,), 0 if decoupled_weight_decay else weight_decay, l1, maximize, grad_scale, n_threads)


def adamax_step(list params_out, list grads, list exp_avgs_out, list exp_infs_out, list steps_out, double lr,
                tuple betas, double eps, double weight_decay, bint maximize, double l1, double grad_scale,
                int n_threads):
    """s += 1;  m = β₁m + (1 − β₁)d;  u = max(β₂u, |d| + eps);  p −= lr/(1 − β₁ˢ) · m/u."""
    cdef double[5] options = [lr, betas[0], betas[1], eps, 0]
    step(ADAMAX, moments, options, (params_out, grads, exp_avgs_out, exp_infs_out), 0, (steps_out,), weight_decay, l1,
         maximize, grad_scale, n_threads)


cdef void nadam(const double* o, double* numbers, double* c) noexcept nogil:
    cdef double mu, after
    moments(o, numbers, c)
    mu = o[1] * (1 - 0.5 * pow(0.96, numbers[0] * o[5]))
    after = o[1] * (1 - 0.5 * pow(0.96, (numbers[0] + 1) * o[5]))
    numbers[1] = <float> numbers[1] * <float> mu
    c[3], c[7] = o[0] * after / (1 - numbers[1] * after), o[0] * (1 - mu) / (1 - numbers[1])


def nadam_step(list params_out, list grads, list exp_avgs_out, list exp_avg_sqs_out, list steps_out,
               list mu_products_out, double lr, tuple betas, double eps, double weight_decay, double momentum_decay,
               bint decoupled_weight_decay, bint maximize, double l1, double grad_scale, int n_threads):
    """s += 1;  μ = β₁(1 − 0.96^(s·momentum_decay)/2), μ' likewise for s + 1;  P *= μ;  m and v as Adam's;
    p −= lr·((1 − μ)/(1 − P)·d + μ'/(1 − P·μ')·m) / (√v/√(1 − β₂ˢ) + eps). Decoupled decay as Adam's."""
    cdef double[6] options = [lr, betas[0], betas[1], eps, weight_decay if decoupled_weight_decay else 0,
                              momentum_decay]
    step(NADAM, nadam, options, (params_out, grads, exp_avgs_out, exp_avg_sqs_out), 0, (steps_out, mu_products_out),
         0 if decoupled_weight_decay else weight_decay, l1, maximize, grad_scale, n_threads)


cdef void radam(const double* o, double* numbers, double* c) noexcept nogil:
    cdef double limit = 2 / (1 - o[2]) - 1, power = pow(o[2], numbers[0] + 1)
    cdef double length = limit - 2 * (numbers[0] + 1) * power / (1 - power)
    moments(o, numbers, c)
    c[4] = length > 5
    if length > 5:
        c[3] *= sqrt((1 - power) * (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))


def radam_step(list params_out, list grads, list exp_avgs_out, list exp_avg_sqs_out, list steps_out, double lr,
               tuple betas, double eps, double weight_decay, bint decoupled_weight_decay, bint maximize, double l1,
               double grad_scale, int n_threads):
    """s += 1;  m and v as Adam's;  ρ∞ = 2/(1 − β₂) − 1;  ρ = ρ∞ − 2s·β₂ˢ/(1 − β₂ˢ);  p −= lr/(1 − β₁ˢ) · m or, if
    ρ > 5, that times √((1 − β₂ˢ)·(ρ − 4)(ρ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρ)) / (√v + eps). Decoupled decay as Adam's."""
    cdef double[5] options = [lr, betas[0], betas[1], eps, weight_decay if decoupled_weight_decay else 0]
    step(RADAM, radam, options, (params_out, grads, exp_avgs_out, exp_avg_sqs_out), 0, (steps_out,),
         0 if decoupled_weight_decay else weight_decay, l1, maximize, grad_scale, n_threads)


cdef void rprop(const double* o, double* numbers, double* c) noexcept nogil:
    numbers[0] += 1
    c[0], c[1], c[2], c[3] = o[0], o[1], o[2], o[3]


def rprop_step(list params_out, list grads, list prevs_out, list step_sizes_out, list steps_out, tuple etas,
               tuple step_sizes, bint maximize, double l1, double grad_scale, int n_threads):
    """s += 1;  z, kept within step_sizes, is multiplied by etas[0], and d = 0, where d has not the sign of the one
    before, by etas[1] where it has, neither being 0;  p −= z·sign(d)."""
    cdef double[4] options = [etas[0], etas[1], step_sizes[0], step_sizes[1]]
    step(RPROP, rprop, options, (params_out, grads, prevs_out, step_sizes_out), 0, (steps_out,), 0, l1, maximize,
         grad_scale, n_threads)


cdef void asgd(const double* o, double* numbers, double* c) noexcept nogil:
    c[0], c[1], c[2] = 1 - o[1] * numbers[1], numbers[1], numbers[2]
    numbers[0] += 1
    numbers[1], numbers[2] = o[0] / pow(1 + o[1] * o[0] * numbers[0], o[2]), 1 / max(1.0, numbers[0] - o[3])


def asgd_step(list params_out, list grads, list axs_out, list steps_out, list etas_out, list mus_out, double lr,
              double lambd, double alpha, double t0, double weight_decay, bint maximize, double l1, double grad_scale,
              int n_threads):
    """p = (1 − lambd·eta)·p − eta·d;  ax += mu·(p − ax);  s += 1;  eta = lr/(1 + lambd·lr·s)^alpha;
    mu = 1/max(1, s − t0)."""
    cdef double[4] options = [lr, lambd, alpha, t0]
    step(ASGD, asgd, options, (params_out, grads, axs_out), 0, (steps_out, etas_out, mus_out), weight_decay, l1,
         maximize, grad_scale, n_threads)
