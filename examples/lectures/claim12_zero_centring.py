"""Claim 12: zero-centring the data helps the first layer: it bears higher rates. Whether the mean is that of each
pixel (a mean image) or one number a channel matters little."""
import numpy as np
from common import SEEDS, digits, figure, save, train

import fastnn
from fastnn import nn, optim
from fastnn.data.preprocess import ChannelMean, MeanImage

images, labels, *_ = digits((1, 8, 8))
inputs = {"raw": images, "mean image": fastnn.as_tensor(MeanImage().fit(images).apply(images.numpy())),
          "mean a channel": fastnn.as_tensor(ChannelMean().fit(images).apply(images.numpy()))}
rates = (0.1, 0.3, 1.0, 2.0)
losses = {name: [] for name in inputs}
for seed in SEEDS:
    for name, x in inputs.items():
        final = []
        for rate in rates:
            fastnn.manual_seed(seed)
            model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
            final.append(train(model, optim.SGD(model.parameters(), lr=rate), x, labels, 10, seed=seed)[-1])
        losses[name].append(final)
        print(f"seed {seed}, {name}: training loss after ten epochs at rates {rates}: {np.round(final, 3).tolist()}")
    raw, image, channel = (losses[name][-1] for name in inputs)
    assert image[-1] < 0.1 * raw[-1] and channel[-1] < 0.1 * raw[-1] and min(image) < min(raw)
    assert abs(image[-1] - channel[-1]) < 0.02
fig, ax = figure()
for name, found in losses.items():
    ax.loglog(rates, np.mean(found, 0), "o-", label=name)
ax.set_xlabel("learning rate")
ax.set_ylabel("training loss after ten epochs")
ax.legend()
save(fig)
