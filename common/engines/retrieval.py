"""How well pictures find their sentences, and sentences their pictures: the metric of a contrastive pretraining."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from ignite.engine import Engine
from ignite.metrics import Metric

from common.errors import UserError

MEASURES = ("mrr", "top1", "top5", "map")


class CaptionRetrieval(Metric):
    """Retrieval among all pictures of an evaluation and their distinct sentences, by the cosine.

    Many pictures share one sentence, so a picture looks among the distinct ones: ``"mrr"`` is the mean of 1 over the
    rank of its own, ``"top1"`` and ``"top5"`` are how often it is the first or one of five. ``"map"``: each distinct
    sentence looks among the pictures, and all that have it are right; mean average precision. The network gives
    (B, 2, D), a picture's vector and its sentence's; the sentence's ids are ``text`` of the batch.

    Ties count for the worst: others that are as like come first, in either direction, so vectors that are all the same
    find nothing, and the order of the pictures does not matter. A vector with a number that is not finite finds
    nothing and is not found, and where it is another's it comes first.

    Args:
        measure: of :data:`MEASURES`.
    """

    def __init__(self, measure: Literal["mrr", "top1", "top5", "map"] = "mrr") -> None:
        if measure not in MEASURES:
            raise UserError(f"retrieval: measure {measure!r}, expected one of {', '.join(MEASURES)}")
        self.measure = measure
        super().__init__()

    def reset(self) -> None:
        """Begin an evaluation."""
        self._pairs: list[torch.Tensor] = []
        self._ids: list[torch.Tensor] = []

    def iteration_completed(self, engine: Engine) -> None:
        """Take the sentences' ids of a decollated batch beside the output."""
        for output, item in zip(engine.state.output, engine.state.batch, strict=True):
            self.update((output["pred"], item["text"]))

    def update(self, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        """One picture: its two vectors (2, D) and its sentence's ids (L,)."""
        pair, ids = output
        self._pairs.append(torch.as_tensor(pair).detach().cpu())
        self._ids.append(torch.as_tensor(ids).cpu())

    def compute(self) -> float:
        """The measure over the pictures of all processes."""
        pairs, ids = torch.stack(self._pairs), torch.stack(self._ids)
        if dist.is_available() and dist.is_initialized():
            parts: list[tuple[torch.Tensor, torch.Tensor]] = [(pairs, ids)] * dist.get_world_size()
            dist.all_gather_object(parts, (pairs, ids))
            pairs, ids = (torch.cat(side) for side in zip(*parts, strict=True))
        return retrieval(pairs[:, 0], pairs[:, 1], ids)[self.measure]


def retrieval(images: torch.Tensor, sentences: torch.Tensor, ids: torch.Tensor) -> dict[str, float]:
    """All of :data:`MEASURES`.

    Args:
        images: a vector a picture, (M, D).
        sentences: the vector of its sentence, (M, D).
        ids: of its sentence, (M, L); equal rows are one sentence.
    """
    _, own = ids.unique(dim=0, return_inverse=True)  # (M,), number of each picture's sentence
    distinct = int(own.max()) + 1
    first = torch.stack([(own == number).nonzero()[0, 0] for number in range(distinct)])
    likeness = F.normalize(images.double(), dim=1) @ F.normalize(sentences[first].double(), dim=1).T  # (M, distinct)
    # equal vectors are equally like wherever they stand: a product's last bits differ from row to row
    likeness = likeness.round(decimals=9)
    right = own[:, None] == torch.arange(distinct)
    likeness = torch.where(likeness.isnan(), torch.where(right, -torch.inf, torch.inf), likeness)
    mine = likeness[right]  # (M,)
    rank = (likeness >= mine[:, None]).sum(dim=1).double() / mine.isfinite()  # from 1
    precision = []
    for number in range(distinct):
        hits = likeness[right[:, number], number].sort(descending=True).values
        count = torch.arange(1, len(hits) + 1, dtype=torch.float64)
        place = count + (likeness[~right[:, number], number] >= hits[:, None]).sum(dim=1)
        precision.append((count / place * hits.isfinite()).mean())
    return {
        "mrr": float((1 / rank).mean()),
        "top1": float((rank <= 1).double().mean()),
        "top5": float((rank <= 5).double().mean()),
        "map": float(torch.stack(precision).mean()),
    }
