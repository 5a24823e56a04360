"""Claim 27: fine-tuning a pretrained network on little data beats training from scratch; the last layer alone suffices
when data are few and similar, and no longer when there are more (CS231n, lecture 7).

A network learns five classes of Fashion-MNIST, then the other five from a few labelled images of each."""
import copy

import numpy as np
from common import SEEDS, convolutions, evaluate, fashion_mnist, figure, save, train

import fastnn
from fastnn import nn, optim

arrays = [t.numpy() for t in fashion_mnist()]
parts = {True: arrays[:2], False: arrays[2:]}
old = (0, 2, 3, 5, 7)  # T-shirts, pullovers, dresses, sandals, sneakers
new = (1, 4, 6, 8, 9)  # trousers, coats, shirts, bags, boots
counts, epochs = (2, 5, 20, 100), (60, 50, 25, 8)


def images_of(classes, n, training, seed=0):
    """n images (5·n, 1, 28, 28) of each class, and labels from 0 to 4."""
    images, labels = parts[training]
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:n] for c in classes])
    return (fastnn.tensor(images[chosen] / 255, dtype=fastnn.float32),
            fastnn.tensor(np.searchsorted(classes, labels[chosen])))


def network(seed):
    fastnn.manual_seed(seed)
    return nn.Sequential(*convolutions(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5))


def transferred(pretrained, seed):
    """A copy with a new last layer, and its two lists of parameters: of the last layer, of the others."""
    fastnn.manual_seed(seed)
    model = copy.deepcopy(pretrained)
    model[-1] = nn.Linear(64, 5)
    return model, list(model[-1].parameters()), list(model[:-1].parameters())


test = images_of(new, 200, False)
found = []
for seed in SEEDS:
    pretrained = network(seed)
    train(pretrained, optim.Adam(pretrained.parameters(), lr=0.003), *images_of(old, 1200, True, seed), 3, seed=seed)
    accuracies = []
    for n, length in zip(counts, epochs, strict=True):
        few = images_of(new, n, True, seed)
        scratch = network(seed + 100)
        last, head, body = transferred(pretrained, seed)
        for p in body:
            p.requires_grad_(False)
        fine, head_too, body_too = transferred(pretrained, seed)
        ways = {scratch: optim.Adam(scratch.parameters(), lr=0.003), last: optim.Adam(head, lr=0.003),
                fine: optim.Adam([{"params": body_too, "lr": 0.0003}, {"params": head_too}], lr=0.003)}
        for model, adam in ways.items():
            train(model, adam, *few, length, batch_size=10 if n < 20 else 20, seed=seed)
        accuracies.append([evaluate(model, *test)[1] for model in ways])
        print(f"seed {seed}, {n:3} images a class: accuracy from scratch {accuracies[-1][0]:.3f}, last layer alone "
              f"{accuracies[-1][1]:.3f}, fine-tuned {accuracies[-1][2]:.3f}")
    found.append(accuracies)
scratch, last, fine = np.array(found).transpose(2, 0, 1)  # seeds, counts
gain = (fine - scratch)[:, 1:3].mean(1)
print(f"fine-tuning wins {np.round(gain, 3).tolist()} over training from scratch with 5 and 20 images a class")
assert (gain > 0.02).all()
few, many = [0, 1], 3  # of 2 and 5 images a class; of 100
assert last[:, few].mean() > fine[:, few].mean() - 0.03 and last[:, few].mean() > scratch[:, few].mean() + 0.03
assert (last[:, many] < fine[:, many] - 0.03).all()
fig, ax = figure()
for name, accuracies in ("from scratch", scratch), ("last layer alone", last), ("fine-tuned", fine):
    ax.semilogx(counts, accuracies.mean(0), "o-", label=name)
ax.set_xticks(counts, counts)
ax.set_xlabel("images a class")
ax.set_ylabel("test accuracy")
ax.legend()
save(fig)
