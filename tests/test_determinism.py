"""Fifty training steps of every network that is timed have the same bits at any number of threads."""

import json
import os
import subprocess
import sys

import pytest

from fastnn import backend

BENCH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench")
NETWORKS = {
    "mlp": (64, 1, 28, 28), "lenet5": (8, 1, 28, 28), "cnn": (8, 1, 28, 28), "dropnet": (8, 1, 28, 28),
    "vgg": (4, 3, 32, 32), "resnet20": (4, 3, 32, 32), "mobile": (4, 3, 32, 32),
}  # fmt: skip

CODE = """
import hashlib, json, sys
sys.path.insert(0, {bench!r})
import fastnn, networks
from fastnn import models, optim
from fastnn.nn import functional as F

name, shape = {name!r}, {shape!r}
bits = []
for threads in 1, 2, 3, 4, 8:
    fastnn.set_num_threads(threads)
    fastnn.manual_seed(0)
    model = (getattr(models, name, None) or getattr(networks, name))(shape[1:])
    steps = optim.Adam(model.parameters()) if shape[1] == 1 else optim.SGD(model.parameters(), 0.01, momentum=0.9)
    x, y = fastnn.randn(*shape), fastnn.randint(0, 10, shape[:1])
    for _ in range(50):
        steps.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        steps.step()
    state = [t.numpy().tobytes() for t in model.state_dict().values()]
    bits.append([hashlib.sha256(b"".join(state)).hexdigest(), loss.item()])
print(json.dumps(bits))
"""


@pytest.mark.skipif(backend.kernel_set == "reference", reason="the twins run on one thread")
@pytest.mark.parametrize("name", NETWORKS)
def test_training_has_the_same_bits_at_any_number_of_threads(name):
    code = CODE.format(bench=BENCH, name=name, shape=NETWORKS[name])
    env = os.environ | {"OMP_WAIT_POLICY": "passive"}  # eight threads on few processors do not spin
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    one, *others = json.loads(run.stdout)
    assert one[1] == one[1] and others == [one] * 4
