"""Helpers over networks: clipping and limits, groups, parameters as one vector, weight norm, Monte-Carlo dropout."""
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

import fastnn.functional as F
from fastnn.errors import ArgumentError, ShapeError
from fastnn.functional.reduction import clamp_, clip_factor, scale_
from fastnn.functional.shape import axis_of
from fastnn.nn.dropout import DropConnect, Dropout
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter, evaluation, write
from fastnn.tensor import Tensor, changing, float32


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in ([parameters] if isinstance(parameters, Tensor) else parameters) if p.grad is not None]


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients in place by min(1, max_norm / (norm + 1e-6)), where norm is that of all of them together.

    `norm_type` is the p of the p-norm, positive; `inf` (or "inf") gives the largest magnitude. Returns the norm before
    clipping, a 0-d tensor of the gradients' dtype. Raises RuntimeError if `error_if_nonfinite` and it is inf or NaN.

    Reference: Pascanu et al., On the difficulty of training recurrent neural networks, ICML 2013."""
    grads, norm_type, max_norm = _grads(parameters), float(norm_type), float(max_norm)
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be positive, but {norm_type} came")
    with np.errstate(all="ignore"):
        total, factor = clip_factor([grad.array for grad in grads], max_norm, norm_type)
        if error_if_nonfinite and not math.isfinite(total):
            raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {total}, and error_if_nonfinite is set")
        if factor != 1:  # NaN is passed on
            scale_([changing(grad) for grad in grads], factor)
        return Tensor(np.array(total).astype(np.result_type(*(grad.dtype for grad in grads)) if grads else float32))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of all gradients, in place, to [−clip_value, clip_value]."""
    clamp_([changing(grad) for grad in _grads(parameters)], float(clip_value))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters in one vector, each parameter in C order. Gradients flow back."""
    return F.cat([F.reshape(p, -1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """The reverse: copy `vec`, part by part, into the parameters. ShapeError unless it has as many elements as they."""
    parameters, start = list(parameters), 0
    if vec.shape != (needed := (sum(p.numel() for p in parameters),)):
        raise ShapeError(f"vector_to_parameters: a vector of shape {needed} is needed, but {vec.shape} came")
    for p in parameters:
        write(p, vec.array[start:start + p.numel()].reshape(p.shape))
        start += p.numel()


def param_groups(model: Module, weight_decay: float, **options: Any) -> list[dict[str, Any]]:
    """Groups for an optimizer: the trained parameters with `weight_decay` and, without it, those of at most one
    dimension: biases, and the scales and shifts of normalization. `options` are those of both."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if (p.ndim > 1) == large], "weight_decay": decay, **options}
              for large, decay in ((True, weight_decay), (False, 0.0))]
    return [group for group in groups if group["params"]]


def max_norm_(parameters: Module | Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
              dim: int = 0) -> None:
    """Scale every row along `dim`, in a weight what comes into one unit, back to the norm `max_norm` if its norm is
    larger, in place and unseen by the tape; after each step of the optimizer, that is max-norm regularization. Of a
    module, and of several tensors, those of one dimension, which are biases, are left alone.

    Reference: Srivastava et al., Dropout, JMLR 2014."""
    if not (max_norm >= 0 and norm_type > 0):
        raise ValueError(f"max_norm_: max_norm >= 0 and norm_type > 0 are needed, not {max_norm} and {norm_type}")
    given: Any = parameters.parameters() if isinstance(parameters, Module) else parameters
    for p in [given] if isinstance(given, Tensor) else [p for p in given if p.ndim > 1]:
        rows = np.moveaxis(changing(p), axis_of("max_norm_", dim, p.ndim, 0), 0)
        flat = rows.astype(np.float64).reshape(len(rows), math.prod(rows.shape[1:]))
        norms = np.linalg.norm(flat, norm_type, axis=1)
        factor = np.divide(max_norm, norms, out=np.ones_like(norms), where=norms > max_norm)
        rows *= factor.astype(p.dtype).reshape(-1, *[1] * (p.ndim - 1))


class WeightNorm:
    """The hook of `weight_norm`, which computes a weight from its two parameters."""
    drop = 0.0  # with which probability elements of the weight are dropped, which DropConnect sets

    def __init__(self, name: str, axes: tuple[int, ...]) -> None:
        self.name, self.axes = name, axes

    def __call__(self, module: Module, args: tuple = ()) -> None:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        setattr(module, self.name, F.dropout(F.mul(v, F.div(g, self.length(v))), self.drop))

    def length(self, v: Tensor) -> Tensor:
        return F.norm(v, 2, self.axes, len(self.axes) < v.ndim) if self.axes else F.abs(v)


def _weight_norm(module: Module, name: str) -> tuple | None:
    return next((h for h in module._forward_pre_hooks if isinstance(h[0], WeightNorm) and h[0].name == name), None)


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Replace the parameter `name` by two, its length g and its direction v: before each call of the module it becomes
    g·v / ‖v‖, with a length for each index of `dim`, or one for all if that is None or −1. Returns the module.
    RuntimeError if it has been done already (Salimans and Kingma, Weight normalization, NeurIPS 2016).

    >>> list(nn.utils.weight_norm(nn.Linear(3, 2)).state_dict())
    ['bias', 'weight_g', 'weight_v']
    """
    if _weight_norm(module, name):
        raise RuntimeError(f"weight_norm: the parameter {name!r} has been replaced already")
    weight = getattr(module, name)
    kept = -1 if dim is None or dim == -1 else axis_of("weight_norm", dim, weight.ndim)
    hook = WeightNorm(name, tuple([axis for axis in range(weight.ndim) if axis != kept]))
    delattr(module, name)
    module.register_parameter(f"{name}_g", Parameter(hook.length(weight.detach())))
    module.register_parameter(f"{name}_v", Parameter(weight.data))
    hook(module)
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Undo `weight_norm`: the weight as it is becomes a parameter again. ValueError if it was not done."""
    if (entry := _weight_norm(module, name)) is None:
        raise ValueError(f"remove_weight_norm: {type(module).__name__} has no weight norm of {name!r}")
    entry[0](module)
    weight = Parameter(getattr(module, name).data)
    for part in (name, f"{name}_g", f"{name}_v"):
        delattr(module, part)
    setattr(module, name, weight)
    module._forward_pre_hooks.remove(entry)
    return module


def mc_dropout(model: Module, *args: Any, samples: int = 10) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of `samples` outputs model(*args), in which dropout layers (and DropConnect) are
    active and everything else is in evaluation mode; without gradients. Modes are restored. ArgumentError for fewer
    than two samples (Gal and Ghahramani, Dropout as a Bayesian approximation, ICML 2016)."""
    if samples < 2:
        raise ArgumentError(f"mc_dropout: samples must be at least 2, but {samples} came")
    with evaluation(model):
        for module in model.modules():
            module.training = isinstance(module, (Dropout, DropConnect))
        draws = F.stack([model(*args) for _ in range(samples)])
        return F.mean(draws, 0), F.std(draws, 0)
