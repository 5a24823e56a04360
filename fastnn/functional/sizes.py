"""Sizes: what convolution and pooling make of "an int or a pair", and how large their outputs are."""

import operator
from collections.abc import Sequence

from fastnn.errors import ArgumentError, DTypeError, ShapeError

IntOrPair = int | Sequence[int]


def pair(value: IntOrPair, op: str, name: str, least: int = 0) -> tuple[int, int]:
    """`value` as (height, width). DTypeError unless it is an int or a pair of ints, ArgumentError if below `least`."""
    items = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    try:
        h, w = (operator.index(item) for item in (items * 2 if len(items) == 1 else items))
    except (TypeError, ValueError):
        raise DTypeError(f"{op}: {name} must be an int or a pair of ints, but {value!r} came") from None
    if h < least or w < least:
        raise ArgumentError(f"{op}: {name} must be at least {least}, but {value!r} came")
    return h, w


def output_size(
    op: str, size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """floor((size + 2·padding − dilation·(kernel − 1) − 1) / stride) + 1, the number of windows along one axis.

    With `ceil_mode` the division rounds up, but a window must begin inside the input or its left padding.
    Raises ShapeError if no window fits.
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    n = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (n - 1) * stride >= size + padding:
        n -= 1
    if n < 1:
        raise ShapeError(
            f"{op}: a window of {dilation * (kernel - 1) + 1} does not fit into an input of size {size} with padding "
            f"{padding}"
        )
    return n
