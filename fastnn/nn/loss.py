"""Losses and distances as modules; `fastnn.functional` has their formulae and errors. Weights are buffers."""
import fastnn.functional as F
from fastnn.nn.module import FunctionModule

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CosineEmbeddingLoss", "CosineSimilarity", "CrossEntropyLoss", "GaussianNLLLoss",
    "HingeEmbeddingLoss", "HingeLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "MarginRankingLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "PairwiseDistance", "PoissonNLLLoss", "SmoothL1Loss",
    "SoftMarginLoss", "TripletMarginLoss"]  # fmt: skip


class NLLLoss(FunctionModule, function=F.nll_loss, inputs=2, shows=()):
    """−w[t]·x[t] for log-probabilities x."""


class CrossEntropyLoss(FunctionModule, function=F.cross_entropy, inputs=2, shows=()):
    """−w[t]·log softmax(x)[t], with label smoothing.

    >>> nn.CrossEntropyLoss()(fastnn.zeros(2, 10), fastnn.tensor([3, 9]))
    tensor(2.3026)
    """


class MSELoss(FunctionModule, function=F.mse_loss, inputs=2, shows=()):
    """(x − t)²."""


class L1Loss(FunctionModule, function=F.l1_loss, inputs=2, shows=()):
    """|x − t|."""


class SmoothL1Loss(FunctionModule, function=F.smooth_l1_loss, inputs=2, shows=()):
    """(x − t)²/(2β) where |x − t| < β, else |x − t| − β/2."""


class HuberLoss(FunctionModule, function=F.huber_loss, inputs=2, shows=()):
    """β times `SmoothL1Loss`, with δ for β."""


class BCELoss(FunctionModule, function=F.binary_cross_entropy, inputs=2, shows=()):
    """−t·log p − (1 − t)·log(1 − p) for probabilities p."""


class BCEWithLogitsLoss(FunctionModule, function=F.binary_cross_entropy_with_logits, inputs=2, shows=()):
    """Binary cross-entropy of σ(x)."""


class HingeLoss(FunctionModule, function=F.hinge_loss, inputs=2, shows=()):
    """max(0, margin − t·x)ᵖ for t = ±1: the binary support vector machine."""


class SoftMarginLoss(FunctionModule, function=F.soft_margin_loss, inputs=2, shows=()):
    """log(1 + exp(−t·x)) for t = ±1."""


class MultiMarginLoss(FunctionModule, function=F.multi_margin_loss, inputs=2, shows=()):
    """Σ max(0, margin − x[t] + x[j])ᵖ / C over j ≠ t: the multiclass support vector machine."""


class MultiLabelSoftMarginLoss(FunctionModule, function=F.multilabel_soft_margin_loss, inputs=2, shows=()):
    """Binary cross-entropy of σ(x), averaged over the classes."""


class MarginRankingLoss(FunctionModule, function=F.margin_ranking_loss, inputs=3, shows=()):
    """max(0, margin − t·(x₁ − x₂)) for t = ±1."""


class TripletMarginLoss(FunctionModule, function=F.triplet_margin_loss, inputs=3, shows=()):
    """max(0, margin + d(a, p) − d(a, n)) of anchor, positive and negative."""


class CosineEmbeddingLoss(FunctionModule, function=F.cosine_embedding_loss, inputs=3, shows=()):
    """1 − cos(x₁, x₂) where t = 1, max(0, cos(x₁, x₂) − margin) where t = −1."""


class HingeEmbeddingLoss(FunctionModule, function=F.hinge_embedding_loss, inputs=2, shows=()):
    """x where t = 1, max(0, margin − x) where t = −1."""


class KLDivLoss(FunctionModule, function=F.kl_div, inputs=2, shows=()):
    """t·(log t − x) for log-probabilities x."""


class PoissonNLLLoss(FunctionModule, function=F.poisson_nll_loss, inputs=2, shows=()):
    """eˣ − t·x for counts t."""


class GaussianNLLLoss(FunctionModule, function=F.gaussian_nll_loss, inputs=3, shows=()):
    """(log v + (x − t)²/v)/2 with the variance v."""


class CosineSimilarity(FunctionModule, function=F.cosine_similarity, inputs=2, shows=()):
    """The cosine of the angle between x₁ and x₂ along `dim`."""


class PairwiseDistance(FunctionModule, function=F.pairwise_distance, inputs=2, shows=()):
    """‖x₁ − x₂ + eps‖ₚ along the last dimension."""
