"""The command line: ``fastnn train``, ``evaluate``, ``predict``, ``verify``, ``config``; also ``python -m fastnn``."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import fastnn
from fastnn import commands, models, verify
from fastnn.data import preprocess, source, transforms

SOURCES = f"{', '.join(source.NAMES)}; a folder with a folder of pictures for each class; a folder or .npz file with "\
          "the arrays x and y; a .csv file. A folder may have folders train and test, else a fifth is kept to test with"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status, 0 or, if it failed, 1. Bad arguments raise SystemExit(2)."""
    parser = argparse.ArgumentParser("fastnn", description="A deep learning framework for the CPU.")
    parser.add_argument("--version", action="version", version=fastnn.__version__)
    subparsers = parser.add_subparsers(required=True, metavar="command")
    whole, number = _number(int, 1), _number(float, 0)

    text = ("Trains a network, holding out a tenth of the training samples for validation, and scores it on the test "
            "samples at the end. What prepares the data is fitted on the training samples alone.")
    command = subparsers.add_parser("train", help="train a network on images or numbers and score it", description=text)
    command.set_defaults(run=commands.train)
    for option, parse, default, about in (
        ("--epochs", whole, 30, "passes over the training samples"),
        ("--batch-size", whole, 32, "samples a step"),
        ("--lr", number, None, "learning rate at first (default: 0.001; sgd 0.05)"),
        ("--momentum", number, 0.9, "momentum of sgd"),
        ("--weight-decay", number, None, "weight decay (default: 0.01; sgd 0.0001, adam 0)"),
        ("--warmup", number, 0.0, "epochs in which the rate rises to its first value"),
        ("--label-smoothing", number, 0.1, "part of each label that is spread over all classes"),
        ("--seed", _number(int, 0), 0, "of the weights, the split, the order and the augmentation"),
        ("--save", Path, None, "file to write the trained network to, for evaluate and predict (default: none)"),
    ):
        about += "" if default is None else f" (default: {default})"
        command.add_argument(option, type=parse, default=default, metavar=option[2:].upper(), help=about)
    for option, choices, chosen in (("--model", models.__all__, "cnn"), ("--optimizer", commands.OPTIMIZERS, "adamw"),
                                     ("--schedule", commands.SCHEDULES, "cosine")):
        command.add_argument(option, choices=[*choices], default=chosen, help=f"(default: {chosen})")
    command.add_argument("--task", choices=["classification", "regression"],
                         help="(default: regression if the targets are floats, as those of .csv files are)")
    command.add_argument("--augment", default="", metavar="LIST",
                         help=f"random changes to training images, as flip,crop=4: {', '.join(transforms.NAMED)}")
    command.add_argument("--preprocess", default="standardize", metavar="NAME",
                         help=f"none, {', '.join(preprocess.PREPROCESSORS)}; maybe pca=50 (default: standardize)")
    command.add_argument("--size", type=_size, default="auto", metavar="H[xW]",
                         help="scale and crop pictures in folders to it (default: auto, their own size, or squares)")
    command.add_argument("--channels", type=int, choices=[1, 3], help="read pictures as grey or in colour")
    command.add_argument("--target", metavar="COLUMN", help="the column of a .csv file to predict (default: the last)")
    _add_data(command)

    text = "Scores a network that train has saved on the test samples of the data."
    command = subparsers.add_parser("evaluate", help="score a saved network", description=text)
    command.set_defaults(run=commands.evaluate)
    _add_data(command)
    _add_weights(command)

    text = "Prints what a saved network makes of pictures (files or folders of them), or of the rows of .csv files."
    command = subparsers.add_parser("predict", help="classify pictures with a saved network", description=text)
    command.set_defaults(run=commands.predict, threads=None)
    command.add_argument("inputs", nargs="+", metavar="input", help="picture, folder of pictures, or .csv file")
    command.add_argument("--top", type=whole, default=3, metavar="N", help="classes to print (default: 3)")
    _add_weights(command)

    text = ("Compares compiled kernels with their NumPy twins in float64, over shapes, dtypes, the instruction sets of "
            "this machine and 1 to 3 threads; the exit status is 1 if anything is out of tolerance.")
    command = subparsers.add_parser("verify", help="check every kernel against its NumPy twin", description=text)
    command.add_argument("names", nargs="*", metavar="name", help="kernel (conv.conv2d) or family (conv); default: all")
    command.set_defaults(run=_verify, parser=command)

    command = subparsers.add_parser("config", help="print what is in use, for a bug report")
    command.set_defaults(run=lambda arguments: fastnn.show_config())

    arguments = parser.parse_args(argv)
    try:
        if getattr(arguments, "threads", None):
            fastnn.set_num_threads(arguments.threads)
        return arguments.run(arguments) or 0
    except KeyboardInterrupt:
        print("fastnn: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError, MemoryError) as error:  # with what the user gave
        print(f"fastnn: {error}", *getattr(error, "__notes__", ()), sep="\n        ", file=sys.stderr)
        return 1


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", default="digits", metavar="DATA", help=f"{SOURCES} (default: digits)")
    command.add_argument("--root", type=Path, metavar="FOLDER", help="where the files of a data set known by name are")
    command.add_argument("--download", action="store_true", help="fetch the files of a data set known by name")
    command.add_argument("--workers", type=_number(int, 0), metavar="N",
                         help="threads that prepare batches (default: 2 if pictures are read from files, else 0)")
    command.add_argument("--threads", type=_number(int, 1), metavar="N", help="threads of the kernels (default: all)")


def _add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, required=True, metavar="FILE", help="what train --save has written")
    group = command.add_mutually_exclusive_group()
    group.add_argument("--tta", action="store_true",
                       help="average over views of each image that are like the augmentation in training")
    group.add_argument("--views", metavar="NAME",
                       help="average over views: flip, vflip, five-crop=PIXELS, ten-crop=PIXELS")


def _verify(arguments: argparse.Namespace) -> int:
    try:
        return verify.report(arguments.names)
    except ValueError as error:
        return arguments.parser.error(str(error))  # exits


def _size(text: str) -> tuple[int, int] | str:
    """A side, or height and width with an x between, or auto."""
    if text == "auto":
        return text
    match = re.fullmatch(r"([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is neither a side nor HxW, in pixels, nor auto")
    return int(match[1]), int(match[2] or match[1])


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
