"""Optimizer steps: SGD, SGD with momentum, Adam, each for all parameters of a network in one call.

Bytes counted: 12 a parameter for plain SGD, 20 with momentum, 28 for Adam. PyTorch runs its fused steps, its fastest.
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


def torch_sgd(torch, params, grads, buffers, lr, momentum, dampening, decay, nesterov, maximize, scale, first):
    def run():
        torch._fused_sgd_(
            params, grads, buffers, weight_decay=decay, momentum=momentum, lr=lr, dampening=dampening,
            nesterov=nesterov, maximize=maximize, is_first_step=first[0],
        )  # fmt: skip
        return [*params, *buffers]

    return run


def torch_adam(torch, params, grads, averages, squares, largest, counts, lr, beta1, beta2, eps, decay, _, maximize,
               scale):
    steps = [torch.tensor(float(step) + 1) for step in counts]

    def run():
        torch._fused_adam_(
            params, grads, averages, squares, largest, steps, lr=lr, beta1=beta1, beta2=beta2, weight_decay=decay,
            eps=eps, amsgrad=False, maximize=maximize,
        )  # fmt: skip
        return [*params, *averages, *squares, *[None] * len(counts)]

    return run


def cases() -> list[Case]:
    rows = []
    for name, (shapes, quick) in NETWORKS.items():
        n = sum(int(np.prod(shape)) for shape in shapes)
        label = f"{name}: {len(shapes)} arrays, {n:,}"
        for momentum in (0.0, 0.9):

            def args_sgd(rng, shapes=shapes, momentum=momentum):
                params, grads = arrays(rng, shapes), arrays(rng, shapes)
                buffers = arrays(rng, shapes) if momentum else []
                return params, grads, buffers, 1e-3, momentum, 0.0, 0.0, False, False, 1.0, [False] * len(params)

            rows.append(Case("optimizer", "sgd_step", f"{momentum} {label}", args_sgd, quick=quick, torch=torch_sgd,
                             bytes=4 * n * (5 if momentum else 3)))  # fmt: skip

        def args_adam(rng, shapes=shapes):
            params, grads, averages = (arrays(rng, shapes) for _ in range(3))
            squares = [np.square(a) for a in arrays(rng, shapes)]
            steps = [np.array(9, np.float32) for _ in params]
            return params, grads, averages, squares, [], steps, 1e-3, 0.9, 0.999, 1e-8, 0.0, False, False, 1.0

        rows.append(
            Case("optimizer", "adam_step", label, args_adam, quick=quick, torch=torch_adam, bytes=4 * n * 7)
        )
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
