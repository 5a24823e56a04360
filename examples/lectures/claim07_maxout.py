"""Claim 7: maxout contains ReLU and leaky ReLU as special cases, and doubles the parameters (Goodfellow et al.
2013)."""
import numpy as np
from common import SEEDS, figure, save

import fastnn
import fastnn.nn.functional as F
from fastnn import nn

fig, ax = figure()
for seed in SEEDS:
    fastnn.manual_seed(seed)
    linear, maxout = nn.Linear(20, 10), nn.Maxout(20, 10, num_pieces=2)
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (linear, maxout)]
    assert counts[1] == 2 * counts[0]
    x = fastnn.randn(50, 20)
    pieces = F.linear(x, linear.weight, linear.bias)
    for slope, name in (0.0, "ReLU"), (0.1, "leaky ReLU"):  # max(a, slope * a)
        both = fastnn.stack([pieces, slope * pieces], 2).flatten(1)
        difference = abs(F.maxout(both, 2, 1) - F.leaky_relu(pieces, slope)).max().item()
        print(f"seed {seed}: {counts[0]} and {counts[1]} parameters; maxout and {name} differ by {difference:.0e}")
        assert difference < 1e-6
z = fastnn.linspace(-3, 3, 301)
ax.plot(z.numpy(), F.maxout(fastnn.stack([z, 0.1 * z], 1), 2, 1)[:, 0].numpy(), label="max(z, z/10): leaky ReLU")
ax.plot(z.numpy(), np.max([z.numpy(), -z.numpy() / 2, 0.2 * z.numpy() + 0.5], 0), label="another, of three pieces")
ax.legend()
save(fig)
