"""BatchNorm1d and BatchNorm2d: `fastnn.functional.batch_norm` has the formula."""
from typing import Any, ClassVar

import fastnn.functional as F
from fastnn import creation
from fastnn.errors import ShapeError
from fastnn.nn import init
from fastnn.nn.linear import Weighted
from fastnn.tensor import Tensor, changing, int64


class _BatchNorm(Weighted):
    _shapes: ClassVar[dict[int, str]]  # the input's, by number of dimensions

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._make_parameters((num_features,), affine, affine and bias, device, dtype)
        for name, size, kind in (("running_mean", (num_features,), dtype), ("running_var", (num_features,), dtype),
                                 ("num_batches_tracked", (), int64)):
            self.register_buffer(name, creation.zeros(size, dtype=kind, device=device) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1."""
        for name in ("running_mean", "running_var", "num_batches_tracked") if self.track_running_stats else ():
            getattr(self, name).fill_(int(name == "running_var"))

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, no running statistics."""
        self.reset_running_stats()
        for parameter, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if parameter is not None:
                init.constant_(parameter, value)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in self._shapes:
            shapes = " or ".join(self._shapes.values())
            raise ShapeError(f"{type(self).__name__}: input must have the shape {shapes}, but {input.shape} came")
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            changing(self.num_batches_tracked)[...] += 1
            if momentum is None:  # the average of all batches so far
                momentum = 1 / self.num_batches_tracked.item()
        kept = self.track_running_stats or not self.training
        mean, var = (self.running_mean, self.running_var) if kept else (None, None)
        return F.batch_norm(input, mean, var, self.weight, self.bias, self.training or self.running_mean is None,
                            momentum or 0.0, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L), C = num_features; momentum=None averages all batches evenly."""
    _shapes: ClassVar[dict[int, str]] = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W), C = num_features; momentum=None averages all batches evenly."""
    _shapes: ClassVar[dict[int, str]] = {4: "(N, C, H, W)"}
