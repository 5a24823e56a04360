"""Optimizer steps, each for all parameters of a network in one call.

Bytes counted: 12 a parameter, and 8 for each array of its state: 20 for SGD with momentum, 28 for Adam. PyTorch runs
its optimizers: fused where it can, its fastest, else over lists of tensors (foreach).
"""

import numpy as np
from common import Case, hwio, main


def resnet20() -> list[tuple[int, ...]]:
    """Shapes of the parameters of ResNet-20 for CIFAR-10: 65 arrays, 270 thousand elements."""
    shapes, before = [(16, 3, 3, 3), (16,), (16,)], 16
    for width in (16,) * 3 + (32,) * 3 + (64,) * 3:
        shapes += [(width, before, 3, 3), (width,), (width,), (width, width, 3, 3), (width,), (width,)]
        if width != before:
            shapes += [(width, before, 1, 1), (width,), (width,)]
        before = width
    return [*shapes, (10, 64), (10,)]


NETWORKS = {
    "mlp": ([(512, 784), (512,), (256, 512), (256,), (10, 256), (10,)], True),
    "resnet20": (resnet20(), True),
    "1Mi": ([(1024, 1024)], True),
    "32Mi": ([(32768, 1024)], False),
}


def arrays(rng: np.random.Generator, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    made = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    return [hwio(a) if a.ndim == 4 else a for a in made]


def torch_step(name, options, keys):
    """A step of PyTorch's optimizer `name`, with the kernel's arrays for its state: fused, or else over lists."""

    def make(torch, params, grads, states, numbers, _, direction):
        params = [p.requires_grad_() for p in params]
        fused = name in ("SGD", "Adagrad", "Adam", "AdamW")
        cls = getattr(torch.optim, name)
        optimizer = cls(params, **options, **({"fused": True} if fused else {"foreach": True}))
        columns = [column or [None] * len(params) for column in [*states, *numbers]]
        for p, g, *values in zip(params, grads, *columns, strict=True):
            p.grad = g
            optimizer.state[p].clear()
            optimizer.state[p].update({k: v for k, v in zip(keys, values, strict=True) if v is not None})

        def run():
            optimizer.step()
            kept = [column for column in states if column]
            return [p.detach() for p in params] + [a for column in kept for a in column] + [
                None for column in numbers for _ in column]

        return run

    return make


MEAN, SQUARE, STEP = "exp_avg", "exp_avg_sq", "step"
# kernel, label, its options, PyTorch's name and options, names of states and numbers, the numbers
STEPS = [
    ("sgd_step", "0.0", (1e-3, 0.0, 0.0, False), "SGD", {"lr": 1e-3}, [""], {"": 9}),
    ("sgd_step", "0.9", (1e-3, 0.9, 0.0, False), "SGD", {"lr": 1e-3, "momentum": 0.9}, ["momentum_buffer"], {"": 9}),
    ("adam_step", "", (1e-3, 0.9, 0.999, 1e-8, 0.0), "Adam", {}, [MEAN, SQUARE, ""], {STEP: 9}),
    ("adam_step", "amsgrad", (1e-3, 0.9, 0.999, 1e-8, 0.0), "Adam", {"amsgrad": True}, [MEAN, SQUARE, "max_" + SQUARE],
     {STEP: 9}),
    ("adagrad_step", "", (1e-2, 0.0, 1e-10), "Adagrad", {}, ["sum"], {STEP: 9}),
    ("adadelta_step", "", (1.0, 0.9, 1e-6), "Adadelta", {}, ["square_avg", "acc_delta"], {STEP: 9}),
    ("rmsprop_step", "", (1e-2, 0.99, 1e-8, 0.0), "RMSprop", {}, ["square_avg", "", ""], {STEP: 9}),
    ("rmsprop_step", "0.9, centered", (1e-2, 0.99, 1e-8, 0.9), "RMSprop", {"momentum": 0.9, "centered": True},
     ["square_avg", "grad_avg", "momentum_buffer"], {STEP: 9}),
    ("adamax_step", "", (2e-3, 0.9, 0.999, 1e-8), "Adamax", {}, [MEAN, "exp_inf"], {STEP: 9}),
    ("nadam_step", "", (2e-3, 0.9, 0.999, 1e-8, 0.0, 4e-3), "NAdam", {}, [MEAN, SQUARE], {STEP: 9, "mu_product": 0.01}),
    ("radam_step", "", (1e-3, 0.9, 0.999, 1e-8, 0.0), "RAdam", {}, [MEAN, SQUARE], {STEP: 9}),
    ("rprop_step", "", (0.5, 1.2, 1e-6, 50.0), "Rprop", {}, ["prev", "step_size"], {STEP: 9}),
    ("asgd_step", "", (1e-2, 1e-4, 0.75, 1e6), "ASGD", {}, ["ax"], {STEP: 9, "eta": 0.01, "mu": 1.0}),
]  # fmt: skip


def state_of(rng, shapes, name):
    """What is kept under a name: squares are positive, and larger than those of means."""
    made = arrays(rng, shapes)
    if name in (MEAN, "prev", "momentum_buffer", "grad_avg", "ax"):
        return [np.multiply(a, 0.1, out=a) for a in made]
    return [np.add(np.square(a, out=a), 1.0, out=a) for a in made]


def cases() -> list[Case]:
    rows = []
    for name, (shapes, quick) in NETWORKS.items():
        n = sum(int(np.prod(shape)) for shape in shapes)
        for kernel, label, options, peer, settings, states, numbers in STEPS:
            if name != "resnet20" and kernel not in ("sgd_step", "adam_step") and name != "1Mi":
                continue

            def args(rng, shapes=shapes, options=options, states=states, numbers=numbers):
                counts = [[np.array(x, np.float32) for _ in shapes] for x in numbers.values()]
                kept = [state_of(rng, shapes, state) if state else [] for state in states]
                return arrays(rng, shapes), arrays(rng, shapes), kept, counts, [*options], (0.0, False, 0.0, 1.0)

            keys = [*states, *numbers]
            full = f"{label} {name}: {len(shapes)} arrays, {n:,}".strip()
            rows.append(Case("optimizer", kernel, full, args, quick=quick, torch=torch_step(peer, settings, keys),
                             bytes=4 * n * (3 + 2 * sum(map(bool, states)))))  # fmt: skip
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
