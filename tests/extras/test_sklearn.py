"""The estimators keep scikit-learn's conventions, work in its tools, learn as well as its own, repeat their bits."""

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import fastnn
from fastnn import backend, nn, optim
from fastnn.sklearn import FastNNClassifier, FastNNRegressor

ROUNDING = {  # these pass in float64, see test_float64_passes_the_rest
    "check_sample_weight_equivalence_on_dense_data": "asks for a relative error of 1e-7, below float32's rounding: the "
    "mean over repeated samples is summed in another order",
    "check_methods_subset_invariance": "asks for a relative error of 1e-7, below float32's rounding: products of "
    "few rows are summed in another order than those of many",
}
SMALL = {"hidden_layer_sizes": (16,), "epochs": 5, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=0.3, random_state=0, stratify=y)


@pytest.fixture
def blobs(rng):
    """Three clouds in 4 dimensions."""
    y = rng.integers(0, 3, 90)
    return rng.normal(size=(90, 4)) + 3 * np.eye(4)[y], y


def bits(estimator) -> list[bytes]:
    return [p.numpy().tobytes() for p in estimator.module_.state_dict().values()]


# scikit-learn's own checks ---------------------------------------------------------------------------------------


def expected(estimator):
    """Checks that need not pass: probabilities are float32, of which the second asks for less."""
    return ROUNDING if isinstance(estimator, FastNNRegressor) else dict([*ROUNDING.items()][:1])


@parametrize_with_checks([FastNNClassifier(), FastNNRegressor()], expected_failed_checks=expected)
def test_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", [FastNNClassifier, FastNNRegressor])
@pytest.mark.parametrize("name", ROUNDING)
def test_float64_passes_the_rest(cls, name):
    getattr(estimator_checks, name)(cls.__name__, cls(dtype="float64"))


def test_parameters_are_kept_as_they_are():
    sizes, state = [3, 4], np.random.RandomState(0)
    estimator = FastNNClassifier(hidden_layer_sizes=sizes, random_state=state, batch_size="no number")
    assert estimator.hidden_layer_sizes is sizes and estimator.random_state is state
    assert estimator.get_params()["batch_size"] == "no number"
    assert clone(estimator).get_params().keys() == FastNNRegressor().get_params().keys()
    assert estimator.set_params(lr=0.5).lr == 0.5


# How well they learn ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # scikit-learn's would go on for longer
def test_digits_as_well_as_scikit_learn(digits):
    X, X_test, y, y_test = digits
    own = [FastNNClassifier(random_state=i).fit(X, y).score(X_test, y_test) for i in range(2)]
    with threadpool_limits(1):  # its pool of threads and fastnn's would wait for each other's processors
        peer = [MLPClassifier(random_state=i).fit(X, y).score(X_test, y_test) for i in range(2)]
    assert np.mean(own) >= np.mean(peer) - 0.01
    assert np.mean(own) >= 0.97


def test_iris_in_a_pipeline():
    X, y = load_iris(return_X_y=True)
    scores = cross_val_score(make_pipeline(StandardScaler(), FastNNClassifier(random_state=0)), X, y)
    assert scores.mean() >= 0.93


@pytest.mark.parametrize("unit", [1.0, 1e6, 1e-6])
def test_diabetes_in_any_unit(unit):
    X, y = load_diabetes(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), FastNNRegressor(epochs=30, random_state=0))
    assert cross_val_score(pipeline, X, y * unit + 100 * unit).mean() > 0.4


def test_several_numbers(rng):
    X = rng.normal(size=(200, 3))
    Y = np.stack([1000 + 50 * X[:, 0], X[:, 1] * 1e-3], 1)
    regressor = FastNNRegressor(lr=0.01, random_state=0).fit(X, Y)
    assert regressor.predict(X).shape == (200, 2) and regressor.n_outputs_ == 2
    assert min(1 - (regressor.predict(X) - Y).var(0) / Y.var(0)) > 0.97
    assert regressor.history_["r2"][-1] > 0.97
    column = FastNNRegressor(**SMALL).fit(X, Y[:, :1]).predict(X)
    np.testing.assert_array_equal(column[:, 0], FastNNRegressor(**SMALL).fit(X, Y[:, 0]).predict(X))
    assert column.shape == (200, 1)


