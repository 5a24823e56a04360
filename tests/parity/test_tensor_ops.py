"""Operations of Tensor against PyTorch: values, dtypes, shapes, gradients and mistakes."""

import itertools
import math

import numpy as np
import pytest

from .pairs import check, check_either, check_raises, integers, normal, positive, seeded

REAL, POSITIVE, UNIT = normal, positive, lambda *s, seed=0: seeded(seed, s).uniform(-0.9, 0.9, s)
SHAPES = [(), (5,), (3, 4), (2, 0, 3), (2, 3, 4, 5)]

# ---------------------------------------------------------------- one operand

UNARY = {
    "neg": REAL, "exp": REAL, "log": POSITIVE, "log1p": POSITIVE, "sqrt": POSITIVE, "rsqrt": POSITIVE, "square": REAL,
    "abs": REAL, "sin": REAL, "cos": REAL, "tanh": REAL, "sigmoid": REAL,
}  # fmt: skip
DIFFICULT = np.array([0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, 88.0, -104.0, 720.0, math.inf, -math.inf, math.nan])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, shape):
    x = UNARY[name](*shape)
    check(lambda lib, x: getattr(lib, name)(x), x)
    check(lambda lib, x: getattr(x, name)(), x)


@pytest.mark.parametrize("name", UNARY)
def test_unary_at_difficult_points(name):
    check(lambda lib, x: getattr(lib, name)(x), DIFFICULT, grad=name != "abs")  # of |NaN| PyTorch's is 0, ours NaN
    check(lambda lib, x: getattr(lib, name)(x), DIFFICULT[:-1])


@pytest.mark.parametrize("name", UNARY)
def test_unary_of_strided_operands(name):
    check(lambda lib, x: getattr(x.transpose(0, 2)[:, ::2], name)(), UNARY[name](3, 4, 5))


BOOLEAN = {("abs", "bool"), ("square", "bool")}  # PyTorch refuses the first and takes the second, fastnn the reverse


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("name", UNARY)
def test_unary_of_integers(name, dtype):
    if (name, dtype) not in BOOLEAN:
        check_either(lambda lib, x: getattr(lib, name)(x), integers(0, 2, 3, 4).astype(dtype))


def test_sign_operators():
    check(lambda lib, x: (-x, +x, abs(x)), normal(3, 4))


# ---------------------------------------------------------------- two operands

BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
}
BROADCAST = [
    ((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 4), (3, 1)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 3), ()), ((1,), (2, 3)),
    ((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 4, 5), (2, 3, 4, 5)), ((1, 3, 1, 5), (2, 1, 4, 1)), ((0, 3), (3,)),
    ((0, 3), (1, 1)), ((2, 1, 4), (3, 1)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", BROADCAST, ids=str)
@pytest.mark.parametrize("name", [*BINARY, "maximum", "minimum"])
def test_binary_broadcasting(name, shapes):
    a, b = positive(*shapes[0], seed=1), positive(*shapes[1], seed=2)
    check(lambda lib, a, b: getattr(lib, name)(a, b), a, b)
    check(lambda lib, a, b: getattr(a, name)(b), a, b)
    if name in BINARY:
        check(lambda lib, a, b: BINARY[name](a, b), a, b)


@pytest.mark.parametrize("name", [*BINARY, "maximum", "minimum"])
def test_binary_refuses_shapes_that_do_not_broadcast(name):
    check_raises(lambda lib, a, b: getattr(lib, name)(a, b), positive(3, 4), positive(3))


@pytest.mark.parametrize("scalar", [2, 0, -1, 0.5, 3.0])
@pytest.mark.parametrize("name", BINARY)
def test_binary_with_python_numbers(name, scalar):
    x = positive(3, 4)
    check(lambda lib, x: BINARY[name](x, scalar), x)
    check(lambda lib, x: BINARY[name](scalar, x), x)


def test_binary_keyword_arguments():
    x, y = normal(3, 4), positive(3, 4)
    check(lambda lib, x, y: lib.add(x, y, alpha=2), x, y)
    check(lambda lib, x, y: lib.sub(x, y, alpha=0.5), x, y)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.5, 1.5, 2.0])
def test_power_of_any_base(exponent):
    check(lambda lib, x: x**exponent, np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]))


def test_power_between_tensors_at_zero():
    base, exponent = np.meshgrid([0.0, 0.5, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0])
    check(lambda lib, a, b: a**b, base, exponent)
    check(lambda lib, b: 2.0**b, exponent)
    check(lambda lib, b: 0.0**b, exponent)


def test_division_by_zero():
    check(lambda lib, a, b: a / b, np.array([1.0, -1.0, 0.0]), np.zeros(3), grad=False)


def test_ties_share_the_gradient():
    a, b = np.array([1.0, 2.0, 3.0, math.nan]), np.array([1.0, 3.0, 2.0, 1.0])
    for name in ("maximum", "minimum"):
        check(lambda lib, a, b: getattr(lib, name)(a, b), a, b)


@pytest.mark.parametrize("limits", [(-0.5, 0.5), (None, 0.3), (-0.2, None), (0, 1), (0.5, -0.5)], ids=str)
def test_clamp(limits):
    low, high = limits
    x = np.append(normal(4, 5), [[-0.5, 0.5, 0.0, 0.3, -0.2]], axis=0)
    check(lambda lib, x: lib.clamp(x, low, high), x)
    check(lambda lib, x: x.clamp(min=low, max=high), x)


def test_clamp_needs_a_limit():
    check_raises(lambda lib, x: x.clamp(), normal(3))


def test_clamp_by_tensors():
    x, low, high = normal(4, 5), normal(5, seed=1) - 1, normal(4, 1, seed=2) + 1
    check(lambda lib, x, low, high: lib.clamp(x, low, high), x, low, high)


def test_where():
    condition = integers(0, 2, 3, 4).astype(bool)
    a, b = normal(3, 4, seed=1), normal(4, seed=2)
    check(lambda lib, c, a, b: lib.where(c, a, b), condition, a, b)
    check(lambda lib, c, a, b: lib.where(c[:, :1], a, b), condition, a, b)
    check(lambda lib, c, a: lib.where(c, a, 0.0), condition, a)
    check(lambda lib, c, a: lib.where(c, 1.0, a), condition, a)
    check(lambda lib, c, a: a.where(c, -a), condition, a)
    check(lambda lib, x: lib.where(x > 0, x, 0.1 * x), a)


