"""Preparation by statistics of the training set: against formulae on the whole array, in float64."""

import tracemalloc
import weakref

import numpy as np
import pytest
from harness import close

import fastnn
from fastnn import layout
from fastnn.data import DataLoader, Dataset, Subset, TensorDataset
from fastnn.data.preprocess import (
    MAX_FEATURES,
    PCA,
    PREPROCESSORS,
    ZCA,
    ChannelMean,
    MeanImage,
    PCAWhitening,
    Preprocess,
    Standardize,
    from_saved,
    from_text,
    to_saved,
)
from fastnn.data.transforms import Compose, ToFloat
from fastnn.errors import DTypeError, ShapeError, StateDictError

KINDS = {"mean-image": MeanImage, "channel-mean": ChannelMean, "standardize": Standardize, "pca": PCA,
         "pca-k": lambda: PCA(5), "whiten": PCAWhitening, "zca": ZCA}  # fmt: skip
ALL = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@pytest.fixture
def images(rng):
    """(40, 3, 4, 2), correlated, each pixel with a mean of its own."""
    mixed = rng.standard_normal((40, 24)) @ rng.standard_normal((24, 24)) + 3 * rng.standard_normal(24)
    return mixed.reshape(40, 3, 4, 2)


def values(tensor):
    return tensor.numpy()


def flat(x):
    return np.ascontiguousarray(x).reshape(len(x), -1)


def formula(p, train, x):
    """What `p`, fitted on `train`, makes of `x`: straight from the definitions."""
    if isinstance(p, MeanImage):
        return x - train.mean(0)
    if isinstance(p, (ChannelMean, Standardize)):
        axes = (0, *range(2, train.ndim))
        std = train.std(axes, keepdims=True) if isinstance(p, Standardize) else 1
        return (x - train.mean(axes, keepdims=True)) / std
    data = flat(train)
    variance, vectors = np.linalg.eig(np.cov(data.T, bias=True))  # not eigh
    order = np.argsort(-variance)
    variance, vectors = variance[order], vectors[:, order]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(len(order))])
    y = (flat(x) - data.mean(0)) @ vectors
    if isinstance(p, PCAWhitening):
        y = y / np.sqrt(variance + p.eps)
    return (y @ vectors.T).reshape(x.shape) if isinstance(p, ZCA) else y[:, : getattr(p, "n_components", None)]


@pytest.mark.parametrize("features", [False, True])
@ALL
def test_formula_on_other_data_than_it_was_fitted_on(make, features, images):
    images = flat(images)[:, :9] if features else images
    train, test = images[:30], images[30:]
    p = make().fit(train)
    want = formula(p, train, test)
    close(p(test), want, tol=1e-4)  # 1e-11 in float64
    assert p.output_shape(test.shape[1:]) == want.shape[1:]
    narrow = p(test.astype(np.float32))
    assert narrow.dtype == np.float32
    close(narrow, want, tol=1e-4)
    close(p(test[0]), want[0], tol=1e-4)
    assert p(test[:0]).shape == (0, *want.shape[1:])


def test_by_hand():
    x = np.array([[[[1.0, 3.0]], [[10.0, 10.0]]], [[[3.0, 5.0]], [[10.0, 14.0]]]])  # (2, 2, 1, 2)
    assert MeanImage().fit(x).state["mean"].tolist() == [[[2, 4]], [[10, 12]]]
    assert ChannelMean().fit(x).state["mean"].tolist() == [3, 11]
    s = Standardize().fit(x)
    np.testing.assert_allclose(s.state["std"], [2**0.5, 3**0.5], rtol=1e-15)
    np.testing.assert_allclose(values(s(x))[0, :, 0], [[-(2**0.5), 0], [-(3**-0.5)] * 2], atol=1e-15)
    line = np.array([[-3.0, -4.0], [0.0, 0.0], [3.0, 4.0]])  # of variance 50 / 3 along (0.6, 0.8)
    p = PCA().fit(line)
    np.testing.assert_allclose(p.state["components"], [[0.6, 0.8], [0.8, -0.6]], atol=1e-15)
    np.testing.assert_allclose(p.state["variance"], [50 / 3, 0], atol=1e-14)
    np.testing.assert_allclose(values(p(line)), [[-5, 0], [0, 0], [5, 0]], atol=1e-14)
    w = PCAWhitening(1, eps=1 / 3).fit(line)
    np.testing.assert_allclose(values(w(line)), [[-5 / 17**0.5], [0], [5 / 17**0.5]], atol=1e-14)
    np.testing.assert_allclose(values(ZCA(1 / 3).fit(line)(line))[2], [3 / 17**0.5, 4 / 17**0.5], atol=1e-14)


