"""State dicts travel between the libraries as safetensors files; save and load keep what they are given."""

import pytest
import safetensors.torch
import torch

import fastnn

from .pairs import LIBS, SOURCES, TOLERANCE, assert_close, check, fill, normal, ported, to_numpy

MODELS = {lib: ported(lib, *SOURCES) for lib in LIBS}


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_state_dicts_load_by_name_in_the_other_library(name, tmp_path):
    shape = (1, 28, 28) if name == "lenet5" else (3, 32, 32)
    ours, theirs = (getattr(MODELS[lib], name)(shape).eval() for lib in LIBS)
    x = normal(2, *shape).astype("float32")

    fill(torch, theirs, seed="from PyTorch")
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours.load_state_dict(fastnn.load(tmp_path / "theirs.safetensors"))
    want = to_numpy(theirs(torch.tensor(x)))
    assert_close(to_numpy(ours(fastnn.tensor(x))), want, 10 * TOLERANCE["float32"], "loaded from PyTorch")

    fill(fastnn, ours, seed="from fastnn")
    fastnn.save(ours.state_dict(), tmp_path / "ours.safetensors")
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "ours.safetensors"))
    want = to_numpy(theirs(torch.tensor(x)))
    assert_close(to_numpy(ours(fastnn.tensor(x))), want, 10 * TOLERANCE["float32"], "loaded from fastnn")


def test_save_and_load(tmp_path):
    def case(lib):
        path = tmp_path / f"{lib.__name__}.pt"
        net = fill(lib, lib.nn.Sequential(lib.nn.Conv2d(1, 2, (3, 2)), lib.nn.BatchNorm2d(2)))
        optimizer = lib.optim.Adam(net.parameters(), lr=0.1)
        net(lib.ones(3, 1, 5, 4)).sum().backward()
        optimizer.step()
        checkpoint = {
            "model": net.state_dict(),
            "optimizer": optimizer.state_dict()["state"],
            "epoch": 3, "best": 0.5, "name": "net", "done": False, "nothing": None, "history": [1.0, (2, "x")],
            "indices": lib.arange(3), "mask": lib.tensor([True, False]), "scalar": lib.tensor(2.5),
            "empty": lib.zeros(0, 3),
        }  # fmt: skip
        lib.save(checkpoint, path)
        loaded = lib.load(path)
        lib.load(path, map_location="cpu")
        lib.load(path, map_location=lib.device("cpu"), weights_only=True)
        return [loaded[k] for k in checkpoint if k != "optimizer"], list(loaded), sorted(loaded["optimizer"])

    check(case, dtypes=("float32",))
