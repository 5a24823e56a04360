"""The handwritten digits that ship with fastnn."""
import os.path

import numpy as np

from fastnn.data.dataset import TensorDataset


def digits(train: bool = True) -> TensorDataset:
    """Handwritten digits, 8×8 pixels: 1437 images to train on, or (`train=False`) 360 others to test with.

    Images are (N, 1, 8, 8), float32 from 0 (paper) to 1 (ink), labels (N,), int64. The split is fixed and stratified.
    Take validation images from the training part (:func:`stratified_split`); score the test part once, at the end.

    Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
    doi 10.24432/C50P49, CC BY 4.0: the 1797 images of its own test part, in the 17 grey levels of the original."""
    with np.load(os.path.join(os.path.dirname(__file__), "digits.npz"), allow_pickle=False) as file:
        part = slice(file["n_train"]) if train else slice(file["n_train"], None)
        return TensorDataset(file["images"][part, None].astype(np.float32) / 16, file["labels"][part].astype(np.int64))
