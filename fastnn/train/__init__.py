"""Training, evaluation and prediction."""
from fastnn.train import metrics, plots
from fastnn.train.callback import Callback, EarlyStopping, Monitor, Progress
from fastnn.train.checkpoint import Checkpoint, latest, load_checkpoint
from fastnn.train.diagnosis import Diagnosis, Finding, diagnose
from fastnn.train.ensemble import Ensemble, SnapshotEnsemble
from fastnn.train.logs import CSVLogger, JSONLinesLogger, TensorBoard
from fastnn.train.metrics import F1, MAE, MSE, R2, Accuracy, ConfusionMatrix, Metric, Precision, Recall, TopK
from fastnn.train.predictor import Predictor
from fastnn.train.report import Report
from fastnn.train.task import Classification, Regression, Task
from fastnn.train.trainer import History, Trainer, evaluate
from fastnn.train.watch import DiagnosisWarning, Watch

__all__ = ["F1", "MAE", "MSE", "R2", "Accuracy", "CSVLogger", "Callback", "Checkpoint", "Classification"]
__all__ += ["ConfusionMatrix", "Diagnosis", "DiagnosisWarning", "EarlyStopping", "Ensemble", "Finding", "History"]
__all__ += ["JSONLinesLogger", "Metric", "Monitor", "Precision", "Predictor", "Progress", "Recall", "Regression"]
__all__ += ["Report", "SnapshotEnsemble", "Task", "TensorBoard", "TopK", "Trainer", "Watch", "diagnose", "evaluate"]
__all__ += ["latest", "load_checkpoint", "metrics", "plots"]
