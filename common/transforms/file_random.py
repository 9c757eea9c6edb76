"""Random numbers that belong to an image file: the same on every machine and in any order of the files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from common.errors import UserError


def random_of_file(image: Any, purpose: str) -> np.random.RandomState:
    """A generator seeded by the image's file name, without its folder, and by what it is for.

    ``RandomState`` because NumPy keeps its streams; those of ``Generator`` may change with the version.

    Args:
        image: of ``LoadImaged`` with ``ChestReader``, which tells the file in its meta.
        purpose: such as ``"motion blur"``; numbers for different purposes are independent.

    Raises:
        UserError: the image does not tell its file.
    """
    path = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    if not path:
        raise UserError(f"{purpose}: the image has no file name to seed it by; load it with common.images.ChestReader")
    digest = hashlib.sha256(f"{purpose}/{Path(str(path)).name}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, "<u4"))
