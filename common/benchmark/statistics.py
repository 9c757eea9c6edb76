"""Is one method better than another on the same images? Paired tests, for both definitions of Dice.

- **Paired cluster bootstrap**: subjects are drawn with replacement, the same ones for both methods, and the difference
  is taken in each resample (:func:`common.metrics.bootstrap.ratio_resamples`). Its interval decides.
- **Wilcoxon's signed-rank test** of the per-image Dice, as papers report it. It takes all images for independent, so
  that its p is too small where subjects have several.
- **Seeds**: neither says what another training run of the same method would give. Where a method has several seeds,
  its scores are averaged over them, and a difference smaller than that between its seeds is none.
- **Holm's correction** for a family of comparisons (:func:`family`).
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np
from scipy.stats import wilcoxon

from common.errors import UserError
from common.metrics import summarise
from common.metrics.bootstrap import percentile_interval, ratio_resamples
from common.metrics.score import LEVEL, subjects_of

Name = TypeVar("Name", bound=Hashable)
Row = Mapping[str, Any]
Rows = Sequence[Row]

STATISTICS = ("micro", "per_image")
NO_DIFFERENCE = "no difference seen"
RESAMPLES = 10_000  # the least p is 2 / 10,001: enough for Holm's correction of some hundred comparisons


def compare(
    first: Sequence[Rows], second: Sequence[Rows], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Two methods on the same images; all differences are first minus second.

    Args:
        first: evaluations of one method, one a seed, each the rows of a ``scores.csv``
            (:func:`common.metrics.read_scores`).
        second: of the other; the number of seeds may differ.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        A JSON-able dict: ``images``, ``subjects``, ``seeds`` (two numbers), ``bootstrap``, and for each of
        :data:`STATISTICS`

        - ``first``, ``second``: Dice in [0, 1]: of TP, FP and FN summed over images and seeds; or the mean over the
          images with a lesion of the mean over seeds;
        - ``difference``, ``low``, ``high``: with its 95 % interval over subjects;
        - ``p``: two-sided, of the bootstrap: twice the smaller share of resamples at or beyond 0, at most 1;
        - ``wilcoxon_p`` (``per_image`` alone): 1 if no image differs;
        - ``between_seeds``: the larger of the two methods' ranges (highest less lowest seed); None if both have one;
        - ``verdict``: :data:`NO_DIFFERENCE` where the interval holds 0 or the difference is smaller than
          ``between_seeds``, else ``"first higher"`` or ``"second higher"``.

        A statistic is None where it is not defined: ``per_image`` if no image has a lesion.

    Raises:
        UserError: no evaluation, or two that were not scored on the same images in the same grid.
    """
    if not first or not second:
        raise UserError("statistics: a method without an evaluation cannot be compared; evaluate it first")
    one, two = (_matched(rows, first[0]) for rows in (first, second))
    subjects = subjects_of(_sorted(first[0]))
    sums = {"micro": [_micro(method) for method in (one, two)], "per_image": [_mean(method) for method in (one, two)]}
    # without a lesion, or without any pixel at all, a statistic is not defined
    defined = [name for name in STATISTICS if all(bottom.sum() > 0 for _, bottom in sums[name])]
    found: dict[str, Any] = {
        "images": len(subjects),
        "subjects": len(set(subjects)),
        "seeds": [len(first), len(second)],
        "bootstrap": {"over": "subjects, paired", "resamples": resamples, "seed": seed, "level": LEVEL},
        **dict.fromkeys(STATISTICS),
    }
    if not defined:
        return found
    tops, bottoms = (np.stack(part) for part in zip(*(pair for name in defined for pair in sums[name]), strict=True))
    values = tops.sum(axis=1) / bottoms.sum(axis=1)  # (2 a statistic,)
    ratios = ratio_resamples(tops, bottoms, subjects, seed=seed, resamples=resamples)
    for at, name in enumerate(defined):
        here, there = values[2 * at : 2 * at + 2].tolist()
        differences = ratios[:, 2 * at] - ratios[:, 2 * at + 1]
        low, high = percentile_interval(differences, LEVEL)
        between = [_range(_each(method, name)) for method in (one, two)]
        found[name] = {
            "first": here,
            "second": there,
            "difference": here - there,
            "low": low,
            "high": high,
            "p": _two_sided(differences),
            "between_seeds": max((value for value in between if value is not None), default=None),
        }
        found[name]["verdict"] = _verdict(found[name])
    if found["per_image"]:
        change = one["dice"].mean(axis=0) - two["dice"].mean(axis=0)
        change = change[~np.isnan(change)]
        found["per_image"]["wilcoxon_p"] = float(wilcoxon(change).pvalue) if change.any() else 1.0
    return found


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of the p of a family, in the order given.

    The k-th smallest of m is multiplied by m - k + 1; none is smaller than the one before it, none above 1.
    """
    corrected = [0.0] * len(values)
    least = 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        least = max(least, min(1.0, (len(values) - rank) * values[at]))
        corrected[at] = least
    return corrected


def family(comparisons: Mapping[Name, Mapping[str, Any]]) -> dict[Name, dict[str, Any]]:
    """Comparisons of :func:`compare` that are looked at together, with Holm's correction.

    Each statistic gets ``p_holm`` (and ``wilcoxon_p_holm``), corrected over the comparisons for each of
    :data:`STATISTICS` by itself; its verdict is :data:`NO_DIFFERENCE` unless ``p_holm`` is below 0.05, too.

    Args:
        comparisons: by name; they are not changed.
    """
    found = {name: {**one} for name, one in comparisons.items()}
    for statistic in STATISTICS:
        known = {name: {**one[statistic]} for name, one in found.items() if one[statistic]}
        for key in ("p", "wilcoxon_p"):
            tested = [name for name in known if key in known[name]]
            for name, p in zip(tested, holm([known[name][key] for name in tested]), strict=True):
                known[name][f"{key}_holm"] = p
        for name, entry in known.items():
            if entry["p_holm"] >= 1 - LEVEL:
                entry["verdict"] = NO_DIFFERENCE
            found[name][statistic] = entry
    return found


def stratified(
    subsets: Mapping[str, Rows], *, seed: int = 0, resamples: int = 2000
) -> dict[str, dict[str, object] | None]:
    """The summary (:func:`common.metrics.summarise`) of each subset of an evaluation; None where it has no images.

    Args:
        subsets: name -> rows, as of :func:`common.benchmark.subsets.split_rows`.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    return {name: summarise(rows, seed=seed, resamples=resamples) if rows else None for name, rows in subsets.items()}


