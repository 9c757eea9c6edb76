"""From a sentence to :class:`Findings`, and to the sentence a network is given."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from common.errors import UserError
from common.prompts import chest, polyp
from common.prompts.doubts import other_sides
from common.prompts.findings import Findings, Grammar, Laterality
from common.prompts.words import mirror_words

_GRAMMARS = {"chest": chest.read, "polyp": polyp.read}
# The sentence of a prompt that was not given. It asserts disease everywhere: results obtained with it are
# marked.
DEFAULT_PROMPT: dict[str, str] = {
    "chest": Findings("chest", (1,) * 6).caption(),
    "polyp": Findings("polyp", (1,) * 9).caption(),
}


def parse(sentence: str, laterality: Laterality, grammar: Grammar = "chest") -> Findings:
    """What ``sentence`` says, in image sides.

    Args:
        sentence: free text, one or more sentences.
        laterality: whose left the sentence means: ``"image"`` (left of the picture: QaTa-COV19,
        MosMedData+, polyps)
            or ``"patient"`` (clinicians).
        grammar: ``"chest"`` or ``"polyp"``.

    Raises:
        UserError: an unknown laterality or grammar, or no text. A sentence that is not understood raises
        nothing here:
            its words are in ``Findings.unreadable``.
    """
    _check(sentence, laterality, grammar)
    return _parse(sentence, laterality, grammar)


def _check(sentence: str, laterality: str, grammar: str) -> None:
    if grammar not in _GRAMMARS:
        raise UserError(f"grammar {grammar!r} is unknown; use one of {', '.join(_GRAMMARS)}")
    if laterality not in ("image", "patient"):
        raise UserError(f"laterality {laterality!r} is unknown; use 'image' (left of the picture) or 'patient'")
    if grammar == "polyp" and laterality == "patient":
        raise UserError("laterality 'patient' means nothing for polyps; their sentences are 'image'-sided")
    if not isinstance(sentence, str):
        raise UserError(f"sentence {sentence!r} is no text; give a string")


@lru_cache(maxsize=20_000)
def _parse(sentence: str, laterality: Laterality, grammar: Grammar) -> Findings:
    declared = other_sides(sentence, laterality) if grammar == "chest" else ()
    if declared:
        return Findings(grammar, (0,) * 6, unreadable=declared)
    found = _GRAMMARS[grammar](sentence)
    return found.mirrored() if laterality == "patient" and found.understood else found


def prepare(sentence: str, laterality: Laterality, grammar: Grammar, captions: Literal["canonical", "original"]) -> str:
    """The image-sided sentence that a network gets.

    Args:
        sentence: free text.
        laterality: whose left the sentence means.
        grammar: ``"chest"`` or ``"polyp"``.
        captions: ``"canonical"`` (parsed, and written anew) or ``"original"`` (the words as they are, with
            left and right swapped if they are the patient's; words about the picture's sides need not be
            understood).

    Raises:
        UserError: a sentence that is not understood, one whose sides cannot be swapped word by word, or an
            unknown setting.
    """
    if captions == "canonical":
        return parse(sentence, laterality, grammar).check().caption()
    if captions != "original":
        raise UserError(f"captions {captions!r} is unknown; use 'canonical' or 'original'")
    _check(sentence, laterality, grammar)
    if grammar == "chest" and (declared := other_sides(sentence, laterality)):
        raise UserError(f"sentence not understood: {', '.join(declared)}; give it with the other laterality")
    return _of_picture(sentence, grammar) if laterality == "patient" else sentence


def _of_picture(sentence: str, grammar: Grammar) -> str:
    """The words of a patient-sided sentence with left and right swapped.

    A misspelt side and a part that only one lung has (the lingula) stay as they are, and the network would mark the
    wrong lung: such a sentence is refused.
    """
    zones = parse(sentence, "patient", grammar).check().zones
    mirrored = mirror_words(sentence)
    found = parse(mirrored, "image", grammar)
    if not found.understood or found.zones != zones:
        raise UserError(
            f"the sides of {sentence[:80]!r} cannot be swapped word by word; write 'left' and 'right' out, or use "
            f"captions 'canonical'"
        )
    return mirrored
