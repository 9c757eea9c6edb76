"""What a training from submitted labels asks of this room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError


def check_labels(train: Sequence[Any], validation: Sequence[Any]) -> None:
    """Refuse a training without labels on both sides.

    Raises:
        UserError: with the number of labels there are.
    """
    if not train or not validation:
        raise UserError(
            f"labels: {len(train)} to train on and {len(validation)} to validate with; submit at least one for each, "
            "or change val_split"
        )


def new_folder(bundle: str) -> str:
    """A folder for the records of this training, ``runs/1``, ``runs/2``, ... of the served bundle."""
    runs = Path(bundle) / "runs"
    number = 1
    while (runs / str(number)).exists():
        number += 1
    (runs / str(number)).mkdir(parents=True)
    return str(runs / str(number))
