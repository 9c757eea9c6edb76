"""The last transform of every chain: the sentence as the ids that a network takes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from common.errors import UserError
from common.prompts import DEFAULT_PROMPT
from common.prompts.tokenizer import Tokenizer

from .prompt import source_of


class TokenizePromptd(MapTransform):
    """Ids of the sentence under ``text``, (L,) int64 padded with 0, and in the image's meta under ``text``.

    The meta is how they reach the inferer in MONAI Label, which hands it the image alone. It comes after every random
    transform: those edit the sentence, never the ids.

    Args:
        keys: of the sentence, ``text_prompt``.
        tokenizer: ``"compact"``, or what :meth:`common.prompts.tokenizer.Tokenizer.of` takes.
        image_key: of the image.
    """

    def __init__(self, keys: KeysCollection, tokenizer: str, image_key: str = "image") -> None:
        super().__init__(keys)
        self.tokenizer = Tokenizer.of(tokenizer)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the ids.

        Raises:
            UserError: the sentence has too many tokens; the line begins with the item's file or source.
        """
        d = dict(data)
        for key in self.keys:
            try:
                ids = torch.as_tensor(self.tokenizer.encode(d[key]), dtype=torch.int64)
            except UserError as error:
                raise UserError(f"{source_of(d, self.image_key)}: {error}") from error
            d["text"] = ids
            if isinstance(d.get(self.image_key), MetaTensor):
                d[self.image_key].meta["text"] = ids
        return d


def default_text(grammar: str, tokenizer: str) -> list[int]:
    """Ids of the grammar's default sentence: what a network takes where none is given."""
    return Tokenizer.of(tokenizer).encode(DEFAULT_PROMPT[grammar]).tolist()
