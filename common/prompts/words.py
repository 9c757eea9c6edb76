"""Words: splitting a sentence, repairing misspelt words, swapping the words left and right."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

COUNT_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
SIDES = ("left", "right")
# English words one edit away from a side: a typist may have meant them, so they are never repaired
_NOT_SIDES = frozenset(
    ("light", "eight", "fight", "might", "night", "sight", "tight", "bright", "fright", "wright", "height",
    "weight",
     "rights", "righter", "righty", "rite", "felt", "let", "lets", "lest", "lent", "loft", "deft", "heft",
     "cleft", "weft", "lefty", "leaf")
)  # fmt: skip
_MIRRORED = {
    "left": "right", "right": "left", "l": "r", "r": "l", "lt": "rt", "rt": "lt",
    "leftward": "rightward", "rightward": "leftward", "leftwards": "rightwards", "rightwards": "leftwards",
    "lul": "rul", "rul": "lul", "lll": "rll", "rll": "lll", "lml": "rml", "rml": "lml",
}  # fmt: skip
_MIRRORED_WORD = re.compile(rf"\b({'|'.join(_MIRRORED)})\b", re.IGNORECASE)


def distance(a: str, b: str) -> int:
    """Edit distance with insertion, deletion, substitution and swap of neighbours (Damerau)."""
    before, last = [], list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


@lru_cache(maxsize=100_000)
def repair(word: str, vocabulary: frozenset[str], known: frozenset[str] = frozenset()) -> tuple[str, int] | None:
    """The one nearest word of ``vocabulary`` and its distance, or None if there is none or more than one.

    At most one edit for words of up to four letters and for the sides, two for longer ones; two edits keep
    the first letter. A word of ``known`` (other words of the language) is no misspelling, and neither is an
    English word one edit from a side ("light"): it stays as it is.
    """
    if word in vocabulary:
        return word, 0
    if len(word) < 3 or word in known or word in _NOT_SIDES:
        return None
    best: list[tuple[int, str]] = []
    for candidate in vocabulary:
        limit = 1 if len(candidate) <= 4 or candidate in SIDES else 2
        if abs(len(candidate) - len(word)) > limit:
            continue
        edits = distance(word, candidate)
        if edits <= limit and (edits == 1 or candidate[0] == word[0]):
            best.append((edits, candidate))
    best.sort()
    if not best or (len(best) > 1 and best[0][0] == best[1][0]):
        return None
    return best[0][1], best[0][0]


def mend(
    words: list[str], vocabulary: frozenset[str], known: frozenset[str] = frozenset()
) -> tuple[list[str], list[str]]:
    """The words with misspellings, torn and run-together words mended; and the unreadable ones.

    Of all readings of a word, alone, split in two or joined with the next, the one with the fewest edits is
    taken; of two that are equally near neither is, and the word is unreadable.
    """
    mended: list[str] = []
    unreadable: list[str] = []
    i = 0
    while i < len(words):
        word = words[i]
        following = words[i + 1] if i + 1 < len(words) else ""
        joined = word + following
        exact = word in vocabulary or word.isdigit()
        if following and joined in vocabulary and not (exact and following in vocabulary):
            mended.append(joined)
            i += 2
            continue
        if exact:
            mended.append(word)
            i += 1
            continue
        readings = _readings(word, vocabulary, known)
        if following and following not in vocabulary:
            torn = repair(joined, vocabulary, known)
            if torn is not None:
                alone = repair(following, vocabulary, known)
                if not readings or alone is None:
                    readings = [(torn[1] + 1, (torn[0],))]
                    i += 1
        if readings and (len(readings) == 1 or readings[0][0] < readings[1][0]):
            mended.extend(readings[0][1])
        else:
            unreadable.append(word)
        i += 1
    return mended, unreadable


def _readings(word: str, vocabulary: frozenset[str], known: frozenset[str]) -> list[tuple[float, tuple[str, ...]]]:
    """Readings of one unknown word, nearest first: (edits, words). A missing space counts as half an edit."""
    readings: list[tuple[float, tuple[str, ...]]] = []
    alone = repair(word, vocabulary, known)
    if alone:
        readings.append((alone[1], (alone[0],)))
    if word not in known:
        for cut in range(2, len(word) - 1):
            first, second = repair(word[:cut], vocabulary), repair(word[cut:], vocabulary)
            if first and second and first[1] + second[1] <= 1:
                readings.append((0.5 + first[1] + second[1], (first[0], second[0])))
    nearest: dict[tuple[str, ...], float] = {}
    for edits, found in readings:
        nearest[found] = min(edits, nearest.get(found, edits))
    return sorted((edits, found) for found, edits in nearest.items())


def mirror_words(sentence: str) -> str:
    """Swap left and right in free text (also L and R, leftward, RUL and the like), keeping the case.

    Parts that only one lung has (the lingula, the middle lobe) keep their names.
    """

    def swap(match: re.Match[str]) -> str:
        word, other = match.group(), _MIRRORED[match.group().lower()]
        case: Callable[[str], str] = str.lower
        if word.isupper():
            case = str.upper
        elif word[0].isupper():
            case = str.capitalize
        return case(other)

    return _MIRRORED_WORD.sub(swap, sentence)
