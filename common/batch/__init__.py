"""Inference over folders: which files are images, which sentence belongs to which, and what came of each."""

from .find import find_images, find_items
from .prompts import Prompts

__all__ = ["Prompts", "find_images", "find_items"]
