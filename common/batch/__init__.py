"""Inference over folders: which files are images, which sentence belongs to which, and what came of each."""

from .find import check_output, find_images, find_items, output_name
from .prompts import Prompts

__all__ = ["Prompts", "check_output", "find_images", "find_items", "output_name"]
