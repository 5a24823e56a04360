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


class Epoch(NamedTuple):
    """Figures of one pass over the training data: mean losses (nats) and fractions of samples classified rightly."""
    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    images_per_second: float

    def __str__(self) -> str:
        return ("epoch {:3}  training loss {:.4f} accuracy {:.4f}  validation loss {:.4f} accuracy {:.4f}  "
                "{:.0f} images/s".format(*self))


def evaluate(model: nn.Module, batches: Iterable[Any]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `model` in evaluation mode, over batches of images and labels; else NaN."""
    training, loss, right, count = model.training, 0.0, 0, 0
    model.eval()
    with no_grad():
        for x, y in batches:
            scores = model(x)
            loss += cross_entropy(scores, y, reduction="sum").item()
            right += (scores.argmax(1) == y).sum().item()
            count += len(y)
    model.train(training)
    return (loss / count, right / count) if count else (math.nan, math.nan)


def fit(model: nn.Module, optimizer: Optimizer, training: DataLoader, validation: DataLoader, epochs: int,
        scheduler: Any = None, label_smoothing: float = 0.0) -> list[Epoch]:
    """Trains a classifier on cross-entropy; shows a progress bar, if this is a terminal, and prints a line each epoch.

    Training figures are gathered while the weights change. FloatingPointError when the loss is not finite."""
    from tqdm import tqdm  # here, since importing fastnn loads NumPy alone

    history: list[Epoch] = []
    with tqdm(total=epochs * len(training), unit=" batches", leave=False, disable=None) as bar:
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
                right += (scores.argmax(1) == y).sum().item()
                count += len(y)
                rate = count / (time.perf_counter() - start)
                bar.set_postfix_str(f"loss {loss_sum / count:.4f}, accuracy {right / count:.4f}, {rate:.0f} images/s",
                                    refresh=False)
                bar.update()
            if not math.isfinite(loss_sum):
                raise FloatingPointError(f"the training loss is {loss_sum} in epoch {epoch}: try a lower learning rate")
            if scheduler is not None:
                scheduler.step()
            history.append(Epoch(epoch, loss_sum / count, right / count, *evaluate(model, validation), rate))
            bar.write(str(history[-1]))
    return history
