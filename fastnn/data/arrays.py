"""One's own data, from arrays on disk and from tables of numbers.

Sizes that a file announces are compared with the size it has before memory is allocated; pickles are never loaded."""
import os
import re
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.data.dataset import TensorDataset
from fastnn.data.idx import TIGHTEST, open_bytes, read_idx, read_values
from fastnn.tensor import DTYPES

Path = str | os.PathLike[str]
FLOAT32 = float(np.finfo(np.float32).max)


class ArrayFolder(TensorDataset):
    """Samples from the arrays x and y, each in a file of the folder `path`: sample i is ``(x[i], y[i])``.

    The files are x.npy or images.npy, and y.npy or labels.npy; or IDX files (x.idx, images-idx3-ubyte.gz, …); or `path`
    is an .npz file of two such arrays. `mmap` maps .npy and unpacked IDX files in the machine's byte order into memory,
    read-only, so that they may be larger. Raises ValueError, naming the file, if one is missing, unsound or unequal.

    >>> np.save("x.npy", np.eye(3, dtype=np.float32)), np.save("y.npy", np.array([5, 6, 7]))
    (None, None)
    >>> ArrayFolder(".")[2]
    (tensor([0., 0., 1.]), tensor(7))"""

    def __init__(self, path: Path, mmap: bool = True) -> None:
        self.path, self.mmap = os.fsdecode(path), mmap
        if os.path.isdir(self.path):
            names = [os.path.join(self.path, name) for name in _pick(self.path, os.listdir(self.path))]
            arrays = [self._read(name) for name in names]
        else:
            names, arrays = _read_npz(self.path)
        if len(arrays[0]) != len(arrays[1]):
            raise ValueError(f"{names[0]} has {len(arrays[0])} samples, but {names[1]} has {len(arrays[1])}")
        super().__init__(*(a if layout.sound(a) else layout.contiguous(a) for a in arrays))

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.mmap)  # a copy in another process maps the same files

    def _read(self, path: str) -> np.ndarray:
        if not path.endswith(".npy"):
            return read_idx(path, self.mmap and not path.endswith(".gz"))
        with open(path, "rb") as file:
            return _read_npy(file, path, os.fstat(file.fileno()).st_size, self.mmap)


def _pick(path: str, names: list[str]) -> list[str]:
    """The two of `names` that hold x and y."""
    picked = []
    for stems in ("x", "images"), ("y", "labels"):
        found = [n for n in names if re.fullmatch(rf"({'|'.join(stems)})(\.npy|[.-]idx(\d-ubyte)?(\.gz)?)", n)]
        if len(found) != 1:
            raise ValueError(f"{path}: needs one array named {' or '.join(stems)} (.npy or .idx), not {found}")
        picked += found
    return picked


def _read_npz(path: str) -> tuple[list[str], list[np.ndarray]]:
    import zipfile

    with open(path, "rb") as file:
        try:
            size, archive = os.fstat(file.fileno()).st_size, zipfile.ZipFile(file)
            names = _pick(path, archive.namelist())
            arrays = []
            for info in map(archive.getinfo, names):
                if info.file_size > TIGHTEST * min(info.compress_size, size):
                    raise ValueError(f"{path}: {info.filename} cannot unpack to {info.file_size} bytes")
                with archive.open(info) as member:
                    arrays.append(_read_npy(member, f"{path}: {info.filename}", info.file_size, False))
        except Exception as error:  # whatever a hostile file provokes
            if isinstance(error, ValueError) and path in str(error):
                raise
            raise ValueError(f"{path}: neither a folder nor a sound .npz file: {error!r}") from error
    return [f"{path}: {name}" for name in names], arrays


def _read_npy(file: Any, name: str, size: int, mmap: bool) -> np.ndarray:
    try:
        major, _ = np.lib.format.read_magic(file)
        form = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = form(file)
    except Exception as error:  # whatever a hostile header provokes
        raise ValueError(f"{name}: byte {file.tell()}: not the header of an .npy file: {error!r}") from error
    if dtype.newbyteorder("=") not in DTYPES:
        raise ValueError(f"{name}: its dtype {dtype} is not supported; it may be {', '.join(map(str, DTYPES))}")
    return read_values(file, name, size, dtype, shape, mmap, "F" if fortran else "C", " (1 to 64 dimensions)")


