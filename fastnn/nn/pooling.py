"""Pooling layers, with the docstrings of their functions: `fastnn.functional.pooling` has shapes and errors."""
from typing import Any

import fastnn.functional as F
from fastnn.functional.pooling import check_ratio
from fastnn.nn.module import FunctionModule

__all__ = ["AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AvgPool1d", "AvgPool2d",
           "FractionalMaxPool2d", "LPPool1d", "LPPool2d", "MaxPool1d", "MaxPool2d"]
SHOWN = ("kernel_size", "stride", "padding")


class _Windows(FunctionModule):
    """A stride that is not given is the kernel size."""
    stride: Any

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.stride = self.kernel_size if self.stride is None else self.stride


class MaxPool2d(_Windows, function=F.max_pool2d, shows=(*SHOWN, "dilation", "ceil_mode")):
    """The maximum of each window; `stride` is the kernel size if not given.

    >>> nn.MaxPool2d((3, 2), stride=(2, 1))(fastnn.zeros(20, 16, 50, 32)).shape
    (20, 16, 24, 31)
    """


class MaxPool1d(_Windows, function=F.max_pool1d, shows=(*SHOWN, "dilation", "ceil_mode")): ...


for _pool in MaxPool1d, MaxPool2d:  # PyTorch's order: return_indices before ceil_mode
    _names = [*_pool.__signature__.parameters.values()]
    _pool.__signature__ = _pool.__signature__.replace(parameters=[*_names[:4], _names[5], _names[4]])


class AvgPool2d(_Windows, function=F.avg_pool2d, shows=SHOWN): ...
class AvgPool1d(_Windows, function=F.avg_pool1d, shows=SHOWN): ...
class LPPool2d(FunctionModule, function=F.lp_pool2d): ...
class LPPool1d(FunctionModule, function=F.lp_pool1d): ...
class AdaptiveAvgPool2d(FunctionModule, function=F.adaptive_avg_pool2d): ...
class AdaptiveAvgPool1d(FunctionModule, function=F.adaptive_avg_pool1d): ...
class AdaptiveMaxPool2d(FunctionModule, function=F.adaptive_max_pool2d, shows=("output_size",)): ...
class AdaptiveMaxPool1d(FunctionModule, function=F.adaptive_max_pool1d, shows=("output_size",)): ...


class FractionalMaxPool2d(FunctionModule, function=F.fractional_max_pool2d):
    """Maxima of windows at random places (Graham 2014); in evaluation at fixed ones, or the mean of `draws` draws."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        check_ratio("FractionalMaxPool2d", self.output_size, self.output_ratio)
