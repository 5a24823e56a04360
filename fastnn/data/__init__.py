"""Data sets, from memory and files; loaders; preparation and augmentation."""
from fastnn.data import preprocess as preprocess
from fastnn.data import transforms as transforms
from fastnn.data.arrays import ArrayFolder, read_csv, read_idx
from fastnn.data.dataset import Dataset, Subset, TensorDataset, k_fold, random_split, stratified_split, targets_of
from fastnn.data.folder import ImageFolder, read_image
from fastnn.data.loader import DataLoader, default_collate
from fastnn.data.standard import cifar10, cifar100, digits, fashion_mnist, mnist
from fastnn.data.transforms import resize

__all__ = ["ArrayFolder", "DataLoader", "Dataset", "ImageFolder", "Subset", "TensorDataset"]
__all__ += ["cifar10", "cifar100", "default_collate", "digits", "fashion_mnist", "k_fold", "mnist", "random_split",
            "read_csv", "read_idx", "read_image", "resize", "stratified_split", "targets_of"]
