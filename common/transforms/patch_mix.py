"""``TPatchMix``: a patch of another image of the batch, where both sentences agree on the place (T-PatchMix)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from common.errors import UserError
from common.prompts import Findings, parse
from common.prompts.zones import KINDS, count_of_mask, table, zones_of_mask

from .position_aug import PHRASE
from .views import Mixing, Views, pasted

MODES = ("pos", "prob", "pos+prob")
Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two exclusive


class TPatchMix(Mixing):
    """Paste a block of one image's strong view into another's, with its target, and say the result anew.

    For each image i, j being another one of the batch, drawn at random:

    1. Conflict: the sentences must share a zone. R is the hull of the shared zones of one side, drawn if there are two.
       A default sentence that stands in for a missing one shares none.
    2. M is a block in R: anywhere (``"pos"``), or about a pixel that the teacher calls lesion in j (``"pos+prob"``).
       ``"prob"`` asks for such a pixel alone, wherever it lies.
    3. Gate: the teacher's mean probability of j in M (eq. 7) reaches ``gate``; else M is empty.
    4. Picture and probabilities are mixed by M (eq. 6 and 8). The sentence of a mixed picture is written from the zones
       and the number of components of its target p̃ ≥ 0.5; where that has no zone, nothing is mixed.

    ``as_released`` is the released code: conflict and R by the first phrase of each sentence, which is nearly always
    "left"; the picture is mixed before the gate, so that a rejected patch stays in it while target and sentence know
    nothing of it; the sentence gets "a and b" for its first phrase, and keeps its count.

    Args:
        mode: ``"pos"``, ``"prob"`` or ``"pos+prob"``.
        prob: that a mix is tried. The released 0.08 leaves 0.4 % of the images mixed.
        block: side of the block, pixels of the network's picture; the paper's 16 is of 224.
        gate: least mean probability of the block.
        confident: from which a pixel counts as lesion of j in ``"prob"`` and ``"pos+prob"``.
        kind: of image, as :mod:`common.prompts.zones` names it; one with left and right.
        as_released: see above.

    Raises:
        UserError: no such mode, or a kind of image without sides.

    Source: Semi-MedRef (arXiv 2605.15720), section 2.3, and its released code. Rows of the zones are those of
    :mod:`common.prompts.zones`, not thirds of the picture.
    """

    threshold = 0.5

    def __init__(
        self,
        mode: str = "pos+prob",
        prob: float = 0.5,
        block: int = 16,
        gate: float = 0.55,
        confident: float = 0.55,
        kind: str = KINDS["chest"],
        as_released: bool = False,
    ) -> None:
        if mode not in MODES:
            raise UserError(f"TPatchMix: mode '{mode}', expected one of {', '.join(MODES)}")
        if table(kind).grammar != "chest":
            raise UserError(f"TPatchMix: kind of image '{kind}' has no left and right lung; use that of a chest image")
        self.mode, self.prob, self.block, self.gate, self.confident = mode, prob, block, gate, confident
        self.kind, self.as_released = kind, as_released

    def __call__(self, views: Views) -> Views:
        """Mix."""
        source = self.R.permutation(len(views.sentences))
        probability = views.probability[:, 0].float().cpu().numpy()  # (B, H, W)
        images, targets = np.zeros((2, *probability.shape), dtype=bool)
        sentences = list(views.sentences)
        named = [sentence if given else "" for sentence, given in zip(sentences, views.given, strict=True)]
        for i, j in enumerate(source):
            box = self._block(named[i], named[j], probability[j])
            if box is None or i == j:
                continue
            inside = np.s_[box[0] : box[2], box[1] : box[3]]
            images[i][inside] = self.as_released
            if probability[j][inside].mean() < self.gate:
                continue
            said = self._said(views.sentences[i], named[j], probability[i], probability[j], inside)
            if said is not None:
                images[i][inside] = targets[i][inside] = True
                sentences[i] = said
        masks, taken = (torch.as_tensor(m[:, None], device=views.image.device) for m in (images, targets))
        mixed = pasted(views, torch.as_tensor(source, device=views.image.device), masks, taken)
        return replace(mixed, sentences=sentences)

    def _block(self, mine: str, other: str, probability: np.ndarray) -> Box | None:
        """M as a box, or None if there is to be none."""
        tried = self.R.random_sample() < self.prob
        region: Box | None = (0, 0, *probability.shape)
        if self.mode != "prob":
            region = self._first_phrase(mine, other) if self.as_released else self._shared(mine, other)
        if not tried or region is None:
            return None
        region = self._pixels(region, probability.shape) if self.mode != "prob" else region
        top, left, bottom, right = region
        if self.mode == "pos":
            height, width = min(self.block, bottom - top), min(self.block, right - left)
            row, column = self.R.randint(top, bottom - height + 1), self.R.randint(left, right - width + 1)
            return row, column, row + height, column + width
        found = np.argwhere(probability[top:bottom, left:right] >= self.confident)
        if not len(found):
            return None
        row, column = found[self.R.randint(len(found))] + (top, left) - self.block // 2
        return max(row, top), max(column, left), min(row + self.block, bottom), min(column + self.block, right)

    def _shared(self, mine: str, other: str) -> Box | None:
        """Row and column bands, inclusive, of the hull of the zones that both name, on one side."""
        zones = [parse(sentence, "image").zones for sentence in (mine, other)]
        cells = [cell for *bits, cell in zip(*zones, table(self.kind).cells, strict=True) if all(bits)]
        sides = sorted({column for _, column in cells})
        if not sides:
            return None
        side = sides[self.R.randint(len(sides))]
        rows = [row for row, column in cells if column == side]
        return min(rows), side, max(rows), side

    def _first_phrase(self, mine: str, other: str) -> Box | None:
        """The same of my first phrase, if the other's first is none or of the same side."""
        a, b = (PHRASE.search(sentence) for sentence in (mine, other))
        if a is None:
            return None
        zones, theirs = (parse(phrase.group(), "image") if phrase else None for phrase in (a, b))
        if theirs is not None and theirs.sides != zones.sides:
            return None
        cells = [cell for bit, cell in zip(zones.zones, table(self.kind).cells, strict=True) if bit]
        rows = [row for row, _ in cells]
        return min(rows), cells[0][1], max(rows), cells[0][1]

    def _pixels(self, bands: Box, shape: tuple[int, int]) -> Box:
        """A box of bands, inclusive, in pixels."""
        zones = table(self.kind)
        rows, columns = (
            [0, *(round(cut * length) for cut in cuts), length]
            for cuts, length in zip((zones.row_cuts, zones.column_cuts), shape, strict=True)
        )
        return rows[bands[0]], columns[bands[1]], rows[bands[2] + 1], columns[bands[3] + 1]

    def _said(
        self, mine: str, other: str, own: np.ndarray, probability: np.ndarray, inside: tuple[slice, slice]
    ) -> str | None:
        """The sentence of the mixed picture; None if its target has no zone to name."""
        if self.as_released:
            a, b = (PHRASE.search(sentence) for sentence in (mine, other))
            if self.mode == "prob" or a is None or b is None or a.group() == b.group():
                return mine
            return f"{mine[: a.start()]}{a.group()} and {b.group()}{mine[a.end() :]}"
        target = own >= self.threshold
        target[inside] = probability[inside] >= self.threshold
        zones = zones_of_mask(target, self.kind)
        return Findings("chest", zones, count_of_mask(target)).caption() if any(zones) else None
