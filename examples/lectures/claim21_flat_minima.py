"""Claim 21: flat minima generalize better than sharp ones (Hochreiter, Schmidhuber 1997; Keskar et al. 2017).

Small batches and high rates end in flatter minima. Sharpness is how much the training loss rises, on average, when
each matrix of weights is disturbed by 30 % of its size. All runs learn the training images by heart."""
import copy

import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
from fastnn import nn, optim

images, labels, test_images, test_labels = digits(samples=500)


def sharpness(model, draws=20):
    rng, base, rises = np.random.default_rng(0), evaluate(model, images, labels)[0], []
    for _ in range(draws):
        moved = copy.deepcopy(model)
        for p in moved.parameters():
            values = p.detach().numpy()
            noise = rng.normal(size=values.shape) * np.linalg.norm(values) / np.sqrt(values.size)
            p.data = fastnn.tensor(values + 0.3 * noise, dtype=fastnn.float32)
        rises.append(evaluate(moved, images, labels)[0] - base)
    return np.mean(rises)


settings = [(500, 0.1, 1000), (500, 0.5, 500), (64, 0.1, 200), (64, 0.5, 100), (16, 0.1, 100), (8, 0.3, 60)]
found = np.empty((len(SEEDS), len(settings), 2))
for i, seed in enumerate(SEEDS):
    for j, (batch_size, rate, epochs) in enumerate(settings):
        fastnn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        train(model, optim.SGD(model.parameters(), lr=rate), images, labels, epochs, batch_size, seed=seed)
        assert evaluate(model, images, labels)[1] == 1
        found[i, j] = sharpness(model), evaluate(model, test_images, test_labels)[1]
fig, ax = figure()
for j, (batch_size, rate, _) in enumerate(settings):
    rise, accuracy = found[:, j].mean(0)
    print(f"batches of {batch_size:3}, rate {rate}: the loss rises by {rise:.4f}, test accuracy {accuracy:.4f}")
    ax.plot(*found[:, j].T, "o", label=f"batches of {batch_size}, rate {rate}")
correlation = np.corrcoef(np.log(found[..., 0].ravel()), found[..., 1].ravel())[0, 1]
print(f"correlation of log sharpness and test accuracy over {found[..., 0].size} runs: {correlation:.2f}")
assert correlation < -0.5
order = found.mean(0)[:, 0].argsort()
flat, sharp = found[:, order[:3], 1].mean(1), found[:, order[3:], 1].mean(1)
assert (flat > sharp).all()  # for every seed
ax.set_xscale("log")
ax.set_xlabel("sharpness")
ax.set_ylabel("test accuracy")
ax.legend(fontsize=7)
save(fig)
