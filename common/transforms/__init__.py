"""Dictionary transforms, one a file."""

from .flip import RandMirrorPromptd
from .prior import PositionPriord
from .prompt import PreparePromptd
from .to_display import ToDisplayd
from .tokenize import TokenizePromptd

__all__ = ["PositionPriord", "PreparePromptd", "RandMirrorPromptd", "ToDisplayd", "TokenizePromptd"]
