"""Dictionary transforms, one a file."""

from .cutmix import CutMix
from .degrade import DEGRADATIONS, degradation
from .flip import RandMirrorPromptd
from .low_dose import LowDoseNoised
from .mirror_views import MirrorViews
from .motion_blur import MotionBlurd
from .normalize_as import NormalizeAsd
from .patch_mix import TPatchMix
from .position_aug import RandPositionAugd
from .prior import PositionPriord
from .prompt import PreparePromptd
from .rand_low_dose import RandLowDoseNoised
from .rand_motion_blur import RandMotionBlurd
from .to_display import ToDisplayd
from .tokenize import TokenizePromptd
from .views import Mixing, Views
from .word_noise import RandWordNoised

__all__ = [
    "DEGRADATIONS",
    "CutMix",
    "LowDoseNoised",
    "MirrorViews",
    "Mixing",
    "MotionBlurd",
    "NormalizeAsd",
    "PositionPriord",
    "PreparePromptd",
    "RandLowDoseNoised",
    "RandMirrorPromptd",
    "RandMotionBlurd",
    "RandPositionAugd",
    "RandWordNoised",
    "TPatchMix",
    "ToDisplayd",
    "TokenizePromptd",
    "Views",
    "degradation",
]
