"""How far the position words alone lead: the composite Gaussian prior of a sentence, thresholded, as a mask.

No image and no network: what SSA's guidance knows before the attention. The threshold is the one with the best micro
Dice on rows of the training part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from common.images import read_image, read_mask
from common.metrics import score_case
from common.metrics.overlap import dice
from common.prompts import Findings, parse
from common.prompts.zones import composite_prior, table

THRESHOLDS = np.arange(0.05, 1.0, 0.05).round(2)


def _read(items: Iterable[Mapping[str, Any]], kind: str) -> Iterator[tuple[Mapping[str, Any], np.ndarray, Findings]]:
    """Each row with its mask as displayed and its findings; a sentence that is not understood names nothing."""
    grammar = table(kind).grammar
    for item in items:
        truth = read_mask(item["label"], read_image(item["image"])[1])
        yield item, truth, parse(item["text_prompt"], item["laterality"], grammar)


def _prior(findings: Findings, shape: tuple[int, int], kind: str) -> np.ndarray:
    """Nothing where no place is named."""
    bits = findings.zones if findings.understood else (0,) * len(findings.zones)
    return composite_prior(bits, shape, kind) if any(bits) else np.zeros(shape, np.float32)


def fit_threshold(items: Sequence[Mapping[str, Any]], kind: str) -> float:
    """The threshold of :data:`THRESHOLDS` with the best micro Dice; a pixel above it is lesion."""
    inside, outside = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    lesion = 0
    for _, truth, findings in _read(items, kind):
        prior = _prior(findings, truth.shape, kind)
        lesion += int(truth.sum())
        for total, values in ((inside, prior[truth]), (outside, prior[~truth])):
            total += len(values) - np.searchsorted(np.sort(values), THRESHOLDS, side="right")
    return float(THRESHOLDS[np.argmax([dice(tp, fp, lesion - tp) for tp, fp in zip(inside, outside, strict=True)])])


def score_prior(items: Sequence[Mapping[str, Any]], kind: str, threshold: float) -> list[dict[str, object]]:
    """A row of :func:`common.metrics.score_case` for each image: the prior above the threshold against its mask."""
    return [
        score_case(
            _prior(findings, truth.shape, kind) > threshold, truth,
            case=item | {"prompt_used": "given" if findings.understood else "default"}, findings=findings, kind=kind,
        )
        for item, truth, findings in _read(items, kind)
    ]  # fmt: skip
