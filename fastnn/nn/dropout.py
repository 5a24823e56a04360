"""Dropout as modules: active in training, the identity in evaluation."""
from __future__ import annotations

import fastnn.functional as F
from fastnn.functional.dropout import check_probability
from fastnn.nn.module import Module
from fastnn.tensor import Tensor


class Dropout(Module):
    """In training each element is dropped with probability p, and the others are divided by 1 − p.

    Raises ValueError unless 0 <= p <= 1.

    >>> Dropout(0.2)
    Dropout(p=0.2, inplace=False)
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(type(self).__name__, p)
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout2d(Dropout):
    """Like Dropout, but drops whole channels of each image; input (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training, self.inplace)
