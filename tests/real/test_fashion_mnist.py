"""Fashion-MNIST as Debian's package dataset-fashion-mnist has it: read, learned, evaluated and predicted."""

import re
import time

import numpy as np
import pytest
from PIL import Image

from fastnn.__main__ import main
from fastnn.data import fashion_mnist


def run(capsys, *arguments):
    assert main(list(map(str, arguments))) == 0
    return capsys.readouterr().out.splitlines()


def test_loads_in_a_moment():
    start = time.perf_counter()
    parts = fashion_mnist(), fashion_mnist(train=False)
    seconds = time.perf_counter() - start
    assert [part.tensors[0].shape for part in parts] == [(60_000, 1, 28, 28), (10_000, 1, 28, 28)]
    firsts = ["Ankle boot", "T-shirt/top"], ["Ankle boot", "Pullover"]
    for part, n, names in zip(parts, (6000, 1000), firsts, strict=True):
        assert np.bincount(part.tensors[1].numpy()).tolist() == [n] * 10
        assert [part.classes[i] for i in part.tensors[1].numpy()[:2]] == names
    print(f"{seconds:.2f} s")
    assert seconds < 1.5


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tmp_path_factory.mktemp("fashion") / "weights.safetensors"


def test_cnn_learns_in_five_epochs(capsys, trained):
    lines = run(capsys, "train", "--data", "fashion_mnist", "--model", "cnn", "--epochs", 5, "--save", trained)
    with capsys.disabled():
        print(*lines, sep="\n")
    assert float(lines[-1].removeprefix("test accuracy ")) >= 0.905
    assert run(capsys, "evaluate", "--weights", trained, "--data", "fashion_mnist")[-1] == lines[-1]


def test_augmentation_is_learned_too(capsys, tmp_path):
    lines = run(capsys, "train", "--data", "fashion_mnist", "--model", "lenet5", "--epochs", 2, "--augment",
                "flip,crop=2,cutout=4", "--preprocess", "mean-image", "--save", tmp_path / "w")
    plain = float(lines[-1].removeprefix("test accuracy "))
    averaged = run(capsys, "evaluate", "--weights", tmp_path / "w", "--data", "fashion_mnist", "--tta")
    assert min(plain, float(averaged[-1].removeprefix("test accuracy "))) > 0.8


def test_pictures_are_predicted_as_arrays(capsys, tmp_path, trained):
    images, labels = (t.numpy()[:500] for t in fashion_mnist(train=False).tensors)
    names = fashion_mnist(train=False).classes
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(tmp_path / f"{i:03}.png")
    lines = run(capsys, "predict", "--weights", trained, "--top", 1, tmp_path)
    found = [re.fullmatch(r".*/\d+\.png: (.*) [01]\.\d{4}", line)[1] for line in lines]
    assert np.mean([name == names[label] for name, label in zip(found, labels, strict=True)]) > 0.88
