"""Averages of a model's parameters over training, which often generalize better than the last ones: stochastic weight
averaging takes the mean of all (Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI
2018), the exponential moving average forgets the early ones (Polyak, Juditsky, 1992).

    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    averaged.update_parameters(model)       # in training, after each optimizer.step()
    update_bn(loader, averaged)             # in the end"""
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np

from fastnn.autograd import no_grad
from fastnn.nn.module import Module
from fastnn.nn.normalization import _BatchNorm
from fastnn.nn.parameter import write
from fastnn.optim.first_order import SGD
from fastnn.optim.lr_scheduler import CURVES, LRScheduler
from fastnn.tensor import Tensor, changing

Average = Callable[[Any, Any, Any], Any]  # of an average, the model's tensor and how many there were; or of lists


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """decay·average + (1 − decay)·current. ValueError unless decay is from 0 to 1."""
    if not 0 <= decay <= 1:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")
    return lambda average, current, _: decay * average + (1 - decay) * current


def get_swa_avg_fn() -> Average:
    """average + (current − average)/(n + 1), the mean of all n + 1."""
    return lambda average, current, n: average + (current - average) / (n + 1)


def get_ema_multi_avg_fn(decay: float = 0.999) -> Average:
    """What `get_ema_avg_fn` computes, for lists of tensors, in place."""
    get_ema_avg_fn(decay)
    return lambda averages, currents, _: _move(averages, currents, 1 - decay)


def get_swa_multi_avg_fn() -> Average:
    """What `get_swa_avg_fn` computes, for lists of tensors, in place."""
    return lambda averages, currents, n: _move(averages, currents, 1 / (float(n) + 1))


def _move(averages: list[Tensor], currents: list[Tensor], share: float) -> None:
    """average += share·(current − average): a step of SGD, for all tensors in one pass, that climbs along `current` and
    has a decay of 1."""
    leaves = []
    for average, current in zip(averages, currents, strict=True):
        a, b = changing(average), current.array
        if a.dtype.kind == "f":
            leaves.append(Tensor(a))
            leaves[-1].grad = Tensor(b)
        else:
            np.copyto(a, a + (b - a) * share, casting="unsafe")
    if leaves:
        SGD(leaves, lr=share, weight_decay=1, maximize=True).step()


class AveragedModel(Module):
    """A copy of `model`, in `module`, whose parameters are averages; `n_averaged` counts the updates. The first one
    copies, later ones call `avg_fn(average, current, n_averaged)` for each parameter or `multi_avg_fn(averages,
    currents, n_averaged)` for all, by default the equal average. Buffers are copied or, if `use_buffers`, averaged."""

    def __init__(self, model: Module, device: Any = None, avg_fn: Average | None = None,
                 multi_avg_fn: Average | None = None, use_buffers: bool = False) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model).to(device=device)
        self.register_buffer("n_averaged", Tensor(np.zeros((), np.int64)))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the parameters that `model` has now into the average, unseen by the tape."""
        moved: list[Any] = list(zip(self.module.parameters(), model.parameters(), strict=True))
        copied: list[Any] = list(zip(self.module.buffers(), model.buffers(), strict=True))
        if self.use_buffers:
            moved, copied = moved + copied, []
        if self.n_averaged.item() == 0:
            moved, copied = [], moved + copied
        elif self.avg_fn is None:
            (self.multi_avg_fn or get_swa_multi_avg_fn())(
                [average for average, _ in moved], [current for _, current in moved], self.n_averaged)
        else:
            copied += [(a, self.avg_fn(a.detach(), current.detach(), self.n_averaged)) for a, current in moved]
        for average, current in copied:
            write(average, current.array)
        self.n_averaged += 1


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of batch normalization anew, as those of all batches in `loader`, which are inputs
    or tuples that begin with them."""
    norms = [(module, module.momentum) for module in model.modules() if isinstance(module, _BatchNorm)]
    was_training = model.training
    if norms:
        model.train()
        for norm, _ in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for batch in loader:
            model((batch[0] if isinstance(batch, (list, tuple)) else batch).to(device=device))
        for norm, momentum in norms:
            norm.momentum = momentum
        model.train(was_training)


class SWALR(LRScheduler, swa_lr=..., anneal_epochs=10, anneal_strategy="cos"):
    """lr goes from what it is to swa_lr in `anneal_epochs` epochs, along a curve "cos" or "linear", and stays there."""

    def prepare(self) -> None:
        self._require(self.anneal_strategy in CURVES, f"anneal_strategy {self.anneal_strategy!r} is not cos or linear")
        self._require(isinstance(self.anneal_epochs, int) and self.anneal_epochs >= 0,
                      f"anneal_epochs must be equal or greater than 0, got {self.anneal_epochs}")
        for group, lr in zip(self.optimizer.param_groups, self._each("swa_lr"), strict=True):
            group["swa_lr"] = lr

    def get_lr(self) -> list[float]:
        step = max(self._step_count - 1, self.anneal_epochs == 0)
        before, now = (CURVES[self.anneal_strategy](0, 1, max(0, min(1, t / max(1, self.anneal_epochs))))
                       for t in (step - 1, step))
        ends = [group["swa_lr"] for group in self.optimizer.param_groups]
        return [end * now + (1 - now) * (end if before == 1 else (lr - before * end) / (1 - before))
                for lr, end in zip(self._current(), ends, strict=True)]
