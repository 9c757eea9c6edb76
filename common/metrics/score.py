"""One row an image, one summary a data set, one printed table: the evaluator that all methods share.

Images without lesion (empty truth) have no Dice: they are left out of per-image Dice, IoU, HD95 and ASSD,
stay in the micro sums (their false positives count), and give the specificity: the share whose prediction is
empty too. ``lvit_rule`` is LViT's per-image mean, which scores them 0. A lesion that is missed wholly (empty
prediction) has Dice 0 and HD95 = ASSD = the image diagonal; the number of such images is printed.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.files import write_text
from common.metrics.bootstrap import ratio_intervals
from common.metrics.boundary import assd, boundary_distances, diagonal, hd95
from common.metrics.consistency import CONSISTENCY, consistency
from common.metrics.overlap import binary, counts, dice, iou
from common.prompts import Findings

CASE = ("image", "subject", "source", "text_prompt", "prompt_used")
COLUMNS = (
    *CASE,
    *("height", "width", "row_mm", "column_mm"),
    *("tp", "fp", "fn", "empty_truth", "empty_prediction"),
    *("dice", "iou", "hd95_px", "assd_px", "hd95_mm", "assd_mm"),
    *(f"{name}_{mask}" for name in CONSISTENCY for mask in ("prediction", "truth")),
)
LEVEL = 0.95


def score_case(
    pred: np.ndarray,
    truth: np.ndarray,
    *,
    case: Mapping[str, object],
    findings: Findings | None = None,
    spacing: tuple[float, float] | None = None,
    kind: str | None = None,
) -> dict[str, object]:
    """All scores of one image as a flat row with the keys :data:`COLUMNS`; what is not defined is None.

    Args:
        pred: predicted mask as displayed, (H, W), bool or 0/1.
        truth: ground truth on the same grid.
        case: the image's entry of the data list: ``image``, and ``subject``, ``source``, ``text_prompt``.
        findings: what was understood of the sentence, for text-mask consistency; None or refused: not scored.
        spacing: height and width of a pixel in mm, or None when unknown.
        kind: of image, as :mod:`common.prompts.zones` names it; None takes the grammar's usual one.

    Raises:
        ValueError: the shapes differ, or one of them is no binary mask.
    """
    tp, fp, fn = counts(pred, truth)
    pred, truth = binary(pred), binary(truth)
    row: dict[str, object] = dict.fromkeys(COLUMNS)
    row |= {"image": str(case["image"])} | {key: case.get(key) for key in CASE[1:]}
    row |= {"height": truth.shape[0], "width": truth.shape[1]}
    if spacing is not None:
        row |= {"row_mm": float(spacing[0]), "column_mm": float(spacing[1])}
    row |= {"tp": tp, "fp": fp, "fn": fn, "empty_truth": not truth.any(), "empty_prediction": not pred.any()}
    if truth.any():
        row |= {"dice": dice(tp, fp, fn), "iou": iou(tp, fp, fn)}
        for unit, size in (("px", None), ("mm", spacing)):
            if unit == "px" or spacing is not None:
                row[f"hd95_{unit}"], row[f"assd_{unit}"] = _distances(pred, truth, size)
    if findings is not None and findings.understood:
        for name, mask in {"prediction": pred, "truth": truth}.items():
            row |= {f"{key}_{name}": value for key, value in consistency(mask, findings, kind).items()}
    return row


def _distances(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, float] | None) -> tuple[float, float]:
    """HD95 and ASSD of one image; the diagonal for an empty prediction."""
    if not pred.any():
        return (diagonal(truth.shape, spacing),) * 2
    both = boundary_distances(pred, truth, spacing)
    return hd95(*both), assd(*both)


def _column(rows: Sequence[Mapping[str, object]], name: str) -> np.ndarray:
    """One column as float, nan where a row has no value."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator of a mean over the images that have a value."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0), known.astype(float)


