"""The functions behind the transforms of images against PyTorch: padding, flips, sampling, interpolation."""

import numpy as np
import pytest
import torch

import fastnn
from fastnn.data import transforms
from fastnn.nn import functional as F

from .pairs import FLOATS, TOLERANCE, normal

nnF = torch.nn.functional
SAMPLED = {"constant": "zeros", "edge": "border", "symmetric": "reflection"}


def close(ours, theirs, dtype):
    theirs = theirs.numpy()
    scale = max(1.0, np.abs(theirs).max())
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=TOLERANCE[dtype] * scale)
    assert str(ours.dtype) == dtype


def both(a, dtype):
    a = a.astype(dtype)
    return fastnn.tensor(a), torch.from_numpy(a)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode, theirs", [("constant", "constant"), ("edge", "replicate"), ("reflect", "reflect")])
@pytest.mark.parametrize("shape", [(2, 3, 7, 6), (3, 1, 5, 9)])
def test_crop_is_pad(shape, mode, theirs, dtype):
    x, y = both(normal(*shape), dtype)
    padded = nnF.pad(y, (3, 2, 4, 1), theirs, **({"value": 0.5} if mode == "constant" else {}))
    size = tuple(padded.shape[2:])
    for flip, axes in (0, ()), (1, (3,)), (2, (2,)), (3, (2, 3)):
        close(F.crop_images(x, -4, -3, size, flip, mode, 0.5), padded.flip(axes), dtype)
    part = padded[:, :, 2:7, 1:6]
    close(F.crop_images(x, -2, -2, tuple(part.shape[2:]), 0, mode, 0.5), part, dtype)


def in_pixels(theta, size_in, size):
    """grid_sample's map between positions from −1 to 1 as one between pixels."""
    (H, W), (h, w) = size_in, size
    to = np.array([[2 / w, 0, -1], [0, 2 / h, -1], [0, 0, 1]])
    back = np.array([[W / 2, 0, W / 2], [0, H / 2, H / 2]])
    return back @ np.concatenate([theta, np.broadcast_to([[[0, 0, 1]]], (len(theta), 1, 3))], 1) @ to


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", SAMPLED)
@pytest.mark.parametrize("shape, size", [((4, 3, 7, 6), (7, 6)), ((4, 1, 5, 9), (8, 4)), ((3, 6, 1, 3), (2, 5))])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_affine_is_grid_sample(shape, size, mode, dtype, spread):
    x, y = both(normal(*shape), dtype)
    theta = np.array([[1.0, 0, 0], [0, 1, 0]]) + spread * normal(shape[0], 2, 3, seed=spread)
    grid = nnF.affine_grid(torch.from_numpy(theta), (*shape[:2], *size), align_corners=False)
    want = nnF.grid_sample(y.double(), grid, "bilinear", SAMPLED[mode], align_corners=False)
    close(F.affine_images(x, in_pixels(theta, shape[2:], size), size, mode), want, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [(3, 4), (14, 9), (7, 6), (1, 1), (20, 3)])
def test_resize_is_interpolate(size, dtype):
    x, y = both(normal(2, 3, 7, 6), dtype)
    want = nnF.interpolate(y, size=size, mode="bilinear", align_corners=False)
    close(transforms.Resize(size)(x), want, dtype)


def test_turn_is_affine_grid():
    """On a square image a rotation is the same map in both units."""
    x, y = both(normal(2, 3, 8, 8), "float64")
    a = np.radians(25)
    theta = torch.tensor([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0]]).expand(2, 2, 3)
    want = nnF.grid_sample(y, nnF.affine_grid(theta, y.shape, align_corners=False), align_corners=False)
    close(transforms.RandomRotation((25, 25))(x), want, "float64")
