"""What kernels are tried on: for each family a generator of cases, each with K, the number of terms of its longest sum.

A case gives a value to every argument name of its family, and a kernel takes those that its signature has. So forward
and backward kernels share cases; where they must differ, `name` tells. Outputs begin as random numbers, to be replaced.
"""
import math

import numpy as np

from fastnn import layout
from fastnn.functional.arguments import n_windows


class Arrays:
    """Makes random arrays of one dtype; 4-D ones have the shape (N, C, H, W) and channels-last memory."""

    def __init__(self, seed, dtype):
        self.rng, self.dtype = np.random.default_rng(seed), dtype

    def normal(self, shape):
        array = layout.empty(shape, self.dtype, len(shape) == 4)
        array[...] = self.rng.standard_normal(shape)
        return array

    def special(self, shape):
        """Normal values, about every fourth replaced by ±0, a subnormal, ±inf, NaN or ±1 (so that ties occur)."""
        array, tiny = self.normal(shape), np.finfo(self.dtype).smallest_subnormal
        choices = np.array([0.0, -0.0, tiny, -7 * tiny, np.inf, -np.inf, np.nan, 1.0, -1.0], self.dtype)
        places = self.rng.random(shape) < 0.25
        array[places] = self.rng.choice(choices, places.sum())
        return array

    def weight(self, F, C, kH, kW):
        """Of a convolution, in the memory order of parameters: kH, kW, C, F."""
        return self.normal((kH, F, kW, C)).transpose(1, 3, 0, 2)


ELEMENTS = [(), (0, 3), (1,), (7,), (16,), (33,), (5, 3), (2, 1, 5, 7), (3, 5, 4, 3), (2, 130, 3, 3), (40_001,)]


PARAMS = {  # exact in both dtypes, so that comparisons with them come out alike, and y + a vanishes in both
    "threshold": [(0.5, -1.0), (-0.5, 2.0)], "leaky_relu": [(0.25,), (0.0,), (-0.5,)],
    "elu": [(1.0, 1.0, 1.0), (0.25, 4.0, 1.0), (0.0, 1.0, 1.0), (1.75, 1.0, 1.0625)],
    "softplus": [(1.0, 20.0), (-1.0, np.inf), (4.0, 1.0)], "gelu_tanh": [(1.625, 0.0625)],
    "hardtanh": [(-1.0, 1.0), (0.0, 6.0)], "hardshrink": [(0.5,), (0.0,), (-1.0,)], "softshrink": [(0.5,), (0.0,)]}


