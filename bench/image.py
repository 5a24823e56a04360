"""Images: parts, affine maps, other sizes, and what the augmentation of a batch costs, call by call from Python."""

import math
from collections.abc import Callable

import numpy as np
from common import Case, Row, kernel_runner, main, normal, out

FEATURES = (((16, 128, 16, 16), True), ((8, 64, 32, 32), True), ((1, 3, 224, 224), False))
SHAPES = (((128, 3, 32, 32), True), ((256, 1, 28, 28), True), ((32, 3, 224, 224), False))


def cases() -> list[Case]:
    rows = []
    for shape, quick in SHAPES:
        N, _, H, W = shape
        size, label = math.prod(shape), "x".join(map(str, shape))

        def args_crop(rng, flip=0, shape=shape, N=N):
            top, left = rng.integers(-4, 5, (2, N)) if flip else np.zeros((2, N), np.int64)
            flips, table = rng.integers(0, flip + 1, N, np.uint8), np.zeros((1, shape[3], shape[1]))
            return normal(rng, *shape), top, left, flips, 0, table, out(*shape)

        def args_affine(rng, shape=shape, N=N, H=H, W=W):
            angle = rng.uniform(-0.2, 0.2, N)
            turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(N, 2, 2)
            centre = np.array([W / 2, H / 2])
            theta = np.concatenate([turn, (centre - turn @ centre)[..., None]], 2)
            return normal(rng, *shape), theta, 0, 0.0, out(*shape)

        def torch_affine(torch, x, theta, mode, value, y_out, H=H, W=W):
            a, (h, w) = theta.float(), (H, W)  # as affine_grid has it: from -1 to 1
            a = torch.stack([a[:, 0, 0], a[:, 0, 1] * h / w, (a[:, 0, 0] * w + a[:, 0, 1] * h + 2 * a[:, 0, 2]) / w - 1,
                             a[:, 1, 0] * w / h, a[:, 1, 1],
                             (a[:, 1, 0] * w + a[:, 1, 1] * h + 2 * a[:, 1, 2]) / h - 1], 1).view(-1, 2, 3)
            call = torch.nn.functional
            return lambda: [call.grid_sample(x, call.affine_grid(a, x.shape, align_corners=False),
                                             align_corners=False)]

        common = {"family": "image", "quick": quick, "bytes": 8 * size}
        rows += [
            Case(kernel="crop", label=f"{label}, whole", args=args_crop, **common),
            Case(kernel="crop", label=f"{label}, padded", args=lambda rng, a=args_crop: a(rng, 1), **common),
            Case(kernel="affine", label=label, args=args_affine, torch=torch_affine, tol=1e-3, **common),
        ]  # fmt: skip
    return rows + [doubled(shape, quick) for shape, quick in FEATURES]


def doubled(shape: tuple[int, ...], quick: bool) -> Case:
    """Images of twice the size, bilinear."""

    def axis(n: int) -> tuple[np.ndarray, np.ndarray]:
        place = np.clip((np.arange(2 * n) - 0.5) / 2, 0, n - 1)
        first = np.minimum(place.astype(int), n - 2)
        return first, np.stack([1 - (place - first), place - first], 1).astype(np.float32)

    def args(rng):
        return normal(rng, *shape), *axis(shape[2]), *axis(shape[3]), out(*shape[:2], 2 * shape[2], 2 * shape[3])

    def torch_interpolate(torch, x, top, down, left, along, y_out):
        return lambda: [torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")]

    return Case(family="image", kernel="resample", label="x".join(map(str, shape)), args=args, torch=torch_interpolate,
                bytes=20 * math.prod(shape), quick=quick)


class Batch(Row):
    """A batch of images of 32x32 flipped, cropped and normalized by `data.transforms`."""

    size = 128 * 3 * 32 * 32

    def __init__(self, name: str, whole: bool) -> None:
        self.name, self.whole = f"{name} 128x3x32x32", whole
        self.bytes = self.working_set = self.size * (5 if whole else 8)

    def has(self, library: str) -> bool:
        return not library.startswith("torch")

    def runner(self) -> Callable[[], list]:
        from fastnn.data import transforms

        x = normal(np.random.default_rng(0), 128, 3, 32, 32)
        x = np.clip(64 * x + 128, 0, 255).astype(np.uint8, order="K") if self.whole else x
        steps = transforms.Compose([
            *([transforms.ToFloat()] if self.whole else []), transforms.RandomHorizontalFlip(),
            transforms.RandomCrop(32, padding=4), transforms.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
        ])  # fmt: skip
        return lambda: [steps(x, generator=0).numpy()]


def runner(library: str, i: int, threads: int) -> Callable[[], list]:
    """What a worker times for row i."""
    return kernel_runner(library, CASES[i], threads) if isinstance(CASES[i], Case) else CASES[i].runner()


CASES = [*cases(), Batch("flip, crop, normalize", False), Batch("uint8 to float, flip, crop, normalize", True)]

if __name__ == "__main__":
    main(CASES, __doc__)
