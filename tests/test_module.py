"""nn.Module: registration, walking, hooks, state, dtypes, text, copies."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import nn


class Block(nn.Module):
    """A module with a parameter, both kinds of buffers and two children, one of which it shares with `twin`."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(fastnn.ones(3))
        self.register_buffer("mean", fastnn.zeros(3))
        self.register_buffer("scratch", fastnn.zeros(2), persistent=False)
        self.register_buffer("nothing", None)
        self.first = nn.Linear(4, 3)
        self.second = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Flatten())
        self.twin = self.first

    def forward(self, x):
        return self.second(self.first(x) * self.scale)


class Affine(nn.Module):
    """2x + y and 3y: two inputs, two outputs."""

    def forward(self, x, y, k=1):
        return x * 2 + y * k, y * 3


def double(module, args, output):
    return output * 2


# Registration ----------------------------------------------------------------------------------------------------


def test_assignment_registers_and_reads_back():
    m = Block()
    assert list(m._parameters) == ["scale"]
    assert list(m._buffers) == ["mean", "scratch", "nothing"]
    assert list(m._modules) == ["first", "second", "twin"]
    assert m.scale is m._parameters["scale"] and m.first is m._modules["first"] and m.nothing is None


def test_a_name_can_change_its_kind_but_is_in_one_registry_only():
    m = Block()
    m.mean = nn.Parameter(fastnn.ones(1))
    assert "mean" not in m._buffers and m._parameters["mean"] is m.mean
    m.mean = nn.Linear(1, 1)
    assert "mean" not in m._parameters and m._modules["mean"] is m.mean
    m.plain = 3
    m.plain = nn.Parameter(fastnn.ones(2))
    assert m._parameters["plain"] is m.plain
    del m.plain
    assert "plain" not in m._parameters and not hasattr(m, "plain")
    del m.scratch
    assert "scratch" not in m._buffers and "scratch" not in m._transient_buffers


def test_none_empties_a_registered_name_which_keeps_its_kind():
    m = Block()
    m.scale = m.first = m.mean = None
    assert m._parameters["scale"] is None and m._modules["first"] is None and m._buffers["mean"] is None
    assert "scale" not in dict(m.named_parameters()) and "mean" not in m.state_dict()
    m.mean = fastnn.ones(3)
    assert m._buffers["mean"] is m.mean
    with pytest.raises(TypeError, match="parameter 'scale' must be a Parameter or None, not a Tensor"):
        m.scale = fastnn.ones(3)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("scale", fastnn.ones(3), "parameter 'scale' must be a Parameter"),
        ("first", 3, "module 'first' must be a Module"),
        ("mean", np.zeros(3), "buffer 'mean' must be a Tensor"),
    ],
)
def test_a_registered_name_refuses_another_type(name, value, text):
    with pytest.raises(TypeError, match=text):
        setattr(Block(), name, value)


def test_names_are_checked():
    m = Block()
    for register, value in (
        (m.register_parameter, nn.Parameter(fastnn.ones(1))),
        (m.register_buffer, fastnn.ones(1)),
        (m.add_module, nn.Identity()),
    ):
        for name in ("", "a.b", "forward"):
            with pytest.raises(KeyError):
                register(name, value)
        with pytest.raises(TypeError, match="must be a string"):
            register(3, value)
        with pytest.raises(TypeError):
            register("fresh", 3)


def test_a_parameter_must_be_a_leaf():
    m = Block()
    p = nn.Parameter(fastnn.ones(2))
    q = p * 2
    q.__class__ = nn.Parameter
    with pytest.raises(ValueError, match="leaf"):
        m.register_parameter("q", q)


def test_assignment_before_init_is_an_error():
    class Early(nn.Module):
        def __init__(self, value):
            self.member = 1
            self.member = value

    for value in (nn.Parameter(fastnn.ones(1)), nn.Identity()):
        with pytest.raises(AttributeError, match=r"before super\(\).__init__\(\)"):
            Early(value)
    with pytest.raises(AttributeError, match="has no attribute 'typo'"):
        Block().typo  # noqa: B018


def test_parameter_shares_memory_and_reads_as_such():
    x = fastnn.tensor([1.0, 2.0])
    p = nn.Parameter(x)
    assert np.shares_memory(p.array, x.array) and p.requires_grad and p.is_leaf
    assert repr(p) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    assert not nn.Parameter(x, requires_grad=False).requires_grad
    assert type(p * 2) is fastnn.Tensor
    with pytest.raises(TypeError):
        nn.Parameter(fastnn.tensor([1, 2]))


# Walking ---------------------------------------------------------------------------------------------------------


