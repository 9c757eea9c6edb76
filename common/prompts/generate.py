"""Sentences of both grammars with what they say, to train the compact text encoder: seeded, from no file.

Sides are those of the picture, for that is what a network gets (:func:`common.prompts.prepare`): in a
clinician's sentence left and right have been swapped already. Three kinds:

- the pattern of QaTa-COV19 and MosMedData+, as canonical captions have it and as it was typed: "all left lung",
  a missing "lung", side or level (read as :mod:`common.prompts.chest` reads it), a wrong number of areas;
- clinicians' sentences with lobes, zones and lesions, hedged, denied, and beside other organs;
- polyps in nine positions.

A part of them is put in other word orders and misspelt (:mod:`common.prompts.noise`).
"""

from __future__ import annotations

from random import Random

from common.prompts.findings import LEVELS, Findings
from common.prompts.noise import disturb, reorder
from common.prompts.vocabulary import ELSEWHERE, FINDINGS
from common.prompts.words import COUNT_WORDS, SIDES
from common.prompts.zones import POLYP

Example = tuple[str, Findings]

# what lies on a side without a level is in the whole lung, but effusions sink
_SINKING = frozenset(("effusion", "effusions", "fluid", "hemothorax", "haemothorax", "blunting", "blunted",
                      "loculation", "loculated", "hydropneumothorax", "hemopneumothorax"))  # fmt: skip
_LESIONS = tuple(sorted(FINDINGS - _SINKING))
_COMMON = (
    "opacity", "opacities", "consolidation", "infiltrate", "infiltrates", "pneumonia", "atelectasis",
    "airspace opacity", "ground glass opacity", "ground-glass opacities", "infection", "nodule", "mass", "scarring",
    "airspace disease",
)  # fmt: skip
_LOOK = (
    "", "", "", "patchy ", "dense ", "hazy ", "mild ", "small ", "large ", "focal ", "multifocal ", "subtle ", "new ",
    "extensive ", "severe ", "moderate ", "peripheral ", "confluent ", "streaky ", "minimal ",
)  # fmt: skip
_ORGANS = tuple(sorted(ELSEWHERE - {"back", "line", "lines", "port", "ports", "lead", "leads", "quadrant"}))
_WHERE = (
    ("{} upper lobe", "{} upper zone", "{} upper lung", "{} upper lung zone", "{} apex", "upper lobe of the {} lung"),
    ("{} mid zone", "{} middle lobe", "{} mid lung", "{} middle lung zone", "{} perihilar region", "{} midlung"),
    ("{} lower lobe", "{} base", "{} lower lung", "{} lung base", "{} lower zone", "lower part of the {} lung"),
)
_BOTH = (
    ("both upper lobes", "bilateral upper lobes", "both upper zones", "bilateral apices"),
    ("both mid zones", "bilateral mid lungs", "bilateral perihilar regions", "both middle zones"),
    ("both lower lobes", "bilateral lower lobes", "both lung bases", "bilateral bases", "both lower zones"),
)
_ALL = ("{} lung", "entire {} lung", "whole {} lung", "{} hemithorax")
_SHORT = (("lul", "lml", "lll"), ("rul", "rml", "rll"))
_HEDGE = ("", "", "", "possible ", "probable ", "likely ", "suspected ")
_WELL = ("normal", "unremarkable", "intact", "stable")
_SIZES = ("small", "medium", "large")
_COLOURS = ("pink", "white", "red", "orange", "yellow", "brown", "purple", "grey")
_SHAPES = ("round", "oval", "circle", "triangular", "heart", "irregular", "flat", "long", "square", "donut", "ear")


def examples(seed: int, count: int, typos: bool = True, held_out: bool = False) -> list[Example]:
    """``count`` sentences and what they say.

    Args:
        seed: the same seed gives the same sentences.
        count: of sentences.
        typos: put some in other word orders and misspell some; else all are as the grammars have them.
        held_out: depart only in ways that are kept for tests, and all sentences of the pattern.
    """
    rng = Random(seed)
    made = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.62:
            sentence, findings = _pattern(rng)
            if typos and (held_out or rng.random() < 0.5):
                sentence = reorder(sentence, rng, held_out)
            if typos and rng.random() < 0.15:
                # the same words at other positions
                sentence = f"The {rng.choice(_ORGANS)} is {rng.choice(_WELL)}. {sentence}"
        elif kind < 0.8:
            sentence, findings = _report(rng)
        else:
            sentence, findings = _polyps(rng)
        if typos:
            sentence = disturb(
                sentence, rng, rng.choice((1, 2)) if held_out else rng.choice((0, 1, 1, 1, 2, 3)), held_out
            )
            sentence = sentence.lower() if rng.random() < 0.2 else sentence
        made.append((sentence, findings))
    return made


