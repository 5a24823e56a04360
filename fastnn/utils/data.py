"""`fastnn.data` under PyTorch's name."""
from fastnn.data import *  # noqa: F403
