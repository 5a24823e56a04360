"""Convolution: forward, input gradient, weight gradient. FLOPs are counted over the taps inside the image only."""

import math
from typing import NamedTuple

import numpy as np
from common import Case, hwio, main, normal, out


class Convolution(NamedTuple):
    """Sizes of a convolution; heights come before widths."""

    N: int
    C: int
    H: int
    W: int
    F: int
    kernel: tuple[int, int]
    stride: int
    padding: tuple[int, int]
    groups: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of input, weight and output."""
        N, C, H, W, F, kernel, stride, padding, groups = self
        pooled = ((n + 2 * p - k) // stride + 1 for n, k, p in zip((H, W), kernel, padding, strict=True))
        return (N, C, H, W), (F, C // groups, *kernel), (N, F, *pooled)

    @property
    def flops(self) -> int:
        """Of each of the three passes."""
        taps = map(self.taps, (self.H, self.W), self.kernel, self.padding)
        return 2 * self.N * self.F * (self.C // self.groups) * math.prod(taps)

    def taps(self, size: int, kernel: int, padding: int) -> int:
        """Taps inside an axis of this size, over all its windows."""
        starts = np.arange(0, size + 2 * padding - kernel + 1, self.stride) - padding
        return int(np.sum(np.maximum(np.minimum(starts + kernel, size) - np.maximum(starts, 0), 0)))

    def __str__(self) -> str:
        N, C, H, W, F, (kH, kW), stride, padding, groups = self
        usual = padding == (kH // 2, kW // 2)
        return (f"{N},{C},{H},{W} -> {F}, {kH}x{kW}" + f" /{stride}" * (stride > 1)
                + f" p{padding[0]},{padding[1]}" * (not usual) + f" g{groups}" * (groups > 1))  # fmt: skip


def same(N: int, C: int, H: int, W: int, F: int, kernel: int, stride: int = 1, groups: int = 1) -> Convolution:
    return Convolution(N, C, H, W, F, (kernel, kernel), stride, (kernel // 2, kernel // 2), groups)


SHAPES = (
    (same(64, 32, 32, 32, 32, 3), True),
    (same(64, 1, 28, 28, 32, 3), True),
    (same(64, 3, 32, 32, 32, 3), False),
    (same(64, 32, 16, 16, 64, 3), False),
    (same(64, 64, 16, 16, 64, 3), True),
    (same(64, 128, 8, 8, 128, 3), True),
    (same(64, 64, 16, 16, 128, 1), True),
    (same(64, 64, 32, 32, 64, 3, 2), True),
    (same(64, 16, 32, 32, 16, 5), False),
    (same(8, 256, 14, 14, 256, 3), False),
    (same(1, 64, 56, 56, 64, 3), False),
    (same(32, 128, 16, 16, 128, 3, groups=128), True),
    (same(32, 32, 32, 32, 32, 3, groups=32), False),
    (same(32, 64, 32, 32, 64, 3, 2, groups=64), False),
    (same(32, 256, 8, 8, 256, 3, groups=256), False),
    (same(32, 96, 14, 14, 96, 5, groups=96), False),
    (same(32, 10, 24, 24, 10, 3, groups=10), False),
    (same(32, 128, 16, 16, 128, 3, groups=32), False),
)


def torch_forward(torch, x, w, b, y_out, stride, padding, dilation, groups):
    return lambda: [torch.conv2d(x, w, b, stride, padding, dilation, groups)]


def torch_backward(of_input: bool):
    def prepare(torch, dy, a, result, stride, padding, dilation, groups):
        x, w = (result, a) if of_input else (a, result)
        rest = (None, stride, padding, dilation, False, (0, 0), groups, (of_input, not of_input, False))
        return lambda: [torch.ops.aten.convolution_backward(dy, x, w, *rest)[0 if of_input else 1]]

    return prepare


def passes(conv: Convolution, quick: bool = True) -> list[Case]:
    """Forward, input gradient, weight gradient."""
    x, w, y = conv.shapes
    where = ((conv.stride, conv.stride), conv.padding, (1, 1), conv.groups)

    def forward(rng):
        return normal(rng, *x), hwio(normal(rng, *w)), normal(rng, w[0]), out(*y), *where

    def backward_input(rng):
        return normal(rng, *y), hwio(normal(rng, *w)), out(*x), *where

    def backward_weight(rng):
        return normal(rng, *y), normal(rng, *x), hwio(out(*w)), *where

    common = {"family": "conv", "label": str(conv), "flops": conv.flops, "quick": quick,
              "bytes": 4.0 * sum(map(math.prod, (x, w, y)))}  # fmt: skip
    return [
        Case(kernel="conv2d", args=forward, torch=torch_forward, **common),
        Case(kernel="conv2d_backward_input", args=backward_input, torch=torch_backward(True), **common),
        Case(kernel="conv2d_backward_weight", args=backward_weight, torch=torch_backward(False), **common),
    ]


CASES = [case for conv, quick in SHAPES for case in passes(conv, quick)]

if __name__ == "__main__":
    main(CASES, __doc__)
