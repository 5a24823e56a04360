"""Clipping of gradients, as lists of arrays, in place or as a factor."""
import math

import numpy as np

from fastnn import backend
from fastnn.tensor import Array

__all__: list[str] = []


def total_norm(grads: list[Array], norm_type: float = 2.0) -> float:
    """(Σ|g|ᵖ)^(1/p) over all elements of all arrays, in float64; the largest magnitude for p = inf."""
    if norm_type not in (2, math.inf):
        powers = [(np.abs(g, dtype=np.float64) ** norm_type).sum() for g in grads]
        return float(np.sum(powers) ** (1 / norm_type))
    norm = np.zeros(())
    try:
        backend.optimizer.grad_norm(grads, norm_type == math.inf, norm, backend.n_threads())
    except ValueError:  # gaps in memory, or bytes in another order
        grads = [g.astype(g.dtype.newbyteorder("="), order="C") for g in grads]
        backend.optimizer.grad_norm(grads, norm_type == math.inf, norm, backend.n_threads())
    return float(norm)


def clip_factor(grads: list[Array], max_norm: float, norm_type: float = 2.0) -> tuple[float, float]:
    """The norm of all gradients, and min(1, max_norm / (norm + 1e-6)), by which to multiply them; NaN stays."""
    norm = total_norm(grads, norm_type)
    factor = max_norm / (norm + 1e-6)
    return norm, 1.0 if factor >= 1 else factor


def scale_(grads: list[Array], factor: float) -> None:
    try:
        backend.optimizer.grad_scale(grads, factor, backend.n_threads())
    except ValueError:
        for g in grads:
            g *= factor


def clamp_(grads: list[Array], limit: float) -> None:
    try:
        backend.optimizer.grad_clamp(grads, limit, backend.n_threads())
    except ValueError:
        for g in grads:
            np.clip(g, -limit, limit, out=g)
