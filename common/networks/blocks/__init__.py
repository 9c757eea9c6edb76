"""Blocks that more than one network uses."""
