"""The training loop."""

import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fastnn import nn
from fastnn.autograd import no_grad
from fastnn.data import DataLoader
from fastnn.optim import Optimizer
from fastnn.train.task import Classification, Score, Task


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
    Accuracy(loss=..., accuracy=...)
    """
    task, training = task or Classification(), model.training
    sums = np.zeros(task.terms)
    model.eval()
    try:
        with no_grad():
            for x, y in batches:
                sums += task.sums(model(x), y)
    finally:
        model.train(training)
    return task.score(sums)


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
