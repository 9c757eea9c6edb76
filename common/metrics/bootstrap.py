"""Percentile intervals by resampling subjects (cluster bootstrap).

Images of one subject resemble each other, so whole subjects are drawn with replacement. Every statistic
here is a ratio of two sums over images (a mean is ``sum(values) / sum(ones)``; micro Dice is ``sum(2 TP) /
sum(2 TP + FP + FN)``): both are summed a subject once, and a resample is a weighted sum of those.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CHUNK = 256  # resamples at once: 256 x subjects counts in memory


def ratio_resamples(
    numerators: np.ndarray, denominators: np.ndarray, subjects: Sequence[str], *, seed: int, resamples: int
) -> np.ndarray:
    """``sum(numerator) / sum(denominator)`` of several statistics in each resample.

    All statistics see the same resamples, so that their differences are those of paired images. The result depends on
    the seed and on the set of images, not on the order of the images.

    Args:
        numerators: (Q, N), one row a statistic, one column an image; N is at least 1.
        denominators: (Q, N), not negative; 0 leaves the image out of the statistic (its numerator must be 0).
        subjects: N names; images of the same name are drawn together.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        (resamples, Q); nan where a resample has no denominator.
    """
    _, cluster = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)  # (N,)
    n = int(cluster.max()) + 1
    top = np.stack([np.bincount(cluster, row, n) for row in np.asarray(numerators, float)], axis=1)  # (S, Q)
    bottom = np.stack([np.bincount(cluster, row, n) for row in np.asarray(denominators, float)], axis=1)

    rng = np.random.default_rng(seed)
    ratios = np.full((resamples, top.shape[1]), np.nan)
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)  # (size, S)
        below = times @ bottom  # (size, Q)
        np.divide(times @ top, below, out=ratios[start : start + size], where=below > 0)
    return ratios


def percentile_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """Lower and upper end that hold the share ``level`` of the values (R,) between them; nan of none but nan."""
    known = values[~np.isnan(values)]
    if not known.size:
        return np.nan, np.nan
    tail = 50 * (1 - level)
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def ratio_intervals(
    numerators: np.ndarray,
    denominators: np.ndarray,
    subjects: Sequence[str],
    *,
    seed: int,
    resamples: int,
    level: float,
) -> np.ndarray:
    """Percentile interval of each statistic of :func:`ratio_resamples`.

    Args:
        numerators: (Q, N), as there.
        denominators: (Q, N), as there.
        subjects: N names.
        seed: of the draws.
        resamples: number of draws.
        level: coverage of the interval, in (0, 1).

    Returns:
        (Q, 2) lower and upper ends; nan where no resample has a denominator.
    """
    ratios = ratio_resamples(numerators, denominators, subjects, seed=seed, resamples=resamples)
    return np.array([percentile_interval(column, level) for column in ratios.T])