def test_walks_name_each_object_once():
    m = Block()
    names = ["scale", "first.weight", "first.bias", "second.0.weight"]
    assert [n for n, _ in m.named_parameters()] == names
    assert [n for n, _ in m.named_parameters(remove_duplicate=False)] == [*names, "twin.weight", "twin.bias"]
    assert [n for n, _ in m.named_parameters("net", recurse=False)] == ["net.scale"]
    assert [n for n, _ in m.named_buffers()] == ["mean", "scratch"]
    assert [n for n, _ in m.named_modules()] == ["", "first", "second", "second.0", "second.1"]
    assert [n for n, _ in m.named_modules(prefix="net")][:2] == ["net", "net.first"]
    assert [n for n, _ in m.named_modules(remove_duplicate=False)][-1] == "twin"
    assert [n for n, _ in m.named_children()] == ["first", "second"]
    assert list(m.children()) == [m.first, m.second]
    assert len(list(m.modules())) == 5 and len(list(m.parameters())) == 4 and len(list(m.buffers())) == 2


def test_tied_parameters_are_walked_once_and_saved_twice():
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    m = nn.ModuleList([a, b])
    assert [n for n, _ in m.named_parameters()] == ["0.weight"]
    assert list(m.state_dict()) == ["0.weight", "1.weight"]


def test_apply_visits_children_first():
    m, seen = Block(), []
    assert m.apply(lambda module: seen.append(type(module).__name__)) is m
    assert seen == ["Linear", "Linear", "Flatten", "Sequential", "Block"]


def test_train_and_eval_reach_all_modules():
    m = Block()
    assert m.eval() is m and not any(module.training for module in m.modules())
    assert m.train() is m and all(module.training for module in m.modules())
    with pytest.raises(ValueError, match="bool"):
        m.train("yes")


def test_requires_grad_and_zero_grad():
    m = Block()
    assert m.requires_grad_(False) is m and not any(p.requires_grad for p in m.parameters())
    m.requires_grad_()
    m(fastnn.ones(5, 4)).sum().backward()
    grads = [p.grad for p in m.parameters()]
    assert all(g is not None for g in grads)
    m.zero_grad(set_to_none=False)
    assert all(p.grad is g and not g.array.any() for p, g in zip(m.parameters(), grads, strict=True))
    m.zero_grad()
    assert all(p.grad is None for p in m.parameters())


def test_forward_is_needed():
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        nn.Module()(1)


# Forward hooks ---------------------------------------------------------------------------------------------------


def test_forward_hooks_see_and_replace():
    m, x, seen = nn.Identity(), fastnn.tensor([1.0, 2.0]), []
    with m.register_forward_hook(double):
        m.register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
        y = m(x)
        assert y.tolist() == [2.0, 4.0]
        assert seen[0][0] is m and seen[0][1] == (x,) and seen[0][2] is y
    assert m(x) is x


def test_forward_pre_hooks_replace_arguments():
    m, x, y = Affine(), fastnn.tensor([1.0]), fastnn.tensor([10.0])
    handle = m.register_forward_pre_hook(lambda module, args: (args[0] + 1, args[1]))
    assert m(x, y)[0].tolist() == [14.0]
    handle.remove()
    handle.remove()  # a second time does nothing
    assert m(x, y)[0].tolist() == [12.0]
    with nn.Identity().register_forward_pre_hook(lambda module, args: args[0] * 5) as _:
        pass
    single = nn.Identity()
    single.register_forward_pre_hook(lambda module, args: args[0] * 5)
    assert single(x).tolist() == [5.0]


def test_hooks_run_in_order_and_keywords_pass():
    m, calls = Affine(), []
    m.register_forward_hook(lambda *_: calls.append("second"))
    m.register_forward_hook(lambda *_: calls.append("first"), prepend=True)
    assert m(fastnn.tensor([1.0]), fastnn.tensor([10.0]), k=2)[0].tolist() == [22.0]
    assert calls == ["first", "second"]


def test_a_hook_may_remove_itself():
    m, calls = nn.Identity(), []

    def once(module, args, output):
        calls.append(1)
        handle.remove()

    handle = m.register_forward_hook(once)
    m.register_forward_hook(lambda *_: calls.append(2))
    m(1), m(1)
    assert calls == [1, 2, 2]


# Backward hooks --------------------------------------------------------------------------------------------------


def leaf(*values):
    return fastnn.tensor(list(values), dtype=fastnn.float64, requires_grad=True)


def test_backward_hook_sees_all_gradients_at_once():
    m, x, y, seen = Affine(), leaf(1.0, 1.0), leaf(1.0, 1.0), []
    m.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append((grad_input, grad_output)))
    a, b = m(x, y)
    (a * b).sum().backward()  # (2x + y) 3y: d/da = b = 3, d/db = a = 3
    assert len(seen) == 1
    (gx, gy), (ga, gb) = seen[0]
    assert ga.tolist() == gb.tolist() == [3.0, 3.0]
    assert gx.tolist() == x.grad.tolist() == [6.0, 6.0] and gy.tolist() == y.grad.tolist() == [12.0, 12.0]


