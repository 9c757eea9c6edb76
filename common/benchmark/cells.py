"""A cell of the benchmark: one training and the evaluations of its weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from common.runtime.evaluate import Conditions

OWN = "own"  # the evaluation with the images' own sentences, clean
CONTROLS = {
    OWN: Conditions(),
    "default": Conditions(control="default"),
    "shuffled": Conditions(control="shuffled"),
    "mirrored": Conditions(control="mirrored"),
    "blank": Conditions(blank_image=True),
    "original": Conditions(captions="original"),
}
DEGRADED = {name: Conditions(degrade=name) for name in ("noise140", "noise120", "noise110", "blur3", "blur5", "blur7")}
CONDITIONS = CONTROLS | {"canonical": Conditions(captions="canonical")} | DEGRADED
OF_TRAINING = {"gpu", "word_noise", "cutmix", "mirror", "as_released"}


@dataclass(frozen=True)
class Cell:
    """One training and the evaluations of its weights.

    Attributes:
        bundle: name.
        overlays: configurations on top of ``train.json``.
        dataset: ``"qata"``, ``"mosmed"``, ``"kvasir"`` or ``"clinicdb"``.
        seed: of the training.
        fraction: of the training images whose masks are used.
        override: ids of the configuration and their values.
        score: ids and values of the evaluation alone (``split``, ``limit``).
        evaluations: names of :data:`CONDITIONS`, the first is :data:`OWN`.
        stage_one: of methods with two stages: overlays and override of the first, whose ``model.pt`` the second gets
            as ``image_checkpoint``.
        value: the more, the earlier it is run when time is short.
    """

    bundle: str
    overlays: tuple[str, ...]
    dataset: str
    seed: int = 0
    fraction: float = 1.0
    override: Mapping[str, Any] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)
    evaluations: tuple[str, ...] = (OWN,)
    stage_one: Mapping[str, Any] | None = None
    value: int = 0

    @property
    def of_network(self) -> tuple[str, ...]:
        """The overlays that weights need wherever they are used; the others are of training alone."""
        return tuple(name for name in self.overlays if name not in OF_TRAINING)

    @property
    def trained(self) -> str:
        """What decides on the weights, as canonical JSON: cells that share it share one training."""
        counts = ("bundle", "overlays", "dataset", "seed", "fraction", "override", "stage_one")
        return json.dumps({name: getattr(self, name) for name in counts}, sort_keys=True)

    @property
    def name(self) -> str:
        """Its folder: bundle, data, fraction and seed to read, and eight digits of what decides on the weights."""
        digest = hashlib.sha256(self.trained.encode()).hexdigest()[:8]
        part = f"-{self.fraction:g}" if self.fraction != 1 else ""
        return re.sub(r"[^a-z0-9.-]+", "_", f"{self.bundle}-{self.dataset}{part}-s{self.seed}-{digest}".lower())

    def as_json(self) -> str:
        """All of it, for ``cell.json``."""
        return json.dumps(asdict(self), indent=4) + "\n"


def from_json(text: str) -> Cell:
    """The cell that :meth:`Cell.as_json` wrote."""
    items = json.loads(text)
    for key in ("overlays", "evaluations"):
        items[key] = tuple(items[key])
    return Cell(**items)


def merged(cells: Iterable[Cell]) -> list[Cell]:
    """Each training once, with the evaluations of all cells that ask for it, the most valuable first.

    The order of cells of the same value is kept. Cells that share a training must score the same images.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        other = found.get(cell.name)
        if other is None:
            found[cell.name] = cell
        else:
            both = tuple(dict.fromkeys(other.evaluations + cell.evaluations))
            found[cell.name] = replace(other, evaluations=both, value=max(cell.value, other.value))
    return sorted(found.values(), key=lambda cell: -cell.value)
