"""What a sentence says: :class:`Findings`, its canonical sentence, and its mirror image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from common.errors import UserError
from common.prompts.words import COUNT_WORDS
from common.prompts.zones import ZONES

Laterality = Literal["image", "patient"]
Grammar = Literal["chest", "polyp"]

LEVELS = ("upper", "middle", "lower")
_MIRROR = {"chest": (3, 4, 5, 0, 1, 2), "polyp": (2, 1, 0, 5, 4, 3, 8, 7, 6)}
_EXAMPLE = {
    "chest": "Unilateral pulmonary infection, lower left lung.",
    "polyp": "One polyp, located in top-left of the image.",
}


@dataclass(frozen=True)
class Findings:
    """What a sentence says about where the lesions are.

    Attributes:
        grammar: ``"chest"`` or ``"polyp"``.
        zones: one bit a zone. Chest: six bits in *image* sides, ``[L-up, L-mid, L-low, R-up, R-mid,
        R-low]``, L being
            the left of the picture; all zero means that the sentence names no lesion. Polyp: nine picture
            positions, row by row from the top left.
        count: the number of infected areas or polyps, if the sentence states one.
        warnings: one line for each point where the sentence contradicts itself or had to be interpreted,
            in the sentence's own sides.
        unreadable: the words that stopped the parser. If there are any, the sentence is refused and
        ``zones`` is zero.
    """

    grammar: Grammar
    zones: tuple[int, ...]
    count: int | None = None
    warnings: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def understood(self) -> bool:
        """Whether the sentence was read; a refused one has no zones, caption or mirror."""
        return not self.unreadable

    @property
    def sides(self) -> frozenset[str]:
        """The image sides named: any of ``"left"`` and ``"right"`` (none for a polyp in the middle)."""
        if self.grammar == "chest":
            left, right = self.zones[:3], self.zones[3:]
        else:
            left, right = self.zones[0::3], self.zones[2::3]
        return frozenset(side for side, bits in (("left", left), ("right", right)) if any(bits))

    def check(self) -> Findings:
        """Self, if understood; else UserError naming the words."""
        if self.unreadable:
            words = ", ".join(repr(word) for word in self.unreadable)
            raise UserError(f"sentence not understood: {words}; write it like {_EXAMPLE[self.grammar]!r}")
        return self

    def mirrored(self) -> Findings:
        """The same findings with left and right swapped; UserError if refused."""
        zones = tuple(self.check().zones[i] for i in _MIRROR[self.grammar])
        return replace(self, zones=zones)

    def caption(self, laterality: Laterality = "image") -> str:
        """The canonical sentence, its left that of ``laterality``; UserError if refused.

        The stated count is kept; a count that was not stated is left out, for the number of zones is no
        number of lesions. Parsing the caption gives the same zones and count.
        """
        named = self.check() if laterality == "image" else self.mirrored()
        return (_chest if self.grammar == "chest" else _polyp)(named.zones, self.count)


def _number(count: int) -> str:
    return COUNT_WORDS[count] if count < len(COUNT_WORDS) else str(count)


def _chest(zones: tuple[int, ...], count: int | None) -> str:
    """SGSeg's pattern: Bilateral pulmonary infection, two infected areas, Z left lung and Z right lung."""
    if not any(zones):
        return "No pulmonary infection." if count is None else "No pulmonary infection, zero infected areas."
    phrases = [
        " ".join([*(level for level, bit in zip(LEVELS, bits, strict=True) if bit), side, "lung"])
        for side, bits in (("left", zones[:3]), ("right", zones[3:]))
        if any(bits)
    ]
    parts = ["Bilateral pulmonary infection" if len(phrases) == 2 else "Unilateral pulmonary infection"]
    if count is not None:
        parts.append(f"{_number(count)} infected {'area' if count == 1 else 'areas'}")
    return ", ".join([*parts, " and ".join(phrases)]) + "."


def _polyp(zones: tuple[int, ...], count: int | None) -> str:
    """Positions are hyphened and joined by "and": else they differ by one comma."""
    if not any(zones):
        return "No polyp." if count is None else "Zero polyps."
    names = [name.replace(" ", "-") for name, bit in zip(ZONES["polyp"], zones, strict=True) if bit]
    noun = "polyp" if count in (None, 1) else "polyps"
    subject = noun if count is None else f"{_number(count)} {noun}"
    return f"{subject.capitalize()}, located in {' and '.join(names)} of the image."
