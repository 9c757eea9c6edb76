"""The degradations of a test set by their names, as ``tools evaluate --degrade`` takes them."""

from __future__ import annotations

from monai.config import KeysCollection
from monai.transforms import MapTransform

from common.errors import UserError

from .low_dose import LowDoseNoised
from .motion_blur import MotionBlurd

# BiCLIP's Table 3
DEGRADATIONS = (
    {f"noise{dose}": (LowDoseNoised, dose) for dose in (140, 120, 110)}
    | {f"blur{size}": (MotionBlurd, size) for size in (3, 5, 7)}
)  # fmt: skip


def degradation(keys: KeysCollection, name: str) -> MapTransform:
    """The transform of that name: ``noise140``, ``noise120``, ``noise110``, ``blur3``, ``blur5`` or ``blur7``.

    Args:
        keys: of pictures (C, H, W) in [0, 1], at the network's size.
        name: of the degradation.

    Raises:
        UserError: there is no such degradation.
    """
    if name not in DEGRADATIONS:
        raise UserError(f"degrade: {name!r} is not known; use one of {', '.join(DEGRADATIONS)}")
    transform, strength = DEGRADATIONS[name]
    return transform(keys, strength)
