"""What all optimizers share: parameter groups and state."""
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np

from fastnn import layout
from fastnn.nn.parameter import zero_grads
from fastnn.tensor import Tensor, float32

Group = dict[str, Any]
Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Group]
_NOT_NEGATIVE = ("lr", "eps", "weight_decay", "l1", "momentum", "rho", "alpha", "lr_decay", "momentum_decay",
                 "initial_accumulator_value")
PAIRS = "betas", "etas", "step_sizes"


def declare(first: str, options: Group, by_name: Group | None = None) -> inspect.Signature:
    """Of a constructor that takes `first`, `options` and, by name only, others, with these defaults or none (`...`)."""
    either, keyword, empty = (getattr(inspect.Parameter, name) for name in (
        "POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY", "empty"))
    return inspect.Signature([inspect.Parameter(name, kind, default=empty if value is ... else value)
                              for kind, named in ((either, {first: ..., **options}), (keyword, by_name or {}))
                              for name, value in named.items()])


class Optimizer:
    """Base class. A subclass gives its options as `defaults` and defines `step`.

    `params` are tensors or pairs of name and tensor (`model.named_parameters()`; the names become "param_names" of the
    group), or dicts of such "params" and options of their own. Raises TypeError for other things and for sets, whose
    order changes from run to run; ValueError if there are none, one comes twice or is not a leaf, some have names and
    others not, or an option is out of range."""

    numbers: ClassVar[Group] = {"step": 0.0}  # of each parameter, float32, and what they begin with

    def __init__(self, params: Params, defaults: Group) -> None:
        if isinstance(params, (Tensor, dict, set)):
            raise TypeError(f"optimizer: params must be an ordered iterable of tensors or dicts, not a {type(params)}")
        self.defaults = defaults
        self.check(defaults)
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def check(self, options: Group) -> None:
        """Raise ValueError, in PyTorch's words, if an option is out of range."""
        for key, value in options.items():
            name = {"lr": "learning rate", "eps": "epsilon value"}.get(key, f"{key} value")
            if (key in _NOT_NEGATIVE and not value >= 0) or (key == "rho" and not value <= 1):
                raise ValueError(f"{type(self).__name__}: Invalid {name}: {value}")
            if key in PAIRS and len(value) != 2:
                raise ValueError(f"{type(self).__name__}: {key} must be two numbers, but {value} came")
            for i, beta in enumerate(value if key == "betas" else ()):
                if not 0 <= beta < 1:
                    raise ValueError(f"{type(self).__name__}: Invalid beta parameter at index {i}: {beta}")

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def add_param_group(self, param_group: Group) -> None:
        """Optimize the tensors in `param_group["params"]` too; options that it lacks are the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"{type(self).__name__}: a group must be a dict, but a {type(param_group).__name__} came")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer: the order of a set changes from run to run; give the parameters in a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple) and len(p) == 2]
        if 0 < len(names) < len(params):
            raise ValueError(f"{type(self).__name__}: some parameters came with a name, others without")
        if names:
            params, param_group = [p for _, p in params], param_group | {"param_names": names}
        if any(("param_names" in group) != ("param_names" in param_group) for group in self.param_groups):
            raise ValueError(f"{type(self).__name__}: either all groups have names of parameters, or none")
        known = set(self._params())
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(f"{type(self).__name__} takes tensors, but parameter {i} is a {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(f"can't optimize a non-leaf tensor: parameter {i} was computed by {p.grad_fn}")
            if p in known:
                raise ValueError(f"some parameters appear more than once: parameter {i}, of shape {p.shape}")
            known.add(p)
        group = {"params": params, **self.defaults, **param_group} | {"params": params}
        self.check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        zero_grads(self._params(), set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient. `closure` computes the loss anew, and its result is returned."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """State and options in PyTorch's format, parameters numbered through; the tensors are shared, not copied."""
        number = {p: i for i, p in enumerate(self._params())}
        groups = [group | {"params": [number[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": {number[p]: dict(state) for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of what `state_dict` returned, here or in PyTorch (as fastnn tensors). Raises ValueError,
        before anything is changed, if groups or shapes do not fit."""
        saved, state = state_dict["param_groups"], state_dict["state"]
        sizes, needed = ([len(group["params"]) for group in groups] for groups in (saved, self.param_groups))
        if sizes != needed:
            raise ValueError(f"loaded state dict has groups of {sizes} parameters, but the optimizer's are of {needed}")
        groups = [a | deepcopy(b) | {"params": a["params"]} for a, b in zip(self.param_groups, saved, strict=True)]
        for group in groups:
            self.check(group)
        numbers = (n for group in saved for n in group["params"])
        adopted = {p: {key: self._adopt(p, key, value) for key, value in state[n].items()}
                   for n, p in zip(numbers, self._params(), strict=True) if n in state}
        self.state, self.param_groups = defaultdict(dict, adopted), groups

    def _adopt(self, p: Tensor, key: str, value: Any) -> Any:
        """A copy of a loaded value; tensors get the parameter's dtype and memory order, its numbers are float32."""
        if key in self.numbers:
            return Tensor(np.array(float(value), float32))
        if not isinstance(value, Tensor):
            return deepcopy(value)
        if value.shape != p.shape:
            raise ValueError(f"loaded state dict: {key} has shape {value.shape}, but its parameter has {p.shape}")
        return Tensor(layout.match(value.array.copy(), p.array))

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [f"Parameter Group {i}", *(f"    {key}: {group[key]}" for key in sorted(group) if key != "params")]
        return "\n".join([*lines, ")"])
