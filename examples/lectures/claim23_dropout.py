"""Claim 23: dropout narrows the gap between training and test; to scale in training (inverted) is in expectation the
same as to scale at test time (Srivastava et al. 2014)."""
import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim

images, labels, test_images, test_labels = digits(samples=300)
rng = np.random.default_rng(0)  # a fifth of the labels are wrong, so that there is something to learn by heart
labels = fastnn.tensor(np.where(rng.random(300) < 0.2, rng.integers(0, 10, 300), labels.numpy()))
fig, ax = figure()
gaps = {0.0: [], 0.5: []}
for seed in SEEDS:
    for p, found in gaps.items():
        fastnn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p),
                              nn.Linear(256, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 10))
        train(model, optim.Adam(model.parameters(), lr=0.001), images, labels, 60, seed=seed)
        (loss, accuracy), (test_loss, test_accuracy) = (
            evaluate(model, *data) for data in ((images, labels), (test_images, test_labels)))
        found.append(test_loss - loss)
        print(f"seed {seed}, p = {p}: loss {loss:.4f} and on the test {test_loss:.3f}, "
              f"accuracy {accuracy:.3f} and {test_accuracy:.3f}")
    assert gaps[0.5][-1] < 0.8 * gaps[0.0][-1]

    x, p = fastnn.randn(1, 1000, dtype=fastnn.float64) + 2, 0.3
    draws = [F.dropout(x, p) for _ in range(2000)]
    inverted = np.mean([draw.numpy() for draw in draws], 0)
    kept = inverted * (1 - p)  # dropped without scaling; then the test scales
    assert np.allclose(inverted.mean(), x.mean().item(), rtol=0.01) and abs(inverted - x.numpy()).max() < 0.4
    assert np.allclose(kept.mean(), (1 - p) * x.mean().item(), rtol=0.01)
ax.bar(["without", "dropout 0.5"], [np.mean(found) for found in gaps.values()])
ax.set_ylabel("test loss - training loss")
save(fig)
