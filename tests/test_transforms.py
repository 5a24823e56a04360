"""Transforms of images and their kernels, against direct loops, Pillow, and the distributions they are to draw from."""

import colorsys
import itertools

import numpy as np
import pytest
from harness import close

import fastnn
from fastnn import backend, layout
from fastnn.data import resize
from fastnn.data.preprocess import ChannelMean, Standardize
from fastnn.data.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    CutMix,
    Cutout,
    FiveCrop,
    FlipViews,
    GaussianNoise,
    MixUp,
    Normalize,
    PCAColor,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    TenCrop,
    ToFloat,
    Transform,
    View,
    from_text,
    views_from_text,
    views_like,
)
from fastnn.errors import ArgumentError, DTypeError, RangeError, ShapeError
from fastnn.nn import functional as F

PCA = PCAColor((0.01, 0.02, 0.2), np.eye(3)[::-1])
SINGLE = [
    Normalize((0.5, 0.4, 0.3), 0.2), RandomHorizontalFlip(0.4), RandomVerticalFlip(0.6), RandomCrop((9, 7)),
    RandomCrop((16, 13), (2, 3), "reflect"), RandomCrop(12, (1, 0, 5, 2), fill=0.5), CenterCrop((8, 5)),
    Resize((17, 9)), RandomResizedCrop((8, 10)), RandomRotation(40),
    RandomAffine(20, (0.2, 0.1), (0.8, 1.3), (-5, 5, 3, 9), 0.5),
    ColorJitter(0.4, (0.5, 1.1), 0.3, 0.2), PCA, GaussianNoise(0.1, 0.2), RandomErasing(0.7),
    RandomErasing(0.7, value="random"), RandomErasing(1, value=(0.1, 0.2, 0.3)), Cutout((4, 5), 2), ToFloat(),
    FiveCrop(8), TenCrop((9, 8), 1, True), FlipViews(True),
]  # fmt: skip
FIXED = (Normalize, CenterCrop, Resize, ToFloat, View)
MIXED = [MixUp(0.4, 5), CutMix(1.0, 5)]
ALL = pytest.mark.parametrize("transform", [*SINGLE, *MIXED], ids=repr)


@pytest.fixture
def images(rng):
    return layout.channels_last(rng.random((64, 3, 18, 15), np.float32) * 0.8 + 0.1)


def call(transform, images, seed=0):
    """Images and labels as arrays."""
    out, labels = transform(images, np.arange(len(images)) % 5, generator=seed)
    return out.numpy(), labels.numpy()


def pixels(H, W, n=1):
    """Images whose channels are the row and the column of each pixel, and 1."""
    one = np.stack([*np.indices((H, W)), np.ones((H, W))]).astype(np.float64)
    return np.repeat(one[None], n, 0)


# Kernels -----------------------------------------------------------------------------------------------------------

def walk(i, n, mode):
    """The pixel shown at i by going back at the borders, or None."""
    while not 0 <= i < n:
        if mode == "constant":
            return None
        if mode == "edge":
            return 0 if i < 0 else n - 1
        back = 0 if mode == "reflect" else 1
        i = 0 if n == 1 else -i - back if i < 0 else 2 * n - 2 + back - i
    return i


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("shape, size", [
    ((4, 3, 5, 4), (9, 13)), ((4, 1, 4, 7), (3, 5)), ((4, 5, 1, 1), (2, 3)), ((40, 3, 2, 1), (3, 2))])  # fmt: skip
def test_crop_equals_loops(rng, shape, size, mode):
    N, _, H, W = shape
    for dtype in np.float32, np.float64:
        x = rng.standard_normal(shape).astype(dtype)
        top, left, flip = *rng.integers(-2 * max(H, W), 2 * max(H, W) + 1, (2, N)), np.arange(N) % 4
        want = np.full((*shape[:2], *size), 0.5, dtype)
        for n, i, j in np.ndindex(N, *size):
            row = walk(top[n] + (size[0] - 1 - i if flip[n] & 2 else i), H, mode)
            column = walk(left[n] + (size[1] - 1 - j if flip[n] & 1 else j), W, mode)
            if row is not None and column is not None:
                want[n, :, i, j] = x[n, :, row, column]
        y = F.crop_images(fastnn.from_numpy(x), top, left, size, flip, mode, 0.5).numpy()
        assert layout.is_channels_last(y)
        close(y, want, tol=0)


def test_crop_by_hand():
    x = fastnn.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])
    assert F.crop_images(x, 1, 1, (2, 3), value=9).tolist() == [[[[5, 6, 9], [9, 9, 9]]]]
    assert F.crop_images(x, 1, 1, (2, 3), 1, value=9).tolist() == [[[[9, 6, 5], [9, 9, 9]]]]
    assert F.crop_images(x, -1, -1, (2, 3), 2, "edge").tolist() == [[[[1, 1, 2], [1, 1, 2]]]]
    assert F.crop_images(x, 0, -3, (1, 9), 0, "reflect").tolist() == [[[[2, 3, 2, 1, 2, 3, 2, 1, 2]]]]
    assert F.crop_images(x, 0, -3, (1, 9), 0, "symmetric").tolist() == [[[[3, 2, 1, 1, 2, 3, 3, 2, 1]]]]


def test_offsets_far_outside():
    """2⁶³ − 1 is 3 modulo 4 and 1 modulo 6, −2⁶³ is 0 and 4."""
    x = fastnn.tensor([[[[1.0, 2, 3]]]])
    low, high = -(2**63), 2**63 - 1
    for at, constant, edge, reflect, symmetric in (low, 9, 1, [1, 2], [2, 1]), (high, 9, 3, [2, 1], [2, 3]):
        for mode, want in zip(("constant", "edge", "reflect", "symmetric"),
                              ([constant] * 2, [edge] * 2, reflect, symmetric), strict=True):  # fmt: skip
            assert F.crop_images(x, at, at, (1, 2), 0, mode, 9).tolist() == [[[want]]]


def tents(x, theta, size, mode, value):
    """Σ over all pixels of x times max(0, 1 − distance) along each axis; positions go back at the edges by walking."""
    C, H, W = x.shape

    def inside(at, n):
        while mode == "symmetric" and not 0 <= at <= n:
            at = -at if at < 0 else 2 * n - at
        return at if mode == "constant" else min(max(at, 0.5), n - 0.5)

    y = np.empty((C, *size))
    for i, j in np.ndindex(*size):
        u, v = theta @ [j + 0.5, i + 0.5, 1]
        u, v = inside(u, W), inside(v, H)
        weight = np.maximum(1 - np.abs(v - 0.5 - np.arange(H)), 0)[:, None] * np.maximum(
            1 - np.abs(u - 0.5 - np.arange(W)), 0)  # fmt: skip
        y[:, i, j] = (x * weight).sum((1, 2)) + value * (1 - weight.sum())
    return y


@pytest.mark.parametrize("mode", ["constant", "edge", "symmetric"])
@pytest.mark.parametrize("shape, size", [((5, 3, 5, 4), (7, 6)), ((5, 1, 4, 7), (3, 5)), ((5, 5, 1, 1), (2, 3))])
def test_affine_equals_loops(rng, shape, size, mode):
    theta = rng.normal([[1, 0, 0], [0, 1, 0]], 0.5, (5, 2, 3)) * (1, 1, 3)
    for dtype in np.float32, np.float64:
        x = rng.standard_normal(shape).astype(dtype)
        y = F.affine_images(fastnn.from_numpy(x), theta, size, mode, 0.5).numpy()
        assert layout.is_channels_last(y) and y.dtype == dtype
        close(y, np.stack([tents(a, t, size, mode, 0.5) for a, t in zip(x, theta, strict=True)]), dtype)


