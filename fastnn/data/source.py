"""Data sets by name or path, as the command line takes them."""
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.data.arrays import ArrayFolder, read_csv
from fastnn.data.dataset import Subset, TensorDataset, random_split, stratified_split, targets_of
from fastnn.data.digits import digits
from fastnn.data.folder import ImageFolder
from fastnn.data.standard import cifar10, cifar100, fashion_mnist, mnist

STANDARD = {"fashion_mnist": fashion_mnist, "mnist": mnist, "cifar10": cifar10, "cifar100": cifar100}
NAMES = ("digits", *STANDARD)
MEMORY = 2**30  # bytes; pictures that take less are all decoded at the start


def open_data(name: str, train: bool, *, root: Any = None, download: bool = False, size: Any = "auto",
              channels: int | None = None, target: str | int | None = None, shape: tuple[int, ...] | None = None,
              classes: Sequence[str] | None = None, num_workers: int = 2) -> Any:
    """The training or the test part of the data `name`: a dataset of samples and targets.

    `name`: one of `NAMES` (`root`, `download`: see `mnist`); a folder of pictures, see `ImageFolder`; a folder with
    arrays or an .npz file, see `ArrayFolder`; a .csv file, see `read_csv` (`target`). A folder may have the two parts
    as folders `train` and `test`; else a fifth, of each class if there are classes, is cut off to test with, always the
    same. `shape` and `classes` are those of the training part, which the test part must have. `num_workers` threads
    decode pictures. Raises ValueError or OSError, which name the file."""
    if name == "digits":
        part = digits(train)
        pixels = np.rint(part.tensors[0].array * 255).astype(np.uint8)  # as a picture would have them
        part = TensorDataset(pixels, part.tensors[1])
        part.classes = [str(i) for i in range(10)]
        return part
    if name in STANDARD:
        return STANDARD[name](train, root, download)
    if not os.path.exists(name):
        raise FileNotFoundError(f"there are no data {name!r}: it is no file, no folder and none of {', '.join(NAMES)}")
    folder = os.path.join(name, "train" if train else "test")
    divided = os.path.isdir(os.path.join(name, "train")) and os.path.isdir(os.path.join(name, "test"))
    path = folder if divided else name
    dataset: Any
    if os.path.isfile(path) and not path.endswith(".npz"):
        dataset = read_csv(path, target)
    elif os.path.isfile(path) or any(re.match(r"(x|images)(\.npy|[.-]idx)", entry) for entry in os.listdir(path)):
        dataset = ArrayFolder(path)
    else:
        size, channels = (size, channels) if shape is None else (shape[1:], shape[0])
        pictures = ImageFolder(path, size, channels, classes)
        dataset = pictures.load(num_workers) if len(pictures) * math.prod(pictures.shape) <= MEMORY else pictures
    if divided:
        return dataset
    targets = targets_of(dataset)
    if targets.ndim == 1 and targets.dtype.kind in "iu":
        return stratified_split(dataset, 0.2, generator=0)[not train]
    return random_split(dataset, [0.8, 0.2], generator=0)[not train]


def shape_of(dataset: Any) -> tuple[int, ...]:
    """The shape of one sample."""
    return dataset[0][0].shape


def in_memory(dataset: Any) -> bool:
    """Whether its batches are mere copies."""
    return not isinstance(_whole(dataset), ImageFolder)


def features_of(dataset: Any) -> list[str] | None:
    """The names of the features, of data from a table."""
    return getattr(_whole(dataset), "features", None)


def _whole(dataset: Any) -> Any:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset
