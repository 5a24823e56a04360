"""Diagnosis of a network and its training by the checks that the lectures list: a table of limits, one of checks."""
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.linalg import norm

from fastnn import backend, nn, optim
from fastnn.autograd import enable_grad, is_grad_enabled
from fastnn.data import DataLoader
from fastnn.functional import binary_cross_entropy_with_logits
from fastnn.nn.parameter import write
from fastnn.tensor import Array, RemovableHandle, Tensor
from fastnn.train.plots import figure_of
from fastnn.train.task import as_task
from fastnn.train.trainer import _parts, as_batches

INIT, SCALE = "initialize by Xavier (tanh) or He (ReLU), or use batch norm", "scale them to mean 0 and deviation 1"
GLOROT, SMITH, REMOVE = "Glorot & Bengio, AISTATS 2010", "Smith, WACV 2017", "remove that at the end of the network"
NOTES1, NOTES2, NOTES3 = (f"CS231n notes {i}" for i in (1, 2, 3))
SANE, NO_SCALE = f"{NOTES3}, sanity checks", "a constant answer's loss is not positive, which tells nothing"


class Limit(NamedTuple):
    """From where on a figure is a warning or a failure: upwards or, if `failure` is the less, downwards; what it is
    called then, what to do, and where the limit comes from."""
    warning: float
    failure: float
    problem: str
    advice: str
    source: str

    def grade(self, value: float) -> int:
        """0, or 1 for a warning, 2 for a failure, as NaN is."""
        sign = 1 if self.failure > self.warning else -1
        return 2 if not sign * value < sign * self.failure else int(sign * value >= sign * self.warning)


LIMITS = {
    "broken": Limit(0.5, 1, "not finite", "mend the data; lower the rate; clip; look for log(0), x/0, √0", "IEEE 754"),
    "centre": Limit(3, 30, "inputs far from zero", SCALE, f"{NOTES2}: 0; grey values from 0 to 1 have 0.4 to 2"),
    "size": Limit(5, 30, "unscaled inputs", SCALE, f"{NOTES2}; LeCun et al., Efficient BackProp, 1998: about 1"),
    "small": Limit(0.03, 1e-3, "tiny inputs", SCALE, f"{NOTES2}; LeCun et al. 1998: about 1"),
    "initial": Limit(3, 10, "outputs too large", "scale inputs, targets, last weights", f"{SANE}: 1; He's weights: 2"),
    "penalty": Limit(1, 100, "penalty outweighs the loss", "lower weight_decay", SANE),
    "no penalty": Limit(1e-20, 0, "all weights are zero", INIT, SANE),
    "twice": Limit(0.5, 1, "softmax applied twice", REMOVE, "definition of the loss"),
    "logistic": Limit(0.5, 1, "sigmoid applied twice", REMOVE, "definition of the loss"),
    "same": Limit(0.5, 1, "all units of a layer learn the same", INIT, f"{NOTES2}, pitfall: all zero initialization"),
    "collapse": Limit(1e-3, 1e-5, "activations collapse", INIT, "CS231n lecture 6: ten layers of 0.01·randn have 1e-6"),
    "explode": Limit(1e3, 1e5, "activations explode", INIT, "He et al., ICCV 2015: 1"),
    "saturated": Limit(0.5, 0.75, "saturated units", INIT, f"{GLOROT}, section 3; {NOTES1}"),
    "dead": Limit(0.5, 0.9, "dead ReLUs", "lower the rate, use He's weights, leaky ReLU, ELU", f"{NOTES1}: up to 40 %"),
    "vanish": Limit(1e-3, 1e-5, "vanishing gradients", INIT, f"{GLOROT}, section 4: 4e-3 in ten layers, as usual"),
    "burst": Limit(1e3, 1e5, "exploding gradients", f"{INIT}; clip", "Pascanu et al., ICML 2013"),
    "slow": Limit(1e-6, 1e-7, "weights hardly move", "raise the rate", f"{NOTES3}, ratio of weights:updates: 1e-3"),
    "fast": Limit(0.3, 3, "weights move too far", "lower the rate", f"{NOTES3}: 1e-3; Adam's first step is larger"),
    "low": Limit(1 / 30, 1 / 100, "rate too small", "raise it", f"{SMITH}: 1, where the loss begins to fall"),
    "high": Limit(1, 10, "rate too large", "lower it", f"{SMITH}: below 1, where the loss shoots up"),
    "no fall": Limit(0.5, 1, "loss falls at no rate", "see the other findings", SMITH),
    "tiny": Limit(0.999, 0.9, "20 samples cannot be fitted", "see the other findings", f"{SANE}; Karpathy, 2019"),
    "chance": Limit(3, 2.9, "what is learned does not hold for the validation data", "see whether labels are shuffled",
                    "three standard errors above a constant answer"),
    "gap": Limit(0.25, 0.5, "overfitting", "regularize, augment, get more data", f"{NOTES3}, train/val accuracy"),
    "rise": Limit(0.25, 1, "loss rises", "lower the rate", f"{NOTES3}, in parts of a constant answer's loss"),
    "flat": Limit(0.5, 1, "flat loss with rising accuracy: rate too small", "raise the rate", "CS231n lecture 6"),
    "stalled": Limit(0.5, 1, "stalled loss", "change the rate; the labels may tell nothing", f"{NOTES3}, loss curve"),
    "sum": Limit(0.5, 1, "missing zero_grad", "call optimizer.zero_grad() in each step", "definition of the step")}
