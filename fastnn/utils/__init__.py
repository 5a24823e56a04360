"""PyTorch's name for some things that live elsewhere here."""
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.utils import data as data
else:
    def __getattr__(name):  # loaded when it is first used
        if name == "data":
            return importlib.import_module("fastnn.utils.data")
        raise AttributeError(f"module 'fastnn.utils' has no attribute {name!r}")
