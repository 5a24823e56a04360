"""Activations as modules; `fastnn.functional` has their formulae, arguments and errors."""
import fastnn.functional as F
from fastnn.nn.module import FunctionModule


class ReLU(FunctionModule, function=F.relu):
    """max(x, 0)."""


class LeakyReLU(FunctionModule, function=F.leaky_relu):
    """x where x > 0, else negative_slope·x."""


class ELU(FunctionModule, function=F.elu):
    """x where x > 0, else alpha·(exp(x) − 1)."""


class Sigmoid(FunctionModule, function=F.sigmoid):
    """1 / (1 + exp(−x))."""


class Tanh(FunctionModule, function=F.tanh):
    """tanh(x)."""


class Softmax(FunctionModule, function=F.softmax):
    """exp(x) / Σ exp(x), the sum along `dim`."""


class LogSoftmax(FunctionModule, function=F.log_softmax):
    """x − log Σ exp(x), the sum along `dim`."""
