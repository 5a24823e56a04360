"""Losses as modules; `fastnn.functional` has their formulae, shapes and errors."""
from __future__ import annotations

import fastnn.functional as F
from fastnn.nn.module import Module
from fastnn.tensor import Tensor


class NLLLoss(Module):
    """−w[t]·x[t] for log-probabilities x; `weight` is a buffer."""

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class CrossEntropyLoss(NLLLoss):
    """−w[t]·log softmax(x)[t], with label smoothing; `weight` is a buffer.

    >>> import fastnn
    >>> CrossEntropyLoss()(fastnn.zeros(2, 10), fastnn.tensor([3, 9]))
    tensor(2.3026)
    """

    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction)
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class MSELoss(Module):
    """(x − t)², averaged, summed or as is."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction)
