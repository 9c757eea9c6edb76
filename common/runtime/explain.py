"""What a bundle made of one image and sentence, and where the words were looked at, all as displayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Invertd

from common.images import read_mask, to_display
from common.networks.base import Insight, TextNetwork
from common.prompts.findings import LEVELS
from common.prompts.words import COUNT_WORDS, SIDES
from common.prompts.zones import POLYP
from common.runtime.model import Model, Segmentation
from common.transforms import PositionPriord, TokenizePromptd

MAX_WORDS = 12
_POSITIONS = {*LEVELS, *SIDES, *COUNT_WORDS, *" ".join(POLYP).split(), "all", "unilateral", "bilateral", "no"}
# words that say neither what nor where
_EMPTY = {
    "a", "an", "and", "are", "as", "at", "both", "but", "by", "in", "is", "it", "located", "of", "on", "or", "showing",
    "shows", "the", "there", "to", "which", "with",
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """An :class:`~common.networks.base.Insight` in the picture's own grid, as displayed.

    Attributes:
        heading: what the maps show.
        names: of each map.
        values: (N, H, W), 0 to 1.
        outline: (H, W) bool, or None.
    """

    heading: str
    names: tuple[str, ...]
    values: np.ndarray
    outline: np.ndarray | None


@dataclass
class Explanation:
    """All that :func:`explain` found; pictures are (H, W), as a radiologist sees them.

    Attributes:
        result: mask, probability, findings and the sentence that the network got.
        picture: (H, W) or (H, W, 3), 0..1.
        probability: 0..1.
        truth: the ground truth, None where none was given.
        takes_text: whether the network uses a sentence at all.
        words: of each map its word and what stands before and behind it in the sentence.
        attention: (N, H, W), how many times more than evenly each word is looked at in a place; empty where the
            network has no ``word_attention``.
        cells: (rows, columns) of the grid on which attention was computed.
        left_out: words of the sentence that have no map, for there were too many.
        insights: what the method has to show of its own.
    """

    result: Segmentation
    picture: np.ndarray
    probability: np.ndarray
    truth: np.ndarray | None
    takes_text: bool
    words: list[tuple[str, str, str]] = field(default_factory=list)
    attention: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    cells: tuple[int, int] = (0, 0)
    left_out: list[str] = field(default_factory=list)
    insights: list[Shown] = field(default_factory=list)


def explain(
    model: Model,
    image: str | Path,
    text: str | None = None,
    laterality: str | None = None,
    truth: str | Path | None = None,
) -> Explanation:
    """Segment an image, and look into the network.

    At the words' attention where it offers ``word_attention(image, text)``, at a method's own maps where it offers
    ``insights(image, text, prior)``.

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
        picture=data["displayed"],
        probability=to_display(result.probability.T, display),
        truth=None if truth is None else read_mask(truth, result.meta),
        takes_text=isinstance(model.network, TextNetwork),
    )
    if not found.takes_text:
        return found
    image_batch, text_batch = data["image"].as_tensor()[None].to(model.device), data["text"][None].to(model.device)
    if hasattr(model.network, "word_attention"):
        weights = model.network.word_attention(image_batch, text_batch)[0].float().cpu()  # (L, h, w)
        steps = model.preprocessing.transforms
        tokenizer = next(step.tokenizer for step in steps if isinstance(step, TokenizePromptd))
        words = group_pieces(tokenizer.tokens(result.sentence))
        chosen = choose([word for word, _ in words])
        found.cells = tuple(weights.shape[-2:])
        found.words = [_in_context([word for word, _ in words], number) for number in chosen]
        found.left_out = [w for i, (w, _) in enumerate(words) if w not in _EMPTY and i not in chosen]
        # each word's weights sum to 1 over the grid: times its cells, 1 is even
        even = torch.stack([weights[words[number][1]].mean(dim=0) for number in chosen]) * weights[0].numel()
        found.attention = _as_displayed(model, data, even)
    if hasattr(model.network, "insights"):
        prior = PositionPriord("text_prompt", model.grammar, model.kind)(data)["prior"].to(model.device)  # (1, H, W)
        found.insights = [_shown(model, data, one) for one in model.network.insights(image_batch, text_batch, prior)]
    return found


def _as_displayed(model: Model, data: dict[str, Any], maps: torch.Tensor) -> np.ndarray:
    """Maps (N, h, w) of the network's picture in the file's own grid, as displayed: (N, H, W), not negative."""
    large = F.interpolate(maps[None].float().cpu(), data["image"].shape[-2:], mode="bilinear")[0]
    back = next(step for step in model.postprocessing if isinstance(step, Invertd))(data | {"pred": MetaTensor(large)})
    return np.maximum(to_display(back["pred"].cpu().numpy(), data["image"].meta["display"]), 0)


def _shown(model: Model, data: dict[str, Any], insight: Insight) -> Shown:
    """The first image's maps."""
    outline = None if insight.outline is None else _as_displayed(model, data, insight.outline[:1])[0] > 0.5
    return Shown(insight.heading, insight.names, _as_displayed(model, data, insight.values[0]), outline)


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
