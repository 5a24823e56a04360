"""Adam and AdamW."""
from fastnn import backend
from fastnn.optim.optimizer import Group, Optimizer, Params
from fastnn.tensor import Array, Tensor


class Adam(Optimizer):
    """Adam: with the gradient d and running averages m of d and v of d², in a parameter's step s = 1, 2, …

        m = β₁·m + (1 − β₁)·d,   v = β₂·v + (1 − β₂)·d²
        p = p − lr · m/(1 − β₁ˢ) / (√(v/(1 − β₂ˢ)) + eps)

    weight_decay·p is added to d; if `decoupled_weight_decay`, p is multiplied by 1 − lr·weight_decay instead. `amsgrad`
    uses the largest v so far, `maximize` climbs, `max_norm` clips (see `Optimizer`). ValueError for a negative lr, eps,
    weight_decay or max_norm, a beta not in [0, 1).

    References: Kingma, Ba, ICLR 2015; amsgrad: Reddi et al., ICLR 2018; decoupled: Loshchilov, Hutter, ICLR 2019."""

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False,
                 decoupled_weight_decay: bool = False, max_norm: float | None = None) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize,
                                  "decoupled_weight_decay": decoupled_weight_decay}, max_norm)

    def check(self, options: Group) -> None:
        self._check_signs(options, lr="learning rate", eps="epsilon value", weight_decay="weight_decay value")
        for i, beta in enumerate(options["betas"]):
            if not 0 <= beta < 1:
                raise ValueError(f"{type(self).__name__}: Invalid beta parameter at index {i}: {beta}")

    def update(self, group: Group, params: list[Tensor], values: list[Array], grads: list[Array],
               grad_scale: float) -> None:
        # steps are counted for each parameter: one that had no gradient at times lags behind
        backend.optimizer.adam_step(
            values, grads, self.memory(params, "exp_avg"), self.memory(params, "exp_avg_sq"),
            self.memory(params, "max_exp_avg_sq") if group["amsgrad"] else [], self.memory(params, "step"), group["lr"],
            *group["betas"], group["eps"], group["weight_decay"], group["decoupled_weight_decay"], group["maximize"],
            grad_scale, backend.n_threads())


class AdamW(Adam):
    """Adam with decoupled weight decay: p is multiplied by 1 − lr·weight_decay before each step. See `Adam`."""

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
                 max_norm: float | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True,
                         max_norm=max_norm)