RECTIFIERS = {"Relu", "Relu6", "Threshold"}  # nodes of the tape, of functions and modules alike
FLAT = {"Tanh": (-0.99, 0.99), "Sigmoid": (0.01, 0.99), "Hardtanh": (-1, 1), "Hardsigmoid": (0, 1)}  # slope ≤ 0.02
NONLINEAR = RECTIFIERS | {*FLAT, "LeakyRelu", "Prelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Mish", "Softplus",
                          "Softsign", "Hardswish"}
Result = tuple[str, Mapping[str, Any], Mapping[str, Array]]  # in words; figures by their limits; a finding's `values`
Batch = tuple[tuple[Tensor, ...], Tensor]  # inputs, targets


class Skip(Exception):
    """A check that cannot be made, and why."""


def need(held: Any, otherwise: str) -> None:
    if not held:
        raise Skip(otherwise)


class Finding(NamedTuple):
    """The check's name; `verdict`: "ok", "warning", "failure" or "skipped"; what was expected and found; if there is a
    `problem`, what to do and where the limit comes from; `values`: arrays behind it, the first labels the others."""
    name: str
    verdict: str
    expected: str
    found: str
    problem: str = ""
    advice: str = ""
    source: str = ""
    values: Mapping[str, Array] = {}

    def __str__(self) -> str:
        text = f"{self.verdict:8} {self.name}: {self.problem}{': ' if self.problem else ''}{self.found}"
        more = f"\n{'':9}{self.advice}; expected: {self.expected} ({self.source})"
        return text + more if self.problem else text


class Diagnosis(list[Finding]):
    """Findings, by number or by name; printed, a list of them."""

    def __getitem__(self, key: Any) -> Any:
        return {f.name: f for f in self}[key] if isinstance(key, str) else super().__getitem__(key)

    failures = property(lambda self: [f for f in self if f.verdict == "failure"])
    warnings = property(lambda self: [f for f in self if f.verdict == "warning"])
    ok = property(lambda self: not (self.failures or self.warnings))

    def __str__(self) -> str:
        return "\n".join([*map(str, self), f"{len(self.failures)} failures, {len(self.warnings)} warnings"])

    def figure(self) -> Any:
        """A matplotlib figure with a panel for each finding that has arrays."""
        shown = [f for f in self if f.values]
        figure, panels = figure_of(len(shown) or 1, 3, 5, 4)
        for panel in panels[len(shown):]:
            panel.remove()
        for axes, f in zip(panels, shown, strict=False):
            (label, x), *series = f.values.items()
            at = np.arange(len(x)) if (named := x.dtype.kind == "U") else x
            for name, y in series:
                axes.plot(at, y, "o-" if named else "-", markersize=3, label=name)
            y = np.concatenate([y[np.isfinite(y)] for _, y in series])
            axes.set(title=f"{f.name}: {f.problem or f.verdict}", xlabel=label, xscale="log" if label == "rate" else
                     "linear", yscale="log" if 0 < 100 * y.min(initial=1) < y.max(initial=0) else "linear")
            if named:
                axes.set_xticks(at, x, rotation=90, fontsize=6)
            axes.legend(fontsize=7)
        return figure


