"""What a bug report should contain."""
import os
import platform
import sys

import numpy as np

from fastnn import backend
from fastnn._version import __version__


def openmp_runtimes() -> list[str]:
    """OpenMP libraries loaded into this process (Linux only): more than one can slow each other down."""
    if not os.path.exists("/proc/self/maps"):
        return []
    with open("/proc/self/maps") as file:
        files = {line.split()[-1] for line in file if "/" in line}
    return sorted(file for file in files if os.path.basename(file).startswith(("libgomp", "libomp", "libiomp")))


def config() -> dict[str, str]:
    """Version, kernels, threads, OpenMP, NumPy, compiler and flags, as text."""
    supported, build = ", ".join(backend.instruction_sets()) or "none", backend.build
    openmp = f"version {build['openmp']}; loaded: {', '.join(openmp_runtimes()) or 'unknown'}"
    return {
        "fastnn": f"{__version__} in {os.path.dirname(__file__)}", "kernels": backend.kernel_set,
        "instruction set": f"{backend.isa} (this machine runs: {supported})",
        "threads": f"{backend.get_num_threads()} ({backend.threads_reason})",
        "OpenMP": openmp if build["openmp"] else "not built in", "compiler": build["compiler"], "flags": build["flags"],
        "NumPy": np.__version__, "Python": sys.version.replace("\n", " "), "machine": platform.platform()}


def show_config() -> None:
    """Print what a bug report should contain."""
    for name, text in config().items():
        print(f"{name + ':':17}{text}")
