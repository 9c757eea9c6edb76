"""Does a mask fit its sentence better with left and right exchanged? Told for sentences that name both sides.

"Lower left lung and upper right lung" and its mirror image name the same sides, so that only the heights of the lesions
tell them apart. Each half of the mask is described by nine numbers, the two halves are subtracted, and for each level
that the sentence names on one side only a weighted sum of the differences says how far the mask agrees. The mirrored
sentence has the negative score by construction, so 0 is the natural threshold, and no side is preferred.

The weights are a ridge-penalised logistic regression of the 1,233 sentences of QaTa-COV19's training rows that name
both sides differently, true against mirrored; they were chosen for few numbers among settings that differ by no more
than 0.3 % in five-fold cross-validation over subjects (94.8 % of the sentences told from their mirror images; a small
neural network on 28 bands does not do better). ``python -m tools measure-verdict --fit`` computes them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from common.prompts import Findings
from common.prompts.findings import LEVELS

BANDS = 5
# one row a level, upper, middle, lower; columns as in `describe_half`
WEIGHTS = (
    (4.2, 4.1, -0.3, 1.5, 0.4, -5.5, 0.3, -0.9, -0.1),
    (0.0, 4.8, 3.6, 2.0, 1.2, -1.7, -0.8, -0.9, 1.7),
    (-1.9, 2.0, 3.0, 4.5, 0.6, -0.5, 4.3, 1.5, 2.7),
)  # fmt: skip
_PENALTY = 1e-4


def describe_half(profile: np.ndarray) -> np.ndarray:
    """Nine numbers about the lesions in one half of a mask.

    Args:
        profile: (H,) share of lesion in each row of the half.

    Returns:
        (9,): the shares of lesion in five bands of equal height from the top, their logarithm taken; the heights above
        which 5 and 95 % of the lesion lie, and its centre, as fractions (0.5 without lesion); the half's share, its
        logarithm taken.
    """
    edges = np.linspace(0, 1, len(profile) + 1)
    above = np.concatenate([[0.0], np.cumsum(profile)]) / len(profile)
    total = above[-1]
    bands = np.diff(np.interp(np.linspace(0, 1, BANDS + 1), edges, above)) * BANDS
    if total > 0:
        low, high = np.interp([0.05 * total, 0.95 * total], above, edges)
        centre = float(profile @ (edges[:-1] + edges[1:])) / 2 / profile.sum()
    else:
        low = high = centre = 0.5
    return np.concatenate([np.log1p(30 * bands) / np.log(31), [low, high, centre, np.log1p(100 * total) / np.log(101)]])


def tells(findings: Findings) -> bool:
    """Whether a chest sentence names both sides, and not the same on both."""
    return len(findings.sides) == 2 and findings.zones[:3] != findings.zones[3:]


def _terms(halves: tuple[np.ndarray, np.ndarray], findings: Findings) -> np.ndarray:
    """(3, 9): differences of the halves, signed by the side that the sentence names at each level."""
    left, right = (np.array(bits) for bits in (findings.zones[:3], findings.zones[3:]))
    return np.outer(left - right, describe_half(halves[0]) - describe_half(halves[1]))


def score(halves: tuple[np.ndarray, np.ndarray], findings: Findings) -> float:
    """How much better a mask fits the sentence than its mirror image; negative if it fits the mirror image better.

    Args:
        halves: profiles (H,) of the left and the right half of a frontal radiograph's mask as displayed.
        findings: of a sentence that :func:`tells`; 0 for any other that names the same on both sides.
    """
    return float((_terms(halves, findings) * WEIGHTS).sum())


def fit(items: Iterable[tuple[tuple[np.ndarray, np.ndarray], Findings]]) -> np.ndarray:
    """The weights, (3, 9), from true sentences and the halves of their masks; others than :func:`tells` left out."""
    x = np.array([_terms(halves, findings).ravel() for halves, findings in items if tells(findings)])
    weights = np.zeros(x.shape[1])
    for _ in range(50):  # Newton's method; the objective is convex
        wrong = 1 / (1 + np.exp(x @ weights))
        gradient = -x.T @ wrong / len(x) + 2 * _PENALTY * weights
        curvature = (x.T * (wrong * (1 - wrong))) @ x / len(x) + 2 * _PENALTY * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-6:
            break
    return weights.reshape(len(LEVELS), -1)
