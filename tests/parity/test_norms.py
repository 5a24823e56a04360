"""Layer, RMS, group, instance and local response norm, weight norm and alpha dropout against PyTorch."""

import copy
import itertools
import math
import warnings

import numpy as np
import pytest

from .pairs import check, check_either, check_raises, fill, normal, positive

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*", "ignore:.*num_features", "ignore:.*RMSNorm.*")


def F(lib):
    return lib.nn.functional


LAST = [((4, 3), 1), ((4, 3), 2), ((7,), 1), ((2, 3, 5), 1), ((2, 3, 5), 2), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), 2),
        ((2, 3, 4, 5), 3), ((2, 3, 4, 5), 4), ((0, 3), 1), ((2, 0, 4), 1), ((70, 130), 1), ((1, 1, 4, 1), 3),
        ((2, 1, 3, 2, 2), 2)]  # fmt: skip
ORDERS = {"plain": lambda x: x, "channels-last": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shape", "n"), LAST, ids=str)
def test_over_last(shape, n, order):
    if order != "plain" and len(shape) != 4:
        return
    over, lay = shape[len(shape) - n :], ORDERS[order]
    x, w, b = normal(*shape), normal(*over, seed=1), normal(*over, seed=2)
    for eps in (1e-5, 0.1):
        check(lambda lib, x, w, b: F(lib).layer_norm(lay(x), over, w, b, eps), x, w, b)
        check(lambda lib, x, w: F(lib).rms_norm(lay(x), over, w, eps), x, w)
    check(lambda lib, x, w: F(lib).layer_norm(lay(x), list(over), w), x, w)
    flipped = tuple(range(n))[::-1]  # a weight in another memory order
    check(lambda lib, x, w: F(lib).layer_norm(lay(x), over, w.permute(flipped)), x, w.transpose(flipped))
    check(lambda lib, x, b: F(lib).layer_norm(lay(x), over, bias=b), x, b)
    check(lambda lib, x: (F(lib).layer_norm(lay(x), over), F(lib).rms_norm(lay(x), over)), x)


def affine_case(make, *settings):
    """A module's output, state, repr and attributes; the state goes into a second module."""

    def case(lib, x):
        module = fill(lib, make(lib.nn))
        other = make(lib.nn)
        other.load_state_dict(module.state_dict())
        y = other.to(x.dtype)(x)
        (y**3).sum().backward(retain_graph=True)
        return y, other.state_dict(), repr(other), [getattr(other, s) for s in settings], [
            p.grad for p in other.parameters()]  # fmt: skip

    return case


@pytest.mark.parametrize("affine", [True, False])
def test_modules_over_last(affine):
    names = "normalized_shape", "eps", "elementwise_affine"
    for shape, over in [((3, 5), 5), ((2, 3, 4), (3, 4)), ((2, 3, 4, 5), [3, 4, 5]), ((2, 3, 4, 5), (2, 3, 4, 5))]:
        x = normal(*shape)
        for bias in (True, False):
            check(affine_case(lambda nn, b=bias, o=over: nn.LayerNorm(o, 1e-3, affine, b), *names), x)
        check(affine_case(lambda nn, o=over: nn.RMSNorm(o, elementwise_affine=affine), *names), x)
        check(affine_case(lambda nn, o=over: nn.RMSNorm(o, 1e-3, elementwise_affine=affine), *names), x)


GROUPED = [((4, 6), 3), ((4, 6), 6), ((2, 6, 5), 2), ((2, 6, 4, 5), 1), ((2, 6, 4, 5), 3), ((2, 6, 4, 5), 6),
           ((2, 6, 1, 1), 6), ((1, 1, 1), 1), ((0, 6, 2, 3), 2), ((3, 4, 2, 3, 2), 2), ((1, 65, 7, 9), 13),
           ((9, 32, 8, 7), 8), ((2, 6, 3), 4), ((1, 6), 6), ((1, 6, 1), 6), ((1, 6, 2), 6), ((1, 6), 3)]  # fmt: skip


@pytest.mark.parametrize(("shape", "groups"), GROUPED, ids=str)
def test_group_norm(shape, groups):
    c = shape[1]
    dtypes = ("float64",) if math.prod(shape[2:]) * c == groups else ("float64", "float32")  # PyTorch is inexact there
    x, w, b = normal(*shape), normal(c, seed=1), normal(c, seed=2)
    check_either(lambda lib, x, w, b: F(lib).group_norm(x, groups, w, b, 1e-2), x, w, b, tol=3, dtypes=dtypes)
    check_either(lambda lib, x, w: F(lib).group_norm(x, groups, w), x, w, tol=3, dtypes=dtypes)
    transposed = lambda lib, x: F(lib).group_norm(x.transpose(0, 1).contiguous().transpose(0, 1), groups)  # noqa: E731
    check_either(transposed, x, tol=3, dtypes=dtypes)
    if c % groups == 0 and x.size > groups:
        for affine, bias in itertools.product((True, False), (True, False)):
            make = lambda nn, a=affine, b=bias: nn.GroupNorm(groups, c, 1e-3, a, bias=b)  # noqa: E731
            check(affine_case(make, "num_groups", "num_channels", "eps", "affine"), x, tol=10, dtypes=dtypes)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 2), (2, 3, 1), (2, 3)], ids=str)
