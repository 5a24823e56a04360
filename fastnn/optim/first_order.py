"""Optimizers that need nothing but the gradient. A class states its options, with PyTorch's names, order and defaults,
what it keeps of each parameter, and the kernel that takes a step.

All take, by name, `maximize`, to climb; `l1` (fastnn's own), which adds l1·sign(p) to the gradient, as the penalty
l1·Σ|p| in the loss would, and makes the elastic net together with weight_decay; and `max_norm` (see `FirstOrder`). In
the formulae, d = gradient + weight_decay·p + l1·sign(p), the gradient negated to `maximize`; operations are element by
element; s = 1, 2, … counts the steps of the parameter; what is kept begins as 0 unless told otherwise. ValueError for
an option that is out of range."""
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastnn import backend, layout
from fastnn.autograd import enable_grad
from fastnn.errors import ShapeError
from fastnn.functional.arguments import bind
from fastnn.functional.reduction import clip_factor
from fastnn.optim.optimizer import PAIRS, Group, Optimizer, declare
from fastnn.tensor import Array, Tensor, float32, settle

_NEW, _OLD = np.zeros((), float32), np.ones((), float32)  # a parameter's steps, where only the first is special
_NEEDS = {"max_exp_avg_sq": "amsgrad", "grad_avg": "centered", "momentum_buffer": "momentum"}  # to be kept at all
Fresh = list[tuple[Group, str, Tensor]]  # what becomes state, there under this key, once the step is taken


