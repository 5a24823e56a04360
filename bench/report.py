"""Run all benchmarks and write docs/benchmarks.md, its plot and the README's table (make bench-report).

With --run everything is timed first, within about 15 minutes, and the results are kept in build/bench as JSON; without
it the pages are written anew from there. The scripts run in their short versions, whole steps in the long one.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from common import best, caches, fraction, geometric_mean, ratios
from conv import SHAPES, passes
from steps import counted

ROOT = Path(__file__).parents[1]
RESULTS, PAGE, PLOT = ROOT / "build" / "bench", ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks.svg"
PEERS = {"torch": "PyTorch", "torch-cl": "PyTorch, channels-last", "jax": "JAX"}
STEPS = ["steps.py", "--threads", "2", "--peers"]
SCALED = ["training vgg", "training resnet20"]
KERNELS = (
    "conv", "matmul", "pooling", "normalization", "activation", "elementwise", "softmax", "dropout", "optimizer",
    "image")
RUNS = {
    "steps": [*STEPS, *PEERS],
    "memory": [*STEPS, "torch", "torch-cl", "--memory"],
    "scaling": ["steps.py", "--threads", "1", "2", "--only", *SCALED],
    "random_conv": ["random_conv.py", "--quick", "--threads", "2"],
    **{name: [f"{name}.py", "--quick", "--cold", "--threads", "1", "2", "--peers"] for name in KERNELS},
    "conv-avx2": ["conv.py", "--quick", "--threads", "2", "--peers"],
}
WIDE = {case.name for conv, _ in SHAPES if min(conv.C, conv.F) >= 32 and conv.groups == 1 for case in passes(conv)}
STREAMING = 1 << 20
"""Bytes of arrays from which on a kernel is held to the bandwidth: below, a call costs as much as its work."""


def run() -> None:
    """Time everything."""
    from fastnn import backend

    for name, command in RUNS.items():
        env = os.environ | ({"FASTNN_ISA": "avx2"} if name == "conv-avx2" else {})
        subprocess.run(
            [sys.executable, Path(__file__).with_name(command[0]), *command[1:], "--json", RESULTS / f"{name}.json"],
            env=env, check=True,
        )  # fmt: skip
    (RESULTS / "machine.json").write_text(json.dumps(machine(backend)))


def machine(backend) -> dict[str, str]:
    """What was run on what."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = found.group(1) if found else model
    sizes = ", ".join(f"{name} {size >> 10} KiB" for name, size in caches())
    names = ("numpy", "torch", "jax", "flax", "optax")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("fastnn", *names)]
    return {
        "processor": f"{model}, {os.cpu_count()} cores, {sizes}",
        "instruction set": backend.isa,
        "compiler": backend.build["compiler"],
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


# Figures beside targets ------------------------------------------------------------------------------------------


def hot(results: Iterable[dict], threads: int = 2) -> list[dict]:
    return [r for r in results if r["threads"] == threads and r["caches"] == "hot"]


def worst_part(results: Iterable[dict]) -> float:
    """The least part of the machine's limit that one of the rows reaches."""
    return min(filter(None, map(fraction, results)))


def rows_of_targets(data: dict[str, list[dict]]) -> list[tuple[str, float, float, str]]:
    """What is measured, the figure reached, the target and how to print both."""
    training, inference = (
        {r["name"].split()[1]: best(r) for r in counted(data["steps"], mode)} for mode in ("training", "inference")
    )
    random = [best(r) for r in data["random_conv"]]
    wide, wide_avx2 = ([r for r in hot(data[name]) if r["name"] in WIDE] for name in ("conv", "conv-avx2"))
    large = {name: [r for r in hot(data[name]) if r["working_set"] >= STREAMING] for name in KERNELS}
    memory = [min(r["bytes"]["torch"], r["bytes"]["torch-cl"]) / r["bytes"]["fastnn"] for r in data["memory"]]

    def of_pass(kernel: str) -> float:
        return worst_part(r for r in wide if r["name"].startswith(f"{kernel} "))

    return [
        ("training, best peer ÷ fastnn: geometric mean", geometric_mean(training.values()), 2.5, ".2f"),
        ("training, best peer ÷ fastnn: vgg", training["vgg"], 1.35, ".2f"),
        ("training, best peer ÷ fastnn: worst of the others",
         min(ratio for name, ratio in training.items() if name != "vgg"), 1.4, ".2f"),
        ("inference, best peer ÷ fastnn: geometric mean", geometric_mean(inference.values()), 1.7, ".2f"),
        ("inference, best peer ÷ fastnn: worst", min(inference.values()), 1.1, ".2f"),
        ("random convolutions, best peer ÷ fastnn: geometric mean", geometric_mean(random), 1.8, ".2f"),
        ("random convolutions, best peer ÷ fastnn: worst", min(random), 0.8, ".2f"),
        ("convolution, C, F ≥ 32, of FMA peak: worst forward", of_pass("conv2d"), 0.85, ".0%"),
        ("convolution, C, F ≥ 32, of FMA peak: worst input gradient", of_pass("conv2d_backward_input"), 0.85, ".0%"),
        ("convolution, C, F ≥ 32, of FMA peak: worst weight gradient", of_pass("conv2d_backward_weight"), 0.8, ".0%"),
        ("convolution, C, F ≥ 32, AVX2 only, of its FMA peak: worst pass", worst_part(wide_avx2), 0.8, ".0%"),
        ("batch norm, from 1 MiB on, of bandwidth: worst", worst_part(large["normalization"]), 0.8, ".0%"),
        ("pooling, from 1 MiB on, of bandwidth: worst", worst_part(large["pooling"]), 0.8, ".0%"),
        ("activations, from 1 MiB on, of bandwidth: worst", worst_part(large["activation"]), 0.8, ".0%"),
        ("optimizers, from 1 MiB on, of bandwidth: worst", worst_part(large["optimizer"]), 0.8, ".0%"),
        *(
            (f"training, {r['name'].split()[1]}: 2 threads over 1", ratios(r, "1 thread"), 1.85, ".2f")
            for r in hot(data["scaling"])
        ),
        ("peak memory of training, PyTorch's less format ÷ fastnn: worst", min(memory), 1.0, ".2f"),
    ]  # fmt: skip


# Pages -----------------------------------------------------------------------------------------------------------


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """In Markdown, all columns but the first to the right."""
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milliseconds(result: dict, library: str = "fastnn") -> str:
    return f"{1e3 * statistics.median(result['seconds'][library]):.3g}"


def of_targets(data: dict) -> str:
    return table(
        ["figure", "reached", "target", ""],
        [[name, format(reached, form), f"≥ {format(target, form)}", "yes" if reached >= target else "no"]
         for name, reached, target, form in rows_of_targets(data)],
    )  # fmt: skip


def of_comparison(results: list[dict], names: Callable[[str], str] = str) -> str:
    peers = [library for library in PEERS if library in results[0]["seconds"]]
    return table(
        ["", "fastnn, ms", *(f"{PEERS[library]} ÷ fastnn" for library in peers), "best peer ÷ fastnn"],
        [[names(r["name"]), milliseconds(r), *(f"{ratios(r, library):.2f}" for library in peers), f"{best(r):.2f}"]
         for r in results],
    )  # fmt: skip


def of_memory(results: list[dict]) -> str:
    libraries = list(results[0]["bytes"])
    return table(
        ["MB", *(PEERS.get(library, library) for library in libraries)],
        [[workload(r["name"]), *(f"{r['bytes'][library] / 1e6:.1f}" for library in libraries)] for r in results],
    )


def of_scaling(results: list[dict]) -> str:
    return table(
        ["training", "1 thread, ms", "2 threads, ms", "1 thread ÷ 2 threads"],
        [[workload(r["name"]), milliseconds(r, "1 thread"), milliseconds(r), f"{ratios(r, '1 thread'):.2f}"]
         for r in results],
    )  # fmt: skip


def of_limits(results: list[dict]) -> str:
    return table(["2 threads, hot", "ms", "of limit"], [[r["name"], milliseconds(r), percent(r)] for r in results])


def percent(result: dict) -> str:
    reached = fraction(result)
    return f"{reached:.0%}" if reached else ""


def of_kernels(results: list[dict]) -> str:
    """A line a kernel and shape: hot and cold caches, two threads and one."""
    states = [(threads, state) for threads in (2, 1) for state in ("hot", "cold")]
    found = {(r["name"], r["threads"], r["caches"]): r for r in results}
    rows = []
    for name in dict.fromkeys(r["name"] for r in results):
        cells = []
        for state in states:
            cells += [milliseconds(found[name, *state]), percent(found[name, *state])]
        rows.append([name, *cells, f"{ratios(found[name, 2, 'hot'], '1 thread'):.2f}"])
    heads = [text for threads, state in states for text in (f"{state}, {threads} thr., ms", "of limit")]
    return table(["", *heads, "2 thr. over 1"], rows)


TEXT = """\
# Benchmarks

Written by `make bench-report`, which times everything on the machine at hand, within about 15 minutes. Each library
runs in a process of its own with 2 threads, the processes take turns, and what counts is the median of the ratios
within the rounds: above 1, fastnn is the faster. Results are compared before they are timed. Data are float32. `bench/`
has the scripts, each of which can tell more by itself.

{about}

## Beside the targets

{targets}

## Whole steps

![Times of the peers over fastnn's](benchmarks.svg)

Training: zero_grad, forward, cross-entropy, backward, optimizer step; PyTorch with NCHW and with channels-last tensors,
with fused optimizers; JAX compiled whole (Flax, Optax).

{training}

Inference: forward in evaluation, without a tape. That of dropnet, which is without its dropout then, is not among the
targets.

{inference}

## Threads

{scaling}

## Memory

Peak of resident memory in training, in a fresh process, less what importing the library takes.

{memory}

## Random convolutions

{count} convolutions drawn at random (`bench/random_conv.py` says from where), forward and both gradients together. The
ten worst (batch, channels, height, width -> filters, kernel, /stride, padding if it is not half the kernel, groups):

{worst}

and their passes:

{passes}

## Kernels

The limit is the longer of arithmetic at the FMA peak and bytes at the bandwidth of that working set, both measured in
the seconds before. Bandwidth is that of reading one array and writing another: what writes little, or over what it has
read, may exceed it. Cold: the caches are flushed before each call, and the limit is main memory's.

{kernels}

### conv, AVX2 only

{avx2}
"""


def workload(name: str) -> str:
    """The name of a row without its mode."""
    return name.partition(" ")[2]


def page(data: dict, about: dict[str, str]) -> str:
    """docs/benchmarks.md."""
    steps, random = data["steps"], data["random_conv"]
    worst = sorted(random, key=best)[:10]
    return TEXT.format(
        about="\n".join(f"- {name}: {text}" for name, text in about.items()),
        targets=of_targets(data),
        training=of_comparison([r for r in steps if r["name"].startswith("training")], workload),
        inference=of_comparison([r for r in steps if r["name"].startswith("inference")], workload),
        scaling=of_scaling(hot(data["scaling"])),
        memory=of_memory(data["memory"]),
        count=len(random),
        worst=of_comparison(worst),
        passes=of_comparison([part for result in worst for part in result["passes"]]),
        kernels="\n\n".join(f"### {name}\n\n{of_kernels(data[name])}" for name in KERNELS),
        avx2=of_limits(hot(data["conv-avx2"])),
    )


START, END = "<!-- written by make bench-report -->", "<!-- end -->"


def readme(text: str, data: dict, about: dict[str, str]) -> str:
    """The README with its table of whole steps written anew."""
    training, inference = ([r for r in data["steps"] if r["name"].startswith(m)] for m in ("training", "inference"))
    rows = [
        [workload(a["name"]), milliseconds(a), f"{best(a):.2f}", milliseconds(b), f"{best(b):.2f}"]
        for a, b in zip(training, inference, strict=True)
    ]
    heads = ["", "training, ms", "best peer ÷ fastnn", "inference, ms", "best peer ÷ fastnn"]
    means = [geometric_mean(map(best, counted(data["steps"], mode))) for mode in ("training", "inference")]
    rows.append(["geometric mean", "", f"{means[0]:.2f}", "", f"{means[1]:.2f}"])
    where = textwrap.fill(f"2 threads; {about['processor']}; {about['versions']}.", 120)
    image = "![Times of the peers over fastnn's](docs/benchmarks.svg)"
    block = "\n\n".join([f"{START}\n{image}", table(heads, rows), f"{where}\n{END}"])
    return re.sub(f"{START}.*{END}", lambda _: block, text, flags=re.DOTALL)


def plot(data: dict, path: Path) -> None:
    """Times of the peers over fastnn's: whole steps in bars, random convolutions in order."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "fastnn", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained", width_ratios=(9, 9, 5))
    for axis, mode in zip(axes, ("training", "inference"), strict=False):
        results = [result for result in data["steps"] if result["name"].startswith(mode)]
        for i, (library, label) in enumerate(PEERS.items()):
            places = [place + 0.27 * (i - 1) for place in range(len(results))]
            heights = [ratios(result, library) - 1 for result in results]  # a bar begins at 1, where both are equal
            axis.bar(places, heights, 0.25, bottom=1, label=label if axis is axes[0] else None)
        axis.set_xticks(range(len(results)), [r["name"].split()[1] for r in results], rotation=40, ha="right")
        axis.set_title(f"{mode}: peer's time ÷ fastnn's")
    figure.legend(loc="outside upper center", ncols=len(PEERS), frameon=False)
    axes[2].plot(sorted(map(best, data["random_conv"])), color="black")
    axes[2].set_title("random convolutions: best peer")
    axes[2].set_xlabel("in order")
    for axis in axes:
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.axhline(1, color="gray", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", action="store_true", help="time everything first")
    if parser.parse_args().run:
        run()
    about = json.loads((RESULTS / "machine.json").read_text())
    data = {name: json.loads((RESULTS / f"{name}.json").read_text())["results"] for name in RUNS}
    PAGE.write_text(page(data, about))
    plot(data, PLOT)
    front = ROOT / "README.md"
    front.write_text(readme(front.read_text(), data, about))
    print(of_targets(data))


if __name__ == "__main__":
    main()
