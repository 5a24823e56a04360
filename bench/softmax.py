"""Softmax, log-softmax and cross-entropy over rows of class scores."""

import numpy as np
from common import Case, main, normal, out

SHAPES = (((64, 10), True), ((128, 1000), True), ((8192, 1000), False))


def cases() -> list[Case]:
    rows = []
    for shape, quick in SHAPES:
        n, d = shape

        def args(rng, shape=shape):
            return normal(rng, *shape), out(*shape)

        def args_backward(rng, shape=shape):
            return normal(rng, *shape), rng.dirichlet(np.ones(shape[1]), shape[0]).astype(np.float32), out(*shape)

        def args_loss(rng, n=n, d=d):
            target, sums_out = rng.integers(0, d, n), np.zeros(2)
            return normal(rng, n, d), target, None, 0.0, -100, out(n), sums_out, out(n, d)

        def torch_loss(torch, x, target, weight, smoothing, ignore_index, *_):
            def run():  # the gradient of the sum of the losses, as the kernel leaves it
                leaf = x.detach().requires_grad_()
                loss = torch.nn.functional.cross_entropy(leaf, target, reduction="none")
                loss.sum().backward()
                return [loss.detach(), None, leaf.grad]

            return run

        common = {"family": "softmax", "label": f"{n}x{d}", "quick": quick}
        size = 4 * n * d
        rows += [
            Case(kernel="softmax", args=args, bytes=2 * size, **common,
                 torch=lambda torch, x, y_out: lambda: [torch.softmax(x, 1)]),
            Case(kernel="softmax_backward", args=args_backward, bytes=3 * size, **common,
                 torch=lambda torch, dy, y, dx_out: lambda: [torch._softmax_backward_data(dy, y, 1, torch.float32)]),
            Case(kernel="log_softmax", args=args, bytes=2 * size, **common,
                 torch=lambda torch, x, y_out: lambda: [torch.log_softmax(x, 1)]),
            Case(kernel="cross_entropy", args=args_loss, bytes=2 * size, torch=torch_loss, **common),
        ]  # fmt: skip
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
