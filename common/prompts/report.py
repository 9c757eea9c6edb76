"""Clinicians' sentences: which lesions they assert, and where.

A sentence is cut into *units* at commas, conjunctions and the words that turn its meaning; each unit is
asserted, denied or open.

- Denied units name no zone: "no left effusion", "right lung is clear", "has resolved", "not seen". - Nor
do historical and hypothetical ones: "history of", "status post", "previously seen" (unless the sentence
goes
  on that it persists), "rule out", "evaluate for", "cannot be excluded".
- Hedged ones do: in "may represent pneumonia", "possible", "probable", "concerning for" the reader points at
  something seen. The result carries a warning.
- A denial reaches over a list ("no effusion, opacity or nodule"). Where it may or may not reach a place ("no
  effusion and left lower lobe opacity"), the sentence is refused.
- A lesion without a place ("pneumonia") is refused, unless another one has a place; a place without a
lesion is
  one only if the whole sentence is nothing but places ("left lower lobe").

An unknown word refuses the sentence, for it could carry a place or a denial; so do phrases of :mod:`.doubts`, a
question that names a place, an exception to what is asserted ("bilateral opacities except the left apex"), and a
lesion in a part of which the sentence says that it is free.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field, replace

from common.prompts import doubts
from common.prompts.findings import Findings
from common.prompts.phrases import mark, mask
from common.prompts.places import LOW, WHOLE, Place, hilar, only_lungs, places
from common.prompts.places import WORDS as PLACES
from common.prompts.vocabulary import ELSEWHERE, FILL, FINDINGS, VAGUE
from common.prompts.words import SIDES, repair

_TRIGGERS = {"NEG": "denied", "HYP": "open", "HIST": "past", "PREV": "past", "NOT": "denied"}
_BACKWARD = ("POSTNEG", "POSTHYP")
_DENIES = ("NEG", "NOT")
_RESET = ("RESET", "but", "however", "although", "though", "while", "whereas", "otherwise", "which", "yet")
_LIST = (",", "and", "or", "/", "(", ")", ":", "versus", "vs", "with")
_MARKS = frozenset(
    (*_TRIGGERS, *_BACKWARD, *_RESET, "PERSIST", "PARTLY", "STUDY", "ORGAN", "NORMAL", "ARTEFACT", "EITHER", "BOTH")
)
_EXIST = ("there", "PERSIST")
_PERSIST = frozenset(
    ("PERSIST", "persistent", "persists", "stable", "unchanged", "residual", "again", "remains", "remain",
     "continued", "increased", "increasing", "decreased", "decreasing", "improved", "improving", "worsening",
     "worse", "larger", "smaller", "enlarged", "developing", "similar", "redemonstrated", "progressed")
)  # fmt: skip
_CLOSING = frozenset(
    ("seen", "identified", "visualized", "visible", "present", "evident", "appreciated", "noted", "demonstrated",
     "detected", "found")
)  # fmt: skip
_VERBS = frozenset(("is", "are", "was", "were", "has", "have", "shows", "show", "appears", "appear", *_CLOSING))
_HEDGES = frozenset(
    ("may", "might", "could", "possible", "possibly", "probable", "probably", "likely", "questionable", "suspected",
     "suggesting", "suggest", "suggests", "suggestive", "concerning", "suspicious", "perhaps", "maybe", "question",
     "consider", "considered", "consideration", "should", "would", "possibility", "potential", "potentially")
)  # fmt: skip
_EFFUSION = frozenset(
    ("effusion", "effusions", "fluid", "hemothorax", "blunting", "blunted", "loculation", "loculated")
)
# every word that is understood here
KNOWN = FINDINGS | VAGUE | ELSEWHERE | FILL | PLACES | _HEDGES | _PERSIST | _VERBS | {"not", "than", "s"}
# what a lesion may be said not to be without a doubt whether it is there: "not definitively calcified", "not as dense"
_NOT_SO = frozenset(
    ("changed", "new", "large", "larger", "small", "smaller", "well", "defined", "dense", "calcified", "specific",
     "typical", "severe", "increased", "decreased", "improved", "worse", "prominent", "acute", "enlarged", "obscuring",
     "silhouetting", "associated", "PERSIST", "STUDY")
)  # fmt: skip
# what may stand beside a place in a sentence that is nothing but places
_POINTING = frozenset(
    ("the", "of", "in", "at", "a", "area", "region", "part", "side", "sided", "portion", "zone", "within", "patient",
     "s")
)  # fmt: skip
# words worth mending; others are reported as they are
_MENDED = frozenset((*SIDES, "lung", "lungs", "lobe", "base", "upper", "lower", "middle", "effusion", "opacity"))


# (side, level) of zones, and the stems of the findings that are there, or are not (none: nothing is)
Claim = tuple[frozenset[tuple[str, int]], frozenset[str]]


@dataclass
class Unit:
    """A stretch of a sentence: how it is linked to what stands before it, its words, and what it says of them."""

    link: str
    words: list[str] = field(default_factory=list)
    status: str = "asserted"  # or denied, past, open, unsure
    places: list[Place] = field(default_factory=list)

    def has(self, words: frozenset[str] | tuple[str, ...]) -> bool:
        """Whether any of ``words`` is in it."""
        return any(word in words for word in self.words)

    @property
    def lesion(self) -> bool:
        """Whether it names a lesion: a finding, or a vague one with a place and nothing else to be true of."""
        if self.has(FINDINGS):
            return True
        placed = any(not only_lungs(place) and not hilar(place) for place in self.places)
        return self.has(VAGUE) and placed and not self.has(ELSEWHERE) and not self.has(("ORGAN", "NORMAL"))

    @property
    def bare_place(self) -> bool:
        """Whether it names a place and nothing that is there."""
        other = self.has(VAGUE) or self.has(ELSEWHERE) or self.has(("ORGAN", "NORMAL", "ARTEFACT"))
        return bool(self.places) and not self.lesion and not other


def read(sentence: str) -> Findings:
    """What a clinician's sentence (or several) says, its sides taken as those of the picture."""
    zones = [0] * 6
    warnings: list[str] = []
    unreadable: list[str] = []
    homeless: list[str] = []
    there: list[Claim] = []
    free: list[Claim] = []
    placed_only: list[str] = []
    parts: list[_Part] = []
    sentence = html.unescape(sentence)
    text = re.sub(r"\b([LR])\b(?=[ -])", lambda m: {"L": "left", "R": "right"}[m.group()], sentence)
    text = re.sub(r"\b(vs|lt|rt)\.", r"\1 ", text.lower())
    for part in re.split(r"(?<!\d)\.|\.(?!\d)|[;!?\n]", text):
        found = _Part(part)
        parts.append(found)
        unreadable += found.unreadable
        homeless += found.homeless
        warnings += found.warnings
        there += found.there
        free += found.free
        placed_only += part.split() if found.zones and found.only_places else []
        for side, level in found.zones:
            zones[3 * SIDES.index(side) + level] = 1
    if placed_only and not all(part.only_places for part in parts):
        unreadable += [*placed_only, "(what is there?)"]
    if any(_contradict(lesion, clear) for lesion in there for clear in free):
        unreadable += [*_sides_named(text), "(there or not?)"]
    if "?" in text and any(part.placed for part in parts):
        unreadable.append("(a question)")
    if homeless and not any(zones):
        unreadable += [*homeless, "(no place)"]
    if not re.search(r"[a-z]", text):
        unreadable.append("(no words)")
    if unreadable:
        return Findings("chest", (0,) * 6, warnings=tuple(warnings), unreadable=tuple(dict.fromkeys(unreadable)))
    return Findings("chest", tuple(zones), warnings=tuple(dict.fromkeys(warnings)))


