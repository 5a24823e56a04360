"""Preparation of data by statistics of the training set: mean subtraction, standardization, PCA, whitening.

A `Preprocess` is a deterministic transform of images (N, C, H, W), features (N, D), or one sample of either. It is
fitted on training data alone and then applied to all: statistics that have seen the test data make the test too kind.
`fit` passes once over the data, in batches, in float64. The moments of batches merge as in Chan, Golub & LeVeque,
"Algorithms for computing the sample variance" (1983), which is accurate however far the mean is from zero. Statistics
are float64, pixels in the order C, H, W (as Flatten gives them); to be applied they are laid out in the memory order of
the images, once per shape and dtype, so that no image is transposed. Gradients do not pass.

Source: CS231n, "Neural Networks Part 2: Setting up the Data and the Loss", Data Preprocessing."""
import inspect
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from fastnn import layout
from fastnn.data.dataset import batches_of, first_of
from fastnn.data.transforms import Checked, ToFloat, Transform, Window, number_of
from fastnn.errors import DTypeError, ShapeError, StateDictError
from fastnn.functional import linear, matmul
from fastnn.tensor import Array, Tensor, as_tensor

MAX_FEATURES = 16384  # of PCA and its kin: the covariance, float64, is then 2 GiB
TINY = float(np.finfo(np.float32).tiny)  # its reciprocal is still finite in float32
Shape = tuple[int, ...]
Moments = tuple[int, Array, Any]  # their number, the mean, the sum of squares, or of products, around it


def _positive(value: Any) -> Checked:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
    return good, "a finite number > 0", value


def _count_or_fraction(k: Any) -> Checked:
    good = type(k) in (int, float) and (0 < k < 1 if isinstance(k, float) else k >= 1)
    return good, "an int of at least 1, a fraction between 0 and 1, or None", k


