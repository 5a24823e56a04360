"""Images at another size."""

import numpy as np
from fastnn.functional.sizes import pair

from fastnn.errors import DTypeError, ShapeError
from fastnn.tensor import Tensor, as_tensor


def resize(images: Tensor | np.ndarray, size: int | tuple[int, int]) -> Tensor:
    """Bilinear interpolation of images (N, C, H, W), floating point, to (N, C, *size); no gradient.

    Pixels are squares and corners are not aligned: output row i lies at input row (i + ½) · H / oH − ½, cut off at 0
    and H − 1. Shrinking does not average over more than 2×2 pixels.

    Raises ShapeError or DTypeError unless `images` are 4-D and floating point, without an empty side.

    Example:
        >>> resize(np.array([[[[0.0, 1.0]]]]), (1, 4)).tolist()
        [[[[0.0, 0.25, 0.75, 1.0]]]]
    """
    array = as_tensor(images).array
    sizes = pair(size, "resize", "size")
    if array.ndim != 4 or 0 in array.shape[2:] or min(sizes) < 1:
        raise ShapeError(f"resize: needs (N, C, H, W) images and a size of at least 1, got {array.shape} and {size}")
    if array.dtype.kind != "f":
        raise DTypeError(f"resize: needs floating-point images, got {array.dtype}")
    for axis, (n, n_out) in enumerate(zip(array.shape[2:], sizes, strict=True), 2):
        place = np.clip((np.arange(n_out) + 0.5) * (n / n_out) - 0.5, 0, n - 1)
        low = place.astype(np.intp)
        weight = (place - low).astype(array.dtype).reshape((-1, 1) if axis == 2 else -1)
        array = array.take(low, axis) * (1 - weight) + array.take(np.minimum(low + 1, n - 1), axis) * weight
    return Tensor(array)
