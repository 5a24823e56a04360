"""Training, evaluation and prediction."""
from fastnn.train import metrics
from fastnn.train.callback import Callback, EarlyStopping, Monitor, Progress
from fastnn.train.ensemble import Ensemble, SnapshotEnsemble
from fastnn.train.metrics import F1, MAE, MSE, R2, Accuracy, ConfusionMatrix, Metric, Precision, Recall, TopK
from fastnn.train.predictor import Predictor
from fastnn.train.task import Classification, Regression, Task
from fastnn.train.trainer import History, Trainer, evaluate

__all__ = ["F1", "MAE", "MSE", "R2", "Accuracy", "Callback", "Classification", "ConfusionMatrix", "EarlyStopping"]
__all__ += ["Ensemble", "History", "Metric", "Monitor", "Precision", "Predictor", "Progress", "Recall", "Regression"]
__all__ += ["SnapshotEnsemble", "Task", "TopK", "Trainer", "evaluate", "metrics"]
