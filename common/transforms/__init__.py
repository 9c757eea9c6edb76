"""Dictionary transforms, one a file."""

from .degrade import DEGRADATIONS, degradation
from .flip import RandMirrorPromptd
from .low_dose import LowDoseNoised
from .motion_blur import MotionBlurd
from .prior import PositionPriord
from .prompt import PreparePromptd
from .rand_low_dose import RandLowDoseNoised
from .rand_motion_blur import RandMotionBlurd
from .to_display import ToDisplayd
from .tokenize import TokenizePromptd

__all__ = [
    "DEGRADATIONS",
    "LowDoseNoised",
    "MotionBlurd",
    "PositionPriord",
    "PreparePromptd",
    "RandLowDoseNoised",
    "RandMirrorPromptd",
    "RandMotionBlurd",
    "ToDisplayd",
    "TokenizePromptd",
    "degradation",
]
