"""Batch normalization against its formula, by hand, its statistics, and its numerical behaviour."""
import copy
import pickle

import numpy as np
import pytest
from harness import check, close

import fastnn
import fastnn.nn.functional as F
from fastnn import backend, layout, nn

SHAPES = [(7, 3), (4, 5, 6), (2, 3, 4, 5), (3, 1, 2, 2), (1, 17, 3, 2), (65, 33), (2, 520)]


def over_rows(x, values):
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def formula(x, weight=None, bias=None, mean=None, var=None, eps=1e-5):
    if mean is None:
        axes, rows = (0, *range(2, x.ndim)), max(1, x.size // x.shape[1])
        mean = x.sum(axes) / rows
        var = ((x - over_rows(x, mean)) ** 2).sum(axes) / rows
    y = (x - over_rows(x, mean)) / np.sqrt(over_rows(x, var) + eps)
    y = y if weight is None else y * over_rows(x, weight)
    return y if bias is None else y + over_rows(x, bias)


@pytest.mark.parametrize("shape", SHAPES)
def test_training(rng, shape):
    x, weight, bias = rng.standard_normal(shape) * 2 + 1, *rng.standard_normal((2, shape[1]))
    check(lambda x, w, b, eps: F.batch_norm(x, None, None, w, b, training=True, eps=eps), x, weight, bias,
          oracle=formula, kwargs={"eps": 0.1})
    check(lambda x: F.batch_norm(x, None, None, training=True, eps=0.1), x, oracle=lambda x: formula(x, eps=0.1))
    check(lambda x, w: F.batch_norm(x, None, None, w, training=True, eps=0.1), x, weight,
          oracle=lambda x, w: formula(x, w, eps=0.1))


@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation(rng, shape):
    x, weight, bias, mean = rng.standard_normal(shape), *rng.standard_normal((3, shape[1]))
    check(lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, eps=0.01), x, weight, bias, mean,
          rng.uniform(0.5, 2, shape[1]), grad=[0, 1, 2],
          oracle=lambda x, w, b, mean, var: formula(x, w, b, mean, var, 0.01))


def test_by_hand():
    x = fastnn.tensor([[1.0, 2.0], [3.0, 6.0]], requires_grad=True)
    weight, bias = (fastnn.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [0.0, 10.0]))
    mean, var = fastnn.zeros(2), fastnn.ones(2)
    y = F.batch_norm(x, mean, var, weight, bias, training=True, momentum=0.5, eps=0.0)
    assert y.tolist() == [[-1.0, 8.0], [1.0, 12.0]]
    assert mean.tolist() == [1.0, 2.0] and var.tolist() == [1.5, 4.5]  # unbiased variances 2 and 8
    y.backward(fastnn.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert bias.grad.tolist() == [1.0, 0.0] and weight.grad.tolist() == [-1.0, 0.0]
    assert x.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]  # two values become -1 and 1 wherever they are
    y = F.batch_norm(x, mean, var, eps=0.5)
    close(y, [[0.0, 0.0], [2 / np.sqrt(2), 4 / np.sqrt(5)]], np.float32)


