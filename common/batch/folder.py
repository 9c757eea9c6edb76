"""Segment every image of a folder: masks, overlays, a table and a page to look at."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import user_error
from common.images import display_array
from common.prompts import Findings
from common.prompts.zones import TABLES, zones_of_mask
from common.report.gallery import write_gallery
from common.report.overlay import overlay
from common.runtime.model import Model, Segmentation

from .prompts import Prompt

COLUMNS = (
    "source", "status", "reason", "mask", "overlay", "prompt", "laterality", "understood", "sides_named",
    "mask_sides", "mask_zones", "rows", "columns", "pixels", "share", "area_mm2", "warnings",
)  # fmt: skip
# columns of a picture as displayed -> the patient's side
PATIENT = {"left": "patient right", "right": "patient left"}


def names_of(images: Iterable[Path], root: Path) -> dict[Path, Path]:
    """For each image the name of its mask below an output folder: that of the image, and ``.png`` behind others.

    ``a/1.png`` stays, ``a/1.dcm`` becomes ``a/1.dcm.png``, ``a/1.nii.gz`` becomes ``a/1.mask.nii.gz``; where two would
    meet, the later one is numbered.
    """
    names: dict[Path, Path] = {}
    taken: set[Path] = set()
    for image in images:
        relative = image.relative_to(root) if image != root else Path(image.name)
        lower = relative.name.lower()
        if lower.endswith((".nii", ".nii.gz")):
            cut = relative.name[: lower.rindex(".nii")]
            name = relative.with_name(cut + ".mask.nii.gz")
        else:
            name = relative if lower.endswith(".png") else relative.with_name(relative.name + ".png")
        number, wanted = 2, name
        while name in taken:
            stem, dot, ending = wanted.name.partition(".")
            name, number = wanted.with_name(f"{stem}-{number}{dot}{ending}"), number + 1
        taken.add(name)
        names[image] = name
    return names


def segment_folder(
    model: Model,
    prompts: dict[Path, Prompt | None],
    root: Path,
    output: Path,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> list[dict[str, Any]]:
    """Segment images; what one file gets wrong is its row's reason, and the rest goes on.

    Args:
        model: a trained bundle.
        prompts: the images and their sentences.
        root: the folder they lie in.
        output: gets ``masks/`` (in each source's own grid), ``overlays/``, ``results.csv`` and ``index.html``.
        progress: wraps the images, to draw a bar.

    Returns:
        One row an image, with the keys :data:`COLUMNS`.
    """
    rows = []
    names = names_of(prompts, root)
    for image in progress(prompts):
        prompt = prompts[image]
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
        row["source"] = image.relative_to(root).as_posix() if image != root else image.name
        if prompt is not None:
            row |= {"prompt": prompt.text, "laterality": prompt.laterality}
        try:
            result = model(image, *(prompt or ()))
            row |= _write(result, image, names[image], output) | _describe(result, model)
            row["status"] = "done"
        except Exception as error:
            fault = user_error(error)
            if fault is None:
                # not a fault of the file that is known: the line names it, the log has the rest
                logging.getLogger("segment").exception("%s", image)
            reason = " ".join(str(fault or f"{type(error).__name__}: {error}").split())
            row |= {"status": "failed", "reason": reason.removeprefix(f"{image}: ")}
        rows.append(row)
    _write_table(rows, output / "results.csv")
    write_gallery(
        [_card(row, model.grammar) for row in rows], output / "index.html", f"{model.folder.name}: {root.name}"
    )
    return rows


def _write(result: Segmentation, image: Path, name: Path, output: Path) -> dict[str, str]:
    """Write mask and overlay; their paths below ``output``."""
    mask = Path("masks") / name
    picture = Path("overlays") / name.with_name(name.name.removesuffix(".nii.gz").removesuffix(".png") + ".jpg")
    for path in (mask, picture):
        (output / path).parent.mkdir(parents=True, exist_ok=True)
    result.save(output / mask)
    sentence = result.findings.caption("patient") + " (patient's sides)" if result.findings else None
    drawn = overlay(display_array(image), result.displayed, sentence=sentence)
    Image.fromarray(drawn).save(output / picture, quality=90)
    return {"mask": mask.as_posix(), "overlay": picture.as_posix()}


def _describe(result: Segmentation, model: Model) -> dict[str, Any]:
    """What the row says of sentence and mask; all sides are the patient's."""
    mask = result.displayed
    facts: dict[str, Any] = {
        "rows": result.mask.shape[0], "columns": result.mask.shape[1], "pixels": int(mask.sum()),
        "share": round(float(mask.mean()), 6),
        "area_mm2": "" if result.area_mm2 is None else round(result.area_mm2, 2),
    }  # fmt: skip
    if model.grammar == "chest":
        bits = zones_of_mask(mask, "radiograph")
        shown = Findings("chest", tuple(bits))
        facts |= {"mask_sides": _sides(shown), "mask_zones": _zones(shown)}
    if result.findings is not None:
        facts |= {
            "understood": result.findings.caption("patient"),
            "sides_named": _sides(result.findings),
            "warnings": " | ".join(result.findings.warnings),
        }
    return facts


def _sides(findings: Findings) -> str:
    return ", ".join(sorted(PATIENT[side] for side in findings.sides))


def _zones(findings: Findings) -> str:
    """The zones as the patient's: "patient left lower"."""
    levels = {"up": "upper", "mid": "middle", "low": "lower"}
    words = []
    for name, bit in zip(TABLES["radiograph"].names, findings.zones, strict=True):
        side, _, level = name.partition("-")
        if bit:
            words.append(f"{PATIENT['left' if side == 'L' else 'right']} {levels[level]}")
    return ", ".join(words)


def _card(row: dict[str, Any], grammar: str) -> dict[str, Any]:
    """The gallery's row."""
    failed = row["status"] == "failed"
    return {
        "file": row["source"],
        "verdict": "failed" if failed else ("note" if row["warnings"] else "ok"),
        "overlay": row["overlay"],
        "sentence": f"{row['prompt']} ({row['laterality']}'s sides)" if row["prompt"] else "",
        "sides": row["sides_named"].split(", ") if row["sides_named"] else (),
        "reason": row["reason"] if failed else row["warnings"],
    }


def _write_table(rows: list[dict[str, Any]], path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def count_lesion_images(rows: list[dict[str, Any]]) -> int:
    """How many of the rows have a mask that is not empty."""
    return int(np.count_nonzero([row["status"] == "done" and row["pixels"] for row in rows]))
