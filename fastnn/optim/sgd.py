"""Stochastic gradient descent, with momentum."""
from fastnn import backend
from fastnn.optim.optimizer import Group, Optimizer, Params
from fastnn.tensor import Array, Tensor


class SGD(Optimizer):
    """Stochastic gradient descent: with d = gradient + weight_decay·p,

        b = momentum·b + (1 − dampening)·d   (b = d in a parameter's first step)
        p = p − lr·b,   or with `nesterov`   p − lr·(d + momentum·b),   or without momentum   p − lr·d

    `maximize` climbs, `max_norm` clips (see `Optimizer`). Raises ValueError for a negative lr, momentum, weight_decay
    or max_norm, and for `nesterov` without momentum or with dampening.

    >>> p = fastnn.tensor([1.0, 2.0], requires_grad=True)
    >>> (p * p).sum().backward()
    >>> optim.SGD([p], lr=0.25).step()
    >>> p
    tensor([0.5, 1. ], requires_grad=True)

    Reference: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013."""

    def __init__(self, params: Params, lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False,
                 max_norm: float | None = None) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize}, max_norm)

    def check(self, options: Group) -> None:
        self._check_signs(options, lr="learning rate", momentum="momentum value", weight_decay="weight_decay value")
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("SGD: Nesterov momentum requires a momentum and zero dampening")

    def update(self, group: Group, params: list[Tensor], values: list[Array], grads: list[Array],
               grad_scale: float) -> None:
        first, buffers = [False] * len(params), []
        if group["momentum"] != 0:
            buffers = self.memory(params, "momentum_buffer")
            if self._fresh:
                first = [self.state[p].get("momentum_buffer") is None for p in params]
        backend.optimizer.sgd_step(
            values, grads, buffers, group["lr"], group["momentum"], group["dampening"], group["weight_decay"],
            group["nesterov"], group["maximize"], grad_scale, first, backend.n_threads())