class _Part:
    """One sentence, cut and judged."""

    def __init__(self, text: str):
        self.unreadable: list[str] = []
        self.homeless: list[str] = []
        self.warnings: list[str] = []
        self.zones: set[tuple[str, int]] = set()
        self.there: list[Claim] = []
        self.free: list[Claim] = []
        words = self._words(text)
        self.units, denials = _cut(words)
        self.doubtful = "ARTEFACT" in words
        for unit in self.units:
            unit.places, mixed = places(unit.words)
            self.unreadable += mixed
        self.only_places = all(
            unit.status == "asserted" and all(word in PLACES or word in _POINTING for word in unit.words)
            for unit in self.units
        )
        doubtful = doubts.raw(text) + doubts.masked(mask(text))
        self.placed = self._places_a_lesion()
        if (doubtful or denials) and self.placed:
            self.unreadable += [*doubtful, *denials, "(there or not?)"]
        if not self.unreadable:
            self._judge()
            self._join()
        if not self.unreadable:
            self._collect()

    def _places_a_lesion(self) -> bool:
        """Whether there are a place and a lesion, whatever is said of them."""
        placed = any(place.sides or place.levels or place.plural for unit in self.units for place in unit.places)
        return placed and any(unit.has(FINDINGS) or unit.has(VAGUE) or unit.bare_place for unit in self.units)

    def _words(self, text: str) -> list[str]:
        """The words, phrases replaced by marks, unknown ones mended or reported."""
        words: list[str] = []
        for word in re.findall(r"[A-Z]+|[a-z]+|[,()/:]|[0-9]+", mark(text)):
            if not word.isalpha() or word in _MARKS or word in KNOWN or word in _LIST or word in _RESET:
                words.append(word)
                continue
            mended = repair(word, _MENDED, FILL)
            if mended is None:
                self.unreadable.append(word)
            else:
                words.append(mended[0])
                self.warnings.append(f"{word!r} is read as {mended[0]!r}")
        return words

    def _judge(self) -> None:
        """Whether each unit is asserted, denied, past, open, or cannot be told (unsure)."""
        scope, before = None, None
        for i, unit in enumerate(self.units):
            if unit.link in _TRIGGERS:
                scope = _TRIGGERS[unit.link]
                persists = unit.link == "PREV" and any(later.has(_PERSIST) for later in self.units[i:])
                scope = None if persists else scope
                unit.status = scope or "asserted"
            elif scope and (unit.link in _RESET or _restarts(unit) or (before and _closed(before, unit))):
                scope = None
            elif scope:
                listed = unit.link in ("or", "/") or self._list_goes_on(i)
                unit.status = scope if listed else "unsure"
            if unit.has(_BACKWARD):
                self._deny_back(i, "denied" if "POSTNEG" in unit.words else "open")
            before = unit

    def _list_goes_on(self, i: int) -> bool:
        """Whether "or" comes later in the same list, which then is denied as a whole."""
        for later in self.units[i + 1 :]:
            if later.link == "or":
                return True
            if later.link not in (",", "/"):
                return False
        return False

    def _deny_back(self, i: int, status: str) -> None:
        """Deny a unit and what "or" joins to it; what "and" joins to it may be its subject too."""
        self.units[i].status = status
        if i > 0 and not self.units[i].places and not self.units[i].has(FINDINGS):
            # "..., now resolved": said of what stands before
            i -= 1
            self.units[i].status = status
        while i > 0 and self.units[i].link in ("or", "/", "and"):
            link, i = self.units[i].link, i - 1
            if self.units[i].has(_VERBS) or self.units[i].status != "asserted":
                return
            self.units[i].status = status if link != "and" else "unsure"

    def _join(self) -> None:
        """Give each place its side and levels, from its neighbours in the same list where it lacks them."""
        flat = [(i, unit, place) for i, unit in enumerate(self.units) for place in unit.places]
        for n, (i, unit, place) in enumerate(flat):
            before = flat[n - 1] if n and self._linked(flat[n - 1][0], i) else None
            after = flat[n + 1] if n + 1 < len(flat) and self._linked(i, flat[n + 1][0]) else None
            if place.levels and not place.sides:
                if "middle" in place.words and "lobe" in place.words:
                    place.sides = {"right"}
                elif before and before[2].sides and before[2].words != ["BOTH"]:
                    place.sides = set(before[2].sides)
                elif (after and after[2].sides and not place.closed) or (
                    after and after[2].sides and not after[2].levels and after[1].bare_place
                ):
                    place.sides = set(after[2].sides)
                elif place.plural:
                    place.sides = set(SIDES)
            if place.sides and not place.levels:
                alone = unit.bare_place and not place.closed
                if alone and before and not before[2].levels and before[2].sides >= place.sides:
                    unit.places.remove(place)  # "bilateral opacities, worse on the right"
                    continue
                if alone and before and before[2].levels and before[2].sides <= place.sides:
                    before[2].sides |= place.sides
                    place.levels = set(before[2].levels)
                elif alone and after and after[2].levels:
                    place.levels = set(after[2].levels)

    def _linked(self, i: int, j: int) -> bool:
        return all(
            unit.link in (",", "and", "or", "/", ":", "(", "versus", "vs") and unit.status == self.units[i].status
            for unit in self.units[i + 1 : j + 1]
        )

    def _collect(self) -> None:
        lesions = any(unit.lesion for unit in self.units)
        for i, unit in enumerate(self.units):
            if unit.status == "unsure" and unit.lesion and not unit.places and self._bare_asserted():
                self.unreadable += self._told(unit, "(denied or not?)")
            if unit.status == "unsure" and unit.places and (unit.lesion or unit.bare_place):
                self.unreadable += self._told(unit, "(denied or not?)")
            self._free(unit)
            free = unit.places and not unit.has(FINDINGS)
            if unit.has(("NORMAL",)) and (unit.link == "NOT" or (unit.link == "NEG" and free)):
                self.unreadable += ["not", "normal", "(what is there?)"]
            if self._said_of_lesion_before(i):
                self.unreadable += [*(word for word in unit.words if word.islower()), "(there or not?)"]
            if unit.status != "asserted":
                continue
            if unit.bare_place and unit.has(_CLOSING) and i and self.units[i - 1].status == "denied":
                self.unreadable += self._told(unit, "(what is there?)")  # "absent on the left, present on the right"
            if self._excepted(i) or self._alternative(i) or self._denied_beside(i):
                self.unreadable += self._told(unit, "(there or not?)")
            elif unit.lesion:
                self._lesion(unit)
            elif unit.bare_place and unit.link == "RESET":
                self._take(unit, unit)  # "clear except in the left lower lobe"
            elif unit.bare_place and unit.link == "which" and self._lesion_without_place(self.units[i - 1]):
                self._take(unit, self.units[i - 1])  # "opacity which appears to be in the left lower lobe"
            elif unit.bare_place and (self.only_places or (lesions and self._shares_lesion(i))):
                self._take(unit, unit)
            elif unit.bare_place and not self._absorbed(i) and not all(only_lungs(place) for place in unit.places):
                self.unreadable += self._told(unit, "(what is there?)")

    def _bare_asserted(self) -> bool:
        """Whether a place in a lung stands without its lesion: that of "right, not left, opacity"."""
        places = (
            place for unit in self.units if unit.status == "asserted" and unit.bare_place for place in unit.places
        )
        return any(place.sides or place.levels for place in places)

    def _free(self, unit: Unit) -> None:
        """Note the zones of which a unit says that nothing, or not its finding, is there."""
        if unit.has(ELSEWHERE) or unit.has(("ORGAN",)) or unit.has(VAGUE - {"involvement"}):
            return
        stems = _stems(unit)
        if unit.status == "denied" or (unit.status == "asserted" and unit.has(("NORMAL",)) and not stems):
            # "but not its apex": of either side
            named = [place for place in unit.places if place.sides or place.levels or place.plural]
            zones = {zone for place in named for zone in _zones(replace(place, sides=place.sides or set(SIDES)), unit)}
            self.free.append((frozenset(zones), stems))

    def _said_of_lesion_before(self, i: int) -> bool:
        """Whether a unit without place and finding denies an earlier lesion, or makes it unlikely: "not real"."""
        unit = self.units[i]
        if unit.places or unit.has(FINDINGS) or not any(u.lesion and u.places for u in self.units[:i]):
            return False
        if unit.has(("PARTLY",)):
            return True
        known = unit.has((*_BACKWARD, "NORMAL")) or unit.has(ELSEWHERE)
        return unit.link == "NOT" and not known and not unit.has(_NOT_SO)

    def _excepted(self, i: int) -> bool:
        """Whether a unit is an exception to what is asserted: "both lungs except the left apex"."""
        unit, before = self.units[i], self.units[max(0, i - 1)]
        if unit.link != "RESET" or before.has(("NORMAL",)) or not (unit.places or unit.lesion):
            return False
        lesion = any(other.status == "asserted" and other.lesion for other in self.units[:i])
        if before.status != "asserted":
            return lesion and unit.bare_place
        return lesion or (bool(before.places) and not before.has(ELSEWHERE))

    def _alternative(self, i: int) -> bool:
        """Whether a unit is one of two sides, or something else than a lesion: "left or right base", "versus rib"."""
        unit, before = self.units[i], self.units[max(0, i - 1)]
        if unit.has(("EITHER",)):
            return bool(unit.places)
        if (
            unit.link in ("versus", "vs")
            and before.lesion
            and not unit.lesion
            and (unit.has(ELSEWHERE) or unit.has(("ORGAN",)))
        ):
            return True
        sides, others = ({side for place in u.places for side in place.sides} for u in (unit, before))
        return unit.link in ("or", "/", "versus", "vs") and bool(sides and others) and sides != others

    def _denied_beside(self, i: int) -> bool:
        """Whether what lies at this bare place is denied only at another: "right and not left base opacity"."""
        unit, after = self.units[i], self.units[min(i + 1, len(self.units) - 1)]
        if not unit.bare_place or after.link not in ("NOT", "NEG") or not after.lesion:
            return False
        sides, others = ({side for place in u.places for side in place.sides} for u in (unit, after))
        return bool(sides and others) and not sides & others

    def _lesion(self, unit: Unit) -> None:
        placed = [place for place in unit.places if not only_lungs(place)]
        if self.doubtful or unit.has(("PARTLY",)) or (placed and unit.has(("NORMAL",))):
            self.unreadable += self._told(unit, "(there or not?)")
        elif unit.places and (placed or unit.places[0].plural):
            self._take(unit, unit)
        elif unit.has(("ORGAN",)) and unit.has(FINDINGS):
            self.unreadable += self._told(unit, "(which place in a lung?)")
        elif not unit.has(ELSEWHERE):
            self.homeless += [word for word in unit.words if word in FINDINGS]

    def _lesion_without_place(self, unit: Unit) -> bool:
        return unit.status == "asserted" and unit.lesion and not unit.places

    def _absorbed(self, i: int) -> bool:
        """Whether a bare place is the subject or object of a neighbour that says what is there: "clear", a denial."""
        near = self.units[i + 1 : i + 2] if i + 1 < len(self.units) else []
        said = any(unit.has(("NORMAL", "ORGAN", *_BACKWARD)) or unit.status != "asserted" for unit in near)
        before = any(
            unit.has(("NORMAL", "ORGAN")) or unit.has(ELSEWHERE) or unit.status != "asserted"
            for unit in self.units[max(0, i - 1) : i]
        )
        return said or before or any(unit.has(ELSEWHERE) for unit in near)

    def _shares_lesion(self, i: int) -> bool:
        """Whether a bare place belongs to an asserted lesion of its list, and to nothing else."""
        near = [j for j in range(len(self.units)) if j != i and self._linked(min(i, j), max(i, j))]
        if any(self.units[j].has(("NORMAL",)) and j > i for j in near):
            return False
        following = self.units[i + 1] if i + 1 < len(self.units) else None
        if any(self.units[j].lesion for j in near):
            if following is not None and following.link in ("NEG", "NOT"):
                self.unreadable += self._told(self.units[i], "(there or not?)")
            return True
        return False

    def _take(self, unit: Unit, lesion: Unit) -> None:
        """Note the zones of a unit's places."""
        placed = [place for place in unit.places if not only_lungs(place)]
        for place in placed or unit.places:
            zones = _zones(place, lesion)
            if not zones:
                self.unreadable += [*place.words, "(which side?)"]
            self.zones |= zones
            self.there.append((frozenset(zones), _stems(lesion)))
        hedged = [word for word in unit.words if word in _HEDGES]
        if hedged:
            self.warnings.append(f"said with reserve: {hedged[0]!r}")

    def _told(self, unit: Unit, why: str) -> list[str]:
        named = [word for place in unit.places for word in place.words]
        return [*(named or [word for word in unit.words if word.islower()]), why]


