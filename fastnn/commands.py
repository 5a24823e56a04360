"""What the commands of `fastnn` do. The user's errors are ValueError, OSError or ImportError."""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastnn
from fastnn import data, models, optim
from fastnn.data import preprocess, source, transforms
from fastnn.data.arrays import columns_of, read_table
from fastnn.data.dataset import in_memory
from fastnn.data.folder import pictures_in
from fastnn.errors import require
from fastnn.functional import cross_entropy
from fastnn.nn.parameter import evaluation
from fastnn.optim.lr_scheduler import LambdaLR
from fastnn.search import Choice, ReportEpochs, Search, parse_space
from fastnn.train import metrics
from fastnn.train.callback import Callback, EarlyStopping, Progress, falls
from fastnn.train.checkpoint import Checkpoint
from fastnn.train.logs import CSVLogger, JSONLinesLogger, TensorBoard, write_file
from fastnn.train.predictor import Predictor, base_of
from fastnn.train.report import Report
from fastnn.train.task import Classification, Regression
from fastnn.train.trainer import Trainer
from fastnn.train.trainer import evaluate as score_of
from fastnn.train.watch import Watch

OPTIMIZERS = {"sgd": (optim.SGD, 0.05, 1e-4), "adam": (optim.Adam, 1e-3, 0.0), "adamw": (optim.AdamW, 1e-3, 0.01)}
SCHEDULES = {  # factor of the rate, by the fraction of training that is done
    "constant": lambda t: 1.0,
    "step": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.75)),
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t))}
METRICS: dict[str, Callable[[], metrics.Metric]] = {
    "accuracy": metrics.Accuracy, "top5": metrics.TopK, "precision": metrics.Precision, "recall": metrics.Recall,
    "f1": metrics.F1, "confusion": metrics.ConfusionMatrix}
SECONDS = 1.0  # for each figure of bench
CHECKPOINTS, NETWORK, CONFIG = "checkpoints", "model.safetensors", "config.toml"  # in the folder of a run


