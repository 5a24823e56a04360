"""Arithmetic of arrays, and copies from one memory order to another."""

import math

from common import Case, main, normal, out

SIZES = (10_000, 100_000, 1_000_000, 16_000_000)
COPIES = (((64, 64, 7, 7), False), ((64, 3, 32, 32), True), ((32, 3, 224, 224), True), ((64, 64, 32, 32), True),
          ((64, 64, 32, 32), False))  # fmt: skip


def cases() -> list[Case]:
    rows = []
    for name in ("add", "sub", "mul", "div"):
        for n in SIZES:

            def args(rng, n=n):
                return normal(rng, n), normal(rng, n), out(n)

            def torch_op(torch, x, y, z_out, name=name):
                op = getattr(torch, name)
                return lambda: [op(x, y, out=z_out)]

            rows.append(Case("elementwise", name, f"{n:,}", args, bytes=12 * n, torch=torch_op,
                             quick=name == "add" and n < 10**7))  # fmt: skip
    for shape, to_last in COPIES:

        def args_copy(rng, shape=shape, to_last=to_last):
            plain, last = normal(rng, *shape).copy(order="C"), out(*shape)
            return (plain, last) if to_last else (last + 1, plain)

        def torch_copy(torch, x, y_out, to_last=to_last):  # tensors come in one order
            orders = torch.contiguous_format, torch.channels_last
            x = x.contiguous(memory_format=orders[not to_last])
            y_out = y_out.contiguous(memory_format=orders[to_last])
            return lambda: [y_out.copy_(x)]

        label = f"{'x'.join(map(str, shape))} {'to' if to_last else 'from'} channels-last"
        rows.append(Case("elementwise", "copy", label, args_copy, bytes=8 * math.prod(shape), torch=torch_copy,
                         quick=math.prod(shape) < 10**6))  # fmt: skip
    for shape in ((64, 16, 28, 28), (32, 128, 16, 16)):

        def args_scale(rng, shape=shape):
            return normal(rng, *shape), normal(rng, *shape[:2]), out(*shape)

        def torch_scale(torch, x, factor, y_out):
            return lambda: [torch.mul(x, factor[:, :, None, None], out=y_out)]

        rows.append(Case("elementwise", "scale_channels", "x".join(map(str, shape)), args_scale,
                         bytes=8 * math.prod(shape), torch=torch_scale))  # fmt: skip
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
