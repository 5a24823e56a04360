"""The networks of bench/steps.py for JAX: Flax NNX modules, Optax, steps that are compiled whole.

Images are N, H, W, C here, JAX's native layout. A network is built from the arrays of the same network's state dict, in
their order: an iterator that each layer takes its own from, and converts.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import COMPARED, STILL
from flax import nnx

Arrays = Iterator[np.ndarray]
RNGS = nnx.Rngs(0)


def as_is(array: np.ndarray) -> Callable:
    """An initializer that returns this array."""
    return lambda key, shape, dtype=jnp.float32: jnp.asarray(array.reshape(shape), dtype)


def conv(arrays: Arrays, stride: int = 1, padding: int = 0, groups: int = 1, bias: bool = True) -> nnx.Conv:
    w = next(arrays)  # O, I / groups, kH, kW
    return nnx.Conv(
        w.shape[1] * groups, w.shape[0], w.shape[2:], strides=stride, padding=padding,
        feature_group_count=groups, use_bias=bias, kernel_init=as_is(w.transpose(2, 3, 1, 0)),
        bias_init=as_is(next(arrays)) if bias else nnx.initializers.zeros, rngs=RNGS,
    )  # fmt: skip


def linear(arrays: Arrays, side: int = 1) -> nnx.Linear:
    """`side`: height and width of the images whose flattened elements come in, which have the order H, W, C here."""
    w = next(arrays)  # O, C · H · W
    kernel = w.reshape(len(w), -1, side, side).transpose(2, 3, 1, 0)
    return nnx.Linear(
        w.shape[1], w.shape[0], kernel_init=as_is(kernel), bias_init=as_is(next(arrays)), rngs=RNGS
    )  # fmt: skip


def batch_norm(arrays: Arrays) -> nnx.BatchNorm:
    weight, bias, mean, var = (next(arrays) for _ in range(4))
    layer = nnx.BatchNorm(
        len(weight), momentum=0.9, epsilon=1e-5, scale_init=as_is(weight), bias_init=as_is(bias), rngs=RNGS
    )  # fmt: skip
    layer.mean[...], layer.var[...] = jnp.asarray(mean), jnp.asarray(var)
    return layer


def max_pool(x: jax.Array) -> jax.Array:
    return nnx.max_pool(x, (2, 2), (2, 2))


def avg_pool(x: jax.Array) -> jax.Array:
    return nnx.avg_pool(x, (2, 2), (2, 2))


def global_pool(x: jax.Array) -> jax.Array:
    return x.mean((1, 2))


def flatten(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1)


def mlp(a: Arrays) -> nnx.Module:
    return nnx.Sequential(flatten, linear(a), nnx.relu, linear(a), nnx.relu, linear(a))


def lenet5(a: Arrays) -> nnx.Module:
    return nnx.Sequential(conv(a, padding=2), nnx.relu, max_pool, conv(a), nnx.relu, max_pool, flatten,
                          linear(a, 5), nnx.relu, linear(a), nnx.relu, linear(a))  # fmt: skip


def cnn(a: Arrays) -> nnx.Module:
    return nnx.Sequential(conv(a, padding=1), nnx.relu, max_pool, conv(a, padding=1), nnx.relu, max_pool, flatten,
                          linear(a, 7), nnx.relu, linear(a))  # fmt: skip


def dropnet(a: Arrays) -> nnx.Module:
    return nnx.Sequential(conv(a, padding=1), nnx.elu, avg_pool, nnx.Dropout(0.2, broadcast_dims=(1, 2), rngs=RNGS),
                          conv(a, padding=1), nnx.tanh, avg_pool, flatten, nnx.Dropout(0.5, rngs=RNGS),
                          linear(a, 7), nnx.sigmoid, nnx.Dropout(0.5, rngs=RNGS), linear(a))  # fmt: skip


def cbr(a: Arrays, kernel: int = 3, stride: int = 1, groups: int = 1) -> nnx.Module:
    return nnx.Sequential(conv(a, stride, kernel // 2, groups, bias=False), batch_norm(a), nnx.relu)


def vgg(a: Arrays) -> nnx.Module:
    return nnx.Sequential(cbr(a), cbr(a), max_pool, cbr(a), cbr(a), max_pool, cbr(a), cbr(a), max_pool, flatten,
                          linear(a, 4))  # fmt: skip


class BasicBlock(nnx.Module):
    def __init__(self, a: Arrays, stride: int = 1) -> None:
        self.block1 = cbr(a, 3, stride)
        self.conv2, self.bn2 = conv(a, 1, 1, bias=False), batch_norm(a)
        changes = stride != 1
        self.shortcut = nnx.Sequential(conv(a, stride, bias=False), batch_norm(a)) if changes else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.bn2(self.conv2(self.block1(x)))
        return nnx.relu(y + (self.shortcut(x) if self.shortcut else x))


def resnet20(a: Arrays) -> nnx.Module:
    return nnx.Sequential(cbr(a), *(BasicBlock(a, stride) for stride in (1, 1, 1, 2, 1, 1, 2, 1, 1)), global_pool,
                          linear(a))  # fmt: skip


def mobile(a: Arrays) -> nnx.Module:
    layers, channels = [cbr(a)], 32
    for out_channels, stride in (64, 1), (128, 2), (128, 1), (256, 2), (256, 1):
        layers += [cbr(a, 3, stride, channels), cbr(a, 1)]
        channels = out_channels
    return nnx.Sequential(*layers, global_pool, linear(a))


NETWORKS = {f.__name__: f for f in (mlp, lenet5, cnn, dropnet, vgg, resnet20, mobile)}


def falling(rate: float) -> Callable:
    """`rate` for the steps that are compared, then as good as none (common.py)."""
    return lambda count: jnp.where(count < COMPARED, rate, STILL)


def training(network: str, arrays: Arrays, optimizer: str, images: np.ndarray, labels: np.ndarray) -> Callable:
    """A function that makes one step and returns the loss."""
    model = NETWORKS[network](arrays)
    model.train()
    if optimizer == "adam":
        update = optax.adam(falling(1e-3))
    else:
        update = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(falling(0.01), momentum=0.9))
    graph, state = nnx.split((model, nnx.Optimizer(model, update, wrt=nnx.Param)))
    leaves, tree = jax.tree.flatten(state)  # a list is what a compiled function takes soonest
    x, y = jnp.asarray(images.transpose(0, 2, 3, 1)), jnp.asarray(labels)

    def step(leaves, x, y):
        model, steps = nnx.merge(graph, jax.tree.unflatten(tree, leaves))

        def loss_of(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        loss, gradients = nnx.value_and_grad(loss_of)(model)
        steps.update(model, gradients)
        return jax.tree.leaves(nnx.state((model, steps))), loss

    compiled = jax.jit(step, donate_argnums=0)

    def run():
        nonlocal leaves
        leaves, loss = compiled(leaves, x, y)
        return [loss.block_until_ready()]

    return run


def inference(network: str, arrays: Arrays, images: np.ndarray) -> Callable:
    """A function that returns the scores."""
    model = NETWORKS[network](arrays)
    model.eval()
    graph, state = nnx.split(model)
    leaves, tree = jax.tree.flatten(state)
    x = jnp.asarray(images.transpose(0, 2, 3, 1))
    compiled = jax.jit(lambda leaves, x: nnx.merge(graph, jax.tree.unflatten(tree, leaves))(x))
    return lambda: [compiled(leaves, x).block_until_ready()]
