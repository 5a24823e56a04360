"""Objectives for test_search.py, in a module that worker processes can import."""

import math
import os
import time
from pathlib import Path

import fastnn
from fastnn import nn, optim


def hill(params, epochs, report):
    """Best, 0, at lr 1e-3 and option "a"; the more epochs, the better."""
    for epoch in range(1, epochs + 1):
        value = -(math.log10(params["lr"]) + 3) ** 2 - 0.1 * (params["option"] != "a") - 0.1 / epoch
        report(epoch, value)
    return value


def draw(params, epochs, report):
    """A number that depends on the random numbers a trial starts with."""
    return params["lr"] + fastnn.rand(1).item()


def threads(params, epochs, report):
    return fastnn.get_num_threads()


class Noted:
    """Slow; leaves a line in `folder`/starts for each trial it starts, and its process in `folder`/processes."""

    def __init__(self, folder, seconds=0.1):
        self.folder, self.seconds = Path(folder), seconds

    def note(self, name, text):
        with (self.folder / name).open("a") as file:
            file.write(f"{text}\n")

    def __call__(self, params, epochs, report):
        self.note("starts", repr(params["lr"]))
        self.note("processes", os.getpid())
        for epoch in range(1, epochs + 1):
            time.sleep(self.seconds / epochs)
            report(epoch, params["lr"])
        self.note("ends", repr(params["lr"]))
        return params["lr"]


class Dying(Noted):
    """Takes its process with it, in the trials of the largest rates: always, or the first time only."""

    def __init__(self, folder, always):
        super().__init__(folder, 0.01)
        self.always = always

    def __call__(self, params, epochs, report):
        if params["lr"] > 0.06 and (self.always or not (self.folder / "died").exists()):
            self.note("died", "")
            os._exit(3)
        return super().__call__(params, epochs, report)


class Unsendable(Exception):
    def __init__(self, a, b):
        super().__init__(a + b)


class Failing:
    """Raises in the trials of rates above 0.01."""

    def __init__(self, error, *args):
        self.error, self.args = error, args

    def __call__(self, params, epochs, report):
        if params["lr"] > 0.01:
            raise self.error(*self.args)
        return params["lr"]


def perceptron(params):
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, optim.SGD(model.parameters(), lr=params["lr"], momentum=0.9)
