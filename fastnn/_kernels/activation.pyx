"""Activations and their derivatives, element by element.

Memory is walked in the order in which it lies, whatever the shape, in chunks of fixed length shared out to the
threads. Each element is read and written once, and the bodies, a table of formulae in vmath.h, are branch-free, so
that the compiler vectorizes the loops: most are bound by bandwidth, the others by some twenty to forty multiply-adds an
element. The derivatives are had from the output where it suffices, as the next layer keeps that anyway. Where they are
0, that 0 is a number which the compiler does not know: else it reads dy under a mask, which waits for the output. Of
large arrays dy is fetched before.

PReLU has a slope a channel. Its caller repeats the slopes to some hundreds, so that inner loops are long however few
channels there are. Sums for their gradients run down such wide rows in each unit of work; the caller adds them up.

GLU has rows of two halves, [a, b]. A piece, or some short rows, of sigmoid(b) are had in one go, in a buffer."""
cimport numpy as cnp
from cython cimport binding, floating
from libc.string cimport memcpy
from fastnn._kernels.kernel cimport *
from fastnn._kernels.tile cimport prefetch

cnp.import_array()

cdef extern from "vmath.h" nogil:
    ctypedef struct VmRow:
        const char* name
        int[2] cost  # of an element, forward and backward, in halves of one streamed
        const char* formula[2]
    enum: BACKWARD
    enum: SIGMOID "VM_sigmoid"
    const VmRow* vm_activations
    void vm_apply(int op, const double* params, const void* dy, const void* x, void* out, Py_ssize_t n)  # by dy's type

cdef enum:
    PIECE = 512  # elements, few enough to be fetched before, or kept in the first-level cache
    FAR = 1 << 18  # elements that the second-level cache does not hold

cdef struct Job:
    int op
    double[4] params  # the last is 0
    Bytes dy, x, weight, out, sums  # no sums: NULL
    Py_ssize_t size, lanes, together  # numbers or rows in all, in a (wide) row, and in a unit


