"""Tensor, and the tape that differentiates what is done with it.

An operation computes its output array, then calls `record` with its inputs and a function `backward`, which takes the
gradient of the output and returns one gradient for each input. `record` makes a Node when a gradient is wanted; nodes
point to the nodes that made their inputs, never forward, so dropping the loss drops the graph. Nodes are numbered as
they are made, which is a topological order: the backward pass sorts the nodes it can reach by falling number. There is
no recursion, and a gradient that something else may hold is never added into. (The design follows HIPS autograd.)

The tape knows nothing of what operations compute: `fastnn.functional` installs operators and methods on Tensor.

An operation may return a `Pending` tensor, whose array is computed when it is first read, so that another can take over
the recipe: batch norm, addition and ReLU become one pass. Call `changing` or `hand_out` before its inputs change."""
from __future__ import annotations

import itertools
import math
import operator
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from gc import get_referents
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import layout
from fastnn.device import CPU, device
from fastnn.errors import ArgumentError, AutogradError, DTypeError, ShapeError

Array = np.ndarray
Backward = Callable[[Any], Sequence[Any]]

DTYPES = tuple(map(np.dtype, ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")))
float32, float64, int64, int32, int16, int8, uint8, bool_ = DTYPES


class _Mode(threading.local):
    grad = True
    fuse = True  # whether there are pending tensors; results do not depend on it


add: Callable[..., Array] = np.add  # fastnn.functional puts a threaded one here
_mode = _Mode()
_lock = threading.RLock()  # of pending tensors
_count = itertools.count()


def is_grad_enabled() -> bool:
    """Whether operations are recorded, in this thread."""
    return _mode.grad


class Node:
    """One recorded operation: what to run backward, and where its results go."""

    __slots__ = ("__weakref__", "_hooks", "backward", "edges", "order", "retain", "takes_pending", "versions")

    def __init__(self, edges: tuple, backward: Backward, versions: tuple = ()) -> None:
        self.order = next(_count)
        self.edges = edges  # of each input, by _edge
        self.backward: Backward | None = backward
        self.versions = versions  # (counter, value when saved) of every tensor that backward reads
        self._hooks: list[tuple] | None = None
        self.retain: weakref.ref | None = None
        self.takes_pending = False  # whether `backward` can do with a pending tensor for a gradient

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    def name(self) -> str:
        function = self.backward.__qualname__.split(".<locals>")[0].split(".")[-1] if self.backward else "Freed"
        return "".join(part[:1].upper() + part[1:] for part in function.split("_")) + "Backward"

    def release(self) -> None:
        """Let go of arrays. A node that holds none may run again, as in PyTorch."""
        if self.versions or _holds(get_referents(self.backward)):
            self.backward, self.edges, self.versions = None, (), ()


def _holds(things: Sequence[Any]) -> bool:
    """Whether there are arrays among what a function or its closure (a tuple of cells, or Cython's object) has."""
    inside = [x for x in things if (kind := type(x).__name__) in ("tuple", "cell") or "_scope_struct_" in kind]
    return True in [isinstance(x, (Array, Tensor, list, Node)) for x in things] or (
        True in [_holds(get_referents(x)) for x in inside])


class View:
    """How a tensor views another's memory: `fn(root.array)` is the view's array; `backward` takes its gradient back."""

    __slots__ = ("backward", "fn", "node", "root")

    def __init__(self, root: Tensor, fn: Callable[[Array], Array], backward: Backward) -> None:
        self.root, self.fn, self.backward, self.node = root, fn, backward, root._node


class RemovableHandle:
    """What registering a hook returns: `remove()`, or leaving a `with` block, takes the hook away."""

    def __init__(self, hooks: list[tuple], entry: tuple, prepend: bool = False) -> None:
        self.hooks, self.entry = hooks, entry
        hooks.insert(0 if prepend else len(hooks), entry)

    def remove(self) -> None:
        self.hooks[:] = [entry for entry in self.hooks if entry is not self.entry]

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Tensor:
    """A NumPy array that remembers how it was computed.

    `array` is for code below the tape; the rest is PyTorch's. `Tensor(array)` shares memory, `fastnn.tensor` copies.

    >>> x = fastnn.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])"""

    __slots__ = ("__weakref__", "_hooks", "_node", "_requires_grad", "_version", "_view", "array", "grad")
    __array_priority__ = 1000.0  # so that NumPy's operators leave `ndarray * tensor` to the tensor
    __hash__ = object.__hash__

    if TYPE_CHECKING:  # what fastnn.functional installs
        def __getattr__(self, name: str) -> Any: ...
        __neg__ = __abs__ = __invert__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = (
            __rtruediv__) = __pow__ = __matmul__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = globals()[""]

    def __init__(self, array: Array, requires_grad: bool = False) -> None:
        if not isinstance(array, Array):
            if not isinstance(array, np.generic):
                raise TypeError(f"Tensor: needs a NumPy array, but a {type(array).__name__} came; see fastnn.tensor")
            array = np.asarray(array)  # what NumPy's functions make of 0-d arrays
        self.array = array
        self.grad: Tensor | None = None
        self._requires_grad = False
        self._node: Node | None = None
        # Shared by all views of the memory: the number of changes in place; whether only operations hold the memory, so
        # that no change passes unseen; weak references to the pending tensors that read it.
        self._version: list[Any] = [0, False]
        self._view: View | None = None
        self._hooks: list[tuple] | None = None
        if requires_grad:
            self.requires_grad = True

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this tensor."""
        if self._view is not None:
            _rebase(self)
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self.dtype.kind != "f":
            raise DTypeError(f"requires_grad: only float tensors can have gradients, and this one is {self.dtype}")
        if not value and not self.is_leaf:
            raise AutogradError("requires_grad: can be turned off for leaves only; use detach()")
        self._requires_grad = bool(value)

    @property
    def data(self) -> Tensor:
        """The same memory outside the tape. Assigning copies the values into this tensor's memory."""
        return Tensor(hand_out(self))

    @data.setter
    def data(self, value: Tensor | Array) -> None:
        source = value.array if isinstance(value, Tensor) else np.asarray(value)
        if source.shape != self.shape:
            raise ShapeError(f"data: a tensor of shape {self.shape} cannot take values of shape {source.shape}")
        np.copyto(changing(self), source, casting="same_kind")

    shape: tuple[int, ...] = property(lambda self: self.array.shape)  # type: ignore[assignment]
    dtype: np.dtype = property(lambda self: self.array.dtype)  # type: ignore[assignment]
    ndim: int = property(lambda self: len(self.shape))  # type: ignore[assignment]
    device: device = property(lambda self: CPU)  # type: ignore[assignment]

    @property
    def is_leaf(self) -> bool:
        """Whether the user made it, rather than a recorded operation."""
        _rebase(self)
        return self._node is None

    @property
    def grad_fn(self) -> Node | None:
        """The node of the operation that made it."""
        return None if self.is_leaf else self._node

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        return math.prod(self.shape)

    nelement = numel

    def is_floating_point(self) -> bool:
        return self.dtype.kind == "f"

    def is_contiguous(self) -> bool:
        """Whether memory is in the canonical order: C, or N, H, W, C for a 4-D tensor."""
        return layout.dense(self.array) is self.array

    def numpy(self) -> Array:
        """The array behind the tensor, sharing its memory. RuntimeError if it requires grad: detach() it first."""
        if self.requires_grad:
            raise AutogradError("numpy: this tensor requires grad; use tensor.detach().numpy()")
        return hand_out(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The one element as a Python number."""
        if self.array.size != 1:
            raise ShapeError(f"item: needs a tensor of one element, but one of shape {self.shape} came")
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iub":
            raise TypeError(f"only integer tensors of one element can be an index, and this one is {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ShapeError(f"the truth of a tensor of shape {self.shape} is ambiguous: use .any() or .all()")
        return bool(self.array.item())

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("a 0-d tensor has no len() and cannot be iterated over")
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))  # type: ignore[index]

    def __contains__(self, value: Any) -> bool:
        return bool((self.array == as_tensor(value).array).any())

    def __format__(self, spec: str) -> str:
        return format(self.array.item(), spec) if self.array.size == 1 and spec else repr(self)

    def __repr__(self) -> str:
        text = np.array2string(self.array, separator=", ", precision=4, prefix="tensor(")
        text += f", size={self.shape}" if not self.array.size and self.array.ndim != 1 else ""
        text += f", dtype={self.dtype}" if self.dtype not in (float32, int64, bool_) or not self.array.size else ""
        if self.requires_grad:
            text += ", requires_grad=True" if self.is_leaf else f", grad_fn={self.grad_fn}"
        return f"tensor({text})"

    def _only_leaf(self, what: str) -> None:
        if not self.is_leaf:
            raise AutogradError(f"only leaves can be {what}; detach() the tensor first")

    def __reduce__(self) -> tuple:
        self._only_leaf("pickled")
        array = hand_out(self)
        axes = np.argsort([-abs(stride) for stride in array.strides], kind="stable")  # keeps the memory order
        return _rebuild, (type(self), array.transpose(axes), tuple(np.argsort(axes)), self._requires_grad)

    def __deepcopy__(self, memo: dict) -> Tensor:
        self._only_leaf("deep-copied")
        copy = owned(type(self)(self.array.copy(order="K"), self._requires_grad))
        copy.grad = None if self.grad is None else Tensor(self.grad.array.copy(order="K"))
        return copy

    def detach(self) -> Tensor:
        """The same memory outside the tape; changes in place through it are noticed."""
        out = Tensor(self.array)
        out._version = self._version
        return out

    def clone(self) -> Tensor:
        """A copy with memory of its own; gradients pass through."""
        out = layout.empty_like(self.array)
        np.copyto(out, self.array)
        return record(out, (self,), lambda grad: (grad,))

    def to(self, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False, **_: Any) -> Tensor:
        """Another dtype, given as such, by a device (the CPU) or by another tensor; itself if nothing changes."""
        for arg in args:
            if isinstance(arg, (str, type(CPU))) and str(arg) not in np.sctypeDict:
                device = arg
            elif not isinstance(arg, bool) and arg is not None:
                dtype = arg.dtype if isinstance(arg, Tensor) else arg
        type(CPU)(device or CPU)
        if dtype is None or np.dtype(dtype) == self.dtype:
            return self.clone() if copy else self
        before, after = self.dtype, check_dtype("to", dtype)
        out = layout.empty_like(self.array, after)
        with np.errstate(invalid="ignore", over="ignore"):
            np.copyto(out, self.array, casting="unsafe")
        return record(out, (self,), lambda grad: (grad.astype(before),)) if after.kind == "f" else Tensor(out)

    type = type_as = to

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        self.requires_grad = requires_grad
        return self

    def _edge_for(self, op: str) -> Any:
        if (edge := _edge(self)) is None:
            raise AutogradError(f"{op}: this tensor does not require grad")
        return edge

    def retain_grad(self) -> None:
        """Keep `.grad` of this tensor too, although an operation made it."""
        if (node := self._edge_for("retain_grad")) is not self:
            node.retain = weakref.ref(self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(grad)` when the gradient of this tensor is complete; what it returns replaces the gradient."""
        holder = self._edge_for("register_hook")
        holder._hooks = holder._hooks or []
        return RemovableHandle(holder._hooks, (hook,))

    def backward(self, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this tensor with respect to every leaf that requires grad to the leaf's `.grad`.

        `gradient` is that of the final quantity with respect to this tensor, 1 for one element. `retain_graph` keeps
        what the graph saved, so that backward can run again. RuntimeError if nothing requires grad, `gradient` is
        missing or misshapen, the graph was freed, or a tensor that the backward pass reads was changed in place."""
        backward("backward", [self], [gradient], retain_graph, create_graph)


for _name, _dtype in {"float": float32, "double": float64, "long": int64, "int": int32, "bool": bool_}.items():
    setattr(Tensor, _name, lambda self, _dtype=_dtype: self.to(_dtype))


def _rebuild(cls: type, array: Array, axes: tuple, requires_grad: bool) -> Tensor:
    return cls(array.transpose(axes), requires_grad)


class Pending(Tensor):
    """A tensor whose array is not computed yet, but will be by anyone who reads it, and is then an ordinary tensor.

    Until then the slot of `array` has the recipe, an object with a shape, a dtype, the `sources`, tensors whose memory
    it reads, all of them `lasting`, and compute(), which gives the array. Operations may take the recipe instead."""

    __slots__ = ()

    @property
    def array(self) -> Array:  # type: ignore[override]
        with _lock:
            held = _slot.__get__(self)
            if not isinstance(held, Array):  # another thread may have been faster
                self.array = held = held.compute()
            return held

    @array.setter
    def array(self, array: Array) -> None:
        _slot.__set__(self, array)
        self.__class__ = Tensor  # type: ignore[assignment]

    shape = property(lambda self: _slot.__get__(self).shape)
    dtype = property(lambda self: _slot.__get__(self).dtype)


_slot: Any = vars(Tensor)["array"]


def recipe_of(x: Any) -> Any:
    """The recipe of a pending tensor, None for everything else."""
    held = _slot.__get__(x) if type(x) is Pending else None
    return None if isinstance(held, Array) else held


def owned(x: Any) -> Any:
    """x, whose memory nobody else has."""
    x._version[1] = True
    return x


def lasting(x: Tensor) -> bool:
    """Whether a pending tensor may read x's memory later: nobody changes it without calling `changing` before."""
    return x._version[1]


def pending(recipe: Any, inputs: tuple[Tensor, ...] = (), backward: Any = None, saved: tuple = ()) -> Tensor:
    """`record` of an array still to be computed. `backward` must take pending tensors too: gradients by its takers."""
    if not _mode.fuse:
        return record(recipe.compute(), inputs, backward, saved)
    out = record(_NOTHING, inputs, backward, saved)
    if out._node is not None:
        out._node.takes_pending = True
    return _defer(out, recipe)


_NOTHING = np.empty(0)


def _defer(x: Tensor, recipe: Any) -> Tensor:
    """Make x pending, and known to those whose memory it will read."""
    x.array, x.__class__ = recipe, Pending
    with _lock:
        for source in recipe.sources:
            version, n = source._version, len(source._version)
            if n >= 16 and n & (n - 1) == 0:  # now and then those that are done with are forgotten
                version[2:] = [ref for ref in version[2:] if type(ref()) is Pending]
            version.append(weakref.ref(x))
    return x


# Recording -------------------------------------------------------------------------------------------------------

def record(array: Array, inputs: tuple[Tensor, ...], backward: Backward, saved: tuple[Tensor, ...] = (),
           save_output: bool = False) -> Tensor:
    """The output `array` of an operation on `inputs`, on the tape if grad mode is on and an input requires grad.

    `backward` takes the gradient of the output (an array of its shape and dtype, any strides, not to be written into)
    and returns an array (or a pending tensor) or None for each input. `array` is in nobody else's hands. To change in
    place, before it has run, a tensor that it reads is an error: these are `saved`, with `save_output` the output."""
    out = Tensor(array)
    out._version[1] = True
    if _mode.grad:
        for x in inputs:
            if x._requires_grad if x._view is None else x.requires_grad:
                saved = (*saved, out) if save_output else saved
                versions = tuple([(x._version, x._version[0]) for x in saved])
                out._node, out._requires_grad = Node(tuple([_edge(x) for x in inputs]), backward, versions), True
                break
    return out


def view_of(x: Tensor, fn: Callable[[Array], Array], backward: Backward) -> Tensor:
    """`record` for fn(x.array) that shares x's memory: a change in place of either reaches the history of the other."""
    out, first = record(fn(x.array), (x,), backward), x._view
    out._version, out._view = x._version, View(x, fn, backward) if first is None else View(
        first.root, lambda a: fn(first.fn(a)), lambda grad: first.backward(backward(grad)[0]))
    return out


def _rebase(x: Tensor) -> None:
    """Bring a view's history up to date, if its root got another by a change in place."""
    view = x._view
    if view is not None and view.node is not view.root._node:
        root, view.node = view.root, view.root._node
        x._requires_grad = root._requires_grad
        x._node = Node((_edge(root),), view.backward) if root._requires_grad else None


def _edge(x: Tensor) -> Any:
    """Where x's gradient goes: its Node, the Tensor itself if it is a leaf, or None if it does not require grad."""
    if x._view is not None:
        _rebase(x)
    return (x._node or x) if x._requires_grad else None


def settle(x: Tensor) -> Array:
    """x's array, after the pending tensors that are still to read it have done so."""
    array, version = x.array, x._version
    if len(version) > 2:
        with _lock:
            while len(version) > 2:
                if (reader := version[-1]()) is not None:
                    reader.array  # noqa: B018
                version.pop()  # not before it has been computed
    return array


def changing(x: Tensor) -> Array:
    """x's array for an operation that now writes into it; the change counts."""
    x._version[0] += 1
    return settle(x)


def hand_out(x: Tensor) -> Array:
    """x's array for somebody who may write into it at any time, unseen."""
    x._version[1] = False
    return settle(x)


def shadow(x: Tensor) -> Tensor:
    """x with its history but with memory of its own, so that an operation may save it before x is overwritten."""
    if not _mode.grad:
        return x
    out = Tensor(x.array.copy(order="K"))
    _rebase(x)
    out._requires_grad, out._node = x._requires_grad, x._node
    return out


def inplace(x: Tensor, result: Tensor, fresh: bool = False) -> Tensor:
    """Write `result`, computed from `shadow(x)`, into x's memory, and give x its history. Returns x. While x is
    pending, there is nothing to write into, and x becomes the result if that is `fresh`, seen by nobody else.

    Raises RuntimeError (AutogradError) if x is a leaf that requires grad, or a view of one, while grad mode is on."""
    if result.shape != x.shape:
        raise ShapeError(f"in-place operation: the result has shape {result.shape}, but the tensor has {x.shape}")
    if not np.can_cast(result.dtype, x.dtype, "same_kind"):
        raise DTypeError(f"in-place operation: the result is {result.dtype}, which cannot be written into {x.dtype}")
    fresh = fresh and type(x) is Pending
    if not fresh and not x.array.flags.writeable:
        raise ArgumentError("in-place operation: an expanded or read-only tensor cannot be changed; clone() it first")
    root = x if x._view is None else x._view.root
    if _mode.grad and root._requires_grad and root._node is None:
        raise AutogradError("in-place operation: a leaf that requires grad cannot be changed while grad mode is on")
    if fresh:
        x._version, recipe = result._version, recipe_of(result)
        if recipe is None:
            x.array = result.array
        else:
            _defer(x, recipe)
    else:
        np.copyto(changing(x), result.array, casting="same_kind")
    if _mode.grad and root is x:
        x._node, x._requires_grad = result._node, result._requires_grad
    elif _mode.grad and (result._requires_grad or root._requires_grad):
        fn, array = x._view.fn, root.array  # type: ignore[union-attr]

        def copy_slices(grad: Array) -> tuple[Array, Array]:
            rest = layout.empty_permuted(array, grad.dtype)  # in the memory order in which fn gives a view
            np.copyto(rest, grad)
            part = fn(rest)
            into = part.copy()
            part[...] = 0
            return rest, into

        root._node, root._requires_grad = Node((_edge(root), _edge(result)), copy_slices), True
    return x


# The backward pass -----------------------------------------------------------------------------------------------

def _start(op: str, x: Tensor, gradient: Tensor | Array | None, create_graph: bool) -> Array:
    """The array to start the backward pass of x with, checked."""
    if create_graph:
        raise AutogradError(f"{op}: create_graph=True is not supported: gradients of gradients are not recorded")
    if not x.requires_grad:
        raise AutogradError(f"{op}: this tensor does not require grad and has no graph")
    if gradient is None:
        if x.array.size != 1:
            raise ShapeError(f"{op}: a tensor of shape {x.shape} has more than one element: pass gradient")
        return np.ones(x.shape, x.dtype)
    array = gradient.array if isinstance(gradient, Tensor) else np.asarray(gradient)
    if array.shape != x.shape:
        raise ShapeError(f"{op}: gradient has shape {array.shape}, but the tensor has {x.shape}")
    return array.astype(x.dtype, copy=False)


@np.errstate(all="ignore")
def backward(op: str, roots: Sequence[Tensor], gradients: Sequence[Tensor | None], retain_graph: bool,
             create_graph: bool, inputs: Sequence[Tensor] | None = None) -> list[Array | None]:
    """Run the tape from `roots`. Leaves accumulate into `.grad`; with `inputs`, returns the gradients of these."""
    captured: dict[Node | Tensor, Array | None] = {_edge(x): None for x in inputs or ()}
    awaited: dict[Any, Any] = {}
    for root, gradient in zip(roots, gradients, strict=True):
        _accumulate(awaited, _edge(root), _start(op, root, gradient, create_graph))
    for node in _reachable([x for x in awaited if isinstance(x, Node)], None if inputs is None else {*captured}):
        grad = awaited.pop(node, None)
        if grad is None:
            continue
        if node._hooks or (isinstance(grad, Tensor) and (node.retain or node in captured or not node.takes_pending)):
            grad = _hooked(node, grad)
        if node.retain is not None and (kept := node.retain()) is not None:
            kept.grad = Tensor(grad.copy() if kept.grad is None else kept.grad.array + grad)
        if node in captured:
            captured[node] = grad
        for counter, value in node.versions:
            if counter[0] != value:
                raise AutogradError(f"{node.name()}: a tensor that this operation needs for its gradient has been "
                                    f"changed in place (it is at version {counter[0]}; version {value} was saved)")
        if node.backward is None:
            raise AutogradError("backward: the graph was freed by an earlier backward; use retain_graph=True there")
        results = node.backward(grad)
        for edge, result in zip(node.edges, results, strict=True):
            if edge is not None and result is not None:
                _accumulate(awaited, edge, result)
        del results, grad
        result = None
        if not retain_graph:
            node.release()
    for leaf in [key for key in awaited if inputs is None or key in captured]:
        if leaf._hooks or isinstance(awaited[leaf], Tensor):
            awaited[leaf] = _hooked(leaf, awaited[leaf])
        if inputs is None:
            _add_to_grad(leaf, awaited)
        else:
            captured[leaf] = awaited[leaf]
    return [captured[_edge(x)] for x in inputs or ()]


def _reachable(starts: Iterable[Node], wanted: set[Node | Tensor] | None) -> list[Node]:
    """The nodes from which gradients flow, last made first; only those on the way to a `wanted` one, if given."""
    seen = set(starts)
    stack = list(seen)
    while stack:
        for edge in stack.pop().edges:
            if type(edge) is Node and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    nodes = sorted(seen, key=operator.attrgetter("order"))
    if wanted is not None:
        for node in nodes:
            if any(edge in wanted for edge in node.edges):
                wanted.add(node)
        nodes = [node for node in nodes if node in wanted]
    return nodes[::-1]


def _accumulate(awaited: dict[Any, Any], key: Node | Tensor, grad: Array) -> None:
    if key not in awaited:
        awaited[key] = grad
        return
    if isinstance(awaited[key], Tensor):
        awaited[key] = awaited[key].array
    grad = grad.array if isinstance(grad, Tensor) else grad
    own, held = exclusive(awaited, key), awaited[key]
    awaited[key] = add(held, grad, out=held if own else layout.empty_for(held.shape, held.dtype, held, grad))


def exclusive(awaited: Any, key: Any) -> bool:
    """Whether nothing else holds the memory of the array at `key`. (getrefcount counts its own argument, too.)"""
    if getrefcount(awaited[key]) > 2:
        return False
    array = awaited[key]
    base = array.base
    return array.flags.writeable and (
        layout.owns(array) or (isinstance(base, Array) and layout.owns(base) and getrefcount(array.base) <= 3))


def _add_to_grad(leaf: Tensor, awaited: dict[Any, Any]) -> None:
    own, grad = exclusive(awaited, leaf), awaited.pop(leaf)
    if leaf.grad is not None:
        add(leaf.grad.array, grad, out=changing(leaf.grad))
        return
    laid_out = layout.match(grad, leaf.array)
    leaf.grad = Tensor(laid_out.copy(order="K") if laid_out is grad and not own else laid_out)


def _hooked(holder: Node | Tensor, grad: Any) -> Array:
    """The array of a gradient, which may be pending, after the hooks."""
    grad = grad.array if isinstance(grad, Tensor) else grad
    for (hook,) in tuple(holder._hooks or ()):
        changed = hook(Tensor(grad))
        if changed is not None:
            if changed.shape != grad.shape:
                raise ShapeError(f"hook: returned shape {changed.shape} for a gradient of shape {grad.shape}")
            grad = changed.array
    return grad


# Helpers of operations -------------------------------------------------------------------------------------------

def check_dtype(op: str, dtype: Any) -> np.dtype:
    """`dtype` as a supported NumPy dtype, else DTypeError."""
    found = next((known for known in DTYPES if known == dtype), None)
    if found is None:
        raise DTypeError(f"{op}: dtype {dtype!r} is not supported; it may be {', '.join(map(str, DTYPES))}")
    return found


def ints(op: str, values: Any) -> tuple[int, ...]:
    """The integers of an int, of a sequence, and of the arguments of `op(1, 2)` and of `op((1, 2))`."""
    if isinstance(values, tuple) and len(values) == 1 and isinstance(values[0], Sequence):
        values = values[0]
    try:
        return tuple([operator.index(v) for v in (values if isinstance(values, Sequence) else (values,))])
    except TypeError:
        raise TypeError(f"{op}: integers are needed, but {values!r} came") from None


def as_tensor(value: Any, like: Tensor | None = None) -> Tensor:
    """`value` itself if it is a tensor; an array is wrapped; a Python number becomes a 0-d tensor of like's dtype if
    it can be held there, else of its default dtype (float32, int64, bool)."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (bool, int, float)):
        return Tensor(np.array(value, default_dtype(value) if like is None else result_dtype(like, value)))
    array = np.asarray(value)
    check_dtype("as_tensor", array.dtype.newbyteorder("="))
    return Tensor(array)


def default_dtype(number: bool | int | float) -> np.dtype:
    return bool_ if isinstance(number, bool) else int64 if isinstance(number, int) else float32


def result_dtype(*operands: Tensor | bool | int | float) -> np.dtype:
    """PyTorch's promotion: tensors with dimensions decide; 0-d tensors, then Python numbers count by kind only.

    >>> result_dtype(fastnn.zeros(2, dtype=fastnn.int64), 1.5)
    dtype('float32')"""
    tiers: dict[int, np.dtype] = {}
    for x in operands:
        tier, dtype = (x.array.ndim == 0, x.array.dtype) if isinstance(x, Tensor) else (2, default_dtype(x))
        held = tiers.setdefault(tier, dtype)
        mixed = (held.kind == "f") != (dtype.kind == "f")  # where NumPy would widen the floats
        tiers[tier] = min(held, dtype, key=lambda d: d.kind != "f") if mixed else np.promote_types(held, dtype)
    return max((tiers[t] for t in sorted(tiers)), key=lambda d: (d.kind != "b") + (d.kind == "f"))  # first of equals


def unbroadcast(grad: Array, shape: tuple[int, ...]) -> Array:
    """Sum `grad` over the axes along which `shape` was broadcast, float32 in float64: NumPy's sum may lose digits."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1))
    total = grad.sum(axis=axes, keepdims=True, dtype=float64 if grad.dtype == float32 else None)
    return total.reshape(shape).astype(grad.dtype, copy=False)
