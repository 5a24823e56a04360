"""Optimizers and learning-rate schedules. They read `.grad` and change parameters in place."""
from fastnn.optim import lr_scheduler as lr_scheduler
from fastnn.optim.adam import Adam, AdamW
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.sgd import SGD
