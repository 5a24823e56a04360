"""Figures of merit, summed up over batches."""
import math
from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.tensor import Tensor


class Metric:
    """A figure of merit: `reset()`, `update(outputs, targets)` for each batch, then `compute()`, NaN without samples.

    A subclass has a `name` and defines `sums(outputs, targets)`, an array of what adds up over batches, from the arrays
    of one, and `score(total)`, a number or an array, from their sum. `total` is all its state."""
    name = ""
    total: Any = None

    def reset(self) -> None:
        self.total = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        new = np.asarray(self.sums(outputs.array, targets.array))
        self.total = new if self.total is None else self.total + new

    def compute(self) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = math.nan if self.total is None else self.score(self.total)
        return found if np.ndim(found) else np.asarray(found).item()

    def sums(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def score(self, total: np.ndarray) -> Any:
        return float(total[0] / total[1])


def labels_of(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true labels: the class of the largest score (N, K, …); or, of one score a sample, (N,) or (N, 1),
    whether it is positive. Targets are labels or probabilities (N, K); negative ones are ignored."""
    if outputs.ndim == 1 or outputs.shape[1:] == (1,):
        predicted, true = outputs.reshape(-1) > 0, targets.reshape(-1) > 0.5
    else:
        predicted, true = outputs.argmax(1), targets.argmax(1) if targets.shape == outputs.shape else targets
    if predicted.shape != true.shape:
        raise ShapeError(f"metric: the outputs {outputs.shape} do not fit the targets {targets.shape}")
    if true.size and true.min() < 0:
        predicted, true = predicted[true >= 0], true[true >= 0]
    return predicted, true


def _within(classes: int, labels: np.ndarray, op: str) -> np.ndarray:
    if labels.size and labels.max() >= classes:
        raise ValueError(f"{op}: there are scores of {classes} classes, but the label {labels.max()} came")
    return labels.astype(np.int64)


class Accuracy(Metric):
    """The fraction of samples whose class was found."""
    name = "accuracy"

    def sums(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        predicted, true = labels_of(outputs, targets)
        return np.array([np.count_nonzero(predicted == true), true.size], np.float64)


class TopK(Metric):
    """The fraction of samples whose class is among the `k` of the largest scores; of equal scores the first counts.

    >>> metric = TopK(2)
    >>> metric.update(fastnn.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), fastnn.tensor([1, 2]))
    >>> metric.name, metric.compute()
    ('top2', 0.5)"""

    def __init__(self, k: int = 5) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"TopK: k must be a positive int, but {k!r} came")
        self.k, self.name = k, f"top{k}"

    def sums(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        classes = outputs.shape[1]
        true = _within(classes, labels_of(outputs, targets)[1], type(self).__name__).reshape(-1, 1)
        kept = targets >= 0 if targets.shape != outputs.shape else ...
        scores = np.moveaxis(outputs, 1, -1)[kept].reshape(-1, classes)
        own = np.take_along_axis(scores, true, 1)
        ahead = ~(scores <= own) | ((scores == own) & (np.arange(classes) < true))  # NaN is ahead
        return np.array([np.count_nonzero(ahead.sum(1) < self.k), true.size], np.float64)


class ConfusionMatrix(Metric):
    """How many samples of class i (row) were taken for class j (column), (K, K), ints; of two classes if there is one
    score a sample."""
    name = "confusion_matrix"

    def sums(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        predicted, true = labels_of(outputs, targets)
        classes = 2 if outputs.ndim == 1 else max(outputs.shape[1], 2)
        pairs = _within(classes, true, type(self).__name__) * classes + predicted
        return np.bincount(pairs.reshape(-1), minlength=classes**2).reshape(classes, classes)

    def score(self, total: np.ndarray) -> Any:
        return total


class F1(ConfusionMatrix):
    """The harmonic mean of precision and recall, 2·P·R / (P + R), of each class, 0 where nothing was right.

    `average`: "macro", the mean over the classes that occur; "weighted", by their true samples; "micro", of all
    samples together; or None: (K,)."""
    name = "f1"

    def __init__(self, average: str | None = "macro") -> None:
        if average not in ("macro", "weighted", "micro", None):
            raise ValueError(f"{type(self).__name__}: average must be macro, weighted, micro or None, got {average!r}")
        self.average = average

    def parts(self, right: Any, predicted: Any, true: Any) -> Any:
        return 2 * right, predicted + true

    def score(self, total: np.ndarray) -> Any:
        right, predicted, true = np.diag(total), total.sum(0), total.sum(1)
        if self.average == "micro":
            right, predicted, true = right.sum(), predicted.sum(), true.sum()
        share, whole = self.parts(right, predicted, true)
        each = np.where(whole > 0, share / np.maximum(whole, 1), 0.0)
        if self.average is None:
            return each
        weights = (true if self.average == "weighted" else (predicted + true > 0) * 1.0) if each.ndim else 1.0
        return float((each * weights).sum() / np.sum(weights))


class Precision(F1):
    """Of the samples that were taken for a class, the share that belongs to it; `average` as in F1."""
    name = "precision"

    def parts(self, right: Any, predicted: Any, true: Any) -> Any:
        return right, predicted


class Recall(F1):
    """Of the samples that belong to a class, the share that was taken for it; `average` as in F1."""
    name = "recall"

    def parts(self, right: Any, predicted: Any, true: Any) -> Any:
        return right, true


class MSE(Metric):
    """Mean squared error, in the square of the targets' unit."""
    name, power = "mse", 2

    def sums(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.array([(np.abs(np.subtract(*pair_of(outputs, targets))) ** self.power).sum(), targets.size])


class MAE(MSE):
    """Mean absolute error, in the targets' unit."""
    name, power = "mae", 1


class R2(Metric):
    """R² = 1 − Σ(ŷ − y)² / Σ(y − ȳ)², the share of the variance that is explained; the mean over several outputs. NaN
    if the targets are all the same."""
    name = "r2"

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        found, y = (a.reshape(len(a), -1) for a in pair_of(outputs.array, targets.array))
        if len(y):  # rows: samples, mean, squared deviations from it, squared errors
            mean = y.mean(0)
            new = np.stack([np.full_like(mean, len(y)), mean, ((y - mean) ** 2).sum(0), ((found - y) ** 2).sum(0)])
            self.total = new if self.total is None else self.merge(self.total, new)

    @staticmethod
    def merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Two batches' as one's (Chan, Golub, LeVeque 1979), which keeps digits far from zero."""
        n, step = a[0] + b[0], b[1] - a[1]
        return np.stack([n, a[1] + step * b[0] / n, a[2] + b[2] + step**2 * a[0] * b[0] / n, a[3] + b[3]])

    def score(self, total: np.ndarray) -> float:
        return float(np.where(total[2] > 0, 1 - total[3] / total[2], math.nan).mean())


def pair_of(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64 and of one shape; targets (N,) fit outputs (N, 1)."""
    if targets.shape not in (outputs.shape, outputs.shape[:1] if outputs.shape[1:] == (1,) else None):
        raise ShapeError(f"metric: the network gives {outputs.shape}, but the targets are {targets.shape}")
    return outputs.astype(np.float64), targets.reshape(outputs.shape).astype(np.float64)
