"""Padding as modules: `padding` is an int for all sides or the numbers of `F.pad`, the last axis first."""
from collections.abc import Sequence
from typing import ClassVar

import fastnn.functional as F
from fastnn.nn.module import Module
from fastnn.tensor import Tensor

__all__ = ["CircularPad1d", "CircularPad2d", "ConstantPad1d", "ConstantPad2d", "ReflectionPad1d", "ReflectionPad2d",
           "ReplicationPad1d", "ReplicationPad2d", "ZeroPad1d", "ZeroPad2d"]  # fmt: skip


class _Pad(Module):
    _mode: ClassVar[str]
    _sides: ClassVar[int]

    def __init_subclass__(cls, mode: str = "constant", axes: int = 0) -> None:
        cls._mode, cls._sides = mode, 2 * axes
        cls.__doc__ = f"`F.pad` of the last {'two axes' if axes == 2 else 'axis'}, mode {mode!r}."

    def __init__(self, padding: int | Sequence[int], value: float = 0.0) -> None:
        super().__init__()
        self.padding = (padding,) * self._sides if isinstance(padding, int) else tuple(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}" if isinstance(self, ConstantPad1d) else f"{self.padding}"


class ZeroPad1d(_Pad, axes=1): ...
class ZeroPad2d(_Pad, axes=2): ...
class ConstantPad1d(_Pad, axes=1): ...
class ConstantPad2d(ConstantPad1d, axes=2): ...
class ReflectionPad1d(_Pad, mode="reflect", axes=1): ...
class ReflectionPad2d(_Pad, mode="reflect", axes=2): ...
class ReplicationPad1d(_Pad, mode="replicate", axes=1): ...
class ReplicationPad2d(_Pad, mode="replicate", axes=2): ...
class CircularPad1d(_Pad, mode="circular", axes=1): ...
class CircularPad2d(_Pad, mode="circular", axes=2): ...
