"""The handwritten digits that ship with fastnn."""

from pathlib import Path

import numpy as np

from fastnn.data.dataset import TensorDataset


def digits(train: bool = True) -> TensorDataset:
    """Handwritten digits, 8×8 pixels: 1437 images to train on, or (`train=False`) 360 others to test with.

    The split is fixed and stratified. Take validation images from the training part (:func:`stratified_split`) and
    score the test part once, at the end.

    Returns:
        TensorDataset of images (N, 1, 8, 8), float32 from 0 (paper) to 1 (ink), and labels (N,), int64 from 0 to 9.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
    1998, doi 10.24432/C50P49, CC BY 4.0: the 1797 images of its own test part, in the 17 grey levels of the original.

    Example:
        >>> images, labels = digits().tensors
        >>> images.shape, labels[:3].tolist()
        ((1437, 1, 8, 8), [0, 1, 2])
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels, n_train = file["images"], file["labels"], int(file["n_train"])
    part = slice(n_train) if train else slice(n_train, None)
    return TensorDataset(images[part, None].astype(np.float32) / 16, labels[part].astype(np.int64))
