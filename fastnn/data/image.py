"""Images at another size."""

import numpy as np

from fastnn.errors import ShapeError
from fastnn.functional.arguments import pair
from fastnn.tensor import Tensor, as_tensor


def resize(images: Tensor | np.ndarray, size: int | tuple[int, int]) -> Tensor:
    """Bilinear interpolation of images (N, C, H, W), floating point, to (N, C, *size); no gradient.

    Output row i lies at input row (i + ½) · H / oH − ½, cut off at 0 and H − 1 (PyTorch's ``align_corners=False``)."""
    array, sizes = as_tensor(images).array, pair(size, "resize", "size")
    if array.ndim != 4 or array.dtype.kind != "f" or 0 in array.shape[2:] or min(sizes) < 1:
        raise ShapeError(f"resize: needs float images (N, C, H, W), size >= 1, got {array.dtype} {array.shape}, {size}")
    for axis, (n, n_out) in enumerate(zip(array.shape[2:], sizes, strict=True), 2):
        place = np.clip((np.arange(n_out) + 0.5) * (n / n_out) - 0.5, 0, n - 1)
        low = place.astype(np.intp)
        weight = (place - low).astype(array.dtype).reshape((-1, 1) if axis == 2 else -1)
        array = array.take(low, axis) * (1 - weight) + array.take(np.minimum(low + 1, n - 1), axis) * weight
    return Tensor(array)
