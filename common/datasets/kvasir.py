"""Kvasir-SEG and CVC-ClinicDB: colonoscopy images with polyp masks, and a table of captions.

Layout: the folder as downloaded (``images`` and ``masks``, or CVC-ClinicDB's ``Original`` and ``Ground
Truth``, also below ``PNG``) with a ``captions.csv`` of columns ``split, image, mask, text`` beside it. The
sentences name positions in the *picture*. The files name no patients, so each image is its own subject:
frames of one video are not kept together.
"""

from __future__ import annotations

from pathlib import Path

from common.datasets import folder
from common.datasets.listing import Listing

_NAMES = {"kvasir": ("kvasir",), "clinicdb": ("clinicdb", "cvc")}


def found(root: Path, name: str) -> bool:
    """Whether ``root`` is called like the data set ``name`` and holds a table of captions."""
    return any(word in root.resolve().name.lower() for word in _NAMES[name]) and folder.found(root)


def read(root: Path, name: str) -> Listing:
    """All pairs of ``"kvasir"`` or ``"clinicdb"`` at ``root``; UserError as for any folder with a table."""
    return folder.read(root, "image", name=name, grammar="polyp")
