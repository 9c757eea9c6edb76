"""What a bundle made of one image and sentence, and where the words were looked at, all as displayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Invertd

from common.images import read_mask, to_display
from common.networks.base import TextNetwork
from common.prompts.findings import LEVELS
from common.prompts.words import COUNT_WORDS, SIDES
from common.prompts.zones import POLYP
from common.runtime.model import Model, Segmentation
from common.transforms import TokenizePromptd

MAX_WORDS = 12
_POSITIONS = {*LEVELS, *SIDES, *COUNT_WORDS, *" ".join(POLYP).split(), "all", "unilateral", "bilateral", "no"}
# words that say neither what nor where
_EMPTY = {
    "a", "an", "and", "are", "as", "at", "both", "but", "by", "in", "is", "it", "located", "of", "on", "or", "showing",
    "shows", "the", "there", "to", "which", "with",
}  # fmt: skip


@dataclass
class Explanation:
    """All that :func:`explain` found; pictures are (H, W), as a radiologist sees them.

    Attributes:
        result: mask, probability, findings and the sentence that the network got.
        probability: 0..1.
        truth: the ground truth, None where none was given.
        takes_text: whether the network uses a sentence at all.
        words: of each map its word and what stands before and behind it in the sentence.
        attention: (N, H, W), how many times more than evenly each word is looked at in a place; empty where the
            network has no ``word_attention``.
        cells: (rows, columns) of the grid on which attention was computed.
        left_out: words of the sentence that have no map, for there were too many.
    """

    result: Segmentation
    probability: np.ndarray
    truth: np.ndarray | None
    takes_text: bool
    words: list[tuple[str, str, str]] = field(default_factory=list)
    attention: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    cells: tuple[int, int] = (0, 0)
    left_out: list[str] = field(default_factory=list)


def explain(
    model: Model,
    image: str | Path,
    text: str | None = None,
    laterality: str | None = None,
    truth: str | Path | None = None,
) -> Explanation:
    """Segment an image, and look at the words' attention where the network offers ``word_attention(image, text)``.

    Args:
        model: a trained bundle.
        image: the file.
        text: the sentence; None or blank takes the grammar's default.
        laterality: whose left it means.
        truth: file of the ground truth, in the image's stored grid (a PNG) or with an orientation of its own.

    Raises:
        UserError: as of the model; the ground truth cannot be read or has another size.
    """
    data = model.prepare(image, text, laterality)
    result = model.finish(data, model.logits([data])[0])
    display = result.meta["display"]
    found = Explanation(
        result=result,
        probability=to_display(result.probability.T, display),
        truth=None if truth is None else read_mask(truth, result.meta),
        takes_text=isinstance(model.network, TextNetwork),
    )
    if not hasattr(model.network, "word_attention"):
        return found

    batch = data["image"].as_tensor()[None].to(model.device)
    weights = model.network.word_attention(batch, data["text"][None].to(model.device))[0].float().cpu()  # (L, h, w)
    tokenizer = next(step.tokenizer for step in model.preprocessing.transforms if isinstance(step, TokenizePromptd))
    words = group_pieces(tokenizer.tokens(result.sentence))
    chosen = choose([word for word, _ in words])
    found.cells = tuple(weights.shape[-2:])
    found.words = [_in_context([word for word, _ in words], number) for number in chosen]
    found.left_out = [w for i, (w, _) in enumerate(words) if w not in _EMPTY and i not in chosen]
    # each word's weights sum to 1 over the grid: times its cells, 1 is even
    even = torch.stack([weights[words[number][1]].mean(dim=0) for number in chosen]) * weights[0].numel()
    data["pred"] = MetaTensor(F.interpolate(even[None], batch.shape[-2:], mode="bilinear")[0])
    back = next(step for step in model.postprocessing if isinstance(step, Invertd))(data)["pred"]
    found.attention = np.maximum(to_display(back.cpu().numpy(), display), 0)
    return found


def group_pieces(tokens: list[str]) -> list[tuple[str, list[int]]]:
    """Words of WordPiece tokens with the places of their pieces; special tokens and punctuation are left out."""
    words: list[tuple[str, list[int]]] = []
    open_word = False
    for place, token in enumerate(tokens):
        if token.startswith("##") and open_word:
            word, places = words[-1]
            words[-1] = (word + token[2:], [*places, place])
            continue
        open_word = token.isalnum()
        if open_word:
            words.append((token, [place]))
    return words


def choose(words: list[str], most: int = MAX_WORDS) -> list[int]:
    """Places of the words that say something, in order; if they are too many, those of position and count first."""
    telling = [i for i, word in enumerate(words) if word not in _EMPTY]
    ranked = sorted(telling, key=lambda i: words[i] not in _POSITIONS)
    return sorted(ranked[:most])


def _in_context(words: list[str], place: int) -> tuple[str, str, str]:
    """The two words before, the word, the two behind."""
    return " ".join(words[max(0, place - 2) : place]), words[place], " ".join(words[place + 1 : place + 3])
