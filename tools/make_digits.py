"""Writes fastnn/data/digits.npz from the copy of the digits that scikit-learn ships, training images first, then test.

The split is stratified (every digit has its share of the 360 test images) and fixed by the seed below.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

images, labels = load_digits(return_X_y=True)
train, test = train_test_split(np.arange(len(labels)), test_size=360, random_state=0, stratify=labels)
order = np.concatenate([np.sort(train), np.sort(test)])
path = Path(__file__).parents[1] / "fastnn" / "data" / "digits.npz"
images, labels = images[order].reshape(-1, 8, 8).astype(np.uint8), labels[order].astype(np.uint8)
np.savez_compressed(path, images=images, labels=labels, n_train=len(train))
print(f"{path}: {len(train)} training and {len(test)} test images, {path.stat().st_size} bytes")
