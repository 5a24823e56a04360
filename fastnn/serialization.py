"""Saving and loading: one safetensors file, whose metadata holds the structure around the tensors. Nothing is executed.

A tensor is stored C-contiguous under the path to it, joined by dots, so that a state dict becomes an ordinary
safetensors file with PyTorch's keys. The metadata entry "fastnn" is JSON in which None, bools, ints, finite floats and
strings stand for themselves and all else is an object of one key: {"tensor": name}, {"dict": [[key, value], …]},
{"list": […]}, {"tuple": […]} or {"float": "nan"}."""
import contextlib
import json
import math
import os
import secrets
from typing import Any

import numpy as np

from fastnn import layout
from fastnn.device import device
from fastnn.tensor import Tensor

Path = str | os.PathLike[str]
RESERVED = "__metadata__"  # the one name that a safetensors file does not leave to its tensors


def save(obj: Any, path: Path) -> None:
    """Write `obj` to the file `path`, wholly or not at all: a failure at any point leaves an older file as it was.

    `obj`: dicts, lists and tuples, nested, of tensors, None, bools, ints, floats and strings; keys may be all of these
    but tensors. Raises TypeError, saying where, for other things, ValueError if it holds itself or `path` is no file.

    >>> fastnn.save({"model": {"weight": fastnn.ones(2)}, "epoch": 3}, "checkpoint.safetensors")
    >>> fastnn.load("checkpoint.safetensors")
    {'model': {'weight': tensor([1., 1.])}, 'epoch': 3}"""
    from safetensors.numpy import save as serialize

    arrays: dict[str, np.ndarray] = {}
    try:
        structure = json.dumps({"version": 1, "root": _encode(obj, (), arrays)}, allow_nan=False)
    except RecursionError:
        raise ValueError("save: the object contains itself or is nested too deeply") from None
    target = os.path.realpath(os.fsdecode(path))  # a link stays, and the file behind it is replaced
    if os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):
        raise ValueError(f"save: {target} is a device, pipe or socket, which a file would replace")
    temporary = "{}/.{:.64}.{}.tmp".format(*os.path.split(target), secrets.token_hex(6))  # has a new file's permissions
    try:
        with open(temporary, "xb") as file:
            file.write(serialize(arrays, {"fastnn": structure}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def load(path: Path, map_location: Any = None, weights_only: bool = True) -> Any:
    """What `save` wrote to the file `path`; of a safetensors file of other origin a flat dict of its tensors.

    Reading a file executes nothing, whoever made it, also if not `weights_only`. `map_location` can only be the CPU.
    Raises OSError if the file cannot be read, ValueError if it is truncated, corrupt, or no safetensors file."""
    from safetensors import safe_open

    device(map_location or "cpu")
    path = os.fsdecode(path)
    open(path, "rb").close()  # its errors name the file
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: Tensor(layout.contiguous(file.get_tensor(name))) for name in file.keys()}  # noqa: SIM118
            structure = (file.metadata() or {}).get("fastnn")
        return tensors if structure is None else _decode(json.loads(structure)["root"], tensors)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever a hostile file provokes
        raise ValueError(f"load: {path} is corrupt, or no safetensors file of NumPy's dtypes: {error!r}") from error


def _encode(value: Any, path: tuple, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON; its tensors go to `arrays` under the names that the JSON gives."""
    if value is None or isinstance(value, (int, str)):  # bool is an int
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, Tensor):
        name = ".".join(map(str, path)) or "tensor"
        while name in arrays or name == RESERVED:  # {"a": {"b": x}, "a.b": y}
            name += "~"
        arrays[name] = layout.contiguous(value.array)
        return {"tensor": name}
    if isinstance(value, dict):
        for key in value:
            if key is not None and not isinstance(key, (int, float, str)):
                raise TypeError(f"save: a key of {_place(path)} is a {type(key).__name__}, not None, a number or a str")
        return {"dict": [[_encode(k, path, arrays), _encode(v, (*path, k), arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(v, (*path, i), arrays) for i, v in enumerate(value)]}
    raise TypeError(f"save: {_place(path)} is a {type(value).__name__}; only tensors, dicts, lists, tuples, None, "
                    "bools, ints, floats and strings can be saved")


def _place(path: tuple) -> str:
    return "obj" + "".join(f"[{key!r}]" for key in path)


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, (dict, list)):
        return node
    ((kind, value),) = node.items()  # type: ignore[union-attr]
    if kind in ("tensor", "float"):
        return tensors[value] if kind == "tensor" else float(value)
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors) for k, v in value}
    return {"list": list, "tuple": tuple}[kind](_decode(v, tensors) for v in value)
