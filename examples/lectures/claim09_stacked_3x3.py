"""Claim 9: three 3x3 convolutions on top of each other see what one of 7x7 sees, with fewer parameters."""
import numpy as np
from common import SEEDS, figure, save

import fastnn
from fastnn import nn

C = 8
fig, left, right = figure(2)
for seed in SEEDS:
    fastnn.manual_seed(seed)
    stacked = nn.Sequential(*(nn.Conv2d(C, C, 3, bias=False) for _ in range(3)))
    single = nn.Conv2d(C, C, 7, bias=False)
    fields, sizes = [], []
    for model in (stacked, single):
        x = fastnn.randn(1, C, 15, 15, requires_grad=True)
        y = model(x)
        y[0, :, 4, 4].sum().backward()  # which inputs does one place of the output see?
        fields.append(abs(x.grad.numpy()).sum((0, 1)))
        sizes.append(sum(p.numel() for p in model.parameters()))
        assert y.shape == (1, C, 9, 9)
    seen = [np.argwhere(field > 0) for field in fields]
    print(f"seed {seed}: both see places {seen[0].min(0)} to {seen[0].max(0)}; {sizes[0]} and {sizes[1]} weights")
    assert np.array_equal(*seen) and len(seen[0]) == 49
    assert sizes == [27 * C * C, 49 * C * C]
for ax, field, name in (left, fields[0], "three 3x3"), (right, fields[1], "one 7x7"):
    ax.imshow(field)
    ax.set_title(f"{name}: |d output / d input|")
save(fig)
