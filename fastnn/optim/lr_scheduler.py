"""Learning-rate schedules. `step()`, after each epoch or as often as wanted, sets the rate of every parameter group.

A schedule is a `get_lr`, which computes new rates from the present ones, so that schedules and changes by hand compose.
Formulae are evaluated in PyTorch's order."""
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastnn.optim.optimizer import Optimizer

NOT_SAVED = ("optimizer", "lr_lambdas")
Rate = Callable[[int], float]


class LRScheduler:
    """Base class: a subclass computes the rates of all groups for `last_epoch` in `get_lr`. It is −1 to begin, else the
    epoch after which to go on; KeyError if a group has no "initial_lr" then."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: {type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when resuming an optimizer")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch, self._step_count = last_epoch, 0
        self.step()

    def get_lr(self) -> list[float]:
        """The rates for `last_epoch`, one a group; `self._step_count` is 1 when the constructor asks."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates set last, one a group."""
        return self._last_lr

    def step(self) -> None:
        """Go on to the next epoch."""
        if self._step_count == 1 and type(self.optimizer).step is Optimizer.step and not self.optimizer.stepped:
            warnings.warn("lr_scheduler.step() came before optimizer.step() and skips the first rate", stacklevel=2)
        self._step_count += 1
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = self._current()

    def _current(self, factor: float = 1.0) -> list[float]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but functions and the optimizer, whose own state holds the rates."""
        return {key: value for key, value in self.__dict__.items() if key not in NOT_SAVED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.__dict__.update({key: value for key, value in state_dict.items() if key not in NOT_SAVED})


class LambdaLR(LRScheduler):
    """lr = initial_lr · lr_lambda(epoch), with one function for all groups or a list with one for each."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Rate | Sequence[Rate], last_epoch: int = -1) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"Expected {groups} lr_lambdas, but got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [lr * fn(self.last_epoch) for lr, fn in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """lr is multiplied by `gamma` every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, but {step_size} came")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._current(self.gamma if self.last_epoch and self.last_epoch % self.step_size == 0 else 1.0)


class MultiStepLR(LRScheduler):
    """lr is multiplied by `gamma` at each epoch in `milestones`, as often as it stands there."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._current(self.gamma ** self.milestones.get(self.last_epoch, 0))


class ExponentialLR(LRScheduler):
    """lr is multiplied by `gamma` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._current(self.gamma if self._step_count > 1 else 1.0)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (initial_lr − eta_min)·(1 + cos(π·epoch/T_max))/2: down to eta_min at T_max, and up again."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        now = self._current()
        if self._step_count == 1:
            return now
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # from eta_min the ratio below would be 0/0
            rise = 1 - math.cos(math.pi / self.T_max)
            return [lr + (base - self.eta_min) * rise / 2 for lr, base in zip(now, self.base_lrs, strict=True)]
        above, before = (1 + math.cos(math.pi * epoch / self.T_max) for epoch in (self.last_epoch, self.last_epoch - 1))
        return [above / before * (lr - self.eta_min) + self.eta_min for lr in now]
