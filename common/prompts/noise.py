"""How typists depart from a pattern: other word orders, misspelt, torn and run-together words.

Each departure is either for training or *held out*, so that an encoder trained on the one kind can be tested on
the other: a misspelt, torn or joined form by a checksum of its letters, a word order by a list.
"""

from __future__ import annotations

import re
import zlib
from random import Random

from common.prompts.words import repair

# words that decide what a sentence says: a misspelling must still be nearest to its own word
KEYS = frozenset(
    ("left", "right", "upper", "middle", "lower", "higher", "all", "lung", "unilateral", "bilateral", "top", "bottom",
     "center", "no", "clear", "base", "apex", "and")
)  # fmt: skip
_LEVELS = frozenset(("upper", "middle", "lower", "higher", "all"))
_SIDES = ("left", "right")
# neighbours on a keyboard
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEAR = {letter: row[max(i - 1, 0) : i] + row[i + 1 : i + 2] for row in _ROWS for i, letter in enumerate(row)}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# orders of (laterality, count, places); and of (levels, side, lung), None: the side after the first level
_CLAUSES = {False: ((1, 0, 2), (2, 0, 1), (0, 2, 1)), True: ((1, 2, 0), (2, 1, 0))}
_PHRASES = {False: ((0, 1, 2), (1, 0, 2), (1, 2, 0), (2, 1, 0), (0, 2, 1), None), True: ((2, 0, 1),)}


def is_held_out(form: str) -> bool:
    """Whether a misspelt, torn or joined form is kept for tests (one in four is)."""
    return zlib.crc32(form.encode()) % 4 == 0


def misspell(word: str, rng: Random, held_out: bool = False) -> str:
    """``word`` (lower-case) with one wrong, missing, extra or swapped letter, sometimes two such.

    No other word of ``KEYS`` is as near to the result. The word itself where twenty tries give no such form.
    """
    known = KEYS if word in KEYS else KEYS | {word}
    for _ in range(20):
        form = _edit(word, rng)
        if len(word) > 4 and rng.random() < 0.3:
            form = _edit(form, rng)
        if form != word and is_held_out(form) == held_out:
            nearest = repair(form, known)
            if nearest is not None and nearest[0] == word:
                return form
    return word


def _edit(word: str, rng: Random) -> str:
    i = rng.randrange(len(word))
    kind = rng.randrange(4)
    if kind == 0:
        return word[:i] + word[i + 1 :]
    if kind == 1:
        return word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]
    near = word[i] + _NEAR[word[i]] if rng.random() < 0.6 else _LETTERS
    letter = rng.choice(near)
    return word[:i] + letter + word[i + (kind == 2) :]


def disturb(sentence: str, rng: Random, places: int, held_out: bool = False) -> str:
    """``sentence`` with up to ``places`` words misspelt, torn in two, or run together with the next.

    Words of ``KEYS`` are taken more often than others, those of fewer than four letters never.
    """
    parts = re.split(r"([A-Za-z]+)", sentence)  # words at the odd numbers
    for _ in range(places):
        words = [i for i in range(1, len(parts), 2) if len(parts[i]) > 3 and parts[i].isalpha()]
        if not words:
            break
        i = rng.choices(words, [4 if parts[w].lower() in KEYS else 1 for w in words])[0]
        kind = rng.random()
        word = parts[i].lower()
        if kind < 0.75:
            parts[i] = misspell(word, rng, held_out)
        elif kind < 0.9:
            follows = parts[i + 2] if i + 2 < len(parts) and parts[i + 1].isspace() else ""
            if follows.isalpha() and is_held_out(word + follows) == held_out:
                parts[i : i + 3] = [word + follows]
        elif len(word) > 4:
            cut = rng.randrange(2, len(word) - 1)
            torn = f"{word[:cut]} {word[cut:]}"
            if is_held_out(torn) == held_out:
                parts[i] = torn
    return "".join(parts)


def reorder(sentence: str, rng: Random, held_out: bool = False) -> str:
    """A sentence of the data sets' pattern with its clauses, its two sides and the words of a place in other orders.

    What does not have the pattern's shape stays as it is.
    """
    clauses = [clause.strip() for clause in sentence.strip().rstrip(".").split(",")]
    phrases = clauses[-1].split(" and ")
    if len(phrases) == 2 and rng.random() < 0.5:
        phrases.reverse()
    order = rng.choice(_PHRASES[held_out])
    mixed = not held_out and rng.random() < 0.5
    clauses[-1] = " and ".join(_turn(p, rng.choice(_PHRASES[held_out]) if mixed else order) for p in phrases)
    if len(clauses) == 3 and (held_out or rng.random() < 0.65):
        clauses = [clauses[i] for i in rng.choice(_CLAUSES[held_out])]
    elif len(clauses) == 2 and rng.random() < 0.5:
        clauses.reverse()
    return ", ".join(clauses) + "."


def _turn(phrase: str, order: tuple[int, ...] | None) -> str:
    """A phrase of levels, side and "lung" in another order; None: the side after the first level."""
    words = phrase.split()
    if len(words) < 3 or words[-1] != "lung" or words[-2] not in _SIDES or not set(words[:-2]) <= _LEVELS:
        return phrase
    if order is None:
        return " ".join((words[0], words[-2], *words[1:-2], words[-1]))
    parts = (" ".join(words[:-2]), words[-2], words[-1])
    return " ".join(parts[i] for i in order)
