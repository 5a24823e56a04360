"""Max, average and adaptive pooling, forward and backward."""

import math

import numpy as np
from common import Case, main, normal, out

# shape, kernel, stride, padding
WINDOWS = (
    ((64, 32, 28, 28), (2, 2), (2, 2), (0, 0), True),
    ((64, 64, 32, 32), (3, 3), (2, 2), (1, 1), True),
    ((16, 64, 112, 112), (3, 3), (2, 2), (1, 1), False),
)
ADAPTIVE = (((128, 64, 8, 8), 1, True), ((64, 256, 14, 14), 3, False))


def cases() -> list[Case]:
    rows = []
    for shape, kernel, stride, padding, quick in WINDOWS:
        sizes = zip(shape[2:], kernel, stride, padding, strict=True)
        pooled = *shape[:2], *((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
        label = f"{'x'.join(map(str, shape))}, {kernel[0]}x{kernel[1]}, /{stride[0]}"
        size, size_out = 4 * math.prod(shape), 4 * math.prod(pooled)
        window = (kernel, stride, padding)

        def max_forward(rng, shape=shape, pooled=pooled, window=window):
            return normal(rng, *shape), out(*pooled), out(*pooled, dtype=np.uint8), *window, (1, 1)

        def max_backward(rng, shape=shape, pooled=pooled, window=window):
            from fastnn import backend

            x, y, place = normal(rng, *shape), out(*pooled), out(*pooled, dtype=np.uint8)
            backend.pooling.max_pool2d(x, y, place, *window, (1, 1), 1)
            return normal(rng, *pooled), place, out(*shape), *window, (1, 1)

        def avg_forward(rng, shape=shape, pooled=pooled, window=window):
            return normal(rng, *shape), out(*pooled), *window, True, 0

        def avg_backward(rng, shape=shape, pooled=pooled, window=window):
            return normal(rng, *pooled), out(*shape), *window, True, 0

        def torch_max(torch, x, y_out, place_out, kernel, stride, padding, dilation):
            call = torch.nn.functional.max_pool2d
            return lambda: [call(x, kernel, stride, padding, dilation, return_indices=True)[0], None]

        def torch_avg(torch, x, y_out, kernel, stride, padding, *_):
            return lambda: [torch.nn.functional.avg_pool2d(x, kernel, stride, padding)]

        def torch_avg_backward(torch, dy, dx_out, kernel, stride, padding, *_):
            call = torch.ops.aten.avg_pool2d_backward
            return lambda: [call(dy, dx_out, kernel, stride, padding, False, True, None)]

        common = {"family": "pooling", "label": label, "quick": quick}
        rows += [
            Case(kernel="max_pool2d", args=max_forward, bytes=size + 1.25 * size_out, torch=torch_max, **common),
            Case(kernel="max_pool2d_backward", args=max_backward, bytes=size + 1.25 * size_out, **common),
            Case(kernel="avg_pool2d", args=avg_forward, bytes=size + size_out, torch=torch_avg, **common),
            Case(kernel="avg_pool2d_backward", args=avg_backward, bytes=size + size_out, torch=torch_avg_backward,
                 **common),
        ]  # fmt: skip
    for shape, size_out, quick in ADAPTIVE:
        pooled = *shape[:2], size_out, size_out
        size, label = 4 * math.prod(shape), f"{'x'.join(map(str, shape))} to {size_out}x{size_out}"
        common = {"family": "pooling", "label": label, "quick": quick, "bytes": size}
        rows += [
            Case(kernel="avg_pool2d", **common,
                 args=lambda rng, shape=shape, pooled=pooled: (
                     normal(rng, *shape), out(*pooled), None, None, None, False, 0),
                 torch=lambda torch, x, y_out, *_: lambda: [torch._adaptive_avg_pool2d(x, y_out.shape[2:])]),
            Case(kernel="avg_pool2d_backward", **common,
                 args=lambda rng, shape=shape, pooled=pooled: (
                     normal(rng, *pooled), out(*shape), None, None, None, False, 0),
                 torch=lambda torch, dy, dx_out, *_: lambda: [
                     torch.ops.aten._adaptive_avg_pool2d_backward(dy, dx_out)]),
            Case(kernel="max_pool2d", **common,
                 args=lambda rng, shape=shape, pooled=pooled: (
                     normal(rng, *shape), out(*pooled), out(*pooled, dtype=np.int32), *(None,) * 4),
                 torch=lambda torch, x, y_out, *_: lambda: [
                     torch.nn.functional.adaptive_max_pool2d(x, y_out.shape[2:], return_indices=True)[0], None]),
            Case(kernel="max_pool2d_backward", **common,
                 args=lambda rng, shape=shape, pooled=pooled: (
                     normal(rng, *pooled), out(*pooled, dtype=np.int32), out(*shape), *(None,) * 4)),
        ]  # fmt: skip
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
