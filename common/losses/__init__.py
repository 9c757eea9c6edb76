"""Losses that MONAI does not have, and how MONAI's are called with a network's output."""

from .ssa import SSALoss
from .supervised import Supervised

__all__ = ["SSALoss", "Supervised"]
