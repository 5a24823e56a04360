"""Networks as estimators of scikit-learn, for its pipelines, cross-validation and searches.

`fit` begins fastnn's stream of random numbers anew by `random_state`, and then puts it back. There is one in a process:
a lock lets threads fit one after the other, but does not hold others that draw from it. Processes (`n_jobs`, by
default) fit at once."""
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any, Self

import numpy as np

from fastnn import backend, models, nn, optim
from fastnn.functional import cat, mse_loss
from fastnn.nn.parameter import evaluation
from fastnn.tensor import Tensor
from fastnn.train import Classification, EarlyStopping, Progress, Regression, Task, Trainer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin, is_regressor
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight as check_weight
    from sklearn.utils.validation import check_array, check_is_fitted, check_random_state, validate_data
except ImportError as error:
    raise ImportError("fastnn.sklearn needs scikit-learn 1.6 or later: pip install 'fastnn[sklearn]'") from error

ACTIVATIONS = {"identity": nn.Identity, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}
OPTIMIZERS = {"sgd": partial(optim.SGD, momentum=0.9), "adam": optim.Adam, "adamw": optim.AdamW}
_lock = threading.RLock()


class _Estimator(BaseEstimator):
    def __init__(self, *, hidden_layer_sizes: int | Sequence[int] = (100,), activation: str | Callable = "relu",
                 dropout: float = 0.0, model: str | Callable[..., nn.Module] | None = None,
                 image_shape: Sequence[int] | None = None, optimizer: str | Callable = "adam", lr: float = 1e-3,
                 weight_decay: float | None = None, batch_size: int = 64, epochs: int = 100,
                 early_stopping: bool = False, validation_fraction: float = 0.1, patience: int = 10,
                 random_state: Any = None, dtype: Any = "float32", verbose: bool = False) -> None:
        self.__dict__.update((name, value) for name, value in locals().items() if name != "self")

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network; returns itself. `sample_weight` (N,): how much samples count in the loss, relatively."""
        return self._fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one more epoch, on these samples, with the optimizer as it was left, and without validation."""
        return self._fit(X, y, sample_weight, True)

    def _fit(self, X: Any, y: Any, weight: Any, more: bool = False, classes: Any = None) -> Self:
        fresh = not (more and hasattr(self, "module_"))
        if fresh:
            self._input: dict[str, Any] = {"order": "C", "dtype": np.dtype(self.dtype), "allow_nd": bool(self.model)}
            self._rng = check_random_state(self.random_state)
        X, y = validate_data(self, X, y, reset=fresh, multi_output=is_regressor(self), y_numeric=is_regressor(self),
                             **self._input)
        classes = None if not fresh else y if classes is None else classes
        if weight is not None:
            weight = check_weight(weight, X, dtype=np.float64, ensure_non_negative=True)
            if not weight.any():
                raise ValueError(f"{type(self).__name__}: sample_weight must not be 0 for all samples")
            X, y, weight = (a[weight > 0] for a in (X, y, weight / weight[weight > 0].mean()))
        targets, labels, task = self._targets(y, weight, classes)
        callbacks: list[Any] = [Progress(None if self.verbose else False, bool(self.verbose))]
        held = None
        if self.early_stopping and not more:
            X, X_held, targets, targets_held = train_test_split(
                X, targets, test_size=self.validation_fraction, stratify=labels, random_state=self._rng)
            held = X_held, targets_held
            callbacks.append(EarlyStopping(patience=self.patience))
        epochs, batch_size = (np.asarray(n).item() for n in (1 if more else self.epochs, self.batch_size))
        with _lock, ExitStack() as stack:
            stack.callback(setattr, backend.generator.bit_generator, "state", backend.generator.bit_generator.state)
            backend.manual_seed(self._rng.randint(2**31 - 1))
            if fresh:
                network, make = self._network(X.shape[1:]).to(X.dtype), self._choice("optimizer", OPTIMIZERS)
                decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
                self.module_, self._optimizer = network, make(network.parameters(), lr=self.lr, **decay)
            self.history_ = Trainer(batch_size).fit(self.module_, (X, targets), held, epochs, self._optimizer,
                                                    loss=task, callbacks=callbacks)
        self.module_.eval()
        self.loss_curve_: list[float] = [] if fresh else self.loss_curve_
        self.loss_curve_ += [row["loss"] for row in self.history_.rows()]
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _choice(self, name: str, known: dict[str, Any]) -> Callable:
        value = getattr(self, name)
        make = known.get(value) if isinstance(value, str) else value
        if not callable(make) or isinstance(make, nn.Module):
            raise ValueError(f"{type(self).__name__}: {name} must be a class, a function or one of {', '.join(known)}, "
                             f"but {value!r} came")
        return make

    def _network(self, shape: tuple[int, ...]) -> nn.Module:
        if self.model is None:
            sizes = [*shape, *np.atleast_1d(self.hidden_layer_sizes).tolist()]
            activation, parts = self._choice("activation", ACTIVATIONS), 3 if self.dropout else 2
            layers = (module for pair in pairwise(sizes) for module in (
                nn.Linear(*pair), activation(), nn.Dropout(self.dropout))[:parts])
            return nn.Sequential(*layers, nn.Linear(sizes[-1], self.n_outputs_))
        make = self._choice("model", {name: vars(models)[name] for name in models.__all__})
        network = make(tuple(self.image_shape or shape), self.n_outputs_)
        return nn.Sequential(nn.Unflatten(1, tuple(self.image_shape)), network) if self.image_shape else network

    def _outputs(self, X: Any) -> Tensor:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **self._input)
        with evaluation(self.module_):
            return cat([self.module_(Tensor(X[i : i + 1024])) for i in range(0, len(X), 1024)])