def _cut(words: list[str]) -> tuple[list[Unit], list[str]]:
    """The units, and notes on a denial or the like of nothing ("left: none") or of a denial ("not without")."""
    units = [Unit("")]
    denials: list[str] = []
    for word in words:
        if word in _TRIGGERS or word in _LIST or word in _RESET:
            # a mark at once after a link takes its place: ", no", "and without"
            if not units[-1].words and not (units[-1].link in _TRIGGERS and word not in _TRIGGERS):
                if units[-1].link in _DENIES and word in _DENIES:
                    denials.append("(denied twice)")
                units[-1].link = word
            else:
                units.append(Unit(word))
        else:
            units[-1].words.append(word)
    denials += [f"(what is {_TRIGGERS[unit.link]}?)" for unit in units if unit.link in _TRIGGERS and not unit.words]
    return [unit for unit in units if unit.words], denials


def _zones(place: Place, lesion: Unit) -> set[tuple[str, int]]:
    """The zones of a place, at which a unit's lesion is: effusions are low."""
    sides = place.sides or (set(SIDES) if only_lungs(place) and place.plural else set())
    levels = place.levels or ({LOW} if lesion.has(_EFFUSION) else WHOLE)
    return {(side, level) for side in sides for level in levels}


def _stems(unit: Unit) -> frozenset[str]:
    return frozenset(word[:5] for word in unit.words if word in FINDINGS)


def _contradict(lesion: Claim, clear: Claim) -> bool:
    """Whether a lesion reaches into zones that are free of it; what lies within them is an exception to the rule."""
    (there, what), (free, denied) = lesion, clear
    return bool(there & free) and not there < free and (not denied or bool(denied & what))


def _sides_named(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", text) if word in PLACES]


def _restarts(unit: Unit) -> bool:
    return unit.words[0] in _EXIST or bool(unit.words[0] in _PERSIST)


def _closed(before: Unit, unit: Unit) -> bool:
    """Whether the verb at the end of the unit before closes its clause: "no effusion is seen, left base ..."."""
    return before.words[-1] in _CLOSING and unit.link in (",", "and", "with", "(")
