"""Claim 5: the sigmoid's gradient is that of the gates that compose it, and the delta derived by hand for a two-
layer network of sigmoids with squared errors is the tape's. Gates: add passes its gradient on, multiply swaps the
inputs, max routes; where a value is used twice, the gradients that come back are added."""
import numpy as np
from common import SEEDS, figure, save

import fastnn
import fastnn.nn.functional as F

# A neuron with two inputs, gate by gate (CS231n, lecture 4: w = (2, -3, -3), x = (-1, -2) gives 0.73)
w0, x0, w1, x1, w2 = numbers = [2.0, -1.0, -3.0, -2.0, -3.0]
product0, product1 = w0 * x0, w1 * x1  # multiply
total = product0 + product1 + w2  # add
e = np.exp(-total)
f = 1 / (1 + e)
df_de = -1 / (1 + e) ** 2  # of 1/(1 + e)
dtotal = df_de * e * -1  # of exp, and of the factor -1
by_gates = [dtotal * x0, dtotal * w0, dtotal * x1, dtotal * w1, dtotal]
leaves = [fastnn.tensor(v, dtype=fastnn.float64, requires_grad=True) for v in numbers]
a, b, c, d, g = leaves
F.sigmoid(a * b + c * d + g).backward()
by_tape = [leaf.grad.item() for leaf in leaves]
print("by gates:", np.round(by_gates, 3), " by the tape:", np.round(by_tape, 3), f" by y(1 - y): {f * (1 - f):.3f}")
assert np.allclose(by_gates, by_tape, rtol=1e-14) and np.isclose(dtotal, f * (1 - f), rtol=1e-14)

x, y = (fastnn.tensor(v, requires_grad=True) for v in (4.0, -1.0))
(fastnn.maximum(x, y) * y + x).backward()  # x is used twice: through the max gate, and added
assert (x.grad.item(), y.grad.item()) == (-1.0 + 1.0, 4.0)

for seed in SEEDS:  # y = sigmoid(W2 sigmoid(W1 x)), loss = sum (y - t)^2 / 2
    rng = np.random.default_rng(seed)
    W1, W2, x, t = rng.normal(size=(5, 3)), rng.normal(size=(2, 5)), rng.normal(size=(7, 3)), rng.random((7, 2))
    h = 1 / (1 + np.exp(-x @ W1.T))
    y = 1 / (1 + np.exp(-h @ W2.T))
    delta2 = (y - t) * y * (1 - y)
    delta1 = delta2 @ W2 * h * (1 - h)
    first, second = (fastnn.tensor(W, requires_grad=True) for W in (W1, W2))
    out = F.sigmoid(F.linear(F.sigmoid(F.linear(fastnn.tensor(x), first)), second))
    (0.5 * ((out - fastnn.tensor(t)) ** 2).sum()).backward()
    errors = [abs(first.grad.numpy() - delta1.T @ x).max(), abs(second.grad.numpy() - delta2.T @ h).max()]
    print(f"seed {seed}: largest difference from the tape {max(errors):.1e}")
    assert max(errors) < 1e-13

fig, ax = figure()
z = np.linspace(-6, 6, 200)
s = 1 / (1 + np.exp(-z))
ax.plot(z, s, label="sigmoid")
ax.plot(z, s * (1 - s), label="y(1 - y)")
ax.plot(z, np.exp(-z) / (1 + np.exp(-z)) ** 2, "k:", label="gate by gate")
ax.legend()
save(fig)
