"""The sentence on its way to the network."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from common.errors import UserError
from common.prompts import DEFAULT_PROMPT, prepare


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
            sets hold a few) gives the default sentence, which ``prompt_used`` then says.
    """

    def __init__(self, keys: KeysCollection, grammar: str, captions: str, unreadable: str = "refuse") -> None:
        super().__init__(keys)
        self.grammar, self.captions, self.unreadable = grammar, captions, unreadable

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the sentence, set ``laterality`` to ``"image"`` and ``prompt_used`` to ``"given"`` or ``"default"``.

        Raises:
            UserError: the sentence is not understood, or it names sides and ``laterality`` is not given.
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
                f"{data.get('source', 'prompt')}: laterality is {laterality!r}; say whose left the sentence means: "
                f"'patient' (clinicians) or 'image' (left of the picture)"
            )
        try:
            return prepare(sentence, laterality, self.grammar, self.captions)
        except UserError as error:
            if self.unreadable == "refuse":
                raise
            logging.getLogger("prompt").warning("%s: the default sentence is used instead", error)
            return None
