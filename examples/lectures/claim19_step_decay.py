"""Claim 19: dropping the rate at a plateau drops the loss at once (step decay, as ResNet was trained)."""
import numpy as np
from common import SEEDS, digits, figure, save, train

import fastnn
from fastnn import nn, optim

images, labels, *_ = digits()
fig, ax = figure()
for seed in SEEDS:
    fastnn.manual_seed(seed)
    noisy = fastnn.tensor(np.where(np.random.default_rng(seed).random(len(labels)) < 0.2,
                                   np.random.default_rng(seed + 9).integers(0, 10, len(labels)), labels.numpy()))
    model = nn.Sequential(nn.Linear(64, 10))
    sgd = optim.SGD(model.parameters(), lr=4.0)
    schedule = optim.lr_scheduler.StepLR(sgd, 20, 0.1)
    losses = []
    for epoch in range(40):
        losses += train(model, sgd, images, noisy, 1, batch_size=16, seed=100 * seed + epoch)
        schedule.step()
    before, after, plateau = np.mean(losses[15:20]), np.mean(losses[20:22]), np.mean(losses[10:15])
    print(f"seed {seed}: loss {plateau:.3f} in epochs 11-15, {before:.3f} in 16-20, {after:.3f} just after the drop")
    assert before > 0.9 * plateau and after < 0.7 * before
    ax.plot(range(1, 41), losses, label=f"seed {seed}")
ax.axvline(20.5, color="grey", ls=":")
ax.set_xlabel("epoch")
ax.set_ylabel("training loss")
ax.legend()
save(fig)
