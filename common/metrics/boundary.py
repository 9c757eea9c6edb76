"""Distances between the boundaries of two masks, by C2Seg's definitions.

A boundary pixel is a lesion pixel of which at least one of the four neighbours is no lesion. The outside of
the picture is no lesion, so a mask that touches the border has its boundary there; a single pixel is its
own boundary (MONAI's ``get_mask_edges``). Distances go between pixel centres (``get_surface_distance``).

- **HD95**: the 95th percentile (linear interpolation) of the *union* of both directed sets of distances.
- **ASSD**: ``(mean(pred -> truth) + mean(truth -> pred)) / 2``, C2Seg eq. (10).

MONAI's own classes compute other quantities: ``HausdorffDistanceMetric(percentile=95)`` is the larger of the
two directed percentiles, ``SurfaceDistanceMetric(symmetric=True)`` the mean of the pooled distances.
"""

from __future__ import annotations

import math

import numpy as np
from monai.metrics.utils import get_mask_edges, get_surface_distance


def boundary_distances(
    pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each boundary pixel of one mask to the nearest boundary pixel of the other, both ways.

    Args:
        pred: predicted mask, (H, W) bool, not empty.
        truth: ground truth, (H, W) bool, not empty.
        spacing: height and width of a pixel in mm, or None for distances in pixels.

    Returns:
        prediction → truth, one value a boundary pixel of the prediction; truth → prediction likewise.

    Raises:
        ValueError: one mask is empty (the distance is not defined; see :func:`diagonal`).
    """
    if not pred.any() or not truth.any():
        raise ValueError("boundary distances need two masks that are not empty")
    edge_pred, edge_truth = get_mask_edges(pred, truth, crop=False)
    return (
        get_surface_distance(edge_pred, edge_truth, spacing=spacing),
        get_surface_distance(edge_truth, edge_pred, spacing=spacing),
    )


def hd95(to_truth: np.ndarray, to_pred: np.ndarray) -> float:
    """95th percentile of the union of both directed sets, in their unit."""
    return float(np.percentile(np.concatenate([to_truth, to_pred]), 95))


def assd(to_truth: np.ndarray, to_pred: np.ndarray) -> float:
    """Average symmetric surface distance: mean of the two directed means, in their unit."""
    return float((to_truth.mean(dtype=np.float64) + to_pred.mean(dtype=np.float64)) / 2)


def diagonal(shape: tuple[int, int], spacing: tuple[float, float] | None = None) -> float:
    """The image diagonal: HD95 and ASSD of an empty prediction where the truth holds a lesion.

    316.8 px at 224 × 224; in mm with a spacing (row, column).
    """
    row, column = spacing or (1.0, 1.0)
    return math.hypot(shape[0] * row, shape[1] * column)
