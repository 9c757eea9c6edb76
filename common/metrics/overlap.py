"""Overlap of two binary masks: pixel counts, and Dice and IoU of an image or of a whole data set.

The papers' tables mix two definitions (``f(D) = D / (2 - D)`` links Dice and IoU of the same counts):

- **per image**: one value an image, then the mean; small lesions weigh as much as large ones (LViT, C2Seg,
  CausalCLIPSeg). The mean IoU is then at least ``f(mean Dice)``, because f is convex.
- **micro**: TP, FP and FN are summed over all images first (MMI-UNet, Semi-MedRef, SSA, BiCLIP: torchmetrics
  accumulated over the epoch). IoU is then exactly ``f(Dice)``.

On QaTa-COV19 the same predictions score 6 to 7 points higher in micro. Both are always reported.
"""

from __future__ import annotations

import numpy as np


def binary(mask: np.ndarray) -> np.ndarray:
    """The mask as bool, (H, W).

    Raises:
        ValueError: the array is not two-dimensional, or holds other values than 0 and 1.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"a mask is an array (H, W), not one of shape {mask.shape}")
    if mask.dtype != bool:
        if not np.isin(mask, (0, 1)).all():
            raise ValueError("a mask holds 0 and 1 only: apply the threshold before scoring")
        mask = mask.astype(bool)
    return mask


def counts(pred: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Numbers of true positive, false positive and false negative pixels.

    Args:
        pred: predicted mask, (H, W), bool or 0/1.
        truth: ground truth, the same shape.

    Raises:
        ValueError: the shapes differ, or one of them is no binary mask.
    """
    pred, truth = binary(pred), binary(truth)
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape} and ground truth {truth.shape} differ in shape")
    tp = int(np.count_nonzero(pred & truth))
    return tp, int(np.count_nonzero(pred)) - tp, int(np.count_nonzero(truth)) - tp


def dice(tp: int, fp: int, fn: int) -> float:
    """``2 TP / (2 TP + FP + FN)``, in [0, 1]; nan where both masks are empty."""
    whole = 2 * tp + fp + fn
    return 2 * tp / whole if whole else float("nan")


def iou(tp: int, fp: int, fn: int) -> float:
    """``TP / (TP + FP + FN)``, in [0, 1]; nan where both masks are empty."""
    whole = tp + fp + fn
    return tp / whole if whole else float("nan")
