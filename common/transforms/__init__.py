"""Dictionary transforms, one a file."""

from .flip import RandMirrorPromptd
from .prompt import PreparePromptd
from .to_display import ToDisplayd
from .tokenize import TokenizePromptd

__all__ = ["PreparePromptd", "RandMirrorPromptd", "ToDisplayd", "TokenizePromptd"]
