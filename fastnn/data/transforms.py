"""Augmentation and preparation of images, a whole batch at a time.

A transform is called with images (N, C, H, W) or one image (C, H, W), float32 or float64, and returns a Tensor of that
dtype; called with labels too, it returns both. Random transforms draw for each image anew, from `generator` (a seed, a
NumPy generator, or None for fastnn's own, `manual_seed`): the same generator gives the same images. Gradients do not
pass. A subclass defines `apply`, for images alone, or `mix`, if labels change too."""
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.data.dataset import Seed, as_generator
from fastnn.errors import DTypeError, ShapeError
from fastnn.tensor import Array, Tensor, as_tensor


class Transform:
    """Base class: a subclass defines `apply(images, rng)`, from and to float images (N, C, H, W), channels-last.

    ``transform(images, labels=None, generator=None)``. Raises DTypeError for images that are not floating point (see
    `ToFloat`), ShapeError unless they are (N, C, H, W) or (C, H, W)."""

    def __call__(self, images: Any, labels: Any = None, generator: Seed = None) -> Any:
        a = as_tensor(images).array
        if a.ndim not in (3, 4):
            raise ShapeError(f"{type(self).__name__}: images must be (N, C, H, W) or (C, H, W), got {a.shape}")
        batch = self.prepare(a if a.ndim == 4 else a[None])
        y = None if labels is None else as_tensor(labels).array
        out, y = self.mix(batch, y, as_generator(generator))
        out = Tensor(out if a.ndim == 4 else out[0])
        return out if y is None else (out, Tensor(y))

    def prepare(self, images: Array) -> Array:
        """The images as `apply` takes them."""
        if images.dtype.char not in "fd":
            raise DTypeError(f"{type(self).__name__}: images must be float32 or float64, but are {images.dtype}; put "
                             "ToFloat() first")
        return layout.channels_last(images)

    def mix(self, images: Array, labels: Array | None, rng: np.random.Generator) -> tuple[Array, Array | None]:
        """Images and labels, transformed; here the labels stay as they are."""
        return self.apply(images, rng), labels

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        """The images (N, C, H, W), transformed; may return them themselves, but not write into them."""
        raise NotImplementedError(f"{type(self).__name__} does not define apply")


class Compose(Transform):
    """The transforms one after another, drawing from one generator."""

    def __init__(self, transforms: list[Transform]) -> None:
        self.transforms = list(transforms)

    def prepare(self, images: Array) -> Array:
        return self.transforms[0].prepare(images) if self.transforms else images

    def mix(self, images: Array, labels: Array | None, rng: np.random.Generator) -> tuple[Array, Array | None]:
        for i, transform in enumerate(self.transforms):
            images, labels = transform.mix(images if i == 0 else transform.prepare(images), labels, rng)
        return images, labels


class ToFloat(Transform):
    """uint8 images from 0 to 255 as float32 from 0 to 1; float images pass as they are.

    >>> ToFloat()(np.full((1, 1, 1, 2), 51, np.uint8))
    tensor([[[[0.2000, 0.2000]]]])
    """

    def prepare(self, images: Array) -> Array:
        return images if images.dtype == np.uint8 else super().prepare(images)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        if images.dtype != np.uint8:
            return images
        out = layout.empty(images.shape, np.float32, True)
        return np.multiply(images, np.float32(1 / 255), out, dtype=np.float32)
