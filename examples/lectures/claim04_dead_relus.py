"""Claim 4: a bad initialization or too high a rate kills ReLUs for good; leaky ReLU, PReLU and ELU do not die."""
import numpy as np
from common import SEEDS, digits, figure, save, train

import fastnn
from fastnn import nn, optim

images, labels, *_ = digits()
images = images - images.mean(0)


def dead_share(kind, seed, rate, bias):
    """The share of 200 hidden units through which no gradient passes for any image, after training."""
    fastnn.manual_seed(seed)
    first = nn.Linear(64, 200)
    nn.init.constant_(first.bias, bias)
    model = nn.Sequential(first, kind(), nn.Linear(200, 10))
    train(model, optim.SGD(model.parameters(), lr=rate), images, labels, 10, seed=seed)
    before = first(images).detach().requires_grad_()
    model[1](before).sum().backward()
    return float((before.grad.numpy() == 0).all(axis=0).mean())


kinds = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU)
settings = {"healthy": (0.1, 0.0), "rate 8": (8.0, 0.0), "bias -0.4": (0.1, -0.4)}
shares = np.array([[[dead_share(kind, seed, *setting) for setting in settings.values()] for kind in kinds]
                   for seed in SEEDS])
fig, ax = figure()
for i, kind in enumerate(kinds):
    ax.bar(np.arange(len(settings)) + 0.2 * i, shares[:, i].mean(0), 0.2, label=kind.__name__)
    print(f"{kind.__name__:10}", *(f"{name}: {share:5.1%} dead" for name, share in
                                  zip(settings, shares[:, i].mean(0), strict=True)))
ax.set_xticks(np.arange(len(settings)) + 0.3, settings)
ax.set_ylabel("share of dead units")
ax.legend()
assert (shares[:, 0, 0] == 0).all() and (shares[:, 0, 1:].mean(0) > 0.1).all()  # the lectures find 10 to 40 %
assert (shares[:, 0, 1:] < 0.4).all() and (shares[:, 1:] < 0.02).all()  # a few ELUs saturate at the high rate
save(fig)
