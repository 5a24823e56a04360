"""The tape against PyTorch: what accumulates where, hooks, grad modes, autograd.grad, one's own Functions, mistakes."""

import pytest

from .pairs import check, check_either, check_raises, integers, normal, seeded

X = normal(3, 4)


def none(tensor):
    return tensor is None


def test_gradients_accumulate():
    def case(lib, x):
        (x * 2).sum().backward()
        first = x.grad.clone()
        (x**2).sum().backward()
        same = x.grad
        (x**3).sum().backward()
        return first, x.grad.clone(), same is x.grad

    check(case, X)


def test_branches_are_summed():
    def case(lib, x):
        y = x * 3
        z = y.exp() + y * y + y[0] + x.T.sum() * y
        return z + z, y + z

    check(case, X)


def test_deep_chains_and_wide_fans():
    def case(lib, x):
        y = x
        for _ in range(300):
            y = lib.tanh(y + x * 0.01)
        z = sum(y * i for i in range(50))
        return z, y

    check(case, X)


def test_backward_with_a_gradient():
    def case(lib, x, g):
        y = x * x
        y.backward(g)
        first = x.grad.clone()
        (x + 1).backward(gradient=g * 2)
        return first, x.grad.clone()

    check(case, X, normal(3, 4, seed=1), grad=True)


def test_retain_graph():
    def case(lib, x):
        y = (x.exp() * x).sum()
        y.backward(retain_graph=True)
        y.backward(retain_graph=True)
        y.backward()
        return x.grad.clone()

    check(case, X)


def test_grad_of_intermediates():
    def case(lib, x):
        y = x * 2
        z = y * y
        y.retain_grad()
        z.sum().backward()
        return y.grad, x.grad.clone(), y.is_leaf, x.is_leaf, y.requires_grad

    check(case, X)


def test_requires_grad_flags():
    def case(lib, x):
        d = x.detach()
        y, z = x * 2, d * 2
        flags = [t.requires_grad for t in (x, d, y, z, y.detach(), lib.zeros(2), (x > 0), x.argmax())]
        leaves = [t.is_leaf for t in (x, d, y, z, y.detach())]
        w = lib.ones(2).requires_grad_()
        w.requires_grad_(False)
        u = lib.zeros(2)
        u.requires_grad = True
        return flags, leaves, w.requires_grad, u.requires_grad, none(d.grad)

    check(case, X)


def test_detach_shares_memory_and_clone_does_not():
    def case(lib, x):
        y = x * 1
        y.detach()[0] = 7
        c = y.clone()
        c[1] = 8
        x.data[2] = 9
        x.data.mul_(2)
        return y, c.detach(), x.detach()

    check(case, X)


def test_data_can_be_assigned():
    def case(lib, x, v):
        x.data = v.detach() * 2
        return x * x, x.requires_grad

    check(case, X, normal(3, 4, seed=1))


def test_grad_can_be_assigned_and_changed():
    def case(lib, x, v):
        x.grad = v.detach() * 2
        (x * 3).sum().backward()
        first = x.grad.clone()
        x.grad.zero_()
        second = x.grad.clone()
        x.grad = None
        (x * 3).sum().backward()
        x.grad *= 2
        x.grad.data.add_(1)
        return first, second, x.grad.clone()

    check(case, X, normal(3, 4, seed=1), grad=True)


# ---------------------------------------------------------------- grad modes


def test_no_grad():
    def case(lib, x):
        with lib.no_grad():
            y = x * 2
            inside = lib.is_grad_enabled()
            with lib.enable_grad():
                z = x * 3

        @lib.no_grad()
        def double(t):
            return t * 2

        with lib.set_grad_enabled(False):
            s = x * 2
        with lib.inference_mode():
            i = x * 2
        return (
            y.requires_grad,
            inside,
            z.requires_grad,
            double(x).requires_grad,
            s.requires_grad,
            i.requires_grad,
            lib.is_grad_enabled(),
        )

    check(case, X)


def test_grad_modes_are_used_again():
    def case(lib, x):
        seen = []

        def see():
            seen.append(lib.is_grad_enabled())

        off = lib.set_grad_enabled(False)
        for _ in range(2):
            with off:
                see()
            see()
        off = lib.set_grad_enabled(False)
        first, second = off(see), off(see)
        nested = lib.no_grad()(lib.enable_grad()(see))
        for call in (see, first, second, see, lib.enable_grad(see), lib.no_grad(see), nested):
            call()
        off = lib.set_grad_enabled(False)
        lib.set_grad_enabled(True)
        with off:
            see()
        see()
        return seen

    check(case, X)


def test_retained_gradients_add_up():
    def case(lib, x):
        y = x * 2
        y.retain_grad()
        (y * 3).sum().backward(retain_graph=True)
        (y * y).sum().backward()
        return y.grad

    check(case, X, grad=True)


