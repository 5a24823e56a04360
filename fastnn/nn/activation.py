"""Activations as modules; `fastnn.functional` has their formulae, arguments and errors."""
from typing import Any

import fastnn.functional as F
from fastnn import creation
from fastnn.errors import ShapeError
from fastnn.nn import init as initialize
from fastnn.nn.module import FunctionModule, Module
from fastnn.nn.parameter import Parameter
from fastnn.tensor import Tensor


class ReLU(FunctionModule, function=F.relu):
    """max(x, 0)."""


class LeakyReLU(FunctionModule, function=F.leaky_relu):
    """x where x > 0, else negative_slope·x."""


class PReLU(Module):
    """x where x > 0, else weight·x, with `num_parameters` learned weights: 1 for all, or one for each channel."""
    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(creation.empty(num_parameters, dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        initialize.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(FunctionModule, function=F.rrelu):
    """x where x > 0, else s·x, s drawn from `lower` to `upper` in training, else their mean."""


class ELU(FunctionModule, function=F.elu):
    """x where x > 0, else alpha·(exp(x) − 1)."""


class SELU(FunctionModule, function=F.selu):
    """1.0507·elu(x, alpha=1.6733)."""


class CELU(FunctionModule, function=F.celu):
    """x where x > 0, else alpha·(exp(x / alpha) − 1)."""


class GELU(FunctionModule, function=F.gelu):
    """x·Φ(x), Φ being the normal distribution."""


class SiLU(FunctionModule, function=F.silu):
    """x·sigmoid(x)."""


class Mish(FunctionModule, function=F.mish):
    """x·tanh(softplus(x))."""


class Sigmoid(FunctionModule, function=F.sigmoid):
    """1 / (1 + exp(−x))."""


class LogSigmoid(FunctionModule, function=F.logsigmoid):
    """log(sigmoid(x))."""


class Tanh(FunctionModule, function=F.tanh):
    """tanh(x)."""


class Softplus(FunctionModule, function=F.softplus):
    """log(1 + exp(beta·x)) / beta."""


class Softsign(FunctionModule, function=F.softsign):
    """x / (1 + |x|)."""


class Hardtanh(FunctionModule, function=F.hardtanh):
    """x, at least min_val and at most max_val."""


class ReLU6(FunctionModule, function=F.relu6):
    """min(max(x, 0), 6)."""


class Hardswish(FunctionModule, function=F.hardswish):
    """x·hardsigmoid(x)."""


class Hardsigmoid(FunctionModule, function=F.hardsigmoid):
    """min(max(x + 3, 0), 6) / 6."""


class Hardshrink(FunctionModule, function=F.hardshrink):
    """x where |x| > lambd, else 0."""


class Softshrink(FunctionModule, function=F.softshrink):
    """x − lambd where x > lambd, x + lambd where x < −lambd, else 0."""


class Tanhshrink(FunctionModule, function=F.tanhshrink):
    """x − tanh(x)."""


class Threshold(FunctionModule, function=F.threshold):
    """x where x > threshold, else value."""


class GLU(FunctionModule, function=F.glu):
    """a·sigmoid(b), a and b being the halves of x along `dim`."""


class Softmax(FunctionModule, function=F.softmax):
    """exp(x) / Σ exp(x), the sum along `dim`."""


class Softmax2d(Module):
    """Softmax over the channels of images (N, C, H, W) or (C, H, W), else ValueError."""
    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ShapeError(f"Softmax2d: input must be (N, C, H, W) or (C, H, W), but its shape is {input.shape}")
        return F.softmax(input, -3)


class LogSoftmax(FunctionModule, function=F.log_softmax):
    """x − log Σ exp(x), the sum along `dim`."""


class Softmin(FunctionModule, function=F.softmin):
    """softmax(−x) along `dim`."""