# What flows through a network --------------------------------------------------------------------------------------

def finite(tensor: Tensor) -> bool:
    return bool(np.isfinite(tensor.array).all())


class Layer:
    """The output of an activation function of some `kind`: spread, the standard deviation of a unit; shares of what is
    saturated or dead; the norm of some samples' gradient; which units were `alive` now or `before`."""

    @np.errstate(all="ignore")
    def __init__(self, kind: str, output: Tensor, before: Any = None) -> None:
        rows = np.moveaxis(a, 1, -1).reshape(-1, a.shape[1]) if (a := output.array).ndim > 1 else a[:, None]
        few = rows[np.random.default_rng(0).integers(len(rows), size=1024)]
        low, high = FLAT.get(kind, (-math.inf, math.inf))
        self.kind, self.gradient_norm, self.spread = kind, math.nan, math.sqrt(few.var(0, dtype=np.float64).mean())
        self.saturated_share = float(((few <= low) | (few >= high)).mean())
        many = math.gcd(len(rows), 64)  # rows in one are ten times as fast
        self.alive = rows.reshape(-1, many * rows.shape[1]).max(0).reshape(many, -1).max(0) > 0
        self.alive |= before.alive if before else False
        output.register_hook(self._on_gradient)

    dead_share = property(lambda self: 1 - self.alive.mean())

    def _on_gradient(self, grad: Tensor) -> None:
        self.gradient_norm = float(norm(grad.array[:16]))


class Probe(ExitStack):
    """Hooks on all modules until `close()`. `layers`: by name, but for the network's output, as data come to them in
    passes that the tape records; `broken`: the first place where a number was not finite."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.layers, self.broken = dict[str, Layer](), ""
        self.seen: dict[int, str] = {}  # places, by node
        for name, module in model.named_modules():
            self.enter_context(module.register_forward_hook(partial(self._note, name)))

    def _note(self, name: str, module: nn.Module, args: tuple, output: Any) -> None:
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        for role, t in [("input", t) for t in args] + [("output", t) for t in outputs] if is_grad_enabled() else ():
            if not isinstance(t, Tensor) or not t.numel() or (node := t.grad_fn) is None:
                continue
            if node.order not in self.seen:
                place = self.seen[node.order] = f"{role} of {name} ({type(module).__name__})"
                self.broken = self.broken or ("" if finite(t) else place)
                if (kind := node.name().removesuffix("Backward")) in NONLINEAR:
                    self.layers[place] = Layer(kind, t, self.layers.get(place))
            if not name and role == "output":
                self.layers.pop(self.seen[node.order], None)


def locate(model: nn.Module, probe: Probe | None, x: tuple = (), y: Any = None, loss: Any = None) -> str:
    """Where the first number is that is not finite, or "": in data and state; in a pass forward and backward, if there
    is a `loss`, or what `probe` saw; in gradients."""
    for place, t in {**({"inputs": x[0], "targets": y} if loss else {}), **model.state_dict(keep_vars=True)}.items():
        if not finite(t):
            return f"{place} at {np.argwhere(~np.isfinite(t.array))[0].tolist()}"
    value = loss(model(*x), y) if loss else Tensor(np.zeros(()))
    if (probe and probe.broken) or not finite(value):
        return (probe and probe.broken) or "loss"
    if value.requires_grad:
        value.backward()
    broken = [n for n, p in model.named_parameters() if p.grad is not None and not finite(p.grad)]
    return f"gradient of {broken[-1]}" if broken else ""  # the last is the first to be computed


def updates(model: nn.Module) -> Callable[[], dict[str, Any]]:
    """What tells, later, ‖change‖ / ‖weight‖ of all matrices and kernels that were written and are not zero now."""
    before = {n: (p, p._version[0], p.array.copy()) for n, p in model.named_parameters()
              if p.requires_grad and p.ndim > 1 and p.array.any()}
    return lambda: {n: norm(p.array - a) / norm(a) for n, (p, version, a) in before.items() if p._version[0] != version}


def on_stale_gradient(model: nn.Module, report: Callable[[], Any]) -> RemovableHandle:
    """Calls `report` when a gradient is added to one that is older than the parameters: nobody has dropped that."""
    p = min(reversed([p for p in model.parameters() if p.requires_grad]), key=lambda p: p.numel())
    version: int | None = None

    def note(grad: Tensor) -> None:
        nonlocal version
        before, version = version, p._version[0]
        if before not in (None, version) and p.grad is not None and p.grad.array.any():
            report()

    return p.register_hook(note)


def constants(outputs: Tensor) -> tuple[str, float]:
    """What a softmax, log_softmax or sigmoid has made, and what it would make of zeros; else "" and 0."""
    a, node = outputs.array, outputs.grad_fn
    if a.ndim > 1 and a.shape[1] > 1:
        for kind, p, answer in ("softmax", a, 1 / a.shape[1]), ("log_softmax", np.exp(a), -math.log(a.shape[1])):
            if p.min() >= 0 and np.allclose(p.sum(1), 1, atol=1e-4):
                return kind, answer
    return ("sigmoid", 0.5) if node is not None and node.name() == "SigmoidBackward" else ("", 0.0)


def constant_loss(loss: Callable, outputs: Tensor, y: Tensor) -> float:
    """That of outputs which are the same for all samples and classes, or which are the targets' mean, if it is less."""
    kind, answer = constants(outputs)
    answers = [answer, *[y.array.mean()] * (not kind and y.is_floating_point() and y.numel() == outputs.numel())]
    return min(loss(Tensor(np.full_like(outputs.array, a)), y).item() for a in answers)


