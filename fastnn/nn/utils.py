"""Helpers over the parameters of a network: clipping of gradients, and all parameters as one vector."""
import math
from collections.abc import Iterable

import numpy as np

from fastnn.functional.clipping import clamp_, clip_factor, scale_
from fastnn.functional.shape import cat, reshape
from fastnn.tensor import Tensor, float32, settle


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
            scale_([settle(grad) for grad in grads], factor)
            for grad in grads:
                grad._version[0] += 1
        return Tensor(np.array(total).astype(np.result_type(*(grad.dtype for grad in grads)) if grads else float32))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of all gradients, in place, to [−clip_value, clip_value]."""
    grads = _grads(parameters)
    clamp_([settle(grad) for grad in grads], float(clip_value))
    for grad in grads:
        grad._version[0] += 1


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters in one vector, each parameter in C order. Gradients flow back."""
    return cat([reshape(p, -1) for p in parameters])
