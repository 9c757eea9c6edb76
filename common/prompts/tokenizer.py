"""Tokeniser: from a sentence to the ids that a network gets.

>>> from common.prompts.tokenizer import Tokenizer
>>> Tokenizer.of("compact").tokens("Upper lefft lung.")
['[CLS]', 'upper', 'le', '##f', '##f', '##t', 'lung', '.', '[SEP]']

WordPiece as in BERT: lower case, accents dropped, split at spaces and punctuation, then the longest pieces of
the vocabulary. Our own vocabulary (``"compact"``) holds every ASCII letter, digit and mark as a piece, so an ASCII
sentence never becomes [UNK]. Ids are padded with 0 at the end and always hold the two special tokens.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Pipeline
from tokenizers import models, normalizers, pre_tokenizers

from common.errors import UserError

VOCABULARY = "vocab.txt"
# All canonical sentences fit (the longest, nine polyps in nine places, has 36 tokens), and all of QaTa-COV19's.
LENGTH = 40
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class Tokenizer:
    """WordPiece of one vocabulary, to rows of ``length`` ids.

    Args:
        vocabulary: a BERT ``vocab.txt``: one piece a line, its number the id; the first is ``[PAD]``.
        length: tokens of a row.

    Attributes:
        vocab_size: ids are below it.

    Raises:
        UserError: the file is not such a vocabulary.
    """

    def __init__(self, vocabulary: Path, length: int = LENGTH) -> None:
        self.vocabulary = vocabulary
        self.length = length
        pieces = _pieces(vocabulary)
        self.vocab_size = len(pieces)
        self._cls, self._sep = pieces["[CLS]"], pieces["[SEP]"]
        self._pipeline = pipeline(pieces)

    @classmethod
    def of(cls, source: str = "compact", length: int = LENGTH) -> Tokenizer:
        """The tokeniser that belongs to a text encoder.

        Args:
            source: as ``pretrained`` of the encoder: ``"compact"``, a folder with a ``vocab.txt``, or a Hugging
                Face name that is looked up in the local hub cache. Nothing is downloaded.
            length: tokens of a row.
        """
        from common.networks.checkpoints import find_file

        return cls(find_file(source, (VOCABULARY,), "vocabulary"), length)

    def ids(self, sentence: str) -> list[int]:
        """Ids of a sentence as long as they are: [CLS], its pieces, [SEP]."""
        return [self._cls, *self._pipeline.encode(sentence).ids, self._sep]

    def tokens(self, sentence: str) -> list[str]:
        """The pieces of which :meth:`ids` are the ids; those that go on a word begin with ``##``."""
        return ["[CLS]", *self._pipeline.encode(sentence).tokens, "[SEP]"]

    def encode(self, sentence: str) -> np.ndarray:
        """Ids of a sentence, int64 (length,), padded with 0.

        Raises:
            UserError: the sentence has more tokens than that. It is never cut: a side may stand at its end.
        """
        ids = self.ids(sentence)
        if len(ids) > self.length:
            raise UserError(
                f"sentence of {len(ids)} tokens, but the tokeniser's rows have {self.length}: {sentence[:60]!r}...; "
                "shorten it, or use canonical captions"
            )
        return np.array(ids + [0] * (self.length - len(ids)), dtype=np.int64)


def pipeline(pieces: dict[str, int]) -> Pipeline:
    """The WordPiece of ``tokenizers`` as BERT has it, without special tokens: a sentence cannot write one."""
    made = Pipeline(models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


@lru_cache(maxsize=8)
def _pieces(path: Path) -> dict[str, int]:
    """Pieces and their ids."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable vocabulary; fetch it again") from error
    pieces = {line: number for number, line in enumerate(lines)}
    if pieces.get("[PAD]") != 0 or len(pieces) != len(lines) or not all(name in pieces for name in _SPECIAL):
        raise UserError(
            f"{path}: not a BERT vocabulary: it needs one piece a line, none twice, {', '.join(_SPECIAL)} among "
            "them and [PAD] first; use the encoder's own vocab.txt"
        )
    return pieces
