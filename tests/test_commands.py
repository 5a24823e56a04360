"""The command line: train, evaluate, predict on all kinds of data."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from PIL import Image

import fastnn
from fastnn import data, models
from fastnn.__main__ import main
from fastnn.data import DataLoader, preprocess
from fastnn.train import Predictor, Regression, Trainer, evaluate


def run(capsys, command, *arguments):
    """Standard output of a command that succeeds, by lines."""
    status = main([command, *map(str, arguments)])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")  # no progress bar off a terminal
    return out.splitlines()


def fails(capsys, command, *arguments):
    """Standard error of a command that fails for what it was given."""
    assert main([command, *map(str, arguments)]) == 1
    return capsys.readouterr().err


def accuracy(lines):
    assert re.fullmatch(r"test accuracy [01]\.\d{4}", lines[-1])
    return float(lines[-1].split()[-1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_mlp_learns_the_digits(capsys, optimizer):
    lines = run(capsys, "train", "--model", "mlp", "--epochs", 12, "--optimizer", optimizer)
    assert accuracy(lines) > 0.93
    assert len([line for line in lines if re.match(r"epoch +\d+  training loss \d", line)]) == 12
    assert "1293 images to train on, 144 to validate, 360 to test" in lines[0]


@pytest.mark.parametrize("model", sorted(set(models.__all__) - {"mlp"}))
def test_convolutional_networks_train(capsys, model):
    lines = run(capsys, "train", "--model", model, "--epochs", 2, "--batch-size", 64, "--lr", 0.003)
    assert float(re.search(r"training loss \S+ accuracy (\S+)", lines[2])[1]) > 0.8
    accuracy(lines)


def test_the_same_seed_gives_the_same_run(capsys):
    def figures(*more):
        lines = run(capsys, "train", "--model", "mlp", "--epochs", 2, "--augment", "rotate=20,noise", *more)
        return [line.split("  ")[:-1] for line in lines[1:-2]] + lines[-2:]  # without samples/s

    first = figures("--seed", 1)
    assert first == figures("--seed", 1, "--threads", 1, "--workers", 2) != figures("--seed", 2)


def test_schedules_and_warm_up(capsys):
    common = ("--model", "mlp", "--epochs", 4, "--optimizer", "sgd", "--lr", 0.1)
    runs = {tuple(run(capsys, "train", *common, *more)[-2:]) for more in (
        (), ("--schedule", "step"), ("--schedule", "constant"), ("--warmup", 1.5), ("--label-smoothing", 0))}
    assert len(runs) == 5


# Pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The digits as PNG files in folders: train/0 … test/9."""
    root = tmp_path_factory.mktemp("digits")
    for part in "train", "test":
        images, labels = (t.numpy() for t in data.digits(part == "train").tensors)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / part / str(label) / f"{i:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(image[0] * 255).astype(np.uint8)).save(path)
    return root


def test_digits_as_pictures_give_the_same_as_arrays(capsys, tmp_path, pictures):
    """Trained from a folder, the network is the same in every bit; evaluate and predict find the same accuracy."""
    options = ("--model", "cnn", "--epochs", 2, "--augment", "rotate=10,crop=2", "--batch-size", 64)
    from_arrays = run(capsys, "train", *options, "--save", tmp_path / "a")
    from_folder = run(capsys, "train", *options, "--save", tmp_path / "b", "--data", pictures)
    assert from_folder[0] == from_arrays[0]
    assert from_folder[-2:] == from_arrays[-2:]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    for source in "digits", pictures:
        assert run(capsys, "evaluate", "--weights", tmp_path / "b", "--data", source) == from_arrays[-2:]
    answers = run(capsys, "predict", "--weights", tmp_path / "b", "--top", 1, pictures / "test")
    assert len(answers) == 360
    right = [re.fullmatch(r".*/(\d)/\d+\.png: (\d) [01]\.\d{4}", line).groups() for line in answers]
    assert np.mean([label == found for label, found in right]) == pytest.approx(accuracy(from_arrays), abs=6e-5)


