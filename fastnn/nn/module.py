"""Module: the base class of layers and networks. It owns parameters, buffers and submodules, and calls `forward`."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from fastnn.autograd import Function
from fastnn.errors import AutogradError, StateDictError
from fastnn.functional.arguments import bind
from fastnn.nn.parameter import Parameter, write, zero_grads
from fastnn.tensor import RemovableHandle, Tensor, changing


class LoadResult(NamedTuple("LoadResult", [("missing_keys", list[str]), ("unexpected_keys", list[str])])):
    """What `load_state_dict` did not find and what it did not use."""

    def __repr__(self) -> str:
        return super().__repr__() if any(self) else "<All keys matched successfully>"


class Module:
    """Base class of layers and networks. A subclass builds its parts in `__init__` and computes in `forward`.

    Parameters, buffers and modules are entered in `_parameters`, `_buffers`, `_modules` when they are assigned, and are
    ordinary attributes besides, which cost nothing to read. Add and remove them as attributes, not in these dicts.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.output = nn.Linear(3, 2)
    ...     def forward(self, x):
    ...         return self.output(x.relu())
    >>> Net()(fastnn.ones(5, 3)).shape
    (5, 2)
    """

    def __init__(self) -> None:
        self.training = True
        self._parameters: dict[str, Parameter | None] = {}
        self._buffers: dict[str, Tensor | None] = {}
        self._modules: dict[str, Any] = {}
        self._transient_buffers: set[str] = set()
        for hooks in ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks"):
            self.__dict__[hooks] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation, defined by every subclass. Call the module itself, which also runs the hooks."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for (hook,) in tuple(self._forward_pre_hooks):
            if (result := hook(self, args)) is not None:
                args = result if isinstance(result, tuple) else (result,)
        args, leave = _bracket(self, args) if self._backward_hooks else (args, None)
        output = self.forward(*args, **kwargs)
        for (hook,) in tuple(self._forward_hooks):
            output = output if (result := hook(self, args, output)) is None else result
        return leave(output) if leave else output

    def register_forward_pre_hook(self, hook: Callable, *, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, args)` before `forward`; what it returns, unless None, replaces `args`."""
        return RemovableHandle(self._forward_pre_hooks, (hook,), prepend)

    def register_forward_hook(self, hook: Callable, *, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, args, output)` after `forward`; what it returns, unless None, replaces the output."""
        return RemovableHandle(self._forward_hooks, (hook,), prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known or, if none requires
        one, of the outputs. Both are tuples, an entry for each positional argument or output, None where there is no
        gradient. What the hook returns, unless None, replaces `grad_input`."""
        return RemovableHandle(self._backward_hooks, (hook,), prepend)

    def _register(self, registry: str, name: str, value: Any) -> None:
        """Enter `value` in `registry` and make it an attribute: the one place where members come in."""
        (kind, cls), owner = _KINDS[registry], type(self).__name__
        if registry not in self.__dict__:
            raise AttributeError(f"{owner}: cannot assign {kind} {name!r} before super().__init__() is called")
        if not isinstance(name, str):
            raise TypeError(f"{owner}: the name of a {kind} must be a string, but {name!r} came")
        if not name or "." in name:
            raise KeyError(f"{owner}: the name of a {kind} must not be empty nor contain a dot, but {name!r} came")
        if name not in self.__dict__[registry] and hasattr(self, name):
            raise KeyError(f"{owner}: attribute {name!r} already exists")
        if value is not None and not isinstance(value, cls):
            raise TypeError(f"{owner}: {kind} {name!r} must be a {cls.__name__} or None, not a {type(value).__name__}")
        if value is not None and registry == "_parameters" and not value.is_leaf:
            raise ValueError(f"{owner}: parameter {name!r} must be a leaf, but it is the output of an operation")
        self.__dict__[registry][name] = self.__dict__[name] = value

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter. KeyError for a name that is taken, empty or dotted; TypeError for what is no Parameter."""
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not trained, such as a running mean; in `state_dict` if `persistent`."""
        self._register("_buffers", name, tensor)
        (self._transient_buffers.discard if persistent else self._transient_buffers.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule."""
        self._register("_modules", name, module)

    register_module = add_module

    def __setattr__(self, name: str, value: Any) -> None:
        registry = "_parameters" if isinstance(value, Parameter) else "_modules" if isinstance(value, Module) else None
        if registry is None:  # a registered name keeps its kind
            registry = next((r for r in _KINDS if name in self.__dict__.get(r, ())), None)
        elif name in self.__dict__ and name not in self.__dict__.get(registry, (name,)):
            delattr(self, name)
        if registry is None:
            super().__setattr__(name, value)
        else:
            self._register(registry, name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        for registry in _KINDS:
            self.__dict__[registry].pop(name, None)
        self._transient_buffers.discard(name)

    def __getstate__(self) -> dict[str, Any]:
        """A copy gets registries of its own, and detached what an operation made, such as a normalized weight."""
        return {k: v.copy() if k[0] == "_" and isinstance(v, (dict, list, set)) else
                v.detach() if isinstance(v, Tensor) and not v.is_leaf else v for k, v in vars(self).items()}

    if TYPE_CHECKING:  # members are registered by name
        def __getattr__(self, name: str) -> Any: ...

    def named_modules(self, memo: set[Module] | None = None, prefix: str = "",
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module, named `prefix`, and all below it, depth first; each object once if `remove_duplicate`."""
        memo = set() if memo is None else memo
        if self not in memo:
            if remove_duplicate:
                memo.add(self)
            yield prefix, self
            for name, module in self._modules.items():
                if module is not None:
                    yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def _named_members(self, registry: str, prefix: str, recurse: bool, unique: bool) -> Iterator[tuple[str, Any]]:
        seen = set()
        for path, module in self.named_modules(None, prefix, unique) if recurse else [(prefix, self)]:
            for name, member in module.__dict__[registry].items():
                if member is not None and member not in seen:
                    if unique:
                        seen.add(member)
                    yield f"{path}.{name}" if path else name, member

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their dotted names, each object once, under its first name, if `remove_duplicate`."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, each object once."""
        return self._named_members("_modules", "", recurse=False, unique=True)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers(recurse=recurse))

    def modules(self) -> Iterator[Module]:
        return (m for _, m in self.named_modules())

    def children(self) -> Iterator[Module]:
        return (m for _, m in self.named_children())

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module below this one, then on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops, batch norm uses the batch) or, with False, evaluation mode."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be a bool, but a {type(mode).__name__} came")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters or, with False, fill them with zeros."""
        zero_grads(self.parameters(), set_to_none)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Cast floating parameters, their gradients and floating buffers to the dtype that `Tensor.to` would take from
        these arguments. The Parameter objects stay, so that an optimizer built before sees the new values."""
        dtype, *others = {Tensor(np.empty(0, dtype)).to(*args, **kwargs).dtype for dtype in (np.float32, np.float64)}
        if others:  # each kept its own: no dtype was given
            return self
        if dtype.kind != "f":
            raise TypeError(f"Module.to: dtype must be float32 or float64, but {dtype} came")
        for t in (t for tensor in (*self.parameters(), *self.buffers()) for t in (tensor, tensor.grad)):
            if t is not None and t.is_floating_point() and t.dtype != dtype:
                t.array = changing(t).astype(dtype)
        return self

    def float(self) -> Self:
        return self.to(np.float32)

    def double(self) -> Self:
        return self.to(np.float64)

    def cpu(self) -> Self:
        return self

    def state_dict(self, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Parameters and persistent buffers by `prefix` + dotted name: detached tensors that share the model's memory,
        with `keep_vars` the tensors themselves. One that has two names appears under both."""
        return {f"{prefix}{path}.{name}" if path else prefix + name: tensor if keep_vars else tensor.detach()
                for path, module in self.named_modules(remove_duplicate=False)
                for name, tensor in (module._parameters | module._buffers).items()
                if tensor is not None and name not in module._transient_buffers}

    def load_state_dict(self, state_dict: Mapping[str, Tensor | np.ndarray], strict: bool = True) -> LoadResult:
        """Copy `state_dict` into the parameters and persistent buffers, casting to their dtypes. Returns missing and
        unexpected keys. Raises StateDictError, before anything is copied, that lists every value of wrong shape or type
        and, if `strict`, every such key."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: a dict is needed, but a {type(state_dict).__name__} came")
        own = self.state_dict()
        result = LoadResult([k for k in own if k not in state_dict], [k for k in state_dict if k not in own])
        problems = [f"{title} keys: {', '.join(map(repr, keys))}"
                    for title, keys in zip(("missing", "unexpected"), result, strict=True) if strict and keys]
        pairs = [(name, tensor, state_dict[name]) for name, tensor in own.items() if name in state_dict]
        for name, tensor, value in pairs:
            if not isinstance(value, (Tensor, np.ndarray)):
                problems.append(f"{name!r}: a tensor is needed, but a {type(value).__name__} came")
            elif value.shape != tensor.shape:
                problems.append(f"{name!r}: the model has shape {tensor.shape}, the state dict {value.shape}")
        if problems:
            raise StateDictError(f"load_state_dict of {type(self).__name__}:\n  " + "\n  ".join(problems))
        for _, tensor, value in pairs:
            write(tensor, value.array if isinstance(value, Tensor) else value)
        return result

    def extra_repr(self) -> str:
        """What stands between the parentheses of the layer's repr."""
        return ""

    def _child_reprs(self) -> Iterator[tuple[str, str]]:
        return ((name, repr(module)) for name, module in self._modules.items())

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [*filter(None, [extra]), *(f"({name}): {text}" for name, text in self._child_reprs())]
        if "\n" in (body := "\n".join(lines)) or body != extra:
            body = f"\n{body}".replace("\n", "\n  ") + "\n"
        return f"{type(self).__name__}({body})"


_KINDS: dict[str, tuple[str, Any]] = {
    "_parameters": ("parameter", Parameter), "_buffers": ("buffer", Tensor), "_modules": ("module", Module)}


class FunctionModule(Module):
    """A module that calls a function with its inputs and its settings, which are attributes.

    A subclass names beside its base the `function`, whose docstring it takes if it has none, how many `inputs` that
    begins with, and the settings that its repr `shows` (by default all, inplace only if true). The constructor takes
    the function's other arguments, in their order and with their defaults, but `training`, which is the module's;
    tensors among them become buffers."""

    _function: ClassVar[Callable[..., Any]]
    _shows: ClassVar[tuple[str, ...] | None]
    _settings: ClassVar[list[str]]
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, function: Callable | None = None, inputs: int = 1,
                          shows: tuple[str, ...] | None = None) -> None:
        super().__init_subclass__()
        if function:
            parameters = [*inspect.signature(function).parameters.values()][inputs:]
            cls._function, cls._shows, cls._settings = staticmethod(function), shows, [p.name for p in parameters]
            cls.__doc__ = cls.__doc__ or (function.__doc__ or "").partition("\n\n    >>>")[0]
            cls.__signature__ = inspect.Signature([p for p in parameters if p.name != "training"])

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__()
        for name, value in bind(self, args, settings).items():
            if "Tensor" in str(self.__signature__.parameters[name].annotation):
                self.register_buffer(name, value)
            else:
                self.__dict__[name] = value

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **{name: getattr(self, name) for name in self._settings}, **kwargs)

    def extra_repr(self) -> str:
        told = [s for s in self._settings if s not in ("training", *self._buffers) and getattr(self, s) is not None]
        shown = [s for s in told if s != "inplace" or self.inplace] if self._shows is None else self._shows
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)


class _Gather(Function):
    """Identity; backward, the gradients of all its inputs meet in a function that may replace them."""
    @staticmethod
    def forward(ctx: Any, meet: Callable[[tuple], tuple], *values: Any) -> tuple:
        ctx.meet = meet
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(v for v in values if isinstance(v, Tensor) and not v.requires_grad))
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple:
        return None, *ctx.meet(grads)


def _bracket(module: Module, args: tuple) -> tuple[tuple, Callable[[Any], Any]]:
    """Identities around a call of `module` that run its backward hooks: its new arguments, and a map of its output."""
    grad_outputs: list[tuple] = []

    def on_input(grads: tuple) -> tuple:
        grad_output = grad_outputs.pop() if grad_outputs else None  # None: the gradient came past the output
        for (hook,) in tuple(module._backward_hooks) if grad_output else ():
            if (result := hook(module, grads, grad_output)) is not None:
                result = result if isinstance(result, tuple) else (result,)
                needed, got = ([g if g is None else g.shape for g in gs] for gs in (grads, result))
                if got != needed:
                    raise AutogradError(f"backward hook of {type(module).__name__}: a grad_input of shapes {needed} is "
                                        f"needed, not {got}")
                grads = result
        return grads

    def on_output(grads: tuple) -> tuple:
        grad_outputs[:] = [grads]
        if not any(isinstance(a, Tensor) and a.requires_grad for a in args):  # nothing more will come
            on_input((None,) * len(args))
        return grads

    def leave(output: Any) -> Any:
        outputs = _Gather.apply(on_output, *(output if isinstance(output, tuple) else (output,)))
        return outputs if isinstance(output, tuple) else outputs[0]

    return _Gather.apply(on_input, *args), leave
