"""Matrix products: the linear layers of the networks, 1×1 convolutions, square ones."""

from common import Case, main, normal, out

# rows, terms, columns, whether the second factor is transposed in memory (a linear layer's weight)
SHAPES = (
    ((128, 784, 256), True), ((64, 3136, 128), True), ((128, 128, 10), True), ((1, 784, 256), True),
    ((512, 512, 512), True), ((16384, 64, 128), True), ((784, 128, 256), False), ((1536, 1536, 1536), False),
)  # fmt: skip


def cases() -> list[Case]:
    rows = []
    for (m, k, n), quick in SHAPES:
        for transposed in (False, True):
            def args(rng, m=m, k=k, n=n, transposed=transposed):
                return normal(rng, m, k), normal(rng, n, k).T if transposed else normal(rng, k, n), None, out(m, n)

            rows.append(
                Case(
                    "matmul", "matmul", f"{m}x{k} @ {k}x{n}{' (transposed)' * transposed}", args,
                    flops=2 * m * k * n, bytes=4 * (m * k + k * n + m * n), quick=quick,
                    torch=lambda torch, a, b, bias, c_out: lambda: [a @ b],
                )
            )  # fmt: skip
    return rows


CASES = cases()

if __name__ == "__main__":
    main(CASES, __doc__)
