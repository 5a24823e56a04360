"""The data sets that people know by name: MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100, and the digits that ship.

Each function returns the training part, or with `train=False` the test part, as a TensorDataset of images, uint8
(N, C, H, W), and labels, int64 (N,), whose attribute `classes` lists the names of the labels.

Files are looked for in `root` if it is given, else in the folder that the environment variable FASTNN_DATA names, where
Debian keeps Fashion-MNIST, and in ~/.cache/fastnn ($XDG_CACHE_HOME/fastnn); in each first in sub-folders with the data
set's name, torchvision's spelling among them, then in the folder itself. `download=True` fetches what is found nowhere
into the sub-folder of `root` or of the cache. Files may hold fewer images than the originals.

Raises FileNotFoundError, with the places looked in, if there are none; ValueError, with file and byte, for bad ones."""
import json
import os
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.data.arrays import open_bytes, read_idx
from fastnn.data.dataset import TensorDataset
from fastnn.data.download import download as fetch

Path = str | os.PathLike[str] | None
UNPACKED = 1 << 30  # bytes that an archive may hold; CIFAR's hold 0.19e9

with open(os.path.join(os.path.dirname(__file__), "standard.json"), encoding="utf-8") as _file:
    SETS: dict[str, dict[str, Any]] = json.load(_file)  # name: folders, urls, files of each part, labels in a record, …


def digits(train: bool = True) -> TensorDataset:
    """Handwritten digits, 8×8 pixels: 1437 images to train on, or (`train=False`) 360 others to test with.

    Images are (N, 1, 8, 8), float32 from 0 (paper) to 1 (ink), labels (N,), int64. The split is fixed and stratified.
    Take validation images from the training part (:func:`stratified_split`); score the test part once, at the end.

    Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
    doi 10.24432/C50P49, CC BY 4.0: the 1797 images of its own test part, in the 17 grey levels of the original."""
    with np.load(os.path.join(os.path.dirname(__file__), "digits.npz"), allow_pickle=False) as file:
        part = slice(file["n_train"]) if train else slice(file["n_train"], None)
        return TensorDataset(file["images"][part, None].astype(np.float32) / 16, file["labels"][part].astype(np.int64))


def mnist(train: bool = True, root: Path = None, download: bool = False) -> TensorDataset:
    """Handwritten digits: 60,000 images (1, 28, 28) to train on, 10,000 to test with, from 0 (paper) to 255 (ink).

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998."""
    return _mnist("mnist", train, root, download)


def fashion_mnist(train: bool = True, root: Path = None, download: bool = False) -> TensorDataset:
    """Articles of clothing in MNIST's form: 60,000 images (1, 28, 28) to train on, 10,000 to test with.

    Debian's package dataset-fashion-mnist has them. Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image
    dataset for benchmarking machine learning algorithms", 2017, arXiv 1708.07747."""
    return _mnist("fashion_mnist", train, root, download)


def cifar10(train: bool = True, root: Path = None, download: bool = False) -> TensorDataset:
    """Photographs of 10 classes: 50,000 images (3, 32, 32), RGB, to train on, 10,000 to test with; channels-last.

    The binary version, unpacked or not: Krizhevsky, "Learning multiple layers of features from tiny images", 2009."""
    return _cifar("cifar10", train, root, download)


def cifar100(train: bool = True, root: Path = None, download: bool = False, coarse: bool = False) -> TensorDataset:
    """As :func:`cifar10` with 100 classes, or (`coarse`) the 20 kinds that they belong to."""
    return _cifar("cifar100", train, root, download, int(not coarse))


def _mnist(name: str, train: bool, root: Path, download: bool) -> TensorDataset:
    files, (classes,) = _find(name, train, root, download), SETS[name]["labels"]
    images, labels = map(read_idx, files)
    for path, array, shape in zip(files, (images, labels), ((len(images), 28, 28), (len(images),)), strict=True):
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"{path}: byte 0: needs uint8 values of shape {shape}, got {array.dtype} {array.shape}")
    _check_labels(files[1], labels, len(classes), 8, 1)
    return TensorDataset(images[:, None], labels.astype(np.int64), classes=classes)


