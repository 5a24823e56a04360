"""Linear and Identity."""
from __future__ import annotations

from typing import Any

import fastnn.functional as F
from fastnn.nn import init
from fastnn.nn.module import Module
from fastnn.nn.parameter import empty
from fastnn.tensor import Tensor


class Identity(Module):
    """Returns its input; arguments of the constructor are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """y = x Wᵀ + b over the last axis.

    Shape: x (*, in_features) → y (*, out_features); weight (out_features, in_features), bias (out_features,). Both
    start from U(−k, k), k = 1 / √in_features.

    >>> import fastnn
    >>> Linear(20, 30)(fastnn.zeros(128, 20)).shape
    (128, 30)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = empty("Linear", out_features, in_features, device=device, dtype=dtype)
        self.register_parameter("bias", empty("Linear", out_features, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.layer_(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
