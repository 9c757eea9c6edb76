"""The CSV of sentences."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.images.meta import shown

LATERALITIES = ("patient", "image")
# columns that say which image, and the field of a row
_KEYS = {"image": "image", "SOPInstanceUID": "instance", "AccessionNumber": "accession", "PatientID": "patient"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        line: its last line in the file.
        image: path below the input folder, or a file name.
        instance: SOPInstanceUID.
        accession: AccessionNumber.
        patient: PatientID.
        text: the sentence; ``""`` for none.
        laterality: ``"patient"``, ``"image"``, or ``""``.
    """

    line: int
    image: str
    instance: str
    accession: str
    patient: str
    text: str
    laterality: str


def read_table(path: Path) -> list[Row]:
    """Read a CSV in UTF-8 with the columns ``text``, one or more keys, and optionally ``laterality``.

    Keys are ``image``, ``SOPInstanceUID``, ``AccessionNumber``, ``PatientID``. A row belongs to the images that all
    the keys it fills in agree with; of several rows the one with the first of these keys is an image's.

    Raises:
        UserError: the file cannot be read, or a row is not whole.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or ()
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a CSV with image,text") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no CSV in UTF-8 ({error}); save it as one") from error
    if "text" not in header or not any(key in header for key in _KEYS):
        missing = " and ".join(
            name for name, there in (("image", any(key in header for key in _KEYS)), ("text", "text" in header))
            if not there
        )  # fmt: skip
        raise UserError(
            f"{path}: has no column {missing}; the header is image,text[,laterality], and instead of image or "
            f"beside it {', '.join(key for key in _KEYS if key != 'image')}"
        )
    out: list[Row] = []
    seen: dict[tuple[str, ...], Row] = {}
    for line, cells in rows:
        row = _row(cells, f"{path}, line {line}", line)
        key = (row.image, row.instance, row.accession, row.patient)
        before = seen.setdefault(key, row)
        if before is not row and (before.text, before.laterality) != (row.text, row.laterality):
            named = shown(row.image) if row.image else f"what line {before.line} names"
            raise UserError(f"{path}, line {line}: {named} has a sentence already; keep one line an image")
        out.append(row)
    return out


def _row(cells: dict[str | None, str | None], where: str, line: int) -> Row:
    if None in cells:
        raise UserError(f"{where}: has more cells than the header; put a sentence with a comma in quotes")
    given = {field: cells.get(column) or "" for column, field in _KEYS.items()}
    # a file's name may begin or end with a space
    given = {field: value if field == "image" else value.strip() for field, value in given.items()}
    if not any(value.strip() for value in given.values()):
        raise UserError(f"{where}: names no image; fill in or remove the line")
    laterality = (cells.get("laterality") or "").strip()
    if laterality and laterality not in LATERALITIES:
        raise UserError(f"{where}: laterality '{shown(laterality)}' is not known; write 'patient' or 'image'")
    if not given["image"].strip():
        given["image"] = ""
    return Row(line=line, text=(cells.get("text") or "").strip(), laterality=laterality, **given)
