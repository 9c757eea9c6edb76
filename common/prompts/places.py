"""Where in the lungs: the places that a stretch of a report names, as (side, levels).

Levels are those of the frontal picture. Lobes are taken where most of them projects: upper lobe = upper
zone, middle lobe = right middle, lower lobe = lower, lingula = left middle and lower (it is a part of the
left upper lobe, but projects beside the heart). Bases, costophrenic angles and what is seen behind the
heart are lower, apices upper, hila and what surrounds them middle. A side without a level is the whole
lung, but lower for an effusion. "Retrocardiac" without a side is left, for there the heart covers the
lung.
"""

from __future__ import annotations

from dataclasses import dataclass, field

UP, MID, LOW = 0, 1, 2
WHOLE = frozenset((UP, MID, LOW))
_SIDE = {"left": "left", "lt": "left", "right": "right", "rt": "right"}
_LEVELS = {
    UP: ("upper", "superior", "higher", "top", "apex", "apices", "apical", "biapical", "suprahilar", "infraclavicular"),
    MID: (
        "mid", "middle", "midlung", "midlungs", "midzone", "hilum", "hila", "hilar", "perihilar", "parahilar",
        "juxtahilar", "retrohilar", "bihilar",
    ),
    LOW: (
        "lower", "inferior", "bottom", "base", "bases", "basilar", "basal", "bibasilar", "bibasal", "infrahilar",
        "costophrenic", "retrocardiac", "subpulmonic",
    ),
}  # fmt: skip
_LEVEL = {word: frozenset((level,)) for level, words in _LEVELS.items() for word in words}
_LEVEL |= {"lingula": frozenset((MID, LOW)), "lingular": frozenset((MID, LOW))}
_SHORT = {
    "rul": ("right", UP), "rml": ("right", MID), "rll": ("right", LOW), "lul": ("left", UP), "lll":
    ("left", LOW),
}  # fmt: skip
_BOTH = ("BOTH", "bilateral", "bilaterally", "both", "bibasilar", "bibasal", "biapical", "bihilar")
_PLURAL = ("lungs", "lobes", "zones", "fields", "bases", "apices", "hila", "angles", "recesses", "sulci", "midlungs")
_NOUN = (
    "lung", "lobe", "zone", "field", "base", "apex", "hilum", "angle", "recess", "sulcus", "hemithorax",
    "chest", "thorax", "lingula", "midlung", "midzone", *_PLURAL,
)  # fmt: skip
_MINOR = ("superior", "inferior")
_HILA = ("hilum", "hila", "hilar", "bihilar")
# words that name a place in a lung
WORDS = frozenset((*_SIDE, *_LEVEL, *_SHORT, *_BOTH, *_NOUN))
_LUNGS = ("lung", "lungs", "lobe", "lobes", "chest", "thorax")


@dataclass
class Place:
    """One place: its sides and levels, either of which may be unsaid; ``closed`` once its noun has come."""

    sides: set[str] = field(default_factory=set)
    levels: set[int] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    closed: bool = False
    plural: bool = False
    level_first: bool = False


def places(words: list[str]) -> tuple[list[Place], list[str]]:
    """The places named by ``words`` in their order, and the words that cannot be told apart, if any."""
    # the superior segment of a lower lobe is lower
    drop = _MINOR if any(word in _LEVEL and word not in _MINOR for word in words) else ()
    found: list[Place] = []
    for word in words:
        if word not in WORDS or word in drop:
            continue
        if not found or _starts_new(found[-1], word):
            found.append(Place())
        _add(found[-1], word)
    found = [place for place in found if place.sides or place.levels or place.plural]
    sides = [place for place in found if place.sides]
    if len({frozenset(place.sides) for place in sides}) > 1:
        # "upper right lower left": unless nouns or a steady "side level" order part them, they are not told apart
        loose = [place for place in found if place.level_first and not place.closed]
        if loose or any(len(place.sides) > 1 for place in sides):
            return [], [word for place in found for word in place.words]
    return found, []


def _starts_new(place: Place, word: str) -> bool:
    if word in _SHORT:
        return bool(place.words)
    if word in _SIDE or word in _BOTH:
        sides = {"left", "right"} if word in _BOTH else {_SIDE[word]}
        return bool(place.sides) and place.sides != sides
    if word in _LEVEL:
        return place.closed and bool(place.levels)
    return False


def _add(place: Place, word: str) -> None:
    place.words.append(word)
    if word in _SHORT:
        side, level = _SHORT[word]
        place.sides, place.levels, place.closed = {side}, {level}, True
    if word in _SIDE:
        place.sides.add(_SIDE[word])
    if word in _BOTH:
        place.sides |= {"left", "right"}
    if word in _LEVEL:
        place.level_first = place.level_first or not place.sides
        place.levels |= _LEVEL[word]
    if word in ("lingula", "lingular", "retrocardiac") and not place.sides:
        place.sides.add("left")
    if word in _NOUN:
        place.closed = True
        place.plural = place.plural or word in _PLURAL


def hilar(place: Place) -> bool:
    """Whether the place is a hilum: vessels and nodes, of which only a true finding is one of the lung."""
    return any(word in _HILA for word in place.words)


def only_lungs(place: Place) -> bool:
    """Whether the place is just "the lungs", which says no more than that the sentence is about lungs."""
    return not place.sides and not place.levels and set(place.words) <= set(_LUNGS)
