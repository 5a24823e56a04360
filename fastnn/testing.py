"""Gradients compared with central differences, and the relative error of the lectures."""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import autograd
from fastnn.errors import AutogradError, DTypeError
from fastnn.functional import concat
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
        results = [result] if isinstance(result, Tensor) else result
        return [y for y in results if isinstance(y, Tensor) and y.dtype.kind == "f"]

    def moved(x: Tensor, k: int, step: float) -> Array:
        value, x.array.flat[k] = x.array.flat[k], x.array.flat[k] + step
        with autograd.no_grad():
            y = np.concatenate([y.array.ravel() for y in outputs()])
        x.array.flat[k] = value
        return y

    ys = outputs()
    if not wanted or not any(y.requires_grad for y in ys):
        raise ValueError("gradcheck: at least one input must require grad, and an output depend on it")
    names = [f"element {m} of output {j}" for j, y in enumerate(ys) for m in range(y.numel())]
    y = concat([y.reshape(-1) for y in ys])
    for i, x in wanted.items():
        numeric = np.array([(moved(x, k, eps) - moved(x, k, -eps)) / (2 * eps) for k in range(x.numel())])
        grads = [autograd.grad(y, x, Tensor(unit), retain_graph=True, allow_unused=True)[0] for unit in np.eye(len(y))]
        exact = np.array([np.zeros(x.numel()) if g is None else g.array.ravel() for g in grads]).T
        excess = np.abs(exact - numeric) - (atol + rtol * np.abs(numeric))
        if not (excess <= 0).all():
            k, m = np.unravel_index(excess.argmax(), excess.shape)
            if raise_exception:
                raise AutogradError(f"gradcheck: {names[m]} has the derivative {exact[k, m]:.9g} by element {k} of "
                                    f"input {i}; central differences give {numeric[k, m]:.9g}")
            return False
    return True


vars(autograd).update(gradcheck=gradcheck)  # its name in PyTorch
