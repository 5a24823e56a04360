"""Training, evaluation and prediction."""
from fastnn.train.loop import Accuracy, Classification, Deviation, Epoch, Regression, evaluate, fit
from fastnn.train.predictor import Predictor

__all__ = ["Accuracy", "Classification", "Deviation", "Epoch", "Predictor", "Regression", "evaluate", "fit"]
