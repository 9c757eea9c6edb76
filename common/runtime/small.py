"""The small weights of a bundle, which are in git so that a clone can segment at once: ``models/small.pt``.

A flat state dict in half precision, at most :data:`MOST` numbers, which belongs to the bundle's overlay ``small``. It
holds everything that loading asks for, the ids of the default sentence included, and loads into a network in float32.
Beside it stands ``small.json``: the training's sidecar without the folders of the machine, its history, and what the
weights were trained on, under which terms.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.bundle import metadata_of, weights
from common.engines.checkpoint import FREE_KEYS
from common.errors import UserError
from common.files import replacing, sha256_of, write_text
from common.images import read_mask
from common.metrics.overlap import counts, dice
from common.networks.checkpoints import read_weights
from common.runtime.model import Model, Processing
from common.runtime.reproduce import LIMITS
from common.runtime.workflow import merged_config

OVERLAY = "small"
MOST = 6_000_000  # numbers, so that the repository stays small
AGREE = 0.05  # points of Dice that half precision may cost
# of a configuration: what makes these weights another network, or shows it other pictures or sentences
_SAME = (
    "network_def", "image_size", "grammar", "captions", "text_checkpoint", "normalization", "deterministic_transforms",
)  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """How far masks in half precision are those of the weights they were made of.

    Attributes:
        images: compared, in their files' own grids.
        pixels: of all of them.
        other_pixels: that one marks and the other does not.
        dice: micro Dice with the ground truth before and after, points.
        dice_per_image: mean of the images' Dice before and after, points.
    """

    images: int
    pixels: int
    other_pixels: int
    dice: tuple[float, float]
    dice_per_image: tuple[float, float]

    @property
    def cost(self) -> float:
        """The larger change of the two kinds of Dice, points."""
        return max(abs(after - before) for before, after in (self.dice, self.dice_per_image))


@dataclass(frozen=True)
class Small:
    """What was written: the file, its numbers, and, where data were given, how far it agrees."""

    path: Path
    parameters: int
    agreement: Agreement | None


def write_small(
    bundle: Path, source: Path, trained_on: Sequence[str], items: Sequence[Mapping[str, Any]] = ()
) -> Small:
    """Write ``models/small.pt`` and ``small.json`` of a bundle.

    Args:
        bundle: its folder; it has an overlay ``small``.
        source: ``model.pt`` of a training, with its sidecar and ``history.csv``.
        trained_on: names of the data, each the beginning of a paragraph of ``docs/data_license.txt`` ("Name: terms").
        items: of a data list; masks before and after are compared on them.

    Raises:
        UserError: no such weights, or they are too many, of another network than the overlay's, or too large for half
            precision; the data have no terms there; masks differ too much.
    """
    facts = _sidecar(source)
    terms = {name: _terms(bundle, name) for name in trained_on}
    state = read_weights(Path(weights(source)))
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{source}: is no state dict of a network; give the model.pt that training wrote")
    parameters = sum(value.numel() for value in state.values() if value.is_floating_point())
    if parameters > MOST:
        raise UserError(f"{source}: {parameters:,} parameters, at most {MOST:,} go into git; train a smaller network")
    _check_configuration(bundle, source, facts["config"])
    portable = dict(_portable(source, facts.pop("config")))
    full = Model(bundle, [OVERLAY], "cpu", weights=str(source), unreadable="default")
    place = Processing(bundle, [OVERLAY]).weights
    agreement = None
    with replacing(place) as part:
        with part.open("wb") as file:
            torch.save(_half(source, state), file)
        half = Model(bundle, [OVERLAY], "cpu", weights=str(part), unreadable="default")
        if items:
            agreement = agree(full, half, items)
            if not agreement.cost < AGREE:  # nor nan, where no image has a lesion
                raise UserError(
                    f"{source}: half precision changes Dice by {agreement.cost:.3f} points on {agreement.images} "
                    f"images, at most {AGREE} is allowed; train other weights"
                )
    found = facts | {
        "precision": "float16",
        "parameters": parameters,
        "weights": {"bytes": place.stat().st_size, "sha256": sha256_of(place)},
        "made_of": {"bytes": source.stat().st_size, "sha256": sha256_of(source)},
        "training_data": {"source": metadata_of(bundle)["data_source"], "terms": terms},
        "agreement": None if agreement is None else vars(agreement),
        "history": _history(source),
        "config": portable,
    }
    write_text(place.with_suffix(".json"), json.dumps(found, indent=4, ensure_ascii=False) + "\n")
    return Small(place, parameters, agreement)


def agree(before: Model, after: Model, items: Sequence[Mapping[str, Any]]) -> Agreement:
    """Compare the masks of two networks, in the files' own grids, with each other and with the ground truth."""
    totals, each = ([0, 0, 0], [0, 0, 0]), ([], [])
    pixels = other = 0
    for item in items:
        data = before.prepare(item["image"], item.get("text_prompt"), item.get("laterality"))
        # undone by the transforms that did it
        results = [before.finish(data, model.logits([data])[0]) for model in (before, after)]
        truth = read_mask(Path(item["label"]), results[0].meta)
        for result, total, values in zip(results, totals, each, strict=True):
            found = counts(result.displayed, truth)
            total[:] = [a + b for a, b in zip(total, found, strict=True)]
            if (value := dice(*found)) == value:  # none where both are empty
                values.append(value)
        pixels += results[0].mask.size
        other += int((results[0].mask != results[1].mask).sum())
    micro = [100 * dice(*total) for total in totals]
    mean = [100 * sum(values) / max(len(values), 1) for values in each]
    return Agreement(len(items), pixels, other, (micro[0], micro[1]), (mean[0], mean[1]))


