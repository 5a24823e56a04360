"""Data sets by name or path, as the command line takes them."""
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.data.arrays import ArrayFolder, read_csv
from fastnn.data.dataset import TensorDataset, random_split, stratified_split, targets_of
from fastnn.data.folder import ImageFolder
from fastnn.data.standard import cifar10, cifar100, digits, fashion_mnist, mnist

MEMORY = 2**30  # bytes; pictures that take less are all decoded at the start


def _digits(train: bool, root: Any, download: bool) -> TensorDataset:
    """The digits as pictures would have them: uint8."""
    images, labels = digits(train).tensors
    return TensorDataset(np.rint(images.array * 255).astype(np.uint8), labels, classes=[*map(str, range(10))])


STANDARD = {"digits": _digits, "fashion_mnist": fashion_mnist, "mnist": mnist, "cifar10": cifar10, "cifar100": cifar100}
NAMES, FROM_FILES = tuple(STANDARD), tuple(STANDARD)[1:]


def open_data(name: str, parts: Sequence[str] = ("train", "test"), *, root: Any = None, download: bool = False,
              size: Any = "auto", channels: int | None = None, shape: tuple[int, ...] | None = None,
              classes: Sequence[str] | None = None, target: str | int | None = None,
              features: Sequence[str] | None = None, num_workers: int = 2) -> list[Any]:
    """The `parts` of the data `name`: datasets of samples and targets.

    `name`: one of `NAMES` (`root`, `download`: see `mnist`); a folder of pictures, see `ImageFolder` (`size`,
    `channels`); a folder with arrays or an .npz file, see `ArrayFolder`; a .csv file, see `read_csv` (`target`,
    `features`). A folder may have the two parts as folders `train` and `test`; else a fifth, of each class if there are
    classes, is cut off to test with, always the same. Pictures, decoded by `num_workers` threads, get `shape` and
    `classes`, or those of the first part. ValueError or OSError name the file, also for empty parts, or the option."""
    found: list[Any] = []
    pictures: Any = None
    if (root is not None or download) and name not in FROM_FILES:
        raise ValueError(f"{name}: root and download are for {', '.join(FROM_FILES)} only")
    if name in STANDARD:
        found = [STANDARD[name](part == "train", root, download) for part in parts]
    elif not os.path.exists(name):
        raise FileNotFoundError(f"there are no data {name!r}: it is no file, no folder and none of {', '.join(NAMES)}")
    else:
        divided = all(os.path.isdir(os.path.join(name, part)) for part in ("train", "test"))
        for path in [os.path.join(name, part) for part in parts] if divided else [name]:
            if os.path.isfile(path) and not path.endswith(".npz"):
                found.append(read_csv(path, target, features))
            elif os.path.isfile(path) or any(re.match(r"(x|images)(\.npy|[.-]idx)", file) for file in os.listdir(path)):
                found.append(ArrayFolder(path))
            else:
                if shape is not None and len(shape) == 3:
                    size, channels = shape[1:], shape[0]
                pictures = ImageFolder(path, size, channels, classes)
                fits = len(pictures) * math.prod(pictures.shape) <= MEMORY
                found.append(pictures.load(num_workers) if fits else pictures)
                shape, classes = pictures.shape, pictures.classes
        if not divided:
            targets = targets_of(found[0])
            labels = targets.ndim == 1 and targets.dtype.kind in "iu"
            both = (stratified_split(found[0], 0.2, generator=0) if labels else
                    random_split(found[0], [0.8, 0.2], generator=0))
            found = [both[part == "test"] for part in parts]
    if (size != "auto" or channels) and not isinstance(pictures, ImageFolder):
        raise ValueError(f"{name}: size and channels can be chosen for folders of pictures only")
    if target is not None and columns_of(found[0])[1] is None:
        raise ValueError(f"{name}: target can be chosen for tables (.csv) only")
    for part, dataset in zip(parts, found, strict=True):
        if len(dataset) == 0:
            raise ValueError(f"{name} has no samples for its part {part!r}")
    return found


def shape_of(dataset: Any) -> tuple[int, ...]:
    """The shape of one sample."""
    return dataset[0][0].shape


def columns_of(dataset: Any) -> tuple[list[str] | None, str | None]:
    """The names of the features and of the target, of data from a table."""
    return getattr(dataset, "features", None), getattr(dataset, "target", None)
