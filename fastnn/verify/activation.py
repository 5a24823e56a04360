"""Cases of the activation kernels."""
import numpy as np

from fastnn.verify.arrays import out, special

SHAPES = [(), (0, 3), (1,), (7,), (16,), (33,), (5, 3), (2, 1, 5, 7), (3, 5, 4, 3), (2, 130, 3, 3), (40_001,)]


def _forward(*params, wide=True):
    def cases(rng, dtype):
        for i, shape in enumerate(SHAPES):
            yield (special(rng, shape, dtype), *params[i % 3 : i % 3 + 1], out(shape, dtype)), 1
        if wide:  # every magnitude at which the exponential does something else: tiny, steps of its reduction, overflow
            finfo = np.finfo(dtype)
            x = np.concatenate([np.geomspace(finfo.tiny / 8, 1, 2000), np.linspace(1, 2 * np.log(finfo.max), 5000)])
            x = np.concatenate([x, -x]).astype(dtype)
            yield (x, *params[:1], out(x.shape, dtype)), 1

    return cases


def _backward(*params, low=-np.inf, high=np.inf):
    """From outputs between `low` (minus the parameter, if there is one) and `high`, both included."""
    def cases(rng, dtype):
        for i, shape in enumerate(SHAPES):
            param = params[i % 3 : i % 3 + 1]
            y = np.clip(special(rng, shape, dtype), low - np.sum(param), high, out=out(shape, dtype))
            yield (special(rng, shape, dtype), y, *param, out(shape, dtype)), 1

    return cases


relu, relu_backward = _forward(wide=False), _backward()
leaky_relu, leaky_relu_backward = _forward(0.01, 0.0, -0.5, wide=False), _backward(0.01, 0.0, -0.5)
sigmoid, sigmoid_backward = _forward(), _backward(low=0, high=1)
tanh, tanh_backward = _forward(), _backward(low=-1, high=1)
# these alphas are exact in both dtypes, so that y + alpha vanishes in both
elu, elu_backward = _forward(1.0, 0.25, 0.0), _backward(1.0, 0.25, 0.0, low=0)
