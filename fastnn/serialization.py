"""Saving and loading: one safetensors file, whose metadata holds the structure around the tensors. Nothing is executed.

A tensor is stored C-contiguous under the path to it, joined by dots, so that a state dict becomes an ordinary
safetensors file with PyTorch's keys. The metadata entry "fastnn" is JSON in which None, bools, ints, finite floats and
strings stand for themselves and all else is an object of one key: {"tensor": name}, {"dict": [[key, value], …]},
{"list": […]}, {"tuple": […]} or {"float": "nan"}."""
import contextlib
import glob
import json
import math
import os
import reprlib
import secrets
from typing import Any, BinaryIO

import numpy as np

from fastnn import layout
from fastnn.device import device
from fastnn.errors import CheckpointError
from fastnn.tensor import Tensor

Path = str | os.PathLike[str]
RESERVED = "__metadata__"  # the one name that a safetensors file does not leave to its tensors
LIMIT = 100_000_000  # bytes of a header, by the format
NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "complex64": "C64", "bool": "BOOL", "int64": "I64",
         "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"}
DTYPES = {name: np.dtype(dtype) for dtype, name in NAMES.items()}


def save(obj: Any, path: Path) -> None:
    """Write `obj` to the file `path`, wholly or not at all: a failure at any point, also of the power, leaves an older
    file as it was. What a killed process left behind, `.NAME.….tmp`, the next save to `path` removes.

    `obj`: dicts, lists and tuples, nested, of tensors, None, bools, ints, floats and strings; keys may be all of these
    but tensors. Raises TypeError, saying where, for other things, ValueError if it holds itself or `path` is no file.

    >>> fastnn.save({"model": {"weight": fastnn.ones(2)}, "epoch": 3}, "checkpoint.safetensors")
    >>> fastnn.load("checkpoint.safetensors")
    {'model': {'weight': tensor([1., 1.])}, 'epoch': 3}"""
    arrays: dict[str, np.ndarray] = {}
    try:
        structure = json.dumps({"version": 1, "root": _encode(obj, (), arrays)}, allow_nan=False)
    except RecursionError:
        raise ValueError("save: the object contains itself or is nested too deeply") from None
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))  # so that all are aligned in the file
    header = _header(arrays, structure)
    target = os.path.realpath(os.fsdecode(path))  # a link stays, and the file behind it is replaced
    _check_kind("save", target)
    folder, name = os.path.split(target)
    sweep(folder, glob.escape(f"{name:.64}"))
    temporary, file = _create(f"{folder}/.{name:.64}")
    try:
        with file:
            file.write(header)
            for a in arrays.values():
                file.write(layout.contiguous(a).data)  # one at a time: there is no copy of all
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)  # locked until then
        entries = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entries)  # only now the new name survives a failure of the power
        finally:
            os.close(entries)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = target  # a full disk does not say which
        raise


def sweep(folder: str, names: str) -> None:
    """Remove the temporary files that killed processes left in `folder` when they saved files whose names match the
    glob pattern `names`. Those of living processes are locked, and stay."""
    for path in glob.glob(f"{glob.escape(folder)}/.{names}.{'[0-9a-f]' * 12}.tmp"):
        with contextlib.suppress(ImportError, OSError), open(path, "rb") as file:
            from fcntl import LOCK_EX, LOCK_NB, flock

            flock(file, LOCK_EX | LOCK_NB)
            os.unlink(path)


def load(path: Path, map_location: Any = None, weights_only: bool = True) -> Any:
    """What `save` wrote to the file `path`; of a safetensors file of other origin a flat dict of its tensors.

    Reading a file executes nothing, whoever made it, also if not `weights_only`, and takes no memory for tensors that
    are not in it. `map_location` can only be the CPU. Raises OSError if the file cannot be read, CheckpointError (a
    ValueError) that names the defect if it is truncated, corrupt, or no safetensors file of NumPy's dtypes."""
    device(map_location or "cpu")
    path = os.fsdecode(path)
    _check_kind("load", path)
    with open(path, "rb") as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size - 8)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"load: {path} is corrupt, or no safetensors file: {error}") from error


def _check_kind(name: str, path: str) -> None:
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise CheckpointError(f"{name}: {path} is a device, pipe or socket, but a file is needed")


def _create(start: str) -> tuple[str, BinaryIO]:
    """A new temporary file, locked so that no other process sweeps it: its path, which begins with `start`, and it."""
    path = f"{start}.{secrets.token_hex(6)}.tmp"
    file = open(path, "xb", 1 << 20)  # noqa: SIM115  # has a new file's permissions
    with contextlib.suppress(ImportError, OSError):  # where files cannot be locked, they are not swept either
        from fcntl import LOCK_EX, flock

        flock(file, LOCK_EX)
    if os.path.exists(path):
        return path, file
    file.close()
    return _create(start)  # it was swept before it was locked


