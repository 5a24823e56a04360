"""What test_checkpoint.py runs in processes of their own: saves and fits that are killed or interrupted."""

import json
import mmap
import os
import random
import signal
import sys
import time

import numpy as np

import fastnn
from fastnn import nn, optim, serialization
from fastnn.data import DataLoader, TensorDataset, transforms
from fastnn.tensor import Tensor
from fastnn.train import Callback, EarlyStopping, Trainer
from fastnn.train.checkpoint import Checkpoint


def known(k, size=150_000):
    """A state that tells which one it is in every part: 2 MB, one tensor of which must be transposed to be written."""
    w = np.full((3, 3, 10, size // 90), k, np.float32).transpose(3, 2, 0, 1)
    moments = [Tensor(np.full(size, k, np.float32)) for _ in range(2)]
    return {"w": Tensor(w), "k": k, "m": moments, "text": str(k) * 1000}


def which(state):
    """The number of a known state; AssertionError if it is a mixture."""
    k = state["k"]
    assert state["text"] == str(k) * 1000 and all((t.array == k).all() for t in (state["w"], *state["m"]))
    return k


def forked(work):
    """The process id of a child that does `work` and ends."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


def others(path):
    return [name for name in os.listdir(os.path.dirname(path)) if name != os.path.basename(path)]


def kill_at_random(path, wanted):
    """Kills children that save two states in turn, until `wanted` were killed within a save, and the old state and both
    new ones were found; what was found."""
    inside = mmap.mmap(-1, 1)  # 1 while the child is in save
    count = {"inside": 0, "outside": 0, "leftovers": 0, "states": [0, 0, 0]}
    states, rng = [known(0), known(1)], random.Random(0)

    def work():
        while True:
            for state in states:
                inside[0] = 1
                fastnn.save(state, path)
                inside[0] = 0

    fastnn.save(known(2), path)
    start = time.perf_counter()
    for _ in range(5):
        fastnn.save(known(2), path)
    duration = (time.perf_counter() - start) / 5
    while count["inside"] < wanted or (not all(count["states"]) and count["inside"] < 5 * wanted):
        inside[0] = 0
        pid = forked(work)
        while not inside[0]:
            time.sleep(0.0002)
        time.sleep(rng.random() * rng.choice((0.5, 2, 5)) * duration)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        count["inside" if inside[0] else "outside"] += 1
        count["states"][which(fastnn.load(path))] += 1
        count["leftovers"] += len(others(path))
        assert len(others(path)) <= 1
        fastnn.save(known(2), path)
        assert not others(path) and which(fastnn.load(path)) == 2
    return count


def kill_at_each_step(path):
    """Kills children at every call that a save makes of the system; the state found after each, and what was left."""
    found = []

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(module, name, after, nth):
        """Patch a function so that its nth call kills the process, before or after the call is done."""
        function, calls = getattr(module, name), []

        def patched(*args, **kwargs):
            calls.append(1)
            if len(calls) == nth and not after:
                die()
            result = function(*args, **kwargs)
            if len(calls) == nth:
                die()
            return result

        setattr(module, name, patched)

    for module, name, calls in [(serialization, "_create", 1), (serialization.layout, "contiguous", 3),
                                (os, "fsync", 2), (os, "replace", 1), (os, "open", 1), (os, "close", 1)]:  # fmt: skip
        for nth in range(1, calls + 1):
            for after in (False, True):
                fastnn.save(known(0), path)

                def work(module=module, name=name, after=after, nth=nth):
                    dying(module, name, after, nth)
                    fastnn.save(known(1), path)

                _, status = os.waitpid(forked(work), 0)
                assert os.WIFSIGNALED(status), (name, nth, after)
                found.append([name, nth, after, which(fastnn.load(path)), len(others(path))])
    fastnn.save(known(2), path)
    assert not others(path) and which(fastnn.load(path)) == 2
    return found


def save_together(path, processes, times):
    """Exit codes of processes that save to one path at the same time; each finds a whole file after every save."""

    def work(k):
        for _ in range(times):
            fastnn.save(known(k, 9000), path)
            which(fastnn.load(path))

    children = [forked(lambda k=k: work(k)) for k in range(processes)]
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    return {"codes": codes, "others": others(path), "state": which(fastnn.load(path))}


class SignalAt(Callback):
    """Sends this process a signal at the end of a batch of an epoch."""

    def __init__(self, number, epoch, batch):
        self.number, self.place = number, (epoch, batch)

    def on_batch_end(self, trainer):
        if (trainer.epoch, trainer.batch) == self.place:
            os.kill(os.getpid(), self.number)


def fit(kind, threads, workers, callbacks=(), resume=None, epochs=4):
    """A trainer that has done a small fit with everything that has a state; the same bits for all threads, workers."""
    fastnn.set_num_threads(threads)
    fastnn.manual_seed(1)
    random.seed(4)
    np.random.seed(5)  # noqa: NPY002
    rng = np.random.default_rng(2)
    x, y = rng.random((70, 1, 8, 8), np.float32), rng.integers(0, 3, 70)
    augment = transforms.Compose([transforms.RandomCrop(8, 1), transforms.RandomHorizontalFlip(),
                                  transforms.GaussianNoise(0.1)])  # fmt: skip
    data = DataLoader(TensorDataset(x, y), 8, shuffle=True, num_workers=workers, transform=augment)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
                          nn.Linear(144, 3))  # fmt: skip
    if kind == "adam":
        trainer = Trainer(accumulate=2, clip_norm=1.0, ema=0.9, schedule="step", progress=False)
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    else:
        trainer = Trainer(progress=False)
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
        scheduler = optim.lr_scheduler.StepLR(optimizer, 2)
    trainer.fit(model, data, (x[:20], y[:20]), epochs, optimizer, scheduler, resume=resume, seed=3,
                callbacks=[EarlyStopping(patience=100), *callbacks], config={"kind": kind})  # fmt: skip
    return trainer


if __name__ == "__main__":
    task, *arguments = json.loads(sys.argv[1])
    if task == "fit":
        kind, threads, workers, folder, every_steps, resume, signal_at, out = arguments
        callbacks = [Checkpoint(folder, every_steps=every_steps)] if folder else []
        if signal_at:
            callbacks.insert(0, SignalAt(*signal_at))
        trainer = fit(kind, threads, workers, callbacks, resume)
        fastnn.save(trainer.state_dict(), out)
    else:
        tasks = {"random": kill_at_random, "steps": kill_at_each_step, "together": save_together}
        print(json.dumps(tasks[task](*arguments)))
