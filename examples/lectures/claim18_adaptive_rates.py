"""Claim 18: AdaGrad's step shrinks to nothing, RMSProp's does not; Adam without bias correction takes a huge first
step; no method with a rate for each parameter copes with a tilted ellipse (CS231n, lecture 7)."""
import numpy as np
from common import SEEDS, figure, save

import fastnn
from fastnn import optim


def steps_of(make, gradients):
    """The sizes of an optimizer's steps for given gradients of one number."""
    p = fastnn.zeros(1, dtype=fastnn.float64, requires_grad=True)
    optimizer, sizes = make([p]), []
    for g in gradients:
        before, p.grad = p.item(), fastnn.tensor([g], dtype=fastnn.float64)
        optimizer.step()
        sizes.append(abs(p.item() - before))
    return np.array(sizes)


def distance(make, angle, start, steps=60):
    """From the minimum of an ellipse of curvatures 1 and 100, turned by an angle, after some steps."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    H = fastnn.tensor(turn @ np.diag([1.0, 100.0]) @ turn.T)
    p = fastnn.tensor(turn @ start, requires_grad=True)
    optimizer = make([p])
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (p * (H @ p)).sum()).backward()
        optimizer.step()
    return np.linalg.norm(p.detach().numpy())


fig, left, right = figure(2)
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    gradients = rng.normal(1, 0.3, 2000)
    sizes = {"AdaGrad": steps_of(lambda ps: optim.Adagrad(ps, lr=0.1), gradients),
             "RMSProp": steps_of(lambda ps: optim.RMSprop(ps, lr=0.1), gradients)}
    last = {name: size[-100:].mean() / 0.1 for name, size in sizes.items()}
    print(f"seed {seed}: steps after 2000, as a part of the rate: { {name: round(v, 3) for name, v in last.items()} }")
    assert last["AdaGrad"] < 0.03 and last["RMSProp"] > 0.5

    g, beta1, beta2 = gradients[0], 0.9, 0.999
    plain = 0.1 * (1 - beta1) * g / np.sqrt((1 - beta2) * g * g)  # m and v as they are, begun at 0
    corrected = steps_of(lambda ps: optim.Adam(ps, lr=0.1), gradients[:1])[0]
    print(f"  Adam's first step: {corrected / 0.1:.2f} rates, without bias correction {abs(plain) / 0.1:.2f}")
    assert np.isclose(corrected, 0.1, rtol=1e-6) and abs(plain) > 3 * corrected

    start, angles = rng.uniform(0.5, 1, 2) * (1, 0.5), np.linspace(0, np.pi / 4, 5)
    ends = {name: [distance(make, angle, start) for angle in angles] for name, make in {
        "SGD": lambda ps: optim.SGD(ps, lr=0.0195), "AdaGrad": lambda ps: optim.Adagrad(ps, lr=0.5),
        "RMSProp": lambda ps: optim.RMSprop(ps, lr=0.02), "Adam": lambda ps: optim.Adam(ps, lr=0.1)}.items()}
    print("  distance after 60 steps, ellipse straight and tilted by 45 degrees:",
          {name: (float(f"{end[0]:.1e}"), float(f"{end[-1]:.1e}")) for name, end in ends.items()})
    assert np.isclose(ends["SGD"][0], ends["SGD"][-1], rtol=1e-6)  # which knows no axes
    assert all(ends[name][-1] > 3 * ends[name][0] for name in ("AdaGrad", "RMSProp"))
for name, size in sizes.items():
    left.loglog(size, label=name)
left.set_title("size of the steps")
left.legend()
for name, end in ends.items():
    right.semilogy(np.degrees(angles), end, "o-", label=name)
right.set_xlabel("tilt in degrees")
right.set_title("distance after 60 steps")
right.legend()
save(fig)
