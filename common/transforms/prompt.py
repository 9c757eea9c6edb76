"""The sentence on its way to the network."""

from __future__ import annotations

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
    """

    def __init__(self, keys: KeysCollection, grammar: str, captions: str) -> None:
        super().__init__(keys)
        self.grammar, self.captions = grammar, captions

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the sentence and set ``laterality`` to ``"image"``.

        Raises:
            UserError: the sentence is not understood, or it names sides and ``laterality`` is not given.
        """
        d = dict(data)
        for key in self.keys:
            sentence = str(d.get(key) or "").strip()
            if not sentence:
                d[key] = DEFAULT_PROMPT[self.grammar]
                continue
            laterality = d.get("laterality")
            if laterality not in ("image", "patient"):
                raise UserError(
                    f"{d.get('source', 'prompt')}: laterality is {laterality!r}; say whose left the sentence means: "
                    f"'patient' (clinicians) or 'image' (left of the picture)"
                )
            d[key] = prepare(sentence, laterality, self.grammar, self.captions)
        d["laterality"] = "image"
        return d
