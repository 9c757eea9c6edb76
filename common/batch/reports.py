"""The findings that a DICOM structured report (SR) tells in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.images.header import text

from .find import Found

# Basic Text, Enhanced, Comprehensive, Comprehensive 3D and Extensible SR; not doses, CAD, key objects
_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 22, 33, 34, 35))
_LARGEST = 2**23
_DEEPEST = 20


@dataclass(frozen=True)
class Report:
    """One structured report: its words, and what decides between several of a study."""

    uid: str
    patient: str
    words: str
    verified: bool
    replaces: frozenset[str]


def reports_of(found: Iterable[Found]) -> dict[str, list[Path]]:
    """The structured reports among the files of a folder, by StudyInstanceUID."""
    studies: dict[str, list[Path]] = defaultdict(list)
    for item in found:
        if item.header.sop_class in _CLASSES and item.header.study:
            studies[item.header.study].append(item.path)
    return studies


def words_of_study(paths: Iterable[Path], patient: str) -> tuple[str, str]:
    """The words of a study's reports, and why there are none although there are reports; one of the two is ``""``.

    A report that another one replaces is left out, and one that is not verified where another one is. Reports that
    still tell different things are not used.

    Args:
        paths: of the reports.
        patient: PatientID of the images; a report of somebody else is not used.
    """
    reports = []
    for path in paths:
        try:
            reports.append(_read(path))
        except Exception:  # damage meets pydicom in every way
            return "", f"the structured report {path.name} cannot be read"
    if any(patient and report.patient and report.patient != patient for report in reports):
        return "", "the structured report of its study has another PatientID: not used"
    replaced = frozenset().union(*(report.replaces for report in reports))
    reports = [report for report in reports if report.words and report.uid not in replaced]
    if any(report.verified for report in reports):
        reports = [report for report in reports if report.verified]
    words = sorted({report.words for report in reports})
    if len(words) > 1:
        return "", f"{len(words)} structured reports of its study differ: none is used"
    return (words[0], "") if words else ("", "")


def _read(path: Path) -> Report:
    import pydicom

    if path.stat().st_size > _LARGEST:
        raise ValueError("larger than any report")
    dataset = pydicom.dcmread(path, force=True)
    named, others = [], []
    for titled, words in _texts(dataset, titled=False, depth=0):
        (named if titled else others).append(words)
    replaces = (
        text(instance, "ReferencedSOPInstanceUID")
        for study in dataset.get("PredecessorDocumentsSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for instance in series.get("ReferencedSOPSequence") or ()
    )
    return Report(
        uid=text(dataset, "SOPInstanceUID"),
        patient=text(dataset, "PatientID").strip(),
        words=" ".join(named or others),
        verified=text(dataset, "VerificationFlag") == "VERIFIED",
        replaces=frozenset(replaces),
    )


def _texts(item, titled: bool, depth: int) -> Iterator[tuple[bool, str]]:
    """The words of the TEXT items below one, and whether a title above them is Findings or Impression."""
    if depth > _DEEPEST:
        return
    for child in item.get("ContentSequence") or ():
        codes = child.get("ConceptNameCodeSequence") or ()
        title = text(codes[0], "CodeMeaning").casefold() if codes else ""
        below = titled or title.startswith(("finding", "impression"))
        words = " ".join(str(child.get("TextValue") or "").split())
        if text(child, "ValueType") == "TEXT" and words:
            yield below, words
        yield from _texts(child, below, depth + 1)