class Preprocess(Transform):
    """Base class of transforms of images and features.

    Float input keeps its dtype; uint8 is taken as by `ToFloat`. Raises RuntimeError if it is not fitted, ShapeError for
    samples unlike those fitted, DTypeError for other dtypes. A subclass may define `solve` and `weight`."""

    keys: ClassVar[tuple[str, ...]] = ("mean",)  # of the state
    per_pixel, moment = True, 1  # whether each pixel has its mean, or each channel; 1 mean, 2 variance, 3 covariance
    _moments = _state = None

    def fit(self, data: Any, batch_size: int = 1024) -> Self:
        """Takes the statistics of `data`, forgetting any others: a dataset of samples x or (x, …), an iterable of
        batches x or (x, …) such as a DataLoader, or an array. Holds one batch at a time, of `batch_size` samples unless
        `data` comes in batches. Raises ValueError if there are no data, or NaN or infinity among them."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"{self}.fit: batch_size must be an int of at least 1, got {batch_size!r}")
        self._keep(None)
        moments = None
        for batch in batches_of(data, int(batch_size)):
            moments = self._merge(moments, batch)
            del batch  # before the next one is made
        if moments is None:
            raise ValueError(f"{self}.fit: there are no data")
        self._keep(moments, self.solve(*moments))
        return self

    def partial_fit(self, batch: Any) -> Self:
        """Adds a batch to the statistics, for data that come as a stream. (After `load_state_dict` they start anew.)"""
        moments = self._merge(self._moments, first_of(batch))
        if moments is not None:
            self._keep(moments)
        return self

    def _keep(self, moments: Moments | None, state: dict[str, Array] | None = None) -> None:
        self._moments, self._state = moments, state
        self._rows: dict[bool, tuple] = {}  # by direction: (shape, dtype), mean, weight

    def _merge(self, moments: Moments | None, batch: Any) -> Moments | None:
        a = self._check(as_tensor(batch).array)
        shape = a.shape[1:] if self.per_pixel else a.shape[1:2]
        N, D = len(a), math.prod(shape)
        if moments and moments[1].shape != shape:
            raise ShapeError(f"{self}.fit: samples of shape {shape} come after others of {moments[1].shape}")
        if self.moment == 3 and D > MAX_FEATURES:
            raise ValueError(f"{self}.fit: at most {MAX_FEATURES} features can have a covariance, got {D}; resize them")
        if a.size == 0:
            return moments
        x = np.empty((N + 1, D, a.size // N // D))  # (N, C, H·W) or (N, D, 1), and a row for the merge
        x[:N].reshape(a.shape)[...] = a
        if a.dtype == np.uint8:
            x /= 255
        n, mean, moment = moments or (0, x[0, :, 0].reshape(shape).copy(), 0.0)
        m = N * x.shape[2]
        with np.errstate(all="ignore"):
            x -= mean.reshape(-1, 1)  # only small numbers are summed; zeros, if all are the same
            delta = x[:N].mean((0, 2))
            x -= delta[:, None]
            x[N], x[N, :, 0] = 0, delta * math.sqrt(n * m / (n + m))  # what the distance of the means adds
            if self.moment == 2:
                moment = moment + np.square(x, x).sum((0, 2))
            elif self.moment == 3:
                product = x[:, :, 0].T @ x[:, :, 0]
                moment = np.add(product, moment, product)
        if not (np.isfinite(delta).all() and np.isfinite(moment).all()):
            raise ValueError(f"{self}.fit: the data contain NaN or infinity, or are too large to square")
        return n + m, mean + (delta * (m / (n + m))).reshape(shape), moment

    def solve(self, n: int, mean: Array, moment: Any) -> dict[str, Array]:
        """The state, from the moments of `n` samples."""
        return {"mean": mean}

    def weight(self, shape: Shape, inverse: bool) -> Array | None:
        """What multiplies samples less their mean, rows in memory order, or takes it back: a row, (out, in) or None."""
        return None

    @property
    def state(self) -> dict[str, Array]:
        """The statistics by name, float64. Raises RuntimeError before `fit`."""
        if self._state is None:
            if self._moments is None:
                raise RuntimeError(f"{self} has no statistics yet: call fit(training_data) or load_state_dict first")
            self._state = self.solve(*self._moments)
        return self._state

    def output_shape(self, shape: Shape) -> Shape:
        """The shape that a sample of `shape` gets. Raises ShapeError if it does not fit the statistics."""
        mean, shape = self.state["mean"].shape, tuple(shape)
        if shape != mean if self.per_pixel else len(shape) not in (1, 3) or shape[:1] != mean:
            what = "shape" if self.per_pixel else "channels"
            raise ShapeError(f"{self}: fitted on samples of {what} {mean}, got one of shape {shape}")
        return shape

    def inverse(self, images: Any) -> Tensor:
        """What was prepared, put back. PCA with fewer components gives the projection of the data on these."""
        a = as_tensor(images).array
        single = a.ndim in (1, 3)
        out = self.apply(self.prepare(a[None] if single else a), None, True)
        return Tensor(out[0] if single else out)

    def prepare(self, images: Array) -> Array:
        return ToFloat().apply(self._check(images), None)  # type: ignore[arg-type]

    def _check(self, a: Array) -> Array:
        if a.dtype.char not in "fdB":
            raise DTypeError(f"{self}: data must be float32, float64 or uint8, but are {a.dtype}")
        if a.ndim not in (2, 4):
            raise ShapeError(f"{self}: data must be images (N, C, H, W) or features (N, D), got {a.shape}")
        return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))

    def apply(self, images: Array, rng: np.random.Generator | None = None, inverse: bool = False) -> Array:
        given = images.shape[1:]
        before = self.state["mean"].shape if inverse and self.per_pixel else given
        after = self.output_shape(before)
        if inverse and given != after:
            raise ShapeError(f"{self}.inverse: needs samples of shape {after}, got {given}")
        x, (mean, weight) = _rows(images), self._laid_out(before, images.dtype, inverse)
        if not inverse:  # in float64, for the mean may be large
            x = np.subtract(x, mean, layout.empty(x.shape, x.dtype), casting="same_kind")
        if weight is not None and weight.ndim == 2:
            x = linear(Tensor(x), Tensor(weight)).array
        elif weight is not None:
            x = np.multiply(x, weight, layout.empty(x.shape, x.dtype) if inverse else x)
        if inverse:
            x = np.add(x, mean, layout.empty(x.shape, x.dtype), casting="same_kind")
        shape = before if inverse else after
        return x if len(shape) == 1 else x.reshape(len(x), *shape[1:], shape[0]).transpose(0, 3, 1, 2)

    def _laid_out(self, shape: Shape, dtype: np.dtype, inverse: bool) -> tuple[Array, Array | None]:
        """Mean, (D,) float64, and weight for samples of `shape`: made once."""
        if inverse not in self._rows or self._rows[inverse][0] != (shape, dtype):
            weight = self.weight(shape, inverse)
            weight = None if weight is None else np.array(weight, dtype, order="C")
            self._rows[inverse] = (shape, dtype), _row(self.state["mean"], shape), weight
        return self._rows[inverse][1:]  # type: ignore[return-value]

    def join(self, window: Window, rng: np.random.Generator) -> bool:
        if self.per_pixel or len(window.shape) != 4 or window.dtype == np.uint8:
            return False
        mean, weight = self._laid_out(self.output_shape(window.shape[1:])[:1], window.dtype, inverse=False)
        return window.colour(mean, np.ones(1) if weight is None else weight)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, which attributes hold."""
        return {name: getattr(self, name, None) for name in inspect.signature(type(self)).parameters}

    def state_dict(self) -> dict[str, Tensor]:
        """The statistics, copied, float64: with them `load_state_dict` gives the same output in every bit."""
        return {name: Tensor(a.copy()) for name, a in self.state.items()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor | Array]) -> None:
        """Takes over what `state_dict` gave. Raises StateDictError if something is missing, unexpected or malformed."""
        given: dict[str, Any] = {key: getattr(value, "array", value) for key, value in state_dict.items()}
        problems = [f"{key!r} is {'missing' if key in self.keys else 'unexpected'}" for key in {*self.keys} ^ {*given}]
        for key in {*self.keys} & {*given}:
            a, least = given[key], {"std": TINY, "variance": 0.0}.get(key, -math.inf)
            floats = isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size > 0
            if not floats or not np.isfinite(a).all() or a.min() < least:
                problems.append(f"{key!r} must be a tensor of finite floats, at least {least:g}")
        if not problems:
            state = {key: np.array(given[key], np.float64, order="C") for key in self.keys}
            problems = [f"{key!r} must have the shape {shape}, got {state[key].shape}"
                        for key, shape in self._shapes(state).items() if shape != state[key].shape]
        if problems:
            raise StateDictError(f"load_state_dict of {self}: {'; '.join(problems)}")
        self._keep(None, state)

    def _shapes(self, state: dict[str, Array]) -> dict[str, Any]:
        """The shapes that the arrays must have, going by the mean's."""
        mean, kinds = state["mean"], {1: "(D,)", 3: "(C, H, W)"} if self.per_pixel else {1: "(C,)"}
        return dict.fromkeys(state, mean.shape if mean.ndim in kinds else " or ".join(kinds.values()))


