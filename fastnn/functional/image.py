"""Parts of images, and images under affine maps, a map for each image. No gradient passes.

Inputs are (N, C, H, W), float32 or float64, else DTypeError; outputs (N, C, *size) of that dtype, channels-last.
ShapeError for misshapen inputs, offsets or maps and for images without pixels, ArgumentError for an unknown mode."""
from collections.abc import Sequence

import numpy as np

from fastnn import backend, layout
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.functional.arguments import IntOrPair, pair, same_float
from fastnn.tensor import Array, Tensor

__all__ = ["affine_images", "crop_images"]

MODES = {"constant": 0, "edge": 1, "reflect": 2, "symmetric": 3}


def _prepare(op: str, input: Tensor, size: IntOrPair, mode: str, modes: tuple[str, ...]) -> tuple[Array, Array]:
    """The images channels-last, and an array for the output."""
    a = same_float(op, input=input)
    if a.ndim != 4 or 0 in a.shape[1:]:
        raise ShapeError(f"{op}: input must be (N, C, H, W), only N may be 0, but its shape is {a.shape}")
    if mode not in modes:
        raise ArgumentError(f"{op}: padding_mode must be one of {', '.join(modes)}, but {mode!r} came")
    return layout.channels_last(a), layout.empty((*a.shape[:2], *pair(size, op, "size", 1)), a.dtype, True)


def crop_images(input: Tensor, top: Array | int, left: Array | int, size: IntOrPair, flip: Array | int = 0,
                padding_mode: str = "constant", value: float = 0.0) -> Tensor:
    """The part of each image, `size` = (oH, oW), whose first row is `top` and first column `left`: ints, or (N,) of
    them. `flip` mirrors the part: 1 left and right, 2 upside down, 3 both.

    Offsets may be any; outside the image it is as in NumPy's pad: "constant" (`value`), "edge", "reflect", "symmetric".

    >>> crop_images(fastnn.arange(4.0).view(1, 1, 2, 2), 0, -1, (1, 4), flip=1, padding_mode="reflect").tolist()
    [[[[0.0, 1.0, 0.0, 1.0]]]]"""
    a, y = _prepare("crop_images", input, size, padding_mode, tuple(MODES))
    for name, table in ("top", top), ("left", left), ("flip", flip):
        table = np.asarray(table)
        if table.dtype.kind not in "iu" and table.size:
            raise DTypeError(f"crop_images: {name} must be ints, but is {table.dtype}")
        if table.shape not in ((), a.shape[:1]):
            raise ShapeError(f"crop_images: {name} must be an int or ({len(a)},) ints, but its shape is {table.shape}")
        if name == "flip" and table.size and not 0 <= table.min() <= table.max() <= 3:
            raise ArgumentError(f"crop_images: flip must be from 0 to 3, but {table.min()} to {table.max()} came")
    crop_and_recolour(a, top, left, flip, padding_mode, [float(value)], y)
    return Tensor(y)


def crop_and_recolour(a: Array, top: Array | int, left: Array | int, flip: Array | int, mode: str,
                      values: Sequence[Array | float], y: Array) -> None:
    """`crop_images`, of checked arguments, into `y`; of channels-last uint8 too, taken as a / 255. `values` are each a
    number, (1,) or (C,): what lies outside, and what is subtracted, in float64, inside, and then multiplied."""
    places, flips = np.empty((2, len(a)), np.int64), np.empty(len(a), np.uint8)
    places[0], places[1], flips[...] = top, left, flip
    colours = np.empty((len(values), y.shape[3], y.shape[1]))
    for row, given in zip(colours, values, strict=True):
        row[...] = given
    backend.image.crop(a, *places, flips, MODES[mode], colours, y, backend.n_threads())


def affine_images(input: Tensor, theta: Array, size: IntOrPair, padding_mode: str = "constant",
                  value: float = 0.0) -> Tensor:
    """Output pixel (i, j) of image n is the image at (u, v) = theta[n]·(j + ½, i + ½, 1), bilinear between pixels.

    `theta` is (2, 3) or (N, 2, 3) and works in pixels: u is measured from the left edge of the image, v from its top
    edge, and the middle of pixel (i, j) is at u = j + ½, v = i + ½. Outside are `value` ("constant"), the nearest
    pixels ("edge") or the image mirrored at its edges ("symmetric"): grid_sample's "zeros", "border" and "reflection"
    with ``align_corners=False`` in PyTorch. A position that is NaN shows `value` or, without one, the first pixel.

    >>> affine_images(fastnn.arange(4.0).view(1, 1, 1, 4), np.array([[2, 0, 0], [0, 1, 0]]), (1, 2)).tolist()
    [[[[0.5, 2.5]]]]"""
    a, y = _prepare("affine_images", input, size, padding_mode, ("constant", "edge", "symmetric"))
    theta = np.asarray(theta, np.float64)
    if theta.shape not in ((2, 3), (len(a), 2, 3)):
        raise ShapeError(f"affine_images: theta must be (2, 3) or ({len(a)}, 2, 3), but its shape is {theta.shape}")
    theta = np.ascontiguousarray(np.broadcast_to(theta, (len(a), 2, 3)))
    backend.image.affine(a, theta, MODES[padding_mode], value, y, backend.n_threads())
    return Tensor(y)
