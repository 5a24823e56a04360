"""Claim 22: an ensemble of independent models, of snapshots of one run, or a Polyak average of the weights beats its
members by a little (CS231n, lecture 7; Huang et al. 2017; Polyak, Juditsky 1992)."""
import numpy as np
from common import SEEDS, digits, evaluate, figure, save, train

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from fastnn.train import Ensemble, SnapshotEnsemble

images, labels, test_images, test_labels = digits(samples=300)


def network(seed):
    fastnn.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def log_loss(scores, targets):  # of an ensemble, which gives the logarithms of mean probabilities
    return F.nll_loss(F.log_softmax(scores, 1), targets)


results = {"independent": [], "snapshots": [], "Polyak": []}
for seed in SEEDS:
    members = [network(10 * seed + i) for i in range(5)]
    for i, model in enumerate(members):
        train(model, optim.Adam(model.parameters(), lr=0.01), images, labels, 30, seed=10 * seed + i)
    single = np.mean([evaluate(model, test_images, test_labels, log_loss) for model in members], 0)
    results["independent"].append((single, evaluate(Ensemble(members), test_images, test_labels, log_loss)))

    model = network(seed)
    sgd = optim.SGD(model.parameters(), lr=1.0)
    schedule = optim.lr_scheduler.CosineAnnealingWarmRestarts(sgd, 10)
    snapshots = SnapshotEnsemble(model, schedule)
    for epoch in range(50):
        train(model, sgd, images, labels, 1, batch_size=16, seed=100 * seed + epoch)
        schedule.step()
        snapshots.step()
    single = np.mean([evaluate(member, test_images, test_labels, log_loss) for member in snapshots.models], 0)
    results["snapshots"].append((single, evaluate(snapshots, test_images, test_labels, log_loss)))

    model = network(seed)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    train(model, optim.SGD(model.parameters(), lr=0.7), images, labels, 40, batch_size=8, seed=seed,
          after_step=lambda m=model, a=average: a.update_parameters(m))
    results["Polyak"].append((evaluate(model, test_images, test_labels), evaluate(average, test_images, test_labels)))

fig, left, right = figure(2)
for i, (name, found) in enumerate(results.items()):
    found = np.array(found)  # seeds, one or together, loss and accuracy
    for ax, which in (left, 0), (right, 1):
        ax.bar([i - 0.2, i + 0.2], found[:, :, which].mean(0), 0.4, color=["C0", "C1"])
    print(f"{name}: one alone: loss {found[:, 0, 0].mean():.3f} accuracy {found[:, 0, 1].mean():.4f}; "
          f"together: loss {found[:, 1, 0].mean():.3f} accuracy {found[:, 1, 1].mean():.4f}")
    assert (found[:, 1, 0] < found[:, 0, 0]).all() and found[:, 1, 1].mean() > found[:, 0, 1].mean()
for ax, title in (left, "test loss"), (right, "test accuracy"):
    ax.set_xticks(range(3), results)
    ax.set_title(f"{title}: one alone, together")
right.set_ylim(0.85, 1)
save(fig)
