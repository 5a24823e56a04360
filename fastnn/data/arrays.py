"""One's own data, from arrays on disk and from tables of numbers.

Nothing that a file says is believed before its size bears it out: no array is allocated that the file cannot fill.
Pickles are never loaded."""
import contextlib
import math
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.data.dataset import TensorDataset
from fastnn.tensor import DTYPES

Path = str | os.PathLike[str]
FLOAT32 = float(np.finfo(np.float32).max)
IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
TIGHTEST = 1032  # bytes that one byte of a deflate stream can unpack to, at most


@contextlib.contextmanager
def open_bytes(path: str) -> Iterator[tuple[Any, int, bool]]:
    """The file `path`, unpacked as it is read if it begins like a gzip file; its own size in bytes; whether it is gzip.

    Raises ValueError, naming the file, if reading meets a corrupt or truncated gzip stream."""
    import gzip
    import zlib

    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            yield gzip.GzipFile(fileobj=file) if packed else file, os.fstat(file.fileno()).st_size, packed
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path}: corrupt gzip file: {error}") from error


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


def read_idx(path: str | os.PathLike[str], mmap: bool = False) -> np.ndarray:
    """The array in the IDX file `path`, compressed by gzip or not, in the machine's byte order.

    IDX is the format of MNIST: 0, 0, a dtype, the number of dimensions, their sizes as uint32, then the values in C
    order, all big-endian. Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998.

    `mmap=True` maps a file that is not compressed into memory, read-only, so that it may be larger than that; its
    values stay big-endian. Raises ValueError, with the file and the byte at which it goes wrong, for any other file.

    >>> with open("labels.idx", "wb") as file:
    ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))  # uint8, 1 dimension of size 3
    >>> read_idx("labels.idx")
    array([7, 2, 1], dtype=uint8)"""
    path = os.fsdecode(path)
    with open_bytes(path) as (file, size, packed):
        if packed and mmap:
            raise ValueError(f"{path}: a gzip file cannot be mapped into memory: unpack it, or pass mmap=False")
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_DTYPES or not 1 <= head[3] <= 64:
            raise ValueError(f"{path}: byte 0: an IDX file begins with 0, 0, a dtype of 8, 9, 11 to 14 and 1 to 64 "
                             f"dimensions, this one with {[*head]}")
        dtype, offset = np.dtype(IDX_DTYPES[head[2]]), 4 + 4 * head[3]
        sizes = file.read(offset - 4)
        if len(sizes) < offset - 4:
            raise ValueError(f"{path}: byte {4 + len(sizes)}: the file ends, but the sizes of its {head[3]} dimensions "
                             f"need {offset} bytes")
        shape = tuple(np.frombuffer(sizes, ">u4").tolist())
        out = read_values(file, path, size, dtype, shape, mmap, packed=packed)
    return out if mmap else out.astype(dtype.newbyteorder("="), copy=False)


def read_values(file: Any, name: str, size: int, dtype: np.dtype, shape: tuple[int, ...], mmap: bool,
                order: str = "C", note: str = "", packed: bool = False) -> np.ndarray:
    """The array that takes the rest of `file`, of `size` bytes. Raises ValueError if it does not."""
    offset, what = file.tell(), f"{dtype.newbyteorder('=')} values of shape {shape}{note}"
    needed = offset + math.prod(shape) * dtype.itemsize
    if not 1 <= len(shape) <= 64 or min(shape) < 0 or math.prod(filter(None, shape)) > 2**59 or (
            needed > size * TIGHTEST if packed else needed != size):
        raise ValueError(f"{name}: byte {min(needed, size)}: {what} need {needed} bytes, the file has {size}"
                         f"{', compressed' * packed}")
    if mmap:
        return np.memmap(file, dtype, "r", offset, shape, order)  # type: ignore[call-overload]
    values = np.empty(math.prod(shape), dtype)
    got = offset + file.readinto(values.view(np.uint8).data)
    if got < needed or file.read(1):  # the read at the end checks the sum that gzip keeps
        end = "the file ends" if got < needed else "bytes are left over"
        raise ValueError(f"{name}: byte {got}: {end}, but {what} need {needed} bytes")
    return values.reshape(shape, order=order)  # type: ignore[call-overload]


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
    if not values:
        raise ValueError(f"{path}: needs lines of numbers, has none below its {len(names)} columns")
    return names, np.array(values).reshape(-1, len(names)).astype(np.float32)


def _number(field: str) -> float | None:
    try:
        return None if "_" in field else float(field)
    except ValueError:
        return None
