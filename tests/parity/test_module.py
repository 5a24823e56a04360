"""Modules against PyTorch: registration, naming, traversal, state dicts, hooks, containers, copies, nn.utils."""

import copy
import io
import pickle
from collections import OrderedDict

import pytest

from .pairs import check, check_raises, fill, normal


def network(lib):
    """A network with nesting, a list, a dict, buffers, a bare parameter and a shared layer."""
    nn = lib.nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.linear = nn.Linear(4, width)
            self.scale = nn.Parameter(lib.ones(width))
            self.register_buffer("count", lib.zeros(1))
            self.register_buffer("scratch", lib.zeros(2), persistent=False)
            self.register_parameter("absent", None)

        def forward(self, x):
            return self.linear(x) * self.scale

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Block(4)
            self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
            self.blocks = nn.ModuleList([Block(4), nn.Tanh()])
            self.named = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Identity()})
            self.extra = nn.ParameterList([nn.Parameter(lib.ones(4)), nn.Parameter(lib.zeros(1))])
            self.again = self.first
            self.plain = 3

        def forward(self, x):
            x = self.body(self.first(x))
            for block in self.blocks:
                x = block(x)
            return self.again(self.named["a"](x)) + self.extra[0] + self.extra[1]

    return fill(lib, Network())


def kinds(modules):
    return [type(m).__name__ for m in modules]


def test_traversal():
    def case(lib):
        net = network(lib)
        return (
            [n for n, _ in net.named_parameters()],
            [n for n, _ in net.named_parameters(prefix="p")],
            [n for n, _ in net.named_parameters(recurse=False)],
            [n for n, _ in net.first.named_parameters(recurse=False)],
            [n for n, _ in net.named_buffers()],
            len(list(net.parameters())), len(list(net.buffers())),
            [(n, type(m).__name__) for n, m in net.named_modules()],
            [(n, type(m).__name__) for n, m in net.named_children()],
            kinds(net.modules()), kinds(net.children()),
            [(k, tuple(v.shape), v.requires_grad) for k, v in net.state_dict().items()],
            list(net.body.state_dict(prefix="x.")),
            net.first is net.again, "scale" in dict(net.first.named_parameters()), net.first.absent is None, net.plain,
        )  # fmt: skip

    check(case, dtypes=("float32",))


def test_forward_and_gradients():
    def case(lib, x):
        net = network(lib)
        net = net.double() if x.dtype == lib.float64 else net
        y = net(x)
        y.sum().backward(retain_graph=True)
        return y, [p.grad for p in net.parameters()], net.state_dict()

    check(case, normal(5, 4))


def test_reassignment():
    def case(lib):
        net = network(lib)
        net.body = lib.nn.Linear(4, 2)
        net.first.scale = lib.nn.Parameter(lib.zeros(4))
        net.first.count = lib.ones(1)
        net.new = lib.nn.Parameter(lib.ones(1))
        del net.named
        net.blocks[1] = lib.nn.ReLU()
        net.add_module("added", lib.nn.Linear(1, 1))
        return [n for n, _ in net.named_parameters()], net.first.count, kinds(net.modules()), list(net.state_dict())

    check(case, dtypes=("float32",))


