"""Whole steps of the networks, in training and in inference, against PyTorch and JAX.

A training step is zero_grad, forward, cross_entropy, backward, optimizer step; inference is the forward pass alone, in
evaluation, without a tape. PyTorch runs the same source (its imports changed) in processes of its own: `torch` with
NCHW tensors, `torch-cl` with channels-last ones, which it recommends for convolutions, both with fused optimizers. JAX
runs networks in Flax whose steps are compiled whole (bench/peers_jax.py). The loss after one step from the same
weights, or the scores, are compared before anything is timed. The best peer of a row is the fastest one there.

--memory prints each training's peak of resident memory in a fresh process, less what importing the library takes.
"""

import importlib
import importlib.util
import itertools
import math
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import COMPARED, STILL, Comparison, Row, Worker, parse, parser_for, write


@dataclass
class Step(Row):
    label: str
    network: str
    shape: tuple[int, int, int, int]
    optimizer: str
    trains: bool = True
    tol: float = 1e-3

    @property
    def name(self) -> str:
        return f"{'training' if self.trains else 'inference'} {self.label} {'x'.join(map(str, self.shape))}"


WORKLOADS = [
    ("mlp", "mlp", (128, 1, 28, 28), "adam"),
    ("lenet5", "lenet5", (64, 1, 28, 28), "adam"),
    ("cnn", "cnn", (64, 1, 28, 28), "adam"),
    ("vgg", "vgg", (64, 3, 32, 32), "sgd"),
    ("resnet20", "resnet20", (128, 3, 32, 32), "sgd"),
    ("mobile", "mobile", (32, 3, 32, 32), "sgd"),
    ("dropnet", "dropnet", (128, 1, 28, 28), "adam"),
    ("mlp_b1", "mlp", (1, 1, 28, 28), "adam"),
    ("lenet5_b1", "lenet5", (1, 1, 28, 28), "adam"),
]
CASES = [Step(*workload, trains=trains) for trains in (True, False) for workload in WORKLOADS]


def load(library: str):
    """The library and the networks, from one source for both."""
    name = "torch" if library.startswith("torch") else "fastnn"
    package = Path(importlib.util.find_spec("fastnn").origin).parent  # found, not imported
    networks = types.ModuleType("networks")
    for path in package / "models" / "networks.py", Path(__file__).with_name("networks.py"):
        source = path.read_text().replace("import fastnn", f"import {name}").replace("from fastnn", f"from {name}")
        exec(compile(source, str(path), "exec"), vars(networks))
    return importlib.import_module(name), networks


def weights(model, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Numbers for all of a state dict but the counters of batches."""
    arrays = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith("running_var"):
            arrays[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif not name.endswith("num_batches_tracked"):
            scale = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
            arrays[name] = scale * rng.standard_normal(shape, dtype=np.float32)
            if len(shape) == 1 and name.endswith("weight"):
                arrays[name] += 1
    return arrays


def runner(library: str, key: int, threads: int):
    """One step, in training after a first one. Weights and batch are the same in each library."""
    step = CASES[key]
    lib, networks = load(library)
    model = getattr(networks, step.network)(step.shape[1:])
    rng = np.random.default_rng(0)
    arrays = weights(model, rng)
    images = rng.standard_normal(step.shape, dtype=np.float32)
    labels = rng.integers(0, 10, step.shape[0])
    if library == "jax":
        import peers_jax

        if step.trains:
            run = peers_jax.training(step.network, iter(arrays.values()), step.optimizer, images, labels)
        else:
            run = peers_jax.inference(step.network, iter(arrays.values()), images)
    else:
        model.load_state_dict({name: lib.from_numpy(a) for name, a in arrays.items()}, strict=False)
        x, y = lib.tensor(images), lib.tensor(labels)
        if library == "torch-cl":
            model, x = (v.to(memory_format=lib.channels_last) for v in (model, x))
        run = training(lib, model, step, x, y) if step.trains else inference(lib, model, x)
    if not step.trains:
        return run
    run()
    return run if step.network != "dropnet" else lambda: [None for _ in run()]  # random masks differ between libraries


def training(lib, model, step: Step, x, y):
    fused = {"fused": True} if lib.__name__ == "torch" else {}
    if step.optimizer == "adam":
        steps = lib.optim.Adam(model.parameters(), lr=1e-3, **fused)
    else:
        steps = lib.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, **fused)

    done = itertools.count(1)

    def run():
        steps.zero_grad()
        loss = lib.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        steps.step()
        if next(done) == COMPARED:
            steps.param_groups[0]["lr"] = STILL
        return [loss.detach().numpy()]

    return run


def inference(lib, model, x):
    model.eval()

    def run():
        with lib.no_grad():
            return [model(x).numpy()]

    return run


def counted(results: list[dict], mode: str) -> list[dict]:
    """The rows of training or of inference that count: dropnet without its dropout is none of them."""
    return [r for r in results if r["name"].startswith(mode) and not r["name"].startswith("inference dropnet")]


def memory(chosen: dict[int, Step], options) -> list[dict]:
    """Peak of resident memory, in bytes, in a process for each library and network."""
    libraries = ["fastnn", *(peer for peer in options.peers if peer != "jax")]
    print(f"\nPeak memory of training in MB, less the import\n{'':40}" + "".join(f"{name:>10}" for name in libraries))
    results = []
    for key, step in chosen.items():
        if step.trains:
            used = {}
            for library in libraries:
                worker = Worker(library, options.threads[-1])
                before = worker.ask("memory")
                worker.ask("prepare", key)
                worker.ask("time", options.seconds)
                used[library] = worker.ask("memory") - before
                worker.close()
            print(f"{step.name:40}" + "".join(f"{n / 1e6:10.1f}" for n in used.values()), flush=True)
            results.append({"name": step.name, "threads": options.threads[-1], "bytes": used})
    return results


def main() -> None:
    parser = parser_for(__doc__, ("torch", "torch-cl", "jax"), ())
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    options = parse(parser)
    chosen = {key: step for key, step in enumerate(CASES) if any(part in step.name for part in options.only)}
    if options.memory:
        write(options.json, memory(chosen, options))
        return
    results = []
    with Comparison(options) as comparison:
        comparison.print_head("Whole steps")
        for key, step in chosen.items():
            results += comparison.measure(key, step)
        for mode in "training", "inference":
            comparison.print_summary(mode, counted(results, mode))
    write(options.json, results)


if __name__ == "__main__":
    main()
