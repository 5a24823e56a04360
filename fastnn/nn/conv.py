"""Conv2d."""
from typing import Any

import fastnn.functional as F
from fastnn.functional.arguments import IntOrPair, geometry
from fastnn.nn.linear import Weighted
from fastnn.tensor import Tensor


class Conv2d(Weighted):
    """Cross-correlation with learned kernels: y[n, o] = b[o] + Σ_c w[o, c] ⋆ x[n, c]; arguments as in PyTorch.

    Shape: x (N, in_channels, H, W) → y (N, out_channels, oH, oW), both also without N, where
    oH = ⌊(H + 2·padding − dilation·(kH − 1) − 1) / stride⌋ + 1 and oW likewise; weight (out_channels,
    in_channels/groups, kH, kW), bias (out_channels,), both from U(−k, k), k = 1 / √(in_channels/groups · kH · kW).

    >>> nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2))(fastnn.zeros(20, 16, 50, 100)).shape
    (20, 33, 28, 100)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrPair, stride: IntOrPair = 1,
                 padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if min(in_channels, out_channels, groups) < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: in_channels={in_channels} and out_channels={out_channels} must be divisible by "
                             f"groups={groups}, and all be positive")
        if padding_mode != "zeros":
            raise ValueError(f"Conv2d: padding_mode must be 'zeros', but {padding_mode!r} came")
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, "zeros"
        where = geometry("Conv2d", kernel_size, stride, padding, dilation, named=True)
        self.kernel_size, self.stride, pads, self.dilation = where
        self.padding = padding if isinstance(padding, str) else pads
        self._make_parameters((out_channels, in_channels // groups, *self.kernel_size), True, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, default in (("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1)):
            text += f", {name}={getattr(self, name)}" if getattr(self, name) != default else ""
        return text if self.bias is not None else text + ", bias=False"