def _pattern(rng: Random) -> Example:
    """A sentence of the data sets' pattern."""
    if rng.random() < 0.03:
        count = rng.choice((None, 0))
        return Findings("chest", (0,) * 6, count).caption(), Findings("chest", (0,) * 6, count)
    short = rng.random() < 0.2
    lateral, places, zones = _short_of_words(rng) if short else _in_full(rng)
    count = None if rng.random() < 0.15 else rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5, 6))
    # without this clause only what is said in full can be read
    clauses = [f"{lateral} pulmonary infection"] if short or rng.random() < 0.9 else []
    if count is not None:
        number = str(count) if rng.random() < 0.05 else COUNT_WORDS[count]
        plural = (count > 1) != (rng.random() < 0.1)
        clauses.append(f"{number} infected {'areas' if plural else 'area'}")
    comma = rng.choice((", ", ", ", ", ", ", ", ",", " "))
    end = "" if rng.random() < 0.1 else "."
    return comma.join([*clauses, places]) + end, Findings("chest", zones, count)


def _in_full(rng: Random) -> tuple[str, str, tuple[int, ...]]:
    """Which of "Unilateral" and "Bilateral", the places with their levels and sides, and the bits."""
    zones = _zones(rng)
    bits = dict(zip(SIDES, (zones[:3], zones[3:]), strict=True))
    sides = [side for side in SIDES if any(bits[side])]
    lateral = "Bilateral" if len(sides) == 2 else "Unilateral"
    if rng.random() < 0.07:
        lateral = rng.choice(("Bilateral", "Unilateral"))
    if rng.random() < 0.1:
        sides.reverse()
    link = rng.choice((" lung and ", " lung and ", " lung and ", " and ", " lung, "))
    places = link.join(f"{_levels(bits[side], rng)} {side}" for side in sides)
    return lateral, places + (" lung" if rng.random() < 0.97 else ""), zones


def _short_of_words(rng: Random) -> tuple[str, str, tuple[int, ...]]:
    """As :func:`_in_full`, with a side or the levels of one unsaid."""
    one, other = rng.sample(SIDES, 2)
    levels = _zones(rng, sides=1)
    way = rng.randrange(6)
    if way == 0:  # a bare side takes the other's levels
        said = {one: f"{_levels(levels, rng)} {one} lung", other: f"{other} lung"}
        return "Bilateral", " and ".join(said[side] for side in SIDES), levels * 2
    if way == 1:  # or is free (MosMedData+)
        said = {one: f"{_levels(levels, rng)} {one} lung", other: f"{other} lung"}
        return "Unilateral", " and ".join(said[side] for side in SIDES), _at(one, levels)
    if way == 2:  # a side unsaid is the one not named otherwise
        others = _zones(rng, sides=1)
        said = {one: f"{_levels(levels, rng)} {one} lung", other: f"{_levels(others, rng)} lung"}
        zones = tuple(a | b for a, b in zip(_at(one, levels), _at(other, others), strict=True))
        return "Bilateral", " and ".join(said[side] for side in SIDES), zones
    if way == 3:  # both bare
        link = rng.choice((" and ", " lung and "))
        return rng.choice(("Bilateral", "Unilateral")), f"{link.join(SIDES)} lung", (1,) * 6
    if way == 4:
        return "Unilateral", f"{one} lung", _at(one, (1, 1, 1))
    return "Unilateral", f"{_levels(levels, rng)} and {one} lung", _at(one, levels)


def _zones(rng: Random, sides: int = 2) -> tuple[int, ...]:
    """Bits of both sides, one of them often free; or of one. Not all are zero."""
    while True:
        codes = [rng.randrange(8) if sides == 1 or rng.random() < 0.75 else 0 for _ in range(sides)]
        if any(codes):
            return tuple((code >> level) & 1 for code in codes for level in range(3))


def _at(side: str, levels: tuple[int, ...]) -> tuple[int, ...]:
    """The six bits of the levels of one side."""
    return (*levels, 0, 0, 0) if side == "left" else (0, 0, 0, *levels)


def _levels(bits: tuple[int, ...], rng: Random) -> str:
    """The levels of one side, as typed."""
    if all(bits) and rng.random() < 0.5:
        return rng.choice(("all",) * 8 + (f"all {rng.choice(LEVELS)}", f"{rng.choice(LEVELS)} all"))
    names = [level for level, bit in zip(LEVELS, bits, strict=True) if bit]
    if rng.random() < 0.12:
        rng.shuffle(names)
    if rng.random() < 0.03:
        names.append(rng.choice(names))
    if rng.random() < 0.08:
        names = ["higher" if name == "upper" else name for name in names]
    return " ".join(names)


