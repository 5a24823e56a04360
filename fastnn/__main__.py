"""The command line: ``fastnn train``, ``fastnn verify``, ``fastnn config``; ``python -m fastnn`` is the same."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import fastnn
from fastnn import data, models, optim, train, verify
from fastnn.optim.lr_scheduler import CosineAnnealingLR

DATASETS = {"digits": data.digits}
MODELS = {"mlp": models.mlp, "lenet5": models.lenet5, "cnn": models.cnn}
SMALLEST = {"mlp": 1, "lenet5": 28, "cnn": 28}  # sides of images, in pixels; smaller ones are resized to 28×28
OPTIMIZERS = {"sgd": (optim.SGD, 0.05, 1e-4), "adam": (optim.Adam, 1e-3, 0.0), "adamw": (optim.AdamW, 1e-3, 0.01)}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status, 0 or, if it failed, 1. Bad arguments raise SystemExit(2)."""
    parser = argparse.ArgumentParser("fastnn", description="A deep learning framework for the CPU.")
    parser.add_argument("--version", action="version", version=fastnn.__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    text = ("Trains a network, holding out a tenth of the training images for validation, and scores it on the test "
            "images at the end. The rate falls along half a cosine; a tenth of each label is spread over all classes.")
    command = commands.add_parser("train", help="train a network on images and score it", description=text)
    command.set_defaults(run=_train, parser=command)
    whole, number = _number(int, 1), _number(float, 0)
    for option, parse, default, about in (
        ("--epochs", whole, 30, "passes over the training images"),
        ("--batch-size", whole, 32, "images a step"),
        ("--lr", number, None, "learning rate at first (default: 0.001; sgd 0.05)"),
        ("--momentum", number, 0.9, "momentum of sgd"),
        ("--weight-decay", number, None, "weight decay (default: 0.01; sgd 0.0001, adam 0)"),
        ("--seed", _number(int, 0), 0, "of the weights, the split and the order"),
        ("--threads", whole, None, "threads (default: all that are available)"),
        ("--save", Path, None, "file to write the trained weights to (default: none)"),
    ):
        about += "" if default is None else f" (default: {default})"
        command.add_argument(option, type=parse, default=default, metavar=option[2:].upper(), help=about)
    for option, choices in ("--data", DATASETS), ("--model", MODELS), ("--optimizer", OPTIMIZERS):
        command.add_argument(option, choices=choices, default=[*choices][-1], help=f"(default: {[*choices][-1]})")

    text = ("Compares compiled kernels with their NumPy twins in float64, over shapes, dtypes, the instruction sets of "
            "this machine and 1 to 3 threads; the exit status is 1 if anything is out of tolerance.")
    command = commands.add_parser("verify", help="check every kernel against its NumPy twin", description=text)
    command.add_argument("names", nargs="*", metavar="name", help="kernel (conv.conv2d) or family (conv); default: all")
    command.set_defaults(run=_verify, parser=command)

    command = commands.add_parser("config", help="print what is in use, for a bug report")
    command.set_defaults(run=lambda arguments: fastnn.show_config())

    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except FloatingPointError as e:
        print(f"fastnn: {e}", file=sys.stderr)
        return 1


def _train(arguments: argparse.Namespace) -> int:
    path, name = arguments.save, arguments.model
    if path and (path.is_dir() or not path.absolute().parent.is_dir()):
        arguments.parser.error(f"argument --save: {path} is a folder, or lies in one that does not exist")
    if arguments.threads:
        fastnn.set_num_threads(arguments.threads)
    fastnn.manual_seed(arguments.seed)
    kept, test = (DATASETS[arguments.data](train=part) for part in (True, False))
    if min(kept.tensors[0].shape[2:]) < SMALLEST[name]:
        kept, test = (data.TensorDataset(data.resize(x, 28), y) for x, y in (kept.tensors, test.tensors))
    training, validation = data.stratified_split(kept, 0.1)
    classes = sorted({*kept.tensors[1].tolist()})
    model = MODELS[name](kept.tensors[0].shape[1:], len(classes))
    weights, (method, rate, decay) = list(model.parameters()), OPTIMIZERS[arguments.optimizer]
    options = {"momentum": arguments.momentum} if method is optim.SGD else {}
    optimizer = method(weights, lr=rate if arguments.lr is None else arguments.lr,
                       weight_decay=decay if arguments.weight_decay is None else arguments.weight_decay, **options)
    print(f"{name}: {sum(p.numel() for p in weights):,} parameters; {len(training)} images to train on, "
          f"{len(validation)} to validate, {len(test)} to test; {fastnn.get_num_threads()} threads")
    batches = data.DataLoader(training, arguments.batch_size, shuffle=True)
    scheduler = CosineAnnealingLR(optimizer, arguments.epochs)
    train.fit(model, optimizer, batches, data.DataLoader(validation, 256), arguments.epochs, scheduler, 0.1)
    if path:
        fastnn.save({"model": name, "classes": classes, "state_dict": model.state_dict()}, path)
    print(f"test accuracy {train.evaluate(model, data.DataLoader(test, 256))[1]:.3f}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    try:
        return verify.report(arguments.names)
    except ValueError as e:
        return arguments.parser.error(str(e))  # exits


def _number(kind: Callable, low: float) -> Callable[[str], float]:
    """A parser of finite numbers of at least `low`."""
    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not at least {low}")
        return value

    parse.__name__ = kind.__name__  # argparse says: invalid int value
    return parse


if __name__ == "__main__":
    sys.exit(main())