def read_csv(path: Path, target: str | int | None = None, features: Sequence[str] | None = None,
             delimiter: str | None = None) -> TensorDataset:
    """A table of numbers in a text file (`read_table`), as features (N, D) and targets (N, 1), both float32.

    `target` is the column to predict, its name or number from 0, by default the last; `features` are the names of the
    D columns to predict it from, by default all others. The dataset's attributes `features`, a list, and `target` are
    their names. Raises ValueError as `read_table` does, and for columns that are not there.

    >>> with open("houses.csv", "w") as file:
    ...     _ = file.write("rooms,price,year\\n3,250,1970\\n4,310.5,1985\\n")
    >>> houses = read_csv("houses.csv", target="price")
    >>> houses.features, houses[1]
    (['rooms', 'year'], (tensor([   4., 1985.]), tensor([310.5])))"""
    names, table = read_table(path, delimiter)
    if isinstance(target, str) and target not in names and target.isdecimal():
        target = int(target)
    columns = [i for i, name in enumerate(names) if (len(names) - 1 if target is None else target) in (i, name)]
    if len(columns) != 1 or len(names) < 2:
        raise ValueError(f"{os.fsdecode(path)}: target must be one column's name, or its number, of {names} and leave "
                         f"features, got {target!r}")
    x = np.delete(table, columns, 1) if features is None else columns_of(os.fsdecode(path), names, table, features)
    dataset, name = TensorDataset(x, table[:, columns]), names.pop(columns[0])
    dataset.target, dataset.features = name, list(features or names)  # type: ignore[attr-defined]
    return dataset


def columns_of(path: str, names: list[str], table: np.ndarray, wanted: Sequence[str]) -> np.ndarray:
    """The columns of a table that are called `wanted`. ValueError, naming the file, unless each is there once."""
    wrong = [name for name in wanted if names.count(name) != 1]
    if wrong:
        raise ValueError(f"{path}: needs one column each of {list(wanted)}; there is not one {wrong[0]!r} in {names}")
    return table[:, [names.index(name) for name in wanted]]


def read_table(path: Path, delimiter: str | None = None) -> tuple[list[str], np.ndarray]:
    """The names (or else numbers) of the columns and the values (N, columns), float32, of a text file, gzip or not.

    The first line is taken for names if one of its fields is not a number. `delimiter` is by default the comma,
    semicolon or tab of which the first line has most outside quotes. Blank lines are skipped. Raises ValueError, with
    file, line and column, for a field that is missing, not a number or not finite, and for lines of unequal length."""
    import csv
    import io

    path = os.fsdecode(path)
    names: list[str] = []
    values, reader = array("d"), csv.reader(())
    with open_bytes(path) as (file, _, _):
        text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
        lines, head = iter(lambda: text.readline(1 << 24), ""), [""]
        try:
            while not head[-1].strip() and (line := next(lines, "")):
                head.append(line)
            delimiter = delimiter or max(",;\t", key=re.sub('"[^"]*"', "", head[-1]).count)
            reader = csv.reader(chain(head[1:], lines), delimiter=delimiter, strict=True, skipinitialspace=True)
            for row in reader:
                if len(row) < 2 and not "".join(row).strip():
                    continue
                if not names:
                    header = any(field.strip() and _number(field) is None for field in row)
                    names = [field.strip() if header else str(i) for i, field in enumerate(row)]
                    if header:
                        continue
                if len(row) != len(names):
                    raise ValueError(f"{len(row)} fields, but there are {len(names)} columns")
                for name, field in zip(names, row, strict=True):
                    number = _number(field)
                    if number is None or not abs(number) <= FLOAT32:
                        kind = "a number" if number is None else "a finite float32 number"
                        what = f"{field!r:.60} is not {kind}" if field.strip() else "is empty"
                        raise ValueError(f"column {name!r}: {what}")
                    values.append(number)
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{path}: line {reader.line_num}: {error}") from None
        finally:
            text.detach()
    if not values:
        raise ValueError(f"{path}: needs lines of numbers, has none below its {len(names)} columns")
    return names, np.array(values).reshape(-1, len(names)).astype(np.float32)


def _number(field: str) -> float | None:
    try:
        return None if "_" in field else float(field)
    except ValueError:
        return None
