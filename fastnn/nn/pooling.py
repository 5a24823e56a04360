"""MaxPool2d, AvgPool2d and AdaptiveAvgPool2d: `fastnn.functional.pooling` has the formulae, shapes and errors."""
from typing import Any

import fastnn.functional as F
from fastnn.functional.arguments import IntOrPair
from fastnn.nn.module import FunctionModule


class MaxPool2d(FunctionModule, function=F.max_pool2d,
                shows=("kernel_size", "stride", "padding", "dilation", "ceil_mode")):
    """The maximum of each window; `stride` is the kernel size if not given.

    >>> nn.MaxPool2d((3, 2), stride=(2, 1))(fastnn.zeros(20, 16, 50, 32)).shape
    (20, 16, 24, 31)
    """

    def __init__(self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0,
                 dilation: IntOrPair = 1, return_indices: bool = False, ceil_mode: bool = False) -> None:
        super().__init__(kernel_size=kernel_size, stride=kernel_size if stride is None else stride, padding=padding,
                         dilation=dilation, return_indices=return_indices, ceil_mode=ceil_mode)


class AvgPool2d(FunctionModule, function=F.avg_pool2d, shows=("kernel_size", "stride", "padding")):
    """The mean of each window; `stride` is the kernel size if not given."""
    stride: Any

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.stride = self.kernel_size if self.stride is None else self.stride


class AdaptiveAvgPool2d(FunctionModule, function=F.adaptive_avg_pool2d):
    """Means of windows such that the output has the size asked for; None keeps a size."""
