"""Ignite handlers of training and evaluation: checkpoints, randomness, logging, scores."""

from .checkpoint import BestCheckpoint, LastCheckpoint, ScoreFirst
from .loader import ThreadDataLoader
from .mean_teacher import MeanTeacherTrainer
from .precision import amp_dtype
from .records import GradientNorm, History, LossTerms, Progress
from .retrieval import CaptionRetrieval
from .scores import ScoreCases
from .seed import SeedEachEpoch
from .stop import EarlyStop, TimeLimit
from .throughput import Throughput
from .unlabelled import unlabelled_loader
from .weights import LoadWeights, load_weights

__all__ = [
    "BestCheckpoint",
    "CaptionRetrieval",
    "EarlyStop",
    "GradientNorm",
    "History",
    "LastCheckpoint",
    "LoadWeights",
    "LossTerms",
    "MeanTeacherTrainer",
    "Progress",
    "ScoreCases",
    "ScoreFirst",
    "SeedEachEpoch",
    "ThreadDataLoader",
    "Throughput",
    "TimeLimit",
    "amp_dtype",
    "load_weights",
    "unlabelled_loader",
]