def test_one_target_value(rng):
    X = rng.normal(size=(20, 3))
    regressor = FastNNRegressor(lr=0.01, **SMALL | {"epochs": 300}).fit(X, np.full(20, 7.0))
    np.testing.assert_allclose(regressor.predict(X), 7, atol=0.05)


# Labels, weights, networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels", [["b", "a", "c"], [-1, 5, 2], [10**15, -3, 0], np.array(["x", "yy", "z"], object), [2.0, 0.0, 1.0]]
)
def test_labels_of_any_kind(blobs, labels):
    X, y = blobs
    labels = np.asarray(labels)
    classifier = FastNNClassifier(random_state=0, epochs=40, lr=0.01).fit(X, labels[y])
    np.testing.assert_array_equal(classifier.classes_, np.sort(labels))
    assert classifier.predict(X).dtype == labels.dtype
    assert classifier.score(X, labels[y]) > 0.95
    P = classifier.predict_proba(X)
    assert P.dtype == np.float32 and P.shape == (90, 3)
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(classifier.classes_[P.argmax(1)], classifier.predict(X))


def test_truth_values_and_one_class(blobs):
    X, y = blobs
    assert FastNNClassifier(**SMALL).fit(X, y == 1).predict(X).dtype == bool
    assert set(FastNNClassifier(**SMALL).fit(X, ["only"] * 90).predict(X)) == {"only"}


@pytest.mark.parametrize("cls", [FastNNClassifier, FastNNRegressor])
def test_weight_of_one_weighs_nothing_and_zero_removes(blobs, cls):
    X, y = blobs
    small = SMALL | {"batch_size": 90, "dtype": "float64"}
    weight = np.arange(90) % 3 * 0.7
    weighted = cls(**small).fit(X, y, weight)
    cut = cls(**small).fit(X[weight > 0], y[weight > 0], weight[weight > 0] * 100)
    for a, b in zip(weighted.module_.parameters(), cut.module_.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)
    plain, even = cls(**small).fit(X, y), cls(**small).fit(X, y, np.full(90, 3.0))
    np.testing.assert_allclose(even.loss_curve_, plain.loss_curve_, rtol=1e-9)
    assert not np.allclose(weighted.loss_curve_, plain.loss_curve_)


def test_weights_move_the_answer():
    X, y, weight = np.zeros((30, 1)), np.arange(30) % 2, np.where(np.arange(30) % 2, 9.0, 1.0)
    options = {"hidden_layer_sizes": (), "lr": 0.05, "epochs": 300, "random_state": 0}
    assert FastNNClassifier(**options).fit(X, y, weight).predict_proba(X)[0, 1] == pytest.approx(0.9, abs=0.02)
    assert FastNNRegressor(**options).fit(X, y, weight).predict(X)[0] == pytest.approx(0.9, abs=0.02)


def tiny(shape, outputs):
    """A function of the kind that `model` takes."""
    C, H, W = shape
    convs = [nn.Conv2d(C, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, (1, 3), padding=(0, 1))]
    return nn.Sequential(*convs, nn.ReLU(), nn.Flatten(), nn.Linear(5 * H * W, outputs))


def test_images(digits):
    X, X_test, y, y_test = digits
    rows = FastNNClassifier(model=tiny, image_shape=(1, 8, 8), epochs=5, random_state=0).fit(X, y)
    whole = FastNNClassifier(model=tiny, epochs=5, random_state=0).fit(X.reshape(-1, 1, 8, 8), y)
    assert rows.score(X_test, y_test) > 0.9
    np.testing.assert_array_equal(rows.predict_proba(X_test), whole.predict_proba(X_test.reshape(-1, 1, 8, 8)))
    named = FastNNClassifier(model="cnn", image_shape=(1, 8, 8), epochs=3, random_state=0).fit(X, y)
    assert named.score(X_test, y_test) > 0.7
    assert isinstance(named.module_[1][0], nn.Conv2d)
    copy = pickle.loads(pickle.dumps(rows))
    assert copy.module_[1][3].weight.array[..., 0, :].strides == rows.module_[1][3].weight.array[..., 0, :].strides
    np.testing.assert_array_equal(copy.predict_proba(X_test), rows.predict_proba(X_test))


