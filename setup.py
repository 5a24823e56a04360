"""Build of the kernels: each .pyx becomes C once, and that C is compiled once per instruction set. The tape and what
runs at every operation is ordinary Python, which Cython compiles as it stands; without a compiler it runs anyway.

Environment: FASTNN_NO_OPENMP=1 builds without threads; FASTNN_CHECKED=1 turns Cython's checks and the address and
undefined-behaviour sanitizers on (for tests, in a tree of its own).
"""
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

CHECKED = os.environ.get("FASTNN_CHECKED") == "1"
BUILD = Path("build") / ("generated-checked" if CHECKED else "generated")
KERNELS = Path("fastnn/_kernels")
HEADERS = sorted(map(str, KERNELS.glob("*.h")))
STATE = ("fastnn._memory", "fastnn._runtime")  # what has state: compiled once, for the lowest set
HOT = ("fastnn.layout", "fastnn.tensor", "fastnn.nn.module", "fastnn.optim.first_order",
       "fastnn.optim.optimizer", *(f"fastnn.functional.{name}" for name in (
           "activation", "arguments", "conv", "dropout", "elementwise", "linalg", "loss", "normalization", "padding",
           "pooling", "shape")))  # Python modules that are compiled, for a quarter less time an operation

DIRECTIVES = {
    "language_level": 3,
    "binding": False,  # plain built-in functions: a module takes 20 KB less
    "embedsignature": True,
    "embedsignature.format": "clinic",  # which inspect.signature reads
    "boundscheck": CHECKED,
    "wraparound": CHECKED,
    "initializedcheck": CHECKED,
    "nonecheck": CHECKED,
    "cdivision": True,
}
AS_PYTHON = {
    "language_level": 3, "binding": True, "annotation_typing": False, "infer_types": False, "autotestdict": False,
}

NO_COMPILER = (
    "fastnn needs a C compiler and Python's headers to build its kernels: install gcc or clang together with the "
    "Python development package (Debian, Ubuntu: 'apt-get install gcc python3-dev'; macOS: 'xcode-select --install')."
)
NO_OPENMP = "warning: no working OpenMP was found; fastnn is built to run on one thread."

SETS = {"baseline": []}  # instruction set: compiler flags; on aarch64 the compiler's default, which has NEON
if platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32":
    SETS = {
        "baseline": ["-march=x86-64-v2"],
        "avx2": ["-march=x86-64-v3"],
        "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],  # without it Clang splits the vectors
    }


def names() -> list[str]:
    """Kernel modules, in a fixed order."""
    return sorted(path.stem for path in KERNELS.glob("*.pyx"))


def sources() -> list[Path]:
    """Everything that is written by hand and compiled."""
    return [*map(source, STATE + HOT), *sorted(p for p in KERNELS.iterdir() if p.suffix in (".pyx", ".pxd", ".h"))]


def source(module: str) -> Path:
    return Path(module.replace(".", "/") + (".py" if module in HOT else ".pyx"))


def headers(*paths: Path) -> list[str]:
    """Those that these files include, by way of others too: what has to be compiled anew after a header changed."""
    found, todo = set(), [*paths]
    while todo:
        named = re.findall(r'"(\w+\.h)"|fastnn\._kernels\.(\w+) cimport', todo.pop().read_text())
        new = {KERNELS / (header or f"{module}.pxd") for header, module in named} - found
        found |= new
        todo += [path for path in new if path.exists()]
    return [str(path) for path in sorted(found) if path.exists()]


def generated(module: str) -> Path:
    return BUILD / (module.replace(".", "/") + ".c")


def stub(isa: str, name: str) -> Path:
    return BUILD / isa / f"{name}.c"


