"""What the scripts of this folder share: the digits, a short training run, figures."""
import os
import sys
from pathlib import Path

import matplotlib
import numpy as np

import fastnn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.data import DataLoader, TensorDataset
from fastnn.data import digits as digits_of
from fastnn.data import fashion_mnist as fashion_mnist_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FIGURES = Path(os.environ.get("FIGURES", "figures"))
SEEDS = (0, 1, 2)
fastnn.set_num_threads(1)  # enough for networks as small as these


def digits(shape=(64,), samples=None):
    """Training and test images of handwritten digits, each of `shape`, with labels; maybe the first `samples` only."""
    (x, y), (x_test, y_test) = (digits_of(train).tensors for train in (True, False))
    return x.reshape(-1, *shape)[:samples], y[:samples], x_test.reshape(-1, *shape), y_test


def fashion_mnist():
    """Training and test images, (N, 1, 28, 28), uint8, with labels; without the files the script ends here."""
    try:
        (x, y), (x_test, y_test) = (fashion_mnist_of(train).tensors for train in (True, False))
    except FileNotFoundError as error:
        print("left out:", error)
        sys.exit(os.environ.get("FASTNN_REQUIRE_DATA") == "1")
    return x, y, x_test, y_test


def convolutions():
    """Layers of a small network: three convolutions, each of which halves the sides, to 64 channels."""
    layers, channels = [], 1
    for width in 16, 32, 64:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return layers


def train(model, optimizer, x, y, epochs, batch_size=64, loss=F.cross_entropy, seed=0, after_step=None):
    """The mean loss of each epoch; `after_step()` is called after each step."""
    loader = DataLoader(TensorDataset(x, y), batch_size, shuffle=True, generator=seed)
    losses = []
    for _ in range(epochs):
        model.train()
        total = 0.0
        for inputs, targets in loader:
            optimizer.zero_grad()
            value = loss(model(inputs), targets)
            value.backward()
            optimizer.step()
            total += value.item() * len(inputs)
            if after_step:
                after_step()
        losses.append(total / len(x))
    return losses


def evaluate(model, x, y, loss=F.cross_entropy):
    """Loss and accuracy in evaluation mode."""
    model.eval()
    with fastnn.no_grad():
        scores = model(x)
        return loss(scores, y).item(), (scores.argmax(1) == y).float().mean().item()


def figure(columns=1, height=3.2):
    fig, axes = plt.subplots(1, columns, figsize=(4.4 * columns, height), layout="constrained", squeeze=False)
    return fig, *axes[0]


def save(fig):
    """Write the figure to FIGURES, under the name of the script."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / f"{Path(sys.argv[0]).stem}.png"
    fig.savefig(path, dpi=100)
    print("figure:", path)


def smooth(values, n=10):
    return np.convolve(values, np.ones(n) / n, "valid")
