"""Flatten and Unflatten."""
from __future__ import annotations

from collections.abc import Sequence

import fastnn.functional as F
from fastnn.nn.module import Module
from fastnn.tensor import Tensor


class Flatten(Module):
    """Merges the axes from `start_dim` to `end_dim` into one, by default all but the first.

    >>> import fastnn
    >>> Flatten()(fastnn.zeros(32, 5, 3, 3)).shape
    (32, 45)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits the axis `dim` into axes of sizes `unflattened_size`, of which one may be -1.

    >>> import fastnn
    >>> Unflatten(1, (5, 3, -1))(fastnn.zeros(32, 45)).shape
    (32, 5, 3, 3)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return F.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
