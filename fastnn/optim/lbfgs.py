"""L-BFGS, for full batches: a quasi-Newton method in plain NumPy, over all parameters as one vector."""
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from fastnn.autograd import enable_grad
from fastnn.errors import ArgumentError
from fastnn.nn.utils import vector_to_parameters
from fastnn.optim.optimizer import Group, Optimizer, Params
from fastnn.tensor import Array, Tensor


class _Point(NamedTuple):
    """Of a line x + t·d: the loss f there, its gradient, and its slope along d."""
    t: float
    f: float
    gradient: Array
    slope: float


class LBFGS(Optimizer):
    """Each `step(closure)` takes up to `max_iter` quasi-Newton steps p = p + t·d, d = −H·gradient, with H the inverse
    Hessian as the last `history_size` changes of p and of the gradient tell it. `closure` forgets the gradients,
    computes the loss, calls backward and returns the loss; it is called up to `max_eval` (default 5/4·max_iter) times.

    t is lr (in the first step of all at most lr/Σ|gradient|) or, if `line_search_fn` is "strong_wolfe", searched for so
    that the strong Wolfe conditions hold, with c₁ = 1e-4 and c₂ = 0.9. A call ends early if no gradient is larger than
    `tolerance_grad`, or if the parameters or the loss change by less than `tolerance_change`. One group only.

    References: Liu, Nocedal, On the limited memory BFGS method, 1989; Nocedal, Wright, Numerical optimization, 2006."""

    def __init__(self, params: Params, lr: float = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None) -> None:
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn})

    def check(self, options: Group) -> None:
        super().check(options)
        if options["line_search_fn"] not in (None, "strong_wolfe"):
            raise ArgumentError(f"LBFGS: line_search_fn {options['line_search_fn']!r} is not 'strong_wolfe' or None")
        if not options["history_size"] >= 1:
            raise ArgumentError(f"LBFGS: history_size must be at least 1, but {options['history_size']} came")

    def add_param_group(self, param_group: Group) -> None:
        super().add_param_group(param_group)
        if len(self.param_groups) > 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One call, as above; returns the loss before it. TypeError without a closure."""
        if closure is None:
            raise TypeError("LBFGS: step needs a closure that computes the loss anew")
        group, params, losses = self.param_groups[0], self._params(), list[Any]()
        state, x = self.state[params[0]], np.concatenate([p.array.reshape(-1) for p in params])
        number, tolerance = x.dtype.type, group["tolerance_change"]

        def at(t: float) -> _Point:
            if t:
                vector_to_parameters(Tensor(x + number(t) * d), params)
            with enable_grad():
                losses.append(closure())
            gradient = np.concatenate([np.zeros(p.array.size, p.dtype) if p.grad is None else p.grad.array.reshape(-1)
                                       for p in params])
            return _Point(t, float(losses[-1]), gradient, float(gradient.dot(d)))

        steps, changes, inverses = (state.get(key) or () for key in ("old_stps", "old_dirs", "ro"))
        history = [(s.array, y.array, float(r)) for s, y, r in zip(steps, changes, inverses, strict=True)]
        scale, t, done = float(state.get("H_diag") or 1), float(state.get("t") or 0), state.get("n_iter", 0)
        d, before = (state[key].array if key in state else np.zeros_like(x) for key in ("d", "prev_flat_grad"))
        start = here = at(0)
        for i in range(1, group["max_iter"] + 1):
            if _largest(here.gradient) <= group["tolerance_grad"]:
                break
            g, done = here.gradient, done + 1
            if done > 1:
                y, s = g - before, d * number(t)
                curvature = float(y.dot(s))
                if curvature > 1e-10:
                    history = [*history, (s, y, 1 / curvature)][-group["history_size"]:]
                    scale = curvature / float(y.dot(y))
            d, before = _two_loops(-g, history, scale), g
            start = _Point(0, here.f, g, float(g.dot(d)))
            t = group["lr"] * (min(1.0, 1 / float(np.abs(g).sum())) if done == 1 else 1)
            if start.slope > -tolerance:
                break
            if group["line_search_fn"]:
                here = _strong_wolfe(at, t, start, _largest(d), tolerance, group["max_eval"] - len(losses))
                t = here.t
            elif i < group["max_iter"]:
                here = at(t)
            x = x + number(t) * d
            vector_to_parameters(Tensor(x), params)
            if len(losses) >= group["max_eval"] or min(_largest(d) * abs(t), abs(here.f - start.f)) < tolerance:
                break
        steps, changes, inverses = zip(*history, strict=True) if history else ((), (), ())
        state |= {"func_evals": state.get("func_evals", 0) + len(losses), "n_iter": done}
        if done:
            state |= {"d": Tensor(d), "t": t, "H_diag": scale, "prev_flat_grad": Tensor(before), "prev_loss": start.f,
                      "old_stps": [*map(Tensor, steps)], "old_dirs": [*map(Tensor, changes)], "ro": [*inverses]}
        return losses[0]

    def _adopt(self, p: Tensor, key: str, value: Any) -> Any:
        return deepcopy(value)


def _largest(x: Array) -> float:
    return float(np.abs(x).max(initial=0))


def _two_loops(q: Array, history: list[tuple[Array, Array, float]], scale: float) -> Array:
    """H·q, from pairs of changes s of the parameters and y of the gradient and 1/s·y, the oldest first, and H = scale·I
    before them (Nocedal, Wright, algorithm 7.4)."""
    number, weights = q.dtype.type, []
    for s, y, r in reversed(history):
        weights.append(s.dot(q) * number(r))
        q = q - weights[-1] * y
    q = q * number(scale)
    for s, y, r in history:
        q = q + s * (weights.pop() - y.dot(q) * number(r))
    return q


def _cubic(a: _Point, b: _Point, low: float, high: float) -> float:
    """Where the cubic with the values and slopes of a and b has its minimum, within [low, high] (op. cit., 3.59)."""
    a, b = (a, b) if a.t <= b.t else (b, a)
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    if not (square := d1 * d1 - a.slope * b.slope) >= 0:  # it has none, or NaN
        return (low + high) / 2
    d2 = square**0.5
    if (curvature := b.slope - a.slope + 2 * d2) == 0:  # a line, say: downhill for ever
        return high
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / curvature), low), high)


def _strong_wolfe(at: Callable[[float], _Point], t: float, start: _Point, size: float, tolerance: float,
                  most: int) -> _Point:
    """A point where the loss is low and flat enough, or the lowest after `most` trials beyond the first."""
    def high_up(p: _Point) -> bool:
        return p.f > start.f + 1e-4 * p.t * start.slope

    def flat(p: _Point) -> bool:
        return abs(p.slope) <= -0.9 * start.slope

    last, here, trial, slow = start, at(t), 0, False
    while trial < most and not (high_up(here) or (trial > 1 and here.f >= last.f)):  # until a minimum is bracketed
        if flat(here):
            return here
        if here.slope >= 0:
            break
        t = _cubic(last, here, here.t + 0.01 * (here.t - last.t), here.t * 10)
        last, here, trial = here, at(t), trial + 1
    last = start if trial == most else last
    low, high = (last, here) if last.f <= here.f else (here, last)
    while trial < most and abs(high.t - low.t) * size >= tolerance:
        least, largest = min(low.t, high.t), max(low.t, high.t)
        t, edge = _cubic(low, high, least, largest), 0.1 * (largest - least)
        near = min(largest - t, t - least) < edge
        if near and (slow or t >= largest or t <= least):
            t, near = largest - edge if abs(t - largest) < abs(t - least) else least + edge, False
        slow, here, trial = near, at(t), trial + 1
        if high_up(here) or here.f >= low.f:
            low, high = (low, here) if low.f <= here.f else (here, low)
        elif flat(here):
            return here
        else:
            low, high = here, low if here.slope * (high.t - low.t) >= 0 else high
    return low