def test_affine_by_hand():
    x = fastnn.tensor([[[[1.0, 3], [5, 7]]]])
    identity = [[1, 0, 0], [0, 1, 0]]
    assert F.affine_images(x, identity, (2, 2)).tolist() == x.tolist()
    assert F.affine_images(x, [[1, 0, 0.5], [0, 1, 0]], (2, 2), value=9).tolist() == [[[[2, 6], [6, 8]]]]
    assert F.affine_images(x, [[1, 0, 0.5], [0, 1, 0]], (2, 2), "edge").tolist() == [[[[2, 3], [6, 7]]]]
    assert F.affine_images(x, [[1, 0, -1.25], [0, 1, 0]], (1, 3), "symmetric").tolist() == [[[[1.5, 1, 2.5]]]]
    assert F.affine_images(x, [[0, 1, 0], [1, 0, 0]], (2, 2)).tolist() == [[[[1, 5], [3, 7]]]]
    for mode, want in ("constant", 9), ("edge", 1), ("symmetric", 1):
        assert F.affine_images(x, [[np.nan, 0, 0], [0, 0, 0]], (1, 1), mode, 9).item() == want


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -1e300, 1e18, np.nextafter(1, 0), 5e-324])
def test_maps_that_lead_nowhere(bad):
    x = fastnn.from_numpy(np.arange(1, 7, dtype=np.float64).reshape(1, 1, 2, 3))
    for place, mode in itertools.product(np.ndindex(2, 3), ("constant", "edge", "symmetric")):
        theta = np.array([[1.0, 0, 0], [0, 1, 0]])
        theta[place] = bad
        y = F.affine_images(x, theta, (4, 5), mode, 2).numpy()
        assert np.isfinite(y).all() and 1 <= y.min() <= y.max() <= 6


def test_a_position_just_inside_the_last_pixel():
    """u + 1 would round up to the pixel beyond the image."""
    x = fastnn.from_numpy(np.ones((1, 1, 1, 1)))
    y = F.affine_images(x, [[0, 0, np.nextafter(1.5, 0)], [0, 0, 0.5]], (1, 1), value=5)
    assert y.item() == pytest.approx(5)


BYTES = layout.empty((2, 3, 4, 5), np.uint8, True)


@pytest.mark.parametrize("kernel, changes", [
    ("crop", {"top": np.zeros(3, np.int64)}), ("crop", {"left": np.zeros(2, np.int32)}),
    ("crop", {"flip": np.zeros(2, np.int64)}), ("crop", {"flip": np.zeros(4, np.uint8)[::2]}), ("crop", {"mode": 4}),
    ("crop", {"mode": -1}), ("affine", {"mode": 2}), ("affine", {"theta": np.zeros((2, 2, 3), np.float32)}),
    ("affine", {"theta": np.zeros((2, 3, 2))}), ("affine", {"theta": np.zeros((1, 2, 3))}),
    ("crop", {"x": np.zeros((2, 0, 3, 3), np.float32)}), ("affine", {"x": np.zeros((2, 3, 4, 5), np.float32)}),
    ("affine", {"x": layout.empty((2, 3, 0, 5), np.float32, True)}),
    ("crop", {"x": layout.empty((2, 3, 4, 5), np.float64, True)}), ("crop", {"x": layout.empty((2, 3), np.float32)}),
    ("crop", {"x": layout.empty((3, 3, 4, 5), np.float32, True)}), ("crop", {"x": np.zeros((2, 3, 4, 5), np.uint8)}),
    ("crop", {"table": np.zeros((2, 7, 3))}), ("crop", {"table": np.zeros((1, 6, 3))}), ("affine", {"x": BYTES}),
    ("crop", {"table": np.zeros((3, 7, 3), np.float32)}), ("crop", {"table": np.zeros((3, 7, 6))[..., ::2]}),
    ("crop", {"table": np.zeros((1, 7, 2))}), ("crop", {"table": np.zeros((7, 3))}),
    ("crop", {"x": BYTES, "y_out": layout.empty((2, 3, 6, 7), np.uint8, True)}),
], ids=str)  # fmt: skip
def test_kernels_refuse(kernel, changes):
    if backend.kernel_set == "reference":
        pytest.skip("the NumPy twins check nothing")
    values = {"x": layout.empty((2, 3, 4, 5), np.float32, True), "top": np.zeros(2, np.int64),
              "left": np.zeros(2, np.int64), "flip": np.zeros(2, np.uint8), "theta": np.zeros((2, 2, 3)), "mode": 0,
              "table": np.zeros((1, 7, 3)), "value": 0.0,
              "y_out": layout.empty((2, 3, 6, 7), np.float32, True)}  # fmt: skip
    names = ("top", "left", "flip", "mode", "table") if kernel == "crop" else ("theta", "mode", "value")
    for change in {}, changes:
        args = [(values | change)[name] for name in ("x", *names, "y_out")]
        if change:
            with pytest.raises(ValueError, match="kernel"):
                getattr(backend.image, kernel)(*args, 1)
        else:
            getattr(backend.image, kernel)(*args, 1)


@pytest.mark.parametrize("error, bad", [
    (TypeError, lambda x: F.crop_images(x.numpy(), 0, 0, 2)), (ShapeError, lambda x: F.crop_images(x[0], 0, 0, 2)),
    (DTypeError, lambda x: F.crop_images(x.long(), 0, 0, 2)), (DTypeError, lambda x: F.crop_images(x, 0.5, 0, 2)),
    (ShapeError, lambda x: F.crop_images(x, [1, 2, 3], 0, 2)), (ArgumentError, lambda x: F.crop_images(x, 0, 0, 0)),
    (ArgumentError, lambda x: F.crop_images(x, 0, 0, 2, 4)), (ArgumentError, lambda x: F.crop_images(x, 0, 0, 2, -1)),
    (ArgumentError, lambda x: F.crop_images(x, 0, 0, 2, 0, "wrap")), (TypeError, lambda x: F.affine_images(None, 0, 1)),
    (ShapeError, lambda x: F.affine_images(x, np.zeros((3, 2, 3)), 2)),
    (ShapeError, lambda x: F.affine_images(x, np.eye(3), 2)),
    (ShapeError, lambda x: F.affine_images(x[:, :0], np.zeros((2, 3)), 2)),
    (ArgumentError, lambda x: F.affine_images(x, np.zeros((2, 3)), 2, "reflect")),
])  # fmt: skip
def test_functions_refuse(error, bad):
    with pytest.raises(error, match=r"crop_images|affine_images"):
        bad(fastnn.ones(2, 3, 4, 5))


# All transforms ----------------------------------------------------------------------------------------------------

@ALL
def test_seed_decides_and_threads_do_not(transform, images):
    before = images.copy()
    results = []
    for threads in 1, 2, 3:
        fastnn.set_num_threads(threads)
        results.append([a.tobytes() for a in call(transform, images)])
    assert results[0] == results[1] == results[2]
    other = call(transform, images, seed=1)[0].tobytes()
    assert (other == results[0][0]) == isinstance(transform, FIXED)
    np.testing.assert_array_equal(images, before)


