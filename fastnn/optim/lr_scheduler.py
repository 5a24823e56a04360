"""Learning-rate schedules. `step()`, after each epoch or as often as wanted, sets the rate of every parameter group.

A schedule states its settings, which become its attributes, and the `ratio` of an epoch's rate to that of the epoch
before, so that schedules and changes by hand compose; or, where there is no such ratio, a `get_lr`. Formulae are
evaluated in PyTorch's order; t is `last_epoch`, counted from 0."""
import inspect
import math
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any, ClassVar

from fastnn.functional.arguments import bind
from fastnn.optim.first_order import FirstOrder
from fastnn.optim.optimizer import Optimizer, declare

NOT_SAVED = ("optimizer", "lr_lambdas", "lr_lambda", "scale_fn")
Curve = Callable[[float, float, float], float]


class LRScheduler:
    """Base class. `last_epoch` is −1 to begin, else the epoch after which to go on; KeyError if a group has no
    "initial_lr" then."""

    __signature__: ClassVar[inspect.Signature] = declare("optimizer", {"last_epoch": -1})
    at_once: ClassVar[bool] = False  # whether a schedule that begins late begins with a ratio
    last_epoch: Any

    if TYPE_CHECKING:  # settings are attributes
        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__()
        if settings:
            cls.__signature__ = declare("optimizer", {**settings, "last_epoch": -1})

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.__dict__.update(bind(self, args, settings))
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: {type(self.optimizer).__name__} is not an Optimizer")
        self.prepare()
        for i, group in enumerate(self.optimizer.param_groups):
            if self.last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when resuming an optimizer")
        self.base_lrs = [group["initial_lr"] for group in self.optimizer.param_groups]
        self._begin()

    def prepare(self) -> None:
        """Check the settings and compute what follows from them."""

    def _begin(self) -> None:
        self._step_count, self._is_initial = 0, True
        self.step()
        self._is_initial = False

    def _undo(self) -> None:
        """Take the constructor's step back."""
        self.last_epoch -= 1

    def ratio(self, t: int) -> float:
        """The rate of epoch t over that of epoch t − 1; for t = 0, over the optimizer's."""
        raise NotImplementedError(f"{type(self).__name__} defines neither ratio nor get_lr")

    def get_lr(self) -> list[float]:
        """The rates for `last_epoch`, one a group; `self._is_initial` if the constructor asks."""
        late = self._is_initial and self.last_epoch > 0 and not self.at_once
        return self._current(1.0 if late else self.ratio(self.last_epoch))

    def closed_form(self) -> list[float]:
        """The same, from the first rates alone."""
        if type(self).get_lr is not LRScheduler.get_lr:
            return self.get_lr()
        return [lr * math.prod(map(self.ratio, range(self.last_epoch + 1))) for lr in self.base_lrs]

    def get_last_lr(self) -> list[float]:
        """The rates set last, one a group."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch or, by the closed form, to the given one."""
        if self._step_count == 1 and type(self.optimizer).step is FirstOrder.step and not self.optimizer.stepped:
            warnings.warn("lr_scheduler.step() came before optimizer.step() and skips the first rate", stacklevel=2)
        self._step_count += 1
        self._go_to(epoch)

    def _go_to(self, epoch: int | None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._set(self.get_lr() if epoch is None else self.closed_form())

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = self._current()

    def _current(self, factor: float = 1.0) -> list[float]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _each(self, name: str) -> list[Any]:
        """The setting `name` for each group, of which there may be one for all."""
        value, groups = getattr(self, name), len(self.optimizer.param_groups)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * groups
        self._require(len(values) == groups, f"Expected {groups} {name}s, but got {len(values)}")
        return values

    def _require(self, condition: Any, needed: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {needed}")

    def state_dict(self) -> dict[str, Any]:
        """Everything but functions and the optimizer, whose own state holds the rates."""
        state = {key: value for key, value in self.__dict__.items() if key not in NOT_SAVED}
        inner = state.get("_schedulers")
        return state | {"_schedulers": [scheduler.state_dict() for scheduler in inner]} if inner else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.__dict__.update({k: v for k, v in state_dict.items() if k not in (*NOT_SAVED, "_schedulers")})
        for scheduler, state in zip(getattr(self, "_schedulers", ()), state_dict.get("_schedulers", ()), strict=True):
            scheduler.load_state_dict(state)


class StepLR(LRScheduler, step_size=..., gamma=0.1):
    """lr is multiplied by `gamma` every `step_size` epochs."""

    at_once = True

    def prepare(self) -> None:
        self._require(self.step_size >= 1, f"step_size must be at least 1, but {self.step_size} came")

    def ratio(self, t: int) -> float:
        return self.gamma if t and t % self.step_size == 0 else 1.0


class MultiStepLR(LRScheduler, milestones=..., gamma=0.1):
    """lr is multiplied by `gamma` at each epoch in `milestones`, as often as it stands there."""

    at_once = True

    def prepare(self) -> None:
        self.milestones: Counter[int] = Counter(self.milestones)

    def ratio(self, t: int) -> float:
        return self.gamma ** self.milestones.get(t, 0)


class ConstantLR(LRScheduler, factor=1 / 3, total_iters=5):
    """lr = factor·initial_lr in the first `total_iters` epochs."""

    at_once = True

    def prepare(self) -> None:
        self._require(0 <= self.factor <= 1, f"factor must be from 0 to 1, but {self.factor} came")

    def ratio(self, t: int) -> float:
        return self.factor if t == 0 else 1 / self.factor if t == self.total_iters else 1.0


class LinearLR(LRScheduler, start_factor=1 / 3, end_factor=1.0, total_iters=5):
    """lr goes straight from start_factor·initial_lr to end_factor·initial_lr in `total_iters` epochs: a linear warm-up,
    for instance, before another schedule,

    >>> sgd = optim.SGD([fastnn.zeros(1, requires_grad=True)], lr=1.0)
    >>> warmup = optim.lr_scheduler.LinearLR(sgd, start_factor=0.25, total_iters=3)
    >>> cosine = optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=100)
    >>> schedule = optim.lr_scheduler.SequentialLR(sgd, [warmup, cosine], milestones=[3])"""

    def prepare(self) -> None:
        self._require(0 < self.start_factor <= 1, f"start_factor must be in (0, 1], but {self.start_factor} came")
        self._require(0 <= self.end_factor <= 1, f"end_factor must be from 0 to 1, but {self.end_factor} came")

    def ratio(self, t: int) -> float:
        start, change, n = self.start_factor, self.end_factor - self.start_factor, self.total_iters
        return start if t == 0 else 1.0 if t > n else 1 + change / (n * start + (t - 1) * change)


class ExponentialLR(LRScheduler, gamma=...):
    """lr is multiplied by `gamma` every epoch."""

    def ratio(self, t: int) -> float:
        return self.gamma if t else 1.0


class PolynomialLR(LRScheduler, total_iters=5, power=1.0):
    """lr = initial_lr·(1 − t/total_iters)^power, from `total_iters` on 0."""

    def ratio(self, t: int) -> float:
        n = self.total_iters
        return ((1 - t / n) / (1 - (t - 1) / n)) ** self.power if 0 < t <= n else 1.0


class InverseTimeLR(LRScheduler, decay_rate=..., decay_steps=1):
    """lr = initial_lr / (1 + decay_rate·t/decay_steps): 1/t decay, for which sums of rates diverge and those of their
    squares converge, as Robbins and Monro (1951) ask. fastnn's own."""

    def prepare(self) -> None:
        self._require(self.decay_rate >= 0 and self.decay_steps > 0, "decay_rate >= 0 and decay_steps > 0 are needed")

    def ratio(self, t: int) -> float:
        n, rate = self.decay_steps, self.decay_rate
        return (n + rate * (t - 1)) / (n + rate * t) if t else 1.0


class LambdaLR(LRScheduler, lr_lambda=...):
    """lr = initial_lr·lr_lambda(t), with one function for all groups or a list with one for each."""

    def prepare(self) -> None:
        self.lr_lambdas: list[Callable[[int], float]] = self._each("lr_lambda")
        if not all(map(callable, self.lr_lambdas)):
            raise TypeError(f"{type(self).__name__}: lr_lambda must be a function or a list of functions")

    def get_lr(self) -> list[float]:
        return [lr * fn(self.last_epoch) for lr, fn in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(LambdaLR, lr_lambda=...):
    """lr is multiplied by lr_lambda(t) in epoch t = 1, 2, …, with functions as in LambdaLR."""

    def get_lr(self) -> list[float]:
        t, now = self.last_epoch, self._current()
        return now if self._is_initial else [lr * fn(t) for lr, fn in zip(now, self.lr_lambdas, strict=True)]


class CosineAnnealingLR(LRScheduler, T_max=..., eta_min=0.0):
    """lr = eta_min + (initial_lr − eta_min)·(1 + cos(π·t/T_max))/2: down to eta_min at T_max, and up again.

    Reference: Loshchilov, Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017."""

    def get_lr(self) -> list[float]:
        now, t, T, low = self._current(), self.last_epoch, self.T_max, self.eta_min
        if self._is_initial:
            return now
        if (t - 1 - T) % (2 * T) == 0:  # from eta_min the ratio below would be 0/0
            rise = (1 - math.cos(math.pi / T)) / 2
            return [lr + (base - low) * rise for lr, base in zip(now, self.base_lrs, strict=True)]
        above, before = (1 + math.cos(math.pi * epoch / T) for epoch in (t, t - 1))
        return [above / before * (lr - low) + low for lr in now]

    def closed_form(self) -> list[float]:
        return [_cosine(base, self.eta_min, self.last_epoch / self.T_max) for base in self.base_lrs]


def _cosine(begin: float, end: float, share: float) -> float:
    """From `begin` at share 0 to `end` at share 1, along half a cosine."""
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))


def _line(begin: float, end: float, share: float) -> float:
    return (end - begin) * share + begin


CURVES: dict[str, Curve] = {"cos": _cosine, "linear": _line}


class CosineAnnealingWarmRestarts(LRScheduler, T_0=..., T_mult=1, eta_min=0.0):
    """lr = eta_min + (initial_lr − eta_min)·(1 + cos(π·T_cur/T_i))/2, where T_cur counts from the last restart; the
    first run lasts T_0 epochs, each later one T_mult times as long. `step` takes epochs with fractions, too.

    Reference: Loshchilov, Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017."""

    def prepare(self) -> None:
        for name in ("T_0", "T_mult"):
            value = getattr(self, name)
            self._require(isinstance(value, int) and value >= 1, f"{name} must be a positive int, but {value} came")
        self.T_i, self.T_cur = self.T_0, self.last_epoch

    def get_lr(self) -> list[float]:
        return [_cosine(base, self.eta_min, self.T_cur / self.T_i) for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        if epoch is None and self.last_epoch >= 0:
            epoch, self.T_cur = self.last_epoch + 1, self.T_cur + 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            epoch = epoch or 0
            self._require(0 <= epoch < math.inf, f"Expected non-negative epoch, but got {epoch}")
            self.T_cur, self.T_i = epoch, self.T_0
            while self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur - self.T_i, self.T_i * self.T_mult
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())


class _Cycle(LRScheduler):
    """What schedules share that let momentum, or the first of Adam's betas, fall while the rate rises."""

    def _prepare_momentum(self) -> None:
        self._require(not self.cycle_momentum or {"momentum", "betas"} & self.optimizer.defaults.keys(),
                      "optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        tops, bases = self._each("max_momentum"), self._each("base_momentum")
        for group, top, base in zip(self.optimizer.param_groups, tops, bases, strict=True):
            if self.cycle_momentum and self.last_epoch == -1:
                group |= {"max_momentum": top, "base_momentum": base}

    def _set_momentum(self, values: Iterable[float]) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group |= {"betas": (value, *group["betas"][1:])} if "betas" in group else {"momentum": value}


class CyclicLR(_Cycle, base_lr=..., max_lr=..., step_size_up=2000, step_size_down=None, mode="triangular", gamma=1.0,
               scale_fn=None, scale_mode="cycle", cycle_momentum=True, base_momentum=0.8, max_momentum=0.9):
    """lr rises straight from base_lr to max_lr in `step_size_up` steps and falls back in `step_size_down`, again and
    again; momentum falls from max_momentum and rises. The height of cycle c = 1, 2, … is multiplied by 1 for `mode`
    "triangular", 2^(1 − c) for "triangular2", gamma^t for "exp_range", or by scale_fn(c), if it is given, or, if
    `scale_mode` is "iterations", scale_fn(t).

    Reference: Smith, Cyclical learning rates for training neural networks, WACV 2017."""

    def prepare(self) -> None:
        self._require(self.scale_fn or self.mode in ("triangular", "triangular2", "exp_range"),
                      f"mode {self.mode!r} is invalid and scale_fn is None")
        self.ranges = list(zip(self._each("base_lr"), self._each("max_lr"), strict=True))
        for group, (low, _) in zip(self.optimizer.param_groups, self.ranges, strict=True):
            group["lr"] = low if self.last_epoch == -1 else group["lr"]
        self._prepare_momentum()

    def get_lr(self) -> list[float]:
        t, up, down = self.last_epoch, self.step_size_up, self.step_size_down or self.step_size_up
        cycle, x, top = 1 + t // (up + down), t / (up + down) % 1, up / (up + down)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else t) if self.scale_fn else (
            {"triangular": 1.0, "triangular2": 0.5 ** (cycle - 1)}.get(self.mode, self.gamma ** t))
        height = scale * (x / top if x <= top else (x - 1) / (top - 1))
        if self.cycle_momentum:
            self._set_momentum(map(_line, self._each("max_momentum"), self._each("base_momentum"), repeat(height)))
        return [_line(low, high, height) for low, high in self.ranges]


class OneCycleLR(_Cycle, max_lr=..., total_steps=None, epochs=None, steps_per_epoch=None, pct_start=0.3,
                 anneal_strategy="cos", cycle_momentum=True, base_momentum=0.85, max_momentum=0.95, div_factor=25.0,
                 final_div_factor=1e4, three_phase=False):
    """One cycle of `total_steps` (or epochs·steps_per_epoch) steps: lr goes from max_lr/div_factor to max_lr in the
    first share `pct_start`, then to max_lr/div_factor/final_div_factor, with `three_phase` by way of its first value;
    momentum goes from max_momentum to base_momentum and back. `anneal_strategy` is "cos" or "linear". ValueError for a
    step beyond the last.

    Reference: Smith, Topin, Super-convergence, arXiv:1708.07120."""

    total_steps: Any

    def prepare(self) -> None:
        given = [self.total_steps, self.epochs, self.steps_per_epoch]
        counts = given[1:] if self.total_steps is None else given[:1]
        self._require(all(isinstance(n, int) and n > 0 for n in counts),
                      f"total_steps, or epochs and steps_per_epoch, must be positive ints, but {given} came")
        self.total_steps = math.prod(counts)
        self._require(isinstance(self.pct_start, float) and 0 <= self.pct_start <= 1,
                      f"Expected float between 0 and 1 pct_start, but got {self.pct_start}")
        self._require(self.anneal_strategy in CURVES, f"anneal_strategy {self.anneal_strategy!r} is not cos or linear")
        for group, lr in zip(self.optimizer.param_groups, self._each("max_lr"), strict=True):
            if self.last_epoch == -1:
                group["initial_lr"], group["max_lr"] = lr / self.div_factor, lr
                group["min_lr"] = group["initial_lr"] / self.final_div_factor
        self._prepare_momentum()

    def get_lr(self) -> list[float]:
        t, last, turn = self.last_epoch, self.total_steps - 1, self.pct_start * self.total_steps - 1
        self._require(t <= self.total_steps, f"step {t} of {self.total_steps} was asked for")
        top, bottom = ("max_lr", "base_momentum"), ("initial_lr", "max_momentum")
        points = [(0, *bottom), (turn, *top), *[(2 * turn, *bottom)] * self.three_phase, (last, "min_lr", bottom[1])]
        begin, end = next((pair for pair in pairwise(points) if t <= pair[1][0]), points[-2:])
        share = (t - begin[0]) / (end[0] - begin[0])

        def between(begin: str, end: str) -> list[float]:
            return [CURVES[self.anneal_strategy](group[begin], group[end], share)
                    for group in self.optimizer.param_groups]

        if self.cycle_momentum:
            self._set_momentum(between(begin[2], end[2]))
        return between(begin[1], end[1])


class ReduceLROnPlateau(LRScheduler, mode="min", factor=0.1, patience=10, threshold=1e-4, threshold_mode="rel",
                        cooldown=0, min_lr=0, eps=1e-8):
    """`step(metrics)` multiplies lr by `factor`, but not below min_lr nor by a change of eps or less, after more than
    `patience` epochs without a better value: one below best·(1 − threshold), or best − threshold if `threshold_mode` is
    "abs"; above best·(1 + threshold), or best + threshold, if `mode` is "max". Then `cooldown` epochs do not count."""

    def prepare(self) -> None:
        self._require(self.factor < 1, "Factor should be < 1.0.")
        self._require(self.mode in ("min", "max"), f"mode {self.mode} is unknown!")
        self._require(self.threshold_mode in ("rel", "abs"), f"threshold mode {self.threshold_mode} is unknown!")
        self._each("min_lr")
        self.sign = 1 if self.mode == "min" else -1
        self.best, self.cooldown_counter, self.num_bad_epochs = self.sign * math.inf, 0, 0

    def _begin(self) -> None:
        self.last_epoch, self._last_lr = 0, self._current()

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        current, self.last_epoch = float(metrics), self.last_epoch + 1 if epoch is None else epoch
        least = self.sign * self.threshold
        limit = self.best * (1 - least) if self.threshold_mode == "rel" else self.best - least
        better = self.sign * current < self.sign * limit
        self.best, self.num_bad_epochs = (current, 0) if better else (self.best, self.num_bad_epochs + 1)
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self._each("min_lr"), strict=True):
                new = max(group["lr"] * self.factor, least)
                group["lr"] = new if group["lr"] - new > self.eps else group["lr"]
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._current()