def test_evaluate_and_predict_with_views(capsys, tmp_path, pictures):
    path = tmp_path / "w"
    run(capsys, "train", "--model", "mlp", "--epochs", 4, "--augment", "crop=1", "--save", path)
    plain = run(capsys, "evaluate", "--weights", path)
    assert run(capsys, "evaluate", "--weights", path, "--views", "five-crop=0") == plain  # all five are the image
    averaged = run(capsys, "evaluate", "--weights", path, "--tta")
    assert averaged == run(capsys, "evaluate", "--weights", path, "--views", "five-crop=1") != plain
    one = next((pictures / "test" / "3").iterdir())
    assert run(capsys, "predict", "--weights", path, one) != run(capsys, "predict", "--weights", path, "--tta", one)
    predictor, image = Predictor.load(path), data.read_image(one).numpy()[None]
    view = data.transforms.FiveCrop(8, padding=1)
    by_hand = np.mean([predictor(v).numpy() for v in view(data.transforms.ToFloat()(image)).numpy()], 0)
    np.testing.assert_allclose(predictor(image, view).numpy(), by_hand, atol=1e-6)


def test_predict_reads_any_picture(capsys, tmp_path, pictures, rng):
    path = tmp_path / "w"
    run(capsys, "train", "--model", "mlp", "--epochs", 1, "--save", path)
    Image.fromarray(rng.integers(0, 256, (90, 60, 3), np.uint8)).save(tmp_path / "photo.jpg")
    (line,) = run(capsys, "predict", "--weights", path, "--top", 2, tmp_path / "photo.jpg")
    assert re.fullmatch(r".*photo\.jpg: \d 0\.\d{4}, \d 0\.\d{4}", line)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    status = main(["predict", "--weights", str(path), *map(str, (tmp_path / "broken.png", tmp_path / "photo.jpg"))])
    out, err = capsys.readouterr()
    assert (status, len(out.splitlines())) == (1, 1)
    assert "broken.png" in err


def test_a_folder_without_parts_keeps_a_fifth_to_test_with(capsys, tmp_path, pictures):
    common = ("--data", pictures / "train")
    lines = run(capsys, "train", *common, "--model", "mlp", "--epochs", 1, "--save", tmp_path / "w")
    kept = 1437 - 287
    assert f"{kept - kept // 10} images to train on, {kept // 10} to validate, 287 to test" in lines[0]
    assert run(capsys, "evaluate", "--weights", tmp_path / "w", *common) == lines[-2:]


def test_pictures_read_while_training(capsys, monkeypatch, pictures):
    """Those that do not fit into memory."""
    options = ("--data", pictures, "--model", "mlp", "--epochs", 1)
    whole = run(capsys, "train", *options)
    monkeypatch.setattr(data.source, "MEMORY", 1000)
    for workers in (), ("--workers", 0), ("--workers", 3):
        assert run(capsys, "train", *options, *workers)[-2:] == whole[-2:]


def test_colour_pictures_of_any_size(capsys, tmp_path, rng):
    for name, color in ("red", 0), ("green", 1):
        (tmp_path / name).mkdir()
        for i in range(30):
            pixels = rng.integers(0, 100, (rng.integers(30, 50), rng.integers(30, 50), 3))
            pixels[..., color] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{i}.jpg")
    for model in models.__all__:
        lines = run(capsys, "train", "--data", tmp_path, "--model", model, "--epochs", 1, "--batch-size", 16, "--size",
                    "36x33", "--augment", "flip,jitter=0.1,pca-color,mixup")
        assert "43 images to train on, 5 to validate, 12 to test" in lines[0]
    lines = run(capsys, "train", "--data", tmp_path, "--model", "cnn", "--epochs", 4, "--batch-size", 8)
    assert accuracy(lines) == 1


def test_mistakes_with_folders(capsys, tmp_path, pictures):
    (tmp_path / "cat").mkdir()
    assert re.search("the class .*cat has no pictures", fails(capsys, "train", "--data", tmp_path))
    (tmp_path / "cat" / "1.png").write_bytes(b"rubbish")
    error = fails(capsys, "train", "--data", tmp_path)
    assert re.search(r"ImageFolder: .*cat.1\.png: cannot identify", error)
    assert "no file, no folder and none of digits, fashion_mnist" in fails(capsys, "train", "--data", "cats")
    run(capsys, "train", "--data", pictures, "--model", "mlp", "--epochs", 1, "--save", tmp_path / "w")
    assert "no file, no folder" in fails(capsys, "evaluate", "--weights", tmp_path / "w", "--data", "nowhere")
    assert "none.png" in fails(capsys, "predict", "--weights", tmp_path / "w", tmp_path / "none.png")


