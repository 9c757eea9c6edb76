"""Any folder with a table of images, masks and sentences.

The table is a CSV (or xlsx) in the folder with the columns ``image``, ``mask`` and ``text``, and if wanted
``laterality``, ``subject`` and ``split``; the names are matched without regard to case. Paths are relative to
the table; a bare name may also be that of a file in a folder ``images``, ``masks`` and the like beside it, with
another ending too. A mask in PNG has no orientation:
it lies in the stored grid of its image, turned or flipped where the pixels of a DICOM file are, as the masks that
this project writes (:func:`common.images.read_mask`).

``laterality`` is ``image`` (left is the left of the picture) or ``patient``. It is never guessed: a table
without the column needs the argument ``laterality=...``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from common.datasets.listing import (
    LATERALITIES,
    SHEETS,
    Fault,
    Files,
    Listing,
    Pair,
    child,
    need_columns,
    read_sheet,
)
from common.errors import UserError
from common.prompts import parse
from common.prompts.zones import KINDS

COLUMNS = {
    "image": ("image", "image_path"),
    "mask": ("mask", "label", "mask_path"),
    "text": ("text", "description", "sentence", "caption"),
    "laterality": ("laterality",),
    "subject": ("subject", "patient", "patient_id"),
    "split": ("split",),
}
IMAGE_FOLDERS = ("images", "image", "img", "frames", "original")
MASK_FOLDERS = ("masks", "mask", "labels", "labelcol", "ground-truths", "ground truth")
_SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation"}
_SPLITS |= {"validation": "validation", "test": "test", "testing": "test"}


def _tables(folder: Path) -> list[Path]:
    """Tables directly in ``folder`` that have an image, a mask and a sentence column."""
    if not folder.is_dir():
        return []
    tables = []
    for entry in sorted(folder.iterdir()):
        if entry.suffix.lower() in SHEETS and not entry.name.startswith("~$"):
            rows = read_sheet(entry, COLUMNS)
            if rows and {"image", "mask", "text"} <= rows[0].keys():
                tables.append(entry)
    return tables


def found(folder: Path) -> bool:
    """Whether ``folder`` holds such a table."""
    return bool(_tables(folder))


def find_table(root: Path) -> Path:
    """The table at ``root``, which is the table itself or its folder."""
    if root.is_file():
        return root
    tables = _tables(root)
    if len(tables) > 1:
        tables = [t for t in tables if t.stem.lower() == "captions"] or tables
    if not tables:
        raise UserError(f"{root}: has no CSV with columns image, mask and text; write one, or name another folder")
    if len(tables) > 1:
        names = ", ".join(t.name for t in tables)
        raise UserError(f"{root}: several tables with image, mask and text ({names}); give the path of one of them")
    return tables[0]


class _Paths:
    """What a cell of the table means: a path relative to the table, or a bare name of a file in the usual folders."""

    def __init__(self, base: Path, folders: tuple[str, ...]):
        self.base = base
        places = [base, *filter(None, (child(base, name) for name in ("png", "tif")))]  # CVC-ClinicDB has both
        inner = [entry for place in places for name in folders if (entry := child(place, name)) is not None]
        self.files = Files(*inner)

    def find(self, cell: str) -> Path | None:
        direct = self.base / cell
        if cell and direct.is_file():
            return direct
        # a folder in the cell is part of what it means: p1/1.png is never p2/1.png
        return self.files.find(cell) if cell and Path(cell).name == cell else None


def grammar_of(sentences: Iterable[str]) -> str:
    """The grammar that understands more of the first hundred different sentences; ``"chest"`` if none does."""
    some = list(islice(dict.fromkeys(sentences), 100))
    return max(KINDS, key=lambda grammar: sum(parse(text, "image", grammar).understood for text in some))


def split_of(row: dict[str, str]) -> str | None:
    """The split that a row of the table names, ``"train"`` without that column; None: a word that is none."""
    return _SPLITS.get(row.get("split", "train").lower())


def read(
    root: Path,
    laterality: str | None = None,
    *,
    name: str = "csv",
    grammar: str | None = None,
    edit: Callable[[list[dict[str, str]]], None] | None = None,
) -> Listing:
    """All pairs of the table at ``root``.

    Args:
        root: the table or its folder.
        laterality: of all sentences, where the table has no column ``laterality``; must not contradict the
            column.
        name: what the pairs' source is called.
        grammar: of the sentences, ``"chest"`` or ``"polyp"``; None: told by the sentences
            (:func:`grammar_of`). The kind of image is the grammar's usual one.
        edit: called with the table's rows, which it may change, before files are looked up.

    Raises:
        UserError: no table, no such column, no laterality.
    """
    path = find_table(root)
    rows = read_sheet(path, COLUMNS)
    need_columns(path, rows, COLUMNS, "image", "mask", "text")
    if laterality is not None and laterality not in LATERALITIES:
        raise UserError(f"laterality: {laterality!r} is unknown; use 'image' or 'patient'")
    if "laterality" not in rows[0] and laterality is None:
        raise UserError(
            f"{path}: has no column laterality; add it, or give laterality=image (left of the picture) "
            "or laterality=patient (the patient's left)"
        )
    grammar = grammar or grammar_of(row["text"] for row in rows)
    if edit is not None:
        edit(rows)
    listing = Listing(name, path.parent, grammar, KINDS[grammar])
    images, masks = _Paths(path.parent, IMAGE_FOLDERS), _Paths(path.parent, MASK_FOLDERS)
    for number, row in enumerate(rows, start=2):
        where = f"{path.name}:{number}"
        split = split_of(row)
        side = (row.get("laterality") or laterality or "").lower()
        image, mask = images.find(row["image"]), masks.find(row["mask"])
        problems = []
        if image is None:
            problems.append(f"no image {row['image'] or '(empty)'}")
        if mask is None:
            problems.append(f"no mask {row['mask'] or '(empty)'}")
        if not row["text"]:
            problems.append(f"{row['image']} has no sentence")
        if split is None:
            problems.append(f"split {row['split']!r} is none of train, validation, test")
        if side not in LATERALITIES:
            problems.append(f"laterality {side or '(empty)'} is neither image nor patient")
        elif laterality is not None and side != laterality:
            problems.append(f"laterality is {side}, but laterality={laterality} was given")
        if problems:
            listing.faults.extend(Fault(split or "train", f"{where}: {problem}") for problem in problems)
        else:
            subject = row.get("subject") or image.stem.lower()
            listing.pairs.append(Pair(image, mask, row["text"], side, subject, split, where))
    return listing