def test_network_is_the_one_described(blobs):
    X, y = blobs
    made = FastNNClassifier(hidden_layer_sizes=[5, 6], activation="tanh", dropout=0.25, epochs=1).fit(X, y).module_
    assert [type(m) for m in made] == [nn.Linear, nn.Tanh, nn.Dropout] * 2 + [nn.Linear]
    assert [m.weight.shape for m in made if isinstance(m, nn.Linear)] == [(5, 4), (6, 5), (3, 6)]
    assert made[2].p == 0.25
    assert not any(m.training for m in made.modules())
    made = FastNNClassifier(hidden_layer_sizes=7, activation=nn.SiLU, epochs=1).fit(X, y).module_
    assert [type(m) for m in made] == [nn.Linear, nn.SiLU, nn.Linear]


@pytest.mark.parametrize(
    ("name", "cls", "decay"),
    [("adam", optim.Adam, 0), ("adamw", optim.AdamW, 0.01), ("sgd", optim.SGD, 0), (optim.RMSprop, optim.RMSprop, 0),
     (partial(optim.Adam, betas=(0.8, 0.9)), optim.Adam, 0), (optim.LBFGS, optim.LBFGS, None)],
)  # fmt: skip
def test_optimizers(blobs, name, cls, decay):
    X, y = blobs
    classifier = FastNNClassifier(optimizer=name, lr=0.02, batch_size=90, epochs=20, random_state=0).fit(X, y)
    assert type(classifier._optimizer) is cls
    assert classifier._optimizer.param_groups[0].get("weight_decay") == decay
    assert classifier.loss_curve_[-1] < classifier.loss_curve_[0] / 2
    if decay is not None:
        group = FastNNClassifier(optimizer=name, weight_decay=0.3, epochs=1).fit(X, y)._optimizer.param_groups[0]
        assert group["weight_decay"] == 0.3


# Random numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [FastNNClassifier, FastNNRegressor])
def test_same_seed_same_bits_at_any_thread_count(digits, cls):
    X, X_test, y, _ = digits
    found = []
    for threads in (1, 2):
        fastnn.set_num_threads(threads)
        fastnn.rand(threads)
        estimator = cls(hidden_layer_sizes=(200, 100), epochs=2, dropout=0.1, random_state=7).fit(X, y)
        found.append([*bits(estimator), estimator.predict(X_test).tobytes()])
    assert found[0] == found[1]


def test_random_state_is_as_in_scikit_learn(blobs):
    X, y = blobs

    def one(state):
        return bits(FastNNClassifier(**SMALL | {"random_state": state}).fit(X, y))

    assert one(0) == one(0) != one(1)
    assert one(0) == one(np.random.RandomState(0))
    shared = np.random.RandomState(0)
    assert one(shared) != one(shared)  # a generator goes on
    np.random.seed(3)  # noqa: NPY002
    first, second = one(None), one(None)
    assert first != second
    np.random.seed(3)  # noqa: NPY002
    assert one(None) == first
    estimator = FastNNClassifier(**SMALL)
    assert bits(estimator.fit(X, y)) == bits(estimator.fit(X, y))


def test_stream_of_fastnn_is_left_alone(blobs):
    X, y = blobs
    fastnn.manual_seed(5)
    expected = fastnn.rand(3).tolist()
    fastnn.manual_seed(5)
    FastNNClassifier(**SMALL, dropout=0.5, early_stopping=True).fit(X, y).predict(X)
    assert fastnn.rand(3).tolist() == expected
    state = backend.generator.bit_generator.state
    with pytest.raises(FloatingPointError, match="learning rate"):
        FastNNRegressor(optimizer="sgd", lr=1e30, random_state=0).fit(X, y)
    assert backend.generator.bit_generator.state == state


def test_threads_do_not_change_each_other(blobs):
    X, y = blobs
    expected = [bits(FastNNClassifier(**SMALL | {"random_state": i}).fit(X, y)) for i in range(6)]
    before = backend.generator.bit_generator.state
    with ThreadPoolExecutor(3) as pool:
        fitted = pool.map(lambda i: FastNNClassifier(**SMALL | {"random_state": i}).fit(X, y), range(6))
        assert [*map(bits, fitted)] == expected
    assert backend.generator.bit_generator.state == before
    classifier, start = FastNNClassifier(**SMALL).fit(X, y), threading.Barrier(3)

    def predict(_):
        start.wait()
        return [classifier.predict_proba(X).tobytes() for _ in range(20)]

    with ThreadPoolExecutor(3) as pool:
        assert len({answer for answers in pool.map(predict, range(3)) for answer in answers}) == 1


