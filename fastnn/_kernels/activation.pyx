"""Activations and their derivatives, element by element.

Memory is walked in the order in which it lies, whatever the shape, in chunks of fixed length shared out to the
threads. Each element is read and written once, and the bodies, a table of formulae in vmath.h, are branch-free, so
that the compiler vectorizes the loops: most are bound by bandwidth, the others by some twenty to forty multiply-adds an
element. The derivatives are had from the output where it suffices, as the next layer keeps that anyway.

PReLU has a slope a channel. Rows of C adjacent channels are walked in wide rows, as many side by side as WIDE holds, so
that inner loops are long however few channels there are. The gradient of the slopes is summed down the wide rows of a
unit in the array's dtype, then over lanes and units in float64; the units depend on the shape alone."""
cimport numpy as cnp
from cython cimport floating
from libc.string cimport memcpy, memset
from fastnn._kernels.kernel cimport *

cnp.import_array()

cdef extern from "vmath.h" nogil:
    ctypedef struct VmRow:
        const char* name
        int[2] cost  # of an element, forward and backward, in halves of one streamed
        const char* formula[2]
    enum: BACKWARD
    const VmRow* vm_activations
    void vm_apply(int op, const double* params, const void* dy, const void* x, void* out, Py_ssize_t n)  # by dy's type

cdef struct Job:
    int op
    double[3] params
    Bytes dy, x, out
    Py_ssize_t size


cdef void chunk(const Job* job, Py_ssize_t i, floating* kind) noexcept nogil:
    vm_apply(job.op, job.params, <const floating*> job.dy + i * CHUNK, <const floating*> job.x + i * CHUNK,
             <floating*> job.out + i * CHUNK, min(<Py_ssize_t> CHUNK, job.size - i * CHUNK))


cdef int run(int op, int cost, cnp.ndarray dy, cnp.ndarray x, tuple params, cnp.ndarray out, int n_threads) except -1:
    """Forward passes have x for dy."""
    check_order(x, True, True)
    check_same(x, dy)
    check_same(x, out)
    cdef Job job
    cdef int i
    if len(params) > 3:
        raise ValueError(f"kernel: an activation has up to three parameters, but {len(params)} came")
    for i in range(3):
        job.params[i] = params[i] if i < len(params) else 0
    job.op, job.dy, job.x, job.out, job.size = op, dy.data, x.data, out.data, x.size
    return start(<Unit> chunk[float], <Unit> chunk[double], x, &job, parts(job.size, CHUNK),
                 threads_for(cost * job.size // (2 * STREAM), n_threads))


def _forward(int op):
    def forward(cnp.ndarray x not None, tuple params not None, cnp.ndarray y_out not None, int n_threads):
        run(op, vm_activations[op].cost[0], x, x, params, y_out, n_threads)

    return _named(forward, op, "", "y")


def _backward(int op):
    def backward(cnp.ndarray dy not None, cnp.ndarray kept not None, tuple params not None,
                 cnp.ndarray dx_out not None, int n_threads):
        run(op + BACKWARD, vm_activations[op].cost[1], dy, kept, params, dx_out, n_threads)

    return _named(backward, op, "_backward", "dx")


def _named(kernel, int op, str suffix, str result):
    kernel.__name__ = kernel.__qualname__ = vm_activations[op].name.decode() + suffix
    kernel.__doc__ = f"{result} = {vm_activations[op].formula[suffix != ''].decode()}; `params` are a, b, c, or 0."
    return kernel


for _op in range(BACKWARD):  # the table's kernels; `kept` is the output or, where dx is written in it, the input
    for _kernel in _forward(_op), _backward(_op):
        globals()[_kernel.__name__] = _kernel


cdef enum:
    WIDE = 512  # numbers in a wide row, if C allows
    UNITS = 64  # at most

cdef struct Slopes:
    Bytes x, weight, dy, out, sums  # of the wide slopes; of the gradient's, a wide row a unit
    Py_ssize_t size, lanes, units


cdef void prelu_unit(const Slopes* s, Py_ssize_t unit, floating* kind) noexcept nogil:
    cdef Py_ssize_t wides = parts(s.size, s.lanes), i = cut(wides, s.units, unit) * s.lanes, j
    cdef Py_ssize_t end = min(s.size, cut(wides, s.units, unit + 1) * s.lanes)
    cdef const floating* w = <floating*> s.weight
    cdef const floating* x = <floating*> s.x + i
    cdef const floating* dy = <floating*> s.dy + i
    cdef floating* out = <floating*> s.out + i
    cdef floating* sum = <floating*> s.sums + unit * s.lanes
    cdef floating slope
    if s.sums != NULL:
        memset(sum, 0, s.lanes * sizeof(floating))
    while i < end:
        if s.sums == NULL:
            for j in range(min(s.lanes, end - i)):
                slope = w[j]  # read in any case, or only masked loads would do it in vectors
                out[j] = x[j] * (1 if x[j] > 0 else slope)
        else:
            for j in range(min(s.lanes, end - i)):
                slope = w[j]
                out[j] = dy[j] * (1 if x[j] > 0 else slope)
                slope = x[j] * dy[j]
                sum[j] += 0 if x[j] > 0 else slope
        i, x, dy, out = i + s.lanes, x + s.lanes, dy + s.lanes, out + s.lanes


cdef void fold(const Slopes* s, Py_ssize_t C, floating* dweight) noexcept nogil:
    cdef Py_ssize_t c, i
    cdef double total
    for c in range(C):
        total = 0
        for i in range(s.units * s.lanes // C):
            total += (<floating*> s.sums)[i * C + c]
        dweight[c] = <floating> total


cdef int run_prelu(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray dy, cnp.ndarray out, cnp.ndarray dweight,
                   int n_threads) except -1:
    cdef Py_ssize_t C = weight.size, item = cnp.PyArray_ITEMSIZE(x), i
    check_vector(weight, 1 if C == 1 or x.ndim < 2 else x.shape[1], x)
    check_order(x, C == 1 or x.ndim == 2, C == 1 or x.ndim == 4)
    check_same(x, dy)
    check_same(x, out)
    if dweight is not None:
        check_vector(dweight, C, weight)
    cdef Slopes s = Slopes(x.data, NULL, dy.data, out.data, NULL, x.size, max(C, WIDE // max(C, 1) * C, 1), 1)
    s.units = max(1, min(<Py_ssize_t> UNITS, parts(s.size, CHUNK)))
    cdef Bytes memory = <Bytes> scratch_acquire((1 + s.units) * s.lanes * item)
    for i in range(s.lanes // max(C, 1)):
        memcpy(memory + i * C * item, weight.data, C * item)
    s.weight, s.sums = memory, memory + s.lanes * item if dweight is not None else NULL
    start(<Unit> prelu_unit[float], <Unit> prelu_unit[double], x, &s, s.units, threads_for(s.size // STREAM, n_threads))
    if dweight is not None and is_f32(x):
        fold(&s, C, <float*> dweight.data)
    elif dweight is not None:
        fold(&s, C, <double*> dweight.data)
    scratch_release(memory)
    return 0


def prelu(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray y_out not None, int n_threads):
    """y = x where x > 0, else weight·x. A weight (1,) goes with any x, a weight (C,) with channels innermost."""
    run_prelu(x, weight, x, y_out, None, n_threads)


def prelu_backward(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray weight not None,
                   cnp.ndarray dx_out not None, cnp.ndarray dweight_out not None, int n_threads):
    """dx = dy where x > 0, else weight·dy; dweight = Σ x·dy of a channel, over x <= 0."""
    run_prelu(x, weight, dy, dx_out, dweight_out, n_threads)
