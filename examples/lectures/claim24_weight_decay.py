"""Claim 24: L2 regularization is gradual forgetting: without a gradient, weights decay geometrically."""
import numpy as np
from common import SEEDS, figure, save

import fastnn
from fastnn import optim

rate, decay, steps = 0.1, 0.05, 200
fig, ax = figure()
for seed in SEEDS:
    fastnn.manual_seed(seed)
    w = fastnn.randn(10, dtype=fastnn.float64, requires_grad=True)
    start, norms = w.detach().numpy().copy(), []
    w.grad = fastnn.zeros(10, dtype=fastnn.float64)  # the data have nothing to say
    sgd = optim.SGD([w], lr=rate, weight_decay=decay)
    for _ in range(steps):
        norms.append(np.linalg.norm(w.detach().numpy()))
        sgd.step()
    expected = start * (1 - rate * decay) ** steps
    print(f"seed {seed}: norm {norms[0]:.3f}, after {steps} steps {np.linalg.norm(w.detach().numpy()):.3f}, "
          f"by (1 - rate decay)^steps {np.linalg.norm(expected):.3f}")
    assert np.allclose(w.detach().numpy(), expected, rtol=1e-12)

    one, two = fastnn.randn(10, requires_grad=True), None  # the penalty's gradient is the same thing
    two = one.detach().clone().requires_grad_()
    (decay / 2 * (one**2).sum()).backward()
    optim.SGD([one], lr=rate).step()
    two.grad = fastnn.zeros(10)
    optim.SGD([two], lr=rate, weight_decay=decay).step()
    assert np.allclose(one.detach().numpy(), two.detach().numpy(), rtol=1e-6)
    ax.semilogy(norms, label=f"seed {seed}")
ax.set_xlabel("step")
ax.set_ylabel("norm of the weights")
ax.legend()
save(fig)
