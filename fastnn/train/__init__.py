"""Training, evaluation and prediction."""
from fastnn.train.ensemble import Ensemble, SnapshotEnsemble
from fastnn.train.loop import Accuracy, Classification, Deviation, Epoch, Regression, evaluate, fit
from fastnn.train.predictor import Predictor

__all__ = ["Accuracy", "Classification", "Deviation", "Ensemble", "Epoch", "Predictor", "Regression"]
__all__ += ["SnapshotEnsemble", "evaluate", "fit"]
