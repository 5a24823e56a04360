"""Initial values. Each function fills the tensor in place, unseen by the tape, and returns it. Random values are drawn
from the seeded generator in float64, in the C order of the shape: they depend on neither dtype nor memory order."""
import math
from contextlib import ExitStack
from typing import Any

import numpy as np

from fastnn import backend
from fastnn.errors import ArgumentError
from fastnn.nn.parameter import evaluation, write
from fastnn.tensor import Tensor

_GAINS = {"tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 0.75} | dict.fromkeys(
    ["linear", "sigmoid", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))], 1.0)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on a layer's standard deviation for the nonlinearity after it; leaky_relu: √(2 / (1 + param²))."""
    if nonlinearity in _GAINS:
        return _GAINS[nonlinearity]
    if nonlinearity != "leaky_relu":
        raise ValueError(f"calculate_gain: nonlinearity {nonlinearity!r} is not known")
    slope = 0.01 if param is None else param
    if isinstance(slope, bool) or not isinstance(slope, (int, float)):
        raise ValueError(f"calculate_gain: the slope of leaky_relu must be a number, but {slope!r} came")
    return math.sqrt(2.0 / (1 + slope**2))


def _need_dimensions(op: str, tensor: Tensor, fits: bool, needed: str) -> None:
    if not fits:
        raise ValueError(f"{op}: a tensor of {needed} dimensions is needed, but shape {tensor.shape} came")


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Terms in the sum of one output, and sums that one input enters: shape[1] and shape[0] times the kernel's area."""
    _need_dimensions("init by fan-in and fan-out", tensor, tensor.ndim >= 2, "2 or more")
    area = math.prod(tensor.shape[2:])
    return tensor.shape[1] * area, tensor.shape[0] * area


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Values from U(a, b)."""
    if not a <= b:
        raise ArgumentError(f"uniform_: a <= b is needed, but a={a}, b={b} came")
    return write(tensor, backend.generator.uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Values from N(mean, std²)."""
    if not std >= 0:
        raise ArgumentError(f"normal_: std must not be negative, but std={std} came")
    return write(tensor, backend.generator.normal(mean, std, tensor.shape))


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Values from N(mean, std²) given that they lie in [a, b]: uniform ones, kept in proportion to the density."""
    if not (a < b and std > 0):
        raise ValueError(f"trunc_normal_: a < b and std > 0 are needed, but a={a}, b={b}, std={std} came")
    low, high = (a - mean) / std, (b - mean) / std
    peak = min(max(low, 0.0), high)
    reach = math.sqrt(peak**2 + 80)  # beyond it the density is below e⁻⁴⁰ of its peak
    n, kept = tensor.numel(), np.empty(0)
    while kept.size < n:
        z = backend.generator.uniform(max(low, -reach), min(high, reach), n)
        kept = np.append(kept, z[backend.generator.random(n) < np.exp((peak**2 - z**2) / 2)])
    return write(tensor, (mean + std * kept[:n]).clip(a, b).reshape(tensor.shape))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    return write(tensor, np.asarray(val))


def ones_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix: a Linear layer passes on as many inputs as it can."""
    _need_dimensions("eye_", tensor, tensor.ndim == 2, "2")
    return write(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """1 at the centre of the kernel: a convolution passes on as many channels of each group as it can."""
    _need_dimensions("dirac_", tensor, 3 <= tensor.ndim <= 5, "3 to 5")
    if groups < 1 or tensor.shape[0] % groups:
        raise ValueError(f"dirac_: the first size of shape {tensor.shape} must be divisible by groups={groups}")
    values, outputs, centre = np.zeros(tensor.shape), tensor.shape[0] // groups, (n // 2 for n in tensor.shape[2:])
    channels = np.arange(min(outputs, tensor.shape[1]))
    values[(np.arange(groups)[:, None] * outputs + channels, channels, *centre)] = 1  # type: ignore[index]
    return write(tensor, values)


def _uniform_of_std(tensor: Tensor, std: float) -> Tensor:
    return uniform_(tensor, -math.sqrt(3.0) * std, math.sqrt(3.0) * std)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2.0 / max(1, sum(_calculate_fan_in_and_fan_out(tensor))))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """U(−a, a), a = gain · √(6 / (fan_in + fan_out)). Reference: Glorot & Bengio 2010."""
    return _uniform_of_std(tensor, _xavier_std(tensor, gain))


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """N(0, std²), std = gain · √(2 / (fan_in + fan_out)). Reference: Glorot & Bengio 2010."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode must be 'fan_in' or 'fan_out', but {mode!r} came")
    fan = _calculate_fan_in_and_fan_out(tensor)[mode.lower() == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """U(−bound, bound), bound = gain · √(3 / fan); `a` is leaky_relu's slope. Reference: He et al. 2015."""
    return _uniform_of_std(tensor, _kaiming_std(tensor, a, mode, nonlinearity))


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """N(0, std²), std = gain / √fan; `a` is leaky_relu's slope. Reference: He et al. 2015."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def orthogonal_(tensor: Tensor, gain: float = 1) -> Tensor:
    """gain · Q, where Q is (shape[0], the rest) with orthonormal rows or columns. Reference: Saxe et al. 2013."""
    _need_dimensions("orthogonal_", tensor, tensor.ndim >= 2, "2 or more")
    values = backend.generator.standard_normal((tensor.shape[0], math.prod(tensor.shape[1:])))
    wide = values.shape[0] < values.shape[1]
    q, r = np.linalg.qr(values.T if wide else values)
    q *= np.sign(np.diag(r))  # makes Q uniform among such matrices (Mezzadri 2006)
    return write(tensor, gain * (q.T if wide else q).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01) -> Tensor:
    """N(0, std²), but zero in a fraction `sparsity` of each column, rounded up. Reference: Martens 2010."""
    _need_dimensions("sparse_", tensor, tensor.ndim == 2, "2")
    values = backend.generator.normal(0.0, std, tensor.shape)
    order = np.argsort(backend.generator.random(tensor.shape), axis=0)
    np.put_along_axis(values, order[: math.ceil(sparsity * len(order))], 0.0, axis=0)
    return write(tensor, values)


def lsuv_(model: Any, *data: Any, tol: float = 0.01, max_iterations: int = 10) -> Any:
    """Layer-sequential unit variance: orthonormal weights, no biases; then, layer by layer as `model(*data)` comes to
    them, weights divided by the standard deviation of the layer's output until its variance is within `tol` of 1.

    Done for all modules that have `in_features` or `in_channels` and a `weight` that is a parameter, in evaluation
    mode; nothing else changes.
    Returns the model. ArgumentError if an output does not vary. Reference: Mishkin & Matas, ICLR 2016."""
    def fit(layer: Any, args: tuple, output: Any) -> Any:
        orthogonal_(layer.weight)
        if layer._parameters.get("bias") is not None:
            zeros_(layer.bias)
        for _ in range(max_iterations):
            variance = float((output := layer.forward(*args)).array.var(dtype=np.float64))
            if not 0 < variance < math.inf:
                raise ArgumentError(f"lsuv_: the variance of the output of {layer} is {variance}")
            if abs(variance - 1) < tol:
                break
            write(layer.weight, layer.weight.array / math.sqrt(variance))
        handles.pop(layer).remove()  # not again, if the layer is used twice
        return output

    with ExitStack() as hooks, evaluation(model):
        handles = {layer: hooks.enter_context(layer.register_forward_hook(fit, prepend=True))
                   for layer in model.modules() if {"in_features", "in_channels"} & {*vars(layer)}
                   and layer._parameters.get("weight") is not None}
        model(*data)
    return model
