"""The tables of README and model cards, made from what evaluations wrote and from nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError

from .tables import markdown_table

COLUMNS = (
    "run", "seeds", "images", "Dice micro, %", "Dice per image, %", "IoU micro, %", "IoU per image, %", "HD95, px",
    "ASSD, px", "sides, %",
)  # fmt: skip


def read_run(folder: Path) -> dict[str, Any]:
    """What one evaluation says: its ``summary.json`` and the sidecar and history of the weights it scored.

    Raises:
        UserError: the folder holds no evaluation, or its weights have no sidecar.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        weights = Path(summary["weights"])
        sidecar = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
        history = sidecar.get("history")  # of weights that were taken out of their training's folder
        if history is None:
            with (weights.parent / "history.csv").open(newline="", encoding="utf-8") as file:
                history = list(csv.DictReader(file))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: no evaluation with its weights' model.json and history.csv ({error}); run tools evaluate"
        ) from error
    return {"summary": summary, "sidecar": sidecar, "history": history}


def _seeds(values: Sequence[float | None], scale: float) -> str:
    """One number, or the mean of the seeds and each of them."""
    found = [scale * value for value in values if value is not None]
    if not found:
        return ""
    mean = sum(found) / len(found)
    return f"{mean:.2f}" if len(found) == 1 else f"{mean:.2f} ({', '.join(f'{value:.2f}' for value in found)})"


def numbers(rows: Mapping[str, Sequence[Path]]) -> str:
    """A Markdown table with a row a configuration, and below it data, steps, commit and machine.

    Args:
        rows: the name of each row and the folders of its evaluations, one a seed.

    Raises:
        UserError: an evaluation is missing, or the rows were not scored on the same images.
    """
    lines, scored = [], set()
    trained: dict[tuple[str, str], list[str]] = {}  # weights and what is to be said of them -> rows
    for name, folders in rows.items():
        runs = [read_run(folder) for folder in folders]
        summaries = [run["summary"] for run in runs]

        def column(*path: str, scale: float = 100.0, of: Sequence[Mapping[str, Any]] = tuple(summaries)) -> str:
            values = []
            for item in of:
                for key in path:
                    item = item[key] if item is not None else None
                values.append(None if item is None else item["value"])
            return _seeds(values, scale)

        lines.append(
            {
                "run": name,
                "seeds": ", ".join(str(run["sidecar"]["seed"]) for run in runs),
                "images": ", ".join(sorted({str(s["images"]) for s in summaries})),
                "Dice micro, %": column("dice", "micro"),
                "Dice per image, %": column("dice", "per_image"),
                "IoU micro, %": column("iou", "micro"),
                "IoU per image, %": column("iou", "per_image"),
                "HD95, px": column("hd95", "px", scale=1.0),
                "ASSD, px": column("assd", "px", scale=1.0),
                "sides, %": column("consistency", "laterality", "prediction"),
            }
        )
        for run in runs:
            data, sidecar, history = run["summary"]["data"], run["sidecar"], run["history"]
            scored.add(data["sha256"])
            seconds = sum(float(row["seconds"]) for row in history)
            facts = (
                f"seed {sidecar['seed']}: {sidecar['data']['items']} training images, "
                f"{history[-1]['steps']} steps in {seconds:.0f} s with validation, best epoch {sidecar['epoch']} of "
                f"{len(history)}, scored on split {run['summary']['split']} in the {run['summary']['grid']} grid, "
                f"commit {sidecar['commit'][:12]}, torch {sidecar['versions']['torch']}, {sidecar['device']}."
            )
            trained.setdefault((run["summary"]["weights"], facts), []).append(name)
    if len(scored) > 1:
        raise UserError("the rows were scored on different images; evaluate all of them on the same split and limit")
    notes = []
    for (_, facts), (name, *others) in trained.items():
        same = " (and rows below, of the same weights)" if others else ""
        notes.append(f"- {name}{same}, {facts}")
    return markdown_table(lines, COLUMNS) + "\n" + "\n".join(notes)