class MeanImage(Preprocess):
    """y = x − mean, of each pixel, (C, H, W), or of each feature, (D,).

    >>> MeanImage().fit(np.array([[1.0, 5.0], [3.0, 5.0]]))(np.array([[4.0, 4.0]]))
    tensor([[ 2., -1.]], dtype=float64)"""


class ChannelMean(Preprocess):
    """y = x − mean, of each channel, (C,), in images of any size, or of each feature, (D,)."""

    per_pixel = False


class Standardize(Preprocess):
    """y = (x − mean) / std of each channel, (C,), or feature, (D,), where std² = mean((x − mean)²).

    A constant channel, one whose std is at most `eps` · |mean|, is divided by 1.

    >>> Standardize().fit(np.array([[1.0, 5.0], [5.0, 5.0]]))(np.array([[4.0, 4.0]]))
    tensor([[ 0.5, -1. ]], dtype=float64)"""

    keys, per_pixel, moment = ("mean", "std"), False, 2

    eps: Annotated[float, _positive] = 1e-12

    def solve(self, n: int, mean: Array, moment: Any) -> dict[str, Array]:
        std = np.sqrt(moment / n)
        return {"mean": mean, "std": np.where(std <= self.eps * np.abs(mean) + TINY, 1.0, std)}

    def weight(self, shape: Shape, inverse: bool) -> Array:
        std = _row(self.state["std"], shape)
        return std if inverse else 1 / std


class PCA(Preprocess):
    """y = (x − mean) Uᵀ, (N, k): x along the k directions in which the data vary most.

    The rows of U (k, D) are the eigenvectors of the covariance (x − mean)ᵀ(x − mean) / N, by falling eigenvalue λ, each
    with the (first) entry of largest magnitude positive. `n_components`: k; or a fraction, 0 < f < 1, for the least k
    whose λ are f of their sum; or None for D. State: mean (C, H, W) or (D,), components U, variance λ (k,).
    Raises ValueError in `fit` if k > D, or D > 16384.

    >>> pca = PCA(1).fit(np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]]))
    >>> pca(np.array([[3.0, 3.0]])), pca.inverse(np.array([[0.0]]))
    (tensor([[1.4142]], dtype=float64), tensor([[2., 2.]], dtype=float64))"""

    keys, moment = ("mean", "components", "variance"), 3
    rotates_back = False
    n_components: Annotated[int | float | None, _count_or_fraction] = None
    eps: ClassVar[float | None] = None

    def solve(self, n: int, mean: Array, moment: Any) -> dict[str, Array]:
        k = self.n_components
        if isinstance(k, int) and k > mean.size:
            raise ValueError(f"{self}.fit: the data have {mean.size} features only")
        variance, vectors = np.linalg.eigh(moment / n)
        variance, U = np.maximum(variance[::-1], 0), vectors.T[::-1].copy()  # rounding makes zeros negative
        if isinstance(k, float):
            k = 1 + int(np.sum(np.cumsum(variance) < k * variance.sum()))
        first = np.argmax(np.abs(U) >= (1 - 1e-8) * np.abs(U).max(1, keepdims=True), 1)  # rounding decides no tie
        U[U[np.arange(len(U)), first] < 0] *= -1
        return {"mean": mean, "components": U[:k], "variance": variance[:k]}

    def output_shape(self, shape: Shape) -> Shape:
        shape = super().output_shape(shape)
        return shape if self.rotates_back else self.state["variance"].shape

    def weight(self, shape: Shape, inverse: bool) -> Array:
        U = V = _rows(self.state["components"].reshape(-1, *shape))
        if self.eps is not None:
            V = U * (self.state["variance"] + self.eps)[:, None] ** (0.5 if inverse else -0.5)
        if self.rotates_back:
            return matmul(Tensor(U.T), Tensor(V)).array
        return V.T if inverse else V

    def _shapes(self, state: dict[str, Array]) -> dict[str, Any]:
        D, k = state["mean"].size, self.n_components
        k = D if self.rotates_back else k if isinstance(k, int) else min(state["variance"].size, D)
        return super()._shapes(state) | {"components": (k, D), "variance": (k,)}


