"""``RandPositionAugd``: sentences whose places are hidden or blurred (PosAug)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from common.prompts import parse

UNKNOWN, FUZZY = "[UNK_POS]", "a region of the lung"
PHRASE = re.compile(r"\b(?:(?:upper|middle|lower|all) )+(?:left|right) lung\b", re.IGNORECASE)


class RandPositionAugd(RandomizableTransform, MapTransform):
    """Replace each phrase of a place ("upper middle left lung") by "[UNK_POS]", or by "a region of the lung".

    The sentence is made canonical first, in which every place is such a phrase ("all left and lower right lung" has
    but one); one that is not understood is taken as it is. The mark is plain text to the tokeniser.

    Args:
        keys: of sentences, about the picture's sides.
        prob: that a phrase is edited, each by itself.
        dropout: share of the edited that become the mark; the others become the vague phrase.

    Source: Semi-MedRef (arXiv 2605.15720), section 2.3. Its numbers for the two edits are lost; the defaults are the
    released code's (a quarter marked, a quarter vague, half untouched). ``prob=1`` is the other reading, that of
    complementary probabilities.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, dropout: float = 0.5) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.edit, self.dropout = prob, dropout

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Edit the sentences."""
        d = dict(data)
        for key in self.key_iterator(d):
            found = parse(d[key], "image")
            d[key] = PHRASE.sub(self._edited, found.caption() if found.understood else d[key])
        return d

    def _edited(self, phrase: re.Match[str]) -> str:
        edited, dropped = self.R.random_sample(2) < (self.edit, self.dropout)
        if not edited:
            return phrase.group()
        return UNKNOWN if dropped else FUZZY
