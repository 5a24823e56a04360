"""Convolutions, transposed and locally connected ones: `fastnn.functional.conv` has formulae, shapes and errors.

Weights and biases are drawn from U(−k, k), k = 1 / √(weight.shape[1] · area of the kernel), as in PyTorch."""
from collections.abc import Sequence
from typing import Any, ClassVar

import fastnn.functional as F
from fastnn.functional.arguments import IntOrPair, geometry, n_windows, pair
from fastnn.nn.linear import Weighted
from fastnn.tensor import Tensor


class _Conv(Weighted):
    _axes: ClassVar[int] = 2
    _transposed: ClassVar[bool] = False

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrPair, stride: IntOrPair = 1,
                 padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: Any = None,
                 output_padding: IntOrPair = 0) -> None:
        super().__init__()
        op, modes = type(self).__name__, ("zeros", "reflect", "replicate", "circular")[:1 if self._transposed else 4]
        if min(in_channels, out_channels, groups) < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{op}: in_channels={in_channels} and out_channels={out_channels} must be divisible by "
                             f"groups={groups}, and all be positive")
        if padding_mode not in modes:
            raise ValueError(f"{op}: padding_mode must be one of {', '.join(modes)}, but {padding_mode!r} came")
        where = (*geometry(op, kernel_size, stride, padding, dilation, not self._transposed, self._axes),
                 pair(output_padding, op, "output_padding", 0, self._axes))
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.padding: Any
        self.kernel_size, self.stride, pads, self.dilation, self.output_padding = (n[-self._axes:] for n in where)
        self.padding, self.padding_mode = padding if isinstance(padding, str) else pads, padding_mode
        axes = zip(self.dilation[::-1], self.kernel_size[::-1], pads[::-1], strict=True)  # as F.pad has them
        self._borders = [n for d, k, p in axes for n in (p, d * (k - 1) - p if padding == "same" else p)]
        first, second = (in_channels, out_channels) if self._transposed else (out_channels, in_channels)
        self._make_parameters((first, second // groups, *self.kernel_size), True, bias, device, dtype, (out_channels,))
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._borders, self.padding_mode), 0
        convolve = F.conv1d if self._axes == 1 else F.conv2d
        return convolve(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        zero, one = (0,) * self._axes, (1,) * self._axes
        for name, default in (("padding", zero), ("dilation", one), ("output_padding", zero), ("groups", 1)):
            text += f", {name}={getattr(self, name)}" if getattr(self, name) != default else ""
        text += ", bias=False" if self.bias is None else ""
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class Conv2d(_Conv):
    """Cross-correlation with learned kernels: y[n, o] = b[o] + Σ_c w[o, c] ⋆ x[n, c]; arguments as in PyTorch.

    Shape: x (N, in_channels, H, W) → y (N, out_channels, oH, oW), both also without N, where
    oH = ⌊(H + 2·padding − dilation·(kH − 1) − 1) / stride⌋ + 1 and oW likewise; weight (out_channels,
    in_channels/groups, kH, kW), bias (out_channels,). `padding_mode` is zeros, reflect, replicate or circular.

    >>> nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2))(fastnn.zeros(20, 16, 50, 100)).shape
    (20, 33, 28, 100)
    """


class Conv1d(_Conv):
    """`Conv2d` along one axis: x (N, in_channels, L) → y (N, out_channels, oL), both also without N."""
    _axes = 1


class ConvTranspose2d(_Conv):
    """The transpose of `Conv2d`, as for upsampling: x (N, in_channels, H, W) → y (N, out_channels, oH, oW), where
    oH = (H − 1)·stride − 2·padding + dilation·(kH − 1) + output_padding + 1; weight (in_channels,
    out_channels/groups, kH, kW). `forward(x, output_size)` finds the output_padding for a size of y.

    >>> nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)(fastnn.zeros(1, 2, 4, 4), (8, 8)).shape
    (1, 3, 8, 8)
    """
    _transposed = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrPair, stride: IntOrPair = 1,
                 padding: IntOrPair = 0, output_padding: IntOrPair = 0, groups: int = 1, bias: bool = True,
                 dilation: IntOrPair = 1, padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
                         device, dtype, output_padding)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra, n = self.output_padding, self._axes
        if output_size is not None:
            axes = zip(input.shape[-n:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
            least = [(size - 1) * s - 2 * p + d * (k - 1) + 1 for size, s, p, d, k in axes]
            extra = tuple([wanted - m for wanted, m in zip(output_size[-n:], least, strict=False)])
            if len(output_size) not in (n, input.ndim) or any(map(lambda e, s: not 0 <= e < s, extra, self.stride)):
                raise ValueError(f"{type(self).__name__}: output_size must be {least} or, by less than the stride "
                                 f"{self.stride}, more, but {output_size} came")
        convolve = F.conv_transpose1d if n == 1 else F.conv_transpose2d
        return convolve(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)


class ConvTranspose1d(ConvTranspose2d):
    """`ConvTranspose2d` along one axis: x (N, in_channels, L) → y (N, out_channels, oL), both also without N."""
    _axes = 1


class LocallyConnected2d(_Conv):
    """`Conv2d` with unshared weights, for images of `input_size` (H, W): weight (oH, oW, out_channels, in_channels,
    kH, kW), where weight[i, j] makes output pixel (i, j), and bias (out_channels, oH, oW); drawn as for `Conv2d`."""
    _fan_in = slice(3, None)

    def __init__(self, in_channels: int, out_channels: int, input_size: IntOrPair, kernel_size: IntOrPair,
                 stride: IntOrPair = 1, padding: IntOrPair = 0, dilation: IntOrPair = 1, bias: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        where = geometry("LocallyConnected2d", kernel_size, stride, padding, dilation)
        self.input_size = pair(input_size, "LocallyConnected2d", "input_size", 1)
        size = n_windows("LocallyConnected2d", self.input_size, where)
        super().__init__(in_channels, out_channels, *where, bias=bias, device=device, dtype=dtype)
        self._make_parameters((*size, *self.weight.shape), True, bias, device, dtype, (out_channels, *size))
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.locally_connected2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation)
