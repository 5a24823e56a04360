"""Convolution: forward, input gradient, weight gradient. FLOPs are counted over the taps inside the image only."""

import numpy as np
from common import Case, hwio, main, normal, out

# N, C, H, W, F, kernel, stride, groups; padding is kernel // 2
SHAPES = (
    ((64, 32, 32, 32, 32, 3, 1, 1), True),
    ((64, 1, 28, 28, 32, 3, 1, 1), True),
    ((64, 3, 32, 32, 32, 3, 1, 1), False),
    ((64, 32, 16, 16, 64, 3, 1, 1), False),
    ((64, 64, 16, 16, 64, 3, 1, 1), True),
    ((64, 128, 8, 8, 128, 3, 1, 1), False),
    ((64, 64, 16, 16, 128, 1, 1, 1), True),
    ((64, 64, 32, 32, 64, 3, 2, 1), True),
    ((64, 16, 32, 32, 16, 5, 1, 1), False),
    ((8, 256, 14, 14, 256, 3, 1, 1), False),
    ((1, 64, 56, 56, 64, 3, 1, 1), False),
    ((32, 128, 16, 16, 128, 3, 1, 128), True),
    ((32, 32, 32, 32, 32, 3, 1, 32), False),
    ((32, 64, 32, 32, 64, 3, 2, 64), False),
    ((32, 256, 8, 8, 256, 3, 1, 256), False),
    ((32, 96, 14, 14, 96, 5, 1, 96), False),
    ((32, 10, 24, 24, 10, 3, 1, 10), False),
    ((32, 128, 16, 16, 128, 3, 1, 32), False),
)


def taps(size: int, kernel: int, stride: int, padding: int) -> int:
    """Taps inside an axis of this size, over all its windows."""
    starts = np.arange(0, size + 2 * padding - kernel + 1, stride) - padding
    return int(np.sum(np.minimum(starts + kernel, size) - np.maximum(starts, 0)))


def torch_forward(torch, x, w, b, y_out, stride, padding, dilation, groups):
    w = w.contiguous(memory_format=torch.channels_last)
    return lambda: [torch.conv2d(x, w, b, stride, padding, dilation, groups)]


def torch_backward(of_input: bool):
    def prepare(torch, dy, a, result, stride, padding, dilation, groups):
        x, w = (result, a) if of_input else (a, result)
        w = w.contiguous(memory_format=torch.channels_last)
        rest = (None, stride, padding, dilation, False, (0, 0), groups, (of_input, not of_input, False))
        return lambda: [torch.ops.aten.convolution_backward(dy, x, w, *rest)[0 if of_input else 1]]

    return prepare


def cases() -> list[Case]:
    rows = []
    for (N, C, H, W, F, k, s, groups), quick in SHAPES:
        p = k // 2
        oH, oW = ((n + 2 * p - k) // s + 1 for n in (H, W))
        x, w, y = (N, C, H, W), (F, C // groups, k, k), (N, F, oH, oW)
        where = ((s, s), (p, p), (1, 1), groups)

        def forward(rng, x=x, w=w, y=y, where=where):
            return normal(rng, *x), hwio(normal(rng, *w)), normal(rng, w[0]), out(*y), *where

        def backward_input(rng, x=x, w=w, y=y, where=where):
            return normal(rng, *y), hwio(normal(rng, *w)), out(*x), *where

        def backward_weight(rng, x=x, w=w, y=y, where=where):
            return normal(rng, *y), normal(rng, *x), hwio(out(*w)), *where

        label = f"{N},{C},{H},{W} -> {F}, {k}x{k}" + f" /{s}" * (s > 1) + f" g{groups}" * (groups > 1)
        common = {
            "family": "conv", "label": label, "quick": quick,
            "flops": 2 * N * F * (C // groups) * taps(H, k, s, p) * taps(W, k, s, p),
            "bytes": 4.0 * sum(int(np.prod(shape)) for shape in (x, w, y)),
        }  # fmt: skip
        rows += [
            Case(kernel="conv2d", args=forward, torch=torch_forward, **common),
            Case(kernel="conv2d_backward_input", args=backward_input, torch=torch_backward(True), **common),
            Case(kernel="conv2d_backward_weight", args=backward_weight, torch=torch_backward(False), **common),
        ]
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
