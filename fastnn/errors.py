"""Exceptions. Where PyTorch raises RuntimeError, ours is that and the more telling built-in class at once."""


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
    """A file that is damaged, hostile, or no checkpoint."""
