"""Claim 26: augmentation narrows the gap between training and test, and the average over ten crops beats the single
one in the middle (Krizhevsky et al. 2012), if crops are what the network has learned from.

Crops of 24×24 of Fashion-MNIST's 28×28 pixels: in training anywhere and mirrored at random, or the middle; at test time
the middle, or four corners and the middle, and these mirrored."""
import numpy as np
from common import SEEDS, convolutions, evaluate, fashion_mnist, figure, save, train

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.data.transforms import CenterCrop, Compose, RandomCrop, RandomHorizontalFlip, TenCrop

images, labels, test_images, test_labels = fashion_mnist()
images, labels = images[:700].float() / 255, labels[:700]
test_images, test_labels = test_images[:2000].float() / 255, test_labels[:2000]
middle, random = CenterCrop(24), Compose([RandomCrop(24), RandomHorizontalFlip()])
epochs = 30


def network(seed):
    fastnn.manual_seed(seed)
    return nn.Sequential(*convolutions(), nn.Flatten(), nn.Linear(9 * 64, 10))


def averaged(model):
    """Test loss and accuracy of the mean probabilities over ten crops."""
    views = TenCrop(24)(test_images)  # (10, N, 1, 24, 24)
    with fastnn.no_grad():
        p = F.softmax(model(views.reshape(-1, 1, 24, 24)), 1).reshape(10, -1, 10).mean(0)
    return F.nll_loss(p.log(), test_labels).item(), (p.argmax(1) == test_labels).float().mean().item()


found = {"middle": [], "random": []}
for seed in SEEDS:
    for (name, results), transform in zip(found.items(), (middle, random), strict=True):
        model = network(seed)
        adam = optim.Adam(model.parameters(), lr=0.002)
        schedule = optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
        for epoch in range(epochs):
            crops = transform(images, generator=1000 * seed + epoch)
            train(model, adam, crops, labels, 1, batch_size=32, seed=1000 * seed + epoch)
            schedule.step()
        results.append([evaluate(model, middle(images), labels), evaluate(model, middle(test_images), test_labels),
                        averaged(model)])
        (loss, _), (single, accuracy), (ten, ten_accuracy) = results[-1]
        print(f"seed {seed}, learned from {name} crops: loss {loss:.3f} in training, {single:.3f} and accuracy "
              f"{accuracy:.4f} on the test, over ten crops {ten:.3f} and {ten_accuracy:.4f}")
fixed, free = (np.array(results) for results in found.values())  # (seeds, training, test and ten crops, loss accuracy)
gaps = fixed[:, 1, 0] - fixed[:, 0, 0], free[:, 1, 0] - free[:, 0, 0]
assert (gaps[1] < 0.6 * gaps[0]).all() and free[:, 1, 0].max() < 0.9 * fixed[:, 1, 0].min()
assert (free[:, 2, 1] > free[:, 1, 1]).all() and (free[:, 2, 1] - free[:, 1, 1]).mean() > 0.005
assert (fixed[:, 2, 1] < fixed[:, 1, 1]).all()  # corners and mirror images were never seen
fig, left, right = figure(2)
left.bar(["the middle", "random crops"], [gap.mean() for gap in gaps])
left.set_ylabel("test loss - training loss")
right.bar(["the middle", "ten crops"], free[:, 1:, 1].mean(0), yerr=free[:, 1:, 1].std(0))
right.set_ylim(0.75, 0.85)
right.set_ylabel("test accuracy, learned from random crops")
save(fig)