def test_no_grad_is_left_by_an_exception():
    def case(lib, x):
        try:
            with lib.no_grad():
                raise KeyError
        except KeyError:
            pass
        return (x * 2).requires_grad

    check(case, X)


def test_no_grad_around_a_generator_of_batches():
    def case(lib, x):
        total = 0.0
        with lib.no_grad():
            for row in x:
                total += row.sum().item()
        return total, x.requires_grad

    check(case, X)


# ---------------------------------------------------------------- hooks


def test_tensor_hooks():
    def case(lib, x):
        seen = []
        y = x * 2
        y.register_hook(lambda g: seen.append(("y", g.detach().clone())))
        handle = y.register_hook(lambda g: g * 10)
        x.register_hook(lambda g: g + 1)
        z = y * y
        z.register_hook(lambda g: seen.append(("z", tuple(g.shape))))
        z.sum().backward(retain_graph=True)
        first = x.grad.clone()
        handle.remove()
        x.grad = None
        z.sum().backward()
        return seen, first, x.grad.clone()

    check(case, X)


def test_hook_sees_the_summed_gradient_once():
    def case(lib, x):
        calls = []
        y = x * 2
        y.register_hook(lambda g: calls.append(float(g.sum())))
        (y.sum() + (y * y).sum() + y[0].sum()).backward()
        return calls

    check(case, X)


def test_hooks_with_retain_grad():
    def case(lib, x):
        y = x * 2
        y.retain_grad()
        y.register_hook(lambda g: g * 3)
        (y * y).sum().backward()
        return y.grad, x.grad.clone()

    check(case, X)


# ---------------------------------------------------------------- autograd.grad


def test_grad_function():
    def case(lib, x, w):
        y = (x @ w).tanh()
        gx, gw = lib.autograd.grad(y.sum(), (x, w), retain_graph=True)
        (only,) = lib.autograd.grad(y, x, grad_outputs=lib.ones_like(y), retain_graph=True)
        many = lib.autograd.grad([y, x * 2], [x], grad_outputs=[lib.ones_like(y), lib.ones_like(x)])
        return gx, gw, only, many, none(x.grad), none(w.grad)

    check(case, X, normal(4, 2))


def test_grad_function_of_intermediates():
    def case(lib, x):
        y = x * 2
        z = (y * y).sum()
        gy, gx = lib.autograd.grad(z, [y, x])
        return gy, gx

    check(case, X)


def test_grad_function_passes_by_what_leads_elsewhere():
    """Branches of the graph that do not lead to an input, one of them a recorded operation, one a leaf with a hook."""

    def case(lib, x, w):
        called = []
        w.register_hook(lambda grad: called.append(1))
        (gx,) = lib.autograd.grad((x * (w * 2) * w).sum(), x)
        return gx, none(w.grad), not called

    check(case, X, normal(3, 4))


def test_grad_function_of_the_unused():
    def case(lib, x, w):
        gx, gw = lib.autograd.grad((x * 2).sum(), [x, w], allow_unused=True)
        return gx, none(gw)

    check(case, X, normal(2))
    check_raises(lambda lib, x, w: lib.autograd.grad((x * 2).sum(), [x, w]), X, normal(2))
    check_raises(lambda lib, x: lib.autograd.grad(x * 2, x), X)
    check_raises(lambda lib, x: lib.autograd.grad((x * 2).sum(), x.detach()), X)


# ---------------------------------------------------------------- Function


