"""Claim 13: at the start the loss is log(classes), and it rises when L2 is turned on; 20 samples can be fitted to
100 % (CS231n, lecture 6: checks before a network is trained in earnest). What is broken fails them. Here they are made
by hand; then `fastnn.diagnose` makes them."""
import math

from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim

images, labels, *_ = digits()


def network(classes, seed, std):
    fastnn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, classes))
    for layer in model[::2]:
        nn.init.normal_(layer.weight, std=std * layer.in_features ** -0.5)
        nn.init.zeros_(layer.bias)
    return model


fig, left, right = figure(2)
for seed in SEEDS:
    for classes in 2, 5, 10:
        some = labels.numpy() < classes
        start, bad = (evaluate(network(classes, seed, std), images[some], labels[some])[0] for std in (0.1, 30))
        print(f"seed {seed}, {classes:2} classes: loss {start:.4f} at the start, log({classes}) = "
              f"{math.log(classes):.4f}; from large weights {bad:.1f}")
        assert abs(start - math.log(classes)) < 0.02 and bad > 2 * math.log(classes)

    model = network(10, seed, 0.1)
    decays = 0.0, 0.01, 0.1, 1.0
    squares = sum((p.detach() ** 2).sum().item() for p in model.parameters())
    losses = [evaluate(model, images, labels)[0] + decay / 2 * squares for decay in decays]
    print(f"seed {seed}: loss with L2 of strength {decays}: " + ", ".join(f"{loss:.4f}" for loss in losses))
    assert losses == sorted(losses) and losses[-1] > losses[0] + 0.1

    few = images[20 * seed : 20 * seed + 20], labels[20 * seed : 20 * seed + 20]
    for name, std in ("sound", 1), ("all weights zero", 0), ("softmax twice", 1):  # the loss takes scores
        model = network(10, seed, std)
        if name == "softmax twice":
            model.append(nn.Softmax(1))
        sgd = optim.SGD(model.parameters(), lr=0.5, weight_decay=1e-4)
        found = fastnn.diagnose(model, (images, labels), loss=F.cross_entropy, optimizer=sgd,
                                checks=["initial loss", "regularization", "outputs", "symmetry", "tiny sample"])
        fitted = train(model, optim.SGD(model.parameters(), lr=0.5), *few, 200, batch_size=20)
        accuracy = evaluate(model, *few)[1]
        print(f"seed {seed}: 20 samples, {name}: accuracy {accuracy:.2f}, loss {fitted[-1]:.4f}; the diagnosis: "
              + (", ".join(f.problem for f in found.failures + found.warnings) or "no problem"))
        assert (accuracy == 1 and fitted[-1] < 0.05) == found.ok == (name == "sound")
        if seed == SEEDS[0]:
            right.semilogy(fitted, label=name)
    left.plot(decays, losses, "o-")
left.axhline(math.log(10), color="black", linestyle=":", label="log(10)")
left.set_xlabel("strength of L2")
left.set_ylabel("loss at the start")
right.set_xlabel("epoch")
right.set_ylabel("loss of 20 samples")
left.legend()
right.legend()
save(fig)
