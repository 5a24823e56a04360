"""The command line: ``fastnn train``, ``evaluate``, ``predict``, ``diagnose``, ``search``, ``summary``, ``bench``,
``verify``, ``config``; also ``python -m fastnn``."""

import argparse
import math
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import fastnn
from fastnn import commands, models, verify
from fastnn.data import preprocess, source, transforms
from fastnn.search import Stage

SOURCES = f"{', '.join(source.NAMES)}; a folder with a folder of pictures for each class; a folder or .npz file with "\
          "the arrays x and y; a .csv file. A folder may have folders train and test, else a fifth is kept to test with"
APART = ("run", "parser", "of_run", "config", "resume", "output", "save", "threads")  # what does not describe a run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fastnn", description="A deep learning framework for the CPU.")
    parser.add_argument("--version", action="version", version=fastnn.__version__)
    subparsers = parser.add_subparsers(required=True, metavar="command")
    whole, count, number = _number(int, 1), _number(int, 0), _number(float, 0)

    def command(name: str, run: Callable, text: str, description: str, *examples: str) -> argparse.ArgumentParser:
        epilog = "\n  ".join(["examples:", *(f"fastnn {name} {line}".rstrip() for line in examples)])
        made = subparsers.add_parser(name, help=text, description=description, epilog=epilog, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
        made.set_defaults(run=run, parser=made)
        return made

    train = command(
        "train", commands.train, "train a network on images or numbers and score it",
        "Trains a network, holding out a tenth of the training samples for validation, and scores it on the test\n"
        "samples at the end. What prepares the data is fitted on the training samples alone.",
        "--data digits --model cnn --epochs 10 --save network.safetensors",
        "--data pictures/ --model resnet20 --augment flip,crop=4 --output runs/1 --report", "--resume runs/1",
        "--config runs/1/config.toml --output runs/2")
    diagnose = command(
        "diagnose", commands.diagnose, "look for what keeps a network from learning",
        "Tries a network, its data and its optimizer as the lectures on training do; the exit status is 1 if a check\n"
        "fails. The options are those of train.", "--data digits --model cnn --lr 0.01", "--config runs/1/config.toml")
    search = command(
        "search", commands.search, "search for good hyperparameters",
        "Trains with options drawn from the given spaces, first for few epochs over wide ranges, then for more over\n"
        "narrower ones; never looks at test data. The options are those of train. Trials are kept in a database: the\n"
        "same command goes on with a search that was stopped.",
        "--data digits --model mlp --space lr=log:1e-5:1 --space batch-size=16,32,64 --stages 12x2,8x5 --processes 2")
    for option, parse, default, about in (  # parse: a function, or what may be chosen
        ("--model", models.__all__, "cnn", "network"),
        ("--epochs", whole, 30, "passes over the training samples"),
        ("--batch-size", whole, 32, "samples a step"),
        ("--accumulate", whole, 1, "batches a step"),
        ("--optimizer", commands.OPTIMIZERS, "adamw", "method"),
        ("--lr", number, None, "learning rate at first (default: 0.001; sgd 0.05)"),
        ("--schedule", commands.SCHEDULES, "cosine", "of the learning rate"),
        ("--warmup", number, 0.0, "epochs in which the rate rises to its first value"),
        ("--momentum", number, 0.9, "momentum of sgd"),
        ("--weight-decay", number, None, "weight decay (default: 0.01; sgd 0.0001, adam 0)"),
        ("--label-smoothing", number, 0.1, "part of each label that is spread over all classes"),
        ("--clip-norm", _number(float, 1e-12), None, "limit of the norm of the gradients (default: none)"),
        ("--ema", number, None, "decay of a moving average of the weights, as 0.99, which is what is kept"),
        ("--early-stopping", whole, None, "epochs without a lower validation loss that end the training"),
        ("--seed", count, 0, "of the weights, the split, the order and the augmentation"),
        ("--task", ["classification", "regression"], None,
         "(default: regression if the targets are floats, as those of .csv files are)"),
        ("--augment=LIST", str, "",
         f"random changes to training images, as flip,crop=4: {', '.join(transforms.NAMED)}"),
        ("--preprocess=NAME", str, "standardize", f"none, {', '.join(preprocess.PREPROCESSORS)}; maybe pca=50"),
        ("--size=H[xW]", _size, "auto", "scale and crop pictures in folders to it; auto: their own size, or squares"),
        ("--channels", [1, 3], None, "read pictures as grey or in colour"),
        ("--target=COLUMN", str, None, "the column of a .csv file to predict (default: the last)"),
    ):
        option, _, metavar = option.partition("=")
        about += "" if default in (None, "") else f" (default: {default})"
        kind: dict[str, Any] = {"type": parse, "metavar": metavar or option[2:].upper()} if callable(parse) else {
            "choices": [*parse], "type": type(next(iter(parse)))}
        for part in train, diagnose, search:
            part.add_argument(option, default=default, help=about, **kind)
    search.set_defaults(of_run=[*vars(search.parse_args([]))])
    for part in train, diagnose, search:
        part.add_argument("--config", type=Path, metavar="FILE", help="TOML file with options, as epochs = 5, which "
                          "those of the command line override")
    train.add_argument("--save", type=Path, metavar="FILE", help="file to write the trained network to")
    train.add_argument("--output", type=Path, metavar="FOLDER", help="folder for all of the run: its description "
                       "config.toml, a log, checkpoints, the trained network")
    train.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the run of this folder")
    train.add_argument("--log", choices=["csv", "jsonl"], default="csv", help="kind of the log (default: csv)")
    train.add_argument("--checkpoint-steps", type=whole, metavar="N", help="steps between checkpoints, which are "
                       "written after each epoch anyway")
    train.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="folder to write TensorBoard's events to")
    train.add_argument("--report", action="store_true", help="write report.html to the folder of the run")
    train.add_argument("--watch", action="store_true", help="warn of what the lectures warn of, while it trains")

    search.add_argument("--space", nargs="+", action="extend", required=True, metavar="NAME=SPACE", help="option to "
                        "search, and where: lr=log:1e-5:1, momentum=0.5:0.99, batch-size=logint:8:128, "
                        "optimizer=sgd,adam")
    search.add_argument("--stages", type=_stages, default="20x3", metavar="LIST", help="trials and epochs of each, as "
                        "12x2,8x5; each narrows the space to where the best trials lie (default: 20x3)")
    for option, choices, about in (
            ("--method", ["random", "tpe", "grid"], "how trials are drawn"),
            ("--pruner", ["none", "median", "halving"], "what ends trials early that are worse than others")):
        search.add_argument(option, choices=choices, default=choices[0], help=f"{about} (default: {choices[0]})")
    search.add_argument("--folds", type=_number(int, 2), metavar="K", help="validate with each of K parts in turn")
    search.add_argument("--metric", default="val_accuracy", metavar="NAME", help="figure that counts (default: "
                        "val_accuracy; for regression take val_r2 or val_loss)")
    search.add_argument("--processes", type=whole, default=1, metavar="N", help="processes, which share the threads")
    search.add_argument("--storage", default="search.db", metavar="FILE", help="database of the trials: a file, or the "
                        "URL of one that Optuna knows (default: search.db)")
    search.add_argument("--name", default="search", help="name of the search in the database (default: search)")
    search.add_argument("--figures", type=Path, metavar="FOLDER", help="folder for pictures of the trials")
    diagnose.add_argument("--figure", type=Path, metavar="FILE", help="picture to draw of it")
    evaluate = command("evaluate", commands.evaluate, "score a saved network",
                       "Scores a network that train has saved on the test samples of the data.",
                       "--weights runs/1 --data digits --metrics f1 confusion",
                       "--weights network.safetensors --data pictures/ --tta")
    evaluate.add_argument("--metrics", nargs="+", choices=[*commands.METRICS], metavar="NAME",
                          help=f"more figures: {', '.join(commands.METRICS)}")
    for part in train, evaluate, diagnose, search:
        part.add_argument("--data", default="digits", metavar="DATA", help=f"{SOURCES} (default: digits)")
        part.add_argument("--root", type=Path, metavar="FOLDER", help="where the files of a data set known by name are")
        part.add_argument("--download", action="store_true", help="fetch the files of a data set known by name")
        part.add_argument("--workers", type=count, metavar="N",
                          help="threads that prepare batches (default: 2 if pictures are read from files, else 0)")

    predict = command("predict", commands.predict, "classify pictures with a saved network",
                      "Prints what a saved network makes of pictures (files or folders of them), or of the rows of\n"
                      ".csv files.", "--weights runs/1 holiday.jpg", "--weights network.safetensors --top 1 pictures/")
    predict.add_argument("inputs", nargs="+", metavar="input", help="picture, folder of pictures, or .csv file")
    predict.add_argument("--top", type=whole, default=3, metavar="N", help="classes to print (default: 3)")
    summary = command("summary", commands.summary, "print the layers of a network and their sizes",
                      "Prints layers, output shapes, parameters, operations and memory.", "--model lenet5",
                      "--model resnet20 --shape 3x32x32 --classes 100", "--weights runs/1")
    summary.add_argument("--model", choices=models.__all__, default="cnn", help="network (default: cnn)")
    summary.add_argument("--classes", type=whole, default=10, metavar="N", help="number of classes (default: 10)")
    bench = command("bench", commands.bench, "time networks on this machine",
                    "Prints the median time of training steps, with Adam, and of inference.", "",
                    "cnn resnet20 --batch-size 128 --threads 1")
    bench.add_argument("models", nargs="*", metavar="model", help=f"{', '.join(models.__all__)} (default: all)")
    for part, shape in (summary, (1, 28, 28)), (bench, None):
        part.add_argument("--shape", type=_shape, default=shape, metavar="CxHxW",
                          help="shape of an image" + " (default: 1x28x28)" * bool(shape))
        part.add_argument("--batch-size", type=whole, default=64, metavar="N", help="samples (default: 64)")
    for part, needed in (evaluate, True), (predict, True), (diagnose, False), (summary, False):
        part.add_argument("--weights", type=Path, required=needed, metavar="FILE", help="what train --save has "
                          "written, or the folder of train --output")
    for part in evaluate, predict:
        group = part.add_mutually_exclusive_group()
        group.add_argument("--tta", action="store_true",
                           help="average over views of each image that are like the augmentation in training")
        group.add_argument("--views", metavar="NAME",
                           help="average over views: flip, vflip, five-crop=PIXELS, ten-crop=PIXELS")

    check = command("verify", _verify, "check every kernel against its NumPy twin",
                    "Compares compiled kernels with their NumPy twins in float64, over shapes, dtypes, the\n"
                    "instruction sets of this machine and 1 to 8 threads; the exit status is 1 if anything is\nout of "
                    "tolerance.",
                    "", "conv pooling.max_pool2d")
    check.add_argument("names", nargs="*", metavar="name", help="kernel (conv.conv2d) or family (conv); default: all")
    command("config", lambda arguments: fastnn.show_config(), "print what is in use, for a bug report",
            "Prints versions, instruction set and threads.", "")
    for part in train, evaluate, predict, diagnose, search, bench:
        part.add_argument("--threads", type=whole, metavar="N", help="threads of the kernels (default: all)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 if it failed, 130 after Ctrl-C. Bad arguments: SystemExit(2)."""
    given, parser = list(sys.argv[1:] if argv is None else argv), _parser()
    arguments = parser.parse_args(given)
    try:
        if getattr(arguments, "resume", None):
            arguments.config = arguments.config or arguments.resume / commands.CONFIG
        if getattr(arguments, "config", None):  # the file's options come first, so that those given override them
            resume, config = getattr(arguments, "resume", None), arguments.config
            known = vars(parser.parse_args(["train"]))
            arguments = parser.parse_args([given[0], *_options(config, vars(arguments), known), *given[1:]])
            if resume:
                arguments.output = resume
        arguments.configuration = _description(vars(arguments))
        if getattr(arguments, "threads", None):
            fastnn.set_num_threads(arguments.threads)
        return arguments.run(arguments) or 0
    except KeyboardInterrupt as stop:
        print(f"fastnn: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError, MemoryError) as error:  # with what the user gave
        print(f"fastnn: {error}", *getattr(error, "__notes__", ()), sep="\n        ", file=sys.stderr)
        return 1


def _options(path: Path, own: dict[str, Any], known: dict[str, Any]) -> Iterable[str]:
    """The options in a TOML file as they stand on a command line, but for those that only train has."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in own | known or name in APART or isinstance(value, dict):
            raise ValueError(f"{path}: there is no option {key!r}")
        if isinstance(value, (bool, list)) and not isinstance((own | known)[name], type(value)):
            raise ValueError(f"{path}: {key} cannot be a {type(value).__name__}")
        if name in own:
            option, values = f"--{name.replace('_', '-')}", value if isinstance(value, list) else [value]
            yield from [option] * value if isinstance(value, bool) else [f"{option}={one}" for one in values]


def _description(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options of a run as `_options` reads them."""
    size = arguments.get("size", "")
    found = arguments | {"size": size if isinstance(size, str) else "{}x{}".format(*size)}
    return {name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in found.items()
            if name not in APART and value is not None and value is not False and value != ""}


def _verify(arguments: argparse.Namespace) -> int:
    try:
        return verify.report(arguments.names)
    except ValueError as error:
        return arguments.parser.error(str(error))  # exits


def _like(pattern: str, what: str, make: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser of texts of the form `pattern`, in which S stands for a size."""
    def parse(text: str) -> Any:
        if not re.fullmatch(pattern.replace("S", r"[1-9]\d{0,5}"), text):
            raise argparse.ArgumentTypeError(f"{text} is {what}")
        return make(text)

    return parse


_size = _like("auto|S(xS)?", "neither a side nor HxW, in pixels, nor auto",
              lambda text: text if text == "auto" else tuple(map(int, (text.split("x") * 2)[:2])))
_shape = _like("S(xS)*", "no shape, as 3x32x32 is one", lambda text: tuple(map(int, text.split("x"))))
_stages = _like("SxS(,SxS)*", "no list of trials and epochs, as 12x2,8x5 is one",
                lambda text: [Stage(*map(int, stage.split("x"))) for stage in text.split(",")])


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
