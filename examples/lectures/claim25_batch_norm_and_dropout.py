"""Claim 25: batch norm regularizes too: with it, dropout adds little (Ioffe, Szegedy 2015, section 3.4)."""
import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
from fastnn import nn, optim

images, labels, test_images, test_labels = digits(samples=500)


def test_loss(normalized, p, seed):
    fastnn.manual_seed(seed)
    layers, width = [], 64
    for _ in range(2):
        layers += [nn.Linear(width, 256), *([nn.BatchNorm1d(256)] if normalized else []), nn.ReLU(), nn.Dropout(p)]
        width = 256
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    train(model, optim.Adam(model.parameters(), lr=0.001), images, labels, 60, batch_size=20, seed=seed)
    return evaluate(model, test_images, test_labels)[0]


found = {(normalized, p): [test_loss(normalized, p, seed) for seed in SEEDS]
         for normalized in (False, True) for p in (0.0, 0.5)}
means = {key: np.mean(losses) for key, losses in found.items()}
for (normalized, p), loss in means.items():
    print(f"{'with batch norm' if normalized else 'without':15} dropout {p}: test loss {loss:.4f}")
gains = {normalized: means[normalized, 0.0] - means[normalized, 0.5] for normalized in (False, True)}
print(f"dropout lowers it by {gains[False]:.4f} without, by {gains[True]:.4f} with batch norm")
assert means[True, 0.0] < means[False, 0.0]  # batch norm alone regularizes
assert gains[False] > 0 and gains[True] < 0.5 * gains[False]
fig, ax = figure()
for i, (key, loss) in enumerate(means.items()):
    ax.bar(i, loss, color="C1" if key[0] else "C0")
ax.set_xticks(range(4), ["plain", "dropout", "batch norm", "both"])
ax.set_ylabel("test loss")
save(fig)
