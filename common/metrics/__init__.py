"""Scores of a predicted mask: overlap, boundary distances, agreement with the sentence; tables of them."""

from common.metrics.score import COLUMNS, format_table, read_scores, score_case, summarise, write_scores

__all__ = ["COLUMNS", "format_table", "read_scores", "score_case", "summarise", "write_scores"]
