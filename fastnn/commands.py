"""What `fastnn train`, `evaluate` and `predict` do, given their parsed arguments. Errors of the user's are ValueError,
OSError or ImportError, which the command line prints."""

import argparse
import math
import os
import sys
from typing import Any

import numpy as np

import fastnn
from fastnn import data, optim
from fastnn import train as training_loop
from fastnn.data import preprocess, source, transforms
from fastnn.data.arrays import read_table
from fastnn.data.folder import EXTENSIONS
from fastnn.optim.lr_scheduler import LambdaLR
from fastnn.train import Classification, Predictor, Regression
from fastnn.train.predictor import base_of

OPTIMIZERS = {"sgd": (optim.SGD, 0.05, 1e-4), "adam": (optim.Adam, 1e-3, 0.0), "adamw": (optim.AdamW, 1e-3, 0.01)}
SCHEDULES = {  # factor of the rate, by the fraction of training that is done
    "constant": lambda t: 1.0,
    "step": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.75)),
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
}


def train(arguments: argparse.Namespace) -> None:
    """Trains a network and scores it."""
    path, name = arguments.save, arguments.model
    if path and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise ValueError(f"argument --save: {path} is a folder, or lies in one that does not exist")
    fastnn.manual_seed(arguments.seed)
    kept, test = _open(arguments, "train", "test")
    shape, targets = source.shape_of(kept), source.targets_of(kept)
    task: Any = Classification(arguments.label_smoothing)
    if arguments.task == "regression" or (arguments.task is None and targets.dtype.kind == "f"):
        training, validation = data.random_split(kept, [0.9, 0.1])
        outputs = 1
        if targets.size != len(targets):
            raise ValueError(f"fastnn train: needs one number to predict for each sample, got targets {targets.shape}")
        mean, std = (float(f(targets[training.indices], dtype=np.float64)) for f in (np.mean, np.std))
        task = Regression(mean, std or 1.0)
    else:
        # in the order of classes, so that the same images give the same run from an array and from a folder
        kept = data.Subset(kept, np.argsort(targets, kind="stable"))
        training, validation = data.stratified_split(kept, 0.1)
        outputs = len(kept.classes) if kept.classes else int(targets.max()) + 1
    for part in (kept, test) if isinstance(task, Classification) else ():
        _check_labels(part, outputs)

    def loader(part: Any, batch_size: int, **options: Any) -> data.DataLoader:
        return data.DataLoader(part, batch_size, num_workers=_workers(arguments, part), **options)

    base, base_shape = base_of(name, shape)
    prepare = None
    if arguments.preprocess != "none":
        prepare = preprocess.from_text(arguments.preprocess)
        prepare.fit(loader(training, 1024, transform=base))
    classes = [str(c) for c in kept.classes or range(outputs)] if isinstance(task, Classification) else None
    augmentation = _augmentation(arguments, base_shape, outputs, loader(training, 1024, transform=base))
    predictor = Predictor(name, shape, outputs, task, classes, source.features_of(kept), prepare,
                          arguments.augment)
    weights, (method, rate, decay) = list(predictor.model.parameters()), OPTIMIZERS[arguments.optimizer]
    options = {"momentum": arguments.momentum} if method is optim.SGD else {}
    optimizer = method(weights, lr=rate if arguments.lr is None else arguments.lr,
                       weight_decay=decay if arguments.weight_decay is None else arguments.weight_decay, **options)
    print(f"{name}: {sum(p.numel() for p in weights):,} parameters; {len(training)} {_noun(shape)} to train on, "
          f"{len(validation)} to validate, {len(test)} to test; {fastnn.get_num_threads()} threads")

    batches = loader(training, arguments.batch_size, shuffle=True, transform=predictor.transform(augmentation))
    scheduler = LambdaLR(optimizer, _factor(arguments, len(batches)))
    training_loop.fit(predictor.model, optimizer, batches, loader(validation, 256, transform=predictor.transform()),
                      arguments.epochs, scheduler, task, per_batch=True)
    if path:
        predictor.save(path)
    _report(training_loop.evaluate(predictor.model, loader(test, 256, transform=predictor.transform()), task))


