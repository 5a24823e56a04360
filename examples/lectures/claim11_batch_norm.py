"""Claim 11: batch norm makes a network insensitive to its initialization and lets it learn at higher rates; its
gamma and beta can undo the normalization exactly (Ioffe, Szegedy 2015)."""
import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
from fastnn import nn, optim

images, labels, test_images, test_labels = digits()


def accuracy(normalized, std, rate, seed):
    fastnn.manual_seed(seed)
    layers = []
    for _ in range(4):
        linear = nn.Linear(64, 64)
        nn.init.normal_(linear.weight, std=std)
        layers += [linear, nn.BatchNorm1d(64), nn.ReLU()] if normalized else [linear, nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    with np.errstate(all="ignore"):
        train(model, optim.SGD(model.parameters(), lr=rate), images, labels, 5, seed=seed)
    return evaluate(model, test_images, test_labels)[1]


fig, left, right = figure(2)
stds, rates = (0.01, 0.05, 0.18, 0.5, 2.0), (0.01, 0.03, 0.1, 0.3, 1.0)
for ax, name, values in (left, "spread of the initial weights", stds), (right, "learning rate", rates):
    for normalized in (False, True):
        found = np.array([[accuracy(normalized, *((v, 0.1) if values is stds else (0.18, v)), seed) for v in values]
                          for seed in SEEDS])
        label = "with batch norm" if normalized else "without"
        print(f"{name} {values}, {label}: accuracy {found.mean(0).round(3).tolist()}")
        ax.semilogx(values, found.mean(0), "o-", label=label)
        if normalized:
            assert found.min() > 0.7 if values is stds else found[:, -2:].min() > 0.9
        else:
            assert (found[:, -1] < 0.5).all()  # the last is too much for it
    ax.set_xlabel(name)
    ax.set_ylabel("test accuracy after 5 epochs")
    ax.legend()

for seed in SEEDS:
    fastnn.manual_seed(seed)
    x, norm = fastnn.randn(200, 5, dtype=fastnn.float64) * 3 + 1, nn.BatchNorm1d(5, eps=0.0, dtype=fastnn.float64)
    nn.init.constant_(norm.weight, 0.0)
    norm.weight.data, norm.bias.data = x.std(0, unbiased=False), x.mean(0)
    difference = abs(norm(x) - x).max().item()
    print(f"seed {seed}: with gamma = sigma and beta = mu batch norm is the identity to {difference:.1e}")
    assert difference < 1e-12
save(fig)
