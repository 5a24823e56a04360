"""Linear, and layers without weights: Identity, Flatten, Unflatten."""
import math
from typing import Any

import fastnn.functional as F
from fastnn.nn import init
from fastnn.nn.module import FunctionModule, Module
from fastnn.nn.parameter import empty
from fastnn.tensor import Tensor


class Identity(Module):
    """Returns its input; arguments of the constructor are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Flatten(FunctionModule, function=lambda x, start_dim=1, end_dim=-1: F.flatten(x, start_dim, end_dim)):
    """Merges the axes from `start_dim` to `end_dim` into one, by default all but the first.

    >>> nn.Flatten()(fastnn.zeros(32, 5, 3, 3)).shape
    (32, 45)
    """


class Unflatten(FunctionModule, function=lambda x, dim, unflattened_size: F.unflatten(x, dim, unflattened_size)):
    """Splits the axis `dim` into axes of sizes `unflattened_size`, of which one may be -1."""


class Weighted(Module):
    """A module of a weight and a bias, None where not wanted; by default drawn from U(−k, k), k = 1 / √fan_in."""

    def _make_parameters(self, shape: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any,
                         bias_shape: tuple[int, ...] | None = None) -> None:
        for name, size, wanted in (("weight", shape, weight), ("bias", bias_shape or shape[:1], bias)):
            parameter = empty(type(self).__name__, *size, device=device, dtype=dtype) if wanted else None
            self.register_parameter(name, parameter)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        fan_in = math.prod(self.weight.shape[1:])
        bound = fan_in**-0.5 if fan_in else 0.0
        for parameter in (self.weight,) if self.bias is None else (self.weight, self.bias):
            init.uniform_(parameter, -bound, bound)


class Linear(Weighted):
    """y = x Wᵀ + b: x (*, in_features) → y (*, out_features), W (out_features, in_features), b (out_features,).

    >>> nn.Linear(20, 30)(fastnn.zeros(128, 20)).shape
    (128, 30)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self._make_parameters((out_features, in_features), True, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
