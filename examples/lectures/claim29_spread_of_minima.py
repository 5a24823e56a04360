"""Claim 29: small networks end in minima of widely different loss, large ones in minima that are close together
(Choromanska et al. 2015, whose figure this is in small).

Twenty networks of each size, which differ in their first weights alone, learn side by side as one batch of matrices."""
import numpy as np
from common import SEEDS, digits, figure, save

import fastnn
import fastnn.nn.functional as F
from fastnn import optim

images, labels, test_images, test_labels = digits(samples=300)
widths, networks, steps = (2, 4, 8, 16, 32), 20, 250


def losses_of(parameters, x, y):
    """The loss (networks,) of each network on images x (N, 64) with labels y (N,)."""
    first, bias, second, offset = parameters
    scores = fastnn.relu(x @ first + bias) @ second + offset  # (networks, N, 10)
    targets = fastnn.as_tensor(np.tile(y.numpy(), networks))
    return F.cross_entropy(scores.reshape(-1, 10), targets, reduction="none").reshape(networks, -1).mean(1)


def minima(width, seed):
    """The losses on training and test images (2, networks) of trained networks of `width` hidden neurons."""
    fastnn.manual_seed(seed)
    first = fastnn.randn(networks, 64, width) * (2 / 64) ** 0.5
    second = fastnn.randn(networks, width, 10) * (2 / width) ** 0.5
    parameters = [p.requires_grad_() for p in (first, fastnn.zeros(networks, 1, width),
                                               second, fastnn.zeros(networks, 1, 10))]
    adam = optim.Adam(parameters, lr=0.02)
    schedule = optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        adam.zero_grad()
        losses_of(parameters, images, labels).sum().backward()
        adam.step()
        schedule.step()
    with fastnn.no_grad():
        return np.array([losses_of(parameters, *data).numpy()
                         for data in ((images, labels), (test_images, test_labels))])


found = np.array([[minima(width, seed) for width in widths] for seed in SEEDS])  # seeds, widths, 2, networks
spread, mean = found.std(-1), found.mean(-1)
for seed, spreads, means in zip(SEEDS, spread, mean, strict=True):
    for width, s, m in zip(widths, spreads, means, strict=True):
        print(f"seed {seed}, {width:2} hidden: loss {m[0]:.4f} ± {s[0]:.4f}, on the test {m[1]:.3f} ± {s[1]:.3f}")
small, large = [0, 1], [4]  # positions in widths
assert spread[:, large, 0].max() < 0.1 * spread[:, small, 0].min()
assert spread[:, large, 1].max() < 0.4 * spread[:, small, 1].min()
assert (spread / mean)[:, large, 1].max() < 0.6 * (spread / mean)[:, small, 1].mean()  # as shares, too
fig, *axes = figure(2)
for ax, part, name in zip(axes, (0, 1), ("training", "test"), strict=True):
    ax.boxplot(list(found[:, :, part].transpose(1, 0, 2).reshape(len(widths), -1)))
    ax.set_xticks(range(1, len(widths) + 1), widths)
    ax.set_xlabel("hidden neurons")
    ax.set_ylabel(f"{name} loss where it ends")
save(fig)
