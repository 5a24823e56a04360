"""save and load: what comes back, what other programs see, and what happens when something goes wrong."""

import builtins
import json
import math
import os
import random
import re
import stat
import struct
import sys
import tracemalloc

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import strategies as st

import fastnn
from fastnn import layout, nn, optim
from fastnn.errors import CheckpointError
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
    ({"a": {2**60: 3}}, r"a key of obj\['a'\] is a int, not None, a str, a float or an int below"),
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


# --- Hostile and damaged files ---


def file_of(header, data=b"", length=None):
    """A safetensors file with any header: a dict, or text."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode(errors="surrogatepass")
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def structured(root, tensors=None, data=b"", version=1):
    metadata = {"fastnn": json.dumps({"version": version, "root": root})}
    return file_of({"__metadata__": metadata, **(tensors or {})}, data)


ONE = json.dumps(entry())
DEFECTS = {
    "empty": (b"", "header too small"),
    "length alone": (b"\1\0\0", "header too small"),
    "huge length": (file_of("{}", b"", 2**63), "header too large"),
    "no JSON": (file_of("PK34"), "invalid JSON in header: expected value at line 1 column 1"),
    "half a header": (file_of('{"a": '), "invalid JSON in header: EOF while parsing a value"),
    "no UTF-8": (struct.pack("<Q", 7) + b'{"\xff":1}'[:7], "invalid UTF-8 in header"),
    "NaN": (file_of('{"a": NaN}'), "invalid JSON in header: expected value at line 1 column 7"),
    "deep": (file_of('{"a":' + "[" * 100_000), "invalid JSON in header: recursion limit exceeded"),
    "huge number": (file_of('{"a":' + "9" * 5000 + "}"), "invalid JSON in header: number out of range"),
    "a tensor twice": (file_of(f'{{"a": {ONE}, "a": {ONE}}}', bytes(8)), r"a key is there twice in \['a', 'a'\]"),
    "a dtype twice": (file_of('{"a": {"dtype": "F32", "dtype": "I32", "shape": [], "data_offsets": [0, 4]}}', bytes(4)),
                      "duplicate field `dtype`"),
    "a list": (file_of("[]"), "invalid type: sequence, expected"),
    "metadata of numbers": (file_of({"__metadata__": {"fastnn": 3}}), "invalid type: integer `3`, expected a string"),
    "metadata as a list": (file_of({"__metadata__": []}), "invalid type: sequence, expected a map"),
    "truncated": (file_of({"a": entry()}, bytes(7)), "file not fully covered"),
    "longer": (file_of({"a": entry()}, bytes(9)), "file not fully covered"),
    "long name": (file_of({"a" * 10**6: entry(begin=4, end=12)}, bytes(12)), "invalid offset for tensor `a{99}"),
    "gap": (file_of({"a": entry(begin=4, end=12)}, bytes(12)), "invalid offset for tensor `a`"),
    "far away": (file_of({"a": entry(begin=2**64, end=2**64 + 8)}, bytes(8)), "invalid type: floating point"),
    "overlap": (file_of({"a": entry(), "b": entry(begin=4, end=12)}, bytes(12)), "invalid offset for tensor `b`"),
    "same bytes": (file_of({"a": entry(), "b": entry()}, bytes(8)), "invalid offset for tensor `[ab]`"),
    "bools": (file_of({"a": entry("BOOL", [2], 0, 2)}, b"\1\2"), "tensor 'a' has bools that are not 0 or 1"),
    **{f"entry {i}": (file_of({"a": value}, bytes(8)), defect) for i, (value, defect) in enumerate([
        (None, "invalid type: null"),
        (3, "invalid type: integer `3`"),
        ([], "invalid length 0"),
        (["F32", [2], [0, 8]], r"tensor 'a' needs NumPy's dtype, .* but has \['F32'"),
        ({}, "missing field `dtype`"),
        (entry("F31"), "unknown variant `F31`"),
        (entry("BF16", [4]), "tensor 'a' needs NumPy's dtype, .*'BF16'"),
        (entry({"F32": None}), "tensor 'a' needs NumPy's dtype"),
        ({**entry(), "dtype": []}, "invalid type: sequence"),
        ({**entry(), "more": 1}, "tensor 'a' needs .*'more': 1"),
        (entry(shape=[3]), "invalid shape, data type, or offset"),
        (entry(shape=[-2]), "invalid value: integer `-2`"),
        (entry(shape=[-1, -2]), "invalid value: integer `-1`"),
        (entry(shape=[2.0]), "floating point `2.0`, expected usize"),
        (entry(shape=["2"]), 'string "2", expected usize'),
        (entry(shape=[True, 2]), "boolean `true`, expected usize"),
        (entry(shape=[2**32, 2**32]), "overflow computing buffer size"),
        (entry(shape=[2**62] * 2), "overflow computing buffer size"),
        (entry(shape=[10**4000] * 9), "number out of range"),
        (entry(shape=[0, 2**62, 2**62], end=0), "file not fully covered"),
        (entry(shape=[1] * 64 + [2]), "64, found 65"),
        ({**entry(), "shape": 2}, "integer `2`, expected a sequence"),
        (entry(begin=8, end=0), "invalid offset for tensor"),
        (entry(begin=-8, end=0), "integer `-8`, expected usize"),
        ({**entry(), "data_offsets": [0, 8, 8]}, "invalid length 3, expected 2 elements"),
        ({**entry(), "data_offsets": [False, 8]}, "boolean `false`, expected usize"),
        ({**entry(), "data_offsets": 8}, "integer `8`, expected a tuple of size 2")])},
    "too large for NumPy": (file_of({"a": entry(shape=[0, 2**62, 2**62], end=0)}), "array is too big|Maximum allowed"),
    "structure no object": (file_of({"__metadata__": {"fastnn": "3"}}), "its structure is not of version 1"),
    "a structure's key twice": (file_of({"__metadata__": {"fastnn": '{"version": 1, "root": 1, "root": 2}'}}),
                                r"a key is there twice in \['version', 'root', 'root'\]"),
    "later version": (structured(1, version=2), "not of version 1, the only one"),
    "no version": (file_of({"__metadata__": {"fastnn": '{"root": 1}'}}), "not of version 1"),
    "surrogates": (file_of({"__metadata__": {"fastnn": '"\ud800"'}}), "invalid JSON in header: .* hex escape"),
    "missing tensor": (structured({"tensor": "b"}), "part without meaning, or .*: {'tensor': 'b'}"),
    "tensor twice": (structured({"list": [{"tensor": "a"}] * 2}, {"a": entry()}, bytes(8)), "tensor twice"),
    "tensor as key": (structured({"dict": [[{"tensor": "a"}, 1]]}, {"a": entry()}, bytes(8)), "part without meaning"),
    "unused tensor": (structured(None, {"a": entry()}, bytes(8)), "no place for tensor 'a'"),
    "key twice": (structured({"dict": [["x", 1], ["x", 2]]}), "a key or tensor twice"),
    "equal keys": (structured({"dict": [[1, 1], [True, 2]]}), "a key or tensor twice"),
    "large keys": (structured({"dict": [[(2**61 - 1) * k, 0] for k in range(30_000)]}), "part without meaning"),
    "deep structure": (file_of({"__metadata__": {"fastnn": '{"a":' * 450 + "1" + "}" * 450}}),
                       "maximum recursion depth|not of version 1"),
    **{f"structure {i}": (structured(root), "part without meaning") for i, root in enumerate([
        [], {}, {"eval": "1"}, {"list": 3}, {"list": "ab"}, {"list": {}}, {"dict": 3}, {"dict": ["ab"]},
        {"dict": [[1]]}, {"dict": [{"a": 1, "b": 2}]}, {"dict": [[{"list": []}, 1]]}, {"list": [], "tuple": []},
        {"tensor": []}, {"float": "1.5"}, {"float": 1.5}, {"float": " nan"}, {"float": []}])},
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_named(path, name):
    content, defect = DEFECTS[name]
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        fastnn.load(path)
    assert isinstance(caught.value, ValueError) and str(path) in str(caught.value)
    assert re.search(defect, str(caught.value)), str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_depth(path, monkeypatch):
    """Python's own limit, which newer readers of JSON do not have."""
    root = None
    for _ in range(2000):
        root = {"list": [root]}
    path.write_bytes(structured(1))
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text, **options: {"version": 1, "root": root} if isinstance(text, str)
                        else loads(text, **options))  # fmt: skip
    with pytest.raises(CheckpointError, match="maximum recursion depth"):
        fastnn.load(path)