def test_backward_hook_replaces_grad_input_in_turn():
    m, x = nn.Identity(), leaf(1.0)
    m.register_full_backward_hook(lambda module, grad_input, grad_output: (grad_input[0] * 10,))
    m.register_full_backward_hook(lambda module, grad_input, grad_output: grad_input[0] + 1)
    m(x * 1).sum().backward()
    assert x.grad.tolist() == [11.0]


def test_backward_hook_fills_in_none():
    m, x, y, seen = Affine(), leaf(1.0), fastnn.tensor([5.0], dtype=fastnn.float64), []
    handle = m.register_full_backward_hook(lambda module, *grads: seen.append(grads))
    a, _ = m(x, y, 3)
    a.sum().backward()
    (grad_input, grad_output), = seen
    assert grad_input[0].tolist() == [2.0] and grad_input[1:] == (None, None)
    assert grad_output[0].tolist() == [1.0] and grad_output[1] is None
    handle.remove()
    m(x, y)[0].sum().backward()
    assert len(seen) == 1


def test_backward_hook_without_input_gradient_and_without_grad_mode():
    m, x, seen = nn.Linear(2, 1), fastnn.ones(3, 2), []
    m.register_full_backward_hook(lambda module, *grads: seen.append(grads))
    with fastnn.no_grad():
        m(x)
    m(x).sum().backward()
    assert len(seen) == 1 and seen[0][0] == (None,) and seen[0][1][0].shape == (3, 1)
    m.register_full_backward_hook(lambda module, grad_input, grad_output: fastnn.ones(3, 2))
    with pytest.raises(RuntimeError, match="a grad_input of shapes"):
        m(x).sum().backward()


def test_backward_hook_runs_again_with_a_retained_graph():
    m, x, seen = nn.Identity(), leaf(2.0), []
    m.register_full_backward_hook(lambda module, *grads: seen.append(grads[0][0].item()))
    y = (m(x) ** 2).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert seen == [4.0, 4.0] and x.grad.item() == 8.0


def test_watching_does_not_change_bits(rng):
    x = fastnn.tensor(rng.standard_normal((5, 4)), dtype=fastnn.float32)
    plain = Block()
    watched = copy.deepcopy(plain)
    for module in watched.modules():
        module.register_forward_hook(lambda *_: None)
        module.register_full_backward_hook(lambda *_: None)
    for m in (plain, watched):
        m(x).square().sum().backward()
    for p, q in zip(plain.parameters(), watched.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad.array, q.grad.array)


# State -----------------------------------------------------------------------------------------------------------


def test_state_dict_shares_memory_and_skips_transient_buffers():
    m = Block()
    state = m.state_dict()
    assert list(state) == [
        "scale", "mean", "first.weight", "first.bias", "second.0.weight", "twin.weight", "twin.bias",
    ]  # fmt: skip
    assert np.shares_memory(state["scale"].array, m.scale.array) and not state["scale"].requires_grad
    assert m.state_dict(keep_vars=True)["scale"] is m.scale
    assert list(m.state_dict(prefix="net."))[:3] == ["net.scale", "net.mean", "net.first.weight"]


def test_load_state_dict_copies_casts_and_keeps_memory_order():
    m, other = nn.Conv2d(3, 4, (2, 5)), nn.Conv2d(3, 4, (2, 5)).double()
    strides, version, weight = m.weight.array.strides, m.weight._version[0], m.weight
    result = m.load_state_dict({name: t.numpy() for name, t in other.state_dict().items()})
    assert repr(result) == "<All keys matched successfully>" and result == ([], [])
    assert m.weight is weight and weight.array.strides == strides and weight.dtype == fastnn.float32
    np.testing.assert_array_equal(weight.array, other.weight.array.astype(np.float32))
    assert weight._version[0] > version and not np.shares_memory(weight.array, other.weight.array)


def test_load_state_dict_lists_every_problem_and_copies_nothing():
    m = Block()
    state = m.state_dict() | {
        "scale": fastnn.full((3,), 7.0), "mean": fastnn.zeros(4), "first.bias": fastnn.zeros(3, 1),
        "more": fastnn.ones(1), "twin.bias": "text",
    }  # fmt: skip
    del state["first.weight"], state["twin.weight"]
    with pytest.raises(RuntimeError) as error:
        m.load_state_dict(state)
    assert isinstance(error.value, ValueError)
    assert str(error.value).split("\n") == [
        "load_state_dict of Block:",
        "  missing keys: 'first.weight', 'twin.weight'",
        "  unexpected keys: 'more'",
        "  'mean': the model has shape (3,), the state dict (4,)",
        "  'first.bias': the model has shape (3,), the state dict (3, 1)",
        "  'twin.bias': a tensor is needed, but a str came",
    ]
    assert m.scale.tolist() == [1.0] * 3


