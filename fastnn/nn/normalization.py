"""Normalization as modules: `fastnn.functional` has the formulae."""
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import fastnn.functional as F
from fastnn import creation
from fastnn.errors import ArgumentError, ShapeError
from fastnn.nn import init
from fastnn.nn.linear import Weighted
from fastnn.nn.module import FunctionModule
from fastnn.tensor import Tensor, changing, int64, ints

__all__ = ["BatchNorm1d", "BatchNorm2d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LayerNorm",
           "LocalResponseNorm", "RMSNorm"]  # fmt: skip


_RUNNING = "running_mean", "running_var", "num_batches_tracked"


class _Norm(Weighted):
    _text: ClassVar[str]  # of extra_repr, with attributes in braces

    def _make(self, shape: tuple[int, ...], affine: bool, bias: bool, device: Any, dtype: Any) -> None:
        self._make_parameters(shape, affine, affine and bias, device, dtype, shape)
        self.reset_parameters()

    def extra_repr(self) -> str:
        return self._text.format(**vars(self) | {"bias": self.bias is not None})

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        for parameter, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if parameter is not None:
                init.constant_(parameter, value)


class _Tracking(_Norm):
    """Of channels, maybe with running statistics."""
    _shapes: ClassVar[dict[int, str]]  # the input's, by number of dimensions
    _text = ("{num_features}, eps={eps}, momentum={momentum}, affine={affine}, bias={bias}, "
             "track_running_stats={track_running_stats}")

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name in _RUNNING:
            size, kind = ((), int64) if name == "num_batches_tracked" else ((num_features,), dtype)
            self.register_buffer(name, creation.zeros(size, dtype=kind, device=device) if track_running_stats else None)
        self._make((num_features,), affine, bias, device, dtype)

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1."""
        for name in _RUNNING if self.track_running_stats else ():
            getattr(self, name).fill_(int(name == "running_var"))

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, no running statistics."""
        self.reset_running_stats()
        super().reset_parameters()

    def _check_input(self, input: Tensor) -> None:
        if input.ndim not in self._shapes:
            shapes = " or ".join(self._shapes.values())
            raise ShapeError(f"{type(self).__name__}: input must have the shape {shapes}, but {input.shape} came")


class _BatchNorm(_Tracking):
    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        momentum = self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            changing(self.num_batches_tracked)[...] += 1
            if momentum is None:  # the average of all batches so far
                momentum = 1 / self.num_batches_tracked.item()
        kept = self.track_running_stats or not self.training
        mean, var = (self.running_mean, self.running_var) if kept else (None, None)
        return F.batch_norm(input, mean, var, self.weight, self.bias, self.training or self.running_mean is None,
                            momentum or 0.0, self.eps)


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L), C = num_features; momentum=None averages all batches evenly."""
    _shapes: ClassVar[dict[int, str]] = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W), C = num_features; momentum=None averages all batches evenly."""
    _shapes: ClassVar[dict[int, str]] = {4: "(N, C, H, W)"}


class _InstanceNorm(_Tracking):
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device: Any = None, dtype: Any = None, *,
                 bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        batch = input if input.ndim == max(self._shapes) else input.unsqueeze(0)  # type: ignore[attr-defined]
        if batch.shape[1] != self.num_features:
            text = f"{type(self).__name__}: num_features is {self.num_features}, but input has shape {input.shape}"
            if self.affine:
                raise ShapeError(text)
            warnings.warn(text, stacklevel=3)
        y = F.instance_norm(batch, self.running_mean, self.running_var, self.weight, self.bias,
                            self.training or not self.track_running_stats, self.momentum or 0.0, self.eps)
        return y if batch is input else y.squeeze(0)  # type: ignore[attr-defined]


class InstanceNorm1d(_InstanceNorm):
    """Instance normalization of (N, C, L) or (C, L), C = num_features: mean and variance of each channel of each image;
    with `track_running_stats`, evaluation uses their averages instead."""
    _shapes: ClassVar[dict[int, str]] = {2: "(C, L)", 3: "(N, C, L)"}


class InstanceNorm2d(_InstanceNorm):
    """Instance normalization of (N, C, H, W) or (C, H, W), otherwise like InstanceNorm1d."""
    _shapes: ClassVar[dict[int, str]] = {3: "(C, H, W)", 4: "(N, C, H, W)"}


class GroupNorm(_Norm):
    """Normalization of (N, C, ...), C = num_channels, over each image's num_groups groups of channels. ArgumentError
    unless num_groups divides num_channels."""
    _text = "{num_groups}, {num_channels}, eps={eps}, affine={affine}, bias={bias}"

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None,
                 dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: num_groups must divide num_channels={num_channels}, but {num_groups} came")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._make((num_channels,), affine, bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class _OverLast(_Norm):
    """Of the last axes, of the sizes `normalized_shape`."""
    _text = "{normalized_shape}, eps={eps}, elementwise_affine={elementwise_affine}"

    def __init__(self, normalized_shape: int | Sequence[int], eps: Any = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.normalized_shape, self.eps = ints(type(self).__name__, normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        self._make(self.normalized_shape, elementwise_affine, bias, device, dtype)


class LayerNorm(_OverLast):
    """(x − μ) / √(σ² + eps) · weight + bias, μ and σ² over the last axes, whose sizes are `normalized_shape`."""
    _text = _OverLast._text + ", bias={bias}"

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(_OverLast):
    """x / √(mean of x² + eps) · weight, otherwise like LayerNorm; eps None is the resolution of the dtype."""

    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, False, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)


class LocalResponseNorm(FunctionModule, function=F.local_response_norm):
    """x / (k + alpha·mean of x²)^beta, the mean over the `size` channels around each."""