class _Composed(LRScheduler):
    def _take(self, schedulers: Sequence[LRScheduler]) -> None:
        self._require(len(schedulers), "expects at least one scheduler, but got no scheduler")
        for i, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeError(f"{type(self).__name__}: a {type(scheduler).__name__} at index {i} is no scheduler")
            self._require(not isinstance(scheduler, ReduceLROnPlateau), f"ReduceLROnPlateau at index {i} needs metrics")
            self._require(scheduler.optimizer is self.optimizer, f"index {i} belongs to another optimizer")
        self._schedulers = list(schedulers)

    def _undo(self) -> None:
        for scheduler in self._schedulers:
            scheduler._undo()


class SequentialLR(_Composed, schedulers=..., milestones=...):
    """One schedule after the other: the next begins, with its epoch 0, at each of the `milestones`."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        given = bind(self, args, settings)
        self.optimizer = given["optimizer"]
        self._take(given["schedulers"])
        self._milestones, self.last_epoch = given["milestones"], given["last_epoch"] + 1
        self._require(len(self._milestones) == len(self._schedulers) - 1,
                      f"{len(self._schedulers)} schedulers need one milestone less, but {len(self._milestones)} came")
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._undo()
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._begin()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            self._schedulers[i]._go_to(0)
        else:
            self._schedulers[i].step()
        self._last_lr = self._schedulers[i].get_last_lr()


class ChainedScheduler(_Composed):
    """All schedules at once: each step is a step of every one."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.optimizer = optimizer or (schedulers[0].optimizer if len(schedulers) else None)
        self._take(schedulers)
        self._last_lr = self._current()

    def step(self) -> None:  # type: ignore[override]
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._current()
