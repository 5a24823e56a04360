"""The training loop of a classifier."""

import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from fastnn import nn
from fastnn.autograd import no_grad
from fastnn.data import DataLoader
from fastnn.functional import cross_entropy
from fastnn.optim import Optimizer
from fastnn.tensor import Tensor


class Epoch(NamedTuple):
    """Figures of one pass over the training data: mean losses (nats) and fractions of samples classified rightly."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    images_per_second: float

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch:3}  training loss {self.train_loss:.4f} accuracy {self.train_accuracy:.4f}"
            f"  validation loss {self.validation_loss:.4f} accuracy {self.validation_accuracy:.4f}"
            f"  {self.images_per_second:.0f} images/s"
        )


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `model`, in evaluation mode, over batches of images and labels.

    The model goes back into the mode that it was in. Without samples both figures are NaN.
    """
    training = model.training
    model.eval()
    loss, right, count = 0.0, 0, 0
    with no_grad():
        for x, y in batches:
            scores = model(x)
            loss += cross_entropy(scores, y, reduction="sum").item()
            right += _right(scores, y)
            count += len(y)
    model.train(training)
    return (loss / count, right / count) if count else (math.nan, math.nan)


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    training: DataLoader,
    validation: DataLoader,
    epochs: int,
    scheduler: Any = None,
    label_smoothing: float = 0.0,
) -> list[Epoch]:
    """Trains a classifier on cross-entropy, showing a progress bar, if this is a terminal, and a line each epoch.

    Args:
        training, validation: batches of images and labels.
        scheduler: its ``step()`` is called after each epoch.
        label_smoothing: as in :func:`~fastnn.nn.functional.cross_entropy`, in training alone.

    Returns:
        The figures of each epoch; those of training are gathered while the weights change.

    Raises:
        FloatingPointError: the training loss is no longer finite.
    """
    from tqdm import tqdm  # here, since importing fastnn loads NumPy alone

    history: list[Epoch] = []
    samples = len(training) * training.batch_size if training.drop_last else len(training.dataset)
    with tqdm(total=epochs * samples, unit=" images", disable=None) as bar:
        for epoch in range(1, epochs + 1):
            model.train()
            start, loss_sum, right, count = time.perf_counter(), 0.0, 0, 0
            for x, y in training:
                optimizer.zero_grad()
                scores = model(x)
                loss = cross_entropy(scores, y, label_smoothing=label_smoothing)
                loss.backward()
                optimizer.step()
                loss_sum += loss.item() * len(y)
                right += _right(scores, y)
                count += len(y)
                bar.set_postfix(epoch=epoch, loss=loss_sum / count, accuracy=right / count, refresh=False)
                bar.update(len(y))
            if not math.isfinite(loss_sum):
                raise FloatingPointError(f"the training loss is {loss_sum} in epoch {epoch}: try a lower learning rate")
            rate = count / (time.perf_counter() - start)
            if scheduler is not None:
                scheduler.step()
            history.append(Epoch(epoch, loss_sum / count, right / count, *evaluate(model, validation), rate))
            bar.write(str(history[-1]))
    return history


def _right(scores: Tensor, y: Tensor) -> int:
    return int((scores.array.argmax(1) == y.array).sum())
