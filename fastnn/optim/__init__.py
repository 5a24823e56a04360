"""Optimizers and learning-rate schedules. They read `.grad` and change parameters in place."""
from fastnn.optim import lr_scheduler as lr_scheduler
from fastnn.optim import swa_utils as swa_utils
from fastnn.optim.first_order import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop
from fastnn.optim.lbfgs import LBFGS
from fastnn.optim.optimizer import Optimizer
