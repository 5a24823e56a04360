"""What all optimizers share: parameter groups, state, and the way a step is taken."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.autograd import enable_grad
from fastnn.errors import ShapeError
from fastnn.tensor import Tensor, float32

Group = dict[str, Any]


class Optimizer:
    """Base class. A subclass gives its options in `defaults`, validates them in `check` and updates in `update`.

    Args:
        params: tensors, or dicts that hold tensors under "params" and options of their own beside.
        defaults: the options of groups that do not set their own.

    Attributes:
        param_groups: list of dicts, each with its tensors under "params" and all options.
        state: for each parameter a dict of what the optimizer remembers, in the parameter's memory order.

    Raises:
        TypeError: something that is not a tensor came, or a set, whose order changes from run to run.
        ValueError: there is nothing to optimize, a parameter comes twice, is not a leaf, or an option is out of range.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[Group], defaults: Group) -> None:
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self.stepped = False  # a scheduler warns if it steps first
        if isinstance(params, (Tensor, dict)):
            raise TypeError(f"optimizer: params must be an iterable of tensors or dicts, not a {type(params).__name__}")
        self.check(defaults)
        groups = params if isinstance(params, set) else list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        mixed = any(isinstance(group, dict) for group in groups)
        for group in groups if mixed else [{"params": groups}]:
            self.add_param_group(group)

    def check(self, options: Group) -> None:
        """Raise ValueError if an option is out of range."""

    def update(self, group: Group, params: list[Tensor]) -> None:
        """Change `params`, those of the group that have a gradient."""
        raise NotImplementedError

    def add_param_group(self, param_group: Group) -> None:
        """Optimize the tensors in `param_group["params"]` too; options that it lacks are the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"optimizer: a parameter group must be a dict, but a {type(param_group).__name__} came")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer: the order of a set changes from run to run; give the parameters in a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize tensors, but parameter {i} is a {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(f"can't optimize a non-leaf tensor: parameter {i} was computed by {p.grad_fn}")
            if id(p) in known:
                raise ValueError(f"some parameters appear more than once: parameter {i} of shape {p.shape}")
            known.add(id(p))
        group = {**self.defaults, **param_group}
        self.check(group)
        self.param_groups.append({"params": params, **{key: group[key] for key in group if key != "params"}})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for p in chain.from_iterable(group["params"] for group in self.param_groups):
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.array.fill(0)
                p.grad._version[0] += 1

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient. `closure` computes the loss anew, and its result is returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.update(group, params)
        self.stepped = True
        return loss

    def memory(self, params: list[Tensor], key: str) -> list[np.ndarray]:
        """The arrays of state under `key`, zeros where there are none yet."""
        for p in params:
            if self.state[p].get(key) is None:
                self.state[p][key] = Tensor(np.zeros_like(p.array))
        return [self.state[p][key].array for p in params]

    def state_dict(self) -> dict[str, Any]:
        """State and options in PyTorch's format, parameters numbered through; the tensors are shared, not copied."""
        number = {p: i for i, p in enumerate(chain.from_iterable(group["params"] for group in self.param_groups))}
        return {
            "state": {number.get(p, p): dict(state) for p, state in self.state.items()},
            "param_groups": [{**group, "params": [number[p] for p in group["params"]]} for group in self.param_groups],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of what `state_dict` returned, here or in PyTorch (as fastnn tensors).

        Raises ValueError, before anything is changed, if groups or shapes do not fit.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(f"loaded state dict has {len(saved)} groups, but the optimizer {len(self.param_groups)}")
        numbers = list(chain.from_iterable(group["params"] for group in saved))
        groups = []
        for i, (old, new) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(old["params"]) != len(new["params"]):
                sizes = f"{len(new['params'])} parameters in group {i}, but the optimizer {len(old['params'])}"
                raise ValueError(f"loaded state dict has {sizes}")
            groups.append({**old, **deepcopy(new), "params": old["params"]})
            self.check(groups[-1])
        params = chain.from_iterable(group["params"] for group in groups)
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, p in zip(numbers, params, strict=True):
            if number in state_dict["state"]:
                state[p] = {key: _adopt(p, key, value) for key, value in state_dict["state"][number].items()}
        self.state, self.param_groups = state, groups

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _adopt(p: Tensor, key: str, value: Any) -> Any:
    """A copy of a loaded value; tensors get the parameter's dtype and memory order, the step count is float32."""
    if key == "step":
        return Tensor(np.array(float(value), float32))
    if not isinstance(value, Tensor):
        return deepcopy(value)
    if value.shape != p.shape:
        raise ValueError(f"loaded state dict: {key} has shape {value.shape}, but its parameter has {p.shape}")
    copy = np.empty_like(p.array)
    np.copyto(copy, value.array, casting="same_kind")
    return Tensor(copy)


def check_signs(options: Group, **names: str) -> None:
    """Raise ValueError, in PyTorch's words, if one of the options is negative or NaN."""
    for key, name in names.items():
        if not options[key] >= 0:
            raise ValueError(f"Invalid {name}: {options[key]}")


@contextmanager
def arrays(params: list[Tensor]) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """The arrays of `params` and of their gradients for a kernel, each pair in one memory order.

    A parameter with gaps in its memory is updated in a copy, which is written back at the end.
    """
    for p in params:
        if p.grad.shape != p.shape:  # type: ignore[union-attr]
            raise ShapeError(f"optimizer: a gradient has shape {p.grad.shape}, but its parameter has {p.shape}")
    values = [layout.match(p.array, p.array) for p in params]
    yield values, [layout.match(p.grad.array, p.array) for p in params]  # type: ignore[union-attr]
    for p, value in zip(params, values, strict=True):
        if value is not p.array:
            p.array[...] = value
        p._version[0] += 1
