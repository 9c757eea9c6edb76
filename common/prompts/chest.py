"""Chest sentences: those of QaTa-COV19 and MosMedData+, written to one pattern; others go to :mod:`.report`.

The pattern is ``{Uni|Bi}lateral pulmonary infection, {count} infected area[s], {zones} left lung and
{zones} right lung.``, typed by hand. Misspelt, torn and run-together words are mended; punctuation carries
nothing. What the sheets leave out is filled in only where the sentence itself decides it:

- "all left lung" is upper, middle and lower; "all left and lower right lung" omits a "lung"; "higher" is
  upper.
- A bare "X lung" in a *Unilateral* sentence with zones on the other side means no lesion there
  (MosMedData+); in a *Bilateral* one it takes the other side's zones; where no side has zones it is the
  whole lung.
- In a *Bilateral* sentence a phrase without a side is of the side that the other phrase does not name.
- "all lower left lung" is the whole lung: the typist forgot to delete a word.
"""

from __future__ import annotations

import re

from common.prompts import report
from common.prompts.findings import LEVELS, Findings
from common.prompts.words import COUNT_WORDS, SIDES, distance, mend

_LATERAL = ("unilateral", "bilateral")
_LEVEL = {**{level: (i,) for i, level in enumerate(LEVELS)}, "higher": (0,), "all": (0, 1, 2)}
_LUNG = ("lung", "lungs")
_FILL = ("pulmonary", "infection", "infected", "area", "areas", "and", "of", "the", "in", "a")
_VOCABULARY = frozenset((*_LATERAL, *_LEVEL, *_LUNG, *_FILL, *SIDES, *COUNT_WORDS, "no"))
_NONE = (0,) * 6
# "bilateral pulmonary infection in ...": a clinician's sentence that only opens like the pattern
_GOES_ON = ("in", "of", "at", "with", "within", "involving", "affecting", "throughout")


def read(sentence: str) -> Findings:
    """What a chest sentence says, its sides taken as those of the picture."""
    return _pattern(sentence) or report.read(sentence)


def _pattern(sentence: str) -> Findings | None:
    """The findings of a sentence that opens like the data sets' pattern, else None."""
    raw = re.findall(r"[a-z]+|[0-9]+", sentence.lower())
    # an English word in the head ("injection") is a slip, elsewhere it is read as what it is or refused
    head = _head(*mend(raw, _VOCABULARY, report.KNOWN)) or _head(*mend(raw, _VOCABULARY))
    if head is None or (raw[3:4] and raw[3] in _GOES_ON and set(raw[3:]) - _VOCABULARY):
        return None
    lateral, rest, unreadable = head
    if unreadable:
        return Findings("chest", _NONE, unreadable=tuple(unreadable))
    if lateral == "no":
        if raw[0] != "no" or set(rest) - {"zero", "infected", "area", "areas"}:
            return Findings("chest", _NONE, unreadable=tuple(raw))
        return Findings("chest", _NONE, count=0 if "zero" in rest else None)
    return _Phrases(rest, lateral).findings()


def _head(words: list[str], unreadable: list[str]) -> tuple[str | None, list[str], list[str]] | None:
    """Split "bilateral pulmonary infection" off: its first word, the words after it, those unreadable; None if absent.

    Figures may stand anywhere, also in the head. "Nilateral" is as near to either word: which of them stays open.
    """
    figures = [word for word in words if word.isdigit()]
    words = [word for word in words if not word.isdigit()]
    if words[:2] == ["pulmonary", "infection"] and unreadable and distance(unreadable[0], "nilateral") <= 1:
        return None, [*figures, *words[2:]], unreadable[1:]
    if words[1:3] == ["pulmonary", "infection"] and words[0] in (*_LATERAL, "no"):
        return words[0], [*figures, *words[3:]], unreadable
    return None


