"""Losses and distances as modules: functions of `fastnn.functional` with the documentation of these."""
from collections.abc import Callable

import fastnn.functional as F
from fastnn.nn.module import FunctionModule

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CosineEmbeddingLoss", "CosineSimilarity", "CrossEntropyLoss", "GaussianNLLLoss",
    "HingeEmbeddingLoss", "HingeLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "MarginRankingLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "PairwiseDistance", "PoissonNLLLoss", "SmoothL1Loss",
    "SoftMarginLoss", "TripletMarginLoss"]  # fmt: skip


def _module(name: str, function: Callable, inputs: int = 2) -> type[FunctionModule]:
    class Loss(FunctionModule, function=function, inputs=inputs, shows=()):
        __qualname__ = name

    Loss.__name__ = name
    return Loss


NLLLoss = _module("NLLLoss", F.nll_loss)
CrossEntropyLoss = _module("CrossEntropyLoss", F.cross_entropy)
MSELoss = _module("MSELoss", F.mse_loss)
L1Loss = _module("L1Loss", F.l1_loss)
SmoothL1Loss = _module("SmoothL1Loss", F.smooth_l1_loss)
HuberLoss = _module("HuberLoss", F.huber_loss)
BCELoss = _module("BCELoss", F.binary_cross_entropy)
BCEWithLogitsLoss = _module("BCEWithLogitsLoss", F.binary_cross_entropy_with_logits)
HingeLoss = _module("HingeLoss", F.hinge_loss)
SoftMarginLoss = _module("SoftMarginLoss", F.soft_margin_loss)
MultiMarginLoss = _module("MultiMarginLoss", F.multi_margin_loss)
MultiLabelSoftMarginLoss = _module("MultiLabelSoftMarginLoss", F.multilabel_soft_margin_loss)
MarginRankingLoss = _module("MarginRankingLoss", F.margin_ranking_loss, inputs=3)
TripletMarginLoss = _module("TripletMarginLoss", F.triplet_margin_loss, inputs=3)
CosineEmbeddingLoss = _module("CosineEmbeddingLoss", F.cosine_embedding_loss, inputs=3)
HingeEmbeddingLoss = _module("HingeEmbeddingLoss", F.hinge_embedding_loss)
KLDivLoss = _module("KLDivLoss", F.kl_div)
PoissonNLLLoss = _module("PoissonNLLLoss", F.poisson_nll_loss)
GaussianNLLLoss = _module("GaussianNLLLoss", F.gaussian_nll_loss, inputs=3)
CosineSimilarity = _module("CosineSimilarity", F.cosine_similarity)
PairwiseDistance = _module("PairwiseDistance", F.pairwise_distance)