class Setup:
    """What a run needs, made of the arguments: a predictor with fresh weights, its optimizer and schedule, loaders.

    `fold`: (i, k), to validate with the i-th of k parts; by default a tenth is held out. `test`: open the test samples
    too, which else nothing looks at."""

    def __init__(self, arguments: argparse.Namespace, fold: tuple[int, int] | None = None, test: bool = False) -> None:
        fastnn.manual_seed(arguments.seed)
        self.arguments = arguments
        kept, *self.test = _open(arguments, ("train", "test")[: 1 + test], size=arguments.size,
                                 channels=arguments.channels, target=arguments.target)
        task, outputs, training, validation = _divide(arguments, kept, fold)
        name, shape, prepare = arguments.model, source.shape_of(kept), None
        base, base_shape = base_of(name, shape)
        if arguments.preprocess != "none":
            prepare = preprocess.from_text(arguments.preprocess)
            prepare.fit(self.loader(training, 1024, transform=base))
        if isinstance(task, Classification):
            for part in self.test:
                _check_labels(part, outputs)
        classes = [str(c) for c in kept.classes or range(outputs)] if isinstance(task, Classification) else None
        columns = source.columns_of(kept)
        self.predictor = Predictor(name, shape, outputs, task, classes, *columns, prepare, arguments.augment)
        augmentation = _augmentation(arguments, base_shape, outputs, task, self.loader(training, 1024, transform=base))
        method, rate, decay = OPTIMIZERS[arguments.optimizer]
        options = {"momentum": arguments.momentum} if method is optim.SGD else {}
        self.model, self.task = self.predictor.model, task
        self.optimizer: Any = method(self.model.parameters(), lr=rate if arguments.lr is None else arguments.lr,
                                     weight_decay=decay if arguments.weight_decay is None else arguments.weight_decay,
                                     **options)
        self.training = self.loader(training, arguments.batch_size, shuffle=True,
                                    transform=self.predictor.transform(augmentation))
        self.validation = self.loader(validation, 256, transform=self.predictor.transform())
        steps = -(-len(self.training) // arguments.accumulate)
        self.scheduler = LambdaLR(self.optimizer, _factor(arguments, steps))

    def loader(self, part: Any, batch_size: int, **options: Any) -> data.DataLoader:
        return data.DataLoader(part, batch_size, num_workers=_workers(self.arguments, part), **options)

    def fit(self, callbacks: list[Callback], **options: Any) -> Trainer:
        """Train; the predictor then has the weights that were validated."""
        a = self.arguments
        if a.early_stopping:
            callbacks = [EarlyStopping(patience=a.early_stopping), *callbacks]
        trainer = Trainer(accumulate=a.accumulate, clip_norm=a.clip_norm, ema=a.ema, schedule="step")
        trainer.fit(self.model, self.training, self.validation, a.epochs, self.optimizer, self.scheduler, self.task,
                    callbacks=callbacks, **options)
        if trainer.ema:
            self.model.load_state_dict(trainer.evaluation_model.state_dict())
        return trainer


def train(arguments: argparse.Namespace) -> None:
    """Trains a network and scores it."""
    path, folder = arguments.save, arguments.output
    if path and not (os.access(f"{path.absolute().parent}/", os.W_OK) and (path.is_file() or not path.exists())):
        raise ValueError(f"argument --save: {path} is no file, or lies in a folder that does not exist or is read-only")
    if folder and not arguments.resume and (folder / CONFIG).exists():
        raise ValueError(f"argument --output: {folder} holds a run already; --resume {folder} goes on with it")
    if arguments.report and not folder:
        raise ValueError("argument --report: it is written to a folder, --output is needed")
    setup, config = Setup(arguments, test=True), arguments.configuration
    (test,), shape, weights = setup.test, setup.predictor.shape, sum(p.numel() for p in setup.model.parameters())
    things = "images" if len(shape) == 3 else "samples"
    print(f"{arguments.model}: {weights:,} parameters; {len(setup.training.dataset)} {things} to train on, "
          f"{len(setup.validation.dataset)} to validate, {len(test)} to test; {fastnn.get_num_threads()} threads")
    callbacks: list[Callback] = [Progress(lines=True)]
    if arguments.watch:
        callbacks.append(Watch())
    if folder:
        log = CSVLogger(folder / "log.csv") if arguments.log == "csv" else JSONLinesLogger(folder / "log.jsonl")
        callbacks += [log, Checkpoint(folder / CHECKPOINTS, every_steps=arguments.checkpoint_steps)]
    if arguments.tensorboard:
        callbacks.append(TensorBoard(arguments.tensorboard, images=16 * (len(shape) == 3)))
    if arguments.report:
        callbacks.append(Report(folder / "report.html", classes=setup.predictor.classes))
    if folder and not arguments.resume:  # nothing is missing
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / CONFIG, to_toml(config).encode())
    try:
        begun = arguments.resume and any((folder / CHECKPOINTS).glob("*.safetensors"))
        setup.fit(callbacks, resume=folder / CHECKPOINTS if begun else None, config=config)
    except KeyboardInterrupt as stop:
        advice = f"go on with: fastnn train --resume {folder}" if folder else "nothing was saved, for lack of --output"
        raise KeyboardInterrupt(f"{stop}\n{advice}") from None
    try:
        for target in path, folder and folder / NETWORK:
            if target:
                setup.predictor.save(target)
    finally:  # a full disk does not take the score too
        loader = setup.loader(test, 256, transform=setup.predictor.transform())
        _report(score_of(setup.model, loader, setup.task))


def evaluate(arguments: argparse.Namespace) -> None:
    """Scores a saved network."""
    predictor = _load(arguments)
    view = _view(arguments, predictor)
    (test,) = _open(arguments, ("test",), shape=predictor.shape, classes=predictor.classes, target=predictor.target,
                    features=predictor.features)
    for what, here, verb, there in (("shape", source.shape_of(test), "takes", predictor.shape),
                                    ("classes", test.classes, "knows", predictor.classes)):
        if here and there and [*here] != [*there]:
            raise ValueError(f"{what} of {arguments.data}: {here}; the network of {arguments.weights} {verb} {there}")
    if isinstance(predictor.task, Classification):
        _check_labels(test, predictor.outputs)
    model, transform = (predictor.averaging(view), predictor.base) if view else (predictor.model, predictor.transform())
    batches = data.DataLoader(test, 256, num_workers=_workers(arguments, test), transform=transform)
    if arguments.metrics and not isinstance(predictor.task, Classification):
        raise ValueError(f"argument --metrics: those are of classes, and {arguments.weights} predicts numbers")
    chosen = [METRICS[name]() for name in arguments.metrics or ()]
    _report(score_of(model, batches, predictor.task, [*predictor.task.metrics(), *chosen]), predictor.classes)


