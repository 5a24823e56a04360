"""Claim 2: if all inputs of a neuron are positive, the gradients of its weights have one sign, and steps zig-zag."""
import numpy as np
from common import SEEDS, figure, save

import fastnn


def path(x, target, rate):
    """The weights of one sigmoid neuron, step by step, and how often their gradients had one sign."""
    w, b = fastnn.zeros(x.shape[1], requires_grad=True), fastnn.zeros(1, requires_grad=True)
    places, same = [w.detach().numpy().copy()], []
    for sample, t in zip(x, target, strict=True):
        output = ((w * fastnn.tensor(sample)).sum() + b).sigmoid()  # a neuron
        w.grad = b.grad = None
        ((output - float(t)) ** 2).sum().backward()
        same.append(len(set(np.sign(w.grad.numpy()))) == 1)
        with fastnn.no_grad():
            w -= rate * w.grad
            b -= rate * b.grad
        places.append(w.detach().numpy().copy())
    return np.array(places), np.mean(same)


fig, left, right = figure(2)
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    positive = rng.uniform(0, 1, (3000, 2)).astype(np.float32)
    target = positive[:, 0] > positive[:, 1]  # the best weights are (a, -a): no step leads there straight
    detours = {}
    for ax, name, x in (left, "all positive", positive), (right, "zero-centred", positive - 0.5):
        places, same = path(x, target, 1.0)
        steps = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
        detours[name] = steps / np.linalg.norm(places[-1] - places[0])
        print(f"seed {seed}, {name}: gradients of one sign in {same:.0%} of the steps, the way {detours[name]:.1f} "
              f"times as long as the distance, weights {places[-1].round(2)}")
        assert same == 1 if name == "all positive" else same < 0.7
        if seed == 0:
            ax.plot(*places[:200].T)
            ax.set_title(f"{name}: the first 200 steps")
    assert detours["all positive"] > 1.3 * detours["zero-centred"]
save(fig)