class FirstOrder(Optimizer):
    """Base class. The constructor takes the options that the class statement lists, and those that all have.

    `max_norm` (fastnn's own) clips: a step uses the gradients as `nn.utils.clip_grad_norm_(params, max_norm)` would
    leave them, within rounding, but reads them only and saves a pass over memory. It is no part of the state."""

    __signature__: ClassVar[inspect.Signature]
    kernel: ClassVar[str]
    options: ClassVar[tuple[str, ...]]  # that the kernel takes
    arrays: ClassVar[Group]  # what is kept of a parameter, and its first value: a number, or the name of an option
    fixed: ClassVar[Group] = {}  # options that are no arguments

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__()
        if options:
            cls.__signature__ = declare("params", options, {"maximize": False, "l1": 0.0, "max_norm": None})

    def __init__(self, *args: Any, **options: Any) -> None:
        given: Group = {name: tuple(value) if name in PAIRS else value
                        for name, value in bind(self, args, options).items()}
        params, self.max_norm = given.pop("params"), given.pop("max_norm")
        if self.max_norm is not None and not self.max_norm >= 0:
            raise ValueError(f"{type(self).__name__}: Invalid max_norm: {self.max_norm}")
        self.stepped = False  # a scheduler warns if it steps first
        super().__init__(params, given | self.fixed)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient. `closure` computes the loss anew, and its result is returned."""
        loss = None
        if closure:
            with enable_grad():
                loss = closure()
        self.stepped = True
        scale = 1.0 if self.max_norm is None else clip_factor(
            [p.grad.array for p in self._params() if p.grad is not None], self.max_norm)[1]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            values = [settle(p) for p in params]
            try:
                if backend.kernel_set == "reference":  # twins check nothing
                    raise ValueError
                self._update(group, params, values, [p.grad.array for p in params], scale)
            except ValueError:  # kernels check before they write; most steps need no second look at each array
                self._fit_and_update(group, params, scale)
            for p in params:
                p._version[0] += 1
        return loss

    def _update(self, group: Group, params: list[Tensor], values: list[Array], grads: list[Array],
                scale: float) -> None:
        """Change `values`, the arrays of `params`, by `grads` times `scale`. ValueError, before anything is changed,
        if memory orders or dtypes differ."""
        decay, decoupled, fresh = group.get("weight_decay", 0.0), group.get("decoupled_weight_decay"), Fresh()
        options: list[float] = []
        for name in self.options:
            value = group[name] if name != "decoupled" else decay if decoupled else 0.0
            options += value if isinstance(value, (tuple, list)) else (value,)
        arrays = [self._memory(group, params, key, start, fresh) if group.get(_NEEDS.get(key, ""), True) else []
                  for key, start in self.arrays.items()]
        getattr(backend.optimizer, self.kernel)(
            values, grads, arrays, self._counts(group, params, fresh), options,
            (0.0 if decoupled else decay, group["maximize"], group["l1"], scale), backend.n_threads())
        for state, key, tensor in fresh:
            state[key] = tensor

    def _counts(self, group: Group, params: list[Tensor], fresh: Fresh) -> list[list[Array]]:
        """The numbers of each parameter, the steps first; they are its own, for one without gradient lags behind."""
        return [self._memory(group, params, key, start, fresh) for key, start in self.numbers.items()]

    def _memory(self, group: Group, params: list[Tensor], key: str, start: Any, fresh: Fresh) -> list[Array]:
        """The arrays of state under `key`; where there are none yet, arrays full of `start`, noted in `fresh`."""
        states = [self.state[p] for p in params]
        try:
            return [state[key].array for state in states]
        except (KeyError, AttributeError):  # AttributeError: None, in PyTorch's files
            held: list[Any] = [state.get(key) for state in states]
            first = group[start] if isinstance(start, str) else start
            for i, p in enumerate(params):
                if held[i] is None:
                    held[i] = Tensor(np.array(first, float32) if key in self.numbers else np.full_like(p.array, first))
                    fresh.append((states[i], key, held[i]))
            return [tensor.array for tensor in held]

    def _fit_and_update(self, group: Group, params: list[Tensor], scale: float) -> None:
        """`_update` for parameters with gaps in their memory or cast by `Module.to`, and gradients in another order."""
        for p in params:
            grad: Any = p.grad
            if grad.shape != p.shape:
                raise ShapeError(f"optimizer: a parameter of shape {p.shape} has a gradient of {grad.shape}")
            for key, held in self.state.get(p, {}).items():
                if key not in self.numbers and isinstance(held, Tensor) and held.dtype != p.dtype:
                    self.state[p][key] = Tensor(layout.match(held.array, p.array))
        values = [layout.match(p.array, p.array) for p in params]  # a copy if there are gaps
        grads = [layout.match(p.grad.array, p.array) for p in params]  # type: ignore[union-attr]
        self._update(group, params, values, grads, scale)
        for p, value in zip(params, values, strict=True):
            if value is not p.array:
                p.array[...] = value


class SGD(FirstOrder, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    """Stochastic gradient descent:

        b = momentum·b + (1 − dampening)·d   (b = d in a parameter's first step)
        p = p − lr·b,   or with `nesterov`   p − lr·(d + momentum·b),   or without momentum   p − lr·d

    ValueError also for `nesterov` without momentum or with dampening.

    >>> p = fastnn.tensor([1.0, 2.0], requires_grad=True)
    >>> (p * p).sum().backward()
    >>> optim.SGD([p], lr=0.25).step()
    >>> p
    tensor([0.5, 1. ], requires_grad=True)

    Reference: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013."""

    kernel, options = "sgd_step", ("lr", "momentum", "dampening", "nesterov")
    arrays: ClassVar[Group] = {"momentum_buffer": 0}
    numbers: ClassVar[Group] = {}

    def check(self, options: Group) -> None:
        super().check(options)
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("SGD: Nesterov momentum requires a momentum and zero dampening")

    def _counts(self, group: Group, params: list[Tensor], fresh: Fresh) -> list[list[Array]]:
        new = {id(state) for state, _, _ in fresh}
        return [[_NEW if id(self.state[p]) in new else _OLD for p in params] if new else [_OLD] * len(params)]


class ASGD(FirstOrder, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0):
    """Averaged stochastic gradient descent, of which `state[p]["ax"]` is the average:

        p = (1 − lambd·eta)·p − eta·d,   ax = ax + mu·(p − ax);   eta begins as lr, mu as 1
        eta = lr / (1 + lambd·lr·s)^alpha,   mu = 1 / max(1, s − t0)   for the next step

    Reference: Polyak, Juditsky, Acceleration of stochastic approximation by averaging, 1992."""

    kernel, options = "asgd_step", ("lr", "lambd", "alpha", "t0")
    arrays: ClassVar[Group] = {"ax": 0}
    numbers: ClassVar[Group] = {"step": 0, "eta": "lr", "mu": 1}


class Rprop(FirstOrder, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50)):
    """Resilient backpropagation, for full batches: only the sign of the gradient counts, and each element has a step
    size z of its own, which begins as lr,

        z = z·etas[1] where d has the sign of the d before, z·etas[0] where it has the other, within step_sizes
        p = p − z·sign(d),   but where the sign has changed p stays, and d counts as 0 in the next step

    Reference: Riedmiller, Braun, A direct adaptive method for faster backpropagation learning: RPROP, ICNN 1993."""

    kernel, options = "rprop_step", ("etas", "step_sizes")
    arrays: ClassVar[Group] = {"prev": 0, "step_size": "lr"}

    def check(self, options: Group) -> None:
        super().check(options)
        if not 0 < options["etas"][0] < 1 < options["etas"][1]:
            raise ValueError(f"Rprop: Invalid eta values: {options['etas'][0]}, {options['etas'][1]}")


class Adagrad(FirstOrder, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10):
    """Steps that shrink with all gradients so far:

        sum = sum + d²,   p = p − lr/(1 + (s − 1)·lr_decay) · d / (√sum + eps)

    `sum` begins as initial_accumulator_value.

    Reference: Duchi, Hazan, Singer, Adaptive subgradient methods, JMLR 2011."""

    kernel, options = "adagrad_step", ("lr", "lr_decay", "eps")
    arrays: ClassVar[Group] = {"sum": "initial_accumulator_value"}


class Adadelta(FirstOrder, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0):
    """Steps in units of the parameter, from running averages v of d² and a of δ²:

        v = rho·v + (1 − rho)·d²,   δ = √(a + eps) / √(v + eps) · d,   a = rho·a + (1 − rho)·δ²,   p = p − lr·δ

    Reference: Zeiler, ADADELTA: an adaptive learning rate method, arXiv:1212.5701."""

    kernel, options = "adadelta_step", ("lr", "rho", "eps")
    arrays: ClassVar[Group] = {"square_avg": 0, "acc_delta": 0}


class RMSprop(FirstOrder, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False):
    """Steps relative to the root of a running average of d²:

        v = alpha·v + (1 − alpha)·d²,   u = d / (√v + eps),   p = p − lr·u

    or with `momentum` b = momentum·b + u,  p = p − lr·b. `centered` takes v − m², at least 0, for v under the root,
    with the average m = alpha·m + (1 − alpha)·d.

    Reference: Tieleman, Hinton, lecture 6e of Neural networks for machine learning, 2012; centred: Graves, 2013."""

    kernel, options = "rmsprop_step", ("lr", "alpha", "eps", "momentum")
    arrays: ClassVar[Group] = {"square_avg": 0, "grad_avg": 0, "momentum_buffer": 0}


class Adam(FirstOrder, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False,
           decoupled_weight_decay=False):
    """Running averages m of d and v of d², corrected for their start at 0:

        m = β₁·m + (1 − β₁)·d,   v = β₂·v + (1 − β₂)·d²
        p = p − lr · m/(1 − β₁ˢ) / (√(v/(1 − β₂ˢ)) + eps)

    If `decoupled_weight_decay`, d has no decay, but p is multiplied by 1 − lr·weight_decay first. `amsgrad` uses the
    largest v so far.

    References: Kingma, Ba, ICLR 2015; amsgrad: Reddi et al., ICLR 2018; decoupled: Loshchilov, Hutter, ICLR 2019."""

    kernel, options = "adam_step", ("lr", "betas", "eps", "decoupled")
    arrays: ClassVar[Group] = {"exp_avg": 0, "exp_avg_sq": 0, "max_exp_avg_sq": 0}


class AdamW(Adam, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False):
    """Adam with decoupled weight decay: p is multiplied by 1 − lr·weight_decay before each step. See `Adam`."""

    fixed: ClassVar[Group] = {"decoupled_weight_decay": True}


class Adamax(FirstOrder, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
    """Adam with the largest gradient, fading, in place of the root mean square:

        m = β₁·m + (1 − β₁)·d,   u = max(β₂·u, |d| + eps),   p = p − lr/(1 − β₁ˢ) · m/u

    Reference: Kingma, Ba, Adam: a method for stochastic optimization, ICLR 2015, section 7.1."""

    kernel, options = "adamax_step", ("lr", "betas", "eps")
    arrays: ClassVar[Group] = {"exp_avg": 0, "exp_inf": 0}


class NAdam(FirstOrder, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3,
            decoupled_weight_decay=False):
    """Adam with Nesterov momentum: m and v as Adam's, μₛ = β₁·(1 − 0.96^(s·momentum_decay)/2), Pₛ = μ₁·μ₂⋯μₛ,

        p = p − lr · ((1 − μₛ)/(1 − Pₛ)·d + μₛ₊₁/(1 − Pₛ₊₁)·m) / (√(v/(1 − β₂ˢ)) + eps)

    Reference: Dozat, Incorporating Nesterov momentum into Adam, ICLR workshop 2016."""

    kernel, options = "nadam_step", ("lr", "betas", "eps", "decoupled", "momentum_decay")
    arrays: ClassVar[Group] = {"exp_avg": 0, "exp_avg_sq": 0}
    numbers: ClassVar[Group] = {"step": 0, "mu_product": 1}


class RAdam(FirstOrder, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False):
    """Adam that waits until v is reliable: m and v as Adam's, ρ∞ = 2/(1 − β₂) − 1, ρ = ρ∞ − 2·s·β₂ˢ/(1 − β₂ˢ),

        p = p − lr · m/(1 − β₁ˢ),   or if ρ > 5   p − lr · r · m/(1 − β₁ˢ) / ((√v + eps)/√(1 − β₂ˢ))
        r = √((ρ − 4)·(ρ − 2)·ρ∞ / ((ρ∞ − 4)·(ρ∞ − 2)·ρ))

    Reference: Liu et al., On the variance of the adaptive learning rate and beyond, ICLR 2020."""

    kernel, options = "radam_step", ("lr", "betas", "eps", "decoupled")
    arrays: ClassVar[Group] = {"exp_avg": 0, "exp_avg_sq": 0}
