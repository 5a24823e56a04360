"""Dropout: the generator, the mask of one bit an element, and the product in one pass."""

import math

import numpy as np
from common import Case, main, normal, out

SHAPES = (((128, 256), True), ((64, 32, 32, 32), True), ((64, 64, 112, 112), False))


def mask_of(size: int) -> np.ndarray:
    return np.zeros((size + 63) // 64, np.uint64)


def cases() -> list[Case]:
    rows = []
    for shape, quick in SHAPES:
        n = math.prod(shape)

        def args(rng, shape=shape, n=n):
            return normal(rng, *shape), 0.5, 7, mask_of(n), out(*shape)

        def args_backward(rng, shape=shape, n=n):
            mask = rng.integers(0, 2**64, (n + 63) // 64, np.uint64)
            return normal(rng, *shape), mask, 0.5, out(*shape)

        def torch_forward(torch, x, p, *_):  # other random numbers: nothing to compare
            def run():
                torch.nn.functional.dropout(x, p)
                return [None, None]

            return run

        common = {"family": "dropout", "label": "x".join(map(str, shape)), "quick": quick, "bytes": 8 * n + n / 8}
        rows += [
            Case(kernel="dropout", args=args, torch=torch_forward, **common),
            Case(kernel="dropout_backward", args=args_backward, **common),
        ]
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