@ALL
def test_batches_of_any_size_and_order_give_the_same(make, images, rng):
    whole = make().fit(images)
    order = rng.permutation(40)
    data = TensorDataset(images, np.arange(40))
    for other in (
        make().fit(images, batch_size=7), make().fit(images[order], batch_size=1), make().fit(data, batch_size=13),
        make().fit(Subset(data, order), batch_size=9), make().fit(DataLoader(data, 11, shuffle=True)),
        make().fit([images[:5], images[5:5], images[5:]]), make().fit((x, 0) for x in np.split(images, 4)),
        make().fit([images[:5]]).fit(images), make().fit(fastnn.from_numpy(images)), make().fit(Singly(images), 6),
        make().partial_fit(images[:3]).partial_fit((images[3:], None)), make().fit(images[:9]).partial_fit(images[9:]),
    ):  # fmt: skip
        for key, want in whole.state.items():
            scale = 1 if key == "components" else np.abs(want).max()
            np.testing.assert_allclose(other.state[key], want, rtol=1e-12, atol=1e-12 * scale, err_msg=key)


class Singly(Dataset):
    """Samples, with labels, made when they are asked for; counts those that are alive."""

    def __init__(self, images):
        self.images, self.alive, self.most = images, 0, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        sample = np.array(self.images[i])
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(sample, self.die)
        return sample, i

    def die(self):
        self.alive -= 1


def test_out_of_core(images):
    data = Singly(images)
    Standardize().fit(data, batch_size=5)
    assert 1 <= data.most <= 2 and data.alive == 0  # they go to the batch at once

    class Noise(Dataset):
        def __len__(self):
            return 600

        def __getitem__(self, i):
            return np.full((3, 32, 32), i % 7, np.float32)

    sizes = {}
    batches = (np.full((20, 3, 32, 32), i, np.float32) for i in range(30))
    for name, data in {"dataset": Noise(), "batches": batches}.items():
        tracemalloc.start()
        s = Standardize().fit(data, batch_size=20)
        sizes[name] = tracemalloc.get_traced_memory()[1] / (20 * 3072 * 4)  # in batches of float32
        tracemalloc.stop()
    assert all(size < 3.5 for size in sizes.values()), sizes  # one, and its copy in float64; all would be 30
    np.testing.assert_allclose(s.state["mean"], 14.5)


def test_a_batch_is_let_go_before_the_next_is_made(images):
    def batches():
        for i in range(0, 40, 8):
            batch = [images[i : i + 8].copy()]
            last = weakref.ref(batch[0])
            yield batch.pop()
            assert last() is None

    Standardize().fit(batches())


def test_whitened_training_data_have_covariance_one(images):
    data = flat(images)
    for p in (PCAWhitening(eps=1e-12), PCAWhitening(6, eps=1e-12), ZCA(eps=1e-12)):
        y = flat(values(p.fit(images)(images)))
        np.testing.assert_allclose(y.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(y.shape[1]), atol=1e-7)
    assert PCAWhitening(6).fit(data)(data).shape == (40, 6)