# The checks --------------------------------------------------------------------------------------------------------

class Case:
    """What is diagnosed, and what passes over the first batches showed of `net`, a copy of the model in training mode
    but without dropout."""

    def __init__(self, model: nn.Module, data: Any, validation: Any, loss: Any, optimizer: Any, step: Any, history: Any,
                 samples: int) -> None:
        self.model, self.step, self.history = model, step, history or {}
        self.batches, self.validation = first_batches(data, samples), first_batches(validation, samples)
        if not self.batches:
            raise ValueError("diagnose: there is no batch in the data")
        self.x, self.y = taken(self.batches, slice(64))
        self.labels, self.loss = self.y.dtype.kind in "iub", as_task(loss, self.y.array).loss
        net, self.optimizer = copy.deepcopy((model, optimizer))
        self.net = net.train()
        for module in net.modules():
            module.training = not isinstance(module, (nn.Dropout, nn.GaussianNoise, nn.DropConnect))
        with Probe(net) as probe:
            for i, (x, y) in enumerate(self.batches, 1):
                net.zero_grad()
                if trouble := locate(net, probe, x, y, self.loss):
                    self.trouble = f"{trouble}, batch {i}"
                    return
        self.trouble, self.layers = "", probe.layers
        self.gradients = {n: p.grad.array for n, p in net.named_parameters() if p.grad is not None}
        self.outputs = net(*self.x)
        self.value, self.scale = self.loss(self.outputs, self.y).item(), constant_loss(self.loss, self.outputs, self.y)

    def trial(self, rate: float | None = None) -> tuple[nn.Module, Any, Callable[..., tuple[float, float]]]:
        """A copy; its optimizer, with a rate Adam, by default AdamW; what takes a step and tells the score and loss: of
        labels the share that was found, else the part of a constant answer's loss that was saved."""
        net, optimizer = copy.deepcopy((self.net, self.optimizer))
        chosen = [p for p in net.parameters() if p.requires_grad]
        need(chosen and not isinstance(optimizer, optim.LBFGS),
             "no parameter is trained, or by L-BFGS, which chooses its own steps")
        optimizer = optim.Adam(chosen, rate) if rate else optimizer or optim.AdamW(chosen, 1e-3)

        def step(x: tuple, y: Tensor, learn: bool = True) -> tuple[float, float]:
            outputs = net(*x)
            value = self.loss(outputs, y)
            if learn:
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            if self.labels and outputs.ndim > y.ndim:
                return float((outputs.array.argmax(1) == y.array).mean()), value.item()
            need(self.scale > 0, NO_SCALE)
            return 1 - value.item() / self.scale, value.item()

        return net, optimizer, step

    @property
    def ratios(self) -> dict[str, float]:
        net, _, step = self.trial()
        ratios = updates(net)
        step(self.x, self.y)
        return ratios()

    @property
    def stale(self) -> bool:
        """Whether the gradients of a second step are added to those of the first."""
        need(self.step, "there is no `step`")
        need(self.optimizer and self.gradients, "`step` needs an optimizer, to restore it, and trained parameters")
        found: list[bool] = []
        with on_stale_gradient(self.model, lambda: found.append(True)):
            for x, y in self.batches[0], self.batches[-1]:
                self.step(*x, y)
        return bool(found)


