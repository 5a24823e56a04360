"""Stochastic gradient descent, with momentum."""
from __future__ import annotations

from collections.abc import Iterable

from fastnn import backend
from fastnn.optim.optimizer import Group, Optimizer, arrays, check_signs
from fastnn.tensor import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent: with d = gradient + weight_decay·p,

        b = momentum·b + (1 − dampening)·d   (b = d in a parameter's first step)
        p = p − lr·b,   or with `nesterov`   p − lr·(d + momentum·b),   or without momentum   p − lr·d

    Args:
        params: tensors to optimize, or dicts of parameter groups.
        lr, momentum, dampening, weight_decay, nesterov: as above.
        maximize: climb instead of descend.

    Raises:
        ValueError: a negative lr, momentum or weight_decay; `nesterov` without momentum or with dampening.

    Example:
        >>> import fastnn
        >>> p = fastnn.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = fastnn.optim.SGD([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        tensor([0., 0.], requires_grad=True)

    Reference: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.
    """

    def __init__(
        self, params: Iterable[Tensor] | Iterable[Group], lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
        weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize,
        })

    def check(self, options: Group) -> None:
        check_signs(options, lr="learning rate", momentum="momentum value", weight_decay="weight_decay value")
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def update(self, group: Group, params: list[Tensor]) -> None:
        if group["momentum"] == 0:
            self._call(group, params, [], False)
            return
        fresh = [p for p in params if self.state[p].get("momentum_buffer") is None]
        known = [p for p in params if self.state[p].get("momentum_buffer") is not None] if fresh else params
        for members, first in ((fresh, True), (known, False)):
            if members:
                self._call(group, members, self.memory(members, "momentum_buffer"), first)

    def _call(self, group: Group, params: list[Tensor], buffers: list, first: bool) -> None:
        with arrays(params) as (values, grads):
            backend.optimizer.sgd_step(
                values, grads, buffers, group["lr"], group["momentum"], group["dampening"], group["weight_decay"],
                group["nesterov"], group["maximize"], first, backend.n_threads(),
            )
