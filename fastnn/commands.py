"""What `fastnn train`, `evaluate` and `predict` do. The user's errors are ValueError, OSError or ImportError."""

import argparse
import math
import os
import sys
from typing import Any

import numpy as np

import fastnn
from fastnn import data, optim
from fastnn.data import preprocess, source, transforms
from fastnn.data.arrays import columns_of, read_table
from fastnn.data.dataset import in_memory
from fastnn.data.folder import pictures_in
from fastnn.optim.lr_scheduler import LambdaLR
from fastnn.train import Classification, Predictor, Progress, Regression, Trainer
from fastnn.train import evaluate as score_of
from fastnn.train.predictor import base_of

OPTIMIZERS = {"sgd": (optim.SGD, 0.05, 1e-4), "adam": (optim.Adam, 1e-3, 0.0), "adamw": (optim.AdamW, 1e-3, 0.01)}
SCHEDULES = {  # factor of the rate, by the fraction of training that is done
    "constant": lambda t: 1.0,
    "step": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.75)),
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t))}


def train(arguments: argparse.Namespace) -> None:
    """Trains a network and scores it."""
    path, name = arguments.save, arguments.model
    if path and not (os.access(f"{path.absolute().parent}/", os.W_OK) and (path.is_file() or not path.exists())):
        raise ValueError(f"argument --save: {path} is no file, or lies in a folder that does not exist or is read-only")
    fastnn.manual_seed(arguments.seed)
    kept, test = _open(arguments, ("train", "test"), size=arguments.size, channels=arguments.channels,
                       target=arguments.target)
    task, outputs, training, validation = _divide(arguments, kept)
    if isinstance(task, Classification):
        _check_labels(test, outputs)

    def loader(part: Any, batch_size: int, **options: Any) -> data.DataLoader:
        return data.DataLoader(part, batch_size, num_workers=_workers(arguments, part), **options)

    shape = source.shape_of(kept)
    base, base_shape = base_of(name, shape)
    prepare = None
    if arguments.preprocess != "none":
        prepare = preprocess.from_text(arguments.preprocess)
        prepare.fit(loader(training, 1024, transform=base))
    classes = [str(c) for c in kept.classes or range(outputs)] if isinstance(task, Classification) else None
    predictor = Predictor(name, shape, outputs, task, classes, *source.columns_of(kept), prepare, arguments.augment)
    augmentation = _augmentation(arguments, base_shape, outputs, task, loader(training, 1024, transform=base))
    weights, (method, rate, decay) = list(predictor.model.parameters()), OPTIMIZERS[arguments.optimizer]
    options = {"momentum": arguments.momentum} if method is optim.SGD else {}
    optimizer = method(weights, lr=rate if arguments.lr is None else arguments.lr,
                       weight_decay=decay if arguments.weight_decay is None else arguments.weight_decay, **options)
    things = "images" if len(shape) == 3 else "samples"
    print(f"{name}: {sum(p.numel() for p in weights):,} parameters; {len(training)} {things} to train on, "
          f"{len(validation)} to validate, {len(test)} to test; {fastnn.get_num_threads()} threads")

    batches = loader(training, arguments.batch_size, shuffle=True, transform=predictor.transform(augmentation))
    scheduler = LambdaLR(optimizer, _factor(arguments, len(batches)))
    Trainer(schedule="step").fit(
        predictor.model, batches, loader(validation, 256, transform=predictor.transform()), arguments.epochs, optimizer,
        scheduler, task, callbacks=[Progress(lines=True)])
    try:
        if path:
            predictor.save(path)
    finally:  # a full disk does not take the score too
        _report(score_of(predictor.model, loader(test, 256, transform=predictor.transform()), task))


def evaluate(arguments: argparse.Namespace) -> None:
    """Scores a saved network."""
    predictor = Predictor.load(arguments.weights)
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
    _report(score_of(model, batches, predictor.task))


def predict(arguments: argparse.Namespace) -> int:
    """Prints what a saved network makes of pictures, or of rows of .csv files; returns 1 if one could not be read."""
    predictor, failed = Predictor.load(arguments.weights), 0
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


def _divide(arguments: argparse.Namespace, kept: Any) -> tuple[Any, int, Any, Any]:
    """The task, the number of outputs, the samples to train on and those to validate with."""
    targets = source.targets_of(kept)
    if arguments.task == "regression" or (arguments.task is None and targets.dtype.kind == "f"):
        if targets.size != len(targets) or not np.isfinite(targets).all():
            raise ValueError(f"{arguments.data}: regression needs a finite number for each sample, got targets "
                             f"{targets.shape} {targets.dtype}")
        training, validation = data.random_split(kept, [0.9, 0.1])
        mean, std = (float(f(targets[training.indices], dtype=np.float64)) for f in (np.mean, np.std))
        return Regression(mean, std or 1.0), 1, training, validation
    outputs = len(kept.classes) if kept.classes else 1 + int(targets.max(initial=0))
    _check_labels(kept, outputs)
    # in the order of classes, so that the same images give the same run from an array and from a folder
    kept = data.Subset(kept, np.argsort(targets, kind="stable"))
    return Classification(arguments.label_smoothing), outputs, *data.stratified_split(kept, 0.1)


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


def _report(score: dict[str, Any]) -> None:
    accuracy = "accuracy" in score
    print("test loss {loss:.4f}\ntest accuracy {accuracy:.4f}".format(**score) if accuracy else
          "test mse {mse:.6g} mae {mae:.6g} r2 {r2:.4f}".format(**score))