def first_batches(data: Any, samples: int) -> list[Batch]:
    """Batches of `samples` samples together, or a little more; of datasets and arrays, maybe sorted, at random."""
    found: list[Batch] = []
    for batch in () if data is None else as_batches(data, 64, True, 0):
        found.append(_parts(batch))
        if sum(len(y) for _, y in found) >= samples:
            break
    return found


def taken(batches: list[Batch], numbers: Any) -> Batch:
    """Those of the samples of all batches that the index `numbers` chooses."""
    *inputs, targets = [Tensor(np.concatenate([t.array for t in tensors])[numbers])
                        for tensors in zip(*[(*x, y) for x, y in batches], strict=True)]
    return tuple(inputs), targets


def _inputs(c: Case) -> Result:
    a = np.concatenate([x[0].array.reshape(len(x[0]), -1) for x, _ in c.batches])
    need(a.dtype.kind == "f", f"the inputs are {a.dtype}")
    mean, std, sizes = a.mean(0, np.float64), a.std(dtype=np.float64), np.sqrt(np.square(a, dtype=np.float64).mean(0))
    return (f"mean {mean.mean():.3g}, deviation {std:.3g}, root mean square of a column at most {sizes.max():.3g}",
            {"centre": abs(mean.mean()) / max(std, 1e-9), "size": sizes.max(), "small": std},
            {"column": np.arange(len(mean)), "mean": mean, "root mean square": sizes})


def _initial_loss(c: Case) -> Result:
    need(c.scale > 0, NO_SCALE)
    need(c.value >= 0.7 * c.scale,
         f"{c.value:.4g} is less than a constant answer's {c.scale:.4g}: the network has been trained")
    return f"{c.value:.4g}, where a constant answer has {c.scale:.4g}", {"initial": c.value / c.scale}, {}


def _regularization(c: Case) -> Result:
    groups = c.optimizer.param_groups if c.optimizer else []
    decays = [(g.get("weight_decay") or 0, p) for g in groups for p in g["params"]]
    own = any(d for d, _ in decays)
    penalty = sum(d / 2 * norm(p.array) ** 2 for d, p in (decays if own else [(1e-2, p) for p in c.net.parameters()]))
    coupled = own and not groups[0].get("decoupled_weight_decay")
    return (f"the loss of {c.value:.4g} rises by {penalty:.3g} with {'its' if own else 'a trial'} weight decay",
            {"no penalty": penalty, "penalty": penalty / max(abs(c.value), abs(c.scale), 1e-30) if coupled else 0}, {})


