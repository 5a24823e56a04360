"""Modules: layers, containers, losses, and the base class that networks derive from."""
from fastnn.nn import functional, init, utils  # noqa: I001
from fastnn.nn.activation import (
    CELU, ELU, GELU, GLU, SELU, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSigmoid, LogSoftmax, Mish,
    PReLU, ReLU, ReLU6, RReLU, Sigmoid, SiLU, Softmax, Softmax2d, Softmin, Softplus, Softshrink, Softsign, Tanh,
    Tanhshrink, Threshold)
from fastnn.nn.container import ModuleDict, ModuleList, ParameterList, Sequential
from fastnn.nn.conv import Conv2d
from fastnn.nn.dropout import Dropout, Dropout2d
from fastnn.nn.linear import Flatten, Identity, Linear, Unflatten
from fastnn.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from fastnn.nn.module import Module
from fastnn.nn.normalization import BatchNorm1d, BatchNorm2d
from fastnn.nn.parameter import Parameter
from fastnn.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
