"""Pictures in files and folders of classes."""

import io
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnn.data import DataLoader, folder
from fastnn.data.folder import ImageFolder, read_image


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def tree(tmp_path, rng):
    """Three classes of 4, 3 and 2 PNG files, 5×6 pixels in colour; the pixels by path."""
    pixels = {}
    for name, count in ("ant", 4), ("bee", 3), ("cat", 2):
        for i in range(count):
            path = tmp_path / name / ("deeper" if i == 1 else "") / f"{9 - i}.png"
            pixels[str(path)] = rng.integers(0, 256, (5, 6, 3), np.uint8)
            write(path, pixels[str(path)])
    (tmp_path / "ant" / "notes.txt").write_text("no picture")
    (tmp_path / ".git").mkdir()
    (tmp_path / "ant" / "._9.png").write_bytes(b"rubbish")
    return tmp_path, pixels


def test_samples(tree):
    root, pixels = tree
    dataset = ImageFolder(root)
    assert dataset.classes == ["ant", "bee", "cat"]
    assert dataset.class_to_idx == {"ant": 0, "bee": 1, "cat": 2}
    assert dataset.targets.tolist() == [0] * 4 + [1] * 3 + [2] * 2
    assert [path for path, _ in dataset.samples] == sorted(pixels)
    assert dataset.shape == (3, 5, 6)
    for i, (path, label) in enumerate(dataset.samples):
        image, target = dataset[i]
        assert (target, image.dtype) == (label, np.uint8)
        np.testing.assert_array_equal(image.numpy().transpose(1, 2, 0), pixels[path])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_load(tree, workers):
    root, pixels = tree
    dataset = ImageFolder(root)
    x, y = next(iter(DataLoader(dataset, 100, num_workers=workers)))
    np.testing.assert_array_equal(x.numpy().transpose(0, 2, 3, 1), [pixels[path] for path, _ in dataset.samples])
    assert (x.numpy().transpose(0, 2, 3, 1).flags.c_contiguous, y.dtype) == (True, np.int64)
    whole = dataset.load(workers)
    assert whole.classes == dataset.classes
    for a, b in zip(whole.tensors, (x, y), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_classes_given(tree):
    root, _ = tree
    dataset = ImageFolder(root, classes=["cat", "dog", "bee", "ant"])
    assert dataset.targets.tolist() == [3] * 4 + [2] * 3 + [0] * 2
    with pytest.raises(ValueError, match=r"class of \['ant', 'bee'\], but has \['ant', 'bee', 'cat'\]"):
        ImageFolder(root, classes=["ant", "bee"])


def test_channels(tmp_path, rng):
    grey, color = rng.integers(0, 256, (4, 3), np.uint8), rng.integers(0, 256, (4, 3, 4), np.uint8)
    path = write(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(read_image(path).numpy(), grey[None])
    np.testing.assert_array_equal(read_image(path, channels=3).numpy(), [grey] * 3)
    path = write(tmp_path / "color.png", color)  # its transparency is dropped
    np.testing.assert_array_equal(read_image(path).numpy(), color[:, :, :3].transpose(2, 0, 1))
    luma = color[:, :, :3] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_image(path, channels=1).numpy()[0] - luma).max() <= 0.51
    path = tmp_path / "palette.png"
    Image.fromarray(color[:, :, :3]).convert("P", palette=Image.Palette.ADAPTIVE).save(path, transparency=b"\1\2")
    assert read_image(path).shape == (3, 4, 3)
    deep = rng.integers(0, 65536, (4, 3), np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png").numpy(), (deep >> 8)[None])
    for mode, pixels in ("F", deep.astype(np.float32)), ("I", deep.astype(np.int32)):
        Image.fromarray(pixels).save(tmp_path / "wide.tif")
        with pytest.raises(ValueError, match=rf"wide\.tif: pixels of mode {mode} have no known range"):
            read_image(tmp_path / "wide.tif")
    Image.fromarray(grey > 100).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png").numpy(), np.where(grey > 100, 255, 0)[None])


def test_size_crops_about_the_centre_and_scales(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8, 0], pixels[:, 8:, 1], pixels[:, [0, 1, 14, 15], 2] = 200, 100, 255  # half red, half green, blue ends
    path = write(tmp_path / "wide.png", pixels)
    small = read_image(path, (4, 4)).numpy()
    np.testing.assert_array_equal(small[:, :, [0, 3]].transpose(1, 2, 0), [[[200, 0, 0], [0, 100, 0]]] * 4)
    assert read_image(path, 20).shape == (3, 20, 20)
    assert read_image(path, (2, 9)).shape == (3, 2, 9)


def test_jpeg_is_near_and_upright(tmp_path):
    y, x = np.mgrid[:64, :96]
    pixels = np.stack([2 * y, 2 * x, y + x], -1).astype(np.uint8)
    path = write(tmp_path / "plain.jpg", pixels, quality=95)
    assert np.abs(read_image(path).numpy().transpose(1, 2, 0).astype(int) - pixels).max() < 12
    scaled = read_image(path, (8, 12)).numpy().transpose(1, 2, 0)  # decoded at an eighth
    assert np.abs(scaled - pixels.reshape(8, 8, 12, 8, 3).mean((1, 3))).max() < 6
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned by a quarter
    turned = write(tmp_path / "turned.jpg", pixels, quality=95, exif=exif)
    upright = read_image(turned).numpy()
    assert upright.shape == (3, 96, 64)
    assert np.abs(upright.transpose(1, 2, 0).astype(int) - np.rot90(pixels, -1)).max() < 12


def test_auto_size(tmp_path, rng):
    for i, size in enumerate([(10, 30), (20, 12), (40, 16)]):
        write(tmp_path / "a" / f"{i}.png", rng.integers(0, 256, (*size, 3), np.uint8))
    assert ImageFolder(tmp_path, size="auto").load().tensors[0].shape == (3, 3, 12, 12)
    for path in (tmp_path / "a").iterdir():
        write(path, rng.integers(0, 256, (7, 9), np.uint8))
    assert ImageFolder(tmp_path, size="auto").load().tensors[0].shape == (3, 1, 7, 9)


def test_bad_folders(tmp_path, tree):
    root, _ = tree
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="must have one folder for each class, but has no folders"):
        ImageFolder(root / "cat" / "deeper")
    (root / "empty").mkdir()
    with pytest.raises(ValueError, match=r"the class .*empty has no pictures \(\.png"):
        ImageFolder(root)


def test_pictures_that_differ(tree, rng):
    root, pixels = tree
    first = min(pixels)
    odd = write(root / "cat" / "odd.png", rng.integers(0, 256, (5, 6), np.uint8))
    dataset = ImageFolder(root)
    with pytest.raises(ValueError, match=rf"{odd} has the shape .* \(1, 5, 6\), but {first} .*; channels=") as e:
        dataset.load()
    assert e.value.__notes__ == [f"ImageFolder: this was sample 9 of {root}"]
    assert ImageFolder(root, channels=1).load().tensors[0].shape == (10, 1, 5, 6)
    write(odd, rng.integers(0, 256, (6, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=rf"{odd} has the shape .* \(3, 6, 6\), but .*; size="):
        ImageFolder(root).load(2)
    assert ImageFolder(root, size=3).load().tensors[0].shape == (10, 3, 3, 3)


@pytest.mark.parametrize("workers", [0, 3])
def test_an_unreadable_picture_is_named(tree, workers):
    root, pixels = tree
    victim = Path(sorted(pixels)[5])
    data = victim.read_bytes()
    for damaged in data[:-40], data[:20], b"", b"GIF89a no picture":
        victim.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"read_image: {victim}: ") as caught:
            for _ in DataLoader(ImageFolder(root), 2, num_workers=workers):
                pass
        assert caught.value.__notes__ == [f"ImageFolder: this was sample 5 of {root}"]
    dataset = ImageFolder(root)
    victim.unlink()
    with pytest.raises(FileNotFoundError, match=victim.name):
        dataset[5]


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), zlib.compress(bytes(99))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow warns besides
@pytest.mark.parametrize("side", [9_500, 14_000, 2**31 - 1])
def test_decompression_bombs_are_refused(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(ValueError, match=rf"read_image: {path}: .*pixels"):
        read_image(path)


def test_damaged_pictures_never_raise_anything_else(tmp_path, rng):
    files = []
    for kind in "PNG", "JPEG", "BMP", "GIF", "TIFF":
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(buffer, kind)
        files.append(buffer.getvalue())
    path = tmp_path / "damaged"
    for i in range(400):
        data = bytearray(files[i % len(files)])
        for place in rng.integers(0, len(data), 1 + i % 5):
            data[place] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data))] if i % 4 == 0 else data)
        try:
            assert read_image(path, size=(5, 4), channels=3).shape == (3, 5, 4)
        except ValueError as error:
            assert str(path) in str(error)


def test_decoding_runs_beside_itself(tree, monkeypatch):
    """Several threads are inside the decoder at once."""
    root, _ = tree
    inside, most, lock, read = 0, 0, threading.Lock(), folder.read_image

    def slow(*arguments):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with lock:
            inside -= 1
        return read(*arguments)

    dataset = ImageFolder(root)
    monkeypatch.setattr(folder, "read_image", slow)
    assert sum(len(x) for x, _ in DataLoader(dataset, 1, num_workers=3)) == 9
    assert most == 3


def test_bad_arguments(tree, monkeypatch):
    root, pixels = tree
    path = min(pixels)
    with pytest.raises(ValueError, match="channels must be 1, 3 or None, got 2"):
        read_image(path, channels=2)
    with pytest.raises(ValueError, match="size must be at least 1"):
        read_image(path, 0)
    with pytest.raises(ValueError, match="size 100000 is more than 89478485 pixels"):
        read_image(path, 100_000)
    with pytest.raises(FileNotFoundError):
        read_image(root / "nothing.png")
    with pytest.raises(OSError):
        read_image(root)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"needs Pillow: pip install 'fastnn\[image\]'"):
        read_image(path)
