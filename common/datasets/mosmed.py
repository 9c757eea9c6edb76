"""MosMedData+ in LViT's layout: axial chest CT slices with infection masks and sentences.

Layout: ``Train_Folder``, ``Val_Folder``, ``Test_Folder``, each with ``img``, ``labelcol`` (masks of the same
names) and a sheet such as ``Train_text.xlsx`` or ``Train_text_MosMedData+.csv``, inside it or beside it, with
columns ``Image`` and ``Description`` (or ``text``). Sentences say the sides of the *picture*; upper, middle
and lower are rows of the slice.

Subjects: the scan, where the name says it (``Jun_coronacases_case1_115`` and ``Morozov_study_0255_11`` are
slices of ``..._case1`` and ``..._study_0255``), else the image itself. Slices of one scan stand in several of
the published splits: a network is then tested on scans that it was trained on. ``splits="volume_disjoint"`` gives
splits of our own, in which each scan stands in one alone (:func:`volume_disjoint`).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.datasets.listing import SHEETS, Fault, Files, Listing, Pair, child, need_columns, read_sheet
from common.errors import UserError

_COLUMNS = {"image": ("image",), "text": ("description", "text")}
_PARTS = {"train": "Train", "validation": "Val", "test": "Test"}
_HELD_OUT = {"test": 273 / 2729, "validation": 273 / 2729}  # shares of the published splits
POLICIES = ("published", "volume_disjoint")


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


def volume(name: str) -> str:
    """What may not be divided: the scan of a slice, or all slices that share a name up to their number.

    Names such as ``bjorke_40`` tell neither scan nor patient, and several of those slices are of one patient.
    """
    scan = subject(name)
    return scan if scan != Path(name.lower()).stem else re.sub(r"_\d+$", "", scan)


def volume_disjoint(names: Sequence[str]) -> dict[str, str]:
    """The split of each volume, so that none stands in two and the sizes are about the published 80/10/10.

    The volumes are gone through in the order of the SHA-1 of their names; each goes to test if it still fits into
    10.0 % of the slices, else to validation if it fits there, else to train. So test and validation have at most the
    published number of slices, and little less where there are small volumes. Nothing is drawn: the same files give
    the same splits everywhere.

    Args:
        names: of all slices.

    Returns:
        volume -> ``"train"``, ``"validation"`` or ``"test"``.
    """
    sizes = Counter(volume(name) for name in names)
    room = {split: round(len(names) * share) for split, share in _HELD_OUT.items()}
    found = {}
    for one in sorted(sizes, key=lambda name: hashlib.sha1(name.encode()).hexdigest()):
        split = next((split for split in room if sizes[one] <= room[split]), "train")
        found[one] = split
        if split in room:
            room[split] -= sizes[one]
    return found


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


def read(root: Path, splits: str = "published") -> Listing:
    """All pairs of the data set at ``root``.

    Args:
        root: its folder.
        splits: of :data:`POLICIES`: as the folders have them, or :func:`volume_disjoint`.
    """
    listing = Listing("mosmed", root, "chest", "axial_ct")
    names: list[str] = []  # of all rows, usable or not
    fault_names: list[str] = []
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
            names.append(row["image"])
            problems = []
            if image is None:
                problems.append(f"no image {row['image']} in {part}_Folder/img")
            if mask is None:
                problems.append(f"no mask {row['image']} in {part}_Folder/labelcol")
            if not row["text"]:
                problems.append(f"{row['image']} has no sentence")
            if problems:
                listing.faults.extend(Fault(split, f"{where}: {problem}") for problem in problems)
                fault_names += [row["image"]] * len(problems)
            else:
                listing.pairs.append(Pair(image, mask, row["text"], "image", subject(row["image"]), split, where))
    if splits == "volume_disjoint":
        of = volume_disjoint(names)
        listing.pairs[:] = [replace(pair, split=of[volume(pair.image.name)]) for pair in listing.pairs]
        listing.faults[:] = [
            replace(fault, split=of[volume(name)]) for fault, name in zip(listing.faults, fault_names, strict=True)
        ]
    return listing
