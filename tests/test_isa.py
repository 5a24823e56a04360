"""The compiled sets hold the instructions that they are named after, and the choice among them can be overridden."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn import backend

KERNELS = Path(fastnn.__file__).parent / "_kernels"
SETS = backend.instruction_sets()

x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="sets are those of x86-64")
objdump = pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump (binutils) is not installed")


def disassemble(isa: str, family: str) -> str:
    (library,) = (KERNELS / isa).glob(f"{family}.*.so")
    return subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout


@x86
@objdump
@pytest.mark.parametrize("family", backend.FAMILIES)
def test_each_set_uses_its_own_instructions(family):
    code = {isa: disassemble(isa, family) for isa in ("baseline", "avx2", "avx512")}
    has = {isa: lambda pattern, text=text: re.search(pattern, text) is not None for isa, text in code.items()}
    assert has["baseline"](r"%xmm")
    assert not has["baseline"](r"\tv[a-z0-9]+ .*%[xyz]mm"), "baseline holds AVX instructions"
    assert has["avx2"](r"%ymm")
    assert not has["avx2"](r"%zmm|%ymm(1[6-9]|2\d|3[01])|%k[1-7]"), "avx2 holds AVX-512 instructions"
    assert has["avx512"](r"%zmm"), "avx512 uses no 512-bit vectors"


@x86
@objdump
@pytest.mark.parametrize("family", ["conv", "matmul"])
def test_products_are_fused_multiply_adds_of_full_width(family):
    assert re.search(r"\tvfn?madd\d+ps .*%ymm", disassemble("avx2", family))
    assert re.search(r"\tvfn?madd\d+pd .*%ymm", disassemble("avx2", family))
    assert re.search(r"\tvfn?madd\d+ps .*%zmm", disassemble("avx512", family))
    assert re.search(r"\tvfn?madd\d+pd .*%zmm", disassemble("avx512", family))


def start(**env):
    code = "import fastnn; from fastnn import backend; print(backend.kernel_set, backend.isa)"
    clean = {k: v for k, v in os.environ.items() if k not in ("FASTNN_ISA", "FASTNN_KERNELS")}
    return subprocess.run([sys.executable, "-c", code], env=clean | env, capture_output=True, text=True, timeout=60)


def test_the_best_set_is_chosen():
    assert start().stdout.split() == ["compiled", SETS[-1]]


@pytest.mark.parametrize("isa", SETS)
def test_fastnn_isa_overrides(isa):
    assert start(FASTNN_ISA=isa).stdout.split() == ["compiled", isa]


def test_fastnn_kernels_overrides():
    assert start(FASTNN_KERNELS="reference").stdout.split()[0] == "reference"


@pytest.mark.parametrize(
    "variable, value, named",
    [("FASTNN_ISA", "sse9", "baseline, avx2 or avx512"), ("FASTNN_KERNELS", "fast", "'compiled' or 'reference'")],
)
def test_an_unknown_choice_is_a_clear_error(variable, value, named):
    done = start(**{variable: value})
    message = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert message.startswith("ImportError") and f"{variable}='{value}'" in message and named in message


def test_an_unsupported_choice_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(backend, "instruction_sets", lambda: ("baseline",))
    monkeypatch.delenv("FASTNN_KERNELS", raising=False)
    monkeypatch.setenv("FASTNN_ISA", "avx512")
    with pytest.raises(ImportError, match="FASTNN_ISA=avx512: this machine supports only baseline"):
        backend._choose()


def test_missing_kernels_name_the_cure():
    with pytest.raises(ImportError, match="pip install"):
        backend.load("compiled", "no_such_set")
