"""Embedding."""
from typing import Any

import fastnn.functional as F
from fastnn.errors import ArgumentError, ShapeError
from fastnn.nn import init
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter, empty
from fastnn.tensor import Tensor


class Embedding(Module):
    """A table of `num_embeddings` vectors that are looked up: integers (*) → (*, embedding_dim), by `F.embedding`.

    The table, `weight`, is drawn from N(0, 1), the row `padding_idx` is 0 and stays as it is.

    >>> nn.Embedding(10, 3)(fastnn.tensor([[1, 2], [4, 9]])).shape
    (2, 2, 3)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
                 max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                 sparse: bool = False, _weight: Tensor | None = None, _freeze: bool = False, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(f"Embedding: padding_idx={padding_idx} must be within {num_embeddings} embeddings")
        if sparse:
            raise ArgumentError("Embedding: sparse gradients are not supported; leave out sparse=True")
        self.num_embeddings, self.embedding_dim, self.max_norm = num_embeddings, embedding_dim, max_norm
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.norm_type, self.scale_grad_by_freq, self.sparse = norm_type, scale_grad_by_freq, sparse
        shape = num_embeddings, embedding_dim
        if _weight is not None and _weight.shape != shape:
            raise ShapeError(f"Embedding: weight must have shape {shape}, but {_weight.shape} came")
        self.weight = empty("Embedding", *shape, device=device, dtype=dtype) if _weight is None else Parameter(_weight)
        self.weight.requires_grad_(not _freeze)
        if _weight is None:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zeros_(Tensor(self.weight.array[self.padding_idx]))

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, *args: Any, **settings: Any) -> "Embedding":
        """Of a given table, which is not trained if `freeze`; the other arguments are the constructor's."""
        return cls(*embeddings.shape, *args, _weight=embeddings, _freeze=freeze, **settings)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type,
                           self.scale_grad_by_freq)

    def extra_repr(self) -> str:
        text, plain = f"{self.num_embeddings}, {self.embedding_dim}", {"norm_type": 2.0, "scale_grad_by_freq": False}
        return text + "".join(f", {name}={getattr(self, name)}"
                              for name in ("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")
                              if getattr(self, name) != plain.get(name))
