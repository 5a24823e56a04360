"""Claim 3: ReLU costs a fraction of sigmoid and tanh, and networks of ReLUs converge several times faster.

The source (AlexNet, figure 1) has six times fewer epochs for ReLU than for tanh. Sigmoid networks of several layers
suffer most."""
import time

import numpy as np
from common import SEEDS, digits, figure, save, train

import fastnn
from fastnn import nn, optim

x = fastnn.randn(64, 256)  # as in a layer: it stays in the cache
cost = {}
for name in ("relu", "sigmoid", "tanh"):
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(20):
            getattr(fastnn, name)(x)
        seconds.append((time.perf_counter() - start) / 20)
    cost[name] = min(seconds)
    with_numpy = {"relu": lambda a: np.maximum(a, 0), "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "tanh": np.tanh}[name]
    start = time.perf_counter()
    for _ in range(200):
        with_numpy(x.array)
    print(f"{name:8} {1e6 * cost[name]:6.1f} us, in NumPy {1e6 * (time.perf_counter() - start) / 200:6.1f} us")
assert cost["relu"] < cost["sigmoid"] and cost["relu"] < cost["tanh"]

images, labels, *_ = digits()
fig, ax = figure()
for seed in SEEDS:
    needed = {}
    for kind in (nn.ReLU, nn.Tanh, nn.Sigmoid):
        fastnn.manual_seed(seed)
        hidden = [layer for _ in range(3) for layer in (nn.Linear(64, 64), kind())]
        model = nn.Sequential(*hidden, nn.Linear(64, 10))
        for layer in model[::2]:  # what suits each best
            (nn.init.kaiming_normal_ if kind is nn.ReLU else nn.init.xavier_normal_)(layer.weight)
        losses = np.array(train(model, optim.SGD(model.parameters(), lr=0.05), images, labels, 60, seed=seed))
        needed[kind.__name__] = int(np.argmax(losses < 0.1)) if (losses < 0.1).any() else len(losses)
        if seed == 0:
            ax.semilogy(losses, label=kind.__name__)
    print(f"seed {seed}: epochs until the loss is below 0.1: {needed}")
    assert 1.2 * needed["ReLU"] < needed["Tanh"] < needed["Sigmoid"] == 60  # which is not there yet
ax.set_xlabel("epoch")
ax.set_ylabel("training loss")
ax.legend()
save(fig)
