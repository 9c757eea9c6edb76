"""What a picture shows and whether its sides are known, by the meta of ``ChestReader``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.images.orientation import usable


def plane(meta: Mapping[str, Any]) -> str:
    """What a picture shows, by its tags: ``"frontal"``, ``"axial"``, ``"lateral"``, or ``""`` where none says it.

    A view position of LL or RL is lateral, whatever the orientation says.

    Args:
        meta: of an image read by ``ChestReader``.
    """
    if meta["view"].upper() in ("LL", "RL"):
        return "lateral"
    letters = tuple(meta["orientation"].split("\\"))
    if len(letters) != 2 or not usable(*letters):
        return ""
    missing = next(pair for pair in ("AP", "HF", "RL") if not set(pair) & set(letters))
    return {"AP": "frontal", "HF": "axial", "RL": "lateral"}[missing]


def sides_unknown(meta: Mapping[str, Any]) -> str:
    """Why nobody knows which side of the picture is the patient's right; ``""`` where it is the left of the display.

    Formats that cannot tell (PNG, JPEG, ...) are taken as displayed, by agreement; a DICOM or NIfTI file that could
    and does not is not.

    Args:
        meta: of an image read by ``ChestReader``.
    """
    shows = plane(meta)
    if shows == "lateral":
        return "lateral view: sides are not known"
    if not shows and meta["format"] in ("dicom", "nifti"):
        return "no orientation in the file: taken as displayed, sides are not known"
    return ""
