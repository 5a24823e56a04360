"""Gradients compared with central differences, and the relative error of the lectures."""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import autograd
from fastnn.errors import AutogradError, DTypeError
from fastnn.tensor import Array, Tensor, as_tensor, float64


def rel_error(x: Any, y: Any) -> float:
    """max |x − y| / max(1e-8, |x| + |y|), element by element, of tensors, arrays or numbers (CS231n); NaN if one is."""
    a, b = (as_tensor(v).array.astype(float64) for v in (x, y))
    return float(np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)), initial=0))


def gradcheck(func: Callable, inputs: Tensor | Sequence[Any], eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True) -> bool:
    """Whether the derivatives of all outputs of func(*inputs), a tensor or several, by all inputs that require grad are
    (y(x + eps) − y(x − eps)) / 2 eps, within atol + rtol·|that|. If not, RuntimeError, or False.

    DTypeError unless those inputs are float64; ValueError if there are none, or no output depends on one.

    >>> x = fastnn.randn(3, dtype=fastnn.float64, requires_grad=True)
    >>> fastnn.autograd.gradcheck(lambda x: x.sin() * x, x)
    True
    """
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = {i: x for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad}
    if wrong := [f"{i} is {x.dtype}" for i, x in wanted.items() if x.dtype != float64]:
        raise DTypeError(f"gradcheck: inputs that require grad must be float64, but input {wrong[0]}; use .double()")

    def outputs() -> list[Tensor]:
        result = func(*args)
        return [y for y in ([result] if isinstance(result, Tensor) else result) if y.is_floating_point()]

    def differences(x: Tensor, k: int) -> Array:  # of all elements of the outputs, by element k of x
        value, ends = x.array.flat[k], []
        for step in (eps, -eps):
            x.array.flat[k] = value + step
            with autograd.no_grad():
                ends.append(np.concatenate([y.array.ravel() for y in outputs()]))
        x.array.flat[k] = value
        return (ends[0] - ends[1]) / (2 * eps)

    def derivatives(x: Tensor, y: Tensor, m: int) -> Array:  # of element m of y, by all elements of x
        unit = np.zeros(y.shape)
        unit.flat[m] = 1
        (g,) = autograd.grad(y, x, Tensor(unit), retain_graph=True, allow_unused=True) if y.requires_grad else (None,)
        return np.zeros(x.numel()) if g is None else g.array.ravel()

    places = [(j, y, m) for j, y in enumerate(outputs()) for m in range(y.numel())]
    if not wanted or not any(y.requires_grad for _, y, _ in places):
        raise ValueError("gradcheck: at least one input must require grad, and an output depend on it")
    for i, x in wanted.items():
        numeric = np.array([differences(x, k) for k in range(x.numel())]).reshape(x.numel(), len(places))
        exact = np.array([derivatives(x, y, m) for _, y, m in places]).T
        wrong_by = np.abs(exact - numeric) - (atol + rtol * np.abs(numeric))
        if not (wrong_by <= 0).all():
            k, place = np.unravel_index(wrong_by.argmax(), wrong_by.shape)
            j, _, m = places[place]
            if raise_exception:
                raise AutogradError(f"gradcheck: element {m} of output {j} has the derivative {exact[k, place]:.9g} by "
                                    f"element {k} of input {i}; central differences give {numeric[k, place]:.9g}")
            return False
    return True


vars(autograd).update(gradcheck=gradcheck)  # its name in PyTorch
