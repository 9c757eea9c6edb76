"""CLIP's tokeniser: byte pairs (Radford et al. 2021, arXiv 2103.00020, section 2.4), in rows as all networks take them.

>>> Tokenizer.of("openai/clip-vit-base-patch32").tokens("Upper left lung!")  # doctest: +SKIP
['<|startoftext|>', 'upper', 'left', 'lung', '<|endoftext|>']

Lower case, split at spaces, digits and marks, then the pairs of ``merges.txt`` are joined in their order, the last
piece of a word ending in ``</w>``. In CLIP's vocabulary id 0, which is our padding, is "!"; so exclamation marks are
taken out of a sentence first, and no piece of one has that id. (Hugging Face's tokeniser pads with the end of text;
its padding is never used.) Every byte is a piece, so nothing is unknown.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Pipeline

from common.errors import UserError
from common.prompts.tokenizer import LENGTH, Tokenizer

MERGES = "merges.txt"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_PADDING = "!"
_WORD_END = "</w>"
# without CLIP's alternatives for the special tokens: a sentence cannot write one
_SPLIT = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


class BytePairs(Tokenizer):
    """Byte pairs of a CLIP, to rows of ``length`` ids: start of text, pieces, end of text, zeros.

    Args:
        vocabulary: a CLIP's ``vocab.json``; its ``merges.txt`` lies beside it.
        length: tokens of a row.

    Raises:
        UserError: one of the files cannot be read, or is none of a CLIP.
    """

    def __init__(self, vocabulary: Path, length: int = LENGTH) -> None:
        ids = _vocabulary(vocabulary)
        path = vocabulary.with_name(MERGES)
        merges = _merges(path)
        try:
            pairs = models.BPE(ids, merges, end_of_word_suffix=_WORD_END)
        except Exception as error:  # the package raises nothing more particular
            raise UserError(f"{path}: does not belong to {vocabulary.name} beside it ({error}); fetch both") from error
        pipeline = Pipeline(pairs)
        pipeline.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(_PADDING, " "), normalizers.Lowercase()]
        )
        pipeline.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(_SPLIT, behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._set_up(pipeline, ids, (_START, _END, _PADDING), length)

    def tokens(self, sentence: str) -> list[str]:
        """As of every tokeniser: those that go on a word begin with ``##``, and none ends in ``</w>``."""
        start, *pieces, end = super().tokens(sentence)
        shown, begins = [], True
        for piece in pieces:
            shown.append(("" if begins else "##") + piece.removesuffix(_WORD_END))
            begins = piece.endswith(_WORD_END)
        return [start, *shown, end]


def _vocabulary(path: Path) -> dict[str, int]:
    """Pieces and their ids in a CLIP's ``vocab.json``."""
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable vocabulary; fetch it again") from error
    letters = pre_tokenizers.ByteLevel.alphabet()  # one for each byte
    needed = [_START, _END, *letters, *(letter + _WORD_END for letter in letters)]
    if (
        not isinstance(ids, dict)
        or not all(isinstance(number, int) for number in ids.values())
        or sorted(ids.values()) != list(range(len(ids)))
        or not set(needed) <= ids.keys()
        or ids[_PADDING] != 0
    ):
        raise UserError(
            f"{path}: not a CLIP vocabulary: it needs pieces with the ids from 0, '{_PADDING}' first, every byte with "
            f"and without {_WORD_END}, {_START} and {_END} among them; use the encoder's own vocab.json"
        )
    return ids


def _merges(path: Path) -> list[tuple[str, str]]:
    """The pairs in a ``merges.txt``, which begins with a line of its version."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"{path}: is not there, and vocab.json beside it needs it; fetch it too") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable list of merges; fetch it again") from error
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    if not all(len(pair) == 2 for pair in pairs):
        raise UserError(f"{path}: not a list of merges, which has two pieces in each line; fetch it again")
    return pairs
