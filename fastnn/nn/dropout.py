"""Dropout as modules: active in training, the identity in evaluation."""
import fastnn.functional as F
from fastnn.functional.dropout import check_probability
from fastnn.nn.module import FunctionModule


class Dropout(FunctionModule, function=F.dropout, shows=("p", "inplace")):
    """In training each element is dropped with probability p, else divided by 1 − p. ValueError unless 0 <= p <= 1."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        check_probability(type(self).__name__, p)
        super().__init__(p=p, training=True, inplace=inplace)


class Dropout2d(Dropout, function=F.dropout2d, shows=("p", "inplace")):
    """Like Dropout, but drops whole channels of each image; input (N, C, H, W)."""
