"""Datasets, loaders, and the digits."""
from fastnn.data.dataset import Dataset, Subset, TensorDataset, random_split, stratified_split
from fastnn.data.digits import digits
from fastnn.data.image import resize
from fastnn.data.loader import DataLoader, default_collate

__all__ = ["DataLoader", "Dataset", "Subset", "TensorDataset"]
__all__ += ["default_collate", "digits", "random_split", "resize", "stratified_split"]
