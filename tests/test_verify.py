"""`fastnn verify` finds every kernel and sees what is wrong with one."""

import functools
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import backend, verify
from fastnn.__main__ import main
from fastnn.verify import cases

ISAS = backend.instruction_sets()
pytestmark = pytest.mark.skipif(not ISAS, reason="no compiled kernels")


@pytest.fixture
def relu():
    """The kernel under test in the highest set, and a way to put another in its place."""
    module = backend.load("compiled", ISAS[-1])["activation"]
    with pytest.MonkeyPatch.context() as patch:
        yield module.relu, lambda function: patch.setattr(module, "relu", function)


def relu_rows():
    return verify.run(["activation.relu"], ISAS[-1:])


def test_all_is_well_with_a_kernel():
    rows = verify.run(["activation.relu"])
    assert {(row.isa, row.dtype) for row in rows} == {(isa, dtype) for isa in ISAS for dtype in ("float32", "float64")}
    assert all(row.ok and row.cases > 3 and row.speedup > 0 for row in rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_disturbance_of_a_thousandth_is_seen(relu, dtype, capsys):
    kernel, replace = relu

    def disturbed(x, params, y_out, n_threads):
        kernel(x, params, y_out, n_threads)
        if x.dtype == dtype:
            y_out *= 1.001

    replace(disturbed)
    assert {row.dtype for row in relu_rows() if not row.ok} == {dtype}
    assert main(["verify", "activation.relu"]) == 1
    out = capsys.readouterr().out
    assert out.count("FAILED") == 1
    assert f"{2 * len(ISAS) - 1} of {2 * len(ISAS)} rows passed" in out


def test_bits_that_depend_on_threads_are_seen(relu):
    kernel, replace = relu

    def disturbed(x, params, y_out, n_threads):
        kernel(x, params, y_out, n_threads)
        if n_threads == 3 and y_out.size:
            y_out.flat[0] = np.nextafter(y_out.flat[0], 2)  # by one unit in the last place

    replace(disturbed)
    assert not any(row.same_bits for row in relu_rows())


def test_a_kernel_that_writes_to_its_input_is_seen(relu):
    kernel, replace = relu

    def disturbed(x, params, y_out, n_threads):
        kernel(x, params, y_out, n_threads)
        x[...] = 0

    replace(disturbed)
    assert {row.problem for row in relu_rows()} == {"writes to its input"}


def test_a_kernel_that_loses_nan_is_seen(relu):
    kernel, replace = relu

    def disturbed(x, params, y_out, n_threads):
        kernel(x, params, y_out, n_threads)
        np.nan_to_num(y_out, copy=False, posinf=np.inf)

    replace(disturbed)
    assert all(row.error == np.inf for row in relu_rows())


def test_a_kernel_that_raises_fails_alone(relu):
    def disturbed(x, params, y_out, n_threads):
        raise ValueError("no")

    relu[1](disturbed)
    assert {row.problem for row in relu_rows()} == {"ValueError: no"}


def fails_for(problem):
    rows = verify.run(["activation.relu"])
    return bool(rows) and all(not row.ok and row.problem == problem for row in rows)


def test_a_kernel_without_cases_fails(monkeypatch):
    monkeypatch.delattr(cases, "activation")
    assert fails_for("no cases in fastnn/verify/cases.py")


def test_a_kernel_with_an_argument_that_no_case_has_fails(monkeypatch):
    monkeypatch.setattr("fastnn.reference.activation.relu", lambda x, threshold, y_out, n_threads: None)
    assert fails_for("no cases in fastnn/verify/cases.py")


def test_a_kernel_without_a_twin_fails(monkeypatch):
    monkeypatch.delattr("fastnn.reference.activation.relu")
    assert fails_for("no twin in fastnn/reference/activation.py")


@pytest.mark.parametrize("kernel, output", [
    ("conv.conv2d_backward_weight", "dweight_out"), ("normalization.batch_norm_backward", "dx_out"),
    ("softmax.log_softmax_backward", "dx_out"), ("optimizer.adam_step", "params_out"),
])  # fmt: skip
def test_a_twin_off_by_a_thousandth_is_seen(monkeypatch, kernel, output):
    family, name = kernel.split(".")
    twin = getattr(backend.load("reference", "")[family], name)
    place = [*inspect.signature(twin).parameters].index(output)

    @functools.wraps(twin)
    def disturbed(*args):
        twin(*args)
        for array in args[place] if isinstance(args[place], list) else [args[place]]:
            if array is not None:
                array *= 1.001

    monkeypatch.setattr(f"fastnn.reference.{kernel}", disturbed)
    assert not any(row.ok for row in verify.run([kernel]))


def test_every_kernel_in_the_sources_is_found():
    sources = list((Path(fastnn.__file__).parent / "_kernels").glob("*.pyx"))
    if not sources:
        pytest.skip("an installed package has no kernel sources")
    public = re.compile(r"(?m)^def ([a-z]\w*)\(")
    found = {f"{path.stem}.{name}" for path in sources for name in public.findall(path.read_text())}
    for family, header, suffixes in ("activation", "vmath", ("", "_backward")), ("optimizer", "optimizer", ("_step",)):
        table = re.findall(r"(?m)^ +X\((\w+),", (sources[0].parent / f"{header}.h").read_text())
        found |= {f"{family}.{name}{suffix}" for name in table for suffix in suffixes}
    assert found == set(verify.kernels())


def test_error_is_in_units_of_the_tolerance():
    truth = np.array([3.0, -4.0, np.nan, np.inf])
    eps = np.finfo(np.float32).eps
    got = np.array([3.0, -4.0 + 8 * eps * np.sqrt(9) * 4, np.nan, np.inf], np.float32)
    assert verify._error(got, truth, 9, np.dtype(np.float32)) == pytest.approx(1, rel=0.1)
    assert verify._error(np.roll(got, 1), truth, 9, np.dtype(np.float32)) == np.inf
    assert verify._error(np.array([1, 2]), np.array([1, 3]), 1, np.dtype(np.float32)) == np.inf
    assert verify._error(np.zeros(0), np.zeros(0), 0, np.dtype(np.float64)) == 0


def test_unknown_names():
    with pytest.raises(ValueError, match=r"convolution$"):
        verify.run(["convolution"])
    with pytest.raises(ValueError, match="sse9"):
        verify.run(isas=["sse9"])
    with pytest.raises(SystemExit) as stop:
        main(["verify", "convolution"])
    assert stop.value.code == 2
