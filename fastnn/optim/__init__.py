"""Optimizers and learning-rate schedules. They read `.grad` and change parameters in place."""
from fastnn.optim import lr_scheduler as lr_scheduler
from fastnn.optim.adam import Adam as Adam
from fastnn.optim.adam import AdamW as AdamW
from fastnn.optim.optimizer import Optimizer as Optimizer
from fastnn.optim.sgd import SGD as SGD
