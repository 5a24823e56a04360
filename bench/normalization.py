"""Batch norm in training and evaluation, forward and backward."""

import math

import numpy as np
from common import Case, main, normal, out

SHAPES = (((64, 32, 32, 32), True), ((128, 64, 8, 8), True), ((128, 256), True), ((64, 64, 112, 112), False))


def channels(rng, n, low=0.5, high=1.5):
    return rng.uniform(low, high, n).astype(np.float32)


def cases() -> list[Case]:
    rows = []
    for shape, quick in SHAPES:
        label, size, c = "x".join(map(str, shape)), 4 * math.prod(shape), shape[1]
        axes = tuple(i for i in range(len(shape)) if i != 1)

        def forward(rng, shape=shape, c=c):
            x, scale = normal(rng, *shape), channels(rng, c)
            return x, scale, channels(rng, c, -1), 1e-5, out(*shape), out(c), out(c), out(c)

        def backward(rng, shape=shape, c=c, axes=axes):
            x = normal(rng, *shape)
            mean = x.mean(axes, np.float64).astype(np.float32)
            rstd = (1 / np.sqrt(x.var(axes, np.float64) + 1e-5)).astype(np.float32)
            return normal(rng, *shape), x, mean, rstd, channels(rng, c), True, out(*shape), out(c), out(c)

        def evaluate(rng, shape=shape, c=c):
            x = normal(rng, *shape)
            return x, channels(rng, c, -1), channels(rng, c), channels(rng, c), channels(rng, c, -1), out(*shape)

        def torch_forward(torch, x, weight, bias, eps, *_):
            def run():
                y, mean, rstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, eps)
                return [y, mean, rstd, None]

            return run

        def torch_backward(torch, dy, x, mean, rstd, weight, *_):
            mask = [True, True, True]
            call = torch.ops.aten.native_batch_norm_backward
            return lambda: list(call(dy, x, weight, None, None, mean, rstd, True, 1e-5, mask))

        def torch_evaluate(torch, x, mean, rstd, weight, bias, y_out):
            var = rstd**-2
            return lambda: [torch.nn.functional.batch_norm(x, mean, var, weight, bias, eps=0.0)]

        common = {"family": "normalization", "label": label, "quick": quick}
        rows += [
            Case(kernel="batch_norm", args=forward, bytes=3 * size, torch=torch_forward, **common),
            Case(kernel="batch_norm_backward", args=backward, bytes=5 * size, torch=torch_backward, **common),
            Case(kernel="batch_norm_eval", args=evaluate, bytes=2 * size, torch=torch_evaluate, **common),
        ]
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
