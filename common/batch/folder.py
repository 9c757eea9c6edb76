"""Segment every image of a folder: masks, overlays, a table and a page to look at."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import user_error
from common.files import replacing, write_text
from common.images import display_array
from common.report.gallery import write_gallery
from common.report.overlay import overlay
from common.runtime.model import Model, Segmentation

from .describe import DEFAULT_USED, describe, marker, whose_sides
from .prompts import Prompt

COLUMNS = (
    "source", "status", "verdict", "reason", "mask", "overlay", "prompt", "prompt_laterality", "prompt_used",
    "understood", "understood_laterality", "sides_named", "mask_sides", "mask_zones", "orientation",
    "orientation_source", "rows", "columns", "pixels", "share", "area_mm2", "warnings",
)  # fmt: skip
_WHOSE = {"patient": "the patient's sides", "image": "sides of the picture"}


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

    Of a file that fails, no mask or overlay is in ``output``, not of an earlier run either.

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
            row |= {"prompt": prompt.text, "prompt_laterality": prompt.laterality}
        mask = Path("masks") / names[image]
        picture = Path("overlays") / names[image].with_name(names[image].name + ".jpg")
        try:
            result = model(image, *(prompt[:2] if prompt else ()))
            facts = describe(result, model.grammar, model.kind, row["prompt_laterality"])
            (output / mask).parent.mkdir(parents=True, exist_ok=True)
            result.save(output / mask)
            _draw(result, image, model, row["prompt_laterality"], output / picture)
            row |= facts | {"status": "done", "mask": mask.as_posix(), "overlay": picture.as_posix()}
        except Exception as error:
            fault = user_error(error)
            if fault is None:
                # not a fault of the file that is known: the line names it, the log has the rest
                logging.getLogger("segment").exception("%s", image)
            reason = " ".join(str(fault or f"{type(error).__name__}: {error}").split())
            row |= {"status": "failed", "verdict": "failed", "reason": reason.removeprefix(f"{image}: ")}
            for path in (mask, picture):
                try:
                    (output / path).unlink(missing_ok=True)
                except OSError:
                    row["reason"] += f"; {path.as_posix()} may be of an earlier run and cannot be removed"
        rows.append(row)
    _write_table(rows, output / "results.csv")
    write_gallery([_card(row) for row in rows], output / "index.html", f"{model.folder.name}: {root.name}")
    return rows


def _draw(result: Segmentation, image: Path, model: Model, laterality: str, path: Path) -> None:
    """Write the overlay, the sentence as understood below it."""
    sentence = DEFAULT_USED if result.prompt_used == "default" else None
    if result.findings is not None and result.findings.understood:
        whose = whose_sides(result, model.grammar, laterality)
        unused = "; not used by this network" if result.prompt_used == "not used" else ""
        sentence = f"{result.findings.caption(whose)} ({_WHOSE[whose]}{unused})"
    drawn = overlay(display_array(image), result.displayed, sentence=sentence, marker=marker(result, model.grammar))
    with replacing(path) as part:
        Image.fromarray(drawn).save(part, format="JPEG", quality=90)


def _card(row: dict[str, Any]) -> dict[str, Any]:
    """The gallery's row."""
    return {
        "file": row["source"],
        "verdict": row["verdict"],
        "overlay": row["overlay"],
        "sentence": f"{row['prompt']} ({_WHOSE[row['prompt_laterality']]})" if row["prompt"] else "",
        "sides": row["sides_named"].split(", ") if row["sides_named"] else (),
        "reason": row["reason"] or row["warnings"],
    }


def _write_table(rows: list[dict[str, Any]], path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def count_lesion_images(rows: list[dict[str, Any]]) -> int:
    """How many of the rows have a mask that is not empty."""
    return int(np.count_nonzero([row["status"] == "done" and row["pixels"] for row in rows]))
