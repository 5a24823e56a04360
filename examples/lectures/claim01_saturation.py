"""Claim 1: sigmoid and tanh saturate. At |x| = 10 hardly a gradient is left; the sigmoid's is never above 1/4."""
import numpy as np
from common import figure, save

import fastnn
import fastnn.nn.functional as F

x = np.linspace(-12, 12, 2401)  # 0 and ±10 are among them
fig, left, right = figure(2)
slopes = {}
for name in ("sigmoid", "tanh", "relu"):
    inputs = fastnn.tensor(x, requires_grad=True)
    outputs = getattr(F, name)(inputs)
    outputs.sum().backward()
    slopes[name] = inputs.grad.numpy()
    left.plot(x, np.clip(outputs.detach().numpy(), -1.2, 1.2), label=name)
    right.plot(x, slopes[name], label=name)
left.set_title("outputs")
right.set_title("slopes")
right.legend()

far = np.isclose(abs(x), 10)
for name, slope in slopes.items():
    print(f"{name:8} largest slope {slope.max():.4f} at x = {x[slope.argmax()]:.2f}, at x = 10 {slope[far].max():.1e}")
assert slopes["sigmoid"].max() == 0.25 and abs(x[slopes["sigmoid"].argmax()]) < 1e-9
assert (slopes["sigmoid"][far] < 1e-4).all() and (slopes["tanh"][far] < 1e-7).all()
assert slopes["relu"][far].max() == 1  # on its positive side it never saturates
save(fig)
