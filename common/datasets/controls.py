"""What a text-guided network does with another sentence than its image's: the controls that no paper ran."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import UserError
from common.prompts import Grammar, mirror_words, parse

CONTROLS = ("none", "default", "shuffled", "mirrored")
_OTHER = {"image": "patient", "patient": "image"}


def with_control(
    items: Sequence[Mapping[str, Any]], control: str, seed: int = 0, grammar: Grammar = "chest"
) -> list[dict[str, Any]]:
    """The data list with its sentences changed.

    Args:
        items: as :func:`common.datasets.load_dataset` gives them.
        control: ``"none"``; ``"default"`` takes every sentence away, so that the network's default one stands in;
            ``"shuffled"`` gives each image the sentence of another; ``"mirrored"`` reads each sentence with the other
            laterality, so that its left is its right (a polyp's sentence, which has but one: its words left and right
            are swapped).
        seed: of the shuffling.
        grammar: of the sentences.

    Raises:
        UserError: an unknown control, fewer than two images to shuffle, or a polyp's sentence that cannot be mirrored.
    """
    if control not in CONTROLS:
        raise UserError(f"control {control!r}: is not known; use one of {', '.join(CONTROLS)}")
    changed = [dict(item) for item in items]
    if control == "default":
        for item in changed:
            item.pop("text_prompt", None)
    elif control == "mirrored":
        for item in changed:
            if grammar == "polyp":
                item["text_prompt"] = _mirrored_polyp(item)
            else:
                item["laterality"] = _OTHER[item["laterality"]]
    elif control == "shuffled":
        if len(changed) < 2:
            raise UserError("control 'shuffled': needs at least two images")
        # one random cycle: no image keeps its own sentence (another with the same words may come)
        order = list(range(len(changed)))
        random.Random(seed).shuffle(order)
        for here, there in zip(order, [*order[1:], order[0]], strict=True):
            changed[here] |= {key: items[there][key] for key in ("text_prompt", "laterality")}
    return changed


def _mirrored_polyp(item: Mapping[str, Any]) -> str:
    """The sentence with left and right swapped.

    One that is not understood is swapped as it stands: without the control, too, the default sentence or its own words
    take its place.
    """
    sentence = item["text_prompt"]
    mirrored = mirror_words(sentence)
    try:
        findings = parse(sentence, item["laterality"], "polyp")
    except UserError as error:
        raise UserError(f"control 'mirrored': {item['image']}: {error}") from error
    if findings.understood and parse(mirrored, "image", "polyp").zones != findings.mirrored().zones:
        raise UserError(
            f"control 'mirrored': {item['image']}: the sides of {sentence[:80]!r} cannot be swapped; write 'left' and "
            "'right' out in the table"
        )
    return mirrored
