"""Data sets from files: IDX, MNIST and its like, CIFAR, arrays on disk, tables; and what corrupt files get."""

import gzip
import hashlib
import io
import os
import pickle
import random
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_download import server  # noqa: F401

from fastnn import layout
from fastnn.data import DataLoader, Subset, standard
from fastnn.data.arrays import ArrayFolder, read_csv, read_idx
from fastnn.data.dataset import take_batch
from fastnn.data.standard import cifar10, cifar100, fashion_mnist, mnist

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(values) -> bytes:
    """`values` as the bytes of an IDX file, by struct alone."""
    values = np.asarray(values)
    head = struct.pack(f">HBB{values.ndim}I", 0, CODES[values.dtype.str[1:]], values.ndim, *values.shape)
    code = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[values.dtype.str[1:]]
    return head + struct.pack(f">{values.size}{code}", *values.ravel().tolist())


def npy(values) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def fuzz(content: bytes, path: Path, read, flips: int) -> int:
    """Reads `content` cut at every byte, and with `flips` bytes changed at random: either `read` takes it, which checks
    what it gets, or it raises ValueError with the file in it. Returns how many were refused."""
    rng, refused = random.Random(0), 0
    versions = [content[:n] for n in range(len(content))]
    for _ in range(flips):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        versions.append(bytes(changed))
    for version in versions:
        path.write_bytes(version)
        try:
            read()
        except ValueError as error:
            assert str(path) in str(error), error
            refused += 1
    return refused


# IDX ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (3, 1, 2), (0, 4), (1,) * 9])
def test_idx(tmp_path, rng, code, shape):
    values = (rng.standard_normal(shape) * 90).astype(code)
    plain, packed = tmp_path / "a.gz", tmp_path / "b"  # names do not tell
    plain.write_bytes(idx(values))
    packed.write_bytes(gzip.compress(idx(values)))
    for array in (read_idx(plain), read_idx(str(packed)), read_idx(plain, mmap=True)):
        np.testing.assert_array_equal(array, values)
        assert array.dtype.newbyteorder("=") == values.dtype
        assert array.shape == shape
    assert read_idx(plain).dtype.isnative
    assert isinstance(read_idx(plain, mmap=True), np.memmap)
    assert not read_idx(plain, mmap=True).flags.writeable
    with pytest.raises(ValueError, match="a gzip file cannot be mapped"):
        read_idx(packed, mmap=True)


def test_idx_by_hand(tmp_path):
    (tmp_path / "a").write_bytes(bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 0xFF, 0xFE, 0, 7]))
    array = read_idx(tmp_path / "a")
    assert array.tolist() == [[258, -2, 7]]
    assert array.dtype == np.int16


def test_idx_of_two_gzip_members(tmp_path):
    content = idx(np.arange(20, dtype=np.uint8))
    (tmp_path / "a").write_bytes(gzip.compress(content[:11]) + gzip.compress(content[11:]))
    assert read_idx(tmp_path / "a").tolist() == list(range(20))


GOOD = idx(np.arange(6, dtype=np.int16).reshape(2, 3))


