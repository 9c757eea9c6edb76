"""Checks of a data set: what it holds, what is broken, and whether its sentences are true of its masks."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.datasets.listing import SPLITS, Listing, Pair
from common.datasets.load import list_dataset
from common.errors import UserError
from common.images import read_image, read_mask, to_display
from common.prompts import Findings, parse
from common.prompts.zones import ZONES, count_of_mask, pixels_of_sides, sides_of_mask, table, zones_of_mask

_OTHER = {"left": "right", "right": "left"}


@dataclass
class SplitReport:
    """What was found in one split; numbers of rows unless said otherwise."""

    pairs: int = 0
    subjects: set[str] = field(default_factory=set)
    sizes: Counter = field(default_factory=Counter)  # (height, width) -> images
    empty: int = 0  # masks without lesion
    area: float = 0.0  # mean share of the picture that is lesion
    sentences: set[str] = field(default_factory=set)
    unreadable: int = 0
    warned: int = 0  # sentences read with a warning
    contradicted: int = 0  # chest: name one side alone, and most of the mask is on the other
    compared: int = 0  # rows with a sentence understood and a mask
    sides: int = 0  # of them, chest: sides named = sides of the mask
    zones: int = 0  # of them: all zones agree
    bits: int = 0  # agreeing zones, summed
    counted: int = 0  # rows that state a count
    counts: int = 0  # of them: count = components of the mask


@dataclass
class Report:
    """The result of :func:`check`."""

    listing: Listing
    grammar: str  # of the sentences
    splits: dict[str, SplitReport]
    faults: list[str]  # make a row unusable
    notes: list[str]  # one line each, nothing stops working
    shared: list[str]  # one line for two splits that share subjects, or images

    @property
    def usable(self) -> bool:
        """Whether the data set can be trained and evaluated on as it is."""
        return not self.faults and any(split.pairs for split in self.splits.values())


def check(
    name: str,
    root: str | Path,
    *,
    splits: tuple[str, ...] = SPLITS,
    laterality: str | None = None,
    kind: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read every image, mask and sentence of a data set.

    Args:
        name: as for :func:`common.datasets.load_dataset`.
        root: folder of the data set, or one above it.
        splits: which to read.
        laterality: for a ``csv`` table without that column.
        kind: kind of image whose zones are compared, a key of :data:`common.prompts.zones.TABLES`; None: the
            data set's own (for a ``csv`` table the usual one of its sentences' grammar).
        progress: called with the number of rows done and of all.

    Raises:
        UserError: no data set, or no rows in these splits.
    """
    listing = list_dataset(name, root, laterality)
    kind = kind or listing.kind
    grammar = table(kind).grammar
    pairs = [pair for pair in listing.pairs if pair.split in splits]
    faults = [fault.line for fault in listing.faults if fault.split in splits]
    if not pairs and not faults:
        raise UserError(f"{listing.root}: has no rows of split {', '.join(splits)}")
    reports = {split: SplitReport() for split in splits}
    notes: list[str] = []
    images: dict[str, list[Pair]] = defaultdict(list)
    rows: Counter = Counter()
    for done, pair in enumerate(pairs, start=1):
        rows[pair.image] += 1
        fault = _check_pair(pair, grammar, kind, reports[pair.split], notes, images)
        if fault:
            faults.append(f"{pair.row}: {fault}")
        if progress:
            progress(done, len(pairs))
    for report in reports.values():
        report.area /= max(report.pairs, 1)
    notes += [
        f"{twins[0].row}: {twins[0].image.name} has the same pixels as {', '.join(t.image.name for t in twins[1:])}"
        for twins in images.values()
        if len({t.image for t in twins}) > 1
    ]
    notes += [f"{image.name}: stands in {n} rows" for image, n in rows.items() if n > 1]
    return Report(listing, grammar, reports, faults, notes, _shared(reports, images))


def _shared(reports: dict[str, SplitReport], images: dict[str, list[Pair]]) -> list[str]:
    lines = []
    names = [split for split, report in reports.items() if report.pairs]
    for number, one in enumerate(names):
        for two in names[number + 1 :]:
            subjects = reports[one].subjects & reports[two].subjects
            if subjects:
                lines.append(f"{len(subjects)} subjects in both {one} and {two}, such as {min(subjects)}")
            same = sum({one, two} <= {pair.split for pair in twins} for twins in images.values())
            if same:
                lines.append(f"{same} images with the same pixels in both {one} and {two}")
    return lines


