"""Which data a run saw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def fingerprint(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The number of items of a data list, and a SHA-256 over their file names, file sizes and sentences.

    Folders are left out, so that the same data in another place has the same fingerprint.
    """
    digest = hashlib.sha256()
    for item in items:
        for key in ("image", "label"):
            path = Path(str(item.get(key, "")))
            size = path.stat().st_size if path.is_file() else -1
            digest.update(f"{path.name}\0{size}\0".encode())
        digest.update(f"{item.get('text_prompt', '')}\0{item.get('laterality', '')}\n".encode())
    return {"items": len(items), "sha256": digest.hexdigest()}