def _sorted(rows: Rows) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["image"]))


def _names(rows: Rows) -> list[str]:
    """The images below the folder that holds all of them: two machines may have it in two places."""
    images = [str(row["image"]) for row in rows]
    top = os.path.commonpath([str(PurePath(image).parent) for image in images])
    return [PurePath(image).relative_to(top).as_posix() for image in images]


def _matched(evaluations: Sequence[Rows], with_: Rows) -> dict[str, np.ndarray]:
    """``tp``, ``fp``, ``fn`` and ``dice`` of all evaluations of a method, (seeds, N) each, in one order of images."""
    wanted = _sorted(with_)
    names = _names(wanted)
    found: dict[str, list[list[float]]] = {key: [] for key in ("tp", "fp", "fn", "dice")}
    for rows in evaluations:
        ordered = _sorted(rows)
        own = _names(ordered) if ordered else []
        if own != names or len(set(own)) < len(own):
            odd = sorted(set(own) ^ set(names))
            example = f", such as {odd[0]} in one of them alone" if odd else ""
            raise UserError(
                f"statistics: {len(own)} and {len(names)} images that are not the same{example}; evaluate both "
                "methods on the same split and limit"
            )
        for row, other in zip(ordered, wanted, strict=True):
            if row["tp"] + row["fn"] != other["tp"] + other["fn"]:
                raise UserError(
                    f"statistics: {row['image']} has a lesion of {row['tp'] + row['fn']} and of "
                    f"{other['tp'] + other['fn']} pixels; score both methods in the same grid (--protocol source)"
                )
        for key, lines in found.items():
            lines.append([np.nan if row[key] is None else float(row[key]) for row in ordered])
    return {key: np.array(lines) for key, lines in found.items()}


def _micro(method: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators of micro Dice, (N,), summed over seeds."""
    tp, fp, fn = (method[key].sum(axis=0) for key in ("tp", "fp", "fn"))
    return 2 * tp, 2 * tp + fp + fn


def _mean(method: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators of the mean over images with a lesion, (N,), of the mean over seeds."""
    values = method["dice"].mean(axis=0)
    known = ~np.isnan(values)
    return np.where(known, values, 0.0), known.astype(float)


def _each(method: Mapping[str, np.ndarray], statistic: str) -> list[float]:
    """The statistic of each seed by itself."""
    if statistic == "per_image":
        return [float(np.nanmean(line)) for line in method["dice"]]
    tp, fp, fn = (method[key].sum(axis=1) for key in ("tp", "fp", "fn"))
    whole = 2 * tp + fp + fn
    return np.divide(2 * tp, whole, out=np.zeros_like(tp), where=whole > 0).tolist()


def _range(values: Sequence[float]) -> float | None:
    return max(values) - min(values) if len(values) > 1 else None


def _two_sided(differences: np.ndarray) -> float:
    """Twice the smaller share of resampled differences at or beyond 0; the observed one counts as a resample."""
    known = differences[~np.isnan(differences)]
    beyond = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    return min(1.0, 2 * (beyond + 1) / (known.size + 1))


def _verdict(entry: Mapping[str, Any]) -> str:
    between, difference = entry["between_seeds"], entry["difference"]
    if entry["low"] <= 0 <= entry["high"] or (between is not None and abs(difference) < between):
        return NO_DIFFERENCE
    return "first higher" if difference > 0 else "second higher"
