"""Training and evaluation."""
from fastnn.train.loop import Epoch, evaluate, fit

__all__ = ["Epoch", "evaluate", "fit"]
