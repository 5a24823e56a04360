"""Looking inside a network: how large it is, and where in an image it saw a class."""
import copy
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastnn import backend, memory, nn
from fastnn.autograd import enable_grad
from fastnn.creation import randn, zeros
from fastnn.errors import ShapeError
from fastnn.nn.parameter import evaluation
from fastnn.tensor import Tensor, float32


class Layer(NamedTuple):
    """A module of a network: its depth and dotted name, class, what one sample leaves it as, parameters of its own, and
    floating-point operations for one sample."""
    depth: int
    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int


class Summary(NamedTuple):
    """What `summary` found: layers, the number of parameters, of those to be trained, and of floating-point operations
    for one sample; the bytes of the parameters, and the most that a training step of `batch_size` samples needs."""
    layers: list[Layer]
    parameters: int
    trainable: int
    flops: int
    parameter_bytes: int
    step_bytes: int
    batch_size: int

    def __str__(self) -> str:
        names = [f"{'  ' * layer.depth}{layer.name.rpartition('.')[2]}: {layer.kind}" for layer in self.layers]
        wide = max(map(len, ["layer", *names]))
        rows = [f"{name:{wide}}  {str(('N', *layer.output_shape)).replace(repr('N'), 'N'):20}{layer.parameters:12,}"
                f"{layer.flops:16,}" for name, layer in zip(names, self.layers, strict=True)]
        mega = 1e-6 * self.step_bytes
        return "\n".join([
            f"{'layer':{wide}}  {'output shape':20}{'parameters':>12}{'FLOPs a sample':>16}", *rows,
            f"{self.parameters:,} parameters ({self.trainable:,} trained), {1e-6 * self.parameter_bytes:,.2f} MB; "
            f"{self.flops:,} FLOPs a sample",
            f"a training step of {self.batch_size} samples needs {mega:,.1f} MB beside them" if mega else ""]).strip()


def _tensors(value: Any) -> list[Tensor]:
    """Those in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _flops(module: nn.Module, inputs: int, outputs: int, n: int) -> int:
    """For one of n samples: a multiply-add of a product counts as two; a layer that has no product, as one a number
    that it reads or writes, whichever are more."""
    if isinstance(module, nn.Identity | nn.Flatten | nn.Unflatten | nn.Embedding):
        return 0
    weight = getattr(module, "weight", None)
    width = getattr(module, "out_features", 0) or getattr(module, "out_channels", 0)
    if not (width and isinstance(weight, Tensor)):
        return max(inputs, outputs) // n
    uses = outputs // width  # of each weight
    if isinstance(module, nn.ConvTranspose2d):
        uses = inputs // module.in_channels
    elif isinstance(module, nn.LocallyConnected2d):
        uses = n
    return 2 * weight.numel() * uses // n


def summary(model: nn.Module, input_shape: Sequence[int], batch_size: int = 64, dtype: Any = None) -> Summary:
    """Layers of `model` for one sample of `input_shape`, without N: output shapes, parameters, operations (FLOPs), and
    the memory of a training step, measured in a forward and backward pass of `batch_size` random samples. Print it. The
    model stays as it is, and so does the stream of random numbers. `dtype`: of the samples, by default the parameters';
    integers are zeros. A module of several outputs is shown by its first.

    >>> print(summary(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (3,), batch_size=1000))
    layer      output shape          parameters  FLOPs a sample
    0: Linear  (N, 4)                        16              24
    1: ReLU    (N, 4)                         0               4
    2: Linear  (N, 2)                        10              16
    26 parameters (26 trained), 0.00 MB; 44 FLOPs a sample
    a training step of 1000 samples needs ... MB beside them
    """
    if batch_size < 1 or min(input_shape, default=1) < 1:
        raise ShapeError(f"summary: sizes must be positive, but {input_shape=}, {batch_size=} came")
    random_state, model = backend.generator.bit_generator.state, copy.deepcopy(model)
    for module in model.modules():  # hooks before may be part of it, as those of weight norm are
        module._forward_hooks, module._backward_hooks = [], []
    found: dict[str, Layer] = {}

    def note(name: str, module: nn.Module, args: tuple, output: Any) -> None:
        x, y = _tensors(args), _tensors(output)
        flops = found[name].flops if name in found else 0  # a module may be called more than once
        if y and not any(module.children()):
            flops += _flops(module, x[0].numel() if x else 0, y[0].numel(), batch_size)
        found[name] = Layer(name.count("."), name, type(module).__name__, tuple(y[0].shape[1:]) if y else (),
                            sum(p.numel() for p in module.parameters(recurse=False)), flops)

    handles = [module.register_forward_hook(partial(note, name)) for name, module in model.named_modules() if name]
    dtype = np.dtype(dtype or next((p.dtype for p in model.parameters()), float32))
    x = (randn if dtype.kind == "f" else zeros)(batch_size, *input_shape, dtype=dtype)
    try:
        with evaluation(model):
            model(x)
        for handle in handles:
            handle.remove()
        before = memory.stats()["allocated"]
        memory.reset_peak()
        with enable_grad():
            if ends := [y.sum() for y in _tensors(model(x)) if y.requires_grad]:
                sum(ends[1:], ends[0]).backward()
        step_bytes = memory.stats()["peak"] - before
    finally:
        backend.generator.bit_generator.state = random_state
    parameters = [*model.parameters()]
    return Summary([found[name] for name, _ in model.named_modules() if name in found],
                   sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad),
                   sum(layer.flops for layer in found.values()),
                   sum(p.array.nbytes for p in parameters), step_bytes, batch_size)


def class_activation_map(model: nn.Module, images: Tensor, classes: Sequence[int] | None = None) -> Tensor:
    """M[n, h, w] = Σₖ w[c, k]·A[n, k, h, w] for a network that ends in global average pooling of the features A and a
    Linear layer of weight w: how much each place speaks for class c. Its mean over h, w and the bias is the score.

    `classes`: one for each image, by default that of the highest score. The model answers in evaluation mode.
    ValueError if it has no such end.

    Reference: Zhou et al., Learning deep features for discriminative localization, CVPR 2016."""
    pooled, weights = [], []
    with ExitStack() as hooks, evaluation(model):
        for m in model.modules():
            if isinstance(m, nn.Linear):
                hooks.enter_context(m.register_forward_hook(lambda m, *_: weights.append(m.weight.array)))
            if isinstance(m, nn.AdaptiveAvgPool2d) and m.output_size in (1, (1, 1), [1, 1]):
                hooks.enter_context(m.register_forward_hook(lambda m, args, _: pooled.append(args[0].array)))
        scores = _tensors(model(images))[0].array
    if not (pooled and weights):
        raise ValueError("class_activation_map: the model must end in AdaptiveAvgPool2d(1) and Linear")
    features, weight = pooled[-1], weights[-1]
    if weight.shape != (scores.shape[-1], features.shape[1]):
        raise ValueError(f"class_activation_map: the last Linear has a weight of {weight.shape}, but what is pooled "
                         f"has {features.shape[1]} channels, and there are {scores.shape[-1]} scores")
    chosen = scores.argmax(1) if classes is None else np.asarray(classes)
    if chosen.shape != scores.shape[:1] or chosen.dtype.kind not in "iu" or (
            chosen.size and not 0 <= chosen.min() <= chosen.max() < len(weight)):
        raise ValueError(f"class_activation_map: a class from 0 to {len(weight) - 1} is needed for each image, but "
                         f"{classes} came")
    return Tensor(np.einsum("nk,nkhw->nhw", weight[chosen], features))
