"""Embedding: `fastnn.functional.embedding` has the rules for its gradient, and the errors."""
from typing import Any

import numpy as np

import fastnn.functional as F
from fastnn.nn import init
from fastnn.nn.module import FunctionModule
from fastnn.nn.parameter import Parameter, empty
from fastnn.tensor import Tensor


class Embedding(FunctionModule, function=F.embedding, inputs=2):
    """A table of vectors that are looked up: integers (*) → (*, embedding_dim). The table, `weight` (num_embeddings,
    embedding_dim), is drawn from N(0, 1); its row `padding_idx`, if given, is 0 and stays so.

    >>> nn.Embedding(10, 3)(fastnn.tensor([[1, 2], [4, 9]])).shape
    (2, 2, 3)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *args: Any,
                 device: Any = None, dtype: Any = None, **settings: Any) -> None:
        if padding_idx is not None and -num_embeddings <= padding_idx < 0:
            padding_idx += num_embeddings
        super().__init__(padding_idx, *args, **settings)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = empty("Embedding", num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.forward(Tensor(np.empty(0, int)))  # which looks at the arguments
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zeros_(Tensor(self.weight.array[self.padding_idx]))

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, *args: Any, **settings: Any) -> "Embedding":
        """Of a given table, which is not trained if `freeze`; the other arguments are the constructor's."""
        made = cls(*embeddings.shape, *args, **settings)
        made.weight = Parameter(embeddings, not freeze)
        return made

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input, self.weight)

    def extra_repr(self) -> str:
        told = [f", {name}={getattr(self, name)}" for name, p in self.__signature__.parameters.items()
                if getattr(self, name) != p.default]
        return f"{self.num_embeddings}, {self.embedding_dim}" + "".join(told)