def _half(source: Path, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict with its numbers in half precision; ids stay what they are."""
    limit = torch.finfo(torch.float16).max
    for key, value in state.items():
        if value.is_floating_point() and not (value.abs() <= limit).all():
            raise UserError(f"{source}: '{key}' holds what half precision cannot ({value.abs().max():g})")
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


def _sidecar(source: Path) -> dict[str, Any]:
    path = source.with_suffix(".json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        _ = facts["config"]["network_def"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not the sidecar that a training writes; give model.pt beside it") from error
    return facts


def _history(source: Path) -> list[dict[str, str]]:
    path = source.with_name("history.csv")
    if not path.is_file():
        raise UserError(f"{path}: is not there; give the model.pt in the folder of its training")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _terms(bundle: Path, name: str) -> str:
    """The paragraph of ``docs/data_license.txt`` that begins with this name."""
    path = bundle / "docs" / "data_license.txt"
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        head, colon, rest = paragraph.partition(": ")
        if colon and head.strip() == name:
            return " ".join(rest.split())
    raise UserError(f"--trained-on {name}: {path} has no paragraph '{name}: ...'; write the terms of the data there")


def _check_configuration(bundle: Path, source: Path, trained: Mapping[str, Any]) -> None:
    """The overlay makes the network that was trained, and shows it the same pictures and sentences."""
    own = merged_config(bundle, ["inference", OVERLAY])
    for key in _SAME:
        if own[key] != trained.get(key):
            raise UserError(
                f"{source}: was trained with another {key} than the overlay {OVERLAY} has; train with the overlay "
                f"demo, whose network it is, or change {bundle / 'configs' / 'small.json'}"
            )


def _portable(source: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The configuration without what is of one machine; of the metadata the bundle's name."""
    for key, value in config.items():
        if key == "_meta_":
            yield key, {"name": value["name"]}
        elif key not in FREE_KEYS or key in LIMITS:
            for text in _texts(value):
                if Path(text).is_absolute():
                    raise UserError(f"{source}: its configuration names {text}, a place of one machine; train without")
            yield key, value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