def test_classes_may_have_any_name(capsys, tmp_path, rng):
    for name in "x", "images":
        for i in range(12):
            path = tmp_path / name / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8)).save(path)
    run(capsys, "train", "--data", tmp_path, "--model", "mlp", "--epochs", 1, "--save", tmp_path / "w")
    assert Predictor.load(tmp_path / "w").classes == ["images", "x"]


# Other data -------------------------------------------------------------------------------------------------------


def write_idx(path, a):
    path.write_bytes(bytes([0, 0, 8, a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes())


def test_a_data_set_by_name_from_its_files(capsys, tmp_path, rng):
    for part, n in ("train", 200), ("t10k", 50):
        labels = rng.integers(0, 10, n).astype(np.uint8)
        images = rng.integers(0, 30, (n, 28, 28)).astype(np.uint8)
        images[np.arange(n), 2 * labels + 3] += 200  # a bright row tells the class
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels)
    common = ("--data", "fashion_mnist", "--root", tmp_path)
    lines = run(capsys, "train", *common, "--model", "mlp", "--epochs", 8, "--save", tmp_path / "w")
    assert "180 images to train on, 20 to validate, 50 to test" in lines[0]
    assert accuracy(lines) > 0.8
    assert run(capsys, "evaluate", *common, "--weights", tmp_path / "w") == lines[-2:]
    assert Predictor.load(tmp_path / "w").classes[9] == "Ankle boot"
    error = fails(capsys, "train", "--data", "cifar10", "--root", tmp_path)
    assert str(tmp_path) in error
    assert "download" in error
    assert "takes (1, 28, 28)" in fails(capsys, "evaluate", "--data", "digits", "--weights", tmp_path / "w")
    other = ("--data", "mnist", "--root", tmp_path, "--weights", tmp_path / "w")
    assert "knows ['T-shirt/top', " in fails(capsys, "evaluate", *other)


@pytest.mark.parametrize("text", ["none", *preprocess.PREPROCESSORS, "pca=20", "whiten=0.9"])
def test_preparation_is_saved_with_the_weights(capsys, tmp_path, text):
    lines = run(capsys, "train", "--model", "mlp", "--epochs", 3, "--preprocess", text, "--save", tmp_path / "w")
    assert accuracy(lines) > 0.8
    assert run(capsys, "evaluate", "--weights", tmp_path / "w") == lines[-2:]
    predictor = Predictor.load(tmp_path / "w")
    assert (predictor.preprocess is None) == (text == "none")


def test_preparation_sees_the_training_samples_alone(capsys, monkeypatch):
    seen = []
    fit = preprocess.MeanImage.fit

    def watched(self, loader):
        seen.append(np.concatenate([x.numpy() for x, _ in loader]))
        return fit(self, loader)

    monkeypatch.setattr(preprocess.MeanImage, "fit", watched)
    run(capsys, "train", "--model", "mlp", "--epochs", 1, "--preprocess", "mean-image", "--augment", "noise")
    training = {np.rint(255 * image).astype(np.uint8).tobytes() for image in data.digits().tensors[0].numpy()}
    assert seen[0].shape == (1293, 1, 8, 8)
    assert {np.rint(255 * image).astype(np.uint8).tobytes() for image in seen[0]} < training


@pytest.fixture
def houses(tmp_path, rng):
    x = rng.uniform(1, 9, (400, 3))
    y = 1e5 * (x[:, :1] - 0.5 * x[:, 1:2] + 3)
    with open(tmp_path / "houses.csv", "w") as file:
        print("rooms,price,age,noise", file=file)
        for (rooms, age, noise), (price,) in zip(x, y, strict=True):
            print(f"{rooms:.6f},{price:.3f},{age:.6f},{noise:.6f}", file=file)
    return tmp_path / "houses.csv", x, y


def test_regression_from_a_table(capsys, tmp_path, houses):
    path, x, y = houses
    common = ("--data", path, "--target", "price")
    lines = run(capsys, "train", *common, "--model", "mlp", "--epochs", 40, "--save", tmp_path / "w")
    assert "288 samples to train on, 32 to validate, 80 to test" in lines[0]
    mse, mae, r2 = map(float, re.fullmatch(r"test mse (\S+) mae (\S+) r2 (\S+)", lines[-1]).groups())
    assert r2 > 0.97
    assert 0 < mae <= mse**0.5 < y.std()
    assert run(capsys, "evaluate", "--data", path, "--weights", tmp_path / "w") == lines[-1:]
    common = ("--data", path)

    def predict(file):
        answers = run(capsys, "predict", "--weights", tmp_path / "w", file)
        assert [line.split(": ")[0] for line in answers] == [f"{file} row {i + 1}" for i in range(len(answers))]
        return np.array([float(line.split(": ")[1]) for line in answers])

    answers = predict(path)
    assert np.corrcoef(answers, y[:, 0])[0, 1] > 0.98
    with open(tmp_path / "new.csv", "w") as file:  # columns in another order, no target
        print("noise;age;rooms", file=file)
        for rooms, age, noise in x[:5]:
            print(f"{noise:.6f};{age:.6f};{rooms:.6f}", file=file)
    np.testing.assert_allclose(predict(tmp_path / "new.csv"), answers[:5], rtol=1e-6)
    table = [line.split(",") for line in path.read_text().splitlines()]
    (tmp_path / "turned.csv").write_text("\n".join(",".join(reversed(row)) for row in table))
    assert run(capsys, "evaluate", "--data", tmp_path / "turned.csv", "--weights", tmp_path / "w") == lines[-1:]
    assert "takes images" in fails(capsys, "train", *common, "--model", "cnn")
    assert "--augment: changes images" in fails(capsys, "train", *common, "--model", "mlp", "--augment", "noise")
    assert "images" in fails(capsys, "evaluate", *common, "--weights", tmp_path / "w", "--tta")
    (tmp_path / "bad.csv").write_text("noise,rooms\n1,2\n")
    assert "'age'" in fails(capsys, "predict", "--weights", tmp_path / "w", tmp_path / "bad.csv")
    assert "houses.csv: target must be one column" in fails(capsys, "train", "--data", path, "--target", "prize")
    common = ("--data", path, "--model", "mlp", "--epochs", 1)
    by_number = run(capsys, "train", *common, "--target", "1")
    assert by_number[-1] == run(capsys, "train", *common, "--target", "price")[-1]
    mistake = fails(capsys, "train", "--data", path, "--model", "mlp", "--task", "classification")
    assert "classification needs labels (N,), ints from 0" in mistake
    (tmp_path / "one.csv").write_text("1,2\n")
    assert "one.csv has no samples for its part 'test'" in fails(capsys, "train", "--data", tmp_path / "one.csv")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_arrays(capsys, tmp_path, dtype):
    """Images and labels as arrays in a folder; then a number to predict for each image."""
    images, labels = (t.numpy() for t in data.digits().tensors)
    np.save(tmp_path / "x.npy", (images * (255 if dtype == np.uint8 else 1)).astype(dtype))
    np.save(tmp_path / "y.npy", labels.astype(np.uint8))
    assert accuracy(run(capsys, "train", "--data", tmp_path, "--model", "mlp", "--epochs", 3)) > 0.8
    np.save(tmp_path / "y.npy", labels.astype(np.int64) - 1)
    error = fails(capsys, "train", "--data", tmp_path, "--model", "mlp", "--epochs", 1)
    assert "needs labels (N,), ints from 0 to 8 for 9 classes, got targets (1150,) int64, -1 to 8" in error
    for shape in (-1, 1), (-1,):
        np.save(tmp_path / "y.npy", labels.astype(dtype).reshape(shape))
        lines = run(capsys, "train", "--data", tmp_path, "--model", "mlp", "--epochs", 3, "--task", "regression",
                    "--save", tmp_path / "w")
        assert float(lines[-1].split()[-1]) > 0.5
        assert run(capsys, "evaluate", "--data", tmp_path, "--weights", tmp_path / "w") == lines[-1:]


# Runs in folders ---------------------------------------------------------------------------------------------------

MLP = ("--model", "mlp", "--batch-size", 64)


def test_a_run_repeats_itself_from_its_description(capsys, tmp_path):
    first = run(capsys, "train", *MLP, "--epochs", 2, "--output", tmp_path / "a", "--seed", 3, "--ema", 0.9,
                "--accumulate", 2, "--clip-norm", 1, "--augment", "noise")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "checkpoints", "config.toml", "log.csv", "model.safetensors"]
    config = tomllib.loads((tmp_path / "a" / "config.toml").read_text())
    assert (config["seed"], config["ema"], config["warmup"], config["augment"]) == (3, 0.9, 0.0, "noise")
    assert not {"lr", "output", "save", "threads", "root"} & config.keys()
    assert fastnn.load(tmp_path / "a" / "checkpoints" / "best.safetensors")["config"] == config
    common = ("train", "--config", tmp_path / "a" / "config.toml")
    again = run(capsys, *common, "--output", tmp_path / "b", "--log", "jsonl")
    assert again[-2:] == first[-2:]
    networks = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert networks[0] == networks[1]
    rows = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    table = [line.split(",") for line in (tmp_path / "a" / "log.csv").read_text().splitlines()]
    for name in table[0][:6]:
        assert [float(row[table[0].index(name)]) for row in table[1:]] == [row[name] for row in rows]
    other = run(capsys, *common, "--seed", 4)  # overrides the file
    assert other[-2:] != first[-2:]
    assert run(capsys, "evaluate", "--weights", tmp_path / "a") == first[-2:]


