"""Clipping of gradients, as lists of arrays, in place or as a factor."""
import math
from collections.abc import Callable

import numpy as np

from fastnn import backend
from fastnn.tensor import Array

__all__: list[str] = []


def _run(kernel: Callable, grads: list[Array], *args: bool | float | Array, back: bool = True) -> None:
    """The kernel; where there are gaps in memory, or bytes in another order, on copies, which are copied back."""
    try:
        kernel(grads, *args, backend.n_threads())
    except ValueError:
        copies = [g.astype(g.dtype.newbyteorder("="), order="C") for g in grads]
        kernel(copies, *args, backend.n_threads())
        for g, copy in zip(grads, copies, strict=True) if back else ():
            g[...] = copy


def clip_factor(grads: list[Array], max_norm: float, norm_type: float = 2.0) -> tuple[float, float]:
    """The norm (Σ|g|ᵖ)^(1/p) over all elements of all arrays, in float64, the largest magnitude for p = inf, and
    min(1, max_norm / (norm + 1e-6)), by which to multiply them; NaN stays."""
    if norm_type in (2, math.inf):
        _run(backend.optimizer.grad_norm, grads, norm_type == math.inf, out := np.zeros(()), back=False)
    else:
        out = np.sum([(np.abs(g, dtype=np.float64) ** norm_type).sum() for g in grads]) ** (1 / norm_type)
    factor = max_norm / (float(out) + 1e-6)
    return float(out), 1.0 if factor >= 1 else factor


def scale_(grads: list[Array], factor: float) -> None:
    _run(backend.optimizer.grad_scale, grads, factor)


def clamp_(grads: list[Array], limit: float) -> None:
    _run(backend.optimizer.grad_clamp, grads, limit)
