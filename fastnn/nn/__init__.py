"""Modules: layers, containers, losses, and the base class that networks derive from."""
from fastnn.nn import functional as functional
from fastnn.nn import init as init
from fastnn.nn.container import ModuleDict as ModuleDict
from fastnn.nn.container import ModuleList as ModuleList
from fastnn.nn.container import ParameterList as ParameterList
from fastnn.nn.container import Sequential as Sequential
from fastnn.nn.conv import Conv2d as Conv2d
from fastnn.nn.flatten import Flatten as Flatten
from fastnn.nn.flatten import Unflatten as Unflatten
from fastnn.nn.linear import Identity as Identity
from fastnn.nn.linear import Linear as Linear
from fastnn.nn.module import Module as Module
from fastnn.nn.parameter import Parameter as Parameter
