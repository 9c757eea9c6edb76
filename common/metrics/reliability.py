"""Reliability of predicted probabilities: of the pixels called 80 %, are 80 % lesion?

Over all pixels of all images, binned by MONAI's ``calibration_binning`` (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017). Most pixels are sure background, so that the error over the pixels between 5 and 95 % is given
beside the one over all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.metrics.calibration import calibration_binning

BINS = 20
_SURE = 1  # bins at both ends, of 5 % each


class Reliability:
    """Sums a bin: pixels, their probabilities, lesion pixels; two of them can be added."""

    def __init__(self) -> None:
        self.sums = np.zeros((3, BINS))

    def __add__(self, other: Reliability) -> Reliability:
        both = Reliability()
        both.sums = self.sums + other.sums
        return both

    def add(self, probability: np.ndarray, truth: np.ndarray) -> None:
        """Count one image.

        Args:
            probability: (H, W), in [0, 1].
            truth: (H, W), bool.

        Raises:
            ValueError: the shapes differ.
        """
        if probability.shape != truth.shape:
            raise ValueError(f"probability {probability.shape} and truth {truth.shape} differ in shape")
        chance = torch.as_tensor(np.ascontiguousarray(probability), dtype=torch.float32)[None, None]
        lesion = torch.as_tensor(np.ascontiguousarray(truth), dtype=torch.float32)[None, None]
        mean, share, count = (x[0, 0].double().nan_to_num().numpy() for x in calibration_binning(chance, lesion, BINS))
        self.sums += np.stack([count, mean * count, share * count])

    def summary(self) -> dict[str, Any] | None:
        """A JSON-able dict, None without pixels.

        ``pixels``, ``probability`` and ``lesion`` are lists over the bins (means; None where a bin is empty);
        ``error`` is the expected calibration error over all pixels, ``error_unsure`` that over the pixels whose
        probability is between 5 and 95 % (None without any).
        """
        count, chance, lesion = self.sums
        if not count.sum():
            return None
        held = count > 0
        off = np.abs(chance - lesion)
        unsure = slice(_SURE, BINS - _SURE)
        means = [[float(s / n) if n else None for s, n in zip(sums, count, strict=True)] for sums in (chance, lesion)]
        return {
            "pixels": [int(n) for n in count],
            "probability": means[0],
            "lesion": means[1],
            "error": float(off[held].sum() / count.sum()),
            "error_unsure": float(off[unsure].sum() / count[unsure].sum()) if count[unsure].sum() else None,
        }
