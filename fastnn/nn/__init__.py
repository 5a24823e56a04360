"""Modules: layers, containers, losses, and the base class that networks derive from."""
from fastnn.nn import functional, init, utils
from fastnn.nn.activation import ELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from fastnn.nn.container import ModuleDict, ModuleList, ParameterList, Sequential
from fastnn.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, LocallyConnected2d
from fastnn.nn.dropout import *
from fastnn.nn.linear import Bilinear, Flatten, Identity, Linear, Maxout, Unflatten
from fastnn.nn.loss import *
from fastnn.nn.module import Module
from fastnn.nn.normalization import *
from fastnn.nn.padding import *
from fastnn.nn.parameter import Parameter
from fastnn.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from fastnn.nn.resampling import *
from fastnn.nn.sparse import Embedding
