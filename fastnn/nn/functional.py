"""`import fastnn.nn.functional as F`: the functions of fastnn.functional under PyTorch's name."""
from fastnn.functional import *  # noqa: F403