class FastNNClassifier(ClassifierMixin, _Estimator):
    """A network that tells classes apart, labels of any kind, trained on cross-entropy by `fastnn.train.Trainer`.

    A perceptron of `hidden_layer_sizes`, each with `activation` ("relu", "tanh", "logistic", "gelu", "identity" or a
    class) and `dropout`; or `model`: a name in `fastnn.models` or a function like those, for X (N, C, H, W), or (N, D)
    of rows that are cut into `image_shape`. `optimizer`: "adam", "adamw", "sgd" (momentum 0.9) or a class, with `lr`
    and, unless None, `weight_decay`. `early_stopping` holds out `validation_fraction`, stops when its loss has not
    fallen for `patience` epochs, and keeps the best weights. `random_state`: equal seeds give equal bits. `dtype`: of
    the network, whatever X has. `verbose`: a line each epoch.

    After `fit`: `module_`, the network; `history_` of `Trainer.fit`; `loss_curve_`; `n_iter_`, epochs; `classes_`.

    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(X[:, 0] > X[:, 1], "right", "left")
    >>> classifier = FastNNClassifier(hidden_layer_sizes=(16,), lr=0.01, random_state=0).fit(X, y)
    >>> classifier.predict([[0, 1], [1, 0]]).tolist()
    ['left', 'right']"""

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """The same; the first call needs `classes`, all labels that will ever come."""
        if classes is None and not hasattr(self, "module_"):
            raise ValueError("classes must be passed on the first call to partial_fit")
        return self._fit(X, y, sample_weight, True, classes)

    def _targets(self, y: np.ndarray, weight: Any, classes: Any) -> tuple:
        check_classification_targets(y)
        if classes is not None:
            self.classes_ = np.unique(classes)
            self.n_outputs_ = len(self.classes_)
        labels = np.searchsorted(self.classes_, y).clip(max=self.n_outputs_ - 1)
        if not np.array_equal(self.classes_[labels], y):
            raise ValueError(f"partial_fit: y has labels that are not among the classes {self.classes_}")
        if weight is None:
            return labels, labels, Classification()
        weighted = (np.eye(self.n_outputs_)[labels].T * weight).T  # the loss is −Σ target·log p
        return weighted.astype(self._input["dtype"]), labels, Classification()

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities (N, K) of `classes_`."""
        return Classification().answers(self._outputs(X)).array

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample, (N,)."""
        best = self._outputs(X).array.argmax(1)
        return self.classes_[best]


class FastNNRegressor(MultiOutputMixin, RegressorMixin, _Estimator):
    """A network that predicts a number or, if y is (N, T), T of them, of any unit, trained on the mean squared error of
    standardized targets. Parameters are those of `FastNNClassifier`, which see."""

    def _targets(self, y: np.ndarray, weight: Any, classes: Any) -> tuple:
        check_array(y, dtype=self._input["dtype"], ensure_2d=False, input_name="y")  # is any too large for it?
        self._shape, y = y.shape[1:], y.reshape(len(y), -1).astype(np.float64)
        if classes is not None:
            self.n_outputs_, self._scaler = y.shape[1], StandardScaler().fit(y, sample_weight=weight)
            self._task = Regression(self._scaler.mean_, self._scaler.scale_)
        if weight is None:
            return y, None, self._task
        root = np.sqrt(weight)[:, None]
        targets = np.hstack([self._scaler.transform(y) * root, root]).astype(self._input["dtype"])
        return targets, None, Task(lambda outputs, t: mse_loss(outputs * t[:, -1:], t[:, :-1]))

    def predict(self, X: Any) -> np.ndarray:
        """The numbers, float64, (N,) or (N, T) as y was."""
        outputs = self._outputs(X)
        return self._task.answers(outputs).array.reshape(-1, *self._shape)
