"""Ensembles: models, or snapshots of one model, that answer together."""
import copy
from collections.abc import Iterable
from typing import Any

from fastnn import nn
from fastnn.tensor import Tensor
from fastnn.train.predictor import Predictor
from fastnn.train.task import Classification, Regression


class _Raw(nn.Module):
    """A predictor as a module: raw samples (N, …) to class scores or numbers."""
    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor, self.model = predictor, predictor.model

    def forward(self, x: Tensor) -> Tensor:
        y, task = self.model(self.predictor.transform()(x.array)), self.predictor.task
        return task.answers(y) if isinstance(task, Regression) else y


class Ensemble(nn.Module):
    """The average of models: modules, or (paths of) predictors, which take raw samples. Without gradients, and in
    evaluation mode to begin with.

    `average`: "probabilities": scores (N, C) whose softmax is the mean of the models' probabilities; "logits": the mean
    of the outputs."""

    def __init__(self, models: Iterable[Any], average: str = "probabilities") -> None:
        super().__init__()
        if average not in ("probabilities", "logits"):
            raise ValueError(f"Ensemble: average must be 'probabilities' or 'logits', but {average!r} came")
        self.combine = (Classification() if average == "probabilities" else Regression()).combine
        loaded = [m if isinstance(m, (nn.Module, Predictor)) else Predictor.load(m) for m in models]
        self.models = nn.ModuleList([_Raw(m) if isinstance(m, Predictor) else m for m in loaded])
        self.eval()

    def forward(self, *args: Any) -> Tensor:
        if not len(self.models):
            raise RuntimeError(f"{type(self).__name__}: there is no model yet")
        return self.combine([model(*args) for model in self.models])


class SnapshotEnsemble(Ensemble):
    """Copies of `model` at the ends of the cycles of its learning rate, the last `keep` of them.

    Call `step()` after each step of the schedule. `cycle`: its steps in a cycle, or the schedule itself, whose `T_cur`
    is 0 when a cycle begins (CosineAnnealingWarmRestarts). Reference: Huang et al., ICLR 2017."""

    def __init__(self, model: nn.Module, cycle: Any, keep: int = 5, average: str = "probabilities") -> None:
        super().__init__([], average)
        if keep < 1 or (isinstance(cycle, int) and cycle < 1):
            raise ValueError(f"SnapshotEnsemble: cycle and keep must be positive, but {cycle} and {keep} came")
        self._source, self.cycle, self.keep, self.steps = (model,), cycle, keep, 0  # the model is no part of this one

    def step(self) -> bool:
        """Count a step. Whether a cycle ended, so that the model was copied."""
        self.steps += 1
        ended = self.steps % self.cycle == 0 if isinstance(self.cycle, int) else self.cycle.T_cur == 0
        if ended:
            self.models = nn.ModuleList([*self.models, copy.deepcopy(self._source[0]).eval()][-self.keep:])
        return ended
