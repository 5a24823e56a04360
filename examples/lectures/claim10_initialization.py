"""Claim 10: zero weights make all neurons equal, small ones let activations die out with depth, large ones saturate
tanh; Xavier keeps their spread under tanh but not under ReLU, where He does (CS231n, lecture 6: ten layers of 500
units)."""
import numpy as np
from common import SEEDS, digits, figure, save, train

import fastnn
from fastnn import nn, optim


def spreads(kind, init, seed):
    """The standard deviations of the activations of ten layers, and the share of the last that is beyond 0.95."""
    fastnn.manual_seed(seed)
    x, found = fastnn.randn(500, 500), []
    for _ in range(10):
        layer = nn.Linear(500, 500, bias=False)
        init(layer.weight)
        x = kind()(layer(x)).detach()
        found.append(x.std().item())
    return found, (x.abs() > 0.95).float().mean().item()


cases = {
    "tanh, 0.01": (nn.Tanh, lambda w: nn.init.normal_(w, std=0.01)),
    "tanh, 1": (nn.Tanh, lambda w: nn.init.normal_(w, std=1.0)),
    "tanh, Xavier": (nn.Tanh, nn.init.xavier_normal_),
    "ReLU, Xavier": (nn.ReLU, nn.init.xavier_normal_),
    "ReLU, He": (nn.ReLU, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
}
fig, ax = figure()
for seed in SEEDS:
    found = {name: spreads(*case, seed) for name, case in cases.items()}
    for name, (stds, beyond) in found.items():
        print(f"seed {seed}: {name:13} spread {stds[0]:.3f} after one layer, {stds[-1]:.1e} after ten, "
              f"{beyond:4.0%} beyond 0.95")
        if seed == 0:
            ax.semilogy(range(1, 11), stds, label=name)
    last = {name: stds[-1] for name, (stds, _) in found.items()}
    assert last["tanh, 0.01"] < 1e-5 and last["tanh, Xavier"] > 0.2
    assert found["tanh, 1"][1] > 0.8 and found["tanh, Xavier"][1] < 0.05
    assert last["ReLU, Xavier"] < 0.06 and 0.3 < last["ReLU, He"] < 2

    images, labels, *_ = digits()
    model = nn.Sequential(nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.0 if seed == 0 else 0.1)  # any equal values do
    train(model, optim.SGD(model.parameters(), lr=0.1), images, labels, 5, seed=seed)
    different = np.ptp(model[0].weight.detach().numpy(), axis=0).max()
    print(f"seed {seed}: equal weights: after five epochs the twenty neurons differ by {different:.1e}")
    assert different < 1e-5
ax.set_xlabel("layer")
ax.set_ylabel("spread of the activations")
ax.legend()
save(fig)