# Course of the training ------------------------------------------------------------------------------------------


def test_history(blobs, capsys):
    X, y = blobs
    numbers = {"epochs": np.int64(5), "batch_size": np.int32(64)}  # as a search may give
    classifier = FastNNClassifier(**SMALL | numbers).fit(X, y)
    assert classifier.n_iter_ == len(classifier.history_) == len(classifier.loss_curve_) == 5
    assert classifier.loss_curve_ == classifier.history_["loss"].tolist()
    assert "val_loss" not in classifier.history_ and classifier.history_["accuracy"][-1] <= 1
    assert capsys.readouterr() == ("", "")
    FastNNClassifier(**SMALL, verbose=True).fit(X, y)
    assert capsys.readouterr().out.count("epoch") == 5


def test_early_stopping_keeps_the_best_epoch(rng):
    X, y = rng.normal(size=(100, 5)), np.arange(100) % 4  # nothing to learn
    options = {"epochs": 60, "lr": 0.02, "early_stopping": True, "patience": 3, "random_state": 0}
    classifier = FastNNClassifier(validation_fraction=0.24, **options).fit(X, y)
    losses = classifier.history_["val_loss"]
    assert classifier.n_iter_ == len(losses) == losses.argmin() + 4 < 60
    _, X_val, _, y_val = train_test_split(X, y, test_size=0.24, stratify=y, random_state=np.random.RandomState(0))
    assert np.bincount(y_val).tolist() == [6] * 4
    P = classifier.predict_proba(X_val)[np.arange(24), y_val]
    assert -np.log(P).mean() == pytest.approx(losses.min(), rel=1e-5)
    regressor = FastNNRegressor(**options).fit(X, rng.normal(size=100))
    assert regressor.n_iter_ == regressor.history_["val_loss"].argmin() + 4 < 60


def test_partial_fit(blobs):
    X, y = blobs
    classifier = FastNNClassifier(random_state=0, lr=0.01, early_stopping=True)
    for _ in range(30):
        assert classifier.partial_fit(X[:40], y[:40], classes=[0, 1, 2, 9]) is classifier
        classifier.partial_fit(X[40:], y[40:], np.ones(50))
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 60
    assert len(classifier.history_) == 1 and "val_loss" not in classifier.history_
    assert classifier.classes_.tolist() == [0, 1, 2, 9] and classifier.predict_proba(X).shape == (90, 4)
    assert classifier.score(X, y) > 0.9
    with pytest.raises(ValueError, match="not among the classes"):
        classifier.partial_fit(X, y + 5)
    with pytest.raises(ValueError, match="first call"):
        FastNNClassifier().partial_fit(X, y)
    classifier.set_params(early_stopping=False, epochs=2).fit(X, y)  # anew
    assert classifier.n_iter_ == 2 and classifier.classes_.tolist() == [0, 1, 2]

    halves = FastNNRegressor(random_state=0, lr=0.01).partial_fit(X, y)
    other = pickle.loads(pickle.dumps(halves))  # the optimizer's state and the stream too
    for regressor in (halves, other):
        for _ in range(3):
            regressor.partial_fit(X, y)
    assert bits(halves) == bits(other) and halves.loss_curve_ == other.loss_curve_
    assert halves.loss_curve_[-1] < halves.loss_curve_[0]


# In scikit-learn's tools -----------------------------------------------------------------------------------------