def test_instance_norm(shape):
    c = shape[1]
    arrays = normal(*shape), normal(c, seed=1), normal(c, seed=2), normal(c, seed=3), positive(c, seed=4)
    for use, momentum, eps in itertools.product((True, False), (0.1, 0.7), (1e-5, 0.1)):

        def case(lib, x, w, b, mean, var, use=use, momentum=momentum, eps=eps):
            mean, var = mean.detach().clone(), var.detach().clone()
            y = F(lib).instance_norm(x, mean, var, w, b, use, momentum, eps)
            return y, mean, var

        check_either(case, *arrays, tol=3)
    check_either(lambda lib, x, w, b: F(lib).instance_norm(x, weight=w, bias=b), *arrays[:3], tol=3)
    check_either(lambda lib, x: F(lib).instance_norm(x), arrays[0], tol=3)
    check_raises(lambda lib, x: F(lib).instance_norm(x, use_input_stats=False), arrays[0])


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 2, 5)], ids=str)
def test_instance_norm_modules(shape, track, affine, momentum):
    def case(lib, *batches):
        kind = lib.nn.InstanceNorm2d if len(shape) == 4 else lib.nn.InstanceNorm1d
        module = fill(lib, kind(3, affine=affine, track_running_stats=track, momentum=momentum, eps=1e-3))
        module = module.to(batches[0].dtype)
        outputs = [module(batches[0]), module(batches[1]), module(batches[0][0])]
        module.eval()
        outputs += [module(batches[2]), module(batches[2][0])]
        sum((y**3).sum() for y in outputs).backward(retain_graph=True)
        again = kind(3, affine=affine, track_running_stats=track)
        again.load_state_dict(module.state_dict())
        return outputs, dict(again.state_dict()), [p.grad for p in module.parameters()], repr(module)

    check(case, *[normal(*shape, seed=i) for i in range(3)], tol=3)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_that_stops_tracking(momentum):
    def case(lib, x):
        layer = lib.nn.BatchNorm2d(3, momentum=momentum).to(x.dtype)
        outputs = []
        for track in (True, False, True):
            layer.track_running_stats = track
            outputs += [layer(x), layer.num_batches_tracked.clone(), layer.running_var.clone()]
        return outputs

    check(case, normal(2, 3, 4, 5), tol=3)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_local_response_norm(size):
    for shape in [(2, 6, 5), (2, 3, 4, 5), (0, 3, 4), (2, 3, 2, 2, 3)]:
        check(lambda lib, x: F(lib).local_response_norm(x, size), normal(*shape))
        check(lambda lib, x: lib.nn.LocalResponseNorm(size, 0.3, 0.5, 2.0)(x), normal(*shape))
        check(lambda lib, x: F(lib).relu(F(lib).local_response_norm(x * 1, size), inplace=True), normal(*shape))
    check_raises(lambda lib, x: F(lib).local_response_norm(x, size), normal(2, 3))