# ---------------------------------------------------------------- dtypes

DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]


PROMOTING = {
    **BINARY,
    "maximum": lambda a, b: a.maximum(b),
    "==": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "!=": lambda a, b: a != b,
}


def lenient(name, first_bool, second_bool):
    """Where the libraries differ: fastnn subtracts a truth value from a number, PyTorch takes powers of two of them."""
    return (name == "sub" and first_bool != second_bool) or (name == "pow" and first_bool and second_bool)


@pytest.mark.parametrize("second", DTYPES)
@pytest.mark.parametrize("first", DTYPES)
def test_promotion(first, second):
    """Every pair of dtypes, arrays with arrays, with 0-d tensors, and 0-d with 0-d, for all operators."""
    for a, b, name in itertools.product(((3,), ()), ((3,), ()), PROMOTING):

        def case(lib):
            x = lib.ones(a, dtype=getattr(lib, first))
            y = lib.full(b, 1 if second == "bool" else 2, dtype=getattr(lib, second))
            return PROMOTING[name](x, y)

        if not lenient(name, first == "bool", second == "bool"):
            check_either(case, dtypes=("float64",))


@pytest.mark.parametrize("scalar", [2, 1.5, True], ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_promotion_with_python_numbers(dtype, scalar):
    for shape, name in itertools.product(((3,), ()), ("add", "sub", "mul", "div", "pow", "==", "<")):
        if lenient(name, dtype == "bool", scalar is True):
            continue
        check_either(
            lambda lib: PROMOTING[name](lib.ones(shape, dtype=getattr(lib, dtype)), scalar), dtypes=("float64",)
        )
        check_either(
            lambda lib: PROMOTING[name](scalar, lib.ones(shape, dtype=getattr(lib, dtype))), dtypes=("float64",)
        )


@pytest.mark.parametrize("second", DTYPES)
@pytest.mark.parametrize("first", DTYPES)
def test_promotion_when_joining(first, second):
    def pair(lib):
        return lib.ones(3, dtype=getattr(lib, first)), lib.ones(3, dtype=getattr(lib, second))

    check_either(lambda lib: lib.cat(pair(lib)), grad=False)
    check_either(lambda lib: lib.stack(pair(lib)), grad=False)
    check_either(lambda lib: lib.where(lib.tensor([True, False, True]), *pair(lib)), grad=False)


def test_promotion_gradients_return_in_the_operands_dtype():
    def case(lib):
        a = lib.tensor([1.0, 2.0], dtype=lib.float32, requires_grad=True)
        b = lib.tensor([3.0, 4.0], dtype=lib.float64, requires_grad=True)
        (a * b).sum().backward()
        return a.grad, b.grad

    check(case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["float", "double", "long", "int", "bool"])
def test_casts(method, dtype):
    check(lambda lib, x: getattr(x, method)(), np.array([0, 1, 2]).astype(dtype), grad=False)
    check(lambda lib, x: x.to(getattr(lib, dtype)), np.array([0.0, 1.7, 200.2]), grad=False)


def test_casts_carry_gradients():
    check(lambda lib, x: (x.float(), x.double()), normal(3))
    check(lambda lib, x: x.to(lib.float32) * 2, normal(3))
    check(lambda lib, x: (x.type(lib.float64) * 2, x.type_as(lib.ones(1)), (x > 0).type(lib.float32).sum()), normal(3))
    check(lambda lib, x: x.to("cpu").to(lib.device("cpu")).to(lib.device("cpu"), lib.float64).cpu(), normal(3))


# ---------------------------------------------------------------- comparison


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparison(name):
    a, b = integers(0, 3, 4, 5, seed=1), integers(0, 3, 5, seed=2)
    check(lambda lib, a, b: getattr(lib, name)(a, b), a, b)
    check(lambda lib, a, b: getattr(a, name)(b), a, b)
    check(lambda lib, a: getattr(a, name)(1), a)
    check(lambda lib, x: getattr(x, name)(lib.tensor(math.nan)), DIFFICULT)


def test_comparison_operators():
    a, b = integers(0, 3, 4, 5, seed=1), integers(0, 3, 5, seed=2)
    check(lambda lib, a, b: [a == b, a != b, a < b, a <= b, a > b, a >= b, a == 1, a > 1], a, b)


# ---------------------------------------------------------------- products

MATMUL = [
    ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)), ((2, 3, 4), (2, 4, 5)), ((6, 1, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (1, 6, 4, 5)),
    ((3, 4), (2, 4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((2, 0, 4), (2, 4, 5)), ((1, 1), (1, 1)),
    ((37, 129), (129, 65)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", MATMUL, ids=str)
def test_matmul(shapes):
    a, b = normal(*shapes[0], seed=1), normal(*shapes[1], seed=2)
    check(lambda lib, a, b: a @ b, a, b)
    check(lambda lib, a, b: lib.matmul(a, b), a, b)


def test_matmul_of_transposes():
    a, b = normal(5, 7, seed=1), normal(6, 5, seed=2)
    check(lambda lib, a, b: a.T @ b.T, a, b)
    check(lambda lib, a, b: lib.mm(a.T, b.T), a, b)
    check(lambda lib, a, b: b[::2] @ a[:, ::3], a, b)


def test_mm_and_bmm():
    check(lambda lib, a, b: lib.mm(a, b), normal(3, 4), normal(4, 5))
    check(lambda lib, a, b: a.mm(b), normal(3, 4), normal(4, 5))
    check(lambda lib, a, b: lib.bmm(a, b), normal(2, 3, 4), normal(2, 4, 5))
    check(lambda lib, a, b: a.transpose(1, 2).bmm(b), normal(2, 4, 3), normal(2, 4, 5))


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((4,), (3,)), ((), (3,)), ((2, 3, 4), (3, 4, 5))], ids=str)
def test_matmul_refuses(shapes):
    check_raises(lambda lib, a, b: a @ b, normal(*shapes[0]), normal(*shapes[1]))


def test_products_refuse():
    check_raises(lambda lib, a, b: lib.mm(a, b), normal(2, 3, 4), normal(4, 5))
    check_raises(lambda lib, a, b: lib.bmm(a, b), normal(3, 4), normal(4, 5))
    check_raises(lambda lib, a, b: lib.bmm(a, b), normal(2, 3, 4), normal(3, 4, 5))
    check_raises(lambda lib, a: a @ a.float(), normal(3, 3))


# ---------------------------------------------------------------- reductions

DIMS = [None, 0, 1, -1, (0,), (0, 2), (-1, 0), (0, 1, 2)]


def reduced(lib, name, x, dim, keepdim):
    if dim is None:
        return getattr(lib, name)(x)
    return getattr(lib, name)(x, dim=dim, keepdim=keepdim)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", DIMS, ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "amax", "amin", "norm"])
def test_reduction_over_dims(name, dim, keepdim):
    if name == "norm" and dim == (0, 1, 2):
        dim = None  # PyTorch takes at most two
    check(lambda lib, x: reduced(lib, name, x, dim, keepdim), normal(3, 4, 5))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1, (0, 2), (0, 1, 2)], ids=str)
