"""Which sentence belongs to which image: a table, a text beside it, the report of its study, or one for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from common.errors import UserError
from common.images.meta import shown
from common.prompts import parse

from .find import Found
from .reports import reports_of, words_of_study
from .table import LATERALITIES, Row, read_table

_LONGEST_TEXT = 2**16


class Prompt(NamedTuple):
    """A sentence, whose left it means, and where it is from."""

    text: str
    laterality: str
    source: Literal["csv", "txt", "sr", "option"]


def unreadable(prompt: Prompt, grammar: str) -> str:
    """The words that keep a sentence from being understood; ``""`` if it is.

    Args:
        prompt: the sentence.
        grammar: of the bundle.
    """
    try:
        return ", ".join(parse(prompt.text, prompt.laterality, grammar).unreadable)
    except UserError as error:
        return str(error)


class Prompts:
    """The sentences of a run. The first that an image has is taken: table, text beside it, report, ``text``.

    Args:
        path: a CSV as :func:`common.batch.table.read_table` takes it, or None.
        text: the sentence of the images that have no other; None or blank for none.
        laterality: whose left the sentences mean where a row of the table does not say it. Reports are the patient's.
        beside: take ``a.txt`` or ``a.png.txt`` beside ``a.png``.
        reports: take the DICOM SR of an image's study.

    Attributes:
        problems: name of an image, and why a sentence that may be its own was not used; filled by :meth:`assign`.

    Raises:
        UserError: the CSV cannot be used, or a sentence has no laterality.
    """

    def __init__(
        self,
        path: Path | None,
        text: str | None = None,
        laterality: str | None = None,
        beside: bool = False,
        reports: bool = False,
    ) -> None:
        self.path, self.laterality, self.beside, self.reports = path, laterality, beside, reports
        if laterality is not None and laterality not in LATERALITIES:
            raise UserError(f"--laterality {laterality}: is not known; write 'patient' (clinicians) or 'image'")
        text = (text or "").strip()
        self.default = Prompt(text, self._side("", "the sentence given"), "option") if text else None
        self.rows = read_table(path) if path is not None else []
        self.sides = [self._side(row.laterality, f"{path}, line {row.line}") if row.text else "" for row in self.rows]
        self.problems: dict[str, str] = {}
        self._used: set[int] = set()

    def _side(self, laterality: str, where: str) -> str:
        found = laterality or self.laterality
        if not found:
            raise UserError(
                f"{where}: whose left does it mean? Give --laterality patient (clinicians' sentences) or image "
                f"(left of the picture), or a column 'laterality'"
            )
        return found

    def assign(self, found: Sequence[Found]) -> dict[str, Prompt | None]:
        """The sentence of each image, by its name; None where there is none.

        Raises:
            UserError: rows of the table could mean several images or studies, two rows mean one image, or a text
                beside an image has no laterality.
        """
        self.problems, self._used = {}, set()
        rows = self._rows_of(found)
        studies = reports_of(found) if self.reports else {}
        names = {str(item.path) for item in found} if self.beside else set()
        stems: dict[Path, int] = defaultdict(int)
        for item in found if self.beside else ():
            stems[_stem(item.path)] += 1
        told: dict[tuple[str, str], tuple[str, str]] = {}
        prompts: dict[str, Prompt | None] = {}
        for item in found:
            number = rows.get(item.name)
            prompt = None
            if number is not None and self.rows[number].text:
                prompt = Prompt(self.rows[number].text, self.sides[number], "csv")
            if prompt is None and self.beside and not item.refused:
                prompt = self._beside(item, names, stems)
            if prompt is None and not item.refused and item.header.study in studies:
                key = (item.header.study, item.header.patient)
                if key not in told:
                    told[key] = words_of_study(studies[key[0]], key[1])
                words, problem = told[key]
                if problem:
                    self.problems[item.name] = problem
                prompt = Prompt(words, "patient", "sr") if words else None
            prompts[item.name] = prompt or self.default
        return prompts

    def unused(self) -> list[str]:
        """Rows of the table that no file belongs to: the path they give, else the line."""
        left = [row for number, row in enumerate(self.rows) if row.text and number not in self._used]
        return sorted(row.image or f"line {row.line}" for row in left)

    def _beside(self, item: Found, names: set[str], stems: dict[Path, int]) -> Prompt | None:
        """The text file of an image; what is wrong with it goes into ``problems``."""
        stem = _stem(item.path)
        whole, short = (path.with_name(f"{path.name}.txt") for path in (item.path, stem))
        paths = [path for path in dict.fromkeys((whole, short)) if str(path) not in names and path.is_file()]
        if short != whole and short in paths and stems[stem] > 1:
            paths.remove(short)
            if not paths:
                self.problems[item.name] = f"{shown(short.name)} could be of {stems[stem]} images: not used"
        texts = {}
        for path in paths:
            try:
                with path.open(encoding="utf-8-sig") as file:
                    texts[path] = " ".join(file.read(_LONGEST_TEXT).split())
            except (OSError, UnicodeDecodeError) as error:
                reason = "is no UTF-8" if isinstance(error, UnicodeDecodeError) else "cannot be read"
                self.problems[item.name] = f"{shown(path.name)} {reason}: not used"
                return None
        told = {words: path for path, words in texts.items() if words}
        if len(told) > 1:
            self.problems[item.name] = f"{' and '.join(shown(path.name) for path in texts)} differ: not used"
            return None
        for words, path in told.items():
            return Prompt(words, self._side("", shown(path)), "txt")
        return None

    def _rows_of(self, found: Sequence[Found]) -> dict[str, int]:
        """The row of the table for each image that has one, by name."""
        by_key: dict[str, dict[str, list[Found]]] = {key: defaultdict(list) for key in _KEYS}
        for item in found if self.rows else ():
            for key, of in _KEYS.items():
                by_key[key][of(item)].append(item)
        best: dict[str, tuple[int, int]] = {}
        for number, row in enumerate(self.rows):
            rank, items = self._meant(row, by_key)
            items = [item for item in items if _agrees(row, item)]
            if items:
                self._used.add(number)
            if rank >= _STUDY_WIDE:
                self._one_study(row, [item for item in items if not item.refused])
            for item in items:
                other = best.get(item.name)
                if other is None or rank < other[0]:
                    best[item.name] = rank, number
                elif rank == other[0] and self._says(number) != self._says(other[1]):
                    raise UserError(
                        f"{self.path}, line {row.line}: {shown(item.name)} has a sentence already, in line "
                        f"{self.rows[other[1]].line}; keep one line an image"
                    )
        return {name: number for name, (_, number) in best.items()}

    def _says(self, number: int) -> tuple[str, str]:
        return self.rows[number].text, self.sides[number]

    def _meant(self, row: Row, by_key: dict[str, dict[str, list[Found]]]) -> tuple[int, list[Found]]:
        """How closely a row names images (0: by path), and the images that its closest key names."""
        if row.image:
            items = _by_path(row, by_key)
            if len(items) > 1:
                some = " or ".join(sorted(shown(item.name) for item in items)[:3])
                raise UserError(f"{self.path}: '{row.image}' could be {some}; write the path below the input folder")
            if items and not _agrees(row, items[0]):
                raise UserError(
                    f"{self.path}, line {row.line}: {shown(row.image)} has other identifiers than the line gives; "
                    f"mend the line"
                )
            return 0, items
        for rank, key in enumerate(("instance", "accession", "patient"), start=1):
            if getattr(row, key):
                return rank, by_key[key].get(getattr(row, key), [])
        return 0, []

    def _one_study(self, row: Row, items: list[Found]) -> None:
        """Refuse a row whose key names images of several patients, or a PatientID those of several studies."""
        key = "AccessionNumber" if row.accession else "PatientID"
        # what a file does not say agrees with all
        what, count = "patients", len({item.header.patient for item in items} - {""})
        if count < 2:
            what, count = "studies", len({item.header.study for item in items} - {""})
        if count > 1:
            raise UserError(
                f"{self.path}, line {row.line}: its {key} is that of images of {count} {what}, and one sentence cannot "
                f"be true of all; name the images by SOPInstanceUID, AccessionNumber or path"
            )


_STUDY_WIDE = 2
_KEYS = {
    "path": lambda item: str(item.path),
    "name": lambda item: item.name,
    "file": lambda item: item.name.rpartition("/")[2],
    "instance": lambda item: item.header.sop_instance,
    "accession": lambda item: item.header.accession,
    "patient": lambda item: item.header.patient,
}


def _by_path(row: Row, by_key: dict[str, dict[str, list[Found]]]) -> list[Found]:
    r"""The images that a row's path may mean: as it stands, with ``/`` for ``\``; else the files of that name."""
    for written in dict.fromkeys((row.image, row.image.strip(), row.image.strip().replace("\\", "/"))):
        for key in ("name", "path", "file"):
            if written in by_key[key]:
                return by_key[key][written]
    return []


def _agrees(row: Row, item: Found) -> bool:
    """Whether no identifier of a row is another than the file's; what the file does not say agrees."""
    header = item.header
    pairs = ((row.instance, header.sop_instance), (row.accession, header.accession), (row.patient, header.patient))
    return all(not given or not there or given == there for given, there in pairs)


def _stem(path: Path) -> Path:
    """A file without its ending; the last number of a UID is none."""
    name = path.name
    if name.lower().endswith(".nii.gz"):
        return path.with_name(name[:-7])
    return path if path.suffix[1:].isdigit() else path.with_name(path.stem)
