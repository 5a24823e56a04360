"""The command line: ``fastnn train``, ``fastnn verify``, ``fastnn config``; ``python -m fastnn`` is the same."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import fastnn
from fastnn import data, models, optim
from fastnn.data import DataLoader, TensorDataset
from fastnn.train import evaluate, fit

DATASETS = {"digits": data.digits}
MODELS = {"mlp": models.mlp, "lenet5": models.lenet5, "cnn": models.cnn}
SMALLEST = {"mlp": 1, "lenet5": 28, "cnn": 28}  # sides of images, in pixels; smaller ones are resized to 28×28
LEARNING_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit status: 0, or 1 if it failed; 2 for arguments that make no sense."""
    parser = argparse.ArgumentParser("fastnn", description="A deep learning framework for the CPU.")
    parser.add_argument("--version", action="version", version=fastnn.__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    train = commands.add_parser(
        "train",
        help="train a network on images and score it",
        description="Trains a network, holding out a tenth of the training images for validation, and scores it on the "
        "test images once, at the end. The learning rate falls to zero along a half cosine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.set_defaults(command=_train, parser=train)
    positive, number = _number(int, 1), _number(float, 0)
    train.add_argument("--data", choices=DATASETS, default="digits", help="the images")
    train.add_argument("--model", choices=MODELS, default="cnn", help="the network")
    train.add_argument("--epochs", type=positive, default=30, metavar="N", help="passes over the training images")
    train.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images a step")
    train.add_argument("--optimizer", choices=LEARNING_RATES, default="adamw", help="the method")
    rates = ", ".join(f"{rate} for {name}" for name, rate in LEARNING_RATES.items())
    train.add_argument(
        "--lr", type=number, metavar="RATE", default=argparse.SUPPRESS, help=f"first learning rate (default: {rates})"
    )
    train.add_argument("--momentum", type=number, default=0.9, metavar="M", help="momentum of sgd")
    train.add_argument("--weight-decay", type=number, default=0.01, metavar="W", help="weight decay")
    train.add_argument("--label-smoothing", type=number, default=0.1, metavar="S", help="label smoothing")
    train.add_argument("--seed", type=_number(int, 0), default=0, metavar="N", help="of weights, split and order")
    train.add_argument(
        "--threads", type=positive, metavar="N", default=argparse.SUPPRESS, help="threads (default: all available)"
    )
    train.add_argument("--save", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="write the weights there")

    verify = commands.add_parser(
        "verify",
        help="check every kernel against its NumPy twin",
        description="Compares compiled kernels with their NumPy twins in float64, over shapes, dtypes, the instruction "
        "sets of this machine and 1 to 3 threads; the exit status is 1 if anything is out of tolerance.",
    )
    verify.add_argument("names", nargs="*", metavar="name", help="kernel (conv.conv2d) or family (conv); default: all")
    verify.set_defaults(command=_verify, parser=verify)

    config = commands.add_parser("config", help="print what is in use, for a bug report")
    config.set_defaults(command=lambda arguments: fastnn.show_config() or 0, parser=config)

    arguments = parser.parse_args(argv)
    try:
        return arguments.command(arguments)
    except FloatingPointError as e:
        print(f"fastnn: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _train(arguments: argparse.Namespace) -> int:
    path = getattr(arguments, "save", None)
    if path and (path.is_dir() or not path.absolute().parent.is_dir()):
        arguments.parser.error(f"argument --save: {path} is a folder, or lies in one that does not exist")
    if hasattr(arguments, "threads"):
        fastnn.set_num_threads(arguments.threads)
    fastnn.manual_seed(arguments.seed)

    kept, test = (_resized(DATASETS[arguments.data](train=part), SMALLEST[arguments.model]) for part in (True, False))
    training, validation = data.stratified_split(kept, 0.1)
    images, labels = kept.tensors
    classes = sorted(set(labels.tolist()))
    model = MODELS[arguments.model](tuple(images.shape[1:]), len(classes))
    lr = getattr(arguments, "lr", LEARNING_RATES[arguments.optimizer])
    parameters, decay = list(model.parameters()), arguments.weight_decay
    if arguments.optimizer == "sgd":
        optimizer = optim.SGD(parameters, lr, momentum=arguments.momentum, weight_decay=decay)
    else:
        optimizer = {"adam": optim.Adam, "adamw": optim.AdamW}[arguments.optimizer](parameters, lr, weight_decay=decay)
    print(
        f"{arguments.model}: {sum(p.numel() for p in parameters):,} parameters; {len(training)} images to train on, "
        f"{len(validation)} to validate, {len(test)} to test; {fastnn.get_num_threads()} threads"
    )
    fit(
        model,
        optimizer,
        DataLoader(training, arguments.batch_size, shuffle=True),
        DataLoader(validation, 256),
        arguments.epochs,
        optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.epochs),
        label_smoothing=arguments.label_smoothing,
    )
    if path:
        fastnn.save({"model": arguments.model, "classes": classes, "state_dict": model.state_dict()}, path)
    print(f"test accuracy {evaluate(model, DataLoader(test, 256))[1]:.3f}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from fastnn import verify

    try:
        return verify.report(arguments.names)
    except ValueError as e:
        arguments.parser.error(str(e))


def _resized(dataset: TensorDataset, smallest: int) -> TensorDataset:
    images, labels = dataset.tensors
    return dataset if min(images.shape[2:]) >= smallest else TensorDataset(data.resize(images, 28), labels)


def _number(kind: type, low: float) -> Callable[[str], float]:
    """A parser of finite numbers of at least `low`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
            if low <= value < float("inf"):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not {'an integer' if kind is int else 'a number'} >= {low}")

    return parse


if __name__ == "__main__":
    sys.exit(main())
