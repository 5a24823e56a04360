"""Claim 16: SGD zig-zags where curvatures differ and stalls at saddle points; momentum carries it through;
Nesterov's overshoots less, and its rewritten form, with the gradient where one is, is the same method (CS231n,
lecture 7; Sutskever et al. 2013)."""
import numpy as np
from common import SEEDS, figure, save

import fastnn
from fastnn import optim


def descend(f, start, steps, **options):
    """The way of SGD over the function f of two numbers."""
    p = fastnn.tensor(start, dtype=fastnn.float64, requires_grad=True)
    sgd, places = optim.SGD([p], **options), [p.detach().numpy().copy()]
    for _ in range(steps):
        sgd.zero_grad()
        f(p).backward()
        sgd.step()
        places.append(p.detach().numpy().copy())
    return np.array(places)


def valley(p):
    return 0.5 * (p[0] ** 2 + 50 * p[1] ** 2)


def saddle(p):
    return 0.5 * (p[0] ** 2 - p[1] ** 2 / 50) + p[1] ** 4 / 1000


fig, left, right = figure(2)
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    start = rng.uniform(5, 10), rng.uniform(1, 2)
    ways = {"SGD": descend(valley, start, 100, lr=0.036),
            "momentum": descend(valley, start, 100, lr=0.01, momentum=0.8),
            "Nesterov": descend(valley, start, 100, lr=0.01, momentum=0.8, nesterov=True)}
    turns = {name: int((np.diff(np.sign(way[:40, 1])) != 0).sum()) for name, way in ways.items()}
    beyond = {name: -way[:, 0].min() for name, way in ways.items()}
    ends = {name: np.linalg.norm(way[-1]) for name, way in ways.items()}
    print(f"seed {seed}: crossings of the valley in 40 steps {turns}, distances after 100 "
          f"{ {name: float(f'{end:.1e}') for name, end in ends.items()} }")
    assert turns["SGD"] == 39 > turns["momentum"] and ends["momentum"] < ends["SGD"]

    long = {name: descend(lambda p: 0.5 * (p**2).sum(), start, 300, lr=0.02, momentum=0.95, nesterov=name == "Nesterov")
            for name in ("momentum", "Nesterov")}
    beyond = {name: -way.min() for name, way in long.items()}
    print(f"  how far each overshoots a minimum with momentum 0.95: {beyond}")
    assert 0 < beyond["Nesterov"] < 0.95 * beyond["momentum"]

    start = rng.uniform(1, 2), rng.uniform(1e-4, 1e-3)
    away = {name: int(np.argmax(abs(descend(saddle, start, 4000, lr=0.1, momentum=m)[:, 1]) > 1)) or 4000
            for name, m in (("SGD", 0.0), ("momentum", 0.9))}
    print(f"  steps to get away from a saddle point: {away}")
    assert 5 * away["momentum"] < away["SGD"]

    # v = mu v - lr grad(x + mu v), x = x + v is what SGD does with p = x + mu v, where it takes the gradient
    x, v, mu, lr, scale = np.array(start), np.zeros(2), 0.8, 0.01, np.array([1.0, 50.0])
    for _ in range(100):
        v = mu * v - lr * scale * (x + mu * v)
        x = x + v
    rewritten = descend(valley, start, 100, lr=lr, momentum=mu, nesterov=True)[-1]
    print(f"  the two forms of Nesterov's step differ by {abs(x + mu * v - rewritten).max():.1e}")
    assert np.allclose(x + mu * v, rewritten, rtol=1e-10, atol=1e-15)
for name, way in ways.items():
    left.plot(*way[:40].T, ".-", label=name)
left.set_title("a narrow valley")
left.legend()
for name, way in long.items():
    right.plot(way[:, 0], label=name)
right.set_title("overshooting")
right.legend()
save(fig)
