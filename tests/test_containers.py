"""Sequential, ModuleList, ModuleDict, ParameterList."""

from collections import OrderedDict

import numpy as np
import pytest

import fastnn
from fastnn import nn


class Add(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, x):
        return x + self.n

    def extra_repr(self):
        return str(self.n)


def numbers(container):
    return [m.n for m in container]


def keys(container):
    return list(container._modules)


def test_sequential_calls_in_order():
    m = nn.Sequential(Add(1), nn.Sequential(Add(2), Add(3)))
    assert m(4) == 10 and len(m) == 2 and keys(m) == ["0", "1"]
    assert nn.Sequential()(5) == 5


def test_sequential_of_names():
    m = nn.Sequential(OrderedDict(a=Add(1), b=Add(2)))
    assert keys(m) == ["a", "b"] and m.a is m[0] and m(0) == 3
    m[1] = Add(5)
    assert m.b.n == 5 and keys(m[1:]) == ["b"]


def test_sequential_indexes_and_slices():
    m = nn.Sequential(*map(Add, range(5)))
    assert m[0].n == 0 and m[-1].n == 4 and m[np.int64(2)].n == 2
    part = m[1:4:2]
    assert type(part) is nn.Sequential and numbers(part) == [1, 3] and part[0] is m[1]
    for index in (5, -6):
        with pytest.raises(IndexError, match="out of range for 5 items"):
            m[index]


@pytest.mark.parametrize("kind", [lambda items: nn.Sequential(*items), nn.ModuleList])
def test_lists_change(kind):
    m = kind([Add(0), Add(1)])
    assert m.append(Add(2)) is m and m.extend([Add(3), Add(4)]) is m
    assert numbers(m) == [0, 1, 2, 3, 4] and keys(m) == list("01234")
    assert m.insert(1, Add(9)) is m and numbers(m) == [0, 9, 1, 2, 3, 4] and keys(m) == list("012345")
    m.insert(-1, Add(8))
    assert numbers(m) == [0, 9, 1, 2, 3, 8, 4]
    m[1] = Add(7)
    del m[0]
    del m[1:3]
    assert numbers(m) == [7, 3, 8, 4] and keys(m) == list("0123")
    assert not hasattr(m, "4")
    del m[-1]
    both = m + kind([Add(6)])
    assert type(both) is type(m) and numbers(both) == [7, 3, 8, 6] and len(m) == 3
    m += [Add(5)]
    assert numbers(m) == [7, 3, 8, 5]
    m.extend(m)
    assert len(m) == 8
    with pytest.raises(TypeError, match="must be a Module"):
        m.append(3)
    with pytest.raises(TypeError, match="must be a Module"):
        m[0] = "text"


def test_sequential_refuses_what_is_no_module():
    with pytest.raises(TypeError, match="Sequential: module '1' must be a Module or None, not a function"):
        nn.Sequential(Add(1), lambda x: x)


def test_module_list_registers_and_does_not_compute():
    m = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(list(m.parameters())) == 6 and [n for n, _ in m.named_parameters()][:2] == ["0.weight", "0.bias"]
    assert type(m[1:]) is nn.ModuleList and keys(m[1:]) == ["0", "1"] and m[1:][0] is m[1]
    with pytest.raises(NotImplementedError):
        m(1)


def test_module_list_prints_repeats_once():
    m = nn.ModuleList([Add(1), Add(1), Add(2), Add(3), Add(3)])
    assert repr(m) == "ModuleList(\n  (0-1): 2 x Add(1)\n  (2): Add(2)\n  (3-4): 2 x Add(3)\n)"
    assert repr(nn.ModuleList()) == "ModuleList()"


def test_module_dict():
    m = nn.ModuleDict({"b": Add(1), "a": Add(2)})
    assert list(m) == list(m.keys()) == ["b", "a"] and len(m) == 2 and "a" in m and "c" not in m
    assert m["a"] is m.a and [v.n for v in m.values()] == [1, 2]
    m.update([("c", Add(3))])
    m["b"] = Add(4)
    assert [(k, v.n) for k, v in m.items()] == [("b", 4), ("a", 2), ("c", 3)]
    assert m.pop("a").n == 2 and not hasattr(m, "a")
    del m["b"]
    with pytest.raises(KeyError):
        m["b"]
    with pytest.raises(KeyError):
        del m["training"]
    with pytest.raises(KeyError, match="already exists"):
        m["forward"] = Add(1)
    with pytest.raises(TypeError):
        m["x"] = 3
    m.clear()
    assert len(m) == 0 and repr(m) == "ModuleDict()"
    assert m != nn.ModuleDict() and len({m, nn.ModuleDict()}) == 2  # identity, as any module


def test_parameter_list():
    m = nn.ParameterList([fastnn.ones(2, 3), nn.Parameter(fastnn.zeros(1), requires_grad=False)])
    assert [type(p) for p in m] == [nn.Parameter] * 2 and [p.requires_grad for p in m] == [True, False]
    assert [n for n, _ in m.named_parameters()] == ["0", "1"] and m[-1] is m._parameters["1"]
    m.append(fastnn.ones(4)).extend([fastnn.ones(5)])
    m[0] = fastnn.zeros(6)
    assert [p.shape for p in m] == [(6,), (1,), (4,), (5,)]
    assert [p.shape for p in m[1:3]] == [(1,), (4,)]
    assert repr(m[:2]) == (
        "ParameterList(\n  (0): Parameter containing: [float32 of size 6]\n"
        "  (1): Parameter containing: [float32 of size 1]\n)"
    )
    with pytest.raises(TypeError):
        m.append(3)


def test_state_follows_the_new_numbers():
    m = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 3))
    m.insert(0, nn.Identity())
    assert list(m.state_dict()) == ["1.weight", "1.bias", "2.weight", "2.bias"]


def test_a_refused_member_leaves_the_list_as_it_was():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    members = list(net)
    with pytest.raises(TypeError):
        net.insert(0, 3)
    assert list(net) == members and list(net.state_dict()) == ["0.weight", "0.bias"]


def test_pop_and_none():
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Identity()
    net = nn.Sequential(a, b, c)
    assert net.pop(0) is a and list(dict(net.named_children())) == ["0", "1"] and net.pop() is c and list(net) == [b]
    with pytest.raises(IndexError):
        nn.ModuleList(None).pop()
    assert len(nn.ParameterList(None)) == len(nn.ModuleDict(None)) == 0