def test_truncated_anywhere(path):
    fastnn.save({"a": fastnn.ones(3), "b": [1, math.inf], "c": fastnn.zeros(2) > 0}, path)
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is corrupt"):
            fastnn.load(path)


def test_a_hostile_file_takes_no_memory(path):
    """Neither a claimed header nor a claimed tensor."""
    hostile = [file_of("{}", b"", n) for n in (3, 10**6, 99_999_999, 2**40, 2**64 - 1)]
    hostile += [file_of({"a": entry("F64", [n], 0, 8 * n)}) for n in (10**6, 10**9, 2**50)]
    hostile += [file_of({"a": entry("F64", [2**30, 2**20, 0], 0, 0), "b": entry("F64", [2**30], 0, 2**33)})]
    for content in hostile:
        path.write_bytes(content)
        fastnn.memory.reset_peak()
        before = fastnn.memory.stats()["allocated"]
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError):
                fastnn.load(path)
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
        assert fastnn.memory.stats()["peak"] <= before + 1000


@pytest.mark.skipif(layout.Block is None, reason="the pool is not compiled")
def test_memory_of_reading(path):
    """Each tensor is copied once to memory of its own: not all at once, and not into the file's memory."""
    names = [str(i) for i in range(8)]
    fastnn.save({name: fastnn.ones(250_000) for name in names}, path)
    before = fastnn.memory.stats()["allocated"]
    fastnn.memory.reset_peak()
    tracemalloc.start()
    try:
        loaded = fastnn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2_500_000  # one tensor, as safetensors gives it, and the next one
    finally:
        tracemalloc.stop()
    assert all(type(loaded[name].array.base) is layout.Block for name in names)
    assert 8_000_000 <= fastnn.memory.stats()["peak"] - before < 8_100_000


