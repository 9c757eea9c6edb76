"""MosMedData+ in LViT's layout: axial chest CT slices with infection masks and sentences.

Layout: ``Train_Folder``, ``Val_Folder``, ``Test_Folder``, each with ``img``, ``labelcol`` (masks of the same
names) and a sheet such as ``Train_text.xlsx`` or ``Train_text_MosMedData+.csv``, inside it or beside it, with
columns ``Image`` and ``Description`` (or ``text``). Sentences say the sides of the *picture*; upper, middle
and lower are rows of the slice.

Subjects: the scan, where the name says it (``Jun_coronacases_case1_115`` and ``Morozov_study_0255_11`` are
slices of ``..._case1`` and ``..._study_0255``), else the image itself. Slices of one scan stand in several of
the published
splits: the sets are not disjoint in patients.
"""

from __future__ import annotations

import re
from pathlib import Path

from common.datasets.listing import SHEETS, Fault, Files, Listing, Pair, child, need_columns, read_sheet
from common.errors import UserError

_COLUMNS = {"image": ("image",), "text": ("description", "text")}
_PARTS = {"train": "Train", "validation": "Val", "test": "Test"}


def found(root: Path) -> bool:
    """Whether ``root`` holds this layout."""
    for part in _PARTS.values():
        place = child(root, f"{part}_Folder")
        if place and child(place, "img") and child(place, "labelcol"):
            return True
    return False


def subject(name: str) -> str:
    """The scan that a slice belongs to, or the slice's own name."""
    stem = Path(name.lower()).stem
    match = re.match(r"(.*(?:case|study_)\d+)_\d+$", stem)
    return match.group(1) if match else stem


def _sheet(root: Path, place: Path, part: str) -> Path:
    inside = [e for e in sorted(place.iterdir()) if e.suffix.lower() in SHEETS and not e.name.startswith("~$")]
    beside = [
        e for e in sorted(root.iterdir()) if e.suffix.lower() in SHEETS and re.match(f"{part}_text", e.name, re.I)
    ]
    sheets = inside or beside
    if len(sheets) != 1:
        have = f"has {len(sheets)} tables ({', '.join(s.name for s in sheets)})" if sheets else "has no table"
        raise UserError(f"{place}: {have}; leave one {part}_text.xlsx or .csv with columns Image and Description")
    return sheets[0]


def read(root: Path) -> Listing:
    """All pairs of the data set at ``root``."""
    listing = Listing("mosmed", root, "chest", "axial_ct")
    for split, part in _PARTS.items():
        place = child(root, f"{part}_Folder")
        if place is None:
            continue
        sheet = _sheet(root, place, part)
        rows = read_sheet(sheet, _COLUMNS)
        need_columns(sheet, rows, _COLUMNS, "image", "text")
        images, masks = Files(child(place, "img")), Files(child(place, "labelcol"))
        for number, row in enumerate(rows, start=2):
            where = f"{part}_Folder/{sheet.name}:{number}"
            image, mask = images.find(row["image"]), masks.find(row["image"])
            problems = []
            if image is None:
                problems.append(f"no image {row['image']} in {part}_Folder/img")
            if mask is None:
                problems.append(f"no mask {row['image']} in {part}_Folder/labelcol")
            if not row["text"]:
                problems.append(f"{row['image']} has no sentence")
            if problems:
                listing.faults.extend(Fault(split, f"{where}: {problem}") for problem in problems)
            else:
                listing.pairs.append(Pair(image, mask, row["text"], "image", subject(row["image"]), split, where))
    return listing