def predict(arguments: argparse.Namespace) -> int:
    """Prints what a saved network makes of pictures, or of rows of .csv files; returns 1 if one could not be read."""
    predictor, failed = _load(arguments), 0
    view, images = _view(arguments, predictor), len(predictor.shape) == 3
    paths = [path for given in arguments.inputs
             for path in (pictures_in(given) if images and os.path.isdir(given) else [given])]
    for start in range(0, len(paths), 64 if images else 1):
        samples: list[np.ndarray] = []
        names: list[str] = []
        for path in paths[start : start + (64 if images else 1)]:
            try:
                samples.append(_sample(path, predictor))
                names += [path] if images else [f"{path} row {i}" for i in range(1, len(samples[-1]) + 1)]
            except (OSError, ValueError) as error:
                print(f"fastnn: {error}", file=sys.stderr)
                failed = 1
        answers = predictor(np.concatenate(samples), view).array if samples else np.empty(0)
        for name, answer in zip(names, answers, strict=True):
            if predictor.classes is None:
                print(f"{name}: {answer[0]:.7g}")
            else:
                best = np.argsort(-answer, kind="stable")[: arguments.top]
                print(f"{name}: " + ", ".join(f"{predictor.classes[i]} {answer[i]:.4f}" for i in best))
    return failed


def _open(arguments: argparse.Namespace, parts: tuple[str, ...], **options: Any) -> list[Any]:
    return source.open_data(arguments.data, parts, root=arguments.root, download=arguments.download,
                            num_workers=2 if arguments.workers is None else arguments.workers, **options)


def _load(arguments: argparse.Namespace) -> Predictor:
    """The network of a file, or of the folder of a run."""
    path = arguments.weights
    return Predictor.load(path / NETWORK if path.is_dir() else path)


def _divide(arguments: argparse.Namespace, kept: Any, fold: tuple[int, int] | None) -> tuple[Any, int, Any, Any]:
    """The task, the number of outputs, the samples to train on and those to validate with."""
    targets = source.targets_of(kept)
    if arguments.task == "regression" or (arguments.task is None and targets.dtype.kind == "f"):
        if targets.size != len(targets) or not np.isfinite(targets).all():
            raise ValueError(f"{arguments.data}: regression needs a finite number for each sample, got targets "
                             f"{targets.shape} {targets.dtype}")
        training, validation = _part(kept, fold, False) if fold else data.random_split(kept, [0.9, 0.1])
        mean, std = (float(f(targets[training.indices], dtype=np.float64)) for f in (np.mean, np.std))
        return Regression(mean, std or 1.0), 1, training, validation
    outputs = len(kept.classes) if kept.classes else 1 + int(targets.max(initial=0))
    _check_labels(kept, outputs)
    # in the order of classes, so that the same images give the same run from an array and from a folder
    kept = data.Subset(kept, np.argsort(targets, kind="stable"))
    parts = _part(kept, fold, True) if fold else data.stratified_split(kept, 0.1)
    return Classification(arguments.label_smoothing), outputs, *parts


def _part(kept: Any, fold: tuple[int, int], stratified: bool) -> tuple[Any, Any]:
    """The samples without those of part i of k, and those; the same parts for whoever asks."""
    return [*data.k_fold(kept, fold[1], stratified, generator=0)][fold[0]]


def _augmentation(arguments: argparse.Namespace, shape: tuple[int, ...], outputs: int, task: Any, batches: Any) -> Any:
    """What --augment names, fitted on the training samples where it has to be; or None."""
    if not arguments.augment:
        return None
    if len(shape) != 3:
        raise ValueError(f"argument --augment: changes images, but the samples have the shape {shape}")
    augmentation = transforms.from_text(arguments.augment, shape, outputs)
    for transform in augmentation.transforms:
        if isinstance(transform, (transforms.MixUp, transforms.CutMix)) and isinstance(task, Regression):
            raise ValueError("argument --augment: mixup and cutmix mix the classes of images; regression has none")
        if isinstance(transform, transforms.PCAColor):
            transform.fit(batches)
    return augmentation


