"""Pictures in files. Pillow reads them (the extra `image`); pixels are uint8, 0 to 255, and memory is channels-last."""
import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.data.dataset import Dataset, TensorDataset
from fastnn.data.loader import DataLoader
from fastnn.functional.arguments import pair
from fastnn.tensor import Tensor

Path = str | os.PathLike[str]
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
GREY = ("1", "L", "LA", "La", "I", "F")  # Pillow's modes of one channel, beside those with 16 bits, I;16…


def read_image(path: Path, size: int | tuple[int, int] | None = None, channels: int | None = None) -> Tensor:
    """The picture in the file `path` as (C, H, W), uint8: turned upright as its Exif data say, transparency dropped.

    `size`, a side or (H, W): scaled to cover it, with antialiasing, and cropped about the centre. `channels`: 1 (grey)
    or 3 (red, green, blue) converts; by default it is what the file has. Of 16 bits the upper 8 are kept; pixels of 32
    bits or floats, whose range is not known, are refused. Raises OSError if the file cannot be opened; ValueError,
    naming it, if it is no picture that Pillow knows, is truncated or corrupt, or has, as decompression bombs do, more
    pixels than Pillow's ``Image.MAX_IMAGE_PIXELS`` (89 million); ImportError without Pillow."""
    if channels not in (None, 1, 3):
        raise ValueError(f"read_image: channels must be 1, 3 or None, got {channels!r}")
    sizes = None if size is None else pair(size, "read_image", "size", 1)
    with _opened(path) as picture:
        from PIL import Image, ImageOps

        limit, (width, height) = Image.MAX_IMAGE_PIXELS or math.inf, picture.size
        if sizes and math.prod(sizes) > limit:
            raise ValueError(f"size {size} is more than {limit} pixels")
        if width * height > limit:
            raise ValueError(f"{width} × {height} pixels are more than PIL.Image.MAX_IMAGE_PIXELS, {limit}: scale down")
        grey = picture.mode in GREY or picture.mode.startswith("I;") if channels is None else channels == 1
        mode = "L" if grey else "RGB"
        if sizes:
            picture.draft(picture.mode, (max(sizes), max(sizes)))  # a JPEG is decoded at ½, ¼ or ⅛ if that is enough
        ImageOps.exif_transpose(picture, in_place=True)
        if picture.mode == "F" or (picture.mode == "I" and picture.format != "PNG"):
            raise ValueError(f"pixels of mode {picture.mode} have no known range: convert the picture to 8 or 16 bits")
        if picture.mode.startswith("I"):
            picture = Image.fromarray((np.clip(np.asarray(picture), 0, 65535) >> 8).astype(np.uint8))
        elif picture.mode == "P":
            picture = picture.convert("RGBA")
        if picture.mode != mode:
            picture = picture.convert(mode)
        if sizes and picture.size != sizes[::-1]:
            picture = ImageOps.fit(picture, sizes[::-1], Image.Resampling.BILINEAR)
        return Tensor(np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1))


@contextlib.contextmanager
def _opened(path: Path, op: str = "read_image") -> Iterator[Any]:
    """The picture in the file `path`, as Pillow opens it. Whatever goes wrong with it is a ValueError that names it."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("read_image: reading pictures needs Pillow: pip install 'fastnn[image]'") from None
    with open(path, "rb") as file:  # its errors name the file
        try:
            with Image.open(file) as picture:
                yield picture
        except Exception as error:  # Pillow's decoders raise what they like
            raise ValueError(f"{op}: {os.fsdecode(path)}: {str(error) or type(error).__name__}") from error


def pictures_in(folder: str, what: str = "the folder") -> list[str]:
    """The paths of all pictures in a folder, at any depth, sorted; ValueError if there are none."""
    found = sorted(os.path.join(parent, file) for parent, _, files in os.walk(folder) for file in files
                   if file.lower().endswith(EXTENSIONS) and file[0] != ".")
    if not found:
        raise ValueError(f"{what} {folder} has no pictures ({', '.join(EXTENSIONS)})")
    return found


class ImageFolder(Dataset):
    """Pictures of classes: each folder in `root` is a class and holds, at any depth, its pictures (PNG, JPEG, …).

    Sample i is (image (C, H, W), uint8; label, int). They are sorted by class, then by path; `classes` are the folders'
    names, sorted, unless given: then no other folder may be there. All samples have one shape, `shape`: `size` and
    `channels` bring them to it as `read_image` does. Without them all files must be as the first is; with size="auto",
    pictures of different sizes become squares, as long as the median of their shorter sides, at most 224.

    Files are read when they are asked for, by the threads of a DataLoader with `num_workers`; `load` reads them all.
    Raises FileNotFoundError, or ValueError naming the file or the folder: no classes, a class without pictures, a
    picture that cannot be read or differs in shape. After torchvision's; transforms are the DataLoader's."""

    def __init__(self, root: Path, size: int | tuple[int, int] | str | None = None, channels: int | None = None,
                 classes: Sequence[str] | None = None) -> None:
        self.root = os.fsdecode(root)
        if not os.path.isdir(self.root):
            raise FileNotFoundError(f"ImageFolder: there is no folder {self.root}")
        found = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir() and entry.name[0] != ".")
        self.classes = found if classes is None else list(classes)
        if not found or not {*found} <= {*self.classes}:
            raise ValueError(f"ImageFolder: {self.root} must have one folder for each class"
                             f"{'' if classes is None else f' of {self.classes}'}, but has {found or 'no folders'}")
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples = [(file, self.class_to_idx[name]) for name in found
                        for file in pictures_in(os.path.join(self.root, name), "ImageFolder: the class")]
        self.targets = np.array([label for _, label in self.samples])
        if size == "auto":
            sides = [_size(self.samples[i][0]) for i in np.linspace(0, len(self) - 1, min(len(self), 200)).astype(int)]
            size = None if len({*sides}) == 1 else min(224, int(np.median([min(side) for side in sides])))
        self.size = None if size is None else pair(size, "ImageFolder", "size", 1)  # type: ignore[arg-type]
        self.channels = channels
        self.shape = read_image(self.samples[0][0], self.size, channels).shape

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        try:
            image = read_image(path, self.size, self.channels)
            if image.shape != self.shape:
                cure = "channels=1 or 3 converts all" if image.shape[1:] == self.shape[1:] else "size= scales all"
                first = f"{self.samples[0][0]} {self.shape}"
                raise ValueError(f"{path} has the shape (C, H, W) {image.shape}, but {first}; {cure}")
        except Exception as error:
            error.add_note(f"ImageFolder: this was sample {index} of {self.root}")
            raise
        return image, label

    def batch(self, indices: np.ndarray) -> list[Tensor]:
        """Images (N, C, H, W) and labels (N,), int64, of the samples at `indices`."""
        images = layout.empty((len(indices), *self.shape), np.uint8, True)
        for out, i in zip(images, indices.tolist(), strict=True):
            out[...] = self[i][0].array
        return [Tensor(images), Tensor(self.targets[indices])]

    def load(self, num_workers: int = 0) -> TensorDataset:
        """All samples in memory, read by `num_workers` threads or, if 0, by this one."""
        images, end = layout.empty((len(self), *self.shape), np.uint8, True), 0
        for x, _ in DataLoader(self, 64, num_workers=num_workers):
            images[end : (end := end + len(x))] = x.array
        return TensorDataset(images, self.targets, classes=self.classes)


def _size(path: str) -> tuple[int, int]:
    """Width and height as the file's header has them; those of a picture on its side are not swapped."""
    with _opened(path, "ImageFolder") as picture:
        return picture.size
