"""Padding against NumPy's, its gradient, the memory order, and cropping."""
import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import layout, nn

NAMES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", NAMES)
@pytest.mark.parametrize(("shape", "widths"), [
    ((2, 3, 4, 5), (1, 3, 2, 0)), ((3, 6, 5), (4, 2, 0, 5)), ((2, 3, 5), (2, 4)), ((4, 7), (6, 0)),
    ((2, 1, 5, 40), (3, 4, 4, 4)), ((2, 3, 4, 5), (0, 0, 0, 0))])
def test_pad_against_numpy(rng, mode, shape, widths):
    def oracle(x, **_):
        borders = [(0, 0)] * (x.ndim - len(widths) // 2) + [*zip(widths[-2::-2], widths[::-2], strict=True)]
        return np.pad(x, borders, NAMES[mode], **({"constant_values": 2.5} if mode == "constant" else {}))

    kwargs = {"pad": widths, "mode": mode} | ({"value": 2.5} if mode == "constant" else {})
    check(F.pad, rng.standard_normal(shape), oracle=oracle, kwargs=kwargs)


def test_negative_widths_crop(rng):
    x = rng.standard_normal((2, 3, 6, 7))
    three, pad = ((0, 0),) * 3 + ((3, 0),), (3, -2, -1, 0)
    check(F.pad, x, oracle=lambda x, **_: np.pad(x[..., 1:, :-2], three), kwargs={"pad": pad})
    check(F.pad, x, oracle=lambda x, **_: np.pad(x, three, "reflect")[..., 1:, :-2], kwargs={"pad": pad,
                                                                                             "mode": "reflect"})
    assert F.pad(fastnn.tensor(x), (-7, 0)).shape == (2, 3, 6, 0)
    assert F.pad(fastnn.tensor(x), ()).array is not x


def test_memory_order_stays(rng):
    x = fastnn.Tensor(layout.channels_last(rng.standard_normal((2, 3, 4, 5))))
    for mode in NAMES:
        assert layout.is_channels_last(F.pad(x, (1, 1, 1, 1), mode).array)


def test_of_what_is_no_float():
    assert F.pad(fastnn.tensor([1, 2]), (1, 1), value=7).tolist() == [7, 1, 2, 7]
    assert F.pad(fastnn.tensor([[True]]), (1, 0)).tolist() == [[False, True]]


@pytest.mark.parametrize(("args", "error", "words"), [
    (((1, 2, 3),), ValueError, "3 numbers do not fit"), (((1, 1), "mirror"), ValueError, "mode must be"),
    (((1.5, 1),), TypeError, "integers"), (((3, 0), "reflect"), ValueError, "does not pad an axis of size 3 by"),
    (((1, 1), "circular", 2.0), ValueError, "value=2.0"), (((4, 0), "circular"), ValueError, "axis of size 3"),
    (((-2, -2),), ValueError, "axis of size 3"), (((1,) * 6, "replicate"), ValueError, "6 numbers do not fit"),
])
def test_bad_input(args, error, words):
    with pytest.raises(error, match=f"pad: .*{words}"):
        F.pad(fastnn.ones(1, 2, 3), *args)


def test_modules(rng):
    x = fastnn.tensor(rng.standard_normal((2, 3, 4, 5)))
    borders = (0, 0), (0, 0), (0, 1), (1, 2)
    close(nn.ConstantPad2d((1, 2, 0, 1), 3.0)(x), np.pad(x.array, borders, constant_values=3.0))
    assert repr(nn.ConstantPad2d(1, 3.5)) == "ConstantPad2d(padding=(1, 1, 1, 1), value=3.5)"
    assert repr(nn.CircularPad1d((1, 2))) == "CircularPad1d((1, 2))"
    close(nn.ReflectionPad2d(2)(x[0]), np.pad(x.array[0], ((0, 0), (2, 2), (2, 2)), "reflect"))
