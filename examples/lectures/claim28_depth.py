"""Claim 28: one hidden layer can approximate any continuous function, better with more neurons; yet three layers often
beat two, while more rarely help a plain network. For convolution depth matters (CS231n, notes on neural networks).

Layers are counted with weights: two are one hidden layer and the outputs. All plain networks of the middle figure have
about 500 parameters, the convolutional ones of the right about 2000, so that depth is bought with width."""
from itertools import pairwise

import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim


def plain(sizes, activation):
    return nn.Sequential(*[layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), activation())][:-1])


def descend(model, rate, steps, loss, x, y):  # on the whole batch
    adam = optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        adam.zero_grad()
        loss(model(x), y).backward()
        adam.step()


def spirals(seed, n):
    """Points (n, 2) of two spirals that wind around each other twice, and which it is."""
    rng = np.random.default_rng(seed)
    y, radius = np.arange(n) % 2, np.sqrt(rng.random(n))
    angle = 4 * np.pi * radius + np.pi * y
    x = 3 * radius * [np.cos(angle), np.sin(angle)] + rng.normal(0, 0.08, (2, n))
    return fastnn.tensor(x.T, dtype=fastnn.float32), fastnn.tensor(y)


def convolutional(depth, width):
    layers = []
    for i in range(depth):
        layers += [nn.Conv2d(width if i else 1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


x = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
curve = np.sin(8 * x) * np.exp(-x) + abs(x - 0.3)
points, values = fastnn.tensor(x), fastnn.tensor(curve)
images, labels, test_images, test_labels = digits((1, 8, 8))
widths, deep = (1, 2, 4, 32), {2: (2, 100, 2), 3: (2, 20, 20, 2), 4: (2, 14, 14, 14, 2), 6: (2, *5 * [10], 2)}
convs = {1: 90, 2: 14, 4: 8}
errors, accuracies, conv_accuracies = [], [], []
for seed in SEEDS:
    found = []
    for width in widths:
        fastnn.manual_seed(seed)
        model = plain((1, width, 1), nn.Tanh)
        nn.init.uniform_(model[0].weight, -10, 10)  # so steep that each neuron's step lies
        nn.init.uniform_(model[0].bias, -5, 5)      # somewhere within the interval
        descend(model, 0.02, 800, F.mse_loss, points, values)
        found.append(F.mse_loss(model(points), values).item() ** 0.5)
    print(f"seed {seed}: error of the curve with {widths} hidden neurons: {np.round(found, 3).tolist()}")
    errors.append(found)
    assert found[-1] < 0.05 * found[0] and found[-1] < 0.5 * found[2]

    test = spirals(seed + 1000, 1000)
    found = []
    for sizes in deep.values():
        each = []
        for i in range(3):
            fastnn.manual_seed(10 * seed + i)
            model = plain(sizes, nn.ReLU)
            for layer in model[::2]:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            descend(model, 0.01, 500, F.cross_entropy, *spirals(seed, 300))
            each.append(evaluate(model, *test)[1])
        found.append(np.mean(each))
    print(f"seed {seed}: test accuracy on spirals of {tuple(deep)} layers: {np.round(found, 3).tolist()}")
    accuracies.append(found)

    found = []
    for depth, width in convs.items():
        fastnn.manual_seed(seed)
        model = convolutional(depth, width)
        adam = optim.Adam(model.parameters(), lr=0.02)
        schedule = optim.lr_scheduler.CosineAnnealingLR(adam, 10 * 23)  # epochs of 23 steps
        train(model, adam, images, labels, 10, seed=seed, after_step=schedule.step)
        found.append(evaluate(model, test_images, test_labels)[1])
    print(f"seed {seed}: test accuracy on digits of {tuple(convs)} convolutions: {np.round(found, 3).tolist()}")
    conv_accuracies.append(found)
    assert min(found[1:]) > found[0] + 0.1  # what one sees is too little
two, three, four, six = np.mean(accuracies, 0)
assert three > two + 0.03 and max(four, six) - three < 0.3 * (three - two)
fig, left, middle, right = figure(3)
for seed, *found in zip(SEEDS, errors, accuracies, conv_accuracies, strict=True):
    left.loglog(widths, found[0], "o-", label=f"seed {seed}")
    middle.plot(list(deep), found[1], "o-")
    right.plot(list(convs), found[2], "o-")
for ax, label, value in ((left, "hidden neurons", "error of the curve"), (middle, "layers", "accuracy on spirals"),
                         (right, "convolutions", "accuracy on digits")):
    ax.set_xlabel(label)
    ax.set_ylabel(value)
left.legend()
save(fig)