@ALL
def test_any_memory_will_do(transform, images):
    want, labels = call(transform, images)
    wide = np.zeros((64, 3, 36, 30), np.float32)
    wide[:, :, ::2, ::2] = images
    read_only = np.ascontiguousarray(images)
    read_only.flags.writeable = False
    for same in np.ascontiguousarray(images), wide[:, :, ::2, ::2], read_only, images.astype(">f4"):
        got = call(transform, same)
        np.testing.assert_array_equal(got[0], want)
        np.testing.assert_array_equal(got[1], labels)
    double, _ = call(transform, images.astype(np.float64))
    assert double.dtype == np.float64 and want.dtype == np.float32 and double.shape == want.shape
    if "random" not in repr(transform) and not isinstance(transform, GaussianNoise):  # drawn in their dtype
        close(double, want, np.float32)


@ALL
def test_channels_last_comes_out(transform, images):
    y = call(transform, images)[0]
    for view in y if isinstance(transform, View) else [y]:
        assert layout.is_channels_last(view)


@ALL
def test_empty_batch_and_one_image(transform, images):
    want, _ = call(transform, images)
    empty, labels = call(transform, images[:0])
    assert empty.size == 0 and empty.shape[-3:] == want.shape[-3:] and len(labels) == 0
    if transform in SINGLE:
        batch, single = transform(images[:1], generator=0).numpy(), transform(images[0], generator=0).numpy()
        np.testing.assert_array_equal(single, batch[..., 0, :, :, :])


@pytest.mark.parametrize("transform", [
    *SINGLE[1:3], *SINGLE[6:12], *SINGLE[13:16], *SINGLE[17:19], Normalize(0.5, 2), RandomCrop(3, 2, "reflect"),
    RandomCrop(1), FiveCrop(1), TenCrop(2, 1), FlipViews(), *MIXED], ids=repr)  # fmt: skip
def test_one_pixel(transform):
    y, _ = transform(np.full((3, 1, 1, 1), 0.5), [0, 1, 2], 0)
    assert np.isfinite(y.numpy()).all() and y.shape[-3] == 1


@ALL
def test_repr_makes_the_same(transform):
    if transform is not PCA:  # arrays print without their commas
        assert repr(eval(repr(transform))) == repr(transform)
    assert type(transform).__name__ in repr(transform)


def test_repr():
    assert repr(RandomCrop(32, padding=4)) == "RandomCrop(size=32, padding=4, padding_mode='constant', fill=0.0)"
    two = Compose([ToFloat(), RandomVerticalFlip(0.25)])
    assert repr(two) == "Compose([ToFloat(dtype=None), RandomVerticalFlip(p=0.25)])"
    assert repr(Transform()) == "Transform()"


@ALL
def test_integers_are_refused(transform, images):
    if not isinstance(transform, ToFloat):
        with pytest.raises(DTypeError, match=f"{type(transform).__name__}.*ToFloat"):
            transform((images * 255).astype(np.uint8), np.zeros(64, np.int64))
    with pytest.raises(ShapeError):
        transform(images[None])


def test_fastnn_seed_is_the_default(images):
    results = []
    for seed in 3, 3, 4:
        fastnn.manual_seed(seed)
        results.append(RandomCrop(9)(images).numpy().tobytes())
    assert results[0] == results[1] != results[2]


def test_compose(images):
    y = Compose([RandomHorizontalFlip(), RandomCrop(16, 2), Normalize(0.5, 0.25)])(images, generator=7)
    g = np.random.default_rng(7)
    want = Normalize(0.5, 0.25)(RandomCrop(16, 2)(RandomHorizontalFlip()(images, generator=g), generator=g))
    np.testing.assert_array_equal(y.numpy(), want.numpy())
    np.testing.assert_array_equal(Compose([])(images).numpy(), images)
    bytes_ = np.round(images * 255).astype(np.uint8)
    close(Compose([ToFloat(), Compose([RandomVerticalFlip(1)])])(bytes_), bytes_[:, :, ::-1] / np.float32(255))


class Halve(Transform):
    """Has a pass of its own, and returns what is neither channels-last nor contiguous."""

    def apply(self, images, rng):
        return np.repeat(images / 2, 2, 3)[..., ::2]


@pytest.mark.parametrize("dtype", [None, np.float64])
@pytest.mark.parametrize("shape", [(7, 1, 20, 18), (7, 3, 9, 27), (7, 4, 12, 11)])
def test_what_shares_a_pass_has_the_bits_of_one_after_another(rng, shape, dtype):
    """In every order, with what takes no part in between, and at any number of threads."""
    _, C, H, W = shape
    bytes_ = rng.integers(0, 256, shape, np.uint8)
    standardize = Standardize().fit(rng.random((5, *shape[1:])))
    parts = [RandomCrop((H, W), 2, fill=0.3), RandomHorizontalFlip(), RandomVerticalFlip(), CenterCrop((H - 1, W - 3)),
             RandomCrop((H - 4, W - 5), 3, "reflect"), RandomCrop(5, (3, 0), "edge"), Normalize([0.3] * C, 0.4),
             standardize, ChannelMean().fit(rng.random((2, *shape[1:]))), Halve(), ToFloat()]  # fmt: skip
    for seed in range(60):
        order = [ToFloat(dtype), *(parts[i] for i in rng.permutation(len(parts))[: 2 + seed % 6])]
        g, want = np.random.default_rng(seed), bytes_
        try:
            for transform in order:
                want, _ = transform(want, range(7), g)
        except ShapeError:  # a crop that is too large after others
            with pytest.raises(ShapeError):
                Compose(order)(bytes_, generator=seed)
            continue
        for threads in 1, 2, 3:
            fastnn.set_num_threads(threads)
            y = Compose(order)(bytes_, generator=seed).numpy()
            assert y.dtype == want.numpy().dtype
            assert y.tobytes() == want.numpy().tobytes(), order
            assert layout.is_channels_last(y) or isinstance(order[-1], Halve)


@pytest.mark.parametrize("method", ["prepare", "apply", "mix"])
def test_a_subclass_that_changes_a_method_is_heard(images, method):
    """Also inside Compose, whose passes go by `join`."""
    class Changed(RandomHorizontalFlip):
        pass

    def double(self, images, *rest):
        out = getattr(super(Subclass, self), method)(images, *rest)
        return (2 * out[0], out[1]) if method == "mix" else 2 * out

    Subclass = type("Subclass", (Changed,), {method: double})
    want = 2 * RandomHorizontalFlip(1)(images).numpy()
    np.testing.assert_array_equal(Compose([ToFloat(), Subclass(1), RandomVerticalFlip(0)])(images).numpy(), want)


def test_one_pass_is_taken(images, monkeypatch):
    calls, crop = [], backend.image.crop
    monkeypatch.setattr(backend.image, "crop", lambda *args: [calls.append(1), crop(*args)])
    parts = [ToFloat(), RandomHorizontalFlip(), RandomCrop((18, 15), 2), RandomVerticalFlip(), Normalize(0.5, 0.2)]
    Compose(parts)((images * 255).astype(np.uint8))
    assert len(calls) == 1
    Compose([Compose(parts[:3]), Cutout(3), Compose(parts[3:])])(images)
    assert len(calls) == 3
    Compose([Compose([]), Compose(parts[1:]), Compose(parts[2:])])(images)
    assert len(calls) == 5


