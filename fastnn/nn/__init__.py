"""Modules: layers, containers, losses, and the base class that networks derive from."""
from fastnn.nn import functional, init, utils
from fastnn.nn.activation import ELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from fastnn.nn.container import ModuleDict, ModuleList, ParameterList, Sequential
from fastnn.nn.conv import Conv2d
from fastnn.nn.dropout import Dropout, Dropout2d
from fastnn.nn.linear import Flatten, Identity, Linear, Unflatten
from fastnn.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from fastnn.nn.module import Module
from fastnn.nn.normalization import BatchNorm1d, BatchNorm2d
from fastnn.nn.parameter import Parameter
from fastnn.nn.pooling import *
