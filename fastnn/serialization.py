"""Saving and loading: one safetensors file, whose metadata holds the structure around the tensors. Nothing is executed.

A tensor is stored C-contiguous under the path to it, joined by dots, so that a state dict becomes an ordinary
safetensors file with PyTorch's keys. The metadata entry "fastnn" is JSON in which None, bools, ints, finite floats and
strings stand for themselves and all else is an object of one key: {"tensor": name}, {"dict": [[key, value], …]},
{"list": […]}, {"tuple": […]} or {"float": "nan"}."""
import glob
import json
import math
import os
import reprlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def save(obj: Any, path: Path) -> None:
    """Write `obj` to the file `path`, wholly or not at all, see `replacing`.

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
    header: dict[str, Any] = {RESERVED: {"fastnn": structure}}
    end = 0
    for name, a in arrays.items():
        header[name] = {"dtype": NAMES[a.dtype.name], "shape": a.shape, "data_offsets": [end, end := end + a.nbytes]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LIMIT:
        raise ValueError(f"save: all but the tensors takes {len(text)} bytes, and {LIMIT} are allowed: take tensors")
    with replacing(path) as file:  # safetensors' own writers copy all first, or rename a file that is not synchronized
        file.write(len(text).to_bytes(8, "little") + text)
        for a in arrays.values():
            file.write(layout.contiguous(a).data)


def write_file(path: Path, data: bytes) -> None:
    """Put `data` in place of the file `path`, wholly or not at all, see `replacing`."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends: a failure at any point, also of the power, leaves
    the old one as it was. What a killed process leaves, `.NAME.….tmp`, is removed when `path` is written again."""
    target = os.path.realpath(os.fsdecode(path))  # a link stays, and the file behind it is replaced
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"{target} is a device, pipe or socket, or a folder, but a file is to be replaced")
    folder, name = os.path.split(target)
    sweep(folder, glob.escape(f"{name:.64}"))
    file = _create(f"{folder}/.{name:.64}")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, target)  # locked until then
        entries = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entries)  # only now the new name survives a failure of the power
        finally:
            os.close(entries)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(file.name)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = target  # a full disk does not say which
        raise


def sweep(folder: str, names: str) -> None:
    """Remove the temporary files that killed processes left in `folder` when they saved files whose names match the
    glob pattern `names`. Those of living processes are locked, and stay."""
    for path in glob.glob(f"{glob.escape(folder)}/.{names}.{'[0-9a-f]' * 12}.tmp"):
        with suppress(ImportError, OSError), open(path, "rb") as file:
            from fcntl import LOCK_EX, LOCK_NB, flock

            flock(file, LOCK_EX | LOCK_NB)
            os.unlink(path)


def _create(start: str) -> BinaryIO:
    """A new file whose path begins with `start`, locked so that no other process sweeps it."""
    while True:
        file = open(f"{start}.{secrets.token_hex(6)}.tmp", "xb", 1 << 20)  # noqa: SIM115  # with usual permissions
        with suppress(ImportError, OSError):  # where files cannot be locked, they are not swept either
            from fcntl import LOCK_EX, flock

            flock(file, LOCK_EX)
        if os.path.exists(file.name):
            return file
        file.close()  # it was swept before it was locked


def load(path: Path, map_location: Any = None, weights_only: bool = True) -> Any:
    """What `save` wrote to the file `path`; of a safetensors file of other origin a flat dict of its tensors.

    Reading a file executes nothing, whoever made it, also if not `weights_only`, and takes no memory for tensors that
    are not in it. `map_location` can only be the CPU. Raises OSError if the file cannot be read, CheckpointError (a
    ValueError) that names the defect if it is truncated, corrupt, or no safetensors file of NumPy's dtypes."""
    from safetensors import SafetensorError, safe_open

    device(map_location or "cpu")
    path = os.fsdecode(path)
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise CheckpointError(f"load: {path} is a device, pipe or socket, but a file is needed")
    try:
        with open(path, "rb") as file, safe_open(path, "np") as content:  # open's errors name the file
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=_unique)
            header.pop(RESERVED, None)
            tensors = {name: _tensor(content, name, entry) for name, entry in header.items()}
            structure = (content.metadata() or {}).get("fastnn")
        if structure is None:
            return tensors
        whole = json.loads(structure, object_pairs_hook=_unique)
        if not isinstance(whole, dict) or whole.keys() != {"version", "root"} or whole["version"] != 1:
            raise ValueError("its structure is not of version 1, the only one that this fastnn knows")
        value = _decode(whole["root"], tensors)
        if tensors:
            raise ValueError(f"its structure has no place for tensor {next(iter(tensors))!r:.80}")
        return value
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"load: {path} is corrupt, or no safetensors file: {error!s:.300}") from error


def _tensor(content: Any, name: str, entry: Any) -> Tensor:
    """The tensor that an entry of the header describes, after checks for what safetensors lets pass."""
    if not isinstance(entry, dict) or len(entry) > 3 or entry.get("dtype") not in NAMES.values():
        raise ValueError(f"tensor {name!r:.80} needs NumPy's dtype, shape and place, but has {reprlib.repr(entry)}")
    a = content.get_tensor(name)
    if a.dtype == bool and a.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"tensor {name!r:.80} has bools that are not 0 or 1")
    return Tensor(a).clone()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no key may be there twice: most readers, safetensors' too, let that pass."""
    if len(result := dict(pairs)) < len(pairs):
        raise ValueError(f"a key is there twice in {reprlib.repr([key for key, _ in pairs])}")
    return result


def _encode(value: Any, path: tuple, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON; its tensors go to `arrays` under the names that the JSON gives."""
    if value is None or isinstance(value, (int, str)):  # bool is an int
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, Tensor) and value.array.dtype.name in NAMES:
        name = ".".join(map(str, path)).encode(errors="replace").decode() or "tensor"
        while name in arrays or name == RESERVED:  # {"a": {"b": x}, "a.b": y}
            name += "~"
        arrays[name] = value.array
        return {"tensor": name}
    place = "obj" + "".join(f"[{key!r}]" for key in path)
    if isinstance(value, dict):
        if wrong := [type(key).__name__ for key in value if not _is_key(key)]:
            raise TypeError(f"save: a key of {place} is a {wrong[0]}, not None, a str, a float or an int below 2**60")
        return {"dict": [[_encode(k, path, arrays), _encode(v, (*path, k), arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        nodes = [_encode(v, (*path, i), arrays) for i, v in enumerate(value)]
        return {"list": nodes} if isinstance(value, list) else {"tuple": nodes}
    raise TypeError(f"save: {place} is a {type(value).__name__} {getattr(value, 'dtype', '')}; only dicts, lists, "
                    f"tuples, None, bools, ints, floats, strings and tensors of {', '.join(NAMES)} can be saved")


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