def _outputs(c: Case) -> Result:
    out, y, bce = c.outputs.array, c.y, binary_cross_entropy_with_logits

    def same(other: Callable[[Tensor], Tensor], *at: Array) -> bool:
        """Whether the loss of all these outputs is this other's."""
        return all(math.isclose(c.loss(Tensor(a), y).item(), other(Tensor(a)).item(), rel_tol=1e-4) for a in at)

    kind = constants(c.outputs)[0]
    twice = kind == "softmax" and same(lambda a: c.loss(a + 3, y), out, 2 * out)  # its own softmax does not see a shift
    logistic = kind == "sigmoid" and out.shape == y.shape and same(lambda a: bce(a, y.to(a.dtype)), out, out / 2)
    found = f"the outputs of {f'a {kind}' if kind else 'the network'} are from {out.min():.3g} to {out.max():.3g}"
    return found, {"twice": twice, "logistic": logistic}, {}


def _symmetry(c: Case) -> Result:
    matrices = [(n, p) for n, p in c.net.named_parameters() if p.ndim > 1 and len(p) > 1 and n in c.gradients]
    same = [n for n, p in matrices[:-1]  # to the outputs, targets tell the difference
            if all(np.allclose(a, a[:1], 1e-3, 1e-12) for a in (p.array, c.gradients[n]))]
    found = f"the units are equal in {', '.join(same)}" if same else "the units of each layer differ"
    return found, {"same": bool(same)}, {}


def _layers(kinds: Iterable[str], what: str, figures: Callable[[Array], dict[str, float]], c: Any) -> Result:
    """An attribute of each activation of these kinds, and the `figures` to be judged of all."""
    found = {n: v for n, layer in c.layers.items() if layer.kind in kinds and (v := getattr(layer, what)) == v}
    need(found, "no module gives or takes the output of such an activation function")
    names, a = np.array([*found]), np.array([*found.values()])
    what = what.replace("_", " ")
    return (f"the {what} is {a[0]:.2g} in the {names[0]}, {a[-1]:.2g} in the {names[-1]}, at most {a.max():.2g}",
            figures(a), {"layer": names, what: a})


def _updates(c: Any) -> Result:
    ratios = c.ratios
    need(ratios, "there are no weights but zero")
    middle = float(np.median([*ratios.values()]))
    return (f"a step changes weights by {middle:.1e} of their norm", {"slow": middle, "fast": middle},
            {"layer": np.array([*ratios]), "ratio": np.array([*ratios.values()])})


def _rate(c: Case) -> Result:
    _, optimizer, step = c.trial()
    optimizer.state.clear()
    own, curve = [group["lr"] for group in optimizer.param_groups], list[float]()
    first, last = min(1e-5, own[0] or 1), max(10, 10 * own[0])
    rates = np.geomspace(first, last, int(8 * math.log10(last / first)))
    for rate in rates:
        for group, lr in zip(optimizer.param_groups, own, strict=True):
            group["lr"] = rate * (lr / own[0] if own[0] else 1)
        curve.append(step(c.x, c.y)[1])
        if not curve[-1] < curve[0] + max(c.scale, abs(curve[0])):
            break
    loss, rates = np.array(curve), rates[:len(curve)]
    values, fell = {"rate": rates, "loss": loss}, np.flatnonzero(loss < loss[0] - 0.02 * abs(loss[0]))
    if not len(fell):
        return f"the loss stays above {loss.min():.4g}", {"no fall": True}, values
    low, high = rates[fell[0]], rates[max(fell[0], np.nanargmin(loss))]
    return (f"the rate is {own[0]:.3g}; worth trying: {low:.1g} to {high:.1g}",
            {"low": own[0] / low, "high": own[0] / rates[-1]}, values)


def _tiny_sample(c: Case) -> Result:
    targets = np.concatenate([y.array.reshape(len(y), -1) for _, y in c.batches])
    order = np.argsort(targets[:, 0], kind="stable")  # so that each class has its share
    x, y = taken(c.batches, order[np.unique(np.linspace(0, len(order) - 1, 20).astype(int))])
    n, m = sum(p.numel() for p in c.net.parameters() if p.requires_grad), c.outputs[:len(y)].numel()
    need(n >= m, f"{n} parameters cannot fit {m} numbers")
    enough, curve = 1.0 if c.labels else 0.95, list[float]()
    for rate in 1e-3, 1e-2, 1e-4:
        step = c.trial(rate)[2]
        for _ in range(100):
            if max(curve, default=-1) < enough:
                curve.append(float(np.nan_to_num(step(x, y)[0], nan=-9)))
    best = f"{max(curve):.0%}"
    return (f"{best} of {len(y)} samples are fitted" if c.labels else f"the loss of {len(y)} samples falls by {best}",
            {"tiny": max(curve) / enough}, {"step": np.arange(len(curve)), "score": np.array(curve)})


