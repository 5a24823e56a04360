"""Linear, Bilinear, Maxout, and layers without weights: Identity, Flatten, Unflatten."""
import math
from typing import Any, ClassVar

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
    _fan_in: ClassVar[slice] = slice(1, None)  # the axes of the weight that count
    _shown: ClassVar[tuple[str, ...]]  # by extra_repr

    def _make_parameters(self, shape: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any,
                         bias_shape: tuple[int, ...] = ()) -> None:
        for name, size, wanted in (("weight", shape, weight), ("bias", bias_shape or shape[:1], bias)):
            parameter = empty(type(self).__name__, *size, device=device, dtype=dtype) if wanted else None
            self.register_parameter(name, parameter)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        fan_in = math.prod(self.weight.shape[self._fan_in])
        bound = fan_in**-0.5 if fan_in else 0.0
        for parameter in (self.weight,) if self.bias is None else (self.weight, self.bias):
            init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._shown) + f", bias={self.bias is not None}"


class Linear(Weighted):
    """y = x Wᵀ + b: x (*, in_features) → y (*, out_features), W (out_features, in_features), b (out_features,).

    >>> nn.Linear(20, 30)(fastnn.zeros(128, 20)).shape
    (128, 30)
    """
    _shown: ClassVar[tuple[str, ...]] = ("in_features", "out_features")

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self._make_parameters((out_features, in_features), True, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


class Maxout(Linear):
    """For each output the largest of `num_pieces` linear functions: x (*, in_features) → y (*, out_features). Output o
    is that of rows o·num_pieces to (o + 1)·num_pieces − 1 of weight and bias (Goodfellow et al., arXiv 1302.4389)."""
    _shown = ("in_features", "out_features", "num_pieces")

    def __init__(self, in_features: int, out_features: int, num_pieces: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(in_features, out_features * num_pieces, bias, device, dtype)
        self.out_features, self.num_pieces = out_features, num_pieces

    def forward(self, input: Tensor) -> Tensor:
        return F.maxout(super().forward(input), self.num_pieces, -1)


class Bilinear(Weighted):
    """y = x₁ᵀ W x₂ + b: x₁ (*, in1_features), x₂ (*, in2_features) → y (*, out_features), W (out, in1, in2)."""
    _fan_in, _shown = slice(1, 2), ("in1_features", "in2_features", "out_features")

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        if in1_features <= 0:
            raise ValueError(f"Bilinear: in1_features must be positive, but {in1_features} came")
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self._make_parameters((out_features, in1_features, in2_features), True, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)