def test_logsumexp(dim, keepdim):
    check(lambda lib, x: lib.logsumexp(x, dim, keepdim), 30 * normal(3, 4, 5))
    check(lambda lib, x: (x * 40).logsumexp(dim=dim, keepdim=keepdim), normal(3, 4, 5))


def test_logsumexp_of_infinities():
    check(lambda lib, x: lib.logsumexp(x, 1), np.array([[-np.inf, 1.0], [-np.inf, -np.inf], [np.inf, 0.0]]), grad=False)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, 1, -1], ids=str)
@pytest.mark.parametrize("name", ["prod", "max", "min", "argmax", "argmin"])
def test_reduction_over_one_dim(name, dim, keepdim):
    def case(lib, x):
        result = reduced(lib, name, x, dim, keepdim)
        return result if dim is None or name not in ("max", "min") else (result.values, result.indices, *result)

    check(case, normal(3, 4, 5))
    check(case, integers(0, 3, 3, 4, 5).astype(float))  # ties
    check(lambda lib, x: case(lib, x.transpose(0, 1)), normal(3, 4, 5))


@pytest.mark.parametrize(
    "name", ["sum", "mean", "var", "std", "prod", "max", "min", "amax", "amin", "argmax", "argmin", "norm"]
)
def test_reduction_methods_and_full_forms(name):
    for shape in ((), (1, 1), (7,), (2, 3, 4, 5)):
        if name in ("var", "std") and math.prod(shape) < 2:
            continue
        check(lambda lib, x: getattr(x, name)(), normal(*shape))


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "prod", "argmax", "cumsum"])
def test_reduction_aliases(name):
    check(lambda lib, x: getattr(x, name)(axis=1), normal(3, 4, 5))
    if name != "cumsum":
        check(lambda lib, x: getattr(x, name)(axis=1, keepdims=True), normal(3, 4, 5))


@pytest.mark.parametrize("correction", [0, 1, 2])
def test_variance_corrections(correction):
    for name in ("var", "std"):
        check(lambda lib, x: getattr(lib, name)(x, dim=1, correction=correction), normal(3, 4, 5))
        check(lambda lib, x: getattr(x, name)(dim=(0, 2), correction=correction, keepdim=True), normal(3, 4, 5))


@pytest.mark.parametrize("unbiased", [False, True])
def test_variance_unbiased(unbiased):
    for name in ("var", "std"):
        check(lambda lib, x: getattr(x, name)(unbiased=unbiased), normal(3, 4, 5))
        check(lambda lib, x: getattr(x, name)(1, unbiased=unbiased), normal(3, 4, 5))


def test_variance_far_from_zero():
    check(lambda lib, x: (x + 1000).var(dim=0), normal(50, 4), dtypes=("float64",))


@pytest.mark.parametrize("p", [1, 2, 3, 0.5, math.inf, -math.inf, 0, "fro"], ids=str)
@pytest.mark.parametrize("dim", [None, 0, (0, 1)], ids=str)
def test_norms(p, dim):
    grad = p != 0  # no gradient in PyTorch, 0 here
    check(lambda lib, x: lib.norm(x, p, dim) if dim is not None else lib.norm(x, p), normal(3, 4) + 0.1, grad=grad)
    check(lambda lib, x: x.norm(p=p, dim=0, keepdim=True), normal(3, 4) + 0.1, grad=grad)
    check(lambda lib, x: lib.norm(x, p), normal(), grad=grad)


def test_norm_of_zeros():
    check(lambda lib, x: (x.norm(), x.norm(dim=1)), np.zeros((3, 4)))


def test_prod_with_zeros():
    x = normal(4, 3)
    x[0, 0] = x[1, 0] = x[2, 1] = 0
    check(lambda lib, x: lib.prod(x, 0), x)
    check(lambda lib, x: lib.prod(x), x)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cumsum(dim):
    check(lambda lib, x: lib.cumsum(x, dim), normal(3, 4, 5))
    check(lambda lib, x: x.cumsum(dim=dim), normal(3, 4, 5))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "prod", "max", "min", "amax", "argmax", "cumsum", "norm"])
def test_reductions_of_integers(name, dtype):
    x = integers(0, 5, 3, 4).astype(dtype)
    if name == "argmax" and dtype == "bool":
        return  # PyTorch has none
    if name != "cumsum":
        check_either(lambda lib, x: getattr(x, name)(), x, grad=False)
    check_either(
        lambda lib, x: tuple(getattr(x, name)(1)) if name in ("max", "min") else getattr(x, name)(1), x, grad=False
    )


def test_reductions_to_another_dtype():
    check(lambda lib, x: (x.sum(dtype=lib.float64), x.mean(dim=1, dtype=lib.float64)), integers(0, 5, 3, 4), grad=False)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "max", "argmax", "norm"])
def test_reductions_of_nothing(name):
    for dim in (None, 0, 1, 2):
        check_either(lambda lib, x: reduced(lib, name, x, dim, False), np.zeros((2, 0, 3)))


@pytest.mark.parametrize("name", ["sum", "max", "amin", "argmax", "prod", "std", "cumsum"])
def test_reductions_refuse_dims(name):
    check_raises(lambda lib, x: getattr(x, name)(3), normal(2, 3))
    check_raises(lambda lib, x: getattr(x, name)(-3), normal(2, 3))
    if name in ("sum", "amin", "std"):
        check_raises(lambda lib, x: getattr(x, name)((0, 0)), normal(2, 3))


