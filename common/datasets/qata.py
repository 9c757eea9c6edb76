"""QaTa-COV19-v2: chest radiographs with lesion masks, and LViT's sentences.

Layout (Kaggle's): ``Train Set/Images``, ``Train Set/Ground-truths``, ``Test Set/...``, and the sheets
``train.csv`` and ``test.csv`` (or xlsx, also LViT's ``Train_text....xlsx``) with columns ``Image`` (names the
mask) and ``Description``, beside them, in a folder ``prompt``, or inside the set's folder. Names are matched
without regard to case: the sheets and the files differ in it.

Splits: the first 80 % of the train sheet are for training, the last 20 % for validation (5,716 and 1,429 of
7,145). Sentences say the sides of the *picture*. Subjects: the ``sub-...`` part of the name; ``covid_...``
images carry no subject, so each is its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from common.datasets.listing import SHEETS, Fault, Files, Listing, Pair, child, need_columns, read_sheet
from common.errors import UserError

_COLUMNS = {"mask": ("image", "mask"), "text": ("description", "text")}
_SETS = {"train": "Train Set", "test": "Test Set"}


def found(folder: Path) -> bool:
    """Whether ``folder`` holds this data set."""
    for name in _SETS.values():
        part = child(folder, name)
        if part and child(part, "Images") and child(part, "Ground-truths"):
            return True
    return False


def subject(name: str) -> str:
    """The subject of an image: ``sub-s123`` of ``sub-S123_ses-...``, else the image's own name."""
    match = re.match(r"sub-[a-z0-9]+", name.lower())
    return match.group() if match else Path(name.lower()).stem


def _sheet(folder: Path, part: str) -> Path | None:
    """The sheet of ``train`` or ``test``: ``train.csv`` before other names, CSV before Excel."""
    places = (folder, child(folder, "prompt", "prompts", "text"), child(folder, _SETS[part]))
    sheets = [
        entry
        for place in places
        if place
        for entry in sorted(place.iterdir())
        if entry.suffix.lower() in SHEETS and re.match(rf"{part}(_text.*)?$", entry.stem.lower())
    ]
    return min(sheets, key=lambda s: (s.stem.lower() != part, SHEETS.index(s.suffix.lower()))) if sheets else None


def read(folder: Path) -> Listing:
    """All pairs of the data set at ``folder``."""
    listing = Listing("qata", folder, "chest", "radiograph")
    for part, name in _SETS.items():
        place = child(folder, name)
        sheet = _sheet(folder, part)
        if place is None:
            continue
        if sheet is None:
            raise UserError(
                f"{folder}: has '{name}' but no {part}.csv with columns Image and Description; "
                "put LViT's sheet beside it"
            )
        rows = read_sheet(sheet, _COLUMNS)
        need_columns(sheet, rows, _COLUMNS, "mask", "text")
        images, masks = Files(child(place, "Images")), Files(child(place, "Ground-truths"))
        cut = len(rows) * 4 // 5 if part == "train" else 0
        for number, row in enumerate(rows):
            split = "test" if part == "test" else "train" if number < cut else "validation"
            where = f"{sheet.name}:{number + 2}"
            plain = re.sub(r"^mask_", "", row["mask"], flags=re.IGNORECASE)
            image, mask = images.find(plain), masks.find(f"mask_{plain}")
            problems = []
            if image is None:
                problems.append(f"no image {plain} in {name}/Images")
            if mask is None:
                problems.append(f"no mask mask_{plain} in {name}/Ground-truths")
            if not row["text"]:
                problems.append(f"{row['mask']} has no sentence")
            if problems:
                listing.faults.extend(Fault(split, f"{where}: {problem}") for problem in problems)
            else:
                listing.pairs.append(Pair(image, mask, row["text"], "image", subject(plain), split, where))
    return listing
