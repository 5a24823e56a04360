"""One harness for all operations: `check` compares an operation with an oracle and tries what users do to its inputs.

    from harness import TOL, check

    def test_exp(rng):
        check(fastnn.exp, rng.standard_normal((5, 7)), oracle=np.exp)

An oracle must not share the algorithm with the operation: loops or `einsum` for a convolution, never im2col.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastnn
from fastnn import layout

float32, float64 = np.dtype("float32"), np.dtype("float64")

TOL = {float32: 1e-5, float64: 1e-12}
"""Largest error allowed, relative to the larger of 1 and the largest true value."""
GRAD_TOL = 1e-6
"""Largest relative difference between a float64 gradient and the central difference along a random direction."""
STEP = 1e-6
"""Half width of a central difference: truncation error about STEP**2, rounding error about 1e-16 / STEP."""


def close(actual: Any, expected: Any, dtype: Any = None, tol: float | dict | None = None, what: str = "values") -> None:
    """Fail unless `actual` equals `expected` in shape, and in value up to the tolerance of `dtype` (default: actual's).

    Integers and booleans are compared exactly; NaN equals NaN. `tol` replaces `TOL`: a dict by dtype, or the number for
    float32, in whose ratio float64's is scaled.
    """
    actual, expected = _array(actual), _array(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    dtype = np.dtype(dtype or actual.dtype)
    limit = TOL[dtype] if tol is None else tol[dtype] if isinstance(tol, dict) else tol * TOL[dtype] / TOL[float32]
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=limit, atol=limit * scale, err_msg=what)


def check(
    fn: Callable,
    *arrays: np.ndarray,
    oracle: Callable | None = None,
    grad: bool | Sequence[int] = True,
    kwargs: dict | None = None,
    dtypes: Sequence = (float32, float64),
    tol: float | dict | None = None,
) -> None:
    """Check the operation `fn(*tensors, **kwargs)`, which returns one Tensor or a tuple of them.

    For each dtype: values and dtype against `oracle(*float64 arrays, **kwargs)`; inputs not modified; the same answer
    and gradients from channels-last, sliced, transposed and read-only memory and gradients; equal bits at 1 and 2
    threads; an empty first axis where `fn` accepts it. Gradients: float64 against central differences along random
    directions, other dtypes against float64.

    Args:
        arrays: inputs; floating ones are cast to each dtype, others (labels, indices, masks) are passed as they are.
        oracle: the truth, on float64 arrays; None: values are not compared with anything but other layouts.
        grad: whether to check gradients, or the positions of the inputs to differentiate (default: all floating ones).
            Inputs must keep away from kinks (ReLU at 0, ties in a maximum) by more than 1e-5.
        dtypes: floating dtypes to run.
        tol: as in `close`.

    The generator is seeded before each call, so that random masks repeat.
    """
    kwargs = kwargs or {}
    arrays = tuple(np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a) for a in arrays)
    floating = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    positions = floating if grad is True else [] if grad is False else list(grad)
    wide = [_cast(a, float64) for a in arrays]
    truth = _evaluate(fn, wide, kwargs, positions)
    if positions:
        _check_gradient(fn, wide, kwargs, positions, truth)
    for dtype in map(np.dtype, dtypes):
        inputs = [_cast(a, dtype) for a in arrays]
        values, grads = base = _evaluate(fn, inputs, kwargs, positions)
        if oracle is not None:
            expected = _tuple(oracle(*(_cast(a, float64) for a in inputs), **kwargs))
            assert len(values) == len(expected), f"{len(values)} outputs, expected {len(expected)}"
            for i, (y, e) in enumerate(zip(values, expected, strict=True)):
                e = np.asarray(e)
                if e.dtype.kind == "f" and floating:
                    assert y.dtype == dtype, f"output {i}: dtype {y.dtype}, expected {dtype}"
                assert y.dtype.kind == e.dtype.kind, f"output {i}: dtype {y.dtype}, expected {e.dtype}"
                close(y, e, dtype if y.dtype.kind == "f" else None, tol, f"output {i}, {dtype}")
        for i, g, t in zip(positions, grads, truth[1], strict=True):
            assert g.dtype == arrays[i].dtype if i not in floating else g.dtype == dtype, f"gradient {i} is {g.dtype}"
            close(g, t, dtype, tol, f"gradient of input {i}, {dtype}")
        for name, variant in _variants(inputs).items():
            _same(_evaluate(fn, variant, kwargs, positions, name), base, dtype, tol, f"{name} memory, {dtype}")
        _check_threads(fn, inputs, kwargs, positions)
        _check_empty(fn, inputs, kwargs, positions, oracle)


def _evaluate(fn, arrays, kwargs, positions, memory="C"):
    """Outputs and gradients of `fn`, as arrays; the output gradients are fixed random numbers in the named memory."""
    before = [a.tobytes() for a in arrays]
    inputs = [fastnn.Tensor(a, requires_grad=i in positions) for i, a in enumerate(arrays)]
    fastnn.manual_seed(0)
    outputs = _tuple(fn(*inputs, **kwargs))
    values = tuple(np.array(_array(y), order="C") for y in outputs)
    grads = ()
    if positions:
        assert any(y.requires_grad for y in outputs), "no output requires a gradient"
        rng = np.random.default_rng(1)
        for y in outputs:
            weight = rng.standard_normal(y.shape).astype(y.dtype) if y.dtype.kind == "f" else None
            if y.requires_grad:
                y.backward(gradient=fastnn.Tensor(_LAYOUTS.get(memory, np.asarray)(weight)), retain_graph=True)
        grads = tuple(np.zeros_like(arrays[i]) if inputs[i].grad is None else inputs[i].grad.array for i in positions)
        for i, g in zip(positions, grads, strict=True):
            assert g.shape == arrays[i].shape, f"gradient of input {i} has shape {g.shape}, input {arrays[i].shape}"
            if inputs[i].grad is not None and g.ndim == 4 and layout.is_channels_last(arrays[i]):
                assert layout.is_channels_last(g), f"gradient of input {i} is not channels-last as the input is"
        grads = tuple(np.array(g, order="C") for g in grads)
    for i, (a, b) in enumerate(zip(arrays, before, strict=True)):
        assert a.tobytes() == b, f"input {i} was modified"
    return values, grads


def _check_gradient(fn, arrays, kwargs, positions, result):
    """Compare <gradient, d> with the central difference of the weighted sum of outputs along random directions d."""
    values, grads = result
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(y.shape) if y.dtype.kind == "f" else np.zeros(y.shape) for y in values]
    rng = np.random.default_rng(2)

    def loss(i, direction, step):
        moved = [np.asarray(a + step * direction) if j == i else a for j, a in enumerate(arrays)]
        with fastnn.no_grad():
            return [float(np.sum(w * y)) for w, y in zip(weights, _evaluate(fn, moved, kwargs, [])[0], strict=True)]

    size = sum(float(np.sum(np.abs(w * y)[np.isfinite(y)])) for w, y in zip(weights, values, strict=True))
    for i, g in zip(positions, grads, strict=True):
        for _ in range(2):
            d = rng.standard_normal(arrays[i].shape)
            ahead, behind = loss(i, d, STEP), loss(i, d, -STEP)
            numeric = sum(a - b for a, b in zip(ahead, behind, strict=True)) / (2 * STEP)
            exact = float(np.sum(g * d))
            limit = GRAD_TOL * max(abs(numeric), float(np.sqrt(np.sum((g * d) ** 2)))) + 1e-15 * size / STEP + 1e-9
            assert abs(numeric - exact) <= limit, (
                f"gradient of input {i}: {exact:.12g} along a random direction, central difference {numeric:.12g}"
            )


def _check_threads(fn, arrays, kwargs, positions):
    threads, results = fastnn.get_num_threads(), []
    try:
        for n in (1, 2):
            fastnn.set_num_threads(n)
            results.append(_evaluate(fn, arrays, kwargs, positions))
    finally:
        fastnn.set_num_threads(threads)
    for one, two in zip(*(values + grads for values, grads in results), strict=True):
        assert one.tobytes() == two.tobytes(), "1 and 2 threads give different bits"


def _check_empty(fn, arrays, kwargs, positions, oracle):
    """Run with an empty first axis: of the first input, or of all that share its length; a clean refusal is fine."""
    if not arrays or arrays[0].ndim == 0:
        return
    rows = len(arrays[0])
    shared = [a[:0] if a.ndim and len(a) == rows else a for a in arrays]
    for candidate in ([arrays[0][:0], *arrays[1:]], shared):
        try:
            _evaluate(fn, candidate, kwargs, [])
        except (ValueError, IndexError):
            continue
        values, _ = _evaluate(fn, candidate, kwargs, positions)
        if oracle is not None:
            try:
                with np.errstate(all="ignore"):
                    expected = _tuple(oracle(*(_cast(a, float64) for a in candidate), **kwargs))
            except (ValueError, IndexError, ZeroDivisionError):
                return
            assert [y.shape for y in values] == [np.shape(e) for e in expected], "wrong shape for an empty batch"
        return


def _same(result, base, dtype, tol, what):
    for name, got, expected in zip(("output", "gradient"), result, base, strict=True):
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert a.dtype == b.dtype, f"{name} {i}: {a.dtype} from {what}, {b.dtype} before"
            close(a, b, dtype if a.dtype.kind == "f" else None, tol, f"{name} {i} from {what}")


def _sliced(a):
    """Equal values in every second place, along each axis, of a larger array."""
    if a.ndim == 0:
        return a
    big = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    view = big[(slice(1, None, 2),) * a.ndim]
    view[...] = a
    return view


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


_LAYOUTS = {
    "channels-last": lambda a: layout.channels_last(a) if a.ndim == 4 else a,
    "sliced": _sliced,
    "transposed": lambda a: np.array(a, order="F"),
    "read-only": _read_only,
}


def _variants(arrays):
    """The inputs once in each kind of memory; where several are 4-D, also the first one alone channels-last."""
    variants = {name: [convert(a) for a in arrays] for name, convert in _LAYOUTS.items()}
    four = sum(a.ndim == 4 for a in arrays)
    if not four:
        del variants["channels-last"]
    if four > 1:
        variants["mixed"] = [variants["channels-last"][0], *arrays[1:]]
    return variants


def _array(value: Any) -> np.ndarray:
    return value.array if isinstance(value, fastnn.Tensor) else np.asarray(value)


def _cast(a, dtype):
    return a.astype(dtype) if a.dtype.kind == "f" else a.copy()


def _tuple(value):
    return tuple(value) if isinstance(value, tuple | list) else (value,)