class PCAWhitening(PCA):
    """y = (x − mean) Uᵀ / √(λ + eps), (N, k): uncorrelated, of variance 1 where λ is much larger than `eps`.

    U, λ, `n_components` as of PCA. `eps` keeps directions that hardly vary, mostly noise, from being blown up."""

    eps: Annotated[float, _positive] = 1e-5  # type: ignore[misc]


class ZCA(PCAWhitening):
    """y = (x − mean) Uᵀ diag(1 / √(λ + eps)) U: whitened and rotated back, so that images stay images, (N, C, H, W).

    Of all whitenings it changes the data least (Bell & Sejnowski, "The 'independent components' of natural scenes are
    edge filters", 1997). The default `eps` is the UFLDL tutorial's (Stanford) for data between 0 and 1."""

    rotates_back = True
    n_components: ClassVar[None] = None  # type: ignore[misc]
    eps: Annotated[float, _positive] = 0.1  # type: ignore[misc]


PREPROCESSORS: dict[str, type[Preprocess]] = {"mean-image": MeanImage, "channel-mean": ChannelMean,
    "standardize": Standardize, "pca": PCA, "whiten": PCAWhitening, "zca": ZCA}  # fmt: skip


def from_text(text: str) -> Preprocess:
    """One of PREPROCESSORS, unfitted, by its name; "=" and a number give its first argument. Raises ValueError.

    >>> from_text("pca=50"), from_text("zca=0.01"), from_text("standardize")
    (PCA(n_components=50), ZCA(eps=0.01), Standardize(eps=1e-12))"""
    name, equals, number = text.partition("=")
    kind = _kind("from_text", name)
    try:
        return kind(*([number_of(number)] if equals else []))
    except (TypeError, ValueError) as error:
        raise ValueError(f"from_text: {text!r} has no number that fits: {error}") from None


def to_saved(preprocess: Preprocess) -> dict[str, Any]:
    """Name, config and state of a fitted one of PREPROCESSORS, as `fastnn.save` takes them."""
    name = next((name for name, kind in PREPROCESSORS.items() if kind is type(preprocess)), None)
    _kind("to_saved", name or type(preprocess).__name__)
    return {"name": name, "config": preprocess.config(), "state": preprocess.state_dict()}


def from_saved(saved: Mapping[str, Any]) -> Preprocess:
    """What `to_saved` was given, built again. Raises ValueError for a malformed dict.

    >>> fastnn.save(to_saved(MeanImage().fit(np.ones((2, 3)))), "mean.safetensors")
    >>> from_saved(fastnn.load("mean.safetensors"))(np.full((1, 3), 3.0))
    tensor([[2., 2., 2.]], dtype=float64)"""
    match saved:
        case {"name": name, "config": Mapping() as config, "state": Mapping() as state} if len(saved) == 3:
            kind = _kind("from_saved", name)
            if config.keys() == inspect.signature(kind).parameters.keys():
                preprocess = kind(**config)
                preprocess.load_state_dict(state)
                return preprocess
    raise ValueError(f"from_saved: a dict of name, config, with all arguments, and state is needed, got {saved!r:.80}")


def _kind(op: str, name: Any) -> type[Preprocess]:
    if not isinstance(name, str) or name not in PREPROCESSORS:
        raise ValueError(f"{op}: {name!r:.80} is none of {', '.join(PREPROCESSORS)}")
    return PREPROCESSORS[name]


def _rows(a: Array) -> Array:
    """(N, C, H, W) or (N, D) as rows in memory order, (N, D): a view of channels-last images."""
    return a if a.ndim == 2 else a.transpose(0, 2, 3, 1).reshape(len(a), math.prod(a.shape[1:]))


def _row(a: Array, shape: Shape) -> Array:
    """A number for each channel or pixel as a row for samples of `shape`."""
    return _rows(np.broadcast_to(a.reshape(a.shape + (1,) * (len(shape) - a.ndim)), shape)[None])[0]