@pytest.mark.parametrize("p", [1, 2.0, 3, math.inf])
def test_normalize(p):
    for shape, dim in [((4, 5), 1), ((4, 5), 0), ((2, 3, 4, 5), -1), ((2, 3, 4, 5), 1), ((6,), 0), ((0, 3), 1)]:
        check(lambda lib, x: F(lib).normalize(x, p, dim), normal(*shape))
        check(lambda lib, x: F(lib).normalize(x * 1e-3, p, dim, eps=0.1), normal(*shape))
    check(lambda lib, x: F(lib).normalize(x, p), np.zeros((3, 4)), grad=False)
    check_raises(lambda lib, x: x.norm(-p), np.zeros((0, 4)))


MISTAKES = {
    "layer shape": lambda lib, x: F(lib).layer_norm(x, (4,)),
    "layer too many": lambda lib, x: F(lib).layer_norm(x, (1, 2, 3, 4, 5)),
    "layer none": lambda lib, x: F(lib).layer_norm(x, ()),
    "layer weight": lambda lib, x: F(lib).layer_norm(x, (4, 5), lib.ones(5, dtype=x.dtype)),
    "layer bias": lambda lib, x: F(lib).layer_norm(x, (5,), None, lib.ones(4, dtype=x.dtype)),
    "layer integers": lambda lib, x: F(lib).layer_norm(x.long(), (5,)),
    "layer module": lambda lib, x: lib.nn.LayerNorm(6)(x.float()),
    "rms shape": lambda lib, x: F(lib).rms_norm(x, (4,)),
    "rms weight": lambda lib, x: F(lib).rms_norm(x, (4, 5), lib.ones(5, dtype=x.dtype)),
    "group count": lambda lib, x: F(lib).group_norm(x, 2),
    "group weight": lambda lib, x: F(lib).group_norm(x, 3, lib.ones(4, dtype=x.dtype)),
    "group module": lambda lib, x: lib.nn.GroupNorm(2, 3),
    "group channels": lambda lib, x: lib.nn.GroupNorm(3, 6)(x.float()),
    "instance one value": lambda lib, x: F(lib).instance_norm(x[:, :, :1, :1]),
    "instance weight": lambda lib, x: F(lib).instance_norm(x, weight=lib.ones(4, dtype=x.dtype)),
    "instance dims": lambda lib, x: lib.nn.InstanceNorm2d(3)(x[0, 0]),
    "instance dims 1d": lambda lib, x: lib.nn.InstanceNorm1d(3)(x),
    "instance channels": lambda lib, x: lib.nn.InstanceNorm2d(4, affine=True)(x.float()),
    "instance running": lambda lib, x: lib.nn.InstanceNorm2d(4, track_running_stats=True)(x.float()),
    "batch one value": lambda lib, x: F(lib).batch_norm(x[:1, :, :1, :1], None, None, training=True),
    "dropout1d dims": lambda lib, x: F(lib).dropout1d(x),
    "dropout1d p": lambda lib, x: F(lib).dropout1d(x[0], 1.5),
    "alpha p": lambda lib, x: F(lib).alpha_dropout(x, -0.1),
    "feature alpha p": lambda lib, x: F(lib).feature_alpha_dropout(x, 1.1),
    "feature alpha dims": lambda lib, x: F(lib).feature_alpha_dropout(x[0, 0, 0], 0.5, True),
    "module 1d p": lambda lib, x: lib.nn.Dropout1d(1.1),
    "module alpha p": lambda lib, x: lib.nn.AlphaDropout(-0.1),
    "module feature alpha p": lambda lib, x: lib.nn.FeatureAlphaDropout(2),
    "weight norm twice": lambda lib, x: lib.nn.utils.weight_norm(lib.nn.utils.weight_norm(lib.nn.Linear(3, 2))),
    "weight norm of nothing": lambda lib, x: lib.nn.utils.weight_norm(lib.nn.ReLU()),
    "weight norm dim": lambda lib, x: lib.nn.utils.weight_norm(lib.nn.Linear(3, 2), dim=2),
    "weight norm removed": lambda lib, x: lib.nn.utils.remove_weight_norm(lib.nn.Linear(3, 2)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name], normal(2, 3, 4, 5))


