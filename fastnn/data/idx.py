"""IDX files, the format of MNIST: 0, 0, a dtype, the number of dimensions, their sizes as uint32, then the values in C
order, all big-endian. Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998.

Nothing that a file says is believed before its size bears it out: no array is allocated that the file cannot fill."""
import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
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


def read_idx(path: str | os.PathLike[str], mmap: bool = False) -> np.ndarray:
    """The array in the IDX file `path`, compressed by gzip or not, in the machine's byte order.

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
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in DTYPES or not 1 <= head[3] <= 64:
            raise ValueError(f"{path}: byte 0: an IDX file begins with 0, 0, a dtype of 8, 9, 11 to 14 and 1 to 64 "
                             f"dimensions, this one with {[*head]}")
        dtype, offset = np.dtype(DTYPES[head[2]]), 4 + 4 * head[3]
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
