"""A trained network with all that it needs to answer for raw data, and its file."""

from typing import Any

import numpy as np

from fastnn import models, nn
from fastnn.data import preprocess as preparation
from fastnn.data.transforms import Compose, Resize, ToFloat, Transform, View
from fastnn.errors import ShapeError
from fastnn.nn.parameter import evaluation
from fastnn.serialization import load, save
from fastnn.tensor import Tensor, as_tensor
from fastnn.train.task import Classification, Regression, Task

PLAIN = ("outputs", "classes", "features", "target", "augment")  # attributes that are saved as they are
SMALLEST = 28  # side in pixels of images that convolutional networks take; smaller ones are scaled to 28×28


def base_of(name: str, shape: tuple[int, ...]) -> tuple[Compose, tuple[int, ...]]:
    """What makes network `name`'s input of raw samples of `shape`, and its shape; ValueError if there is none."""
    if name not in models.__all__:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(models.__all__)}")
    if len(shape) != 3 and name != "mlp":
        raise ShapeError(f"{name} takes images (C, H, W), but a sample has the shape {shape}; take mlp")
    if name == "mlp" or min(shape[1:]) >= SMALLEST:
        return Compose([ToFloat(np.float32)]), shape
    return Compose([ToFloat(np.float32), Resize((SMALLEST, SMALLEST))]), (shape[0], SMALLEST, SMALLEST)


class Predictor:
    """Network `name` of `fastnn.models` for samples of `shape`, with its weights and what comes before and after it.

    `shape`: of one raw sample, (C, H, W) of an image, uint8 or float from 0 to 1, or (D,) of D numbers. `outputs`: the
    number of classes or of numbers to predict. `task`: classification by default. `classes`: their names; `features`:
    the names of the D numbers, `target`: of the predicted one. `preprocess`: a fitted one of `fastnn.data.preprocess`,
    or None. `augment`: the text of the augmentation in training, for the record and for averages at test time.

    A sample goes the way: float, scaled to 28×28 if it is too small for the network (`base`); augmented, in training;
    prepared; through the network. Calling it gives the probabilities (N, K) of the classes, or the numbers (N, T)."""

    def __init__(self, name: str, shape: tuple[int, ...], outputs: int, task: Task | None = None,
                 classes: list[str] | None = None, features: list[str] | None = None,
                 target: str | None = None, preprocess: Any = None, augment: str = "") -> None:
        if classes is not None and len(classes) != outputs:
            raise ValueError(f"Predictor: there are {outputs} outputs, but the names of {len(classes)} classes came")
        self.name, self.shape, self.outputs, self.task = name, tuple(shape), outputs, task or Classification()
        self.classes, self.features, self.target = classes, features, target
        self.preprocess, self.augment = preprocess, augment
        self.base, self.base_shape = base_of(name, self.shape)
        final = preprocess.output_shape(self.base_shape) if preprocess else self.base_shape
        if len(final) != 3 and name != "mlp":
            raise ShapeError(f"{name} takes images (C, H, W), but {preprocess} leaves {final}; take mlp, or ZCA")
        self.model: nn.Module = getattr(models, name)(final, outputs)

    def transform(self, augmentation: Transform | None = None) -> Compose:
        """What makes the network's input of batches of raw samples: base, the augmentation, preparation."""
        return Compose([part for part in (self.base, augmentation, self.preprocess) if part])

    def averaging(self, view: View) -> nn.Module:
        """The network as one that takes the output of `base` and combines its outputs for all views of the images."""
        return _Averaging(self.model, view, self.preprocess, self.task)

    def __call__(self, x: Any, view: View | None = None) -> Tensor:
        """Probabilities (N, K) or numbers (N, T) for raw samples (N, …), in evaluation mode, combined over `view`."""
        a = as_tensor(x).array
        if a.shape[1:] != self.shape:
            raise ShapeError(f"Predictor: samples must be {('N', *self.shape)}, got {a.shape}")
        with evaluation(self.model):
            y = self.model(self.transform()(a)) if view is None else self.averaging(view)(self.base(a))
            return self.task.answers(y)

    def save(self, path: Any) -> None:
        """Write everything to one safetensors file, wholly or not at all; see `fastnn.save`."""
        scale = [self.task.mean, self.task.std] if isinstance(self.task, Regression) else None
        prep = preparation.to_saved(self.preprocess) if self.preprocess else None
        save({"model": self.name, "shape": list(self.shape), "task": self.task.name, "scale": scale, "preprocess": prep,
              "state_dict": self.model.state_dict(), **{name: getattr(self, name) for name in PLAIN}}, path)

    @classmethod
    def load(cls, path: Any) -> "Predictor":
        """What `save` wrote. Executes nothing; raises OSError, or ValueError if the file is corrupt or another's."""
        saved = load(path)
        try:
            saved = saved if isinstance(saved, dict) else {}
            task = Classification() if saved["task"] == "classification" else Regression(*saved["scale"])
            prepare = saved["preprocess"] and preparation.from_saved(saved["preprocess"])
            predictor = cls(saved["model"], tuple(saved["shape"]), task=task, preprocess=prepare,
                            **{name: saved[name] for name in PLAIN})
            predictor.model.load_state_dict(saved["state_dict"])
        except (KeyError, TypeError, ValueError, AttributeError, MemoryError) as error:
            raise ValueError(f"Predictor.load: {path} was not written by Predictor.save: {error!r}") from error
        predictor.model.eval()
        return predictor


class _Averaging(nn.Module):
    def __init__(self, model: nn.Module, view: View, preprocess: Any, task: Task) -> None:
        super().__init__()
        self.model, self.view, self.preprocess, self.task = model, view, preprocess, task

    def forward(self, images: Tensor) -> Tensor:
        views = self.view(images).array  # (V, N, C, h, w)
        return self.task.combine([self.model(self.preprocess(v) if self.preprocess else Tensor(v)) for v in views])