def test_load_state_dict_not_strict():
    m = Block()
    result = m.load_state_dict({"scale": fastnn.full((3,), 7.0), "more": fastnn.ones(1)}, strict=False)
    assert m.scale.tolist() == [7.0] * 3
    assert result.unexpected_keys == ["more"] and result.missing_keys[0] == "mean"
    assert "missing_keys=['mean'" in repr(result)
    with pytest.raises(RuntimeError, match="'scale': the model has shape"):
        m.load_state_dict({"scale": fastnn.ones(2)}, strict=False)
    with pytest.raises(TypeError, match="a dict is needed"):
        m.load_state_dict([1])


def test_a_change_between_forward_and_backward_is_noticed():
    m = nn.Linear(2, 2)
    y = m(fastnn.ones(1, 2).requires_grad_())
    m.load_state_dict(m.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


# dtypes and devices ----------------------------------------------------------------------------------------------


def test_to_casts_in_place():
    m = nn.Sequential(nn.Conv2d(3, 4, (2, 5)), Block())
    m[1].register_buffer("count", fastnn.tensor(3))
    before = list(m.parameters())
    before[0].grad = fastnn.zeros_like(before[0])
    strides = before[0].array.strides
    assert m.double() is m and all(p is q for p, q in zip(m.parameters(), before, strict=True))
    assert {p.dtype for p in before} == {fastnn.float64} == {before[0].grad.dtype} and m[1].mean.dtype == fastnn.float64
    assert before[0].array.strides == tuple(2 * s for s in strides)
    assert m[1].count.dtype == fastnn.int64
    for cast in (lambda: m.float(), lambda: m.to(fastnn.float32), lambda: m.to("cpu", dtype=fastnn.float32),
                 lambda: m.to(fastnn.device("cpu"), fastnn.float32), lambda: m.to(fastnn.zeros(1))):
        m.double()
        assert cast() is m and before[0].dtype == fastnn.float32
    assert m.to("cpu") is m.cpu() is m and before[0].dtype == fastnn.float32


def test_to_between_forward_and_backward():
    m = nn.Linear(2, 2)
    y = m(fastnn.ones(1, 2).requires_grad_()).sum()
    m.float()  # changes nothing
    y.backward(retain_graph=True)
    m.double()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_to_refuses():
    m = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="float32 or float64, but int64"):
        m.to(fastnn.int64)
    for module in (m, nn.Identity()):
        with pytest.raises(ValueError, match="'cuda' is not available"):
            module.to("cuda")


def test_an_optimizer_built_before_a_cast_trains_on():
    m = nn.Linear(3, 2)
    optimizer = fastnn.optim.SGD(m.parameters(), lr=0.1)
    m.double()
    before = m.weight.array.copy()
    m(fastnn.ones(4, 3, dtype=fastnn.float64)).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(m.weight.array, before - 0.4, rtol=1e-12)


# Text and copies -------------------------------------------------------------------------------------------------


def test_repr_nests():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 3), nn.Identity())
            self.gone = None

        def extra_repr(self):
            return "a=1\nb=2"

    assert repr(Two()) == (
        "Two(\n  a=1\n  b=2\n  (body): Sequential(\n    (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "    (1): Identity()\n  )\n)"
    )
    assert repr(nn.Identity()) == "Identity()"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_deep_copies(duplicate):
    m = nn.Sequential(Block(), nn.Conv2d(3, 4, (2, 5)))
    m[0].register_forward_hook(double)
    m[0].eval()
    m[0].scale.requires_grad_(False)
    m[1].weight.grad = fastnn.ones_like(m[1].weight)
    other = duplicate(m)
    assert other[1].weight.grad is None
    assert repr(other) == repr(m) and not other[0].training and other[0].twin is other[0].first
    assert other[0]._forward_hooks[0][0] is double and not other[0].scale.requires_grad
    for (name, p), (_, q) in zip(m.named_parameters(), other.named_parameters(), strict=True):
        assert type(q) is nn.Parameter and not np.shares_memory(p.array, q.array), name
        assert p.array.strides == q.array.strides, name
        np.testing.assert_array_equal(p.array, q.array)
    assert other[0].scale is other[0]._parameters["scale"]
    x = fastnn.ones(2, 4)
    np.testing.assert_array_equal(m[0](x).array, other[0](x).array)


def test_a_shallow_copy_shares_tensors_but_not_registries():
    m = Block()
    other = copy.copy(m)
    assert other.scale is m.scale
    other.scale = nn.Parameter(fastnn.zeros(3))
    assert m.scale.tolist() == [1.0] * 3 and m._parameters["scale"] is m.scale
    other.register_forward_hook(double)
    assert not m._forward_hooks
