"""Values of a DICOM header, of which any element may be absent, empty, repeated or damaged."""

from __future__ import annotations

import numpy as np

from common.images.meta import one_line


def text(dataset, key: str) -> str:
    """The first value of an element as text; empty as :func:`texts` says."""
    return " ".join(texts(dataset, key)[:1])


def texts(dataset, key: str) -> list[str]:
    """The values of an element as text; empty if it is absent, empty or unreadable."""
    try:
        value = dataset.get(key)
    except Exception:  # a value that its VR does not allow
        return []
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else list(value)
    return [one_line(x) for x in values]


def numbers(dataset, key: str) -> list[float]:
    """The finite values of an element as floats; empty if one is not."""
    try:
        values = [float(x) for x in texts(dataset, key)]
    except ValueError:
        return []
    return values if np.isfinite(values).all() else []
