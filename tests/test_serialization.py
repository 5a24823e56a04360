"""save and load: what comes back, what other programs see, and what happens when something goes wrong."""

import builtins
import json
import math
import os
import stat
import struct
import sys

import numpy as np
import pytest

import fastnn
from fastnn import nn, optim
from fastnn.tensor import Tensor


def same(a, b):
    """Equal in type, structure, values, dtypes and bits."""
    assert type(a) is type(b) or (isinstance(a, Tensor) and isinstance(b, Tensor)), (type(a), type(b))
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape and a.array.tobytes() == b.array.tobytes()
    elif isinstance(a, dict):
        assert list(map(repr, a)) == list(map(repr, b))  # keys in order, of the same types
        for x, y in zip(a.values(), b.values(), strict=True):
            same(x, y)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert repr(a) == repr(b)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


@pytest.mark.parametrize("obj", [
    {}, [], (), None, True, 3, 10**30, -0.0, 1e-320, math.pi, math.inf, -math.inf, math.nan, "", "naïve \ud800 \x00",
    {1: "a", "1": "b", None: 2, 2.5: 3, math.inf: 4, False: 5}, [(), [], {}, ((1,), [2])], (1.0, 1, True),
])  # fmt: skip
def test_plain_values(path, obj):
    fastnn.save(obj, path)
    same(fastnn.load(path), obj)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4, 5)])
def test_tensors(path, rng, dtype, shape):
    array = np.asarray(rng.integers(0, 2, shape) if dtype == "bool" else rng.standard_normal(shape) * 50).astype(dtype)
    t = Tensor(array)
    fastnn.save(t, path)
    loaded = fastnn.load(path)
    same(loaded, t)
    assert loaded.array.flags.writeable and loaded.array.flags.aligned and loaded.array.dtype.isnative


def test_special_floats_keep_their_bits(path):
    t = Tensor(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45], np.float32))
    fastnn.save([t], path)
    same(fastnn.load(path), [t])


def test_memory_order_does_not_show(path, rng):
    a = rng.standard_normal((2, 3, 4, 5))
    for variant in (np.asfortranarray(a), np.ascontiguousarray(a.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1), a[::-1]):
        fastnn.save({"a": Tensor(variant), "big": Tensor(variant.astype(">f8"))}, path)
        plain = Tensor(np.array(variant, order="C"))
        same(fastnn.load(path), {"a": plain, "big": plain})


def test_a_training_run_is_resumed(path):
    def make():
        fastnn.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, optim.AdamW(model.parameters(), lr=0.1)

    def train(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            (model(fastnn.ones(4, 3)) ** 2).sum().backward()
            optimizer.step()

    model, optimizer = make()
    train(model, optimizer)
    fastnn.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, path)
    other, resumed = make()
    checkpoint = fastnn.load(path)
    other.load_state_dict(checkpoint["model"])
    resumed.load_state_dict(checkpoint["optimizer"])
    assert checkpoint["epoch"] == 3 and list(checkpoint["optimizer"]["state"]) == [0, 1]
    train(model, optimizer)
    train(other, resumed)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        same(p, q)


def test_other_programs_read_a_state_dict(path):
    from safetensors.numpy import load_file

    model = nn.Sequential(nn.Conv2d(3, 4, (2, 3)), nn.BatchNorm2d(4))
    fastnn.save(model.state_dict(), path)
    seen = load_file(path)
    assert seen.keys() == model.state_dict().keys() >= {"0.weight", "1.running_mean"}
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(seen[name], t.array)


def test_files_of_other_programs(path):
    from safetensors.numpy import save_file

    save_file({"b": np.arange(3), "a.x": np.ones((2, 2), np.float32)}, path, {"format": "pt"})
    loaded = fastnn.load(path)
    assert loaded.keys() == {"b", "a.x"} and loaded["b"].tolist() == [0, 1, 2]


def test_names_that_collide(path):
    obj = {"a": {"b.c": fastnn.ones(1), "b": {"c": fastnn.ones(2)}}, "a.b": {"c": fastnn.ones(3)},
           "__metadata__": fastnn.ones(4), "": fastnn.ones(5), "a.b.c~": fastnn.ones(6)}  # fmt: skip
    fastnn.save(obj, path)
    same(fastnn.load(path), obj)


