"""gradcheck: the same verdicts, and errors of the same classes, as PyTorch's."""

import pytest

from .pairs import LIBS, normal


def double(lib, *shape):
    return lib.tensor(normal(*shape)).requires_grad_()


def wrong(lib):
    class Wrong(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 3

    return Wrong.apply


@pytest.mark.parametrize("lib", LIBS, ids=lambda lib: lib.__name__)
def test_verdicts(lib):
    check, x, y = lib.autograd.gradcheck, double(lib, 2, 3), double(lib, 3)
    assert check(lambda a, b: a * b, (x, y)) is True
    assert check(lambda a, b: (a.exp(), (a * b).sum()), (x, y))
    assert check(lambda a, b: a.sin(), (x, y))
    assert check(lambda a, k: a * k, (x, 2.0))
    assert check(wrong(lib), x, raise_exception=False) is False
    assert check(wrong(lib), x, rtol=0.6)
    assert check(lambda a: a * a, x, eps=1e-4, atol=1e-8)
    for function in (wrong(lib), lambda a: a * a.detach()):
        with pytest.raises(RuntimeError):
            check(function, x)
    with pytest.raises(ValueError, match="require"):
        check(lambda a: a * a, x.detach())
