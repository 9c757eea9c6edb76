"""Several trained bundles on the same images, clean or degraded: what a picture grid is drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.bundle import bundle_folder, configuration_files
from common.errors import UserError
from common.images import read_mask
from common.images.sides import sides_unknown
from common.runtime.model import load
from common.transforms import degradation


@dataclass(frozen=True)
class Run:
    """A trained bundle under a name.

    Attributes:
        name: of its column.
        folder: of the bundle.
        overlays: configurations on top of ``inference.json``.
        weights: a file; None takes where the configuration says.
    """

    name: str
    folder: Path
    overlays: tuple[str, ...]
    weights: str | None

    @property
    def files(self) -> list[str]:
        """Its configuration files."""
        return configuration_files(self.folder, ["inference", *self.overlays])


@dataclass
class Case:
    """One image in one condition.

    Attributes:
        item: of the data list.
        degrade: name of the degradation, None for the clean picture.
        picture: (h, w) or (h, w, 3) in [0, 1], as displayed: at the first run's network size, as its network got it
            before the normalisation.
        file_picture: the same at the file's size, never degraded.
        truth: (H, W) bool, as displayed.
        masks: of each run, (H, W) bool, as displayed.
        marker: ``"R"`` where the picture's left is known to be the patient's right, else ``""``.
    """

    item: Mapping[str, Any]
    degrade: str | None
    picture: np.ndarray
    file_picture: np.ndarray
    truth: np.ndarray
    marker: str
    masks: list[np.ndarray] = field(default_factory=list)


def run_of(text: str) -> Run:
    """A run from ``NAME=BUNDLE[:OVERLAY...][=WEIGHTS]``.

    Raises:
        UserError: it is written otherwise, or there is no such bundle or overlay.
    """
    name, equals, rest = text.partition("=")
    bundle, _, weights = rest.partition("=")
    place, *overlays = bundle.split(":")
    if not (name.strip() and equals and place):
        raise UserError(f"--run {text}: write NAME=BUNDLE=WEIGHTS or NAME=BUNDLE:OVERLAY=WEIGHTS")
    run = Run(name.strip(), bundle_folder(place), tuple(overlays), weights or None)
    configuration_files(run.folder, ["inference", *run.overlays])
    return run


def pick(items: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The items whose images have these file names, with or without ending, in this order.

    Raises:
        UserError: none has it, or several have.
    """
    found = []
    for name in names:
        hits = [item for item in items if name in (Path(item["image"]).name, Path(item["image"]).stem)]
        if len(hits) != 1:
            count = "no image" if not hits else f"{len(hits)} images"
            raise UserError(f"--image {name}: {count} of that name in this split; give the file name as in the set")
        found += hits
    return found


def compare(
    runs: Sequence[Run],
    items: Sequence[Mapping[str, Any]],
    degrades: Sequence[str | None] = (None,),
    device: str | None = None,
    override: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Case]:
    """Masks of all runs on all items, in each condition.

    A sentence that is not understood is taken as in evaluation: the default one stands in.

    Args:
        runs: the bundles; each is loaded once a condition.
        items: of :func:`common.datasets.load_dataset`.
        degrades: names of :data:`common.transforms.DEGRADATIONS`; None is the clean picture.
        device: such as ``"cpu"``; None takes the configuration's.
        override: of each run by its name, ids of the configuration and their values.

    Returns:
        For each item its conditions in order.

    Raises:
        UserError: no such degradation, or weights, images or sentences that cannot be used.
    """
    for name in degrades:
        if name is not None:
            degradation("image", name)
    cases: dict[tuple[int, str | None], Case] = {}
    for run in runs:
        for degrade in degrades:
            given = dict((override or {}).get(run.name, {}))
            if run.weights:
                given["weights"] = run.weights
            model = load(run.folder, run.overlays, device, **given | _degraded(degrade))
            for index, item in enumerate(items):
                data = model.prepare(item["image"], item.get("text_prompt"), item.get("laterality"))
                result = model.finish(data, model.logits([data])[0])
                if (index, degrade) not in cases:
                    cases[index, degrade] = Case(
                        item, degrade, _picture(data["picture"]), data["displayed"],
                        read_mask(item["label"], result.meta),
                        "R" if model.grammar == "chest" and not sides_unknown(result.meta) else "",
                    )  # fmt: skip
                cases[index, degrade].masks.append(result.displayed)
    return [cases[index, degrade] for index in range(len(items)) for degrade in degrades]


def _degraded(name: str | None) -> dict[str, Any]:
    """What makes a configuration degrade its pictures where ``evaluate.json`` does, and keep them."""
    return {
        "unreadable": "default",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": "$@deterministic_transforms + @before_normalization + @final_transforms",
        },
        "before_normalization": [
            {
                "_target_": "common.transforms.degradation",
                "keys": "image",
                "name": name,
                "_disabled_": name is None,
            },
            {"_target_": "CopyItemsd", "keys": "image", "names": "picture"},
        ],
    }


def _picture(image: Any) -> np.ndarray:
    """(C, h, w) to (h, w) or (h, w, 3)."""
    array = np.asarray(image)
    return array[0] if len(array) == 1 else array.transpose(1, 2, 0)
