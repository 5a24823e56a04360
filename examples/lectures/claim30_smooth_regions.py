"""Claim 30: of networks with the same 20 hidden neurons, stronger L2 makes the decision regions smoother (CS231n, notes
on neural networks: regularize; do not take fewer neurons)."""
import numpy as np
from common import SEEDS, figure, save

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim

decays = 0.0, 0.001, 0.01, 0.1
side = np.linspace(-4, 4, 161, dtype=np.float32)
grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def points(seed, n=60):
    """Two noisy half circles, one within the other's opening: their labels (N,) overlap."""
    rng = np.random.default_rng(seed)
    y = np.arange(2 * n) % 2
    angle = np.pi * (rng.random(2 * n) + y)
    x = np.stack([2 * np.cos(angle) - 1 + 2 * y, 2 * np.sin(angle) - 0.5 + y], 1) + rng.normal(0, 0.7, (2 * n, 2))
    return fastnn.tensor(x, dtype=fastnn.float32), fastnn.tensor(y)


fig, *axes = figure(4)
for seed in SEEDS:
    x, y = points(seed)
    found = []
    for ax, decay in zip(axes, decays, strict=True):
        fastnn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 2))
        adam = optim.Adam(model.parameters(), lr=0.03, weight_decay=decay)  # in the gradient: L2
        for _ in range(1000):
            adam.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            adam.step()
        at = fastnn.tensor(grid).requires_grad_()
        scores = model(at)
        margin = scores[:, 1] - scores[:, 0]
        margin.sum().backward()
        slope = np.linalg.norm(at.grad.numpy(), axis=1).mean()
        region = (margin.detach().numpy() > 0).reshape(161, 161)
        border = (np.diff(region, axis=0).sum() + np.diff(region, axis=1).sum()) * (side[1] - side[0])
        found.append((slope, border, loss.item()))
        print(f"seed {seed}, L2 {decay:5}: mean slope of the margin {slope:6.2f}, border {border:5.1f} long, "
              f"loss {loss.item():.3f}")
        if seed == SEEDS[0]:
            ax.contourf(side, side, region, [-0.5, 0.5, 1.5], colors=["mistyrose", "lightblue"])
            ax.scatter(*x.numpy().T, c=np.array(["red", "blue"])[y.numpy()], s=9)
            ax.set_title(f"L2 {decay}")
    slopes, borders, losses = np.array(found).T
    assert (np.diff(slopes) < 0).all() and (np.diff(losses) > 0).all() and borders[-1] < 0.8 * borders[0]
save(fig)
