"""The command line: ``fastnn train``, ``evaluate``, ``predict``, ``verify``, ``config``; also ``python -m fastnn``."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    whole, count, number = _number(int, 1), _number(int, 0), _number(float, 0)

    def command(name: str, run: Callable, text: str, description: str | None = None) -> argparse.ArgumentParser:
        made = subparsers.add_parser(name, help=text, description=description)
        made.set_defaults(run=run, parser=made)
        return made

    train = command("train", commands.train, "train a network on images or numbers and score it", (
        "Trains a network, holding out a tenth of the training samples for validation, and scores it on the test "
        "samples at the end. What prepares the data is fitted on the training samples alone."))
    for option, parse, default, about in (  # parse: a function, or what may be chosen
        ("--model", models.__all__, "cnn", "network"),
        ("--epochs", whole, 30, "passes over the training samples"),
        ("--batch-size", whole, 32, "samples a step"),
        ("--optimizer", commands.OPTIMIZERS, "adamw", "method"),
        ("--lr", number, None, "learning rate at first (default: 0.001; sgd 0.05)"),
        ("--schedule", commands.SCHEDULES, "cosine", "of the learning rate"),
        ("--warmup", number, 0.0, "epochs in which the rate rises to its first value"),
        ("--momentum", number, 0.9, "momentum of sgd"),
        ("--weight-decay", number, None, "weight decay (default: 0.01; sgd 0.0001, adam 0)"),
        ("--label-smoothing", number, 0.1, "part of each label that is spread over all classes"),
        ("--seed", count, 0, "of the weights, the split, the order and the augmentation"),
        ("--task", ["classification", "regression"], None,
         "(default: regression if the targets are floats, as those of .csv files are)"),
        ("--augment=LIST", str, "",
         f"random changes to training images, as flip,crop=4: {', '.join(transforms.NAMED)}"),
        ("--preprocess=NAME", str, "standardize", f"none, {', '.join(preprocess.PREPROCESSORS)}; maybe pca=50"),
        ("--size=H[xW]", _size, "auto", "scale and crop pictures in folders to it; auto: their own size, or squares"),
        ("--channels", [1, 3], None, "read pictures as grey or in colour"),
        ("--target=COLUMN", str, None, "the column of a .csv file to predict (default: the last)"),
        ("--save", Path, None, "file to write the trained network to, for evaluate and predict (default: none)"),
    ):
        option, _, metavar = option.partition("=")
        about += "" if default in (None, "") else f" (default: {default})"
        kind: dict[str, Any] = {"type": parse, "metavar": metavar or option[2:].upper()} if callable(parse) else {
            "choices": [*parse], "type": type(next(iter(parse)))}
        train.add_argument(option, default=default, help=about, **kind)

    evaluate = command("evaluate", commands.evaluate, "score a saved network",
                       "Scores a network that train has saved on the test samples of the data.")
    for part in train, evaluate:
        part.add_argument("--data", default="digits", metavar="DATA", help=f"{SOURCES} (default: digits)")
        part.add_argument("--root", type=Path, metavar="FOLDER", help="where the files of a data set known by name are")
        part.add_argument("--download", action="store_true", help="fetch the files of a data set known by name")
        part.add_argument("--workers", type=count, metavar="N",
                          help="threads that prepare batches (default: 2 if pictures are read from files, else 0)")
        part.add_argument("--threads", type=whole, metavar="N", help="threads of the kernels (default: all)")

    predict = command("predict", commands.predict, "classify pictures with a saved network", (
        "Prints what a saved network makes of pictures (files or folders of them), or of the rows of .csv files."))
    predict.add_argument("inputs", nargs="+", metavar="input", help="picture, folder of pictures, or .csv file")
    predict.add_argument("--top", type=whole, default=3, metavar="N", help="classes to print (default: 3)")
    for part in evaluate, predict:
        part.add_argument("--weights", type=Path, required=True, metavar="FILE", help="what train --save has written")
        group = part.add_mutually_exclusive_group()
        group.add_argument("--tta", action="store_true",
                           help="average over views of each image that are like the augmentation in training")
        group.add_argument("--views", metavar="NAME",
                           help="average over views: flip, vflip, five-crop=PIXELS, ten-crop=PIXELS")

    check = command("verify", _verify, "check every kernel against its NumPy twin", (
        "Compares compiled kernels with their NumPy twins in float64, over shapes, dtypes, the instruction sets of "
        "this machine and 1 to 8 threads; the exit status is 1 if anything is out of tolerance."))
    check.add_argument("names", nargs="*", metavar="name", help="kernel (conv.conv2d) or family (conv); default: all")
    command("config", lambda arguments: fastnn.show_config(), "print what is in use, for a bug report")

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
