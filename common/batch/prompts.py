"""Which sentence belongs to which image."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError

LATERALITIES = ("patient", "image")


class Prompt(NamedTuple):
    """A sentence and whose left it means."""

    text: str
    laterality: str


class Prompts:
    """Sentences of a CSV with the columns ``image``, ``text``, optionally ``laterality``, and one for all others.

    ``image`` is the path below the input folder, or the file name where it is the only one of that name.

    Args:
        path: the CSV, or None.
        text: the sentence of the images that the CSV does not name; None or blank for none.
        laterality: of all sentences whose row does not give it.

    Raises:
        UserError: the CSV cannot be used, or a sentence has no laterality.
    """

    def __init__(self, path: Path | None, text: str | None = None, laterality: str | None = None) -> None:
        self.path, self.laterality = path, laterality
        if laterality is not None and laterality not in LATERALITIES:
            raise UserError(f"--laterality {laterality}: is not known; write 'patient' (clinicians) or 'image'")
        text = (text or "").strip()
        self.default = Prompt(text, self._side(None, "the sentence given")) if text else None
        self.rows: dict[str, Prompt] = {}
        self.used: set[str] = set()
        if path is not None:
            self._read(path)

    def _side(self, laterality: str | None, where: str) -> str:
        found = laterality or self.laterality
        if found is None:
            raise UserError(
                f"{where}: whose left does it mean? Give --laterality patient (clinicians' sentences) or image "
                f"(left of the picture), or a column 'laterality'"
            )
        if found not in LATERALITIES:
            raise UserError(f"{where}: laterality '{found}' is not known; write 'patient' or 'image'")
        return found

    def _read(self, path: Path) -> None:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                missing = {"image", "text"} - set(reader.fieldnames or ())
                rows = list(reader)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); give a CSV with image,text") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: is no CSV in UTF-8 ({error}); save it as one") from error
        if missing:
            raise UserError(
                f"{path}: has no column {' and '.join(sorted(missing))}; the header is image,text[,laterality]"
            )
        for number, row in enumerate(rows, start=2):
            name = (row["image"] or "").strip().replace("\\", "/")
            text = (row["text"] or "").strip()
            if not name:
                raise UserError(f"{path}, line {number}: names no image; fill in or remove the line")
            if name in self.rows:
                raise UserError(f"{path}, line {number}: {name} has a sentence already; keep one line an image")
            if text:
                side = self._side((row.get("laterality") or "").strip() or None, f"{path}, line {number}")
                self.rows[name] = Prompt(text, side)

    def assign(self, images: Sequence[Path], root: Path) -> dict[Path, Prompt | None]:
        """The sentence of each image below ``root``; None where there is none.

        Raises:
            UserError: a bare file name of the CSV could mean several images.
        """
        relative = {image: image.relative_to(root).as_posix() if image != root else image.name for image in images}
        alike: dict[str, list[str]] = {}
        for name in relative.values():
            alike.setdefault(Path(name).name, []).append(name)
        found: dict[Path, Prompt | None] = {}
        for image, name in relative.items():
            # a bare file name stands for the one image of that name, in whatever folder
            key = name if name in self.rows else image.name
            if key not in self.rows:
                found[image] = self.default
                continue
            if key != name and len(alike[key]) > 1:
                raise UserError(
                    f"{self.path}: '{key}' could be {' or '.join(sorted(alike[key])[:3])}; "
                    f"write the path below the input folder"
                )
            self.used.add(key)
            found[image] = self.rows[key]
        return found

    def unused(self) -> list[str]:
        """The CSV's images that were not found: sentences without a file."""
        return sorted(self.rows.keys() - self.used)
