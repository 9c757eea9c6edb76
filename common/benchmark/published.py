"""The papers' results as data, each with the definition of Dice that its own numbers show.

``published.csv`` holds facts copied from the papers' tables, with their source. What definition a row uses is not
typed there but derived: :func:`definition` compares its IoU with the IoU that its Dice implies.

What the classes show: every row of the code lineage of GuideDecoder, MMI-UNet and EF-UNet is micro (BiCLIP's,
Semi-MedRef's and SSA's own rows too); every row quoted from LViT's table is per image, and so are C2Seg's and
CausalCLIPSeg's own. So differences between rows of two classes compare two quantities, not two methods. GuideDecoder at
15 % of MosMedData+ in Semi-MedRef's Table 1 stands beside micro rows and is none of them: probably a misprint.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.errors import UserError

DATASETS = ("qata", "mosmed", "clinicdb", "kvasir")
# class -> what a table says of it
DEFINITIONS = {
    "micro": "of the sums over all images",
    "near_micro": "nearly, but not to rounding, of the sums over all images",
    "per_image": "mean over images, or another mean (of batches, of runs)",
    "neither": "no definition gives these two numbers",
    "unknown": "the paper gives no IoU beside it",
}
_EQUAL, _NEAR = 0.05, 0.3
_FILE = Path(__file__).with_name("published.csv")


def gap(dice: float, iou: float) -> float:
    """Points by which an IoU lies above the one of the same pixel counts, ``D / (2 - D)``; both in percent."""
    return iou - 100 * dice / (200 - dice)


def definition(dice: float, iou: float | None) -> str:
    """The class of :data:`DEFINITIONS` that a Dice and an IoU of one table row belong to.

    With ``f(D) = D / (2 - D)``, IoU is ``f(Dice)`` for the sums over all images, and at least ``f(mean Dice)`` for
    means over images, because f is convex. So of ``gap = IoU - f(Dice)``: within 0.05 points (both are printed with
    two digits) the row is ``"micro"``; within 0.3 ``"near_micro"``; above ``"per_image"``; below, ``"neither"``.

    Args:
        dice: in percent.
        iou: in percent; None gives ``"unknown"``.
    """
    if iou is None:
        return "unknown"
    points = gap(dice, iou)
    if abs(points) <= _EQUAL:
        return "micro"
    if abs(points) <= _NEAR:
        return "near_micro"
    return "per_image" if points > 0 else "neither"


@dataclass(frozen=True)
class Published:
    """One row of one table.

    Attributes:
        paper: whose table it is; ``"third party"`` for others' evaluations of a published model.
        table: such as ``"T1"``; ``"conversion"`` holds one model under both definitions.
        dataset: of :data:`DATASETS`.
        condition: what differs from the full training set and clean images, words apart by a space:
            ``fraction=0.02`` of the labels, ``degrade=noise140`` (as of ``tools evaluate``), ``ablation``;
            ``stated=micro`` where the source names the definition itself. "" for the main protocol.
        method: as the paper calls it; a row of components by the row's name.
        dice: in percent.
        iou: in percent; None where the paper has none.
        hd95: in px, by C2Seg's definition (:mod:`common.metrics.boundary`); None where the paper has none.
        assd: likewise.
        bundle: ours that is this method, with its overlays, as ``"biclip+ef_unet"``; "" where there is none.
        source: of the paper: arXiv number, doi, or its title.
    """

    paper: str
    table: str
    dataset: str
    condition: str
    method: str
    dice: float
    iou: float | None
    hd95: float | None
    assd: float | None
    bundle: str
    source: str

    @property
    def definition(self) -> str:
        """The class of :data:`DEFINITIONS`: what the source states, else what the numbers show."""
        for word in self.condition.split():
            if word.startswith("stated="):
                return word.removeprefix("stated=")
        return definition(self.dice, self.iou)


@lru_cache
def _all() -> tuple[Published, ...]:
    with _FILE.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    numbers = ("dice", "iou", "hd95", "assd")
    return tuple(
        Published(**{k: v if k not in numbers else float(v) if v else None for k, v in line.items()}) for line in lines
    )


def rows(
    paper: str | None = None,
    table: str | None = None,
    dataset: str | None = None,
    condition: str | None = None,
    bundle: str | None = None,
) -> list[Published]:
    """The rows with these values, in the papers' order; None takes all.

    Args:
        paper: such as ``"BiCLIP"``.
        table: such as ``"T1"``.
        dataset: of :data:`DATASETS`.
        condition: the whole of it; ``""`` gives the main protocol alone.
        bundle: with its overlays; ``"biclip"`` does not give ``"biclip+ef_unet"``.

    Raises:
        UserError: no row at all is of this paper, table or data set.
    """
    wanted = {"paper": paper, "table": table, "dataset": dataset, "condition": condition, "bundle": bundle}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    for key in ("paper", "table", "dataset"):  # a condition or bundle of which no paper speaks is no fault
        known, value = {getattr(row, key) for row in _all()}, wanted.get(key)
        if value is not None and value not in known:
            raise UserError(f"{key} {value!r}: no published row has it; use one of {', '.join(sorted(known))}")
    return [row for row in _all() if all(getattr(row, key) == value for key, value in wanted.items())]
