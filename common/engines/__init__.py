"""Ignite handlers of training and evaluation: checkpoints, randomness, logging, scores."""

from .checkpoint import BestCheckpoint, LastCheckpoint
from .precision import amp_dtype
from .records import GradientNorm, History, LossTerms, Progress
from .scores import ScoreCases
from .seed import SeedEachEpoch
from .stop import EarlyStop
from .weights import LoadWeights, load_weights

__all__ = [
    "BestCheckpoint",
    "EarlyStop",
    "GradientNorm",
    "History",
    "LastCheckpoint",
    "LoadWeights",
    "LossTerms",
    "Progress",
    "ScoreCases",
    "SeedEachEpoch",
    "amp_dtype",
    "load_weights",
]
