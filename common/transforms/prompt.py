"""The sentence on its way to the network."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from common.errors import UserError
from common.prompts import DEFAULT_PROMPT, parse, prepare


class PreparePromptd(MapTransform):
    """Turn the sentence into the one a network gets: about the picture's sides, canonical or as written.

    The one place where a patient's left becomes the picture's right. After it ``laterality`` is ``"image"``. An item
    without a sentence (key missing, None or blank) gets the grammar's default sentence.

    Args:
        keys: of the sentence, ``text_prompt``.
        grammar: ``"chest"`` or ``"polyp"``.
        captions: ``"canonical"`` (parse and say it in one form) or ``"original"`` (the words as they are, sides
            swapped if they are the patient's).
        unreadable: what a sentence that is not understood does: ``"refuse"`` raises; ``"default"`` (public training
            sets hold a few) gives the default sentence, which ``prompt_used`` then says; but original words about the
            picture's sides, with which a network may be trained, reach it as they are.
    """

    def __init__(self, keys: KeysCollection, grammar: str, captions: str, unreadable: str = "refuse") -> None:
        super().__init__(keys)
        self.grammar, self.captions, self.unreadable = grammar, captions, unreadable

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the sentence, set ``laterality`` to ``"image"`` and ``prompt_used`` to ``"given"`` or ``"default"``.

        Raises:
            UserError: the sentence is not understood, or it names sides and ``laterality`` is not given; the line
                begins with the item's file or source.
        """
        d = dict(data)
        for key in self.keys:
            sentence = str(d.get(key) or "").strip()
            prepared = self._prepare(sentence, d) if sentence else None
            d[key] = DEFAULT_PROMPT[self.grammar] if prepared is None else prepared
            d["prompt_used"] = "default" if prepared is None else "given"
        d["laterality"] = "image"
        return d

    def _prepare(self, sentence: str, data: Mapping[Hashable, Any]) -> str | None:
        """The sentence for the network, or None where the default one stands in."""
        laterality = data.get("laterality")
        if laterality not in ("image", "patient"):
            raise UserError(
                f"{source_of(data)}: laterality is {laterality!r}; say whose left the sentence means: "
                f"'patient' (clinicians) or 'image' (left of the picture)"
            )
        try:
            if self.unreadable == "refuse":
                parse(sentence, laterality, self.grammar).check()
            return prepare(sentence, laterality, self.grammar, self.captions)
        except UserError as error:
            line = f"{source_of(data)}: {error}"
            if self.unreadable == "refuse":
                raise UserError(line) from error
            logging.getLogger("prompt").warning("%s: the default sentence is used instead", line)
            return None


def source_of(data: Mapping[Hashable, Any], image_key: str = "image") -> str:
    """What to call an item in a message: the file of its image, else its source."""
    image = data.get(image_key)
    file = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return str(file or data.get("source") or "prompt")
