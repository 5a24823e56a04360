"""Watch: the checks of a diagnosis that can be made while a network is trained."""
import copy
import math
import warnings
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.autograd import enable_grad
from fastnn.tensor import Array, RemovableHandle, Tensor
from fastnn.train.callback import Callback
from fastnn.train.diagnosis import Diagnosis, Probe, constant_loss, judge, locate, on_stale_gradient, untouched, updates


class DiagnosisWarning(UserWarning):
    """What a `Watch` found."""


class Watch(Callback):
    """Warns, once of each, of numbers that are not finite, and of the first layer and batch that made them; of dead
    ReLUs, saturation, collapsing activations, vanishing and exploding gradients, weights that move too little or too
    far, losses that are flat, stalled or rising, overfitting, gradients that were not dropped. `findings` keeps them.
    Looks at each `every`th batch, and changes no bit of the run.

    In a loop of one's own: `attach`, then in each step, between backward() and step(), `check`.

    >>> model, watch = nn.Linear(4, 2), Watch()
    >>> watch.attach(model)
    >>> for x in fastnn.randn(20, 16, 4):
    ...     model.zero_grad()
    ...     loss = F.cross_entropy(model(x), (x[:, 0] > 0).long())
    ...     loss.backward()
    ...     watch.check(loss)
    ...     optim.SGD(model.parameters(), 0.1).step()
    >>> watch.findings
    []"""

    def __init__(self, every: int = 100) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"Watch: every must be a positive int, but {every!r} came")
        self.every, self.findings = every, Diagnosis()
        self.handle: RemovableHandle | None = None
        self.probe: Probe | None = None

    def attach(self, model: nn.Module) -> None:
        """Begin to watch `model`."""
        self.detach()
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("Watch.attach: the model has no parameter that is trained")
        self.model, self.count, self.scale, self.alone, self.total = model, 0, math.nan, True, 0.0
        self.losses: list[float] = []  # means of `every` steps
        self.alive = deque[dict[str, Array]](maxlen=max(3, 1 + 100 // self.every))  # in 100 steps all should be once
        self.moved: Callable[[], dict[str, Any]] = dict
        self.handle = on_stale_gradient(model, lambda: self._note("zero_grad", stale=True))
        self.probe = Probe(model)

    def detach(self) -> None:
        """Leave the model alone."""
        if self.handle:
            self.handle.remove()
        if self.probe:
            self.probe.close()
        self.handle = self.probe = None

    @np.errstate(all="ignore")
    def check(self, loss: Tensor, inputs: tuple = (), targets: Any = None, criterion: Any = None,
              place: str = "") -> None:
        """To be called between backward() and the optimizer's step. Given the batch and the loss function, a NaN is
        traced to its layer whenever it comes."""
        if self.handle is None:
            raise RuntimeError("Watch.check: attach the model first")
        self.count, value, probe = self.count + 1, loss.item(), self.probe
        self.scale = value if math.isnan(self.scale) else self.scale
        if probe:
            probe.close()
        self.probe = Probe(self.model) if self.count % self.every == 0 else None
        lost, trouble = not math.isfinite(value), ""
        if lost and criterion:
            with untouched(self.model), enable_grad(), Probe(net := copy.deepcopy(self.model)) as seen:
                trouble = locate(net, seen, inputs, targets, criterion)
        elif lost or probe:
            trouble = locate(self.model, probe)
        if lost or trouble:
            self._note("finite numbers", trouble=f"{trouble or 'loss'}, {place or f'step {self.count}'}")
        if lost:
            return
        if ratios := self.moved():
            self._note("updates", ratios=ratios)
            self.moved = dict
        if probe:
            self.alive.append({name: layer.alive for name, layer in probe.layers.items()})
            for name in "activations", "saturation", "gradients":
                self._note(name, layers=probe.layers)
            if len(self.alive) == self.alive.maxlen:
                for name, layer in probe.layers.items():
                    layer.alive = np.logical_or.reduce([alive.get(name, layer.alive) for alive in self.alive])
                self._note("dead units", layers=probe.layers)
            self.moved = updates(self.model)
        self.total += value
        if self.alone and self.count % self.every == 0:
            self.losses, self.total = [*self.losses, self.total / self.every], 0.0
            self._note("loss curve", history={"loss": self.losses}, scale=self.scale)

    def _note(self, name: str, **case: Any) -> None:
        finding = judge(name, SimpleNamespace(**case))
        if finding.problem and finding.problem not in [f.problem for f in self.findings]:
            self.findings.append(finding)
            warnings.warn(str(finding), DiagnosisWarning, stacklevel=3)

    def on_fit_begin(self, trainer: Any) -> None:
        self.attach(trainer.model)
        self.alone = False

    def on_backward(self, trainer: Any) -> None:
        criterion, inputs = trainer.task.loss, trainer.inputs
        if not self.count:
            self.scale = constant_loss(criterion, trainer.outputs, trainer.targets)
        self.check(trainer.loss, inputs if isinstance(inputs, tuple) else (inputs,), trainer.targets, criterion,
                   f"epoch {trainer.epoch}, batch {trainer.batch + 1}")

    def on_epoch_end(self, trainer: Any) -> None:
        if trainer.step >= 100:  # a few steps tell nothing, and batch norm's averages lag behind
            self._note("loss curve", history=trainer.history, scale=self.scale)
            self._note("generalization", history=trainer.history, validation=None)

    def on_fit_end(self, trainer: Any) -> None:
        self.detach()