def _check_labels(dataset: Any, n: int) -> None:
    labels = source.targets_of(dataset)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (len(labels) and not 0 <= labels.min() <= labels.max() < n):
        raise ValueError(f"classification needs labels (N,), ints from 0 to {n - 1} for {n} classes, got targets "
                         f"{labels.shape} {labels.dtype}, {labels.min(initial=0)} to {labels.max(initial=0)}")


def _workers(arguments: argparse.Namespace, dataset: Any) -> int:
    """Threads that prepare batches: as many as asked for, else two if pictures are read from files, else none."""
    return arguments.workers if arguments.workers is not None else 0 if in_memory(dataset) else 2


def _factor(arguments: argparse.Namespace, per_epoch: int) -> Any:
    """The rate's factor at a step: a linear rise during warm-up, then the schedule."""
    warm, total = arguments.warmup * per_epoch, arguments.epochs * per_epoch
    schedule = SCHEDULES[arguments.schedule]
    return lambda step: (step + 1) / (warm + 1) if step < warm else schedule((step - warm) / max(total - warm, 1))


def _view(arguments: argparse.Namespace, predictor: Predictor) -> Any:
    """The views that test-time averaging takes: those asked for, or the like of what training saw; or None."""
    if not (arguments.tta or arguments.views):
        return None
    if len(predictor.shape) != 3:
        raise ValueError("test-time averaging is over views of images, but the network takes numbers")
    if arguments.views:
        return transforms.views_from_text(arguments.views, predictor.base_shape)
    return transforms.views_like(predictor.augment, predictor.base_shape)


def _sample(path: str, predictor: Predictor) -> np.ndarray:
    """A picture, (1, C, H, W), or those columns of a .csv file that the network takes (all, without names), (N, D)."""
    if len(predictor.shape) == 3:
        return data.read_image(path, predictor.shape[1:], predictor.shape[0]).array[None]
    names, table = read_table(path)
    if predictor.features is not None:
        return columns_of(path, names, table, predictor.features)
    if len(names) != predictor.shape[0]:
        raise ValueError(f"{path} has {len(names)} columns, but the network takes {predictor.shape[0]}")
    return table


def _report(score: dict[str, Any], classes: list[str] | None = None) -> None:
    if "accuracy" not in score:
        print("test mse {mse:.6g} mae {mae:.6g} r2 {r2:.4f}".format(**score))
    for name, value in score.items() if "accuracy" in score else ():
        if np.ndim(value):
            print(f"test {name.replace('_', ' ')}, a row for each true class, a column for each found")
            for label, row in zip(classes or (), value, strict=True):
                print(f"{label:>12.12} " + " ".join(f"{n:5}" for n in row))
        else:
            print(f"test {name} {value:.4f}")


def diagnose(arguments: argparse.Namespace) -> int:
    """Prints the diagnosis of a network; returns 1 if there is a failure."""
    if arguments.figure:
        require("matplotlib", "plot", "argument --figure")
    setup = Setup(arguments)
    if arguments.weights:
        setup.model.load_state_dict(_load(arguments).model.state_dict())
    found = fastnn.diagnose(setup.model, setup.training, setup.validation, setup.task, setup.optimizer)
    print(found)
    if arguments.figure:
        found.figure().savefig(arguments.figure)
    return int(bool(found.failures))