def activation(name, make):
    # every magnitude at which the exponential does something else: tiny, steps of its reduction, overflow
    finfo, choices = np.finfo(make.dtype), PARAMS.get(name.removesuffix("_backward"), [()])
    wide = np.concatenate([np.geomspace(finfo.tiny / 8, 1, 2000), np.linspace(1, 2 * np.log(finfo.max), 5000)])
    for i, x in enumerate([*map(make.special, ELEMENTS), np.concatenate([wide, -wide]).astype(make.dtype)]):
        params = choices[i % len(choices)]
        ranges = {"sigmoid_backward": (0, 1), "tanh_backward": (-1, 1), "softsign_backward": (-1, 1),
                  "elu_backward": (-sum(params[:1]), np.inf)}
        kept = np.clip(x, *ranges.get(name, (-np.inf, np.inf)), out=make.normal(x.shape))
        dy = (make.special if i < len(ELEMENTS) else make.normal)(x.shape)  # ∞·0 where the derivative vanishes early
        weight = make.normal(((1, 5, 64)[i % 3],))
        if name == "prelu_backward":
            x, dy = make.normal(x.shape), make.normal(x.shape)  # a sum of unlike infinities is NaN
        elif name.startswith("glu"):
            x, dy = (np.atleast_2d(a).reshape(-1, a.shape[-1] if a.ndim else 1) for a in (x, dy))
            x = np.hstack([x, dy])
        yield {"x": x, "kept": kept, "dy": dy, "params": params, "weight": weight,
               "y_out": make.normal(dy.shape), "dx_out": make.normal(x.shape),
               "sums_out": make.normal((weight.size * (1 + i % 4),))}, {
                   "prelu_backward": x.size // weight.size, "gelu_tanh_backward": 4}.get(name, 1)


# N, C, H, W; F; kernel, stride, padding, dilation; groups: nothing square, borders beyond the kernel, depthwise
CONVOLUTIONS = [
    ((2, 1, 9, 8), 6, (5, 3), (1, 1), (2, 0), (1, 1), 1), ((1, 3, 11, 17), 33, (3, 2), (2, 1), (1, 1), (1, 2), 1),
    ((3, 16, 7, 7), 10, (3, 3), (1, 1), (1, 1), (1, 1), 1), ((2, 130, 4, 5), 17, (1, 3), (1, 1), (0, 2), (1, 1), 1),
    ((2, 17, 5, 31), 40, (1, 1), (1, 1), (0, 0), (1, 1), 1), ((2, 5, 8, 9), 7, (1, 1), (2, 3), (0, 0), (1, 1), 1),
    ((1, 4, 6, 13), 8, (2, 3), (3, 2), (5, 4), (2, 3), 1), ((2, 12, 9, 6), 15, (3, 1), (1, 2), (1, 0), (1, 1), 3),
    ((2, 33, 9, 14), 33, (3, 5), (1, 1), (1, 2), (1, 1), 33), ((1, 6, 12, 7), 6, (3, 3), (2, 1), (0, 1), (2, 1), 6),
    ((1, 8, 10, 6), 8, (2, 3), (2, 2), (1, 0), (1, 2), 8), ((0, 3, 5, 5), 4, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((1, 2, 3, 4), 0, (3, 3), (1, 1), (1, 1), (1, 1), 1), ((4, 32, 21, 19), 64, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 4, 22, 8), 17, (3, 2), (2, 1), (1, 1), (1, 1), 1), ((4, 7, 22, 15), 9, (1, 4), (1, 2), (0, 2), (1, 1), 1),
]


def conv(name, make):
    for i, (shape, F, kernel, stride, padding, dilation, groups) in enumerate(CONVOLUTIONS):
        N, C, *image = shape
        size = n_windows(name, image, (kernel, stride, padding, dilation))
        weight, matrix = make.weight(F, C // groups, *kernel), (N, C * math.prod(kernel), math.prod(size))
        terms = {"conv2d": weight[:1].size, "conv2d_batch_norm": weight[:1].size,
                 "conv2d_backward_input": weight[:, :1].size, "conv2d_backward_weight": N * math.prod(size),
                 "col2im": math.prod(kernel)}
        yield {"x": make.normal(shape), "weight": np.ascontiguousarray(weight) if N == 1 else weight,
               "bias": make.normal((F,)) if i % 2 else None, "mean": make.normal((F,)) if i % 3 else None,
               "rstd": make.normal((F,)), "gamma": make.normal((F,)) if i % 4 else None,
               "beta": make.normal((F,)) if i % 5 else None, "residual": make.normal((N, F, *size)) if i % 3 else None,
               "relu": i % 2 == 0, "dy": make.normal((N, F, *size)),
               "y_out": make.normal((N, F, *size)), "dx_out": make.normal(shape),
               "dweight_out": make.weight(*weight.shape), "columns": make.normal(matrix), "x_out": make.normal(shape),
               "columns_out": make.normal(matrix), "kernel": kernel, "stride": stride, "padding": padding,
               "dilation": dilation, "groups": groups, "size": size}, terms.get(name, 1)


DROPOUTS = [
    ((), 0.5, 0), ((0, 3), 0.5, 1), ((1,), 0.9, 2), ((63,), 0.1, 3), ((64,), 0.5, 2**64 - 1), ((5, 13), 0.0, 5),
    ((1023,), 0.25, 6), ((1025,), 1.0, 7), ((2, 3, 5, 7), 0.5, 8), ((3, 130, 4, 5), 0.7, 2**32), ((33_001,), 1 / 3, 10)]


def dropout(name, make):
    for shape, p, seed in DROPOUTS:
        mask = make.rng.integers(0, 2**64, (math.prod(shape) + 63) // 64, np.uint64)
        yield {"x": make.special(shape), "dy": make.special(shape), "mask": mask, "p": p, "seed": seed,
               "y_out": make.normal(shape), "mask_out": mask, "dx_out": make.normal(shape)}, 1


# shapes and the order of their axes in memory, outermost first
ORDERS = [((0, 3), (1, 0)), ((7,), (0,)), ((5, 3), (1, 0)), ((2, 3, 5, 7), (0, 2, 3, 1)),
          ((3, 40, 9, 7), (0, 2, 3, 1)), ((2, 3, 4, 5), (3, 0, 1, 2)), ((2, 6, 11, 3), (0, 2, 3, 1)),
          ((130, 70), (1, 0)), ((3, 5, 9, 130), (2, 3, 1, 0)),
          ((4, 8, 30, 33), (0, 2, 3, 1)), ((40_001,), (0,)), ((16, 17, 33, 9), (3, 1, 0, 2))]


def elementwise(name, make):
    """Arithmetic: two arrays alike in memory, or one a number. Copies: between orders of axes, from strided memory."""
    def order(array, axes):
        return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))

    for shape in [(2, 3, 5, 7), (3, 1, 9, 4), (2, 300, 3, 5), (1, 64, 40, 30), (0, 3, 2, 2), (2, 6, 70, 50)]:
        for order in (np.asarray, np.ascontiguousarray) if name == "scale_channels" else ():
            yield {"x": order(make.special(shape)), "factor": make.special(shape[:2]),
                   "y_out": order(make.normal(shape))}, 1
    for i, (shape, axes) in enumerate(ORDERS if name != "scale_channels" else ()):
        x, y, out = (order(make.special(shape), axes) for _ in range(3))
        number = np.asarray(make.normal((1,))[0])
        pairs = [(x, y), (x, number), (number, y)]
        if name == "copy":
            wide = make.normal((*shape[:-1], 2 * shape[-1]))
            pairs = [(np.ascontiguousarray(x), out), (x, np.ascontiguousarray(out)), (wide[..., ::2], out),
                     (np.broadcast_to(x[:1], shape), out), (x[..., ::-1], np.ascontiguousarray(out))]
        for a, b in pairs[: 2 if i > 8 else 5]:
            yield {"x": a, "y": b, "y_out": b, "z_out": out}, 1


# N, C, H, W and size of the output: rows longer and shorter than the image's, few channels and many, one pixel
IMAGES = [((3, 1, 7, 5), (9, 4)), ((4, 3, 5, 8), (5, 8)), ((2, 3, 6, 4), (1, 11)), ((5, 17, 3, 4), (4, 5)),
          ((6, 2, 1, 1), (3, 4)), ((0, 3, 5, 5), (4, 4)), ((9, 3, 2, 1), (3, 2)), ((3, 4, 1, 6), (2, 6)),
          ((2, 3, 4, 4), (0, 3)), ((2, 3, 61, 90), (63, 91)), ((1, 1, 150, 131), (140, 133))]


def image(name, make):
    """Offsets and maps near and far; numbers that are not finite only in maps by whole pixels, which round alike."""
    far = np.iinfo(np.int64)
    for i, (shape, size) in enumerate(IMAGES):
        N, C, H, W = shape
        for mode in range(4) if name == "crop" else (0, 1, 3):
            top, left = (make.rng.integers(-2 * n, 2 * n + 1, N) for n in (H, W))
            theta = make.rng.normal([[[1, 0, 0], [0, 1, 0]]], 0.6, (N, 2, 3)) * (1, 1, max(H, W) / 2)
            if i % 2:
                top[:2], left[1:3] = (far.min, far.max)[:N], (far.max, far.min)[: max(N - 1, 0)]
                theta[:1], theta[1:2, 0] = (np.nan, 1e300, np.inf), (0, -np.inf, 0)
            x = make.special(shape)
            if name == "affine" and mode:
                x = make.normal(shape)
            elif name == "affine":
                x, theta = (make.normal(shape), theta) if i % 3 else (x, np.rint(theta))
            elif (i + mode) % 3 == 1:
                x = layout.channels_last(make.rng.integers(0, 256, shape, np.uint8))
            table = make.rng.normal(size=((3, 1)[(i + mode) % 2], size[1], C))
            flip = make.rng.integers(0, 4, N, np.uint8)
            if name == "resample":
                taps = [min(n, 1 + mode + i % 2) for n in (H, W)]
                top, left = (make.rng.integers(0, n - t + 1, out) for n, t, out in zip((H, W), taps, size, strict=True))
                down, along = (make.normal(shape) for shape in zip(size, taps, strict=True))
                down[:, 1::2] *= mode < 3
                yield {"x": make.normal(shape), "top": top, "down": down, "left": left, "along": along,
                       "y_out": make.normal((N, C, *size))}, math.prod(taps)
                continue
            yield {"x": x, "top": top, "left": left, "flip": flip, "mode": mode, "table": table, "theta": theta,
                   "value": (0.0, 0.5, -2.0)[i % 3], "y_out": make.normal((N, C, *size))}, (
                       1 if name == "crop" else 4 if make.dtype == np.float32 else 400 * (H + W) ** 2)


# M, N, K, some in stacks: sizes around the tile's, few rows, long sums
PRODUCTS = [(1, 1, 1), (1, 33, 70), (3, 130, 65), (5, 17, 9), (14, 32, 40), (15, 33, 257), (29, 10, 31), (6, 5, 0),
            (0, 4, 3), (100, 70, 120), (9, 12, 4200), (130, 250, 784), (3, 1, 33, 70), (3, 3, 130, 65), (3, 5, 17, 9),
            (3, 14, 32, 40)]


def matmul(name, make):
    for i, (*stack, M, N, K) in enumerate(PRODUCTS):
        a = make.normal((*stack, K, M)).swapaxes(-1, -2) if i % 2 else make.normal((*stack, M, K))
        b = make.normal((*stack, N, K)).swapaxes(-1, -2) if i % 3 else make.normal((*stack, K, N))
        yield {"a": a, "b": b, "bias": make.normal((N,)) if i % 4 else None, "c_out": make.normal((*stack, M, N))}, K
    b = np.eye(3, dtype=make.dtype)[:, :1]
    yield {"a": make.special((130, 3)), "b": b, "bias": None, "c_out": make.normal((130, 1))}, 3


NORMALIZED = [(2, 1), (5, 3), (200, 7), (70, 130), (33, 600), (2, 1, 5, 7), (3, 6, 9, 11), (2, 33, 4, 5),
              (1, 130, 3, 2), (5000, 1), (16, 32, 32, 32)]


# rows and groups of channels
NORMALIZED_ROWS = [(1, 1), (70, 3), (131, 7), (5, 31), (700, 64), (3, 130), (90, 768), (2, 4099), (1, 100_003)]
NORMALIZED_GROUPS = [((2, 6, 4, 5), 3), ((3, 4, 1, 1), 2), ((9, 32, 7, 8), 32), ((1, 130, 3, 2), 1),
                     ((2, 3, 61, 70), 3), ((5, 64, 9, 9), 8), ((1, 520, 2, 2), 260)]


def normalization(name, make):
    if name.startswith(("layer", "group")):
        for i, case in enumerate(NORMALIZED_ROWS if "layer" in name else NORMALIZED_GROUPS):
            shape, n = (case, (case[0],)) if "layer" in name else (case[0], (case[0][0], case[1]))
            x, y, (weight, bias, *sums), mean = map(make.normal, (shape, shape, (4, shape[1]), n))
            if i == 2:
                x, y = make.special(shape), make.special(shape)
            rms, plain = "layer" in name and i % 3 == 2, i % 4 == 3
            dweight, dbias = (None, None) if plain else sums
            yield {"x": x, "dy": y, "weight": None if plain else weight, "bias": None if plain or rms else bias,
                   "eps": 0.1, "mean": None if rms else mean / 8, "y_out": make.normal(shape),
                   "rstd": make.rng.uniform(0.5, 2, n).astype(make.dtype), "mean_out": None if rms else mean,
                   "rstd_out": make.normal(n), "dx_out": None if i == 4 else make.normal(shape), "dweight_out": dweight,
                   "dbias_out": None if rms and "layer" in name else dbias}, x.size // math.prod(n) + shape[0]
        return
    for i, shape in enumerate(NORMALIZED + [(0, 3), (2, 0, 3, 1)] * (name != "batch_norm_statistics")):
        x = make.special(shape) if i == 2 or name == "batch_norm" else make.normal(shape)
        x = x + 3 * x[:1] if i == 4 else x  # a first row unlike the others
        mean, weight, bias, mean_out, rstd_out, running_mean, *sums = make.normal((8, shape[1]))
        rstd, running_var = make.rng.uniform(0.5, 2, (2, shape[1])).astype(make.dtype)
        dweight_out, dbias_out = (None, None) if i == 6 else sums
        weight, bias, K = None if i in (3, 4) else weight, None if i == 4 else bias, x[:, :1].size
        y, g_out, relu = make.special(shape), make.normal(shape), i % 4 > 0
        if i % 4 == 1:  # the sign is found again, but not where rounding decides on it
            over = (1, -1, *(1,) * (len(shape) - 2))
            scale = rstd if weight is None else rstd * weight
            slope = (x - mean.reshape(over)) * scale.reshape(over) + (0 if bias is None else bias.reshape(over))
            x[np.abs(slope) < 1e-3] += 0.1
        yield {"x": x, "weight": weight, "bias": bias, "eps": 0.1, "momentum": 0.3, "dy": make.normal(shape),
               "mean": mean, "rstd": rstd, "residual": y if i % 4 > 1 else None, "relu": relu,
               "y": y if i % 4 > 1 else None, "g_out": g_out if i % 4 > 1 else None, "y_out": make.normal(shape),
               "mean_out": mean_out, "sum_out": mean_out, "rstd_out": rstd_out,
               "running_mean_out": None if i == 3 else running_mean,
               "running_var_out": None if i == 3 else running_var, "training": i % 3 > 0 and x.size > 0,
               "dx_out": None if i in (5, 9) else make.normal(shape), "dweight_out": dweight_out,
               "dbias_out": dbias_out}, 1 if name == "batch_norm" else K


SIZES = [(), (0,), (1,), (63,), (130, 17), (8, 3, 3, 5), (129, 130)]  # the last is longer than a unit of work
# special values?, all states?, steps so far, momentum, dampening, nesterov, beta1, beta2, eps, decoupled decay; and
# weight_decay, maximize, l1, grad_scale
STEPS = [
    (False, False, 0, 0.0, 0.0, False, 0.9, 0.999, 1e-8, 0.0, (0.0, False, 0.0, 1.0)),
    (True, False, 100_000, 0.9, 0.0, False, 0.9, 0.999, 1e-8, 0.0, (0.0, True, 0.05, 1.0)),
    (False, True, 3, 0.9, 0.3, False, 0.9, 0.999, 1e-3, 0.0, (0.1, False, 0.0, 2.0)),
    (True, True, 4, 0.9, 0.0, True, 0.3, 0.5, 1e-3, 0.1, (0.0, False, 0.05, 2.0)),
    (True, False, 5, 0.0, 0.0, False, 0.0, 0.0, 1e-3, 0.1, (0.1, True, 0.05, 1.0)),
    (True, True, 0, 0.9, 0.0, True, 0.9, 0.99, 0.5, 0.0, (0.0, False, 0.0, 2.0))]


def optimizer(name, make):
    """Lists of parameters, gradients, state and numbers, of mixed sizes and memory orders."""
    def arrays(draw=make.normal):
        return [*map(draw, SIZES), make.weight(7, 4, 3, 5)]

    for special, full, step, momentum, dampening, nesterov, beta1, beta2, eps, decay, direction in STEPS:
        draw = make.special if special else make.normal
        squares, largest = ([np.abs(a, out=a) for a in arrays(draw)] for draw in (make.normal, draw))
        means = [np.multiply(0.3, np.sqrt(a), out=a.copy(order="K")) for a in squares]  # that fit the squares
        params, adam = arrays(), (0.01, beta1, beta2, eps, decay)
        options, states, numbers = {
            "sgd_step": ((0.1, momentum, dampening, nesterov), [arrays() if momentum else []], ()),
            "adagrad_step": ((0.1, 0.1 * full, eps), [squares], ()),
            "adadelta_step": ((0.5, beta2, eps), [squares, largest], ()),
            "rmsprop_step": ((0.01, beta2, eps, momentum),
                             [squares, means if full else [], arrays() if momentum else []], ()),
            "adam_step": (adam, [arrays(), squares, largest if full else []], ()),
            "adamax_step": ((0.001, *adam[1:4]), [arrays(), squares], ()),
            "radam_step": (adam, [arrays(), squares], ()),
            "nadam_step": ((*adam, 0.004), [arrays(), squares], (0.9,)),
            "rprop_step": ((0.5, 1.2, 0.01, 2.0), [arrays(draw), squares], ()),
            "asgd_step": ((0.01, 0.01, beta2, 2.0), [arrays()], (0.05, 0.25 if full else 1.0)),
        }.get(name, ((), [], ()))
        case = {"params_out": params, "grads": arrays(draw), "states_out": states, "options": [*options],
                "numbers_out": [[np.array(x, np.float32) for _ in params] for x in (step, *numbers)],
                "direction": direction, "grads_out": arrays(draw), "factor": 0.3, "limit": 0.4,
                "largest": direction[1], "norm_out": np.array(7.0)}
        yield case, 1
    yield {key: [] if isinstance(value, list) else value for key, value in case.items()}, 1


# N, C, H, W; kernel, stride, padding, dilation
WINDOWS = [
    ((2, 1, 5, 7), (2, 2), (2, 2), (0, 0), (1, 1)), ((1, 6, 9, 8), (3, 2), (2, 3), (1, 0), (1, 1)),
    ((2, 17, 6, 11), (2, 3), (1, 2), (1, 1), (2, 3)), ((1, 130, 5, 4), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((1, 33, 4, 5), (1, 2), (3, 4), (0, 1), (1, 1)),  # inputs between windows
    ((1, 3, 19, 18), (17, 16), (1, 2), (8, 7), (1, 1)),  # more places than a byte holds
    ((3, 5, 7, 6), (2, 2), (2, 2), (0, 0), (1, 1)), ((2, 12, 9, 7), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((1, 17, 3, 4), (2, 2), (1, 1), (1, 1), (1, 1)), ((0, 4, 6, 6), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((3, 130, 8, 7), (8, 7), (1, 1), (0, 0), (1, 1)), ((8, 32, 16, 16), (16, 16), (1, 1), (0, 0), (1, 1)),
    ((8, 32, 32, 32), (2, 2), (2, 2), (0, 0), (1, 1)), ((3, 3, 7, 37), (2, 2), (2, 2), (0, 1), (1, 1)),
    ((2, 2, 6, 41), (3, 4), (1, 1), (1, 2), (2, 1)), ((2, 1, 9, 40), (3, 3), (2, 2), (1, 1), (1, 1)),
]


def pooling(name, make):
    for i, (shape, kernel, stride, padding, dilation) in enumerate(WINDOWS * 2):
        maximum, (N, C, *image), K = "max" in name, shape, math.prod(kernel)
        size = n_windows(name, image, (kernel, stride, padding, dilation if maximum else (1, 1)), ceil_mode=i % 2)
        dy, adaptive = make.normal((N, C, *size)), i >= len(WINDOWS)  # without kernel
        places = (math.prod(image), np.int32) if adaptive or K > 256 else (K, np.uint8)  # in the plane, or the window
        place = layout.channels_last(make.rng.integers(0, places[0], dy.shape, places[1]))
        yield {"x": make.special(shape) if maximum or i < 2 else make.normal(shape), "dy": dy, "place": place,
               "y_out": make.normal(dy.shape), "place_out": place, "dx_out": make.normal(shape),
               "kernel": None if adaptive else kernel, "stride": stride, "padding": padding, "dilation": dilation,
               "count_include_pad": i % 2 == 0 and not adaptive, "divisor": (0, 0, 3, -2)[i % 4]}, (
                   1 if maximum and "back" not in name else max(K, 4))


ROWS = [(0, 5), (3, 0), (1, 1), (7, 3), (5, 31), (4, 32), (3, 33), (300, 10), (2, 130), (70, 129), (2, 5003)]


def softmax(name, make):
    """Logits far from 0 and apart; and rows with ties, infinities and NaN. Some probabilities are exactly 0."""
    for i, (M, D) in enumerate(ROWS):
        y = np.maximum(make.normal((M, D)), 0)
        y /= np.maximum(y.sum(axis=1, keepdims=True), 1)
        target = make.rng.integers(0, D, M) if D else np.full(M, -100)
        target[make.rng.random(M) < 0.2] = -100
        case = {"x": make.normal((M, D)) * make.dtype.type(5) + make.dtype.type(50), "dy": make.normal((M, D)),
                "y": np.log(y) if "log" in name else y, "target": target, "ignore_index": -100, "label_smoothing": 0.0,
                "weight": None if i % 2 else make.rng.random(D).astype(make.dtype),
                "dloss": make.special((1 if i == 7 else M,)), "dx": make.special((M, D)), "y_out": make.normal((M, D)),
                "loss_out": make.normal((M,)), "sums_out": make.rng.random(2), "dx_out": make.normal((M, D))}
        odd = {"x": make.special((M, D)), "dy": make.special((M, D)),
               "y": np.minimum(make.special((M, D)), 0 if "log" in name else np.inf)}
        for change in {}, {"label_smoothing": 0.3}, odd:  # no smoothing beside -inf: 0·inf is NaN
            yield case | change, 1 if name == "cross_entropy_backward" else D