@pytest.mark.parametrize(("content", "message"), [
    (b"", "byte 0: .* this one with []"),
    (b"\x89PNG" + GOOD, "byte 0: an IDX file begins with 0, 0, .* this one with [137, 80, 78, 71]"),
    (b"\0\0\x0a" + GOOD[3:], "this one with [0, 0, 10, 2]"),
    (b"\0\0\x08\0\0", "1 to 64 dimensions"),
    (b"\0\0\x08\x41" + b"\0\0\0\1" * 65 + b"x", "1 to 64 dimensions"),
    (GOOD[:9], "byte 9: the file ends, but the sizes of its 2 dimensions need 12 bytes"),
    (GOOD[:-1], "byte 23: int16 values of shape (2, 3) need 24 bytes, the file has 23"),
    (GOOD + b"x", "byte 24: int16 values of shape (2, 3) need 24 bytes, the file has 25"),
    (b"\0\0\x0e\4" + b"\xff" * 16, "need 2722"),
    (b"\0\0\x0e\4" + b"\0\0\0\0" + b"\xff" * 12, "float64 values of shape (0, 4294967295"),
    (gzip.compress(GOOD[:-1]), "byte 23: the file ends, but int16 values of shape (2, 3) need 24 bytes"),
    (gzip.compress(GOOD + b"xy"), "byte 24: bytes are left over, but int16 values"),
    (gzip.compress(b"\0\0\x08\1\0\1\0\0" + bytes(100)), "65544 bytes, the file has .*, compressed"),
    (gzip.compress(GOOD)[:-9], "corrupt gzip file: Compressed file ended"),
    (gzip.compress(GOOD)[:-5] + b"xxxxx", "corrupt gzip file: CRC check failed"),
    (gzip.compress(GOOD) + b"x", "corrupt gzip file: Not a gzipped file"),
    (gzip.compress(GOOD)[:10] + b"\xff" * 30, "corrupt gzip file: Error -3"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_idx_refuses(tmp_path, content, message):
    path = tmp_path / "a.idx"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert all(part in str(caught.value) for part in message.split(".*"))


def test_a_bomb_is_not_unpacked(tmp_path):
    """A header of 8 bytes, then 200 MB of zeros in 200 kB: only what the header announces is unpacked."""
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(b"\0\0\x08\1\0\0\0\x0a" + bytes(200_000_000), 1))
    tracemalloc.start()
    with pytest.raises(ValueError, match="byte 18: bytes are left over"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    path.write_bytes(b"\0\0\x08\1\xff\xff\xff\xff" + bytes(1000))
    for mmap in (False, True):
        with pytest.raises(ValueError, match="need 4294967303 bytes, the file has 1008"):
            read_idx(path, mmap)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_fuzz(tmp_path, rng, pack):
    values = rng.integers(0, 9, (5, 2, 4), np.int16)
    path = tmp_path / "a"

    def read():
        array = read_idx(path)
        assert array.dtype.str[1:] in CODES
        assert array.nbytes == values.nbytes or 0 in array.shape

    assert fuzz(pack(idx(values)), path, read, 500) > 100


# MNIST and CIFAR ----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """No data sets but those that a test makes."""
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(standard.SETS["fashion_mnist"], "places", [str(tmp_path / "debian")])
    return tmp_path


def write_mnist(folder, form="{}-idx{}-ubyte.gz", n=5, seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part in ("train", "t10k"):
        images, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n, np.uint8)
        for name, values in (("images", images), ("labels", labels)):
            content = idx(values)
            path = folder / form.format(f"{part}-{name}", values.ndim)
            path.write_bytes(gzip.compress(content) if form.endswith(".gz") else content)
        arrays[part] = images, labels
    return arrays


@pytest.mark.parametrize("form", ["{}-idx{}-ubyte.gz", "{}-idx{}-ubyte", "{}.idx{}-ubyte", "{}.idx{}-ubyte.gz"])
def test_mnist(home, form):
    arrays = write_mnist(home / "root", form)
    for train in (True, False):
        dataset = mnist(train, home / "root")
        images, labels = (t.numpy() for t in dataset.tensors)
        assert images.shape == (5, 1, 28, 28)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        np.testing.assert_array_equal(images[:, 0], arrays["train" if train else "t10k"][0])
        np.testing.assert_array_equal(labels, arrays["train" if train else "t10k"][1])
        assert dataset.classes == [*"0123456789"]


@pytest.mark.parametrize(("function", "folders"), [
    (mnist, ["MNIST/raw", "mnist"]), (fashion_mnist, ["fashion-mnist", "FashionMNIST/raw", "fashion_mnist"]),
])  # fmt: skip
def test_order_of_places(home, monkeypatch, function, folders):
    """Each place stands before those that were filled before it."""
    places = ["data", *(f"data/{folder}" for folder in folders)]
    for i, place in enumerate([f"cache/fastnn/{folders[0]}", *places, "root", *(f"root/{f}" for f in folders)]):
        if place == "data":
            monkeypatch.setenv("FASTNN_DATA", str(home / "data"))
        write_mnist(home / place, n=i + 1)
        root = home / "root" if place.startswith("root") else None
        assert len(function(root=root)) == i + 1
    assert len(function()) == len(places) + 1
    if function is fashion_mnist:
        write_mnist(home / "debian/fashion-mnist", n=20)
        assert len(function()) == len(places) + 1
        monkeypatch.delenv("FASTNN_DATA")
        assert len(function()) == 20


def test_sets_in_one_root_are_not_mixed_up(home):
    write_mnist(home / "mnist", n=3)
    with pytest.raises(FileNotFoundError):
        fashion_mnist(root=home)
    write_mnist(home / "FashionMNIST/raw", n=4)
    assert (len(mnist(root=home)), len(fashion_mnist(root=home))) == (3, 4)


def test_not_found(home, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(home / "data"))
    write_mnist(home / "data")
    (home / "data/train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist()
    for part in ("train-labels-idx1-ubyte.gz", f"{home}/data", f"{home}/debian", f"{home}/cache/fastnn",
                 "download=True", "FashionMNIST/raw", "FASTNN_DATA", "dataset-fashion-mnist"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError) as caught:
        cifar10(root=home / "root")
    assert f"{home}/root" in str(caught.value)
    for part in (f"{home}/data", "debian", "Debian"):
        assert part not in str(caught.value)


@pytest.mark.parametrize(("name", "values", "message"), [
    ("images-idx3", np.zeros((5, 28, 27), np.uint8), r"needs uint8 values of shape \(5, 28, 28\), got uint8 \(5, 28,"),
    ("images-idx3", np.zeros((5, 28, 28), np.int8), "needs uint8 values"),
    ("images-idx3", np.zeros((4, 28, 28), np.uint8), None),
    ("labels-idx1", np.zeros(4, np.uint8), r"byte 0: needs uint8 values of shape \(5,\), got uint8 \(4,\)"),
    ("labels-idx1", np.array([0, 9, 10, 3, 11], np.uint8), "byte 10: label 10, but there are 10 classes"),
])  # fmt: skip
def test_mnist_refuses(home, name, values, message):
    write_mnist(home)
    path = home / f"train-{name}-ubyte.gz"
    path.write_bytes(gzip.compress(idx(values)))
    with pytest.raises(ValueError, match=f"{path}: .*{message}" if message else r"shape \(4,\), got uint8 \(5,\)"):
        mnist(root=home)


def test_download(home, server, monkeypatch):  # noqa: F811
    arrays = write_mnist(home / "www")
    sums = {}
    for path in (home / "www").iterdir():
        server.files[f"/good/{path.name}"] = path.read_bytes()
        server.files[f"/bad/{path.name}"] = b"other content"
        sums[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(standard.SETS["mnist"], "urls", [f"{server.url}/{name}/" for name in ("none", "bad", "good")])
    monkeypatch.setitem(standard.SETS["mnist"], "sha256", sums)
    dataset = mnist(False, home / "root", download=True)
    np.testing.assert_array_equal(dataset.tensors[0].numpy()[:, 0], arrays["t10k"][0])
    assert sorted(os.listdir(home / "root/mnist")) == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    (home / "root/mnist/t10k-images-idx3-ubyte.gz").unlink()
    content = gzip.decompress((home / "root/mnist/t10k-labels-idx1-ubyte.gz").read_bytes())
    (home / "root/mnist/t10k-labels-idx1-ubyte.gz").rename(home / "root/mnist/t10k-labels.idx1-ubyte")
    (home / "root/mnist/t10k-labels.idx1-ubyte").write_bytes(content)
    server.sent.clear()
    assert len(mnist(False, home / "root", download=True)) == len(mnist(False, home / "root", download=True)) == 5
    assert len(server.sent) == 3  # the one that is missing, asked of three mirrors
    assert len(mnist(download=True)) == 5
    assert len(os.listdir(home / "cache/fastnn/mnist")) == 2
    monkeypatch.setitem(standard.SETS["mnist"], "urls", [f"{server.url}/bad/", f"{server.url}/none/"])
    with pytest.raises(OSError, match=r"none/train-images-idx3-ubyte\.gz: HTTP Error 404"):
        mnist(root=home / "elsewhere", download=True)


def records(rng, n, labels):
    return np.concatenate([*(rng.integers(0, k, (n, 1), np.uint8) for k in labels),
                           rng.integers(0, 256, (n, 3072), np.uint8)], 1)  # fmt: skip


def write_cifar(folder, rng, n=2):
    """Returns the records of all files, by name."""
    ten = {f"data_batch_{i}.bin": records(rng, n + i, [10]) for i in range(1, 6)}
    ten["test_batch.bin"] = records(rng, n, [10])
    hundred = {"train.bin": records(rng, n + 1, [20, 100]), "test.bin": records(rng, n, [20, 100])}
    for sub, files in (("cifar-10-batches-bin", ten), ("cifar-100-binary", hundred)):
        (folder / sub).mkdir(parents=True)
        for name, data in files.items():
            (folder / sub / name).write_bytes(data.tobytes())
    return ten | hundred


def pack(folder, archive, mode="w:gz"):
    """Puts the files of `folder` into `archive` in reverse order, with its name before theirs."""
    with tarfile.open(archive, mode) as tar:
        tar.addfile(tarfile.TarInfo(folder.name + "/readme.html"), io.BytesIO())
        for path in sorted(folder.iterdir(), reverse=True):
            tar.add(path, f"{folder.name}/{path.name}")
            path.unlink()


@pytest.mark.parametrize("packed", [False, True])
def test_cifar(home, rng, packed):
    files = write_cifar(home, rng)
    if packed:
        pack(home / "cifar-10-batches-bin", home / "cifar-10-binary.tar.gz")
        (home / "cifar100").mkdir()
        pack(home / "cifar-100-binary", home / "cifar100/cifar-100-binary.tar.gz", "w")  # not compressed
    ten = np.concatenate([files[f"data_batch_{i}.bin"] for i in range(1, 6)])
    for dataset, data, column, classes in [
        (cifar10(root=home), ten, 0, 10), (cifar10(False, home), files["test_batch.bin"], 0, 10),
        (cifar100(root=home), files["train.bin"], 1, 100), (cifar100(False, home), files["test.bin"], 1, 100),
        (cifar100(root=home, coarse=True), files["train.bin"], 0, 20),
    ]:  # fmt: skip
        images, labels = (t.numpy() for t in dataset.tensors)
        assert images.shape == (len(data), 3, 32, 32)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert layout.is_channels_last(images)
        np.testing.assert_array_equal(labels, data[:, column])
        for n, c, y, x in ((0, 0, 0, 0), (1, 2, 3, 5), (1, 1, 31, 0)):
            assert images[n, c, y, x] == data[n, data.shape[1] - 3072 + c * 1024 + y * 32 + x]
        assert images.astype(np.int64).sum() == data[:, -3072:].sum(dtype=np.int64)
        assert len(dataset.classes) == len(set(dataset.classes)) == classes
    (x, y) = next(iter(DataLoader(cifar10(root=home), batch_size=3)))
    assert layout.is_channels_last(x.numpy())


def test_cifar_classes():
    for name, sizes in (("fashion_mnist", [10]), ("cifar10", [10]), ("cifar100", [20, 100])):
        kinds = standard.SETS[name]["labels"]
        assert [len({*names}) for names in kinds] == [*map(len, kinds)] == sizes
        if name != "fashion_mnist":  # as their authors have them
            assert all(names == sorted(names) for names in kinds)


def test_cifar_refuses(home, rng, monkeypatch):
    files = write_cifar(home, rng)
    path = home / "cifar-10-batches-bin/data_batch_3.bin"
    data = files[path.name].copy()
    path.write_bytes(data.tobytes()[:-1])
    with pytest.raises(ValueError, match=f"{path}: byte {5 * 3073 - 1}: the file ends, but records need 3073 bytes"):
        cifar10(root=home)
    data[2, 0] = 10
    path.write_bytes(data.tobytes())
    with pytest.raises(ValueError, match=f"{path}: byte {2 * 3073}: label 10, but there are 10 classes"):
        cifar10(root=home)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        cifar10(root=home)
    archive = home / "cifar-10-binary.tar.gz"
    pack(path.parent, archive)
    with pytest.raises(ValueError, match=f"{archive}: data_batch_3.bin not in the archive"):
        cifar10(root=home)
    content = archive.read_bytes()
    archive.write_bytes(gzip.compress(gzip.decompress(content) + bytes(1 << 18))[:-8] + b"12345678")
    with pytest.raises(ValueError, match=f"{archive}: corrupt gzip file: CRC check failed"):
        cifar10(False, root=home)
    archive.write_bytes(content)
    monkeypatch.setattr(standard, "UNPACKED", 10_000)
    with pytest.raises(ValueError, match=f"{archive}: .* more than 10000 bytes"):
        cifar10(root=home)
    path = home / "cifar-100-binary/train.bin"
    data = files["train.bin"].copy()
    data[2, 1] = 100
    path.write_bytes(data.tobytes())
    with pytest.raises(ValueError, match=f"{path}: byte {2 * 3074 + 1}: label 100, but there are 100 classes"):
        cifar100(root=home, coarse=True)
    data[1, 0] = 20
    path.write_bytes(data.tobytes())
    for coarse in (False, True):
        with pytest.raises(ValueError, match=f"{path}: byte 3074: label 20, but there are 20 classes"):
            cifar100(root=home, coarse=coarse)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_cifar_fuzz(home, rng, mode):
    write_cifar(home, rng, n=1)
    data = np.zeros((1, 3073), np.uint8)
    (home / "cifar-10-batches-bin/test_batch.bin").write_bytes(data.tobytes())
    path, file = home / "cifar-10-binary.tar.gz", home / "cifar-10-batches-bin/test_batch.bin"
    with tarfile.open(path, mode) as tar:
        tar.add(file, "a/test_batch.bin")
    file.unlink()

    def read():
        dataset = cifar10(False, home)
        assert dataset.tensors[0].shape[1:] == (3, 32, 32)
        assert (dataset.tensors[1].numpy() < 10).all()

    content = path.read_bytes().rstrip(b"\0") + bytes(1024) * (mode == "w")
    fuzz(content[:600] + content[-200:] if mode == "w" else content, path, read, 400)


# Arrays -------------------------------------------------------------------------------------------------------------


def write_arrays(folder, x, y, form):
    folder.mkdir(exist_ok=True)
    if form == "npz":
        np.savez_compressed(folder / "a.npz", x=x, labels=y)
        return folder / "a.npz"
    if form == "npy":
        np.save(folder / "images.npy", x)
        np.save(folder / "y.npy", y)
    elif form == "idx":
        (folder / "x.idx").write_bytes(idx(x))
        (folder / "labels-idx1-ubyte").write_bytes(idx(y))
    else:
        (folder / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
        (folder / "labels.idx.gz").write_bytes(gzip.compress(idx(y)))
    return folder


@pytest.mark.parametrize("form", ["npy", "idx", "idx.gz", "npz"])
@pytest.mark.parametrize("mmap", [True, False])
def test_array_folder(tmp_path, rng, form, mmap):
    x, y = rng.integers(0, 256, (11, 2, 3, 4), np.uint8), rng.integers(0, 5, 11, np.int32)
    dataset = ArrayFolder(write_arrays(tmp_path / "d", x, y, form), mmap)
    assert len(dataset) == 11
    for i in (0, 10, -3):
        a, b = dataset[i]
        np.testing.assert_array_equal(a.numpy(), x[i])
        assert b.item() == y[i]
    with pytest.raises(IndexError):
        dataset[11]
    indices = np.array([3, 3, -1, 0])
    for a, b in (take_batch(dataset, indices), next(iter(DataLoader(dataset, batch_sampler=[indices])))):
        np.testing.assert_array_equal(a.numpy(), x[indices])
        np.testing.assert_array_equal(b.numpy(), y[indices])
        assert (a.dtype, b.dtype) == (np.uint8, np.int32)
        assert a.numpy().flags.writeable
        assert a.numpy().dtype.isnative
    with pytest.raises(IndexError, match="samples 0 to 11 are asked of a dataset of 11"):
        take_batch(dataset, np.array([0, 11]))
    mapped = isinstance(dataset.tensors[0].numpy().base, np.memmap)
    assert mapped == (mmap and form in ("npy", "idx"))
    copy = pickle.loads(pickle.dumps(Subset(dataset, [4, 2])))
    np.testing.assert_array_equal(copy[1][0].numpy(), x[2])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "?", "<i8", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_array_folder_dtypes(tmp_path, rng, dtype, order):
    x, y = np.asarray(rng.standard_normal((7, 3, 2)) * 9, dtype, order=order), rng.standard_normal((7, 2))
    dataset = ArrayFolder(write_arrays(tmp_path / "d", x, y, "npy"))
    a, b = take_batch(dataset, np.arange(7))
    np.testing.assert_array_equal(a.numpy(), x)
    np.testing.assert_array_equal(b.numpy(), y)
    assert a.numpy().dtype == np.dtype(dtype).newbyteorder("=")
    assert a.numpy().dtype.isnative


def test_only_what_is_indexed_is_read(tmp_path):
    """A sparse file of 64 GB, on disk a few kB."""
    with open(tmp_path / "x.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 24, 1 << 10)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.seek(start + (5 << 12))
        file.write(np.float32(7).tobytes())
        file.truncate(start + (1 << 36))
    with open(tmp_path / "y.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"descr": "|u1", "shape": (1 << 24,)})
        file.truncate(file.tell() + (1 << 24))
    dataset = ArrayFolder(tmp_path)
    x, y = take_batch(dataset, np.array([5, (1 << 24) - 1]))
    assert x.numpy()[:, :2].tolist() == [[7, 0], [0, 0]]
    assert y.tolist() == [0, 0]


def test_array_folder_refuses(tmp_path, rng):
    x, y = rng.standard_normal((5, 2)), np.arange(5)

    def refuses(message, **files):
        folder = tmp_path / "d"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for name, content in files.items():
            (folder / f"{name}.npy").write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            ArrayFolder(folder)
        assert str(folder) in str(caught.value)

    refuses("needs one array named y or labels", x=npy(x))
    refuses(r"needs one array named x or images .*, not \[.*'images.npy'", x=npy(x), images=npy(x), y=npy(y))
    refuses(r"x.npy has 5 samples, but .*y.npy has 4", x=npy(x), y=npy(y[:4]))
    refuses(r"x.npy: byte 207: float64 .* \(5, 2\) .* need 208 bytes, the file has 207", x=npy(x)[:-1], y=npy(y))
    refuses("x.npy: byte 208: .* the file has 209", x=npy(x) + b"x", y=npy(y))
    refuses("y.npy: byte .*: not the header of an .npy file", x=npy(x), y=b"")
    refuses("y.npy: byte .*: not the header of an .npy file", x=npy(x), y=b"PK" + npy(y)[2:])
    refuses(r"y.npy: .* values of shape \(\) \(1 to 64 dimensions\)", x=npy(x), y=npy(np.array(1)))
    refuses("y.npy: its dtype object is not supported", x=npy(x), y=npy(np.array([1, "a", None, 2, 3], object)))
    refuses("y.npy: its dtype <U3 is not supported", x=npy(x), y=npy(np.array(["abc"] * 5)))
    refuses("x.npy: its dtype complex128 is not supported; it may be float32", x=npy(x + 1j), y=npy(y))
    refuses("x.npy: its dtype .*'a'.* is not supported", x=npy(np.zeros(5, [("a", "i4")])), y=npy(y))
    huge = npy(x).replace(b"(5, 2)", b"(5, 9000000000)").replace(b" " * 9, b"", 1)
    refuses("x.npy: byte .* need 360000000", x=huge, y=npy(y))
    for shape in (b"(-5, -2)", b"(0, 1099511627776, 1099511627776)"):
        content = npy(x[: 5 * (b"-5" in shape)]).replace(b"(%d, 2)" % (5 * (b"-5" in shape)), shape)
        content = content.replace(b" " * (len(shape) - 6), b"", 1)
        refuses(r"x.npy: byte \d+: float64 values of shape", x=content, y=npy(y))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ArrayFolder(tmp_path / "nowhere")
    (tmp_path / "a.npz").write_bytes(npy(x))
    with pytest.raises(ValueError, match=r"a.npz: neither a folder nor a sound .npz file: BadZipFile"):
        ArrayFolder(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=x)
    with pytest.raises(ValueError, match=r"a.npz: needs one array named y"):
        ArrayFolder(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy(np.zeros((5, 1 << 20))))
        archive.writestr("y.npy", npy(y))
    with pytest.raises(ValueError, match=r"a.npz: x.npy cannot unpack to 41943168 bytes"):
        ArrayFolder(tmp_path / "a.npz")


@pytest.mark.parametrize("form", ["npy", "npz", "npz stored"])
@pytest.mark.parametrize("mmap", [True, False])
def test_array_folder_fuzz(tmp_path, rng, form, mmap):
    x, y = rng.standard_normal((5, 2)), np.arange(5)
    if form == "npy":
        write_arrays(tmp_path, x, y, "npy")
        path = tmp_path / "images.npy"
    else:
        path = tmp_path / "a.npz"
        (np.savez if form == "npz stored" else np.savez_compressed)(path, x=x, y=y)

    def read():
        a, b = take_batch(ArrayFolder(tmp_path if form == "npy" else path, mmap), np.arange(5))
        assert a.numpy().nbytes in (80, 40, 20, 10, 5)
        assert b.numpy().dtype.kind in "iufb"

    assert fuzz(path.read_bytes(), path, read, 400) > 100


# Tables -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [bytes, gzip.compress, b"\xef\xbb\xbf".__add__], ids=["plain", "gzip", "BOM"])
@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_read_csv(tmp_path, encode, separator, newline):
    path = tmp_path / "a.csv"
    rows = [["age", '"a, b, ""c""; d; e"', "größe"], ["3", "-1.5", '"7"'], [], ["1e3", " .25", "0"]]
    path.write_bytes(encode(newline.join(separator.join(row) for row in rows).encode()))
    dataset = read_csv(path)
    x, y = dataset.tensors
    assert x.tolist() == [[3, -1.5], [1000, 0.25]]
    assert y.tolist() == [[7], [0]]
    assert x.dtype == y.dtype == np.float32
    assert (dataset.features, dataset.target) == (["age", 'a, b, "c"; d; e'], "größe")
    for target in ("age", 0):
        dataset = read_csv(str(path), target=target)
        assert dataset.tensors[0].tolist() == [[-1.5, 7], [0.25, 0]]
        assert dataset.tensors[1].tolist() == [[3], [1000]]
        assert (dataset.features, dataset.target) == (['a, b, "c"; d; e', "größe"], "age")


def test_read_csv_without_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n1|2|3\n4|5|6\n")
    dataset = read_csv(path, target=1, delimiter="|")
    assert dataset.tensors[0].tolist() == [[1, 3], [4, 6]]
    assert (dataset.features, dataset.target) == (["0", "2"], "1")


@pytest.mark.parametrize(("text", "message"), [
    ("", "needs lines of numbers, has none below its 0 columns"),
    ("\n \n", "below its 0 columns"),
    ("a,b\n", "has none below its 2 columns"),
    ("a\n1\n", "of ['a'] and leave features"),
    ("a,age\n1,2\n\n3,n/a\n", "line 4: column 'age': 'n/a' is not a number"),
    ("a,age\n1,2\n 3,\n", "line 3: column 'age': is empty"),
    ("1,,2\n", "line 1: column '1': is empty"),
    ("1,nan\n", "line 1: column '1': 'nan' is not a finite float32 number"),
    ("a,b\n1,-inf\n", "line 2: column 'b': '-inf' is not a finite float32 number"),
    ("a,b\n1e39,1\n", "line 2: column 'a': '1e39' is not a finite float32 number"),
    ("a,b\n1,1_000\n", "line 2: column 'b': '1_000' is not a number"),
    ("a;b\n1;2,5\n", "line 2: column 'b': '2,5' is not a number"),
    ("a,b\n1,2\n1,2,3\n", "line 3: 3 fields, but there are 2 columns"),
    ("a,b\n1,2\n1\n", "line 3: 1 fields, but there are 2 columns"),
    ('a,b\n1,"2\n', "line 2: unexpected end of data"),
    ('a,b\n1,"2"3\n', "line 2: "),
    ("a,b\n1,ä\n".encode("latin-1"), "line 2: column 'b': '\ufffd' is not a number"),
    (gzip.compress(b"a,b\n1,2\n")[:-4], "corrupt gzip file"),
    ("a,b\n1," + "9" * 200_000, "line 2: field larger than field limit"),
])  # fmt: skip
def test_read_csv_refuses(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        read_csv(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_read_csv_target(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,b\n1,2,3\n")
    assert read_csv(path, 1).tensors[1].tolist() == [[2]]
    for target in ("b", "c", 3, -1):
        with pytest.raises(ValueError, match=f"{path}: target must be one column's name.*, got {target!r}"):
            read_csv(path, target)


@pytest.mark.parametrize("encode", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_read_csv_fuzz(tmp_path, encode):
    path = tmp_path / "a.csv"

    def read():
        x, y = read_csv(path).tensors
        assert np.isfinite(x.numpy()).all()
        assert y.shape == (x.shape[0], 1)

    assert fuzz(encode(b'a,"b",c\n1,2,3\n-1.5,2e3,"9"\n\n4,5,6\n'), path, read, 500) > 10
