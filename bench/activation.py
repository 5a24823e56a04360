"""Activations and their derivatives, at sizes that occur between layers."""

import math

from common import Case, main, normal, out

SHAPES = (((64, 32, 32, 32), True), ((128, 256), True), ((64, 64, 112, 112), False))


def forward(torch, name, x, argument):
    functional = torch.nn.functional
    return {
        "relu": lambda: torch.relu(x),
        "leaky_relu": lambda: functional.leaky_relu(x, *argument),
        "elu": lambda: functional.elu(x, *argument),
        "sigmoid": lambda: torch.sigmoid(x),
        "tanh": lambda: torch.tanh(x),
    }[name]


def backward(torch, name, dy, y, argument):
    aten = torch.ops.aten
    return {
        "relu": lambda: aten.threshold_backward(dy, y, 0),
        "leaky_relu": lambda: aten.leaky_relu_backward(dy, y, *argument, True),
        "elu": lambda: aten.elu_backward(dy, *argument, 1.0, 1.0, True, y),
        "sigmoid": lambda: aten.sigmoid_backward(dy, y),
        "tanh": lambda: aten.tanh_backward(dy, y),
    }[name]


def cases() -> list[Case]:
    rows = []
    for shape, quick in SHAPES:
        for name, argument in (("relu", ()), ("leaky_relu", (0.01,)), ("elu", (1.0,)), ("sigmoid", ()), ("tanh", ())):

            def args(rng, shape=shape, argument=argument):
                return normal(rng, *shape), *argument, out(*shape)

            def args_backward(rng, shape=shape, argument=argument):
                y = normal(rng, *shape)
                y.clip(-0.9, 0.9, out=y)  # an output that each of them may have
                return normal(rng, *shape), y, *argument, out(*shape)

            def torch_forward(torch, x, *rest, name=name):
                run = forward(torch, name, x, rest[:-1])
                return lambda: [run()]

            def torch_backward(torch, dy, y, *rest, name=name):
                run = backward(torch, name, dy, y, rest[:-1])
                return lambda: [run()]

            common = {"family": "activation", "label": "x".join(map(str, shape)), "quick": quick}
            size = 4 * math.prod(shape)
            rows += [
                Case(kernel=name, args=args, bytes=2 * size, torch=torch_forward, **common),
                Case(kernel=f"{name}_backward", args=args_backward, bytes=3 * size, torch=torch_backward, **common),
            ]
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