def recorded(c: Any, name: str) -> Array:
    return np.asarray(c.history[name], float) if name in c.history else np.empty(0)


def _generalization(c: Any) -> Result:
    """Of a history or, without one, of a short training of a copy."""
    kind = "accuracy" if "accuracy" in c.history and "val_accuracy" in c.history else "loss"
    a, b = recorded(c, kind), recorded(c, f"val_{kind}")
    if len(b) >= 5:
        figures = {"gap": (a - b if kind == "accuracy" else (1 - b.min() / b) * (b > 2 * a))[-3:].min()}
        found = f"{kind} {a[-1]:.4g} in training, {b[-1]:.4g} in validation"
    else:
        need(c.validation, "there is neither validation data nor a history of five epochs with it")
        step, (x, y), curve = c.trial(1e-3)[2], taken(c.validation, slice(1024)), [(0.0, -math.inf)]
        while len(curve) < 60 // len(c.batches) + 2 and curve[-1][0] < 0.98:
            score = [np.mean([step(*batch)[0] for batch in c.batches]) for _ in range(4)][-1]
            curve.append((float(score), step(x, y, False)[0]))  # in training mode: batch norm's averages lag behind
        a, b = np.array(curve[1:]).T
        chance = np.unique(y.array, return_counts=True)[1].max() / y.numel() if c.labels else 0.0
        error = math.sqrt(max(chance * (1 - chance), 0.01) / len(y))
        need(a[-1] >= chance + 6 * error, f"a short training reaches {a[-1]:.2g} only")
        figures = {"chance": (b.max() - chance) / error}
        found = f"{a[-1]:.2g} after a short training, {b.max():.2g} in validation, {chance:.2g} by a constant answer"
    return found, figures, {"epoch": np.arange(1, len(a) + 1), "training": a, "validation": b}


def _loss_curve(c: Any) -> Result:
    a, right = recorded(c, "loss"), recorded(c, "accuracy")
    need(len(a) >= 5, "there are no losses of five epochs")
    need(c.scale > 0, NO_SCALE)
    flat = a.min() > 0.9 * c.scale and np.ptp(a) < 0.01 * c.scale
    return (f"the loss goes from {a[0]:.4g} to {a[-1]:.4g}", {
        "flat": flat and right[-1:].sum() > right[:1].sum() + 0.05, "stalled": flat,
        "rise": (a[-1] - a.min()) / c.scale}, {"epoch": np.arange(1, len(a) + 1), "loss": a})


CHECKS: dict[str, tuple[str, Callable[[Any], Result]]] = {
    "finite numbers": ("data, parameters, activations, gradients are finite", lambda c: (
        c.trouble or "all inputs, parameters, activations and gradients are", {"broken": bool(c.trouble)}, {})),
    "inputs": ("mean 0, standard deviation 1", _inputs),
    "initial loss": ("that of a constant answer: log(classes), the targets' variance", _initial_loss),
    "regularization": ("the loss rises a little when it is turned on", _regularization),
    "outputs": ("scores, if the loss takes scores", _outputs),
    "symmetry": ("the units of a layer differ in weights or gradients", _symmetry),
    "activations": ("about the same spread in all layers", partial(_layers, NONLINEAR, "spread", lambda a: {
        "collapse": (a / np.maximum.accumulate(a + 1e-30)).min(), "explode": a.max() / (a[0] + 1e-30)})),
    "saturation": ("few units are where tanh and sigmoid are flat",
                   partial(_layers, FLAT, "saturated_share", lambda a: {"saturated": a.max()})),
    "dead units": ("each ReLU is active for some sample",
                   partial(_layers, RECTIFIERS, "dead_share", lambda a: {"dead": a.max()})),
    "gradients": ("about the same norm in all layers", partial(_layers, NONLINEAR, "gradient_norm", lambda a: {
        "vanish": a[0] / a[-1] if a[-1] > 0 else 1, "burst": a.max() / a[-1] if a[-1] > 0 else 1})),
    "updates": ("a step changes weights by about 1e-3 of their norm", _updates),
    "learning rate": ("between where the loss begins to fall and where it shoots up", _rate),
    "tiny sample": ("20 samples can be fitted wholly", _tiny_sample),
    "generalization": ("validation follows training", _generalization),
    "loss curve": ("it falls", _loss_curve),
    "zero_grad": ("each step begins without gradients", lambda c: (
        "gradients add up over steps" if (stale := c.stale) else "the gradients are of one step", {"sum": stale}, {}))}