def _check_pair(
    pair: Pair,
    grammar: str,
    kind: str,
    report: SplitReport,
    notes: list[str],
    images: dict[str, list[Pair]],
) -> str | None:
    """Fill in ``report``, ``notes`` and ``images``; the fault, if there is one."""
    report.pairs += 1
    report.subjects.add(pair.subject)
    report.sentences.add(pair.text)
    try:
        stored, meta = read_image(pair.image)
        image = to_display(stored, meta["display"])
        report.sizes[image.shape] += 1
        images[hashlib.sha1(image.tobytes()).hexdigest()].append(pair)
        mask = read_mask(pair.mask, meta)
    except UserError as error:
        return str(error)
    report.area += float(mask.mean())
    if not mask.any():
        report.empty += 1
    findings = parse(pair.text, pair.laterality, grammar)
    if not findings.understood:
        report.unreadable += 1
        words = ", ".join(repr(word) for word in findings.unreadable)
        notes.append(f"{pair.row}: sentence not understood ({words}): {pair.text}")
        return None
    if findings.warnings:
        report.warned += 1
        notes.append(f"{pair.row}: {'; '.join(findings.warnings)}")
    contradiction = _compare(findings, mask, kind, report)
    if contradiction:
        report.contradicted += 1
        notes.append(f"{pair.row}: {contradiction}: {pair.text}")
    return None


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _compare(findings: Findings, mask: np.ndarray, kind: str, report: SplitReport) -> str | None:
    """Count agreements of sentence and mask; a line if the sentence names one side and the mask is on the other."""
    zones = zones_of_mask(mask, kind)
    agree = [a == b for a, b in zip(zones, findings.zones, strict=True)]
    report.compared += 1
    report.bits += sum(agree)
    report.zones += all(agree)
    if findings.count is not None:
        report.counted += 1
        report.counts += count_of_mask(mask) == findings.count
    if findings.grammar != "chest":
        return None
    report.sides += sides_of_mask(mask, kind) == findings.sides
    if len(findings.sides) == 1 and mask.any():
        (side,) = findings.sides
        pixels = pixels_of_sides(mask, kind)
        other = pixels[_OTHER[side]] / sum(pixels.values())
        if other > 0.5:
            return f"names the {side} of the picture, {other:.0%} of the mask is on the {_OTHER[side]}"
    return None


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def summary(report: Report) -> str:
    """The report as a table and lines of text, without its single faults and notes."""
    listing = report.listing
    names = [split for split, part in report.splits.items() if part.pairs]
    lines = [f"{listing.name} in {listing.root} (grammar {report.grammar})", ""]

    def row(title: str, value: Callable[[SplitReport], object]) -> None:
        lines.append(f"{title:<44}" + "".join(f"{value(report.splits[name])!s:>14}" for name in names))

    lines.append(f"{'':<44}" + "".join(f"{name:>14}" for name in names))
    row("pairs", lambda s: s.pairs)
    row("subjects", lambda s: len(s.subjects))
    row("most frequent size", lambda s: _size(s.sizes.most_common(1)[0][0]) if s.sizes else "-")
    row("other sizes", lambda s: max(len(s.sizes) - 1, 0))
    row("empty masks", lambda s: s.empty)
    row("mean lesion area", lambda s: f"{100 * s.area:.1f} %")
    row("distinct sentences", lambda s: len(s.sentences))
    row("sentences not understood", lambda s: s.unreadable)
    row("sentences with a warning", lambda s: s.warned)
    if report.grammar == "chest":
        row("sides that contradict their mask", lambda s: s.contradicted)
        row("sides of sentence = sides of mask", lambda s: _share(s.sides, s.compared))
    row("zones agree, each", lambda s: _share(s.bits, s.compared * len(ZONES[report.grammar])))
    row("zones agree, all of an image", lambda s: _share(s.zones, s.compared))
    row("count = connected components", lambda s: _share(s.counts, s.counted))
    lines.append("")
    lines += [f"warning: {line}" for line in report.shared]
    lines.append(f"{len(report.faults)} faults, {len(report.notes)} notes")
    return "\n".join(lines)
