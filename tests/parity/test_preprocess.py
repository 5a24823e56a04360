"""PCA, whitening and standardization against scikit-learn, up to the sign of each component."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as Theirs
from sklearn.preprocessing import StandardScaler

from fastnn.data.preprocess import PCA, PCAWhitening, Standardize

from .pairs import assert_close, normal

DATA = {"digits": load_digits().data, "few": normal(12, 30) * np.arange(1, 31), "tall": normal(500, 7) + 1e4}


def signed(y, like):
    return y * np.sign((y * like).sum(0))


@pytest.mark.parametrize("k", [1, 5, 0.5, 0.9])
@pytest.mark.parametrize("name", DATA)
def test_pca(name, k):
    train, test = DATA[name][::2], DATA[name][1::2]
    theirs, ours = Theirs(k, svd_solver="full").fit(train), PCA(k).fit(train, batch_size=50)
    want = theirs.transform(test)
    got = ours(test).numpy()
    assert_close(signed(got, want), want, 1e-9, "components")
    assert_close(ours.inverse(got).numpy(), theirs.inverse_transform(want), 1e-9, "projection")
    n = len(train)
    assert_close(ours.state["variance"], theirs.explained_variance_ * (n - 1) / n, 1e-9, "variance")


@pytest.mark.parametrize("name", DATA)
def test_whitening(name):
    train, test = DATA[name][::2], DATA[name][1::2]
    theirs, ours = Theirs(5, whiten=True, svd_solver="full").fit(train), PCAWhitening(5, eps=1e-13).fit(train)
    n = len(train)
    want = theirs.transform(test) * (n / (n - 1)) ** 0.5  # theirs divides the covariance by n - 1
    got = ours(test).numpy()
    assert_close(signed(got, want), want, 1e-8, "whitened")
    assert_close(ours.inverse(got).numpy(), theirs.inverse_transform(theirs.transform(test)), 1e-8, "projection")


@pytest.mark.parametrize("name", DATA)
def test_standardize(name):
    train, test = DATA[name][::2], DATA[name][1::2]  # some pixels of the digits are constant
    theirs, ours = StandardScaler().fit(train), Standardize().fit(train, batch_size=50)
    assert_close(ours(test).numpy(), theirs.transform(test), 1e-9, "standardized")
    assert_close(ours.inverse(ours(test)).numpy(), test, 1e-9, "back")
