"""Prompts: what a sentence says about where the lesions are, and the sentence a network is given.

>>> from common.prompts import parse
>>> parse("Opacity in the right lower lobe.", laterality="patient").caption()
'Unilateral pulmonary infection, lower left lung.'

The caption speaks of the left of the *picture*, where the patient's right lung is.
"""

from common.prompts.findings import Findings, Grammar, Laterality
from common.prompts.parse import DEFAULT_PROMPT, parse, prepare
from common.prompts.words import mirror_words

__all__ = ["DEFAULT_PROMPT", "Findings", "Grammar", "Laterality", "mirror_words", "parse", "prepare"]
