"""One neuron as a classifier: binary softmax (logistic, cross-entropy) and binary SVM (hinge loss), for which of
two digits an image shows (CS231n, notes on neural networks, part 1). Regularization pulls its weights to zero."""
import numpy as np
from common import SEEDS, digits, figure, save

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim

images, labels, test_images, test_labels = digits()


def pair_of(x, y, pair):
    """The images of two digits, and which of them is the second."""
    chosen = np.isin(y.numpy(), pair)
    return x[chosen], fastnn.tensor((y.numpy()[chosen] == pair[1]).astype(np.float32))


fig, left, right = figure(2)
for seed, pair in zip(SEEDS, ((3, 8), (4, 9), (1, 7)), strict=True):
    x, y = pair_of(images, labels, pair)
    test_x, test_y = pair_of(test_images, test_labels, pair)
    losses = {"softmax": lambda score, y=y: F.binary_cross_entropy_with_logits(score, y),
              "SVM": lambda score, y=y: F.hinge_loss(score, 2 * y - 1)}
    for ax, (name, loss) in zip((left, right), losses.items(), strict=True):
        norms = []
        for decay in 0.0, 0.01, 0.1:
            fastnn.manual_seed(seed)
            neuron = nn.Linear(64, 1)
            sgd = optim.SGD(neuron.parameters(), lr=0.5, weight_decay=decay)
            for _ in range(300):
                sgd.zero_grad()
                loss(neuron(x)[:, 0]).backward()
                sgd.step()
            norms.append(neuron.weight.detach().norm().item())
            if decay == 0:
                ax.imshow(neuron.weight.detach().numpy().reshape(8, 8))
                ax.set_title(f"{name}: {pair[1]} against {pair[0]}")
                right_ones = ((neuron(test_x)[:, 0] > 0).float() == test_y).float().mean().item()
        print(f"{name}: {pair[0]} or {pair[1]}: accuracy on the test {right_ones:.3f}; "
              f"norms {np.round(norms, 2).tolist()}")
        assert right_ones > 0.95 and norms[0] > norms[1] > norms[2]
save(fig)
