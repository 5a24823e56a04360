"""Losses as modules; `fastnn.functional` has their formulae, shapes and errors."""
import fastnn.functional as F
from fastnn.nn.module import FunctionModule
from fastnn.tensor import Tensor


class NLLLoss(FunctionModule, function=F.nll_loss, shows=()):
    """−w[t]·x[t] for log-probabilities x; `weight` is a buffer."""

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction)
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input, target, self.weight)


class CrossEntropyLoss(NLLLoss, function=F.cross_entropy, shows=()):
    """−w[t]·log softmax(x)[t], with label smoothing; `weight` is a buffer.

    >>> nn.CrossEntropyLoss()(fastnn.zeros(2, 10), fastnn.tensor([3, 9]))
    tensor(2.3026)
    """

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction)
        self.label_smoothing, self._settings = label_smoothing, (*self._settings, "label_smoothing")


class MSELoss(FunctionModule, function=F.mse_loss, shows=()):
    """(x − t)², averaged, summed or as is."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