TOKEN = re.compile(rb'-?\d+|\\?"[^"\\]*\\?"|[][{},:]|true|null')
HOSTILE = [b"0", b"1", b"-1", b"8", b"12", b"1.0", b"1e9", b"NaN", b"Infinity", b"true", b"null", b'""', b"[]",
           b"{}", b"[", b"]}", b",", b"9223372036854775808", b"4611686018427387904", b"9" * 4301, b"[" * 2000, b'"F64"',
           b'"I8"', b'"BOOL"', b'"BF16"', b'"dtype"', b'"shape"', b'"__metadata__"', b'\\"tensor\\"', b'\\"dict\\"',
           b'\\"tuple\\"', b'\\"nan\\"', b'\\"a\\"', b'"a"', b"\xff", b"\\ud800", b"\\"]  # fmt: skip
place = st.floats(0, 1, exclude_max=True)
MUTATION = st.one_of(
    st.tuples(st.just("flip"), place, st.integers(1, 255)),
    st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("delete"), place, st.integers(1, 40)),
    st.tuples(st.just("truncate"), place, st.none()),
    st.tuples(st.just("splice"), place, st.tuples(place, st.integers(1, 300))),
    st.tuples(st.just("token"), place, st.sampled_from(HOSTILE)),
    st.tuples(st.just("token"), place, place),  # another token of the same header
)
ROUND = 10  # mutations in one example of hypothesis, whose own work takes longer than reading a file


def further(rng):
    """A mutation as those of MUTATION, made faster."""
    kind = rng.choice(("flip", "insert", "delete", "truncate", "splice", "token", "token", "token", "token"))
    what = {"flip": rng.randint(1, 255), "insert": rng.randbytes(rng.randint(1, 9)), "delete": rng.randint(1, 40),
            "splice": (rng.random(), rng.randint(1, 300)), "token": rng.choice((rng.choice(HOSTILE), rng.random()))}
    return kind, rng.random(), what.get(kind)


