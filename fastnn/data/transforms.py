"""Augmentation and preparation of images, a whole batch at a time.

A transform is called with images (N, C, H, W) or one image (C, H, W), float32 or float64, and returns a Tensor of that
dtype; called with labels too, it returns both. Random transforms draw for each image anew, from `generator` (a seed, a
NumPy generator, or None for fastnn's own, `manual_seed`): the same generator gives the same images. Gradients do not
pass. A subclass defines `apply`, for images alone, or `mix`, if labels change too.

Names, arguments and formulae are torchvision's, where it has the transform. Three things are always so here: between
pixels the image is bilinear, without a filter before it shrinks (``antialias=False``); `fill`, what lies outside, is
one number; colours lie from 0 to 1. ArgumentError for arguments out of range."""
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from inspect import signature
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, cast, dataclass_transform

import numpy as np

from fastnn import layout
from fastnn.data.dataset import Seed, as_generator, batches_of
from fastnn.errors import ArgumentError, DTypeError, RangeError, ShapeError
from fastnn.functional import interpolate
from fastnn.functional.arguments import IntOrPair, Pair, pair
from fastnn.functional.image import MODES, affine_images, crop_and_recolour, crop_images
from fastnn.tensor import Array, Tensor, as_tensor

Numbers = float | Sequence[float]
Checked = tuple[Any, str, Any]  # whether an argument is good, what it must be, how it is understood
LARGEST = 1e9  # number that is taken for an argument


@dataclass_transform(eq_default=False)
class Transform:
    """Base class: a subclass defines `apply(images, rng)`, from and to float images (N, C, H, W), channels-last. Raises
    DTypeError for images that are not floating point (see `ToFloat`), ShapeError unless (N, C, H, W) or (C, H, W)."""

    joins = False  # whether Compose goes by `join`

    def __init_subclass__(cls) -> None:
        # an inherited `join` would pass over what a subclass changes
        cls.joins = "join" in vars(cls) or (cls.joins and not {"prepare", "apply", "mix"} & vars(cls).keys())
        if cls.__module__.startswith("fastnn.data.") and cls.__annotations__:  # which are the constructor's arguments
            dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        self.parsed = SimpleNamespace()  # the arguments as the checks in their annotations read them
        for field in fields(self):  # type: ignore[arg-type]
            check, *limits = getattr(field.type, "__metadata__", (None,))
            value = getattr(self, field.name)
            if check is pair:
                value = pair(value, type(self).__name__, field.name, 1)
            elif check and not (value is None and field.default is None):
                good, need, value = check(value, *limits)
                if not good:
                    raise ArgumentError(f"{type(self).__name__}: {field.name} must be {need}, but {self} came")
            setattr(self.parsed, field.name, value)

    def __repr__(self) -> str:
        names = filter(vars(self).__contains__, signature(type(self)).parameters)
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def __call__(self, images: Any, labels: Any = None, generator: Seed = None) -> Any:
        a = as_tensor(images).array
        y = None if labels is None else as_tensor(labels).array
        out, y = self.mix(self.prepare(a[None] if a.ndim in (1, 3) else a), y, as_generator(generator))
        if a.ndim in (1, 3):
            out = out[:, 0] if out.ndim == 5 else out[0]  # views come before the image
        return Tensor(out) if y is None else (Tensor(out), Tensor(y))

    def prepare(self, images: Array) -> Array:
        """The images as `apply` takes them."""
        name = type(self).__name__
        if images.dtype.char not in "fd":
            raise DTypeError(f"{name}: images must be float32 or float64, but are {images.dtype}; put ToFloat() first")
        if images.ndim != 4:
            raise ShapeError(f"{name}: images must be (N, C, H, W) or (C, H, W), got {images.shape}; views come last")
        return layout.channels_last(images.astype(images.dtype.newbyteorder("="), copy=False))

    def mix(self, images: Array, labels: Array | None, rng: np.random.Generator) -> tuple[Array, Array | None]:
        """Images and labels, transformed; here the labels stay as they are."""
        return self.apply(images, rng), labels

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        """The images (N, C, H, W), transformed; may return them themselves, but not write into them."""
        window = Window(images)
        if not self.join(window, rng):
            raise NotImplementedError(f"{type(self).__name__} does not define apply")
        return window.made()

    def join(self, window: "Window", rng: np.random.Generator) -> bool:
        """Adds this transform to what `window` will do in one pass and returns True; or draws nothing, and False, which
        a transform without `apply` may not return for a new window."""
        return False


