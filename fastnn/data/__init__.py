"""Datasets, loaders, and the digits."""

from .dataset import Dataset, Subset, TensorDataset, random_split, stratified_split
from .digits import digits
from .image import resize
from .loader import DataLoader, default_collate

__all__ = [
    "DataLoader", "Dataset", "Subset", "TensorDataset",
    "default_collate", "digits", "random_split", "resize", "stratified_split",
]  # fmt: skip