def test_zca_is_symmetric_and_the_whitening_nearest_to_the_data(images, rng):
    data = flat(images) - flat(images).mean(0)
    z, w = ZCA(eps=1e-12).fit(data), PCAWhitening(eps=1e-12).fit(data)
    matrix = values(z(np.eye(24))) - values(z(np.zeros((1, 24))))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    assert np.linalg.eigvalsh(matrix).min() > 0
    distance = np.square(values(z(data)) - data).sum()
    white = values(w(data))
    for rotation in [np.eye(24), *(np.linalg.qr(rng.standard_normal((24, 24)))[0] for _ in range(5))]:
        assert np.square(white @ rotation - data).sum() > distance


def test_fraction_of_variance():
    data = np.diag([8.0, 4.0, 2.0, 1.0])
    data = np.concatenate([data, -data])  # λ: 64, 16, 4, 1 of 85
    kept = [PCA(f).fit(data)(data).shape[1] for f in (0.5, 0.75, 0.76, 0.9, 0.98, 0.99, 0.9999)]
    assert kept == [1, 1, 2, 2, 3, 4, 4]
    assert PCAWhitening(0.9).fit(data).output_shape((4,)) == (2,)
    assert PCA(0.5).fit(np.ones((3, 4)))(np.ones((1, 4))).tolist() == [[0]]


@ALL
def test_inverse(make, images):
    for x in (images, flat(images), images.astype(np.float32)):
        p = make().fit(x)
        want = x.astype(np.float64)
        if make is KINDS["pca-k"]:
            data = flat(want) - flat(want).mean(0)
            U = np.linalg.svd(data)[2][:5]
            want = (data @ U.T @ U + flat(want).mean(0)).reshape(x.shape)
        back = p.inverse(p(x))
        assert back.dtype == x.dtype
        close(back, want, tol=1e-4)
        close(p.inverse(p(x[1])), want[1], tol=1e-4)


@ALL
def test_layout_and_kind_of_memory(make, images, rng):
    p = make().fit(images)
    want = values(p(images))
    wide = np.zeros((80, 3, 4, 4))
    wide[::2, :, :, ::2] = images
    frozen = images.copy()
    frozen.flags.writeable = False
    for x in (layout.channels_last(images), wide[::2, :, :, ::2], frozen, images.astype(">f8")):
        before = x.copy()
        got = p(x)
        close(got, want)
        assert got.ndim == 2 or layout.is_channels_last(got.array)
        assert not np.shares_memory(got.array, x)
        for key, a in make().fit(x, batch_size=16).state.items():
            np.testing.assert_allclose(a, p.state[key], rtol=1e-9, atol=1e-9)
        p.inverse(got)
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(values(got), values(p(x)))
    bytes_ = rng.integers(0, 256, (30, 3, 4, 2), np.uint8)
    p = make().fit(bytes_)
    assert p(bytes_).dtype == np.float32
    close(p(bytes_), formula(p, bytes_ / 255, bytes_ / 255), tol=2e-4)
    close(p(bytes_), values(p(ToFloat()(bytes_))))
    for key, a in make().fit(bytes_ / 255).state.items():
        np.testing.assert_allclose(a, p.state[key], rtol=1e-9, atol=1e-9)


