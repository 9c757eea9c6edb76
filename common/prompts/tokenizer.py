"""Tokeniser: from a sentence to the ids that a network gets.

>>> from common.prompts.tokenizer import Tokenizer
>>> Tokenizer.of("compact").tokens("Upper lefft lung, noduls.")
['[CLS]', 'upper', 'left', 'lung', ',', 'n', '##o', '##d', '##u', '##l', '##s', '.', '[SEP]']

WordPiece as in BERT: lower case, accents dropped, split at spaces and punctuation, then the longest pieces of
the vocabulary. Our own vocabulary (``"compact"``) holds every ASCII letter, digit and mark as a piece, so an ASCII
sentence never becomes [UNK]; before it is split, words that tell a place are mended where one letter or two are wrong
or a space is missing. Ids are padded with 0 at the end and always hold the two special tokens.

CLIP's byte pairs are in :mod:`common.prompts.bpe`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Pipeline
from tokenizers import models, normalizers, pre_tokenizers, processors

from common.errors import UserError
from common.prompts.report import KNOWN
from common.prompts.words import SIDES, mend

VOCABULARY = "vocab.txt"  # of a BERT
BYTE_PAIRS = "vocab.json"  # of a CLIP
# All canonical sentences fit (the longest, nine polyps in nine places, has 36 tokens), and all of QaTa-COV19
# (26) and Kvasir-SEG (39).
LENGTH = 48
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MENDS = "mends_words"  # the key of an encoder's config.json that asks for it
_MENDED = frozenset(
    (*SIDES, "upper", "middle", "lower", "higher", "all", "lung", "unilateral", "bilateral", "bottom", "center")
)
_LETTERS = re.compile(r"[^\W\d_]+")


class Tokenizer:
    """WordPiece of one vocabulary, to rows of ``length`` ids.

    Args:
        pieces: of a BERT, each at the place of its id; the first is ``[PAD]``.
        length: tokens of a row.
        mends: mend misspelt words that tell a place first ("lowerl", "upperright"); not those of the vocabulary.

    Attributes:
        vocab_size: ids are below it.
    """

    def __init__(self, pieces: Sequence[str], length: int = LENGTH, mends: bool = False) -> None:
        ids = {piece: number for number, piece in enumerate(pieces)}
        pipeline = Pipeline(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
        pipeline.normalizer = normalizers.BertNormalizer(lowercase=True)
        pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._set_up(pipeline, ids, ("[CLS]", "[SEP]", "[PAD]"), length, mends)

    def _set_up(
        self,
        pipeline: Pipeline,
        ids: Mapping[str, int],
        special: tuple[str, str, str],
        length: int,
        mends: bool = False,
    ) -> None:
        """``pipeline`` knows no special tokens, so a sentence cannot write one: the first, the last and the padding."""
        self.length, self.mends, self.vocab_size = length, mends, len(ids)
        self._known = KNOWN.union(ids) if mends else KNOWN
        self._pipeline, self._special = pipeline, special
        self._first, self._last = ids[special[0]], ids[special[1]]

    @classmethod
    def of(cls, source: str = "compact", length: int = LENGTH) -> Tokenizer:
        """The tokeniser that belongs to a text encoder.

        Args:
            source: as ``pretrained`` of the encoder: ``"compact"``, a folder with a BERT's ``vocab.txt`` or a CLIP's
                ``vocab.json`` and ``merges.txt``, or a Hugging Face name that is looked up in the local hub cache.
                Nothing is downloaded.
            length: tokens of a row.

        Raises:
            UserError: there is no such file, or it is no vocabulary of a BERT or a CLIP.
        """
        from common.networks.checkpoints import find_file
        from common.prompts.bpe import BytePairs

        path = find_file(source, (VOCABULARY, BYTE_PAIRS), "vocabulary")
        if path.name == BYTE_PAIRS:
            return BytePairs(path, length)
        config = path.with_name("config.json")
        mends = config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get(MENDS))
        return cls(_read(path), length, mends)

    def ids(self, sentence: str) -> list[int]:
        """Ids of a sentence as long as they are: those of [CLS], its pieces, [SEP] (a CLIP's names are others)."""
        return [self._first, *self._pipeline.encode(self._mended(sentence)).ids, self._last]

    def tokens(self, sentence: str) -> list[str]:
        """The pieces of which :meth:`ids` are the ids; those that go on a word begin with ``##``."""
        first, last, _ = self._special
        return [first, *self._pipeline.encode(self._mended(sentence)).tokens, last]

    def to_json(self) -> str:
        """As a ``tokenizer.json`` for the package ``tokenizers``: with special tokens and padding, mends nothing."""
        alone = Pipeline.from_str(self._pipeline.to_str())
        first, last, padding = self._special
        alone.post_processor = processors.TemplateProcessing(
            f"{first} $A {last}", special_tokens=[(first, self._first), (last, self._last)]
        )
        alone.enable_padding(pad_id=0, pad_token=padding, length=self.length)
        return alone.to_str()

    def _mended(self, sentence: str) -> str:
        return _LETTERS.sub(lambda found: self._word(found.group()), sentence) if self.mends else sentence

    def _word(self, word: str) -> str:
        if word.lower() in self._known:
            return word
        words, unreadable = mend([word.lower()], _MENDED, self._known)
        # "all" is a part of "lowerall", but "call" is no "all"
        return word if unreadable or words == ["all"] else " ".join(words)

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


def _read(path: Path) -> list[str]:
    """The pieces in a BERT's ``vocab.txt``, one a line."""
    try:
        pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable vocabulary; fetch it again") from error
    if pieces[0] != "[PAD]" or len(set(pieces)) != len(pieces) or not set(_SPECIAL) <= set(pieces):
        raise UserError(
            f"{path}: not a BERT vocabulary: it needs one piece a line, none twice, {', '.join(_SPECIAL)} among "
            "them and [PAD] first; use the encoder's own vocab.txt"
        )
    return pieces
