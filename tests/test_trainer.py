"""The training loop: the same bits as a loop by hand, watched, interrupted and resumed."""
import os
import signal
import threading
import time

import numpy as np
import pytest

import fastnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.data import DataLoader, TensorDataset, transforms
from fastnn.nn.utils import clip_grad_norm_, clip_grad_value_
from fastnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from fastnn.train import (
    F1,
    Accuracy,
    Callback,
    Checkpoint,
    ConfusionMatrix,
    EarlyStopping,
    Monitor,
    Progress,
    Trainer,
    evaluate,
)


@pytest.fixture
def data(rng):
    x = rng.standard_normal((70, 6), np.float32)
    return x, (x[:, 0] > x[:, 1]).astype(np.int64) + (x[:, 2] > 1)


def network():
    fastnn.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def same(a, b):
    """Whether two nested states have the same bits."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, fastnn.Tensor):
        return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
    return a == b


def state(trainer):
    """What a checkpoint keeps, but for the time that passed."""
    found = trainer.state_dict()
    return {**found, "history": {k: v for k, v in found["history"].items() if k[:7] not in ("seconds", "samples")},
            "epoch": {k: v for k, v in found["epoch"].items() if k != "seconds"}}


def test_the_same_bits_as_a_loop_by_hand(data):
    by_hand, model = network(), network()
    loader = DataLoader(TensorDataset(*data), 16, shuffle=True, generator=7)
    adam = optim.Adam(by_hand.parameters(), 0.01)
    schedule = optim.lr_scheduler.StepLR(adam, 2, 0.5)
    fastnn.manual_seed(7)
    losses = []
    for _ in range(3):
        by_hand.train()
        total = 0.0
        for x, y in loader:
            adam.zero_grad()
            loss = F.cross_entropy(by_hand(x), y)
            loss.backward()
            adam.step()
            total += loss.item() * len(y)
        losses.append(total / 70)
        schedule.step()
    adam = optim.Adam(model.parameters(), 0.01)
    trainer = Trainer(batch_size=16)
    history = trainer.fit(model, data, data, 3, adam, optim.lr_scheduler.StepLR(adam, 2, 0.5), seed=7)
    assert same(model.state_dict(), by_hand.state_dict())
    assert history["loss"].tolist() == losses
    assert history["lr"].tolist() == [0.01, 0.01, 0.005]
    assert history.columns == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds",
                               "samples_per_second"]  # fmt: skip
    assert len(history) == 3
    assert trainer.step == 15
    assert {k: history[f"val_{k}"][-1] for k in ("loss", "accuracy")} == evaluate(model, data)
    assert history.rows()[1]["epoch"] == 2
    assert repr(history).startswith("History of 3 epochs: epoch, loss")
    with pytest.raises(KeyError, match="no column 'f1'; there are epoch, loss"):
        history["f1"]


def test_schedules(data):
    def rates(schedule, make):
        model = network()
        sgd = optim.SGD(model.parameters(), 0.1)
        return Trainer(schedule=schedule).fit(model, data, data, 3, sgd, make(sgd))["lr"].tolist()

    assert rates("step", lambda o: optim.lr_scheduler.ExponentialLR(o, 0.5)) == [0.025, 0.00625, 0.0015625]
    plateau = rates("epoch", lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, "max", patience=0))
    assert plateau == pytest.approx([0.1, 0.1, 0.01])  # the validation loss does not rise


def test_accumulated_batches_are_one_large_one(rng):
    x, y = rng.standard_normal((55, 6)), rng.standard_normal((55, 1))
    models = [nn.Linear(6, 1).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, loader, accumulate in (
            (models[0], DataLoader(TensorDataset(x[:50], y[:50]), 20), 1),  # 20, 20, 10
            (models[1], DataLoader(TensorDataset(x[:50], y[:50]), 10), 2)):  # 2 · 10, 2 · 10, 10
        trainer = Trainer(accumulate=accumulate)
        trainer.fit(model, loader, epochs=2, optimizer=optim.SGD(model.parameters(), 0.1), loss=F.mse_loss)
        assert trainer.step == 6
    np.testing.assert_allclose(*(model.weight.tolist() for model in models), rtol=1e-12)


def test_accumulation_over_batches_of_unknown_number(rng):
    class Stream:
        def __iter__(self):
            return iter([(x, y)] * 5)

    x, y = fastnn.randn(4, 6), fastnn.randn(4, 1)
    trainer = Trainer(accumulate=2)
    history = trainer.fit(nn.Linear(6, 1), Stream(), epochs=2)
    assert (trainer.step, history.columns[1:5]) == (6, ["loss", "mse", "mae", "r2"])


def test_clipping_and_average(data):
    model, by_hand = network(), network()
    sgd, other = (optim.SGD(m.parameters(), 1.0) for m in (model, by_hand))
    trainer = Trainer(16, clip_norm=0.1, clip_value=0.01, ema=0.9)
    history = trainer.fit(model, DataLoader(TensorDataset(*data), 16), data, 2, sgd, seed=0)
    fastnn.manual_seed(0)
    average = AveragedModel(by_hand, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(2):
        for x, y in DataLoader(TensorDataset(*data), 16):
            other.zero_grad()
            F.cross_entropy(by_hand(x), y).backward()
            clip_grad_value_(by_hand.parameters(), 0.01)
            clip_grad_norm_(by_hand.parameters(), 0.1)
            other.step()
            average.update_parameters(by_hand)
    assert same(model.state_dict(), by_hand.state_dict())
    assert same(trainer.evaluation_model.state_dict(), average.module.state_dict())
    assert history["val_loss"][-1] == evaluate(average.module, data)["loss"] != evaluate(model, data)["loss"]


def test_lbfgs(data):
    model = nn.Linear(6, 3)
    full = optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    history = Trainer(batch_size=70).fit(model, data, epochs=3, optimizer=full)
    assert history["loss"][-1] < 0.5 < history["loss"][0]
    with pytest.raises(ValueError, match="LBFGS evaluates the loss itself"):
        Trainer(accumulate=2).fit(model, data, optimizer=full)


def test_several_inputs_and_own_metrics(data):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, a, b):
            return self.layer(a + b)

    x, y = data
    history = Trainer().fit(Two(), (x, x, y), (x, x, y), 2, loss=F.cross_entropy, metrics=[F1(), ConfusionMatrix()])
    assert history.columns[1:7] == ["loss", "f1", "confusion_matrix", "val_loss", "val_f1", "val_confusion_matrix"]
    assert history["val_confusion_matrix"].shape == (2, 3, 3)
    assert history["val_confusion_matrix"].sum((1, 2)).tolist() == [70, 70]


# Callbacks ---------------------------------------------------------------------------------------------------------


class Diary(Callback):
    def __init__(self):
        self.seen = []


def _note(name):
    def hook(self, trainer):
        self.seen.append((name, trainer.epoch, trainer.batch, trainer.step))

    return hook


HOOKS = [name for name in vars(Callback) if name.startswith("on_")]
for name in HOOKS:
    setattr(Diary, name, _note(name))


def test_hooks_are_called_in_order(data):
    diary = Diary()
    Trainer(batch_size=35, accumulate=2).fit(network(), data, epochs=2, callbacks=[diary])
    batches = [[("on_batch_begin", e, 0, s), ("on_backward", e, 0, s), ("on_batch_end", e, 1, s),
                ("on_batch_begin", e, 1, s), ("on_backward", e, 1, s), ("on_step", e, 2, s + 1),
                ("on_batch_end", e, 2, s + 1)] for e, s in ((1, 0), (2, 1))]  # fmt: skip
    assert diary.seen == [
        ("on_fit_begin", 1, 0, 0), ("on_epoch_begin", 1, 0, 0), *batches[0], ("on_epoch_end", 1, 0, 1),
        ("on_epoch_begin", 2, 0, 1), *batches[1], ("on_epoch_end", 2, 0, 2), ("on_fit_end", 2, 0, 2)]  # fmt: skip


def test_the_end_is_always_told(data):
    class Fails(Callback):
        def on_batch_end(self, trainer):
            raise ZeroDivisionError

        def on_fit_end(self, trainer):
            raise OSError("disk full")

    diary, trainer = Diary(), Trainer()
    with pytest.raises(OSError, match="disk full") as caught:
        trainer.fit(network(), data, callbacks=[diary, Fails(), Diary()])
    assert diary.seen[-1][0] == "on_fit_end"
    assert isinstance(trainer.error, ZeroDivisionError)
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_a_callback_ends_the_fit(data):
    class Ends(Callback):
        def on_batch_end(self, trainer):
            if trainer.step == 7:
                trainer.stop = "enough"

    trainer = Trainer(batch_size=16)
    history = trainer.fit(network(), data, epochs=5, callbacks=[Ends()])
    assert (len(history), trainer.step, trainer.stop, trainer.batch) == (1, 7, "enough", 2)


def test_early_stopping_keeps_the_best_weights(rng):
    x, y = rng.standard_normal((30, 20), np.float32), rng.integers(0, 2, 30)  # noise: it learns by heart
    model, best = nn.Linear(20, 2), {}

    class Best(Monitor):
        def on_epoch_end(self, trainer):
            if self.improved(trainer):
                best.update(epoch=trainer.epoch, weight=trainer.model.weight.tolist())

    early = EarlyStopping(patience=3)
    trainer = Trainer(batch_size=30)
    history = trainer.fit(model, (x[:20], y[:20]), (x[20:], y[20:]), 200, optim.SGD(model.parameters(), 0.3),
                          callbacks=[early, Best()])
    assert len(history) == best["epoch"] + 3 < 200
    assert "val_loss has not improved for 3 epochs" in trainer.stop
    assert early.best == history["val_loss"].min()
    assert model.weight.tolist() == best["weight"]
    kept = EarlyStopping(patience=3, restore_best=False)
    model.load_state_dict({k: fastnn.zeros_like(v) for k, v in model.state_dict().items()})
    Trainer(batch_size=30).fit(model, (x[:20], y[:20]), (x[20:], y[20:]), 200, optim.SGD(model.parameters(), 0.3),
                               callbacks=[kept])
    assert evaluate(model, (x[20:], y[20:]))["loss"] > kept.best


def test_what_a_monitor_takes_for_better(data):
    class Logs:
        def __init__(self, **logs):
            self.logs = logs

    rising, falling = Monitor("val_accuracy"), Monitor("val_loss", min_delta=0.1)
    assert [rising.improved(Logs(val_accuracy=v)) for v in (0.5, 0.4, 0.6, float("nan"))] == [True, False, True, False]
    assert [falling.improved(Logs(val_loss=v)) for v in (1.0, 0.95, 0.85)] == [True, False, True]
    assert falling.waited == 0
    assert Monitor("val_loss").improved(Logs(loss=1.0))  # without validation
    with pytest.raises(ValueError, match="there is no figure 'val_f1'; there are loss"):
        Monitor("val_f1").improved(Logs(loss=1.0))
    with pytest.raises(ValueError, match="EarlyStopping: mode must be min, max or None"):
        EarlyStopping(mode="up")


def test_progress(capsys, data):
    Trainer().fit(network(), data, epochs=2)
    assert capsys.readouterr() == ("", "")  # off a terminal
    Trainer(progress=True).fit(network(), data, data, epochs=2, metrics=[Accuracy(), ConfusionMatrix()],
                               callbacks=[At(1, 1, lambda trainer: time.sleep(0.2))])
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 1/2" in err
    assert "batches/s" in err
    assert "samples/s" in err
    history = Trainer().fit(network(), data, data, epochs=2, callbacks=[Progress(lines=True)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("  ")[0] for line in lines] == [
        "epoch {epoch:3}  training loss {loss:.4f} accuracy {accuracy:.4f}  validation loss {val_loss:.4f} accuracy "
        "{val_accuracy:.4f}".format(**row) for row in history.rows()]  # fmt: skip


# Interrupted and resumed -------------------------------------------------------------------------------------------


class At(Callback):
    """Does something once, after a batch or an epoch."""

    def __init__(self, epoch, batch, do):
        self.place, self.do = (epoch, batch), do

    def on_batch_end(self, trainer):
        if (trainer.epoch, trainer.batch) == self.place:
            self.do(trainer)

    def on_epoch_end(self, trainer):
        self.on_batch_end(trainer)


def loaders(kind, data):
    dataset = TensorDataset(data[0].reshape(-1, 1, 2, 3), data[1])
    augment = transforms.Compose([transforms.GaussianNoise(0.1)])
    if kind == "arrays":
        return data
    if kind == "fastnn's stream":
        return DataLoader(dataset, 16, shuffle=True, transform=augment)
    if kind == "a stream of its own, workers":
        return DataLoader(dataset, 16, True, generator=np.random.Generator(np.random.Philox(3)), num_workers=2,
                          transform=augment)
    if kind == "a seed":
        return DataLoader(dataset, 16, True, generator=11, transform=augment)
    if kind == "a sampler that draws":
        class Sampler:
            def __iter__(self):
                return (int(fastnn.randint(0, 70, (1,)).item()) for _ in range(70))

            def __len__(self):
                return 70

        return DataLoader(dataset, 16, sampler=Sampler())

    class Batches:  # that draw
        def __iter__(self):
            for _ in range(5):
                i = np.random.randint(0, 70, 16)  # noqa: NPY002
                yield data[0][i], data[1][i]

    return Batches()


def setup(kind, data, where=None, do=None, resume=None, epochs=3, **more):
    model = nn.Sequential(nn.Flatten(), *network())
    adam = optim.AdamW(model.parameters(), 0.01)
    schedule = optim.lr_scheduler.OneCycleLR(adam, 0.02, total_steps=30)
    trainer = Trainer(16, ema=0.9, accumulate=2, schedule="step")
    callbacks = [EarlyStopping(patience=2, restore_best=False), *([At(*where, do)] if where else [])]
    trainer.fit(model, loaders(kind, data), data, epochs, adam, schedule, metrics=[Accuracy(), ConfusionMatrix(), F1()],
                callbacks=callbacks, seed=1, resume=resume, **more)
    return trainer


@pytest.mark.parametrize("where", [(1, 2), (2, 0), (2, 3), (2, 5)])
@pytest.mark.parametrize("kind", ["arrays", "fastnn's stream", "a seed", "a stream of its own, workers",
                                  "a sampler that draws", "batches that draw"])  # fmt: skip
def test_resuming_gives_the_same_bits(tmp_path, data, kind, where):
    np.random.seed(0)  # noqa: NPY002
    path = tmp_path / "checkpoint.safetensors"
    whole = setup(kind, data, where, lambda trainer: fastnn.save(trainer.state_dict(), path), config={"a": 1})
    np.random.seed(1)  # noqa: NPY002
    resumed = setup(kind, data, resume=path, config={"a": 1})
    assert same(state(resumed), state(whole))
    assert resumed.history["val_accuracy"].tolist() == whole.history["val_accuracy"].tolist()
    assert fastnn.load(path)["config"] == {"a": 1}


def test_more_epochs_than_at_first(tmp_path, data):
    path = tmp_path / "c"
    setup("arrays", data, (2, 0), lambda trainer: fastnn.save(trainer.state_dict(), path), epochs=2)
    assert same(state(setup("arrays", data, resume=path, epochs=4)), state(setup("arrays", data, epochs=4)))


@pytest.mark.parametrize("where", [(1, 1), (2, 5), (3, 0)])
def test_ctrl_c_ends_the_batch_and_saves(tmp_path, data, where):
    path, diary = tmp_path / "c", []

    class Saves(Callback):
        def on_fit_end(self, trainer):
            if trainer.interrupted:
                fastnn.save(trainer.state_dict(), path)
                trainer.messages.append(f"saved as {path}")

    def interrupt(trainer):
        os.kill(os.getpid(), signal.SIGINT)
        diary.append(trainer.interrupted)

    model = nn.Sequential(nn.Flatten(), *network())
    adam = optim.Adam(model.parameters(), 0.01)
    trainer = Trainer(16, accumulate=2)
    with pytest.raises(KeyboardInterrupt, match=rf"interrupted in epoch \d of 3, after {where[1]} batches\nsaved as"):
        trainer.fit(model, data, data, 3, adam, seed=1, callbacks=[Saves(), At(*where, interrupt)])
    assert diary == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def fresh(resume):
        model = nn.Sequential(nn.Flatten(), *network())
        trainer = Trainer(16, accumulate=2)
        trainer.fit(model, data, data, 3, optim.Adam(model.parameters(), 0.01), seed=1, resume=resume)
        return trainer

    assert same(state(fresh(path)), state(fresh(None)))


def test_ctrl_c_in_the_validation(tmp_path, data):
    class Interrupts:
        def __iter__(self):
            for _ in range(3):
                if Interrupts.first:
                    os.kill(os.getpid(), signal.SIGINT)
                    Interrupts.first = False
                fastnn.rand(1)  # draws
                yield data

    kept, Interrupts.first = [], True
    callback = type("", (Callback,), {"on_fit_end": lambda self, trainer: kept.append(trainer.state_dict())})()
    model = network()
    trainer = Trainer(16)
    with pytest.raises(KeyboardInterrupt, match="in epoch 1 of 2, after 5 batches"):
        trainer.fit(model, data, Interrupts(), 2, optim.SGD(model.parameters(), 0.1), seed=3, callbacks=[callback])
    assert len(trainer.history) == 0
    whole, again = network(), network()
    Trainer(16).fit(whole, data, Interrupts(), 2, optim.SGD(whole.parameters(), 0.1), seed=3)
    fastnn.save(kept[0], tmp_path / "c")
    Trainer(16).fit(again, data, Interrupts(), 2, optim.SGD(again.parameters(), 0.1), seed=3, resume=tmp_path / "c")
    assert same(again.state_dict(), whole.state_dict())


def test_the_second_ctrl_c_interrupts_at_once(data):
    def twice(trainer):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    trainer = Trainer(16)
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit(network(), data, callbacks=[At(1, 2, twice)])
    assert str(caught.value) == ""
    assert isinstance(trainer.error, KeyboardInterrupt)


def test_fit_in_another_thread(data):
    found = []
    thread = threading.Thread(target=lambda: found.append(Trainer().fit(network(), data)))
    thread.start()
    thread.join()
    assert len(found[0]) == 1


def test_a_loss_that_is_not_finite(data):
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" not in k and "num" not in k}
    x = data[0].copy()
    x[40, 3] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match="loss is nan in epoch 1, batch 1: try"):
        Trainer(70).fit(model, (x, data[1]))
    assert same({k: model.state_dict()[k] for k in before}, before)


def test_mistakes(tmp_path, data):
    model = network()
    for settings, message in (
            ({"batch_size": 0}, "batch_size must be a positive int, but 0 came"),
            ({"accumulate": 1.5}, "accumulate must be a positive int, but 1.5 came"),
            ({"clip_norm": -1}, "clip_norm must be positive"), ({"schedule": "batch"}, "must be 'epoch' or 'step'"),
            ({"ema": 2}, "Invalid decay")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Trainer(**settings)
    for epochs in -1, 1.5, True:
        with pytest.raises(ValueError, match="fit: epochs must be an int"):
            Trainer().fit(model, data, epochs=epochs)
    with pytest.raises(TypeError, match="can be gone through again and again, but a generator came"):
        Trainer().fit(model, (batch for batch in [data]))
    with pytest.raises(TypeError, match="a batch must be inputs and targets"):
        Trainer().fit(model, DataLoader(data[0]))
    with pytest.raises(ValueError, match="fit: data have no batches"):
        Trainer().fit(model, [])
    path = tmp_path / "c"
    setup("arrays", data, (1, 2), lambda trainer: fastnn.save(trainer.state_dict(), path), epochs=1)
    with pytest.raises(ValueError, match="written with scheduler, the fit that is to go on has none"):
        Trainer(ema=0.9).fit(model, data, resume=path)
    adam = optim.Adam(model.parameters())
    with pytest.raises(ValueError, match=r"has the state of callbacks \['EarlyStopping'\], but those here are \[\]"):
        Trainer(ema=0.9).fit(model, data, optimizer=adam, scheduler=optim.lr_scheduler.StepLR(adam, 1), resume=path)


def test_callbacks_begin_anew_with_each_fit(data):
    early = EarlyStopping(patience=1)
    Trainer(16).fit(network(), data, data, 2, callbacks=[early])
    early.best = -1.0  # as of an easier loss
    model = nn.Linear(6, 3)
    history = Trainer(16).fit(model, data, data, 3, callbacks=[early])
    assert len(history) == 3
    assert early.best == history["val_loss"].min()
    seen = Monitor()
    seen.best, seen.waited = -1.0, 3
    Trainer(16).fit(model, data, data, callbacks=[type("", (Callback,), {
        "on_epoch_end": lambda self, trainer: seen.improved(trainer)})()])  # a monitor that only ever sees the figures
    assert (seen.best > 0, seen.waited) == (True, 0)


def test_what_was_stopped_early_stays_so(tmp_path, data):
    def run(patience, resume=None):
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
        trainer = Trainer(16)
        trainer.fit(model, data, data, 9, optim.SGD(model.parameters(), 0.0), seed=0, resume=resume,
                    callbacks=[EarlyStopping(patience=patience), Checkpoint(tmp_path)])
        return trainer

    stopped = run(2)
    assert len(stopped.history) == 3
    again = run(2, tmp_path)
    assert (len(again.history), again.stop) == (3, stopped.stop)
    assert same(again.model.state_dict(), stopped.model.state_dict())
    assert len(run(4, tmp_path).history) == 5  # more patience


def test_ctrl_c_before_a_resumed_fit_goes_on(tmp_path, data):
    class Interrupts(Callback):
        def on_fit_begin(self, trainer):
            os.kill(os.getpid(), signal.SIGINT)

    setup("arrays", data, (2, 3), lambda trainer: fastnn.save(trainer.state_dict(), tmp_path / "c"))
    early, kept = EarlyStopping(patience=2, restore_best=False), []
    ends = type("", (Callback,), {"on_fit_end": lambda self, trainer: kept.append(trainer.state_dict())})()
    model = nn.Sequential(nn.Flatten(), *network())
    adam = optim.AdamW(model.parameters(), 0.01)
    with pytest.raises(KeyboardInterrupt, match="in epoch 2 of 3, after 3 batches"):
        Trainer(16, ema=0.9, accumulate=2, schedule="step").fit(
            model, data, data, 3, adam, optim.lr_scheduler.OneCycleLR(adam, 0.02, total_steps=30), seed=1,
            metrics=[Accuracy(), ConfusionMatrix(), F1()], callbacks=[Interrupts(), early, ends], resume=tmp_path / "c")
    fastnn.save(kept[0], tmp_path / "d")
    assert same(state(setup("arrays", data, resume=tmp_path / "d")), state(setup("arrays", data)))


def test_a_sampler_with_a_stream_of_its_own_is_resumed(tmp_path, data):
    class Shuffled:
        def __init__(self):
            self.rng = np.random.default_rng(3)

        def __iter__(self):
            return iter(self.rng.permutation(70).tolist())

        def __len__(self):
            return 70

    def run(resume=None, **callbacks):
        model = network()
        loader = DataLoader(TensorDataset(*data), 16, sampler=Shuffled())
        Trainer().fit(model, loader, epochs=3, optimizer=optim.SGD(model.parameters(), 0.1), seed=2, resume=resume,
                      **callbacks)
        return model.state_dict()

    for place in (2, 0), (2, 2):
        whole = run(callbacks=[At(*place, lambda trainer: fastnn.save(trainer.state_dict(), tmp_path / "c"))])
        assert same(run(tmp_path / "c"), whole)


def test_several_tensors_as_one_input(data):
    class Sum(nn.Linear):
        def forward(self, pair):
            return super().forward(pair[0] + pair[1])

    x, y = map(fastnn.tensor, data)
    model = Sum(6, 3)
    history = Trainer().fit(model, [((x, x), y)], epochs=2, optimizer=optim.LBFGS(model.parameters(), max_iter=3))
    assert history["loss"][1] < history["loss"][0]


def test_mistakes_in_the_setup_are_named(tmp_path, data):
    def fit(batches=data, schedule="epoch", **more):
        Trainer(16, schedule=schedule).fit(network(), batches, **more)

    for callback in EarlyStopping, print, object():
        with pytest.raises(TypeError, match="callbacks must be a list of instances of Callback, but "):
            fit(callbacks=[callback])
    with pytest.raises(TypeError, match="callbacks must be a list of instances of Callback, but <fastnn"):
        fit(callbacks=EarlyStopping())
    for metrics in [Accuracy], Accuracy(), [None]:
        with pytest.raises(TypeError, match="metrics must be a list of instances of Metric, but"):
            fit(metrics=metrics)
        with pytest.raises(TypeError, match="metrics must be a list of instances of Metric, but"):
            evaluate(network(), data, metrics=metrics)
    with pytest.raises(ValueError, match="metrics need names of their own, but f1, f1 came"):
        fit(metrics=[F1(), F1("micro")])
    named_loss = F1("micro")
    named_loss.name = "loss"
    with pytest.raises(ValueError, match="metrics need names of their own, but loss came"):
        fit(metrics=[named_loss])
    with pytest.raises(TypeError, match=r"targets must be a tensor or an array, but a list came"):
        fit([(data[0], data[1].tolist())])
    model = network()
    adam = optim.Adam(model.parameters())
    with pytest.raises(ValueError, match="ReduceLROnPlateau needs the loss of an epoch: schedule must be 'epoch'"):
        Trainer(schedule="step").fit(model, data, optimizer=adam,
                                     scheduler=optim.lr_scheduler.ReduceLROnPlateau(adam))
    path = tmp_path / "c"
    at = At(1, 2, lambda trainer: fastnn.save(trainer.state_dict(), path))
    fit(callbacks=[at])
    with pytest.raises(ValueError, match=r"figures \['accuracy'\], but those here are \['accuracy', 'f1'\]"):
        fit(resume=path, metrics=[Accuracy(), F1()])
    loader = DataLoader(TensorDataset(*data), 16, True, generator=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"random streams \['\w+'\], but those here are \['\w+', 'PCG64'\]"):
        fit(loader, resume=path)


def test_the_end_is_told_after_ctrl_c_too(data):
    def interrupt(self, trainer):
        raise KeyboardInterrupt

    told = []
    callbacks = [type("", (Callback,), {"on_fit_end": end})() for end in (interrupt, lambda *_: told.append(1))]
    with pytest.raises(KeyboardInterrupt):
        Trainer(16).fit(network(), data, callbacks=callbacks)
    assert told == [1]