def test_images_of_other_sizes(images, rng):
    for p in (ChannelMean().fit(images), Standardize().fit(images)):
        small, large = rng.standard_normal((2, 3, 1, 5)), rng.standard_normal((2, 3, 6, 7), np.float32)
        for x in (small, large, small, large.astype(np.float64)):
            close(p(x), formula(p, images, x.astype(np.float64)))
    mixed = Standardize().fit([images[:, :, :1], images[:, :, 1:]])
    np.testing.assert_allclose(mixed.state["std"], images.std((0, 2, 3)), rtol=1e-13)
    one = MeanImage().fit(images[:, :1])
    assert layout.is_channels_last(one(images[:, :1]).array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_far_from_zero(dtype, rng):
    x = (1e6 + rng.standard_normal((3000, 4)) @ rng.standard_normal((4, 4))).astype(dtype)
    wide = x.astype(np.float64)
    for p in (Standardize(), PCAWhitening(eps=1e-9), ZCA(1e-9), MeanImage(), PCA()):
        y = values(p.fit(x, batch_size=128)(x)).astype(np.float64)
        np.testing.assert_allclose(y.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(p.state["mean"], wide.mean(0), rtol=1e-14)
    np.testing.assert_allclose(Standardize().fit(x, 128).state["std"], (wide - 1e6).std(0), rtol=1e-11)
    covariance = np.cov((wide - 1e6).T, bias=True)
    np.testing.assert_allclose(PCA().fit(x, 128).state["variance"], np.linalg.eigvalsh(covariance)[::-1], rtol=1e-11)


def test_constant_channels_stay_finite():
    x = np.full((6, 2, 3, 3), 0.1)
    x[:, 1] = np.arange(54).reshape(6, 3, 3)
    s = Standardize().fit(x, batch_size=4)
    assert s.state["std"][0] == 1
    assert (values(s(x))[:, 0] == 0).all() and abs(values(s(x))[:, 1].std() - 1) < 1e-12
    x[3, 0, 0, 0] += 1e-16  # rounding
    assert Standardize().fit(x).state["std"][0] == 1
    assert Standardize(1e-30).fit(x).state["std"][0] < 1e-16
    for make in KINDS.values():
        for dtype in (np.float32, np.float64):
            p = make().fit(np.full((4, 7), 1e-3, dtype))
            assert np.isfinite(values(p(np.full((2, 7), 1e-3, dtype)))).all()
    tiny = Standardize().fit(np.array([[1e-42], [2e-42]], np.float32))  # 1 / std is infinite in float32
    assert tiny(np.ones((1, 1), np.float32)).item() == 1


@ALL
def test_fewer_samples_than_features(make, images):
    for n in (1, 5):
        p = make().fit(images[:n])
        y = p(images)
        assert np.isfinite(values(y)).all()
        close(p.inverse(p(images[:n])), images[:n], tol=1e-4)
    if isinstance(p, PCA):
        assert (p.state["variance"][4:] < 1e-12).all() and (p.state["variance"] >= 0).all()
        U = p.state["components"]
        np.testing.assert_allclose(U @ U.T, np.eye(len(U)), atol=1e-12)


def test_signs_do_not_depend_on_rounding(rng):
    x = rng.standard_normal((50, 1)) * [1.0, -1.0]  # along (1, -1), whose entries are equally large
    for _ in range(10):
        p = PCA().fit(x + 1e-10 * rng.standard_normal((50, 2)), batch_size=7)
        assert (p.state["components"][:, 0] > 0).all()


@ALL
def test_saved_and_loaded_gives_equal_bits(make, images, tmp_path):
    x = images.astype(np.float32)
    for train, test in ((x, x), (flat(x), flat(x)), (flat(images), flat(images))):
        p = make().fit(train)
        fastnn.save({"preprocess": to_saved(p), "epoch": 3}, tmp_path / "p")
        again = from_saved(fastnn.load(tmp_path / "p")["preprocess"])
        assert type(again) is type(p) and again.config() == p.config() and repr(again) == repr(p)
        assert values(again(test)).tobytes() == values(p(test)).tobytes()
        assert values(again.inverse(again(test))).tobytes() == values(p.inverse(p(test))).tobytes()
        assert again.output_shape(test.shape[1:]) == p.output_shape(test.shape[1:])
        other = type(p)(**p.config()).fit(test[::-1] * 2)
        other(test)
        other.load_state_dict(p.state_dict())
        assert values(other(test)).tobytes() == values(p(test)).tobytes()
        p.state_dict()["mean"].numpy()[...] = 9  # a copy
        assert values(again(test)).tobytes() == values(p(test)).tobytes()
        before = {key: a.copy() for key, a in other.partial_fit(test[:4]).state.items()}  # starts anew
        for key, a in type(p)(**p.config()).fit(test[:4]).state.items():
            np.testing.assert_array_equal(before[key], a)


def test_a_fit_forgets_what_was_before(images):
    p = Standardize().fit(images)
    p(images)
    with pytest.raises(ValueError, match="NaN or infinity"):
        p.fit([images, images * np.nan])
    with pytest.raises(RuntimeError, match="call fit"):
        p(images)
    p.fit(images[:5])
    with pytest.raises(ValueError, match="NaN or infinity"):
        p.partial_fit(images * np.inf)
    close(p(images), formula(p, images[:5], images))
    p.partial_fit(images[:0]).partial_fit(images[5:])
    close(p(images), formula(p, images, images))


def test_as_a_transform(images):
    x, y = images.astype(np.float32), np.arange(40)
    p, w = Standardize().fit(x), PCA(3).fit(Standardize().fit(x)(x))
    out, labels = p(x, y)
    close(out, values(p(x)))
    assert labels.tolist() == y.tolist()
    both = Compose([p, w])
    close(both(x), values(w(p(x))), tol=1e-4)
    assert both(x[0]).shape == (3,)
    fifth = np.full((1, 3, 4, 2), 51, np.uint8)
    close(Compose([ToFloat(), p])(fifth), values(p(fifth / np.float32(255))))
    grad = fastnn.from_numpy(images).requires_grad_()
    assert not p.fit(grad)(grad).requires_grad


def test_names():
    assert set(PREPROCESSORS) == {"mean-image", "channel-mean", "standardize", "pca", "whiten", "zca"}
    for name, kind in PREPROCESSORS.items():
        assert type(from_text(name)) is kind
        assert type(from_saved(to_saved(kind().fit(np.eye(3))))) is kind
    assert from_text("pca=50").config() == {"n_components": 50}
    assert from_text("whiten=0.99").config() == {"n_components": 0.99, "eps": 1e-5}
    assert from_text("zca=0.25").config() == {"eps": 0.25} and from_text("zca=1").config() == {"eps": 1.0}
    for text, match in {"PCA": "none of mean-image, .*zca", "": "none of", "pca=": "number", "pca=x": "number",
                        "mean-image=3": "no number", "pca=0": "at least 1", "pca=1.0": "fraction", "zca=-1": "> 0",
                        "zca=nan": "finite", "pca=nan": "fraction", "pca=-3": "fraction"}.items():  # fmt: skip
        with pytest.raises(ValueError, match=match):
            from_text(text)


def test_arguments_that_are_refused():
    for k in (0, -1, 1.0, 0.0, True, "3", float("nan"), [1]):
        with pytest.raises(ValueError, match="PCA: n_components must be"):
            PCA(k)
    for make in (Standardize, ZCA, lambda eps: PCAWhitening(3, eps)):
        for eps in (0, -1.0, float("inf"), float("nan"), True, "x", None):
            with pytest.raises(ValueError, match="eps must be a finite number > 0"):
                make(eps)


@ALL
def test_data_that_are_refused(make, images):
    p = make()
    for call in (p, p.inverse, lambda x: p.state_dict(), lambda x: p.output_shape((3,)), lambda x: to_saved(p)):
        with pytest.raises(RuntimeError, match="call fit"):
            call(images)
    empty = images[:0]
    for data in ([], empty, [empty], TensorDataset(empty), iter([]), np.ones((4, 0)), np.ones((4, 3, 0, 2))):
        with pytest.raises(ValueError, match="no data"):
            p.fit(data)
    for bad in (np.nan, np.inf, -np.inf, 1e308):
        x = images.copy()
        x[17, 1, 2, 1], x[18, 1, 2, 1] = bad, -bad
        for size in (1, 4, 100):
            if p.moment > 1 or not np.isfinite(bad):  # large ones cannot be squared
                with pytest.raises(ValueError, match="NaN or infinity"):
                    p.fit(x, size)
    with pytest.raises(TypeError, match="fit: data must be"):
        p.fit(3)
    for size in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match="batch_size"):
            p.fit(images, size)
    for data in (np.ones(3), np.ones((2, 3, 4)), [images, images[:, :2]], [(images[0], 1)], (images, np.arange(40.0))):
        with pytest.raises(ShapeError):
            p.fit(data)
    with pytest.raises(ShapeError, match="sample 1"):
        p.fit(Singly([images[0], images[0].astype(np.float32)]))
    with pytest.raises(ShapeError, match="sample 1"):
        p.fit(Singly([images[0], images[0, :, :1]]))
    with pytest.raises(DTypeError, match="uint8"):
        p.fit(np.ones((3, 2), np.int64))
    p.fit(images)
    with pytest.raises(DTypeError, match="int64"):
        p(images.astype(np.int64))
    for x in (images[:, :2], np.ones((2, 5)), np.ones((2, 3, 4, 2, 1)), np.ones(()), np.ones(5)):
        with pytest.raises(ShapeError):
            p(x)
        with pytest.raises(ShapeError):
            p.inverse(np.ones((2, 7)))
    with pytest.raises(ShapeError):
        p.output_shape((2, 4, 2))


def test_too_many_features():
    with pytest.raises(ValueError, match="the data have 4 features only"):
        PCA(5).fit(np.eye(4))
    x = np.zeros((1, MAX_FEATURES + 1), np.float32)
    tracemalloc.start()
    for p in (PCA(3), PCAWhitening(), ZCA()):
        with pytest.raises(ValueError, match="resize"):
            p.fit(x)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    MeanImage().fit(x)


def test_states_that_are_refused(images):
    for make in (MeanImage, Standardize, lambda: PCA(3), PCAWhitening, ZCA):
        p = make().fit(images)
        state, good = p.state_dict(), values(p(images))
        for key, a in state.items():
            spoilt = a.numpy().copy()
            spoilt[(0,) * a.ndim] = np.nan
            for bad in (None, 3.0, "x", fastnn.zeros(0), a.numpy()[None, None], spoilt, a.numpy().astype(np.int64)):
                with pytest.raises(StateDictError, match=repr(key)):
                    p.load_state_dict({**state, key: bad})
            if len(state) > 1:
                with pytest.raises(StateDictError, match="must have the shape"):
                    p.load_state_dict({**state, key: a.numpy()[..., :-1]})
            with pytest.raises(StateDictError, match=f"'{key}' is missing"):
                p.load_state_dict({k: v for k, v in state.items() if k != key})
        with pytest.raises(StateDictError, match="'more' is unexpected"):
            p.load_state_dict({**state, "more": state["mean"]})
        for key in ("std", "variance"):
            if key in state:
                with pytest.raises(StateDictError, match=f"'{key}' must be"):
                    p.load_state_dict({**state, key: -state[key]})
        np.testing.assert_array_equal(values(p(images)), good)
    four = PCA(4).fit(images).state_dict()
    with pytest.raises(StateDictError, match=r"\(3, 24\)"):
        PCA(3).load_state_dict(four)
    with pytest.raises(StateDictError, match=r"\(24, 24\)"):
        ZCA().load_state_dict(four)
    PCA(0.9).load_state_dict({key: fastnn.tensor(a).to(fastnn.float32) for key, a in four.items()})


def test_saved_dicts_that_are_refused(images):
    good = to_saved(PCA(3).fit(images))
    wrong = [{"more": 1}, {"name": "none"}, {"name": []}, {"name": "zca"}, {"config": None}, {"config": {}},
             {"state": {}}, {"config": {1: 2}}, {"config": {"n_components": "x"}}, {"state": None},
             {"config": {"n_components": 4}}]
    for bad in (None, [], {}, *({**good, **change} for change in wrong)):
        with pytest.raises(ValueError):
            from_saved(bad)

    class Mine(Preprocess):
        pass

    with pytest.raises(ValueError, match="'Mine' is none of"):
        to_saved(Mine().fit(images))
