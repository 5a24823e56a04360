"""Claim 17: in many dimensions stationary points are mostly saddles (Dauphin et al. 2014).

Stationary points of random smooth functions f(x) = sum of a_k cos(w_k x + b_k), found by Newton's iteration from
random places."""
from itertools import pairwise

import numpy as np
from common import SEEDS, figure, save


def shares(d, rng, starts=300, terms=50):
    """The share of saddles among the stationary points, and that of minima."""
    a, b, w = rng.normal(size=terms), rng.uniform(0, 2 * np.pi, terms), rng.normal(size=(terms, d))
    saddles = minima = 0
    for x in rng.uniform(-5, 5, (starts, d)):
        for _ in range(60):
            phase = w @ x + b
            gradient, hessian = -(a * np.sin(phase)) @ w, -(w.T * (a * np.cos(phase))) @ w
            step = np.linalg.solve(hessian + 1e-12 * np.eye(d), gradient)
            x = x - step / max(1, np.linalg.norm(step) / 0.5)
            if np.linalg.norm(gradient) < 1e-9:
                curvatures = np.linalg.eigvalsh(hessian)
                minima += (curvatures > 0).all()
                saddles += curvatures.min() < 0 < curvatures.max()
                break
    return saddles, minima


fig, ax = figure()
dimensions = (1, 2, 3, 5, 8)
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    found = []
    for d in dimensions:
        counts = np.array([(*shares(d, rng, 100), 100) for _ in range(4)]).sum(0)
        saddles, minima = counts[0], counts[1]
        found.append(saddles / max(1, saddles + 2 * minima))  # as many maxima as minima, by symmetry
    print(f"seed {seed}: share of saddles in {dimensions} dimensions: {np.round(found, 2).tolist()}")
    assert found[0] == 0 and all(a < b + 0.02 for a, b in pairwise(found)) and found[-1] > 0.9
    ax.plot(dimensions, found, "o-", label=f"seed {seed}")
ax.set_xlabel("dimensions")
ax.set_ylabel("share of saddles among stationary points")
ax.legend()
save(fig)