def exponential(lib):
    class Exponential(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            y = (x * factor).exp()
            ctx.save_for_backward(y)
            ctx.factor = factor
            return y

        @staticmethod
        def backward(ctx, grad):
            (y,) = ctx.saved_tensors
            return grad * y * ctx.factor, None

    return Exponential


def test_function():
    check(lambda lib, x: exponential(lib).apply(x, 0.5) * x, X)
    check(lambda lib, x: exponential(lib).apply(x.detach(), 0.5).requires_grad, X)


def test_function_of_several():
    def case(lib, a, b):
        class Pair(lib.autograd.Function):
            @staticmethod
            def forward(ctx, a, b):
                ctx.save_for_backward(a, b)
                return a * b, a + b

            @staticmethod
            def backward(ctx, g1, g2):
                a, b = ctx.saved_tensors
                needed = [bool(n) for n in ctx.needs_input_grad]
                seen.append(needed)
                return (g1 * b + g2) if needed[0] else None, (g1 * a + g2) if needed[1] else None

        seen = []
        p, s = Pair.apply(a, b)
        q, _ = Pair.apply(a, b.detach())
        (p.sum() * 2 + (s * s).sum() + q.sum()).backward(retain_graph=True)
        return seen[0] if seen[0] == [True, True] else seen[1], sorted(seen), p, s, q

    check(case, X, normal(3, 4, seed=1))


def test_function_straight_through():
    def case(lib, x):
        class Sign(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return lib.where(x > 0, lib.ones_like(x), -lib.ones_like(x))

            @staticmethod
            def backward(ctx, grad):
                (x,) = ctx.saved_tensors
                return grad * (x.abs() <= 1).to(grad.dtype)

        return Sign.apply(x * 2) + x

    check(case, X)


def test_function_of_integers_and_none():
    def case(lib, x, index):
        class Take(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x, index, extra=None):
                ctx.save_for_backward(index)
                ctx.shape = x.shape
                return x[index]

            @staticmethod
            def backward(ctx, grad):
                (index,) = ctx.saved_tensors
                full = lib.zeros(tuple(ctx.shape), dtype=grad.dtype)
                full[index] = grad
                return full, None, None

        return Take.apply(x, index, None)

    check(case, X, integers(0, 3, 1))


def test_function_mistakes():
    def wrong(shape_or_count):
        def case(lib, x):
            class Wrong(lib.autograd.Function):
                @staticmethod
                def forward(ctx, x):
                    return x * 2

                @staticmethod
                def backward(ctx, grad):
                    return grad[:1, :2] if shape_or_count == "shape" else (grad, grad)

            Wrong.apply(x).sum().backward()

        return case

    check_raises(wrong("shape"), X)
    check_raises(wrong("count"), X)


# ---------------------------------------------------------------- mistakes


def twice(lib, x):
    y = (x * x).sum()
    y.backward()
    y.backward()


def hook_of_no_grad(lib, x):
    x.detach().register_hook(lambda g: g)


MISTAKES = {
    "twice": twice,
    "not a scalar": lambda lib, x: (x * 2).backward(),
    "gradient shape": lambda lib, x: (x * 2).backward(lib.ones(5, dtype=x.dtype)),
    "nothing to differentiate": lambda lib, x: x.detach().sum().backward(),
    "under no_grad": lambda lib, x: lib.no_grad()(lambda: x.sum())().backward(),
    "requires_grad of a result": lambda lib, x: (x * 2).requires_grad_(False),
    "retain_grad of a constant": lambda lib, x: x.detach().retain_grad(),
    "hook of a constant": hook_of_no_grad,
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    check_raises(MISTAKES[name], X)


# ---------------------------------------------------------------- random programs


def write_row(lib, a, b, k):
    a[k % len(a)] = b.mean()


def write_masked(lib, a, b, k):
    a[a > 0.3] = 0.2


STEPS = [
    # views
    lambda lib, a, b, k: a[k % len(a)],
    lambda lib, a, b, k: a.transpose(0, -1),
    lambda lib, a, b, k: a[..., ::2],
    lambda lib, a, b, k: a.unsqueeze(k % (a.ndim + 1)),
    lambda lib, a, b, k: a.squeeze(),
    lambda lib, a, b, k: a.permute(*reversed(range(a.ndim))),
    # results of their own
    lambda lib, a, b, k: a * b if a.shape == b.shape else a * b.mean(),
    lambda lib, a, b, k: lib.tanh(a),
    lambda lib, a, b, k: (a * a + 0.1).sqrt(),
    lambda lib, a, b, k: a.sum(k % a.ndim, keepdim=True),
    lambda lib, a, b, k: a.flip(k % a.ndim),
    lambda lib, a, b, k: lib.cat([a, a], k % a.ndim),
    lambda lib, a, b, k: lib.where(a > 0, a, b.mean()),
    lambda lib, a, b, k: a.detach() * b.sum(),
    lambda lib, a, b, k: a.clone(),
    # changes in place
    lambda lib, a, b, k: a.mul_(1.5) is None,
    lambda lib, a, b, k: a.add_(b.sum() * 0.1) is None,
    lambda lib, a, b, k: a.div_(2).sub_(b.mean()) is None,
    lambda lib, a, b, k: a[..., :1].copy_(lib.sin(a.detach()[..., :1]) * b.mean()) is None,
    write_row,
    write_masked,
]


@pytest.mark.parametrize("seed", range(8))
def test_random_programs(seed):
    """Views, views of views, and changes in place of any of them, in any order: the same gradients, or both refuse."""
    for draw in range(60):
        rng = seeded("program", seed, draw)
        plan = rng.integers(0, 10**6, (int(rng.integers(3, 14)), 4)).tolist()

        def case(lib, x, y):
            tensors = [x * 1, y * 1]
            for step, i, j, k in plan:
                a, b = tensors[i % len(tensors)], tensors[j % len(tensors)]
                new = STEPS[step % len(STEPS)](lib, a, b, k) if a.ndim and len(a) else None
                if new is not None and new is not False and new.numel() < 1000:
                    tensors.append(new)
            return tensors

        check_either(case, normal(3, 4, seed=seed), normal(2, 3, 4, seed=seed), dtypes=("float64",))
