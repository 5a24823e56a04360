"""Batch norm in training and evaluation, layer and group norm, forward and backward."""

import math
from functools import partial

import numpy as np
from common import Case, main, normal, out

SHAPES = (((64, 32, 32, 32), True), ((128, 16, 32, 32), True), ((128, 64, 8, 8), True), ((128, 256), True),
          ((64, 64, 112, 112), False))


def channels(rng, n, low=0.5, high=1.5):
    return rng.uniform(low, high, n).astype(np.float32)


def cases() -> list[Case]:
    rows = []
    for shape, quick in SHAPES:
        label, size, c = "x".join(map(str, shape)), 4 * math.prod(shape), shape[1]
        axes = tuple(i for i in range(len(shape)) if i != 1)

        def statistics(rng, shape=shape, c=c):
            return normal(rng, *shape), 1e-5, 0.1, out(c), out(c), None, None

        def forward(rng, shape=shape, c=c, residual=False, relu=False):
            x, other = normal(rng, *shape), normal(rng, *shape) if residual else None
            mean, rstd, weight, bias = (channels(rng, c, low) for low in (-1, 0.5, 0.5, -1))
            return x, mean, rstd, weight, bias, other, relu, out(*shape)

        def backward(rng, shape=shape, c=c, axes=axes, residual=False, relu=False):
            x = normal(rng, *shape)
            mean = x.mean(axes, np.float64).astype(np.float32)
            rstd = (1 / np.sqrt(x.var(axes, np.float64) + 1e-5)).astype(np.float32)
            y, g_out = (normal(rng, *shape), out(*shape)) if residual else (None, None)
            weight, bias = channels(rng, c), channels(rng, c, -1)
            if relu and not residual:  # the kernel makes y anew: none may be so near 0 that rounding decides its sign
                per = (c, *(1,) * (x.ndim - 2))
                y_made = (x - mean.reshape(per)) * (rstd * weight).reshape(per) + bias.reshape(per)
                x[np.abs(y_made) < 1e-5] += 1e-3
            return normal(rng, *shape), x, mean, rstd, weight, bias, y, relu, True, out(*shape), out(c), out(c), g_out

        def torch_backward(torch, dy, x, mean, rstd, weight, *_):
            mask = [True, True, True]
            call = torch.ops.aten.native_batch_norm_backward
            return lambda: list(call(dy, x, weight, None, None, mean, rstd, True, 1e-5, mask))

        def torch_forward(torch, x, mean, rstd, weight, bias, *_):
            var = rstd**-2
            return lambda: [torch.nn.functional.batch_norm(x, mean, var, weight, bias, eps=0.0)]

        common = {"family": "normalization", "label": label, "quick": quick}
        rows += [
            Case(kernel="batch_norm_statistics", args=statistics, bytes=size, **common),
            Case(kernel="batch_norm", args=forward, bytes=2 * size, torch=torch_forward, **common),
            Case(kernel="batch_norm_backward", args=backward, bytes=5 * size, torch=torch_backward, **common),
        ]
        for word, options, forward_passes, backward_passes in (
                ("relu", {"relu": True}, 2, 5), ("add+relu", {"residual": True, "relu": True}, 3, 7)):
            common["label"] = f"{label} {word}"
            args = partial(forward, **options), partial(backward, **options)
            rows += [Case(kernel="batch_norm", args=args[0], bytes=forward_passes * size, **common),
                     Case(kernel="batch_norm_backward", args=args[1], bytes=backward_passes * size, **common)]
    return rows


def kin() -> list[Case]:
    """Layer norm of rows and group norm with 8 groups; backward, mean and rstd are those of x."""
    rows = []
    for shape, quick in (((4096, 64), True), ((512, 768), True), ((64, 32, 28, 28), True), ((8, 64, 56, 56), True),
                         ((16384, 256), False), ((64, 100_000), False)):
        name, D, n = ("layer", shape[1], shape[:1]) if len(shape) == 2 else ("group", shape[1], (shape[0], 8))
        size = 4 * math.prod(shape)

        def forward(rng, shape=shape, D=D, n=n):
            return normal(rng, *shape), channels(rng, D), channels(rng, D, -1), 1e-5, out(*shape), out(*n), out(*n)

        def backward(rng, shape=shape, D=D, n=n):
            x = normal(rng, *shape)
            each = x.reshape(*n, -1)
            mean, rstd = each.mean(-1), 1 / np.sqrt(each.var(-1) + 1e-5)
            return normal(rng, *shape), x, mean, rstd, channels(rng, D), out(*shape), out(D), out(D)

        def torch_forward(torch, x, weight, bias, eps, *_, n=n):
            if x.ndim == 2:
                return lambda: [a if i == 0 else a[:, 0] for i, a in enumerate(
                    torch.native_layer_norm(x, x.shape[1:], weight, bias, eps))]
            N, C, H, W = x.shape
            return lambda: list(torch.native_group_norm(x, weight, bias, N, C, H * W, n[1], eps))

        def torch_backward(torch, dy, x, mean, rstd, weight, *_, n=n):
            mask, aten = [True, True, True], torch.ops.aten
            if x.ndim == 2:
                args = dy, x, x.shape[1:], mean[:, None], rstd[:, None], weight, torch.zeros_like(weight), mask
                return lambda: list(aten.native_layer_norm_backward(*args))
            N, C, H, W = x.shape
            return lambda: list(aten.native_group_norm_backward(dy, x, mean, rstd, weight, N, C, H * W, n[1], mask))

        common = {"family": "normalization", "label": "x".join(map(str, shape)), "quick": quick}
        rows += [
            Case(kernel=f"{name}_norm", args=forward, bytes=2 * size, torch=torch_forward, **common),
            Case(kernel=f"{name}_norm_backward", args=backward, bytes=3 * size, torch=torch_backward, **common),
        ]
    return rows


CASES = cases() + kin()

if __name__ == "__main__":
    main(CASES, __doc__)