# Values ------------------------------------------------------------------------------------------------------------

def test_normalize(rng):
    x = rng.random((3, 3, 4, 5))
    want = (x - np.reshape((0.5, 0.4, 0.3), (3, 1, 1))) / np.reshape((0.1, 0.2, 0.4), (3, 1, 1))
    close(Normalize((0.5, 0.4, 0.3), np.array([0.1, 0.2, 0.4]))(x), want)
    close(Normalize(0.5, (0.1,))(x), (x - 0.5) / 0.1)
    assert Normalize(1, 2)(np.full((1, 1, 1), 4.0)).item() == 1.5
    with pytest.raises(ShapeError, match="3 channels"):
        Normalize((0.5, 0.4), 1)(x)


def grey(pixel):
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2] if len(pixel) == 3 else pixel[0]


def jittered(x, kind, f):
    """Of one image (C, H, W), pixel by pixel."""
    y, C = np.empty_like(x), len(x)
    mean = np.mean([grey(x[:, i, j]) for i, j in np.ndindex(x.shape[1:])])
    for i, j in np.ndindex(x.shape[1:]):
        p = x[:, i, j]
        if kind == "hue" and C == 3:
            h, s, v = colorsys.rgb_to_hsv(*p)
            y[:, i, j] = colorsys.hsv_to_rgb((h + f) % 1, s, v)
        elif kind == "hue" or (kind == "saturation" and C == 1):
            y[:, i, j] = p
        else:
            other = {"brightness": 0, "contrast": mean, "saturation": grey(p)}[kind]
            y[:, i, j] = np.clip(f * p + (1 - f) * other, 0, 1)
    return y


