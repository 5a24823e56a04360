"""Containers: Sequential, ModuleList, ModuleDict, ParameterList."""
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from itertools import groupby
from typing import Any, Self

from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.tensor import Tensor


class _Numbered(Module):
    """A list of members named by their numbers: what Sequential, ModuleList and ParameterList share."""
    _registry = "_modules"

    def __init__(self, items: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(items or ())

    def _key(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range for {len(self)} items")
        return list(self.__dict__[self._registry])[index]

    def _replace(self, items: list[Any]) -> Self:
        for key in list(self.__dict__[self._registry]):
            delattr(self, key)
        return self.extend(items)

    def __len__(self) -> int:
        return len(self.__dict__[self._registry])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.__dict__[self._registry].values())

    def __getitem__(self, index: int | slice) -> Any:
        return type(self)(list(self)[index]) if isinstance(index, slice) else getattr(self, self._key(index))

    def __setitem__(self, index: int, item: Any) -> None:
        self._register(self._registry, self._key(index), item)

    def __delitem__(self, index: int | slice) -> None:
        items = list(self)
        del items[index]
        self._replace(items)

    def append(self, item: Any) -> Self:
        self._register(self._registry, str(len(self)), item)
        return self

    def extend(self, items: Iterable[Any]) -> Self:
        for item in list(items):
            self.append(item)
        return self

    def insert(self, index: int, item: Any) -> Self:
        """Add an item before the one at `index`. All are numbered anew, names of their own are lost."""
        items = list(self)
        items.insert(index, item)
        return self.append(item)._replace(items)  # which refuses it, if it must, before anything has moved

    def __add__(self, items: Iterable[Any]) -> Self:
        return type(self)().extend(self).extend(items)

    pop: Any = MutableSequence.pop
    __iadd__ = extend


class Sequential(_Numbered):
    """Modules called one after the other, each with what the one before returned.

    They are named "0", "1", … or, given an OrderedDict, by its keys. A slice holds the same modules.

    >>> nn.Sequential(nn.Flatten(), nn.Linear(6, 2))(fastnn.zeros(5, 2, 3)).shape
    (5, 2)
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = len(modules) == 1 and isinstance(modules[0], OrderedDict)
        for name, module in modules[0].items() if named else enumerate(modules):
            self.add_module(str(name), module)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input


class ModuleList(_Numbered):
    """A list of modules, which it registers; it computes nothing."""

    def _child_reprs(self) -> Iterator[tuple[str, str]]:  # neighbours that read the same are printed once
        for text, group in groupby(super()._child_reprs(), lambda child: child[1]):
            names = [name for name, _ in group]
            yield (f"{names[0]}-{names[-1]}", f"{len(names)} x {text}") if len(names) > 1 else (names[0], text)


class ParameterList(_Numbered):
    """A list of parameters, which it registers; tensors become parameters."""
    _registry = "_parameters"

    def _register(self, registry: str, name: str, value: Any) -> None:
        plain = isinstance(value, Tensor) and not isinstance(value, Parameter)
        super()._register(registry, name, Parameter(value) if plain else value)

    def extra_repr(self) -> str:
        return "\n".join(f"({i}): {type(p).__name__} containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]"
                         for i, p in enumerate(self))


class ModuleDict(Module, MutableMapping):
    """A dict of modules, which it registers in order of entry; it computes nothing."""

    __eq__, __hash__ = Module.__eq__, Module.__hash__

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or ())

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)
