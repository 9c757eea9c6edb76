"""Losses that MONAI does not have, and how MONAI's are called with a network's output."""

from .biclip import BiCLIPLoss
from .semi_medref import SemiMedRefLoss
from .ssa import SSALoss
from .supervised import Supervised

__all__ = ["BiCLIPLoss", "SSALoss", "SemiMedRefLoss", "Supervised"]
