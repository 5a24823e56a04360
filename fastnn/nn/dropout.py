"""Dropout and its kin as modules: active in training, the identity in evaluation. ValueError unless 0 <= p <= 1."""
from typing import Any

import fastnn.functional as F
from fastnn.functional.dropout import check_probability
from fastnn.nn.module import FunctionModule, Module

__all__ = ["AlphaDropout", "DropConnect", "Dropout", "Dropout1d", "Dropout2d", "FeatureAlphaDropout", "GaussianNoise",
           "StochasticDepth"]  # fmt: skip


class Dropout(FunctionModule, function=F.dropout, shows=("p", "inplace")):
    """In training each element is dropped with probability p, else divided by 1 − p."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        check_probability(type(self).__name__, self.p)


class Dropout1d(Dropout, function=F.dropout1d, shows=("p", "inplace")):
    """Like Dropout, but drops whole channels; input (N, C, L) or (C, L)."""


class Dropout2d(Dropout, function=F.dropout2d, shows=("p", "inplace")):
    """Like Dropout, but drops whole channels of each image; input (N, C, H, W)."""


class AlphaDropout(Dropout, function=F.alpha_dropout, shows=("p", "inplace")):
    """Dropout behind SELU, to its value at −∞, which keeps a mean of 0 and a variance of 1."""


class FeatureAlphaDropout(Dropout, function=F.feature_alpha_dropout, shows=("p", "inplace")):
    """Like AlphaDropout, but drops whole channels of each image; input (N, C, ...)."""


class StochasticDepth(Dropout, function=F.stochastic_depth):
    """Drops the whole input (mode "batch") or whole rows of it (mode "row"), as the branch of a residual block."""


class GaussianNoise(FunctionModule, function=F.gaussian_noise):
    """Adds noise of the standard deviation `std` or, if `relative`, of std·|x|."""


class DropConnect(Module):
    """Calls `module` with each of its weights dropped with probability p, else divided by 1 − p; `biases` too if asked
    (Wan et al. 2013). In evaluation the weights are as they are, which is what is expected of them in training. What
    `weight_norm` computes is dropped, not what it computes it from.

    >>> nn.DropConnect(nn.Linear(3, 2), p=0.3)(fastnn.ones(5, 3)).shape
    (5, 2)
    """

    def __init__(self, module: Module, p: float = 0.5, biases: bool = False) -> None:
        super().__init__()
        check_probability("DropConnect", p)
        self.module, self.p, self.biases = module, p, biases

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        held: list[tuple[dict, str, Any]] = []
        for m in self.module.modules() if self.training else ():
            norms = {hook.name: hook for hook, in m._forward_pre_hooks if hasattr(hook, "drop")}  # of weight_norm
            parts = {f"{name}_{part}" for name in norms for part in "gv"}
            held += [(vars(hook), "drop", hook.drop) if (hook := norms.get(name)) else (vars(m), name, vars(m)[name])
                     for name, weight in (m._parameters | norms).items()
                     if weight is not None and name not in parts and (self.biases or "bias" not in name)]
        try:
            for attributes, name, weight in held:
                both = isinstance(weight, float)  # two independent masks are one
                attributes[name] = 1 - (1 - weight) * (1 - self.p) if both else F.dropout(weight, self.p)
            return self.module(*args, **kwargs)
        finally:
            for attributes, name, weight in held:
                attributes[name] = weight

    def extra_repr(self) -> str:
        return f"p={self.p}, biases={self.biases}"