class BuildKernels(build_ext):
    def initialize_options(self) -> None:
        super().initialize_options()
        self.parallel = os.cpu_count()

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.inplace:  # an editable install would take folders of its own, and the next build start from nothing
            tag = f"{self.plat_name}-{sys.implementation.cache_tag}"
            self.build_temp, self.build_lib = f"build/temp.{tag}", f"build/lib.{tag}"
        if CHECKED:
            self.build_temp += "-checked"
            self.build_lib += "-checked"

    def get_source_files(self) -> list[str]:
        return [str(path) for path in sources()]

    def run(self) -> None:
        from Cython.Build import cythonize

        modules = [Extension(name, [str(source(name))]) for name in STATE]
        modules += [Extension(f"fastnn._kernels.{name}", [str(KERNELS / f"{name}.pyx")]) for name in names()]
        hot = [Extension(name, [str(source(name))]) for name in HOT]
        for extensions, directives in (modules, DIRECTIVES), (hot, AS_PYTHON):
            made = generated(extensions[-1].name)  # anew if the directives above may have changed
            stale = made.exists() and made.stat().st_mtime < Path("setup.py").stat().st_mtime
            cythonize(extensions, compiler_directives=directives, build_dir=str(BUILD), quiet=True, force=stale)
        for header in HEADERS:  # Cython copies them, but those that another header includes only once
            copy = BUILD / header
            if not copy.exists() or copy.read_bytes() != Path(header).read_bytes():
                shutil.copyfile(header, copy)
        for isa in SETS:
            (KERNELS / isa).mkdir(exist_ok=True)  # an in-place build needs the folder, and makes none itself
            for name in names():  # a source file of its own for each set: a shared one would share its object file
                path = stub(isa, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                text = f'#include "{generated(f"fastnn._kernels.{name}").resolve().as_posix()}"\n'
                if not path.exists() or path.read_text() != text:
                    path.write_text(text)
        super().run()

    def build_extensions(self) -> None:
        import numpy

        msvc = self.compiler.compiler_type == "msvc"
        if msvc:
            compile_args, link_args = ["/O2", "/std:c11"], []
            openmp = (["/openmp"], [])
        else:
            compile_args = ["-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
                            "-fno-asynchronous-unwind-tables", "-Wno-unused-function", "-g0"]
            small = ["--param=builtin-expect-probability=100"]  # GCC: what is unlikely, as errors, is compiled for size
            if not self.runs("int main(void) { return 0; }", ["-Werror", *small], [], run=False):
                small = []
            link_args = [] if sys.platform == "darwin" else ["-Wl,-s"]
            openmp = (["-Xpreprocessor", "-fopenmp"], ["-lomp"]) if sys.platform == "darwin" else (["-fopenmp"],) * 2
        if CHECKED:
            sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
            compile_args = [*compile_args[:-1], "-g1", "-O1", "-fno-omit-frame-pointer", *sanitize]
            link_args = sanitize
        if not self.runs("#include <Python.h>\nint main(void) { return 0; }", [], [], run=False):
            raise SystemExit(NO_COMPILER)
        program = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }"
        if os.environ.get("FASTNN_NO_OPENMP") != "1" and self.runs(program, *openmp):
            compile_args, link_args = compile_args + openmp[0], link_args + openmp[1]
        else:
            print(NO_OPENMP, file=sys.stderr)
        for ext in self.extensions:
            isa = "baseline" if ext.name in STATE + HOT else ext.name.split(".")[2]
            ext.extra_compile_args = [*compile_args, *SETS[isa]]
            if ext.name in HOT and not msvc:  # the warning is about branches that Cython guards
                ext.extra_compile_args += ["-O2", "-Wno-array-bounds", *small]
            ext.extra_link_args = list(link_args)
            ext.include_dirs = [numpy.get_include(), str(KERNELS)]
            ext.define_macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("CYTHON_USE_TYPE_SPECS", "1"),
                                 ("CYTHON_COMPRESS_STRINGS", "0")]  # the wheel is compressed as a whole
            if CHECKED:
                ext.define_macros.append(("FASTNN_CHECKED", "1"))
            if ext.name in STATE:
                ext.define_macros.append(("FASTNN_FLAGS", '"' + " ".join(compile_args) + '"'))
        super().build_extensions()

    def runs(self, program: str, compile_args: list[str], link_args: list[str], run: bool = True) -> bool:
        """Whether the C program compiles and, unless `run` is false, links and exits with 0."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            source.write_text(program)
            try:
                with open(os.devnull, "w") as null:  # the compiler's complaints are not the user's concern
                    saved = os.dup(2)
                    os.dup2(null.fileno(), 2)
                    try:
                        objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_args)
                        if run:
                            self.compiler.link_executable(objects, f"{folder}/probe", extra_postargs=link_args)
                    finally:
                        os.dup2(saved, 2)
                        os.close(saved)
                return not run or subprocess.run([f"{folder}/probe"], timeout=60).returncode == 0
            except (CompileError, LinkError, OSError, subprocess.TimeoutExpired):
                return False


setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=[  # the longest first, so that no processor waits at the end
        *(
            Extension(
                f"fastnn._kernels.{isa}.{name}",
                [str(stub(isa, name))],
                depends=[str(generated(f"fastnn._kernels.{name}")), *headers(KERNELS / f"{name}.pyx")],
            )
            for isa in reversed(SETS)
            for name in names()
        ),
        *(
            Extension(name, [str(generated(name))], depends=[str(source(name)), *headers(source(name))])
            for name in STATE + HOT
        ),
    ],
)
