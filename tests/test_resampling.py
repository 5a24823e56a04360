"""Interpolation by its formulae, pixel by pixel; pixel shuffles by index; memory order and errors."""
import math

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, layout, nn


def slowly(x, size, mode, align):
    """Every axis by the formula, one output pixel after another."""
    for axis, out in enumerate(size, 2):
        n, rows = x.shape[axis], []
        for o in range(out):
            pixel = lambda i, n=n: x.take(min(max(i, 0), n - 1), axis)  # noqa: E731
            place = o * (n - 1) / max(out - 1, 1) if align else (o + 0.5) * n / out - 0.5
            low, t = math.floor(place), place - math.floor(place)
            if mode == "nearest":
                rows.append(pixel(o * n // out))
            elif mode == "nearest-exact":
                rows.append(pixel((2 * o + 1) * n // (2 * out)))
            elif mode == "area":
                rows.append(x.take(range(o * n // out, math.ceil((o + 1) * n / out)), axis).mean(axis))
            elif mode == "bicubic":
                distances = [(low + k, abs(place - low - k)) for k in range(-1, 3)]
                weights = [(i, 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4))
                           for i, d in distances]
                rows.append(sum(w * pixel(i) for i, w in weights))
            else:
                rows.append((1 - t) * pixel(low) + t * pixel(low + 1))
        x = np.stack(rows, axis)
    return x


IMAGES, ROWS = [((2, 3, 4, 5), (8, 10)), ((1, 2, 7, 3), (3, 11)), ((1, 17, 1, 6), (2, 1))], [
    ((2, 3, 5), (9,)), ((1, 4, 8), (3,))]  # fmt: skip


@pytest.mark.parametrize(("mode", "align", "sizes"), [
    *[(mode, None, IMAGES + ROWS) for mode in ("nearest", "nearest-exact", "area")],
    *[("linear", align, ROWS) for align in (False, True)],
    *[(mode, align, IMAGES) for mode in ("bilinear", "bicubic") for align in (None, True)],
])
def test_interpolate_against_its_formula(rng, mode, align, sizes):
    for shape, size in sizes:
        kwargs = {"size": size, "mode": mode, "align_corners": align}
        check(F.interpolate, rng.standard_normal(shape), oracle=lambda x, **_: slowly(x, size, mode, align),
              kwargs=kwargs)


def test_scales_and_their_use(rng):
    x = fastnn.tensor(rng.standard_normal((1, 2, 5, 6)))
    assert F.interpolate(x, scale_factor=(1.5, 0.5)).shape == (1, 2, 7, 3)
    kept = F.interpolate(x, scale_factor=1.5, mode="bilinear")
    recomputed = F.interpolate(x, scale_factor=1.5, mode="bilinear", recompute_scale_factor=True)
    close(recomputed, slowly(x.array, (7, 9), "bilinear", False))
    assert np.abs(kept.array - recomputed.array).max() > 1e-3  # 1 / 1.5 is not 5 / 7
    close(nn.UpsamplingBilinear2d(scale_factor=2)(x), slowly(x.array, (10, 12), "bilinear", True))


@pytest.mark.skipif(backend.kernel_set == "reference", reason="the twin multiplies by 0")
def test_infinities_stay_where_they_are():
    x = fastnn.tensor([[[1.0, math.inf, 2.0, 3.0]]], requires_grad=True)
    y = F.interpolate(x, 8)
    assert y.tolist() == [[[1, 1, math.inf, math.inf, 2, 2, 3, 3]]]
    y.backward(fastnn.tensor([[[1.0, math.nan, 1, 1, 1, 1, 1, 1]]]))
    assert np.isnan(x.grad.array[0, 0]).tolist() == [True, False, False, False]
    for mode, read in ("nearest", [2, 6]), ("linear", [2, 3, 7, 8]), ("area", [2, 3, 4, 6, 7, 8]):
        x = fastnn.ones(1, 1, 9, requires_grad=True)
        F.interpolate(x, 4, mode=mode).backward(fastnn.tensor([[[1.0, math.inf, 1, math.nan]]]))
        assert np.flatnonzero(~np.isfinite(x.grad.array)).tolist() == read


def test_memory_order_is_channels_last(rng):
    y = F.interpolate(fastnn.randn(1, 2, 3, 4), 7, mode="bicubic")
    assert layout.is_channels_last(y.array)
    x = fastnn.Tensor(layout.channels_last(rng.standard_normal((2, 8, 3, 5))))
    assert layout.is_channels_last(F.pixel_shuffle(x, 2).array)


@pytest.mark.parametrize("shape", [(2, 8, 3, 5), (4, 2, 3), (0, 4, 1, 2), (2, 2, 4, 3, 2)])
def test_pixel_shuffles(rng, shape):
    def shuffled(x, upscale_factor):
        y = np.zeros((*x.shape[:-3], x.shape[-3] // 4, x.shape[-2] * 2, x.shape[-1] * 2))
        for c, i, j in np.ndindex(y.shape[-3], 2, 2):
            y[..., c, i::2, j::2] = x[..., 4 * c + 2 * i + j, :, :]
        return y

    def unshuffled(y, downscale_factor):
        parts = [y[..., c, i::2, j::2] for c, i, j in np.ndindex(y.shape[-3], 2, 2)]
        return np.stack(parts, -3)

    x = rng.standard_normal(shape)
    check(F.pixel_shuffle, x, oracle=shuffled, kwargs={"upscale_factor": 2})
    check(F.pixel_unshuffle, shuffled(x, 2), oracle=unshuffled, kwargs={"downscale_factor": 2})


@pytest.mark.parametrize(("args", "kwargs", "words"), [
    ((3, 2.0), {}, "size=3, scale_factor=2.0"), ((), {}, "sizes or"), (((3, 4, 5),), {}, "2 sizes"),
    ((0,), {}, "size must be at least 1"), ((3,), {"mode": "lanczos"}, "mode='lanczos' does not take"),
    ((3,), {"mode": "linear"}, "mode='linear' does not take"), ((3,), {"align_corners": True}, "align_corners is not"),
    ((3,), {"recompute_scale_factor": True}, "recompute_scale_factor=True"),
])
def test_bad_input(args, kwargs, words):
    with pytest.raises(ValueError, match=f"interpolate: .*{words}"):
        F.interpolate(fastnn.ones(1, 2, 3, 4), *args, **kwargs)


def test_shuffles_of_bad_input():
    for name, factor in ("pixel_shuffle", 2), ("pixel_unshuffle", 2), ("pixel_shuffle", 0), ("pixel_unshuffle", 1.5):
        with pytest.raises(ValueError, match=f"{name}: "):
            getattr(F, name)(fastnn.ones(1, 2, 3, 4), factor)
