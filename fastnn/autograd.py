"""Grad modes, `grad`, and `Function`: PyTorch's ways to steer the tape."""
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ContextDecorator
from typing import Any

import numpy as np

from fastnn import tensor as tape
from fastnn.errors import AutogradError, ShapeError
from fastnn.tensor import Tensor, is_grad_enabled, record

if hasattr(os, "register_at_fork"):  # another thread of the parent may hold the lock of pending tensors
    os.register_at_fork(after_in_child=lambda: setattr(tape, "_lock", threading.RLock()))

__all__ = ["Function", "enable_grad", "grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]


class enable_grad(ContextDecorator):
    """Record inside a `no_grad` block."""
    mode = True

    def __new__(cls, function: Callable | None = None) -> Any:  # brackets may be left out of `@enable_grad()`
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(tape._mode.grad)
        tape._mode.grad = self.mode

    def __exit__(self, *_: object) -> None:
        tape._mode.grad = self.before.pop()

    def _recreate_cm(self) -> Any:  # for each call of a decorated function, which threads may share
        return type(self)()


class no_grad(enable_grad):
    """Record nothing inside: `with no_grad():`, `@no_grad()` or `@no_grad`."""
    mode = False


class set_grad_enabled:
    """Turn recording on or off: as a statement, in a `with` block, or as a decorator."""

    def __init__(self, mode: bool) -> None:
        self.mode, self.before = bool(mode), tape._mode.grad
        self.__enter__()

    def __enter__(self) -> None:
        tape._mode.grad = self.mode

    def __exit__(self, *_: object) -> None:
        tape._mode.grad = self.before

    def __call__(self, function: Callable) -> Callable:
        self.__exit__()
        return (enable_grad if self.mode else no_grad)()(function)


def inference_mode(mode: Any = True) -> Any:
    """The same as `no_grad`; `inference_mode(False)` changes nothing."""
    if callable(mode):
        return no_grad(mode)  # type: ignore[call-arg]
    return no_grad() if mode or not is_grad_enabled() else enable_grad()


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor],
         grad_outputs: Tensor | Sequence[Tensor | None] | None = None, retain_graph: bool | None = None,
         create_graph: bool = False, allow_unused: bool = False) -> tuple[Tensor | None, ...]:
    """Gradients of the sum of `outputs` with respect to `inputs`; `.grad` of leaves is left alone. RuntimeError if an
    input is not part of the graph, unless `allow_unused`, which gives None for it.

    >>> x = fastnn.tensor(3.0, requires_grad=True)
    >>> fastnn.autograd.grad(x * x, x)
    (tensor(6.),)"""
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    sources = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given: list = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs or [None] * len(roots))
    if len(given) != len(roots):
        raise ShapeError(f"grad: {len(given)} grad_outputs came for {len(roots)} outputs")
    for i, x in enumerate(sources):
        if not x.requires_grad:
            raise AutogradError(f"grad: input {i} does not require grad")
    found = tape.backward("grad", roots, given, bool(retain_graph), create_graph, sources)
    missing = [i for i, g in enumerate(found) if g is None]
    if missing and not allow_unused:
        raise AutogradError(f"grad: inputs {missing} were not used in the graph; allow_unused=True gives None for them")
    return tuple(None if g is None else Tensor(g) for g in found)


class Context:
    """What `Function.forward` leaves for `Function.backward`; attributes may be set on it."""

    needs_input_grad: tuple[bool, ...] = ()
    saved_tensors: tuple = ()
    _plain: tuple = ()
    _materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs or outputs; changing them in place before the backward pass is an error then."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Outputs that have no gradient."""
        self._plain = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether an output that got no gradient counts as zeros (the default) or None."""
        self._materialize = value


class Function:
    """An operation of one's own, with its derivative.

    >>> class Cube(fastnn.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x ** 3
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         x, = ctx.saved_tensors
    ...         return 3 * x ** 2 * grad
    >>> x = fastnn.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)"""

    forward: Callable
    backward: Callable

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run `forward` and record it."""
        ctx = Context()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        with no_grad():
            result = cls.forward(ctx, *args)
        outputs = result if isinstance(result, tuple) else (result,)
        inputs = tuple(a for a in args if isinstance(a, Tensor))
        received: dict[int, np.ndarray] = {}  # the gradients of outputs, by number

        def function(_: np.ndarray) -> list[np.ndarray | None]:
            grads = [Tensor(received.pop(i)) if i in received else
                     Tensor(np.zeros(out.shape, out.dtype)) if ctx._materialize and isinstance(out, Tensor) else None
                     for i, out in enumerate(outputs)]
            with no_grad():
                back = cls.backward(ctx, *grads)
            back = back if isinstance(back, tuple) else (back,)
            if len(back) < len(args) or any(g is not None for g in back[len(args):]):
                raise AutogradError(f"{cls.__name__}: backward returned {len(back)} gradients for {len(args)} inputs")
            pairs = [(a, g) for a, g in zip(args, back, strict=False) if isinstance(a, Tensor)]
            for a, g in pairs:
                if g is not None and g.shape != a.shape:
                    raise ShapeError(f"{cls.__name__}: backward returned shape {g.shape} for an input of {a.shape}")
            return [None if g is None else g.array.astype(a.dtype, copy=False) for a, g in pairs]

        # All outputs meet in one node, which runs backward once; they reach it through `received`.
        function.__qualname__ = cls.__name__
        meet = record(np.zeros(()), inputs, function, tuple(t for t in ctx.saved_tensors if t is not None))
        if not meet.requires_grad:
            return result

        def recorded(i: int, out: Any) -> Any:
            if not isinstance(out, Tensor) or not out.is_floating_point() or any(out is plain for plain in ctx._plain):
                return out

            def receive(g: np.ndarray) -> tuple[np.ndarray]:
                received[i] = g
                return (np.zeros(()),)

            receive.__qualname__ = cls.__name__
            made = record(out.array, (meet,), receive)
            made._version = out._version  # which knows whether forward's memory is its own
            return made

        wrapped = tuple(recorded(i, out) for i, out in enumerate(outputs))
        return wrapped if isinstance(result, tuple) else wrapped[0]
