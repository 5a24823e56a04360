"""Claim 15: random search finds better rates than a grid of the same size when one parameter matters more than another
(Bergstra, Bengio 2012).

The learning rate matters here, the strength of L2 between 1e-7 and 1e-4 does not. So that each search can be repeated
4000 times, networks are trained once, on a fine lattice of both, and searches look up the accuracy between its points.
Grids lie at random in the range, as nobody knows beforehand where the best rate is. Who knows which of the two matters
does better than either: a grid of rates alone."""
import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
from fastnn import nn, optim

images, labels, test_images, test_labels = digits(samples=500)
rates, decays = np.logspace(-3, 1, 41), np.logspace(-7, -4, 4)


def accuracy(rate, decay, seed):
    fastnn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 30), nn.Tanh(), nn.Linear(30, 10))
    train(model, optim.SGD(model.parameters(), lr=rate, weight_decay=decay), images, labels, 5, seed=seed)
    return evaluate(model, test_images, test_labels)[1]


def between(table, points):
    """Bilinear interpolation of a table at points (..., 2) of [0, 1]²."""
    last = np.array(table.shape) - 1
    low = np.minimum((points * last).astype(int), last - 1)
    (i, j), (a, b) = np.moveaxis(low, -1, 0), np.moveaxis(points * last - low, -1, 0)
    return ((1 - a) * ((1 - b) * table[i, j] + b * table[i, j + 1])
            + a * ((1 - b) * table[i + 1, j] + b * table[i + 1, j + 1]))


def grids(shifts, n, m):
    """Grids of n·m points in [0, 1]², each moved within its cells by a row of `shifts` in [0, 1]."""
    cells = np.stack(np.meshgrid(np.arange(n), np.arange(m)), -1).reshape(-1, 2)
    return (cells + shifts[:, None]) / (n, m)


fig, *axes = figure(2)
for seed in SEEDS:
    table = np.array([[accuracy(rate, decay, seed) for decay in decays] for rate in rates])
    good = table.max(1) > 0.8
    print(f"seed {seed}: accuracy differs by {np.ptp(table):.3f} between rates, at good rates by "
          f"{np.ptp(table[good], 1).mean():.3f} between strengths of L2")
    rng = np.random.default_rng(seed)
    for side in 3, 4, 5:
        n = side * side
        searches = {"grid": grids(rng.random((4000, 2)), side, side), "random": rng.random((4000, n, 2)),
                    "grid of rates alone": grids(rng.random((4000, 2)), n, 1)}
        best = {name: between(table, points).max(1) for name, points in searches.items()}
        wins = np.mean(best["random"] > best["grid"])
        print(f"seed {seed}, {n:2} trials: best accuracy on average: " + ", ".join(
            f"{name} {found.mean():.4f}" for name, found in best.items()) + f"; random wins {wins:.0%} of the searches")
        assert best["random"].mean() > best["grid"].mean() + 0.01 and wins > 0.6
        assert best["grid of rates alone"].mean() > best["random"].mean()
        if seed == SEEDS[0] and side == 3:
            for ax, name in zip(axes, ("grid", "random"), strict=True):
                u, v = searches[name][0].T
                ax.plot(rates, 1.1 + 0.4 * table.mean(1), color="black")
                ax.scatter(10 ** (4 * u - 3), v, color="C1")
                ax.vlines(10 ** (4 * u - 3), v, 1.1 + 0.4 * between(table, searches[name][0]), "C1", alpha=0.4)
                ax.set_title(f"{name}: nine trials, best accuracy {best[name][0]:.3f}")
for ax in axes:
    ax.set_xscale("log")
    ax.set_yticks([0, 1, 1.1, 1.5], ["1e-7", "1e-4", "0", "1"])
    ax.set_xlabel("learning rate")
    ax.set_ylabel("L2                 accuracy")
save(fig)
