"""Images at another size."""

import numpy as np

from fastnn.functional import interpolate
from fastnn.tensor import Tensor, as_tensor


def resize(images: Tensor | np.ndarray, size: int | tuple[int, int]) -> Tensor:
    """Bilinear interpolation of images (N, C, H, W), floating point, to (N, C, *size); no gradient.

    Output row i lies at input row (i + ½) · H / oH − ½, cut off at 0 and H − 1 (PyTorch's ``align_corners=False``)."""
    return interpolate(as_tensor(images).detach(), size, mode="bilinear")
