"""Claim 8: the gradient of a convolution's weight is the sum of those of a locally connected layer, which does not
share its weights."""
import numpy as np
from common import SEEDS, figure, save

import fastnn
from fastnn import nn

fig, left, right = figure(2)
for seed in SEEDS:
    fastnn.manual_seed(seed)
    conv = nn.Conv2d(1, 2, (3, 2), dtype=fastnn.float64)
    local = nn.LocallyConnected2d(1, 2, (6, 7), (3, 2), dtype=fastnn.float64)
    local.weight.data = np.broadcast_to(conv.weight.detach().numpy(), local.weight.shape)  # the same everywhere
    local.bias.data = np.broadcast_to(conv.bias.detach().numpy()[:, None, None], local.bias.shape)
    x = fastnn.randn(4, 1, 6, 7, dtype=fastnn.float64)
    shared, unshared = conv(x), local(x)
    goal = fastnn.randn(*shared.shape, dtype=fastnn.float64)
    for output in (shared, unshared):
        ((output - goal) ** 2).sum().backward()
    summed, bias = local.weight.grad.numpy().sum((0, 1)), local.bias.grad.numpy().sum((1, 2))
    differences = [abs(conv.weight.grad.numpy() - summed).max(), abs(conv.bias.grad.numpy() - bias).max()]
    print(f"seed {seed}: outputs differ by {abs(shared - unshared).max().item():.0e}, gradients of weight and bias by "
          f"{differences[0]:.0e} and {differences[1]:.0e}")
    assert abs(shared - unshared).max().item() < 1e-12 and max(differences) < 1e-10
pieces = local.weight.grad.numpy()[:, :, 0, 0]  # (oH, oW, kH, kW)
left.imshow(pieces.transpose(0, 2, 1, 3).reshape(pieces.shape[0] * 3, -1))
left.set_title("gradients at each place, unshared")
right.imshow(conv.weight.grad.numpy()[0, 0])
right.set_title("their sum: the shared weight's")
save(fig)
