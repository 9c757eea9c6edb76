"""All canonical captions of a grammar that a deployment without a text encoder holds ready."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

from common.prompts.findings import Findings
from common.prompts.parse import DEFAULT_PROMPT
from common.prompts.zones import ZONES

MOST = 6  # infected areas that QaTa-COV19's training sentences count
_PLACES = {"chest": 6, "polyp": 3}  # that one sentence names: all, or as many as keep the table small


@lru_cache
def canonical_captions(grammar: str) -> tuple[str, ...]:
    """Captions of every set of zones, without a count and with one to six; none; and the default sentence.

    Of a chest all 63 sets of zones, of polyps those of up to three places. 443 and 906 sentences, no two the same.

    Args:
        grammar: ``"chest"`` or ``"polyp"``.
    """
    size = len(ZONES[grammar])
    found = [Findings(grammar, (0,) * size, count) for count in (None, 0)]
    for number in range(1, _PLACES[grammar] + 1):
        for places in combinations(range(size), number):
            bits = tuple(int(place in places) for place in range(size))
            found += [Findings(grammar, bits, count) for count in (None, *range(1, MOST + 1))]
    return tuple(dict.fromkeys([*(one.caption() for one in found), DEFAULT_PROMPT[grammar]]))
