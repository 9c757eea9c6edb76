"""Inference over folders: which files are images, which sentence belongs to which, and what came of each."""

from .find import Found, Search, check_output, find
from .items import find_items, output_name
from .prompts import Prompt, Prompts

__all__ = ["Found", "Prompt", "Prompts", "Search", "check_output", "find", "find_items", "output_name"]