def test_a_run_is_not_overwritten(capsys, tmp_path):
    run(capsys, "train", *MLP, "--epochs", 1, "--output", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert "holds a run already; --resume" in fails(capsys, "train", *MLP, "--epochs", 1, "--output", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_an_interrupted_run_goes_on_with_the_same_bits(capsys, tmp_path, monkeypatch):
    options = (*MLP, "--epochs", 3, "--augment", "noise", "--watch", "--early-stopping", 5)
    run(capsys, "train", *options, "--output", tmp_path / "whole")
    trained = Trainer._run_batch

    def interrupted(self, batch):
        if (self.epoch, self.batch) == (2, 7):
            os.kill(os.getpid(), signal.SIGINT)
        trained(self, batch)

    monkeypatch.setattr(Trainer, "_run_batch", interrupted)
    assert main([*map(str, ("train", *options, "--output", tmp_path / "half"))]) == 130
    err = capsys.readouterr().err
    assert "interrupted in epoch 2 of 3, after 8 batches" in err
    assert err.endswith(f"go on with: fastnn train --resume {tmp_path / 'half'}\n")
    monkeypatch.undo()
    assert not (tmp_path / "half" / "model.safetensors").exists()
    lines = run(capsys, "train", "--resume", tmp_path / "half")
    assert [line[:9] for line in lines[1:-2]] == ["epoch   2", "epoch   3"]
    networks = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("half", "whole")]
    assert networks[0] == networks[1]
    assert main([*map(str, ("train", *MLP, "--epochs", 3, "--save", tmp_path / "w"))]) == 0


def test_mistakes_with_runs(capsys, tmp_path):
    path = tmp_path / "run.toml"
    for text, message in (("epochs = ", "run.toml: "), ("depth = 3", "there is no option 'depth'"),
                          ("[model]\nname = 'mlp'", "no option 'model'"), ("resume = 'x'", "no option 'resume'"),
                          ("output = 'x'", "no option 'output'")):
        path.write_text(text)
        assert message in fails(capsys, "train", "--config", path)
    path.write_text("epochs = 0")
    with pytest.raises(SystemExit):
        main(["train", "--config", str(path)])
    assert "argument --epochs: 0 is not at least 1" in capsys.readouterr().err
    assert "none" in fails(capsys, "train", "--config", tmp_path / "none.toml")
    assert "config.toml" in fails(capsys, "train", "--resume", tmp_path)
    assert "--output is needed" in fails(capsys, "train", "--report")
    path.write_text("epochs = 1\nreport = true\nmodel = 'mlp'\nwatch = false")  # options of train alone
    assert main(["diagnose", "--config", str(path)]) == 0


def test_diagnose(capsys, tmp_path):
    assert "0 failures" in run(capsys, "diagnose", "--model", "mlp")[-1]
    assert main(["diagnose", "--model", "mlp", "--lr", "1e6"]) == 1
    assert re.search("failure +learning rate", capsys.readouterr().out)
    run(capsys, "train", *MLP, "--epochs", 3, "--save", tmp_path / "w")
    lines = run(capsys, "diagnose", "--model", "mlp", "--weights", tmp_path / "w")
    assert re.search(r"initial loss", "\n".join(lines))


def test_summary(capsys, tmp_path):
    assert run(capsys, "summary", "--model", "lenet5") == str(
        fastnn.summary(models.lenet5((1, 28, 28), 10), (1, 28, 28))).splitlines()
    assert "10,164" in " ".join(run(capsys, "summary", "--model", "lenet5", "--shape", "3x32x32", "--classes", 100))
    Predictor("cnn", (1, 8, 8), 3).save(tmp_path / "w")
    assert "(N, 32, 28, 28)" in " ".join(run(capsys, "summary", "--weights", tmp_path / "w"))
    with pytest.raises(SystemExit):
        main(["summary", "--shape", "3x"])
    assert "3x is no shape" in capsys.readouterr().err
    for command in ("summary", "--model", "cnn"), ("bench", "cnn"):
        assert "cnn takes images (C, H, W)" in fails(capsys, *command, "--shape", 5)


def test_bench(capsys, monkeypatch):
    monkeypatch.setattr(fastnn.commands, "SECONDS", 0.01)
    lines = run(capsys, "bench", "mlp", "lenet5", "--batch-size", 4, "--threads", 1)
    assert "batch 4, 1 threads" in lines[0]
    assert [line.split()[:2] for line in lines[1:]] == [["mlp", "1x28x28"], ["lenet5", "1x28x28"]]
    assert all(float(line.split()[2]) > float(line.split()[4]) > 0 for line in lines[1:])
    assert "there is no model 'rnn'" in fails(capsys, "bench", "rnn")


def test_more_figures(capsys, tmp_path, houses):
    score = run(capsys, "train", *MLP, "--epochs", 3, "--save", tmp_path / "w")
    lines = run(capsys, "evaluate", "--weights", tmp_path / "w", "--metrics", "top5", "f1", "confusion")
    assert lines[:2] == score[-2:]
    assert [line.split()[1] for line in lines[2:5]] == ["top5", "f1", "confusion"]
    matrix = np.array([line.split()[1:] for line in lines[5:]], int)
    assert np.trace(matrix) / matrix.sum() == pytest.approx(accuracy(score), abs=1e-4)
    run(capsys, "train", "--data", houses[0], "--model", "mlp", "--epochs", 1, "--save", tmp_path / "v")
    error = fails(capsys, "evaluate", "--data", houses[0], "--weights", tmp_path / "v", "--metrics", "f1")
    assert "--metrics: those are of classes" in error


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "diagnose", "search", "summary", "bench"])
def test_help_has_examples(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for line in text.partition("examples:")[2].strip().splitlines():
        assert line.split()[:2] == ["fastnn", command]
        assert {word for word in line.split() if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", text))


# The rest ---------------------------------------------------------------------------------------------------------


def test_save(capsys, tmp_path):
    path = tmp_path / "weights"
    score = accuracy(run(capsys, "train", "--model", "mlp", "--epochs", 1, "--save", path))
    saved = fastnn.load(path)
    assert (saved["model"], saved["classes"], saved["shape"]) == ("mlp", list("0123456789"), [1, 8, 8])
    model = models.mlp((1, 8, 8), 10)
    model.load_state_dict(saved["state_dict"])
    prepare = preprocess.from_saved(saved["preprocess"])
    found = evaluate(model, DataLoader(data.digits(train=False), 100, transform=prepare))
    assert found["accuracy"] == pytest.approx(score, abs=6e-5)


def test_predictor_survives_a_round_trip(tmp_path, rng):
    x = rng.standard_normal((20, 4), np.float32)
    for task in None, Regression(3.0, 0.5):
        prepare = preprocess.PCA(2).fit(x)
        predictor = Predictor("mlp", (4,), 3, task, list("abc"), list("wxyz"), "v", prepare)
        predictor.save(tmp_path / "w")
        again = Predictor.load(tmp_path / "w")
        assert (again(x).numpy() == predictor(x).numpy()).all()
        assert (again.classes, again.features, again.task.name) == (list("abc"), list("wxyz"), predictor.task.name)


def test_files_of_others_are_refused(capsys, tmp_path):
    path = tmp_path / "w"
    path.write_bytes(b"rubbish")
    assert "w is corrupt" in fails(capsys, "predict", "--weights", path, "x.png")
    assert "none" in fails(capsys, "predict", "--weights", tmp_path / "none", "x.png")
    for content in {"a": fastnn.ones(2)}, fastnn.ones(3), [1, 2]:
        fastnn.save(content, path)
        assert "was not written by" in fails(capsys, "evaluate", "--weights", path)
    Predictor("mlp", (1, 8, 8), 10).save(path)
    saved = fastnn.load(path)
    for key, value in (("model", "rnn"), ("shape", [1, 8]), ("outputs", 11), ("state_dict", {}), ("shape", "abc"),
                       ("task", "regression"), ("preprocess", {"name": "pca"}), ("outputs", -1), ("classes", ["a"])):
        fastnn.save(saved | {key: value}, path)
        assert "was not written by" in fails(capsys, "evaluate", "--weights", path), key


@pytest.mark.parametrize(("arguments", "message"), [
    (["--model", "rnn"], "invalid choice: 'rnn'"),
    (["--epochs", "0"], "argument --epochs: 0 is not at least 1"),
    (["--batch-size", "1.5"], "argument --batch-size: invalid int value: '1.5'"),
    (["--lr", "-1"], "-1 is not at least 0"),
    (["--lr", "nan"], "nan is not at least 0"),
    (["--threads", "0"], "0 is not at least 1"),
    (["--size", "3x"], "argument --size: 3x is neither a side nor HxW"),
    (["--schedule", "cyclic"], "invalid choice: 'cyclic'"),
])  # fmt: skip
def test_bad_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_tta_or_views(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--weights", "w", "--tta", "--views", "flip"])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--save", "no/such/folder/file"], "--save"),
    (["--augment", "flop"], "augmentation 'flop' is not known; known are flip, "),
    (["--augment", "crop=x"], "augmentation 'crop=x': its value must be a number"),
    (["--preprocess", "pcb"], "'pcb' is none of mean-image, "),
    (["--label-smoothing", "2"], "label_smoothing"),
    (["--task", "regression", "--data", "digits", "--preprocess", "pca=65"], "64 features only"),
    (["--task", "regression", "--augment", "mixup"], "regression has none"),
    (["--model", "cnn", "--preprocess", "pca=9"], "cnn takes images (C, H, W), but PCA(n_components=9) leaves (9,)"),
    (["--save", "/dev/null"], "is no file"),
    (["--size", "9"], "digits: size and channels can be chosen for folders of pictures only"),
    (["--channels", "3"], "digits: size and channels"),
    (["--target", "price"], "digits: target can be chosen for tables (.csv) only"),
    (["--download"], "digits: root and download are for fashion_mnist, "),
])  # fmt: skip
def test_mistakes_that_are_found_later(capsys, arguments, message):
    assert message in fails(capsys, "train", "--model", "mlp", *arguments)


