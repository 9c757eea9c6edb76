"""Polyp sentences: "two small white round polyp, located in top left, right of the image" (Kvasir-SEG).

What stands before "polyp" is size, colour and shape, in any words, and may state a count. Where they are
stands after it: positions of the picture. "top left" is one position; "top, left" and "top and left" are two,
so a comma without a space and a hyphen beside a comma are refused.
"""

from __future__ import annotations

import re

from common.prompts.findings import Findings
from common.prompts.words import COUNT_WORDS, mend
from common.prompts.zones import POLYP

_ROWS = {"top": 0, "upper": 0, "middle": 1, "bottom": 2, "lower": 2}
_COLUMNS = {"left": 0, "right": 2}
_CENTRE = ("center", "centre", "central")
_FILL = frozenset(
    ("located", "in", "at", "on", "near", "of", "the", "image", "picture", "frame", "part", "corner", "edge",
     "side", "quadrant", "and", "a", "is")
)  # fmt: skip
_VOCABULARY = frozenset((*_ROWS, *_COLUMNS, *_CENTRE, *_FILL))
_NONE = (0,) * len(POLYP)
_NEGATIVE = frozenset(("no", "none", "without", "zero", "not", "free", "absent", "negative", "normal", "never"))


def read(sentence: str) -> Findings:
    """What a polyp sentence says, in positions of the picture."""
    text = sentence.lower()
    parts = re.split(r"\bpolyps?\b", text)
    if len(parts) != 2:
        return _refused(re.findall(r"\w+", text) or ["(empty)"])
    before, after = (re.findall(r"[a-z]+|[0-9]+", part) for part in parts)
    if any(word in _NEGATIVE for word in before):
        if after or len(before) > 1 or before[0] not in ("no", "zero"):
            return _refused([word for word in before if word in _NEGATIVE])
        return Findings("polyp", _NONE, count=0 if before == ["zero"] else None)
    if re.search(r",\S|-\s|\s-|[^\w\s,.-]|-[^a-z]|\.\s*\w", parts[1]):
        return _refused(re.findall(r"\S+", parts[1]))
    positions: set[int] = set()
    for listed in parts[1].split(","):
        words, unreadable = mend(re.findall(r"[a-z]+|[0-9]+", listed), _VOCABULARY)
        if unreadable:
            return _refused(unreadable)
        for named in _groups(words):
            position = _position(named)
            if position is None:
                return _refused(named)
            positions.add(position)
    if not positions:
        return _refused(["polyp", "(no place)"])
    counts = [COUNT_WORDS.index(w) if w in COUNT_WORDS else int(w) for w in before if w in COUNT_WORDS or w.isdigit()]
    warnings: list[str] = []
    count = counts[0] if len(counts) == 1 else None
    if count is not None and count < len(positions):
        warnings.append(f"counts {count} but names {len(positions)} positions")
    return Findings("polyp", tuple(int(i in positions) for i in range(9)), count, tuple(warnings))


def _groups(words: list[str]) -> list[list[str]]:
    """The words of each position, which "and" parts."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word == "and":
            groups.append([])
        elif word not in _FILL:
            groups[-1].append(word)
    return [group for group in groups if group]


def _position(words: list[str]) -> int | None:
    """The bit of one position, given as at most one word a direction; None if it is none."""
    rows = [_ROWS[word] for word in words if word in _ROWS]
    columns = [_COLUMNS[word] for word in words if word in _COLUMNS]
    if len(rows) > 1 or len(columns) > 1 or len(rows) + len(columns) + sum(w in _CENTRE for w in words) > 2:
        return None
    return 3 * (rows[0] if rows else 1) + (columns[0] if columns else 1)


def _refused(words: list[str]) -> Findings:
    return Findings("polyp", _NONE, unreadable=tuple(words))