REFUSED = {
    "parameter by a tensor": lambda lib: setattr(network(lib).first, "scale", lib.ones(4)),
    "before init": lambda lib: type(
        "M", (lib.nn.Module,), {"__init__": lambda self: setattr(self, "a", lib.nn.Linear(1, 1))}
    )(),
    "missing attribute": lambda lib: network(lib).nothing,
    "no forward": lambda lib: lib.nn.Module()(1),
    "parameter name with dot": lambda lib: lib.nn.Module().register_parameter("a.b", None),
    "buffer twice": lambda lib: network(lib).first.register_buffer("linear", lib.zeros(1)),
    "buffer of a number": lambda lib: lib.nn.Module().register_buffer("a", 1.0),
    "module of a number": lambda lib: lib.nn.Module().add_module("a", 1.0),
    "sequential of a number": lambda lib: lib.nn.Sequential(lib.nn.ReLU(), 3),
    "sequential index": lambda lib: lib.nn.Sequential(lib.nn.ReLU())[1],
    "list index": lambda lib: lib.nn.ModuleList([lib.nn.ReLU()])[2],
    "dict key": lambda lib: lib.nn.ModuleDict({"a": lib.nn.ReLU()})["b"],
    "train mode": lambda lib: lib.nn.ReLU().train("yes"),
    "to integers": lambda lib: network(lib).to(lib.int64),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes(name):
    check_raises(REFUSED[name])


def test_modes():
    def case(lib):
        net = network(lib)
        modes = [[m.training for m in net.modules()]]
        returned = net.eval() is net
        modes.append([m.training for m in net.modules()])
        net.body.train()
        modes.append([m.training for m in net.modules()])
        net.train(False).train()
        modes.append([m.training for m in net.modules()])
        return modes, returned

    check(case)


def test_apply_requires_grad_zero_grad_and_casts():
    def case(lib):
        net = network(lib)
        order = []
        same = net.apply(lambda m: order.append(type(m).__name__)) is net
        net.body.requires_grad_(False)
        flags = [p.requires_grad for p in net.parameters()]
        net.requires_grad_()
        net(lib.ones(3, 4)).sum().backward()
        grads = [p.grad is None for p in net.parameters()]
        net.zero_grad(set_to_none=False)
        zeros = [None if p.grad is None else float(p.grad.abs().sum()) for p in net.parameters()]
        net.zero_grad()
        gone = [p.grad is None for p in net.parameters()]
        identity = [id(p) for p in net.parameters()]
        net.double()
        dtypes = [t.dtype for t in net.state_dict().values()]
        net.to(lib.float32).to("cpu").to(lib.device("cpu"))
        kept = identity == [id(p) for p in net.parameters()]
        return (
            order,
            same,
            flags,
            grads,
            zeros,
            gone,
            dtypes,
            [t.dtype for t in net.float().cpu().state_dict().values()],
            kept,
        )

    check(case)


# ---------------------------------------------------------------- state dicts


def test_state_dict_round_trip():
    def case(lib, x):
        net, other = network(lib).eval(), fill(lib, network(lib).eval(), seed="other")
        before = other(x)
        result = other.load_state_dict(net.state_dict())
        return before, other(x), result.missing_keys, result.unexpected_keys

    check(case, normal(5, 4), dtypes=("float32",), grad=False)


def test_state_dict_shares_memory_and_load_copies():
    def case(lib):
        layer = fill(lib, lib.nn.Linear(3, 2))
        state = layer.state_dict()
        with lib.no_grad():
            layer.weight.zero_()
        shared = float(state["weight"].abs().sum())
        other = {k: v + 1 for k, v in state.items()}
        parameter = layer.weight
        layer.load_state_dict(other)
        with lib.no_grad():
            layer.weight.add_(5)
        return shared, other["weight"], parameter is layer.weight, layer.weight.requires_grad

    check(case)


def test_not_strict():
    def case(lib):
        net = network(lib)
        state = OrderedDict(net.state_dict())
        del state["body.0.weight"], state["first.count"]
        state["unknown"] = lib.zeros(1)
        result = net.load_state_dict(state, strict=False)
        return list(result.missing_keys), list(result.unexpected_keys)

    check(case)


@pytest.mark.parametrize("kind", ["missing", "unexpected", "shape", "all"])
def test_strict(kind):
    def load(lib):
        net = network(lib)
        state = dict(net.state_dict())
        if kind in ("missing", "all"):
            del state["body.0.weight"], state["first.linear.bias"]
        if kind in ("unexpected", "all"):
            state["unknown"] = lib.zeros(1)
        if kind in ("shape", "all"):
            state["extra.0"] = lib.zeros(7)
        net.load_state_dict(state)

    check_raises(load)

    def names_all(lib):
        try:
            load(lib)
        except RuntimeError as error:
            keys = ("body.0.weight", "first.linear.bias", "unknown", "extra.0")
            return [key in str(error) for key in keys]

    check(names_all)


def test_misshapen_is_an_error_without_strict_too():
    check_raises(lambda lib: lib.nn.Linear(3, 2).load_state_dict({"weight": lib.zeros(2, 2)}, strict=False))


def test_load_casts():
    def case(lib):
        layer = lib.nn.Linear(3, 2)
        layer.load_state_dict({"weight": lib.ones(2, 3, dtype=lib.float64), "bias": lib.arange(2)})
        return layer.weight, layer.bias

    check(case)


# ---------------------------------------------------------------- hooks


def test_forward_hooks():
    def case(lib, x):
        layer = fill(lib, lib.nn.Linear(4, 3))
        seen = []
        layer.register_forward_pre_hook(lambda m, inputs: seen.append(("pre", len(inputs))))
        layer.register_forward_pre_hook(lambda m, inputs: (inputs[0] * 2,))
        handle = layer.register_forward_hook(
            lambda m, inputs, output: seen.append(("post", tuple(output.shape), inputs[0].detach()))
        )
        last = layer.register_forward_hook(lambda m, inputs, output: output + 1)
        y = layer(x)
        handle.remove()
        last.remove()
        return y, layer(x), seen

    check(case, normal(5, 4), dtypes=("float32",))


def test_backward_hooks():
    def case(lib, x):
        net = fill(lib, lib.nn.Sequential(lib.nn.Linear(4, 3), lib.nn.Tanh(), lib.nn.Linear(3, 2)))
        seen = []
        handles = [
            m.register_full_backward_hook(
                lambda m, gi, go, i=i: seen.append(
                    (i, [None if g is None else g.clone() for g in gi], [g.clone() for g in go])
                )
            )
            for i, m in enumerate(net)
        ]
        net(x).sum().backward()
        for handle in handles:
            handle.remove()
        net[1].register_full_backward_hook(lambda m, gi, go: (gi[0] * 10,))
        net(x).sum().backward()
        return seen, [p.grad for p in net.parameters()]

    check(case, normal(5, 4), dtypes=("float32",))


# ---------------------------------------------------------------- containers


def test_sequential():
    def case(lib, x):
        nn = lib.nn
        net = fill(lib, nn.Sequential(OrderedDict(first=nn.Linear(4, 3), act=nn.Tanh(), last=nn.Linear(3, 2))))
        part = net[1:]
        out = [kinds(net), kinds(part), len(net), kinds([net[-1], net.first]), list(net.state_dict())]
        plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        plain.append(nn.Linear(4, 1))
        plain[1] = nn.Sigmoid()
        y = net(x)
        del plain[0]
        return out, kinds(plain), [n for n, _ in plain.named_children()], y, nn.Sequential()(x)

    check(case, normal(5, 4), dtypes=("float32",))


def test_module_list():
    def case(lib):
        nn = lib.nn
        items = nn.ModuleList(nn.Linear(i, i) for i in (1, 2, 3))
        items.append(nn.ReLU())
        items.extend([nn.Tanh(), nn.ELU()])
        items.insert(1, nn.Identity())
        items[0] = nn.Sigmoid()
        del items[3]
        return kinds(items), len(items), kinds(items[1:3]), kinds([items[-1]]), [n for n, _ in items.named_parameters()]

    check(case)


def test_module_dict():
    def case(lib):
        nn = lib.nn
        items = nn.ModuleDict({"b": nn.Linear(1, 1), "a": nn.ReLU()})
        items["c"] = nn.Tanh()
        items.update({"a": nn.ELU()})
        gone = type(items.pop("b")).__name__
        return (
            list(items),
            list(items.keys()),
            kinds(items.values()),
            [k for k, _ in items.items()],
            len(items),
            "c" in items,
            gone,
        )

    check(case)


def test_parameter_list():
    def case(lib):
        items = lib.nn.ParameterList([lib.nn.Parameter(lib.ones(i)) for i in (1, 2)])
        items.append(lib.nn.Parameter(lib.zeros(3)))
        items.extend([lib.nn.Parameter(lib.zeros(4))])
        items[0] = lib.nn.Parameter(lib.zeros(5))
        return [tuple(p.shape) for p in items], len(items), [n for n, _ in items.named_parameters()], items[-1]

    check(case)


def test_parameter():
    def case(lib):
        p = lib.nn.Parameter(lib.ones(2, 3))
        q = lib.nn.Parameter(lib.ones(2), requires_grad=False)
        flags = [
            isinstance(p, lib.nn.Parameter),
            isinstance(p, lib.Tensor),
            isinstance(p * 1, lib.nn.Parameter),
            isinstance(p.data, lib.nn.Parameter),
        ]
        return p, p.requires_grad, q.requires_grad, flags, p.is_leaf, isinstance(copy.deepcopy(p), lib.nn.Parameter)

    check(case)


# ---------------------------------------------------------------- copies


def test_deepcopy_and_pickle():
    def case(lib, x):
        layers = fill(
            lib, lib.nn.Sequential(lib.nn.Conv2d(1, 2, 3), lib.nn.BatchNorm2d(2), lib.nn.Flatten(), lib.nn.Linear(8, 2))
        )
        layers(x).sum().backward()
        twin, thawed = copy.deepcopy(layers), pickle.load(io.BytesIO(pickle.dumps(layers)))
        with lib.no_grad():
            layers[0].weight.zero_()
        layers.eval(), twin.eval(), thawed.eval()
        return twin(x), thawed(x), layers(x), list(thawed.state_dict()), twin.training

    check(case, normal(3, 1, 4, 4), dtypes=("float32",))


def test_deepcopy_of_tensors():
    def case(lib, x):
        twin = copy.deepcopy(x)
        twin.data.add_(1)
        return twin.detach(), x.detach(), twin.requires_grad, twin.is_leaf

    check(case, normal(3))
    check_raises(lambda lib, x: copy.deepcopy(x * 2), normal(3))


# ---------------------------------------------------------------- nn.utils


def with_gradients(lib, like, scale=1.0):
    dtype = str(like.dtype).removeprefix("torch.")
    params = [
        lib.nn.Parameter(lib.tensor(normal(*s, seed=s).astype(dtype))) for s in ((3, 4), (5,), (2, 3, 3, 2), (2,))
    ]
    for p in params[:-1]:
        p.grad = scale * lib.tensor(normal(*p.shape, seed=("g", p.ndim)).astype(dtype))
    return params


@pytest.mark.parametrize("norm_type", [1, 2.0, 3, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clip_grad_norm(max_norm, norm_type):
    def case(lib, like):
        params = with_gradients(lib, like)
        total = lib.nn.utils.clip_grad_norm_(params, max_norm, norm_type)
        again = lib.nn.utils.clip_grad_norm_(params[0], 0.1)
        return total, again, [p.grad for p in params[:-1]]

    check(case, normal(1))


def test_clip_grad_norm_of_what_is_not_finite():
    def case(lib, like):
        params = with_gradients(lib, like, scale=float("inf"))
        return lib.nn.utils.clip_grad_norm_(iter(params), 1.0).item() > 1e300

    check(case, normal(1))
    check_raises(
        lambda lib, like: lib.nn.utils.clip_grad_norm_(
            with_gradients(lib, like, float("inf")), 1.0, error_if_nonfinite=True
        ),
        normal(1),
    )


def test_clip_grad_norm_of_nothing():
    check(lambda lib: lib.nn.utils.clip_grad_norm_([lib.nn.Parameter(lib.ones(2))], 1.0))


def test_clip_grad_value():
    def case(lib, like):
        params = with_gradients(lib, like)
        lib.nn.utils.clip_grad_value_(params, 0.3)
        return [p.grad for p in params[:-1]]

    check(case, normal(1))


def test_parameters_to_vector():
    def case(lib, like):
        params = with_gradients(lib, like)
        vector = lib.nn.utils.parameters_to_vector(params)
        changed = [lib.nn.Parameter(p.detach().clone()) for p in params]
        lib.nn.utils.vector_to_parameters(vector.detach() * 2, changed)
        return vector, params, changed

    check(case, normal(1))
