"""Claim 14: at a rate of 1e-6 the loss does not move, yet the accuracy may rise; at 1e6 it is NaN; 3e-3 may still be
too high, which depends on the network (CS231n, lecture 6).

Scores that hardly differ make a loss of log(10) whichever is the largest; the accuracy sees nothing but that. Pixels go
from 0 to 255 here, less their mean. The small network's weights begin at 1e-4 as in the lecture, the large one's as He
says."""
import math
from itertools import pairwise

import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
from fastnn import nn, optim

images, labels, *_ = digits()
images = 255 * (images - images.mean(0))
rates, sizes = (1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e6), ((64, 50, 10), (64, 200, 200, 200, 10))


def run(sizes, rate, seed):
    """Loss and accuracy before and after ten epochs at a rate."""
    fastnn.manual_seed(seed)
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())][:-1]
    model = nn.Sequential(*layers)
    for layer in model[::2]:
        nn.init.normal_(layer.weight, std=1e-4 if len(sizes) == 3 else math.sqrt(2 / layer.in_features))
        nn.init.zeros_(layer.bias)
    start = evaluate(model, images, labels)
    with np.errstate(all="ignore"):
        train(model, optim.SGD(model.parameters(), lr=rate, momentum=0.9), images, labels, 10, seed=seed)
        return np.array([start, evaluate(model, images, labels)])


fig, left, right = figure(2)
for seed in SEEDS:
    small, large = ({rate: run(size, rate, seed) for rate in rates} for size in sizes)
    for name, found in ("small", small), ("large", large):
        for rate, ((start, accuracy), (loss, after)) in found.items():
            print(f"seed {seed}, {name}, rate {rate:.0e}: loss {start:9.5f} -> {loss:9.5f}, "
                  f"accuracy {accuracy:.3f} -> {after:.3f}")
        for ax, which in (left, 0), (right, 1):
            ax.semilogx(rates[:-1], [found[rate][1, which] for rate in rates[:-1]], "o-",
                        color="C0" if name == "small" else "C1", label=f"{name}, seed {seed}")
        assert math.isnan(found[1e6][1, 0])
    (start, accuracy), (loss, after) = small[1e-6]
    assert abs(loss - start) < 1e-4 and after > accuracy + 0.03
    assert small[3e-3][1, 1] > 0.98  # just right for one
    assert large[1e-4][1, 1] > 0.98 and not large[3e-3][1, 0] < 0.1  # and too high for another
left.set_yscale("symlog", linthresh=0.01)
left.set_ylabel("loss after ten epochs")
right.set_ylabel("accuracy")
for ax in left, right:
    ax.set_xlabel("learning rate")
right.legend(fontsize=7)
save(fig)
