"""What a network is trained for: the loss to lower, the figures to score it by, how its outputs are read."""
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.functional import cross_entropy, log_softmax, mse_loss, softmax
from fastnn.tensor import Tensor
from fastnn.train.metrics import MAE, MSE, R2, Accuracy, Metric


class Task:
    """To lower `loss(outputs, targets)`; `error` is what evaluation calls the loss, `metrics` what it adds."""
    name = "task"

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.loss = self.error = loss

    def metrics(self) -> list[Metric]:
        return []

    def answers(self, outputs: Tensor) -> Tensor:
        """What the outputs stand for."""
        return outputs

    def scored(self, outputs: Tensor) -> Tensor:
        """The outputs as metrics take them."""
        return outputs

    def combine(self, views: list[Tensor]) -> Tensor:
        """The mean of the views' outputs."""
        return Tensor(np.mean([view.array for view in views], 0))


class Classification(Task):
    """Outputs are class scores (N, K), targets labels (N,) or probabilities (N, K), the loss is cross-entropy in nats,
    with `label_smoothing` in training."""
    name = "classification"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__(lambda outputs, targets: cross_entropy(outputs, targets, label_smoothing=label_smoothing))
        self.label_smoothing, self.error = label_smoothing, cross_entropy

    def metrics(self) -> list[Metric]:
        return [Accuracy()]

    def answers(self, outputs: Tensor) -> Tensor:
        """The probabilities (N, K) of the classes."""
        return softmax(outputs, 1)

    def combine(self, views: list[Tensor]) -> Tensor:
        """Scores whose probabilities are the means of those of the views' scores, (N, K) each."""
        logs = np.stack([log_softmax(view, 1).array for view in views])
        return Tensor(np.logaddexp.reduce(logs, 0) - logs.dtype.type(math.log(len(views))))


class Regression(Task):
    """Outputs (N, T) stand for numbers mean + std · output, of which the targets, (N, T) or for T = 1 (N,), are
    examples. The loss is the mean squared error in units of `std`, of one size whatever the targets' unit, in which the
    metrics are. `mean`, `std`: numbers, or arrays (T,)."""
    name = "regression"

    def __init__(self, mean: Any = 0.0, std: Any = 1.0) -> None:
        super().__init__(self._loss)
        self.mean, self.std = mean, std

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if targets.shape not in (outputs.shape, outputs.shape[:1] if outputs.shape[1:] == (1,) else None):
            raise ShapeError(f"Regression: the network gives {outputs.shape}, but the targets are {targets.shape}")
        y = (targets.array.reshape(outputs.shape) - np.asarray(self.mean, np.float64)) / self.std
        return mse_loss(outputs, Tensor(y.astype(outputs.dtype)))

    def metrics(self) -> list[Metric]:
        return [MSE(), MAE(), R2()]

    def answers(self, outputs: Tensor) -> Tensor:
        """The numbers (N, T), float64."""
        return Tensor(outputs.array * np.asarray(self.std, np.float64) + self.mean)

    scored = answers


def as_task(loss: Any, targets: np.ndarray) -> Task:
    """A task; that of a loss function; or by default the one that the `targets` suggest."""
    labels = targets.dtype.kind in "iub"
    if loss is None or isinstance(loss, Task):
        return loss or (Classification() if labels else Regression())
    if not callable(loss):
        raise TypeError(f"fit: loss must be a function of (outputs, targets) or a task, got a {type(loss).__name__}")
    task = Task(loss)
    task.metrics = Classification().metrics if labels else task.metrics  # type: ignore[method-assign]
    return task
