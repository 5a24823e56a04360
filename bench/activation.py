"""Activations and their derivatives, at the sizes between two convolutions."""

import math

from common import Case, main, normal, out

SHAPES = (((64, 32, 32, 32), True), ((128, 256), True), ((64, 64, 112, 112), False))


def cases() -> list[Case]:
    rows = []
    for shape, quick in SHAPES:
        label, size = "x".join(map(str, shape)), 4 * math.prod(shape)
        for name in ("relu", "sigmoid", "tanh"):
            rows.append(
                Case(
                    "activation", name, label, lambda rng, shape=shape: (normal(rng, *shape), out(*shape)),
                    bytes=2 * size, quick=quick,
                    torch=lambda torch, x, y_out, name=name: lambda: [getattr(torch, name)(x)],
                )
            )  # fmt: skip
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
