"""fastnn: a small deep learning framework for the CPU, with PyTorch's names and compiled kernels."""
import importlib
from typing import TYPE_CHECKING

from fastnn import autograd, functional, memory, nn, optim, testing, utils
from fastnn._version import __version__ as __version__
from fastnn.autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from fastnn.backend import get_num_threads, manual_seed, set_num_threads
from fastnn.config import show_config
from fastnn.creation import *
from fastnn.device import cuda, device
from fastnn.functional.activation import log_softmax, relu, sigmoid, softmax, tanh
from fastnn.functional.elementwise import *
from fastnn.functional.indexing import gather, index_select, masked_fill, tril, triu
from fastnn.functional.linalg import bmm, matmul, mm
from fastnn.functional.reduction import *
from fastnn.functional.shape import *
from fastnn.inspection import class_activation_map, summary
from fastnn.serialization import load, save
from fastnn.tensor import Tensor, bool_, float32, float64, int8, int16, int32, int64, uint8

bool, float, double, long, int = bool_, float32, float64, int64, int32  # PyTorch's other names of dtypes

if TYPE_CHECKING:
    from fastnn import data, models, search, train
    from fastnn.train.diagnosis import diagnose
else:
    def __getattr__(name):  # what is loaded when it is first used, so that the import is quick
        if name in ("data", "models", "search", "train"):
            return importlib.import_module(f"fastnn.{name}")
        if name == "diagnose":
            return importlib.import_module("fastnn.train.diagnosis").diagnose
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
