"""PyTorch's name for some things that live elsewhere here."""
from fastnn.utils import data as data
