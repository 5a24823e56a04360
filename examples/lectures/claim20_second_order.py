"""Claim 20: Newton's step lands in the minimum of a quadratic; L-BFGS beats first-order methods on a full-batch,
noise-free problem, and loses on minibatches (CS231n, lecture 7). Newton and BFGS are written out here, in float64."""
import numpy as np
from common import SEEDS, digits, figure, save

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim


def bfgs(f, gradient, x, steps):
    """Broyden, Fletcher, Goldfarb, Shanno 1970: H, the inverse of the curvatures, is learned from changes of
    the gradient."""
    H, g, values = np.eye(len(x)), gradient(x), [f(x)]
    for _ in range(steps):
        direction, t = -H @ g, 1.0
        while f(x + t * direction) > values[-1] + 1e-4 * t * g @ direction and t > 1e-10:  # Armijo
            t /= 2
        s = t * direction
        new = gradient(x + s)
        y, x, g = new - g, x + s, new
        if s @ y > 1e-14:
            rho = 1 / (s @ y)
            left = np.eye(len(x)) - rho * np.outer(s, y)
            H = left @ H @ left.T + rho * np.outer(s, s)
        values.append(f(x))
    return x, values


images, labels, *_ = digits()
images = images.double()


def loss_after(seed, optimizer, evaluations, batch_size):
    """The loss over all images after so many evaluations of loss and gradient, on batches of some size."""
    fastnn.manual_seed(seed)
    model = nn.Linear(64, 10).double()
    nn.init.zeros_(model.weight)
    method, rng, done = optimizer(model.parameters()), np.random.default_rng(seed), 0
    while done < evaluations:
        chosen = rng.permutation(len(images))[:batch_size]
        x, y = images[chosen], labels[chosen]

        def closure(x=x, y=y):
            nonlocal done
            done += 1
            method.zero_grad()
            loss = F.cross_entropy(model(x), y) + 5e-4 * (model.weight**2).sum()
            loss.backward()
            return loss

        method.step(closure)
    with fastnn.no_grad():
        return (F.cross_entropy(model(images), labels) + 5e-4 * (model.weight**2).sum()).item()


fig, left, right = figure(2)
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    A, b = root @ root.T + 0.1 * np.eye(6), rng.normal(size=6)
    minimum, x = np.linalg.solve(A, b), rng.normal(size=6)
    newton = x - np.linalg.solve(A, A @ x - b)
    found, values = bfgs(lambda z, A=A, b=b: 0.5 * z @ A @ z - b @ z, lambda z, A=A, b=b: A @ z - b, x, 60)
    print(f"seed {seed}: distance from the minimum after one step of Newton's "
          f"{abs(newton - minimum).max():.0e}, after BFGS {abs(found - minimum).max():.0e}")
    assert abs(newton - minimum).max() < 1e-10 and abs(found - minimum).max() < 1e-5

    methods = {"L-BFGS": lambda ps: optim.LBFGS(ps, line_search_fn="strong_wolfe", max_iter=10),
               "SGD, momentum": lambda ps: optim.SGD(ps, lr=0.5, momentum=0.9),
               "Adam": lambda ps: optim.Adam(ps, lr=0.03)}
    full = {name: loss_after(seed, make, 150, len(images)) for name, make in methods.items()}
    small = {name: loss_after(seed, make, 150, 16) for name, make in methods.items()}
    print(f"  full batch: { {name: round(v, 5) for name, v in full.items()} }, batches of 16: "
          f"{ {name: round(v, 3) for name, v in small.items()} }")
    assert full["L-BFGS"] < min(full["SGD, momentum"], full["Adam"])
    assert small["L-BFGS"] > max(small["SGD, momentum"], small["Adam"])
left.semilogy(np.maximum(np.array(values) - values[-1], 1e-15))
left.set_title("BFGS on a quadratic: f - min f")
for i, found in enumerate((full, small)):
    right.bar(np.arange(3) + 0.3 * i, found.values(), 0.3, label=("full batch", "batches of 16")[i])
right.set_xticks(np.arange(3) + 0.15, full)
right.set_yscale("log")
right.legend()
save(fig)