class Window:
    """What one pass over images (N, C, H, W), float or uint8, makes of them (the kernel `image.crop`): a part of each,
    maybe mirrored, colours shifted and scaled. Transforms join it in turn; the bits are those of a pass for each."""

    def __init__(self, images: Array) -> None:
        self.images, self.dtype, self.shape = images, images.dtype, images.shape
        self.top = self.left = self.flip = cast(Any, 0)  # mirrored left and right where flip & 1, upside down where & 2
        self.mode, self.outside, self.whole = "constant", self.dtype.type(0), True  # whole: no part has been taken
        self.colours: tuple = ()  # mean and weight

    def part(self, top: Any, left: Any, size: tuple[int, int], mode: str = "constant", value: float = 0.0) -> bool:
        """The parts of `size` at these rows and columns of images that are whole; see `crop_images`."""
        (H, W), (h, w) = self.shape[2:], size
        if isinstance(self.flip, Array):  # the part of a mirrored image, as one of the image
            top, left = np.where(self.flip & 2, H - h - top, top), np.where(self.flip & 1, W - w - left, left)
        self.top, self.left = top, left
        self.mode, self.outside, self.whole, self.shape = mode, self.dtype.type(value), False, (*self.shape[:2], h, w)
        return True

    def colour(self, mean: Array, weight: Array) -> bool:
        """(x − mean)·weight, the difference in float64; (1,) or (C,)."""
        if self.colours:
            return False
        self.outside = np.subtract(self.outside, mean).astype(self.dtype) * weight.astype(self.dtype)
        self.colours = mean, weight
        return True

    def made(self) -> Array:
        """The images that come of it. Raises ShapeError if they have no pixels."""
        if 0 in self.images.shape[1:]:
            raise ShapeError(f"images must be (N, C, H, W), only N may be 0, but their shape is {self.images.shape}")
        out = layout.empty(self.shape, self.dtype, True)
        crop_and_recolour(layout.channels_last(self.images), self.top, self.left, self.flip, self.mode,
                          [self.outside, *self.colours], out)
        return out


class Compose(Transform):
    """The transforms one after another, drawing from one generator."""

    def __init__(self, transforms: list[Transform]) -> None:
        self.transforms = list(transforms)

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"

    def prepare(self, images: Array) -> Array:
        return images

    def mix(self, images: Array, labels: Array | None, rng: np.random.Generator) -> tuple[Array, Array | None]:
        window: Window | None = None
        for transform in self._flat():
            if not (window and transform.joins and transform.join(window, rng)):
                images = transform.prepare(window.made() if window else images)
                window = Window(images)
                if not (transform.joins and transform.join(window, rng)):
                    window = None
                    images, labels = transform.mix(images, labels, rng)
        return window.made() if window else images, labels

    def _flat(self) -> Iterator[Transform]:
        for transform in self.transforms:
            yield from transform._flat() if isinstance(transform, Compose) else (transform,)


class ToFloat(Transform):
    """uint8 from 0 to 255 as float32 from 0 to 1; floats as they are, or as `dtype`, which other numbers need.

    Takes features (N, D) and (D,) besides images.

    >>> ToFloat()(np.full((1, 1, 1, 2), 51, np.uint8))
    tensor([[[[0.2, 0.2]]]])"""
    dtype: Any = None

    def prepare(self, images: Array) -> Array:
        integers = images.dtype == np.uint8 or (self.dtype is not None and images.dtype.kind in "iufb")
        return images if integers or images.ndim == 2 else super().prepare(images)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        if images.dtype == np.uint8:
            out = layout.empty(images.shape, self.dtype or np.float32, images.ndim == 4)
            return np.multiply(images, out.dtype.type(1 / 255), out, dtype=out.dtype)
        images = images.astype(self.dtype or images.dtype, copy=False)
        return layout.channels_last(images) if images.ndim == 4 else layout.contiguous(images)

    def join(self, window: Window, rng: np.random.Generator) -> bool:
        dtype = np.dtype(self.dtype or np.float32)
        if window.dtype != np.uint8 or len(window.shape) != 4 or dtype.char not in "fd":
            return False
        window.dtype = dtype
        return True


# Checks of arguments, which stand in annotations -------------------------------------------------------------------

def _number(value: Any, least: float = -LARGEST, most: float = LARGEST) -> Checked:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and least <= value <= most, f"a number from {least} to {most}", value


def _int(value: Any, least: int) -> Checked:
    return isinstance(value, (int, np.integer)) and value >= least, f"an int of at least {least}", value


def _one_of(value: Any, choices: Sequence[str]) -> Checked:
    return value in choices, f"one of {', '.join(choices)}", value


def _two_parts(value: Any) -> Checked:
    return len(value) == 2 and 0 <= min(value) <= max(value) <= 1, "two numbers from 0 to 1", tuple(value)


def _interval(value: Any, least: float, most: float, middle: Any = None) -> Checked:
    """If `middle` is given, a number is how far the interval reaches from there."""
    reach = middle is not None and np.ndim(value) == 0
    try:
        low, high = map(float, (max(middle - value, least), middle + value) if reach else value)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    need = f"an interval within {least} to {most}" + f", or how far it reaches from {middle}" * (middle is not None)
    return least <= low <= high <= most, need, (low, high)


def _shears(value: Any) -> Checked:
    """An interval along x and one along y."""
    along = (value[:2], value[2:]) if np.size(value) == 4 else (value, (0, 0))
    good, need, intervals = zip(*(_interval(part, -89, 89, 0) for part in along), strict=True)
    return all(good), need[0], intervals


