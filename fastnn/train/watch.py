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
from fastnn.train.diagnosis import Diagnosis, Probe, constant_loss, judge, locate, untouched, update_ratios, weights


class DiagnosisWarning(UserWarning):
    """What a `Watch` found."""


class Watch(Callback):
    """Warns, once of each, of numbers that are not finite, and of the first layer and batch that made them; of dead
    ReLUs, saturation, collapsing activations, vanishing and exploding gradients, weights that move too little or too
    far, losses that are flat, stalled or rising, overfitting, gradients that were not dropped. `findings` keeps them.
    Looks at each `every`th batch, and changes no bit of the run.

    In a loop of one's own: `attach`, then in each step, between backward() and step(), `check`.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> optimizer = optim.SGD(model.parameters(), 0.1)
    >>> watch = Watch(every=10)
    >>> watch.attach(model)
    >>> for _ in range(20):
    ...     optimizer.zero_grad()
    ...     loss = F.cross_entropy(model(fastnn.randn(16, 4)), fastnn.randint(0, 2, (16,)))
    ...     loss.backward()
    ...     watch.check(loss)
    ...     optimizer.step()
    >>> watch.detach()
    >>> watch.findings
    []"""

    def __init__(self, every: int = 100) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"Watch: every must be a positive int, but {every!r} came")
        self.every, self.findings = every, Diagnosis()
        self.handle: RemovableHandle | None = None
        self.enough = max(3, 1 + 100 // every)  # looks without a sign of life, over 100 steps, are death

    def attach(self, model: nn.Module) -> None:
        """Begin to watch `model`."""
        self.detach()
        trained = [p for p in model.parameters() if p.requires_grad]
        self.model, self.count, self.scale, self.alone = model, 0, math.nan, True
        self.probe: Probe | None = Probe(model)
        self.alive: list[dict[str, np.ndarray]] = []
        self.losses: list[float] = []
        self.before: Any = None
        self.stepped: int | None = None
        if trained:
            self.smallest = min(reversed(trained), key=lambda p: p.numel())
            self.handle = self.smallest.register_hook(self._on_gradient)

    def detach(self) -> None:
        """Leave the model alone."""
        if self.handle is not None:
            self.handle.remove()
            self.handle = None
            if self.probe:
                self.probe.remove()

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
        self.count, value, probe = self.count + 1, loss.item(), self.probe
        place, self.scale = place or f"step {self.count}", value if math.isnan(self.scale) else self.scale
        self.probe = Probe(self.model) if self.count % self.every == 0 and self.handle else None
        if not math.isfinite(value):
            with untouched(self.model), enable_grad():
                net = copy.deepcopy(self.model)
                trouble = locate(net, Probe(net), inputs, targets, criterion) or (probe and probe.broken) or "loss"
            self._note("finite numbers", trouble=f"{trouble}, {place}")
            return
        if self.before and self.smallest._version[0] != self.before[0]:
            ratios, self.before = update_ratios(self.before[1], self.model), None
            self._note("updates", ratios=lambda: ratios)
        if probe:
            probe.remove()
            trouble = probe.broken or locate(self.model, probe)
            self._note("finite numbers", trouble=trouble and f"{trouble}, {place}")
            self.alive = [*self.alive[-self.enough + 1:], {n: layer.alive for n, layer in probe.layers.items()}]
            for name in "activations", "saturation", "gradients":
                self._note(name, layers=probe.layers)
            if len(self.alive) == self.enough:
                for name, layer in probe.layers.items():
                    layer.alive = np.logical_or.reduce([alive.get(name, layer.alive) for alive in self.alive])
                self._note("dead units", layers=probe.layers)
            self.before = self.smallest._version[0], weights(self.model)
        if self.alone:
            self.losses.append(value)
            if len(self.losses) % self.every == 0 and len(self.losses) >= 5 * self.every:
                means = np.reshape(self.losses, (-1, self.every)).mean(1)
                self._note("loss curve", history={"loss": means}, scale=self.scale)

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
