"""Random convolutions: forward and both gradients, against PyTorch's faster memory format.

The shapes follow from --seed: kernels of 1 to 7 in each direction, strides of 1 to 3, 1 to 300 channels and filters
(small numbers being more frequent), maps of 4 to 64 in each direction, batches of 1 to 64, some of them grouped or
depthwise, none of more than 3 GFLOP a pass.
The results are compared first; --check stops there. What counts is the time of the three passes together, PyTorch's
with NCHW or with channels-last tensors, whichever is less. The ten worst are timed again, pass by pass.
"""

import math

import numpy as np
from common import Comparison, Limits, Row, best, kernel_runner, parse, parser_for, write
from conv import Convolution, passes

FLOPS, ELEMENTS = 3e9, 1 << 22
"""Bounds: of a pass, and of the largest tensor."""


def channels(rng: np.random.Generator) -> int:
    """From 1 to 300, the logarithm evenly spread: networks have few channels as often as many."""
    return int(math.exp(rng.uniform(0, math.log(301))))


def draw(rng: np.random.Generator) -> Convolution:
    """A random convolution within the bounds: one of eight is depthwise, one of eight has 2 to 8 groups."""
    while True:
        kernel = int(rng.integers(1, 8)), int(rng.integers(1, 8))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        C, F, kind = channels(rng), channels(rng), rng.integers(8)
        groups = C if kind == 0 else int(rng.integers(2, 9)) if kind == 1 else 1
        if kind == 0:
            F = C
        elif kind == 1:
            C, F = (min(300 // groups, math.ceil(n / groups)) * groups for n in (C, F))
        N, H, W, stride = (int(rng.integers(*ends)) for ends in ((1, 65), (4, 65), (4, 65), (1, 4)))
        conv = Convolution(N, C, H, W, F, kernel, stride, padding, groups)
        x, _, y = conv.shapes
        fits = H + 2 * padding[0] >= kernel[0] and W + 2 * padding[1] >= kernel[1]
        if fits and conv.flops <= FLOPS and max(math.prod(x), math.prod(y)) <= ELEMENTS:
            return conv


class All(Row):
    """The three passes of a convolution as one row."""

    def __init__(self, conv: Convolution):
        parts = passes(conv)
        self.name, self.flops, self.bytes = str(conv), sum(p.flops for p in parts), sum(p.bytes for p in parts)
        self.working_set = parts[0].working_set


def runner(library: str, key: tuple[Convolution, int | None], threads: int):
    """All passes of a convolution, or one of them."""
    conv, which = key
    parts = passes(conv) if which is None else [passes(conv)[which]]
    runs = [kernel_runner(library, part, threads) for part in parts]
    return lambda: [y for run in runs for y in run()]


def main() -> None:
    from fastnn import backend

    parser = parser_for(__doc__, ("twin", "torch", "torch-cl"), ("torch", "torch-cl"))
    parser.add_argument("--count", type=int, default=200, help="how many convolutions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="compare the results and time nothing")
    options = parse(parser)
    rng = np.random.default_rng(options.seed)
    chosen = [conv for conv in (draw(rng) for _ in range(options.count)) if any(p in str(conv) for p in options.only)]
    limits = None if options.check else Limits(backend.isa, 0.02)
    with Comparison(options, limits) as comparison:
        if options.check:
            for conv in chosen:
                comparison.check((conv, None), All(conv))
            print(f"{len(chosen)} convolutions, forward and both gradients: compared with {', '.join(options.peers)}")
            return
        comparison.print_head("Random convolutions")
        options.rounds = 2 if options.quick else 5
        results = {conv: comparison.measure((conv, None), All(conv))[-1] for conv in chosen}
        comparison.print_summary("all", list(results.values()))
        print("\nThe worst, pass by pass:")
        for conv in sorted(results, key=lambda conv: best(results[conv]))[:10]:
            results[conv]["passes"] = [comparison.measure((conv, i), p)[-1] for i, p in enumerate(passes(conv))]
    write(options.json, list(results.values()), limits)


if __name__ == "__main__":
    main()