def test_interrupt(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fastnn.commands, "train", interrupted)
    assert main(["train", "--model", "mlp"]) == 130
    assert capsys.readouterr().err == "fastnn: interrupted\n"


def test_an_empty_folder_is_an_error(capsys, tmp_path):
    Predictor("mlp", (1, 8, 8), 2, classes=["a", "b"]).save(tmp_path / "w")
    (tmp_path / "empty").mkdir()
    assert "empty has no pictures" in fails(capsys, "predict", "--weights", tmp_path / "w", tmp_path / "empty")
    views = ("--views", "five-crop=9")
    assert "out of sight" in fails(capsys, "evaluate", "--weights", tmp_path / "w", *views)


def test_features_without_names(capsys, tmp_path, rng):
    np.savez(tmp_path / "a.npz", x=rng.standard_normal((30, 3)), y=rng.integers(0, 2, 30))
    run(capsys, "train", "--data", tmp_path / "a.npz", "--model", "mlp", "--epochs", 1, "--save", tmp_path / "w")
    (tmp_path / "new.csv").write_text("1,2,3\n4,5,6\n")
    lines = run(capsys, "predict", "--weights", tmp_path / "w", tmp_path / "new.csv")
    assert len(lines) == 2
    assert all(re.fullmatch(r".*new\.csv row \d: [01] 0\.\d{4}, [01] 0\.\d{4}", line) for line in lines)
    (tmp_path / "new.csv").write_text("1,2\n")
    error = fails(capsys, "predict", "--weights", tmp_path / "w", tmp_path / "new.csv")
    assert "new.csv has 2 columns, but the network takes 3" in error
    assert "none.csv" in fails(capsys, "predict", "--weights", tmp_path / "w", tmp_path / "none.csv")


