"""Ensembles: models, or snapshots of one model, that answer together."""
import copy
import math
from collections.abc import Iterable
from typing import Any

from fastnn import nn
from fastnn.functional import log_softmax, logsumexp, mean, stack
from fastnn.tensor import Tensor
from fastnn.train.predictor import Predictor
from fastnn.train.task import Regression


class _Raw(nn.Module):
    """A predictor as a module: raw samples (N, …) to class scores or numbers."""
    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor, self.model = predictor, predictor.model

    def forward(self, x: Tensor) -> Tensor:
        y, task = self.model(self.predictor.transform()(x.array)), self.predictor.task
        return y * task.std + task.mean if isinstance(task, Regression) else y


class Ensemble(nn.Module):
    """The average of models: modules, or (paths of) predictors, which take raw samples. In evaluation mode to begin.

    `average`: "probabilities": scores whose softmax is the mean of that of the models' scores (N, C); "logits": the mean
    of the outputs, such as scores or predicted numbers."""

    def __init__(self, models: Iterable[Any], average: str = "probabilities") -> None:
        super().__init__()
        if average not in ("probabilities", "logits"):
            raise ValueError(f"Ensemble: average must be 'probabilities' or 'logits', but {average!r} came")
        loaded = [m if isinstance(m, (nn.Module, Predictor)) else Predictor.load(m) for m in models]
        self.models = nn.ModuleList([_Raw(m) if isinstance(m, Predictor) else m for m in loaded])
        self.average = average
        self.eval()

    def forward(self, *args: Any) -> Tensor:
        if not len(self.models):
            raise RuntimeError(f"{type(self).__name__}: there is no model yet")
        outputs = [model(*args) for model in self.models]
        if self.average == "logits":
            return mean(stack(outputs), 0)
        return logsumexp(stack([log_softmax(y, 1) for y in outputs]), 0) - math.log(len(outputs))


class SnapshotEnsemble(Ensemble):
    """Copies of `model` at the ends of the cycles of its learning rate, the last `keep` of them.

    Call `step()` after each step of the schedule. `cycle`: its steps in a cycle, or the schedule, whose `T_cur` is 0 when
    a cycle begins (CosineAnnealingWarmRestarts). Reference: Huang et al., ICLR 2017."""

    def __init__(self, model: nn.Module, cycle: Any, keep: int = 5, average: str = "probabilities") -> None:
        super().__init__([], average)
        self._source, self.cycle, self.keep, self.steps = (model,), cycle, keep, 0  # the model is no part of this one

    def step(self) -> bool:
        """Count a step. Whether a cycle ended, so that the model was copied."""
        self.steps += 1
        ended = self.steps % self.cycle == 0 if isinstance(self.cycle, int) else self.cycle.T_cur == 0
        if ended:
            self.models = nn.ModuleList([*self.models, copy.deepcopy(self._source[0]).eval()][-self.keep:])
        return ended
