"""Flatten and Unflatten."""
from collections.abc import Sequence

import fastnn.functional as F
from fastnn.nn.module import FunctionModule


class Flatten(FunctionModule, function=F.flatten):
    """Merges the axes from `start_dim` to `end_dim` into one, by default all but the first.

    >>> nn.Flatten()(fastnn.zeros(32, 5, 3, 3)).shape
    (32, 45)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__(start_dim=start_dim, end_dim=end_dim)


class Unflatten(FunctionModule, function=lambda x, dim, unflattened_size: F.unflatten(x, dim, unflattened_size)):
    """Splits the axis `dim` into axes of sizes `unflattened_size`, of which one may be -1."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__(dim=dim, unflattened_size=tuple(unflattened_size))
