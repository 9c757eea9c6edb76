"""Tables of a run: ``results.csv`` and ``.json``, ``timing.csv``; written row by row, so that memory stays flat."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.batch.job import COLUMNS
from common.batch.naming import nameless
from common.files import replacing

STEPS = ("decode", "network", "write")


def write_tables(rows: Iterable[tuple[dict[str, Any], dict[str, float]]], output: Path) -> Counter[str]:
    """Write the tables.

    Args:
        rows: of the images, with the seconds each step took.
        output: folder.

    Returns:
        How many rows have each status (``"status done"``), verdict (``"verdict review"``), reason of a status
        (``"refused: lateral view"``), and how many have a lesion (``"lesion"``).
    """
    counts: Counter[str] = Counter()
    with (
        replacing(output / "results.csv") as results, replacing(output / "results.json") as listed,
        replacing(output / "timing.csv") as timing,
        results.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        listed.open("w", encoding="utf-8", errors="backslashreplace") as items,
        timing.open("w", encoding="utf-8", errors="backslashreplace", newline="") as times,
    ):  # fmt: skip
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        clock = csv.writer(times, lineterminator="\n")
        clock.writerow(("source", *(f"{step}_s" for step in STEPS)))
        items.write("[")
        for number, (row, seconds) in enumerate(rows):
            table.writerow(row)
            items.write(("," if number else "") + "\n" + json.dumps(row))
            clock.writerow((row["source"], *(f"{seconds[s]:.4f}" if s in seconds else "" for s in STEPS)))
            _count(counts, row)
        items.write("\n]\n")
    return counts


def _count(counts: Counter[str], row: dict[str, Any]) -> None:
    counts["all"] += 1
    counts[f"status {row['status']}"] += 1
    if row["status"] == "done":
        counts[f"verdict {row['verdict']}"] += 1
        counts["lesion"] += row["pixels"] > 0
    else:
        # counts are printed, and names are not
        counts[f"{row['status']}: {nameless(row['reason'])}"] += 1


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a ``results.json``, one at a time."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("{"):
                yield json.loads(line.rstrip().removesuffix(","))
