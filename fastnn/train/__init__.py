"""Training, evaluation and prediction."""
from fastnn.train.ensemble import Ensemble, SnapshotEnsemble
from fastnn.train.loop import Epoch, evaluate, fit
from fastnn.train.predictor import Predictor
from fastnn.train.task import Accuracy, Classification, Deviation, Regression

__all__ = [
    "Accuracy", "Classification", "Deviation", "Ensemble", "Epoch", "Predictor", "Regression", "SnapshotEnsemble",
    "evaluate", "fit"]  # fmt: skip
