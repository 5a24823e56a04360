"""Differentiable operations, one family a file; importing this package installs the operators and methods on Tensor."""
from fastnn.functional.activation import *
from fastnn.functional.conv import *
from fastnn.functional.dropout import *
from fastnn.functional.elementwise import *
from fastnn.functional.image import *
from fastnn.functional.indexing import *
from fastnn.functional.linalg import *
from fastnn.functional.loss import *
from fastnn.functional.normalization import *
from fastnn.functional.padding import *
from fastnn.functional.pooling import *
from fastnn.functional.reduction import *
from fastnn.functional.resampling import *
from fastnn.functional.shape import *
