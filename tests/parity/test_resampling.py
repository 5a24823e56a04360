"""Interpolation in all modes, pixel shuffles, fold and unfold: against PyTorch over random arguments."""

import numpy as np
import pytest

from .pairs import check, check_either, check_raises, normal, seeded


def F(lib):
    return lib.nn.functional


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "linear", "bilinear", "bicubic"])
def test_interpolate(mode):
    """Random sizes and scales, up and down."""
    rng = seeded(mode)
    for _ in range(80):
        k = 1 if mode == "linear" else 2 if mode.startswith("bi") or rng.random() < 0.7 else 1
        shape = (int(rng.choice([0, 1, 2])), int(rng.choice([1, 2, 3, 17])), *rng.integers(1, 14, k).tolist())
        if rng.random() < 0.5:
            sizes = rng.integers(1, 24, k).tolist()
            kwargs = {"size": sizes[0] if rng.random() < 0.3 else tuple(sizes)}
        else:
            scales = rng.choice([0.5, 1.0, 2.0, 3.0, 1.3, 0.7, 2.6, 1 / 3], k).tolist()
            kwargs = {"scale_factor": scales[0] if rng.random() < 0.4 else tuple(scales)}
            if rng.random() < 0.3:
                kwargs["recompute_scale_factor"] = bool(rng.random() < 0.7)
        if mode not in ("nearest", "nearest-exact", "area") and rng.random() < 0.6:
            kwargs["align_corners"] = bool(rng.random() < 0.7)
        dtypes = ("float64",) if rng.random() < 0.7 else ("float32",)
        turned = bool(rng.random() < 0.3 and k == 2)

        def case(lib, x):
            return F(lib).interpolate(x.permute(0, 3, 1, 2) if turned else x, mode=mode, **kwargs)

        check_either(case, normal(*shape), dtypes=dtypes, tol=3)


@pytest.mark.parametrize("n", [3, 7, 10, 96, 224])
def test_every_index_of_nearest(n):
    """Rounding in single precision decides."""
    x = np.arange(float(n))[None, None]
    for size in range(1, 330, 3):
        for mode in "nearest", "nearest-exact":
            check(lambda lib, x: F(lib).interpolate(x, size, mode=mode), x, grad=False)


MISTAKES = {
    "both": lambda lib, x: F(lib).interpolate(x, 3, 2.0),
    "neither": lambda lib, x: F(lib).interpolate(x),
    "sizes": lambda lib, x: F(lib).interpolate(x, (3, 4, 5)),
    "one of two": lambda lib, x: F(lib).interpolate(x, (3,)),
    "zero": lambda lib, x: F(lib).interpolate(x, 0),
    "scale to nothing": lambda lib, x: F(lib).interpolate(x, scale_factor=0.1),
    "scale not a number": lambda lib, x: F(lib).interpolate(x, scale_factor=float("nan")),
    "infinite scale": lambda lib, x: F(lib).interpolate(x, scale_factor=(2.0, float("inf"))),
    "mode": lambda lib, x: F(lib).interpolate(x, 3, mode="lanczos"),
    "linear": lambda lib, x: F(lib).interpolate(x, 3, mode="linear"),
    "bilinear": lambda lib, x: F(lib).interpolate(x[0], 3, mode="bilinear"),
    "dims": lambda lib, x: F(lib).interpolate(x[0, 0], 3),
    "align": lambda lib, x: F(lib).interpolate(x, 3, align_corners=True),
    "recompute": lambda lib, x: F(lib).interpolate(x, 3, recompute_scale_factor=True),
    "no pixels": lambda lib, x: F(lib).interpolate(x[:, :, :0], 3, mode="bilinear"),
    "shuffle": lambda lib, x: F(lib).pixel_shuffle(x, 2),
    "shuffle dims": lambda lib, x: F(lib).pixel_shuffle(x[0, 0], 1),
    "shuffle zero": lambda lib, x: F(lib).pixel_shuffle(x, 0),
    "unshuffle": lambda lib, x: F(lib).pixel_unshuffle(x, 3),
    "unshuffle zero": lambda lib, x: F(lib).pixel_unshuffle(x, 0),
    "fold dims": lambda lib, x: F(lib).fold(x, (2, 2), 2),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name], normal(2, 3, 4, 5))


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
def test_pixel_shuffles(lead, r):
    def case(lib, x, y):
        x = x if x.ndim != 4 else x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return F(lib).pixel_shuffle(x, r), F(lib).pixel_unshuffle(y, r), F(lib).pixel_shuffle(y, 1)

    check(case, normal(*lead, 2 * r * r, 3, 4), normal(*lead, 2, 3 * r, 2 * r))


MODULES = {
    "scale": (lambda nn: nn.Upsample(scale_factor=2), (2, 3, 4, 5)),
    "size": (lambda nn: nn.Upsample((3, 9), mode="bilinear", align_corners=True), (2, 3, 4, 5)),
    "scales": (lambda nn: nn.Upsample(scale_factor=(2, 1.5), mode="bicubic"), (2, 3, 4, 5)),
    "nearest": (lambda nn: nn.UpsamplingNearest2d(scale_factor=3), (2, 3, 4, 5)),
    "bilinear": (lambda nn: nn.UpsamplingBilinear2d((7, 9)), (2, 3, 4, 5)),
    "shuffle": (lambda nn: nn.PixelShuffle(2), (2, 8, 4, 5)),
    "unshuffle": (lambda nn: nn.PixelUnshuffle(2), (2, 8, 4, 6)),
    "unfold": (lambda nn: nn.Unfold((2, 3), padding=1, stride=(1, 2)), (2, 3, 4, 5)),
    "unfold one": (lambda nn: nn.Unfold(2), (3, 4, 5)),
    "fold": (lambda nn: nn.Fold((4, 5), kernel_size=(2, 2), dilation=(1, 2)), (2, 8, 9)),
    "fold one": (lambda nn: nn.Fold((4, 5), 2), (8, 12)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    make, shape = MODULES[name]
    same = name in ("shuffle", "unshuffle", "unfold", "fold")  # Upsample's scale_factor is shown as it came
    check(lambda lib, x: (make(lib.nn)(x), repr(make(lib.nn)) if same else ""), normal(*shape))