@pytest.mark.parametrize("name", ["max", "min", "amax", "amin", "argmax", "argmin", "sum", "logsumexp"])
def test_reductions_of_nan(name):
    x = normal(3, 4)
    x[1, 2] = math.nan
    check(lambda lib, x: reduced(lib, name, x, 1, False), x, grad=False)
    if name != "logsumexp":
        check(lambda lib, x: reduced(lib, name, x, None, False), x, grad=False)


def test_full_max_and_min_divide_the_gradient_among_ties():
    x = np.array([[1.0, 3.0, 3.0], [3.0, 1.0, 1.0]])
    for name in ("max", "min", "amax", "amin"):
        check(lambda lib, x: getattr(lib, name)(x), x)
    check(lambda lib, x: lib.amax(x, dim=1), x)


# ---------------------------------------------------------------- shapes

X345 = normal(3, 4, 5)
SHAPING = {
    "reshape": lambda lib, x: x.reshape(4, 15),
    "reshape tuple": lambda lib, x: x.reshape((4, 15)),
    "reshape function": lambda lib, x: lib.reshape(x, (-1, 6)),
    "reshape -1": lambda lib, x: x.reshape(-1),
    "reshape of a transpose": lambda lib, x: x.transpose(0, 2).reshape(5, 12),
    "view": lambda lib, x: x.view(12, -1),
    "view of size": lambda lib, x: x.view(x.size(0), -1),
    "view of the outer part of a transpose": lambda lib, x: x.permute(2, 0, 1).view(5, 3, 2, 2),
    "view tuple": lambda lib, x: x.view((60,)),
    "flatten": lambda lib, x: x.flatten(),
    "flatten 1": lambda lib, x: x.flatten(1),
    "flatten 0 1": lambda lib, x: lib.flatten(x, 0, 1),
    "flatten -2 -1": lambda lib, x: lib.flatten(x, start_dim=-2, end_dim=-1),
    "permute": lambda lib, x: x.permute(2, 0, 1),
    "permute keyword": lambda lib, x: lib.permute(x, dims=(2, 0, 1)),
    "permute tuple": lambda lib, x: lib.permute(x, (1, -1, 0)),
    "transpose": lambda lib, x: lib.transpose(x, 0, -1),
    "t": lambda lib, x: x[0].T,
    "squeeze": lambda lib, x: x[:, :1, None].squeeze(),
    "squeeze dim": lambda lib, x: x[:, :1].squeeze(1),
    "squeeze a long dim": lambda lib, x: x.squeeze(1),
    "squeeze function": lambda lib, x: lib.squeeze(x[:1], dim=-3),
    "unsqueeze 0": lambda lib, x: x.unsqueeze(0),
    "unsqueeze -1": lambda lib, x: lib.unsqueeze(x, -1),
    "expand": lambda lib, x: x[:, :1].expand(3, 6, 5),
    "expand -1": lambda lib, x: x[:, :1].expand(-1, 2, -1),
    "expand more dims": lambda lib, x: x.expand(2, 3, 4, 5),
    "expand tuple": lambda lib, x: x.expand((2, -1, -1, -1)),
    "repeat": lambda lib, x: x.repeat(2, 1, 3),
    "repeat more dims": lambda lib, x: x.repeat((2, 1, 2, 1)),
    "repeat zero": lambda lib, x: x.repeat(0, 1, 1),
    "flip": lambda lib, x: x.flip(0),
    "flip two": lambda lib, x: lib.flip(x, (0, -1)),
    "flip list": lambda lib, x: lib.flip(x, dims=[1]),
    "roll": lambda lib, x: x.roll(2, 0),
    "roll flat": lambda lib, x: lib.roll(x, 7),
    "roll two": lambda lib, x: lib.roll(x, shifts=(1, -3), dims=(0, 2)),
    "cat": lambda lib, x: lib.cat([x, 2 * x]),
    "cat 1": lambda lib, x: lib.cat((x, x[:, :2]), dim=1),
    "cat -1": lambda lib, x: lib.cat((x, x[..., :0], x[..., 2:]), -1),
    "stack": lambda lib, x: lib.stack([x, x * x]),
    "stack 1": lambda lib, x: lib.stack((x, x), dim=1),
    "stack -1": lambda lib, x: lib.stack((x, x, x), -1),
    "split": lambda lib, x: x.split(2),
    "split list": lambda lib, x: lib.split(x, [1, 4], dim=2),
    "split dim": lambda lib, x: lib.split(x, 3, dim=-1)[::2],
    "chunk": lambda lib, x: x.chunk(2),
    "chunk uneven": lambda lib, x: lib.chunk(x, 3, dim=2),
    "chunk too many": lambda lib, x: lib.chunk(x, 7, dim=1),
    "contiguous": lambda lib, x: x.transpose(0, 1).contiguous(),
    "clone": lambda lib, x: x.clone() * x,
    "tril": lambda lib, x: lib.tril(x),
    "tril 1": lambda lib, x: x.tril(1),
    "triu -2": lambda lib, x: lib.triu(x, diagonal=-2),
    "triu": lambda lib, x: x.triu(),
    "iteration": lambda lib, x: [row * 2 for row in x],
    "masked_fill": lambda lib, x: x.masked_fill(x > 0, -1.0),
    "masked_fill broadcast": lambda lib, x: lib.masked_fill(x, x[0, 0] > 0, 2),
    "index_select": lambda lib, x: lib.index_select(x, 0, lib.tensor([2, 0, 2])),
    "index_select dim": lambda lib, x: x.index_select(-1, lib.tensor([4, 4])),
    "sort": lambda lib, x: tuple(x.sort()),
    "sort dim": lambda lib, x: tuple(lib.sort(x, dim=0)),
    "sort descending": lambda lib, x: tuple(lib.sort(x, dim=1, descending=True)),
    "sort fields": lambda lib, x: (x.sort().values, x.sort(0).indices),
    "topk": lambda lib, x: tuple(x.topk(2)),
    "topk dim": lambda lib, x: tuple(lib.topk(x, 3, dim=1)),
    "topk smallest": lambda lib, x: tuple(lib.topk(x, 2, dim=0, largest=False)),
    "topk fields": lambda lib, x: (x.topk(1).values, x.topk(1).indices),
}