def evaluate(arguments: argparse.Namespace) -> None:
    """Scores saved weights."""
    predictor = Predictor.load(arguments.weights)
    (test,) = _open(arguments, "test", shape=predictor.shape, classes=predictor.classes)
    if source.shape_of(test) != predictor.shape:
        raise ValueError(f"fastnn evaluate: the samples have the shape {source.shape_of(test)}, but the network of "
                         f"{arguments.weights} takes {predictor.shape}")
    if test.classes and predictor.classes and list(test.classes) != predictor.classes:
        raise ValueError(f"fastnn evaluate: the classes are {test.classes}, but the network of {arguments.weights} "
                         f"knows {predictor.classes}")
    if isinstance(predictor.task, Classification):
        _check_labels(test, predictor.outputs)
    view = _view(arguments, predictor)
    model, transform = (predictor.averaging(view), predictor.base) if view else (predictor.model, predictor.transform())
    batches = data.DataLoader(test, 256, num_workers=_workers(arguments, test), transform=transform)
    _report(training_loop.evaluate(model, batches, predictor.task))


def predict(arguments: argparse.Namespace) -> int:
    """Prints what a saved network makes of pictures, or of rows of CSV files; returns 1 if one could not be read."""
    predictor, failed = Predictor.load(arguments.weights), 0
    view = _view(arguments, predictor)
    if len(predictor.shape) == 1:
        for path in arguments.inputs:
            for answer in predictor(_features(path, predictor)).tolist():
                print(*answer)
        return 0
    paths = [path for given in arguments.inputs for path in _pictures(given)]
    C, H, W = predictor.shape
    for start in range(0, len(paths), 64):
        images: list[fastnn.Tensor] = []
        read: list[str] = []
        for path in paths[start : start + 64]:
            try:
                images.append(data.read_image(path, (H, W), C))
                read.append(path)
            except (OSError, ValueError) as error:
                print(f"fastnn: {error}", file=sys.stderr)
                failed = 1
        for path, answer in zip(read, predictor(fastnn.stack(images), view).array if images else (), strict=True):
            if predictor.classes is None:
                print(f"{path}: {' '.join(map(str, answer))}")
            else:
                best = np.argsort(-answer, kind="stable")[: arguments.top]
                print(f"{path}: " + ", ".join(f"{predictor.classes[i]} {answer[i]:.4f}" for i in best))
    return failed


def _open(arguments: argparse.Namespace, *parts: str, shape: Any = None, classes: Any = None) -> list[Any]:
    given = {name: getattr(arguments, name) for name in ("root", "download", "size", "channels", "target")}
    workers = 2 if arguments.workers is None else arguments.workers
    return source.open_data(arguments.data, parts, shape=shape, classes=classes, num_workers=workers, **given)


def _augmentation(arguments: argparse.Namespace, shape: tuple[int, ...], outputs: int, batches: Any) -> Any:
    """What --augment names, fitted on the training samples where it has to be; or None."""
    if not arguments.augment:
        return None
    if len(shape) != 3:
        raise ValueError(f"argument --augment: changes images, but the samples have the shape {shape}")
    augmentation = transforms.from_text(arguments.augment, shape, outputs)
    for transform in augmentation.transforms:
        if isinstance(transform, transforms.PCAColor):
            transform.fit(batches)
    return augmentation


def _check_labels(dataset: Any, n: int) -> None:
    labels = source.targets_of(dataset)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (len(labels) and not 0 <= labels.min() <= labels.max() < n):
        raise ValueError(f"the labels of {n} classes must be (N,) ints from 0 to {n - 1}, got {labels.dtype} "
                         f"{labels.shape}, {labels.min(initial=0)} to {labels.max(initial=0)}")


def _workers(arguments: argparse.Namespace, dataset: Any) -> int:
    """Threads that prepare batches: as many as asked for, else two if pictures are read from files, else none."""
    if arguments.workers is not None:
        return arguments.workers
    return 0 if source.in_memory(dataset) else 2


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


def _features(path: str, predictor: Predictor) -> np.ndarray:
    """The columns of a .csv file that the network was trained on, (N, D)."""
    names, table = read_table(path)
    wanted = predictor.features or []
    missing = [name for name in wanted if name not in names]
    if not wanted or missing:
        raise ValueError(f"{path} has the columns {names}, but the network takes {wanted or predictor.shape}: "
                         f"{', '.join(map(repr, missing))} is missing")
    return table[:, [names.index(name) for name in wanted]]


def _pictures(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    return sorted(os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files
                  if file.lower().endswith(EXTENSIONS) and file[0] != ".")


def _noun(shape: tuple[int, ...]) -> str:
    return "images" if len(shape) == 3 else "samples"


def _report(score: Any) -> None:
    print(f"test loss {score.loss:.4f}" if hasattr(score, "accuracy") else f"test {score}")
    if hasattr(score, "accuracy"):
        print(f"test accuracy {score.accuracy:.4f}")
