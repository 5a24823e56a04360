"""Layers that change the size of images: `fastnn.functional` has their formulae, arguments and errors."""
import fastnn.functional as F
from fastnn.nn.module import FunctionModule

__all__ = ["Fold", "PixelShuffle", "PixelUnshuffle", "Unfold", "Upsample", "UpsamplingBilinear2d",
           "UpsamplingNearest2d"]  # fmt: skip


class Upsample(FunctionModule, function=F.interpolate):
    """(N, C, L) or (N, C, H, W) of another size, by `F.interpolate`.

    >>> nn.Upsample(scale_factor=2, mode="bilinear")(fastnn.zeros(1, 3, 4, 5)).shape
    (1, 3, 8, 10)
    """


class UpsamplingNearest2d(FunctionModule, function=lambda x, size=None, scale_factor=None: F.interpolate(
        x, size, scale_factor)):
    """The nearest pixel, by `F.interpolate`."""


class UpsamplingBilinear2d(FunctionModule, function=lambda x, size=None, scale_factor=None: F.interpolate(
        x, size, scale_factor, "bilinear", True)):
    """Bilinear between pixels, corners on corners, by `F.interpolate`."""


class PixelShuffle(FunctionModule, function=F.pixel_shuffle): ...
class PixelUnshuffle(FunctionModule, function=F.pixel_unshuffle): ...
class Unfold(FunctionModule, function=F.unfold): ...
class Fold(FunctionModule, function=F.fold): ...
