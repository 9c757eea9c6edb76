"""A trained bundle's scores on a data set: the bundle's ``evaluating`` with the settings that an evaluation has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.runtime.backends import is_exported
from common.runtime.model import with_backend
from common.runtime.workflow import run_bundle


@dataclass(frozen=True)
class Conditions:
    """Under which an evaluation sees the data.

    Attributes:
        control: sentences, see :func:`common.datasets.controls.with_control`.
        blank_image: the network sees the sentence alone.
        degrade: name of a degradation, see :func:`common.transforms.degradation`.
        captions: ``"canonical"`` or ``"original"``; None is the bundle's own.
    """

    control: str = "none"
    blank_image: bool = False
    degrade: str | None = None
    captions: str | None = None


def evaluate(
    folder: Path,
    overlays: Sequence[str],
    data: Path,
    output: Path,
    *,
    weights: str | Path | None = None,
    backend: str | None = None,
    conditions: Conditions = Conditions(),
    override: Mapping[str, Any] | None = None,
) -> None:
    """Score a bundle; ``output`` gets ``scores.csv``, ``summary.json`` and ``table.txt``.

    Args:
        folder: of the bundle.
        overlays: its configurations on top of ``train.json``.
        data: the data set's folder.
        output: a folder.
        weights: trained ones; None takes those of the configuration.
        backend: ``"torch"``, ``"torchscript"`` or ``"onnx"``, see :func:`common.runtime.model.with_backend`.
        conditions: see there.
        override: ids of the configuration and their values, such as ``split`` and ``limit``.

    Raises:
        UserError: no data, no weights, or what the run finds wrong.
    """
    if not data.exists():
        raise UserError(f"{data}: there is no such folder; give the data set's folder as --data")
    given = with_backend(folder, overlays, backend, {"weights": str(weights)} if weights else {})
    changed = dict(override or {}) | {
        "dataset_dir": str(data), "output_dir": str(output), "num_workers": 0, "control": conditions.control,
        "blank_image": conditions.blank_image, "degrade": conditions.degrade,
    }  # fmt: skip
    changed |= given
    if is_exported(given.get("weights", "")):
        changed |= {
            "network": {"_target_": "common.runtime.backends.open_exported", "path": "@weights", "device": "@device"},
            "amp": False,
            # LoadWeights: an exported network has its own
            "validate::handlers::0::_disabled_": True,
        }
    if conditions.captions:
        changed["captions"] = conditions.captions
    run_bundle(folder, ["train", *overlays, "evaluate"], "evaluating", **changed)