class _Phrases:
    """The places of a sentence: phrases of levels and a side, each closed by "lung" or "and"."""

    def __init__(self, words: list[str], lateral: str | None):
        self.lateral = lateral
        self.warnings: list[str] = []
        self.counts: list[int] = []
        self.refused: list[str] = []
        self.phrases: list[tuple[set[str], list[str], bool]] = []
        levels: set[str] = set()
        sides: list[str] = []
        for word in [*words, "and"]:
            if word in _LEVEL:
                levels.add(word)
            elif word in SIDES:
                sides.append(word)
            elif word in _LUNG or word == "and":
                if levels or sides:
                    self.phrases.append((levels, sides, word != "and"))
                levels, sides = set(), []
            elif word in COUNT_WORDS or word.isdigit():
                self.counts.append(COUNT_WORDS.index(word) if word in COUNT_WORDS else int(word))
            elif word not in _FILL:
                self.refused.append(word)

    def findings(self) -> Findings:
        """The bits, or a refusal; either carries the warnings."""
        sides = {side for _, named, _ in self.phrases for side in named}
        if self.lateral == "unilateral" and len(sides) == 2:
            self.warnings.append("says unilateral but names both sides")
        if self.lateral == "bilateral" and len(sides) == 1:
            self.warnings.append(f"says bilateral but names the {next(iter(sides))} side only")
        lungs = self._lungs()
        if self.refused or not lungs:
            unreadable = tuple(self.refused) or ("(no place)",)
            return Findings("chest", _NONE, warnings=tuple(self.warnings), unreadable=unreadable)
        bits = tuple(int(level in lungs.get(side, ())) for side in SIDES for level in range(3))
        count = self._count(len([side for side in lungs if lungs[side]]))
        return Findings("chest", bits, count, tuple(self.warnings))

    def _lungs(self) -> dict[str, set[int]]:
        """The levels of each side named; an empty set is a side named to be free."""
        self._join_loose()
        named: dict[str, set[int] | None] = {}
        sided = [sides[0] for _, sides, _ in self.phrases if len(set(sides)) == 1]
        for levels, sides, _ in self.phrases:
            if len(set(sides)) > 1:
                self.refused.extend(sides)
                return {}
            if not sides:
                if self.lateral != "bilateral" or len(self.phrases) != 2 or len(sided) != 1:
                    self.refused.extend((*sorted(levels), "lung"))
                    return {}
                sides = ["right" if sided == ["left"] else "left"]
                self.warnings.append(f"a place without a side is taken as {sides[0]}, the side not named otherwise")
            found = {i for level in levels for i in _LEVEL[level]} or None
            before = named.get(sides[0])
            named[sides[0]] = (before or set()) | found if found else before
        return self._fill_bare(named)

    def _join_loose(self) -> None:
        """Levels before "and" belong to the one side that follows, if it has none: "upper and right lung"."""
        if len(self.phrases) == 2 and self.lateral == "unilateral":
            (levels, sides, lung), (later, later_sides, later_lung) = self.phrases
            if not sides and not lung and not later and later_sides:
                self.phrases = [(levels, later_sides, later_lung)]

    def _fill_bare(self, named: dict[str, set[int] | None]) -> dict[str, set[int]]:
        bare = [side for side, levels in named.items() if levels is None]
        zoned = [side for side, levels in named.items() if levels is not None]
        lungs = {side: named[side] or set() for side in zoned}
        if bare and zoned and self.lateral == "unilateral":
            self.warnings.append(f"{bare[0]} lung without zones in a unilateral sentence is taken as free")
            return lungs
        if bare and zoned and self.lateral is None:
            # a bare lung means none or the other's zones, and the word that decides is unreadable
            self.refused.append("lateral")
            return {}
        for side in bare:
            lungs[side] = set(lungs[zoned[0]]) if zoned else {0, 1, 2}
            if zoned:
                self.warnings.append(f"{side} lung without zones takes those of the {zoned[0]} lung")
        return lungs

    def _count(self, sides: int) -> int | None:
        counts = set(self.counts)
        if len(counts) > 1:
            self.warnings.append(f"states several counts: {', '.join(map(str, self.counts))}")
            return None
        if not counts:
            return None
        count = counts.pop()
        if count == 0:
            self.warnings.append("counts no area but names a place")
            return None
        if count < sides:
            self.warnings.append(f"counts {count} area but names {sides} sides")
        return count
