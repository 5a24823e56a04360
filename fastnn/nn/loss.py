"""Losses as modules; `fastnn.functional` has their formulae, shapes, arguments and errors; `weight` is a buffer."""
import fastnn.functional as F
from fastnn.nn.module import FunctionModule


class NLLLoss(FunctionModule, function=F.nll_loss, inputs=2, shows=()):
    """−w[t]·x[t] for log-probabilities x."""


class CrossEntropyLoss(FunctionModule, function=F.cross_entropy, inputs=2, shows=()):
    """−w[t]·log softmax(x)[t], with label smoothing.

    >>> nn.CrossEntropyLoss()(fastnn.zeros(2, 10), fastnn.tensor([3, 9]))
    tensor(2.3026)
    """


class MSELoss(FunctionModule, function=F.mse_loss, inputs=2, shows=()):
    """(x − t)², averaged, summed or as is."""
