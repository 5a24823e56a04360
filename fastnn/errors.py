"""Exceptions. Where PyTorch raises RuntimeError, ours is that and the more telling built-in class at once."""
import importlib
from typing import Any


class ShapeError(ValueError, RuntimeError):
    """Sizes that do not fit together."""


class ArgumentError(ValueError, RuntimeError):
    """A value, or a combination of arguments, that the operation does not take."""


class RangeError(IndexError, RuntimeError):
    """An index that is out of range, or a dimension of size 0 in which to look for one."""


class DTypeError(TypeError, RuntimeError):
    """A dtype, or a mixture of dtypes, that the operation does not take."""


class DeviceError(ValueError, RuntimeError):
    """A device other than the CPU."""


class AutogradError(RuntimeError):
    """A backward pass that cannot be done: freed graph, changed operand, no gradient to start from."""


class StateDictError(ValueError, RuntimeError):
    """A state dict that does not fit what it is loaded into."""


class CheckpointError(ValueError, RuntimeError):
    """A file that is damaged, or is no checkpoint: the message names it and its defect."""


def require(module: str, extra: str, what: str) -> Any:
    """The optional `module`; ImportError, naming the extra that installs it, if it is not there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(f"{what} needs {module.partition('.')[0]}: pip install 'fastnn[{extra}]'") from None