@pytest.mark.parametrize("dim", [0, 1, None, -1])
@pytest.mark.parametrize("layer", ["Linear", "Conv2d", "bias"])
def test_weight_norm(layer, dim):
    """State, outputs and gradients; twice trained; into a fresh module; and removed."""
    if layer == "bias" and dim == 1:
        return
    name = "bias" if layer == "bias" else "weight"

    def make(lib, x):
        module = lib.nn.Conv2d(5, 4, (3, 2)) if layer == "Conv2d" else lib.nn.Linear(5, 4)
        return lib.nn.utils.weight_norm(fill(lib, module.to(x.dtype)), name, dim)

    def case(lib, x):
        module = make(lib, x)
        optimizer = lib.optim.SGD(module.parameters(), 0.1)
        outputs = []
        for _ in range(2):
            optimizer.zero_grad()
            outputs.append(module(x))
            (outputs[-1] ** 2).sum().backward(retain_graph=True)
            outputs.append([p.grad.clone() for p in module.parameters()])
            optimizer.step()
        state = {key: value.clone() for key, value in module.state_dict().items()}
        other = make(lib, x)
        other.load_state_dict(state)
        outputs += [other(x), getattr(other, name), len(list(other.parameters()))]
        removed = lib.nn.utils.remove_weight_norm(other, name)
        return outputs, state, sorted(removed.state_dict()), removed(x), removed is other

    check(case, normal(2, 5, 4, 3) if layer == "Conv2d" else normal(3, 5), grad=False, tol=10)


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout", "dropout1d"])
def test_dropouts_without_chance(name):
    for p, training in [(0.0, True), (1.0, True), (0.5, False), (0.3, False)]:
        for shape in [(2, 3, 4), (5, 6), (0, 3)]:
            check(lambda lib, x, p=p, t=training: getattr(F(lib), name)(x, p, training=t), normal(*shape))
    check(lambda lib: [repr(getattr(lib.nn, n)(0.3)) for n in ("AlphaDropout", "FeatureAlphaDropout", "Dropout1d")])


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout", "dropout1d"])
@pytest.mark.parametrize("p", [0.2, 0.6])
def test_dropout_statistics(name, p):
    """The mask is the library's own: slope and shift of kept and of dropped elements, the pattern, the rate."""

    def case(lib, x):
        lib.manual_seed(3)
        y = getattr(F(lib), name)(x, p, training=True)
        (gradient,) = lib.autograd.grad(y.sum(), x)
        mask, x, y = (t.detach().numpy() for t in (gradient, x, y))
        kept = mask != 0
        rest = y - mask * x
        whole = bool((kept == kept[:, :, :1]).all())
        n = kept.size if name == "alpha_dropout" else kept[:, :, 0].size
        close = abs(kept.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
        return [round(float(v), 4) for v in (mask.max(), rest[kept].mean(), rest[~kept].mean(), np.ptp(rest[kept]))
                ], whole, bool(close)  # fmt: skip

    check(case, normal(60, 70, 4))


def test_deepcopy_of_a_normalized_weight_between_steps():
    """PyTorch refuses; fastnn's copy is independent."""
    import fastnn

    module = fastnn.nn.utils.weight_norm(fastnn.nn.Linear(3, 2))
    x = fastnn.randn(4, 3)
    y = module(x)
    again = copy.deepcopy(module)
    assert again(x).tolist() == y.tolist() and again.weight_g is not module.weight_g


def test_unused_number_of_features_warns():
    def case(lib, x):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            y = lib.nn.InstanceNorm1d(7)(x)
        return len(caught), y

    check(case, normal(2, 3, 4), dtypes=("float32",), tol=3)