def test_a_rate_that_is_too_high(capsys):
    with np.errstate(all="ignore"):
        error = fails(capsys, "train", "--model", "mlp", "--epochs", "9", "--optimizer", "sgd", "--lr", "1e30")
    assert "try a lower learning rate" in error


def test_config_and_version(capsys):
    assert main(["config"]) == 0
    assert fastnn.__version__ in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2


@pytest.mark.parametrize(("command", "options"), [
    ("train", "data model epochs batch-size lr optimizer seed threads save augment preprocess task schedule workers"),
    ("evaluate", "weights data tta views"), ("predict", "weights tta views top"),
])  # fmt: skip
def test_python_m_fastnn(command, options):
    done = subprocess.run([sys.executable, "-m", "fastnn", command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for option in options.split():
        assert f"--{option} " in done.stdout


def test_a_run_that_ended_before_its_first_checkpoint(capsys, tmp_path):
    lines = run(capsys, "train", *MLP, "--epochs", 1, "--output", tmp_path / "whole")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.toml").write_bytes((tmp_path / "whole" / "config.toml").read_bytes())
    assert run(capsys, "train", "--resume", tmp_path / "half")[-2:] == lines[-2:]
    (tmp_path / "half" / "checkpoints" / "best.safetensors").write_text("")
    for path in (tmp_path / "half" / "checkpoints").glob("checkpoint*"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged checkpoint"):  # which are not overwritten
        assert "no checkpoint that is whole" in fails(capsys, "train", "--resume", tmp_path / "half")


def test_kinds_of_values_in_a_description(capsys, tmp_path):
    path = tmp_path / "run.toml"
    for text, kind in (("lr = false", "bool"), ("seed = true", "bool"), ("epochs = [1, 2]", "list"),
                       ("model = []", "list")):  # fmt: skip
        path.write_text(text)
        option = text.partition(" ")[0]
        assert f"run.toml: {option} cannot be a {kind}" in fails(capsys, "train", "--config", path)


def test_a_space_without_values(capsys):
    assert "parameter 'lr': " in fails(capsys, "search", "--space", "lr")


@pytest.mark.parametrize(("text", "found"), [
    ("12x2", [(12, 2)]), ("12x2,8x5", [(12, 2), (8, 5)]), ("12x28x5", None), ("12x2,", None), ("0x1", None), ("", None),
])  # fmt: skip
def test_stages(capsys, monkeypatch, text, found):
    monkeypatch.setattr(fastnn.commands, "search", lambda arguments: stages.extend(arguments.stages))
    stages = []
    if found:
        assert main(["search", "--space", "lr=0.1:1", "--stages", text]) == 0
        assert [(stage.trials, stage.epochs) for stage in stages] == found
    else:
        with pytest.raises(SystemExit):
            main(["search", "--space", "lr=0.1:1", "--stages", text])
        assert f"{text} is no list of trials and epochs" in capsys.readouterr().err
