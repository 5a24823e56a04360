"""Claim 6: without nonlinearities any depth is one linear map; the mean output of ELU is nearer zero than ReLU's."""
import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
from fastnn import nn, optim

images, labels, test_images, test_labels = digits()
fig, left, right = figure(2)
for seed in SEEDS:
    fastnn.manual_seed(seed)
    deep = nn.Sequential(*(nn.Linear(n, m) for n, m in ((64, 32), (32, 16), (16, 10))))
    train(deep, optim.Adam(deep.parameters(), lr=0.003), images, labels, 10, seed=seed)
    weight, bias = np.eye(64, dtype=np.float32), np.zeros(64, np.float32)
    for layer in deep:
        w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        weight, bias = w @ weight, w @ bias + b
    one = nn.Linear(64, 10)
    one.load_state_dict({"weight": weight, "bias": bias})
    with fastnn.no_grad():
        difference = abs(one(test_images) - deep(test_images)).max().item()
    print(f"seed {seed}: three linear layers and their product differ by {difference:.1e}, accuracy "
          f"{evaluate(deep, test_images, test_labels)[1]:.3f} and {evaluate(one, test_images, test_labels)[1]:.3f}")
    assert difference < 1e-3

    means = {}
    for kind in (nn.ReLU, nn.ELU):
        fastnn.manual_seed(seed)
        layers, x, found = [nn.Linear(100, 100) for _ in range(6)], fastnn.randn(500, 100), []
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
            x = kind()(layer(x))
            found.append(x.mean().item() / x.std().item())
        means[kind.__name__] = found
    print("  mean over spread by layer:", {name: np.round(found, 2).tolist() for name, found in means.items()})
    assert (np.abs(means["ELU"]) < np.abs(means["ReLU"])).all()
left.imshow(weight.reshape(10, 8, 8).transpose(1, 0, 2).reshape(8, 80))
left.set_title("three layers as one: a template a class")
for name, found in means.items():
    right.plot(found, label=name)
right.set_title("mean / spread of the activations by layer")
right.legend()
save(fig)