@pytest.mark.parametrize("name", SHAPING)
def test_shaping(name):
    check(SHAPING[name], X345)
    if "view" not in name:
        check(lambda lib, x: SHAPING[name](lib, x.permute(1, 2, 0).contiguous().permute(2, 0, 1)), X345)


REFUSED = {
    "reshape": lambda lib, x: x.reshape(7, 2),
    "reshape two unknowns": lambda lib, x: x.reshape(-1, -1),
    "view": lambda lib, x: x.view(7),
    "view of a transpose": lambda lib, x: x.transpose(0, 2).view(60),
    "permute": lambda lib, x: x.permute(0, 1),
    "permute twice": lambda lib, x: x.permute(0, 1, 1),
    "transpose": lambda lib, x: x.transpose(0, 3),
    "squeeze": lambda lib, x: x.squeeze(3),
    "unsqueeze": lambda lib, x: x.unsqueeze(5),
    "expand": lambda lib, x: x.expand(3, 8, 5),
    "expand fewer": lambda lib, x: x.expand(4, 5),
    "repeat fewer": lambda lib, x: x.repeat(2),
    "flip": lambda lib, x: x.flip(3),
    "flip twice": lambda lib, x: x.flip((0, 0)),
    "cat": lambda lib, x: lib.cat([x, x[:, :2]]),
    "cat dims": lambda lib, x: lib.cat([x, x[0]]),
    "cat nothing": lambda lib, x: lib.cat([]),
    "cat dim": lambda lib, x: lib.cat([x, x], 3),
    "stack": lambda lib, x: lib.stack([x, x[:2]]),
    "stack nothing": lambda lib, x: lib.stack([]),
    "split": lambda lib, x: x.split([1, 1]),
    "split negative": lambda lib, x: x.split(-1),
    "chunk": lambda lib, x: x.chunk(0),
    "flatten": lambda lib, x: x.flatten(2, 1),
    "gather": lambda lib, x: x.gather(0, lib.tensor([[[7]]])),
    "gather dims": lambda lib, x: x.gather(0, lib.tensor([0])),
    "index_select": lambda lib, x: x.index_select(0, lib.tensor([3])),
    "topk": lambda lib, x: x.topk(9),
    "index": lambda lib, x: x[3],
    "index negative": lambda lib, x: x[-4],
    "too many indices": lambda lib, x: x[0, 0, 0, 0],
    "index tensor": lambda lib, x: x[lib.tensor([0, 5])],
    "negative step": lambda lib, x: x[::-1],
    "mask shape": lambda lib, x: x[lib.tensor([True, False])],
    "float index": lambda lib, x: x[lib.tensor([0.0])],
    "item": lambda lib, x: x.item(),
    "bool": lambda lib, x: bool(x),
    "bool of nothing": lambda lib, x: bool(x[:0]),
    "len": lambda lib, x: len(x.sum()),
    "iterate": lambda lib, x: list(x.sum()),
    "float": lambda lib, x: float(x),
    "index by float": lambda lib, x: x[1.0],
    "numpy": lambda lib, x: x.numpy(),
    "numpy of a result": lambda lib, x: (x * 2).numpy(),
    "mean of integers": lambda lib, x: x.long().mean(),
    "gradient of integers": lambda lib, x: x.long().requires_grad_(),
    "size": lambda lib, x: x.size(3),
    "device": lambda lib, x: x.to("nonsense"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes(name):
    check_raises(REFUSED[name], X345)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_gather(dim):
    index = integers(0, 3, 2, 4, 3)
    check(lambda lib, x, i: lib.gather(x, dim, i), normal(3, 4, 5), index)
    check(lambda lib, x, i: x.gather(dim, i), normal(3, 4, 5), index[:, :0])


def test_gather_of_class_scores():
    check(lambda lib, x, t: -x.gather(1, t.view(-1, 1)).mean(), normal(6, 5), integers(0, 5, 6))
    check(lambda lib, x: x.sum().gather(0, lib.tensor(0)), normal(3))


def test_sort_and_topk_of_flat_and_scalar():
    check(lambda lib, x: tuple(x.sum().sort()), normal(3))
    check(lambda lib, x: tuple(lib.sort(x, descending=True, stable=True)), integers(0, 3, 20).astype(float))
    check(lambda lib, x: lib.sort(x)[0], integers(0, 9, 4, 6))
    check(lambda lib, x: lib.sort(x)[0], np.array([1.0, math.nan, -math.inf, 3.0]), grad=False)


# ---------------------------------------------------------------- indexing

INDICES = {
    "int": lambda lib: 1,
    "negative": lambda lib: -1,
    "tuple": lambda lib: (1, 2),
    "all": lambda lib: (1, 2, 3),
    "slice": lambda lib: slice(1, 3),
    "open slice": lambda lib: slice(None, -1),
    "step": lambda lib: (slice(None), slice(0, 4, 2)),
    "empty slice": lambda lib: slice(2, 2),
    "beyond": lambda lib: slice(1, 100),
    "ellipsis": lambda lib: (..., 0),
    "ellipsis middle": lambda lib: (0, ..., 1),
    "ellipsis alone": lambda lib: ...,
    "none": lambda lib: None,
    "none inside": lambda lib: (slice(None), None, 1),
    "none last": lambda lib: (..., None),
    "list": lambda lib: [0, 2, 2],
    "numpy": lambda lib: np.array([0, 2]),
    "numpy int": lambda lib: np.int64(1),
    "tensor": lambda lib: lib.tensor([2, 0, 0]),
    "negative tensor": lambda lib: lib.tensor([-1, -3]),
    "0-d tensor": lambda lib: lib.tensor(1),
    "2-d tensor": lambda lib: lib.tensor([[0, 1], [2, 2]]),
    "int32 tensor": lambda lib: lib.tensor([0, 1], dtype=lib.int32),
    "empty tensor": lambda lib: lib.zeros(0, dtype=lib.int64),
    "two tensors": lambda lib: (lib.tensor([0, 1, 2]), lib.tensor([3, 2, 3])),
    "broadcast tensors": lambda lib: (lib.tensor([[0], [2]]), lib.tensor([3, 1, 0])),
    "arange rows": lambda lib: (lib.arange(3), lib.tensor([1, 0, 3])),
    "inner tensor": lambda lib: (slice(None), lib.tensor([1, 1])),
    "last tensor": lambda lib: (..., lib.tensor([4, 0])),
    "int and tensor": lambda lib: (0, slice(None), lib.tensor([1, 2])),
    "separated tensors": lambda lib: (lib.tensor([0, 2]), slice(None), lib.tensor([1, 2])),
    "slice and tensors": lambda lib: (slice(1, None), lib.tensor([0, 2]), lib.tensor([1, 2])),
    "none and tensor": lambda lib: (None, lib.tensor([0, 2])),
    "mask": lambda lib: lib.tensor(normal(3, 4, 5, seed="mask") > 0),
    "row mask": lambda lib: lib.tensor([True, False, True]),
    "row and column mask": lambda lib: lib.tensor(normal(3, 4, seed="mask") > 0),
    "inner mask": lambda lib: (slice(None), lib.tensor([True, False, True, True])),
    "mask and int": lambda lib: (lib.tensor([True, False, True]), 2),
    "numpy mask": lambda lib: np.array([True, False, True]),
    "list mask": lambda lib: [True, False, True],
    "empty mask": lambda lib: lib.zeros(3, dtype=lib.bool),
    "list of lists": lambda lib: ([0, 1], [1, 2]),
}


@pytest.mark.parametrize("name", INDICES)
def test_indexing(name):
    check(lambda lib, x: x[INDICES[name](lib)], X345)
    check(lambda lib, x: x.permute(1, 2, 0).contiguous().permute(2, 0, 1)[INDICES[name](lib)] * 2, X345)


@pytest.mark.parametrize("name", INDICES)
def test_index_assignment(name):
    def assign(lib, x, value):
        y = x * 1
        y[INDICES[name](lib)] = value
        return y

    if name != "list":  # the order of writes to one element is not defined
        check(lambda lib, x: assign(lib, x, 7.0), X345)
        check(lambda lib, x, v: assign(lib, x, v.sum()), X345, normal(2))
    if name not in ("list", "tensor", "2-d tensor", "inner tensor"):
        check(lambda lib, x, v: assign(lib, x, v[INDICES[name](lib)]), X345, normal(3, 4, 5, seed="v"))


def test_index_assignment_broadcasts():
    def case(lib, x, row):
        y = x.clone()
        y[1:] = row
        y[:, 0] = row[0] * 2
        y[0, 0, 0] = 3
        return y

    check(case, X345, normal(4, 5))


def test_index_assignment_refuses():
    def assign(lib, x, index, value):
        y = x.clone()
        y[index] = value
        return y

    check_raises(lambda lib, x: assign(lib, x, 5, 0.0), X345)
    check_raises(lambda lib, x: assign(lib, x, 0, lib.zeros(3, dtype=x.dtype)), X345)
    check_raises(lambda lib, x: x.__setitem__(0, 1.0), X345)  # a leaf that requires grad


def test_masked_update_by_comparison():
    def case(lib, x):
        y = x * 2
        y[y < 0] = 0
        y[y > 1] *= 0.5
        return y

    check(case, X345)


# ---------------------------------------------------------------- in place


def inplace(*steps):
    def case(lib, x, v):
        y = x * 1
        for step in steps:
            y = step(lib, y, v) or y
        return y

    return case


def _augment(operator):
    def step(lib, y, v):
        if operator == "+":
            y += v
        elif operator == "-":
            y -= v
        elif operator == "*":
            y *= v
        else:
            y /= v

    return step


def _view_update(view, operator="*"):
    def step(lib, y, v):
        part = view(y)
        if operator == "*":
            part *= v.sum()
        else:
            part += v.sum()

    return step


def _mul_(lib, y, v):
    y.mul_(v)


def _add_(lib, y, v):
    y.add_(v, alpha=0.5)


def _zero_row(lib, y, v):
    y[0].zero_()


def _fill(lib, y, v):
    y[:, 1].fill_(3)


def _copy(lib, y, v):
    y.copy_(v)


def _copy_part(lib, y, v):
    y[..., 2:].copy_(v[:, 2:])


IN_PLACE = {
    "+=": inplace(_augment("+")),
    "-=": inplace(_augment("-")),
    "*=": inplace(_augment("*")),
    "/=": inplace(_augment("/")),
    "chain": inplace(_augment("*"), _augment("+"), _augment("-")),
    "mul_": inplace(_mul_),
    "add_": inplace(_add_),
    "zero_ of a view": inplace(_zero_row),
    "fill_ of a view": inplace(_fill),
    "copy_": lambda lib, x, v: inplace(_copy)(lib, x, v) + x,
    "copy_ into a view": inplace(_copy_part),
    "row": inplace(_view_update(lambda y: y[1])),
    "transposed": inplace(_view_update(lambda y: y.transpose(0, 1)[2:])),
    "reshaped": inplace(_view_update(lambda y: y.view(12, 5)[3])),
    "expanded dims": inplace(_view_update(lambda y: y.unsqueeze(0), "+")),
    "view of view": inplace(_view_update(lambda y: y[1:][..., ::2]), _view_update(lambda y: y[0], "+")),
    "flattened": inplace(_view_update(lambda y: y.flatten()[7:9], "+")),
    "chunked": inplace(_view_update(lambda y: y.permute(2, 0, 1)[1], "+")),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    check(IN_PLACE[name], X345, 1.5 + normal(4, 5) ** 2)


def test_in_place_on_views_that_changes_of_the_base_left_behind():
    def case(lib, x, v):
        y, z = x * 1, x * 1
        part, whole = y[1:], z.squeeze()
        y.mul_(1.5)
        part.mul_(v[0])
        z *= v.sum()
        whole.div_(3)
        first, second = y[:2], y[1:]
        second.mul_(2)
        first.mul_(v[1])
        return y, part, z, whole, first * second

    check(case, X345, positive(5))


def test_in_place_on_the_base_reaches_the_view():
    def case(lib, x):
        y = x * 1
        part = y[1:]
        y *= 3
        y[2] += part[0]
        return part * 2, y

    check(case, X345)


def test_in_place_on_leaves_without_history():
    def case(lib, x):
        x += 1
        x.mul_(2).add_(1)
        with lib.no_grad():
            x[0] = 0
        return x.fill_(2.0) if x.numel() == 0 else x

    check(case, X345, grad=False)


def test_in_place_with_no_grad_on_parameters():
    def case(lib, w, g):
        with lib.no_grad():
            w -= 0.1 * g
            w.add_(g, alpha=-0.5)
        return (w * w).sum(), w.requires_grad, w.is_leaf

    check(case, normal(3, 4), normal(3, 4, seed=1))


def _saved_output(lib, x):
    y = (x * 1).exp()
    y += 1
    y.sum().backward()


def _saved_operand(lib, x):
    y = x * 1
    z = y * y
    y[0] = 0
    z.sum().backward()


def _saved_view(lib, x):
    y = x * 1
    z = y[0] ** 2
    y.mul_(2)
    z.sum().backward()


IN_PLACE_MISTAKES = {
    "leaf": lambda lib, x: x.add_(1),
    "view of a leaf": lambda lib, x: x[0].mul_(2),
    "broadcast": lambda lib, x: (x[0] * 1).add_(x),
    "float into int": lambda lib, x: x.long().add_(0.5),
    "int division": lambda lib, x: x.long().__itruediv__(2),
    "copy shape": lambda lib, x: (x * 1).copy_(x[0, 0, :3]),
    "expanded": lambda lib, x: (x[:1] * 1).expand(3, 4, 5).mul_(2),
    "expanded by assignment": lambda lib, x: (x[:1] * 1).expand(3, 4, 5).__setitem__((slice(None), 0), 1.0),
    "saved output": _saved_output,
    "saved operand": _saved_operand,
    "saved view": _saved_view,
}


@pytest.mark.parametrize("name", IN_PLACE_MISTAKES)
def test_in_place_mistakes(name):
    check_raises(IN_PLACE_MISTAKES[name], X345)


# ---------------------------------------------------------------- making and reading tensors

CREATED = {
    "zeros": lambda lib: lib.zeros(2, 3),
    "zeros tuple": lambda lib: lib.zeros((2, 3), dtype=lib.float64),
    "zeros empty": lambda lib: lib.zeros(0, 3),
    "zeros scalar": lambda lib: lib.zeros(()),
    "ones": lambda lib: lib.ones(3, dtype=lib.int64),
    "full": lambda lib: lib.full((2, 2), 7.5),
    "full int": lambda lib: lib.full((2, 2), 7),
    "full bool": lambda lib: lib.full((2,), True),
    "full dtype": lambda lib: lib.full((2,), 1, dtype=lib.float64),
    "arange": lambda lib: lib.arange(5),
    "arange float": lambda lib: lib.arange(0, 1, 0.25),
    "arange range": lambda lib: lib.arange(2, 8, 3),
    "arange down": lambda lib: lib.arange(5, 0, -2),
    "arange dtype": lambda lib: lib.arange(4, dtype=lib.float32),
    "linspace": lambda lib: lib.linspace(0, 1, 5),
    "linspace one": lambda lib: lib.linspace(2, 3, 1),
    "linspace double": lambda lib: lib.linspace(-1, 1, steps=7, dtype=lib.float64),
    "eye": lambda lib: lib.eye(3),
    "eye rectangular": lambda lib: lib.eye(2, 4),
    "zeros_like": lambda lib: lib.zeros_like(lib.ones(2, 3, dtype=lib.float64)),
    "ones_like": lambda lib: lib.ones_like(lib.zeros(2, dtype=lib.int32)),
    "ones_like dtype": lambda lib: lib.ones_like(lib.zeros(2, dtype=lib.int32), dtype=lib.float32),
    "full_like": lambda lib: lib.full_like(lib.zeros(2, 2), 3),
    "empty_like": lambda lib: lib.empty_like(lib.zeros(2, 2)).shape,
    "empty": lambda lib: (lib.empty(2, 3).shape, lib.empty(2, 3).dtype),
    "rand": lambda lib: (lib.rand(2, 3).shape, lib.rand(2).dtype, bool((lib.rand(50) < 1).sum() == 50)),
    "randn": lambda lib: (lib.randn(2, 3, dtype=lib.float64).shape, lib.randn(2, dtype=lib.float64).dtype),
    "rand_like": lambda lib: (lib.rand_like(lib.zeros(2)).shape, lib.randn_like(lib.zeros(2, 2)).shape),
    "randint": lambda lib: (lib.randint(5, (2, 3)).shape, lib.randint(1, 3, (4,)).dtype, lib.randint(3, 4, (4,))),
    "randperm": lambda lib: (lib.randperm(6).sort()[0], lib.randperm(6).dtype),
    "scalar": lambda lib: lib.tensor(2.5),
    "int scalar": lambda lib: lib.tensor(2),
    "bool scalar": lambda lib: lib.tensor(True),
    "nested": lambda lib: lib.tensor([[1, 2.5], [3, 4]]),
    "empty list": lambda lib: lib.tensor([]),
    "empty lists": lambda lib: lib.tensor([[], []]),
    "float64": lambda lib: lib.tensor([1, 2], dtype=lib.float64),
    "to int": lambda lib: lib.tensor([1.7, -2.7], dtype=lib.int64),
    "to bool": lambda lib: lib.tensor([0.0, 2.0], dtype=lib.bool),
    "numpy": lambda lib: lib.tensor(np.arange(4, dtype=np.float32)),
    "numpy scalar": lambda lib: lib.tensor(np.float64(3)),
    "tuple of numbers": lambda lib: lib.tensor((1, 2, 3), dtype=lib.uint8),
    "from_numpy": lambda lib: lib.from_numpy(np.arange(4)),
    "requires_grad": lambda lib: lib.ones(2, requires_grad=True).requires_grad,
    "list of 0-d tensors": lambda lib: lib.tensor([lib.tensor(1.0), lib.tensor(2.0)]),
}


@pytest.mark.parametrize("name", CREATED)
def test_creation(name):
    check(CREATED[name], dtypes=("float32",))


CREATION_MISTAKES = {
    "ragged": lambda lib: lib.tensor([[1], [2, 3]]),
    "text": lambda lib: lib.tensor("a"),
    "negative size": lambda lib: lib.zeros(-1),
    "arange step": lambda lib: lib.arange(0, 5, -1),
    "arange zero step": lambda lib: lib.arange(0, 5, 0),
    "randint": lambda lib: lib.randint(3, 3, (2,)),
    "float labels": lambda lib: lib.tensor([1, 2], requires_grad=True),
}


@pytest.mark.parametrize("name", CREATION_MISTAKES)
def test_creation_mistakes(name):
    check_raises(CREATION_MISTAKES[name])


def test_reading():
    check(
        lambda lib, x: (
            x.shape[0], tuple(x.shape), tuple(x.size()), x.size(1), x.size(-1), x.dim(), x.ndim, x.numel(),
            len(x), x.dtype, str(x.device), x.sum().item(), x.tolist(), bool(x.sum() > -1e9),
            float(x[0, 0, 0]), int(x[0, 0, 0] * 100), x.is_leaf,
            x.requires_grad, x.is_contiguous(), x.transpose(0, 1).is_contiguous(), x.grad is None,
            x.device == lib.device("cpu"),
        ),
        X345,
    )  # fmt: skip


def test_reading_integers():
    check(
        lambda lib, x: (x[0].item(), x.tolist(), (x > 1).tolist(), (x > 1)[0].item(), x.sum().item()), integers(0, 4, 5)
    )
    check(lambda lib, x: [10, 20, 30][x[0]] if x[0] < 3 else 0, integers(0, 4, 5))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # PyTorch's
def test_numpy_shares_memory():
    def case(lib):
        array = np.arange(4.0)
        t = lib.from_numpy(array)
        array[0] = 7
        t[1] = 8
        copy = lib.tensor(array)
        array[2] = 9
        return t, copy, t.numpy() is not None, array.tolist(), float(np.asarray(t).sum()), float(np.array(t)[3])

    check(case)


def test_numpy_operands():
    check(lambda lib, x: np.add(x.numpy(), 1).tolist(), X345, grad=False)
    check(lambda lib, x: float(np.mean(x.detach().numpy())), X345)


# ---------------------------------------------------------------- more of the same kinds

MORE_UNARY = ["reciprocal", "floor", "ceil", "round", "sign", "trunc"]


@pytest.mark.parametrize("name", MORE_UNARY)
def test_more_unary(name):
    x = np.array([-2.5, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.5, 3.2, 1e8])
    check(lambda lib, x: getattr(lib, name)(x), x)
    check(lambda lib, x: getattr(x, name)(), normal(2, 3, 4, 5))
    if name != "reciprocal":
        check(lambda lib, x: getattr(lib, name)(x), integers(-3, 3, 7))


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite", "logical_not"])
def test_tests(name):
    check(lambda lib, x: getattr(lib, name)(x), DIFFICULT)
    check(lambda lib, x: getattr(x, name)(), integers(0, 2, 5))


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
def test_logic(name):
    check(lambda lib, a, b: getattr(lib, name)(a, b), integers(0, 2, 4, 5, seed=1), integers(0, 2, 5, seed=2))
    check(lambda lib, a, b: getattr(a > 0, name)(b > 0), normal(4, 5), normal(5))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_bits(dtype):
    a, b = integers(0, 2, 4, 5, seed=1).astype(dtype), integers(0, 2, 5, seed=2).astype(dtype)
    check(lambda lib, a, b: (a & b, a | b, a ^ b, ~a), a, b)
    check(
        lambda lib, a, b: (lib.bitwise_and(a, b), lib.bitwise_or(a, b), lib.bitwise_xor(a, b), lib.bitwise_not(a)), a, b
    )


@pytest.mark.parametrize("dtype", ["float", "int64", "int32"])
def test_division_with_remainder(dtype):
    a = np.array([7, -7, 7, -7, 0, 6, -6]).astype(dtype)
    b = np.array([2, 2, -2, -2, 3, 3, 3]).astype(dtype)
    check(lambda lib, a, b: (a // b, a % b), a, b, grad=False)
    check(lambda lib, a, b: (lib.floor_divide(a, b), lib.remainder(a, b), a % 3, 7 % b, a // 2), a, b, grad=False)
    if dtype == "float":
        check(lambda lib, a, b: lib.remainder(a, b), a + 0.3, b)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, -1], ids=str)
@pytest.mark.parametrize("name", ["all", "any"])
def test_truth(name, dim, keepdim):
    x = integers(0, 2, 3, 4, 2)
    for dtype in ("int64", "uint8", "bool", "float64"):
        check(lambda lib, x: reduced(lib, name, x, dim, keepdim), x.astype(dtype), grad=False)
    check(lambda lib, x: reduced(lib, name, x, 1, keepdim), np.zeros((2, 0, 3)), grad=False)


MORE_SHAPING = {
    "swapaxes": lambda lib, x: x.swapaxes(0, 2),
    "broadcast_to": lambda lib, x: lib.broadcast_to(x[:, :1], (2, 3, 4, 5)),
    "expand_as": lambda lib, x: x[:, :1].expand_as(x),
    "view_as": lambda lib, x: x.view_as(x[None].reshape(4, 15)),
    "unflatten": lambda lib, x: x.unflatten(1, (2, -1)),
    "mT": lambda lib, x: x.mT,
    "t": lambda lib, x: (x[0].t(), x[0, 0].t()),
    "concat": lambda lib, x: lib.concat([x, x], dim=1),
    "masked_fill_": lambda lib, x: (x * 1).masked_fill_(x > 0, 3.0),
}


@pytest.mark.parametrize("name", MORE_SHAPING)
def test_more_shaping(name):
    check(MORE_SHAPING[name], X345)


@pytest.mark.parametrize("name", ["sub", "div", "neg", "exp", "sqrt", "pow", "clamp", "square"])
def test_more_in_place(name):
    arguments = {"sub": (0.5,), "div": (2,), "pow": (3,), "clamp": (0.5, 1.5)}.get(name, ())

    def case(lib, x):
        y = x * 1
        getattr(y, name + "_")(*arguments)
        z = x * 1
        getattr(z[1], name + "_")(*arguments)
        return y, z

    check(case, positive(3, 4))


def test_threads_are_counted():
    def case(lib):
        before = lib.get_num_threads()
        lib.set_num_threads(1)
        one = lib.get_num_threads()
        lib.set_num_threads(before)
        return one, type(before).__name__

    check(case)
    check_raises(lambda lib: lib.set_num_threads(0))