def mutate(content, mutations, other, repair):
    """`content` with edits; those that a header takes are followed by its new length, if `repair`."""
    for kind, at, what in mutations:
        n = int.from_bytes(content[:8], "little")
        i = int(at * len(content))
        if kind == "flip" and content:
            content = content[:i] + bytes([content[i] ^ what]) + content[i + 1 :]
        elif kind == "insert":
            content = content[:i] + what + content[i:]
        elif kind == "delete":
            content = content[:i] + content[i + what :]
        elif kind == "truncate":
            content = content[:i]
        elif kind == "splice":
            start, length = int(what[0] * len(other)), what[1]
            content = content[:i] + other[start : start + length] + content[i + length :]
        elif kind == "token" and (tokens := list(TOKEN.finditer(content[8 : 8 + n]))):
            token = tokens[int(at * len(tokens))]
            new = what if isinstance(what, bytes) else tokens[int(what * len(tokens))].group()
            header = content[8 : 8 + n][: token.start()] + new + content[8 : 8 + n][token.end() :]
            content = (len(header) if repair else n).to_bytes(8, "little") + header + content[8 + n :]
    return content


def leaves(value):
    """The tensors in a value, which must be of the kinds that `save` takes."""
    if isinstance(value, Tensor):
        return [value.array]
    if isinstance(value, dict):
        assert all(key is None or isinstance(key, (int, float, str)) for key in value)
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [a for v in value for a in leaves(v)]
    assert value is None or isinstance(value, (bool, int, float, str))
    return []


def seeds(folder):
    """Files to begin with: a checkpoint of all kinds of values, one tensor, a file of other origin, an empty one."""
    kinds = ("float64", "float32", "float16", "int64", "uint8", "complex64")
    fastnn.save({"a": [Tensor(np.arange(6, dtype=dtype).reshape(2, 3)) for dtype in kinds],
                 3: (math.nan, -math.inf, None, True, 10**20, -1.5, "\u00e9\"}"), None: {"b": [], "c": {2.5: ()}},
                 "e": Tensor(np.zeros((0, 3))), "f": Tensor(np.array([True, False])), "g": Tensor(np.float32(7)),
                 }, folder / "0")  # fmt: skip
    fastnn.save(fastnn.ones(2), folder / "1")
    foreign = {"b": np.arange(3), "a.x": np.ones((2, 2), np.float32)}
    safetensors.numpy.save_file(foreign, folder / "2", {"format": "pt"})
    fastnn.save([], folder / "3")
    return [(folder / str(i)).read_bytes() for i in range(4)]


def test_mutated_files(tmp_path):
    """Each is refused with a CheckpointError, or loads what safetensors itself finds in it."""
    hypothesis.configuration.set_hypothesis_home_dir(tmp_path)  # what it writes is not for here
    files, path, count = seeds(tmp_path), tmp_path / "mutated", {"refused": 0, "loaded": 0}
    number = int(os.environ.get("FASTNN_FUZZ", 2000))

    def check(file, content):
        file.seek(0)
        file.write(content)
        file.truncate()
        try:
            value = fastnn.load(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            count["refused"] += 1
            return
        count["loaded"] += 1
        ours, theirs = leaves(value), safetensors.numpy.load(content)
        assert sum(a.nbytes for a in ours) <= len(content)
        assert all(a.flags.c_contiguous and a.flags.aligned and a.flags.writeable for a in ours)
        key = lambda a: (a.dtype.str, a.shape, a.tobytes())  # noqa: E731
        assert sorted(map(key, ours)) == sorted(map(key, theirs.values()))

    @hypothesis.settings(max_examples=number // ROUND, deadline=None, database=None, derandomize=number <= 2000,
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(st.sampled_from(files), st.sampled_from(files), MUTATION, st.integers(0, 2**32))
    def check_round(content, other, mutation, seed):
        rng = random.Random(seed)
        for i in range(ROUND):
            edits = [further(rng) for _ in range(rng.choice((1, 1, 1, 2)))] if i else [mutation]
            check(file, mutate(content, [mutation, *edits] if i > 7 else edits, other, rng.random() < 0.9))

    with open(path, "wb", buffering=0) as file:
        check_round()
    assert count["refused"] > number // 2 and count["loaded"] > number // 100, count
