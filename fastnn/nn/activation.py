"""Activations as modules; `fastnn.functional` has their formulae."""
import fastnn.functional as F
from fastnn.nn.module import FunctionModule


class ReLU(FunctionModule, function=F.relu):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class LeakyReLU(FunctionModule, function=F.leaky_relu):
    """x where x > 0, else negative_slope·x."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope=negative_slope, inplace=inplace)


class ELU(FunctionModule, function=F.elu):
    """x where x > 0, else alpha·(exp(x) − 1); alpha is not negative."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


class Sigmoid(FunctionModule, function=F.sigmoid):
    """1 / (1 + exp(−x))."""


class Tanh(FunctionModule, function=F.tanh):
    """tanh(x)."""


class Softmax(FunctionModule, function=F.softmax):
    """exp(x) / Σ exp(x), the sum along `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim=dim)


class LogSoftmax(Softmax, function=F.log_softmax):
    """x − log Σ exp(x), the sum along `dim`."""