def test_grid_search_in_processes(digits):
    X, _, y, _ = digits
    search = GridSearchCV(
        make_pipeline(StandardScaler(), FastNNClassifier(random_state=0, epochs=4)),
        {"fastnnclassifier__hidden_layer_sizes": [(8,), (64,)], "fastnnclassifier__batch_size": np.array([32, 64])},
        cv=2,
    )
    alone, two = clone(search).fit(X[:400], y[:400]), clone(search).set_params(n_jobs=2).fit(X[:400], y[:400])
    np.testing.assert_array_equal(alone.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    assert two.best_params_["fastnnclassifier__hidden_layer_sizes"] == (64,)
    assert bits(two.best_estimator_[-1]) == bits(alone.best_estimator_[-1])


def test_threaded_ensemble(blobs):
    X, y = blobs
    ensemble = BaggingClassifier(FastNNClassifier(**SMALL | {"random_state": None}), n_estimators=4, random_state=0)
    alone = clone(ensemble).fit(X, y)
    with joblib.parallel_backend("threading", n_jobs=2):
        threads = clone(ensemble).set_params(n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(alone.predict_proba(X), threads.predict_proba(X))


@pytest.mark.parametrize("cls", [FastNNClassifier, FastNNRegressor])
def test_copies_answer_the_same_bits(blobs, cls, tmp_path):
    X, y = blobs
    estimator = cls(**SMALL, early_stopping=True).fit(X, y)
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    mapped = joblib.load(tmp_path / "estimator.joblib", mmap_mode="r")
    for copy in (pickle.loads(pickle.dumps(estimator)), joblib.load(tmp_path / "estimator.joblib"), mapped):
        np.testing.assert_array_equal(copy.predict(X), estimator.predict(X))
        assert copy.loss_curve_ == estimator.loss_curve_ and copy.history_.columns == estimator.history_.columns
    assert not hasattr(clone(estimator), "module_")


def test_feature_names(blobs):
    X, y = blobs
    pandas = pytest.importorskip("pandas")
    names = ["a", "b", "c", "d"]
    classifier = FastNNClassifier(**SMALL).fit(pandas.DataFrame(X, columns=names), y)
    assert classifier.feature_names_in_.tolist() == names and classifier.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(pandas.DataFrame(X, columns=names[::-1]))


def test_importing_fastnn_does_not_import_it():
    code = "import sys, fastnn, fastnn.train; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_without_scikit_learn_the_extra_is_named(tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ModuleNotFoundError('not here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", "import fastnn.sklearn"], env=os.environ | {"PYTHONPATH": path},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1 and "pip install 'fastnn[sklearn]'" in done.stderr.splitlines()[-1]


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": "rleu"}, "activation must be .*relu.*'rleu'"),
        ({"activation": nn.ReLU()}, "activation must be"),
        ({"optimizer": "lbfgs"}, "optimizer must be .*adam.*'lbfgs'"),
        ({"optimizer": None}, "optimizer must be"),
        ({"model": nn.Linear(4, 3)}, "model must be .*function.*Linear"),
        ({"model": "alexnet"}, "model must be .*cnn"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": None}, "epochs"),
        ({"lr": -1.0}, "learning rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"dropout": 1.5}, "Dropout"),
        ({"hidden_layer_sizes": (-3,)}, "-3"),
        ({"dtype": "int32"}, "float32 or float64"),
        ({"dtype": "float16"}, "float16.*may be float32, float64"),
        ({"early_stopping": True, "validation_fraction": 1.5}, "test_size"),
        ({"model": tiny, "image_shape": (1, 3, 3)}, "Unflatten|unflatten"),
    ],
)
def test_bad_parameters(blobs, parameters, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FastNNClassifier(**SMALL | parameters).fit(*blobs)


def test_bad_data(blobs):
    X, y = blobs
    with pytest.raises(NotFittedError):
        FastNNClassifier().predict(X)
    with pytest.raises(NotFittedError):
        FastNNRegressor().predict(X)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        import scipy.sparse

        FastNNClassifier().fit(scipy.sparse.csr_array(X), y)
    with pytest.raises(ValueError, match="dim 3"):
        FastNNClassifier().fit(X.reshape(90, 2, 2), y)
    with np.errstate(over="ignore", invalid="ignore"):
        with pytest.raises(ValueError, match="too large for dtype"):
            FastNNClassifier().fit(X * 1e300, y)
        with pytest.raises(ValueError, match=r"y contains.*too large for dtype"):
            FastNNRegressor().fit(X, y * 1e300)
    with pytest.raises(ValueError, match=r"[Uu]nknown label type"):
        FastNNClassifier().fit(X, X[:, 0])
    for weight in (-np.ones(90), np.zeros(90)):
        with pytest.raises(ValueError, match="weight"):
            FastNNClassifier().fit(X, y, weight)
    with pytest.warns(DataConversionWarning):
        FastNNClassifier(**SMALL).fit(X, y[:, None])
    classifier = FastNNClassifier(model=tiny, **SMALL).fit(X.reshape(90, 1, 2, 2), y)
    with pytest.raises(ValueError):
        classifier.predict(X.reshape(90, 1, 4, 1)[:, :, :3])
    classifier = FastNNClassifier(**SMALL).fit(X, y).set_params(dtype="float64", model="cnn")
    assert classifier.predict_proba(X).dtype == np.float32  # parameters count when it is fitted