def subjects_of(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """What is drawn together when images are resampled: the subject; an image without one stands for itself."""
    return [f"subject {row['subject']}" if row["subject"] else f"image {row['image']}" for row in rows]


def summarise(rows: Sequence[Mapping[str, object]], *, seed: int = 0, resamples: int = 2000) -> dict[str, object]:
    """All statistics of a data set, each with its 95 % percentile interval over subjects.

    A row without a subject is a subject of its own.

    Args:
        rows: of :func:`score_case`.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        A JSON-able dict. A statistic is ``{"value", "low", "high", "n"}``: fractions in [0, 1], distances
        in px or mm, ``n`` the images it is over; ``value`` is None where there are none.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no scores to summarise: the list of rows is empty")
    tp, fp, fn = (_column(rows, name) for name in ("tp", "fp", "fn"))
    no_truth, no_pred = (_column(rows, name) == 1 for name in ("empty_truth", "empty_prediction"))
    ones = np.ones(len(rows))

    # place in the summary -> numerators and denominators, (N,) each
    ratios: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
    ratios["dice", "micro"] = 2 * tp, 2 * tp + fp + fn
    ratios["iou", "micro"] = tp, tp + fp + fn
    for name in ("dice", "iou"):
        ratios[name, "per_image"] = _mean(_column(rows, name))
        ratios[name, "lvit_rule"] = ratios[name, "per_image"][0], ones
    for name in ("hd95", "assd"):
        for unit in ("px", "mm"):
            ratios[name, unit] = _mean(_column(rows, f"{name}_{unit}"))
    ratios["sensitivity",] = (~no_truth & ~no_pred).astype(float), (~no_truth).astype(float)
    ratios["specificity",] = (no_truth & no_pred).astype(float), no_truth.astype(float)
    for name in CONSISTENCY:
        for mask in ("prediction", "truth"):
            ratios["consistency", name, mask] = _mean(_column(rows, f"{name}_{mask}"))

    top, bottom = (np.stack(terms) for terms in zip(*ratios.values(), strict=True))  # (Q, N)
    subjects = subjects_of(rows)
    ends = ratio_intervals(top, bottom, subjects, seed=seed, resamples=resamples, level=LEVEL)

    sizes = Counter(f"{row['height']}x{row['width']}" for row in rows)
    summary: dict[str, object] = {
        "images": len(rows),
        "subjects": len(set(subjects)),
        "images_without_subject": sum(not row["subject"] for row in rows),
        "sizes": dict(sizes.most_common()),
        "empty_truth": int(no_truth.sum()),
        "missed": int((~no_truth & no_pred).sum()),
        "bootstrap": {"over": "subjects", "resamples": resamples, "seed": seed, "level": LEVEL},
    }
    for path, above, below, (low, high) in zip(ratios, top, bottom, ends, strict=True):
        total = below.sum()
        statistic = {"value": above.sum() / total if total else np.nan, "low": low, "high": high}
        place = summary
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = {k: None if np.isnan(v) else float(v) for k, v in statistic.items()}
        place[path[-1]]["n"] = int(np.count_nonzero(below if path[-1] != "micro" else ones))
    return summary


def _line(name: str, statistics: Sequence[Mapping[str, object]], scale: float, note: str) -> str:
    """One line of the table: value and interval of each statistic, the number of images, the definition."""
    cells = []
    for s in statistics:
        if s["value"] is None:
            cells.append(f"{'-':>8} {'':>16}")
        else:
            value, low, high = (f"{s[key] * scale:.2f}" for key in ("value", "low", "high"))
            cells.append(f"{value:>8} {f'[{low}, {high}]':>16}")
    return f"  {name:<26}{''.join(cells)} {statistics[0]['n']:>7}  {note}".rstrip()


def format_table(summary: Mapping[str, object]) -> str:
    """The summary as a table for a terminal, each line with its definition."""
    boot, sizes = summary["bootstrap"], summary["sizes"]
    grid = ", ".join(sizes) if len(sizes) < 4 else f"{len(sizes)} sizes: distances in pixels do not compare"
    lines = [
        f"{summary['images']} images ({grid}), {summary['subjects']} subjects "
        f"({summary['images_without_subject']} images name none: each counts as one)",
        f"{summary['empty_truth']} without lesion; {summary['missed']} with a lesion and an empty prediction",
        f"[{boot['level']:.0%} interval]: {boot['resamples']} resamples of subjects, seed {boot['seed']}",
        "",
        f"  {'':<26}{'value':>8} {'interval':>16} {'images':>7}",
    ]
    for name, title in (("dice", "Dice"), ("iou", "IoU")):
        formula = "2TP/(2TP+FP+FN)" if name == "dice" else "TP/(TP+FP+FN)"
        for key, label, note in (
            ("micro", "micro, %", f"{formula} of the sums over all images"),
            ("per_image", "per image, %", "mean over the images with a lesion"),
            ("lvit_rule", "LViT's rule, %", "mean over all images, 0 where there is no lesion"),
        ):
            lines.append(_line(f"{title} {label}", [summary[name][key]], 100, note))
    for name, title, note in (
        ("hd95", "HD95", "95th percentile of both directed sets together; missed: diagonal"),
        ("assd", "ASSD", "mean of the two directed means; missed: diagonal"),
    ):
        units = [unit for unit in ("px", "mm") if summary[name][unit]["n"]]
        lines += [_line(f"{title}, {unit}", [summary[name][unit]], 1, note) for unit in units]
    for name, note in (
        ("sensitivity", "images with a lesion whose prediction is not empty"),
        ("specificity", "images without lesion whose prediction is empty"),
    ):
        lines.append(_line(f"{name.capitalize()}, %", [summary[name]], 100, note))

    agreement = summary["consistency"]
    if agreement["zone_bits"]["truth"]["n"]:
        head = f"{'prediction':>10}{'interval':>15}{'truth':>8} {'(ceiling)':>16}"
        lines += ["", f"  {'Mask against sentence':<26}{head} {'images':>7}"]
        for name, (title, note) in CONSISTENCY.items():
            if agreement[name]["truth"]["n"]:
                pair = [agreement[name]["prediction"], agreement[name]["truth"]]
                lines.append(_line(f"{title}, %", pair, 100, note))
    return "\n".join(lines) + "\n"


def write_scores(
    rows: Sequence[Mapping[str, object]], summary: Mapping[str, object], folder: str | Path
) -> tuple[Path, Path]:
    """Write ``scores.csv`` (a line an image) and ``summary.json`` into ``folder``, atomically.

    Returns:
        The two paths. The folder is made if it is not there; files of that name are replaced.
    """
    folder = Path(folder)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    paths = folder / "scores.csv", folder / "summary.json"
    for path, content in zip(paths, (text.getvalue(), json.dumps(summary, indent=4) + "\n"), strict=True):
        write_text(path, content)
    return paths


def read_scores(path: str | Path) -> list[dict[str, object]]:
    """The rows of a ``scores.csv``, as :func:`write_scores` was given them: what is not defined is None.

    Raises:
        UserError: there is no such file, or it is no table of scores.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows = [
                {name: (text or None) if name in CASE else _value(text) for name, text in line.items()}
                for line in table
            ]
            columns = tuple(table.fieldnames or ())
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no table of scores ({error}); make it with tools evaluate") from error
    if columns != COLUMNS or not rows:
        fault = "holds no rows" if columns == COLUMNS else "its columns are not those of scores"
        raise UserError(f"{path}: {fault}; make it again with tools evaluate")
    return rows


def _value(text: str) -> bool | int | float | None:
    """A number or truth value as ``csv`` writes it; "" is None."""
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    try:
        return int(text)
    except ValueError:
        return float(text)