@np.errstate(all="ignore")
def judge(name: str, case: Any) -> Finding:
    """What the check of this name finds."""
    expected, check = CHECKS[name]
    try:
        need(name == "finite numbers" or not vars(case).get("trouble"), "not all numbers are finite")
        found, figures, values = check(case)
    except Skip as reason:
        return Finding(name, "skipped", expected, str(reason))
    grades = {key: LIMITS[key].grade(value) for key, value in figures.items()}
    worst = max(grades, key=grades.__getitem__)
    return Finding(name, ("ok", "warning", "failure")[grades[worst]], expected, found,
                   *(LIMITS[worst][2:] if grades[worst] else ("", "", "")), values)


@contextmanager
def untouched(model: nn.Module, optimizer: Any = None, *data: Any) -> Iterator[None]:
    """Afterwards model, optimizer, loaders, and random streams are as before. Inside, the model has no hooks."""
    owners = [*model.modules(), *(o for o in (optimizer, *data) if isinstance(o, (optim.Optimizer, DataLoader)))]
    streams = [(g, g.bit_generator.state) for g in (backend.generator, *(vars(o).get("generator") for o in owners))
               if isinstance(g, np.random.Generator)]
    states = [optimizer.state, *optimizer.state.values(), *optimizer.param_groups] if optimizer else []
    dicts = [(d, dict(d)) for d in (*map(vars, owners), *states)]
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters()), *(
        t for d in states for t in d.values())]
    arrays = [(t, t.grad, t.array.copy()) for t in tensors if isinstance(t, Tensor)]
    for module in model.modules():
        module._forward_hooks, module._backward_hooks = [], []
    try:
        yield
    finally:
        for held, before in dicts:
            held.clear()
            held.update(before)
        for t, grad, a in arrays:
            t.grad = grad
            if t.array.tobytes() != a.tobytes():
                write(t, a)
        for generator, state in streams:
            generator.bit_generator.state = state


def diagnose(model: nn.Module, data: Any, validation: Any = None, loss: Any = None, optimizer: Any = None,
             step: Callable | None = None, checks: Sequence[str] | None = None, history: Any = None,
             samples: int = 256) -> Diagnosis:
    """Checks `model`, best before it is trained, on the first `samples` samples: each of CHECKS, or those named.

    `data`, `validation`, `loss`, `optimizer`: as in `Trainer.fit`. `step`: your own train step, called as step(x, y),
    to see whether it drops old gradients; needs `optimizer`. `history`: of a fit. Nothing that is given is changed, but
    for what `step` changes beside model and optimizer. The first problem is the likeliest cause of others.

    >>> x = fastnn.randn(100, 5)
    >>> model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> diagnose(model, (100 * x, (x[:, 0] > 0).long()))["inputs"].problem
    'unscaled inputs'"""
    if isinstance(checks, str) or not {*(checks or ())} <= CHECKS.keys() or samples < 1:
        raise ValueError(f"diagnose: checks must be names out of {', '.join(CHECKS)}, samples positive, but {checks!r} "
                         f"and {samples} came")
    with untouched(model, optimizer, data, validation), enable_grad(), np.errstate(all="ignore"):
        case = Case(model, data, validation, loss, optimizer, step, history, samples)
        return Diagnosis(judge(name, case) for name in CHECKS if checks is None or name in checks)