def _report(rng: Random) -> Example:
    """One to three sentences as clinicians write them."""
    parts, zones = [], [0] * 6
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        kind = rng.random()
        if kind < 0.62:
            said, bits = _lesion(rng)
            zones = [a | b for a, b in zip(zones, bits, strict=True)]
        else:
            said = _nothing(rng)
        parts.append(said)
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts), Findings("chest", tuple(zones))


def _name(rng: Random) -> str:
    return rng.choice(_COMMON) if rng.random() < 0.6 else rng.choice(_LESIONS)


def _lesion(rng: Random) -> tuple[str, tuple[int, ...]]:
    """A lesion and its places."""
    lesion = rng.choice(_HEDGE) + rng.choice(_LOOK) + _name(rng)
    bits = [0] * 6
    places = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        side, level, way = rng.randrange(2), rng.randrange(3), rng.random()
        if way < 0.6:
            places.append(rng.choice(_WHERE[level]).format(SIDES[side]))
            bits[3 * side + level] = 1
        elif way < 0.7:
            places.append(_SHORT[side][level])
            bits[3 * side + level] = 1
        elif way < 0.85:
            places.append(rng.choice(_BOTH[level]))
            bits[level] = bits[3 + level] = 1
        elif way < 0.95:
            places.append(rng.choice(_ALL).format(SIDES[side]))
            bits[3 * side : 3 * side + 3] = (1, 1, 1)
        else:
            places.append("both lungs")
            bits = [1] * 6
    where = " and ".join(f"{'' if place.startswith(('both', 'bilateral')) else 'the '}{place}" for place in places)
    if len(places) == 1 and rng.random() < 0.4 and " of " not in places[0]:
        return f"{places[0]} {lesion}", tuple(bits)
    verb = rng.choice(("in", "in", "in", "at", "within", "involving", "is seen in", "noted in"))
    opening = "there is " if verb in ("in", "at", "within") and rng.random() < 0.3 else ""
    return f"{opening}{lesion} {verb} {where}", tuple(bits)


def _nothing(rng: Random) -> str:
    """A sentence that names no lesion, though it may name a place."""
    side, level = rng.choice(SIDES), rng.randrange(3)
    way = rng.random()
    if way < 0.35:
        place = rng.choice(("", "", f" in the {rng.choice(_WHERE[level]).format(side)}", f" on the {side}"))
        return f"{rng.choice(('no', 'no evidence of', 'without'))} {rng.choice(_LOOK)}{_name(rng)}{place}"
    if way < 0.6:
        place = rng.choice(
            (f"the {side} lung", "the lungs", "both lungs", f"the {rng.choice(_WHERE[level]).format(side)}")
        )
        return f"{place} {'are' if place.endswith('lungs') else 'is'} {rng.choice(('clear', 'clear', 'normal'))}"
    if way < 0.75:
        return f"no {side} {rng.choice(('effusion', 'pleural effusion', 'pneumothorax', _name(rng)))}"
    return f"the {rng.choice(_ORGANS)} is {rng.choice(_WELL)}"


def _polyps(rng: Random) -> Example:
    """Polyps as "two small white round polyp, located in top left, right of the image", or canonical."""
    chosen = [0] * 9
    for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 2, 3, 3, 5, 9))):
        chosen[rng.randrange(9)] = 1
    names = [name for name, bit in zip(POLYP, chosen, strict=True) if bit]
    count = None if rng.random() < 0.2 else min(len(names) + rng.choice((0, 0, 0, 1)), 9)
    findings = Findings("polyp", tuple(chosen), count)
    if rng.random() < 0.03:
        findings = Findings("polyp", (0,) * 9, rng.choice((None, 0)))
        return findings.caption(), findings
    if rng.random() < 0.45:
        return findings.caption(), findings
    if rng.random() < 0.3:
        rng.shuffle(names)
    look = [rng.choice(kind) for kind in (_SIZES, _COLOURS, _SHAPES) if rng.random() < 0.7]
    subject = " ".join(
        [*([] if count is None else [COUNT_WORDS[count]]), *look, rng.choice(("polyp", "polyp", "polyps"))]
    )
    if rng.random() < 0.2:
        names = [name.replace("top", "upper").replace("bottom", "lower") if " " in name else name for name in names]
    link = rng.choice((", ", ", ", " and "))
    where = rng.choice((", located in ", ", located in ", " in ", " in the ", " at the "))
    return (
        f"{subject}{where}{link.join(names)}{rng.choice((' of the image', ' of the image', '', ' of the picture'))}",
        findings,
    )