class Objective:
    """Trains with the options of a run, some of them replaced; the value is `metric`, the mean over `folds` if any."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.options = {k: v for k, v in vars(arguments).items() if k not in ("run", "parser")}  # can be pickled
        self.metric, self.folds = arguments.metric, arguments.folds
        self.direction = "minimize" if falls(self.metric) else "maximize"
        kept = {k: v for k, v in arguments.configuration.items() if k in (*arguments.of_run, "data", "root")}
        self.definition = {**kept, "metric": self.metric, "folds": self.folds}

    def __call__(self, params: dict[str, Any], epochs: int, report: Any) -> float:
        chosen, values = argparse.Namespace(**self.options | params | {"epochs": epochs}), list[float]()
        for i in range(self.folds or 1):
            setup = Setup(chosen, (i, self.folds) if self.folds else None)
            watch = ReportEpochs(report, self.metric, values[:], i * epochs)
            found = setup.fit([watch, Progress(False)]).history[self.metric]
            best = found.min() if self.direction == "minimize" else found.max()
            values.append(float(best if chosen.early_stopping else found[-1]))  # early stopping keeps the best
        return sum(values) / len(values)


def search(arguments: argparse.Namespace) -> None:
    """Searches hyperparameters; prints all trials, and the options of the best."""
    space = parse_space("=".join([name.replace("-", "_"), *values]) for name, *values in (
        text.split("=", 1) for text in arguments.space))
    for name, axis in space.items():
        if name not in arguments.of_run or name == "epochs":
            raise ValueError(f"argument --space: {name} is no option of a run, but for its epochs")
        for value in axis.options if isinstance(axis, Choice) else (axis.low, axis.high):
            arguments.parser.parse_args([f"--{name.replace('_', '-')}={value}", "--space", ""])  # may exit
    if arguments.figures:
        require("matplotlib", "plot", "argument --figures")
        arguments.figures.mkdir(parents=True, exist_ok=True)
    result = Search(Objective(arguments), space, arguments.stages, arguments.method, storage=arguments.storage,
                    name=arguments.name, processes=arguments.processes, seed=arguments.seed,
                    pruner=None if arguments.pruner == "none" else arguments.pruner).run()
    print(result)
    print("best:", *(f"--{name.replace('_', '-')} {value}" for name, value in result.best.params.items()))
    if arguments.figures:
        result.plot_parallel().savefig(arguments.figures / "parallel.png")
        for name in space:
            result.plot_parameter(name).savefig(arguments.figures / f"{name}.png")


def summary(arguments: argparse.Namespace) -> None:
    """Prints layers, shapes, parameters and operations of a network."""
    if arguments.weights:
        predictor = _load(arguments)
        model, shape = predictor.model, (predictor.preprocess.output_shape(predictor.base_shape) if predictor.preprocess
                                         else predictor.base_shape)
    else:
        shape = base_of(arguments.model, arguments.shape)[1]
        model = getattr(models, arguments.model)(shape, arguments.classes)
    print(fastnn.summary(model, shape, arguments.batch_size))


def bench(arguments: argparse.Namespace) -> None:
    """Prints the time of training steps and of inference."""
    size = arguments.batch_size
    shapes = {name: arguments.shape or ((1, 28, 28) if name in ("mlp", "lenet5", "cnn") else (3, 32, 32))
              for name in arguments.models or models.__all__}
    for name, shape in shapes.items():
        base_of(name, shape)  # refuses what does not fit
    print(f"{'network':10}{'input':>14}{'training, ms':>16}{'images/s':>10}{'inference, ms':>16}{'images/s':>10}   "
          f"(batch {size}, {fastnn.get_num_threads()} threads, {fastnn.backend.isa})")
    for name, shape in shapes.items():
        fastnn.manual_seed(0)
        model = getattr(models, name)(shape, 10)
        x, y = fastnn.rand(size, *shape), fastnn.randint(0, 10, (size,))
        adam = optim.Adam(model.parameters())
        step = partial(_step, model, adam, x, y)
        trained = _median(step)
        with evaluation(model):
            inferred = _median(partial(model, x))
        figures = (f"{1e3 * t:{w}.3f}{size / t:10,.0f}" for t, w in ((trained, 16), (inferred, 16)))
        print(f"{name:10}{'x'.join(map(str, shape)):>14}{''.join(figures)}")


def _step(model: Any, optimizer: Any, x: Any, y: Any) -> None:
    optimizer.zero_grad()
    cross_entropy(model(x), y).backward()
    optimizer.step()


def _median(run: Callable[[], Any]) -> float:
    """Seconds of a call, the median of those within a second."""
    run()
    times, end = list[float](), time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def to_toml(config: dict[str, Any]) -> str:
    """A table of strings, numbers and bools as TOML, which reads them as JSON writes them."""
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in config.items())