@pytest.mark.parametrize("obj, place", [
    ({"a": [1, {"b": {1, 2}}]}, r"obj\['a'\]\[1\]\['b'\] is a set"),
    ({"x": np.ones(2)}, r"obj\['x'\] is a ndarray"),
    (np.float32(1), "obj is a float32"),
    ({"a": {(1, 2): 3}}, r"a key of obj\['a'\] is a tuple"),
    ([len], r"obj\[0\] is a builtin_function"),
])  # fmt: skip
def test_what_cannot_be_saved(path, obj, place):
    with pytest.raises(TypeError, match=place):
        fastnn.save(obj, path)
    assert not os.listdir(path.parent)


def test_cycles_are_refused(path):
    cycle = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="contains itself"):
        fastnn.save(cycle, path)


def test_a_failure_leaves_the_old_file(path, monkeypatch):
    fastnn.save({"epoch": 1}, path)
    with pytest.raises(TypeError):
        fastnn.save({"epoch": object()}, path)

    def fail(*_):
        raise OSError("no space left")

    for module, name in ((os, "fsync"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(OSError, match="no space"):
                fastnn.save({"epoch": 2}, path)
    assert fastnn.load(path) == {"epoch": 1}
    assert os.listdir(path.parent) == [path.name]  # nothing is left behind


def test_the_file_is_synchronized_before_it_is_renamed(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    fastnn.save({}, path)
    assert calls[:2] == ["fsync", "replace"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links(path):
    old = os.umask(0o027)
    try:
        fastnn.save({"epoch": 1}, path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    link = path.with_name("latest")
    link.symlink_to(path.name)
    fastnn.save({"epoch": 2}, link)
    assert link.is_symlink() and fastnn.load(path) == {"epoch": 2}


def test_kinds_of_paths(path, monkeypatch):
    fastnn.save({"a": 1}, str(path))
    assert fastnn.load(path) == fastnn.load(str(path)) == fastnn.load(os.fsencode(path)) == {"a": 1}
    monkeypatch.chdir(path.parent)
    fastnn.save({"a": 2}, "relative")
    assert fastnn.load("relative") == {"a": 2}


def test_missing_files(path):
    with pytest.raises(FileNotFoundError) as error:
        fastnn.load(path)
    assert error.value.filename == str(path)
    with pytest.raises(FileNotFoundError):
        fastnn.save({}, path / "no" / "folder")
    with pytest.raises(IsADirectoryError):
        fastnn.load(path.parent)


def test_truncated_and_corrupt_files(path):
    fastnn.save({"a": fastnn.ones(100), "b": [1, 2]}, path)
    whole = path.read_bytes()
    for n in (0, 7, 8, 9, 100, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors is corrupt"):
            fastnn.load(path)
    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
        fastnn.load(path)


def write(path, metadata, tensors=(), data=b""):
    header = json.dumps({"__metadata__": {"fastnn": metadata}, **dict(tensors)}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.mark.parametrize("metadata", [
    "", "null", "[]", "{}", '{"root": []}', '{"root": {}}', '{"root": {"tensor": "x"}}', '{"root": {"tensor": []}}',
    '{"root": {"eval": "1"}}', '{"root": {"float": "x"}}', '{"root": {"float": []}}', '{"root": {"dict": 3}}',
    '{"root": {"dict": [[{"list": []}, 1]]}}', '{"root": {"dict": [[1]]}}', '{"root": {"list": 3}}',
    '{"root": {"list": [], "tuple": []}}', '{"root": ' + "9" * 5000 + "}", '{"root": ' + '{"list": [' * 5000,
    '{"root": ' + '{"list": [' * 5000 + "]}" * 5000 + "}",
], ids=range(19))  # fmt: skip
def test_hostile_structure(path, metadata):
    write(path, metadata)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is corrupt"):
        fastnn.load(path)


@pytest.mark.parametrize("entry", [
    {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
    {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]},
    {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]},
    {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]},
    {"dtype": "Q", "shape": [2], "data_offsets": [0, 8]},
])  # fmt: skip
def test_hostile_tensors(path, entry):
    write(path, '{"root": 1}', {"x": entry}, bytes(entry["data_offsets"][1] and 8))
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is corrupt"):
        fastnn.load(path)


def test_nothing_is_executed(path, monkeypatch):
    fastnn.save({"a": fastnn.ones(2), "b": "__import__('os').system('true')"}, path)
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, None)
    fastnn.load(path)
    assert b"pickle" not in path.read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_what_is_no_file_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is a device, pipe or socket"):
        fastnn.save({}, tmp_path / "pipe")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