def _per_channel(value: Any, divisor: bool) -> Checked:
    """A divisor is understood as the factor 1 / value."""
    a = np.atleast_1d(value)
    good = a.ndim == 1 and a.dtype.kind in "iuf" and np.isfinite(a).all() and not (divisor and a.min(initial=1) <= 0)
    return good, "finite, std > 0, numbers or one for each channel", good and (1 / a if divisor else a)


def _filling(value: Any) -> Checked:
    """None stands for "random"."""
    good = np.ndim(value) < 2 and np.asarray(value).dtype.kind in "iuf"
    return good or str(value) == "random", 'a number, one for each channel, or "random"', value if good else None


def _sides(value: Any) -> Checked:
    """Padding on the left, at the top, on the right, at the bottom."""
    sides = tuple(value) if isinstance(value, Sequence) else (value,)
    good = len(sides) in (1, 2, 4) and all(isinstance(n, (int, np.integer)) and 0 <= n < 2**28 for n in sides)
    return good, "an int >= 0, (width, height) or (left, top, right, bottom)", good and sides * (4 // len(sides))


Number = Annotated[float, _number]
Probability = Annotated[float, _number, 0, 1]
Deviation = Annotated[float, _number, 0]
Size = Annotated[IntOrPair, pair]
Padding = Annotated[int | Sequence[int], _sides]
Degrees = Annotated[Numbers, _interval, -LARGEST, LARGEST, 0]
Factor = Annotated[Numbers, _interval, 0, LARGEST, 1]
Parts = Annotated[tuple[float, float], _interval, 0, 1]
Ratio = Annotated[tuple[float, float], _interval, 1 / LARGEST, LARGEST]


# What transforms share ---------------------------------------------------------------------------------------------

def _need(condition: Any, transform: Transform, need: str, error: type[Exception] = ArgumentError) -> None:
    if not condition:
        raise error(f"{transform}: {need}")


def _padded(transform: Any, images: Array | Window) -> tuple[int, int]:
    """Height and width of the images with the transform's padding; ShapeError if its size does not fit in."""
    (h, w), (left, top, right, bottom) = transform.parsed.size, transform.parsed.padding
    H, W = images.shape[2] + top + bottom, images.shape[3] + left + right
    _need(h <= H and w <= W, transform, f"images {images.shape} are {H}x{W} padded, too small for the crop", ShapeError)
    return H, W


def _mirrored(images: Array, flip: int) -> Array:
    """Mirrored left and right if flip & 1, upside down if flip & 2."""
    return crop_images(Tensor(images), 0, 0, images.shape[2:], flip).array


def _rows(images: Array) -> Array:
    """Channels-last images as (N, H, W, C), sharing memory, in C order."""
    return images.transpose(0, 2, 3, 1)


def _boxes(top: Array, left: Array, bottom: Array, right: Array, H: int, W: int) -> Array:
    """Which pixels, (…, H, W), lie in boxes whose corners are (…)."""
    i, j = np.arange(H), np.arange(W)
    rows, columns = (i >= top[..., None]) & (i < bottom[..., None]), (j >= left[..., None]) & (j < right[..., None])
    return rows[..., None] & columns[..., None, :]


def _drawn_sizes(n: int, H: int, W: int, least: int, transform: Any, rng: np.random.Generator) -> tuple[Array, ...]:
    """Whether one of ten tries is good, for each of n images, and the first that is: √(a·r) and √(a / r), rounded; a,
    part of H·W, is uniform in `scale`, r log-uniform in `ratio`. Good is from `least` to less than H or W + least."""
    (low, high), (narrow, wide) = transform.parsed.scale, transform.parsed.ratio
    a = H * W * rng.uniform(low, high, (n, 10))
    r = np.exp(rng.uniform(math.log(narrow), math.log(wide), (n, 10)))
    h, w = (np.rint(np.sqrt(area)).astype(np.int64) for area in (a * r, a / r))
    good = (least <= h) & (h < H + least) & (least <= w) & (w < W + least)
    first = np.arange(n), good.argmax(1)
    return good[first], h[first], w[first]


# Values ------------------------------------------------------------------------------------------------------------

class Normalize(Transform):
    """(x − mean) / std, numbers or one for each channel; ShapeError if there are not as many.

    >>> Normalize(0.5, (0.5, 0.25))(fastnn.ones(2, 1, 1)).flatten()
    tensor([1., 2.])"""
    mean: Annotated[Numbers, _per_channel, False]
    std: Annotated[Numbers, _per_channel, True]

    def join(self, window: Window, rng: np.random.Generator) -> bool:
        mean, weight, C = self.parsed.mean, self.parsed.std, window.shape[1]
        _need({len(mean), len(weight)} <= {1, C}, self, f"mean and std are not those of {C} channels", ShapeError)
        return window.colour(mean, weight)


def _grey(rows: Array) -> Array:
    """0.299 R + 0.587 G + 0.114 B of (N, H, W, 3), as (N, H, W, 1)."""
    if rows.shape[3] == 1:
        return rows
    r, g, b = (rows[..., c : c + 1] for c in range(3))
    return 0.299 * r + 0.587 * g + 0.114 * b


def _blend(rows: Array, other: Any, factor: Array) -> Array:
    """factor·rows + (1 − factor)·other, cut off at 0 and 1."""
    out = rows * factor
    out += (1 - factor) * other
    return np.clip(out, 0, 1, out)


def _turn_hue(rows: Array, shift: Array) -> Array:
    """The hue, from 0 to 1 around the circle of colours, moved by `shift`; brightest and darkest channel stay."""
    r, g, b = planes = np.ascontiguousarray(rows.transpose(3, 0, 1, 2))
    high, low = planes.max(0), planes.min(0)
    span = high - low
    step = np.where(span > 0, span, 1)
    hue = np.where(high == r, (g - b) / step, np.where(high == g, 2 + (b - r) / step, 4 + (r - g) / step)) / 6
    out = np.empty_like(rows)
    for c in range(3):  # a channel is brightest within a sixth of the circle around its own hue, darkest beyond a third
        away = hue + (shift[..., 0] - c / 3)
        away = np.abs(away - np.rint(away)) * 6
        out[..., c] = low + span * np.clip(2 - away, 0, 1)
    return np.clip(out, 0, 1, out)


class ColorJitter(Transform):
    """Brightness, contrast, saturation and hue of images from 0 to 1, changed by factors f drawn for each image:

        brightness  f·x                        contrast  f·x + (1 − f)·mean of the image's grey
        saturation  f·x + (1 − f)·grey         hue       moved by f around the circle of HSV

    each cut off at 0 and 1; grey = 0.299 R + 0.587 G + 0.114 B. f is uniform in [max(0, 1 − v), 1 + v], for hue in
    [−v, v], v ≤ ½, or in the interval given. The order of the four is drawn for each batch. Images of one channel
    have brightness and contrast only; ShapeError for other numbers than 1 and 3."""
    brightness: Factor = 0
    contrast: Factor = 0
    saturation: Factor = 0
    hue: Annotated[Numbers, _interval, -0.5, 0.5, 0] = 0

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        rows, colours = _rows(images), images.shape[1]
        _need(colours in (1, 3), self, f"images must have 1 or 3 channels, got {images.shape}", ShapeError)
        ranges = [*vars(self.parsed).values()]
        for k in rng.permutation(4):
            low, high = ranges[k]
            if low == high == (k < 3):  # changes nothing
                continue
            f = rng.uniform(low, high, (len(rows), 1, 1, 1)).astype(rows.dtype)
            if k == 0:
                rows = _blend(rows, 0, f)
            elif k == 1:
                rows = _blend(rows, _grey(rows).mean((1, 2, 3), np.float64, keepdims=True).astype(rows.dtype), f)
            elif colours == 3:
                rows = _blend(rows, _grey(rows), f) if k == 2 else _turn_hue(rows, f)
        return rows.transpose(0, 3, 1, 2)


class PCAColor(Transform):
    """Adds Σₖ αₖ·λₖ·vₖ to all pixels of an image, αₖ ~ N(0, sigma²) drawn for each image: λₖ and vₖ, given or found by
    `fit`, are the eigenvalues, (C,), and eigenvectors, the columns of (C, C), of the covariance of all pixels' colours
    (Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks")."""
    eigenvalues: Any = None
    eigenvectors: Any = None
    sigma: Deviation = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        shapes = np.shape(self.eigenvalues), np.shape(self.eigenvectors)
        _need(shapes == ((), ()) or (len(shapes[0]) == 1 and shapes[1] == shapes[0] * 2), self,
              "eigenvalues must be (C,), eigenvectors (C, C)")

    def fit(self, data: Any) -> "PCAColor":
        """Sets them from images (N, C, H, W), uint8 too, a dataset or batches, x or (x, …), of them; returns itself."""
        n, sums, products = 0, 0.0, 0.0
        for batch in batches_of(data, 256):  # a copy of all in float64 would be large
            a = as_tensor(batch).array
            _need(a.ndim == 4 and a.size, self, f"fit needs images (N, C, H, W), got {a.shape}", ShapeError)
            pixels = a.transpose(0, 2, 3, 1).reshape(-1, a.shape[1]) / (255 if a.dtype == np.uint8 else 1.0)
            n, sums = n + len(pixels), sums + pixels.sum(0, np.float64)
            products = products + np.einsum("pi,pj->ij", pixels, pixels, dtype=np.float64)
        _need(n, self, "fit needs images, got none")
        self.eigenvalues, self.eigenvectors = np.linalg.eigh(products / n - np.outer(sums / n, sums / n))
        return self

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        _need(self.eigenvalues is not None, self, "needs fit, or eigenvalues and eigenvectors")
        values, vectors, (N, C, H, W) = np.asarray(self.eigenvalues), np.asarray(self.eigenvectors), images.shape
        _need(len(values) == C, self, f"eigenvalues are not those of {C} channels", ShapeError)
        alpha = rng.normal(0, self.sigma, (N, C))
        shift = (alpha[:, None] * values * vectors).sum(2).astype(images.dtype)  # (N, C)
        out = _rows(images).reshape(N, H, W * C) + np.tile(shift[:, None], W)  # NumPy's loops are rows
        return out.reshape(N, H, W, C).transpose(0, 3, 1, 2)


class GaussianNoise(Transform):
    """x + mean + sigma·N(0, 1), drawn for each element, cut off at 0 and 1 if `clip`."""
    mean: Number = 0.0
    sigma: Deviation = 0.1
    clip: bool = True

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        rows = _rows(images)
        out = rng.standard_normal(rows.shape, rows.dtype)
        out *= self.sigma
        out += self.mean
        out += rows
        return (np.clip(out, 0, 1, out) if self.clip else out).transpose(0, 3, 1, 2)


# Parts erased ------------------------------------------------------------------------------------------------------

class RandomErasing(Transform):
    """With probability p a rectangle becomes `value`: a number, one for each channel, or "random" for N(0, 1).

    Its part of the area is uniform in `scale`, height / width log-uniform in `ratio`; the first of ten tries that is
    smaller than the image counts, or nothing is erased (Zhong et al. 2017, "Random erasing data augmentation")."""
    p: Probability = 0.5
    scale: Parts = (0.02, 0.33)
    ratio: Ratio = (0.3, 3.3)
    value: Annotated[Numbers | str, _filling] = 0.0

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        N, C, H, W = images.shape
        chosen = rng.random(N) < self.p
        good, h, w = _drawn_sizes(N, H, W, 0, self, rng)
        top, left = rng.integers(0, np.maximum(H - h, 0) + 1), rng.integers(0, np.maximum(W - w, 0) + 1)
        erased = _boxes(top, left, top + h * (good & chosen), left + w, H, W)
        rows = _rows(images).copy()
        if self.parsed.value is None:
            rows[erased] = rng.standard_normal((erased.sum(), C), rows.dtype)
        else:
            _need(np.size(self.value) in (1, C), self, f"value is not one for each of {C} channels", ShapeError)
            rows[erased] = self.value
        return rows.transpose(0, 3, 1, 2)


class Cutout(Transform):
    """Sets `n_holes` rectangles of `size` to 0; their centres are uniform over the image, which cuts them off (DeVries
    and Taylor 2017, "Improved regularization of convolutional neural networks with cutout")."""
    size: Size
    n_holes: Annotated[int, _int, 0] = 1

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        (N, _, H, W), (h, w) = images.shape, self.parsed.size
        top, left = (rng.integers(0, n, (N, self.n_holes)) - size // 2 for n, size in ((H, h), (W, w)))
        rows = _rows(images).copy()
        rows[_boxes(top, left, top + h, left + w, H, W).any(1)] = 0
        return rows.transpose(0, 3, 1, 2)


# Geometry ----------------------------------------------------------------------------------------------------------

class RandomHorizontalFlip(Transform):
    """Each image mirrored left and right with probability p.

    >>> RandomHorizontalFlip(1.0)(fastnn.arange(3.0).view(1, 1, 3)).tolist()
    [[[2.0, 1.0, 0.0]]]"""
    p: Probability = 0.5
    flip: ClassVar[int] = 1

    def join(self, window: Window, rng: np.random.Generator) -> bool:
        window.flip = window.flip ^ self.flip * (rng.random(window.shape[0]) < self.p)
        return True


class RandomVerticalFlip(RandomHorizontalFlip):
    """Each image turned upside down with probability p."""
    flip = 2


class RandomCrop(Transform):
    """A part of `size` of each image, which is padded first; every place is as likely. ShapeError if there is none.

    `padding` is an int, (width, height) or (left, top, right, bottom). `padding_mode` is "constant" (`fill`), "edge",
    "reflect", or "symmetric", which repeats the border's pixels."""
    size: Size
    padding: Padding = 0
    padding_mode: Annotated[str, _one_of, tuple(MODES)] = "constant"
    fill: Number = 0.0

    def join(self, window: Window, rng: np.random.Generator) -> bool:
        if not window.whole:
            return False
        (H, W), (h, w), (left, top, _, _) = _padded(self, window), self.parsed.size, self.parsed.padding
        i, j = (rng.integers(0, n + 1, window.shape[0]) for n in (H - h, W - w))
        return window.part(i - top, j - left, (h, w), self.padding_mode, self.fill)


def _middle(n: int, size: int) -> int:
    """Where a part of `size` in the middle of n pixels begins, as torchvision rounds it."""
    return round((n - size) / 2) if n >= size else -((size - n) // 2)


class CenterCrop(Transform):
    """The part of `size` in the middle; what an image lacks is 0."""
    size: Size

    def join(self, window: Window, rng: np.random.Generator) -> bool:
        (H, W), (h, w) = window.shape[2:], self.parsed.size
        return window.whole and window.part(_middle(H, h), _middle(W, w), (h, w))


def _resized(images: Array, top: Any, left: Any, h: Any, w: Any, size: Pair) -> Array:
    """The parts (h, w) of images, ints or one for each, at another size."""
    theta = np.stack(np.broadcast_arrays(w / size[1], 0, left, 0, h / size[0], top), -1)
    return affine_images(Tensor(images), theta.reshape(*theta.shape[:-1], 2, 3), size, "edge").array


class Resize(Transform):
    """The image at another size, (height, width); an int is that of the shorter side, the longer keeps the ratio.

    Bilinear, as PyTorch's interpolate with ``align_corners=False``."""
    size: Size

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        (H, W), size = images.shape[2:], self.size
        if not isinstance(size, Sequence):
            size = (size, int(size * W / H)) if H <= W else (int(size * H / W), size)
        h, w = pair(size, "Resize", "size", 1)
        return _resized(images, 0, 0, H, W, (h, w))


class RandomResizedCrop(Transform):
    """A part of each image at another size: its part of the area is uniform in `scale`, width / height log-uniform in
    `ratio`, the first of ten tries that fits, or else the middle of the image at the nearest ratio; its place is
    uniform. At its border the part is interpolated with what is around it in the image (Szegedy et al. 2015)."""
    size: Size
    scale: Parts = (0.08, 1.0)
    ratio: Ratio = (3 / 4, 4 / 3)

    def boxes(self, n: int, H: int, W: int, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
        """Top, left, height and width, (n,) each, in pixels, drawn for n images."""
        good, w, h = _drawn_sizes(n, W, H, 1, self, rng)
        least, most = self.ratio  # without a fit the image's own, or the nearest of these two
        h = np.where(good, h, max(1, round(W / least)) if least * H > W else H)
        w = np.where(good, w, max(1, round(H * most)) if most * H < W else W)
        top, left = rng.integers(0, H - h + 1), rng.integers(0, W - w + 1)
        return np.where(good, top, (H - h) // 2), np.where(good, left, (W - w) // 2), h, w

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        top, left, h, w = self.boxes(len(images), images.shape[2], images.shape[3], rng)
        return _resized(images, top, left, h, w, self.parsed.size)


def _turned(images: Array, clockwise: Any, fill: float, shift: Any = 0.0, scale: Any = 1.0,
            shear: Array | None = None) -> Array:
    """Each image turned by degrees (N,) after shearing along x and y by degrees (N, 2), scaled by (N,), both about its
    middle, then shifted by pixels (N, 2): output = R(clockwise)·Sy·Sx·scale·input, whose inverse is sampled."""
    angle = np.radians(clockwise)[:, None]
    x, y = (np.tan(np.radians(a))[:, None] for a in (np.zeros((2, len(images))) if shear is None else shear.T))
    across = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    down = np.concatenate([-np.sin(angle), np.cos(angle)], 1) + y * across
    inverse = np.stack([across + x * down, down], 1) / np.reshape(scale, (-1, 1, 1))  # (N, 2, 2)
    middle = np.array([images.shape[3] / 2, images.shape[2] / 2])
    offset = middle - (inverse * (middle + shift)[..., None, :]).sum(2)
    theta = np.concatenate([inverse, offset[..., None]], 2)
    return affine_images(Tensor(images), theta, images.shape[2:], value=fill).array


class RandomRotation(Transform):
    """Each image turned anticlockwise about its middle by an angle uniform in `degrees`: [a, b], or v for [−v, v]."""
    degrees: Degrees
    fill: Number = 0.0

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        low, high = self.parsed.degrees
        return _turned(images, -rng.uniform(low, high, len(images)), self.fill)


class RandomAffine(Transform):
    """Each image turned clockwise, shifted, scaled and sheared about its middle, all drawn uniformly: the angle from
    `degrees`; shifts along x and y up to the parts `translate` of width and height, whole pixels; a factor, `scale`;
    degrees of shearing from `shear`: v for [−v, v] along x, an interval along x, or four numbers for x and y."""
    degrees: Degrees
    translate: Annotated[tuple[float, float] | None, _two_parts] = None
    scale: Annotated[tuple[float, float] | None, _interval, 1 / LARGEST, LARGEST] = None
    shear: Annotated[Numbers | None, _shears] = None
    fill: Number = 0.0

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        (N, _, H, W), of = images.shape, self.parsed
        (low, high), (least, most) = of.degrees, of.scale or (1, 1)
        angle = rng.uniform(low, high, N)
        shift = np.rint(rng.uniform(-1, 1, (N, 2)) * (of.translate or (0.0, 0.0)) * (W, H))
        scale = rng.uniform(least, most, N)
        shear = np.stack([rng.uniform(low, high, N) for low, high in of.shear or ((0, 0), (0, 0))], 1)
        return _turned(images, angle, self.fill, shift, scale, shear)


def resize(images: Tensor | np.ndarray, size: int | tuple[int, int]) -> Tensor:
    """Bilinear interpolation of images (N, C, H, W), floating point, to (N, C, *size); no gradient.

    Output row i lies at input row (i + ½) · H / oH − ½, cut off at 0 and H − 1 (PyTorch's ``align_corners=False``)."""
    return interpolate(as_tensor(images).detach(), size, mode="bilinear")


# Labels change -----------------------------------------------------------------------------------------------------

class _Mixture(Transform):
    alpha: Annotated[float, _number, 1 / LARGEST]
    num_classes: Annotated[int, _int, 1]
    pair: ClassVar[Callable]  # (images, partner, part, rng): images mixed with images[partner], the part of their own

    def mix(self, images: Array, labels: Array | None, rng: np.random.Generator) -> tuple[Array, Array | None]:
        _need(labels is not None, self, "needs labels")
        y: Any = labels
        n, classes = len(images), self.num_classes
        if y.shape != (n, classes) or y.dtype.kind != "f":
            if y.shape != (n,) or y.dtype.kind not in "iu":
                need = f"({n},) ints or ({n}, {classes}) probabilities"
                raise ShapeError(f"{self}: labels must be {need}, got {y.shape} {y.dtype}")
            if (wrong := y[(y < 0) | (y >= classes)]).size:
                raise RangeError(f"{self}: label {wrong[0]} is out of range for {classes} classes")
            y = y[:, None] == np.arange(classes)
        y = y.astype(images.dtype)
        part, partner = rng.beta(self.alpha, self.alpha), rng.permutation(len(images))
        images, part = self.pair(images, partner, part, rng)
        return images, images.dtype.type(part) * y + images.dtype.type(1 - part) * y[partner]


class MixUp(_Mixture):
    """λ·x + (1 − λ)·another image of the batch, and likewise their labels, (N,) ints or probabilities, which become
    probabilities (N, num_classes) of the images' dtype; λ ~ Beta(alpha, alpha) and the pairs, a permutation, are drawn
    for each batch (Zhang et al. 2018, "mixup: beyond empirical risk minimization"). RangeError for labels out of range.

    >>> MixUp(0.2, 2)(fastnn.ones(2, 1, 1, 1), [0, 1])[1].sum().item()
    2.0"""
    def pair(self, images: Array, partner: Array, part: float, rng: np.random.Generator) -> tuple[Array, float]:
        out = _rows(images)[partner]
        out *= 1 - part
        out += _rows(images) * images.dtype.type(part)
        return out.transpose(0, 3, 1, 2), part


class CutMix(_Mixture):
    """A rectangle of each image from another image of the batch, labels mixed by area; otherwise as `MixUp` (Yun et al.
    2019, "CutMix"). One rectangle is drawn for each batch: its sides are √(1 − λ) of the image's, its centre is
    uniform, the image cuts it off; then λ is the part of the area that is left."""
    def pair(self, images: Array, partner: Array, part: float, rng: np.random.Generator) -> tuple[Array, float]:
        H, W = images.shape[2:]
        (top, bottom), (left, right) = (
            (max(middle - half, 0), min(middle + half, n)) for n in (H, W)
            for middle, half in [(int(rng.integers(n)), int(0.5 * math.sqrt(1 - part) * n))])
        out = _rows(images).copy()
        out[:, top:bottom, left:right] = _rows(images)[partner, top:bottom, left:right]
        return out.transpose(0, 3, 1, 2), 1 - (bottom - top) * (right - left) / (H * W)


# Views, for averages at test time ----------------------------------------------------------------------------------

class View(Transform):
    """Base class of what shows every image V times: the result is (V, N, C, h, w), of one image (V, C, h, w), so that
    predictions can be averaged over the first axis. It must be the last transform; labels stay as they are."""

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        views = [_rows(view) for view in self.views(images)]
        out = layout.empty((len(views), *views[0].shape), images.dtype)
        return np.stack(views, out=out).transpose(0, 1, 4, 2, 3)

    def views(self, images: Array) -> list[Array]:
        """The V arrays (N, C, h, w)."""
        raise NotImplementedError(f"{type(self).__name__} does not define views")


class FiveCrop(View):
    """The parts of `size` at the corners (top left, top right, bottom left, bottom right) and in the middle: V = 5, of
    images padded with 0 by an int, (width, height) or (left, top, right, bottom). ShapeError if they are too small."""
    size: Size
    padding: Padding = 0

    def views(self, images: Array) -> list[Array]:
        (H, W), (h, w), (left, top, _, _) = _padded(self, images), self.parsed.size, self.parsed.padding
        if images.shape[2:] != (H, W):
            images = crop_images(Tensor(images), -top, -left, (H, W)).array
        corners = [(0, 0), (0, W - w), (H - h, 0), (H - h, W - w), (_middle(H, h), _middle(W, w))]
        return [images[:, :, i : i + h, j : j + w] for i, j in corners]


class TenCrop(FiveCrop):
    """The five parts of `FiveCrop`, then those of the image mirrored left and right, or upside down: V = 10."""
    vertical_flip: bool = False

    def views(self, images: Array) -> list[Array]:
        return super().views(images) + super().views(_mirrored(images, 2 if self.vertical_flip else 1))


class FlipViews(View):
    """The images, and mirrored left and right: V = 2; if `vertical`, then both upside down: V = 4."""
    vertical: bool = False

    def views(self, images: Array) -> list[Array]:
        return [images, *(_mirrored(images, flip) for flip in ((1, 2, 3) if self.vertical else (1,)))]


# By name -----------------------------------------------------------------------------------------------------------

# name: the value if none is given, and what makes the transform of it, the images' (H, W) and the number of classes
NAMED: dict[str, tuple[float, Callable[[Any, Pair, int], Transform]]] = {
    "flip": (0.5, lambda p, size, n: RandomHorizontalFlip(p)), "vflip": (0.5, lambda p, size, n: RandomVerticalFlip(p)),
    "crop": (4, lambda padding, size, n: RandomCrop(size, padding)),
    "resized-crop": (0.08, lambda least, size, n: RandomResizedCrop(size, (least, 1.0))),
    "rotate": (15, lambda degrees, size, n: RandomRotation(degrees)),
    "jitter": (0.4, lambda v, size, n: ColorJitter(v, v, v)), "hue": (0.1, lambda v, size, n: ColorJitter(hue=v)),
    "pca-color": (0.1, lambda sigma, size, n: PCAColor(sigma=sigma)),
    "noise": (0.05, lambda sigma, size, n: GaussianNoise(0, sigma)),
    "cutout": (8, lambda pixels, size, n: Cutout(pixels)), "erase": (0.5, lambda p, size, n: RandomErasing(p)),
    "mixup": (0.2, lambda alpha, size, n: MixUp(alpha, n)), "cutmix": (1, lambda alpha, size, n: CutMix(alpha, n))}


def number_of(text: str) -> float:
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        raise ArgumentError("its value must be a number") from None


def from_text(text: str, image_shape: Sequence[int], num_classes: int) -> Compose:
    """The transforms that a list of names means, for float images of shape (C, H, W), in its order.

    flip, vflip, erase: with probability; crop: of the image's size, padded by pixels; resized-crop: the least part of
    the area; rotate: up to degrees; jitter: of brightness, contrast and saturation; hue: alone; pca-color (to be
    fitted), noise: sigma; cutout: pixels; mixup, cutmix: alpha. All keep the shape. ArgumentError for anything else.

    >>> from_text("flip,crop=2", (3, 32, 32), 10)
    Compose([RandomHorizontalFlip(p=0.5), RandomCrop(size=(32, 32), padding=2, padding_mode='constant', fill=0.0)])"""
    _, H, W = image_shape
    transforms: list[Transform] = []
    for item in text.split(",") if text.strip() else []:
        name, equals, given = (part.strip() for part in item.partition("="))
        if name not in NAMED:
            raise ArgumentError(f"augmentation {name!r} is not known; known are {', '.join(NAMED)}, each with =value")
        value, make = NAMED[name]
        try:
            transforms.append(make(number_of(given) if equals else value, (H, W), num_classes))
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"augmentation {item.strip()!r}: {error}") from error
    return Compose(transforms)


def views_from_text(text: str, image_shape: Sequence[int]) -> View:
    """The views of images (C, H, W) that a name means: flip, vflip, or the crops of the image's size out of the image
    padded by as many pixels as the number behind five-crop= or ten-crop= says. ArgumentError for anything else.

    >>> views_from_text("ten-crop=2", (3, 32, 32))
    TenCrop(size=(32, 32), padding=2, vertical_flip=False)"""
    match = re.fullmatch(r"(v?)flip|(five|ten)-crop=(\d+)", text.strip())
    if not match:
        raise ArgumentError(f"views must be flip, vflip, five-crop=PIXELS or ten-crop=PIXELS, got {text!r}")
    (vertical, kind, padding), (_, H, W) = match.groups(), image_shape
    if kind is None:
        return FlipViews(vertical == "v")
    if int(padding) > max(H, W):
        raise ArgumentError(f"views {text!r} shift images of {H}x{W} pixels out of sight")
    return (FiveCrop if kind == "five" else TenCrop)((H, W), int(padding))


def views_like(augmentation: str, image_shape: Sequence[int]) -> View:
    """Views of images (C, H, W) like what the augmentation (see `from_text`, also for errors) makes of them: mirrored
    if it flips, shifted by half of what its crops reach to, their mean; by a 16th of the side where it does neither.

    >>> views_like("flip,crop=4,cutout", (3, 32, 32)), views_like("flip", (3, 32, 32)), views_like("", (1, 28, 28))
    (TenCrop(size=(32, 32), padding=2, vertical_flip=False), FlipViews(vertical=False), FiveCrop(size=(28, 28), ...))"""
    made: dict[type, Any] = {type(part): part for part in from_text(augmentation, image_shape, 1).transforms}
    flips, crop = RandomHorizontalFlip in made, made.get(RandomCrop)
    if flips and not crop and RandomResizedCrop not in made:
        return FlipViews()
    reach = crop.padding if crop else min(image_shape[1:]) // 8
    return views_from_text(f"{'ten' if flips else 'five'}-crop={max(1, reach // 2)}", image_shape)
