"""Modules: layers, containers, losses, and the base class that networks derive from."""
from fastnn.nn import functional, init, utils  # noqa: I001
from fastnn.nn.activation import (
    CELU, ELU, GELU, GLU, SELU, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSigmoid, LogSoftmax, Mish,
    PReLU, ReLU, ReLU6, RReLU, Sigmoid, SiLU, Softmax, Softmax2d, Softmin, Softplus, Softshrink, Softsign, Tanh,
    Tanhshrink, Threshold)
from fastnn.nn.container import ModuleDict, ModuleList, ParameterList, Sequential
from fastnn.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, LocallyConnected2d
from fastnn.nn.dropout import *
from fastnn.nn.linear import Bilinear, Flatten, Identity, Linear, Maxout, Unflatten
from fastnn.nn.loss import *
from fastnn.nn.module import Module
from fastnn.nn.normalization import *
from fastnn.nn.padding import *
from fastnn.nn.parameter import Parameter
from fastnn.nn.pooling import *
from fastnn.nn.resampling import *
from fastnn.nn.sparse import Embedding
