"""Watch: the checks of a diagnosis that can be made while a network is trained."""
import copy
import math
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.autograd import enable_grad
from fastnn.tensor import RemovableHandle, Tensor
from fastnn.train.callback import Callback
from fastnn.train.diagnosis import Diagnosis, Probe, constant_loss, judge, locate, untouched, updates


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
        self.enough = max(3, 1 + 100 // every)  # looks without a sign of life, over 100 steps, are death

    def attach(self, model: nn.Module) -> None:
        """Begin to watch `model`."""
        self.detach()
        trained = [p for p in model.parameters() if p.requires_grad]
        if not trained:
            raise ValueError("Watch.attach: the model has no parameter that is trained")
        self.model, self.count, self.scale, self.alone, self.total = model, 0, math.nan, True, 0.0
        self.alive: list[dict[str, np.ndarray]] = []
        self.losses: list[float] = []  # means of `every` steps
        self.before: Any = None
        self.stepped: int | None = None
        self.smallest = min(reversed(trained), key=lambda p: p.numel())
        self.handle, self.probe = self.smallest.register_hook(self._on_gradient), Probe(model)

    def detach(self) -> None:
        """Leave the model alone."""
        for hooks in self.handle, self.probe:
            if hooks:
                hooks.remove()
        self.handle = self.probe = None

    def _on_gradient(self, grad: Tensor) -> None:
        """A new gradient comes: the old one must have been dropped, if the parameter has changed since it came."""
        p, self.stepped, before = self.smallest, self.smallest._version[0], self.stepped
        if before not in (None, self.stepped) and p.grad is not None and p.grad.array.any():
            self._note("zero_grad", summed=lambda: True)

    @np.errstate(all="ignore")
    def check(self, loss: Tensor, inputs: tuple = (), targets: Any = None, criterion: Any = None,
              place: str = "") -> None:
        """To be called between backward() and the optimizer's step. Given the batch and the loss function, a NaN is
        traced to its layer whenever it comes."""
        if self.handle is None:
            raise RuntimeError("Watch.check: attach the model first")
        self.count, value, probe = self.count + 1, loss.item(), self.probe
        place, self.scale = place or f"step {self.count}", value if math.isnan(self.scale) else self.scale
        if probe:
            probe.remove()
        self.probe = Probe(self.model) if self.count % self.every == 0 else None
        if not math.isfinite(value):
            with untouched(self.model), enable_grad():
                net = copy.deepcopy(self.model) if criterion else self.model
                seen = probe if probe and not criterion else Probe(net)
                trouble = locate(net, seen, inputs, targets, criterion) or "loss"
            self._note("finite numbers", trouble=f"{trouble}, {place}")
            return
        if self.before and self.smallest._version[0] != self.before[0]:
            self._note("updates", ratios=self.before[1])
            self.before = None
        if probe:
            trouble = locate(self.model, probe)
            self._note("finite numbers", trouble=trouble and f"{trouble}, {place}")
            self.alive = [*self.alive[-self.enough + 1:], {n: layer.alive for n, layer in probe.layers.items()}]
            for name in "activations", "saturation", "gradients":
                self._note(name, layers=probe.layers)
            if len(self.alive) == self.enough:
                for name, layer in probe.layers.items():
                    layer.alive = np.logical_or.reduce([alive.get(name, layer.alive) for alive in self.alive])
                self._note("dead units", layers=probe.layers)
            self.before = self.smallest._version[0], updates(self.model)
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
        if trainer.step < 100:  # a few steps tell nothing, and batch norm's averages lag behind
            return
        self._note("loss curve", history=trainer.history, scale=self.scale)
        self._note("generalization", history=trainer.history, validation=None)

    def on_fit_end(self, trainer: Any) -> None:
        self.detach()