KINDS = ["brightness", "contrast", "saturation", "hue"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("f", [-0.5, -0.2, 0.0, 0.3, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("kind", KINDS)
def test_jitter_equals_its_formula(rng, kind, f, channels):
    if f > 0.5 if kind == "hue" else f < 0:
        return
    x = rng.random((3, channels, 4, 5))
    x[0] = np.round(x[0])  # all corners of the colours
    close(ColorJitter(**{kind: (f, f)})(x), np.stack([jittered(image, kind, f) for image in x]))


def test_jitter_draws_for_each_image_and_an_order_for_each_batch(rng):
    x = np.repeat(rng.random((1, 3, 5, 4)) * 0.5 + 0.2, 400, 0)
    f = (ColorJitter(brightness=0.4)(x, generator=0).numpy() / x)[:, 0, 0, 0]
    assert 0.6 <= f.min() < 0.61 and 1.39 < f.max() <= 1.4
    assert np.histogram(f, 4, (0.6, 1.4))[0] == pytest.approx([100] * 4, abs=35)
    both = ColorJitter((1.5, 1.5), (0.5, 0.5), hue=(0.2, 0.2))
    seen = {both(x[:1], generator=seed).numpy().round(9).tobytes() for seed in range(40)}
    orders = set()
    for order in itertools.permutations([("brightness", 1.5), ("contrast", 0.5), ("hue", 0.2)]):
        y = x[0]
        for kind, factor in order:
            y = jittered(y, kind, factor)
        orders.add(y.round(9).tobytes())
    assert len(seen) == len(orders) > 2
    with pytest.raises(ShapeError, match="1 or 3 channels"):
        both(x[:, :2])


def test_jitter_intervals():
    ranges = vars(ColorJitter(0.4, 1.5, (0.1, 0.3), 0.2).parsed)
    assert [*ranges.values()] == [(0.6, 1.4), (0.0, 2.5), (0.1, 0.3), (-0.2, 0.2)]


def test_pca(rng):
    x = rng.random((40, 3, 6, 5)) * np.array([1, 0.5, 0.2])[:, None, None]
    x[:, 2] += x[:, 0]
    pca = PCAColor().fit(fastnn.utils.data.TensorDataset(x, np.arange(40)))
    pixels_ = x.transpose(1, 0, 2, 3).reshape(3, -1)
    close(pca.eigenvectors * pca.eigenvalues @ pca.eigenvectors.T, np.cov(pixels_, bias=True))
    shift = pca(np.zeros((20_000, 3, 1, 2)), generator=0).numpy()
    np.testing.assert_array_equal(shift[..., 0], shift[..., 1])
    want = 0.01 * pca.eigenvectors * pca.eigenvalues**2 @ pca.eigenvectors.T
    np.testing.assert_allclose(np.cov(shift[..., 0, 0].T), want, atol=0.05 * want.max())
    close(pca(x, generator=5).numpy() - x, np.broadcast_to(pca(0 * x, generator=5).numpy()[..., :1, :1], x.shape))
    bytes_ = (x * 127).astype(np.uint8)
    close(PCAColor().fit(bytes_).eigenvalues, PCAColor().fit(bytes_ / 255).eigenvalues, tol=1e-6)
    parts = [(bytes_[i : i + 7], None) for i in range(0, len(bytes_), 7)]
    close(PCAColor().fit(parts).eigenvalues, PCAColor().fit(bytes_).eigenvalues, tol=1e-4)
    with pytest.raises(ArgumentError, match="needs images, got none"):
        PCAColor().fit([])
    turn = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    shift = PCAColor((0, 2, 0), turn, 0.5)(np.zeros((4, 3, 1, 1)), generator=1).numpy()[..., 0, 0]
    close(shift, np.random.default_rng(1).normal(0, 0.5, (4, 3))[:, 1:2] * 2 * np.array([-0.8, 0.6, 0]))
    with pytest.raises(ArgumentError, match="fit"):
        PCAColor()(x)
    with pytest.raises(ShapeError, match="1 channels"):
        pca(x[:, :1])
    with pytest.raises(ShapeError, match="fit needs images"):
        PCAColor().fit(x[:0])


def test_noise():
    x = np.full((100, 3, 20, 20), 0.5)
    for dtype in np.float32, np.float64:
        noise = GaussianNoise(0.1, 0.2, clip=False)(x.astype(dtype), generator=0).numpy() - 0.5
        assert noise.mean() == pytest.approx(0.1, abs=0.003) and noise.std() == pytest.approx(0.2, abs=0.003)
        assert abs(np.corrcoef(noise[:, 0].ravel(), noise[:, 1].ravel())[0, 1]) < 0.02
    y = GaussianNoise(0, 1)(x, generator=0).numpy()
    assert (y.min(), y.max()) == (0, 1) and (y == 0).mean() == pytest.approx(0.309, abs=0.01)


# Parts erased ------------------------------------------------------------------------------------------------------

def extent(mask):
    """Top, left, height and width of what is set in (H, W), which must be a rectangle."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left, h, w = rows[0], columns[0], len(rows), len(columns)
    assert mask[top : top + h, left : left + w].all() and mask.sum() == h * w
    return top, left, h, w


def test_erasing_draws_rectangles():
    n, H, W = 3000, 60, 50
    erased = RandomErasing(0.6, (0.1, 0.2), (0.5, 2), value=2)(np.zeros((n, 1, H, W), np.float32), generator=0)
    masks = erased.numpy()[:, 0] == 2
    boxes = np.array([extent(mask) for mask in masks if mask.any()])
    assert len(boxes) / n == pytest.approx(0.6, abs=0.04)
    top, left, h, w = boxes.T
    area, ratio = h * w / (H * W), np.log2(h / w)
    assert np.histogram(area, [0.1, 0.125, 0.15, 0.175, 0.2])[0] / len(boxes) == pytest.approx([0.25] * 4, abs=0.04)
    assert np.histogram(ratio, [-1, -0.5, 0, 0.5, 1])[0] / len(boxes) == pytest.approx([0.25] * 4, abs=0.06)
    for start, free in (top, H - h), (left, W - w):
        quarters = np.histogram((start + 0.5) / (free + 1), 4, (0, 1))[0]
        assert quarters / len(boxes) == pytest.approx([0.25] * 4, abs=0.04)


def test_erasing_reaches_every_place():
    """Of 4x4 pixels half, a square: 3x3 at four places."""
    y = RandomErasing(1, (0.5, 0.5), (1, 1), 5)(np.zeros((400, 1, 4, 4)), generator=0).numpy()[:, 0]
    assert {extent(mask) for mask in y == 5} == {(i, j, 3, 3) for i, j in np.ndindex(2, 2)}
    assert y[:, 0, 0].mean() / 5 == pytest.approx(0.25, abs=0.08)


def test_what_is_erased_becomes_value(images):
    y = RandomErasing(1, value=(7, 8, 9))(images, generator=0).numpy()
    for image, before in zip(y, images, strict=True):
        mask = image[0] == 7
        extent(mask)
        np.testing.assert_array_equal(image[:, mask].T, [[7, 8, 9]] * mask.sum())
        np.testing.assert_array_equal(image[:, ~mask], before[:, ~mask])
    noise = RandomErasing(1, (0.3, 0.3), (1, 1), "random")(np.full((300, 3, 20, 20), 50.0), generator=0).numpy()
    drawn = noise[noise != 50]
    assert drawn.mean() == pytest.approx(0, abs=0.02) and drawn.std() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(RandomErasing(1, (1, 1))(images, generator=0).numpy(), images)  # nothing fits
    with pytest.raises(ShapeError, match="3 channels"):
        RandomErasing(1, value=(1, 2))(images)


@pytest.mark.parametrize("size, holes", [((4, 3), 1), (5, 2)])
def test_cutout_is_as_likely_at_each_pixel_as_centres_have_it(size, holes):
    n, H, W = 4000, 9, 7
    h, w = (size, size) if isinstance(size, int) else size
    zero = Cutout(size, holes)(np.ones((n, 2, H, W), np.float32), generator=0).numpy() == 0
    assert (zero[:, 0] == zero[:, 1]).all()
    once = np.zeros((H, W))
    for ci, cj in np.ndindex(H, W):
        for i, j in np.ndindex(H, W):
            once[i, j] += (ci - h // 2 <= i < ci - h // 2 + h and cj - w // 2 <= j < cj - w // 2 + w) / (H * W)
    np.testing.assert_allclose(zero[:, 0].mean(0), 1 - (1 - once) ** holes, atol=0.035)
    if holes == 1:
        for mask in zero[:50, 0]:
            extent(mask)


# Geometry ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, axis", [(RandomHorizontalFlip, 3), (RandomVerticalFlip, 2)])
def test_flips(images, kind, axis):
    flipped = np.flip(images, axis)
    np.testing.assert_array_equal(kind(1)(images).numpy(), flipped)
    np.testing.assert_array_equal(kind(0)(images).numpy(), images)
    y = kind(0.3)(np.repeat(images, 50, 0), generator=0).numpy()
    turned = (y == np.repeat(flipped, 50, 0)).all((1, 2, 3))
    assert (turned | (y == np.repeat(images, 50, 0)).all((1, 2, 3))).all()
    assert turned.mean() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_random_crop_is_a_part_of_the_padded_image(rng, mode):
    x = rng.random((30, 2, 6, 5))
    pads = ((0, 0), (0, 0), (2, 4), (1, 3))
    padded = np.pad(x, pads, mode, **({"constant_values": 0.5} if mode == "constant" else {}))
    y = RandomCrop((5, 7), (1, 2, 3, 4), mode, 0.5)(x, generator=0).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 7), (2, 3))
    assert (windows == y[:, :, None, None]).all((1, 4, 5)).any((1, 2)).all()


def test_random_crop_is_anywhere_alike():
    n = 30_000
    y = RandomCrop((6, 4), (1, 2))(pixels(6, 5, n), generator=0).numpy()
    row, column, inside = y[:, :, 2, 1].astype(int).T  # of the pixel (2, 1) of the crop, which is never padding
    assert inside.min() == 1
    counts = np.bincount(row * 4 + column)
    np.testing.assert_allclose(counts / n, [1 / 20] * 20, atol=0.006)


@pytest.mark.parametrize("size, top, left", [
    ((3, 4), 2, 0), ((2, 1), 2, 2), ((7, 4), 0, 0), ((9, 7), -1, -1), (4, 2, 0)])  # fmt: skip
def test_center_crop(rng, size, top, left):
    """As torchvision rounds: half of an odd rest to the even number; padding a pixel less at the top and left."""
    x = rng.random((2, 3, 7, 4))
    h, w = (size, size) if isinstance(size, int) else size
    padded = np.pad(x, ((0, 0), (0, 0), (9, 9), (9, 9)))
    np.testing.assert_array_equal(CenterCrop(size)(x).numpy(), padded[:, :, top + 9 :, left + 9 :][:, :, :h, :w])


@pytest.mark.parametrize("size, want", [(6, (6, 13)), ((5, 4), (5, 4)), ((14, 20), (14, 20)), (2, (2, 4))])
def test_resize(rng, size, want):
    x = rng.random((2, 3, 4, 9))
    close(Resize(size)(x), resize(x, want))
    close(Resize(size)(x.swapaxes(2, 3)), resize(x.swapaxes(2, 3), want if isinstance(size, tuple) else want[::-1]))


def test_resized_crop_boxes(rng):
    """Against a loop that draws as the definition says."""
    n, H, W = 6000, 40, 64
    for scale, ratio in ((0.08, 1), (3 / 4, 4 / 3)), ((0.5, 1), (1, 3)):
        boxes = np.stack(RandomResizedCrop(8, scale, ratio).boxes(n, H, W, rng))
        want = np.zeros((4, n))
        for k in range(n):
            for _ in range(10):
                a, r = H * W * rng.uniform(*scale), np.exp(rng.uniform(*np.log(ratio)))
                w, h = round((a * r) ** 0.5), round((a / r) ** 0.5)
                if 0 < w <= W and 0 < h <= H:
                    want[:, k] = rng.integers(H - h + 1), rng.integers(W - w + 1), h, w
                    break
            else:
                own = W / H
                h, w = H if own > ratio[0] else round(W / ratio[0]), W if own < ratio[1] else round(H * ratio[1])
                want[:, k] = (H - h) // 2, (W - w) // 2, h, w
        for got, true in zip(boxes, want, strict=True):
            levels = np.quantile(true, [0.1, 0.3, 0.5, 0.7, 0.9])
            for level in levels:
                assert (got <= level).mean() == pytest.approx((true <= level).mean(), abs=0.03)
        together = [np.corrcoef(h * w, np.log(w / h))[0, 1] for *_, h, w in (boxes, want)]
        assert together[0] == pytest.approx(together[1], abs=0.06)


@pytest.mark.parametrize("scale, ratio, box", [
    ((1, 1), (3, 4), (3, 0, 3, 9)), ((1, 1), (0.5, 0.6), (0, 2, 9, 5)), ((0, 0), (0.5, 2), (0, 0, 9, 9))])  # fmt: skip
def test_resized_crop_that_never_fits(rng, scale, ratio, box):
    found = RandomResizedCrop(4, scale, ratio).boxes(3, 9, 9, rng)
    assert [a.tolist() for a in found] == [[part] * 3 for part in box]


def test_resized_crop_resizes_its_box():
    """Of an image that shows its own rows and columns the result is a ramp across the box, away from the edges."""
    n, H, W = 50, 30, 40
    transform = RandomResizedCrop((7, 9), (0.1, 0.6))
    y = transform(pixels(H, W, n), generator=4).numpy()
    top, left, h, w = (a[:, None, None] for a in transform.boxes(n, H, W, np.random.default_rng(4)))
    i, j = np.arange(7)[:, None], np.arange(9)
    want_rows = np.broadcast_to(top + (i + 0.5) * h / 7 - 0.5, (n, 7, 9))
    want_columns = np.broadcast_to(left + (j + 0.5) * w / 9 - 0.5, (n, 7, 9))
    close(y[:, 0], np.clip(want_rows, 0, H - 1))
    close(y[:, 1], np.clip(want_columns, 0, W - 1))


def found_map(y):
    """The map (2, 3) from output to input pixels, both measured from the edges, of `pixels` transformed."""
    i, j = np.nonzero(y[2] > 1 - 1e-12)  # nothing of the border in it
    places = np.stack([j + 0.5, i + 0.5, np.ones(len(i))], 1)
    solution, *_ = np.linalg.lstsq(places, y[[1, 0]][:, i, j].T + 0.5, rcond=None)
    np.testing.assert_allclose(places @ solution, y[[1, 0]][:, i, j].T + 0.5, atol=1e-9)
    return solution.T


def test_rotation_by_hand():
    x = fastnn.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    close(RandomRotation((90, 90))(x), np.rot90(x.numpy(), 1, (2, 3)))  # anticlockwise
    close(RandomAffine((90, 90))(x), np.rot90(x.numpy(), -1, (2, 3)))
    np.testing.assert_array_equal(RandomRotation(0)(x).numpy(), x.numpy())
    close(RandomRotation((45, 45), fill=2)(fastnn.ones(1, 1, 9, 9)).numpy()[0, 0, 0, 0], 2.0)


def test_affine_is_the_product_of_its_parts():
    """input → scale → shear x → shear y → turn → shift; y points down."""
    H, W = 60, 50
    t = RandomAffine((20, 20), None, (0.8, 0.8), (10, 10, -15, -15))
    back = found_map(t(pixels(H, W)).numpy()[0])
    a, sx, sy = np.radians([20, 10, -15])
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])  # (1, 0) goes down on the right: clockwise
    forward = turn @ [[1, 0], [-np.tan(sy), 1]] @ [[1, -np.tan(sx)], [0, 1]] * 0.8
    np.testing.assert_allclose(np.linalg.inv(back[:, :2]), forward, atol=1e-9)
    np.testing.assert_allclose(back @ [W / 2, H / 2, 1], [W / 2, H / 2], atol=1e-9)


def test_affine_draws_what_it_says():
    n, H, W = 1000, 24, 20
    y = RandomAffine((-30, 60), (0.1, 0.25), (0.5, 1.5), (2, 8), 0)(pixels(H, W, n), generator=0).numpy()
    maps = np.array([found_map(image) for image in y])
    forward = np.linalg.inv(maps[:, :, :2])
    angle = np.degrees(np.arctan2(forward[:, 1, 0], forward[:, 0, 0]))
    scale = np.linalg.norm(forward[:, :, 0], axis=1)
    for drawn, low, high in (angle, -30, 60), (scale, 0.5, 1.5):
        assert low <= drawn.min() and drawn.max() <= high
        assert np.histogram(drawn, 4, (low, high))[0] / n == pytest.approx([0.25] * 4, abs=0.06)
    columns = forward / scale[:, None, None]  # R(angle) times (1, 0) and (−tan shear, 1)
    shear = np.degrees(np.arctan(-(columns[:, :, 0] * columns[:, :, 1]).sum(1)))
    assert 2 <= shear.min() < 2.5 and 7.5 < shear.max() <= 8
    centre = np.array([W / 2, H / 2])
    shift = np.linalg.solve(maps[:, :, :2], (centre - maps @ [*centre, 1])[..., None])[..., 0]
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-6)
    assert np.unique(np.round(shift[:, 0])).tolist() == [-2, -1, 0, 1, 2]
    assert np.unique(np.round(shift[:, 1])).tolist() == list(range(-6, 7))
    parts = np.bincount(np.round(shift[:, 0] + 2).astype(int)) / n
    assert parts == pytest.approx([1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8], abs=0.05)


# Labels ------------------------------------------------------------------------------------------------------------

def test_mixup(images):
    labels = np.arange(64) % 5
    y, mixed = MixUp(0.4, 5)(images, labels, 3)
    y, mixed = y.numpy(), mixed.numpy()
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed.sum(1), 1, rtol=1e-6)
    g = np.random.default_rng(3)
    part, partner = g.beta(0.4, 0.4), g.permutation(64)
    close(y, part * images + (1 - part) * images[partner])
    close(mixed, part * np.eye(5)[labels] + (1 - part) * np.eye(5)[labels[partner]], np.float32)
    again = MixUp(0.4, 5)(images, mixed, 3)[1].numpy()  # of probabilities
    close(again, part * mixed + (1 - part) * mixed[partner], np.float32)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_draws_beta(alpha):
    x, g = np.array([0.0, 1.0]).reshape(2, 1, 1, 1), np.random.default_rng(0)
    drawn = np.array([MixUp(alpha, 2)(x, [0, 1], g)[1].numpy()[0, 0] for _ in range(4000)])
    drawn = drawn[drawn < 1]  # the others have themselves for partners
    assert len(drawn) / 4000 == pytest.approx(0.5, abs=0.04)
    assert drawn.mean() == pytest.approx(0.5, abs=0.03)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)  # of Beta(alpha, alpha)


def test_cutmix():
    H, W = 11, 14
    labels = np.arange(6) % 4
    x = np.broadcast_to(np.arange(6.0)[:, None, None, None], (6, 2, H, W))
    areas = []
    for seed in range(400):
        y, mixed = CutMix(1.0, 4)(x, labels, seed)
        y, mixed = y.numpy(), mixed.numpy()
        g = np.random.default_rng(seed)
        partner = (g.beta(1, 1), g.permutation(6))[1]
        changed = (y != x).any((0, 1))
        part = 1 - changed.mean() if (partner != np.arange(6)).any() else mixed[0, 0]
        if changed.any():
            top, left, h, w = extent(changed)
            for n in range(6):
                assert (y[n, :, top : top + h, left : left + w] == partner[n]).all()
        want = part * np.eye(4)[labels] + (1 - part) * np.eye(4)[labels[partner]]
        np.testing.assert_allclose(mixed, want, atol=1e-12)
        areas.append(changed.mean())
    # E of the area: of sides r = √(1 − λ), cut off where the centre is near an edge; by integration over both
    lam = (np.arange(400) + 0.5) / 400
    want = np.mean([np.mean([[max(0, min(i + hh, H) - max(i - hh, 0)) * max(0, min(j + hw, W) - max(j - hw, 0))
                              for i in range(H)] for j in range(W)])
                    for hh, hw in zip((H * np.sqrt(1 - lam) / 2).astype(int), (W * np.sqrt(1 - lam) / 2).astype(int),
                                      strict=True)]) / (H * W)  # fmt: skip
    assert np.mean(areas) == pytest.approx(want, abs=0.04)


@pytest.mark.parametrize("transform", MIXED, ids=repr)
def test_labels_are_checked(transform, images):
    for label in 5, -1, 2**40:
        with pytest.raises(RangeError, match=f"label {label} is out of range for 5 classes"):
            transform(images[:3], [0, label, 1])
    for labels in [0, 1], np.zeros((3, 4)), np.zeros(3), np.zeros((3, 5), np.int64):
        with pytest.raises(ShapeError, match="labels must be"):
            transform(images[:3], labels)
    with pytest.raises(ArgumentError, match="needs labels"):
        transform(images)


# Views -------------------------------------------------------------------------------------------------------------

def test_views_by_hand(rng):
    x = rng.random((2, 3, 7, 6))
    a = x[:, :, :4, :3], x[:, :, :4, 3:], x[:, :, 3:, :3], x[:, :, 3:, 3:], x[:, :, 2:6, 2:5]  # 1.5 rounds to 2
    np.testing.assert_array_equal(FiveCrop((4, 3))(x).numpy(), a)
    for vertical, mirrored in (False, x[..., ::-1]), (True, x[:, :, ::-1]):
        ten = TenCrop((4, 3), vertical_flip=vertical)(x).numpy()
        np.testing.assert_array_equal(ten[:5], a)
        np.testing.assert_array_equal(ten[5:], FiveCrop((4, 3))(mirrored).numpy())
    np.testing.assert_array_equal(FlipViews()(x).numpy(), [x, x[..., ::-1]])
    np.testing.assert_array_equal(FlipViews(True)(x).numpy(), [x, x[..., ::-1], x[:, :, ::-1], x[:, :, ::-1, ::-1]])
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (1, 1)))
    np.testing.assert_array_equal(FiveCrop((4, 3), (1, 2))(x).numpy(), FiveCrop((4, 3))(padded).numpy())
    y, labels = FiveCrop(3)(x, [4, 5])
    assert y.shape == (5, 2, 3, 3, 3) and labels.tolist() == [4, 5] and FiveCrop(3)(x[0]).shape == (5, 3, 3, 3)


def test_views_come_last(images):
    assert Compose([Normalize(0, 1), FlipViews()])(images).shape == (2, *images.shape)
    with pytest.raises(ShapeError, match=r"Normalize.*views come last"):
        Compose([FlipViews(), Normalize(0, 1)])(images)
    with pytest.raises(NotImplementedError, match="View does not define views"):
        View()(images)


# Arguments ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, match", [
    (lambda: RandomHorizontalFlip(1.5), "p must be"), (lambda: RandomHorizontalFlip("a"), "p must be"),
    (lambda: RandomVerticalFlip(np.nan), r"RandomVerticalFlip\(p=nan\)"), (lambda: RandomCrop(0), "size"),
    (lambda: RandomCrop((1, 2, 3)), "size"), (lambda: RandomCrop(2, -1), "padding must"),
    (lambda: RandomCrop(2, (1, 2, 3)), "padding must"), (lambda: RandomCrop(2, 0.5), "padding must"),
    (lambda: RandomCrop(2, 0, "wrap"), "padding_mode must be one of constant, edge, reflect, symmetric"),
    (lambda: RandomCrop(2, fill="black"), "fill"), (lambda: CenterCrop(-1), "size"), (lambda: Resize(1.5), "size"),
    (lambda: RandomResizedCrop(4, (0.5, 0.2)), "scale"), (lambda: RandomResizedCrop(4, (0.5, 1.2)), "scale"),
    (lambda: RandomResizedCrop(4, ratio=(0, 1)), "ratio"), (lambda: RandomResizedCrop(4, 0.5), "scale"),
    (lambda: RandomRotation(-5), "degrees"), (lambda: RandomRotation((1, 2, 3)), "degrees"),
    (lambda: RandomRotation("a"), "degrees"), (lambda: RandomRotation(np.inf), "degrees"),
    (lambda: RandomAffine(5, (1.5, 0)), "translate"), (lambda: RandomAffine(5, scale=(0, 1)), "scale"),
    (lambda: RandomAffine(5, shear=90), "shear"), (lambda: RandomAffine(5, shear=(1, 2, 3)), "shear"),
    (lambda: RandomAffine(5, (0.1,)), "translate"), (lambda: ColorJitter(-0.1), "brightness"),
    (lambda: ColorJitter(hue=0.6), "hue"), (lambda: ColorJitter(contrast=(1.2, 0.8)), "contrast"),
    (lambda: ColorJitter(saturation=np.nan), "saturation"), (lambda: PCAColor((1, 2, 3)), "eigenvectors"),
    (lambda: PCAColor((1, 2, 3), np.eye(2)), "eigenvectors"), (lambda: PCAColor(sigma=-1), "sigma"),
    (lambda: RandomErasing(2), "p must"), (lambda: RandomErasing(scale=(0, 2)), "scale"),
    (lambda: RandomErasing(value="pink"), "value"), (lambda: RandomErasing(value=None), "value"),
    (lambda: Cutout(0), "size"), (lambda: Cutout(2, -1), "n_holes"), (lambda: GaussianNoise(0, -1), "sigma"),
    (lambda: GaussianNoise(np.nan), "mean"), (lambda: Normalize(0, 0), "std > 0"), (lambda: Normalize("a", 1), "mean"),
    (lambda: Normalize(0, (1, -1)), "std > 0"), (lambda: Normalize(np.inf, 1), "finite"),
    (lambda: MixUp(0, 3), "alpha"), (lambda: CutMix(1, 0), "num_classes"), (lambda: MixUp(1, None), "num_classes"),
    (lambda: FiveCrop(0), "FiveCrop: size"), (lambda: TenCrop("a"), "TenCrop: size"),
    (lambda: TenCrop(2, -1), "padding"),
])  # fmt: skip
def test_arguments_are_checked(make, match):
    with pytest.raises((ArgumentError, DTypeError), match=match):
        make()


def test_images_that_are_too_small(images):
    for transform in RandomCrop(19), RandomCrop((18, 18), (1, 0)), FiveCrop((19, 3)), TenCrop((3, 18), 1):
        with pytest.raises(ShapeError, match=r"\(64, 3, 18, 15\) are .* too small"):
            transform(images)
    with pytest.raises(ShapeError, match="only N may be 0"):
        RandomHorizontalFlip()(images[:, :, :0])


# By name -----------------------------------------------------------------------------------------------------------

def test_from_text(images):
    text = ("flip, crop=2,rotate=10,jitter=0.4,hue,cutout=4,noise=0.05,vflip=1,mixup=0.2,cutmix,erase=0.25,"
            "resized-crop=0.5,crop")  # fmt: skip
    compose = from_text(text, (3, 18, 15), 5)
    assert [repr(t).replace(".0)", ")") for t in compose.transforms] == [repr(t).replace(".0)", ")") for t in (
        RandomHorizontalFlip(), RandomCrop((18, 15), 2), RandomRotation(10), ColorJitter(0.4, 0.4, 0.4),
        ColorJitter(hue=0.1), Cutout(4), GaussianNoise(0, 0.05), RandomVerticalFlip(1), MixUp(0.2, 5), CutMix(1, 5),
        RandomErasing(0.25), RandomResizedCrop((18, 15), (0.5, 1.0)), RandomCrop((18, 15), 4),
    )]  # fmt: skip
    y, labels = call(compose, images)
    assert y.shape == images.shape and labels.shape == (64, 5)
    assert from_text(" ", (3, 18, 15), 5).transforms == []
    assert from_text("resized-crop", (3, 18, 15), 5)(images).shape == images.shape


def test_views_by_name():
    named = {"flip": FlipViews(), "vflip": FlipViews(True), "five-crop=0": FiveCrop((18, 15)),
             "ten-crop=3": TenCrop((18, 15), 3)}  # fmt: skip
    for text, views in named.items():
        assert repr(views_from_text(text, (3, 18, 15))) == repr(views)
    for text in "", "flip=1", "five-crop", "ten-crop=-1", "ten-crop=1.5", "nine-crop=1":
        with pytest.raises(ArgumentError, match="views must be flip, vflip, five-crop=PIXELS or ten-crop=PIXELS, got"):
            views_from_text(text, (3, 18, 15))


def test_views_like_the_augmentation():
    like = {"flip": "flip", "vflip,rotate": "five-crop=2", "flip, crop=6": "ten-crop=3", "crop": "five-crop=2",
            "crop=1": "five-crop=1", "resized-crop,flip": "ten-crop=2", "": "five-crop=2"}  # fmt: skip
    for augmentation, text in like.items():
        assert repr(views_like(augmentation, (3, 40, 32))) == repr(views_from_text(text, (3, 40, 32)))
    for augmentation, match in ("flip,tilt", "'tilt' is not known"), ("crop=a", "must be a number"):
        with pytest.raises(ArgumentError, match=match):
            views_like(augmentation, (3, 40, 32))


@pytest.mark.parametrize("text, match", [
    ("flipp", "'flipp' is not known; known are flip, vflip, crop"), ("flip,,crop", "'' is not known"),
    ("flip=2", "'flip=2'.*p must be"), ("crop=a", "'crop=a': its value must be a number"),
    ("crop=", "must be a number"),
    ("crop=1.5", "padding must"), ("cutout=0", "size must"), ("cutout=1.5", "'cutout=1.5'.*size must"),
    ("resized-crop=2", "scale must"), ("mixup=-1", "alpha must"), ("rotate=nan", "degrees must"),
])  # fmt: skip
def test_text_is_checked(text, match):
    with pytest.raises(ArgumentError, match=match):
        from_text(text, (3, 8, 8), 10)


# Pillow ------------------------------------------------------------------------------------------------------------

@pytest.fixture
def picture():
    """A smooth colour image (1, 3, 24, 31) of whole 255ths."""
    i, j = np.indices((24, 31))
    x = np.stack([np.sin(i / 4) * np.cos(j / 5), np.cos(i / 3 + j / 7), np.sin(j / 3)]) / 2 + 0.5
    return np.round(x[None] * 255) / 255


def of_pillow(image):
    a = np.asarray(image, np.float64)
    return a[None, None] if a.ndim == 2 else a.transpose(2, 0, 1)[None] / 255


def to_pillow(x):
    image = pytest.importorskip("PIL.Image")
    return image.fromarray(np.round(x[0].transpose(1, 2, 0) * 255).astype(np.uint8))


def plane(x):
    """The first channel in float32, mode F."""
    return pytest.importorskip("PIL.Image").fromarray(x[0, 0].astype(np.float32))


def test_flips_and_crops_as_pillow(picture):
    image, name = to_pillow(picture), pytest.importorskip("PIL.Image").Transpose
    ops = pytest.importorskip("PIL.ImageOps")
    close(RandomHorizontalFlip(1)(picture), of_pillow(image.transpose(name.FLIP_LEFT_RIGHT)))
    close(RandomVerticalFlip(1)(picture), of_pillow(image.transpose(name.FLIP_TOP_BOTTOM)))
    y = RandomCrop((20, 22), 6, fill=0)(picture, generator=1).numpy()
    g = np.random.default_rng(1)
    top, left = g.integers(0, 24 + 12 - 20 + 1, 1)[0], g.integers(0, 31 + 12 - 22 + 1, 1)[0]
    close(y, of_pillow(ops.expand(image, 6).crop((left, top, left + 22, top + 20))))


@pytest.mark.parametrize("size", [(48, 62), (25, 40)])
def test_resize_as_pillow(picture, size):
    bilinear = pytest.importorskip("PIL.Image").Resampling.BILINEAR
    close(Resize(size)(picture[:, :1]), of_pillow(plane(picture).resize(size[::-1], bilinear)), np.float32, 2e-6)


def inner(y, angle):
    """Where nothing of the border shows after turning."""
    ones = RandomRotation((angle, angle))(np.ones_like(y)).numpy()
    return ones > 1 - 1e-9


@pytest.mark.parametrize("angle", [-30, 12.5, 90, 200])
def test_rotation_as_pillow(picture, angle):
    bilinear = pytest.importorskip("PIL.Image").Resampling.BILINEAR
    x = picture[:, :1]
    want = of_pillow(plane(x).rotate(angle, bilinear))
    y, mask = RandomRotation((angle, angle))(x).numpy(), inner(x, angle)
    assert mask.mean() > 0.4
    np.testing.assert_allclose(y[mask], want[mask], atol=1e-4)


def test_affine_as_pillow(picture, rng):
    image = pytest.importorskip("PIL.Image")
    x = picture[:, :1]
    theta = np.array([[0.9, 0.2, 1.3], [-0.15, 0.8, 3.1]])
    want = of_pillow(plane(x).transform((31, 24), image.Transform.AFFINE, theta.ravel().tolist(),
                                        image.Resampling.BILINEAR))  # fmt: skip
    mask = F.affine_images(fastnn.ones(1, 1, 24, 31), theta, (24, 31)).numpy() > 1 - 1e-6
    y = F.affine_images(fastnn.from_numpy(x), theta, (24, 31)).numpy()
    assert mask.mean() > 0.5
    np.testing.assert_allclose(y[mask], want[mask], atol=1e-5)


@pytest.mark.parametrize("f", [0.3, 0.8, 1.6])
@pytest.mark.parametrize("kind, name", [
    ("brightness", "Brightness"), ("contrast", "Contrast"), ("saturation", "Color")])  # fmt: skip
def test_enhancement_as_pillow(picture, kind, name, f):
    enhance = pytest.importorskip("PIL.ImageEnhance")
    want = of_pillow(getattr(enhance, name)(to_pillow(picture)).enhance(f))
    np.testing.assert_allclose(ColorJitter(**{kind: (f, f)})(picture).numpy(), want, atol=2 / 255)


@pytest.mark.parametrize("step", [-100, 30, 127])
def test_hue_as_pillow(picture, step):
    image = pytest.importorskip("PIL.Image")
    h, s, v = to_pillow(picture).convert("HSV").split()
    h = image.fromarray(np.asarray(h) + np.int64(step).astype(np.uint8))
    want = of_pillow(image.merge("HSV", (h, s, v)).convert("RGB"))
    np.testing.assert_allclose(ColorJitter(hue=(step / 255, step / 255))(picture).numpy(), want, atol=15 / 255)
