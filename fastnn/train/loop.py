"""What a network is trained for (the loss to lower, the figures to score it by, how outputs are read), and the loop."""
import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fastnn import nn
from fastnn.data import DataLoader
from fastnn.errors import ShapeError
from fastnn.functional import cross_entropy, log_softmax, mse_loss, softmax
from fastnn.nn.parameter import evaluation
from fastnn.optim import Optimizer
from fastnn.tensor import Tensor


class Accuracy(NamedTuple):
    """Mean cross-entropy in nats, and the fraction of samples whose class was found."""
    loss: float
    accuracy: float

    def __str__(self) -> str:
        return "loss {:.4f} accuracy {:.4f}".format(*self)


class Deviation(NamedTuple):
    """Mean squared error, mean absolute error, R² = 1 − Σ(ŷ − y)² / Σ(y − ȳ)², the variance that is explained."""
    mse: float
    mae: float
    r2: float

    def __str__(self) -> str:
        return "mse {:.6g} mae {:.6g} R² {:.4f}".format(*self)


class Classification:
    """Outputs are class scores (N, K), targets labels (N,) or probabilities (N, K), the loss is cross-entropy."""
    name, terms = "classification", 3  # terms of `sums`

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def answers(self, outputs: Tensor) -> Tensor:
        """The probabilities (N, K) of the classes."""
        return softmax(outputs, 1)

    def combine(self, views: list[Tensor]) -> Tensor:
        """Scores whose probabilities are the means of those of the views' scores, (N, K) each."""
        logs = np.stack([log_softmax(view, 1).array for view in views])
        return Tensor(np.logaddexp.reduce(logs, 0) - logs.dtype.type(math.log(len(views))))

    def sums(self, outputs: Tensor, targets: Tensor, loss: float | None = None) -> np.ndarray:
        """What `score` needs of a batch; those of several batches are added. `loss`: the mean loss, if it is known."""
        labels = targets.array if targets.ndim == 1 else targets.array.argmax(1)
        loss = cross_entropy(outputs, targets).item() if loss is None else loss
        return np.array([loss * len(labels), (outputs.array.argmax(1) == labels).sum(), len(labels)])

    def score(self, sums: np.ndarray) -> Accuracy:
        loss, right, n = sums.tolist()
        return Accuracy(loss / n, right / n) if n else Accuracy(math.nan, math.nan)


class Regression:
    """Outputs (N, 1) stand for numbers mean + std · output, of which the targets, (N, 1) or (N,), are examples. The
    loss is the mean squared error in units of `std`, of one size whatever the targets' unit, in which scores are."""
    name, terms = "regression", 5

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = mean, std

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return mse_loss(outputs, Tensor((self._deviation(outputs, targets) / self.std).astype(outputs.dtype)))

    def _deviation(self, outputs: Tensor, targets: Tensor) -> np.ndarray:
        """The targets less their mean, float64, in the outputs' shape."""
        if targets.shape not in (outputs.shape, outputs.shape[:1] if outputs.shape[1:] == (1,) else None):
            raise ShapeError(f"Regression: the network gives {outputs.shape}, but the targets are {targets.shape}")
        return targets.array.reshape(outputs.shape) - np.float64(self.mean)

    def answers(self, outputs: Tensor) -> Tensor:
        """The numbers (N, 1), float64."""
        return Tensor(outputs.array * np.float64(self.std) + self.mean)

    def combine(self, views: list[Tensor]) -> Tensor:
        """The mean of the views' outputs."""
        return Tensor(np.mean([view.array for view in views], 0))

    def sums(self, outputs: Tensor, targets: Tensor, loss: float | None = None) -> np.ndarray:
        """What `score` needs of a batch; those of several batches are added."""
        y = self._deviation(outputs, targets)  # less the mean, so that squares keep their digits
        error = outputs.array * np.float64(self.std) - y
        return np.array([(error**2).sum(), np.abs(error).sum(), y.sum(), (y**2).sum(), y.size])

    def score(self, sums: np.ndarray) -> Deviation:
        squared, absolute, y, y2, n = sums.tolist()
        if not n:
            return Deviation(math.nan, math.nan, math.nan)
        spread = y2 - y * y / n
        return Deviation(squared / n, absolute / n, 1 - squared / spread if spread > 0 else math.nan)


Task = Classification | Regression
Score = Accuracy | Deviation


class Epoch(NamedTuple):
    """One pass over the training data: its number, from 1; scores of the training and of the validation samples."""
    epoch: int
    training: Score
    validation: Score
    samples_per_second: float

    def __str__(self) -> str:
        return "epoch {:3}  training {}  validation {}  {:.0f} samples/s".format(*self)


def evaluate(model: nn.Module, batches: Iterable[Any], task: Task | None = None) -> Score:
    """The score of `model` in evaluation mode over batches (x, y): mean cross-entropy and accuracy, or what `task` asks
    for; NaN without samples.

    >>> loader = fastnn.data.DataLoader([(fastnn.ones(2), 1)] * 5)
    >>> evaluate(nn.Linear(2, 3), loader)
    Accuracy(loss=..., accuracy=...)"""
    task = task or Classification()
    with evaluation(model):
        return task.score(sum((task.sums(model(x), y) for x, y in batches), np.zeros(task.terms)))


def fit(model: nn.Module, optimizer: Optimizer, training: DataLoader, validation: DataLoader, epochs: int,
        scheduler: Any = None, task: Task | None = None, per_batch: bool = False) -> list[Epoch]:
    """Trains on the loss of `task`, by default cross-entropy; shows a progress bar, if this is a terminal, and prints a
    line each epoch. `scheduler` steps after every epoch, or `per_batch`.

    Training figures are gathered while the weights change; their loss is the one that is lowered, that of regression
    in the targets' unit. FloatingPointError when the loss is not finite."""
    from tqdm import tqdm  # here, since importing fastnn loads NumPy alone

    history: list[Epoch] = []
    task = task or Classification()
    with tqdm(total=epochs * len(training), unit=" batches", leave=False, disable=None) as bar:
        for epoch in range(1, epochs + 1):
            model.train()
            start, count, sums = time.perf_counter(), 0, np.zeros(task.terms)
            for x, y in training:
                optimizer.zero_grad()
                outputs = model(x)
                loss = task.loss(outputs, y)
                loss.backward()
                optimizer.step()
                if scheduler is not None and per_batch:
                    scheduler.step()
                sums += task.sums(outputs, y, loss.item())
                count += len(y)
                rate = count / (time.perf_counter() - start)
                bar.set_postfix_str(f"{task.score(sums)}, {rate:.0f} samples/s", refresh=False)
                bar.update()
            score = task.score(sums)
            if not math.isfinite(score[0]):
                raise FloatingPointError(f"the training loss is {score[0]} in epoch {epoch}: try a lower learning rate")
            if scheduler is not None and not per_batch:
                scheduler.step()
            history.append(Epoch(epoch, score, evaluate(model, validation, task), rate))
            bar.write(str(history[-1]))
    return history
