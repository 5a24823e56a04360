"""Parameter: a tensor that a module trains."""
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn import creation, layout
from fastnn.autograd import no_grad
from fastnn.tensor import Tensor, as_tensor, changing, owned


class Parameter(Tensor):
    """A tensor that becomes a parameter of the module to which it is assigned. It shares the memory of `data`.

    >>> nn.Parameter(fastnn.tensor([1.0, 2.0]))
    Parameter containing:
    tensor([1., 2.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Tensor | np.ndarray, requires_grad: bool = True) -> None:
        super().__init__(as_tensor(data).data.array, requires_grad)

    def __deepcopy__(self, memo: dict) -> Tensor:
        copy = super().__deepcopy__(memo)
        copy.grad = None  # as in PyTorch, where a plain tensor's is copied
        return copy

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


def empty(op: str, *shape: int, device: Any = None, dtype: Any = None) -> Parameter:
    """An uninitialized parameter; one of shape O, I, H, W or O, I, L, a convolution's, has the memory order H, W, I, O
    or L, I, O."""
    shape, dtype, n = creation._size(op, shape), creation._dtype(op, dtype, device), len(shape)
    return owned(Parameter(layout.empty(shape[2:] + shape[1::-1], dtype).transpose(n - 1, n - 2, *range(n - 2))
                           if n in (3, 4) else layout.empty(shape, dtype)))


def write(tensor: Tensor, values: np.ndarray) -> Tensor:
    """Copy `values` into the tensor's memory, in its memory order and unseen by the tape. Returns the tensor."""
    np.copyto(changing(tensor), values, casting="unsafe")
    return tensor


def zero_grads(parameters: Iterable[Tensor], set_to_none: bool) -> None:
    """Drop the gradients of all parameters or, with False, fill them with zeros."""
    for p in parameters:
        p.grad = None if set_to_none or p.grad is None else write(p.grad, np.zeros(()))


@contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """No tape, and evaluation mode; afterwards each module of the model is in its mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
