"""What every data set module gives: a list of pairs (image, mask, sentence) and one line per fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError

SPLITS = ("train", "validation", "test")
LATERALITIES = ("image", "patient")
SHEETS = (".csv", ".xlsx", ".xls")


@dataclass(frozen=True)
class Pair:
    """One image with its lesion mask and its sentence."""

    image: Path
    mask: Path
    text: str
    laterality: str  # "image": left is the left of the picture; "patient": the patient's left
    subject: str
    split: str
    row: str  # where it stands, as "train.csv:17", for messages


@dataclass(frozen=True)
class Fault:
    """Something that makes one row unusable."""

    split: str
    line: str  # file, row, what is wrong


@dataclass(frozen=True)
class Listing:
    """A data set as found on the disk."""

    name: str
    root: Path
    grammar: str  # "chest" or "polyp"
    kind: str  # which table of common.prompts.zones: "radiograph", "axial_ct" or "polyp"
    pairs: list[Pair] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_sheet(path: Path, columns: dict[str, tuple[str, ...]]) -> list[dict[str, str]]:
    """Rows of a CSV or Excel sheet, as text, under our names.

    Args:
        path: the sheet; a CSV in UTF-8, with or without a byte order mark, or in Windows' Western code page.
        columns: our name -> the names it may have in the sheet (without regard to case). A column that is not
            there is left out of the rows; empty cells are "", a line break in a cell is a space.

    Raises:
        UserError: the file cannot be read as a sheet.
    """
    import pandas as pd

    options = {"dtype": str, "keep_default_na": False}
    try:
        if path.suffix.lower() != ".csv":
            table = pd.read_excel(path, **options)
        else:
            try:
                table = pd.read_csv(path, encoding="utf-8-sig", **options)
            except UnicodeDecodeError:
                table = pd.read_csv(path, encoding="cp1252", **options)
    except Exception as error:  # pandas raises its readers' own kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as a table ({reason}); save it as CSV in UTF-8") from error
    found = {str(name).strip().lower(): name for name in table.columns}
    names = {}
    for ours, theirs in columns.items():
        match = next((found[name] for name in theirs if name in found), None)
        if match is not None:
            names[ours] = match
    rows = table[list(names.values())].to_numpy(dtype=str)
    return [{ours: " ".join(cell.splitlines()).strip() for ours, cell in zip(names, row, strict=True)} for row in rows]


def need_columns(path: Path, rows: list[dict[str, str]], columns: dict[str, tuple[str, ...]], *needed: str) -> None:
    """Refuse a sheet without rows or without one of the columns ``needed``."""
    if not rows:
        raise UserError(f"{path}: holds no rows")
    for name in needed:
        if name not in rows[0]:
            raise UserError(f"{path}: has no column {' or '.join(columns[name])}; add it")


def child(folder: Path, *names: str) -> Path | None:
    """The entry of ``folder`` called one of ``names``, whatever its case; None if there is none."""
    if not folder.is_dir():
        return None
    wanted = {name.lower() for name in names}
    return next((entry for entry in sorted(folder.iterdir()) if entry.name.lower() in wanted), None)


class Files:
    """The files of some folders, found by name whatever its case, or by stem if only the ending differs."""

    def __init__(self, *folders: Path | None):
        self._names: dict[str, Path] = {}
        self._stems: dict[str, Path] = {}
        for folder in folders:
            if folder is not None and folder.is_dir():
                for entry in sorted(folder.iterdir()):
                    if entry.is_file():
                        self._names.setdefault(entry.name.lower(), entry)
                        self._stems.setdefault(entry.stem.lower(), entry)

    def find(self, name: str) -> Path | None:
        """The file called ``name``, or None."""
        name = name.lower()
        return self._names.get(name) or self._stems.get(Path(name).stem)