cdef void chunk(const Job* job, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t i = unit * job.together, n = min(job.together, job.size - i)
    cdef const floating* dy = <floating*> job.dy + i
    if job.together == PIECE:
        prefetch(dy, n * sizeof(floating))
    vm_apply(job.op, job.params, dy, <const floating*> job.x + i, <floating*> job.out + i, n)


cdef int run(int op, int cost, cnp.ndarray dy, cnp.ndarray x, tuple params, cnp.ndarray out, int n_threads) except -1:
    """Forward passes have x for dy."""
    check_order(x, True, True)
    check_same(x, dy)
    check_same(x, out)
    cdef Job job
    cdef int i
    if len(params) > 3:
        raise ValueError(f"kernel: an activation has up to three parameters, but {len(params)} came")
    for i in range(4):
        job.params[i] = params[i] if i < len(params) else 0
    job.op, job.dy, job.x, job.out, job.size = op, dy.data, x.data, out.data, x.size
    job.together = PIECE if op >= BACKWARD and job.size > FAR else CHUNK
    return start(<Unit> chunk[float], <Unit> chunk[double], x, &job, parts(job.size, job.together),
                 threads_for(cost * job.size // (2 * STREAM), n_threads))


@binding(True)  # its functions get names and docstrings
def _make(int op):
    """The kernels of a row of the table; `kept` is the output or, where dx is written in x, the input."""
    def forward(cnp.ndarray x not None, tuple params not None, cnp.ndarray y_out not None, int n_threads):
        run(op, vm_activations[op].cost[0], x, x, params, y_out, n_threads)

    def backward(cnp.ndarray dy not None, cnp.ndarray kept not None, tuple params not None,
                 cnp.ndarray dx_out not None, int n_threads):
        run(op + BACKWARD, vm_activations[op].cost[1], dy, kept, params, dx_out, n_threads)

    for i, (kernel, suffix, result) in enumerate(((forward, "", "y"), (backward, "_backward", "dx"))):
        kernel.__name__ = kernel.__qualname__ = vm_activations[op].name.decode() + suffix
        kernel.__doc__ = f"{result} = {vm_activations[op].formula[<int> i].decode()}; `params` are a, b, c, or 0."
        globals()[kernel.__name__] = kernel


for _op in range(BACKWARD):
    _make(_op)


cdef void walk(const Job* s, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t i = unit * s.together, end = min(s.size, i + s.together), j, n
    cdef const floating* w = <floating*> s.weight
    cdef const floating* x = <floating*> s.x
    cdef const floating* dy = <floating*> s.dy
    cdef floating* out = <floating*> s.out
    cdef floating* sum = <floating*> s.sums + unit * s.lanes
    cdef floating slope  # read in any case, or only masked loads would do it in vectors
    for j in range(s.lanes if s.sums != NULL else 0):
        sum[j] = 0
    while i < end:
        n = min(s.lanes, end - i)
        for j in range(n):
            slope = w[j]
            out[i + j] = dy[i + j] * (1 if x[i + j] > 0 else slope)
        for j in range(n if s.sums != NULL else 0):
            slope = x[i + j] * dy[i + j]
            sum[j] += 0 if x[i + j] > 0 else slope
        i += n


cdef int run_prelu(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray dy, cnp.ndarray out, cnp.ndarray sums,
                   int n_threads) except -1:
    """Forward passes have x for dy."""
    cdef Py_ssize_t lanes = max(weight.size, 1)
    cdef Py_ssize_t units = parts(x.size, CHUNK) if sums is None else sums.size // lanes
    check_order(x, True, True)
    check_vector(weight, lanes, x)
    check_same(x, dy)
    check_same(x, out)
    cdef Job s = Job(0, [0, 0, 0, 0], dy.data, x.data, weight.data, out.data, NULL, x.size, lanes,
                     parts(parts(x.size, lanes), max(units, 1)) * lanes)
    if sums is not None:
        check_vector(sums, units * lanes, x)
        s.sums = sums.data
    return start(<Unit> walk[float], <Unit> walk[double], x, &s, units, threads_for(x.size // STREAM, n_threads))


def prelu(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray y_out not None, int n_threads):
    """y = x where x > 0, else weight·x, the weights (L,) being repeated along memory."""
    run_prelu(x, weight, x, y_out, None, n_threads)


def prelu_backward(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray weight not None,
                   cnp.ndarray dx_out not None, cnp.ndarray sums_out not None, int n_threads):
    """dx = dy where x > 0, else weight·dy; sums (U·L,): Σ x·dy over x <= 0 for each weight, in each of U runs."""
    run_prelu(x, weight, dy, dx_out, sums_out, n_threads)


cdef void gate(const Job* job, Py_ssize_t unit, floating* kind) noexcept nogil:
    """Some whole rows, or a piece of one. What comes next is fetched while the processor is busy with these."""
    cdef floating sigmoid[PIECE]
    cdef Py_ssize_t D = job.lanes, cuts = parts(D, PIECE), row = unit // cuts * job.together, k, j
    cdef Py_ssize_t rows = min(job.together, job.size - row), begin = unit % cuts * PIECE
    cdef Py_ssize_t n = min(<Py_ssize_t> PIECE, D - begin), next = n if cuts > 1 else 2 * rows * n
    cdef const floating* a = <floating*> job.x + 2 * row * D + begin
    cdef const floating* dy = <floating*> job.dy + row * D + begin
    cdef const floating* s = sigmoid
    cdef Py_ssize_t step = 2 * D if job.op else D
    cdef floating* out = <floating*> job.out + row * step + begin
    for k in range(rows if rows > 1 else 0):
        memcpy(sigmoid + k * n, a + (2 * k + 1) * D, n * sizeof(floating))
    if job.size * D > FAR:
        prefetch(a + next, next * sizeof(floating))
        prefetch(a + next + D, n * sizeof(floating))
    vm_apply(SIGMOID, job.params, a, a + D if rows == 1 else s, sigmoid, rows * n)
    for k in range(rows):
        s = sigmoid + k * n
        for j in range(n if job.op else 0):
            out[j] = dy[j] * s[j]
            out[j + D] = dy[j] * a[j] * (s[j] * (1 - s[j]))
        for j in range(0 if job.op else n):
            out[j] = a[j] * s[j]
        a, dy, out = a + 2 * D, dy + D, out + step


cdef int run_glu(bint backward, cnp.ndarray half, cnp.ndarray x, cnp.ndarray out, int n_threads) except -1:
    """`half` is y or dy."""
    check_plain(x)
    check_plain(half)
    check_same(x if backward else half, out)
    if half.ndim != 2 or (<object> x).shape != (half.shape[0], 2 * half.shape[1]) or is_f32(x) != is_f32(half):
        raise ValueError("kernel: glu needs rows (R, 2·D) and (R, D) of one dtype")
    cdef Job job = Job(backward, [0, 0, 0, 0], half.data, x.data, NULL, out.data, NULL, half.shape[0], half.shape[1],
                       max(<Py_ssize_t> 1, PIECE // max(<Py_ssize_t> 1, half.shape[1])))
    return start(<Unit> gate[float], <Unit> gate[double], x, &job,
                 parts(job.size, job.together) * parts(job.lanes, PIECE), threads_for(2 * x.size // STREAM, n_threads))


def glu(cnp.ndarray x not None, cnp.ndarray y_out not None, int n_threads):
    """y = a·sigmoid(b); x (R, 2·D) being [a, b], y (R, D)."""
    run_glu(False, y_out, x, y_out, n_threads)


def glu_backward(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray dx_out not None, int n_threads):
    """dx = [dy·s, dy·a·s·(1 − s)], s being sigmoid(b)."""
    run_glu(True, dy, x, dx_out, n_threads)