@pytest.mark.parametrize("first_rows", [0, 1e4])
@pytest.mark.parametrize("C", [1, 3, 32, 600])
def test_variance_of_float32_survives_a_large_mean(rng, C, first_rows):
    """E[x²] − μ² has no correct digit here; a far-off first row, the shift, costs one digit."""
    x = (1000 + 0.1 * rng.standard_normal((20000 // C + 70, C))).astype(np.float32)
    x[:1] += first_rows
    mean, var = fastnn.zeros(C), fastnn.zeros(C)
    F.batch_norm(fastnn.tensor(x), mean, var, training=True, momentum=1.0)
    truth = x.astype(np.float64)
    np.testing.assert_allclose(mean.array, truth.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var.array, truth.var(0, ddof=1), rtol=2e-4 if first_rows else 2e-5)
    constant = F.batch_norm(fastnn.full((1000, C), 0.1), mean, var, training=True, momentum=1.0)
    assert (constant.array == 0).all() and (var.array == 0).all()


def test_statistics_with_gaps_in_memory(rng):
    x, mean, var = fastnn.tensor(rng.standard_normal((9, 3))), fastnn.zeros(6).double(), fastnn.ones(6).double()
    F.batch_norm(x, mean[::2], var[1::2], training=True, momentum=1.0)
    np.testing.assert_allclose(mean.array[::2], x.array.mean(0))
    np.testing.assert_allclose(var.array[1::2], x.array.var(0, ddof=1))
    assert (mean.array[1::2] == 0).all() and (var.array[::2] == 1).all()


def test_nan_and_infinity_stay_in_their_channel(rng):
    x = rng.standard_normal((70, 3)).astype(np.float32)
    x[5, 0], x[50, 1] = np.nan, np.inf
    with np.errstate(all="ignore"):
        y = F.batch_norm(fastnn.tensor(x), None, None, training=True).array
    assert np.isnan(y[:, :2]).sum() >= 70 and np.isfinite(y[:, 2]).all()
    close(y[:, 2], formula(x[:, 2:].astype(np.float64))[:, 0])


@pytest.mark.parametrize("training", [True, False])
def test_gradients_that_nobody_asks_for(rng, training):
    a = rng.standard_normal((4, 3, 2, 5))
    grads = {}
    for asked in [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]:
        values = a, a[0, :, 0, 0], a[0, :, 1, 1]
        x, w, b = (fastnn.tensor(v, requires_grad=r) for v, r in zip(values, asked, strict=True))
        y = F.batch_norm(x, fastnn.zeros(3).double(), fastnn.ones(3).double(), w, b, training)
        (y * y * y).sum().backward()
        for name, t, r in zip("xwb", (x, w, b), asked, strict=True):
            assert (t.grad is not None) == r
            if r:
                np.testing.assert_array_equal(t.grad.array, grads.setdefault(name, t.grad.array))


def test_empty_batch_leaves_statistics_alone():
    layer = nn.BatchNorm2d(3)
    x = fastnn.zeros(0, 3, 4, 5, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, 3, 4, 5) and layer.weight.grad.tolist() == [0.0, 0.0, 0.0]
    assert layer.running_mean.tolist() == [0.0, 0.0, 0.0] and layer.running_var.tolist() == [1.0, 1.0, 1.0]


def test_saved_input_changed_in_place_is_noticed():
    x = fastnn.randn(4, 3, requires_grad=True) * 1.0
    y = F.batch_norm(x, None, None, training=True)
    x.add_(1.0)
    with pytest.raises(RuntimeError):
        y.sum().backward()


def test_refusals():
    x = fastnn.randn(4, 3, 2, 2)
    with pytest.raises(ValueError, match=r"input of shape \(4, 3, 2, 2\) needs weight of shape \(3,\), not \(4,\)"):
        F.batch_norm(x, None, None, fastnn.ones(4), training=True)
    with pytest.raises(TypeError, match="batch_norm: input is float64, but running_mean is float32"):
        F.batch_norm(x.double(), fastnn.zeros(3), fastnn.ones(3))
    with pytest.raises(RuntimeError, match="needs more than one value a channel"):
        F.batch_norm(x[:1, :, :1, :1], None, None, training=True)
    frozen = fastnn.zeros(1).expand(3)
    with pytest.raises(ValueError, match="must be writeable"):
        F.batch_norm(x, frozen, frozen, training=True)
    with pytest.raises(RuntimeError, match="are needed in evaluation"):
        F.batch_norm(x, None, None)
    with pytest.raises(ValueError, match=r"BatchNorm2d: input must have the shape \(N, C, H, W\), but \(4, 3\) came"):
        nn.BatchNorm2d(3)(fastnn.randn(4, 3))
    with pytest.raises(ValueError, match=r"BatchNorm1d: input must have the shape \(N, C\) or \(N, C, L\)"):
        nn.BatchNorm1d(3)(x)


def test_kernels_refuse_what_does_not_fit():
    if backend.kernel_set != "compiled":
        pytest.skip("the twins trust their caller")
    K, x, c = backend.normalization, np.zeros((4, 3), np.float32), np.zeros(3, np.float32)
    wide = np.zeros((4, 3, 2, 2), np.float32)
    for a, mean, weight, other, y in [(x, c, c, None, x[:2]), (x, c[:2], c, None, x), (x, c, c.astype(float), None, x),
                                      (x.T, c, c, None, x.T), (wide, c, c, None, x), (x, c, c, x[:2], x),
                                      (x, c, c, x.astype(float), x), (x, None, c, None, x)]:
        with pytest.raises(ValueError, match="kernel"):
            K.batch_norm(a, mean, c, weight, c, other, True, y, 1)
    for a, mean, running in [(x, c[:2], c), (x, c, c[:2]), (x.T, c, None), (x[:0], c, c), (x, c, c.astype(float))]:
        with pytest.raises(ValueError, match="kernel"):
            K.batch_norm_statistics(a, 1e-5, 0.1, mean, c.copy(), running, None, 1)
    for dy, y, g, dx, dw, db in [(x[:2], None, None, x, c, c), (x, x, None, x, c, c), (x, None, x, x, c, c),
                                 (x, x[:2], x, x, c, c), (x, x, x[:2], x, c, c), (x, None, None, x[:2], c, c),
                                 (x, None, None, x, None, None), (x, None, None, x, c, None), (None,) * 6]:
        with pytest.raises(ValueError, match="kernel"):
            K.batch_norm_backward(dy, x, c, c, c, c, y, True, True, dx, dw, db, g, 1)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_module_statistics(rng, momentum):
    layer, batches = nn.BatchNorm1d(4, momentum=momentum), rng.standard_normal((5, 6, 4)) + 3
    mean, var = np.zeros(4), np.ones(4)
    for i, a in enumerate(batches):
        layer(fastnn.tensor(a.astype(np.float32)))
        m = momentum or 1 / (i + 1)
        mean, var = (1 - m) * mean + m * a.mean(0), (1 - m) * var + m * a.var(0, ddof=1)
    close(layer.running_mean, mean, np.float32)
    close(layer.running_var, var, np.float32)
    assert layer.num_batches_tracked.item() == 5 and layer.num_batches_tracked.dtype == fastnn.int64
    layer.eval()
    close(layer(fastnn.tensor(batches[0].astype(np.float32))), formula(batches[0], mean=mean, var=var), np.float32)
    assert layer.num_batches_tracked.item() == 5
    again = copy.deepcopy(layer)
    layer.reset_running_stats()
    assert layer.running_var.tolist() == [1.0] * 4 and layer.num_batches_tracked.item() == 0
    layer.load_state_dict(again.state_dict())
    assert layer.running_mean.tolist() == again.running_mean.tolist() and layer.num_batches_tracked.item() == 5


def test_module_options(rng):
    layer = nn.BatchNorm2d(3, eps=0.1, affine=False, track_running_stats=False)
    assert repr(layer) == ("BatchNorm2d(3, eps=0.1, momentum=0.1, affine=False, bias=False, "
                           "track_running_stats=False)")
    assert layer.state_dict() == {} and list(layer.parameters()) == []
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    close(layer.eval()(fastnn.tensor(x)), formula(x.astype(np.float64), eps=0.1), np.float32)
    layer = nn.BatchNorm2d(3, bias=False, dtype=fastnn.float64)
    assert list(layer.state_dict()) == ["weight", "running_mean", "running_var", "num_batches_tracked"]
    assert layer.running_var.dtype == layer.weight.dtype == fastnn.float64
    assert layer.float()(fastnn.tensor(x)).dtype == fastnn.float32 and layer.num_batches_tracked.dtype == fastnn.int64


def by_rows(x, axes, eps, centred=True):
    """Each row along the last axes on its own, in a loop."""
    y = np.empty_like(x)
    for i in np.ndindex(x.shape[:-axes]):
        d = x[i] - (x[i].sum() / x[i].size if centred else 0)
        y[i] = d / np.sqrt((d * d).sum() / d.size + eps)
    return y


def by_groups(x, groups, eps):
    y, size = np.empty_like(x), x.shape[1] // groups
    for n, g in np.ndindex(len(x), groups):
        part = np.s_[n, g * size : (g + 1) * size]
        y[part] = by_rows(x[part][None], x.ndim - 1, eps)[0]
    return y


@pytest.mark.parametrize(("shape", "axes"), [((5, 3), 1), ((4, 64), 1), ((70, 7), 1), ((3, 700), 1), ((2, 3, 4, 5), 1),
                                             ((2, 3, 4, 5), 2), ((2, 3, 4, 5), 3), ((3, 5), 2), ((2, 1, 3, 4), 3)])
def test_layer_and_rms_norm(rng, shape, axes):
    over = shape[len(shape) - axes :]
    x, (w, b) = rng.standard_normal(shape) + 1, rng.standard_normal((2, *over))
    check(lambda x, w, b: F.layer_norm(x, over, w, b, 0.1), x, w, b,
          oracle=lambda x, w, b: by_rows(x, axes, 0.1) * w + b)
    check(lambda x, b: F.layer_norm(x, over, None, b, 0.1), x, b, oracle=lambda x, b: by_rows(x, axes, 0.1) + b)
    check(lambda x, w: F.rms_norm(x, over, w, 0.1), x, w, oracle=lambda x, w: by_rows(x, axes, 0.1, False) * w)
    check(lambda x: F.rms_norm(x, over, eps=0.1), x, oracle=lambda x: by_rows(x, axes, 0.1, False))


@pytest.mark.parametrize(("shape", "groups"), [((3, 6), 2), ((2, 6, 5), 3), ((2, 6, 4, 5), 1), ((2, 6, 4, 5), 3),
                                               ((5, 6, 3, 2), 6), ((1, 40, 9, 11), 8), ((2, 4, 2, 3, 2), 2)])
def test_group_and_instance_norm(rng, shape, groups):
    x, (w, b) = rng.standard_normal(shape) + 1, rng.standard_normal((2, shape[1]))
    check(lambda x, w, b: F.group_norm(x, groups, w, b, 0.1), x, w, b,
          oracle=lambda x, w, b: by_groups(x, groups, 0.1) * over_rows(x, w) + over_rows(x, b))
    check(lambda x: F.group_norm(x, groups, eps=0.1), x, oracle=lambda x: by_groups(x, groups, 0.1))
    if len(shape) > 2:
        check(lambda x, w: F.instance_norm(x, weight=w, eps=0.1), x, w,
              oracle=lambda x, w: by_groups(x, shape[1], 0.1) * over_rows(x, w))


def test_layer_norm_of_images_in_either_memory_order(rng):
    values = rng.standard_normal((2, 3, 4, 5)), *rng.standard_normal((2, 3, 4, 5))
    results = []
    for order in layout.contiguous, layout.channels_last:
        x, w, b = (fastnn.tensor(v, requires_grad=True) for v in values)
        y = F.layer_norm(fastnn.Tensor(order(values[0])) + 0 * x, (3, 4, 5), w, b)
        (y * y * y).sum().backward()
        results.append([y.array, x.grad.array, w.grad.array, b.grad.array])
    assert layout.is_channels_last(results[1][0]) and not layout.is_channels_last(results[0][0])
    for plain, last in zip(*results, strict=True):
        close(last, plain)


@pytest.mark.parametrize("first", [0, 1e4])
@pytest.mark.parametrize("D", [3, 64, 768, 100_000])
def test_rows_of_float32_survive_a_large_mean(rng, D, first):
    x = (1000 + 0.1 * rng.standard_normal((5, D))).astype(np.float32)
    x[:, :1] += first
    close(F.layer_norm(fastnn.tensor(x), (D,), eps=0.0), by_rows(x.astype(np.float64), 1, 0.0), tol=3e-4)
    close(F.group_norm(fastnn.tensor(x[None, None]), 1, eps=0.0)[0, 0],
          by_rows(x.astype(np.float64), 2, 0.0), tol=3e-2 if first else 2e-3)
    assert (F.layer_norm(fastnn.full((3, D), 0.1), (D,)).array == 0).all()


def test_statistics_of_instances(rng):
    layer, x = nn.InstanceNorm2d(3, momentum=0.3, track_running_stats=True), rng.standard_normal((4, 3, 5, 6)) + 2
    layer(fastnn.tensor(x.astype(np.float32)))
    close(layer.running_mean, 0.3 * x.mean((0, 2, 3)), np.float32)
    close(layer.running_var, 0.7 + 0.3 * x.var((2, 3), ddof=1).mean(0), np.float32)
    layer.eval()
    mean, var = (t.array.astype(float) for t in (layer.running_mean, layer.running_var))
    close(layer(fastnn.tensor(x.astype(np.float32))), formula(x, mean=mean, var=var), np.float32)
    before = layer.running_mean.tolist()
    assert layer.train()(fastnn.zeros(0, 3, 2, 2)).shape == (0, 3, 2, 2) and layer.running_mean.tolist() == before


@pytest.mark.parametrize("size", [1, 2, 5])
def test_local_response_norm(rng, size):
    def oracle(x):
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            near = x[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1]
            y[:, c] = x[:, c] / (2 + 0.3 / size * (near**2).sum(1)) ** 0.6
        return y

    check(lambda x: F.local_response_norm(x, size, 0.3, 0.6, 2.0), rng.standard_normal((2, 6, 3, 4)), oracle=oracle)
    check(lambda x: F.normalize(x, 3.0, 2), rng.standard_normal((2, 6, 3)),
          oracle=lambda x: x / (np.abs(x) ** 3).sum(2, keepdims=True) ** (1 / 3))


MODULES = [(nn.LayerNorm((3, 4, 5)), 4), (nn.LayerNorm(5, bias=False), 2), (nn.RMSNorm((4, 5)), 4),
           (nn.GroupNorm(3, 3), 4), (nn.InstanceNorm2d(3, affine=True, track_running_stats=True), 4),
           (nn.InstanceNorm1d(2), 3), (nn.LocalResponseNorm(2), 4)]  # fmt: skip


@pytest.mark.parametrize(("module", "ndim"), MODULES, ids=lambda m: str(m))
def test_modules_of_the_kin(module, ndim):
    """Copies, pickles and states say the same; both kinds of memory do; the empty batch passes."""
    x = fastnn.randn(*(2, 3, 4, 5)[:ndim] if ndim == 4 else (2, 2, 5)[-ndim:])
    y = module(x)
    for again in copy.deepcopy(module), pickle.loads(pickle.dumps(module)):
        again.load_state_dict(module.state_dict())
        assert again(x).tolist() == y.tolist() and repr(again) == repr(module)
    if ndim == 4:
        last = module(fastnn.Tensor(layout.channels_last(x.array)))
        assert layout.is_channels_last(last.array)
        close(last, y.array)
    assert module.double()(x.double()).dtype == fastnn.float64
    z = x.double()[:0].requires_grad_()
    module(z).sum().backward()
    assert z.grad.shape == z.shape
    module.float()


def test_kernels_of_rows_and_groups_refuse_what_does_not_fit():
    if backend.kernel_set != "compiled":
        pytest.skip("the twins trust their caller")
    K, x, d, m = backend.normalization, *(np.zeros(n, np.float32) for n in ((4, 3), 3, 4))
    image, groups = layout.channels_last(np.zeros((2, 4, 3, 5), np.float32)), np.zeros((2, 2), np.float32)
    for a, w, b, y, mean, rstd in [(x[:0], d, d, x, m, m), (x.T, d, d, x, m, m), (x, m, d, x, m, m), (x, d, m, x, m, m),
                                   (x, d, d, None, m, m), (x, d, d, x[:2], m, m), (x, d, d, x, d, m),
                                   (x, d, d, x, m, None), (x, d, d, x, m, m.astype(float)), (None,) * 6]:
        with pytest.raises(ValueError, match="kernel"):
            K.layer_norm(a, w, b, 1e-5, y, mean, rstd, 1)
    for dy, dx, dw in [(None, x, d), (x[:2], x, d), (x, x.T, d), (x, x, m), (x.astype(float), x, d)]:
        with pytest.raises(ValueError, match="kernel"):
            K.layer_norm_backward(dy, x, m, m, d, dx, dw, d, 1)
    c = np.zeros(4, np.float32)
    for a, w, y, mean in [(image[:0], c, image, groups), (image[0], c, image[0], groups), (image, d, image, groups),
                          (image, c, np.ascontiguousarray(image), groups), (image, c, image, np.zeros((2, 3), "f")),
                          (image, c, image, np.zeros((2, 0), "f")), (image, c, image, groups.astype(float)),
                          (image, c, image, None), (image, c, image, groups[:1]), (None, c, image, groups)]:
        with pytest.raises(ValueError, match="kernel"):
            K.group_norm(a, w, None, 1e-5, y, mean, groups, 1)
    for dy, dw, db in [(None, c, c), (image, c, None), (image, d, d), (image[:1], c, c)]:
        with pytest.raises(ValueError, match="kernel"):
            K.group_norm_backward(dy, image, groups, groups, c, image.copy(), dw, db, 1)


def test_batch_norm_of_volumes(rng):
    x, weight, bias = rng.standard_normal((2, 3, 4, 2, 3)), *rng.standard_normal((2, 3))
    check(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=0.1), x, weight, bias,
          oracle=lambda x, w, b: formula(x, w, b, eps=0.1))


def test_foreign_bytes(rng):
    a, c = rng.standard_normal((2, 6, 3, 4)).astype(np.float32), rng.standard_normal(6).astype(np.float32)
    for op in (lambda x, w: F.batch_norm(x, None, None, w, training=True), lambda x, w: F.group_norm(x, 3, w),
               lambda x, w: F.layer_norm(x.permute(0, 2, 3, 1), (6,), w), lambda x, w: F.max_pool2d(x, 2)):
        native, foreign = (op(*(fastnn.Tensor(b.astype(kind)) for b in (a, c))) for kind in ("=f4", ">f4"))
        assert foreign.tolist() == native.tolist()
