"""What the design promises about the shape of the package: direction of imports, twins, size, cost of the import."""

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn import backend

PACKAGE = Path(fastnn.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module imports only parts of a lower level, or of its own part. Parts are files and folders directly in fastnn/.
LEVELS = (
    {"_version", "errors", "_runtime", "_memory"},
    {"layout", "memory"},
    {"device"},
    {"_kernels", "reference"},
    {"tensor", "backend"},
    {"autograd", "creation", "functional"},
    {"nn", "testing"},
    {"optim", "data", "serialization"},
    {"models", "utils"},
    {"train", "verify", "config", "inspection"},
    {"search", "sklearn"},
    {"commands"},
    {"__init__", "__main__"},
)
LEVEL = {part: i for i, parts in enumerate(LEVELS) for part in parts}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of fastnn that a file imports anywhere, functions included; "" is the package as a whole."""
    folder = path.relative_to(PACKAGE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["fastnn", *folder[: len(folder) + 1 - node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        found |= {name[1] if len(name) > 1 else "" for name in names if name[0] == "fastnn"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_downwards(path):
    part = part_of(path)
    assert part in LEVEL, f"{part} has no level in tests/test_structure.py: give it one"
    if part == "__init__":
        return
    top = LEVEL["train"]
    for name in imported_parts(path) - {part}:
        if name in LEVEL:
            assert LEVEL[name] < LEVEL[part], f"{part} imports {name}, which stands no lower"
        else:  # a public name, taken from the package as a whole
            assert LEVEL[part] >= top, f"{part} imports the whole package ({name or 'import fastnn'})"


def test_tensor_knows_nothing_of_operations():
    assert imported_parts(PACKAGE / "tensor.py") <= {"errors", "device", "layout"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_kernels_are_called_through_one_door(path):
    part = part_of(path)
    if part not in ("backend", "reference", "_kernels"):
        kernels = imported_parts(path) & {"_kernels", "reference"}
        assert not kernels, f"{part} imports {kernels}; kernels are reached through backend"
    if part not in ("backend", "functional", "optim"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "backend":
                assert node.attr not in backend.FAMILIES, f"{part} calls backend.{node.attr}"


def functions(module) -> dict:
    """Public functions of a kernel module or twin: those defined in it. (A kernel's module has no instruction set.)"""
    family = module.__name__.rpartition(".")[2]
    return {
        name: f
        for name, f in vars(module).items()
        if not name.startswith("_") and callable(f) and getattr(f, "__module__", "").endswith(f".{family}")
    }


@pytest.mark.parametrize("isa", backend.instruction_sets())
@pytest.mark.parametrize("family", backend.FAMILIES)
def test_kernel_and_twin_have_one_signature(isa, family):
    kernels = functions(importlib.import_module(f"fastnn._kernels.{isa}.{family}"))
    twins = functions(importlib.import_module(f"fastnn.reference.{family}"))
    assert kernels.keys() == twins.keys()
    assert kernels, f"{family} has no kernels"
    for name, kernel in kernels.items():
        parameters, twin = (list(inspect.signature(f).parameters) for f in (kernel, twins[name]))
        assert parameters == twin, f"{family}.{name}: kernel {parameters}, twin {twin}"
        assert parameters[-1] == "n_threads", f"{family}.{name}: n_threads is the last argument"
        assert any(p.endswith("_out") for p in parameters), f"{family}.{name} has no output buffer named ..._out"


def lines(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text().splitlines())


def test_small_stays_small():
    assert lines(PACKAGE / "tensor.py") <= 600
    if not (PACKAGE / "_kernels" / "kernel.pxd").exists():
        pytest.skip("an installed package has no kernel sources to count")
    sources = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".pyx", ".pxd", ".h")]
    around = {"train", "search", "sklearn", "commands", "__main__"}  # what stands around the framework
    assert sum(lines(p) for p in sources if part_of(p) not in around) <= 14_500
    assert sum(map(lines, sources)) <= 17_700


def run(code: str, **env: str) -> str:
    """What code prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_import_loads_numpy_alone():
    code = """
import sys, json
import numpy
before = set(sys.modules)
import fastnn
new = {n.partition(".")[0] for n in set(sys.modules) - before if getattr(sys.modules[n], "__file__", None)}
print(json.dumps(sorted(new - set(sys.stdlib_module_names))))
"""
    assert set(json.loads(run(code))) <= {"fastnn", "numpy"}


def test_import_costs_little(tmp_path):
    code = """
import time
import numpy
start = time.perf_counter()
import fastnn
print(1000 * (time.perf_counter() - start))
"""
    cached = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # the first run writes bytecode
    cost = min(float(run(code, **cached)) for _ in range(8))  # whatever else the machine does only adds to it
    assert cost <= 60, f"import fastnn takes {cost:.0f} ms on top of NumPy"