def _header(arrays: dict[str, np.ndarray], structure: str) -> bytes:
    """What stands before the bytes of `arrays` in the file: the header's length and the header."""
    entries: dict[str, Any] = {RESERVED: {"fastnn": structure}}
    end = 0
    for name, a in arrays.items():
        entries[name] = {"dtype": NAMES[a.dtype.name], "shape": a.shape, "data_offsets": [end, end := end + a.nbytes]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LIMIT:
        raise ValueError(f"save: all but the tensors takes {len(text)} bytes, and {LIMIT} are allowed: take tensors")
    return len(text).to_bytes(8, "little") + text


def _read(file: BinaryIO, size: int) -> Any:
    """The value in `file`, which has `size` bytes after the first 8. No more memory is taken than there are bytes."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, LIMIT):
        raise ValueError(f"its header should have {length} bytes, but {max(size, 0)} are there, {LIMIT} allowed")
    header, size, position = _parse(file.read(length).decode(), "header"), size - length, 0
    metadata = header.pop(RESERVED, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"its metadata is no table of texts, but {reprlib.repr(metadata)}")
    tensors: dict[str, Tensor] = {}
    for begin, end, name, dtype, shape in sorted(_entry(*item) for item in header.items()):
        if begin != position or end > size:
            raise ValueError(f"bytes {begin} to {end} of tensor {name!r:.80}: {position} to {size}, the end, are left")
        a, position = layout.empty(shape, dtype), end
        if file.readinto(a) != a.nbytes or (dtype.kind == "b" and a.view(np.uint8).max(initial=0) > 1):  # type: ignore
            raise ValueError(f"tensor {name!r:.80} was cut off while it was read, or its bools are not all 0 or 1")
        tensors[name] = Tensor(a)
    if position < size:
        raise ValueError(f"its last {size - position} bytes belong to no tensor")
    if "fastnn" not in metadata:
        return tensors
    match _parse(metadata["fastnn"], "structure"):
        case {"version": 1, "root": root, **rest} if not rest:
            value = _decode(root, tensors)
            if not tensors:
                return value
            raise ValueError(f"its structure has no place for tensor {next(iter(tensors))!r:.80}")
    raise ValueError("its structure is not of version 1, the only one that this fastnn knows")


def _entry(name: str, entry: Any) -> tuple[int, int, str, np.dtype, tuple[int, ...]]:
    """First byte, end, name, dtype and shape of the tensor that an entry of the header describes."""
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [begin, end], **rest} if (
                kind in DTYPES and not rest and all(type(n) is int and n >= 0 for n in (*shape, begin, end))
                and len(shape) <= 64 and math.prod(n or 1 for n in shape) < 2**60  # NumPy's limits
                and math.prod(shape) * DTYPES[kind].itemsize == end - begin):
            return begin, end, name, DTYPES[kind], tuple(shape)
    raise ValueError(f"tensor {name!r:.80} needs NumPy's dtype, sizes and as many bytes, but has {reprlib.repr(entry)}")


def _parse(text: str, what: str) -> dict[str, Any]:
    """The JSON object `text`, in which no key may be there twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(result := dict(pairs)) < len(pairs):
            raise ValueError(f"a key is there twice in {reprlib.repr([key for key, _ in pairs])}")
        return result

    try:
        if text.startswith("{"):
            return json.loads(text, object_pairs_hook=unique, parse_constant=int)  # int refuses NaN
        raise ValueError(f"it begins with {text[:9]!r}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {what} is no good JSON: {error}") from None


def _encode(value: Any, path: tuple, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON; its tensors go to `arrays` under the names that the JSON gives."""
    if value is None or isinstance(value, (int, str)):  # bool is an int
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, Tensor):
        if value.array.dtype.name not in NAMES:
            raise TypeError(f"save: {_place(path)} has dtype {value.array.dtype}; there are {', '.join(NAMES)}")
        name = ".".join(map(str, path)).encode(errors="replace").decode() or "tensor"
        while name in arrays or name == RESERVED:  # {"a": {"b": x}, "a.b": y}
            name += "~"
        arrays[name] = value.array
        return {"tensor": name}
    if isinstance(value, dict):
        for key in value:
            if not _is_key(key):
                raise TypeError(f"save: a key of {_place(path)} is a {type(key).__name__}, not None, a str, a float or "
                                "an int below 2**60")
        return {"dict": [[_encode(k, path, arrays), _encode(v, (*path, k), arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(v, (*path, i), arrays) for i, v in enumerate(value)]}
    raise TypeError(f"save: {_place(path)} is a {type(value).__name__}; only tensors, dicts, lists, tuples, None, "
                    "bools, ints, floats and strings can be saved")


def _place(path: tuple) -> str:
    return "obj" + "".join(f"[{key!r}]" for key in path)


def _is_key(key: Any) -> bool:
    return key is None or isinstance(key, (float, str)) or (isinstance(key, int) and abs(key) < 2**60)  # hash to itself


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    """The value that `_encode` made `node` of; its tensors are taken out of `tensors`."""
    if node is None or isinstance(node, (int, float, str)):
        return node
    match list(node.items()) if isinstance(node, dict) else node:
        case [("tensor", str(name))] if name in tensors:
            return tensors.pop(name)
        case [("float", "nan" | "inf" | "-inf" as text)]:
            return float(text)
        case [("list" | "tuple" as kind, list(nodes))]:
            return {"list": list, "tuple": tuple}[kind](_decode(v, tensors) for v in nodes)
        case [("dict", list(pairs))] if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            keys = [_decode(k, tensors) for k, _ in pairs]
            if all(map(_is_key, keys)) and len(set(keys)) == len(keys):
                return {key: _decode(v, tensors) for key, (_, v) in zip(keys, pairs, strict=True)}
    raise ValueError(f"its structure has a part without meaning, or a key or tensor twice: {reprlib.repr(node)}")