def _cifar(name: str, train: bool, root: Path, download: bool, kind: int = 0) -> TensorDataset:
    """From records of a label of each kind, then 3·32·32 bytes, red, green, blue; `kind` is the label wanted."""
    found, kinds = _find(name, train, root, download), SETS[name]["labels"]
    packed, size = found[0].endswith(".gz"), len(kinds) + 3072
    parts = (_unpack(found[0], SETS[name]["train" if train else "test"]) if packed else
             {path: np.fromfile(path, np.uint8) for path in found})
    for path, data in parts.items():
        if len(data) % size:
            raise ValueError(f"{path}: byte {len(data)}: the file ends, but records need {size} bytes each")
        for i, names in enumerate(kinds):
            _check_labels(path, data[i::size], len(names), i, size)
    records = [data.reshape(-1, size) for data in parts.values()]
    images = layout.empty((sum(map(len, records)), 3, 32, 32), np.uint8, True)
    np.concatenate([part[:, len(kinds) :].reshape(-1, 3, 32, 32) for part in records], out=images)
    labels = np.concatenate([part[:, kind] for part in records], dtype=np.int64)
    return TensorDataset(images, labels, classes=kinds[kind])


def _check_labels(path: str, labels: np.ndarray, n: int, start: int, step: int) -> None:
    wrong = np.flatnonzero(labels >= n)
    if len(wrong):
        raise ValueError(f"{path}: byte {start + step * wrong[0]}: label {labels[wrong[0]]}, but there are {n} classes")


def _unpack(path: str, wanted: list[str]) -> dict[str, np.ndarray]:
    """The bytes of the files called `wanted`, in that order, out of the tar archive `path`."""
    import tarfile

    parts = {}
    with open_bytes(path) as (file, _, _):
        def read(size: int) -> bytes:
            if file.tell() > UNPACKED:
                raise ValueError(f"it holds more than {UNPACKED} bytes")
            return file.read(size)

        try:
            with tarfile.open(fileobj=SimpleNamespace(read=read), mode="r|", bufsize=1 << 16) as archive:  # type: ignore
                for member in archive:  # as a stream: nothing is read twice, and no offset is believed
                    name = os.path.basename(member.name)
                    if name in wanted and member.isreg() and not member.issparse() and 0 <= member.size <= UNPACKED:
                        parts[name] = np.frombuffer(archive.extractfile(member).read(), np.uint8)  # type: ignore
            while read(1 << 16):  # to the sum that gzip keeps
                pass
        except OSError:
            raise
        except Exception as error:  # whatever a hostile file provokes
            raise ValueError(f"{path}: corrupt tar archive: {error}") from error
    if len(parts) < len(wanted):
        raise ValueError(f"{path}: {', '.join(name for name in wanted if name not in parts)} not in the archive")
    return {f"{path}: {name}": parts[name] for name in wanted}


def _find(name: str, train: bool, root: Path, download: bool) -> list[str]:
    """The files of a part, or the archives with both, that are whole in some folder; what has a checksum is fetched."""
    known = SETS[name]
    files = known["train" if train else "test"]
    ways = [files] if files[0] in known["sha256"] else [files, [*known["sha256"]]]
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fastnn")
    given = [root] if root is not None else [os.environ.get("FASTNN_DATA") or None, *known.get("places", ()), cache]
    bases = [os.path.expanduser(os.fsdecode(base)) for base in given if base is not None]
    for folder in (os.path.join(base, sub) for base in bases for sub in (*known["folders"], "")):
        for way in ways:
            if all(found := [_spelling(folder, file) for file in way]):
                return found  # type: ignore[return-value]
    if not download:
        raise FileNotFoundError(f"{name}: {' and '.join(ways[-1])} not found in {', '.join(bases)}, nor there in "
                                f"{', '.join(known['folders'])}; pass download=True, or set FASTNN_DATA or root to the "
                                f"folder that has them{known.get('package', '')}")
    folder = os.path.join(bases[-1], name)
    for file in ways[-1]:
        for url in known["urls"] if not _spelling(folder, file) else ():
            try:
                fetch(url + file, os.path.join(folder, file), known["sha256"][file])
                break
            except (OSError, ValueError):
                if url == known["urls"][-1]:
                    raise
    return [_spelling(folder, file) or file for file in ways[-1]]


def _spelling(folder: str, file: str) -> str | None:
    """The path of `file` in `folder`; an IDX file may be unpacked, and its name have a dot before idx."""
    stems = [file.removesuffix(".gz"), file.removesuffix(".gz").replace("-idx", ".idx")]
    names = [stem + end for stem in stems for end in ("", ".gz")] if "-idx" in file else [file]
    return next(filter(os.path.isfile, (os.path.join(folder, name) for name in names)), None)
