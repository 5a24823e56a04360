"""Activations and their derivatives, at sizes that occur between layers."""

import math

import numpy as np
from common import Case, main, normal, out

SHAPES = (((64, 32, 32, 32), True), ((128, 256), True), ((64, 64, 112, 112), False))
TWICE = math.sqrt(8 / math.pi)
KINDS = {  # parameters of the kernel; PyTorch's function; its derivative, from the gradient and what the kernel keeps
    "relu": ((), lambda F, x: F.relu(x), lambda aten, dy, y: aten.threshold_backward(dy, y, 0)),
    "threshold": ((0.5, -1.0), lambda F, x: F.threshold(x, 0.5, -1.0),
                  lambda aten, dy, y: aten.threshold_backward(dy, y, 0.5)),
    "leaky_relu": ((0.01,), lambda F, x: F.leaky_relu(x),
                   lambda aten, dy, y: aten.leaky_relu_backward(dy, y, 0.01, True)),
    "elu": ((1.0, 1.0, 1.0), lambda F, x: F.elu(x),
            lambda aten, dy, y: aten.elu_backward(dy, 1.0, 1.0, 1.0, True, y)),
    "sigmoid": ((), lambda F, x: x.sigmoid(), lambda aten, dy, y: aten.sigmoid_backward(dy, y)),
    "tanh": ((), lambda F, x: x.tanh(), lambda aten, dy, y: aten.tanh_backward(dy, y)),
    "tanhshrink": ((), lambda F, x: F.tanhshrink(x), lambda aten, dy, x: dy * x.tanh() ** 2),
    "softsign": ((), lambda F, x: F.softsign(x), lambda aten, dy, y: dy * (1 - y.abs()) ** 2),
    "softplus": ((1.0, 20.0), lambda F, x: F.softplus(x),
                 lambda aten, dy, x: aten.softplus_backward(dy, x, 1.0, 20.0)),
    "gelu": ((), lambda F, x: F.gelu(x), lambda aten, dy, x: aten.gelu_backward(dy, x)),
    "gelu_tanh": ((TWICE, 0.044715 * TWICE), lambda F, x: F.gelu(x, approximate="tanh"),
                  lambda aten, dy, x: aten.gelu_backward(dy, x, approximate="tanh")),
    "silu": ((), lambda F, x: F.silu(x), lambda aten, dy, x: aten.silu_backward(dy, x)),
    "mish": ((), lambda F, x: F.mish(x), lambda aten, dy, x: aten.mish_backward(dy, x)),
    "hardtanh": ((-1.0, 1.0), lambda F, x: F.hardtanh(x), lambda aten, dy, y: aten.hardtanh_backward(dy, y, -1, 1)),
    "hardsigmoid": ((), lambda F, x: F.hardsigmoid(x), lambda aten, dy, y: aten.hardtanh_backward(dy, y, 0, 1) / 6),
    "hardswish": ((), lambda F, x: F.hardswish(x), lambda aten, dy, x: aten.hardswish_backward(dy, x)),
    "hardshrink": ((0.5,), lambda F, x: F.hardshrink(x), lambda aten, dy, y: aten.hardshrink_backward(dy, y, 0.5)),
    "softshrink": ((0.5,), lambda F, x: F.softshrink(x), lambda aten, dy, y: aten.softshrink_backward(dy, y, 0.0)),
}  # fmt: skip


def weights(rng, shape):
    return np.tile(normal(rng, shape[1]), 512 // shape[1])


def cases() -> list[Case]:
    rows = []
    for shape, quick in SHAPES:
        common = {"family": "activation", "label": "x".join(map(str, shape)), "quick": quick}
        size = 4 * math.prod(shape)
        for name, (params, function, derivative) in KINDS.items():

            def args(rng, shape=shape, params=params):
                return normal(rng, *shape), params, out(*shape)

            def args_backward(rng, shape=shape, params=params):
                y = normal(rng, *shape)
                y.clip(-0.9, 0.9, out=y)  # an output that each of them may have
                return normal(rng, *shape), y, params, out(*shape)

            def torch_forward(torch, x, *_, function=function):
                return lambda: [function(torch.nn.functional, x)]

            def torch_backward(torch, dy, kept, *_, derivative=derivative):
                return lambda: [derivative(torch.ops.aten, dy, kept)]

            rows += [
                Case(kernel=name, args=args, bytes=2 * size, torch=torch_forward, **common),
                Case(kernel=f"{name}_backward", args=args_backward, bytes=3 * size, torch=torch_backward, **common),
            ]
        rows += [
            Case(kernel="prelu", bytes=2 * size, **common,
                 args=lambda rng, shape=shape: (normal(rng, *shape), weights(rng, shape), out(*shape)),
                 torch=lambda torch, x, w, y_out: lambda: [torch.prelu(x, w[: x.shape[1]])]),
            Case(kernel="prelu_backward", bytes=3 * size, **common,
                 args=lambda rng, shape=shape: (normal(rng, *shape), normal(rng, *shape), weights(rng, shape),
                                                out(*shape), out(512 * min(64, 1 + math.prod(shape) // 16384))),
                 torch=lambda torch, dy, x, w, *_: lambda: [
                     torch.ops.aten._prelu_kernel_backward(dy, x, w[: x.shape[1]].view(-1, *[1] * (x.ndim - 2)))[0],
                     None]),
        ]  # fmt: skip
    for quick, shape in enumerate(((64, 50176), (4096, 512))):  # of images of 64 channels, 28 by 28; of a linear layer
        half, label = (shape[0], shape[1] // 2), "x".join(map(str, shape))
        rows += [
            Case("activation", "glu", label, quick=bool(quick), bytes=6 * math.prod(shape),
                 args=lambda rng, shape=shape, half=half: (normal(rng, *shape), out(*half)),
                 torch=lambda torch, x, y_out: lambda: [torch.nn.functional.glu(x)]),
            Case("activation", "glu_backward", label, quick=bool(quick), bytes=10 * math.prod(shape),
                 args=lambda rng, shape=shape, half=half: (normal(rng, *half), normal(rng, *shape), out(*shape)),
                 torch=lambda torch, dy, x, dx_out: lambda: [torch.ops.aten.glu_backward(dy, x, -1)]),
        ]  # fmt: skip
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
