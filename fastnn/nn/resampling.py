"""Layers that change the size of images: `fastnn.functional` has the formulae, shapes and errors."""
from collections.abc import Sequence

import fastnn.functional as F
from fastnn.nn.module import FunctionModule

__all__ = ["Fold", "PixelShuffle", "PixelUnshuffle", "Unfold", "Upsample", "UpsamplingBilinear2d",
           "UpsamplingNearest2d"]  # fmt: skip

Size = int | Sequence[int] | None
Scale = float | Sequence[float] | None


class Upsample(FunctionModule, function=F.interpolate):
    """(N, C, L) or (N, C, H, W) of another size, by `F.interpolate`.

    >>> nn.Upsample(scale_factor=2, mode="bilinear")(fastnn.zeros(1, 3, 4, 5)).shape
    (1, 3, 8, 10)
    """

    def __init__(self, size: Size = None, scale_factor: Scale = None, mode: str = "nearest",
                 align_corners: bool | None = None, recompute_scale_factor: bool | None = None) -> None:
        many = isinstance(scale_factor, (tuple, list))
        super().__init__(size, tuple(map(float, scale_factor)) if many else scale_factor and float(scale_factor), mode,
                         align_corners, recompute_scale_factor)

    def extra_repr(self) -> str:
        given = "size" if self.scale_factor is None else "scale_factor"
        return f"{given}={getattr(self, given)!r}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """The pixel that is nearest, by `F.interpolate`."""

    def __init__(self, size: Size = None, scale_factor: Scale = None) -> None:
        super().__init__(size, scale_factor)


class UpsamplingBilinear2d(Upsample):
    """Bilinear between pixels, corners on corners, by `F.interpolate`."""

    def __init__(self, size: Size = None, scale_factor: Scale = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(FunctionModule, function=F.pixel_shuffle):
    """(*, C·r², H, W) → (*, C, H·r, W·r), r = upscale_factor."""


class PixelUnshuffle(FunctionModule, function=F.pixel_unshuffle):
    """(*, C, H·r, W·r) → (*, C·r², H, W), r = downscale_factor."""


class Unfold(FunctionModule, function=F.unfold):
    """The im2col matrix: (N, C, H, W) → (N, C·kH·kW, oH·oW)."""


class Fold(FunctionModule, function=F.fold):
    """The transpose of `Unfold`: (N, C·kH·kW, oH·oW) → (N, C, H, W), overlapping values added."""
