"""Whole training steps of the networks: zero_grad, forward, cross_entropy, backward, optimizer step.

With --torch PyTorch runs the same source (its imports changed) in a process of its own, once with plain NCHW tensors
and once with channels-last ones, its recommended format for convolutions. The loss after one step from the same
weights is compared before anything is timed.
"""

import importlib
import importlib.util
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import Worker, agree, in_turns, parse, print_head, print_row


@dataclass
class Step:
    label: str
    network: str
    shape: tuple[int, int, int, int]
    optimizer: str
    quick: bool = True
    tol: float = 1e-3


CASES = [
    Step("mlp", "mlp", (128, 1, 28, 28), "adam"),
    Step("lenet5", "lenet5", (64, 1, 28, 28), "adam"),
    Step("cnn", "cnn", (64, 1, 28, 28), "adam"),
    Step("vgg", "vgg", (64, 3, 32, 32), "sgd"),
    Step("resnet20", "resnet20", (128, 3, 32, 32), "sgd"),
    Step("mobile", "mobile", (32, 3, 32, 32), "sgd"),
    Step("dropnet", "dropnet", (128, 1, 28, 28), "adam"),
    Step("mlp_b1", "mlp", (1, 1, 28, 28), "adam"),
    Step("lenet5_b1", "lenet5", (1, 1, 28, 28), "adam"),
]


def load(library: str):
    """The library, its functional module, its optimizers, and the networks, from one source for both."""
    name = "torch" if library.startswith("torch") else "fastnn"
    package = Path(importlib.util.find_spec("fastnn").origin).parent  # found, not imported
    networks = types.ModuleType("networks")
    for path in package / "models" / "networks.py", Path(__file__).with_name("networks.py"):
        source = path.read_text().replace("import fastnn", f"import {name}").replace("from fastnn", f"from {name}")
        exec(compile(source, str(path), "exec"), vars(networks))
    lib = importlib.import_module(name)
    return lib, lib.nn.functional, lib.optim, networks


def runner(library: str, step: Step, threads: int):
    """One training step, after a first one; it returns the loss. Weights and batch are the same in each library."""
    lib, functional, optim, models = load(library)
    model = getattr(models, step.network)(step.shape[1:])
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        shape = tuple(parameter.shape)
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        parameter.data = lib.from_numpy((scale * rng.standard_normal(shape)).astype(np.float32))
    x = lib.from_numpy(rng.standard_normal(step.shape, dtype=np.float32))
    y = lib.from_numpy(rng.integers(0, 10, step.shape[0]))
    if library == "torch-cl":
        model, x = (v.to(memory_format=lib.channels_last) for v in (model, x))
    if step.optimizer == "adam":
        steps = optim.Adam(model.parameters(), lr=1e-3)
    else:
        steps = optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def run():
        steps.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        steps.step()
        return [loss.detach().numpy()]

    run()
    return run if step.network != "dropnet" else lambda: [None for _ in run()]  # random masks differ between libraries


def main() -> None:
    options = parse(__doc__)
    libraries = ["fastnn"] + (["torch", "torch-cl"] if options.torch else [])
    print_head("Whole training steps", libraries, options.threads, None)
    workers = [Worker(library, options.threads) for library in libraries]
    for i, step in enumerate(CASES):
        if options.only in step.label:
            ours, *others = [worker.ask("prepare", i) for worker in workers]
            for worker, theirs in zip(workers[1:], others, strict=True):
                agree(step, ours, theirs, worker.library)
            batch = "x".join(map(str, step.shape))
            print_row(f"{step.label} {batch}", in_turns(workers, options.rounds, options.seconds), None)
    for worker in workers:
        worker.close()


if __name__ == "__main__":
    main()
