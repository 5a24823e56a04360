"""Dropout as modules: active in training, the identity in evaluation. ValueError unless 0 <= p <= 1."""
from typing import Any

import fastnn.functional as F
from fastnn.functional.dropout import check_probability
from fastnn.nn.module import FunctionModule


class Dropout(FunctionModule, function=F.dropout, shows=("p", "inplace")):
    """In training each element is dropped with probability p, else divided by 1 − p."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        check_probability(type(self).__name__, self.p)


class Dropout2d(Dropout, function=F.dropout2d, shows=("p", "inplace")):
    """Like Dropout, but drops whole channels of each image; input (N, C, H, W)."""
